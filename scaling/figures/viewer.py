"""One problem of a run with all its drafts: which are right, and where the others went wrong.

`problems(run)` is a widget, `problem_html` what it shows. Everything a run holds is escaped.
"""

from __future__ import annotations

from os.path import commonprefix
from pathlib import Path

import pandas as pd

from scaling import show
from scaling.runs import Run, load_run

RIGHT, WRONG, DISCARDED = "#009E73", "#D55E00", "#999999"  #: colours of drafts
DRAFT = ("border-left:{edge}px solid {color};background:{color}22;padding:2px 6px;margin-bottom:"
         "3px;font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere")  # fmt: skip


def problems(run: Run | str | Path):
    """Return a widget that shows one problem of a run with all its drafts, hard problems first."""
    import ipywidgets as w

    if not (isinstance(run, Run) and run.imported):
        run = load_run(run.path if isinstance(run, Run) else Path(run), text=True)
    if run.arrays.counts:
        raise ValueError("only counts per problem are known: there are no drafts to show")
    rate = run.samples.groupby("problem")["correct"].mean().sort_values(kind="stable")
    options = {f"{share:.0%} right: {name}": name for name, share in rate.items()}
    chosen = w.Dropdown(options=options, description="problem", layout=w.Layout(width="40em"))
    page = w.HTML(problem_html(run, chosen.value))
    chosen.observe(lambda _: setattr(page, "value", problem_html(run, chosen.value)), "value")
    return w.VBox([chosen, page])


def problem_html(run: Run, problem: str, chains: int = 64) -> str:
    """Return one problem's drafts as HTML: a column per chain, its steps downwards.

    Green with ✓ is right, red with ✗ wrong; in a wrong draft, what follows the longest beginning
    that it shares with a right one is marked: there it went wrong. A heavy edge says that a step
    turned wrong to right or right to wrong. A search is shown as a tree: each node's own step with
    its score, the path to the answer in colour. `run` must be loaded with `text=True`; imported
    samples show their text, or else their answer.
    """
    if problem not in set(run.problems["id"]):
        raise ValueError(f"no problem {problem!r} in {run.path.name}; try run.problems['id']")
    if "text" not in run.samples:
        raise ValueError("the run was loaded without its texts; use load_run(path, text=True)")
    known = run.problems.set_index("id").loc[problem]
    frame = run.samples[run.samples["problem"] == problem]
    if run.imported:  # files of samples often hold answers alone
        text = frame["text"].astype(object)
        frame = frame.assign(text=text.where(text.notna(), frame["answer"].fillna("")).astype(str))
    right = list(dict.fromkeys(frame["text"][frame["correct"].astype(bool)]))
    groups = [rows for _, rows in list(frame.groupby("chain"))[:chains]]
    columns = [
        _tree_html(rows, run.plan.steps) if run.plan.width else _chain_html(rows, right)
        for rows in groups
    ]
    facts = {"prompt": known["prompt"], "a right answer": known["answer"], "level": known["level"]}
    drawn = frame[frame["finish"] != "scored"]
    facts |= {"right": f"{int(drawn['correct'].sum())} of {len(drawn)} drafts"}
    if len(columns) < frame["chain"].nunique():
        facts["shown"] = f"{len(columns)} of {frame['chain'].nunique()} chains"
    grid = "display:flex;flex-wrap:wrap;gap:6px;align-items:flex-start"
    below = f'<div {show.VERBATIM} style="{grid}">{"".join(columns)}</div>'
    return show.card(problem, facts) + below


def _chain_html(rows: pd.DataFrame, right: list[str]) -> str:
    """Return one chain as a column of drafts."""
    cells: list[str] = []
    before: bool | None = None
    for row in rows.to_dict("records"):
        text, correct = row["text"], bool(row["correct"])
        color, sign = (RIGHT, "✓") if correct else (WRONG, "✗")
        edge = 4 if before is not None and before != correct else 1
        before, shared = correct, len(text)
        if not correct and right:
            shared = max(len(commonprefix([text, other])) for other in right)  # noqa: RUF071
        shown = show.verbatim(text[:shared])
        if rest := show.verbatim(text[shared:]):
            shown += f'<u style="text-decoration-color:{color}"><b>{rest}</b></u>'
        note = "" if row["finish"] == "stop" else f" <i>{show.verbatim(str(row['finish']))}</i>"
        draft = f'<span style="color:{color}">{sign}</span> {shown}{note}'
        cells.append(f'<div style="{DRAFT.format(edge=edge, color=color)}">{draft}</div>')
    head = f'<small style="color:#666">chain {rows["chain"].iloc[0]}</small>'
    return f'<div style="max-width:16em">{head}{"".join(cells)}</div>'


def _tree_html(rows: pd.DataFrame, steps: int) -> str:
    """Return one search as a tree: a node's text starts with its parent's."""
    scored = rows[rows["finish"] == "scored"]
    score = dict(zip(scored["step"], scored["logprob"], strict=True))
    lines: list[tuple[str, str, int]] = []  # (path that sorts children under parents, html, depth)
    for row in rows[rows["finish"] != "scored"].to_dict("records"):
        text, kept = row["text"], row["finish"] != "discarded"
        before = [line for line in lines if text.startswith(line[0]) and text != line[0]]
        parent, _, depth = max(before, key=lambda line: len(line[0]), default=("", "", -1))
        color = (RIGHT if row["correct"] else WRONG) if kept else DISCARDED
        logprob = score.get(row["step"] + steps)  # that of the scorer's pass over this node
        note = "" if logprob is None else f" <i>{logprob:.2f}</i>"
        own = f"{'●' if kept else '○'} {show.verbatim(text[len(parent) :])}"
        lines.append((text, f'<span style="color:{color}">{own}</span>{note}', depth + 1))
    body = "".join(
        f'<div style="padding-left:{depth}em;font-family:monospace">{line}</div>'
        for _, line, depth in sorted(lines, key=lambda line: line[0])
    )
    return f'<div><small style="color:#666">search {rows["chain"].iloc[0]}</small>{body}</div>'

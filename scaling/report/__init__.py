"""Runs to a report: a self-contained HTML page, a LaTeX fragment, BibTeX, and `results.csv`.

Every number and name in the text is a row of `results.csv` (`numbers`), printed by one function and
marked with the row's id (`languages`); the sentences (`words`) hold no digit. `differences` reads a
report back, and says where page, fragment, results and runs no longer agree. Whatever comes from a
run is escaped: it is hostile.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from scaling.figures import plots
from scaling.report.drawings import FIGURES, draw
from scaling.report.languages import HTML, LATEX, Writer, unbound
from scaling.report.numbers import Part, Rows, agree, from_csv, parts_of, results, selectors, to_csv
from scaling.report.words import CONVENTIONS, FITTED, FOUND, NOT_FITTED, SAMPLED, SOURCES
from scaling.store.files import refuse_foreign, write_outputs

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1rem}
img{display:block;width:100%;min-width:40rem}.one img{max-width:42rem;min-width:0}
figure{margin:1.5rem 0}figcaption,caption{font-size:.9rem;color:#555;text-align:left}
caption{padding-bottom:.2rem}.wide{overflow-x:auto;margin-top:2rem;background:
linear-gradient(270deg,#fff 40%,#fff0) 100%/4rem 100% no-repeat local,
linear-gradient(270deg,#0004,#0000) 100%/1rem 100% no-repeat scroll}
table{min-width:62rem;border-collapse:collapse;font-size:.8em;border:solid;border-width:2px 0}
th{border-bottom:1px solid;text-align:left;vertical-align:bottom}
th,td{padding:.2rem .35rem}td{max-width:17rem;overflow-wrap:break-word;vertical-align:top}
p,li{overflow-wrap:anywhere}h2{margin-top:2rem}"""
TEXTS = ("results.csv", "report.bib", "report.html", "report.tex")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write(paths: Sequence[Path], out: Path, force: bool = False) -> list[Path]:
    """Write the report of some run folders into `out`; return its files.

    Errors: ValueError, with nothing written, where files are in the way that the kit did not write.
    """
    texts = [out / name for name in TEXTS]
    drawn = [path for name in FIGURES for path in plots.paths_of(name, out)]
    refuse_foreign([*texts, *drawn], force)
    parts = parts_of(paths)
    redraw = "python -m scaling report " + " ".join(map(str, paths)) + f" -o {out}"
    runs, written = [part.pool for part in parts], []
    for name, fig in draw(parts).items():
        written += plots.save(fig, name, out, runs, {}, redraw, "report", force)
    rows = results(parts)
    found = to_csv(rows), bibliography(), page(parts, rows, out), fragment(parts, rows)
    write_outputs({path: text.encode() for path, text in zip(texts, found, strict=True)}, force)
    return [*written, *texts]


def body(writer: Writer, parts: Sequence[Part], figures: dict[str, str], source: Callable) -> str:
    """Return the report in the writer's language; `source(name)` is what shows a figure."""
    say, text = writer.say, []
    text.append(say.heading.format("Results"))
    for part in parts:
        found = FOUND + (FITTED if part.fitted else NOT_FITTED)
        text.append(say.paragraph.format(writer.fill(found, f"{part.name}.")))
    text += [say.figure.format(name=name, source=source(name), caption=writer.fill(caption))
             for name, caption in figures.items()]  # fmt: skip
    head: tuple[str, ...] = (
        "task",
        "model",
        "method",
        "selector",
        "smallest",
        "middle",
        "largest",
        "its FLOPs",
    )
    lines = []
    for part in parts:
        p = part.name
        lines.append([f"{p}.task", f"{p}.called", f"{p}.method-name", "", f"{p}.k.low",
                      f"{p}.k.middle", f"{p}.k.high", f"{p}.flops.high"])  # fmt: skip
        for selector in selectors(part.pool):
            ends = [f"{p}.{selector}.{at}" for at in ("low", "middle", "high")]
            lines.append(["", "", "", f"name.{selector}", *ends, ""])
    caption = "Accuracy by selector at three budgets (first line of a run: samples or steps)."
    text.append(writer.table(caption, head, lines))
    fits = [p for p in parts if p.fitted]
    if fits:
        names = list(fits[0].fitted.params)  # type: ignore[union-attr]
        lines = [[f"{p.name}.{key}" for key in ("task", "called", "method-name", "upto",
                  *(f"fit.{n}" for n in names), "rmse", "error")] for p in fits]  # fmt: skip
        head = ("task", "model", "method", "fitted up to", *names, "RMSE", "forecast error")
        text.append(writer.table("The law of coverage.", head, lines))
    lines = [[f"{p.name}.{key}" for key in ("task", "called", "example.prompt", "example.right",
              "example.wrong")] for p in parts]  # fmt: skip
    head = ("task", "model", "prompt", "a right draft", "a wrong draft")
    text.append(writer.table("One problem per run, of middle difficulty.", head, lines))
    text.append(say.heading.format("Methods"))
    text += [say.paragraph.format(writer.fill(SAMPLED, f"{part.name}.")) for part in parts]
    text.append(say.paragraph.format(writer.fill(CONVENTIONS)))
    return "".join(text)


def page(parts: Sequence[Part], rows: Rows, out: Path) -> str:
    """Return the HTML page, whole in itself: no script, no address, figures inside."""

    def source(name: str) -> str:
        return base64.b64encode((out / f"{name}.svg").read_bytes()).decode()

    text = body(Writer(HTML, rows), parts, FIGURES, source)
    cited = "".join(
        f'<li id="{key}">[{key}] {escape(who)}. {escape(title)}. arXiv:{eprint}, {year}.</li>\n'
        for key, (who, title, year, eprint) in SOURCES.items()
    )
    one = ' class="one"' * (len(parts) == 1)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Inference scaling report</title><style>{STYLE}</style></head>\n"
        f"<body{one}>"
        f"<h1>Inference scaling report</h1>\n{text}<h2>References</h2>\n<ul>{cited}</ul>\n"
        "</body></html>\n"
    )


def fragment(parts: Sequence[Part], rows: Rows) -> str:
    r"""Return the LaTeX fragment, for \input; it needs booktabs and graphicx."""
    head = (
        "% \\usepackage{booktabs,graphicx}, \\usepackage[T1]{fontenc}; \\input this file.\n"
        "% Each value is bound to the row of results.csv whose id stands before it.\n"
        "\\providecommand{\\bound}[2]{#2}\n"
    )
    return head + body(Writer(LATEX, rows), parts, FIGURES, str)


def bibliography() -> str:
    """Return the cited works as BibTeX."""
    return "".join(
        f"@misc{{{key},\n  author = {{{who}}},\n  title = {{{{{title}}}}},\n  year = {{{year}}},\n"
        f"  eprint = {{{eprint}}},\n  archivePrefix = {{arXiv}},\n}}\n"
        for key, (who, title, year, eprint) in SOURCES.items()
    )


def differences(out: Path) -> list[str]:
    """Return where a report's texts, its results and its runs disagree; [] when they agree."""
    rows = from_csv((out / "results.csv").read_bytes().decode())
    found = []
    for file, say in (("report.html", HTML), ("report.tex", LATEX)):
        text = (out / file).read_bytes().decode()
        found += [f"{file}: {why}" for why in unbound(text, rows, say)]
    paths = [Path(r["value"]) for name, r in rows.items() if name.endswith(".path")]
    gone = [str(path) for path in paths if not path.is_dir()]
    if gone:
        return [*found, f"results.csv: its runs are not there: {', '.join(gone)}"]
    fresh = from_csv(to_csv(results(parts_of(paths))))
    changed = [n for n in rows.keys() | fresh.keys() if not agree(rows.get(n), fresh.get(n))]
    return found + [f"results.csv: {name} is not what its run gives" for name in sorted(changed)]

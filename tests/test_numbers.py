"""Numbers that pages, notebooks and tables state are those of the committed runs.

What a CPU can derive anew in seconds is derived here; a number that drifts fails with the sentence
that should stand there. Notebooks run in `test_notebooks.py`, code of pages in `test_docs.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.curves import Pool, accuracy_table, curve
from scaling.figures import FIGURES, Study
from scaling.figures.thinking import direct_pools, families, o1_two_panels
from scaling.intervals import REPLICATES, Estimate, difference, problem_weights
from tests.trust import DOCS, table

ROOT = Path(__file__).parents[1]
KEYS = ["task", "level", "model", "method", "selector", "k"]


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.load(ROOT / "data/runs")


def test_tables_on_the_page_of_trust_are_those_that_were_measured() -> None:
    page = (DOCS / "trust.md").read_text(encoding="utf-8")
    for name, entry in json.loads((DOCS / "trust.json").read_text(encoding="utf-8")).items():
        assert f"<!-- {name} -->\n{table(entry)}<!-- end -->" in page


def test_accuracy_csv_follows_from_the_runs(study: Study) -> None:
    """One pool of each task and method, all of its rows."""
    stated = pd.read_csv(ROOT / "data/derived/accuracy.csv")
    pools = {(pool.run.task, pool.label): pool for pool in study.pools}
    found = accuracy_table(list(pools.values()))
    both = found.merge(stated, on=KEYS, suffixes=("", " stated"))
    numbers = ("accuracy", "low", "high", "test_flops", "test_tokens")
    pairs = [(both[name], both[f"{name} stated"]) for name in numbers]
    near = np.all([np.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs], 0)
    same = both[near].drop_duplicates(KEYS)
    assert len(same) == len(found), "data/derived is stale: python -m scaling accuracy"


@pytest.mark.skipif(REPLICATES != 1000, reason="SCALING_REPLICATES is set")
@pytest.mark.parametrize("name", ["coverage", "grid", "o1_two_panels"])
def test_the_facts_beside_a_figure_follow_from_the_runs(study: Study, name: str) -> None:
    drawn = FIGURES[name](study)
    assert drawn is not None
    stated = json.loads((ROOT / f"figures/{name}.json").read_text(encoding="utf-8"))["facts"]
    assert same(json.loads(json.dumps(drawn[1], default=float)), stated), f"make figures: {name}"


def same(a: Any, b: Any) -> bool:
    """Return whether two results are equal, numbers to one part in 10,000."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return np.isclose(a, b, 1e-4, 1e-9, equal_nan=True) if isinstance(a, float) else a == b


def test_what_reward_has_brought_is_as_told_in_the_notebook(study: Study) -> None:
    cells = json.loads((ROOT / "notebooks/07_learning_to_think.ipynb").read_text())["cells"]
    text = " ".join("".join(cell["source"]) for cell in cells).replace("\n", " ")
    pools = families(study)
    start, last = pools["imitation"][0], pools["grpo"][-1]
    before, after = (pool.values("last", pool.budgets()) for pool in (start, last))
    weights = problem_weights(len(before))
    ratio = np.quantile((weights @ after[:, -1]) / (weights @ before[:, -1]), [0.025, 0.975])
    direct = {pool.run.card.name: pool for pool in direct_pools(study)}
    plain, sharp = direct["ladder/0.1M/1e14"], direct["thinking/0.1M/direct-grpo/1e12"]
    one, many = np.array([1]), np.array([1, 8, 16])
    once, chosen = curve(plain, "oracle", k=one), plain.values("logprob", many)
    ahead = difference(chosen[:, 1], after[:, -1])
    more = difference(*(pool.values("oracle", one)[:, 0] for pool in (sharp, plain)))
    best = [pool.values("logprob", many)[:, 2].mean() for pool in (plain, sharp)]
    cover = [pool.values("oracle", many)[:, 2].mean() for pool in (plain, sharp)]
    assert plain.cost("flops", many)[:, 1].mean() < last.cost("flops", last.budgets())[:, -1].mean()
    drawn = o1_two_panels(study)
    assert drawn is not None
    facts = {name: np.abs(fact.get("held_out_error", ())) * 100 for name, fact in drawn[1].items()}
    thought, rewarded = facts["test grpo"], [*facts["train grpo"], *facts["train expert"]]
    times, spent = (
        after[:, -1].mean() / before[:, -1].mean(),
        1 - start.run.card.train_flops / last.run.card.train_flops,
    )
    claims = (
        f"{dot(before[:, -1].mean())} before, {dot(after[:, -1].mean())} after 3e12 FLOPs of GRPO "
        f"({times:.2f} times, {ratio[0]:.2f} to {ratio[1]:.2f}), "
        f"{100 * spent:.1f} % of all its training",
        f"grow from {length(start):.0f} to {length(last):.0f} tokens on average, wrong ones to "
        f"{length(last, wrong=True):.0f}",
        f"gain {100 * (after - before)[:, 0].mean():.0f} points only",
        f"{dot(after[:, -4].mean())} at 32 tokens, {dot(after[:, -1].mean())} at 256",
        f"rose by {100 * (before[:, -1] - before[:, -4]).mean():.0f} points",
        f"answers {dot(once.y[0])} [{dot(once.low[0])}, {dot(once.high[0])}] at once",
        f"right {dot(chosen[:, 1].mean())} of the time, {told(ahead)} above the thinker",
        f"after 10¹² FLOPs {told(more)} to one answer",
        f"of 16 from {dot(best[0])} to {dot(best[1])}",
        f"coverage from {dot(cover[0], 3)} to {dot(cover[1], 3)}",
        f"foretells (by {min(thought):.0f} to {max(thought):.0f} points), and slower with reward "
        f"(by {min(rewarded):.0f} to {max(rewarded):.0f})",
    )
    for claim in claims:
        assert claim in text


def dot(share: float, digits: int = 2) -> str:
    return f"{share:.{digits}f}".removeprefix("0")


def told(found: Estimate) -> str:
    """Return a difference with its interval, as the notebook states it."""
    low, high = dot(float(found.low), 3), dot(float(found.high), 3)
    return f"{dot(float(found.value), 3)} [{low}, {high}]"


def length(pool: Pool, wrong: bool = False) -> float:
    """Return the mean length of a pool's longest traces."""
    tokens, right = pool.ledger["completion_tokens"][..., -1], pool.correct[..., -1]
    return float(np.mean(tokens[right == 0] if wrong else tokens))


def test_bytes_per_sample_are_as_told_for_large_runs(study: Study) -> None:
    files = [pool.run.path / name for pool in study.pools for name in ("facts", "text")]
    rows = sum(len(pool.run.frame) for pool in study.pools)
    facts, text = (
        sum(file.with_suffix(".parquet").stat().st_size for file in files[start::2]) / rows
        for start in (0, 1)
    )
    page = (DOCS / "scale.md").read_text(encoding="utf-8")
    assert f"take {facts:.0f} bytes a sample for facts, {text:.0f} for text" in page


def speeds(name: str, halves: bool) -> list[str]:
    """Return the lines of a table of speeds on the page, from what `bench` wrote."""
    lines = []
    table = pd.read_csv(ROOT / "data/derived" / name)
    for (work, model), rows in table.groupby(["work", "model"], sort=False):
        at = rows.set_index("engine")
        peers = at[at.index.str.startswith("generate")].tokens_per_second
        line = f"| {work} | {model} | {peers['generate']:,.0f} | {peers.max():,.0f} |"
        for ours in ("ours, float32", "ours, bfloat16")[: 1 + halves]:
            row = at.loc[ours]
            ratios = f"{row.ratio_to_default:.1f}, {row.ratio_to_best_peer:.1f}"
            line += f" {row.tokens_per_second:,.0f} ({ratios}) |"
        lines.append(line)
    return lines


@pytest.mark.parametrize(("name", "halves"), [("bench.csv", True), ("bench_pools.csv", False)])
def test_speeds_beside_generate_are_as_the_benchmark_wrote_them(name: str, halves: bool) -> None:
    page = (DOCS / "scale.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in speeds(name, halves) if line not in page] == []


def test_the_ladder_spans_the_plane() -> None:
    """What the ladder was made for, read from the table: `make study` has nothing to show else."""
    table = pd.read_csv(ROOT / "data/derived/accuracy.csv").query("method == 'best_of_n'")
    places = ["task", "level", "model", "selector"]
    wide = table.pivot(index=places, columns="k", values="accuracy")[[1, 64]]
    reached = {selector: wide.xs(selector, level="selector") for selector in ("oracle", "majority")}
    one = reached["oracle"][1]
    assert one["countdown", "3x20"].min() <= 0.02
    assert one["countdown", "3x20"].max() >= 0.60
    assert one["countdown", "4x20"].max() >= 0.20
    assert (reached["oracle"][64] - one)["countdown"].max() >= 0.40
    voted = (reached["majority"][64] - one)["sums"].groupby("model").max()
    assert (voted >= 0.10).sum() >= 2, "voting means something on sums"

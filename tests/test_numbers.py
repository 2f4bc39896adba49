"""Numbers that pages, notebooks and tables state are those of the committed runs.

What a CPU can derive anew in seconds is derived here; a number that drifts fails with the sentence
that should stand there. Notebooks run in `test_notebooks.py`, code of pages in `test_docs.py`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.figures.gallery import FIGURES
from scaling.figures.plane import exchange_rates, exchange_text, joint_points, plane_fit
from scaling.figures.plots import rounded
from scaling.figures.thinking import direct_runs, families, o1_two_panels
from scaling.fits import printable
from scaling.fits.forecasts import GROUPS, law_tournament, trust
from scaling.fits.joint import joint_tournament
from scaling.intervals import REPLICATES, Estimate, difference, problem_weights
from scaling.runs import Run, Runs
from scaling.runs.tables import accuracy_table
from tests.trust.tables import DOCS, table

ROOT = Path(__file__).parents[1]
KEYS = ["task", "level", "model", "method", "selector", "k"]


def slow(*values: Any) -> Any:
    """Return a case of a test that runs only where slow ones do."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def runs() -> Runs:
    return Runs.load(ROOT / "data/runs")


def test_tables_on_the_page_of_trust_are_those_that_were_measured() -> None:
    page = (DOCS / "trust.md").read_text(encoding="utf-8")
    for name, entry in json.loads((DOCS / "trust.json").read_text(encoding="utf-8")).items():
        assert f"<!-- {name} -->\n{table(entry)}<!-- end -->" in page


def test_accuracy_csv_follows_from_the_runs(runs: Runs) -> None:
    """One pool of each task and method, all of its rows."""
    committed = pd.read_csv(ROOT / "data/derived/accuracy.csv")
    pools = {(pool.task, pool.label): pool for pool in runs}
    found = accuracy_table(list(pools.values()))
    both = found.merge(committed, on=KEYS, suffixes=("", " committed"))
    numbers = ("accuracy", "low", "high", "test_flops", "test_tokens")
    pairs = [(both[name], both[f"{name} committed"]) for name in numbers]
    near = np.all([np.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs], 0)
    same = both[near].drop_duplicates(KEYS)
    assert len(same) == len(found), (
        "data/derived is stale: python -m scaling accuracy --runs data/runs --derived data/derived"
    )


def test_the_title_of_the_plane_gives_no_rate_that_other_laws_contradict(runs: Runs) -> None:
    """It gave 1,058 times, although the additive law says that no inference is enough."""
    rates = exchange_rates(plane_fit(runs, "countdown", "coverage"))
    assert rates["plane_logit"] == pytest.approx(1058, rel=0.01)
    assert rates["additive"] == np.inf
    text = exchange_text(rates, 1706)
    assert "no robust exchange rate" in text
    assert "to more than 1,706×" in text


@pytest.mark.skipif(REPLICATES != 1000, reason="SCALING_REPLICATES is set")
@pytest.mark.parametrize(
    "name",
    [name if name in ("coverage", "o1_two_panels") else slow(name) for name in FIGURES],
)
def test_the_facts_of_a_figure_follow_from_the_runs(runs: Runs, name: str) -> None:
    drawn = FIGURES[name](runs)
    assert drawn is not None
    committed = json.loads((ROOT / f"figures/{name}.json").read_text(encoding="utf-8"))["facts"]
    assert same(json.loads(json.dumps(drawn[1], default=float)), committed), f"make figures: {name}"


JOINT = ["task", "level", "where", "region", "law"]


def joint_scores(runs: Runs, task: str, level: str, where: str, laws: Any = None) -> pd.DataFrame:
    """Return the scores of joint laws as `06_train_vs_test_compute` writes them."""
    train, k, y, replicates, size = joint_points(runs, task, "coverage", level, unit="samples")
    given = {"n_params": size, "replicates": replicates[:200], "sample_flops": 1.0}
    most = train.max() / 4 if where == "inside" else train.max()
    table = joint_tournament(train, k, y, most=most, laws=laws, **given)
    return printable(table.assign(task=task, level=level, where=where)).set_index(JOINT)


@pytest.mark.skipif(REPLICATES != 1000, reason="SCALING_REPLICATES is set")
@pytest.mark.parametrize(
    ("task", "level", "where", "laws"),
    [
        ("countdown", "4x20", "inside", ("plane_probit", "emergence")),
        *(
            slow(task, level, where, None)
            for task, level in (("countdown", "3x20"), ("countdown", "4x20"), ("sums", "3x99"),
                                ("sums", "6x99"))
            for where in ("inside", "beyond")
        ),
    ],
)  # fmt: skip
def test_joint_laws_csv_follows_from_the_runs_at_its_precision(runs, task, level, where, laws):
    """A unit of the last decimal apart at most; what fits that failed leave to chance, a tenth."""
    committed = pd.read_csv(ROOT / "data/derived/joint_laws.csv").set_index(JOINT)
    found = joint_scores(runs, task, level, where, laws)
    committed = committed.loc[found.index]
    pd.testing.assert_series_equal(found["success"].astype(bool), committed["success"])
    assert (found["n_held_out"] == committed["n_held_out"]).all()
    assert (found["median_error"] - committed["median_error"]).abs().max() < 1.5e-3
    ends = [table[["calibration", "width"]].fillna(-1) for table in (found, committed)]
    off = (ends[0] - ends[1]).abs().max(axis=1)
    unit = np.where(committed["success"], 0.01, 0.1)  # of a width with one digit at most
    assert (off < 1.5 * unit).all(), "make notebooks: 06"


@pytest.mark.slow
def test_laws_csv_follows_from_the_runs_at_its_precision(runs: Runs) -> None:
    """As `03_best_of_n` writes it."""
    committed = pd.read_csv(ROOT / "data/derived/laws.csv")
    pools = [pool for task in runs.tasks for pool in runs.select(task, "best_of_n")]
    few = {"few": True}
    settings = {"whole": {}, "drawn": few, "other problems": few | {"halves": True}}
    for selector in ("coverage", "majority"):
        for name, how in settings.items():
            table = trust(law_tournament(pools, selector, replicates=25, **how), by=GROUPS)
            here = committed.query(f"selector == {selector!r} and setting == {name!r}")
            both = printable(table).merge(here, on=[*GROUPS, "law"], suffixes=("", " committed"))
            assert len(both) == len(table) == len(here)
            for column, unit in (("median_error", 1e-3), ("calibration", 0.01), ("width", 0.01)):
                gap = (both[column] - both[f"{column} committed"]).abs()
                assert not (gap > 1.5 * unit).any(), "make notebooks: 03"


OTHER = """
import json, sys
from tests.test_numbers import ROOT, printed_numbers
print(json.dumps(printed_numbers()))
"""


def printed_numbers() -> dict[str, Any]:
    """Return a sample of what is printed: facts of a figure, scores with and without success."""
    runs = Runs.load(ROOT / "data/runs")
    drawn = FIGURES["coverage"](runs)
    assert drawn is not None
    scores = joint_scores(runs, "countdown", "4x20", "inside", ("plane_probit", "emergence"))
    facts = json.loads(json.dumps(rounded(drawn[1]), default=float))
    return {"facts": facts, "scores": json.loads(scores.reset_index().to_json(orient="records"))}


@pytest.mark.slow
@pytest.mark.skipif(REPLICATES != 1000, reason="SCALING_REPLICATES is set")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates a processor of that family")
def test_another_processor_prints_the_same_numbers() -> None:
    """numpy, its BLAS and the C library are made to compute as on a processor without AVX."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[index]
    environment = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}
    environment |= {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    environment |= {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA"}
    command = [sys.executable, "-c", OTHER]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    other, here = json.loads(done.stdout), json.loads(json.dumps(printed_numbers()))
    assert same(other["facts"], here["facts"])
    for theirs, ours in zip(other["scores"], here["scores"], strict=True):
        chance = {"calibration", "width"} if not ours["success"] else set()
        assert {k: v for k, v in theirs.items() if k not in chance} == {
            k: v for k, v in ours.items() if k not in chance
        }
        assert all(abs(theirs[name] - ours[name]) < 0.11 for name in chance)


def same(a: Any, b: Any) -> bool:
    """Return whether two results are equal, numbers to one part in 10,000."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return np.isclose(a, b, 1e-4, 1e-9, equal_nan=True) if isinstance(a, float) else a == b


def test_what_reward_training_brings_is_as_the_notebook_says(runs: Runs) -> None:
    pools = families(runs)
    start, last = pools["imitation"][0], pools["grpo"][-1]
    before, after = (pool.values("last", pool.budgets()) for pool in (start, last))
    weights = problem_weights(len(before))
    ratio = np.quantile((weights @ after[:, -1]) / (weights @ before[:, -1]), [0.025, 0.975])
    direct = {pool.card.name: pool for pool in direct_runs(runs)}
    plain, weak = (direct[f"ladder/0.1M/{flops}"] for flops in ("1e14", "3e13"))
    sharp, sharper = (direct[f"thinking/0.1M/direct-grpo/{flops}"] for flops in ("1e12", "3e12"))
    lifted = direct["thinking/0.1M-3e13/direct-grpo/3e12"]
    one, many = np.array([1]), np.array([1, 8, 16])
    once, chosen = plain.curve("coverage", k=one), plain.values("logprob", many)
    ahead = difference(chosen[:, 1], after[:, -1])
    more, most, lift = (
        difference(*(pool.values("coverage", one)[:, 0] for pool in pair))
        for pair in ((sharp, plain), (sharper, plain), (lifted, weak))
    )
    best = [pool.values("logprob", many)[:, 2].mean() for pool in (plain, sharp)]
    five = (plain, sharp, sharper, weak, lifted)
    first, _, cover = np.array([pool.values("coverage", many).mean(axis=0) for pool in five]).T
    assert plain.cost("flops", many)[:, 1].mean() < last.cost("flops", last.budgets())[:, -1].mean()
    drawn = o1_two_panels(runs)
    assert drawn is not None
    facts = {name: np.abs(fact.get("held_out_error", ())) * 100 for name, fact in drawn[1].items()}
    thought, rewarded = facts["test grpo"], [*facts["train grpo"], *facts["train expert"]]
    times, spent = (
        after[:, -1].mean() / before[:, -1].mean(),
        1 - start.card.train_flops / last.card.train_flops,
    )
    claims = (
        f"{before[:, -1].mean():.2f} before, {after[:, -1].mean():.2f} after 3e12 FLOPs of GRPO "
        f"({times:.2f} times, {ratio[0]:.2f} to {ratio[1]:.2f}), "
        f"{100 * spent:.1f} % of all its training",
        f"grow from {length(start):.0f} to {length(last):.0f} tokens on average, wrong ones to "
        f"{length(last, wrong=True):.0f}",
        f"gain {100 * (after - before)[:, 0].mean():.0f} points only",
        f"{after[:, -4].mean():.2f} at 32 tokens, {after[:, -1].mean():.2f} at 256",
        f"rose by {100 * (before[:, -1] - before[:, -4]).mean():.0f} points",
        f"answers {once.y[0]:.2f} [{once.low[0]:.2f}, {once.high[0]:.2f}] at once",
        f"right {chosen[:, 1].mean():.2f} of the time, {with_interval(ahead)} "
        "above the thinking model",
        f"adds {with_interval(more)} to the accuracy of one answer after 10¹² FLOPs, "
        f"and {with_interval(most)} after 3×10¹² FLOPs",
        f"of 16 falls from {best[0]:.2f} to {best[1]:.2f}",
        f"coverage from {cover[0]:.3f} to {cover[1]:.3f}",
        f"after 3×10¹² FLOPs coverage is {cover[2]:.3f}",
        f"from {first[3]:.2f} to {first[4]:.2f}, by {with_interval(lift)}",
        f"alone reach ({first[0]:.2f}); coverage of 16 falls from {cover[3]:.3f} to {cover[4]:.3f}",
        f"predicts (by {min(thought):.0f} to {max(thought):.0f} points), and slower with reward "
        f"(by {min(rewarded):.0f} to {max(rewarded):.0f})",
    )
    assert [claim for claim in claims if claim not in notebook_text()] == []


def notebook_text() -> str:
    """Return the text and code of the notebook on learning to think, in one line."""
    cells = json.loads((ROOT / "notebooks/07_learning_to_think.ipynb").read_text("utf-8"))["cells"]
    return " ".join("".join(cell["source"]) for cell in cells).replace("\n", " ")


def with_interval(found: Estimate) -> str:
    """Return a difference with its interval, as the notebook states it."""
    value, low, high = (float(x) for x in (found.value, found.low, found.high))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def length(pool: Run, wrong: bool = False) -> float:
    """Return the mean length of a pool's longest traces."""
    tokens, right = pool.ledger["completion_tokens"][..., -1], pool.correct[..., -1]
    return float(np.mean(tokens[right == 0] if wrong else tokens))


def test_bytes_per_sample_on_the_page_are_those_of_the_shipped_runs(runs: Runs) -> None:
    def bytes_per_sample(file: str) -> float:
        stored = [pool for pool in runs if (pool.path / file).exists()]
        size = sum((pool.path / file).stat().st_size for pool in stored)
        return size / sum(len(pool.samples) for pool in stored)

    facts, text = bytes_per_sample("facts.parquet"), bytes_per_sample("text.parquet")
    page = (DOCS / "scale.md").read_text(encoding="utf-8")
    assert f"take {facts:.0f} bytes per sample for facts and {text:.0f} for text" in page


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
def test_speeds_next_to_generate_are_as_the_benchmark_wrote_them(name: str, halves: bool) -> None:
    page = (DOCS / "scale.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in speeds(name, halves) if line not in page] == []


def test_the_ladder_spans_the_plane() -> None:
    """What the ladder was made for, read from the table: `make study` has nothing to show else."""
    table = pd.read_csv(ROOT / "data/derived/accuracy.csv").query("method == 'best_of_n'")
    places = ["task", "level", "model", "selector"]
    wide = table.pivot(index=places, columns="k", values="accuracy")[[1, 64]]
    reached = {
        selector: wide.xs(selector, level="selector") for selector in ("coverage", "majority")
    }
    one = reached["coverage"][1]
    assert one["countdown", "3x20"].min() <= 0.02
    assert one["countdown", "3x20"].max() >= 0.60
    assert one["countdown", "4x20"].max() >= 0.20
    assert (reached["coverage"][64] - one)["countdown"].max() >= 0.40
    voted = (reached["majority"][64] - one)["sums"].groupby("model").max()
    assert (voted >= 0.10).sum() >= 2, "voting means something on sums"

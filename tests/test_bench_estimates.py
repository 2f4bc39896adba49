"""The estimators' benchmark: both sides do the same work, and what is scaled is scaled rightly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import estimates as bench
from benchmarks.engine import bench_loops
from scaling.estimates import best_of_k, majority_at_k, pass_at_k

COLUMNS = ["workload", "size", "seconds", "most", "naive_seconds", "ratio", "floor", "loop"]


def test_the_loops_reach_what_the_estimators_do() -> None:
    """Means of 4,000 subsets within .03 of the exact: four standard errors, twelve comparisons."""
    rng, k = np.random.default_rng(0), np.array([1, 3, 8, 20])
    right = np.array([0, 1, 9, 40])
    loop = bench._loop_pass(40, right, k)
    np.testing.assert_allclose(loop, pass_at_k(40, right[:, None], k), atol=1e-13)
    answers = bench._votes(rng, 40, 1)[0]
    correct, score = answers == 0, rng.random(40)
    best = np.reshape(bench._loop_best(correct, score, k, 4000), (4, 4000)).mean(axis=1)
    np.testing.assert_allclose(best, best_of_k(correct, score, k), atol=0.03)
    pool = np.repeat([0, 1, 2], [20, 12, 8])  # of a tie each is seen first equally often
    votes = np.reshape(bench._loop_vote(pool, k, 4000), (4, 4000))
    exact = majority_at_k(pool, pool == 0, k)
    np.testing.assert_allclose((votes == 0).mean(axis=1), exact, atol=0.03)


def test_scaled_times_are_of_the_whole_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_seconds", lambda call, repeats: 1.0)
    rows = bench.measure(samples=300)
    votes = [row for row in rows if row["workload"] == "majority_at_k"]
    assert [row["seconds"] for row in votes] == [1.0, 10.0]  # 500 problems timed, and 50
    naive = [row["naive_seconds"] for row in votes]
    assert naive == [1000.0, 5000.0]  # 50 and 10 of 100 draws of 1 of 500
    by_name = {row["workload"]: row["naive_seconds"] for row in rows}
    assert by_name["pass_at_k, 1000 replicates"] == 1000
    assert by_name["chinchilla, 4500 starts"] == 4500


@pytest.mark.parametrize("samples", [64, 256, 10_000])
def test_thirty_budgets_are_thirty(samples: int) -> None:
    """Story: rounding made 16 of them at 256 samples, 28 at 10,000."""
    budgets = bench._budgets(samples)
    assert len(np.unique(budgets)) == 30
    assert (budgets[0], budgets[-1]) == (1, samples)


def test_a_limit_or_a_floor_that_is_missed_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [
        bench._row("fast", "1", 0.5, 50.0, "loop", 10, 1.0),
        bench._row("slow", "1", 2.0, 10.0, "loop", 10, 1.0),
    ]
    monkeypatch.setattr(bench, "measure", lambda repeats: rows)
    printed = bench_loops(1, tmp_path / "b.csv").splitlines()
    assert [line.endswith(": met") for line in printed[1:3]] == [True, True]
    assert printed[4:] == [
        "  2.0000 s, at most 1: MISSED",
        "  5 times faster, at least 10: MISSED",
    ]


def test_every_workload_is_a_row_with_its_times() -> None:
    rows = bench._estimates(repeats=1, samples=64)
    assert [row["workload"] for row in rows] == [
        "pass_at_k", "pass_at_k, 1000 replicates", "best_of_k", "majority_at_k",
    ]  # fmt: skip
    for row in rows:
        assert list(row) == COLUMNS
        assert row["seconds"] > 0
        assert row["ratio"] == pytest.approx(row["naive_seconds"] / row["seconds"])

"""Estimators timed beside the loops they replace: rows of numbers, for `python -m scaling bench`.

Both sides run in this process, one after the other, and the median of process time over `repeats`
counts, so that ratios hold on a busy machine. Loops that would take minutes run on a stated share
of the work and are scaled.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np

from scaling.estimates import best_of_k, majority_at_k, pass_at_k
from scaling.intervals import bootstrap_problems

PROBLEMS = 500


def _seconds(call: Callable[[], object], repeats: int) -> float:
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return float(np.median(spent))


def _product(n: int, c: int, k: int) -> float:
    """Return pass@k of one problem as HumanEval's evaluation multiplies it out."""
    return 1.0 if n - c < k else 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def _loop_pass(n: int, right: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    return np.array([[_product(n, int(c), int(k)) for k in budgets] for c in right])


def _loop_best(correct: np.ndarray, score: np.ndarray, budgets: np.ndarray, subsets: int) -> list:
    rng = np.random.default_rng(0)
    found = []
    for k in budgets:
        for _ in range(subsets):
            drawn = rng.choice(len(score), int(k), replace=False)
            found.append(correct[drawn[np.argmax(score[drawn])]])
    return found


def _loop_vote(answers: np.ndarray, budgets: np.ndarray, subsets: int) -> list:
    rng, pool = random.Random(0), answers.tolist()
    draws = [rng.sample(pool, int(k)) for k in budgets for _ in range(subsets)]
    return [Counter(drawn).most_common(1)[0][0] for drawn in draws]


def _row(name: str, size: str, ours: float, naive: float, loop: str, floor: int) -> dict:
    times = {"seconds": ours, "naive_seconds": naive, "ratio": naive / max(ours, 1e-9)}
    return {"workload": name, "size": size, **times, "loop": loop, "floor": floor}


def _votes(rng: np.random.Generator, samples: int, pools: int) -> np.ndarray:
    """Return answers (pools, samples): 20 answers of uneven popularity, another mix per problem."""
    mix = rng.dirichlet(np.full(20, 0.3), pools)
    return np.stack([rng.choice(20, samples, p=row) for row in mix])


def bench_estimators(samples: int = 10_000, repeats: int = 5) -> list[dict]:
    """Return one row per workload: seconds, naive_seconds, their ratio, and the ratio aimed at.

    500 problems, `samples` each, about 30 budgets from 1 to `samples`; votes also at 256 samples.
    Exact votes are timed on 50 problems and scaled, loops on one problem or replicate and scaled.
    """
    rng = np.random.default_rng(0)
    budgets = np.unique(np.geomspace(1, samples, 30).astype(int))
    p = rng.beta(0.5, 2, PROBLEMS)
    right = rng.binomial(samples, p)
    size = f"{PROBLEMS} problems x {samples} samples x {len(budgets)} budgets"

    def values() -> np.ndarray:
        return np.asarray(pass_at_k(samples, right[:, None], budgets))

    ours = _seconds(values, repeats)
    loop = _seconds(lambda: _loop_pass(samples, right, budgets), min(repeats, 3))
    rows = [_row("pass_at_k", size, ours, loop, "HumanEval's product per problem and budget", 100)]

    ours = _seconds(lambda: bootstrap_problems(values(), 1000), repeats)
    label = "re-estimating in each of 1000 replicates"
    rows.append(_row("pass_at_k, 1000 replicates", size, ours, 1000 * loop, label, 1000))

    correct = rng.random((PROBLEMS, samples)) < p[:, None]
    score = rng.normal(size=correct.shape) + correct
    ours = _seconds(lambda: best_of_k(correct, score, budgets), repeats)
    loop = _seconds(lambda: _loop_best(correct[0], score[0], budgets, 10), 3) * PROBLEMS * 10
    rows.append(_row("best_of_k", size, ours, loop, "100 random subsets, one by one", 100))

    for count in sorted({min(256, samples), samples}):
        answers, some = _votes(rng, count, 50), budgets[budgets <= count]
        ours = _seconds(partial(majority_at_k, answers, answers == 0, some), min(repeats, 3)) * 10
        loop = _seconds(partial(_loop_vote, answers[0], some, 10), 3) * PROBLEMS * 10
        size = f"{PROBLEMS} problems x {count} samples x {len(some)} budgets"
        rows.append(
            _row("majority_at_k", size, ours, loop, "100 random.sample subsets, Counter", 30)
        )
    return rows


if __name__ == "__main__":
    for row in bench_estimators():
        print(
            f"{row['workload']:28s} {row['seconds']:8.4f} s, naive {row['naive_seconds']:8.2f} s, "
            f"{row['ratio']:.0f}x (floor {row['floor']}x): {row['size']}; {row['loop']}"
        )

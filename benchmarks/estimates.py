"""Estimators and fits timed against the plain loops they replace, for `python -m benchmarks`.

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
from typing import Any

import numpy as np
from scipy.optimize import curve_fit, minimize

from scaling.estimates import best_of_k, majority_at_k, pass_at_k
from scaling.fits import fit
from scaling.fits.laws import LAWS
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


def _row(
    name: str, size: str, ours: float, naive: float, loop: str, floor: float, most: float
) -> dict[str, Any]:
    """Return a row; floor: the ratio aimed at, most: the seconds allowed."""
    times = {
        "seconds": ours,
        "most": most,
        "naive_seconds": naive,
        "ratio": naive / max(ours, 1e-9),
    }
    return {"workload": name, "size": size, **times, "floor": floor, "loop": loop}


def _budgets(samples: int) -> np.ndarray:
    """Return 30 budgets from 1 to `samples`, as even in logarithms as integers can be."""
    for count in range(30, 99):
        budgets = np.unique(np.geomspace(1, samples, count).round().astype(int))
        if len(budgets) >= 30:
            break
    return budgets


def _votes(rng: np.random.Generator, samples: int, pools: int) -> np.ndarray:
    """Return answers (pools, samples): 20 answers of uneven popularity, another mix per problem."""
    mix = rng.dirichlet(np.full(20, 0.3), pools)
    return np.stack([rng.choice(20, samples, p=row) for row in mix])


def measure(repeats: int = 5, samples: int = 10_000) -> list[dict[str, Any]]:
    """Return one row per workload: seconds, those allowed, naive_seconds, ratio, ratio aimed at.

    500 problems, `samples` each, 30 budgets from 1 to `samples`; votes also at 256 samples. Exact
    votes of more than 256 samples are timed on 50 problems and scaled, loops on one problem or
    replicate and scaled. Fits are of synthetic points with known parameters.
    """
    return [*_estimates(repeats, samples), *_fits(repeats)]


def _estimates(repeats: int, samples: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    budgets = _budgets(samples)
    p = rng.beta(0.5, 2, PROBLEMS)
    right = rng.binomial(samples, p)
    size = f"{PROBLEMS} problems x {samples} samples x {len(budgets)} budgets"

    def values() -> np.ndarray:
        return np.asarray(pass_at_k(samples, right[:, None], budgets))

    ours = _seconds(values, repeats)
    loop = _seconds(lambda: _loop_pass(samples, right, budgets), min(repeats, 3))
    label = "HumanEval's product per problem and budget"
    rows = [_row("pass_at_k", size, ours, loop, label, 100, 0.01)]

    ours = _seconds(lambda: bootstrap_problems(values(), 1000), repeats)
    label = "re-estimating in each of 1000 replicates"
    rows.append(_row("pass_at_k, 1000 replicates", size, ours, 1000 * loop, label, 1000, 0.1))

    correct = rng.random((PROBLEMS, samples)) < p[:, None]
    score = rng.normal(size=correct.shape) + correct
    ours = _seconds(lambda: best_of_k(correct, score, budgets), repeats)
    loop = _seconds(lambda: _loop_best(correct[0], score[0], budgets, 10), 3) * PROBLEMS * 10
    label = "100 random subsets, one by one"
    rows.append(_row("best_of_k", size, ours, loop, label, 100, 0.5))

    for count in sorted({min(256, samples), samples}):
        pools = PROBLEMS if count <= 256 else PROBLEMS // 10
        answers, some = _votes(rng, count, pools), _budgets(count)
        ours = _seconds(partial(majority_at_k, answers, answers == 0, some), repeats)
        ours *= PROBLEMS / pools
        subsets = 50 if count <= 256 else 10
        loop = _seconds(partial(_loop_vote, answers[0], some, subsets), 9)
        loop *= PROBLEMS * 100 / subsets
        size = f"{PROBLEMS} problems x {count} samples x {len(some)} budgets"
        label, most = "100 random.sample subsets, Counter", 6.0 if count <= 256 else 20.0
        rows.append(_row("majority_at_k", size, ours, loop, label, 30, most))
    return rows


def _fits(repeats: int) -> list[dict[str, Any]]:
    rng, law = np.random.default_rng(0), LAWS["chinchilla"]
    n, d = 10 ** rng.uniform((7.5, 9), (10, 11.5), (240, 2)).T
    truth = np.array([1.8, 480.0, 2000.0, 0.35, 0.37])
    loss = law.predict((n, d), truth) * np.exp(0.01 * rng.standard_normal(240))
    chinchilla = partial(fit, "chinchilla", (n, d), loss, delta=1e-3)
    plain = _seconds(lambda: chinchilla(bootstrap=0), repeats)
    starts = _seconds(lambda: chinchilla(starts=4500, bootstrap=0), repeats)
    boots = _seconds(lambda: chinchilla(bootstrap=4000), min(repeats, 3)) - plain

    def objective(z: np.ndarray) -> float:
        p = np.array([*np.exp(z[:3]), *z[3:]])
        r = np.abs(np.log(law.predict((n, d), p) / loss))
        return float(np.where(r < 1e-3, r * r / 2, 1e-3 * (r - 5e-4)).sum())

    begin = [0.5, 5.0, 7.0, 0.5, 0.5]
    loop = _seconds(lambda: minimize(objective, begin, method="L-BFGS-B"), 3)
    label = "scipy's L-BFGS-B from each start, finite differences"
    size = "240 synthetic points"
    rows = [_row("chinchilla, 4500 starts", size, starts, 4500 * loop, label, 10, 5.0)]
    label = "the same from one start per bootstrap"
    rows.append(_row("chinchilla, 4000 bootstraps", size, boots, 4000 * loop, label, 10, 5))

    k = 2.0 ** np.arange(11)
    y = LAWS["exp_power"].predict(k, np.array([-2.0, -0.4]))
    many = y + 0.003 * rng.standard_normal((1000, len(k)))
    ours = _seconds(lambda: fit("exp_power", k, y, replicates=many), repeats)

    def one() -> object:
        return curve_fit(lambda k, a, b: np.exp(a * k**b), k, many[0], [-1, -0.3])

    size, label = "11 synthetic points", "scipy's curve_fit per replicate"
    loop = 1000 * _seconds(one, max(repeats, 9))
    return [*rows, _row("exp_power, 1000 replicates", size, ours, loop, label, 1, 0.1)]

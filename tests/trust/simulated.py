"""Coverage of intervals, bias of estimators and calibration of forecasts, where the truth is known.

    python -m tests.trust.simulated

Populations, pairs and studies are those of `tests.trust.populations`; true values are sums
and integrals over what was planted, not other estimates. The counts go to docs/trust.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import factorial
from typing import Any

import numpy as np

from scaling.curves import Curve
from scaling.estimates import best_of_k, inverse_pass_at_k, majority_at_k, pass_at_k
from scaling.fits import forecast
from scaling.intervals import mean_interval
from tests.trust.populations import (
    KINDS,
    PAIRS,
    POPULATIONS,
    PROBLEMS,
    held_accuracy,
    held_difference,
)
from tests.trust.tables import note

Row = dict[str, Any]


def calibration(studies: int = 4000) -> Iterator[tuple[str, Row]]:
    """Yield how often 95 % intervals hold the truth, over the grid of `tests.trust.populations`."""
    for n in PROBLEMS:
        found = np.array([held_accuracy(name, n, studies) for name in POPULATIONS])
        for kind, columns in KINDS.items():
            yield f"interval of {kind}, {n} problems", span(found[:, columns], studies)
    for n in PROBLEMS:
        found = np.array([held_difference(name, n, studies // 4) for name in PAIRS])
        yield f"interval of a paired difference, {n} problems", span(found, studies // 4)


def span(shares: np.ndarray, studies: int) -> Row:
    """Return a row of shares that should be 95 %: the least, the median and the greatest."""
    least, middle, most = (100 * np.quantile(shares, q) for q in (0, 0.5, 1))
    measured = f"{least:.1f} / {middle:.1f} / {most:.1f} %"
    return {"measured": measured, "should be": "95 %", "simulations": studies * shares.size}


def bias(pools: int = 200_000) -> Iterator[tuple[str, Row]]:
    """Yield the mean error of each estimator over pools of 12 samples, with its standard error."""
    rng, p, k, many = np.random.default_rng(5), 0.3, 5, 5 * pools
    truth = 1 - (1 - p) ** k
    yield "bias of pass@5", error(pass_at_k(12, rng.binomial(12, p, many), k) - truth)
    right = (rng.random((many, 12)) < p).cumsum(axis=1)
    drawn = np.where(right[:, -1] >= 2, (right < 2).sum(axis=1) + 1, 12)
    found = inverse_pass_at_k(drawn, np.minimum(right[:, -1], 2), 2, k, cap=12)
    yield "bias of pass@5, stopped at 2 right", error(found - truth)
    answers = rng.choice(3, size=(pools, 12), p=[0.45, 0.35, 0.2])
    found = majority_at_k(answers, answers == 0, k)
    yield "bias of the majority of 5", error(found - majority([0.45, 0.35, 0.2], k))
    correct = rng.random((pools, 12)) < p
    found = best_of_k(correct, rng.random((pools, 12)) + 0.2 * correct, k)
    yield "bias of the best of 5 by a score", error(found - best(p, k))


def majority(p: list[float], k: int) -> float:
    """Return how often the first answer has the most of k votes, ties shared, by enumeration."""
    total = 0.0
    for votes in product(range(k + 1), repeat=len(p)):
        if sum(votes) == k and votes[0] == max(votes):
            ways = factorial(k) / np.prod([factorial(v) for v in votes])
            total += ways * np.prod(np.array(p) ** votes) / votes.count(votes[0])
    return total


def best(p: float, k: int) -> float:
    """Return how often the best of k scores is a right one's: uniform, right ones 0.2 higher."""
    s = np.linspace(0.2, 1.2, 200_001)
    below = p * (s - 0.2) + (1 - p) * np.minimum(s, 1)
    return float(np.trapezoid(k * p * below ** (k - 1), s))


def error(found: np.ndarray) -> Row:
    """Return a row of a mean that should be 0."""
    spread = found.std(ddof=1) / len(found) ** 0.5
    measured = f"{found.mean():+.4f} ± {spread:.4f}"
    return {"measured": measured, "should be": "0", "simulations": len(found)}


def forecasts(studies: int = 100) -> Iterator[tuple[str, Row]]:
    """Yield how often bands of a planted law, fitted up to 16 samples, hold 32 to 128 of them."""
    covered: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(studies):
        rng, k = np.random.default_rng(seed), 2.0 ** np.arange(8)
        values = pass_at_k(256, rng.binomial(256, rng.beta(0.6, 3.0, 120))[:, None], k)
        one, other = (
            Curve(k, e.value, e.low, e.high, e.replicates)
            for e in (mean_interval(values[i::2], 200, seed=i) for i in range(2))
        )
        covered[False].append(forecast("beta_binomial", one, 1 / 8)[1].covered.mean())
        covered[True].append(forecast("beta_binomial", other, 1 / 8, one, True)[1].covered.mean())
    for apart, name in ((False, "the same problems"), (True, "other problems")):
        yield f"a forecast, 60 problems, scored on {name}", mean(covered[apart])


def mean(shares: list[float]) -> Row:
    """Return a row of a mean share that should be 95 %."""
    spread = np.std(shares, ddof=1) / len(shares) ** 0.5
    measured = f"{100 * np.mean(shares):.1f} ± {100 * spread:.1f} %"
    return {"measured": measured, "should be": "95 %", "simulations": len(shares)}


def main() -> None:
    """Simulate, print, and note the counts for docs/trust.md."""
    for part in (bias, forecasts, calibration):
        for name, row in part():
            print(name, row, flush=True)
            note("statistics", "python -m tests.trust.simulated", {name: row})


if __name__ == "__main__":
    main()

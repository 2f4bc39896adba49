"""The grid of populations on which intervals are tried, listed once, and the simulation of studies.

A population is a pool of problems, each with its measured statistics: a study draws some of its
problems, and the truth is the mean over the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from scaling.estimates import best_of_k, majority_at_k, pass_at_k
from scaling.intervals import difference, likelihood_interval

Draw = Callable[[np.random.Generator, int], np.ndarray]
PROBLEMS = (30, 50, 100, 200)
POOL = 20_000  #: problems of a population
SAMPLES = 64  #: per problem
#: what is measured of each problem
COLUMNS = (
    "one sample", "pass@1", "pass@4", "pass@16", "pass@64",
    "best of 4", "best of 32", "majority of 5", "majority of 32",
)  # fmt: skip
COVERAGE = slice(1, 5)  #: the columns of one coverage curve
KINDS = {
    "accuracy": slice(0, 2),
    "coverage": slice(2, 5),
    "best-of-k": slice(5, 7),
    "majority": slice(7, 9),
}


def beta(a: float, b: float) -> Draw:
    return lambda rng, n: rng.beta(a, b, n)


def mixed(share: float, chance: float, rest: Draw) -> Draw:
    """Return a population in which a share of the problems is right with the given chance."""
    return lambda rng, n: np.where(rng.random(n) < share, chance, rest(rng, n))


SHAPES: dict[str, Draw] = {
    f"Beta({a:g}, {b:g})": beta(a, b)
    for a, b in [
        (0.05, 9.95), (1, 199), (2, 98), (0.2, 3), (0.5, 2), (1, 8), (0.6, 0.6), (0.1, 0.1),
        (4, 4), (30, 30), (6, 4), (8, 3), (3, 0.2), (98, 2), (199, 1), (9.95, 0.05),
    ]
}  # fmt: skip
SHAPES |= {f"all {p:g}": mixed(1.0, p, beta(1, 1)) for p in (0.005, 0.03, 0.5, 0.97, 0.995)}
SHAPES["two kinds"] = lambda rng, n: (
    mixed(0.5, 0, beta(8, 2))(rng, n) + mixed(0.5, 0, beta(1, 8))(rng, n)
)
POPULATIONS = dict(SHAPES)
for share in (0.01, 0.02, 0.05):
    for rest in ("Beta(0.5, 2)", "Beta(1, 8)", "Beta(4, 4)", "Beta(6, 4)", "Beta(8, 3)"):
        POPULATIONS[f"{share:.0%} impossible, {rest}"] = mixed(share, 0.0, SHAPES[rest])
        POPULATIONS[f"{share:.0%} trivial, {rest}"] = mixed(share, 1.0, SHAPES[rest])
#: (chance of the first method, chance of the second) of each problem
PAIRS: dict[str, tuple[Draw, Callable[[np.random.Generator, np.ndarray], np.ndarray]]] = {
    f"{share:.0%} impossible for one, {name}": (
        SHAPES[name],
        lambda rng, p, share=share: np.where(rng.random(len(p)) < share, 0.0, p),
    )
    for share in (0.0, 0.01, 0.02, 0.05)
    for name in ("Beta(1, 199)", "Beta(0.5, 2)", "Beta(4, 4)", "Beta(8, 3)", "Beta(98, 2)")
} | {
    f"odds 0.6 of the other's, {name}": (SHAPES[name], lambda _, p: 0.6 * p / (1 - 0.4 * p))
    for name in ("Beta(0.05, 9.95)", "Beta(0.5, 2)", "Beta(4, 4)", "Beta(8, 3)", "Beta(98, 2)")
}


def measured(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (problems, COLUMNS) for problems that are right with chance p.

    Scores of right samples are higher by one standard deviation. Half of the wrong answers are the
    same one, the others one of three.
    """
    correct = rng.random((len(p), SAMPLES)) < p[:, None]
    score = rng.standard_normal((len(p), 32)) + correct[:, :32]
    wrong = np.array([1, 1, 1, 2, 3, 4])[rng.integers(6, size=(len(p), 32))]
    answers = np.where(correct[:, :32], 0, wrong)
    parts = [
        correct[:, :1],
        pass_at_k(SAMPLES, correct.sum(axis=1)[:, None], np.array([1, 4, 16, 64])),
        best_of_k(correct[:, :32], score, np.array([4, 32])),
        majority_at_k(answers, correct[:, :32], np.array([5, 32])),
    ]
    return np.concatenate([np.asarray(part, dtype=float) for part in parts], axis=1)


@cache
def population(name: str) -> np.ndarray:
    """Return the pool of a population, (POOL, COLUMNS)."""
    rng = np.random.default_rng(1)
    return measured(POPULATIONS[name](rng, POOL), rng)


@cache
def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pools of two methods on the same problems, each (POOL, COLUMNS)."""
    rng = np.random.default_rng(2)
    first, other = PAIRS[name]
    p = first(rng, POOL)
    return measured(p, rng), measured(other(rng, p), rng)


def drawn(pool: np.ndarray, problems: int, studies: int) -> np.ndarray:
    """Return the problems of each study, (problems, studies * COLUMNS)."""
    rng = np.random.default_rng(problems)
    return pool[rng.integers(len(pool), size=(problems, studies))].reshape(problems, -1)


def covered(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the share of studies whose interval holds the truth, per column."""
    low, high = low.reshape(-1, len(truth)), high.reshape(-1, len(truth))
    slack = 1e-12  # a mean of ones may be rounded
    return ((low <= truth + slack) & (truth <= high + slack)).mean(axis=0)


def held_accuracy(name: str, problems: int, studies: int) -> np.ndarray:
    """Return how often the 95 % interval holds the truth, per column."""
    pool = population(name)
    return covered(*likelihood_interval(drawn(pool, problems, studies)), pool.mean(axis=0))


def held_difference(name: str, problems: int, studies: int) -> np.ndarray:
    """Return how often the 95 % interval of a paired difference holds the truth, per column."""
    a, b = pair(name)
    found = difference(drawn(a, problems, studies), drawn(b, problems, studies), replicates=2)
    return covered(found.low, found.high, a.mean(axis=0) - b.mean(axis=0))

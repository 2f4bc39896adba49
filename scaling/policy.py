"""Compute-optimal strategy by difficulty: what it gains once it has paid for its own estimate.

Snell et al. 2024 (arXiv:2408.03314) choose a way of spending inference compute for each bin of
difficulty. Two things flatter such a policy: choosing and scoring on the same problems, and reading
difficulty for nothing. Here the choice is made on other folds of problems than it is scored on, and
the pilot samples that tell the difficulty are taken out of each problem's budget.

The pilot samples must be others than those behind the values: a problem whose samples were lucky
would look easy and good at once. `split_pilot` keeps them apart. Not here: pools and prices
(`curves`), how a budget is divided among problems (every problem is given the same).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.intervals import Estimate, difference

Floats = NDArray[np.float64]
Strategies = Mapping[str, tuple[ArrayLike, ArrayLike]]


@dataclass(frozen=True)
class PolicyGain:
    """A policy by difficulty beside the best single strategy, at equal cost per problem."""

    budget: Floats  #: (points,) cost per problem that each side may spend
    single: Floats  #: (points,) mean value of the best single strategy, chosen on other folds
    free: Floats  #: (points,) mean value of the policy if difficulty cost nothing
    paid: Floats  #: (points,) the same when the pilot is charged; NaN where it costs the budget
    gain_free: Estimate  #: free - single, paired over problems
    gain: Estimate  #: paid - single, paired over problems
    edges: Floats  #: (bins - 1,) where the signal is cut; fewer for few distinct values
    choice: list[list[str]]  #: (bins, points) strategy per bin, paid for, chosen on all problems

    @property
    def survives(self) -> NDArray[np.bool_]:
        """Return, per budget, whether the gain stands above the noise once the pilot is paid."""
        return np.asarray(self.gain.low) > 0


def split_pilot(
    problems: int, samples: int, pilot: int, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return columns (problems, pilot) to read difficulty from, and (problems, rest) for values.

    Drawn afresh for each problem: use with `np.take_along_axis(pool, columns, axis=1)`.
    """
    if not 0 < pilot < samples:
        raise ValueError(f"pilot is {pilot} of {samples} samples; give 1 to {samples - 1}")
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(samples), (problems, 1)), axis=1)
    return order[:, :pilot], order[:, pilot:]


def policy_gain(
    strategies: Strategies,
    signal: ArrayLike,
    pilot_cost: ArrayLike,
    budget: ArrayLike,
    *,
    bins: int = 5,
    folds: int = 5,
    repeats: int = 5,
    replicates: int = 1000,
    seed: int = 0,
    cluster: ArrayLike | None = None,
) -> PolicyGain:
    """Return what choosing the strategy by difficulty gains over the best single one.

    strategies: name -> (value, cost), value (problems, budgets) without bias for each problem, cost
    likewise or (budgets,), rising, in any one unit. signal: (problems,), any number that tells hard
    from easy. pilot_cost: what reading it cost, per problem or one for all. budget: (points,), in
    the unit of cost. Between two budgets of a strategy the value is that of mixing them, below the
    first that of answering a share of the time, beyond the last it stays.

    `bins` quantiles of the signal; the mean over `repeats` divisions into `folds`; families of
    problems (`cluster`) stay in one fold. The intervals resample problems, not the choice:
    of 150 plants of 120 problems, those of 95 % held the true gain in 91 %.
    """
    marks = np.asarray(signal, dtype=float)
    points = np.atleast_1d(np.asarray(budget, dtype=float))
    charge = np.broadcast_to(np.asarray(pilot_cost, dtype=float), marks.shape)
    _check(marks, charge, points, bins, folds)
    tables = [_table(name, strategies[name], len(marks)) for name in strategies]
    whole, less = (np.stack([_at(t, points, c) for t in tables]) for c in (0 * charge, charge))
    family = np.arange(len(marks)) if cluster is None else np.asarray(cluster)
    parts = [_folds(family, folds, seed, i) for i in range(repeats)]
    scored = [(whole, 0 * marks, 1), (whole, marks, bins), (less, marks, bins)]
    single, free, paid = (
        np.mean([_cross_fit(value, mark, n, part) for part in parts], axis=0)
        for value, mark, n in scored
    )
    paid = np.where((charge[:, None] < points).all(axis=0), paid, np.nan)
    edges = _edges(marks, bins)
    best = _choose(less, np.searchsorted(edges, marks, side="right"), len(edges) + 1)
    return PolicyGain(
        points,
        single.mean(axis=0),
        free.mean(axis=0),
        paid.mean(axis=0),
        difference(free, single, replicates, seed, cluster),
        difference(paid, single, replicates, seed, cluster),
        edges,
        np.array(list(strategies))[best].tolist(),
    )


def _check(marks: Floats, charge: Floats, points: Floats, bins: int, folds: int) -> None:
    """Raise ValueError for a signal, a charge, budgets or counts that mean nothing."""
    if marks.ndim != 1 or not np.isfinite(marks).all():
        raise ValueError("signal: give one finite number per problem")
    if not (charge >= 0).all() or not (points > 0).all():
        raise ValueError("give a pilot_cost of 0 or more, and budgets above 0")
    if not 2 <= folds <= len(marks) or bins < 1:
        raise ValueError(f"{folds} folds, {bins} bins: give 2 to {len(marks)} folds, 1 bin or more")


def _table(name: str, strategy: tuple[ArrayLike, ArrayLike], problems: int) -> tuple[Floats, ...]:
    """Return (value, cost), each (problems, 1 + budgets): first nothing for nothing."""
    value = np.asarray(strategy[0], dtype=float)
    if value.ndim != 2 or len(value) != problems or not np.isfinite(value).all():
        raise ValueError(f"{name}: give finite values of shape ({problems}, budgets)")
    cost = np.broadcast_to(np.asarray(strategy[1], dtype=float), value.shape)
    value, cost = (np.pad(array, ((0, 0), (1, 0))) for array in (value, cost))
    if not (np.diff(cost) > 0).all():
        raise ValueError(f"{name}: costs must be above 0 and rise from budget to budget")
    return value, cost


def _at(table: tuple[Floats, ...], points: Floats, charge: Floats) -> Floats:
    """Return the value per problem that each budget buys after the charge, (problems, points)."""
    rows = zip(*table, charge, strict=True)
    return np.array([np.interp(points - spent, cost, value) for value, cost, spent in rows])


def _folds(labels: NDArray, folds: int, seed: int, repeat: int) -> NDArray[np.int64]:
    """Return the fold of each problem, as even as families allow."""
    group = np.unique(labels, return_inverse=True)[1]
    return np.random.default_rng([seed, repeat]).permutation(group.max() + 1)[group] % folds


def _edges(marks: Floats, bins: int) -> Floats:
    """Return cuts between distinct values, so that the bins are as even as those values allow."""
    level, count = np.unique(marks, return_counts=True)
    if len(level) == 1:
        return level[:0]
    below = np.cumsum(count)[:-1] / len(marks)
    nearest = np.abs(below[:, None] - np.arange(1, bins) / bins).argmin(axis=0)
    return np.unique((level[1:] + level[:-1])[nearest] / 2)


def _choose(value: Floats, group: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Return the strategy with the best mean, (bins, points); over all problems in an empty bin."""
    masks = [group == b if (group == b).any() else group >= 0 for b in range(bins)]
    return np.array([value[:, mask].mean(axis=1).argmax(axis=0) for mask in masks])


def _cross_fit(value: Floats, marks: Floats, bins: int, fold: NDArray[np.int64]) -> Floats:
    """Return the policy's value, (problems, points), each problem's choice made on other folds."""
    got = np.empty(value.shape[1:])
    for held in (fold == f for f in np.unique(fold)):
        edges = _edges(marks[~held], bins)
        group = np.searchsorted(edges, marks, side="right")
        best = _choose(value[:, ~held], group[~held], len(edges) + 1)
        got[held] = np.take_along_axis(value[:, held], best[group[held]][None], axis=0)[0]
    return got

"""Does training replace thinking: how much test compute is ten times the training worth?

Read twice: from measured curves, as the test compute at which each checkpoint reaches an accuracy;
and from joint laws, under every reasonable choice of law and points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from scaling.curves import Curve, ends
from scaling.figures.plane import PLANES, Plane, fit_plane
from scaling.intervals import mean_interval
from scaling.results import ladder, mazes
from scaling.results.lengths import LENGTHS
from scaling.results.table import find, row
from scaling.runs import Run, Runs
from scaling.runs.lengths import cut

SAMPLED = mazes.SEARCHES
ACCURACIES = (0.25, 0.5, 0.75)  #: of which the cost is read
SAMPLES = 2.0 ** np.arange(13)  #: at which exact coverage is read
REFITS = 200  #: of each joint law
WITHIN = 3  #: factor by which rates of two choices may differ to count as the same


def thinking_curve(search: Run, level: str, chances: np.ndarray, tokens: float) -> Curve:
    """Return accuracy against the FLOPs of new tokens, for a direct path and longer searches.

    The prompt is not counted. chances: pass@1 of a direct path on each problem of the level;
    tokens: its mean length. The searches are one pool, cut later and later.
    """
    parts = [cut(search, length) for length in LENGTHS]
    rows, one = search.rows(level), np.array([1])
    found = [part.values("coverage", one)[rows, 0] for part in parts]
    spent = [np.nanmean(part.costs["flops"][1][rows]) for part in parts]
    each = spent[0] / np.nanmean(parts[0].ledger["completion_tokens"][rows])
    x, values = np.array([each * tokens, *spent]), np.stack([chances, *found], axis=1)
    order = np.argsort(x, kind="stable")
    return _curve(x[order], values[:, order], "flops")


def samples_curve(chances: np.ndarray) -> Curve:
    """Return exact coverage against samples, from the pass@1 of each problem (problems,)."""
    return _curve(SAMPLES, 1 - (1 - chances[:, None]) ** SAMPLES, "samples")


def _curve(x: np.ndarray, values: np.ndarray, unit: str) -> Curve:
    found = mean_interval(values)
    ends_of = found.value, found.low, found.high, found.replicates
    return Curve(x, *ends_of, unit, "coverage", found.problems)


def cost_of(curve: Curve, accuracy: float) -> tuple[float, np.ndarray]:
    """Return the compute at which a rising curve reaches an accuracy, and its replicates.

    Interpolated along log compute; inf where it does not, the first point's where that is enough.
    """
    y = np.maximum.accumulate(np.vstack([curve.y, curve.replicates]), axis=1)
    log, found = np.log(curve.x), np.full(len(y), np.inf)
    for i, line in enumerate(y):
        if line[-1] >= accuracy:
            found[i] = np.exp(np.interp(accuracy, line, log)) if line[0] < accuracy else curve.x[0]
    return float(found[0]), found[1:]


@dataclass(frozen=True)
class Grid:
    """Curves of test compute at several training budgets."""

    train: np.ndarray  #: (checkpoints,) FLOPs
    curves: Sequence[Curve]
    least: bool = False  #: whether the least test compute of a curve counts as what it needs

    def points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return (train, test, accuracy (points,), replicates (R, points))."""
        train = np.repeat(self.train, [len(curve.x) for curve in self.curves])
        test, accuracy = (np.concatenate([getattr(c, name) for c in self.curves]) for name in "xy")
        draws = [curve.replicates[:REFITS] for curve in self.curves]
        return train, test, accuracy, np.concatenate(draws, axis=1)


def planes(runs: Runs) -> Iterator[tuple[str, Grid]]:
    """Yield (level and kind of test compute, its curves per checkpoint of `mazes.SIZE`)."""
    found = ladder.read()
    of_size = found.models[(found.models["size"] == mazes.SIZE) & (found.models["seed"] == 0)]
    searches = [find(runs, mazes.pair(budget)[1]) for budget in mazes.BUDGETS]
    train = np.array([search.card.train_flops for search in searches])
    column = {name: i for i, name in enumerate(found.models["model"])}
    for level in mazes.LEVELS:
        chance, tokens = found.chance[found.levels == level], found.tokens[found.levels == level]
        thinking = [
            thinking_curve(run, level, chance[:, column[run.card.name]], tokens.mean())
            for run in searches
        ]
        yield f"{level}, thinking", Grid(train, thinking, least=True)
        samples = [samples_curve(each) for each in chance[:, of_size.index].T]
        yield f"{level}, samples", Grid(of_size["train_flops"].to_numpy(float), samples)


def rows(runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield what test compute reaches each accuracy, and the worth of ten times the training."""
    for case, grid in planes(runs):
        yield from measured_rows(case, grid)
        yield from law_rows(case, grid)


def measured_rows(case: str, grid: Grid) -> Iterator[dict[str, Any]]:
    """Yield, per accuracy, the test compute of each checkpoint, and what training saves of it.

    The rate is that of the first and the last checkpoint that reach the accuracy, by more than
    their least test compute unless that counts: the factor per ten times the training.
    """
    for accuracy in ACCURACIES:
        costs = [cost_of(curve, accuracy) for curve in grid.curves]
        between = [
            np.isfinite(cost) and (grid.least or cost > curve.x[0])
            for (cost, _), curve in zip(costs, grid.curves, strict=True)
        ]
        for train, (cost, draws), inside in zip(grid.train, costs, between, strict=True):
            if inside:
                low, high = ends(draws, method="nearest")
                at = f"{case}, {train:.1e} train FLOPs"
                yield row(at, f"test compute for {accuracy:g}", cost, float(low), float(high),
                          mazes.PROBLEMS)  # fmt: skip
        if sum(between) < 2:
            continue
        first, last = np.flatnonzero(between)[[0, -1]]
        decades = np.log10(grid.train[last] / grid.train[first])
        value = (costs[first][0] / costs[last][0]) ** (1 / decades)
        with np.errstate(all="ignore"):
            draws = (costs[first][1] / costs[last][1]) ** (1 / decades)
        low, high = ends(np.nan_to_num(draws, nan=np.inf), method="nearest")
        yield row(f"{case}, measured at accuracy {accuracy:g}", "test compute that 10x training is "
                  "worth", value, float(low), float(high), mazes.PROBLEMS)  # fmt: skip


def law_rows(case: str, grid: Grid) -> Iterator[dict[str, Any]]:
    """Yield the rate of each law and choice of points, and how many of them agree."""
    rates = []
    for law, frontier in product(PLANES, (True, False)):
        with suppress(ValueError):
            found: Plane = fit_plane(*grid.points(), law=law, frontier=frontier)
            rate = found.exchange
            rates.append(rate.rate)
            chosen = "frontier" if frontier else "all points"
            yield row(f"{case}, {law}, {chosen}", "test compute that 10x training is worth",
                      rate.rate, rate.low, rate.high, int(found.used.sum()))  # fmt: skip
    finite = np.array([rate for rate in rates if np.isfinite(rate)])
    yield row(case, "choices with a finite rate", len(finite), n=len(rates))
    middle = np.median(finite) if len(finite) else np.nan
    near = (finite < WITHIN * middle) & (finite > middle / WITHIN)
    yield row(case, f"choices within a factor of {WITHIN} of their median", int(near.sum()),
              n=len(rates))  # fmt: skip

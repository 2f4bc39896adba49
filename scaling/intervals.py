"""Intervals of means over problems, and bootstrap replicates for fits.

Points of one curve share problems and samples, so a replicate is a whole curve: the matrices
(replicates, points) returned here are `Curve.replicates`, one draw of problems per row.

Which level to resample. Each problem's estimate already includes the noise of its own samples, so
resampling problems alone shows the variation over other problems and other samples (resampling
both would count the samples' noise twice). `bootstrap_counts` resamples samples alone: the
variation over other samples of just these problems. Measured calibration: docs/trust.md.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from scaling.estimates import pass_at_k

Floats = NDArray[np.float64]
Limits = tuple[ArrayLike, ArrayLike]  #: least and greatest value, one for all points or one each
REPLICATES = int(os.environ.get("SCALING_REPLICATES", "1000"))  #: fewer for a quick look


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its interval."""

    value: Floats  #: (points,) or a number
    low: Floats  #: lower end, NaN for one problem
    high: Floats  #: upper end
    replicates: Floats  #: (replicates, points), as `Curve.replicates`
    problems: int  #: problems behind it
    units: int  #: what was resampled: problems, or families of problems

    @property
    def claim(self) -> NDArray[np.str_]:
        """Return, per point of a difference, "higher", "lower", "not significant", or "unknown".

        A difference whose interval holds 0 is not significant; one without interval is unknown.
        """
        kinds = [self.low > 0, self.high < 0, np.isnan(self.low)]
        return np.select(kinds, ["higher", "lower", "unknown"], "not significant")


def _table(values: ArrayLike) -> Floats:
    table = np.asarray(values, dtype=float)
    if table.ndim not in (1, 2) or table.shape[0] == 0:
        raise ValueError(f"values have shape {table.shape}; give (problems, points) or (problems,)")
    return table


def _counts(name: str, given: ArrayLike) -> Floats:
    try:
        return np.asarray(given, dtype=float)
    except OverflowError:
        raise ValueError(f"{name} holds a count above 1.8e308; give smaller ones") from None


def _checked(replicates: int) -> int:
    try:
        if index(replicates) >= 2:
            return index(replicates)
    except TypeError:
        pass  # as for a number below 2
    raise ValueError(
        f"replicates is {replicates!r}; give a whole number of 2 or more, such as 1000"
    )


def _groups(problems: int, cluster: ArrayLike | None) -> NDArray[np.int64]:
    """Return each problem's family as 0, 1, ...; a family of its own if `cluster` is None."""
    if cluster is None:
        return np.arange(problems)
    labels = np.asarray(cluster)
    if labels.shape != (problems,):
        raise ValueError(f"cluster has shape {labels.shape}; give one label per problem")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def problem_weights(
    problems: int, replicates: int = REPLICATES, seed: int = 0, cluster: ArrayLike | None = None
) -> Floats:
    """Return the weight of each problem in each replicate, (replicates, problems), rows sum to 1.

    Equal arguments give equal weights, so two methods on the same problems are compared in pairs.
    """
    group, replicates = _groups(problems, cluster), _checked(replicates)
    count = int(group.max()) + 1
    drawn = np.random.default_rng(seed).integers(count, size=(replicates, count))
    cells = drawn + np.arange(replicates)[:, None] * count
    times = np.bincount(cells.ravel(), minlength=replicates * count).reshape(replicates, count)
    weights = times[:, group].astype(float)
    return weights / weights.sum(axis=1, keepdims=True)


def bootstrap_problems(
    values: ArrayLike, replicates: int = REPLICATES, seed: int = 0, cluster: ArrayLike | None = None
) -> Floats:
    """Return means over resampled problems, (replicates, points), of values (problems, points).

    values: an estimate per problem and budget, e.g. `pass_at_k(n[:, None], c[:, None], k)`. With
    `cluster` (one label per problem) whole families are resampled. A budget at which any problem is
    NaN is NaN: no problem leaves the denominator silently. All NaN, with a warning, for one problem
    or one family. 1-d values give (replicates,).
    """
    table, replicates = _table(values), _checked(replicates)
    if _groups(len(table), cluster).max() == 0:
        warnings.warn(
            "one problem or family cannot be resampled: its interval is NaN", stacklevel=2
        )
        return np.full((replicates, *table.shape[1:]), np.nan)
    weights = problem_weights(len(table), replicates, seed, cluster)
    # For a small product BLAS starts threads, at many times its cost; not for parts of it.
    step = 8 * (2**15 // max(table.size, 1)) or replicates
    return np.concatenate([weights[at : at + step] @ table for at in range(0, replicates, step)])


def bootstrap_counts(
    n: ArrayLike, c: ArrayLike, k: ArrayLike, replicates: int = REPLICATES, seed: int = 0
) -> Floats:
    """Return replicates of coverage at k, (replicates, budgets), samples redrawn within problems.

    n, c: (problems,); c is redrawn as Binomial(n, c / n). A pool redrawn with replacement repeats
    samples, so its pass@k is below the estimate, 1 - (1 - c/n)^k on average, most where k is close
    to n; each replicate is corrected for that.
    """
    drawn, right = np.broadcast_arrays(np.atleast_1d(n), np.asarray(c))
    if drawn.ndim != 1 or not (drawn >= 1).all() or not np.isfinite(right).all():
        raise ValueError("n or c is 0, missing, or no row: give n >= 1 and c of each problem")
    budgets, rng = np.atleast_1d(np.asarray(k)), np.random.default_rng([seed, 1])
    rate, shape = right / drawn, (_checked(replicates), len(drawn))
    redrawn = rng.binomial(drawn.astype(np.int64), rate, shape)
    size, row = np.unique(drawn.astype(np.int64), return_inverse=True)
    possible = np.minimum(np.arange(size[-1] + 1), size[:, None])  # (sizes, counts)
    result = np.empty((replicates, len(budgets)))
    for point, budget in enumerate(budgets):
        shift = np.asarray(pass_at_k(drawn, right, budget)) - (1 - (1 - rate) ** budget)
        table = np.asarray(pass_at_k(size[:, None], possible, budget))
        result[:, point] = (table[row, redrawn] + shift).mean(axis=1)
    return result


def likelihood_interval(
    values: ArrayLike,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
    limits: Limits = (0.0, 1.0),
) -> tuple[Floats, Floats]:
    """Return the empirical-likelihood interval for the mean of values (problems, points).

    limits: the lowest and the highest possible value. For the lower end the sample is extended by
    one problem with the lowest value, for the upper end by one with the highest: a kind of problem
    that the sample does not contain (impossible, or trivial) may exist. Each end is then as far
    from the mean as the profile likelihood allows at Student's quantile of `level`. Both ends are
    within `limits` and never fall when a value rises, so those of a coverage curve rise with k.
    With `cluster` (one label per problem) whole families are the units; an end may then fall if
    they differ in size. NaN where a value is NaN, and for one problem or one family.
    Source: Owen 1990; Chen, Variyath and Abraham 2008.
    """
    table, bottom, top = _table(values), *(np.asarray(limit, dtype=float) for limit in limits)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a number between 0 and 1, such as 0.95")
    slack = 1e-9 * (top - bottom)
    if ((table < bottom - slack) | (table > top + slack)).any():
        raise ValueError(
            f"values lie outside {bottom.min():g} to {top.max():g}; give `limits` that hold them"
        )
    mean = table.mean(axis=0)
    if cluster is not None:  # one value per family, with the same mean
        table = mean + _deviations(table - mean, cluster)
    if len(table) == 1:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    quantile = float(stdtrit(len(table) - 1, 0.5 + level / 2))
    low = bottom + _lower_end(table - bottom, quantile)
    high = top - _lower_end(top - table, quantile)
    return np.clip(low, bottom, mean), np.clip(high, mean, top)


def _lower_end(values: Floats, quantile: float) -> Floats:
    """Return the lower end for the mean of values of 0 or more, (units, points).

    The likeliest weights that have a given mean are proportional to 1 / (value + shift). Their mean
    is the harmonic mean of (value + shift), less the shift. The additional problem, of value 0,
    lowers the mean by a share of 1 / (units + 1), which is added again.
    """
    floor = np.minimum(values.min(axis=0), 0.0)  # below 0 only for families of unequal size
    mean = values.mean(axis=0) - floor
    ratio = np.where(mean > 0, (values - floor) / np.where(mean > 0, mean, 1.0), 1.0)
    shift = _shift(ratio, quantile**2 / 2)
    total, count = (1 / (ratio + shift)).sum(axis=0) + 1 / shift, len(ratio) + 1
    return floor + mean * (count / total - shift + 1 / count)


def _shift(ratio: Floats, goal: float) -> Floats:
    """Return the shift at which the log likelihood ratio of the weights of `_lower_end` is -goal.

    ratio: (units, points), of mean 1. The ratio is count * log(harmonic / geometric mean). Newton's
    method in the log of the shift, kept within a bracket; sums include the additional problem.
    """
    count, squares = len(ratio) + 1, (ratio**2).sum(axis=0) - len(ratio) ** 2 / (len(ratio) + 1)
    here = np.log(np.maximum(np.sqrt(squares / (2 * goal)) - 1, 0.25))  # right if goal is small
    left, right = np.full_like(here, -60.0), np.full_like(here, 30.0)
    for _ in range(60):
        shift = np.exp(here)
        inverse = 1 / (ratio + shift)
        total = inverse.sum(axis=0) + 1 / shift
        square = np.einsum("u...,u...->...", inverse, inverse) + 1 / shift**2
        above = count * np.log(total / count) - np.log(inverse).sum(axis=0) + here - goal
        left, right = np.where(above > 0, here, left), np.where(above > 0, right, here)
        moved = here - above / (shift * (total - count * square / total))
        moved = np.where((moved >= left) & (moved <= right), moved, (left + right) / 2)
        change, here = np.abs(moved - here), moved
        if not (change > 1e-9).any():
            break
    return np.exp(here)


def _deviations(table: Floats, cluster: ArrayLike) -> Floats:
    """Return each family's sum, (families, points), over the mean size of a family."""
    group = _groups(len(table), cluster)
    order, count = np.argsort(group, kind="stable"), int(group.max()) + 1
    start = np.searchsorted(group[order], np.arange(count))
    return np.add.reduceat(table[order], start, axis=0) * (count / len(table))


def mean_interval(
    values: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
    limits: Limits = (0.0, 1.0),
) -> Estimate:
    """Return the mean over problems of values (problems, points), with interval and replicates.

    The interval is `likelihood_interval`; the replicates are bootstrap means, for fits. NaN where
    any problem is NaN. The ends are NaN, with a warning, for one problem or one family.
    """
    table = _table(values)
    units = int(_groups(len(table), cluster).max()) + 1
    draws = bootstrap_problems(table, replicates, seed, cluster)
    low, high = likelihood_interval(table, cluster, level, limits)
    return Estimate(table.mean(axis=0), low, high, draws, len(table), units)


def difference(
    a: ArrayLike,
    b: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """Return mean(a) - mean(b) with its interval, paired: row i of both is the same problem.

    a, b: (problems, points) or (problems,). Difficulty that both share cancels, unlike in two
    separate intervals. A difference whose interval holds 0 is not significant.
    """
    first, second = _table(a), _table(b)
    if first.shape != second.shape:
        raise ValueError(f"a {first.shape}, b {second.shape}: give the same problems and points")
    limits = difference_limits(first, second)
    return mean_interval(first - second, replicates, seed, cluster, level, limits)


def difference_limits(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the least and greatest a - b of an additional problem, (points,) each.

    That problem is impossible or trivial for only one side: for the least difference, a = 0 or
    b = 1 and the other is as observed. For values outside 0 to 1, the two differ by the greatest
    value.
    """
    both, gain = np.concatenate([a, b]), a - b
    top = np.abs(both).max(axis=0)
    bottom = -top
    if not ((both < 0) | (both > 1)).any():
        bottom = -np.maximum(_typical(b), _typical(1 - a))
        top = np.maximum(_typical(a), _typical(1 - b))
    return np.minimum(bottom, gain.min(axis=0)), np.maximum(top, gain.max(axis=0))


def _typical(values: Floats) -> Floats:
    """Return the mean of values weighted by themselves: 1 if some are 1 and the others 0."""
    total = values.sum(axis=0)
    return (values**2).sum(axis=0) / np.where(total > 0, total, 1.0)


def wilson(c: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return Wilson's score interval for c successes among n independent trials; NaN when n = 0.

    For one accuracy counted once per problem. Source: Wilson 1927.
    """
    right, trials = _counts("c", c), _counts("n", n)
    if (right < 0).any() or (right > trials).any():
        raise ValueError("wilson needs 0 <= c <= n, successes among trials")
    trials = np.where(trials > 0, trials, np.nan)
    rate, z = right / trials, float(ndtri(0.5 + level / 2))
    centre = (rate * trials + z**2 / 2) / (trials + z**2)
    half = z * np.sqrt(trials * rate * (1 - rate) + z**2 / 4) / (trials + z**2)
    return np.maximum(centre - half, 0.0)[()], np.minimum(centre + half, 1.0)[()]


@dataclass(frozen=True)
class Study:
    """A study that detects a difference between two methods on the same problems."""

    problems: int  #: problems, each answered by both methods
    samples: int  #: samples per problem and method
    draws: int  #: samples in all, both methods
    detectable: float  #: smallest true difference found with the required power


def detectable_effect(
    problems: ArrayLike,
    samples: ArrayLike,
    between: float = 0.15,
    within: float = 0.1,
    power: float = 0.8,
    level: float = 0.95,
) -> Floats:
    """Return the smallest difference in accuracy that is found with the given power.

    (z_level + z_power) sqrt((between^2 + 2 within / samples) / problems), where `between` is the
    standard deviation over problems of the true paired difference and `within` the mean of p (1-p),
    both measured by `pilot_spread`.
    """
    if not between >= 0 or not 0 <= within <= 0.25:
        raise ValueError(
            f"between is {between}, within {within}; give a spread of 0 or more, and 0 to 1/4"
        )
    reach = ndtri(0.5 + level / 2) + ndtri(power)
    noise = between**2 + 2 * within / _counts("samples", samples)
    return reach * np.sqrt(noise / _counts("problems", problems))


def pilot_spread(n: int, a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Return (between, within) from a pilot: correct counts a, b of n samples per problem."""
    rates = np.array([a, b], dtype=float) / n
    if rates.ndim != 2 or n < 2 or rates.shape[1] < 2:
        raise ValueError("a pilot needs two methods, 2 problems or more and 2 samples or more")
    within = float((rates * (1 - rates)).mean() * n / (n - 1))
    spread = float(np.var(rates[0] - rates[1], ddof=1)) - 2 * within / n
    return max(spread, 0.0) ** 0.5, within


def plan_study(
    effect: float,
    power: float = 0.8,
    *,
    between: float = 0.15,
    within: float = 0.1,
    max_problems: int | None = None,
    problem_cost: float = 0.0,
    level: float = 0.95,
) -> Study:
    """Return the cheapest study that finds a difference `effect` with the given power, paired.

    Cost is draws plus `problem_cost` (in draws) per problem; `max_problems` is the size of the
    benchmark. ValueError when no number of samples on so few problems detects the difference.
    """
    if not 1e-6 <= effect < 1 or not 0 < power < 1:
        raise ValueError(f"effect is {effect}, power {power}; give 1e-6 to 1, and 0 to 1")
    samples = np.unique(np.geomspace(1, 10_000, 400).astype(int))
    one = detectable_effect(1, samples, between, within, power, level)
    problems = np.maximum(np.ceil((one / effect) ** 2), 2)
    most = np.inf if max_problems is None else max_problems
    allowed = problems <= _counts("max_problems", most)
    if not allowed.any():
        floor = float(detectable_effect(max_problems or 1, np.inf, between, within, power, level))
        raise ValueError(
            f"{max_problems} problems cannot detect a difference of {effect:g} with any number of "
            f"samples: the smallest is {floor:.3g}; add problems, or claim less"
        )
    cost = np.where(allowed, problems * (2 * samples + problem_cost), np.inf)
    best = int(np.argmin(cost))
    count, each = int(problems[best]), int(samples[best])
    found = float(detectable_effect(count, each, between, within, power, level))
    return Study(count, each, 2 * count * each, found)

"""How sure a number is: bootstrap replicates over problems, and the intervals read from them.

Points of one curve share problems and samples, so a replicate is a whole curve: the matrices
(replicates, points) made here fit `Curve.replicates`, one draw of problems per row.

Which level to resample. Each problem's estimate already carries the noise of its own samples, so
resampling problems alone answers "what would other problems and other samples give". Resampling
both levels counts the samples' noise twice; resampling samples alone answers "what would other
samples give on just these problems".

The defaults, "score" for accuracies and "student" for differences, were measured to cover best:
docs/trust.md has the table.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from scaling.estimates import pass_at_k

Floats = NDArray[np.float64]
REPLICATES = int(os.environ.get("SCALING_REPLICATES", "1000"))  #: fewer for a quick look
METHODS = ("percentile", "bca")
LEVELS = ("problems", "samples", "both")


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its interval."""

    value: Floats  #: (points,) or a number
    low: Floats  #: lower end, NaN for one problem
    high: Floats  #: upper end
    replicates: Floats  #: (replicates, points), fit for `Curve.replicates`
    problems: int  #: problems behind it
    units: int  #: what was resampled: problems, or families of problems

    @property
    def claim(self) -> NDArray[np.str_]:
        """Return, per point of a difference, "more", "less", "below the noise", or "unknown".

        Below the noise is a difference whose interval holds 0, unknown one without an interval.
        """
        kinds = [self.low > 0, self.high < 0, np.isnan(self.low)]
        return np.select(kinds, ["more", "less", "unknown"], "below the noise")


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


def _whole(replicates: int) -> int:
    try:
        return index(replicates)
    except TypeError:
        raise ValueError(
            f"replicates is {replicates!r}; give a whole number of 2 or more, such as 1000"
        ) from None


def _groups(problems: int, cluster: ArrayLike | None) -> NDArray[np.int64]:
    """Return the family of each problem as 0, 1, ...; each its own where `cluster` is None."""
    if cluster is None:
        return np.arange(problems)
    labels = np.asarray(cluster)
    if labels.shape != (problems,):
        raise ValueError(f"cluster has shape {labels.shape}; give one label per problem")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def problem_weights(
    problems: int, replicates: int = REPLICATES, seed: int = 0, cluster: ArrayLike | None = None
) -> Floats:
    """Return what each problem weighs in each replicate, (replicates, problems), rows sum to 1.

    Equal arguments give equal weights: two methods on the same problems are compared in pairs.
    """
    group, replicates = _groups(problems, cluster), _whole(replicates)
    count = int(group.max()) + 1
    if replicates < 2:
        raise ValueError(f"replicates is {replicates}; give 2 or more, 1000 for a 95 % interval")
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
    NaN is NaN: no problem leaves the denominator unseen. One problem, or one family, says nothing
    of the next: all NaN, with a warning. 1-d values give (replicates,).
    """
    table, replicates = _table(values), _whole(replicates)
    if _groups(len(table), cluster).max() == 0:
        warnings.warn(
            "one problem or family cannot be resampled: its interval is NaN", stacklevel=2
        )
        return np.full((replicates, *table.shape[1:]), np.nan)
    weights = problem_weights(len(table), replicates, seed, cluster)
    # BLAS wakes threads for the whole of a small product, at many times its cost; not for parts.
    step = 8 * (2**15 // max(table.size, 1)) or replicates
    return np.concatenate([weights[at : at + step] @ table for at in range(0, replicates, step)])


def bootstrap_counts(
    n: ArrayLike,
    c: ArrayLike,
    k: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    levels: str = "samples",
) -> Floats:
    """Return replicates of coverage at k, (replicates, budgets), samples redrawn within problems.

    n, c: (problems,); c is redrawn as Binomial(n, c / n). A pool redrawn with replacement repeats
    samples, so its pass@k falls short of the estimate, 1 - (1 - c/n)^k on average, the more the
    nearer k is to n; each replicate is moved back by that. levels: "samples" (these problems),
    "both" (problems too: too wide), "problems" (as `bootstrap_problems`).
    """
    if levels not in LEVELS:
        raise ValueError(f"levels is {levels!r}; allowed: {', '.join(LEVELS)}")
    drawn, right = np.broadcast_arrays(np.atleast_1d(n), np.asarray(c))
    if drawn.ndim != 1 or not (drawn >= 1).all() or not np.isfinite(right).all():
        raise ValueError("n or c is 0, missing, or no row: give n >= 1 and c of each problem")
    budgets, replicates = np.atleast_1d(np.asarray(k)), _whole(replicates)
    value = np.asarray(pass_at_k(drawn[:, None], right[:, None], budgets))
    if levels == "problems" or (levels == "both" and len(drawn) == 1):  # one: NaN, with a warning
        return bootstrap_problems(value, replicates, seed)
    drawn, right = drawn.astype(np.int64), right.astype(np.int64)
    rng, count = np.random.default_rng([seed, 1]), len(drawn)
    chosen = np.broadcast_to(np.arange(count), (replicates, count))
    if levels == "both":
        chosen = rng.integers(count, size=(replicates, count))
    rate = right / drawn
    redrawn = rng.binomial(drawn[chosen], rate[chosen])
    size, row = np.unique(drawn, return_inverse=True)
    ladder = np.minimum(np.arange(size[-1] + 1), size[:, None])  # (sizes, counts)
    result = np.empty((replicates, len(budgets)))
    for point, budget in enumerate(budgets):
        shift = value[:, point] - (1 - (1 - rate) ** budget)
        table = np.asarray(pass_at_k(size[:, None], ladder, budget))
        result[:, point] = (table[row[chosen], redrawn] + shift[chosen]).mean(axis=1)
    return result


def interval(
    replicates: ArrayLike,
    estimate: ArrayLike,
    method: str = "bca",
    level: float = 0.95,
    units: int | None = None,
) -> tuple[Floats, Floats]:
    """Return the low and high end, each (points,), of an interval read from bootstrap replicates.

    replicates: (replicates, points) or (replicates,); estimate: (points,) or a number.
    "percentile": quantiles of the replicates. "bca" moves them for bias and skewness; its
    acceleration is a sixth of the replicates' skewness, which is exact for means. With `units` (how
    many problems or families were resampled) the tails follow Student's t and n / (n-1), which few
    problems need. NaN where a replicate or the estimate is NaN.
    Source: Efron 1987; Hesterberg 2015, arXiv:1411.5279.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; allowed: {', '.join((*OWN, *METHODS))}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a number between 0 and 1, such as 0.95")
    draws, centre = np.asarray(replicates, dtype=float), np.asarray(estimate, dtype=float)
    if draws.shape[1:] != centre.shape:
        raise ValueError(f"replicates {draws.shape} do not fit an estimate of {centre.shape}")
    z = ndtri(0.5 + level / 2)
    if units is not None and units > 1:
        z = stdtrit(units - 1, 0.5 + level / 2) * np.sqrt(units / (units - 1))
    columns = zip(draws.reshape(len(draws), -1).T, centre.ravel(), strict=True)
    ends = [_ends(column, here, np.array([-z, z]), method) for column, here in columns]
    low, high = np.array(ends).T.reshape(2, *centre.shape)
    return low, high


def _ends(draws: Floats, estimate: float, z: Floats, method: str) -> Floats:
    """Return the two ends of one interval; z holds the normal quantiles aimed at."""
    if np.isnan(draws).any() or np.isnan(estimate):
        return np.full(2, np.nan)
    spread = draws.std()
    if method == "bca" and spread > 1e-12:
        below = np.mean(draws < estimate) + np.mean(draws == estimate) / 2
        bias = ndtri(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
        acceleration = np.mean(((draws - draws.mean()) / spread) ** 3) / 6
        z = bias + (bias + z) / np.maximum(1 - acceleration * (bias + z), 0.1)
    return np.quantile(draws, ndtr(z))


def score_interval(
    values: ArrayLike, cluster: ArrayLike | None = None, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Return Wilson's interval for a mean of values in [0, 1], (problems, points), ends (points,).

    The trials are the effective number of problems, m (1-m) / Var(m), with the variance of the mean
    over problems (or families) and Student's t. One unit at the variance of a coin, at the mean
    drawn half a unit inwards, steadies the variance. So an accuracy of 0 or 1 has a width, and the
    ends stay within 0 and 1.
    """
    table = _table(values)
    if ((table < -1e-9) | (table > 1 + 1e-9)).any():
        raise ValueError("values lie outside 0 to 1: use `difference`, or another method")
    mean = table.mean(axis=0).clip(0, 1)
    residual = _sums((table - mean) / len(table), cluster)
    units = len(residual)
    if units == 1:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    inward = (mean * units + 0.5) / (units + 1)
    variance = ((residual**2).sum(axis=0) * units + inward * (1 - inward) / units) / units
    trials = np.maximum(mean * (1 - mean) / variance, units)
    return _wilson(mean, trials, stdtrit(units - 1, 0.5 + level / 2))


def student_interval(
    values: ArrayLike, cluster: ArrayLike | None = None, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Return Student's interval for a mean of differences, (problems, points), ends (points,).

    The variance is that of one unit (problem or family) more than there are, as far from 0 as those
    that differ are (the mean of d^2 weighed by d^2; 1 where none differs). So where two methods
    agree on each of few problems, or differ alike, the difference still has a width. Ends of
    differences within -1 to 1 stay there.
    """
    table = _table(values)
    each = _sums(table / len(table), cluster)
    units, mean = len(each), table.mean(axis=0)
    if units == 1:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    square = ((each * units) ** 2).sum(axis=0)
    more = ((each * units) ** 4).sum(axis=0) / np.where(square > 0, square, 1.0)
    more = np.where(square > 0, more, 1.0)
    variance = (((each * units - mean) ** 2).sum(axis=0) + more) / (units + 1) ** 2
    half = stdtrit(units - 1, 0.5 + level / 2) * np.sqrt(variance)
    most = max(1.0, np.nanmax(np.abs(table), initial=0.0))
    return np.maximum(mean - half, -most), np.minimum(mean + half, most)


def _sums(table: Floats, cluster: ArrayLike | None) -> Floats:
    """Return the sum over each family of problems, (families, points)."""
    if cluster is None:
        return table
    group = _groups(len(table), cluster)
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], np.arange(int(group.max()) + 1))
    return np.add.reduceat(table[order], start, axis=0)


#: intervals that are not read from replicates
OWN = {"score": score_interval, "student": student_interval}


def mean_interval(
    values: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    cluster: ArrayLike | None = None,
    method: str = "score",
    level: float = 0.95,
) -> Estimate:
    """Return the mean over problems of values (problems, points), with its interval and replicates.

    method: "score" (`score_interval`), "student" (`student_interval`, of any unit), "percentile" or
    "bca" (`interval`). NaN where any problem is NaN, and the ends NaN, with a warning, for one
    problem or one family.
    """
    table = _table(values)
    units = int(_groups(len(table), cluster).max()) + 1
    mean, draws = table.mean(axis=0), bootstrap_problems(table, replicates, seed, cluster)
    if method in OWN:
        low, high = OWN[method](table, cluster, level)
    else:
        low, high = interval(draws, mean, method, level, units)
    return Estimate(mean, low, high, draws, len(table), units)


def difference(
    a: ArrayLike,
    b: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    cluster: ArrayLike | None = None,
    method: str = "student",
    level: float = 0.95,
) -> Estimate:
    """Return mean(a) - mean(b) with its interval, paired: row i of both is the same problem.

    a, b: (problems, points) or (problems,). What makes a problem hard for both drops out, which two
    separate intervals cannot see. An interval that holds 0 is a claim below the noise. method:
    "student" (`student_interval`), or "percentile", "bca" (`interval`).
    """
    first, second = _table(a), _table(b)
    if first.shape != second.shape:
        raise ValueError(f"a {first.shape}, b {second.shape}: give the same problems and points")
    return mean_interval(first - second, replicates, seed, cluster, method, level)


def wilson(c: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return Wilson's score interval for c successes among n independent trials; NaN when n = 0.

    For one accuracy counted once per problem. Source: Wilson 1927.
    """
    right, trials = _counts("c", c), _counts("n", n)
    if (right < 0).any() or (right > trials).any():
        raise ValueError("wilson needs 0 <= c <= n, successes among trials")
    trials = np.where(trials > 0, trials, np.nan)
    return _wilson(right / trials, trials, float(ndtri(0.5 + level / 2)))


def _wilson(rate: Floats, trials: Floats, z: float) -> tuple[Floats, Floats]:
    centre = (rate * trials + z**2 / 2) / (trials + z**2)
    half = z * np.sqrt(trials * rate * (1 - rate) + z**2 / 4) / (trials + z**2)
    return np.maximum(centre - half, 0.0)[()], np.minimum(centre + half, 1.0)[()]


@dataclass(frozen=True)
class Study:
    """A study that can tell a difference between two methods on the same problems."""

    problems: int  #: problems, each answered by both methods
    samples: int  #: samples per problem and method
    draws: int  #: samples in all, both methods
    detectable: float  #: smallest true difference found with the wanted power


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
    standard deviation over problems of the true paired difference and `within` the mean of p (1-p):
    `pilot_spread` measures both.
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

    Cost is draws plus `problem_cost` (in draws) per problem; `max_problems` is what a benchmark
    holds. ValueError when no number of samples on so few problems can tell such a difference.
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
            f"{max_problems} problems cannot tell a difference of {effect:g} whatever the samples: "
            f"the smallest is {floor:.3g}; add problems, or claim less"
        )
    cost = np.where(allowed, problems * (2 * samples + problem_cost), np.inf)
    best = int(np.argmin(cost))
    count, each = int(problems[best]), int(samples[best])
    found = float(detectable_effect(count, each, between, within, power, level))
    return Study(count, each, 2 * count * each, found)

"""How sure a number is: bootstrap replicates over problems, and the intervals read from them.

Points of one curve share problems and samples, so a replicate is a whole curve:
`bootstrap_problems` returns a matrix (replicates, points), one draw of problems per row, fit for
`Curve.replicates`.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

Floats = NDArray[np.float64]
METHODS = ("percentile", "bca")


def _table(values: ArrayLike) -> Floats:
    table = np.asarray(values, dtype=float)
    if table.ndim not in (1, 2) or table.shape[0] == 0:
        raise ValueError(f"values have shape {table.shape}; give (problems, points) or (problems,)")
    return table


def _groups(problems: int, cluster: ArrayLike | None) -> NDArray[np.int64]:
    """Return the family of each problem as 0, 1, ...; each its own where `cluster` is None."""
    if cluster is None:
        return np.arange(problems)
    labels = np.asarray(cluster)
    if labels.shape != (problems,):
        raise ValueError(
            f"cluster has shape {labels.shape}; give one label per problem, ({problems},)"
        )
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def problem_weights(
    problems: int, replicates: int = 1000, seed: int = 0, cluster: ArrayLike | None = None
) -> Floats:
    """Return what each problem weighs in each replicate, (replicates, problems), rows sum to 1.

    Equal arguments give equal weights: two methods on the same problems are compared in pairs.
    """
    group = _groups(problems, cluster)
    count = int(group.max()) + 1
    if replicates < 1:
        raise ValueError(f"replicates is {replicates}; give 1 or more, 1000 for a 95 % interval")
    drawn = np.random.default_rng(seed).integers(count, size=(replicates, count))
    cells = drawn + np.arange(replicates)[:, None] * count
    times = np.bincount(cells.ravel(), minlength=replicates * count).reshape(replicates, count)
    weights = times[:, group].astype(float)
    return weights / weights.sum(axis=1, keepdims=True)


def bootstrap_problems(
    values: ArrayLike, replicates: int = 1000, seed: int = 0, cluster: ArrayLike | None = None
) -> Floats:
    """Return means over resampled problems, (replicates, points), of values (problems, points).

    values: an estimate per problem and budget, e.g. `pass_at_k(n[:, None], c[:, None], k)`. With
    `cluster` (one label per problem) whole families are resampled. A budget at which any problem is
    NaN is NaN: no problem leaves the denominator unseen. One problem or one family says nothing of
    the next: all NaN, with a warning. 1-d values give (replicates,).
    """
    table = _table(values)
    if _groups(len(table), cluster).max() == 0:
        warnings.warn(
            "one problem (or family) cannot be resampled: its interval is NaN", stacklevel=2
        )
        return np.full((replicates, *table.shape[1:]), np.nan)
    return problem_weights(len(table), replicates, seed, cluster) @ table


def interval(
    replicates: ArrayLike,
    estimate: ArrayLike,
    method: str = "bca",
    level: float = 0.95,
    problems: int | None = None,
) -> tuple[Floats, Floats]:
    """Return the low and high end, each (points,), of an interval read from bootstrap replicates.

    replicates: (replicates, points) or (replicates,); estimate: (points,) or a number.
    "percentile": quantiles of the replicates. "bca" moves them for bias and skewness; the
    acceleration is a sixth of the replicates' skewness, which is exact for means. With `problems`
    (number of resampled units) the tails follow Student's t and n / (n-1), which few problems need.
    NaN where any replicate or the estimate is NaN. Source: Efron 1987; Hesterberg 2015,
    arXiv:1411.5279.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; allowed: {', '.join(METHODS)}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a number between 0 and 1, such as 0.95")
    draws, centre = np.asarray(replicates, dtype=float), np.asarray(estimate, dtype=float)
    if draws.shape[1:] != centre.shape:
        raise ValueError(f"replicates {draws.shape} do not fit an estimate of shape {centre.shape}")
    z = ndtri(0.5 + level / 2)
    if problems is not None and problems > 1:
        z = student.ppf(0.5 + level / 2, problems - 1) * np.sqrt(problems / (problems - 1))
    flat = draws.reshape(len(draws), -1)
    ends = [
        _quantile(column, here, np.array([-z, z]), method)
        for column, here in zip(flat.T, centre.ravel(), strict=True)
    ]
    low, high = np.array(ends).T.reshape(2, *centre.shape)
    return low, high


def _quantile(draws: Floats, estimate: float, z: Floats, method: str) -> Floats:
    """Return the two ends of one interval; z holds the normal quantiles aimed at."""
    if np.isnan(draws).any() or np.isnan(estimate):
        return np.full(2, np.nan)
    spread = draws.std()
    if method == "bca" and spread > 1e-12:
        below = np.mean(draws < estimate) + np.mean(draws == estimate) / 2
        bias = ndtri(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
        acceleration = np.mean(((draws - draws.mean()) / spread) ** 3) / 6
        z = bias + (bias + z) / (1 - acceleration * (bias + z))
    return np.quantile(draws, ndtr(z))

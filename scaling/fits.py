"""Fitting laws: `fit` for one law and one curve, `forecast` and `tournament` for budgets held out.

One damped Newton iteration, batched over starts and over bootstrap replicates, does all the work: least
squares, the Huber loss and the likelihood of counts each supply their gradient and curvature. Axes are centred in
their logarithm, and where a law is linear in some parameters these are solved for at every start. Nothing
is drawn here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import gammaln

from scaling.laws import LAWS, Law, weigh
from scaling.records import Curve, Fit

Step = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
MAXIMUM_FAILED = 0.1  # share of replicates that may fail before the interval is not believed
ZEROS_MISFIT = 6.6  # likelihood ratio: exceeded by 1 in 200 populations without impossible problems


# ---------------------------------------------------------------- the optimiser
def minimise(
    evaluate: Callable[[np.ndarray, np.ndarray], Step],
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    iterations: int = 80,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the minimum of each row from its `start` (rows, parameters), its value, and whether it converged.

    `evaluate(z, rows)` gives value, gradient, curvature and a larger curvature (a majorant) for the given rows.
    A step solves (curvature + damping * (majorant + its diagonal)) step = -gradient within the bounds.
    """
    z = np.clip(start, low, high)
    rows = np.arange(len(z))
    value, converged = np.full(len(z), np.inf), np.zeros(len(z), bool)
    with np.errstate(all="ignore"):
        now = [np.array(part) for part in evaluate(z, rows)]
    value[:] = now[0]
    rows = rows[np.isfinite(value) & np.isfinite(now[1]).all(-1)]
    now = [part[rows] for part in now]
    damping = np.full(len(rows), 1e-2)
    for _ in range(iterations):
        if not len(rows):
            break
        step, expected = _newton(z[rows], *now[1:], damping, low, high)
        trial = np.clip(z[rows] + step, low, high)
        with np.errstate(all="ignore"):
            new = evaluate(trial, rows)
        better = (new[0] <= now[0]) & np.isfinite(new[1]).all(-1)
        small = np.abs(step).max(-1) < 1e-9
        done = small | (expected <= 1e-13 * np.abs(now[0])) | (damping > 1e12)
        converged[rows[done & (damping <= 1e12)]] = True
        z[rows[better]] = trial[better]
        for old, part in zip(now, new, strict=True):
            old[better] = part[better]
        value[rows] = now[0]
        damping = np.where(better, np.maximum(damping / 8, 1e-12), damping * 6)
        now = [part[~done] for part in now]
        rows, damping = rows[~done], damping[~done]
    return z, value, converged


def _newton(z, gradient, curvature, majorant, damping, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Return the damped step of each row and the decrease it promises; parameters held at a bound stay there."""
    held = ((z <= low) & (gradient > 0)) | ((z >= high) & (gradient < 0))
    size = z.shape[1]
    diagonal = np.einsum("rii->ri", majorant)
    ridge = np.maximum(diagonal, 1e-14 * diagonal.max(-1, keepdims=True) + 1e-300)
    matrix = curvature + damping[:, None, None] * (majorant + ridge[:, None] * np.eye(size))
    matrix = matrix + 1e-13 * ridge[:, None] * np.eye(size)
    matrix = np.where(
        held[:, None] | held[..., None], np.eye(size) * np.maximum(ridge, 1e-300)[:, None], matrix
    )
    gradient = np.where(held, 0.0, gradient)
    step = -np.linalg.solve(matrix, gradient[..., None])[..., 0]
    return step, -(gradient * step).sum(-1) / 2


def _in_chunks(evaluate, start, low, high, points: int, iterations: int = 80):
    """Return `minimise` over chunks of rows that fit in the cache."""
    size = max(16, 2**15 // points)
    parts = [
        minimise(
            lambda z, rows, at=at: evaluate(z, rows + at),
            start[at : at + size],
            low,
            high,
            iterations,
        )
        for at in range(0, len(start), size)
    ]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


# ---------------------------------------------------------------- what is minimised
def _free(law: Law, p: np.ndarray) -> np.ndarray:
    """Return the coordinates that are moved: logarithms of the parameters in `law.logs`."""
    logs = np.array([name in law.logs for name in law.params])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(logs, np.log(np.where(logs, p, 1.0)), p)


def _natural(law: Law, z: np.ndarray) -> np.ndarray:
    logs = np.array([name in law.logs for name in law.params])
    with np.errstate(over="ignore"):
        return np.where(logs, np.exp(np.where(logs, z, 0.0)), z)


def _bounds(law: Law) -> tuple[np.ndarray, np.ndarray]:
    pairs = [
        law.bounds.get(name, (0.0 if name in law.logs else -np.inf, np.inf)) for name in law.params
    ]
    low, high = _free(law, np.array(pairs).T)
    return low, high


def _squares(law: Law, x, y: np.ndarray, w: np.ndarray, delta: np.ndarray):
    """Return the evaluation of the summed squared (Huber where `delta` is finite) residual; y, w (rows, points)."""
    target = np.log(y) if law.log_response else y
    logs = np.array([name in law.logs for name in law.params])

    def evaluate(z: np.ndarray, rows: np.ndarray) -> Step:
        p = _natural(law, z)
        value, slopes = law.terms(x, p)
        slopes = slopes * np.where(logs, p, 1.0)[:, None]
        if law.log_response:
            slopes, value = slopes / value[..., None], np.log(value)
        weight, goal, edge = (
            part if len(part) == 1 else part[rows] for part in (w, target, delta[:, None])
        )
        residual = value - goal
        size = np.abs(residual)
        inside = size <= edge
        clipped = np.clip(residual, -edge, edge)
        with np.errstate(invalid="ignore"):
            loss = np.where(inside, residual**2 / 2, edge * (size - edge / 2))
        gradient = ((weight * clipped)[:, None] @ slopes)[:, 0]
        turned = slopes.swapaxes(-1, -2)
        curvature = turned @ ((weight * inside)[..., None] * slopes)
        if inside.all():
            majorant = curvature
        else:
            majorant = turned @ (
                (weight * np.minimum(1, edge / np.maximum(size, 1e-300)))[..., None] * slopes
            )
        return (weight * loss).sum(-1), gradient, curvature, majorant

    return evaluate


def _counts(law: Law, n: np.ndarray, c: np.ndarray, w: np.ndarray):
    """Return the evaluation of minus the log likelihood of c correct of n, weights (rows, distinct counts)."""
    step = min(0.2, 2 / np.sqrt(n.max()))  # the binomial is at least this wide in logits
    logits = np.arange(-25, 25 + step, step)
    log_low, log_high = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    inner = c[:, None] * log_low + (n - c)[:, None] * log_high
    top = inner.max(-1, keepdims=True)
    kernel = np.concatenate([(c == 0.0)[:, None], np.exp(inner - top), (c == n)[:, None]], 1)
    logs = np.array([name in law.logs for name in law.params])

    def evaluate(z: np.ndarray, rows: np.ndarray) -> Step:
        p = _natural(law, z)
        mass, parts = weigh(law.density, logits, *p.T[..., None])
        chance = mass @ kernel.T  # (rows, distinct counts)
        score = np.stack([part @ kernel.T for part in parts], -1) / chance[..., None]
        score = score * np.where(logs, p, 1.0)[:, None]
        weight = w[rows if len(w) > 1 else np.zeros_like(rows)]
        outer = score.swapaxes(-1, -2) @ (weight[..., None] * score)
        value = -(weight * (np.log(chance) + top[:, 0])).sum(-1)
        return value, -(weight[..., None] * score).sum(1), outer, outer

    return evaluate


# ---------------------------------------------------------------- where to start
def _starts(law: Law, x, y: np.ndarray, w: np.ndarray, count: int | None) -> np.ndarray:
    """Return starting parameters (starts, parameters): a grid of the non-linear ones, the linear ones solved."""
    grid = law.search(x)
    if count and grid:
        each = max(2, round(count ** (1 / len(grid))))
        grid = {
            k: np.interp(np.linspace(0, len(v) - 1, each), np.arange(len(v)), v)
            for k, v in grid.items()
        }
    searched = np.array(list(product(*grid.values()))).reshape(-1, len(grid))
    p = np.zeros((len(searched), len(law.params)))
    p[:, [law.params.index(name) for name in grid]] = searched
    if law.linear:
        columns = [law.params.index(name) for name in law.linear]
        weight = w / y**2 if law.log_response else w
        basis = law.terms(x, p)[1][..., columns]  # (starts, points, linear)
        turned = (basis * weight[:, None]).swapaxes(-1, -2)
        normal = turned @ basis
        scale = np.sqrt(np.maximum(np.einsum("sii->si", normal), 1e-300))
        normal = normal / scale[:, None] / scale[..., None] + 1e-12 * np.eye(len(columns))
        solved = np.linalg.solve(normal, (turned @ y)[..., None] / scale[..., None])[..., 0] / scale
        size = np.abs(y).mean() / np.maximum(np.abs(basis).mean(1), 1e-300)
        positive = np.array([name in law.logs for name in law.linear])
        p[:, columns] = np.where(positive, np.maximum(solved, 1e-3 * size), solved)
    return p


def _best(law: Law, evaluate, starts: np.ndarray, points: int):
    """Return the best minimum over many starts: a few steps from each, then the best two dozen to the end."""
    low, high = _bounds(law)
    z = _free(law, starts)
    z = z[np.isfinite(z).all(-1)]
    z, value, _ = _in_chunks(evaluate, z, low, high, points, 4)
    order = np.argsort(np.where(np.isnan(value), np.inf, value))[:24]
    z, value, converged = _in_chunks(evaluate, z[order], low, high, points, 200)
    at = np.lexsort([~converged, np.round(value / max(value.min(), 1e-300), 9)])[0]
    return z[at], value[at], converged[at]


# ---------------------------------------------------------------- fit
def fit(
    law: str | Law,
    x: Curve | np.ndarray | tuple[np.ndarray, ...],
    y: np.ndarray | None = None,
    *,
    replicates: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    delta: float | None = None,
    fit_scale: bool = False,
    starts: int | None = None,
    bootstrap: int = 1000,
    resample: str = "auto",
    seed: int = 0,
) -> Fit:
    """Return `law` fitted to a curve, or to arrays `x` (a tuple for several axes) and `y`, with intervals.

    A curve's replicates (resampled problems) are each refitted; so are `replicates` (replicates, points) beside
    arrays. Arrays alone are taken as independent points and resampled `bootstrap` times: `resample` is "points"
    (the default from ten points per parameter) or "residuals" (Student-scaled, so that few points give a wide
    interval). `delta` makes the loss Huber (summed, on log y for laws of a loss), None is least squares;
    `fit_scale` measures `delta` in units of a scale that is fitted too (Besiroglu et al. 2024). Points where y is NaN
    are left out.

    A law of a distribution takes counts per problem, `fit("beta_binomial", n, c)`, and resamples problems.
    `Fit.success` is False, and `Fit.message` says what to try, when the optimum was not reached, is not unique,
    sits at a bound, or when the counts hold more zeros than the law can. ValueError for x <= 0, or too few points.
    """
    law = _law(law)
    if isinstance(x, Curve):
        x, y, replicates = x.x, x.y, x.replicates
    elif y is None:
        raise ValueError("fit got x without y; give a Curve, or x and y")
    elif law.density is not None:
        return _fit_counts(law, x, y, starts, bootstrap, seed)
    axes, y, w, replicates = _points(law, x, y, weights, replicates)
    unit = [np.exp(np.log(axis).mean()) if law.rescale else 1.0 for axis in axes]
    centred = tuple(axis / u for axis, u in zip(axes, unit, strict=True))
    edge = np.inf if delta is None else float(delta)
    if not edge > 0:
        raise ValueError(f"delta is {delta}; give a positive number, or None for least squares")

    def solve(target: np.ndarray, weight: np.ndarray, start: np.ndarray | None):
        return _solve(law, centred, target, weight, edge, fit_scale, starts, start)

    z, _, converged = solve(y[None], w[None], None)
    best = z[0]
    rng = np.random.default_rng(seed)
    if replicates is None:
        rows = _resample(law, centred, y, w, _natural(law, best), bootstrap, resample, rng)
    else:
        finite = np.isfinite(replicates)
        rows = np.where(finite, replicates, 1.0), w * finite
    refit, _, good = np.empty((0, len(best))), None, np.empty(0, bool)
    if min(len(rows[0]), len(rows[1])):
        refit, _, good = solve(*rows, best)
    good &= (rows[1] > 0).sum(-1) >= len(law.params)
    params = _natural(law, np.vstack([best, refit]))
    if law.rescale:
        params = law.rescale(params, unit)
    rmse = _rmse(law, law.predict(axes, params[0]), y)
    unique = _identified(law, centred, y, w, best)
    return _report(law, params, good, converged[0], unique, best, rmse, len(y))


def _law(law: str | Law) -> Law:
    if isinstance(law, Law):
        return law
    if law not in LAWS:
        raise ValueError(f"there is no law {law!r}; known: {', '.join(LAWS)}")
    return LAWS[law]


def _points(law: Law, x, y, weights, replicates):
    """Return axes, y, weights and replicates over the points where y is defined, after checking them."""
    axes = tuple(np.asarray(axis, float).ravel() for axis in (x if isinstance(x, tuple) else (x,)))
    y = np.asarray(y, float).ravel()
    w = np.ones_like(y) if weights is None else np.asarray(weights, float).ravel()
    if len(axes) != law.axes:
        raise ValueError(f"{law.name} takes {law.axes} axes ({law.units}), got {len(axes)}")
    if any(len(part) != len(y) for part in (*axes, w)):
        raise ValueError(
            f"x has {[len(a) for a in axes]} points, weights {len(w)}, y {len(y)}; give equal lengths"
        )
    keep = np.isfinite(y)
    axes, y, w = tuple(axis[keep] for axis in axes), y[keep], w[keep]
    for axis in axes:
        if not (np.isfinite(axis) & (axis > 0)).all():
            raise ValueError(
                "x must be positive and finite, as it is read on a log axis; leave out budgets of zero"
            )
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError("weights must be finite and not negative")
    if law.log_response and not (y > 0).all():
        raise ValueError(f"{law.name} compares log y: every y must be positive, got {y.min()}")
    distinct = len(np.unique(np.stack(axes)[:, w > 0], axis=1).T)
    if distinct < len(law.params):
        fewer = [
            name
            for name, other in LAWS.items()
            if other.axes == law.axes and len(other.params) <= distinct
        ]
        raise ValueError(
            f"{law.name} has {len(law.params)} parameters and the curve {distinct} distinct points; measure more "
            f"budgets, or use a law with fewer parameters ({', '.join(fewer) or 'none has so few'})"
        )
    if replicates is not None:
        replicates = np.atleast_2d(np.asarray(replicates, float))
        if replicates.shape[-1] != len(keep):
            raise ValueError(
                f"replicates are {replicates.shape}; give (replicates, {len(keep)} points)"
            )
        replicates = replicates[:, keep] if replicates.size else np.empty((0, len(y)))
    return axes, y, w, replicates


def _solve(law, x, y, w, delta, fit_scale, starts, start):
    """Return the fit of every row of y and w: from many starts when `start` is None, else from there."""
    count = max(len(y), len(w))
    low, high = _bounds(law)
    evaluate = _squares(law, x, y, w, np.full(1, delta))
    points = y.shape[1] * len(law.params)
    if start is None:
        z, value, converged = _best(law, evaluate, _starts(law, x, y[0], w[0], starts), points)
        z, value, converged = z[None], np.array([value]), np.array([converged])
    else:
        z, value, converged = _in_chunks(evaluate, np.tile(start, (count, 1)), low, high, points)
    if not fit_scale:
        return z, value, converged
    for shrink in np.linspace(0.125, 1, 8):  # from delta down to delta times the scale, warm
        residual = _residual(law, x, y, z)
        scale = delta * (w * np.abs(residual)).sum(-1) / w.sum(-1)
        for _ in range(5):
            held = np.clip(residual / scale[:, None], -delta, delta)
            scale = (w * held * residual).sum(-1) / w.sum(-1)
        evaluate = _squares(law, x, y, w, delta * scale**shrink)
        z, value, converged = _in_chunks(evaluate, z, low, high, points, 200)
    return z, value, converged


def _residual(law: Law, x, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    value = law.predict(x, _natural(law, z))
    return np.log(value) - np.log(y) if law.log_response else value - y


def _rmse(law: Law, value: np.ndarray, y: np.ndarray) -> float:
    off = np.log(value / y) if law.log_response else value - y
    return float(np.sqrt((off**2).mean()))


def _resample(law, x, y, w, p, count, resample, rng):
    """Return (y, weights) of bootstrap replicates of independent points."""
    n, free = len(y), len(y) - len(p)
    if resample == "auto":
        resample = "points" if n >= 10 * len(p) else "residuals"
    if resample == "points":
        return y[None], w * rng.multinomial(n, np.full(n, 1 / n), size=count)
    if resample != "residuals":
        raise ValueError(f"resample is {resample!r}; allowed: auto, points, residuals")
    if free == 0:
        return np.empty((0, n)), np.empty((0, n))
    value = law.predict(x, p)
    residual = np.log(y / value) if law.log_response else y - value
    spread = np.sqrt(w) * residual
    size = np.sqrt(
        (spread**2).sum() / rng.chisquare(free, (count, 1))
    )  # the scale is uncertain too
    drawn = size * rng.standard_normal((count, n)) / np.sqrt(np.maximum(w, 1e-300))
    return value * np.exp(drawn) if law.log_response else value + drawn, np.broadcast_to(
        w, (count, n)
    )


def _identified(law: Law, x, y, w, z) -> bool:
    """Return whether the points determine every parameter: the scaled curvature is well conditioned."""
    majorant = _squares(law, x, y[None], w[None], np.array([np.inf]))(z[None], np.array([0]))[3][0]
    return _conditioned(majorant)


def _conditioned(curvature: np.ndarray) -> bool:
    size = np.sqrt(np.diag(curvature))
    if not (np.isfinite(size) & (size > 0)).all():
        return False
    return bool(np.linalg.eigvalsh(curvature / size / size[:, None])[0] > 1e-11)


def _report(law, params, good, converged, unique, z, rmse, n_points, trouble="") -> Fit:
    """Return the Fit: intervals from the good replicates, and what is wrong in a sentence."""
    replicates = np.where((good & np.isfinite(params[1:]).all(-1))[:, None], params[1:], np.nan)
    failed = int(np.isnan(replicates).any(-1).sum())
    kept = replicates[~np.isnan(replicates).any(-1)]
    ends = (
        np.full((2, len(z)), np.nan)
        if len(kept) < 20
        else np.quantile(kept, [0.025, 0.975], axis=0)
    )
    low, high = _bounds(law)
    stuck = [
        name for name, v, a, b in zip(law.params, z, low, high, strict=True) if v <= a or v >= b
    ]
    natural = [
        name for name in stuck if law.bounds[name] == (0.0, 1.0)
    ]  # an accuracy of 0 or 1 is an answer
    trouble = [trouble] if trouble else []
    if not converged:
        trouble.append(
            "the optimum was not reached: give more starts=, or a law with fewer parameters"
        )
    if set(stuck) - set(natural):
        trouble.append(
            f"{', '.join(set(stuck) - set(natural))} at a bound: the points do not show this shape; try another law"
        )
    if not unique:
        trouble.append(
            "the points do not determine the parameters: measure a wider range, or use a law with fewer"
        )
    if failed > MAXIMUM_FAILED * max(len(replicates), 1):
        trouble.append(
            f"{failed} of {len(replicates)} replicates could not be fitted: add problems, or use a simpler law"
        )
    message = "; ".join(trouble) or "converged" + "".join(
        f"; {name} is at its natural limit" for name in natural
    )
    if len(kept) < 20:
        message += "; no interval: it takes 20 replicates" + (
            " or more points than parameters" if not len(good) else ""
        )
    interval = {name: (float(a), float(b)) for name, a, b in zip(law.params, *ends, strict=True)}
    return Fit(
        law.name, dict(zip(law.params, params[0].tolist(), strict=True)), interval, replicates,
        not trouble, message, rmse, n_points, failed, law.predict,
    )  # fmt: skip


def _fit_counts(law: Law, n, c, starts, bootstrap: int, seed: int) -> Fit:
    """Return a law of a distribution fitted by maximum likelihood to c correct of n samples per problem."""
    n, c = np.broadcast_arrays(np.asarray(n, float), np.asarray(c, float))
    if c.ndim != 1 or not ((n >= 1) & (c >= 0) & (c <= n) & (n % 1 == 0) & (c % 1 == 0)).all():
        raise ValueError(
            "give one-dimensional counts per problem: n >= 1 samples, 0 <= c <= n correct, integers"
        )
    if len(n) < 2 or c.sum() == 0 or (c == n).all():
        raise ValueError(
            f"{len(n)} problems with {int(c.sum())} of {int(n.sum())} samples correct do not determine a distribution; "
            "add problems, or samples until some but not all are correct"
        )
    pairs, inverse = np.unique(np.stack([n, c], 1), axis=0, return_inverse=True)
    times = np.bincount(inverse.ravel(), minlength=len(pairs)).astype(float)
    low, high = _bounds(law)
    evaluate = _counts(law, pairs[:, 0], pairs[:, 1], times[None])
    z, value, converged = _best(law, evaluate, _starts(law, (), times, times, starts), 2**11)
    drawn = (
        np.random.default_rng(seed)
        .multinomial(len(n), times / len(n), size=bootstrap)
        .astype(float)
    )
    refit, _, good = _in_chunks(
        _counts(law, pairs[:, 0], pairs[:, 1], drawn),
        np.tile(z, (bootstrap, 1)),
        low,
        high,
        2**8,
        200,
    )
    curvature = evaluate(z[None], np.array([0]))[3][0]
    k = np.unique(np.geomspace(1, n.min(), 12).astype(int)).astype(float)
    gap = law.predict(k, _natural(law, z)) - _coverage(n, c, k)
    zeros = ""
    if (zero := LAWS.get(f"{law.name}_zero")) is not None:
        more = _counts(zero, pairs[:, 0], pairs[:, 1], times[None])
        _, other, _ = _best(zero, more, _starts(zero, (), times, times, None), 2**11)
        if 2 * (value - other) > ZEROS_MISFIT:
            zeros = f"more problems without a success than {law.name} allows, so it overrates large k: try {zero.name}"
    params = _natural(law, np.vstack([z, refit]))
    rmse = float(np.sqrt((gap**2).mean()))
    return _report(law, params, good, converged, _conditioned(curvature), z, rmse, len(n), zeros)


def _coverage(n: np.ndarray, c: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Return mean pass@k, 1 - C(n-c, k) / C(n, k), over problems, for k up to every n."""
    n, left, k = n[:, None], (n - c)[:, None], k[None]
    log_miss = (
        gammaln(left + 1)
        - gammaln(np.maximum(left - k, 0) + 1)
        - gammaln(n + 1)
        + gammaln(n - k + 1)
    )
    return 1 - np.where(left >= k, np.exp(log_miss), 0.0).mean(0)

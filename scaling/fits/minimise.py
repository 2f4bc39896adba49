"""Minimise the loss of a fit by a damped Newton iteration, for all starts and replicates at once.

The loss is squared or Huber residuals of a curve, or minus the likelihood of counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scaling.fits.functions import Array, Axes, weigh
from scaling.fits.laws import Law

Step = tuple[Array, ...]  # value, gradient, curvature, a majorant of the curvature
Objective = Callable[[Array, Array], Step]  # (coordinates, rows) -> the above, for these rows
Minimum = tuple[Array, Array, Array]  # coordinates (rows, parameters), value, converged
CHUNK = 2**15  # numbers per chunk of rows: what fits in the cache
STEPS = 600  # at 80 a tenth of some laws' replicates had not converged, depending on rounding


# ---------------------------------------------------------------- losses
def residuals(law: Law, x: Axes, y: Array, p: Array) -> Array:
    """Return value - y, or its logarithm for a law of a loss, at parameters p (..., parameters)."""
    value = law.predict(x if law.axes > 1 else x[0], p)
    return np.log(value / y) if law.log_response else value - y


def squares(law: Law, x: Axes, y: Array, weights: Array, edge: Array) -> Objective:
    """Return the summed loss of residuals: r²/2 up to `edge`, then linear (Huber); inf is squares.

    y and weights are (rows or 1, points), edge (rows or 1, 1).
    """
    goal, everywhere = np.log(y) if law.log_response else y, bool(np.isinf(edge).all())

    def objective(z: Array, rows: Array) -> Step:
        value, slopes = law.terms(x, z)
        if law.log_response:
            value, slopes = np.log(value), slopes / value[..., None]
        w, g, e = (part if len(part) == 1 else part[rows] for part in (weights, goal, edge))
        r, turned = value - g, slopes.swapaxes(-1, -2)
        if everywhere:
            curvature = turned @ (w[..., None] * slopes)
            gradient = ((w * r)[:, None] @ slopes)[:, 0]
            return (w * (r * r / 2)).sum(-1), gradient, curvature, curvature
        size = np.abs(r)
        inside = size <= e
        pull = np.clip(r, -e, e)
        loss = np.where(inside, r * r / 2, e * size - e * e / 2)
        gradient = ((w * pull)[:, None] @ slopes)[:, 0]
        curvature = turned @ ((w * inside)[..., None] * slopes)
        majorant = curvature
        if not inside.all():
            majorant = turned @ ((w * pull / np.where(size > 0, r, 1.0))[..., None] * slopes)
        return (w * loss).sum(-1), gradient, curvature, majorant

    return objective


def likelihood(law: Law, n: Array, c: Array, times: Array) -> Objective:
    """Return minus the log likelihood of c correct of n.

    times: (rows, counts), how often each pair of n and c occurs. A quadrature in logits of the
    success rate, fine enough for the narrowest binomial, turns the likelihood of all counts and
    rows into one matrix product.
    """
    step = min(0.1, 2 / np.sqrt(n.max()))
    logits = np.arange(-25, 25 + step, step)
    log_p, log_q = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    log_binomial = c[:, None] * log_p + (n - c)[:, None] * log_q
    top = log_binomial.max(-1)
    kernel = np.exp(log_binomial - top[:, None])
    kernel = np.column_stack([c == 0, kernel, c == n])  # p = 0 and p = 1
    factor, density = law.is_log, law.density
    assert density is not None

    def objective(z: Array, rows: Array) -> Step:
        p = law.from_unconstrained(z)
        mass, parts = weigh(density, logits, *p.T[..., None])
        chance = mass @ kernel.T  # (rows, counts)
        score = np.stack([part @ kernel.T for part in parts], -1) / chance[..., None]
        score = score * np.where(factor, p, 1.0)[:, None]
        seen = times if len(times) == 1 else times[rows]
        weighted = seen[..., None] * score
        outer = score.swapaxes(-1, -2) @ weighted
        return -(seen * (np.log(chance) + top)).sum(-1), -weighted.sum(1), outer, outer

    return objective


# ---------------------------------------------------------------- the iteration
def minimise(
    objective: Objective, start: Array, limits: tuple[Array, Array], points: int, most: int = STEPS
) -> Minimum:
    """Return the minimum from each row of `start` within `limits`, in at most `most` iterations.

    A step solves (curvature + damping (majorant + its diagonal)) step = -gradient; damping falls
    after each success and grows after each failure. `points` is the size of one row's work.
    """
    size = max(16, CHUNK // (points * start.shape[1]))
    parts = [
        _descend(objective, np.clip(start[at : at + size], *limits), limits, at, most)
        for at in range(0, len(start), size)
    ]
    z, value, converged = (np.concatenate(column) for column in zip(*parts, strict=True))
    return z, value, converged


def _descend(
    objective: Objective, z: Array, limits: tuple[Array, Array], first: int, most: int
) -> Minimum:
    """Return the minima of the rows first, first + 1, ... that start at `z`."""
    converged = np.zeros(len(z), bool)
    with np.errstate(all="ignore"):
        now = objective(z, first + np.arange(len(z)))
        value = now[0].copy()
        rows = np.flatnonzero(np.isfinite(value) & np.isfinite(now[1]).all(-1))
        at, now = z[rows], tuple(part[rows] for part in now)
        damping = np.full(len(rows), 1e-2)
        for _ in range(most if len(rows) else 0):
            step, predicted = _newton(at, now, damping, limits)
            trial = np.minimum(np.maximum(at + step, limits[0]), limits[1])
            new = objective(trial, first + rows)
            better = (new[0] <= now[0]) & np.isfinite(new[1]).all(-1)
            stuck = ~better & (damping > 1e12)
            done = (np.abs(step).max(-1) < 1e-9) | (predicted <= 1e-13 * np.abs(now[0])) | stuck
            for old, part in zip((at, *now), (trial, *new), strict=True):
                old[better] = part[better]
            damping = np.where(better, np.maximum(damping / 8, 1e-12), damping * 6)
            if done.any():
                converged[rows[done & ~stuck]] = True
                z[rows], value[rows] = at, now[0]
                rows, damping, at = rows[~done], damping[~done], at[~done]
                now = tuple(part[~done] for part in now)
                if not len(rows):
                    break
        z[rows], value[rows] = at, now[0]
    return z, np.where(np.isnan(value), np.inf, value), converged


def _newton(
    z: Array, now: Step, damping: Array, limits: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return each row's step and the decrease it predicts; a parameter at a limit stays there."""
    _, gradient, curvature, majorant = now
    at_limit = ((z <= limits[0]) & (gradient > 0)) | ((z >= limits[1]) & (gradient < 0))
    diagonal = np.einsum("rii->ri", majorant)
    floor = 1e-14 * diagonal.max(-1, keepdims=True) + 1e-300
    ridge = np.maximum(diagonal, floor)[:, None] * np.eye(z.shape[1])
    matrix = curvature + damping[:, None, None] * (majorant + ridge) + 1e-13 * ridge
    if at_limit.any():
        matrix = np.where(at_limit[:, None] | at_limit[..., None], ridge, matrix)
        gradient = np.where(at_limit, 0.0, gradient)
    step = -np.linalg.solve(matrix, gradient[..., None])[..., 0]
    return step, -(gradient * step).sum(-1) / 2

"""One damped Newton iteration, batched over starts and over bootstrap replicates. Knows no law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Step = tuple[Array, ...]  # value, gradient, curvature, a majorant of the curvature
Objective = Callable[[Array, Array], Step]  # (coordinates, rows) -> the above, for these rows
Minimum = tuple[Array, Array, Array]  # coordinates (rows, parameters), value, converged
CHUNK = 2**15  # numbers per chunk of rows: what fits in the cache
STEPS = 600  # at 80 a tenth of some laws' replicates were left on their way, by chance of rounding


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
            step, promised = _newton(at, now, damping, limits)
            trial = np.minimum(np.maximum(at + step, limits[0]), limits[1])
            new = objective(trial, first + rows)
            better = (new[0] <= now[0]) & np.isfinite(new[1]).all(-1)
            lost = ~better & (damping > 1e12)
            done = (np.abs(step).max(-1) < 1e-9) | (promised <= 1e-13 * np.abs(now[0])) | lost
            for old, part in zip((at, *now), (trial, *new), strict=True):
                old[better] = part[better]
            damping = np.where(better, np.maximum(damping / 8, 1e-12), damping * 6)
            if done.any():
                converged[rows[done & ~lost]] = True
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
    """Return each row's step and the decrease it promises; a parameter pressed to a limit stays."""
    _, gradient, curvature, majorant = now
    held = ((z <= limits[0]) & (gradient > 0)) | ((z >= limits[1]) & (gradient < 0))
    diagonal = np.einsum("rii->ri", majorant)
    floor = 1e-14 * diagonal.max(-1, keepdims=True) + 1e-300
    ridge = np.maximum(diagonal, floor)[:, None] * np.eye(z.shape[1])
    matrix = curvature + damping[:, None, None] * (majorant + ridge) + 1e-13 * ridge
    if held.any():
        matrix = np.where(held[:, None] | held[..., None], ridge, matrix)
        gradient = np.where(held, 0.0, gradient)
    step = -np.linalg.solve(matrix, gradient[..., None])[..., 0]
    return step, -(gradient * step).sum(-1) / 2

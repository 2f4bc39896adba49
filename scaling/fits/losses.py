"""What a fit minimises: squared or Huber residuals of a curve, or the likelihood of counts."""

from __future__ import annotations

import numpy as np

from scaling.fits.laws import Axes, Law, weigh
from scaling.fits.minimise import Array, Objective, Step


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
    """Return minus the log likelihood of c correct of n; `times` (rows, counts) each is seen.

    A quadrature in logits of the success rate, fine enough for the narrowest binomial, turns the
    likelihood of all counts and rows into one matrix product.
    """
    step = min(0.1, 2 / np.sqrt(n.max()))
    logits = np.arange(-25, 25 + step, step)
    log_binomial = -c[:, None] * np.logaddexp(0, -logits) - (n - c)[:, None] * np.logaddexp(
        0, logits
    )
    top = log_binomial.max(-1)
    kernel = np.exp(log_binomial - top[:, None])
    kernel = np.column_stack([c == 0, kernel, c == n])  # p = 0 and p = 1
    factor, density = law.moved_in_logs, law.density
    assert density is not None

    def objective(z: Array, rows: Array) -> Step:
        p = law.natural(z)
        mass, parts = weigh(density, logits, *p.T[..., None])
        chance = mass @ kernel.T  # (rows, counts)
        score = np.stack([part @ kernel.T for part in parts], -1) / chance[..., None]
        score = score * np.where(factor, p, 1.0)[:, None]
        seen = times if len(times) == 1 else times[rows]
        weighted = seen[..., None] * score
        outer = score.swapaxes(-1, -2) @ weighted
        return -(seen * (np.log(chance) + top)).sum(-1), -weighted.sum(1), outer, outer

    return objective

"""`fit`: one law fitted to one curve from many starting values, and to each of its replicates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from scaling.curves import MIN_REPLICATES, Curve, Fit, ends
from scaling.estimates import pass_at_k
from scaling.fits.functions import Array, Axes
from scaling.fits.laws import LAWS, SHARE, Law
from scaling.fits.minimise import Minimum, Objective, likelihood, minimise, residuals, squares
from scaling.records import look_up

MAX_FAILED = 0.1  # share of replicates that may fail in a successful fit
FLAT = 1e-11  # smallest eigenvalue of the scaled curvature at which parameters count as determined
ZEROS = 6.6  # likelihood ratio that 1 in 200 populations without impossible problems exceeds
STEPS, KEPT = (4, 100, 200), (24, 6, 1)  # iterations from each start, and how many starts continue
CONTINUATION = 6  # steps in which a fitted scale shrinks from 1 to its value


def fit(
    law: str | Law,
    x: Any,
    y: Any = None,
    *,
    replicates: Array | None = None,
    weights: Array | None = None,
    delta: float | None = None,
    fit_scale: bool = False,
    starts: int | None = None,
    bootstrap: int = 1000,
    resample: str = "auto",
    seed: int = 0,
) -> Fit:
    """Return `law` fitted to a `Curve`, or to arrays `x` (a tuple for several axes) and `y`.

    A curve's replicates (problems resampled) are each refitted, and so are `replicates`
    (replicates, points) given with arrays. Arrays alone count as independent points, resampled
    `bootstrap` times: `resample` is "points" (the default from ten points per parameter) or
    "residuals" (of Student's width, so that few points give wide intervals). `delta` makes the
    summed loss Huber, on log y for laws of a loss; `fit_scale` takes `delta` in units of a scale
    that is fitted too (Besiroglu et al. 2024, arXiv 2404.10102). `starts` is how many starting
    points to try. Points where y is NaN are left out.

    A law of a distribution takes counts per problem, `fit("beta_binomial", n, c)`, maximises their
    likelihood and resamples problems; its rmse is on pass@k, and `n_points` counts problems. An
    option that does not apply is refused.

    `success` is False, and `message` says what to try, where the optimum was not reached, is not
    unique or lies at a bound, where replicates failed, and where counts hold more zeros than the
    law allows. Intervals are NaN below 20 replicates. ValueError for x <= 0, too few points,
    or a law of samples on a Curve in another unit.

    >>> found = fit("power", np.array([1, 2, 4, 8, 16]), np.array([0.8, 0.4, 0.2, 0.1, 0.05]))
    >>> {name: round(value, 3) for name, value in found.params.items()}
    {'a': 0.8, 'b': -1.0}
    """
    law = law if isinstance(law, Law) else look_up(LAWS, str(law), "law")
    if (starts is not None and starts < 1) or bootstrap < 0:
        raise ValueError(
            f"starts is {starts}, bootstrap {bootstrap}; give 1 or more, and 0 or more"
        )
    of_curve = {k: getattr(x, k) for k in ("n_problems", "x_unit") if isinstance(x, Curve)}
    given: dict[str, Any] = {"replicates": replicates, "weights": weights, "delta": delta}
    given |= {"fit_scale": fit_scale or None, "resample": None if resample == "auto" else resample}
    if isinstance(x, Curve):
        _refuse(given | {"y": y}, ("y", "replicates", "resample"), "a Curve holds its own")
        if law.of_samples and x.x_unit != "samples":
            raise ValueError(
                f"{law.name} is a law of samples, and the curve's x is in {x.x_unit}: give a curve "
                "in samples, or a law of any budget, such as power_floor"
            )
        x, y, replicates = x.x, x.y, x.replicates
    elif x is None or y is None:
        raise ValueError("fit got x without y, or no x; give a Curve, or x and y")
    elif law.density is not None:
        _refuse(given, given, f"{law.name} maximises the likelihood of counts")
        return _fit_counts(law, np.asarray(x, float), np.asarray(y, float), starts, bootstrap, seed)
    elif replicates is not None:
        _refuse(given, ("resample",), "replicates are resampled already")
    if delta is not None and not delta > 0:
        raise ValueError(f"delta is {delta}; give a positive number, or None for least squares")
    if fit_scale and delta is None:
        raise ValueError("fit_scale fits the scale that delta is measured in; give delta, say 1e-3")
    axes, y, w, replicates = _checked(law, x, y, weights, replicates)
    unit = [float(np.exp(np.log(axis).mean())) if law.rescale else 1.0 for axis in axes]
    problem = _Problem(law, tuple(a / u for a, u in zip(axes, unit, strict=True)), delta, fit_scale)
    z, _, converged = problem.solve(y[None], w[None], starts=starts)
    if replicates is None:
        rows = problem.resampled(y, w, z[0], bootstrap, resample, np.random.default_rng(seed))
    else:
        seen = np.isfinite(replicates)
        rows = np.where(seen, replicates, 1.0), w * seen
    refits, good = z[:0], converged[:0]
    if count := max(map(len, rows)) * (min(map(len, rows)) > 0):
        refits, _, good = problem.solve(*rows, start=np.repeat(z, count, 0))
        good = good & ((rows[1] > 0).sum(-1) >= len(law.params))
    params = law.from_unconstrained(np.vstack([z, refits]))
    params = law.rescale(params, unit) if law.rescale else params
    off = residuals(law, axes, y, params[0])
    with np.errstate(all="ignore"):
        curvature = squares(law, problem.x, y[None], w[None], np.array([[np.inf]]))(
            z, np.zeros(1, int)
        )[3]
    found = _report(law, params, good, z[0], converged[0], curvature[0], off, len(y))
    return replace(found, **of_curve)


def _refuse(given: dict[str, Any], names: Iterable[str], why: str) -> None:
    """Raise ValueError for an option that was given and would be ignored."""
    for name in names:
        if given[name] is not None:
            raise ValueError(f"{name} does not apply: {why}; leave it out")


@dataclass(frozen=True)
class _Problem:
    """A law on centred axes with its loss: solves rows of y and weights."""

    law: Law
    x: Axes
    delta: float | None
    fit_scale: bool

    def solve(
        self, y: Array, w: Array, start: Array | None = None, starts: int | None = None
    ) -> Minimum:
        """Return the minimum of each row of y and w, from `start` or else from a grid of starts."""
        size, limits, delta = y.shape[1], self.law.limits(), self.delta or np.inf
        objective = squares(self.law, self.x, y, w, np.array([[delta]]))
        if start is None:
            found = _best(objective, self.law, _grid(self.law, self.x, y[0], w[0], starts), size)
        else:
            found = minimise(objective, start, limits, size)
        for shrink in np.linspace(0, 1, CONTINUATION + 1)[1:] if self.fit_scale else ():
            r = residuals(self.law, self.x, y, self.law.from_unconstrained(found[0]))
            scale = (delta * (w * np.abs(r)).sum(-1) / w.sum(-1))[..., None]
            for _ in range(4):  # the scale is the mean of pull times residual: a fixed point
                pull = np.clip(r / scale, -delta, delta)
                scale = ((w * pull * r).sum(-1) / w.sum(-1))[..., None]
            objective = squares(self.law, self.x, y, w, delta * scale**shrink)
            found = minimise(objective, found[0], limits, size)
        return found

    def resampled(
        self, y: Array, w: Array, z: Array, count: int, how: str, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return (y, weights), (count or 1, points) each, of replicates of independent points."""
        n, free = len(y), len(y) - len(z)
        if how not in ("auto", "points", "residuals"):
            raise ValueError(f"resample is {how!r}; allowed: auto, points, residuals")
        if how == "points" or (how == "auto" and n >= 10 * len(z)):
            return y[None], w * rng.multinomial(n, np.full(n, 1 / n), size=count)
        if free == 0:
            return y[None][:0], w[None][:0]
        off = residuals(self.law, self.x, y, self.law.from_unconstrained(z))
        size = np.sqrt((w * off**2).sum() / rng.chisquare(free, (count, 1)))  # it is uncertain too
        noise = size * rng.standard_normal((count, n)) / np.sqrt(np.maximum(w, 1e-300))
        off = off + noise
        return (y * np.exp(off) if self.law.log_response else y + off), w[None]


def _best(objective: Objective, law: Law, starts: Array, size: int) -> Minimum:
    """Return the best minimum (one row): few steps from each start, more from the best of them.

    Of minima as low as the lowest, one that converged is returned, from the best start: others can
    lie far along a flat valley. The search ends after STEPS[1] once the best start has converged.
    """
    z = law.to_unconstrained(starts)
    for steps, kept in zip(STEPS, KEPT, strict=True):
        z, value, converged = minimise(objective, z, law.limits(), size, steps)
        lowest = converged & (value <= value.min() * (1 + 1e-9))
        order = np.lexsort([np.where(lowest, 0.0, value), ~lowest])[:kept]
        z, value, converged = z[order], value[order], converged[order]
        if steps == STEPS[1] and converged[0]:
            break
    return z[:1], value[:1], converged[:1]


def _grid(law: Law, x: Axes, y: Array, w: Array, count: int | None) -> Array:
    """Return starts (starts, parameters): a grid of the non-linear ones, the linear ones solved."""
    grid = law.search(x)
    if count:
        each = math.ceil(count ** (1 / len(grid)) - 1e-9)
        grid = {
            name: np.interp(np.linspace(0, len(v) - 1, each), np.arange(len(v)), v)
            for name, v in grid.items()
        }
    searched = np.array(list(product(*grid.values())))
    if count:
        searched = searched[np.linspace(0, len(searched) - 1, count).astype(int)]
    p = np.where(law.is_log, 1.0, np.zeros((len(searched), len(law.params))))
    p[:, [law.params.index(name) for name in grid]] = searched
    if law.linear:
        columns = [law.params.index(name) for name in law.linear]
        with np.errstate(all="ignore"):
            basis = law.terms(x, law.to_unconstrained(p))[1][
                ..., columns
            ]  # (starts, points, linear)
        if not np.isfinite(basis).all():
            raise ValueError(
                f"{law.name} is undefined at some x (from {min(map(np.min, x)):.3g} on): "
                f"it takes {law.units}"
            )
        root = np.sqrt(w)[:, None] / (y[:, None] if law.log_response else 1.0)
        size = np.abs(basis * root).max(1, keepdims=True) + 1e-300
        solved = np.linalg.pinv(basis * root / size) @ (y * root[:, 0]) / size[:, 0]
        least = 1e-3 * np.abs(y).mean() / np.maximum(np.abs(basis).mean(1), 1e-300)
        p[:, columns] = np.where(law.is_log[columns], np.maximum(solved, least), solved)
    return p


def _checked(
    law: Law, x: Any, y: Any, weights: Array | None, replicates: Array | None
) -> tuple[Axes, Array, Array, Array | None]:
    """Return axes, y, weights and replicates over the points where y is defined."""
    axes = tuple(axis.ravel() for axis in law.split(x))
    y = np.asarray(y, float).ravel()
    w = np.ones_like(y) if weights is None else np.asarray(weights, float).ravel()
    if {len(part) for part in (*axes, w)} != {len(y)}:
        sizes = f"axes {[len(a) for a in axes]}, y {len(y)}, weights {len(w)}"
        raise ValueError(f"{sizes}: give equal lengths")
    if np.isinf(y).any():
        raise ValueError("y holds infinity; give numbers, NaN where there is no estimate")
    keep = np.isfinite(y)
    axes, y, w = tuple(axis[keep] for axis in axes), y[keep], w[keep]
    if not all((np.isfinite(axis) & (axis > 0)).all() for axis in axes):
        raise ValueError("x is read on a log axis; give positive, finite budgets, without zero")
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError("weights must be finite and not negative")
    if law.log_response and not (y > 0).all():
        raise ValueError(f"{law.name} compares log y; every y must be positive, got {y.min()}")
    if law.share and ((y < -1e-9) | (y > 1 + 1e-9)).any():
        raise ValueError(
            f"{law.name} is a law of accuracy, from 0 to 1; y ranges from {y.min():g} to "
            f"{y.max():g}: give shares, or a law of any value, such as power_floor"
        )
    points = len(set(zip(*(axis[w > 0] for axis in axes), strict=True)))
    if points < len(law.params):
        fewer = [k for k, v in LAWS.items() if v.axes == law.axes and len(v.params) <= points]
        raise ValueError(
            f"{law.name} has {len(law.params)} parameters and the curve {points} distinct points: "
            f"measure more budgets, or fit fewer parameters ({', '.join(fewer) or 'no law'})"
        )
    if replicates is not None:
        replicates = np.asarray(replicates, float)
        if replicates.ndim != 2 or replicates.shape[1] != len(keep):
            raise ValueError(
                f"replicates {replicates.shape}: give (replicates, {len(keep)} points)"
            )
        replicates = replicates[:, keep]
    return axes, y, w, replicates


def _report(
    law: Law, params: Array, good: Array, z: Array, converged: bool, curvature: Array, off: Array,
    n: int, trouble: str = "",
) -> Fit:  # fmt: skip
    """Return the Fit of params (1 + replicates, parameters), with intervals and a message."""
    replicates = np.where((good & np.isfinite(params[1:]).all(-1))[:, None], params[1:], np.nan)
    kept = replicates[np.isfinite(replicates).all(-1)]
    failed = len(replicates) - len(kept)
    low, high = law.limits()
    stuck = [k for k, v, a, b in zip(law.params, z, low, high, strict=True) if not a < v < b]
    at_bound = [k for k in stuck if law.bounds[k] != SHARE]  # a share of 0 or 1 is an answer
    inner = np.array([name not in stuck for name in law.params])
    size = np.sqrt(np.maximum(np.diag(curvature), 0))
    most, size, curvature = size.max(), size[inner], curvature[np.ix_(inner, inner)]
    flat = inner.any() and (
        size.min() <= 1e-9 * most or np.linalg.eigvalsh(curvature / np.outer(size, size))[0] < FLAT
    )
    undetermined, many = flat and not at_bound, failed > MAX_FAILED * len(replicates)
    problems = [
        (bool(trouble), trouble),
        (not converged, "the optimum was not reached: give more starts, or try a simpler law"),
        (bool(at_bound), f"{', '.join(at_bound)} at a bound: the points do not have this shape, "
         "try another law"),
        (undetermined, "the points do not determine the parameters: widen the range of x, "
         "or try a law with fewer"),
        (many and not undetermined, f"{failed} of {len(replicates)} replicates could not be "
         "fitted: add problems, or try a simpler law"),
    ]  # fmt: skip
    wrong = [sentence for condition, sentence in problems if condition]
    notes = wrong or ["converged", *(f"{k} is at its natural limit" for k in stuck)]
    if len(kept) < MIN_REPLICATES:
        notes.append(
            f"no interval: it needs {MIN_REPLICATES} replicates, or more points than parameters"
        )
    interval = dict(zip(law.params, np.transpose(ends(kept)).tolist(), strict=True))
    printed, numbers = law.numbers(kept), {}
    for name, value in law.numbers(params[0]).items():
        left, right = interval.get(name) or ends(printed[name], method="nearest")
        numbers[name] = float(value), float(left), float(right)
    return Fit(
        law=law.name,
        params=dict(zip(law.params, params[0].tolist(), strict=True)),
        interval={name: (low, high) for name, (low, high) in interval.items()},
        replicates=replicates,
        success=not wrong,
        message="; ".join(notes),
        rmse=float(np.sqrt(np.mean(off**2))),
        n_points=n,
        n_failed=failed,
        function=law.predict,
        formula=law.written(params[0]),
        numbers=numbers,
    )


def _fit_counts(law: Law, n: Array, c: Array, starts: int | None, bootstrap: int, seed: int) -> Fit:
    """Return a distribution fitted by maximum likelihood to c correct of n samples per problem."""
    n, c = np.broadcast_arrays(n, c)
    if c.ndim != 1 or not ((n >= 1) & (c >= 0) & (c <= n) & (n % 1 == 0) & (c % 1 == 0)).all():
        raise ValueError("give integers per problem: n >= 1 samples and 0 <= c <= n correct")
    if len(n) <= len(law.params) or c.sum() == 0 or (c == n).all():
        raise ValueError(
            f"{len(n)} problems, {c.sum():.0f} of {n.sum():.0f} samples correct, do not determine "
            f"{law.name}: add problems, or samples until some but not all are correct"
        )
    pairs, which = np.unique(np.stack([n, c], 1), axis=0, return_inverse=True)
    times = np.bincount(which.ravel(), minlength=len(pairs)).astype(float)

    def best(law: Law) -> tuple[Minimum, Array]:
        objective = likelihood(law, pairs[:, 0], pairs[:, 1], times[None])
        found = _best(objective, law, _grid(law, (), times, times, starts), 2**9)
        return found, objective(found[0], np.zeros(1, int))[3][0]

    (z, value, converged), curvature = best(law)
    refits, good = z[:0], converged[:0]
    if bootstrap:
        draws = np.random.default_rng(seed).multinomial(len(n), times / len(n), size=bootstrap)
        objective = likelihood(law, pairs[:, 0], pairs[:, 1], draws.astype(float))
        refits, _, good = minimise(objective, np.repeat(z, bootstrap, 0), law.limits(), 2**6, 200)
    k = np.unique(np.geomspace(1, n.min(), 12).astype(int)).astype(float)
    off = law.predict(k, law.from_unconstrained(z[0])) - pass_at_k(n[:, None], c[:, None], k).mean(
        axis=0
    )
    zeros = ""
    if (other := LAWS.get(f"{law.name}_zero")) and 2 * (value - best(other)[0][1])[0] > ZEROS:
        zeros = f"more problems without a success than {law.name} allows: try {other.name}"
    params = law.from_unconstrained(np.vstack([z, refits]))
    found = _report(law, params, good, z[0], converged[0], curvature, off, len(n), zeros)
    return replace(found, n_problems=len(n))

"""The plane of train and test compute: a joint law of many checkpoints, and what it is worth."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scaling.curves import Curve, Fit
from scaling.figures import plots
from scaling.figures.names import selector_name
from scaling.fits import joint
from scaling.fits.joint import Exchange, exchange_rate, fit_joint, iso_line
from scaling.runs import Run, Runs

HEADLINE = {"countdown": "coverage", "sums": "majority"}  #: the selector that a task's panels show
PLANES = ("plane_logit", "plane_loglog", "additive")  #: joint laws that an exchange rate must share
ISO = (0.1, 0.25, 0.5, 0.75, 0.9)  #: accuracies of the lines drawn


def curve_across(curves: Sequence[Curve], x: Any, at: int = -1, **fields: Any) -> Curve:
    """Return the curve through one point of each curve, `at`, at budgets `x`."""
    ends = {name: np.array([getattr(c, name)[at] for c in curves]) for name in ("y", "low", "high")}
    replicates = np.stack([c.replicates[:, at] for c in curves], axis=1)
    missing = sum(c.n_missing for c in curves)
    common: dict[str, Any] = {"x": np.asarray(x), "replicates": replicates, "n_missing": missing}
    return replace(curves[0], **common | ends | fields)


def train_curve(runs: Runs, checkpoints: Sequence[Run], selector: str, k: int, level: str) -> Curve:
    """Return accuracy at k samples against training compute, over the checkpoints of one size."""
    curves = [runs.curve(run, selector, "samples", level) for run in checkpoints]
    budgets = checkpoints[0].budgets().tolist()
    if k not in budgets:
        raise ValueError(f"no curve has a point at {k} samples; allowed: {budgets}")
    fields = {"estimator": f"{selector} at {k}", "label": checkpoints[0].size_name}
    train = [run.card.train_flops for run in checkpoints]
    return curve_across(curves, train, budgets.index(k), x_unit="flops", **fields)


@dataclass(frozen=True)
class Plane:
    """A joint law over (train, test) compute, and the points of the checkpoints behind it."""

    fitted: Fit
    exchange: Exchange  #: at the geometric middle of the fitted points
    train: np.ndarray  #: (points,) FLOPs
    test: np.ndarray  #: (points,) FLOPs, or another unit of test compute
    accuracy: np.ndarray  #: (points,)
    used: np.ndarray  #: (points,) bool: on the frontier

    @property
    def frame(self) -> pd.DataFrame:
        """Return one row per point: train, test, accuracy, and whether the law was fitted to it."""
        columns = {"train": self.train, "test": self.test}
        return pd.DataFrame(columns | {"accuracy": self.accuracy, "used": self.used})


def joint_points(
    runs: Runs, task: str, selector: str, level: str = "all", unit: str = "flops"
) -> tuple[np.ndarray, ...]:
    """Return (train, test, accuracy, replicates (R, points), n_params) of checkpoints and budgets.

    unit: of test; "samples" for laws of samples.
    """
    checkpoints = runs.select(task, "best_of_n").trained
    if not checkpoints:
        raise ValueError(f"no model on {task} has known train FLOPs: there is no training axis")
    curves = [runs.curve(run, selector, unit, level) for run in checkpoints]
    cards = [run.card for run, c in zip(checkpoints, curves, strict=True) for _ in c.x]
    train, size = np.array([(card.train_flops, float(card.n_params)) for card in cards]).T
    test, accuracy = (np.concatenate([getattr(c, name) for c in curves]) for name in ("x", "y"))
    return train, test, accuracy, np.concatenate([c.replicates for c in curves], axis=1), size


def plane_fit(
    runs: Runs,
    task: str,
    selector: str,
    level: str = "all",
    law: str = "plane_logit",
    frontier: bool = True,
    unit: str = "flops",
) -> Plane:
    """Return a joint law of the frontier: the best model size's accuracy at each pair of budgets.

    A point that another one beats with no more of either compute has the wrong model size for its
    budget and is left out; `frontier=False` keeps all. Intervals come from resampled problems,
    given this law and these points: they exclude the uncertainty of either choice.
    """
    train, test, accuracy, replicates, _ = joint_points(runs, task, selector, level, unit)
    return fit_plane(train, test, accuracy, replicates, law, frontier)


def fit_plane(
    train: np.ndarray,
    test: np.ndarray,
    accuracy: np.ndarray,
    replicates: np.ndarray,
    law: str = "plane_logit",
    frontier: bool = True,
) -> Plane:
    """Return a joint law of points, see `plane_fit`; replicates (R, points), the others (points,).

    Errors: ValueError for fewer points than the law has parameters.
    """
    used = joint.frontier((train, test), accuracy) | (not frontier)
    fitted = fit_joint(law, train[used], test[used], accuracy[used], replicates=replicates[:, used])
    middle = (float(np.exp(np.log(axis[used]).mean())) for axis in (train, test))
    return Plane(fitted, exchange_rate(fitted, *middle), train, test, accuracy, used)


def summary(fitted: Fit) -> dict[str, Any]:
    """Return the facts of a fit for a sidecar."""
    kept = ("law", "params", "interval", "success", "message", "rmse", "n_points", "n_failed")
    return {name: getattr(fitted, name) for name in kept}


def exchange_rates(found: Plane) -> dict[str, float]:
    """Return the worth of ten times the training in test compute, by each law of `PLANES`.

    All laws are fitted to the points of the plane; inf where no test compute is worth as much. A
    law with more parameters than there are points is left out.
    """
    points = [values[found.used] for values in (found.train, found.test, found.accuracy)]
    middle = found.exchange.train_flops, found.exchange.test_flops
    rates = {}
    for law in PLANES:
        with suppress(ValueError):
            rates[law] = exchange_rate(fit_joint(law, *points, bootstrap=0), *middle).rate
    return rates


def exchange_text(by_law: Mapping[str, float], measured: float) -> str:
    """Return the worth of ten times the training as two lines; a range if laws disagree.

    measured: the largest test compute over the smallest; a rate beyond it is not known.

    >>> exchange_text({"a": 20.0, "b": 3000.0}, 900.0).splitlines()[1]
    '20× to more than 900× the inference, by law'
    """
    rates = list(by_law.values())
    low, high = (f"{x:,.2g}×" if x < 100 else f"{x:,.0f}×" for x in (min(rates), max(rates)))
    most = f"more than {measured:,.0f}×"
    worth = "10× the training is worth"
    if len(rates) == 1:
        low = low if rates[0] < measured else most
        return f"{worth} {low} the inference\nby one law, which no other checks"
    if min(rates) >= measured:
        return f"{worth}\n{most} the inference, by each of {len(rates)} laws"
    high = most if max(rates) >= measured else high
    return f"no robust exchange rate: {worth}\n{low} to {high} the inference, by law"


def draw_plane(ax, found: Plane, unit: str = "flops"):
    """Draw measured accuracies, open where not fitted, and lines of equal accuracy; return them.

    Labels lie a step apart in height, so that those of steep lines do not cover each other.
    """
    from matplotlib import patheffects

    train, test, accuracy, used = found.train, found.test, found.accuracy, found.used
    colors = {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0, "zorder": 3}
    points = ax.scatter(train[used], test[used], c=accuracy[used], s=16, lw=0, **colors)
    edges = points.to_rgba(accuracy[~used])
    ax.scatter(train[~used], test[~used], s=9, lw=0.7, facecolors="none", edgecolors=edges)
    grid = plots.settled(np.geomspace(train.min(), train.max(), 400))  # steep lines need many
    bottom, top = test.min() / 1.6, test.max() * 1.6
    ax.set(xscale="log", yscale="log", ylim=(bottom, top))
    heights = iter(np.linspace(0.9, 0.1, len(ISO)))
    for level in ISO:
        line = iso_line(found.fitted, level, grid)
        inside = (line.test_flops > bottom) & (line.test_flops < top)
        if inside.sum() < 2:
            continue
        clipped = plots.settled(line.test_flops).clip(bottom, top)  # a steep line ends at the frame
        ends = np.convolve(inside, [1, 1, 1], "same") > 0
        ax.plot(grid[ends], clipped[ends], color="0.25", lw=0.9, zorder=2)
        band = (plots.settled(values).clip(bottom, top) for values in (line.low, line.high))
        ax.fill_between(grid, *band, color="0.25", alpha=0.12, lw=0)
        low, high = np.log(clipped[inside].min()), np.log(clipped[inside].max())
        height = np.exp(low + next(heights) * (high - low))
        at = np.flatnonzero(inside)[abs(np.log(clipped[inside] / height)).argmin()]
        halo = [patheffects.withStroke(linewidth=1.6, foreground="white")]
        where = {"ha": "center", "va": "center", "fontsize": 6, "zorder": 4}
        ax.text(grid[at], clipped[at], f"{level:.0%}", path_effects=halo, **where)
    ax.set(xlabel="train FLOPs", ylabel=plots.UNIT_LABELS[unit])
    return points


def plane(
    runs: Runs, level: str = "all", unit: str | None = None, selector: str | None = None
) -> plots.Drawn | None:
    """Iso-accuracy lines over train and test compute, and the worth of ten times the training."""
    planes = {}
    for task in runs.sampled_tasks:
        trained = runs.select(task, "best_of_n").trained
        axis, chosen = unit or trained.cost_unit, selector or HEADLINE.get(task, "coverage")
        if trained:
            try:
                found = plane_fit(runs, task, chosen, level, unit=axis)
            except ValueError as reason:  # a frontier of fewer points than the law has parameters
                warnings.warn(f"plane: {task} is left out: {reason}", stacklevel=2)
                continue
            planes[task] = found, chosen, axis, len(trained[0].rows(level))
    if not planes:
        return None
    fig, axes = plots.figure(1, len(planes), height=2.9)
    facts, tables = {}, []
    for ax, (task, (found, chosen, axis, n)) in zip(axes[0], planes.items(), strict=True):
        points = draw_plane(ax, found, axis)
        rates = exchange_rates(found)
        text = exchange_text(rates, found.test.max() / found.test.min())
        ax.set_title(f"{task}, {selector_name(chosen)} ($n$={n}); lines: logit plane\n{text}")
        facts[task] = summary(found.fitted) | {"exchange": asdict(found.exchange)}
        facts[task]["exchange_by_law"] = rates
        tables.append(found.frame.assign(panel=task, unit=axis))
    bar = fig.colorbar(points, ax=axes[0].tolist(), pad=0.01)
    bar.set_label("measured accuracy")
    kinds = (("on the frontier: fitted", "0.25"), ("worse than another size: left out", "none"))
    for label, face in kinds:
        axes[0][0].scatter([], [], s=14, lw=0.7, facecolors=face, edgecolors="0.25", label=label)
    plots.legend_below(fig, axes[0][:1])
    return plots.Drawn(fig, facts, pd.concat(tables))

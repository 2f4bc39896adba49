"""A joint law over train and test compute, fitted to the frontier of a ladder; what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.fits.joint import Exchange, exchange_rate, fit_joint
from scaling.records import Curve, Fit
from scaling.runs import Run, Runs

PLANES = ("plane_logit", "plane_loglog", "additive")  #: joint laws that an exchange rate must share


def train_curve(study: Runs, pools: Sequence[Run], selector: str, k: int, level: str) -> Curve:
    """Return accuracy at k samples against training compute, over the checkpoints of one size."""
    curves = [study.curve(pool, selector, "samples", level) for pool in pools]
    budgets = pools[0].budgets()
    if k not in budgets:
        raise ValueError(f"no curve has a point at {k} samples; allowed: {budgets.tolist()}")
    at = int(np.flatnonzero(budgets == k)[0])
    columns = {
        name: np.array([getattr(c, name)[at] for c in curves]) for name in ("y", "low", "high")
    }
    return Curve(
        x=np.array([pool.card.train_flops for pool in pools]),
        **columns,
        replicates=np.stack([c.replicates[:, at] for c in curves], axis=1),
        x_unit="flops",
        estimator=f"{selector} at {k}",
        n_problems=curves[0].n_problems,
        n_missing=sum(c.n_missing for c in curves),
        label=pools[0].size_name,
    )


@dataclass(frozen=True)
class Plane:
    """A joint law over (train, test) FLOPs, and the points of the ladder it was fitted to."""

    fitted: Fit
    exchange: Exchange  #: at the geometric middle of the fitted points
    train: np.ndarray  #: (points,)
    test: np.ndarray  #: (points,)
    accuracy: np.ndarray  #: (points,)
    used: np.ndarray  #: (points,) bool: on the frontier


def joint_points(
    study: Runs, task: str, selector: str, level: str = "all", unit: str = "flops"
) -> tuple[np.ndarray, ...]:
    """Return (train, test, accuracy, replicates (R, points), n_params) of checkpoints and budgets.

    unit: of test; "samples" for laws of samples.
    """
    pools = study.select(task, "best_of_n").trained
    if not pools:
        raise ValueError(f"no model on {task} has known train FLOPs: there is no training axis")
    curves = [study.curve(pool, selector, unit, level) for pool in pools]
    cards = [p.card for p, c in zip(pools, curves, strict=True) for _ in c.x]
    train, size = np.array([(card.train_flops, float(card.n_params)) for card in cards]).T
    test, accuracy = (np.concatenate([getattr(c, name) for c in curves]) for name in ("x", "y"))
    return train, test, accuracy, np.concatenate([c.replicates for c in curves], axis=1), size


def plane_fit(
    study: Runs,
    task: str,
    selector: str,
    level: str = "all",
    law: str = "plane_logit",
    frontier: bool = True,
) -> Plane:
    """Return a joint law of the frontier: what the best model size reaches at each pair of budgets.

    A point that another reaches or beats with no more of either compute says that its size was the
    wrong one for its budget, and is left out; `frontier=False` keeps all. Intervals are of problems
    resampled, given this law and these points: they hold neither choice.
    """
    train, test, accuracy, replicates, _ = joint_points(study, task, selector, level)
    cheaper = (train[:, None] <= train * 1.01) & (test[:, None] <= test)
    used = np.asarray(~(cheaper & (accuracy[:, None] > accuracy)).any(axis=0) | (not frontier))
    fitted = fit_joint(law, train[used], test[used], accuracy[used], replicates=replicates[:, used])
    middle = (float(np.exp(np.log(axis[used]).mean())) for axis in (train, test))
    return Plane(fitted, exchange_rate(fitted, *middle), train, test, accuracy, used)


def summary(fitted: Fit) -> dict[str, Any]:
    """Return a fit as a sidecar keeps it."""
    kept = ("law", "params", "interval", "success", "message", "rmse", "n_points", "n_failed")
    return {name: getattr(fitted, name) for name in kept}


def exchange_rates(found: Plane) -> dict[str, float]:
    """Return what ten times the training is worth in test FLOPs, by each law of `PLANES`.

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
    """Return what ten times the training is worth, as two lines; a range where laws disagree.

    measured: the largest test FLOPs over the smallest; a rate beyond them is not known.

    >>> exchange_text({"a": 20.0, "b": 3000.0}, 900.0).splitlines()[1]
    '20× to more than 900× the inference, by law'
    """
    rates = list(by_law.values())
    low, high = (f"{x:,.2g}×" if x < 100 else f"{x:,.0f}×" for x in (min(rates), max(rates)))
    most = f"more than {measured:,.0f}×"
    if len(rates) == 1:
        worth = low if rates[0] < measured else most
        return f"10× the training is worth {worth} the inference\nby one law, which no other checks"
    if min(rates) >= measured:
        return f"10× the training is worth\n{most} the inference, by each of {len(rates)} laws"
    high = most if max(rates) >= measured else high
    return (
        f"no robust exchange rate: 10× the training is worth\n{low} to {high} the inference, by law"
    )

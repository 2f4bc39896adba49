"""One law fitted to the curves of many runs: the table that the verb `fit` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.curves import Curve, Fit
from scaling.fits.fitting import fit
from scaling.fits.laws import LAWS, Law
from scaling.records import look_up
from scaling.runs import Run
from scaling.runs.tables import unfinished


def fit_table(
    runs: Sequence[Run],
    law: str,
    selector: str = "coverage",
    unit: str = "samples",
    level: str = "all",
    task: str = "",
) -> pd.DataFrame:
    """Return one row per best-of-N run: formula, parameters with 95 % intervals, error, success.

    A run that cannot be fitted keeps its row, with the reason as its message; `attrs["left_out"]`
    has lines on runs of other methods, tasks or levels. Errors: ValueError for an unknown name, and
    where no run can be fitted.
    """
    chosen = curve_law(law)
    pools = [run for run in runs if run.method.exchangeable]
    if not pools:
        raise ValueError("there is no best-of-N run; laws are fitted to these only")
    if task:
        look_up({run.task: None for run in pools}, task, "task")
        pools = [run for run in pools if run.task == task]
    look_up({name: None for run in pools for name in ("all", *run.levels)}, level, "level")
    usable = [run for run in pools if level in ("all", *run.levels)]
    rows = [fitted_row(run, chosen, selector, unit, level) for run in usable]
    if not any(row["formula"] for row in rows):
        reasons = {row["message"]: row["run"] for row in rows}
        why = "; ".join(f"{message} ({run})" for message, run in reasons.items())
        raise ValueError(f"none of {len(rows)} runs could be fitted: {why}")
    table = pd.DataFrame(rows)
    table.attrs["left_out"] = [
        f"{count:,} of {len(runs):,} runs left out: {what}"
        for count, what in (
            (len(runs) - len(pools), "of other methods or tasks"),
            (len(pools) - len(usable), f"without level {level}"),
        )
        if count
    ]
    return table


def fitted_row(run: Run, law: Law, selector: str, unit: str, level: str) -> dict[str, Any]:
    """Return a run's fitted law with intervals, or the reason why there is none."""
    row = {"task": run.task, "model": run.card.name, "run": run.path.name, "problems": 0}
    numbers = law.numbers(np.full(len(law.params), np.nan))
    row |= dict.fromkeys(("formula", "rmse", *numbers), "")
    try:
        if gap := unfinished(run):
            raise ValueError(gap)
        curve = run.curve(selector, unit, level)
        row["problems"] = curve.n_problems
        found = fit_curve(law, curve)
    except ValueError as error:
        return row | {"success": False, "message": str(error)}
    for name, (value, low, high) in found.numbers.items():
        row[name] = f"{value:.3g} [{low:.3g}, {high:.3g}]"
    row |= {"formula": found.formula, "rmse": f"{found.rmse:.3g}"}
    return row | {"success": found.success, "message": found.message}


def curve_law(name: str) -> Law:
    """Return a law that can be fitted to a curve; laws of two axes need more than a curve."""
    return look_up({name: law for name, law in LAWS.items() if law.axes == 1}, name, "law")


def fit_curve(law: Law, curve: Curve, counts: tuple[Any, Any] | None = None) -> Fit:
    """Return a law fitted to a curve or, if it is a distribution over problems, to counts (n, c).

    Errors: ValueError where the data cannot determine the law: no sample was correct, every sample
    was, or the curve has no more points than the law has parameters.
    """
    y = curve.y[np.isfinite(curve.y)]
    if not y.any() or (y == 1).all():
        what = "every sample was right" if y.any() else "no sample was right"
        raise ValueError(f"{what}: there is nothing to fit {law.name} to")
    if law.density is not None and counts is not None:
        return fit(law, *counts)
    if len(y) <= len(law.params):
        raise ValueError(
            f"{law.name} has {len(law.params)} parameters and the curve {len(y)} points: draw more "
            "samples per problem, or fit a law with fewer parameters"
        )
    return fit(law, curve)

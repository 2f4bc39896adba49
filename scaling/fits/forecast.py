"""Which law to trust: fitted to small budgets, scored on larger ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from scaling.fits.fitting import fit
from scaling.fits.laws import LAWS, Law
from scaling.records import Curve, Fit, look_up

GRAIN = 1e-3  # a tenth of a point: a law below 1 never meets a measured 1 to the last digit
COLUMNS = ["x", "y", "predicted", "low", "high", "error", "covered"]
RESULTS = ["law", "curve", "median_error", "worst_error", "coverage", "width",
           "n_fitted", "n_held_out", "success", "message"]  # fmt: skip


#: decimals of scores that every processor gives
DECIMALS = {"median_error": 3, "worst_error": 3, "coverage": 2, "width": 2}


def printable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of scores with the digits that do not depend on the processor.

    Where a fit is not a success, some replicates have no optimum to arrive at, and rounding decides
    how far they come: its coverage has one decimal, its width one significant digit.
    """
    shown = table.round(DECIMALS)
    if "success" in shown:
        unsure = ~shown["success"].astype(bool)
        shown.loc[unsure, "coverage"] = table.loc[unsure, "coverage"].round(1)
        shown.loc[unsure, "width"] = [float(f"{v:.1g}") for v in table.loc[unsure, "width"]]
    return shown


def best_first(column: pd.Series) -> pd.Series:
    """Return what to sort a column of scores by: errors that print alike are ties."""
    return column.round(DECIMALS[column.name]) if column.name in DECIMALS else column


def forecast(
    law: str | Law, curve: Curve, share: float = 1 / 16, known: Curve | None = None,
    apart: bool = False,
) -> tuple[Fit, pd.DataFrame]:  # fmt: skip
    """Return `law` fitted to x <= share * largest x, and its score at every larger x.

    known: the curve that is fitted, where it was read from fewer samples than `curve` was; `apart`:
    and from other problems, see `score`. Rows: the measured y, the prediction with its 95 % band,
    error = predicted - y, and whether the band covers y within `GRAIN` (NaN without a band).
    ValueError when too few points remain to fit.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; give a number between 0 and 1, say 1/16")
    known, seen = known or curve, np.isfinite(curve.y)
    limit = share * curve.x[seen].max() * (1 + 1e-12)
    early = np.isfinite(known.y) & (known.x <= limit)
    parts = {k: getattr(known, k)[..., early] for k in ("x", "y", "low", "high", "replicates")}
    fitted, later = fit(law, replace(known, **parts)), seen & (curve.x > limit)
    noise = (curve.replicates - curve.y)[:, later] if apart else None
    return fitted, score(fitted, curve.x[later], curve.y[later], noise)


def score(
    fitted: Fit, x: np.ndarray | tuple[np.ndarray, ...], y: np.ndarray,
    noise: np.ndarray | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return a fit's error and interval coverage at points that it has not seen.

    Where y was measured on other problems than the fit's it has luck of its own: `noise`, its
    replicates less y, as many as the fit's, widens the band to what such a measurement would show.
    """
    predicted, (low, high) = fitted.predict(x), fitted.band(x)
    if noise is not None and not np.isnan(low).all():
        good = np.isfinite(fitted.replicates).all(-1)
        drawn = fitted.function(x, fitted.replicates[good]) + noise[good]
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    covered = np.where(np.isnan(low), np.nan, (low - GRAIN <= y) & (y <= high + GRAIN))
    at = x[0] if isinstance(x, tuple) else x
    columns = (at, y, predicted, low, high, predicted - y, covered)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def tournament(
    curves: Mapping[str, Curve | tuple[Curve, Curve]], laws: Iterable[str], share: float = 1 / 16,
    apart: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Return one row per law and curve: how its forecast beyond `share` of the budget turned out.

    A pair of curves is (what is fitted, what it is scored on), see `forecast`, also for `apart`.
    `median_error` and `worst_error` are absolute, in the unit of y; `coverage` is the share of
    held-out points inside the band. A law that cannot be fitted to a curve keeps its row, with NaN
    scores and the reason in `message`. Best law first.
    """
    rows = []
    laws = list(laws)
    for law in laws:  # a name that is wrong is an error, not a row that says so
        look_up(LAWS, law, "law")
    for name, given in curves.items():
        known, curve = given if isinstance(given, tuple) else (given, given)
        for law in laws:
            try:
                fitted, held = forecast(law, curve, share, known, apart)
            except ValueError as reason:
                rows.append((law, name, *[np.nan] * 4, 0, 0, False, str(reason)))
                continue
            error, width = held.error.abs(), held.high - held.low
            scores = error.median(), error.max(), held.covered.mean(), width.median()
            found = fitted.n_points, len(held), fitted.success, fitted.message
            rows.append((law, name, *scores, *found))
    table = pd.DataFrame(rows, columns=RESULTS)
    by = ["curve", "median_error"]
    return table.sort_values(by, kind="stable", ignore_index=True, key=best_first)

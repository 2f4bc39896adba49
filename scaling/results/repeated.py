"""How well is coverage at many samples forecast from few, on a checkpoint of the maze ladder?

Laws see the lower half of the logarithmic axis and are scored on the upper half. Sampling of a
problem stops once a few samples are right, so hard problems get most of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from scaling.curves import Curve, Fit, ends
from scaling.fits import fit, forecast, score
from scaling.fits.forecasts import COLUMNS, GRAIN, USEFUL, first_chains, suited_laws
from scaling.records import Plan
from scaling.results.table import Sampled, find, row
from scaling.runs import Run, Runs

MODEL = "maze/0.05M/3e12"
PATHS = Sampled(
    MODEL,
    "maze",
    ("2", "4", "6", "8"),
    100,
    Plan(chains=256, max_new_tokens=24, stop_after_correct=4),
)
SAMPLED = (PATHS,)
SEEN = 16  #: samples of each problem that laws are fitted to, half of the logarithmic axis
OF_LEVELS = "beta_binomial"  #: law that is fitted to each level
LAWS = (*suited_laws("coverage"), "log_line")  #: a mixture of levels can be nearly a line
LINE = "log_line from 4 samples"
REFITS = 200  #: of each law, behind its interval
Rows = Iterator[dict[str, Any]]


def line_of(curve: Curve) -> Fit:
    """Return the line in log k through a curve without its first two points.

    Coverage of problems of many difficulties is such a line only between the easiest and the
    hardest of them.
    """
    return fit("log_line", curve.x[2:], curve.y[2:], replicates=curve.replicates[:, 2:])


def forecasts_of(curve: Curve, k: np.ndarray, truth: np.ndarray) -> dict[str, pd.DataFrame]:
    """Return the score at later budgets k of each law that can be fitted to a curve."""
    found, later = {}, k.astype(float)
    for law in LAWS:
        with suppress(ValueError):  # more parameters than points
            found[law] = score(fit(law, curve), later, truth)
    return found | {LINE: score(line_of(curve), later, truth)}


def choose(curve: Curve, names: Sequence[str]) -> str:
    """Return which of some laws forecasts the later points of a curve best from its first three."""
    errors, alone = {}, replace(curve, replicates=curve.replicates[:0])
    for law in LAWS:
        with suppress(ValueError):  # more parameters than points
            _, scored = forecast(law, alone, curve.x[2] / curve.x[-1])
            errors[law] = scored["error"].abs().median()
    return min(names, key=lambda name: errors.get(name, np.inf))


def forecast_rows(case: str, scored: pd.DataFrame, n: int) -> Rows:
    """Yield error and calibration of forecasts at held-out budgets; n: curves or problems."""
    error = scored["error"].abs()
    yield row(case, "median error", float(error.median()), n=n)
    yield row(case, "worst error", float(error.max()), n=n)
    inside = float(scored["covered"].mean())
    yield row(case, "held-out points inside the interval", inside, n=len(scored))


def rows(runs: Runs) -> Rows:
    """Yield coverage, its cost, and the score of each law, of the law chosen, and of the levels."""
    run, found = find(runs, PATHS), dict[str, list[pd.DataFrame]]()
    for level in (*run.level_names, "all"):
        curve, spent = run.curve(level=level), run.curve(level=level, unit="flops").x
        for i in range(0, len(curve.x), 4):
            yield row(level, f"coverage at {curve.x[i]:g} samples", float(curve.y[i]),
                      float(curve.low[i]), float(curve.high[i]), curve.n_problems)  # fmt: skip
        yield row(level, "decades of test FLOPs", float(np.log10(spent[-1] / spent[0])))
        early = first_chains(run, SEEN).curve(level=level, replicates=REFITS)
        later = curve.x > SEEN
        if not USEFUL[0] < early.y[0] < USEFUL[1]:
            continue
        scores = forecasts_of(early, curve.x[later], curve.y[later])
        scores["law chosen"] = scores[chosen := choose(early, list(scores))]
        yield row(level, f"law chosen: {chosen}", 1)
        for name, scored in scores.items():
            yield from forecast_rows(f"{level}: {name}", scored, curve.n_problems)
            if level != "all":
                found.setdefault(name, []).append(scored)
    for name, tables in found.items():
        yield from forecast_rows(f"each level: {name}", pd.concat(tables), len(tables))
    yield from forecast_rows(
        f"all: mean over levels of {OF_LEVELS}", mean_forecast(run, SEEN), len(run.problems)
    )


def mean_forecast(run: Run, seen: int, replicates: int = REFITS) -> pd.DataFrame:
    """Return the score of the mean of the forecasts of each level, fitted to `seen` samples.

    A mixture of levels has a shape of its own, which no law of a single curve has; the levels have
    the law's. Levels are independent, so their replicates are averaged as they come.
    """
    whole, early = run.curve(), first_chains(run, seen)
    later = whole.x > seen
    x, share = whole.x[later], np.array([len(run.rows(name)) for name in run.level_names])
    curves = [
        early.curve(level=level, replicates=replicates, seed=seed)
        for seed, level in enumerate(run.level_names)
    ]
    fits = [fit(OF_LEVELS, curve) for curve in curves]
    predicted = np.average([found.predict(x) for found in fits], 0, share)
    least = min(len(found.refits) for found in fits)  #: a few replicates may have failed
    drawn = np.average([found.function(x, found.refits[:least]) for found in fits], 0, share)
    low, high = ends(drawn)
    y = whole.y[later]
    inside = ((low - GRAIN <= y) & (y <= high + GRAIN)).astype(float)
    return pd.DataFrame(dict(zip(COLUMNS, (x, y, predicted, low, high, predicted - y, inside),
                                 strict=True)))  # fmt: skip

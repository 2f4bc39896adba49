"""Accuracy against budget, as a curve with its interval."""

from __future__ import annotations

import numpy as np

from scaling.intervals import REPLICATES, mean_interval
from scaling.records import Curve
from scaling.runs.run import Cluster, Run


def curve(
    run: Run,
    selector: str = "coverage",
    unit: str = "samples",
    level: str = "all",
    k: np.ndarray | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    shared_prompt: bool = True,
    cluster: Cluster | None = None,
) -> Curve:
    """Return accuracy against budget with its interval over problems and samples.

    x is the mean cost per problem in `unit`. Problems without a sample are left out and counted in
    `n_missing`. With `cluster` whole families are resampled.
    """
    rows, k = run.rows(level), run.budgets() if k is None else np.asarray(k)
    family = run.families(cluster, rows)
    found = mean_interval(run.values(selector, k)[rows], replicates, seed, family)
    return Curve(
        x=run.cost(unit, k, shared_prompt=shared_prompt, selector=selector)[rows].mean(axis=0),
        y=found.value,
        low=found.low,
        high=found.high,
        replicates=found.replicates,
        x_unit=unit,
        estimator=f"{run.label} {selector}",
        n_problems=int(run.drawn[rows].sum()),
        n_missing=len(run.levels.get(level, run.drawn)) - int(run.drawn[rows].sum()),
        label=run.card.name,
    )

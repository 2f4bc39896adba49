"""One `Run`, many `Runs`, their curves and tables: what the reading side starts from. No torch."""

from __future__ import annotations

from scaling.runs.collection import Runs
from scaling.runs.costs import cost_until_right
from scaling.runs.curves import curve
from scaling.runs.loading import load_run, load_runs
from scaling.runs.run import PRICES, UNITS, Cluster, Run, doublings
from scaling.runs.selection import SEARCHES, SELECTORS, WEIGHTED
from scaling.runs.tables import COLUMNS, accuracy_table

__all__ = [
    "COLUMNS",
    "PRICES",
    "SEARCHES",
    "SELECTORS",
    "UNITS",
    "WEIGHTED",
    "Cluster",
    "Run",
    "Runs",
    "accuracy_table",
    "cost_until_right",
    "curve",
    "doublings",
    "load_run",
    "load_runs",
]

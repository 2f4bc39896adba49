"""`Run` and `Runs`, their curves and tables: the start of the reading side. No torch."""

from __future__ import annotations

from scaling.runs.arrays import Cluster
from scaling.runs.collection import Runs
from scaling.runs.costs import PRICES, UNITS
from scaling.runs.run import Run, load_run
from scaling.runs.selection import WEIGHTED, doublings
from scaling.runs.tables import COLUMNS, accuracy_table

__all__ = [
    "COLUMNS",
    "PRICES",
    "UNITS",
    "WEIGHTED",
    "Cluster",
    "Run",
    "Runs",
    "accuracy_table",
    "doublings",
    "load_run",
]

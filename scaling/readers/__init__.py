"""Other people's samples as one tidy table: a row per sample; what a file lacks stays empty.

`read_samples(path, format)` returns the table and the list of what was left out, by line or entry
and with the reason. Nothing is graded here: the verdicts are the tools' own, and a sample without
one keeps its row with `correct` NaN.
"""

from __future__ import annotations

from scaling.readers.formats import FORMATS
from scaling.readers.samples import (
    COLUMNS,
    MOST_LEFT_OUT,
    counts,
    read_samples,
    reasons,
    refuse_incomplete,
)

__all__ = [
    "COLUMNS",
    "FORMATS",
    "MOST_LEFT_OUT",
    "counts",
    "read_samples",
    "reasons",
    "refuse_incomplete",
]

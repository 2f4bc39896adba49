"""Other people's samples as one table: a row per sample; what a file does not hold stays empty.

Nothing is graded here: the verdicts are the tools' own, and a sample without one keeps its row with
`correct` NaN.
"""

from __future__ import annotations

from scaling.readers.formats import FORMATS, detect_format
from scaling.readers.samples import COLUMNS, counts, read_samples, reasons, refuse_incomplete

__all__ = [
    "COLUMNS",
    "FORMATS",
    "counts",
    "detect_format",
    "read_samples",
    "reasons",
    "refuse_incomplete",
]

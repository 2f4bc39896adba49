"""Parse one cell of another tool's file: a verdict, a number, a whole number, or an empty cell."""

from __future__ import annotations

import math
from typing import Any

WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  #: of inspect_ai, in this case only
RIGHT = ("yes", "true", "pass", "passed", "correct", "right", "success")
WRONG = ("no", "false", "fail", "failed", "incorrect", "wrong", "failure", "timed out", "timeout")
WORDS_ANY_CASE = dict.fromkeys(RIGHT, 1.0) | dict.fromkeys(WRONG, 0.0)
EMPTY = ("", "nan", "na", "n/a", "none", "null", "<na>")  #: how tables write a missing value


class Note(str):
    """A line that a reader yields instead of a record; it is printed with the result."""


def number(value: Any) -> float:
    """Return a verdict or another number as a float; NaN for anything else.

    Values are read as inspect_ai reads them: C and I, P (0.5), N (0, no answer), yes, no, true,
    false, numbers, and text that holds a number; also the words in `RIGHT` and `WRONG`, which a
    reason may follow ("failed: AssertionError").
    """
    if isinstance(value, str):
        word = value.strip()
        value = WORDS.get(word, WORDS_ANY_CASE.get(word.partition(":")[0].lower(), word))
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def verdict(value: Any) -> float:
    """Return 1 (right), 0 (wrong), or NaN for anything else."""
    if value is True or value is False:  # most values; the rest takes five times as long
        return float(value)
    found = number(value)
    return found if found in (0.0, 1.0) else math.nan


def no_verdict(value: Any) -> str:
    """Return why a value is not a verdict."""
    if is_empty(value):
        return "there is no value"
    if number(value) == 0.5:
        return "partial credit (0.5)"
    if not math.isnan(number(value)):
        return "a number other than 0 and 1"
    return f"the value is neither right nor wrong: {str(value)[:40]!r}"


def is_empty(value: Any) -> bool:
    """Return whether a cell is empty: None, NaN, or a word that tables write for it."""
    return value is None or str(value).strip().lower() in EMPTY


def whole_number(value: Any, name: str, least: int = 0) -> int:
    """Return a whole number, also written 64.0 or "64"; ValueError for anything else."""
    found = math.nan if isinstance(value, bool) else number(value)
    if not (least <= found < 2**62 and found == int(found)):
        raise ValueError(f"{name} is {value!r}; give a whole number of at least {least}")
    return int(found)

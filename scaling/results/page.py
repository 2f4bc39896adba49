"""Write a text whose numbers come from the table of results: no number is typed by hand.

The text is a jinja template. `number(result, case, quantity)` is a row of the table, `require`
stops the writing where a stated result does not hold:

    A search gains {{ number("thinking_pays", "0.11M/3e12, 8", "gain over coverage").points }}.
    {{ require(number("thinking_pays", "0.11M/3e12, 8", "gain over coverage").low > 0.2) }}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from scaling.records import nearest_name


@dataclass(frozen=True)
class Number:
    """A row of the table, and the ways to print it."""

    value: float
    low: float  #: of the 95 % interval; NaN where there is none
    high: float
    n: float

    def _printed(self, form: str, scale: float = 1.0) -> str:
        parts = [f"{scale * value:{form}}" for value in (self.value, self.low, self.high)]
        return parts[0] if np.isnan(self.low) else f"{parts[0]} [{parts[1]}, {parts[2]}]"

    @property
    def share(self) -> str:
        """Return 0.634 [0.601, 0.667]."""
        return self._printed(".3f")

    @property
    def points(self) -> str:
        """Return a difference of shares in percentage points: +63.4 [+60.1, +66.7]."""
        return self._printed("+.1f", 100)

    @property
    def digits(self) -> str:
        """Return three significant digits: 1.23e+13 [1.1e+13, 1.4e+13]."""
        return self._printed(".3g")

    @property
    def count(self) -> str:
        """Return a whole number."""
        return f"{self.value:,.0f}"


def render(template: Path, table: pd.DataFrame) -> str:
    """Return a template's text with its numbers.

    Errors: ValueError for a number that the table does not hold once, and for a requirement that
    does not hold, with the line of the template.
    """
    keyed = table.assign(key=table["result"] + " | " + table["case"] + " | " + table["quantity"])
    found = {str(key): rows for key, rows in keyed.groupby("key")}

    def number(result: str, case: str, quantity: str) -> Number:
        key = f"{result} | {case} | {quantity}"
        if key not in found:
            near = nearest_name(key, list(found))
            raise ValueError(f"{template} asks for {key!r}; did you mean {near!r}?")
        if len(found[key]) > 1:
            raise ValueError(f"{template} asks for {key!r}, of which there are {len(found[key])}")
        first = found[key].iloc[0]
        return Number(*(float(first[name]) for name in ("value", "low", "high", "n")))

    def require(holds: bool) -> str:
        if not holds:
            raise ValueError(f"{template} states what the table does not show")
        return ""

    undefined = jinja2.StrictUndefined
    environment = jinja2.Environment(undefined=undefined, keep_trailing_newline=True)
    try:
        made = environment.from_string(template.read_text(encoding="utf-8"))
        return made.render(number=number, require=require)
    except jinja2.TemplateError as error:
        raise ValueError(f"{template}: {error}") from error

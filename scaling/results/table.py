"""The table of results: one row per number that the study states, and the runs behind them.

A result is a module with `SAMPLED`, the runs that it is read from, and `rows`, which reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scaling.curves import Curve
from scaling.intervals import Estimate
from scaling.records import Plan
from scaling.runs import Run, Runs

COLUMNS = ["result", "case", "quantity", "value", "low", "high", "n"]


@dataclass(frozen=True)
class Sampled:
    """A run of the study."""

    model: str  #: name of the checkpoint, as in its card: maze/0.11M/1e13
    task: str
    levels: tuple[str, ...]
    problems: int  #: of each level
    plan: Plan
    text: bool = False  #: whether the committed run keeps its texts


def find(runs: Iterable[Run], wanted: Sampled) -> Run:
    """Return a run of the study among others. Errors: ValueError if it was not sampled."""
    for run in runs:
        same = run.card.name, run.task, run.plan, tuple(run.level_names)
        if same == (wanted.model, wanted.task, wanted.plan, wanted.levels):
            return run
    raise ValueError(
        f"no run of {wanted.model} on {wanted.task} by {wanted.plan.method} with "
        f"{wanted.plan.chains} chains; sample the study first: scaling study"
    )


def row(
    case: str, quantity: str, value: Any, low: Any = None, high: Any = None, n: int | None = None
) -> dict[str, Any]:
    """Return one number of a result; low and high: its 95 % interval; n: problems behind it."""
    return dict(zip(COLUMNS[1:], (case, quantity, value, low, high, n), strict=True))


def estimate_row(case: str, quantity: str, found: Estimate) -> dict[str, Any]:
    """Return a mean over problems as a row."""
    value, low, high = (float(end) for end in (found.value, found.low, found.high))
    return row(case, quantity, value, low, high, found.problems)


def curve_row(case: str, quantity: str, curve: Curve, at: int) -> dict[str, Any]:
    """Return one point of a curve as a row."""
    return row(case, quantity, curve.y[at], curve.low[at], curve.high[at], curve.n_problems)


def results_table(runs: Runs, modules: Sequence[Any]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the rows of some results, see `COLUMNS`, and why others are not complete, by name.

    The table says so too, in a row without a value.
    """
    rows, left_out = list[dict[str, Any]](), dict[str, str]()
    for module in modules:
        name = module.__name__.rpartition(".")[2]
        try:
            for found in module.rows(runs):
                rows.append({"result": name} | found)
        except (ValueError, FileNotFoundError) as reason:
            left_out[name] = str(reason)
            rows.append({"result": name} | row("not complete", str(reason), float("nan")))
    return pd.DataFrame(rows, columns=COLUMNS), left_out

"""The figures by name: `FIGURES` lists them, `draw_all` draws and saves them, with choices."""

from __future__ import annotations

import io
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.figures import plots
from scaling.figures.curves import coverage, methods, policy, search, two_panels
from scaling.figures.plane import plane
from scaling.figures.thinking import o1_two_panels
from scaling.records import look_up, nearest_name
from scaling.runs import Runs
from scaling.store.files import refuse_foreign

FIGURES: dict[str, Callable[..., plots.Drawn | None]] = {
    "coverage": coverage,
    "methods": methods,
    "two_panels": two_panels,
    "plane": plane,
    "policy": policy,
    "search": search,
    "o1_two_panels": o1_two_panels,
}


# ---------------------------------------------------------------- figures with choices
@dataclass(frozen=True)
class Drawing:
    """A drawn figure with its table, the facts that its sidecar keeps, and the runs behind it."""

    name: str
    figure: Any  #: of matplotlib
    facts: dict[str, Any]  #: fitted numbers and claims
    frame: pd.DataFrame = field(repr=False)  #: one row per point drawn
    runs: Runs
    redraw: str  #: the command that draws it again

    def __repr__(self) -> str:
        return f"Drawing({self.name}, of {len(self.runs)} runs)"

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as data:
            self.figure.savefig(data, format="png")
            return data.getvalue()

    def save(self, folder: str | Path, force: bool = False) -> list[Path]:
        """Write the figure as PDF, SVG and PNG with its sidecar; return the files."""
        runs = self.runs.complete
        return plots.save(
            self.figure, self.name, folder, runs, self.facts, self.redraw, force=force
        )


def choices_of(name: str) -> list[str]:
    """Return the choices that a figure takes; task and models are taken by all.

    >>> choices_of("two_panels")
    ['task', 'models', 'level', 'unit', 'selector']
    """
    return ["task", "models", *list(signature(look_up(FIGURES, name, "figure")).parameters)[1:]]


def _refuse(name: str, choices: Mapping[str, Any]) -> None:
    """Raise ValueError for a choice that a figure does not take; None is no choice."""
    takes = choices_of(name)
    for choice in [key for key, value in choices.items() if value is not None and key not in takes]:
        others = [other for other in FIGURES if choice in choices_of(other)]
        known = f"it is taken by {', '.join(others)}"
        near = f"did you mean {nearest_name(choice, takes)!r}?"
        raise ValueError(
            f"the figure {name} takes no choice {choice!r}; allowed: {', '.join(takes)}; "
            + (known if others else near)
        )


def select_runs(
    runs: Runs, task: str | None, models: Sequence[str] | None, level: str | None
) -> Runs:
    """Return the runs of a task, of models and with a level; None takes all.

    models: names, or sizes as legends name them, such as "0.1 M". A task that lacks the level is
    left out with a warning. Errors: ValueError naming the nearest valid name.
    """
    if task is not None:
        look_up(dict.fromkeys(runs.tasks), task, "task")
        runs = Runs(run for run in runs if run.task == task)
    if models is not None:
        models = [models] if isinstance(models, str) else models
        names = {
            run: {run.card.name, run.size_name, run.size_name.replace(" ", "")} for run in runs
        }
        known = dict.fromkeys(name for run in runs for name in sorted(names[run]))
        for model in models:
            look_up(known, model, "model")
        runs = Runs(run for run in runs if names[run] & set(models))
    if level not in (None, "all"):
        look_up(
            dict.fromkeys(name for run in runs for name in ("all", *run.levels)), level, "level"
        )
        having = Runs(run for run in runs if level in run.levels)
        if left_out := [task for task in runs.tasks if task not in having.tasks]:
            warnings.warn(f"{', '.join(left_out)} left out: no level {level!r}", stacklevel=3)
        runs = having
    return runs


def _draw(runs: Runs, name: str, choices: Mapping[str, Any]) -> Drawing | None:
    """Return a figure drawn from the chosen runs; None if it lacks its runs."""
    given = {key: value for key, value in choices.items() if value is not None}
    runs = select_runs(runs, *(given.get(key) for key in ("task", "models", "level")))
    own = {key: value for key, value in given.items() if key not in ("task", "models")}
    if not runs.sampled_tasks:
        raise ValueError("no complete best-of-N run among the runs: every figure starts from one")
    with plots.style():
        drawn = FIGURES[name](runs, **own)
    if drawn is None:
        return None
    plots.close(drawn.figure)
    words = {key: [value] if isinstance(value, str) else value for key, value in given.items()}
    options = [f"--{key} {shlex.join(value)}" for key, value in words.items()]
    redraw = " ".join([plots.REDRAW, *([name, *options] if options else [])])
    return Drawing(name, *drawn, runs, redraw)


def figure_of(runs: Runs, name: str, **choices: Any) -> Drawing:
    """Return a figure drawn from runs, with choices: task, models, level, unit, selector.

    Errors: ValueError for a choice that the figure does not take, or if it lacks its runs.
    """
    _refuse(name, choices)
    if drawing := _draw(runs, name, choices):
        return drawing
    shows = (FIGURES[name].__doc__ or "").partition("\n")[0]
    raise ValueError(f"the figure {name} needs runs that are not here; it shows: {shows}")


def draw_all(
    runs: Runs,
    folder: Path,
    names: Sequence[str] = tuple(FIGURES),
    force: bool = False,
    **choices: Any,
) -> list[Path]:
    """Draw and save figures by name, with choices as in `figure_of`; return the files written.

    A figure that lacks its runs is left out. Errors: ValueError, with nothing drawn, for a choice
    that one of the figures does not take, and where files of others are in the way.
    """
    for name in names:
        _refuse(name, choices)
    refuse_foreign([path for name in names for path in plots.paths_of(name, folder)], force)
    drawings = (_draw(runs, name, choices) for name in names)
    return [path for drawn in drawings if drawn for path in drawn.save(folder, force)]

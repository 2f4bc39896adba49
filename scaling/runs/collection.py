"""A collection of runs, selected by task, method and model, with cached curves."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from scaling.curves import Curve, onward
from scaling.methods.table import labels
from scaling.records import look_up
from scaling.runs.run import Run, load_run
from scaling.runs.tables import accuracy_table, unfinished

SHOWN = 20  #: rows of a printed table


class Runs(Sequence[Run]):
    """A sequence of runs. Slices and selections are `Runs` too; `.frame` has every accuracy.

    >>> runs = Runs.load("data/runs/revisers")
    >>> [run.label for run in runs.select("countdown", model=runs[0].card.name)]
    ['best_of_n', 'revision+verdict']
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = tuple(runs)

    @classmethod
    def load(cls, root: str | Path) -> Runs:
        """Return every run directly under a folder, sealed and open ones, by name.

        Errors: ValueError where there is none, or a file was changed: no run is skipped.

        >>> Runs.load("tests/data/runs").tasks
        ['sums']
        """
        root = Path(root)
        if not root.is_dir():
            raise ValueError(
                f"{root} is not a folder; give the one that holds the run folders (`make study` "
                "makes data/study/runs, data/runs holds the committed ones)"
            )
        if (root / "manifest.json").exists():
            raise ValueError(f"{root} is one run; give the folder of the runs, {root.parent}")
        runs = cls(load_run(path.parent) for path in sorted(root.glob("*/manifest.json")))
        if not runs:
            raise ValueError(f"no runs in {root}; `make study` samples some into data/study/runs")
        return runs

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> Runs: ...

    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __add__(self, more: Iterable[Run]) -> Runs:
        return Runs((*self, *more))

    # ------------------------------------------------------------ overview
    def overview(self) -> pd.DataFrame:
        """Return one row per run: its task, model, method and size, and pass@1 of the first step.

        pass@1 is NaN where every sample failed, and for searches, whose first step is no answer.
        """
        rows = [
            {
                "task": run.task,
                "model": run.card.name,
                "method": run.label,
                "chains": run.plan.chains,
                "steps": run.plan.steps,
                "problems": len(run.problems),
                "samples": run.n_samples,
                "pass@1": round(run.first_accuracy, 4),
            }
            for run in self
        ]
        return pd.DataFrame(rows)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Return accuracy per run, level, selector and budget: the columns of `accuracy.csv`."""
        return accuracy_table(self)

    def __repr__(self) -> str:
        """Return the table of the runs, at most its first `SHOWN` rows."""
        more = f"\n… and {len(self) - SHOWN} more" if len(self) > SHOWN else ""
        return f"{self._count}\n{self[:SHOWN].overview().to_string(na_rep='–')}{more}"

    def _repr_html_(self) -> str:
        more = f"<p>… and {len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return f"<p>{self._count}</p>{self[:SHOWN].overview().to_html(na_rep='–')}{more}"

    @property
    def _count(self) -> str:
        return "1 run" if len(self) == 1 else f"{len(self)} runs"

    @property
    def tasks(self) -> list[str]:
        """Return the tasks of all runs."""
        return sorted({run.task for run in self})

    @property
    def sampled_tasks(self) -> list[str]:
        """Return the tasks with complete best-of-N runs: every figure starts from these."""
        return sorted({run.task for run in self.complete if run.method.exchangeable})

    @cached_property
    def complete(self) -> Runs:
        """Return the runs that give every curve; a warning names each other run with the reason."""
        reasons = {run: left_out_because(run) for run in self}
        for run, why in reasons.items():
            if why:
                warnings.warn(f"{run.path} is left out: {why}", stacklevel=2)
        return Runs(run for run, why in reasons.items() if not why)

    # ------------------------------------------------------------ selections
    def select(
        self, task: str | None = None, method: str | None = None, model: str | None = None
    ) -> Runs:
        """Return the complete runs of a task, method and model, small and little-trained first.

        Of two revision runs of one model only the larger is kept, which holds the other. A known
        method without runs gives none. Errors: ValueError naming the nearest valid name.
        """
        for value, known, what in (
            (task, self.tasks, "task"),
            (method, (*labels(), *(run.label for run in self)), "method"),
            (model, (run.card.name for run in self), "model"),
        ):
            if value is not None:
                look_up(dict.fromkeys(known), value, what)
        found = [
            run
            for run in self.complete
            if task in (None, run.task)
            and method in (None, run.label)
            and model in (None, run.card.name)
        ]
        if method and found and found[0].method.grid:
            by_size = sorted(found, key=lambda run: run.correct.size)
            found = list({(run.task, run.card.name): run for run in by_size}.values())
        return Runs(sorted(found, key=_by_model))

    def baseline(self, run: Run) -> Run:
        """Return best-of-N of the same model on the same task; ValueError if there is none."""
        for found in self.select(run.task, "best_of_n"):
            if found.card == run.card:
                return found
        raise ValueError(f"no complete best-of-N run of {run.card.name} on {run.task}")

    def with_baseline(self, task: str, methods: Sequence[str]) -> Runs:
        """Return the runs of methods whose models have best-of-N of the same task too."""
        cards = [run.card for run in self.select(task, "best_of_n")]
        found = [run for method in methods for run in self.select(task, method)]
        return Runs(run for run in found if run.card in cards)

    def by_size(self, task: str) -> dict[str, Runs]:
        """Return best-of-N runs by model size, each from least to most training."""
        sizes: dict[str, list[Run]] = {}
        for run in self.select(task, "best_of_n"):
            sizes.setdefault(run.size_name, []).append(run)
        return {size: Runs(runs) for size, runs in sizes.items()}

    @property
    def trained(self) -> Runs:
        """Return the runs whose models have known training FLOPs."""
        return Runs(run for run in self if run.train_flops > 0)

    @property
    def cost_unit(self) -> str:
        """Return the finest unit in which the cost of every run is known."""
        if all(run.card.shape for run in self):
            return "flops"
        known = all(np.isfinite(run.costs["tokens"][1]).any() for run in self)
        return "tokens" if known else "samples"

    def closest(self, accuracy: float) -> Run:
        """Return the run whose accuracy with one sample is closest to `accuracy`."""
        return min(self, key=lambda run: abs(run.first_accuracy - accuracy))

    @cache  # noqa: B019 - runs live as long as the process that reads them
    def curve(self, run: Run, selector: str, unit: str, level: str) -> Curve:
        """Return a curve of one of the runs, cached."""
        return run.curve(selector, unit, level)

    # ------------------------------------------------------------ figures and reports
    def figure(self, name: str, **choices: Any) -> Any:
        """Return a figure of the gallery drawn from these runs: an object with `.save(folder)`.

        choices: task, level, models, unit, selector; a figure refuses what it does not take.
        """
        return onward("figures.gallery", "figure_of")(self, name, **choices)

    def report(self, out: str | Path, force: bool = False) -> list[Path]:
        """Write a report on the runs, HTML and LaTeX, into a folder; return the files written.

        It has a figure per run, every number with its interval, and a list of what a run lacks:
        samples of other tools may have no tokens, answers or texts. Errors: ValueError for an open
        run, for more than 12 runs, and if `out` holds files that the kit did not write.
        """
        paths: list[Path] = onward("report", "write")(self, Path(out), force)
        return paths


def _by_model(run: Run) -> tuple[float, float, str]:
    return run.card.n_params, run.train_flops, run.card.name


def left_out_because(run: Run) -> str:
    """Return why a run is left out of the figures; "" if it is not."""
    if run.plan.stop_after_correct or run.plan.stop_at_agreement:
        return "it stopped early, so that not every selector can be read"
    return unfinished(run)


def near_half(sizes: Mapping[str, Runs], ends: tuple[float, float]) -> dict[str, Run]:
    """Return each size's checkpoint with pass@1 closest to 50 %, if it lies within `ends`."""
    found = {size: runs.closest(0.5) for size, runs in sizes.items()}
    return {size: run for size, run in found.items() if ends[0] <= run.first_accuracy <= ends[1]}

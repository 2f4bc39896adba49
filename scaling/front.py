"""`load` and `sample`: the start of `import scaling as sc`, from a folder of runs or a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import Any

from scaling.records import Plan, look_up
from scaling.runs import Run, Runs


def load(folder: str | Path) -> Runs:
    """Return the runs in a folder, sealed and open ones.

    Errors: ValueError if the folder holds none, or a file was changed.

    >>> runs = load("data/runs")
    >>> runs.tasks
    ['countdown', 'sums']
    """
    return Runs.load(folder)


def sample(
    model: str | Path,
    task: Any,
    *,
    problems: int | str | Path = 100,
    levels: Sequence[str] | None = None,
    runs: str | Path = "data/study/runs",
    device: str = "auto",
    dtype: str | None = None,
    progress: bool = True,
    **plan: Any,
) -> Run:
    """Return a run of samples of a model on a task, drawn into `runs` or resumed there.

    model: a folder, a GGUF file, or a name on the hub. task: a name of the kit's tasks or of a
    benchmark, or a task object. problems: how many over all levels, or a benchmark file, of which
    all are drawn. plan: fields of `Plan`, such as chains=64, temperature=0.8. Needs torch.
    Errors: ValueError for a task, option or number that cannot be, and for what has no effect.

    >>> from tempfile import TemporaryDirectory
    >>> model, small = "data/models/ladder/0.1M/1e12", {"chains": 2, "progress": False}
    >>> with TemporaryDirectory() as folder:
    ...     run = sample(model, "sums", problems=3, levels=["2x9"], runs=folder, **small)
    >>> run.n_samples, run.correct.shape
    (6, (3, 2, 1))
    """
    from scaling.benchmarks import load_benchmark
    from scaling.models import load_lm
    from scaling.sampling import sample_run
    from scaling.tasks import TASKS, get_task

    known = {field.name: None for field in fields(Plan)}
    for name in plan:
        look_up(known, name, "option")
    path = problems if isinstance(problems, (str, Path)) else None
    if path is not None and (not isinstance(task, str) or task in TASKS):
        raise ValueError(
            f"problems is {str(problems)!r}; a file needs the name of a benchmark as task"
        )
    if path is None and (not isinstance(problems, Integral) or problems < 1):
        raise ValueError(f"problems is {problems!r}; give a whole number of at least 1, or a file")
    if levels and (path is not None or not isinstance(task, str)):
        raise ValueError("levels go with the name of a task that makes its problems")
    if isinstance(task, str):
        task = get_task(task, levels) if path is None else load_benchmark(task, path)
    lm = load_lm(str(model))
    chosen = task.problems(10**9 if path is not None else int(problems))
    return sample_run(
        lm, task, chosen, Plan(**plan), Path(runs), progress=progress, device=device, dtype=dtype
    )

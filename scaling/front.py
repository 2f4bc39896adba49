"""What `import scaling as sc` offers as functions: load, sample, read_samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from scaling.readers import read_samples as read_table
from scaling.records import Plan, look_up
from scaling.runs import Run, Runs
from scaling.runs.imported import from_table

SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".eval": "inspect"}  #: of which the format is known


def load(folder: str | Path) -> Runs:
    """Return the runs in a folder, sealed and open ones.

    Errors: ValueError where the folder holds none, or a file was changed.

    >>> runs = load("data/runs")
    >>> runs.tasks
    ['countdown', 'sums']
    """
    return Runs.load(folder)


def read_samples(
    path: str | Path,
    format: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    metric: str | None = None,
    filter: str | None = None,
    model: str | None = None,
) -> Run:
    """Return samples that another tool drew as a run: curves, laws and figures work on it.

    format: a name in `scaling.readers.FORMATS`, by default told by the suffix (.csv, .jsonl,
    .eval). columns: our name -> the file's, such as {"problem": "id", "correct": "label"}. metric,
    filter, model: which of several the file holds. What was left out is in `run.manifest["notes"]`
    and `run.n_missing`. Errors: ValueError for a file that cannot be read, or holds several models.
    """
    path = Path(path)
    if format is None:
        format = look_up(SUFFIXES, path.suffix.lower(), "suffix of a file without format=")
    table, rejected = read_table(
        path, format, metric=metric, filter=filter, model=model, columns=columns
    )
    run = from_table(table, path, model or "")
    run.manifest["notes"] = [*table.attrs["notes"], *(f"{at}: {why}" for at, why in rejected)]
    return run


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
    """Return a run of samples of a model on a task, drawn into `runs` and resumed if it is there.

    model: a folder, a GGUF file, or a name on the hub. task: a name of the kit's tasks or of a
    benchmark, or a task object. problems: how many, or the file of a benchmark. plan: fields of
    `Plan`, such as chains=64, temperature=0.8. Needs torch.
    """
    from scaling.benchmarks import load_benchmark
    from scaling.models import load_lm
    from scaling.study import sample_run
    from scaling.tasks import TASKS, get_task

    known = {field.name: None for field in fields(Plan)}
    for name in plan:
        look_up(known, name, "option")
    count = problems if isinstance(problems, int) else 10**9
    if isinstance(task, str) and isinstance(problems, (str, Path)) and task not in TASKS:
        task = load_benchmark(task, problems)
    elif isinstance(task, str):
        task = get_task(task, levels)
    lm = load_lm(str(model))
    chosen, asked = task.problems(count), Plan(**plan)
    return sample_run(
        lm, task, chosen, asked, Path(runs), progress=progress, device=device, dtype=dtype
    )

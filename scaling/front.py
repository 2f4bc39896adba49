"""What `import scaling as sc` offers as functions: load, sample, read_samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import Any

from scaling.readers import counts, refuse_incomplete
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

    format: a name in `scaling.readers.FORMATS`; by default it follows from the suffix (.csv,
    .jsonl, .eval). columns: maps our names to those of the file, such as {"problem": "id",
    "correct": "label"}; others are chain, answer, score, completion_tokens, model and level. A vote
    needs `answer`, and costs need `completion_tokens`. metric, filter, model: which one to read of
    a file that holds several. What was left out is listed in `run.manifest["notes"]` and counted
    in `run.n_missing`. Errors: ValueError for a file that cannot be read, that holds several
    models, or of which more than 10 % of the problems have no verdict.
    """
    path = Path(path)
    if format is None:
        format = look_up(SUFFIXES, path.suffix.lower(), "suffix of a file without format=")
    table, rejected = read_table(
        path, format, metric=metric, filter=filter, model=model, columns=columns
    )
    refuse_incomplete(path, table.attrs, counts(table)[0])
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
    benchmark, or a task object. problems: how many over all levels, or a benchmark file, of which
    all are drawn. plan: fields of `Plan`, such as chains=64, temperature=0.8. Needs torch.
    Errors: ValueError for a task, option or number that cannot be, and for what has no effect.
    """
    from scaling.benchmarks import load_benchmark
    from scaling.models import load_lm
    from scaling.study import sample_run
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
    chosen, asked = task.problems(10**9 if path is not None else int(problems)), Plan(**plan)
    return sample_run(
        lm, task, chosen, asked, Path(runs), progress=progress, device=device, dtype=dtype
    )

"""The main job: sample a ladder, table its accuracy per budget, fit, draw; each a call of its own.

This is where the two rooms meet; nothing here samples, estimates, fits or draws by itself.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from scaling.records import FEEDBACKS, Plan, Problem, Sample
from scaling.store import LoadedRun, load_run, open_run

UNIT = 10  #: problems per unit of work, one part of the log
FAILED = "~failed"  #: ends the name of a unit with failed samples
PLAIN = Plan(chains=64, max_new_tokens=64)
REVISE = Plan(method="revision", chains=4, steps=6, max_new_tokens=64)


@dataclass(frozen=True)
class Preset:
    """How much the main job samples."""

    problems: int = 100  #: per task, over its levels
    plan: Plan = PLAIN  #: every model
    revision: Plan = REVISE  #: the two most trained of each size, with and without the verdict
    models: int = 0  #: the most trained ones only; 0 takes all


PRESETS = {
    "default": Preset(),
    "tiny": Preset(
        problems=8,
        plan=replace(PLAIN, chains=8),
        revision=replace(REVISE, chains=2, steps=3),
        models=2,
    ),
}


@dataclass(frozen=True)
class Work:
    """One run to sample, by names alone, so that another process can do it."""

    model: str  #: folder
    task: str
    problems: int
    plan: Plan
    root: str  #: folder of the runs
    options: dict[str, Any]  #: of `engine.Engine`

    def __call__(self) -> LoadedRun:
        """Load the model, sample, return the run."""
        import torch

        from scaling.models import load_lm
        from scaling.tasks import get_task

        torch.set_num_threads(1)
        task = get_task(self.task)
        problems = task.problems(self.problems)
        lm = load_lm(self.model)
        return sample_run(
            lm, task, problems, self.plan, Path(self.root), progress=False, **self.options
        )


def work_of(
    preset: Preset, models: Sequence[Path], tasks: Sequence[str], root: Path, **options: Any
) -> list[Work]:
    """Return every run of a preset: all models best-of-N, the last two of each size revising."""
    models = list(models)[-preset.models :]
    sizes = [path.parent for path in models]
    last = [path for i, path in enumerate(models) if sizes[i + 1 :].count(path.parent) < 2]
    plans = [(path, preset.plan) for path in models]
    for feedback in FEEDBACKS:
        plans += [(path, replace(preset.revision, feedback=feedback)) for path in last]
    work = [
        Work(str(path), task, preset.problems, plan, str(root), options)
        for path, plan in plans
        for task in tasks
    ]
    return work[::-1]  # the largest models first, so that no core waits for the last one


def sample_all(work: Sequence[Work], workers: int = 0) -> list[LoadedRun]:
    """Sample every run, one process per core (or `workers`); return them in the order given.

    Progress counts samples, those of runs that were sealed before included.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import active_children, get_context
    from signal import SIG_IGN, SIGINT, signal

    workers = min(workers or len(os.sched_getaffinity(0)), len(work))
    total = sum(w.problems * w.plan.chains * w.plan.steps for w in work)
    samples, tokens, started = 0, 0, time.perf_counter()
    runs: dict[int, LoadedRun] = {}
    with (
        ProcessPoolExecutor(workers, get_context("spawn"), signal, (SIGINT, SIG_IGN)) as pool,
        tqdm(total=total, unit="sample", unit_scale=True, desc="sampling") as bar,
    ):
        futures = {pool.submit(w): i for i, w in enumerate(work)}
        try:
            for future in as_completed(futures):
                index = futures[future]
                runs[index] = run = future.result()
                samples += len(run.frame)
                tokens += int(run.frame["completion_tokens"].sum())
                passed = time.perf_counter() - started
                plan = work[index].plan
                bar.update(work[index].problems * plan.chains * plan.steps)
                bar.set_postfix_str(f"{tokens / passed:,.0f} tokens/s, {run.task} {run.card.name}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():  # what they had written stays; the rest is drawn anew
                child.terminate()
            raise
    return [runs[index] for index in sorted(runs)]


def sample_run(
    lm: Any,
    task: Any,
    problems: Sequence[Problem],
    plan: Plan,
    root: Path,
    *,
    engine: Any = None,
    progress: bool = True,
    **engine_options: Any,
) -> LoadedRun:
    """Draw a plan's pool into a run folder under `root`, resuming what is there; return the run.

    `engine_options`: device, dtype, memory_cap, max_rows of `engine.Engine`. A crash loses at most
    the units in flight; the same call then goes on, and ends in the same samples. Samples that
    failed are rows with their reason: the run stays open, and the same call draws them again.
    """
    notes = getattr(task, "notes", None)  # of a benchmark: its file, prompt and scorer
    with open_run(
        root, task=task.name, card=lm.card, plan=plan, problems=problems, extra=notes
    ) as writer:
        if not writer.sealed:
            _fill(writer, lm, task, problems, plan, engine, engine_options, progress)
        whole = {unit_name(i) for i in range(len(problems))} <= writer.done
        return writer.seal() if whole or writer.sealed else load_run(writer.path)


def unit_name(index: int) -> str:
    """Return the unit of work that the problem at `index` belongs to."""
    return f"{index // UNIT:06d}"


def good_samples(writer, unit: str) -> dict[str, list[Sample]]:
    """Return by problem what a unit that failed in part can keep."""
    kept: dict[str, list[Sample]] = defaultdict(list)
    if unit + FAILED in writer.done:
        rows = writer.read(unit + FAILED)
        bad = {row.problem for row in rows if row.finish.startswith("error")}
        for row in rows:
            if row.problem not in bad:
                kept[row.problem].append(row)
    return kept


def write_unit(writer, unit: str, samples: Sequence[Sample]) -> None:
    """Log a unit; one with failed samples under a name of its own, until it is drawn again."""
    if unit + FAILED in writer.done:
        writer.discard(unit + FAILED)
    failed = any(sample.finish.startswith("error") for sample in samples)
    writer.write(unit + FAILED * failed, samples)


def _fill(writer, lm, task, problems, plan, engine, engine_options, progress) -> None:
    """Draw every unit that is not done, writing each as its last sample arrives."""
    from scaling.engine import Engine
    from scaling.methods import draw

    engine = engine or Engine(lm.model, eos_ids=lm.eos_ids, **engine_options)
    unit_of = {problem.id: unit_name(i) for i, problem in enumerate(problems)}
    left = [problem for problem in problems if unit_of[problem.id] not in writer.done]
    kept = {unit: good_samples(writer, unit) for unit in {unit_of[p.id] for p in left}}
    waiting = {unit: [row for rows in good.values() for row in rows] for unit, good in kept.items()}
    left = [problem for problem in left if problem.id not in kept[unit_of[problem.id]]]
    missing = Counter(unit_of[problem.id] for problem in left)
    bar = tqdm(total=len(left), unit="problem", disable=not progress, leave=False)
    bar.set_description(f"{task.name} {lm.card.name} {plan.method}")
    tokens, right, drawn, started = 0, 0, 0, time.perf_counter()
    with bar:
        for problem, samples in draw(lm, task, left, plan, engine):
            unit = unit_of[problem.id]
            waiting[unit] += samples
            missing[unit] -= 1
            if not missing[unit]:
                write_unit(writer, unit, waiting.pop(unit))
            drawn += len(samples)
            right += sum(sample.correct for sample in samples)
            tokens += sum(sample.completion_tokens for sample in samples)
            passed = time.perf_counter() - started
            bar.update()
            bar.set_postfix(
                accuracy=f"{right / drawn:.3f}",
                samples_per_s=f"{drawn / passed:.0f}",
                tokens_per_s=f"{tokens / passed:.0f}",
            )

"""The runs of `make study`: best-of-N and revision on the shipped ladder, and some other methods.

Not here: sampling (`sampling`), what is read from the runs (`figures`).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaling.records import FEEDBACKS, Plan
from scaling.results import RESULTS
from scaling.sampling import RunSpec
from scaling.tasks import get_task

BEST_OF_N = Plan(chains=64, max_new_tokens=64)
REVISION = Plan(method="revision", chains=4, steps=6, max_new_tokens=64)
THINKING = Plan(method="thinking", chains=4, steps=7, max_new_tokens=256)
SEARCH = Plan(
    method="dvts",
    chains=4,
    steps=32,
    width=8,
    keep=2,
    max_new_tokens=32,
    scorer="../scorers/process",
)


@dataclass(frozen=True)
class Preset:
    """The size of the main job."""

    problems: int = 100  #: per task, over its levels
    plan: Plan = BEST_OF_N  #: every model
    revision: Plan = REVISION  #: the two most trained per size, with and without feedback
    models: int = 0  #: the most trained ones only; 0 takes all
    results: bool = True  #: sample mazes and permutations for the results of the study as well
    #: in addition to the ladder: (folder of a model, plan), on countdown
    extra_runs: tuple[tuple[str, Plan], ...] = (
        ("../thinking/0.1M/grpo/3e12", THINKING),
        ("0.1M/3e13", SEARCH),
    )


PRESETS = {
    "default": Preset(),
    "tiny": Preset(
        problems=8,
        plan=replace(BEST_OF_N, chains=8),
        revision=replace(REVISION, chains=2, steps=3),
        models=2,
        results=False,
        extra_runs=(),
    ),
}


def study_runs(
    preset: Preset, models: Sequence[Path], tasks: Sequence[str], root: Path, **options: Any
) -> list[RunSpec]:
    """Return the runs: best-of-N of all models, revision of the two most trained per size."""
    models = list(models)[-preset.models :]
    sizes = [path.parent for path in models]
    last = [path for i, path in enumerate(models) if sizes[i + 1 :].count(path.parent) < 2]
    plans = [(path, preset.plan) for path in models]
    for feedback in FEEDBACKS:
        plans += [(path, replace(preset.revision, feedback=feedback)) for path in last]
    problem_sets = [(task, tuple(task.problems(preset.problems))) for task in map(get_task, tasks)]
    specs = [
        RunSpec(str(path), task, problems, plan, root, options=tuple(options.items()))
        for path, plan in plans
        for task, problems in problem_sets
    ]
    return specs[::-1]  # the largest models first, so that no core waits for the last one


def extra_runs(preset: Preset, ladder: Path, root: Path, **options: Any) -> list[RunSpec]:
    """Return the preset's runs of thinking and search, of the models that exist near a ladder."""
    from scaling.methods.scorers import scorer_name

    task = get_task("countdown")
    problems = tuple(task.problems(preset.problems))
    specs = []
    for folder, plan in preset.extra_runs:
        model, scorer = (Path(os.path.normpath(ladder / p)) for p in (folder, plan.scorer or "."))
        if model.exists() and scorer.exists():
            plan = replace(plan, scorer=scorer_name(scorer) if plan.scorer else "")
            how = tuple(options.items())
            specs.append(RunSpec(str(model), task, problems, plan, root, options=how))
    return specs


def result_runs(models: Path, root: Path, **options: Any) -> tuple[list[RunSpec], list[str]]:
    """Return the runs that the results of the study are read from, and the models that are missing.

    models: folder of the checkpoints' folders; maze/0.11M/1e13 is below it.
    """
    wanted = dict.fromkeys(run for result in RESULTS for run in result.SAMPLED)
    specs, missing = [], []
    for run in wanted:
        if not (models / run.model).exists():
            missing.append(run.model)
            continue
        task = get_task(run.task, run.levels)
        problems = tuple(task.problems(run.problems * len(run.levels)))
        how = tuple(options.items())
        specs.append(RunSpec(str(models / run.model), task, problems, run.plan, root, options=how))
    return specs, missing


def without_weights(runs: Path, models: Path) -> Counter[str]:
    """Return {model name: number of runs} of logs under `runs` whose weights are not in `models`.

    models: folder of the ladder; a model called ladder/0.1M/1e12 lies in its parent.
    """
    paths = runs.glob("*/manifest.json")
    names = Counter(json.loads(path.read_text())["identity"]["model"]["name"] for path in paths)
    return Counter({name: n for name, n in names.items() if not (models.parent / name).exists()})

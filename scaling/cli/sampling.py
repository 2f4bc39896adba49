"""Verbs that sample models: study, sample. Their options are the arguments of `scaling.sample`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal, get_type_hints

from cyclopts import Group

from scaling import front
from scaling.cli.app import (
    MODELS,
    SAMPLE,
    STUDY,
    Device,
    Json,
    Switch,
    comments,
    option,
    suggest,
    verb,
)
from scaling.preparing import BENCHMARK, DRY_RUN, ENGINE, LIVE, LOADING, OF_A_FILE, ONLY_FOR, SERVED
from scaling.records import FEEDBACKS, Plan

SHOWN = [
    "level", "selector", "k", "test_tokens", "test_flops", "accuracy", "low", "high", "n_problems",
]  # fmt: skip
COMMITTED = Path("data/runs")  #: the runs of the figures
PLAN = Group.create_ordered("Plan")
HEADINGS = {  #: of --help -> arguments of `scaling.sample`; others have no heading of their own
    Group.create_ordered(name, help=text): names
    for name, text, names in (
        ("Computing", "", {*ENGINE, "executor", "workers"}),
        ("Models", "--system and --thinking also apply to servers with --api chat.",
         {*LOADING, "model_defaults", "skip_long"}),
        ("Servers", "These options need --model http://HOST:PORT/v1 or --batch.",
         {*ONLY_FOR[SERVED], *ONLY_FOR[LIVE], "batch"}),
        ("Benchmarks", "--task gsm8k, gym:NAME, ...: docs/benchmarks.md",
         {*ONLY_FOR[BENCHMARK], *ONLY_FOR[OF_A_FILE]}),
        ("Costs", "Estimate the cost of a run before it starts.",
         {*ONLY_FOR[DRY_RUN], "dry_run"}),
    )
}  # fmt: skip
KINDS: dict[str, Any] = {  #: types of the command line, where they differ from those in Python
    "model": str, "task": str, "problems": int, "levels": tuple[str, ...], "device": Device,
    "request": Json, "per_million": tuple[float, float] | None,
    **dict.fromkeys(("chat", "thinking", "opens_thinking"), Switch),
    **dict.fromkeys(("runs", "card", "batch", "problems_file"), Path | None),
    "stop": tuple[str, ...], "feedback": Literal[FEEDBACKS],
}  # fmt: skip


def sample_options(*names: str) -> Iterator[Parameter]:
    """Yield arguments of `scaling.sample` as options of a verb; by default all."""
    kinds = get_type_hints(front.sample) | KINDS
    heading = {name: group for group, names in HEADINGS.items() for name in names}
    help_of = comments(front.sample)
    for name, one in signature(front.sample).parameters.items():
        if name in names or (not names and name in help_of):
            yield option(name, kinds[name], one.default, help_of[name], heading.get(name))


def plan_options() -> Iterator[Parameter]:
    """Yield the fields of `Plan` as options of a verb."""
    for one in fields(Plan):
        kind = KINDS.get(one.name, type(one.default))
        yield option(one.name, kind, one.default, comments(Plan)[one.name], PLAN)


@verb(
    SAMPLE,
    also=[*sample_options("executor", "workers", "device", "dtype", "memory_gb", "max_rows")],
)
def study(
    *,
    preset: Literal["default", "tiny"] = "default",  #: how much to sample
    models: Path = MODELS / "ladder",  #: folder of checkpoints with cards
    tasks: tuple[str, ...] = ("countdown", "sums"),  #: tasks to sample
    out: Path = STUDY,  #: folder of runs/ and mazes/ (resumed if there), tables and figures/
    seed: int = 0,  #: seed of the samples
    force: bool = False,  #: overwrite existing files that the kit did not write
    **computing: Any,
) -> None:
    """Sample the shipped models, tabulate accuracy, fit laws, draw figures."""
    from scaling.cli.reading import draw, write_accuracy, write_results
    from scaling.figures import plots
    from scaling.figures.gallery import FIGURES
    from scaling.models import find_models
    from scaling.preparing import engine_options
    from scaling.runs import Runs
    from scaling.sampling import sample_all
    from scaling.store.files import refuse_foreign
    from scaling.study import PRESETS, extra_runs, result_runs, study_runs, without_weights
    from scaling.tasks import get_task

    workers = computing.pop("workers", 0)
    executor = computing.pop("executor", None) or "local"
    runs, figures = out / "runs", out / "figures"
    drawn = [path for name in FIGURES for path in plots.paths_of(name, figures)]
    refuse_foreign([out / "accuracy.csv", out / "results.csv", *drawn], force)
    for task in tasks:
        get_task(task)
    chosen = PRESETS[preset]
    plans = {name: replace(getattr(chosen, name), seed=seed) for name in ("plan", "revision")}
    chosen, how = replace(chosen, **plans), engine_options(**computing)
    specs = study_runs(chosen, find_models(models), tasks, runs, **how)
    if "countdown" in tasks:
        specs += (extra := extra_runs(chosen, models, runs, **how))
        if left_out := len(chosen.extra_runs) - len(extra):
            print(f"{left_out} runs left out: their models or scorers are not next to {models}")
    if missing := without_weights(COMMITTED, models):
        print(
            f"{sum(missing.values())} runs in {COMMITTED} are not sampled again, because these "
            f"models are not under {models.parent}: {', '.join(sorted(missing))}"
        )
    if chosen.results:
        more, missing_models = result_runs(models.parent, out / "mazes", **how)
        specs += more
        if missing_models:
            print(f"left out, not under {models.parent}: {', '.join(sorted(set(missing_models)))}")
    done = sample_all(specs, workers, executor)
    print(f"{len(done)} runs, {sum(len(run.samples) for run in done):,} samples under {runs}")
    loaded = write_accuracy(runs, out / "accuracy.csv", force)
    draw(loaded, figures, (), force)
    if chosen.results:
        write_results(Runs.load(out / "mazes"), out, force)
    suggest("fit --runs {runs}; report {runs}/RUN writes a run up", runs=runs)


@verb(SAMPLE, also=[*sample_options(), *plan_options()])
def sample(**options: Any) -> None:
    """Sample a model on a task, and print accuracy per budget."""
    from scaling.runs.tables import accuracy_table, flaw_line

    run = front.sample(**options)
    if options.get("dry_run"):
        return
    table = accuracy_table([run])
    print(table[SHOWN].to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    print(flaw_line([run]))
    suggest("accuracy --runs {runs}; fit and figures take the same --runs", runs=run.path.parent)

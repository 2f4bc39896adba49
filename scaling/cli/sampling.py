"""Verbs that make samples or models: study, sample, train."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path

from scaling.cli.benchmarks import add_benchmark_options, task_of
from scaling.cli.models import (
    add_cost_options,
    add_executor_options,
    add_model_options,
    loading_options,
    plan_of,
    print_cost,
)
from scaling.cli.options import (
    DERIVED,
    FIGURES,
    MODELS,
    STUDY,
    add_engine_options,
    engine_options,
    positive,
)
from scaling.cli.reading import run_accuracy, run_figures
from scaling.cli.serving import add_server_options, is_served, open_server
from scaling.records import FEEDBACKS, Plan, look_up


def add(verbs) -> None:
    """Declare the verbs."""
    add_study(verbs)
    add_sample(verbs)
    add_train(verbs)


def add_study(verbs) -> None:
    """The main job."""
    verb = verbs.add_parser("study", help="the main job: sample, table, fit, figures")
    verb.add_argument("--preset", choices=("default", "tiny"), default="default")
    verb.add_argument(
        "--models", type=Path, default=MODELS, help="folder of checkpoints with cards"
    )
    verb.add_argument("--tasks", nargs="+", default=["countdown", "sums"])
    verb.add_argument(
        "--runs", type=Path, default=STUDY, help="where the logs go (resumed if there)"
    )
    verb.add_argument("--derived", type=Path, default=DERIVED, help="where tables go")
    verb.add_argument("--figures", type=Path, default=FIGURES, help="where figures go")
    verb.add_argument("--seed", type=int, default=0)
    add_executor_options(verb)
    add_engine_options(verb)
    verb.set_defaults(run=run_study)


def run_study(options: argparse.Namespace) -> None:
    """Sample every run of the preset, then table and draw."""
    from scaling.models import find_models
    from scaling.study import PRESETS, sample_all, ways_of, work_of
    from scaling.tasks import get_task

    for task in options.tasks:
        get_task(task)
    preset = PRESETS[options.preset]
    plans = {n: replace(getattr(preset, n), seed=options.seed) for n in ("plan", "revision")}
    preset, engine = replace(preset, **plans), engine_options(options)
    models = find_models(options.models)
    work = work_of(preset, models, options.tasks, options.runs, **engine)
    if "countdown" in options.tasks:
        work += ways_of(preset, options.models, options.runs, **engine)
    runs = sample_all(work, options.workers, options.executor or "local")
    print(f"{len(runs)} runs, {sum(len(r.frame) for r in runs):,} samples under {options.runs}")
    run_accuracy(options)
    run_figures(options)


def add_sample(verbs) -> None:
    """One run of one model."""
    verb = verbs.add_parser("sample", help="draw one pool: a model, a task, a plan")
    verb.add_argument(
        "--model", required=True, help="folder, hub name org/name@revision, or http://host:port/v1"
    )
    verb.add_argument("--task", required=True, help="a name in scaling.tasks.TASKS, or a benchmark")
    verb.add_argument("--levels", nargs="+", help="e.g. 4x20 5x20; default: the task's own")
    verb.add_argument("--problems", type=positive(int), default=100)
    verb.add_argument("--problem-seed", type=int, default=0)
    verb.add_argument("--runs", type=Path, default=STUDY)
    choices = {"feedback": FEEDBACKS}
    for field in fields(Plan):
        verb.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=str if field.name == "stop" else type(field.default),
            nargs="+" if field.name == "stop" else None,
            choices=choices.get(field.name),
            help=f"default {field.default}",
        )
    add_engine_options(verb)
    add_model_options(verb)
    add_server_options(verb)
    add_benchmark_options(verb)
    add_executor_options(verb)
    add_cost_options(verb)
    verb.set_defaults(run=run_sample)


def run_sample(options: argparse.Namespace) -> None:
    """Draw one run and print its accuracy per budget."""
    from scaling.methods import check_plan
    from scaling.models import load_lm
    from scaling.study import Work, sample_all, sample_run

    plan = plan_of(options, {})
    check_plan(plan)
    task = task_of(options)
    problems = task.problems(options.problems, seed=options.problem_seed)
    loading, how = loading_options(options), engine_options(options)
    if is_served(options):
        lm, engine = open_server(options)
        how = {"engine": engine}
    else:
        elsewhere = options.dry_run or options.executor
        lm = load_lm(options.model, weights=not elsewhere, **loading)
        if options.model_defaults:
            plan = plan_of(options, lm.defaults)
    if options.dry_run:
        return print_cost(options, lm, task, problems, plan)
    if options.executor and not is_served(options):
        pairs = tuple(loading.items()), tuple(how.items())
        work = Work(options.model, task, tuple(problems), plan, options.runs, *pairs)
        (run,) = sample_all([work], options.workers, options.executor)
    else:
        run = sample_run(lm, task, problems, plan, options.runs, **how)
    from scaling.curves import accuracy_table, read_pool

    table = accuracy_table([read_pool(run)])
    shown = table[
        ["level", "selector", "k", "test_tokens", "test_flops", "accuracy", "low", "high"]
    ]
    print(f"{run.path}: {len(run.frame):,} samples")
    failed = run.frame["finish"][run.frame["finish"].str.startswith("error")]
    if len(failed):
        print(f"{len(failed):,} failed ({failed.iloc[0]}); the same command asks for them again")
    print(shown.to_string(index=False, float_format=lambda x: f"{x:.4g}"))


def add_train(verbs) -> None:
    """Training."""
    verb = verbs.add_parser("train", help="train the ladder, or one rung of it")
    verb.add_argument("--size", help="one of the ladder's sizes; default: all")
    verb.add_argument("--budgets", nargs="+", type=positive(float), help="train FLOPs, rising")
    verb.add_argument("--out", type=Path, default=MODELS)
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> None:
    """Train rungs of the ladder."""
    from scaling.train import LADDER, RECIPES, train_rung

    sizes = [options.size] if options.size else list(LADDER)
    for size in sizes:
        look_up(LADDER, size, "size")
        recipe = replace(RECIPES[size], seed=options.seed)
        budgets = tuple(options.budgets or LADDER[size])
        for path in train_rung(size, budgets, options.out, recipe):
            print(path)

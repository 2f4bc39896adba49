"""Verbs that make samples: study, sample. Which model, how it is asked, and what a run costs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from scaling.cli.benchmarks import task_of
from scaling.cli.reading import run_accuracy, run_figures
from scaling.cli.serving import is_served, open_server
from scaling.compute import Shape
from scaling.curves import accuracy_table, read_pool
from scaling.methods import check_plan
from scaling.methods.scorers import scorer_name
from scaling.models import find_models, load_lm
from scaling.planner import estimate
from scaling.records import Plan
from scaling.study import (
    PRESETS,
    Work,
    asked,
    check_prompts,
    sample_all,
    sample_run,
    units_of,
    ways_of,
    work_of,
)
from scaling.tasks import get_task

LOADING = (
    "dtype", "device_map", "quantize", "remote_code", "chat", "system", "thinking", "train_tokens"
)  # fmt: skip
SHOWN = ["level", "selector", "k", "test_tokens", "test_flops", "accuracy", "low", "high"]


def engine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the engine's keyword arguments."""
    cap = options.memory_gb and int(options.memory_gb * 2**30)
    plain = {name: getattr(options, name) for name in ("device", "dtype", "max_rows")}
    return plain | {"memory_cap": cap}


def loading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `load_lm` that were given."""
    given = {name: getattr(options, name) for name in LOADING}
    return {name: value for name, value in given.items() if value not in (None, False, "")}


def plan_of(options: argparse.Namespace, suggested: Mapping[str, Any]) -> Plan:
    """Return the plan: what was given, else what the model suggests, else the plan's defaults."""
    given = {f.name: getattr(options, f.name) for f in fields(Plan)}
    return Plan(**({**suggested} | {name: x for name, x in given.items() if x is not None}))


def run_study(options: argparse.Namespace) -> None:
    """Sample every run of the preset, then table and draw."""
    out = options.out
    options.runs, options.derived, options.figures = out / "runs", out, out / "figures"
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


def run_sample(options: argparse.Namespace) -> None:
    """Draw one run and print its accuracy per budget."""
    if options.scorer and "@" not in options.scorer:
        options.scorer = scorer_name(options.scorer)
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
    table = accuracy_table([read_pool(run)])
    print(f"{run.path}: {len(run.frame):,} samples")
    failed = run.frame["finish"][run.frame["finish"].str.startswith("error")]
    if len(failed):
        print(f"{len(failed):,} failed ({failed.iloc[0]}); the same command asks for them again")
    print(table[SHOWN].to_string(index=False, float_format=lambda x: f"{x:.4g}"))


def print_cost(options: argparse.Namespace, lm: Any, task: Any, problems: Any, plan: Plan) -> None:
    """Print what a run would cost; money for tokens from a prompt paid once to one per sample."""
    if options.per_hour and not options.tokens_per_second:
        raise ValueError("--per-hour needs --tokens-per-second: without it no hours are known")
    check_prompts(lm, task, problems)
    texts = [asked(task, lm).prompt(problem) for problem in problems]
    local = hasattr(lm, "tokenizer")
    lengths = [len(lm.encode(text)) if local else len(text.encode()) / 4 for text in texts]
    shape = Shape(**lm.card.shape) if lm.card.shape else None
    cost = estimate(lengths, plan, shape, options.mean_tokens)
    units = len(set(units_of(problems, plan).values()))
    about = "" if local else " (a token per four bytes)"
    most = "" if options.mean_tokens else " at most"
    print(f"{cost['samples']:,.0f} samples of {len(problems):,} problems in {units:,} units")
    print(f"{cost['prompt_tokens']:,.0f} prompt tokens{about},{most} {cost['tokens']:,.0f} new")
    print(f"{cost['flops']:.3g} FLOPs" if shape else "FLOPs unknown: give --card")
    workers = options.workers or 1
    hours = math.nan
    if options.tokens_per_second:
        busy = min(workers, units)
        hours = cost["tokens"] / options.tokens_per_second / busy / 3600
        print(f"{hours:,.3g} hours on {busy:,} worker(s)")
    else:
        print("hours: give --tokens-per-second, as the bar of a run of few problems shows it")
    if options.per_million:
        read, written = options.per_million
        inputs = cost["prompt_tokens"], cost["billed_tokens"]
        ends = [(paid * read + cost["tokens"] * written) / 1e6 for paid in inputs]
        shown = " to ".join(dict.fromkeys(f"{end:,.2f}" for end in ends))
        print(f"{shown} for tokens, prompts paid once or with every sample")
    if options.per_hour:
        print(f"{hours * workers * options.per_hour:,.2f} for hours")

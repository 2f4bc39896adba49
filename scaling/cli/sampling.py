"""Verbs that make samples: study, sample. Which model, how it is asked, and what a run costs."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from scaling.cli.benchmarks import GYM, print_left_out, task_of
from scaling.cli.options import (
    BENCHMARK,
    DRY,
    IN_MEMORY,
    LIVE,
    OF_A_FILE,
    SERVED,
    WORKERS,
    caution,
    refuse_idle,
    was_given,
)
from scaling.cli.reading import run_accuracy, run_figures
from scaling.compute import Shape
from scaling.figures import plots
from scaling.figures.gallery import FIGURES
from scaling.models import find_models, is_endpoint, load_lm
from scaling.planner import estimate
from scaling.records import FINAL, Plan, Problem, look_up
from scaling.runs import SELECTORS, Run, load_run
from scaling.runs.tables import accuracy_table, flaw_counts, flaw_line
from scaling.sampling import (
    RunSpec,
    as_turns,
    check_prompts,
    sample_all,
    sample_run,
    shards_of,
    too_long,
)
from scaling.store.files import refuse_foreign
from scaling.study import PRESETS, extra_runs, study_runs, without_weights
from scaling.tasks import TASKS, get_task, validate_task
from scaling.tasks.chat import chat_task

LOADING = (
    "dtype", "device_map", "quantize", "remote_code", "chat", "system", "thinking", "train_tokens"
)  # fmt: skip
SHOWN = [
    "level", "selector", "k", "test_tokens", "test_flops", "accuracy", "low", "high", "n_problems",
]  # fmt: skip
COMMITTED = Path("data/runs")  #: the logs that are shipped
MANY = 0.1  #: share of samples cut at the token cap, or without an answer, that is warned of


def engine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the engine's keyword arguments."""
    cap = options.memory_gb and int(options.memory_gb * 2**30)
    plain = {name: getattr(options, name) for name in ("device", "dtype", "max_rows")}
    return plain | {"memory_cap": cap}


def loading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `load_lm` that were given."""
    return {name: getattr(options, name) for name in LOADING if was_given(options, name)}


def plan_of(options: argparse.Namespace, suggested: Mapping[str, Any]) -> Plan:
    """Return the plan: what was given, else what the model suggests, else the plan's defaults."""
    given = {f.name: getattr(options, f.name) for f in fields(Plan)}
    return Plan(**({**suggested} | {name: x for name, x in given.items() if x is not None}))


def run_study(options: argparse.Namespace) -> None:
    """Sample every run of the preset, then table and draw."""
    out = options.out
    options.runs, options.derived, options.figures = out / "runs", out, out / "figures"
    drawn = [path for name in FIGURES for path in plots.paths_of(name, options.figures)]
    refuse_foreign([out / "accuracy.csv", *drawn], options.force)
    for task in options.tasks:
        get_task(task)
    preset = PRESETS[options.preset]
    plans = {n: replace(getattr(preset, n), seed=options.seed) for n in ("plan", "revision")}
    preset, engine = replace(preset, **plans), engine_options(options)
    models = find_models(options.models)
    specs = study_runs(preset, models, options.tasks, options.runs, **engine)
    if "countdown" in options.tasks:
        specs += extra_runs(preset, options.models, options.runs, **engine)
    if missing := without_weights(COMMITTED, options.models):
        print(
            f"{sum(missing.values())} runs in {COMMITTED} are not sampled again, because these "
            f"models are not under {options.models.parent}: {', '.join(sorted(missing))}"
        )
    runs = sample_all(specs, options.workers, options.executor or "local")
    print(f"{len(runs)} runs, {sum(len(r.samples) for r in runs):,} samples under {options.runs}")
    run_accuracy(options)
    run_figures(options)


def run_sample(options: argparse.Namespace) -> None:
    """Draw one run and print its accuracy per budget."""
    refuse_idle(options, what_a_run_has(options))
    if "scaling.methods" not in sys.modules:  # no method was added; torch, which it loads, can wait
        look_up(SELECTORS, plan_of(options, {}).method, "method")
    task = task_of(options)
    problems = validate_task(task, options.problems, options.problem_seed)
    which = chosen(task, len(problems), options)

    from scaling.cli.serving import open_server, warn_if_alike
    from scaling.methods import check_plan
    from scaling.methods.scorers import scorer_name

    if options.scorer and "@" not in options.scorer:
        options.scorer = scorer_name(options.scorer)
    check_plan(plan_of(options, {}))  # before a model is read
    loading, how = loading_options(options), engine_options(options)
    if is_served(options):
        lm, engine = open_server(options)
        how = {"engine": engine}
    else:
        elsewhere = options.dry_run or options.executor
        lm = load_lm(options.model, weights=not elsewhere, identify=not options.dry_run, **loading)
    problems = list(as_turns(lm, task, problems))
    suggested = {"stop": usual_stop(lm, task)}
    plan = plan_of(options, suggested | (lm.defaults if options.model_defaults else {}))
    if hasattr(task, "describe_prompt"):
        stop = f"; {', '.join(map(repr, plan.stop))} ends a sample" if plan.stop else ""
        print(f"{task.name}: {task.describe_prompt(bool(lm.chat))}{stop}")
    print(f"runs in {options.runs}\n{which}")
    print_left_out(task)
    print(described(plan))
    warn_if_identical(plan)
    if options.skip_long:
        problems = that_fit(lm, task, problems)
    if options.dry_run:
        return print_cost(options, lm, task, problems, plan)
    before = {path: path.stat().st_mtime_ns for path in options.runs.glob("*/manifest.json")}
    if options.executor and not is_served(options):
        pairs = tuple(loading.items()), tuple(how.items())
        spec = RunSpec(options.model, task, tuple(problems), plan, options.runs, *pairs)
        (run,) = sample_all([spec], options.workers, options.executor)
    else:
        run = sample_run(lm, task, problems, plan, options.runs, **how)
    pool = run
    table = accuracy_table([pool])
    seal = run.path / "manifest.json"
    drawn = before.get(seal) != seal.stat().st_mtime_ns
    print(
        f"{run.path}: {len(run.samples):,} samples" + ", complete before: none drawn" * (not drawn)
    )
    if is_served(options) and plan.temperature:
        warn_if_alike(load_run(run.path, text=True).samples)
    print_failed(pool)
    print(table[SHOWN].to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    print(told_flaws(pool))


def chosen(task: Any, n: int, options: argparse.Namespace) -> str:
    """Return which of a task's problems are sampled, as a line to print."""
    rows = getattr(task, "rows", None)  # of a benchmark: all that there are
    which = f"{n:,} problems"
    if rows and n < len(rows):
        which = f"{n:,} of {len(rows):,} problems, chosen by hash: --problems sets how many"
    elif rows:
        which = f"all {n:,} problems" + f", not {options.problems:,}" * (n < options.problems)
    elif n != options.problems:
        which += f", not the {options.problems:,} asked for"
    return f"{task.name}: {which}"


def described(plan: Plan) -> str:
    """Return the method, the size and the limits of a plan, as a line to print."""
    steps = f" of {plan.steps:,} steps" if plan.steps > 1 else ""
    return (
        f"{plan.method}: {plan.chains:,} chains{steps} per problem, temperature "
        f"{plan.temperature:g}, at most {plan.max_new_tokens:,} new tokens per step"
    )


def warn_if_identical(plan: Plan) -> None:
    """Warn of a plan whose chains will all be the same text."""
    if plan.chains > 1 and (plan.temperature == 0 or plan.top_k == 1):
        how = "temperature 0" if plan.temperature == 0 else "top_k 1"
        caution(
            f"{how} is greedy: the {plan.chains:,} chains of a problem will be the same text, and "
            "more samples will not help; give --chains 1, or a higher temperature"
        )


def told_flaws(pool: Run) -> str:
    """Return how many samples were cut or gave no answer, as a line; warn where they are many."""
    drawn, unextracted, truncated = flaw_counts([pool])
    cap = f"the cap of {pool.plan.max_new_tokens:,} new tokens: raise it with --max-new-tokens"
    for count, what in (
        (truncated, f"were cut at {cap}"),
        (unextracted, "have no answer that could be extracted; they count as wrong"),
    ):
        if count > MANY * drawn:
            caution(f"{count:,} of {drawn:,} samples {what}")
    return flaw_line(drawn, unextracted, truncated)


def print_failed(pool: Run) -> None:
    """Print how many samples and problems are missing, each problem by name, and why."""
    finish = pool.samples["finish"].astype(str)
    failed = finish[finish.str.startswith("error")]
    for reason, count in failed.value_counts().head(5).items():
        print(f"{count:,} samples are missing ({reason})")
    if again := int((~failed.str.startswith(FINAL)).sum()):
        print(f"{again:,} of them failed for a reason that may pass: the same command asks again")
    drawn = pool.samples["problem"].drop(failed.index).value_counts()
    if len(failed) and drawn.min() < drawn.max():
        print(f"problems have {drawn.min():,} to {drawn.max():,} samples: NaN where k is larger")
    if pool.refused:
        names, total = list(pool.refused), len(pool.problems)
        shown = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
        print(f"{len(names):,} of {total:,} problems have no sample and are left out: {shown}")


def is_served(options: argparse.Namespace) -> bool:
    """Return whether samples come from a server, or from batch files."""
    return bool(options.batch) or is_endpoint(options.model)


def what_a_run_has(options: argparse.Namespace) -> dict[str, bool]:
    """Return which of the things that options are for (`options.ONLY_FOR`) a run has."""
    served, own = is_served(options), options.task in TASKS
    return {
        IN_MEMORY: not served,
        SERVED: served,
        LIVE: served and not options.batch,
        BENCHMARK: not own,
        OF_A_FILE: not own and not options.task.startswith(GYM),
        WORKERS: bool(options.executor or options.dry_run),
        DRY: options.dry_run,
    }


def usual_stop(lm: Any, task: Any) -> tuple[str, ...]:
    """Return what ends an answer by a task's prompt, where the model's tokens can write it."""
    stop = getattr(task, "stop", ())
    return tuple(s for s in stop if is_text(lm) or s in lm.decode(lm.encode(f"a{s}a")))


def is_text(lm: Any) -> bool:
    """Return whether texts stand where tokens do: nothing here knows a server's tokenizer."""
    return not hasattr(lm, "tokenizer")


def that_fit(lm: Any, task: Any, problems: list[Problem]) -> list[Problem]:
    """Return the problems whose prompts fit the model's context; print and log how many do not."""
    long = too_long(lm, task, problems)
    if len(long) == len(problems):
        check_prompts(lm, task, problems)
    if long:
        reason = f"prompt beyond the model's context of {lm.card.shape['context']}"
        print(f"{task.name}: {len(long):,} of {len(problems):,} problems left out, {reason}")
        notes = getattr(task, "notes", None) or {}
        task.notes = notes | {"left_out": notes.get("left_out", {}) | {reason: len(long)}}
    return [problem for problem in problems if problem.id not in long]


def print_cost(options: argparse.Namespace, lm: Any, task: Any, problems: Any, plan: Plan) -> None:
    """Print what a run would cost; money for tokens from a prompt paid once to one per sample."""
    if options.per_hour and not options.tokens_per_second:
        raise ValueError("--per-hour needs --tokens-per-second: without it no hours are known")
    check_prompts(lm, task, problems)
    texts = [chat_task(task, lm).prompt(problem) for problem in problems]
    local = not is_text(lm)
    lengths = [len(lm.encode(text)) if local else len(text.encode()) / 4 for text in texts]
    shape = Shape(**lm.card.shape) if lm.card.shape else None
    cost = estimate(lengths, plan, shape, options.mean_tokens)
    shards = len(shards_of(problems, plan))
    about = "" if local else " (a token per four bytes)"
    most = "" if options.mean_tokens else " at most"
    print(f"{cost['samples']:,.0f} samples of {len(problems):,} problems in {shards:,} shards")
    print(f"{cost['prompt_tokens']:,.0f} prompt tokens{about},{most} {cost['tokens']:,.0f} new")
    print(f"{cost['flops']:.3g} FLOPs" if shape else "FLOPs unknown: give --card")
    workers = options.workers or 1
    hours = math.nan
    if options.tokens_per_second:
        busy = min(workers, shards)
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

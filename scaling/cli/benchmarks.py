"""Benchmarks on the command line: options that make a task of a file; audit and leaderboard."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

GYM = "gym:"  #: before the name of a generator of reasoning-gym


def add(verbs) -> None:
    """Declare the verbs."""
    verb = verbs.add_parser("audit", help="compare a benchmark's grading with reference labels")
    verb.add_argument("--task", required=True, help="the benchmark: gsm8k, math500, ...")
    add_benchmark_options(verb)
    verb.add_argument(
        "labels", type=Path, help='JSON Lines of {"id": ..., "text": ..., "correct": true}'
    )
    verb.add_argument("--show", type=int, default=10, help="disagreements to list; default 10")
    verb.set_defaults(run=run_audit)
    verb = verbs.add_parser("leaderboard", help="accuracy and cost per category, of some runs")
    verb.add_argument("runs", type=Path, nargs="+", help="run folders of one benchmark")
    verb.add_argument("--prices", type=Path, help="CSV: model, input, output per million tokens")
    verb.set_defaults(run=run_leaderboard)


def add_benchmark_options(verb: argparse.ArgumentParser) -> None:
    """Add what makes a task of a benchmark's file."""
    from scaling.benchmarks.readers import READERS

    group = verb.add_argument_group("benchmarks", f"--task {', '.join(READERS)}; {GYM}NAME")
    group.add_argument("--problems-file", type=Path, help="the benchmark's own file")
    group.add_argument("--prompt", help="a name in scaling/benchmarks/prompts, or a file")
    group.add_argument("--newer-than", default="", help="only problems released after YYYY-MM-DD")


def task_of(options: argparse.Namespace) -> Any:
    """Return the task that the options name: one of the kit's own, or a benchmark's."""
    from scaling.benchmarks import load_benchmark, read_prompt
    from scaling.benchmarks.gym import gym_benchmark
    from scaling.benchmarks.readers import READERS
    from scaling.tasks import get_task

    name, file = options.task, options.problems_file
    if name.startswith(GYM):
        template, notes = read_prompt(options.prompt or "bare")
        task = gym_benchmark(
            name.removeprefix(GYM), options.problems, options.problem_seed, template
        )
        task.notes |= notes
        return task
    if name not in READERS and not file:
        return get_task(name, options.levels)
    if not file:
        raise ValueError(f"{name} is a benchmark: name its file with --problems-file")
    task = load_benchmark(name, file, options.prompt, options.newer_than)
    for why, count in task.left_out.items():
        print(f"{file}: {count:,} problems left out, {why}")
    return task


def run_audit(options: argparse.Namespace) -> None:
    """Print the agreement of the grading with reference labels, and the disagreements."""
    from scaling.benchmarks import audit
    from scaling.benchmarks.readers import records

    task = task_of(options)
    rows = [(str(row["id"]), row["text"], row["correct"]) for _, row in records(options.labels)]
    n, odd = audit(task, rows)
    print(f"{n - len(odd):,} of {n:,} texts are marked as the labels mark them")
    for row in odd[: options.show]:
        print(json.dumps(row | {"text": row["text"][-200:]}))


def run_leaderboard(options: argparse.Namespace) -> None:
    """Print accuracy and cost per category."""
    from scaling.curves import read_pool
    from scaling.report.leaderboard import leaderboard, read_prices
    from scaling.store import load_run

    prices = read_prices(options.prices) if options.prices else None
    pools = [read_pool(load_run(path, text=True)) for path in options.runs]
    table = leaderboard(pools, prices)
    print(table.to_string(index=False, float_format=lambda x: f"{x:.4g}"))

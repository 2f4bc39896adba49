"""Benchmarks on the command line: a task of a file; audit and leaderboard."""

from __future__ import annotations

import argparse
import json
from typing import Any

from scaling.benchmarks import READERS, audit, load_benchmark, read_prompt, records
from scaling.benchmarks.gym import gym_benchmark
from scaling.report.leaderboard import leaderboard, read_prices
from scaling.runs import load_run
from scaling.tasks import get_task

GYM = "gym:"  #: before the name of a generator of reasoning-gym


def task_of(options: argparse.Namespace) -> Any:
    """Return the task that the options name: one of the kit's own, or a benchmark's."""
    name, file, levels = options.task, options.problems_file, getattr(options, "levels", None)
    if name.startswith(GYM):
        template, notes = read_prompt(options.prompt or "bare")
        task = gym_benchmark(
            name.removeprefix(GYM), options.problems, options.problem_seed, template
        )
        task.notes |= notes
        return task.only(levels) if levels else task
    if name not in READERS and not file:
        return get_task(name, levels)
    task = load_benchmark(name, file, options.prompt, options.newer_than)
    return task.only(levels) if levels else task


def print_left_out(task: Any) -> None:
    """Print how many problems of a benchmark's file are left out, by reason."""
    for why, count in getattr(task, "left_out", {}).items():
        print(f"{task.notes.get('file', task.name)}: {count:,} problems left out, {why}")


def run_audit(options: argparse.Namespace) -> None:
    """Print the agreement of the grading with reference labels, and the disagreements."""
    if not options.problems_file:
        raise ValueError("audit grades answers to a benchmark: name its file with --problems-file")
    task = task_of(options)
    print_left_out(task)
    rows = []
    for where, row in records(options.labels):
        id_, text, label = (row.get(name) for name in ("id", "text", "correct"))
        if id_ is None or not isinstance(text, str) or not isinstance(label, bool):
            raise ValueError(
                f"{options.labels}, {where}: give JSON Lines of "
                '{"id": "...", "text": "...", "correct": true}'
            )
        rows.append((str(id_), text, label))
    n, odd = audit(task, rows)
    print(f"{n - len(odd):,} of {n:,} texts are marked as the labels mark them")
    if len(odd) > options.show:
        print(f"the first {options.show:,} of {len(odd):,} others (--show):")
    for row in odd[: options.show]:
        print(json.dumps(row | {"text": row["text"][-200:]}))


def run_leaderboard(options: argparse.Namespace) -> None:
    """Print accuracy and cost per category."""
    prices = read_prices(options.prices) if options.prices else None
    pools = [load_run(path, text=True) for path in options.runs]
    table = leaderboard(pools, prices)
    print(table.to_string(index=False, float_format=lambda x: f"{x:.4g}"))

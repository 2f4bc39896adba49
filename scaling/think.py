"""Train a tiny model by reward until it searches mazes, and watch it do so: `make think`.

Each checkpoint is sampled on the same test problems. Not here: training (`ladder`), the table
(`runs.reward_log`) and the figure (`figures.reward`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from scaling.figures import plots
from scaling.figures.reward import learning_to_think
from scaling.ladder import Course, check_budgets, reinforce
from scaling.models import CARD, load_lm
from scaling.records import Plan
from scaling.runs import Run, load_run
from scaling.runs.reward_log import log_rows, paired_traces
from scaling.sampling import sample_run
from scaling.store.files import write_outputs
from scaling.tasks import get_task
from scaling.tasks.maze import mean_search_length

BUDGETS = (1e10, 3e10, 6e10, 1.2e11, 2.4e11, 5e11, 1e12, 1.8e12, 3e12, 6e12)  #: FLOPs of reward
TRACES = 10  #: shown before and after


def think(
    start: Path, out: Path, course: Course, budgets: Sequence[float], problems: int, samples: int
) -> tuple[list[Run], pd.DataFrame]:
    """Train by reward; return a run on test problems per checkpoint, the start first, and the log.

    Checkpoints go to `out`/grpo, runs to `out`/runs, the log to `out`/log.csv, rewritten after each
    checkpoint; what is there is continued. problems, samples: how many to test with, and of each.
    """
    check_budgets(budgets)
    task, lm, began = get_task(course.task), load_lm(start), time.time()
    tested = task.problems(problems)
    plan = Plan(chains=samples, max_new_tokens=course.max_new_tokens, seed=course.seed)
    runs, log = list[Run](), list[pd.DataFrame]()

    def test(path: Path) -> None:
        rounds = json.loads((path / CARD).read_text()).get("rounds", ()) if runs else ()
        current = load_lm(path)
        run = sample_run(current, task, tested, plan, out / "runs", progress=False)
        spent = current.card.train_flops - lm.card.train_flops
        seen = len(rounds) * course.problems * course.chains
        runs.append(load_run(run.path, text=True))
        log.append(log_rows(runs[-1], seen, spent, task.habits))
        table = pd.concat(log).to_csv(index=False, float_format="%.6g")
        write_outputs({out / "log.csv": table.encode()})
        tqdm.write(f"{time.time() - began:5.0f} s  {in_words(log[-1])}")

    test(start)
    reinforce(lm, budgets, out / course.lesson, course, after=test)
    return runs, pd.concat(log, ignore_index=True)


def in_words(rows: pd.DataFrame) -> str:
    """Return the last row of a log, that of all levels, as a line of text."""
    row = rows.iloc[-1]
    return (
        f"{row.samples:7,} samples, {row.reward_flops:.1e} FLOPs: accuracy {row.accuracy:.3f}, "
        f"{row.tokens:4.1f} tokens, {row.returns:4.0%} of traces return"
    )


def draw(log: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the log into `out`; return the files."""
    level = log["level"].iloc[-2]  # the hardest
    lengths = {
        f"search that {name} ({level})": mean_search_length(level, remembers)
        for name, remembers in (("forgets", False), ("remembers", True))
    }
    with plots.style():
        drawn = learning_to_think(log, lengths)
    return plots.save(drawn.figure, "think", out, facts=drawn.facts, redraw="make think")


def traces_in_words(before: Run, after: Run) -> Iterator[str]:
    """Yield `TRACES` lines of text: the level, the trace before, and the trace after."""
    for row in paired_traces(before, after, TRACES).itertuples():
        marks = ("right" if right else "wrong" for right in (row.correct_before, row.correct_after))
        old, new = marks
        yield f"{row.level:>3}  {row.text_before} ({old})  ->  {row.text_after} ({new})"

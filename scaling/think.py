"""Train a tiny model by reward until it searches mazes, and watch it do so: `make think`.

Each checkpoint is sampled on the same test problems. Not here: training (`ladder`), the table
(`runs.reward_log`) and the figure (`figures.reward`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from scaling.curves import Curve
from scaling.figures import plots
from scaling.figures.plane import curve_across
from scaling.figures.reward import learning_to_think
from scaling.fits import fit, forecast
from scaling.ladder import Course, check_budgets, reinforce
from scaling.models import CARD, load_lm
from scaling.records import Plan
from scaling.runs import Run, load_run
from scaling.runs.reward_log import log_rows, paired_traces
from scaling.sampling import sample_run
from scaling.store.files import write_outputs
from scaling.tasks import get_task
from scaling.tasks.maze import mean_search_length

#: FLOPs of training by reward, log-spaced; a law is fitted up to a quarter of the last
BUDGETS = (1e10, 2e10, 4e10, 8e10, 1.4e11, 2e11, 3e11, 4.4e11, 6.6e11, 1e12, 1.4e12, 2e12,
           2.8e12, 4e12)  # fmt: skip
FITTED = 0.26  #: share up to which it is fitted: a quarter, and what a last round takes beyond it
LAWS = ("bnsl", "sigmoid")  #: a fast rise and a slow one, and a rise that saturates
MOST_PARAMETERS = 6  #: of a law of `LAWS`
TRACES = 10  #: shown before and after


def think(
    start: Path, out: Path, course: Course, budgets: Sequence[float], problems: int, samples: int
) -> tuple[list[Run], pd.DataFrame]:
    """Train by reward; return a run on test problems per checkpoint, the start first, and the log.

    Checkpoints go to a folder of `out` named after the lesson, runs to `out`/runs, the log to
    `out`/log.csv, which is rewritten after each checkpoint; an interrupted training continues.
    problems: number of test problems; samples: number of samples of each.
    """
    check_budgets(budgets)
    torch.set_num_threads(1)  # matrices are so small that two threads wait for each other
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


def laws(runs: Sequence[Run], log: pd.DataFrame) -> pd.DataFrame:
    """Return a row per level and law of `LAWS`: accuracy against compute, and its forecast.

    The law is fitted to the checkpoints of at most `FITTED` of the compute, without the start; no
    rows where these are too few for the law of most parameters. Columns: rmse_all, of the law
    fitted to all checkpoints; the parameters and rmse of the fit to the first; then accuracy at the
    last checkpoint, predicted with its 95 % interval, how many held-out points there are and how
    many are inside theirs, and their median error.
    """
    spent, rows = log.loc[log["level"] == "all", "reward_flops"].to_numpy(), []
    enough = (spent[1:] <= FITTED * spent.max()).sum() >= MOST_PARAMETERS
    for level in runs[0].levels if enough else ():
        shown = curve_across([run.curve(level=level) for run in runs[1:]], spent[1:], at=0)
        shown = replace(shown, x_unit="flops")
        rows += [{"level": level, "law": law} | forecast_row(law, shown) for law in LAWS]
    return pd.DataFrame(rows)


def forecast_row(law: str, shown: Curve) -> dict[str, Any]:
    """Return the columns of `laws` for one law and curve."""
    fitted, held_out = forecast(law, shown, FITTED)
    last, row = held_out.iloc[-1], dict[str, Any](rmse_all=fit(law, shown).rmse, rmse=fitted.rmse)
    row |= {"fitted": fitted.n_points, "reward_flops": last.x, "accuracy": last.y}
    row |= {"predicted": last.predicted, "low": last.low, "high": last.high}
    row |= {"held_out": len(held_out), "inside": held_out["covered"].sum()}
    row |= {"median_error": held_out["error"].abs().median(), "message": fitted.message}
    return row | {f"p_{name}": value for name, value in fitted.params.items()}


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


def laws_in_words(found: pd.DataFrame) -> Iterator[str]:
    """Yield a line of text per law: its forecast of the last checkpoint, and what was measured."""
    if found.empty:
        yield "no law is fitted: fewer than six checkpoints in the first quarter of the compute"
    for row in found.to_dict("records"):
        inside = "inside" if row["low"] <= row["accuracy"] <= row["high"] else "outside"
        words = f"{row['level']:>3}  accuracy {row['accuracy']:.3f}; {row['law']:>7} forecast "
        yield words + f"{row['predicted']:.3f} [{row['low']:.3f}, {row['high']:.3f}]: {inside}"


def traces_in_words(before: Run, after: Run) -> Iterator[str]:
    """Yield `TRACES` lines of text: the level, the trace before, and the trace after."""
    for row in paired_traces(before, after, TRACES).to_dict("records"):
        old, new = (
            f"{row[f'text_{when}']} ({'right' if row[f'correct_{when}'] else 'wrong'})"
            for when in ("before", "after")
        )
        yield f"{row['level']:>3}  {old}  ->  {new}"

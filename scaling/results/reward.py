"""Does reward alone teach a model to search, and does it add to what its start could do?

Two starts: walks that give up at dead ends, and right paths with a few searches. The log of each
training, its laws, and its test at the end are read from data/models, since every checkpoint of
every seed would be too large to keep; coverage before and after is read from runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.comparisons.overtaking import overtaking
from scaling.records import Plan
from scaling.results.table import Sampled, curve_row, find, row
from scaling.runs import Run, Runs
from scaling.runs.lengths import cut

MODELS = Path("data/models")
LEVELS = ("1", "2", "3", "4", "6", "8")
PROBLEMS = 100  #: of each level
PLAN = Plan(chains=64, max_new_tokens=120)
TOKENS = (10, 20, 30, 40, 60, 80, 120)  #: lengths at which samples are cut
STARTS = {  #: task -> (start, the same after training by reward)
    "maze-quit": ("maze-quit/0.05M/1e13", "maze-quit/0.05M/shortest/4e12"),
    "maze-paths": ("maze-paths/0.05M/2.4e12", "maze-paths/0.05M/shortest/6e11"),
}
SAMPLED = tuple(
    Sampled(model, task, LEVELS, PROBLEMS, PLAN)
    for task, models in STARTS.items()
    for model in models
)


def rows(runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield the numbers of every training, then what reward adds to each start."""
    for path in sorted(MODELS.glob("maze-*/*/shortest/log.csv")):
        case = "/".join(path.parts[2:4])
        yield from checkpoints(read(path), case)
        if (final := path.with_name("final.csv")).exists():
            yield from checkpoints(read(final), f"{case}, final test")
        if (laws := path.with_name("laws.csv")).exists():
            yield from forecasts(read(laws), case)
    for task in STARTS:
        before, after = (find(runs, wanted) for wanted in SAMPLED if wanted.task == task)
        for level in (*LEVELS, "all"):
            yield from added(before, after, level, f"{task}, {level}")
            for tokens in TOKENS:
                curve = cut(after, tokens).curve("coverage", level=level)
                case = f"{task}, {level}, {tokens} tokens"
                yield curve_row(case, "accuracy within", curve, 0)


def read(path: Path) -> pd.DataFrame:
    """Return a table with a column `level`, whose names look like numbers."""
    return pd.read_csv(path, dtype={"level": str})


def checkpoints(log: pd.DataFrame, case: str) -> Iterator[dict[str, Any]]:
    """Yield what a log says of the start and of each checkpoint; each level only of the last."""
    last = log["reward_flops"].max()
    for found in log[(log["level"] == "all") | (log["reward_flops"] == last)].to_dict("records"):
        name, n = f"{case}, {found['level']}, {found['reward_flops']:g} FLOPs", found["n_problems"]
        yield row(name, "accuracy", found["accuracy"], found["low"], found["high"], n)
        for column in ("samples", "tokens", "returns", "repeats"):
            yield row(name, column, found[column], n=n)


def forecasts(laws: pd.DataFrame, case: str) -> Iterator[dict[str, Any]]:
    """Yield how well each law fits, and its forecast from a quarter of the compute."""
    for law in laws.to_dict("records"):
        name, ends = f"{case}, {law['level']}, {law['law']}", (law["low"], law["high"])
        yield row(name, "rms error of the fit to all checkpoints", law["rmse_all"])
        yield row(name, "forecast of the last checkpoint", law["predicted"], *ends)
        yield row(name, "accuracy of the last checkpoint", law["accuracy"])
        yield row(name, "median error of the forecast", law["median_error"], n=law["held_out"])
        yield row(name, "held-out checkpoints inside", law["inside"], n=law["held_out"])


def added(before: Run, after: Run, level: str, case: str) -> Iterator[dict[str, Any]]:
    """Yield coverage before and after, and the samples from which the start is ahead."""
    for name, run in (("before", before), ("after", after)):
        curve = run.curve("coverage", level=level)
        for at, k in enumerate(run.budgets()):
            yield curve_row(f"{case}, {k} samples", f"coverage {name}", curve, at)
    found = overtaking(before, after, level)
    yield row(case, "samples from which the start is ahead", found.k, found.low, found.high)
    yield row(case, "share of replicates in which it is", found.share)

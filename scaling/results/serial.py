"""Does accuracy rise with thinking tokens where nothing else buys it, and is the rise forecast?

The task is to follow swaps of five things (`tasks.permutations`), in equal shares of lists of 2, 4,
..., 64 swaps. A thinker without errors that is cut after T tokens answers the lists of up to T / 8
swaps and guesses at the others, so each doubling of T adds one level: a straight line in log T, the
law `log_line`. It is fitted to budgets up to the middle of the axis, in the logarithm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scaling.records import Plan
from scaling.results.table import Sampled, curve_row, find, row
from scaling.runs import Run, Runs
from scaling.tasks.permutations import STEP_TOKENS, accuracy_of_thinking, floor_of_guessing

LEVELS = ("2", "4", "8", "16", "32", "64")
MODEL, SHORT = "permutations/0.11M/2e13", "permutations-short/0.11M/"
DIRECT = "permutations-direct"
TOKENS = [8 << i for i in range(7)]  #: thinking tokens of the budgets, after 0
FIT_UP_TO = 64  #: thinking tokens: the middle of 8 to 512 in the logarithm
GUESSES = 60  #: orders of the right parity
THINKING = Sampled(
    MODEL, "permutations", LEVELS, 400, Plan("thinking", chains=1, steps=8, max_new_tokens=512)
)
LONGER = Sampled(  #: twice as long, where too few examples were seen
    MODEL, "permutations", ("128",), 100, Plan("thinking", chains=1, steps=2, max_new_tokens=1024)
)
SAMPLES = Sampled(MODEL, DIRECT, LEVELS, 100, Plan(chains=64, max_new_tokens=8))
LESS_TRAINED = tuple(
    Sampled(SHORT + budget, DIRECT, LEVELS, 100, Plan(chains=8, max_new_tokens=8))
    for budget in ("3e12", "5.6e12")
)
SAMPLED = (THINKING, SAMPLES, *LESS_TRAINED, LONGER)


def rows(runs: Runs) -> list[dict[str, Any]]:
    """Return accuracy by thinking tokens, its law, and what samples and training buy instead."""
    thinking, direct = find(runs, THINKING), find(runs, SAMPLES)
    by_training = [direct, *(find(runs, wanted) for wanted in LESS_TRAINED)]
    return [
        *accuracy_rows(thinking, TOKENS),
        *accuracy_rows(find(runs, LONGER), [1024]),
        *(found for unit in ("thinking", "flops") for found in law_rows(thinking, unit)),
        *sampling_rows(direct),
        *(
            curve_row(f"{level}, {run.card.name}", "pass@1", run.curve(level=level), 0)
            for run in by_training
            for level in run.levels
        ),
    ]


def accuracy_rows(run: Run, budgets: list[int]) -> Iterator[dict[str, Any]]:
    """Yield accuracy at each budget by level, and what all levels cost and could reach."""
    flops = run.curve("last", "flops")
    for level in run.levels:
        curve = run.curve("last", "thinking", level)
        for at, tokens in enumerate((0, *budgets)):
            case = f"{level}, {tokens} thinking tokens"
            yield curve_row(case, "accuracy", curve, at)
            if level == "all":
                yield row(case, "accuracy without errors", ideal(tokens))
                yield row(case, "FLOPs", flops.x[at], n=flops.n_problems)
        if level != "all":
            accuracy = np.array([curve.y[-1], curve.high[-1], curve.low[-1]])
            errors, low, high = 1 - accuracy ** (1 / int(level))
            yield row(level, "errors per step", errors, low, high, curve.n_problems)


def ideal(tokens: int) -> float:
    """Return the accuracy of a thinker without errors, over all levels, after some tokens."""
    steps = tokens // STEP_TOKENS
    return float(np.mean([accuracy_of_thinking(int(level), steps, reach=0) for level in LEVELS]))


def law_rows(run: Run, unit: str) -> Iterator[dict[str, Any]]:
    """Yield the law in `unit`, fitted to the lower half of the budgets, and its forecast."""
    found = run.forecast("log_line", FIT_UP_TO, unit=unit)
    case, points = f"{found.fit.law} in {unit}", found.frame
    for name, (value, low, high) in found.fit.numbers.items():
        yield row(case, name, value, low, high, found.fit.n_problems)
    for tokens, point in zip(TOKENS[-len(points) :], points.to_dict("records"), strict=True):
        at = f"{case}, {tokens} thinking tokens"
        yield row(at, "forecast", point["predicted"], point["low"], point["high"])
    yield row(case, "median error", found.median_error, n=len(points))
    yield row(case, "held-out points inside", points["covered"].mean(), n=len(points))


def sampling_rows(run: Run) -> Iterator[dict[str, Any]]:
    """Yield coverage and majority of all direct answers of a problem, next to those of guesses."""
    k = int(run.budgets()[-1])
    yield row(f"guesses among {GUESSES}", f"coverage@{k}", 1 - (1 - 1 / GUESSES) ** k)
    for level in run.levels:
        for selector in ("coverage", "majority"):
            yield curve_row(level, f"{selector}@{k}", run.curve(selector, level=level), -1)
        levels = LEVELS if level == "all" else (level,)
        floors = [floor_of_guessing(int(one)) for one in levels]
        yield row(level, "accuracy of the best guess", float(np.mean(floors)))
    votes = run.curve("majority", "flops")
    for at, samples in enumerate(run.budgets()):
        case = f"all, {samples} direct answers"
        yield curve_row(case, "majority", votes, at)
        yield row(case, "FLOPs", votes.x[at], n=votes.n_problems)

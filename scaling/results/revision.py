"""Do drafts that show their own error help more than fresh samples at equal test FLOPs?

A first draft of a model of `maze-revise` hardly looks ahead: only later drafts, which are mostly
right, teach it. But a draft that ends in a dead end shows which branches are wrong. A reviser that
reads its drafts needs one draft more than it meets wrong branches; fresh samples know nothing of
each other. Drafts cost the same per token, but are read with a longer context. The same model
searches depth first when asked to, so all are compared on equal weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from scaling.comparisons.equal_cost import compare
from scaling.comparisons.revision import transitions
from scaling.intervals import mean_interval
from scaling.records import Plan
from scaling.results.table import Sampled, estimate_row, find, row
from scaling.runs import Run, Runs
from scaling.tasks.maze import chance_of_dead_ends

PROBLEMS, STEPS = 400, 6
FRESH = Sampled(
    "maze-revise/0.05M/8e12",
    "maze-revise",
    ("2x1", "4x1", "6x1", "8x1"),
    PROBLEMS,
    Plan(chains=20, max_new_tokens=40),
)
DRAFTS = replace(FRESH, plan=Plan(method="revision", chains=1, steps=STEPS, max_new_tokens=40))
JUDGED = replace(DRAFTS, plan=replace(DRAFTS.plan, feedback="verdict"))
SEARCH = replace(FRESH, task="maze-search", plan=Plan(chains=4, max_new_tokens=80))
SAMPLED = (FRESH, DRAFTS, JUDGED, SEARCH)
#: how both sides choose an answer -> selectors of the drafts and of fresh samples
SELECTORS = {
    "any right": ("coverage", "coverage"),
    "last draft against majority": ("last", "majority"),
    "last draft against likeliest": ("last", "logprob"),
}


def rows(runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield revision compared with fresh samples and with searches, and with what is possible."""
    fresh, drafts, judged, search = (find(runs, wanted) for wanted in SAMPLED)
    for level in fresh.level_names:
        yield from known_rows(drafts, level)
        for run, feedback in ((drafts, "without feedback"), (judged, "with feedback")):
            for steps in (2, STEPS):
                case = f"{level}, {steps} drafts {feedback}"
                yield from gain_rows(f"{case}, any right", run, fresh, level, steps)
        for name, selectors in list(SELECTORS.items())[1:]:
            case = f"{level}, {STEPS} drafts without feedback, {name}"
            yield from gain_rows(case, drafts, fresh, level, STEPS, *selectors)
        for steps in (2, STEPS):
            case = f"{level}, {steps} drafts without feedback against searches"
            with suppress(ValueError):  # costs less than one search, or more than all
                yield from gain_rows(case, drafts, search, level, steps)
    for at in transitions(drafts).to_dict("records")[1:]:
        case = f"all levels, draft {at['step'] + 1:.0f}"
        for name in ("fixed", "broken"):
            yield row(case, name, at[name], at[f"{name}_low"], at[f"{name}_high"])
        yield row(case, "repeats", at["repeats"])


def known_rows(drafts: Run, level: str) -> Iterator[dict[str, Any]]:
    """Yield the share right within each number of drafts, and that of a perfect reviser."""
    at = drafts.rows(level)
    for steps in (1, 2, STEPS):
        values = drafts.values("coverage", [steps])[at, 0]  # type: ignore[arg-type]
        case = f"{level}, {steps} drafts without feedback"
        yield estimate_row(case, "right within them", mean_interval(values))
        yield row(case, "right within them, perfect reviser", chance_of_dead_ends(level, steps - 1))


def gain_rows(
    case: str, run: Run, baseline: Run, level: str, steps: int,
    selector: str = "coverage", other: str | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield the accuracies of both sides at equal test FLOPs, and their paired difference."""
    found = compare(run, baseline, selector, other, level=level, k=steps)
    yield row(case, "accuracy", found.value, n=found.gain.problems)
    yield row(case, "accuracy of the baseline", found.baseline, n=found.gain.problems)
    yield row(case, "samples of the baseline", found.samples, n=found.gain.problems)
    yield estimate_row(case, "gain at equal test FLOPs", found.gain)

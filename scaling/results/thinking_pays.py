"""Does one search beat direct paths that cost as many test FLOPs, and where does it stop?

The baseline is the best of the selectors of direct paths: coverage, since a maze checks its own
answer, and also majority and log-probability. The prompt is computed once for all samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scaling.comparisons.equal_cost import compare
from scaling.results import mazes
from scaling.results.table import estimate_row, find, row
from scaling.runs import Run, Runs

SAMPLED = mazes.PAIRS
SELECTORS = ("coverage", "majority", "logprob")  #: of the direct paths


def rows(runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield the gain of one search over direct paths, per checkpoint, level and selector."""
    for budget in mazes.COMPARED:
        direct, search = (find(runs, wanted) for wanted in mazes.pair(budget))
        for level in (*mazes.LEVELS, "all"):
            yield from gains(direct, search, level, f"{mazes.SIZE}/{budget}, {level}")


def gains(direct: Run, search: Run, level: str, case: str) -> Iterator[dict[str, Any]]:
    """Yield the accuracy of one search, and its gain at equal cost for each selector."""
    for selector in SELECTORS:
        found = compare(search, direct, "coverage", selector, level=level, k=1)
        if selector == SELECTORS[0]:
            yield row(case, "accuracy of one search", found.value, n=found.gain.problems)
            yield row(case, "direct paths of equal cost", found.samples, n=found.gain.problems)
        yield row(case, f"{selector} of direct paths", found.baseline, n=found.gain.problems)
        yield estimate_row(case, f"gain over {selector}", found.gain)

"""Several searches or one long one: accuracy over (samples, tokens of each), at exact cost.

Each sample of a pool is cut at a number of tokens (`runs.lengths.cut`), so that one pool holds
every cell. Direct paths are the column of length 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from scaling.results import mazes
from scaling.results.table import find, row
from scaling.runs import Run, Runs
from scaling.runs.lengths import cut

LENGTHS = (8, 12, 16, 24, 32, 48, 64, 96)  #: tokens at which searches are cut
BUDGET = "5.6e12"  #: training FLOPs of the checkpoint
SAMPLED = mazes.pair(BUDGET)


def cells(direct: Run, search: Run, level: str) -> pd.DataFrame:
    """Return one row per number of samples and length: coverage and its cost in FLOPs."""
    table = []
    for length, run in [(0, direct), *((tokens, cut(search, tokens)) for tokens in LENGTHS)]:
        k = run.budgets()
        curve = run.curve("coverage", unit="flops", level=level)
        columns = {"samples": k, "length": length, "flops": curve.x, "accuracy": curve.y}
        table.append(pd.DataFrame(columns | {"low": curve.low, "high": curve.high}))
    return pd.concat(table, ignore_index=True)


def rows(runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield the coverage and the cost of every cell, for the checkpoint and levels shown."""
    direct, search = (find(runs, wanted) for wanted in SAMPLED)
    for level in mazes.LEVELS:
        for cell in cells(direct, search, level).itertuples():
            case = f"{level}, {cell.samples} x {cell.length}"
            yield row(case, "coverage", cell.accuracy, cell.low, cell.high, mazes.PROBLEMS)
            yield row(case, "FLOPs", cell.flops, n=mazes.PROBLEMS)

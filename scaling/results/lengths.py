"""Several searches or one long one: accuracy over (samples, tokens of each), at exact cost.

Each sample of a pool is cut at a number of tokens (`runs.lengths.cut`), so that one pool holds
every cell. Direct paths are the column of length 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from scaling.results import mazes
from scaling.results.table import find, row
from scaling.runs import Run, Runs
from scaling.runs.lengths import cut

SAMPLED = mazes.SAMPLED
LENGTHS = (12, 16, 24, 32, 48, 64, 96)  #: tokens at which searches are cut


def cells(direct: Run, search: Run, level: str) -> pd.DataFrame:
    """Return one row per number of samples and length: coverage and its cost in FLOPs."""
    table = []
    for length, run in [(0, direct), *((tokens, cut(search, tokens)) for tokens in LENGTHS)]:
        k = run.budgets()
        curve = run.curve("coverage", unit="flops", level=level)
        columns = {"samples": k, "length": length, "flops": curve.x, "accuracy": curve.y}
        table.append(pd.DataFrame(columns | {"low": curve.low, "high": curve.high}))
    return pd.concat(table, ignore_index=True)


def best_below(found: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that no cheaper cell reaches, the cheapest first."""
    ordered = found.sort_values("flops", ignore_index=True)
    return ordered[ordered["accuracy"] > np.r_[-1, ordered["accuracy"].cummax()[:-1]]]


def rows(runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield the best split of each cost between samples and length, per checkpoint and kind."""
    for budget in mazes.BUDGETS:
        direct, search = (find(runs, wanted) for wanted in mazes.pair(budget))
        for level in mazes.LEVELS:
            for cell in best_below(cells(direct, search, level)).itertuples():
                case = f"{mazes.SIZE}/{budget}, {level}: {cell.samples} x {cell.length} tokens"
                yield row(case, f"best coverage for {cell.flops:.3g} FLOPs", cell.accuracy,
                          cell.low, cell.high, mazes.PROBLEMS)  # fmt: skip

"""The table `accuracy.csv`: accuracy per budget of every run, and what of a run is not in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from scaling.curves import WEIGHTED, Cluster, Pool
from scaling.intervals import REPLICATES, mean_interval

COLUMNS = ["task", "level", "model", "n_params", "train_flops", "method", "selector",
           "k", "test_tokens", "test_flops", "accuracy", "low", "high",
           "n_problems", "n_missing", "n_unextracted", "n_truncated"]  # fmt: skip


def accuracy_rows(
    pool: Pool, replicates: int = REPLICATES, cluster: Cluster | None = None
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of `accuracy.csv` that one run gives; a grid's method says its chains.

    Problems without a sample are left out, and counted in `n_missing` together with those that have
    too few samples for the budget, because some failed: these make the accuracy NaN.
    """
    k, run, card = pool.budgets(), pool.run, pool.run.card
    series = [(name, 1) for name in pool.selectors if not name.startswith(WEIGHTED)]
    if run.plan.method == "revision":
        series += [("oracle", 2**i) for i in range(1, run.plan.chains.bit_length())]
    flaws = np.stack(flaws_of(pool))
    for selector, chains in series:
        method = pool.label + (f" x{chains}" if chains > 1 else "")
        values = pool.values(selector, k, chains)
        costs = [pool.cost(unit, k, chains, selector=selector) for unit in ("tokens", "flops")]
        for level, every in pool.levels.items():
            rows = pool.rows(level)
            family = pool.families(cluster, rows)
            found = mean_interval(values[rows], replicates, cluster=family)
            tokens, flops = (cost[rows].mean(axis=0) for cost in costs)
            which = run.task, level, card.name, card.n_params, card.train_flops, method, selector
            missing = np.isnan(values[every]).sum(axis=0)
            columns = k * chains, tokens, flops, found.value, found.low, found.high
            for *point, lost in zip(*columns, missing, strict=True):
                yield *which, *point, pool.drawn[rows].sum(), lost, *flaws[:, every].sum(axis=1)


def accuracy_table(
    pools: Iterable[Pool], replicates: int = REPLICATES, cluster: Cluster | None = None
) -> pd.DataFrame:
    """Return one row per task, level, model, method, selector and budget."""
    rows = [row for pool in pools for row in accuracy_rows(pool, replicates, cluster)]
    return pd.DataFrame(rows, columns=COLUMNS)


def samples_of(pool: Pool) -> pd.DataFrame:
    """Return the rows of the log that hold an answer: of a search the last node of each chain.

    Samples that failed are left out, and a scorer's passes.
    """
    frame = pool.run.frame
    finish = frame["finish"].astype(str)
    frame = frame[~finish.isin(["scored", "discarded"]) & ~finish.str.startswith("error")]
    if pool.run.plan.width:
        frame = frame.drop_duplicates(["problem", "chain"], keep="last")
    return frame


def flaws_of(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Return each problem's samples without an extractable answer, and those cut at the token cap.

    Both are (problems,).
    """
    frame, names = samples_of(pool), pool.run.problems["id"]
    unextracted, truncated = (
        frame["problem"][flaw].value_counts().reindex(names, fill_value=0).to_numpy()
        for flaw in (frame["answer"].isna(), frame["finish"] == "length")
    )
    return unextracted, truncated


def flaw_counts(pools: Iterable[Pool]) -> tuple[int, int, int]:
    """Return (samples, those without an extractable answer, those cut at the token cap)."""
    found = [(len(samples_of(pool)), *(int(f.sum()) for f in flaws_of(pool))) for pool in pools]
    drawn, unextracted, truncated = (sum(column) for column in zip(*found, strict=True))
    return drawn, unextracted, truncated


def flaw_line(drawn: int, unextracted: int, truncated: int) -> str:
    """Return counts of samples as a line to print."""
    return (
        f"of {drawn:,} samples {truncated:,} were cut at the token cap and {unextracted:,} have no "
        "answer that could be extracted"
    )


def incomplete(pool: Pool) -> str:
    """Return what a run lacks: problems that were not drawn, samples that failed; "" if nothing."""
    lost, found = int((~pool.drawn).sum()), []
    if lost:
        found.append(f"{lost:,} of {len(pool.drawn):,} problems have no sample")
    if pool.n_missing:
        found.append(f"{pool.n_missing:,} samples failed")
    return " and ".join(found)


def unfinished(pool: Pool) -> str:
    """Return that a run is unfinished, and what it lacks; "" where it is not."""
    if pool.run.sha256 or pool.drawn.all():
        return ""
    return f"it is unfinished, {incomplete(pool)}; run the command that began it again"

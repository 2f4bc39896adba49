"""Which law to trust on runs of one's own: every law fitted to small budgets, scored on larger.

`fits.tournament` does it for curves; here are the curves of pools, and the verdict over all of
them. Not here: laws over train and test compute together (`joint.joint_tournament`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from scaling.curves import Pool, curve
from scaling.fits import tournament
from scaling.fits.laws import LAWS

USEFUL = (0.002, 0.95)  #: accuracy of one sample between which a curve has something to forecast


def first_chains(pool: Pool, count: int) -> Pool:
    """Return the pool as it was when `count` chains had been drawn."""
    ledger = {name: column[:, :count] for name, column in pool.ledger.items()}
    return replace(
        pool, correct=pool.correct[:, :count], answers=pool.answers[:, :count], ledger=ledger
    )


def law_tournament(
    pools: Sequence[Pool],
    selector: str = "oracle",
    laws: Iterable[str] | None = None,
    share: float = 1 / 16,
    few: bool = False,
    replicates: int = 300,
) -> pd.DataFrame:
    """Return one row per law and curve, see `fits.tournament`, over best-of-N pools and levels.

    Laws see k up to `share` of the pool. Those budgets are read from the whole pool, so that the
    error is the law's alone; `few` reads them from the first chains only, as one who had drawn no
    more would, and the error holds luck too. Curves that start outside `USEFUL` are left out.
    """
    curves = {}
    for pool in pools:
        if pool.run.plan.method != "best_of_n" or pool.run.plan.stop_after_correct:
            continue
        for level in pool.levels:
            whole = curve(pool, selector, level=level, replicates=replicates)
            if USEFUL[0] < whole.y[0] < USEFUL[1]:
                count = max(1, int(share * pool.correct.shape[1]))
                early = first_chains(pool, count) if few else pool
                known = curve(early, selector, level=level, replicates=replicates)
                curves[f"{pool.run.task} {pool.run.card.name} {level}"] = (known, whole)
    if laws is None:
        laws = [n for n, law in LAWS.items() if law.axes == 1 and suits(n, selector)]
    return tournament(curves, laws, share)


def suits(law: str, selector: str) -> bool:
    """Return whether a law speaks of what a selector reaches: some speak of coverage alone."""
    coverage = LAWS[law].density is not None or law == "exp_power"
    return selector == "oracle" or not coverage


def trust(table: pd.DataFrame, error: float = 0.02, coverage: float = 0.9) -> pd.DataFrame:
    """Return one row per law over the curves of a tournament, the most trustworthy first.

    `trusted`: median error at most `error` and intervals that hold at least `coverage` of the
    held-out points. A curve that a law could not be fitted to is counted in `n_unfitted`.
    """
    by = table.groupby("law")
    found = by[["median_error", "worst_error", "width"]].median()
    found["coverage"] = by["coverage"].mean()
    found["n_curves"] = by["median_error"].count()
    found["n_unfitted"] = by.size() - found["n_curves"]
    found["trusted"] = (found.median_error <= error) & (found.coverage >= coverage)
    order = ["trusted", "median_error"]
    return found.sort_values(order, ascending=[False, True]).reset_index()

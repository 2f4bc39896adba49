"""Which law to trust on runs of one's own: every law fitted to small budgets, scored on larger.

`fits.tournament` does it for curves; here are the curves of pools, and the verdict over all of
them. Not here: laws over train and test compute together (`joint.joint_tournament`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scaling.curves import Pool
from scaling.fits import tournament
from scaling.fits.laws import LAWS
from scaling.intervals import mean_interval
from scaling.records import Curve

GROUPS = ("task", "level")
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
    halves: bool = False,
    replicates: int = 300,
) -> pd.DataFrame:
    """Return one row per law and curve, see `fits.tournament`, over best-of-N pools and levels.

    Laws see k up to `share` of the pool. Those budgets are read from the whole pool, so that the
    error is the law's alone; `few` reads them from the first chains only, as one who had drawn no
    more would, and the error holds luck too. `halves` fits to every second problem and scores on
    the others, so that fit and measurement share no luck. Curves that start outside `USEFUL` are
    left out. Further columns: task, level, model.
    """
    curves, which = {}, []
    for pool in pools:
        plan = pool.run.plan
        if plan.method != "best_of_n" or plan.stop_after_correct or plan.stop_at_agreement:
            continue
        early = first_chains(pool, max(1, int(share * pool.correct.shape[1]))) if few else pool
        for level in [name for name in pool.levels if name != "all"]:
            rows = pool.levels[level]
            fitted, scored = (rows[::2], rows[1::2]) if halves else (rows, rows)
            whole = _curve(pool, selector, scored, replicates, seed=1)
            if USEFUL[0] < whole.y[0] < USEFUL[1]:
                place = pool.run.task, level, pool.run.card.name
                which.append((*place, " ".join(place)))
                curves[" ".join(place)] = _curve(early, selector, fitted, replicates), whole
    if laws is None:
        laws = [n for n, law in LAWS.items() if law.axes == 1 and suits(n, selector)]
    table = tournament(curves, laws, share, apart=halves)
    return table.merge(pd.DataFrame(which, columns=[*GROUPS, "model", "curve"]), on="curve")


def _curve(pool: Pool, selector: str, rows: np.ndarray, replicates: int, seed: int = 0) -> Curve:
    """Return accuracy by samples of the problems in `rows`."""
    k = pool.budgets()
    found = mean_interval(pool.values(selector, k)[rows], replicates, seed)
    return Curve(k.astype(float), found.value, found.low, found.high, found.replicates,
                 n_problems=len(rows))  # fmt: skip


def suits(law: str, selector: str) -> bool:
    """Return whether a law speaks of what a selector reaches: some speak of coverage alone."""
    coverage = LAWS[law].density is not None or law == "exp_power"
    return selector == "oracle" or not coverage


def trust(
    table: pd.DataFrame, error: float = 0.02, coverage: float = 0.9, by: Sequence[str] = ()
) -> pd.DataFrame:
    """Return one row per law over the curves of a tournament, the most trustworthy first.

    `by`: columns to tell apart, such as `GROUPS`. `trusted`: median error at most `error` and
    intervals that hold at least `coverage` of the held-out points, of the
    curves that it could be fitted to; `n_unfitted` counts the others.
    """
    groups = table.groupby([*by, "law"])
    found = groups[["median_error", "worst_error", "width"]].median()
    found["coverage"] = groups["coverage"].mean()
    found["n_curves"] = groups["median_error"].count()
    found["n_unfitted"] = groups.size() - found["n_curves"]
    found["trusted"] = (found.median_error <= error) & (found.coverage >= coverage)
    found = found.reset_index()
    order = [*by, "trusted", "median_error"]
    return found.sort_values(order, ascending=[*[True] * len(by), False, True], ignore_index=True)

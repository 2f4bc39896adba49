"""What revision does: right to wrong, wrong to right, its plateau, and its worth beside sampling.

Reads pools only. The grid compares c chains of s steps with best-of-N at equal mean test FLOPs;
where the model is told its verdicts both sides are, and both stop at their first right draft.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.curves import Pool, doublings, told_cost
from scaling.estimates import chain_prefix, pass_at_k
from scaling.intervals import interval, problem_weights

Floats = NDArray[np.float64]


def transitions(pool: Pool, level: str = "all") -> pd.DataFrame:
    """Return one row per step: accuracy, share fixed of wrong drafts, broken of right, repeats.

    `repeats`: drafts whose answer stood in the chain before; unanswered ones repeat nothing.
    `fixed` and `broken` have intervals over problems; NaN where no draft of that kind was revised.
    """
    rows = pool.rows(level)
    correct, answers = pool.correct[rows], pool.answers[rows]
    table = []
    for step in range(correct.shape[-1]):
        now = correct[..., step]
        facts: dict[str, float] = {"step": step, "accuracy": float(np.nanmean(now))}
        if step:
            seen = (answers[..., :step] == answers[..., step : step + 1]).any(axis=-1)
            answered = np.isfinite(now) & (answers[..., step] >= 0)
            facts["repeats"] = float(seen[answered].mean()) if answered.any() else np.nan
            for name, kind in (("fixed", 0), ("broken", 1)):
                facts |= _rate(name, correct[..., step - 1] == kind, now, 1 - kind)
        table.append(facts)
    return pd.DataFrame(table)


def _rate(name: str, before: NDArray[np.bool_], now: Floats, result: int) -> dict[str, float]:
    """Return how often drafts of a kind end as `result`, with its interval over problems."""
    revised = before & np.isfinite(now)
    many, hits = revised.sum(axis=1), (revised & (now == result)).sum(axis=1)
    if not many.any():
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    weights = problem_weights(len(many), 1000)
    sums = weights @ np.stack([hits, many], axis=1)
    drawn = sums[:, 0] / np.maximum(sums[:, 1], 1e-12)
    value = float(hits.sum() / many.sum())
    low, high = (float(end) for end in interval(drawn, value, method="percentile"))
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def plateau(table: pd.DataFrame, fit_steps: int = 3) -> tuple[float, Floats]:
    """Return the accuracy that untold revision tends to, and its forecast per step.

    Drafts as a two-state Markov chain: accuracy a goes to a (1 - broken) + (1 - a) fixed, which
    rests at fixed / (fixed + broken). Rates are the means over the first `fit_steps` steps.
    """
    early = table.iloc[1 : 1 + fit_steps]
    fixed, broken = float(early["fixed"].mean()), float(early["broken"].mean())
    path = [float(table["accuracy"].iloc[0])]
    for _ in range(len(table) - 1):
        path.append(path[-1] * (1 - broken) + (1 - path[-1]) * fixed)
    return fixed / (fixed + broken), np.array(path)


@dataclass(frozen=True)
class Grid:
    """Coverage of c chains x s steps over best-of-N at equal test FLOPs; arrays (chains, steps)."""

    chains: NDArray[np.int64]
    steps: NDArray[np.int64]
    ratio: Floats  #: above 1 revision is worth it; NaN where best-of-N is not drawn that far
    low: Floats  #: 95 % interval over problems, both sides resampled together
    high: Floats
    flops: Floats  #: mean per problem
    n_problems: int


def grid_ratio(revised: Pool, fresh: Pool, level: str = "all", replicates: int = 500) -> Grid:
    """Return the grid of one revision pool beside best-of-N of the same model and problems.

    Between two budgets of best-of-N its coverage is that of mixing them.
    """
    if list(revised.run.problems["id"]) != list(fresh.run.problems["id"]):
        raise ValueError("revision and best-of-N hold other problems; sample both on the same")
    rows = np.intersect1d(revised.rows(level), fresh.rows(level))
    told = revised.run.plan.feedback == "verdict"
    chains = doublings(revised.correct.shape[1])
    k = np.arange(1, fresh.correct.shape[1] + 1)
    weights = np.vstack([np.full(len(rows), 1 / len(rows)), problem_weights(len(rows), replicates)])
    spent = fresh.stopping_cost("flops", k) if told else fresh.cost("flops", k)
    rival = [weights @ table[rows] for table in (spent, fresh.values("oracle", k))]
    value, cost = _grid(revised, chains, told)
    ours = [np.einsum("rp,pcs->rcs", weights, table[rows]) for table in (cost, value)]
    ratio = np.empty_like(ours[1])
    for r in range(len(weights)):
        spent_k, right_k = (np.append(0.0, side[r]) for side in rival)  # below 1: a share of time
        base = np.interp(ours[0][r], spent_k, right_k, right=np.nan)
        ratio[r] = np.divide(ours[1][r], base, out=np.full_like(base, np.nan), where=base > 0)
    low, high = np.quantile(ratio[1:], [0.025, 0.975], axis=0)
    steps = np.arange(1, value.shape[-1] + 1)
    return Grid(chains, steps, ratio[0], low, high, ours[0][0], len(rows))


def _grid(pool: Pool, chains: NDArray[np.int64], told: bool) -> tuple[Floats, Floats]:
    """Return coverage and mean FLOPs, each (problems, chains, steps).

    Told, chains run one after another until one is right: j of them are begun with the chance that
    the j - 1 before were wrong, and right and wrong chains have costs of their own.
    """
    shared, own = pool.costs["flops"]
    right = chain_prefix(pool.correct, "any")[0]  # (problems, chains, steps)
    spent = np.cumsum(np.nan_to_num(own), axis=2)
    n, c = right.shape[1], right.sum(axis=1).astype(int)  # (problems, steps)
    every = np.arange(1, int(chains[-1]) + 1)
    coverage = pass_at_k(n, c[:, None, :], every[:, None])  # (problems, every, steps)
    cost = told_cost(spent, right, coverage) if told else every[:, None] * spent.mean(1)[:, None]
    at = chains - 1
    return coverage[:, at], (cost + shared[:, None, None])[:, at]

"""Stopping at agreement: draw until one answer has enough votes.

Read from whole pools (`stopped_vote`), or from pools whose drawing did stop (`agreed_vote`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scaling.estimates.counts import Floats, budgets_of
from scaling.estimates.pools import pools_of
from scaling.estimates.votes import _credit, _intern, majority_at_k, voted_pools


def stopped_vote(
    answers: Any,
    correct: ArrayLike,
    cost: ArrayLike,
    agree: int,
    *,
    orders: int = 200,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Return accuracy and mean cost, each (problems,), of voting that stops at agreement.

    Samples are drawn one by one until an answer has `agree` votes or the pool is spent; the vote of
    those drawn decides, ties shared. The mean over `orders` random orders of each pool, without
    bias. answers, correct, cost: (problems, samples), absent samples correct = NaN; unanswered ones
    (None, NaN, NA) cost and never agree. Li et al. 2024 (arXiv:2401.10480) stop, similarly, at a
    window whose answers all agree.
    """
    _check(agree)
    pool, given = voted_pools(correct, answers)
    spent = pools_of(correct, cost, "cost")[1].astype(float)
    result = np.full((2, len(pool)), np.nan)
    for i, here in enumerate(~np.isnan(pool)):
        if here.any():
            rng = np.random.default_rng([seed, i])
            drawn = [
                _one(_intern(given[i, here]), pool[i, here], spent[i, here], agree, rng)
                for _ in range(orders)
            ]
            result[:, i] = np.mean(drawn, axis=0)
    return result[0], result[1]


def agreed_vote(
    answers: Any, correct: ArrayLike, cost: ArrayLike, agree: int, k: ArrayLike
) -> tuple[Floats, Floats]:
    """Return accuracy and mean cost, each (problems, budgets), of pools that stopped at agreement.

    Budget k caps the samples; drawing ends before where an answer has `agree` votes. The samples
    before the one that decided are exchangeable, so a smaller cap is read from all their subsets,
    without bias. answers, correct, cost: (problems, samples) in the order drawn, those never drawn
    correct = NaN; NaN where an undecided pool is smaller than k.
    """
    _check(agree)
    pool, given = voted_pools(correct, answers)
    spent = pools_of(correct, cost, "cost")[1].astype(float)
    budgets = np.atleast_1d(budgets_of(k))
    result = np.full((2, len(pool), len(budgets)), np.nan)
    for i, here in enumerate(~np.isnan(pool)):
        ids, right, own = _intern(given[i, here]), pool[i, here], spent[i, here]
        most = np.bincount(ids[ids >= 0], minlength=1).max()
        before = len(ids) - bool(most >= agree)
        early = budgets <= before
        if early.any():
            drawn = np.where(ids < 0, np.nan, ids)[:before]
            votes = majority_at_k(drawn, right[:before], budgets[early])
            result[:, i, early] = votes, budgets[early] * own[:before].mean()
        if before < len(ids):
            late = right[ids == ids[-1]].mean(), own.sum()
            result[:, i, ~early] = np.array(late)[:, None]
    return result[0], result[1]


def _check(agree: int) -> None:
    if not agree >= 1:
        raise ValueError(f"agree is {agree}; give the votes at which to stop, 1 or more")


def _one(ids: Any, right: Floats, cost: Floats, agree: int, rng: np.random.Generator) -> Any:
    """Return (correctness, cost) in one random order."""
    order = rng.permutation(len(ids))
    names = np.unique(ids[ids >= 0])
    tally = np.cumsum(ids[order, None] == names, axis=0)  # (samples, answers)
    reached = (tally >= agree).any(axis=1)
    stop = int(reached.argmax()) if reached.any() else len(ids) - 1
    share = np.array([right[ids == name].mean() for name in names])
    value = float(_credit(tally[stop], share)) if len(names) else 0.0
    return value, cost[order[: stop + 1]].sum()

"""Votes that stop at agreement: draw samples until one answer has enough votes.

Read from complete pools (`stopped_vote`), or from pools whose sampling did stop (`agreed_vote`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.estimates.counts import Floats, budgets_of
from scaling.estimates.scores import pools_of
from scaling.estimates.votes import answer_ids, majority_at_k, tally, voted_pools, winners_worth


def stopped_vote(
    answers: Any,
    correct: ArrayLike,
    cost: ArrayLike,
    agree: int,
    *,
    orders: int = 200,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Return accuracy and mean cost, each (problems,), of a vote that stops at agreement.

    Samples are drawn one by one until an answer has `agree` votes or the pool is used up; the vote
    of those drawn decides, ties shared. Averaged over `orders` random orders of each pool, without
    bias. answers, correct, cost: (problems, samples), absent samples correct = NaN; unanswered ones
    (None, NaN, NA) cost and never agree. Li et al. 2024 (arXiv:2401.10480) stop, similarly, at a
    window whose answers all agree.
    """
    pool, given, spent = _pools_with_cost(answers, correct, cost, agree)
    result = np.full((2, len(pool)), np.nan)
    for i, here in enumerate(~np.isnan(pool)):
        if here.any():
            rng, ids = np.random.default_rng([seed, i]), answer_ids(given[i, here][None])
            right, own = tally(ids, pool[i, here][None])[1][0], spent[i, here]
            names, found = np.arange(len(right)), []
            for _ in range(orders):
                order = rng.permutation(ids.size)
                votes = np.cumsum(ids[0, order, None] == names, axis=0)  # (samples, answers)
                reached = (votes >= agree).any(axis=1)
                stop = int(reached.argmax()) if reached.any() else ids.size - 1
                found.append((winners_worth(votes[stop], right), own[order[: stop + 1]].sum()))
            result[:, i] = np.mean(found, axis=0)
    return result[0], result[1]


def agreed_vote(
    answers: Any, correct: ArrayLike, cost: ArrayLike, agree: int, k: ArrayLike
) -> tuple[Floats, Floats]:
    """Return accuracy and mean cost, each (problems, budgets), of pools that stopped at agreement.

    Budget k caps the samples; drawing ends earlier where an answer has `agree` votes. The samples
    before the one that decided are exchangeable, so a smaller cap is read from all their subsets,
    without bias. answers, correct, cost: (problems, samples) in the order drawn, those never drawn
    correct = NaN; NaN where an undecided pool is smaller than k.
    """
    pool, given, spent = _pools_with_cost(answers, correct, cost, agree)
    budgets = budgets_of(k)
    result = np.full((2, len(pool), len(budgets)), np.nan)
    for i, here in enumerate(~np.isnan(pool)):
        ids, right, own = answer_ids(given[i, here][None])[0], pool[i, here], spent[i, here]
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


def _pools_with_cost(
    answers: Any, correct: ArrayLike, cost: ArrayLike, agree: int
) -> tuple[Floats, NDArray[Any], Floats]:
    """Return correct, answers and cost, each (problems, samples), checked."""
    if not agree >= 1:
        raise ValueError(f"agree is {agree}; give the votes at which to stop, 1 or more")
    pool, given = voted_pools(correct, answers)
    return pool, given, pools_of(correct, cost, "cost")[1].astype(float)

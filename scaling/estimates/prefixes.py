"""Ordered samples: steps of a chain and tokens of a trace are read by prefix, chains by subsets.

Arrays are (problems, chains, steps) or (chains, steps). NaN after the last step of a chain means
that it stopped: its last answer stands and costs nothing more. A chain of NaN alone is absent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.estimates.counts import Floats
from scaling.estimates.scores import best_of_k

SELECTS = ("any", "last", "best")


def _chains(name: str, value: ArrayLike) -> Floats:
    array = np.asarray(value, dtype=float)
    if array.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {array.shape}; give (chains, steps), problems in front")
    return array


def _carry(array: Floats, index: NDArray[Any]) -> Floats:
    """Return each chain's entry at the largest `index` so far (the first entry before any)."""
    return np.take_along_axis(array, np.maximum.accumulate(index, axis=-1), axis=-1)


def chain_prefix(
    correct: ArrayLike, select: str = "last", score: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Return each chain's correctness after 1, 2, ... steps, and the rank by which chains compete.

    select: "any" (whether one draft is right: coverage), "last" (the newest draft), "best" (the
    highest-scored draft so far, the earlier at a tie; needs `score` of the shape of `correct`). For
    "any" and "last" chains compete by correctness (an oracle over chains); for "best" by score.
    """
    array = _chains("correct", correct)
    if select not in SELECTS or (select == "best") != (score is not None):
        raise ValueError(f"select is {select!r}; allowed: any, last, or best together with a score")
    stopped = np.isnan(array)
    steps = np.where(stopped, 0, np.arange(array.shape[-1]))
    if select == "last":
        value = _carry(array, steps)
        return value, value
    given = array if score is None else _chains("score", score)  # any: the best by correctness
    if given.shape != array.shape or np.isnan(given[~stopped]).any():
        raise ValueError("score needs the shape of correct and a number for every sample")
    top = np.maximum.accumulate(np.where(stopped, -np.inf, given), axis=-1)
    improved = top > np.insert(top, 0, -np.inf, axis=-1)[..., :-1]
    return _carry(array, np.where(improved, steps, 0)), top


def grid_at_k(
    correct: ArrayLike, k: ArrayLike, select: str = "any", score: ArrayLike | None = None
) -> Any:
    """Return accuracy of k parallel chains x s sequential steps, (problems, budgets, steps).

    Chains are averaged over subsets of k, steps read by prefix; `select` as in `chain_prefix`. The
    problem and budget axes are left out as in `best_of_k`. NaN where k exceeds the chains.
    """
    value, rank = chain_prefix(correct, select, score)
    steps = range(value.shape[-1])
    return np.stack([best_of_k(value[..., s], rank[..., s], k) for s in steps], axis=-1)


def read_at_tokens(position: ArrayLike, correct: ArrayLike, budget: ArrayLike) -> Floats:
    """Return whether a trace cut at each token budget is right (1) or not (0), (..., budgets).

    position, correct: (..., events), the token at which a trace states an answer, rising, and
    whether that answer is right; NaN where there is no event. The last answer within the budget
    stands; a trace that has none yet is wrong, not missing. A sample cut by a cap is one event at
    its length. The result can be passed to `best_of_k` and `majority_at_k` budget by budget.
    """
    where, right = np.asarray(position, dtype=float), np.asarray(correct, dtype=float)
    caps = np.atleast_1d(np.asarray(budget, dtype=float))
    if where.shape != right.shape or where.ndim < 1:
        raise ValueError(f"position {where.shape} and correct {right.shape} need one shape")
    if ((right < 0) | (right > 1)).any():
        raise ValueError("correct holds numbers outside 0 to 1; give 0 or 1, NaN for no event")
    if (np.diff(where, axis=-1) < 0).any() or (where < 0).any():
        raise ValueError("position must rise along the last axis and be 0 or more")
    reached = (where[..., None, :] <= caps[:, None]).sum(axis=-1)  # (..., budgets)
    answered = np.concatenate([np.zeros((*right.shape[:-1], 1)), np.nan_to_num(right)], axis=-1)
    return np.take_along_axis(answered, reached, axis=-1)

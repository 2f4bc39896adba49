"""Selection by score: the best-scored of k samples, over all subsets of a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.estimates.counts import Floats, budgets_of, choose_ratio


def pools_of(correct: ArrayLike, other: Any, name: str) -> tuple[Floats, NDArray[Any]]:
    """Return `correct` and a companion array of the same shape, both (problems, samples)."""
    pool = np.asarray(correct, dtype=float)
    other = np.asarray(other)
    if pool.ndim not in (1, 2) or other.shape != pool.shape:
        raise ValueError(
            f"correct has shape {pool.shape}, {name} {other.shape}; give (samples,) or "
            "(problems, samples) for both, short pools padded with correct = NaN"
        )
    if (neither := pool[~(np.isnan(pool) | (pool == 0) | (pool == 1))]).size:
        raise ValueError(
            f"correct holds {neither[0]:g}; give 0 or 1, NaN for no sample: the order is "
            "best_of_k(correct, score, k), but majority_at_k(answers, correct, k)"
        )
    return np.atleast_2d(pool), np.atleast_2d(other)


def shaped(result: Floats, correct: ArrayLike, k: ArrayLike) -> Any:
    """Drop the problem axis of a single pool and the budget axis of a scalar k."""
    result = result if np.ndim(correct) == 2 else result[0]
    return result if np.ndim(k) else result[..., 0]


def _rank_weights(n: int, k: NDArray[np.int64]) -> Floats:
    """Return P(i-th lowest of n is highest of k drawn), C(i-1, k-1) / C(n, k), (n, budgets)."""
    rank = np.arange(n)[:, None]
    # C(i, k-1) / C(n, k) = C(i, k-1) / C(n-1, k-1) * k / n
    return choose_ratio(rank, np.int64(n - 1), np.minimum(k, n) - 1) * np.where(
        k <= n, k / n, np.nan
    )


def _share_ties(value: Floats, score: Floats) -> Floats:
    """Return each row sorted by score, each run of equal scores sharing its mean value."""
    order = np.argsort(score, axis=1)
    value, score = np.take_along_axis(value, order, 1), np.take_along_axis(score, order, 1)
    fresh = np.ones(score.shape, dtype=bool)
    fresh[:, 1:] = score[:, 1:] != score[:, :-1]
    if fresh.all():
        return value
    start = np.flatnonzero(fresh)
    size = np.diff(start, append=score.size)
    return np.repeat(np.add.reduceat(value.ravel(), start) / size, size).reshape(value.shape)


def best_of_k(correct: ArrayLike, score: ArrayLike, k: ArrayLike) -> Any:
    """Return the expected correctness of the best-scored of k samples drawn without replacement.

    Sum over samples in rising order of score of correct_i C(i-1, k-1) / C(n, k); equal scores share
    their weight. score = correct gives pass@k, a constant score mean accuracy, a log-probability or
    a reward best-of-k. correct, score: (samples,) or (problems, samples), absent samples correct =
    NaN. NaN when k > n. ValueError when a present sample has a NaN score: give -inf to rank it
    last.
    """
    pool, scores = pools_of(correct, score, "score")
    present, budgets = ~np.isnan(pool), np.atleast_1d(budgets_of(k))
    scores = scores.astype(float)
    unscored = int((np.isnan(scores) & present).sum())
    if unscored:
        raise ValueError(
            f"{unscored} samples have a NaN score; give each a number (-inf ranks it last), or "
            "correct = NaN where there is no sample"
        )
    sizes = present.sum(axis=1)
    if not present.all():  # NaN sorts last, so that the samples of a pool lead its row
        pool, scores = np.where(present, pool, 0.0), np.where(present, scores, np.nan)
    ranked = _share_ties(pool, scores)
    result = np.full((len(pool), len(budgets)), np.nan)
    for n in np.unique(sizes[sizes > 0]):
        rows = sizes == n
        result[rows] = (ranked if rows.all() else ranked[rows])[:, :n] @ _rank_weights(n, budgets)
    return shaped(result, correct, k)

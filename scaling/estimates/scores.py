"""Selection by score: best-of-k over all subsets of a pool, and the quality of a verifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.estimates.counts import Floats, Ints, budgets_of, choose_ratio


def pools_of(correct: ArrayLike, other: Any, name: str) -> tuple[Floats, NDArray[Any]]:
    """Return `correct` and a companion array of the same shape, both (problems, samples)."""
    pool, other = np.asarray(correct, dtype=float), np.asarray(other)
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


def best_of_k(correct: ArrayLike, score: ArrayLike, k: ArrayLike) -> Any:
    """Return the expected correctness of the best-scored of k samples drawn without replacement.

    Sum over samples in rising order of score of correct_i C(i-1, k-1) / C(n, k); equal scores share
    their weight. score = correct gives pass@k, a constant score mean accuracy, a log-probability or
    a reward best-of-k. correct, score: (samples,) or (problems, samples), absent samples correct =
    NaN. NaN when k > n. ValueError when a present sample has a NaN score: give -inf to rank it
    last.
    """
    pool, scores = pools_of(correct, score, "score")
    present, budgets = ~np.isnan(pool), budgets_of(k)
    scores = scores.astype(float)
    if unscored := int((np.isnan(scores) & present).sum()):
        raise ValueError(
            f"{unscored} samples have a NaN score; give each a number (-inf ranks it last), or "
            "correct = NaN where there is no sample"
        )
    sizes = present.sum(axis=1)
    if not present.all():  # NaN sorts last, so the samples of a pool come first in its row
        pool, scores = np.where(present, pool, 0.0), np.where(present, scores, np.nan)
    ranked = _share_ties(pool, scores)
    result = np.full((len(pool), len(budgets)), np.nan)
    for n in np.unique(sizes[sizes > 0]):
        rows = sizes == n
        result[rows] = (ranked if rows.all() else ranked[rows])[:, :n] @ _rank_weights(n, budgets)
    return shaped(result, correct, k)


def _rank_weights(n: int, k: Ints) -> Floats:
    """Return P(i-th lowest of n is highest of k drawn), C(i-1, k-1) / C(n, k), (n, budgets)."""
    rank = np.arange(n)[:, None]
    # C(i, k-1) / C(n, k) = C(i, k-1) / C(n-1, k-1) * k / n
    share = np.where(k <= n, k / n, np.nan)
    return choose_ratio(rank, np.int64(n - 1), np.minimum(k, n) - 1) * share


def _share_ties(value: Floats, score: Floats) -> Floats:
    """Return each row sorted by score, each group of equal scores sharing its mean value."""
    order = np.argsort(score, axis=1)
    value, score = np.take_along_axis(value, order, 1), np.take_along_axis(score, order, 1)
    first = np.ones(score.shape, dtype=bool)
    first[:, 1:] = score[:, 1:] != score[:, :-1]
    if first.all():
        return value
    start = np.flatnonzero(first)
    size = np.diff(start, append=score.size)
    return np.repeat(np.add.reduceat(value.ravel(), start) / size, size).reshape(value.shape)


# ---------------------------------------------------------------- quality of a verifier
@dataclass(frozen=True)
class Gap:
    """Coverage - accuracy = selection loss + grading loss, each shaped as `best_of_k` is."""

    coverage: Floats  #: some of k samples is truly right
    accuracy: Floats  #: the selected sample is graded right
    selection_loss: Floats  #: a sample graded right was there, another was selected
    grading_loss: Floats  #: right samples that grading missed, less wrong ones it accepted


def gap_at_k(
    correct: ArrayLike, accuracy: ArrayLike, k: ArrayLike, truth: ArrayLike | None = None
) -> Gap:
    """Return the gap between coverage and the accuracy of a selector, split into its two losses.

    correct: graded samples as in `best_of_k`; accuracy: the result of `best_of_k` or
    `majority_at_k` for the same pools and k; truth: the same samples under a trusted grader
    (None: trust `correct`, so that the grading loss is 0 by definition).
    """
    graded = np.asarray(best_of_k(correct, correct, k))
    true = graded if truth is None else np.asarray(best_of_k(truth, truth, k))
    chosen = np.asarray(accuracy, dtype=float)
    if chosen.shape != graded.shape:
        raise ValueError(f"accuracy has shape {chosen.shape}; its pools and k give {graded.shape}")
    return Gap(true, chosen, graded - chosen, true - graded)


def _pooled(score: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Return scores and correctness of the present samples of all pools."""
    scores, right = np.ravel(np.asarray(score, float)), np.ravel(np.asarray(correct, float))
    if scores.shape != right.shape:
        raise ValueError(
            f"score has {scores.size} samples, correct {right.size}; give equal shapes"
        )
    if ((right < 0) | (right > 1)).any():
        raise ValueError("correct holds numbers outside 0 to 1; give 0 or 1, NaN for no sample")
    present = ~np.isnan(right)
    if np.isnan(scores[present]).any():
        raise ValueError("score is NaN for a present sample; give correct = NaN to leave it out")
    return scores[present], right[present]


def roc(score: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return false-positive rate, true-positive rate and acceptance threshold, strict to lax.

    Starts at (0, 0) with threshold infinity and ends at (1, 1). A rate is NaN when no sample of its
    kind exists. The area is `np.trapezoid(true, false)`: ties count one half.
    """
    scores, right = _pooled(score, correct)
    threshold, place = np.unique(-scores, return_inverse=True)
    counts = (np.bincount(place, kind, len(threshold)) for kind in (1 - right, right))
    false, true = (np.append(0.0, np.cumsum(c) / (c.sum() or np.nan)) for c in counts)
    return false, true, np.append(np.inf, -threshold)


def verifier_rates(accepted: ArrayLike, correct: ArrayLike) -> tuple[float, float]:
    """Return the true-positive and the false-positive rate of a verifier's verdicts."""
    verdict, right = _pooled(accepted, correct)
    if not np.isin(verdict, (0, 1)).all():
        raise ValueError("accepted must be 0 or 1; cut a score at a threshold from `roc` first")
    rate = [verdict[right == kind].mean() if (right == kind).any() else np.nan for kind in (1, 0)]
    return float(rate[0]), float(rate[1])


def accepted_at_k(
    p: ArrayLike, true_positive: float, false_positive: float, k: ArrayLike
) -> tuple[Floats, Floats]:
    """Return P(right) and P(wrong) when the first accepted of at most k samples is the answer.

    p: probability that one sample is right, (problems,); k: (budgets,), infinity gives the plateau:
    right is then p TPR / (p TPR + (1-p) FPR) whatever the budget. The remaining probability is
    abstention: nothing was accepted. Both (problems, budgets). Source: Stroebl et al. 2024,
    arXiv:2411.17501.
    """
    chance, draws = np.asarray(p, dtype=float)[..., None], np.asarray(k, dtype=float)
    rates = np.array([true_positive, false_positive])
    if ((chance < 0) | (chance > 1)).any() or ((rates < 0) | (rates > 1)).any():
        raise ValueError("p and the rates are probabilities: give numbers between 0 and 1")
    if not (draws >= 0).all():
        raise ValueError(f"k holds {draws.min():g}; give budgets of 0 or more, infinity included")
    good, bad = chance * true_positive, (1 - chance) * false_positive
    accept = good + bad
    stopped = 1 - np.where(accept > 0, (1 - accept) ** draws, 1.0)
    share = stopped / np.where(accept > 0, accept, 1.0)
    return share * good, share * bad


def best_budget(
    p: ArrayLike, true_positive: float, false_positive: float, penalty: float, k: ArrayLike
) -> tuple[int, float]:
    """Return the k that maximises mean P(right) - penalty P(wrong), and that maximum.

    Easy problems are solved early; later draws add mostly accepted mistakes on hard ones, so with
    a penalty the best budget is finite.
    """
    k = np.ravel(k)
    right, wrong = accepted_at_k(np.ravel(p), true_positive, false_positive, k)
    worth = (right - penalty * wrong).mean(axis=0)
    best = int(np.argmax(worth))
    return int(k[best]), float(worth[best])

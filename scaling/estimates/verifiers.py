"""What selection loses: the gap from coverage to accuracy, and what a verifier allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scaling.estimates.counts import Floats
from scaling.estimates.pools import best_of_k


@dataclass(frozen=True)
class Gap:
    """Coverage - accuracy = selection loss + grading loss, each shaped as `best_of_k` is."""

    coverage: Floats  #: some of k samples is truly right
    accuracy: Floats  #: the selected sample is graded right
    selection_loss: Floats  #: a sample graded right was there, another was selected
    grading_loss: Floats  #: right samples that extraction or grading missed, less those it invented


def gap_at_k(
    correct: ArrayLike, accuracy: ArrayLike, k: ArrayLike, truth: ArrayLike | None = None
) -> Gap:
    """Return the gap between coverage and the accuracy of a selector, taken apart.

    correct: graded samples as in `best_of_k`; accuracy: what `best_of_k` or `majority_at_k` gave
    for the same pools and k; truth: the same samples under a grader that is trusted (None: trust
    `correct`, so that the grading loss is 0 by definition).
    """
    graded = np.asarray(best_of_k(correct, correct, k))
    true = graded if truth is None else np.asarray(best_of_k(truth, truth, k))
    chosen = np.asarray(accuracy, dtype=float)
    if chosen.shape != graded.shape:
        raise ValueError(f"accuracy has shape {chosen.shape}; its pools and k give {graded.shape}")
    return Gap(true, chosen, graded - chosen, true - graded)


def _pooled(score: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Return scores and correctness of the present samples of all pools; both kinds must occur."""
    scores, right = np.ravel(np.asarray(score, float)), np.ravel(np.asarray(correct, float))
    if scores.shape != right.shape:
        raise ValueError(
            f"score has {scores.size} samples, correct {right.size}; give equal shapes"
        )
    if ((right < 0) | (right > 1)).any():
        raise ValueError("correct holds numbers outside 0 to 1; give 0 or 1, NaN for no sample")
    present = ~np.isnan(right)
    if np.isnan(scores[present]).any():
        raise ValueError(
            "score is NaN for a present sample; set its correct to NaN to leave it out"
        )
    return scores[present], right[present]


def roc(score: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return false-positive rate, true-positive rate, threshold to accept from, strict to lax.

    Starts at (0, 0) with threshold infinity and ends at (1, 1). A rate is NaN when no sample of its
    kind exists. The area is `np.trapezoid(true, false)`: ties count one half.
    """
    scores, right = _pooled(score, correct)
    threshold, place = np.unique(-scores, return_inverse=True)
    counts = (np.bincount(place, kind, len(threshold)) for kind in (1 - right, right))
    false, true = (np.append(0.0, np.cumsum(c) / (c.sum() or np.nan)) for c in counts)
    return false, true, np.append(np.inf, -threshold)


def verifier_rates(accepted: ArrayLike, correct: ArrayLike) -> tuple[float, float]:
    """Return the true- and the false-positive rate of a verifier that accepts or rejects."""
    verdict, right = _pooled(accepted, correct)
    if not np.isin(verdict, (0, 1)).all():
        raise ValueError("accepted must be 0 or 1; cut a score at a threshold from `roc` first")
    rate = [verdict[right == kind].mean() if (right == kind).any() else np.nan for kind in (1, 0)]
    return float(rate[0]), float(rate[1])


def accepted_at_k(
    p: ArrayLike, true_positive: float, false_positive: float, k: ArrayLike
) -> tuple[Floats, Floats]:
    """Return P(right) and P(wrong) when the first accepted of at most k samples is the answer.

    p: chance that one sample is right, (problems,); k: (budgets,), infinity gives the plateau:
    right is then p TPR / (p TPR + (1-p) FPR) whatever the budget. What is left is abstention:
    nothing was accepted. Both (problems, budgets). Source: Stroebl et al. 2024, arXiv:2411.17501.
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
    """Return the k of those given, and its worth, that maximises mean P(right) - penalty P(wrong).

    Easy problems are solved early; what later draws add is mostly accepted mistakes on hard ones,
    so that with a penalty the best budget is finite.
    """
    k = np.ravel(k)
    right, wrong = accepted_at_k(np.ravel(p), true_positive, false_positive, k)
    worth = (right - penalty * wrong).mean(axis=0)
    best = int(np.argmax(worth))
    return int(k[best]), float(worth[best])

"""Accuracy per problem and budget, by the rule that selects one answer. Arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scaling.estimates import (
    best_of_k,
    chain_prefix,
    grid_at_k,
    inverse_pass_at_k,
    majority_at_k,
    pass_at_k,
)
from scaling.estimates.adaptive import agreed_vote
from scaling.records import Plan

if TYPE_CHECKING:
    from scaling.runs.run import Run

SEARCHES = ("beam", "dvts", "rebase", "particles")  #: methods that grow a tree
SUBSETS = 200  #: random subsets of a weighted vote
WEIGHTED = "weighted "  #: before a score's name: votes weighted by exp(score)


class Selectors(dict[str, tuple[str, ...]]):
    """Selectors by method; a method that is not named has those that fit all."""

    def __missing__(self, method: str) -> tuple[str, ...]:
        return ("coverage", "last")


SELECTORS = Selectors(
    {  #: method -> what may be read from its samples
        "best_of_n": ("coverage", "majority", "logprob"),
        "revision": ("coverage", "majority", "logprob", "first", "last"),
        "wait": ("coverage", "first", "last"),
        "thinking": ("last",),
        **dict.fromkeys(SEARCHES, ("last", "coverage")),
    }
)


def caveat(plan: Plan, counted: bool) -> str:
    """Return why fewer selectors can be read than a plan's method has; "" where all can.

    counted: only the numbers of samples and of correct ones are known.
    """
    if counted:
        return "only counts per problem are known: votes need the answers of each sample"
    if plan.stop_at_agreement:
        return "sampling stopped once answers agreed: only majority can be read without bias"
    if plan.stop_after_correct:
        return "sampling stopped at correct samples: only coverage can be read without bias"
    if plan.feedback == "verdict":
        return "with verifier feedback the truth decides which drafts there are: no fair vote"
    return ""


def of_chains(run: Run, selector: str, k: np.ndarray) -> np.ndarray:
    """Chains are exchangeable: average over all subsets of k."""
    if run.arrays.counts:
        n, c = run.counts
        return pass_at_k(n[:, None], c[:, None], k)
    correct = run.correct[:, :, 0]
    if agree := run.plan.stop_at_agreement:
        return agreed_vote(run.answers[:, :, 0], correct, correct, agree, k)[0]
    if run.plan.stop_after_correct:
        return _stopped(run, k)
    if selector == "coverage":
        n, c = run.counts
        return pass_at_k(n[:, None], c[:, None], k)
    if selector == "majority":
        return majority_at_k(run.answers[:, :, 0], correct, k)
    score = run.score(selector)[:, :, 0]
    if selector.startswith(WEIGHTED):
        weights = np.exp(score - np.nanmax(score, axis=1, keepdims=True))
        answers, weights = run.answers[:, :, 0], np.nan_to_num(weights)
        return majority_at_k(answers, correct, k, weights=weights, subsets=SUBSETS)[0]
    return best_of_k(correct, score, k)


def _stopped(run: Run, k: np.ndarray) -> np.ndarray:
    """Sampling that stopped at a success is no plain pool: plain pass@k is too high."""
    r, correct = run.plan.stop_after_correct, run.correct[:, :, 0]
    sofar = np.cumsum(np.nan_to_num(correct), axis=1)
    counted = np.isfinite(correct) & (sofar - np.nan_to_num(correct) < r)  # up to the r-th
    n, c = counted.sum(axis=1)[:, None], np.minimum(sofar[:, -1:], r).astype(int)
    return inverse_pass_at_k(n, c, r, k, cap=run.plan.chains)


def of_steps(run: Run, selector: str, k: np.ndarray) -> np.ndarray:
    """Steps are ordered: read prefixes, and average over chains."""
    if selector == "majority":
        return np.stack([_vote(run, steps) for steps in k], axis=1)
    if selector == "first":
        first = np.nanmean(run.correct[:, :, 0], axis=1)
        return np.repeat(first[:, None], len(k), axis=1)
    select = {"coverage": "any", "last": "last", "logprob": "best"}[selector]
    score = run.ledger["logprob"] if select == "best" else None
    return grid_at_k(run.correct, 1, select, score)[:, k - 1]


def _vote(run: Run, steps: int) -> np.ndarray:
    """Return the accuracy of a vote among the drafts of one chain, (problems,)."""
    shape = (-1, steps)
    correct = run.correct[:, :, :steps].reshape(shape)
    rested = np.isnan(correct)  # a chain that was told it is right keeps its answer
    answers = np.where(rested, np.nan, run.answers[:, :, :steps].reshape(shape))
    votes = majority_at_k(answers, np.nan_to_num(correct), np.array([steps]))
    value = np.where(rested[:, -1], chain_prefix(correct[:, None])[0][:, 0, -1], votes[:, 0])
    return value.reshape(run.correct.shape[:2]).mean(axis=1)

"""Accuracy per problem and budget for each selector of an answer. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scaling.estimates import (
    agreed_vote,
    best_of_k,
    chain_prefix,
    grid_at_k,
    inverse_pass_at_k,
    majority_at_k,
    pass_at_k,
)
from scaling.methods.table import method_of
from scaling.records import Plan, look_up
from scaling.runs.arrays import Arrays

SUBSETS = 200  #: random subsets of a weighted vote
WEIGHTED = "weighted "  #: before a score's name: votes weighted by exp(score)


def readable(plan: Plan, arrays: Arrays, no_votes: str = "") -> tuple[tuple[str, ...], str]:
    """Return the selectors that can be read without bias, and why others of the method cannot.

    no_votes: why the samples of another tool have no answers that can vote.
    """
    if arrays.counts:
        only = "only counts per problem are known: votes need the answers of each sample"
        return ("coverage",), only
    if plan.stop_at_agreement:
        only = "sampling stopped once answers agreed: only majority can be read without bias"
        return ("majority",), only
    if plan.stop_after_correct:
        only = "sampling stopped at correct samples: only coverage can be read without bias"
        return ("coverage",), only
    method, ranks, why = method_of(plan), arrays.ranks, ""
    own = [name for name in method.selectors if name != "logprob" or name in ranks]
    if no_votes:
        return tuple(s for s in own if s != "majority"), f"majority cannot be read: {no_votes}"
    if plan.feedback == "verdict":
        own = [name for name in own if name not in ("majority", "logprob")]
        why = "with verifier feedback the truth decides which drafts there are: no fair vote"
    if method.exchangeable:
        own += [name for name in ranks if name != "logprob"]
        own += [WEIGHTED + name for name in ranks]
    return tuple(own), why


def check(selector: str, known: Iterable[str], label: str, caveat: str) -> None:
    """Raise ValueError for a selector that cannot be read from a run, with the reason why."""
    if selector == "oracle":
        raise ValueError("the selector 'oracle' is called 'coverage' now")
    try:
        look_up(dict.fromkeys(known), selector, f"selector of {label}")
    except ValueError as error:
        raise ValueError(f"{error}; {caveat}" if caveat else str(error)) from None


def values_of(
    plan: Plan, arrays: Arrays, selector: str, k: np.ndarray, chains: int = 1
) -> np.ndarray:
    """Return a selector's accuracy by problem and budget (problems, budgets); see `Run.values`."""
    if chains > 1:
        return grid_at_k(arrays.correct, chains, "any")[:, k - 1]
    if method_of(plan).exchangeable:
        return _of_chains(plan, arrays, selector, k)
    return _of_steps(arrays, selector, k)


def counts_of(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, c), each (problems,): first steps drawn per problem, and correct ones."""
    first = arrays.correct[:, :, 0]
    return arrays.counts or (np.isfinite(first).sum(axis=1), np.nansum(first, axis=1))


def _of_chains(plan: Plan, arrays: Arrays, selector: str, k: np.ndarray) -> np.ndarray:
    """Return the average over all subsets of k chains, which are exchangeable."""
    correct, answers = arrays.correct[:, :, 0], arrays.answers[:, :, 0]
    if agree := plan.stop_at_agreement:
        return agreed_vote(answers, correct, correct, agree, k)[0]
    if plan.stop_after_correct:
        return _stopped(correct, plan, k)
    if selector == "coverage":
        n, c = counts_of(arrays)
        return pass_at_k(n[:, None], c[:, None], k)
    if selector == "majority":
        return majority_at_k(answers, correct, k)
    score = arrays.ranks[selector.removeprefix(WEIGHTED)][:, :, 0]
    if selector.startswith(WEIGHTED):
        weights = np.nan_to_num(np.exp(score - np.nanmax(score, axis=1, keepdims=True)))
        return majority_at_k(answers, correct, k, weights=weights, subsets=SUBSETS)[0]
    return best_of_k(correct, score, k)


def _stopped(correct: np.ndarray, plan: Plan, k: np.ndarray) -> np.ndarray:
    """Return pass@k of sampling that stopped at the r-th correct sample, without bias."""
    r = plan.stop_after_correct
    running = np.cumsum(np.nan_to_num(correct), axis=1)
    counted = np.isfinite(correct) & (running - np.nan_to_num(correct) < r)  # up to the r-th
    n, c = counted.sum(axis=1)[:, None], np.minimum(running[:, -1:], r).astype(int)
    return inverse_pass_at_k(n, c, r, k, cap=plan.chains)


def _of_steps(arrays: Arrays, selector: str, k: np.ndarray) -> np.ndarray:
    """Return the value after each number of steps, averaged over chains."""
    if selector == "majority":
        return np.stack([_vote(arrays, steps) for steps in k], axis=1)
    if selector == "first":
        first = np.nanmean(arrays.correct[:, :, 0], axis=1)
        return np.repeat(first[:, None], len(k), axis=1)
    select = {"coverage": "any", "last": "last", "logprob": "best"}[selector]
    score = arrays.ledger["logprob"] if select == "best" else None
    return grid_at_k(arrays.correct, 1, select, score)[:, k - 1]


def _vote(arrays: Arrays, steps: int) -> np.ndarray:
    """Return the accuracy of a vote among the drafts of one chain, (problems,)."""
    shape = (-1, steps)
    correct = arrays.correct[:, :, :steps].reshape(shape)
    stopped = np.isnan(correct)  # a chain that was reported correct keeps its answer
    answers = np.where(stopped, np.nan, arrays.answers[:, :, :steps].reshape(shape))
    votes = majority_at_k(answers, np.nan_to_num(correct), np.array([steps]))
    value = np.where(stopped[:, -1], chain_prefix(correct[:, None])[0][:, 0, -1], votes[:, 0])
    return value.reshape(arrays.correct.shape[:2]).mean(axis=1)


def doublings(size: int) -> np.ndarray:
    """Return 1, 2, 4, ... and the size itself."""
    return np.unique(np.append(2 ** np.arange(int(np.log2(size)) + 1), size))

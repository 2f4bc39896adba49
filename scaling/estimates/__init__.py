"""Exact estimators: the expected result of every smaller budget, from one pool of samples.

From a pool of n samples per problem these functions return the expected result of drawing k of
them without replacement, averaged over all subsets (parallel samples are exchangeable) or read
from the prefix (steps and tokens are ordered). Intervals are in `scaling.intervals`.

Conventions. Pools are arrays (samples,) or (problems, samples). Pools of unequal size are padded to
a rectangle, and NaN in `correct` marks a place without a sample: it is not drawn and not counted.
A failed sample is a sample: give it correct = 0. Results have shape problems + budgets, each axis
left out where a single pool or a scalar k was given. NaN where undefined (k > n, n = 0).
"""

from __future__ import annotations

from scaling.estimates.agreement import agreed_vote, stopped_vote
from scaling.estimates.counts import inverse_pass_at_k, pass_at_k, pass_hat_k
from scaling.estimates.prefixes import chain_prefix, grid_at_k, read_at_tokens
from scaling.estimates.scores import (
    Gap,
    accepted_at_k,
    best_budget,
    best_of_k,
    gap_at_k,
    roc,
    verifier_rates,
)
from scaling.estimates.votes import majority_at_k

__all__ = ["Gap", "accepted_at_k", "agreed_vote", "best_budget", "best_of_k", "chain_prefix",
           "gap_at_k", "grid_at_k", "inverse_pass_at_k", "majority_at_k",
           "pass_at_k", "pass_hat_k", "read_at_tokens", "roc", "stopped_vote",
           "verifier_rates"]  # fmt: skip

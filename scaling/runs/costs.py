"""The cost of samples and of a scorer's passes over them. Arrays in, arrays out.

Costs follow `compute`: a prompt is processed once per problem and shared by its chains.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from scaling import compute
from scaling.estimates import agreed_vote
from scaling.methods.table import method_of
from scaling.records import Plan
from scaling.runs.arrays import TOKENS, Arrays, Scored
from scaling.tasks.traces import thinking_budgets

UNITS = ("samples", "tokens", "flops", "kv_bytes", "seconds", "price")
NEEDS = {  #: unit -> data that a run must hold for a cost in it
    "tokens": "token counts",
    "flops": "token counts or the shape of the model",
    "kv_bytes": "token counts or the shape of the model",
    "seconds": "times",
    "price": "token counts",
}
PRICES = (1.0, 4.0)  #: per million input and output tokens: output at four times the input's price
Costs = dict[str, tuple[np.ndarray, np.ndarray]]  #: unit -> (shared per problem, own per sample)


def sample_costs(
    arrays: Arrays, plan: Plan, shape: dict[str, Any], prices: tuple[float, float]
) -> Costs:
    """Return per unit the cost of each problem's prompt, and the cost of each sample."""
    if arrays.counts:  # nothing else is known
        each, none = np.ones((len(arrays.correct), 1, 1)), np.zeros(len(arrays.correct))
        return {unit: (none, each * (1 if unit == "samples" else np.nan)) for unit in UNITS}
    model = compute.Shape(**shape) if shape else compute.UNKNOWN
    prompt, cached, new = (arrays.ledger[name] for name in TOKENS)
    if method_of(plan).one_trace:  # each budget alone: it computed its thoughts itself
        start = np.broadcast_to(prompt[:, :, -1:], prompt.shape)
        prompt, cached, new = start, start, prompt + new - start
    first = np.arange(prompt.shape[-1]) == 0
    in_cache = np.where(first, prompt, cached)  # step 0 finds the shared prompt in the cache
    shared = over_chains(np.nanmax, prompt)
    zero, flops = np.zeros(len(shared)), compute.sample_flops(model, prompt, in_cache, new)
    costs = _costs(model, prices, shared, (prompt, in_cache, new), flops)
    costs["samples"] = zero, np.where(np.isnan(arrays.correct), np.nan, 1.0)
    costs["seconds"] = zero, arrays.ledger["seconds"]
    if method_of(plan).one_trace:
        allowed = np.array(thinking_budgets(plan), float)
        costs["thinking"] = zero, np.broadcast_to(allowed, new.shape)
    return with_scorer(costs, arrays, arrays.passes, prices)


def with_scorer(
    costs: Costs, arrays: Arrays, scored: Scored | None, prices: tuple[float, float]
) -> Costs:
    """Return costs with those of a scorer's passes added, if there are any."""
    if scored is None or not scored.shape:
        return costs
    model, read = compute.Shape(**scored.shape), scored.prompt - scored.cached
    flops = compute.forward_flops(model, read, scored.cached, logit_rows=0)
    shared = over_chains(np.nanmax, arrays.ledger["prompt_tokens"])
    added = _costs(model, prices, shared, (scored.prompt, scored.cached, 0), flops)
    none = (np.zeros(()), np.zeros(()))
    return {
        unit: (once + added.get(unit, none)[0], own + np.nan_to_num(added.get(unit, none)[1]))
        for unit, (once, own) in costs.items()
    }


def _costs(
    model: compute.Shape,
    prices: tuple[float, float],
    shared: np.ndarray,
    ledger: tuple[Any, Any, Any],
    flops: Any,
) -> Costs:
    """Return per unit the cost of the shared prompt and that of each pass.

    ledger: tokens in the context of a pass, those of them in the cache, new tokens.
    """
    prompt, cached, new = ledger
    read = compute.forward_flops(model, shared, 0, logit_rows=0)
    traffic = compute.sample_kv_traffic(model, prompt, cached, new)
    price = compute.price(prompt, cached, new, *prices)
    return {
        "tokens": (shared, prompt - cached + new),
        "flops": (read, flops),
        "kv_bytes": (compute.kv_bytes(model, shared), traffic),
        "price": (compute.price(shared, 0, 0, *prices), price),
    }


def budget_cost(
    arrays: Arrays,
    plan: Plan,
    cost: tuple[np.ndarray, np.ndarray],
    k: np.ndarray,
    chains: int,
    shared_prompt: bool,
) -> np.ndarray:
    """Return the mean cost per problem of each budget, (problems, budgets); see `Run.cost`."""
    shared, own = cost
    once = shared[:, None]
    if agree := plan.stop_at_agreement:
        each = own[:, :, 0] + once * (not shared_prompt)
        first = arrays.answers[:, :, 0], arrays.correct[:, :, 0]
        return agreed_vote(*first, each, agree, k)[1] + once * shared_prompt
    if arrays.counts:
        return own[:, 0] * k + once
    if method_of(plan).exchangeable:
        return over_chains(np.nanmean, own)[:, None] * k + once * (1 if shared_prompt else k)
    summed = own if method_of(plan).one_trace else np.cumsum(np.nan_to_num(own), axis=2)
    spent = np.nanmean(summed, axis=1)
    return chains * spent[:, k - 1] + once * (1 if shared_prompt else chains)


def cost_until_right(own: np.ndarray, right: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Return the mean cost of drawing up to 1, 2, ... chains, stopping at the first correct one.

    own, right: (problems, chains, ...) cost and correctness; coverage: their pass@1, pass@2, ...,
    (problems, budgets, ...), the shape of the result. Unbiased: of the min(T, k) draws, sum over
    j < k of (1 - pass@j) on average, pass@k are correct, and draws of either kind are exchangeable.
    """
    draws = np.cumsum(1 - np.insert(coverage, 0, 0.0, axis=1)[:, :-1], axis=1)
    good, bad = (
        (np.where(kind, own, 0).sum(axis=1) / np.maximum(kind.sum(axis=1), 1))[:, None]
        for kind in (right == 1, right == 0)
    )
    return good * coverage + bad * (draws - coverage)


def over_chains(reduce: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return a reduction of the first steps over chains; NaN for a problem that has none.

    A problem has none if all of its requests failed; FLOPs need the shape of the model.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return reduce(values[:, :, 0], axis=1)

"""From logits to tokens: row-owned uniforms, filters, inverse CDF. Knows no models or batches.

A token is the inverse CDF of one uniform in fixed vocabulary order, and the uniform is a pure
function of (seed, problem, chain, step, position): a sample does not depend on its batch.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import torch

from scaling.records import Plan

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
WIDE_VOCABULARY = 4096  #: above it, probabilities are summed in single precision (speed)


def row_key(seed: int, problem: str, chain: int, step: int) -> int:
    """Return the 64-bit key of one row's stream: blake2b of (seed, problem, chain, step)."""
    name = f"{seed}\0{problem}\0{chain}\0{step}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")


def uniforms(keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return float64 uniforms in [0, 1) for uint64 keys and integer positions (broadcast together).

    SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195) at state key + (position+1)·golden.
    """
    with np.errstate(over="ignore"):
        z = keys + (positions.astype(np.uint64) + np.uint64(1)) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def filtered(logits: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Return logits (rows, vocab) after temperature, top-k, top-p and min-p in this order.

    Removed tokens are -inf. Ties at the k-th logit are all kept; top-p keeps the smallest set whose
    mass reaches p; min-p keeps tokens with at least min_p times the largest probability.
    """
    logits = logits / plan.temperature
    if 0 < plan.top_k < logits.shape[-1]:
        least = logits.topk(plan.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if plan.top_p < 1:
        ordered, where = logits.softmax(-1).sort(descending=True, stable=True)
        outside = ordered.cumsum(-1) - ordered >= plan.top_p
        logits = logits.masked_fill(
            torch.zeros_like(outside).scatter(1, where, outside), -torch.inf
        )
    if plan.min_p > 0:
        floor = logits.amax(-1, keepdim=True) + float(np.log(plan.min_p))
        logits = logits.masked_fill(logits < floor, -torch.inf)
    return logits


def is_unfiltered(plan: Plan) -> bool:
    """Return whether a plan keeps the whole vocabulary (at whatever temperature)."""
    return not plan.top_k and plan.top_p == 1 and not plan.min_p


def draw(
    logits: torch.Tensor, uniform: torch.Tensor, plan: Plan
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (tokens, log-probability under the model, under what was sampled from), (rows,) each.

    logits (rows, vocab), uniform (rows,) float64. Nats. Greedy at temperature 0, where the second
    log-probability is 0. A row with NaN or +inf logits comes back with a NaN log-probability.
    """
    wide = logits.shape[-1] > WIDE_VOCABULARY
    model = logits.to(torch.float32 if wide else torch.float64).log_softmax(-1)
    if plan.temperature == 0:
        tokens = model.argmax(-1, keepdim=True)
        own = model.gather(1, tokens)[:, 0]
        return tokens[:, 0], own, torch.zeros_like(own)
    sampled = (
        model
        if plan.temperature == 1 and is_unfiltered(plan)
        else filtered(model, plan).log_softmax(-1)
    )
    cdf = sampled.exp().cumsum(-1)
    total = cdf[:, -1:]
    target = (uniform[:, None] * total).to(cdf.dtype)
    target = target.minimum(torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(cdf, target, right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens[:, 0], model.gather(1, tokens)[:, 0], sampled.gather(1, tokens)[:, 0]

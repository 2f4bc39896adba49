"""FLOPs, bytes, seconds and price as arithmetic on logged token counts, from a model's shape.

The log holds tokens; everything here is derived, so a change of convention never needs new samples.
Conventions, used by every function below:

- A multiply-add is 2 FLOPs and only matrix products count: norms, softmax and look-ups are left
  out, as in Kaplan et al. 2020 (arXiv:2001.08361, §2.1) and in `torch.utils.flop_counter`.
- Attention is counted over the positions that a causal token really sees, itself included. A fused
  kernel may compute the whole square; `causal=False` counts that (what torch's counter reports).
- The output head is paid once per logit row that was needed: one per *sampled* token, and one per
  position in training. Chowdhery et al. 2022 (arXiv:2204.02311, App. B) count the same products.
- A backward pass costs twice its forward pass: training is three forwards (Kaplan et al., §2.1).
- Padding and discarded rows are no part of a sample's cost: they are the engine's waste.

Token counts may be numbers or numpy arrays; results have their broadcast shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox")
#: size in a Shape -> its name in a configuration
NAMES = {"vocab": "vocab_size", "hidden": "hidden_size", "layers": "num_hidden_layers",
         "heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim",
         "intermediate": "intermediate_size", "context": "max_position_embeddings"}  # fmt: skip
GPT2 = {"hidden": "n_embd", "layers": "n_layer", "heads": "n_head", "context": "n_positions"}
GPT2 |= {"intermediate": "n_inner"}
Numbers = Any  #: a float, or an array of floats in the broadcast shape of the arguments


@dataclass(frozen=True)
class Shape:
    """What the cost of a dense transformer depends on: sizes, and which matrices carry biases."""

    family: str  #: `model_type` of the configuration, one of FAMILIES
    vocab: int  #: rows of the token embedding
    hidden: int  #: residual width
    layers: int
    heads: int  #: query heads
    kv_heads: int  #: key-value heads (fewer than `heads` under grouped queries)
    head_dim: int
    intermediate: int  #: inner width of the MLP
    context: int  #: longest context in tokens
    gated: bool  #: three MLP matrices (SwiGLU) instead of two
    tied: bool  #: output head = token embedding
    learned_positions: bool  #: a table of `context` position embeddings
    qkv_bias: bool
    out_bias: bool  #: bias on the attention's output projection
    mlp_bias: bool
    norm_params: int  #: parameters per norm and channel: 1 RMS, 2 layer norm
    qk_norm: bool  #: RMS norms over each head's queries and keys (Qwen3)

    @classmethod
    def from_config(cls, config: object) -> Shape:
        """Return the shape that a `transformers` configuration (object or dictionary) describes.

        Raises ValueError for a family whose parameter count is not known here.
        """
        values = config if isinstance(config, Mapping) else config.to_dict()  # type: ignore[attr-defined]
        family = values.get("model_type")
        if family not in FAMILIES:
            raise ValueError(f"no shape for model type {family!r}; known: {', '.join(FAMILIES)}")
        return cls(**_sizes(values, family), **_traits(values, family))


UNKNOWN = Shape(**dict.fromkeys((f.name for f in fields(Shape)), math.nan))  # type: ignore[arg-type]
#: of a model behind a server: whatever is computed from it is NaN


def size_names(family: str) -> dict[str, str]:
    """Return the name that a family's configurations give to each size of a Shape."""
    return NAMES | (GPT2 if family == "gpt2" else {})


def _sizes(values: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Return the integer fields of a Shape, those that a configuration may leave out included."""
    names = size_names(family)
    hidden, heads = values[names["hidden"]], values[names["heads"]]
    absent = {"kv_heads": heads, "head_dim": hidden // heads}
    absent |= {"intermediate": 4 * hidden} if family == "gpt2" else {}
    return {"family": family} | {
        field: (values.get(name) or absent[field]) if field in absent else values[name]
        for field, name in names.items()
    }


def _traits(values: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Return the flags of a Shape: what a family adds to, or leaves out of, the plain block."""
    older = family in ("gpt2", "gpt_neox")
    bias = {"gpt2": True, "gpt_neox": values.get("attention_bias", True)}.get(
        family, values.get("attention_bias", False) and family in ("llama", "qwen3")
    )
    return {
        "gated": not older,
        "tied": bool(values.get("tie_word_embeddings", family == "gpt2")),
        "learned_positions": family == "gpt2",
        "qkv_bias": bool(bias or family == "qwen2"),
        "out_bias": bool(bias),
        "mlp_bias": older or bool(values.get("mlp_bias", False) and family == "llama"),
        "norm_params": 2 if older else 1,
        "qk_norm": family == "qwen3",
    }


def parameters(shape: Shape) -> dict[str, int]:
    """Return parameter counts by group; they sum to the model's total, a tied head counted once.

    `attention` and `mlp` hold matrices, `head` is 0 when tied, `other` holds biases and norms.
    """
    s, q, kv = shape, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    biases = (q + 2 * kv) * s.qkv_bias + s.hidden * s.out_bias
    biases += (s.intermediate * (2 if s.gated else 1) + s.hidden) * s.mlp_bias
    norms = 2 * s.hidden * s.norm_params + 2 * s.head_dim * s.qk_norm
    return {
        "embedding": s.vocab * s.hidden,
        "positions": s.context * s.hidden * s.learned_positions,
        "attention": s.layers * s.hidden * (2 * q + 2 * kv),
        "mlp": s.layers * s.hidden * s.intermediate * (3 if s.gated else 2),
        "head": 0 if s.tied else s.vocab * s.hidden,
        "other": s.layers * (biases + norms) + s.hidden * s.norm_params,
    }


def total_parameters(shape: Shape, embeddings: bool = True) -> int:
    """Return the parameter count; `embeddings=False` leaves tables and head out."""
    groups = parameters(shape)
    tables = groups["embedding"] + groups["positions"] + groups["head"]
    return sum(groups.values()) - (0 if embeddings else tables)


def block_flops(shape: Shape) -> int:
    """Return the FLOPs per token of the blocks' matrices: 2 per weight, no attention scores."""
    groups = parameters(shape)
    return 2 * (groups["attention"] + groups["mlp"])


def head_flops(shape: Shape) -> int:
    """Return the FLOPs of one row of logits."""
    return 2 * shape.vocab * shape.hidden


def attention_flops(
    shape: Shape, new_tokens: ArrayLike, cached_tokens: ArrayLike = 0, causal: bool = True
) -> Numbers:
    """Return the FLOPs of scores and mixing: 4·layers·heads·head_dim per pair of positions.

    Pairs are `new·cached + new·(new+1)/2`, or `new·(cached+new)` with `causal=False`.
    """
    new, cached = np.asarray(new_tokens, float), np.asarray(cached_tokens, float)
    pairs = new * cached + (new * (new + 1) / 2 if causal else new * new)
    return 4.0 * shape.layers * shape.heads * shape.head_dim * pairs


def forward_flops(
    shape: Shape,
    new_tokens: ArrayLike,
    cached_tokens: ArrayLike = 0,
    logit_rows: ArrayLike | None = None,
    causal: bool = True,
) -> Numbers:
    """Return the FLOPs to process `new_tokens` when `cached_tokens` are in the cache already.

    `logit_rows`: positions whose logits are computed; None = every new token (training, scoring).
    """
    new = np.asarray(new_tokens, float)
    rows = new if logit_rows is None else np.asarray(logit_rows, float)
    attention = attention_flops(shape, new, cached_tokens, causal)
    return block_flops(shape) * new + head_flops(shape) * rows + attention


def sample_flops(
    shape: Shape, prompt_tokens: ArrayLike, cached_tokens: ArrayLike, completion_tokens: ArrayLike
) -> Numbers:
    """Return the FLOPs of one sample from its ledger: prefill of what was not cached, then decode.

    A step computes prompt − cached + completion − 1 positions (its last token is read by nobody,
    or by the next step, which then pays for it) and one row of logits per completion token.
    """
    prompt, done = np.asarray(prompt_tokens, float), np.asarray(cached_tokens, float)
    completion = np.asarray(completion_tokens, float)
    computed = np.maximum(prompt - done + completion - 1, 0)
    return forward_flops(shape, computed, done, logit_rows=completion)


def train_flops(shape: Shape, tokens: ArrayLike, mean_context: float) -> Numbers:
    """Return training FLOPs: three forwards per token, `mean_context` positions seen on average.

    For packed rows of length T without resets, mean_context = (T+1)/2.
    """
    return 3.0 * forward_flops(shape, 1, mean_context - 1) * np.asarray(tokens, float)


def train_flops_6n(n_params: ArrayLike, tokens: ArrayLike) -> Numbers:
    """Return 6·N·D, the approximation of Kaplan et al. 2020 (§2.1), for models of unknown shape."""
    return 6.0 * np.asarray(n_params, float) * np.asarray(tokens, float)


def kv_bytes(shape: Shape, tokens: ArrayLike, bytes_per_value: float = 4) -> Numbers:
    """Return the bytes of keys and values of `tokens` positions (Pope et al., arXiv:2211.05102)."""
    per_token = 2.0 * shape.layers * shape.kv_heads * shape.head_dim * bytes_per_value
    return per_token * np.asarray(tokens, float)


def sample_kv_traffic(
    shape: Shape,
    prompt_tokens: ArrayLike,
    cached_tokens: ArrayLike,
    completion_tokens: ArrayLike,
    bytes_per_value: float = 4,
) -> Numbers:
    """Return the cache bytes that one sample reads and writes.

    Prefill reads what is cached once; each later token reads its whole context, itself included
    (prompt+1, …, prompt+completion−1); each computed position is written once.
    """
    prompt, done = np.asarray(prompt_tokens, float), np.asarray(cached_tokens, float)
    decoded = np.maximum(np.asarray(completion_tokens, float) - 1, 0)
    reads = done + decoded * prompt + decoded * (decoded + 1) / 2
    return kv_bytes(shape, reads + prompt - done + decoded, bytes_per_value)


def arithmetic_intensity(
    shape: Shape, context: ArrayLike, rows: ArrayLike, bytes_per_value: float = 4
) -> Numbers:
    """Return FLOPs per byte of one decode step: `rows` sequences, each of `context` positions.

    Bytes = weights once (the token table only where it is the head) + each row's keys and values.
    """
    n = np.asarray(rows, float)
    weights = (total_parameters(shape, embeddings=False) + head_flops(shape) / 2) * bytes_per_value
    flops = forward_flops(shape, 1, np.asarray(context, float) - 1) * n
    return flops / (weights + n * kv_bytes(shape, context, bytes_per_value))


def seconds(
    flops: ArrayLike, traffic_bytes: ArrayLike, flops_per_second: float, bytes_per_second: float
) -> Numbers:
    """Return the least seconds a machine needs: the longer of computing and moving (roofline)."""
    compute = np.asarray(flops, float) / flops_per_second
    return np.maximum(compute, np.asarray(traffic_bytes, float) / bytes_per_second)


def price(
    prompt_tokens: ArrayLike,
    cached_tokens: ArrayLike,
    completion_tokens: ArrayLike,
    per_million_input: float,
    per_million_output: float,
    per_million_cached: float = 0.0,
) -> Numbers:
    """Return the price of tokens at list prices per million tokens, in their currency."""
    cached = np.asarray(cached_tokens, float)
    uncached = np.asarray(prompt_tokens, float) - cached
    spent = uncached * per_million_input + cached * per_million_cached
    return (spent + np.asarray(completion_tokens, float) * per_million_output) / 1e6

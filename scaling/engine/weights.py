"""One description of a dense transformer's weights, whichever family stored them.

Both lean forwards (torch and native) read it; nothing here computes. A family that is not in
FAMILIES, or a configuration with a feature that the lean forwards lack, raises `Unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from scaling.compute import Shape

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu"}
ACTIVATIONS |= dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu_tanh")


class Unknown(ValueError):
    """A model that the lean forwards cannot run; the caller falls back to the model's own."""


@dataclass
class Linear:
    """A matrix (out, in), and a bias (out,) or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None


@dataclass
class Block:
    """One layer; projections fused, `up` holds gate over up when gated; norms are (hidden,)."""

    norm1: Linear
    qkv: Linear
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    out: Linear
    norm2: Linear
    up: Linear
    down: Linear


@dataclass
class Weights:
    """A whole model, with the few facts that its arithmetic depends on."""

    shape: Shape
    embedding: torch.Tensor  #: (vocab, hidden)
    positions: torch.Tensor | None  #: (context, hidden)
    blocks: list[Block]
    norm: Linear
    head: torch.Tensor  #: (vocab, hidden)
    eps: float
    rms: bool  #: RMS norms, else layer norms
    activation: str  #: silu, gelu, gelu_tanh
    parallel: bool  #: attention and MLP both read the block's input (NeoX)
    cos: torch.Tensor | None  #: (context, rotary/2); None without rotary positions
    sin: torch.Tensor | None


def is_placed(model: Any) -> bool:
    """Return whether the weights stay as they were loaded: quantised, or over several devices."""
    devices = set((getattr(model, "hf_device_map", None) or {}).values())
    return bool(getattr(model, "is_quantized", False)) or len(devices) > 1


def read_weights(model: Any) -> Weights:
    """Return the weights of a `transformers` causal LM; raises `Unknown` for a missing feature."""
    if is_placed(model):
        raise Unknown("weights are quantised or spread over devices")
    config = model.config
    family = config.model_type
    if family not in READERS:
        raise Unknown(f"no lean forward for model type {family!r}")
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    if window and window < config.max_position_embeddings and "sliding_attention" in layers:
        raise Unknown(f"sliding window of {window}")
    activation = getattr(config, "hidden_act", None) or config.activation_function
    if activation not in ACTIVATIONS:
        raise Unknown(f"activation {activation!r}")
    return READERS[family](model, Shape.from_config(config), ACTIVATIONS[activation])


def _linear(*layers: torch.nn.Linear) -> Linear:
    """Return linear layers fused along their outputs."""
    biases = [layer.bias for layer in layers if layer.bias is not None]
    if biases and len(biases) < len(layers):
        raise Unknown("a bias on only some of the fused projections")
    weight = torch.cat([layer.weight.detach() for layer in layers])
    return Linear(weight, torch.cat([b.detach() for b in biases]) if biases else None)


def _norm(layer: Any) -> Linear:
    bias = getattr(layer, "bias", None)
    return Linear(layer.weight.detach(), None if bias is None else bias.detach())


def _rotary(layer: Any, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines (context, rotary/2) of an embedding with fixed frequencies."""
    if getattr(layer, "rope_type", "default") not in ("default", "linear", "llama3", "yarn"):
        raise Unknown(f"rotary type {layer.rope_type!r}")
    angles = torch.arange(context, device=layer.inv_freq.device).float()[:, None] * layer.inv_freq
    return angles.cos() * layer.attention_scaling, angles.sin() * layer.attention_scaling


def _llama(model: Any, shape: Shape, activation: str) -> Weights:
    body = model.model
    blocks = [
        Block(
            norm1=_norm(layer.input_layernorm),
            qkv=_linear(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
            q_norm=layer.self_attn.q_norm.weight.detach() if shape.qk_norm else None,
            k_norm=layer.self_attn.k_norm.weight.detach() if shape.qk_norm else None,
            out=_linear(layer.self_attn.o_proj),
            norm2=_norm(layer.post_attention_layernorm),
            up=_linear(layer.mlp.gate_proj, layer.mlp.up_proj),
            down=_linear(layer.mlp.down_proj),
        )
        for layer in body.layers
    ]
    cos, sin = _rotary(body.rotary_emb, shape.context)
    return Weights(
        shape, body.embed_tokens.weight.detach(), None, blocks, _norm(body.norm),
        model.lm_head.weight.detach(), model.config.rms_norm_eps, True, activation, False, cos, sin,
    )  # fmt: skip


def _gpt2(model: Any, shape: Shape, activation: str) -> Weights:
    body, config = model.transformer, model.config
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights:
        raise Unknown("attention scores that are not scaled by the root of head_dim alone")

    def flipped(layer: Any) -> Linear:  # stored (in, out)
        return Linear(layer.weight.detach().T.contiguous(), layer.bias.detach())

    blocks = [
        Block(
            norm1=_norm(layer.ln_1),
            qkv=flipped(layer.attn.c_attn),
            q_norm=None,
            k_norm=None,
            out=flipped(layer.attn.c_proj),
            norm2=_norm(layer.ln_2),
            up=flipped(layer.mlp.c_fc),
            down=flipped(layer.mlp.c_proj),
        )
        for layer in body.h
    ]
    return Weights(
        shape, body.wte.weight.detach(), body.wpe.weight.detach(), blocks, _norm(body.ln_f),
        model.lm_head.weight.detach(), config.layer_norm_epsilon, False, activation, False,
        None, None,
    )  # fmt: skip


def _gpt_neox(model: Any, shape: Shape, activation: str) -> Weights:
    body, config = model.gpt_neox, model.config

    def unwoven(values: torch.Tensor) -> torch.Tensor:  # stored head by head: q, k, v of each
        parts = values.detach().view(shape.heads, 3, shape.head_dim, -1).transpose(0, 1)
        return parts.reshape(values.shape)

    def qkv(layer: Any) -> Linear:
        bias = None if layer.bias is None else unwoven(layer.bias)
        return Linear(unwoven(layer.weight), bias)

    blocks = [
        Block(
            norm1=_norm(layer.input_layernorm),
            qkv=qkv(layer.attention.query_key_value),
            q_norm=None,
            k_norm=None,
            out=_linear(layer.attention.dense),
            norm2=_norm(layer.post_attention_layernorm),
            up=_linear(layer.mlp.dense_h_to_4h),
            down=_linear(layer.mlp.dense_4h_to_h),
        )
        for layer in body.layers
    ]
    cos, sin = _rotary(body.rotary_emb, shape.context)
    return Weights(
        shape, body.embed_in.weight.detach(), None, blocks, _norm(body.final_layer_norm),
        model.get_output_embeddings().weight.detach(),
        config.layer_norm_eps, False, activation, config.use_parallel_residual, cos, sin,
    )  # fmt: skip


READERS = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _llama)
READERS |= {"gpt2": _gpt2, "gpt_neox": _gpt_neox}

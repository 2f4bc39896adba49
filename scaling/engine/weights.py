"""One description of a dense transformer's weights for all families.

Both lean forwards (torch and native) read it; nothing here computes. A family that is not in
FAMILIES, or a configuration with a feature that the lean forwards lack, raises `Unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import torch

from scaling.compute import Shape

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu"}
ACTIVATIONS |= dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu_tanh")


class Family(NamedTuple):
    """Attribute names of a family's parts: in the model, in its body, and in a layer."""

    body: str
    layers: str
    embedding: str
    norm: str
    eps: str  #: in the configuration
    rms: bool
    block: tuple[str, str, str, str, str, str]  #: norm1, qkv, out, norm2, up, down


LLAMA = Family("model", "layers", "embed_tokens", "norm", "rms_norm_eps", True, (
    "input_layernorm", "self_attn.q_proj self_attn.k_proj self_attn.v_proj", "self_attn.o_proj",
    "post_attention_layernorm", "mlp.gate_proj mlp.up_proj", "mlp.down_proj",
))  # fmt: skip
GPT2 = Family("transformer", "h", "wte", "ln_f", "layer_norm_epsilon", False, (
    "ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj",
))  # fmt: skip
NEOX = Family("gpt_neox", "layers", "embed_in", "final_layer_norm", "layer_norm_eps", False, (
    "input_layernorm", "attention.query_key_value", "attention.dense",
    "post_attention_layernorm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
))  # fmt: skip
FAMILIES = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), LLAMA)
FAMILIES |= {"gpt2": GPT2, "gpt_neox": NEOX}


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
    """All weights of a model, with the few facts that its arithmetic depends on."""

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
    """Return whether weights must stay as loaded: quantised, or spread over several devices."""
    devices = set((getattr(model, "hf_device_map", None) or {}).values())
    return bool(getattr(model, "is_quantized", False)) or len(devices) > 1


def read_weights(model: Any) -> Weights:
    """Return the weights of a `transformers` causal LM; raises `Unknown` for a missing feature."""
    if is_placed(model):
        raise Unknown("weights are quantised or spread over devices")
    config = model.config
    family = config.model_type
    if family not in FAMILIES:
        raise Unknown(f"no lean forward for model type {family!r}")
    if family == "gpt2" and (
        config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights
    ):
        raise Unknown("attention scores that are not scaled by the root of head_dim alone")
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    if window and window < config.max_position_embeddings and "sliding_attention" in layers:
        raise Unknown(f"sliding window of {window}")
    activation = getattr(config, "hidden_act", None) or config.activation_function
    if activation not in ACTIVATIONS:
        raise Unknown(f"activation {activation!r}")
    places, shape = FAMILIES[family], Shape.from_config(config)
    body = getattr(model, places.body)
    cos, sin = (None, None) if family == "gpt2" else _rotary(body.rotary_emb, shape.context)
    return Weights(
        shape=shape,
        embedding=getattr(body, places.embedding).weight.detach(),
        positions=body.wpe.weight.detach() if family == "gpt2" else None,
        blocks=[_block(layer, places, shape) for layer in getattr(body, places.layers)],
        norm=_norm(getattr(body, places.norm)),
        head=model.get_output_embeddings().weight.detach(),
        eps=getattr(config, places.eps),
        rms=places.rms,
        activation=ACTIVATIONS[activation],
        parallel=getattr(config, "use_parallel_residual", False),
        cos=cos,
        sin=sin,
    )


def _block(layer: Any, places: Family, shape: Shape) -> Block:
    norm1, qkv, out, norm2, up, down = (
        [attrgetter(name)(layer) for name in names.split()] for names in places.block
    )
    heads = layer.self_attn if shape.qk_norm else None
    return Block(
        norm1=_norm(*norm1),
        qkv=_unwoven(_linear(qkv, shape), shape) if places is NEOX else _linear(qkv, shape),
        q_norm=heads and heads.q_norm.weight.detach(),
        k_norm=heads and heads.k_norm.weight.detach(),
        out=_linear(out, shape),
        norm2=_norm(*norm2),
        up=_linear(up, shape),
        down=_linear(down, shape),
    )


def _linear(layers: Sequence[Any], shape: Shape) -> Linear:
    """Return linear layers fused along their outputs."""
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    if biases and len(biases) < len(layers):
        raise Unknown("a bias on only some of the fused projections")
    weight = torch.cat([layer.weight.detach() for layer in layers])
    weight = weight.T.contiguous() if shape.family == "gpt2" else weight  # stored (in, out) there
    return Linear(weight, torch.cat(biases) if biases else None)


def _unwoven(layer: Linear, shape: Shape) -> Linear:
    """Return queries, keys and values one after the other; NeoX stores them head by head."""

    def sorted_out(values: torch.Tensor) -> torch.Tensor:
        parts = values.view(shape.heads, 3, shape.head_dim, -1).transpose(0, 1)
        return parts.reshape(values.shape)

    bias = None if layer.bias is None else sorted_out(layer.bias)
    return Linear(sorted_out(layer.weight), bias)


def _norm(layer: Any) -> Linear:
    bias = getattr(layer, "bias", None)
    return Linear(layer.weight.detach(), None if bias is None else bias.detach())


def _rotary(layer: Any, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines (context, rotary/2) of an embedding with fixed frequencies."""
    if getattr(layer, "rope_type", "default") not in ("default", "linear", "llama3", "yarn"):
        raise Unknown(f"rotary type {layer.rope_type!r}")
    angles = torch.arange(context, device=layer.inv_freq.device).float()[:, None] * layer.inv_freq
    return angles.cos() * layer.attention_scaling, angles.sin() * layer.attention_scaling

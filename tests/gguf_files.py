"""Write tiny GGUF files with the package `gguf`, from models that `transformers` holds in memory.

Names, order of rows and metadata follow the description of the format, not the reader under test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def metadata(config: Any, tokenizer: Any, pre: str = "gpt-2") -> dict[str, Any]:
    """Return the metadata of a model, as llama.cpp's converter writes them."""
    import json

    family = config.model_type
    tokenizer_json = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["content"] for token in tokenizer_json["added_tokens"]}
    words = sorted(tokenizer_json["model"]["vocab"], key=tokenizer_json["model"]["vocab"].get)
    return {
        "general.type": "model",
        f"{family}.context_length": config.max_position_embeddings,
        f"{family}.embedding_length": config.hidden_size,
        f"{family}.block_count": config.num_hidden_layers,
        f"{family}.feed_forward_length": config.intermediate_size,
        f"{family}.attention.head_count": config.num_attention_heads,
        f"{family}.attention.head_count_kv": config.num_key_value_heads,
        f"{family}.attention.key_length": config.head_dim,
        f"{family}.attention.value_length": config.head_dim,
        f"{family}.rope.dimension_count": config.head_dim,
        f"{family}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        f"{family}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3 if word in special else 1 for word in words],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer_json["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT,
    }


def tensors(model: Any) -> dict[str, np.ndarray]:
    """Return the weights of a model under llama.cpp's names; Llama's rotary pairs side by side."""
    config, found = model.config, {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, end = name.rsplit(".", 1)
        values = tensor.float().numpy()
        if config.model_type == "llama" and stem.endswith(("q_proj", "k_proj")):
            half = config.head_dim // 2
            shape = (-1, 2, half, *values.shape[1:])
            values = values.reshape(shape).swapaxes(1, 2).reshape(values.shape)
        layer = ""
        if stem.startswith("model.layers."):
            number, stem = stem.removeprefix("model.layers.").split(".", 1)
            layer = f"blk.{number}."
        found[f"{layer}{PARTS[stem]}.{end}"] = np.ascontiguousarray(values)
    return found


def write(
    path: Path,
    architecture: str,
    values: dict[str, Any],
    arrays: dict[str, np.ndarray],
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> Path:
    """Write a file; matrices are stored as `kind`, vectors in float32."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        put = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
            list: writer.add_array,
        }
        put[type(value)](key, value)
    for name, array in arrays.items():
        stored = kind if array.ndim > 1 else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(array, stored)
        raw = None if stored.name in ("F32", "F16") else stored
        writer.add_tensor(name, data, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

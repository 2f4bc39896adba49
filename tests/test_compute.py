"""The ledger's arithmetic against torch's own counter, the models' own totals, and brute force."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import transformers as tf
from torch.utils.flop_counter import FlopCounterMode

from scaling import compute

SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
OLD_NAMES = {"vocab_size": 64, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
IDS = {"bos_token_id": 0, "eos_token_id": 1}
CONFIGS = {
    "llama": tf.LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True),
    "llama with biases": tf.LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, head_dim=8),
    "mistral": tf.MistralConfig(**SIZES, num_key_value_heads=2),
    "qwen2": tf.Qwen2Config(**SIZES, num_key_value_heads=2),
    "qwen3": tf.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=32),
    "gpt2": tf.GPT2Config(**OLD_NAMES, **IDS),
    "gpt2 with its own inner width": tf.GPT2Config(**OLD_NAMES, **IDS, n_inner=96),
    "gpt_neox": tf.GPTNeoXConfig(**SIZES),
    "gpt_neox without biases": tf.GPTNeoXConfig(**SIZES, attention_bias=False),
}


def counted(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def eager(name: str) -> tuple[torch.nn.Module, compute.Shape]:
    model = tf.AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="eager")
    return model, compute.Shape.from_config(CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_parameter_groups_sum_to_the_models_own_total(name):
    model, shape = eager(name)
    assert compute.total_parameters(shape) == sum(p.numel() for p in model.parameters())
    assert shape == compute.Shape.from_config(CONFIGS[name].to_dict())
    assert compute.Shape(**asdict(shape)) == shape


@pytest.mark.parametrize("name", CONFIGS)
def test_flops_agree_with_torchs_counter_within_one_percent(name):
    model, shape = eager(name)
    ids = torch.zeros(2, 40, dtype=torch.long)
    with torch.no_grad():
        prefill = counted(lambda: model(ids))
        cache = model(ids, use_cache=True).past_key_values
        decode = counted(lambda: model(ids[:, :1], past_key_values=cache))
    train = counted(lambda: model(ids).logits.sum().backward())
    square = 2 * compute.forward_flops(shape, 40, causal=False)
    assert prefill == pytest.approx(square, rel=0.01)
    assert decode == pytest.approx(2 * compute.forward_flops(shape, 1, 40), rel=0.01)
    assert train == pytest.approx(compute.train_flops(shape, 2 * 40, mean_context=40), rel=0.01)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_kv_bytes_are_what_the_models_own_cache_holds(name):
    model, shape = eager(name)
    cache = model(torch.zeros(1, 10, dtype=torch.long), use_cache=True).past_key_values
    stored = sum(t.numel() for layer in cache.layers for t in (layer.keys, layer.values)) * 4
    assert compute.kv_bytes(shape, 10) == stored
    assert compute.kv_bytes(shape, 10, bytes_per_value=2) == stored / 2


SHAPE = compute.Shape.from_config(CONFIGS["llama"])


def test_causal_attention_counts_each_pair_of_positions_once():
    pairs = sum(i + 1 for i in range(7, 7 + 5))  # five new tokens after seven
    unit = 4 * SHAPE.layers * SHAPE.heads * SHAPE.head_dim
    assert compute.attention_flops(SHAPE, 5, 7) == unit * pairs
    assert compute.attention_flops(SHAPE, 5, 7, causal=False) == unit * 5 * 12


def test_a_chain_that_keeps_its_cache_costs_what_one_long_forward_costs():
    # prompt 10, a draft of 6 that stopped, 4 more tokens, a revision of 5
    first = compute.sample_flops(SHAPE, 10, 0, 6)
    second = compute.sample_flops(SHAPE, 10 + 5 + 4, 10 + 5, 5)
    assert first + second == compute.forward_flops(SHAPE, 10 + 5 + 4 + 4, logit_rows=6 + 5)
    assert second < compute.sample_flops(SHAPE, 19, 0, 5)


def test_kv_traffic_is_every_read_and_write_of_a_token_by_token_replay():
    prompt, cached, completion, moved = 9, 4, 5, 4  # the cached part is read once
    moved += prompt - cached
    for context in range(prompt + 1, prompt + completion):
        moved += context + 1  # read the context, itself included, and write one position
    traffic = compute.sample_kv_traffic(SHAPE, prompt, cached, completion)
    assert traffic == compute.kv_bytes(SHAPE, moved)


def test_every_function_broadcasts_over_arrays_of_token_counts():
    prompts, completions = np.array([4, 9]), np.array([[1], [6], [8]])
    flops = compute.sample_flops(SHAPE, prompts, 0, completions)
    assert flops.shape == (3, 2)
    assert flops[1, 1] == compute.sample_flops(SHAPE, 9, 0, 6)
    assert compute.sample_kv_traffic(SHAPE, prompts, 0, completions).shape == (3, 2)
    assert compute.price(prompts, 0, completions, 1.0, 2.0).shape == (3, 2)


def test_a_sample_of_no_tokens_costs_nothing():
    assert compute.sample_flops(SHAPE, 20, 20, 0) == 0


def test_training_flops_approach_6nd_when_attention_and_tables_are_small():
    wide = replace(SHAPE, hidden=4096, intermediate=11008, layers=32, head_dim=1024, kv_heads=4)
    n = compute.total_parameters(wide)
    exact = compute.train_flops(wide, 1e9, mean_context=64)
    assert exact == pytest.approx(compute.train_flops_6n(n, 1e9), rel=0.01)


def test_intensity_grows_with_rows_until_keys_and_values_dominate():
    intensity = compute.arithmetic_intensity(SHAPE, 64, np.array([1, 8, 64, 4096, 65536]))
    assert (np.diff(intensity) > 0).all()
    assert intensity[-1] < compute.forward_flops(SHAPE, 1, 63) / compute.kv_bytes(SHAPE, 64)


def test_seconds_are_those_of_the_slower_of_computing_and_moving():
    assert compute.seconds(8e9, 1e9, 4e9, 1e9) == 2
    assert compute.seconds(1e9, 3e9, 4e9, 1e9) == 3


def test_price_charges_cached_tokens_by_their_own_rate():
    assert compute.price(1000, 400, 50, 2.0, 10.0, 0.5) == pytest.approx(
        (600 * 2 + 400 * 0.5 + 50 * 10) / 1e6
    )


def test_a_shape_holds_the_sizes_and_traits_of_its_configuration():
    assert asdict(SHAPE) == {
        "family": "llama", "vocab": 64, "hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2,
        "head_dim": 16, "intermediate": 96, "context": 128, "gated": True, "tied": True,
        "learned_positions": False, "qkv_bias": False, "out_bias": False, "mlp_bias": False,
        "norm_params": 1, "qk_norm": False,
    }  # fmt: skip
    older = compute.Shape.from_config(CONFIGS["gpt2"])
    assert (older.family, older.context, older.intermediate) == ("gpt2", 128, 256)
    for family in ("gpt2", "gpt_neox"):
        shape = compute.Shape.from_config({"model_type": family} | OLD_NAMES | SIZES)
        flags = shape.gated, shape.tied, shape.qkv_bias, shape.out_bias, shape.mlp_bias
        assert flags == (False, family == "gpt2", True, True, True)
    bare = {name: 64 for name in SIZES} | {"model_type": "llama"}
    shape = compute.Shape.from_config(bare | {"num_attention_heads": 4})
    assert (shape.kv_heads, shape.head_dim, shape.tied, shape.mlp_bias) == (4, 16, False, False)
    for family, mlp_bias in (("llama", True), ("qwen3", False), ("mistral", False)):
        given = bare | {"model_type": family, "attention_bias": True, "mlp_bias": True}
        shape = compute.Shape.from_config(given)
        biases = shape.qkv_bias, shape.out_bias, shape.mlp_bias
        assert biases == (family != "mistral", family != "mistral", mlp_bias)
    unknown = asdict(compute.UNKNOWN)
    assert all(np.isnan(value) for value in unknown.values())


def test_numbers_worked_out_by_hand():
    block, head, pair = 2 * (12_288 * 2 + 18_432 * 2), 2 * 64 * 64, 4 * 2 * 4 * 16
    assert compute.block_flops(SHAPE) == block
    assert compute.head_flops(SHAPE) == head
    assert compute.attention_flops(SHAPE, 3) == 6 * pair
    assert compute.forward_flops(SHAPE, 3) == 3 * (block + head) + 6 * pair
    assert compute.forward_flops(SHAPE, 3, 2, 1) == 3 * block + head + 12 * pair
    assert compute.train_flops(SHAPE, 10, 4.5) == 30 * (block + head + 4.5 * pair)
    assert compute.train_flops_6n(7, 11) == 462
    assert compute.sample_flops(SHAPE, 5, 3, 0) == block + 4 * pair
    assert compute.total_parameters(SHAPE) == block / 2 + 64 * 64 + 5 * 64
    assert compute.total_parameters(SHAPE, embeddings=False) == block / 2 + 5 * 64
    per_token = 2 * 2 * 2 * 16 * 4
    assert compute.kv_bytes(SHAPE, 1) == per_token
    assert compute.sample_kv_traffic(SHAPE, 5, 3, 0) == 5 * per_token
    weights = (block / 2 + 5 * 64 + head / 2) * 4
    flops, traffic = 3 * (block + head + 6 * pair), weights + 3 * 6 * per_token
    assert compute.arithmetic_intensity(SHAPE, 6, 3) == pytest.approx(flops / traffic, rel=1e-12)
    assert compute.price(10, 4, 3, 2.0, 5.0) == pytest.approx((6 * 2 + 3 * 5) / 1e6)


def test_an_unknown_family_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^no shape for model type 'mamba'; known: llama, mis"):
        compute.Shape.from_config({"model_type": "mamba"})

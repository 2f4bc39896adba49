"""Models load from folders, count what they hold, and say so when they cannot."""

from __future__ import annotations

import json

import pytest

from scaling.models import ALPHABET, SIZES, character_tokenizer, find_models, load_lm, tiny_config


def test_the_tokenizer_is_one_token_per_character_and_loses_nothing():
    tokenizer = character_tokenizer()
    ids = tokenizer.encode(ALPHABET, add_special_tokens=False)
    assert len(ids) == len(set(ids)) == len(ALPHABET)
    assert tokenizer.decode(ids) == ALPHABET


@pytest.mark.parametrize("size", SIZES)
def test_ladder_sizes_are_named_after_their_parameters_without_embeddings(size):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(tiny_config(*SIZES[size]))
    total = sum(parameter.numel() for parameter in model.parameters())
    millions = (total - model.config.vocab_size * SIZES[size][0]) / 1e6
    assert size in (f"{millions:.1f}M", f"{millions:.2f}M")


def test_a_saved_model_loads_with_the_same_weights_and_card(tiny_folder):
    from scaling.models import weights_hash

    lm = load_lm(tiny_folder)
    assert lm.card.identity == weights_hash(lm.model)
    assert lm.card.train_flops == 1e9
    assert lm.decode(lm.encode("3,7=21:")) == "3,7=21:"
    assert find_models(tiny_folder.parents[1]) == [tiny_folder]


def test_parameters_of_the_card_are_those_of_the_model(tiny_folder):
    lm = load_lm(tiny_folder)
    assert lm.card.n_params == sum(p.numel() for p in lm.model.parameters())
    assert lm.card.n_params_no_embedding == lm.card.n_params - lm.model.config.vocab_size * 32


def test_a_missing_or_empty_or_damaged_model_folder_is_one_clear_line(tmp_path, tiny_folder):
    with pytest.raises(ValueError, match="no model folder"):
        load_lm(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no model"):
        load_lm(tmp_path)
    for path in tiny_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="no readable model") as caught:
        load_lm(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_card_gets_one_whose_training_is_unknown(tmp_path, tiny_folder):
    for path in tiny_folder.iterdir():
        if path.name != "card.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    card = load_lm(tmp_path).card
    assert card.train_flops != card.train_flops
    assert card.n_params == json.loads((tiny_folder / "card.json").read_text())["n_params"]

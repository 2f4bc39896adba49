"""Language models: a folder, hub name or GGUF file becomes weights, a tokenizer and a card."""

from scaling.models.cards import (
    CARD,
    make_card,
    quiet,
    read_card,
    read_json,
    save_lm,
    weights_hash,
    writing,
)
from scaling.models.hub import is_endpoint
from scaling.models.loading import LM, Chat, find_models, load_lm, readable
from scaling.models.tiny import ALPHABET, CONTEXT, SIZES, character_tokenizer, tiny_config

__all__ = [
    "ALPHABET",
    "CARD",
    "CONTEXT",
    "LM",
    "SIZES",
    "Chat",
    "character_tokenizer",
    "find_models",
    "is_endpoint",
    "load_lm",
    "make_card",
    "quiet",
    "read_card",
    "read_json",
    "readable",
    "save_lm",
    "tiny_config",
    "weights_hash",
    "writing",
]

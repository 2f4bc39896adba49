"""Configurations and the tokenizer of the ladder's tiny models."""

from __future__ import annotations

ALPHABET = "0123456789+-*/=;:,.~x!?|()<>[]@#&%^_ abcdefghijklmnopqrstuvwyzABCDEFGHIJ"
HEAD_DIM = 32  #: inference servers refuse smaller heads
CONTEXT = 512  #: tokens, unless a model learns from longer rows
SIZES: dict[str, tuple[int, int, int]] = {  #: (hidden, layers, channels of a head)
    "0.1M": (64, 2, 32), "0.3M": (96, 3, 32), "1.3M": (160, 4, 32), "4.8M": (256, 6, 32),
    "0.02M": (16, 4, 16), "0.05M": (32, 4, 16), "0.11M": (48, 4, 16), "0.21M": (64, 4, 16),
    "0.44M": (96, 4, 16), "0.80M": (128, 4, 16),
}  # fmt: skip


def character_tokenizer():
    """Return a tokenizer with one token per character: <pad> 0, <eos> 1, then `ALPHABET`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def tiny_config(hidden: int, layers: int, head_dim: int = HEAD_DIM, context: int = CONTEXT):
    """Return a Llama-style config of the ladder: gated MLP of 8/3, tied embeddings.

    Heads have half of `head_dim` channels where the width is no multiple of it.
    """
    from transformers import LlamaConfig

    head_dim = head_dim if hidden % head_dim == 0 else head_dim // 2
    heads = hidden // head_dim
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        intermediate_size=-(-hidden * 8 // 3 // 32) * 32,
        vocab_size=-(-(len(ALPHABET) + 3) // 32) * 32,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )

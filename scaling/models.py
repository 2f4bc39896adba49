"""A language model is weights, a tokenizer and a card. Tiny ones are Hugging Face configs too."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scaling.compute import Shape, parameters
from scaling.records import ModelCard

ALPHABET = "0123456789+-*/=;:,.~x!?|()<>[]@#&%^_ abcdefghijklmnopqrstuvwyz"
HEAD_DIM = 32  #: inference servers refuse smaller heads
SIZES = {"0.1M": (64, 2), "0.3M": (96, 3), "1.3M": (160, 4), "4.8M": (256, 6)}  #: (hidden, layers)
CARD = "card.json"


@dataclass(frozen=True)
class LM:
    """Weights, tokenizer, and what a curve needs to know of them."""

    model: Any  #: transformers.PreTrainedModel
    tokenizer: Any  #: transformers.PreTrainedTokenizerBase
    card: ModelCard

    def encode(self, text: str) -> tuple[int, ...]:
        """Return token ids, without special tokens."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, tokens) -> str:
        """Return text, special tokens left out."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Token ids that end a completion."""
        eos = self.model.generation_config.eos_token_id
        eos = self.tokenizer.eos_token_id if eos is None else eos
        return tuple(eos) if isinstance(eos, list) else (eos,)


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


def tiny_config(hidden: int, layers: int, context: int = 512):
    """Return a Llama-style config of the ladder: heads of 32, gated MLP of 8/3, tied embeddings."""
    from transformers import LlamaConfig

    heads = hidden // HEAD_DIM
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_DIM,
        intermediate_size=-(-hidden * 8 // 3 // 32) * 32,
        vocab_size=-(-(len(ALPHABET) + 3) // 32) * 32,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )


def make_card(
    model, name: str, train_flops: float = float("nan"), train_tokens: int = 0
) -> ModelCard:
    """Return the card of a model in memory."""
    shape = Shape.from_config(model.config)
    groups = parameters(shape)
    total = sum(parameter.numel() for parameter in model.parameters())
    return ModelCard(
        name=name,
        n_params=total,
        n_params_no_embedding=total - groups["embedding"] - groups.get("head", 0),
        train_flops=train_flops,
        train_tokens=train_tokens,
        shape=asdict(shape),
        identity=weights_hash(model),
    )


def weights_hash(model) -> str:
    """Return a hash of all weights by name, in bfloat16-exact form, independent of file layout."""
    digest = blake2b(digest_size=12)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def save_lm(lm: LM, folder: Path, **notes: Any) -> None:
    """Write weights (bfloat16 safetensors), tokenizer and card; `notes` go into the card's file.

    The card's identity is that of the rounded weights, which are what anybody will load.
    """
    import torch

    quiet()
    folder.mkdir(parents=True, exist_ok=True)
    model = lm.model.to(torch.bfloat16)
    model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    card = asdict(lm.card) | {"identity": weights_hash(model)} | notes
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")


def quiet() -> None:
    """Turn off transformers' bars for loading and saving: ours show the progress that matters."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def load_lm(where: str | Path) -> LM:
    """Return the LM in a folder (weights, tokenizer, and a card where the kit wrote one).

    Errors: ValueError when there is no such folder or it holds no model.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet()
    folder = Path(where)
    if not folder.is_dir():
        raise ValueError(f"no model folder {folder}; give one that holds config.json and weights")
    if not (folder / "config.json").exists() or not list(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds no model: config.json and *.safetensors are needed")
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{folder} holds no readable model: {reason}") from error
    return LM(model, tokenizer, _read_card(folder, model))


def _read_card(folder: Path, model: Any) -> ModelCard:
    """Return the card beside the weights; where there is none, what the weights tell."""
    path = folder / CARD
    if not path.exists():
        return make_card(model, folder.name)
    names = {f.name for f in fields(ModelCard)}
    return ModelCard(**{k: v for k, v in json.loads(path.read_text()).items() if k in names})


def find_models(root: str | Path) -> list[Path]:
    """Return every model folder with a card under `root`: smallest first, then least trained."""
    cards = [(json.loads(path.read_text()), path.parent) for path in Path(root).rglob(CARD)]
    cards.sort(key=lambda item: (item[0]["n_params"], item[0]["train_flops"]))
    if not cards:
        raise ValueError(f"no model with a {CARD} under {root}; `make train` makes the ladder")
    return [folder for _, folder in cards]

"""Model cards: a model's size, shape and training, stored next to its weights and in the log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from scaling.compute import Shape, parameters, train_flops
from scaling.models import known
from scaling.models.hub import Files
from scaling.records import ModelCard

CARD = "card.json"


def make_card(model, name: str, train_flops: float = math.nan, train_tokens: int = 0) -> ModelCard:
    """Return the card of a model in memory."""
    shape = Shape.from_config(model.config)
    return new_card(shape, name, train_flops, train_tokens, weights_hash(model))


def new_card(shape: Shape, name: str, flops: float, tokens: int, identity: str) -> ModelCard:
    groups = parameters(shape)
    total = sum(groups.values())
    return ModelCard(
        name=name,
        n_params=total,
        n_params_no_embedding=total - groups["embedding"] - groups["head"],
        train_flops=flops,
        train_tokens=tokens,
        shape=asdict(shape),
        identity=identity,
    )


def weights_hash(model) -> str:
    """Return a hash of all weights by name, in bfloat16-exact form, independent of file layout."""
    digest = blake2b(digest_size=12)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def save_lm(lm: Any, folder: Path, **notes: Any) -> None:
    """Write weights (bfloat16 safetensors), tokenizer and card; `notes` go into the card's file.

    The card's identity is that of the rounded weights, which are the ones that will be loaded.
    """
    import torch

    quiet()
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).exists():
        raise ValueError(f"{folder} holds files but no {CARD}: give an empty folder for the model")
    folder.mkdir(parents=True, exist_ok=True)
    model = lm.model.to(torch.bfloat16)
    with writing(folder):
        model.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)
    card = asdict(lm.card) | {"identity": weights_hash(model)} | notes
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any error of a write within into an OSError: libraries in Rust raise their own."""
    try:
        yield
    except Exception as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def quiet() -> None:
    """Turn off transformers' bars for loading and saving: ours show the progress that matters."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def skills_of(folder: Path) -> tuple[str, ...]:
    """Return the methods that a model was trained for; the ladder's recipe includes drafts."""
    notes = read_json(folder / CARD) if (folder / CARD).exists() else {}
    return tuple(notes.get("skills", ("revision",) if "mixture" in notes else ()))


def read_json(path: Path) -> dict[str, Any]:
    """Return the contents of a JSON file next to a model's weights; ValueError if it is damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy the model again") from error


def read_card(path: Path) -> ModelCard:
    """Return the card in a file that the kit wrote next to a model's weights."""
    names = {f.name for f in fields(ModelCard)}
    try:
        return ModelCard(**{k: v for k, v in read_json(path).items() if k in names})
    except (OSError, TypeError) as error:
        raise ValueError(f"{path} is no model card: {error}; give a card.json") from error


def card_of(
    files: Files, config: Any, train_tokens: float | None, identify: bool = True
) -> ModelCard:
    """Return the folder's card, or else one made from its files and the table of known models."""
    if not files.gguf and (files.folder / CARD).exists():
        return read_card(files.folder / CARD)
    shape = Shape.from_config(config)
    rows = [row for name in (files.name, *files.also) if name and (row := known.look_up(name))]
    size = sum(parameters(shape).values())
    row = next((row for row in rows if row.n_params == size), None)  # another: named like it only
    tokens = train_tokens or (row.tokens_at(files.revision) if row else math.nan)
    context = row.train_context if row else 1  # unknown: attention is left out of the cost
    flops = float(train_flops(shape, tokens, (context + 1) / 2))
    stored = [files.gguf] if files.gguf else sorted(files.folder.glob("*.safetensors"))
    identity = files.commit or (files_hash(stored) if identify else "")
    return new_card(shape, files.title, flops, 0 if math.isnan(tokens) else int(tokens), identity)


def files_hash(paths: list[Path]) -> str:
    """Return a hash of files of weights, read as bytes."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(file_digest(file, "blake2b").hexdigest())
    return hash_of("".join(digests).encode())


def hash_of(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()

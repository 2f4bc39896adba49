"""The manifest of a run: task, model and plan, the code, and the hashes of its files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from scaling.records import ModelCard, Plan, Problem
from scaling.store.files import json_hash, read_bytes, write_files

FORMAT = 3  #: of the run folder: earlier ones lack `files.ADDED_COLUMNS`, later ones are refused


def card_to_json(card: ModelCard) -> dict[str, Any]:
    """Return a model card without NaN, which JSON lacks."""
    return asdict(card) | {
        "train_flops": None if math.isnan(card.train_flops) else card.train_flops
    }


def card_from_json(row: dict[str, Any]) -> ModelCard:
    """Return the model card that `card_to_json` wrote."""
    if unknown := set(row) - {field.name for field in fields(ModelCard)}:
        later = "a later version wrote it; update the kit to read it"
        raise ValueError(f"unknown fields of a model card: {', '.join(sorted(unknown))}; {later}")
    flops = row.get("train_flops")
    return ModelCard(**row | {"train_flops": math.nan if flops is None else flops})


def identity_of(
    task: str, card: ModelCard, plan: Plan, problems: Sequence[Problem]
) -> dict[str, Any]:
    """Return the identity of a run: equal identities are the same run."""
    return {
        "task": task,
        "model": card_to_json(card),
        "plan": plan.to_dict(),
        "problems_sha256": json_hash([vars(problem) for problem in problems]),
    }


def seal_hash(manifest: dict[str, Any]) -> str:
    """Return the hash of a sealed manifest's content, including the hashes of its files."""
    return json_hash({key: value for key, value in manifest.items() if key != "sha256"})


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace a run's manifest atomically."""
    text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    write_files({folder / "manifest.json": text.encode()})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a run's manifest; ValueError when it is unreadable, edited or of another format."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(read_bytes(path))
        if (written := manifest["format"]) not in range(1, FORMAT + 1):
            raise ValueError(
                f"{path} has format {written}, this version reads 1 to {FORMAT}; update the kit"
            )
        edited = manifest["status"] == "sealed" and manifest["sha256"] != seal_hash(manifest)
        edited |= manifest["hash"] != json_hash(manifest["identity"])
        edited |= not manifest["files"]["problems.parquet"]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if str(path) in str(error):
            raise
        reason = f"no field {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is not the manifest of a run: {reason}; restore it") from error
    if edited:
        raise ValueError(f"{path} was edited after it was written; restore it")
    return manifest

"""Read the files of a run, sealed or still open. Needs no lock and no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from scaling.records import Plan, look_up
from scaling.store.files import PROBLEMS, SCHEMAS, checked_bytes, from_parquet
from scaling.store.manifest import card_from_json, read_manifest
from scaling.store.parts import read_parts


def read_run(
    path: Path, columns: Iterable[str] | None = None, text: bool = False
) -> dict[str, Any]:
    """Return the fields of `runs.Run`, the files checked against their hashes.

    columns: of the facts, all by default. text: also the model's texts, as column `text`.
    Errors: ValueError naming a file that is missing or was changed, and where it differs.
    """
    path, known = Path(path), {name: name for name in SCHEMAS["facts"].names}
    names = [look_up(known, name, "column") for name in (known if columns is None else columns)]
    if not path.is_dir():
        raise ValueError(
            f"{path} is no run folder; give a folder that holds a manifest.json, such as those "
            "in data/runs, or in data/study/runs after `make study`"
        )
    if not (path / "manifest.json").exists() and any(path.glob("*/manifest.json")):
        raise ValueError(f"{path} is no run folder, it holds some; give one of {path}/*")
    manifest = read_manifest(path)
    try:
        found = _load(path, manifest, names, text)
        if manifest["status"] == "open" and read_manifest(path)["status"] == "sealed":
            return read_run(path, names, text)  # sealed meanwhile: its parts are gone
        return found
    except (KeyError, TypeError, AttributeError) as error:
        file = path / "manifest.json"
        raise ValueError(f"{file} does not describe a run ({error!r}); restore it") from error


def _load(path: Path, manifest: dict[str, Any], names: list[str], text: bool) -> dict[str, Any]:
    problems = _read_sealed(path, "problems", manifest)
    kinds = ["facts", "text"] if text else ["facts"]
    if manifest["status"] == "sealed":
        if text and not (path / "text.parquet").exists():
            raise ValueError(
                f"{path} holds no texts: its text.parquet was left out or deleted; it loads "
                "without text=True; to get the texts, sample the run again into another folder"
            )
        wanted = {"facts": names, "text": None}
        tables = {k: _read_sealed(path, k, manifest, wanted[k]) for k in kinds}
    else:
        tables = read_parts(path, kinds, problems["id"].to_pylist())
    frame = _to_frame(tables["facts"].select(names))
    if text:
        frame["text"] = tables["text"]["text"].to_pandas()
    identity = manifest["identity"]
    return dict(
        path=path,
        manifest=manifest,
        task=identity["task"],
        card=card_from_json(identity["model"]),
        plan=Plan.from_dict(identity["plan"]),
        problems=problems.to_pandas(),
        samples=frame,
        sha256=manifest.get("sha256", ""),
    )


def _read_sealed(
    run: Path, kind: str, manifest: dict[str, Any], columns: list[str] | None = None
) -> pa.Table:
    path, schema = run / f"{kind}.parquet", PROBLEMS if kind == "problems" else SCHEMAS[kind]
    data = checked_bytes(path, schema, manifest["files"][path.name])
    return from_parquet(path, data, schema, columns)


def _to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table with 64-bit numbers, since tokens times parameters overflow 32 bits."""
    wide = {"int32": pa.int64(), "float": pa.float64()}
    schema = [pa.field(f.name, wide.get(str(f.type), f.type)) for f in table.schema]
    return table.cast(pa.schema(schema)).to_pandas()

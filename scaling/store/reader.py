"""Load a run, sealed or still open. Needs no lock and no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scaling import show
from scaling.records import ModelCard, Plan, look_up
from scaling.store.files import PROBLEMS, SCHEMAS, checked_bytes, from_parquet
from scaling.store.manifest import card_from_json, read_manifest
from scaling.store.parts import read_parts


@dataclass(frozen=True)
class LoadedRun:
    """A run as the right room reads it."""

    path: Path  #: the run's folder
    manifest: dict[str, Any]  #: as written
    task: str  #: name of the task
    card: ModelCard  #: the model that was sampled
    plan: Plan  #: how it was sampled
    problems: pd.DataFrame  #: columns of `records.Problem`, in the order asked
    frame: pd.DataFrame  #: columns of `records.Sample`, sorted by problem, chain, step
    sha256: str  #: of the manifest, which holds the files' hashes; "" while the run is open

    def _repr_html_(self) -> str:
        """Return the run's card; its picture: problems from hard to easy, the accuracy of each."""
        from scaling.intervals import mean_interval

        drawn = self.frame[self.frame["finish"] != "scored"]  # a search logs its scorer's passes
        last = drawn.drop_duplicates(["problem", "chain"], keep="last")
        rate = np.sort(last.groupby("problem")["correct"].mean().to_numpy(float))
        facts: dict[str, Any] = {"samples": len(self.frame), "problems": len(self.problems)}
        facts |= {"plan": f"{self.plan.method}, {self.plan.chains} chains x {self.plan.steps}"}
        facts |= {"seed": self.plan.seed, "train FLOPs": self.card.train_flops}
        if len(rate) > 1:
            found = mean_interval(rate)
            ends = (float(found.value), float(found.low), float(found.high))
            facts["accuracy of a chain's last step"] = show.with_interval(*ends)
        profile = show.picture(range(len(rate)), rate, np.zeros(len(rate)), rate, log=False)
        return show.card(f"{self.task}: {self.card.name}", facts, profile)


def load_run(path: Path, columns: Iterable[str] | None = None, text: bool = False) -> LoadedRun:
    """Return a run, its files checked against their hashes.

    columns: of the facts, all by default. text: also what the model wrote, as column `text`.
    Errors: ValueError naming the file, and where it differs, when one is missing or was changed.
    """
    path, known = Path(path), {name: name for name in SCHEMAS["facts"].names}
    names = [look_up(known, name, "column") for name in (known if columns is None else columns)]
    if not path.is_dir():
        raise ValueError(f"{path} is no run folder; give one of {path.parent}/*")
    if not (path / "manifest.json").exists() and any(path.glob("*/manifest.json")):
        raise ValueError(f"{path} is no run folder, it holds some; give one of {path}/*")
    manifest = read_manifest(path)
    try:
        found = _load(path, manifest, names, text)
        if manifest["status"] == "open" and read_manifest(path)["status"] == "sealed":
            return load_run(path, names, text)  # sealed meanwhile: its parts are gone
        return found
    except (KeyError, TypeError, AttributeError) as error:
        lacks = f"{path / 'manifest.json'} does not describe a run ({error!r})"
        raise ValueError(f"{lacks}; restore it") from error


def _load(path: Path, manifest: dict[str, Any], names: list[str], text: bool) -> LoadedRun:
    problems = _read_sealed(path, "problems", manifest)
    kinds = ["facts", "text"] if text else ["facts"]
    if manifest["status"] == "sealed":
        wanted = {"facts": names, "text": None}
        tables = {k: _read_sealed(path, k, manifest, wanted[k]) for k in kinds}
    else:
        tables = read_parts(path, kinds, problems["id"].to_pylist())
    frame = _to_frame(tables["facts"].select(names))
    if text:
        frame["text"] = tables["text"]["text"].to_pandas()
    identity = manifest["identity"]
    return LoadedRun(
        path=path,
        manifest=manifest,
        task=identity["task"],
        card=card_from_json(identity["model"]),
        plan=Plan.from_dict(identity["plan"]),
        problems=problems.to_pandas(),
        frame=frame,
        sha256=manifest.get("sha256", ""),
    )


def load_runs(root: Path) -> list[LoadedRun]:
    """Return every run directly under a folder, by name; a damaged one is refused, not skipped."""
    if not Path(root).is_dir():
        raise ValueError(
            f"{root} is not a folder; give the one that holds the run folders (`make study` makes "
            "data/study/runs, data/runs holds the committed ones)"
        )
    return [load_run(path.parent) for path in sorted(Path(root).glob("*/manifest.json"))]


def _read_sealed(
    run: Path, kind: str, manifest: dict[str, Any], columns: list[str] | None = None
) -> pa.Table:
    path, schema = run / f"{kind}.parquet", PROBLEMS if kind == "problems" else SCHEMAS[kind]
    data = checked_bytes(path, schema, manifest["files"][path.name])
    return from_parquet(path, data, schema, columns)


def _to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table for arithmetic: 64-bit numbers, since tokens times parameters overflow 32."""
    wide = {"int32": pa.int64(), "float": pa.float64()}
    schema = [pa.field(f.name, wide.get(str(f.type), f.type)) for f in table.schema]
    return table.cast(pa.schema(schema)).to_pandas()

"""Scores of a run: one file per scorer under `scores/`, its rows those of the run.

A sealed run is never edited; a later scorer writes its own file, which names the scored run and the
shape of the scorer's model. A deleted folder can be made again by scoring.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from scaling.store.files import read_bytes, to_parquet, write_files

FOLDER = "scores"
KEYS = ("problem", "chain", "step")
LEDGER = ("prompt_tokens", "cached_tokens")  #: tokens that a pass read, and those of them cached


@dataclass(frozen=True)
class Scores:
    """The scores of every sample of a run by one scorer."""

    name: str
    shape: dict[str, Any] | None  #: `compute.Shape` of the model that a pass runs; None: free
    frame: pd.DataFrame  #: KEYS, LEDGER, and a column per reduction over steps: min, last, product

    @property
    def reductions(self) -> list[str]:
        """Return the columns that rank samples."""
        return [name for name in self.frame.columns if name not in (*KEYS, *LEDGER)]


def write_scores(run: Any, scores: Scores) -> Path:
    """Write scores into the run's folder, replacing those of that name; return the file."""
    if not run.sha256:
        raise ValueError(f"{run.path} is still open; seal it before scoring")
    table = pa.Table.from_pandas(scores.frame, preserve_index=False)
    facts = {"name": scores.name, "shape": scores.shape, "run": run.sha256}
    table = table.replace_schema_metadata({"scorer": json.dumps(facts)})
    path = run.path / FOLDER / f"{scores.name}.parquet"
    path.parent.mkdir(exist_ok=True)
    write_files({path: to_parquet(table)})
    return path


def read_scores(run: Any) -> list[Scores]:
    """Return every scorer's numbers; ValueError if they are damaged or of another run."""
    import pyarrow.parquet as pq

    found = []
    for path in sorted((run.path / FOLDER).glob("*.parquet")):
        try:
            table = pq.read_table(pa.BufferReader(read_bytes(path)))
            facts = json.loads(table.schema.metadata[b"scorer"])
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise ValueError(f"{path} holds no scores: {error}; delete it, score again") from error
        if facts["run"] != run.sha256 or len(table) != len(run.samples):
            raise ValueError(f"{path} scores another run; delete it, score again")
        found.append(Scores(facts["name"], facts["shape"], table.to_pandas()))
    return found

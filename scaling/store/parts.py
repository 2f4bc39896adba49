"""The parts of an open run: a pair of files `<unit>.<hashes>.<kind>.parquet` per unit of work.

A name holds the unit and twelve digits of the hash of each file, so that no index has to be kept in
step with the folder, and a damaged part is known by its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scaling.store.files import SCHEMAS, from_parquet, read_bytes, sha256, to_parquet, write_files

FOLDER = "parts"
FAILED = "~failed"  #: ends the name of a unit whose samples have failed, or are still to come
KEYS = ["problem", "chain", "step"]


def write_part(run: Path, unit: str, tables: dict[str, pa.Table]) -> str:
    """Write the two files of a unit; return the stem of their names.

    The facts come last, and a part without both is no part.
    """
    data = {kind: to_parquet(tables[kind], small=False) for kind in ("text", "facts")}
    stem = ".".join([quote(unit, safe=""), *(sha256(part)[:12] for part in data.values())])
    write_files({run / FOLDER / f"{stem}.{kind}.parquet": data[kind] for kind in data})
    return stem


def find_parts(run: Path) -> dict[str, str]:
    """Return {unit: stem of its file names} for the parts of which both files exist.

    What a crash leaves behind (half a part, a file not yet renamed) is no part; sealing removes it.
    Nor is a unit with failed samples, once the same unit without them is there.
    """
    stems: dict[str, set[str]] = {kind: set() for kind in SCHEMAS}
    for path in (run / FOLDER).glob("*.parquet"):
        stem, kind, _ = path.name.rsplit(".", 2)
        stems[kind].add(stem)
    whole = sorted(stems["facts"] & stems["text"])
    found = {unquote(stem.rsplit(".", 2)[0]): stem for stem in whole}
    late = {unit for unit in found if unit.endswith(FAILED) and unit[: -len(FAILED)] in found}
    return {unit: stem for unit, stem in found.items() if unit not in late}


def read_part(run: Path, stem: str, kind: str) -> pa.Table:
    """Return one file of a part, checked against the hash in its name."""
    path = run / FOLDER / f"{stem}.{kind}.parquet"
    data, (_, text, facts) = read_bytes(path), stem.rsplit(".", 2)
    if not sha256(data).startswith(text if kind == "text" else facts):
        advice = "delete it and resume: that unit is sampled again"
        raise ValueError(f"{path} was changed after it was written; {advice}")
    return from_parquet(path, data, SCHEMAS[kind])


def read_parts(
    run: Path,
    kinds: Iterable[str],
    ids: Sequence[str],
    more: Mapping[str, pa.Table] = MappingProxyType({}),
) -> dict[str, pa.Table]:
    """Return all parts as one table per kind, sorted by problem (as in `ids`), chain, step.

    more: further rows, by kind.
    """
    stems = find_parts(run).values()
    parts = {k: [read_part(run, stem, k) for stem in stems] for k in {"facts", *kinds}}
    first = {k: more.get(k, SCHEMAS[k].empty_table()) for k in parts}
    tables = {k: pa.concat_tables([first[k], *parts[k]]) for k in parts}
    order = np.lexsort(_places(tables["facts"], ids))
    return {kind: tables[kind].take(order).combine_chunks() for kind in kinds}


def _places(facts: pa.Table, ids: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Return step, chain and problem (its place in `ids`, NaN for none) of each row."""
    problem = pc.index_in(facts["problem"], pa.array(ids, pa.string()))
    return facts["step"].to_numpy(), facts["chain"].to_numpy(), problem.to_numpy()


def check_rows(facts: pa.Table, ids: Sequence[str], what: str) -> None:
    """Refuse rows of an unknown problem, two at one (problem, chain, step), too much thinking."""
    places = _places(facts, ids)
    unknown = np.flatnonzero(np.isnan(places[-1]))
    if len(unknown):
        raise ValueError(f"{what} has a problem unknown to its run: {facts['problem'][unknown[0]]}")
    ordered = np.stack(places)[:, order := np.lexsort(places)]
    twice = order[1:][(ordered[:, 1:] == ordered[:, :-1]).all(axis=0)]
    if len(twice):
        row = ", ".join(f"{key} {facts[key][twice[0]]}" for key in KEYS)
        raise ValueError(f"{what} holds {len(twice)} samples more than once; the first: {row}")
    if "thinking_tokens" in facts.column_names:  # files of an earlier format lack it
        too_many = pc.greater(facts["thinking_tokens"], facts["completion_tokens"])
        if wrong := pc.sum(too_many).as_py():
            first = pc.index(too_many, True).as_py()
            row = ", ".join(f"{key} {facts[key][first]}" for key in KEYS)
            raise ValueError(
                f"{what} has {wrong} samples with more thinking than new tokens: {row}"
            )

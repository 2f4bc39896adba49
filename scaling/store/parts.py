"""The parts of an open run: pairs of files `<number>.<hashes>.<kind>.parquet` of complete problems.

A name holds twelve digits of the hash of each file, so that no index has to be kept in step with
the folder, and a damaged part is known by its name. A problem that was sampled again, or judged
again, is in several parts: the newest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scaling.store.files import SCHEMAS, from_parquet, read_bytes, sha256, to_parquet, write_files

FOLDER = "parts"
FAILED = "~failed"  #: in format 2, ends the number of a part that a later one without it replaces
KEYS = ["problem", "chain", "step"]
Tables = dict[str, pa.Table]  #: kind -> table


def find_parts(run: Path) -> list[str]:
    """Return the stem of each part's file names, oldest first.

    Remains of a crash (half a part, a file not yet renamed) are no part; sealing removes them.
    """
    stems: dict[str, set[str]] = {kind: set() for kind in SCHEMAS}
    for path in (run / FOLDER).glob("*.parquet"):
        stem, kind, _ = path.name.rsplit(".", 2)
        stems[kind].add(stem)
    return sorted(set.intersection(*stems.values()), key=lambda stem: (FAILED not in stem, stem))


def next_number(run: Path) -> int:
    """Return the number for a new part, above all others."""
    return 1 + max((int(stem[:6]) for stem in find_parts(run)), default=-1)


def write_part(run: Path, number: int, tables: Tables) -> None:
    """Write the two files of a part, each atomically."""
    data = {kind: to_parquet(tables[kind], small=False) for kind in ("text", "facts")}
    stem = ".".join([str(number).rjust(6, "0"), *(sha256(part)[:12] for part in data.values())])
    write_files({run / FOLDER / f"{stem}.{kind}.parquet": data[kind] for kind in data})


def read_part(run: Path, stem: str, kind: str) -> pa.Table:
    """Return one file of a part, checked against the hash in its name."""
    path = run / FOLDER / f"{stem}.{kind}.parquet"
    data, (_, text, facts) = read_bytes(path), stem.rsplit(".", 2)
    if not sha256(data).startswith(text if kind == "text" else facts):
        advice = "delete it and resume: its problems are sampled again"
        raise ValueError(f"{path} was changed after it was written; {advice}")
    return from_parquet(path, data, SCHEMAS[kind])


def read_parts(
    run: Path, kinds: Iterable[str], ids: Sequence[str], last: Tables | None = None
) -> Tables:
    """Return the newest samples of each problem, sorted by problem (as in `ids`), chain, step.

    last: rows that are newer than those of every part. Errors: ValueError for a damaged part.
    """
    stems = find_parts(run)
    parts = {kind: [read_part(run, stem, kind) for stem in stems] for kind in {"facts", *kinds}}
    for kind in parts:
        parts[kind].append(last[kind] if last else SCHEMAS[kind].empty_table())
    facts = pa.concat_tables(parts["facts"])
    places = places_of(facts, ids, str(run))
    age = np.repeat(np.arange(len(stems) + 1), [len(part) for part in parts["facts"]])
    newest = np.zeros(len(ids), int)
    np.maximum.at(newest, places[-1], age)
    order = np.lexsort(places)
    order = order[(age == newest[places[-1]])[order]]
    return {kind: pa.concat_tables(parts[kind]).take(order).combine_chunks() for kind in kinds}


def places_of(facts: pa.Table, ids: Sequence[str], what: str) -> tuple[np.ndarray, ...]:
    """Return step, chain and problem (its place in `ids`) of each row, all (rows,).

    Errors: ValueError for a problem that is not among the ids.
    """
    problem = pc.index_in(facts["problem"], pa.array(ids, pa.string()))
    if problem.null_count:
        name = facts["problem"][problem.is_null().index(True).as_py()]
        raise ValueError(f"{what} has a problem unknown to its run: {name}")
    return facts["step"].to_numpy(), facts["chain"].to_numpy(), problem.to_numpy()


def check_rows(facts: pa.Table, ids: Sequence[str], what: str) -> None:
    """Raise ValueError for an unknown problem, a repeated place, or too many thinking tokens."""
    places = places_of(facts, ids, what)
    ordered = np.stack(places)[:, order := np.lexsort(places)]
    twice = order[1:][(ordered[:, 1:] == ordered[:, :-1]).all(axis=0)]
    if len(twice):
        raise ValueError(
            f"{what} has {len(twice)} samples more than once; the first: {_place(facts, twice[0])}"
        )
    excess = pc.greater(facts["thinking_tokens"], facts["completion_tokens"])
    if wrong := pc.sum(excess).as_py():
        first = _place(facts, pc.index(excess, True).as_py())
        raise ValueError(f"{what} has {wrong} samples with more thinking than new tokens: {first}")


def _place(facts: pa.Table, row: int) -> str:
    return ", ".join(f"{key} {facts[key][int(row)]}" for key in KEYS)

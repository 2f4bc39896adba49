"""Write files atomically, and read and write tables of a fixed schema. Knows no run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scaling.records import Problem, Sample

#: columns that files of an earlier format lack: null there
ADDED_COLUMNS = (
    "thinking_tokens", "confidence_mean", "confidence_lowest", "entropy", "code_point", "isa",
)  # fmt: skip
RECORD = "written.sha256"  #: list of the files that the kit wrote into a folder, as of sha256sum
BLOCK = 256  #: rows per digest, by which an edit is located
ARROW = {
    "str": pa.string(),
    "str | None": pa.string(),
    "int": pa.int32(),
    "int | None": pa.int32(),
    "float": pa.float32(),
    "float | None": pa.float32(),
    "bool": pa.bool_(),
}
EXACT = {"code_point": pa.float64()}  #: in float32 another token might be decoded from it


def schema_of(record: type, skip: tuple[str, ...] = ()) -> pa.Schema:
    """Return the Arrow schema of a dataclass; a field may be null only if its type allows None."""
    kept = [f for f in fields(record) if f.name not in skip]
    types = [EXACT.get(f.name, ARROW[str(f.type)]) for f in kept]
    nullable = ["None" in str(f.type) for f in kept]
    return pa.schema(map(pa.field, [f.name for f in kept], types, nullable))


PROBLEMS = schema_of(Problem)
SCHEMAS = {
    "facts": schema_of(Sample, skip=("text",)),
    # large_string: the texts of a run may pass 2 GiB in all
    "text": pa.schema([pa.field("text", pa.large_string(), nullable=False)]),
}


def sha256(data: bytes) -> str:
    """Return the hexadecimal sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def json_hash(value: Any) -> str:
    """Return the sha256 of a JSON-ready value, independent of the order of keys."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files of one folder atomically, in the order given.

    Errors: OSError, with nothing left behind, when the disk is full.
    """
    aside = {path.with_name(path.name + ".tmp"): path for path in files}
    try:
        for tmp, path in aside.items():
            _write_through(tmp, files[path])
        for tmp, path in aside.items():
            os.replace(tmp, path)
        _sync_folder(next(iter(files)).parent)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        advice = "all complete problems are safe; free some space and run the same command again"
        raise OSError(error.errno, f"no space left to write {path}: {advice}") from error
    finally:
        for tmp in aside:
            tmp.unlink(missing_ok=True)


def write_outputs(files: Mapping[Path, bytes], force: bool = False) -> None:
    """Write results into one folder, and list them in its `RECORD` as written by the kit.

    The list holds old and new files before any is replaced, so that the same call can be repeated
    wherever it broke off. Errors: those of `refuse_foreign`, with nothing written.
    """
    if not files:
        return
    folder = next(iter(files)).parent
    refuse_foreign(files, force)
    folder.mkdir(parents=True, exist_ok=True)
    before, new = _recorded(folder), {(path.name, sha256(data)) for path, data in files.items()}
    names = {path.name for path in files}
    after = {pair for pair in before if pair[0] not in names} | new
    if not new <= before:
        write_files({folder / RECORD: _as_lines(before | new)})
    write_files({**files, folder / RECORD: _as_lines(after)})


def refuse_foreign(paths: Iterable[Path], force: bool = False) -> None:
    """Raise ValueError if a file exists that the kit did not write, or that was edited since.

    The folder's file `RECORD` lists the files that the kit wrote with their sha256.
    """
    foreign = [
        path
        for path in paths
        if path.exists()
        and (path.is_dir() or (path.name, sha256(read_bytes(path))) not in _recorded(path.parent))
    ]
    if foreign and not force:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise ValueError(
            f"{foreign[0]}{more} would be overwritten, but this kit did not write it or it was "
            "edited since: give another folder, move it away, or overwrite it with force=True"
        )


def _recorded(folder: Path) -> set[tuple[str, str]]:
    """Return (file name, sha256) of the files that the kit wrote into a folder."""
    path = folder / RECORD
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {(name, digest) for digest, _, name in (line.partition("  ") for line in lines)}


def _as_lines(recorded: set[tuple[str, str]]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(recorded)).encode()


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; ValueError when it is missing or unreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def table_of(rows: Sequence[Any], schema: pa.Schema, what: str) -> pa.Table:
    """Return dataclass rows as a table of exactly that schema; ValueError names column and row."""
    columns = [_column(list(map(attrgetter(f.name), rows)), f, what) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(values: list[Any], field: pa.Field, what: str) -> pa.Array:
    try:
        # straight to an integer type, pyarrow would cut 1.5 to 1; its cast refuses
        whole = pa.types.is_integer(field.type)
        array = pa.array(values).cast(field.type) if whole else pa.array(values, field.type)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise ValueError(f"{what}, column {field.name}: {error}; give {field.type}") from error
    if array.null_count and not field.nullable:
        row = int(np.argmin(array.is_valid()))
        raise ValueError(f"{what}, column {field.name}, row {row} is None; give {field.type}")
    return array


def to_parquet(table: pa.Table, small: bool = True) -> bytes:
    """Return a table as the bytes of a Parquet file; equal tables give equal bytes.

    small: the smallest file; else in half the time, for files that will be merged.
    """
    if not small:
        return _written(table, compression="snappy", use_dictionary=False, write_statistics=False)
    floats = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    rest = [f.name for f in table.schema if f.name not in floats]
    # measured: splitting the bytes of floats makes the facts of 6,400 different samples 20 %
    # smaller; of 12,800 samples with 1,600 different texts, plain columns are 44 % smaller
    ways = {"use_byte_stream_split": floats, "use_dictionary": rest}, {"use_dictionary": False}
    files = [_written(table, compression="zstd", compression_level=9, **way) for way in ways]
    return min(files, key=len)


def _written(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def from_parquet(
    path: Path, data: bytes, schema: pa.Schema, columns: list[str] | None = None
) -> pa.Table:
    """Return the table in a Parquet file's bytes; ValueError for another schema or no Parquet."""
    table = _as_written(path, data, schema, columns)
    for name in columns or schema.names:
        if name not in table.column_names:
            null = pa.nulls(len(table), schema.field(name).type)
            table = table.append_column(schema.field(name), null)
    return table.select(columns or schema.names)


def _as_written(
    path: Path, data: bytes, schema: pa.Schema, columns: list[str] | None = None
) -> pa.Table:
    """Return a file's table; those of `ADDED_COLUMNS` that it lacks are left out."""
    try:
        found = pq.ParquetFile(pa.BufferReader(data))
        names = found.schema_arrow.names
        table = found.read(columns=columns and [name for name in columns if name in names])
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is truncated or damaged: {str(error).splitlines()[0]}") from error
    known = pa.schema([f for f in schema if f.name in names or f.name not in ADDED_COLUMNS])
    if not found.schema_arrow.equals(known):
        raise ValueError(f"{path} has columns {names}; expected {', '.join(schema.names)}")
    return table


def _digests(table: pa.Table) -> list[str]:
    """Return one short digest for every `BLOCK` rows."""
    rows = pd.util.hash_pandas_object(table.to_pandas(), index=False).to_numpy()
    return [sha256(rows[i : i + BLOCK].tobytes())[:8] for i in range(0, len(rows), BLOCK)]


def entry_of(table: pa.Table, data: bytes) -> dict[str, Any]:
    """Return a file's entry in a manifest, by which `checked_bytes` locates a difference."""
    return {
        "sha256": sha256(data),
        "rows": table.num_rows,
        "row_digests": " ".join(_digests(table)),
    }


def write_tables(folder: Path, tables: dict[str, pa.Table]) -> dict[str, Any]:
    """Write each table as `<name>.parquet`; return the files' entries for the manifest."""
    data = {name: to_parquet(table) for name, table in tables.items()}
    write_files({folder / f"{name}.parquet": part for name, part in data.items()})
    return {f"{name}.parquet": entry_of(tables[name], part) for name, part in data.items()}


def checked_bytes(path: Path, schema: pa.Schema, entry: dict[str, Any]) -> bytes:
    """Return a file's bytes; ValueError naming where they differ from its entry."""
    data = read_bytes(path)
    if sha256(data) == entry["sha256"]:
        return data
    table = _as_written(path, data, schema)
    pairs = zip(_digests(table), entry["row_digests"].split(), strict=False)
    block = next((i for i, (now, then) in enumerate(pairs) if now != then), None)
    where = []
    if table.num_rows != entry["rows"]:
        where.append(f"{table.num_rows} rows instead of {entry['rows']}")
    if block is not None:
        last = min((block + 1) * BLOCK, table.num_rows) - 1
        where.append(f"the first that differ are among rows {block * BLOCK} to {last}")
    what = "; ".join(where) or "its rows are as they were, its bytes are not"
    raise ValueError(f"{path} was changed after it was written ({what}); restore the file")

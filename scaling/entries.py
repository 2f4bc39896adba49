"""Read the entries of a file: JSON Lines, a JSON array, CSV or Parquet; text may be compressed.

What an entry means is decided where it is used: `benchmarks.files`, `readers.formats`.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

DECODER = json.JSONDecoder()
Entries = Iterator[tuple[str, Any]]  #: (line, entry or row of the file; what it holds)


def open_text(path: Path, **how: Any) -> TextIO:
    """Return an open text file, which may be compressed."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", **how)


def json_lines(path: Path) -> Entries:
    """Yield the lines of a JSON Lines file as text; or the entries of a JSON array, parsed."""
    with open_text(path) as file:
        if (first := file.readline()).lstrip().startswith("["):
            entries = json.loads(first + file.read())
            yield from ((f"entry {i}", entry) for i, entry in enumerate(entries, 1))
            return
        for i, line in enumerate(chain([first], file), 1):
            if line.strip():
                yield f"line {i}", line


def csv_rows(path: Path) -> Entries:
    """Yield the rows of a CSV file, whose header is separated by commas, semicolons or tabs."""
    with open_text(path, newline="") as file:
        header = file.readline()
        separator = max(",;\t", key=header.count)
        rows = csv.DictReader(chain([header], file), delimiter=separator)
        for row in rows:
            yield f"line {rows.line_num}", row


def parquet_rows(path: Path) -> Entries:
    """Yield the rows of a Parquet file. Errors: OSError for a file that cannot be read."""
    from pyarrow import ArrowException
    from pyarrow import parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except ArrowException as error:
        raise OSError(str(error)) from error
    yield from ((f"row {i}", row) for i, row in enumerate(rows, 1))


def parsed(entry: Any) -> Any:
    """Return an entry, parsed where it is JSON; correct lines in half the time of `json.loads`."""
    if isinstance(entry, str):
        try:
            found, end = DECODER.raw_decode(entry)
        except ValueError:
            return json.loads(entry)
        return json.loads(entry) if entry[end:].strip(" \t\r\n") else found
    return json.loads(entry) if isinstance(entry, bytes) else entry

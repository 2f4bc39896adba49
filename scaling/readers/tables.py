"""Plain CSV and JSON Lines: a row per sample, or counts per problem, under any column names."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scaling.readers.values import is_empty, judged, whole

COLUMNS = {  #: column -> what it holds
    "problem": "the problem's name",
    "correct": "of a row per sample: its verdict",
    "n": "of counts: samples of the problem",
    "c": "of counts: how many of them are right",
    "chain": "which of the problem's samples it is",
    "answer": "the extracted answer",
    "score": "a number that ranks samples (or logprob)",
    "completion_tokens": "new tokens",
    "model": "the model: one is imported at a time",
    "level": "difficulty: a problem's name counts within its level",
}
NEEDED = "columns problem and correct (a row per sample), or problem, n and c (counts)"
MOST = 10_000_000  # samples of a problem that a table of counts may claim


def csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a CSV file as dictionaries."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        for row in rows:
            yield f"line {rows.line_num}", row


def record(row: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row under the kit's names; `columns` maps them to those of the file."""
    if not isinstance(row, dict):
        raise ValueError("it is not an object of names and values")
    if None in row:
        raise ValueError("it has more cells than columns: put what holds a comma in quotes")
    found = {
        name: row[columns.get(name, name)] for name in COLUMNS if columns.get(name, name) in row
    }
    if lacking := [other for name, other in columns.items() if name not in found]:
        raise ValueError(f"no column {', '.join(lacking)}; {_has(row)}")
    if not ({"problem", "n", "c"} <= found.keys() or {"problem", "correct"} <= found.keys()):
        raise ValueError(
            f"needed are {NEEDED}; {_has(row)}: name others with --columns (in Python: columns=)"
        )
    if is_empty(found["problem"]):
        raise ValueError("it names no problem")
    if "score" not in found:
        found["score"] = row.get("logprob")
    if "correct" in columns:
        found.pop("n", None)  # it was asked for: a row per sample
    level = "" if is_empty(found.get("level")) else f"{found['level']}/"
    return found | {"problem": f"{level}{found['problem']}"}


def rows(record: dict[str, Any], metric: str) -> list[dict[str, Any]]:
    """Return the row of one sample, or as many as there are counted."""
    if {"n", "c"} <= record.keys():
        return _counted(record)
    found = {"problem": record["problem"]} | judged(record["correct"])
    if not is_empty(record.get("chain")):
        found["chain"] = whole(record["chain"], "chain")
    if not is_empty(record.get("answer")):
        found["answer"] = str(record["answer"])
    for name in ("score", "completion_tokens"):
        if not is_empty(record.get(name)):
            found[name] = float(record[name])
    return [found]


def _has(row: Mapping[str, Any]) -> str:
    alone = ", with no comma to separate them" if len(row) == 1 else ""
    return f"the columns are {', '.join(map(repr, row))[:200]}{alone}"


def _counted(record: dict[str, Any]) -> list[dict[str, Any]]:
    name, n, c = record["problem"], whole(record["n"], "n"), whole(record["c"], "c")
    if not (c <= n <= MOST and n > 0):
        raise ValueError(f"{name}: c is {c}, n is {n}; needed is 0 <= c <= n, n from 1 to {MOST}")
    shared = {"problem": name, "counted": True}
    return [shared | {"correct": 1.0}] * c + [shared | {"correct": 0.0}] * (n - c)

"""`read_samples`: a file in one of `FORMATS` as a table, and what of it was left out, with reasons.

The option that chooses a metric, filter or model is applied here: where a file holds several, one
is chosen or the file is refused; they are never mixed.
"""

from __future__ import annotations

import csv
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.readers import tables
from scaling.readers.formats import FORMATS, Format
from scaling.readers.lm_eval import k_of
from scaling.readers.values import Note
from scaling.records import look_up

COLUMNS = {  #: column -> type
    "problem": str,  # the tool's own name for it
    "chain": int,  # which of the problem's samples, from 0
    "answer": object,  # the extracted answer, else what was graded; None when unknown
    "correct": float,  # 1 or 0, NaN without a verdict
    "score": float,  # the tool's number, where it gave one
    "completion_tokens": float,  # NaN when unknown
}
REASONS = 5  #: reasons that are named with their number of samples
MOST_LEFT_OUT = 0.1  #: share of problems, or of lines, that may be left out of an accuracy
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
             EOFError, NotImplementedError, OSError, csv.Error, struct.error, zlib.error,
             zipfile.BadZipFile)  # fmt: skip
LONGEST = 200  #: characters of an extracted answer
REPEATED = "logged before"  #: how the reason of a repeated sample begins
Rejected = list[tuple[str, str]]
Records = list[tuple[str, dict[str, Any]]]  # (line or entry, what matters of it)


def read_samples(
    path: str | Path,
    format: str,
    *,
    metric: str | None = None,
    filter: str | None = None,
    model: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, Rejected]:
    """Return (table, rejected) of a file written in one of `FORMATS`, or a folder of YAML files.

    `metric` names what judges: a metric of lm-eval, a scorer of inspect_ai, base or plus of
    evalplus. `filter` is one of lm-eval's, `model` a value of a table's column, and `columns` maps
    names of `tables.COLUMNS` to those of the file. ValueError where a file holds several and none
    is named (but lm-eval and evalplus have a default metric), for an option that does not apply,
    an unknown format, or a file that cannot be read.

    `table.attrs` holds `notes`, lines to print with any result; `left_out`, samples by reason;
    `unreadable` and `read`, numbers of lines; `no_votes`, why answers cannot vote, or "";
    `least_k`, the smallest k at which coverage is known.
    """
    given = {"metric": metric, "filter": filter, "model": model, "columns": columns}
    how = _format(Path(path), format, given)
    records, rejected, notes = _records(how, Path(path), columns or {})
    read = len(rejected) + len(records)
    for name, wanted in (("filter", filter), ("model", model)):
        if name in how.options:
            records = _only(records, name, wanted)
    notes += how.settle([record for _, record in records])
    metric = _metric(records, how, metric, notes) if "metric" in how.options else ""
    samples, places, faults = _rows(how, records, metric)
    counted = {row["problem"] for row in samples if row.get("counted")}
    rejected += faults
    unreadable = len(rejected)
    table = _table(samples)
    reasons = _reasons(table, [row.get("why") for row in samples])
    rejected += _sentences(places, reasons)
    first = np.array([not why.startswith(REPEATED) for why in reasons], bool)
    table = table[first].reset_index(drop=True)
    table.attrs = {
        "notes": notes,
        "left_out": Counter(reasons[reasons != ""]),
        "unreadable": unreadable,
        "read": read,
        "no_votes": _no_votes(how, format, table, counted),
        "least_k": max((row.get("least_k", 1) for row in samples), default=1),
    }
    return table, rejected


def _format(path: Path, format: str, given: Mapping[str, Any]) -> Format:
    """Return the format, once the file is there and every option applies to it."""
    how = look_up(FORMATS, format, "format")
    if not path.exists():
        raise ValueError(f"no file {path}")
    if path.is_dir() and format != "monkeys":
        raise ValueError(f"{path} is a folder; give a file")
    for name, value in given.items():
        if value and name not in how.options:
            applies = [key for key, other in FORMATS.items() if name in other.options]
            raise ValueError(f"{name} does not apply to {format}, only to {', '.join(applies)}")
    if not isinstance(given["columns"] or {}, Mapping):
        raise ValueError(
            f"columns is {given['columns']!r}; give our names and the file's as a dictionary, "
            'such as {"problem": "id", "correct": "label"}'
        )
    for name in given["columns"] or ():
        look_up(tables.COLUMNS, name, "column")
    return how


def _records(how: Format, path: Path, columns: Mapping[str, str]) -> tuple[Records, Rejected, list]:
    """Return (records, rejected, notes); ValueError where not a single record can be read."""
    read = partial(how.record, columns=columns) if "columns" in how.options else how.record
    records: Records = []
    rejected: Rejected = []
    notes: list[str] = []
    for where, text in _texts(how, path):
        if isinstance(text, Note):
            notes.append(text)
            continue
        try:
            records.append((where, read(text)))
        except MALFORMED as error:
            if isinstance(error, OSError):  # no parser is installed
                raise
            rejected.append((where, _reason(error)))
    if rejected and not records:
        where, why = rejected[0]
        raise ValueError(f"{path} cannot be read as {how.what}: {where}: {why}")
    if not records:
        raise ValueError(f"{path} is empty; needed is {how.what}")
    return records, rejected, notes


def _texts(how: Format, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield a file's lines or entries; ValueError that names it where it cannot be read."""
    try:
        yield from how.texts(path)
    except MALFORMED as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} cannot be read as {how.what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return an error as one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return f"no field {said}" if isinstance(error, KeyError) else said


def _only(records: Records, name: str, wanted: str | None) -> Records:
    """Return the records of one filter or model; ValueError where there are several to choose."""
    groups: dict[str, Records] = {}
    for pair in records:
        groups.setdefault(str(pair[1].get(name) or "(none)"), []).append(pair)
    if wanted is None and len(groups) > 1:
        raise _choose(name, list(groups))
    return look_up(groups, wanted or next(iter(groups)), name)


def _choose(option: str, names: list[str], what: str = "") -> ValueError:
    return ValueError(
        f"the file holds {len(names)} {what or option}s, which are not mixed: {', '.join(names)}; "
        f"choose one with --{what or option} NAME"
    )


def _metric(records: Records, how: Format, wanted: str | None, notes: list[str]) -> str:
    """Return the metric that judges: `wanted`, or the only one, or else the default.

    The default is the first with a verdict on the most records, of pass@k the one of smallest k.
    """
    names = list(dict.fromkeys(name for _, record in records for name in record["metrics"]))
    if wanted is not None:
        return look_up({name: name for name in names}, wanted, "metric")
    if len(names) < 2:
        return "".join(names)
    if not how.default:
        raise _choose("metric", names, "scorer")

    def judged(name: str) -> int:
        found = (how.rows(r, name) for _, r in records if name in r["metrics"])
        return sum(any(row.get("correct") in (0, 1) for row in rows) for rows in found)

    best = max(sorted(names, key=k_of), key=judged)
    others = ", ".join(name for name in names if name != best)
    notes.append(f"judged by {best}; choose another with --metric: {others}")
    return best


def _rows(how: Format, records: Records, metric: str) -> tuple[list, list[str], Rejected]:
    """Return (samples, the place of each, rejected)."""
    samples: list[dict[str, Any]] = []
    places: list[str] = []
    rejected: Rejected = []
    seen: dict[str, tuple[str, list]] = {}  # counted problem -> where it came first, its rows
    for where, record in records:
        try:
            rows = how.rows(record, metric)
        except MALFORMED as error:
            rejected.append((where, _reason(error)))
            continue
        if rows and rows[0].get("counted"):
            name = rows[0]["problem"]
            first, before = seen.setdefault(name, (where, rows))
            if before is not rows:
                but = "" if before == rows else "with other counts "
                why = f"{name} came before {but}on {first}: the first counts"
                rejected.append((where, why))
                continue
        samples += rows
        places += [where] * len(rows)
    return samples, places, rejected


def _table(samples: list[dict[str, Any]]) -> pd.DataFrame:
    found = {name: [row.get(name) for row in samples] for name in COLUMNS}
    found["answer"] = [None if a is None or a == "" else str(a) for a in found["answer"]]
    table = pd.DataFrame(found, dtype=object)  # no guess at types: it took a sixth of the time
    bare = table["chain"].isna()
    table.loc[bare, "chain"] = table.groupby("problem", sort=False).cumcount()[bare]
    return table.astype(COLUMNS)


def _reasons(table: pd.DataFrame, why: list[str | None]) -> np.ndarray:
    """Return why each sample is left out, "" where it is not."""
    found = np.full(len(table), "", dtype=object)
    for i in np.flatnonzero(table["correct"].isna()):
        found[i] = f"no verdict: {why[i]}"
    again = table.duplicated(place := ["problem", "chain"])
    if again.any():
        found[again] = f"{REPEATED} with another verdict or answer: the first counts"
        found[again & table.duplicated([*place, "correct", "answer"])] = f"{REPEATED}, the same"
    return found


def _sentences(places: list[str], reasons: np.ndarray) -> Rejected:
    """Return one sentence per line or entry and reason."""
    found = Counter((places[i], str(reasons[i])) for i in np.flatnonzero(reasons != ""))
    size = Counter(places if found else ())
    return [(where, f"{n} of {size[where]} samples: {why}") for (where, why), n in found.items()]


def _no_votes(how: Format, format: str, table: pd.DataFrame, counted: set[str]) -> str:
    """Return why the samples cannot vote, "" where they can."""
    if not how.votes:
        return f"{format} stores whole texts, not extracted answers"
    if counted:
        return f"for {len(counted):,} problems the file says how many samples are right, not which"
    answered = table[table["answer"].notna()]
    if not len(answered):
        return "the file holds no answers"
    if any(len(answer) > LONGEST or "\n" in answer.strip() for answer in answered["answer"]):
        return f"answers of several lines, or over {LONGEST} characters, are not extracted answers"
    agree = answered.duplicated(["problem", "answer"]).any()
    return "" if agree else "no two answers of a problem agree"


def counts(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, c) per problem, in order of appearance: samples with a verdict, correct ones."""
    groups = table.groupby("problem", sort=False)["correct"]
    return groups.count().to_numpy(), groups.sum().to_numpy().astype(int)


def refuse_incomplete(file: Path, facts: Mapping[Any, Any], n: np.ndarray) -> None:
    """Raise ValueError where too many problems have no verdict, or lines cannot be read.

    `n` is the number of judged samples of each problem.
    """
    lacking, unreadable = int((n == 0).sum()), facts["unreadable"]
    for left, whole, what in (
        (lacking, len(n), "problems have no verdict"),
        (unreadable, facts["read"], "lines or entries cannot be read"),
    ):
        if left > MOST_LEFT_OUT * whole or not whole:
            why = "; ".join(reasons(facts["left_out"])) or "the first are named above"
            raise ValueError(
                f"{file}: {left:,} of {whole:,} {what}, more than {MOST_LEFT_OUT:.0%}: no accuracy "
                f"is printed ({why})"
            )


def reasons(left_out: Counter[str]) -> list[str]:
    """Return the commonest reasons why samples were left out, each with their number."""
    found = [
        f"{count:,} sample{'s' * (count > 1)}, {why}"
        for why, count in left_out.most_common(REASONS)
    ]
    others = left_out.total() - sum(count for _, count in left_out.most_common(REASONS))
    return [*found, f"{others:,} samples, other reasons"] if others else found

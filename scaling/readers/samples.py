"""Read a file in one of `FORMATS` as a table, and report which samples were left out and why.

If a file holds several metrics, filters or models, one is chosen or the file is refused: they are
never mixed.
"""

from __future__ import annotations

import csv
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.entries import parsed
from scaling.readers import formats
from scaling.readers.formats import FORMATS, Format, Row
from scaling.readers.lm_eval import k_of
from scaling.readers.values import Note, no_verdict, verdict
from scaling.records import look_up

COLUMNS = {  #: column -> type
    "problem": str,  # the tool's own name for it
    "chain": int,  # which of the problem's samples, from 0
    "answer": object,  # the extracted answer, else what was graded; None when unknown
    "correct": float,  # 1 or 0, NaN without a verdict
    "score": float,  # the tool's number, where it gave one
    "completion_tokens": float,  # NaN when unknown
}
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
             EOFError, NotImplementedError, OSError, csv.Error, struct.error, zlib.error,
             zipfile.BadZipFile)  # fmt: skip
MOST_LEFT_OUT = 0.1  #: share of problems, or of lines, that may be missing from an accuracy
MOST_REASONS = 5  #: reasons that are named with their number of samples
LONGEST_ANSWER = 200  #: characters of an extracted answer
REPEATED = "logged before"  #: how the reason of a repeated sample begins
Rejected = list[tuple[str, str]]  #: (line or entry, why)
Rows = list[Row]  #: each with `where`, the line or entry it was read from


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

    metric: what judges, a metric of lm-eval, a scorer of inspect_ai, base or plus of evalplus;
    filter: one of lm-eval's; model: a value of a table's column; columns: maps names of
    `formats.COLUMNS` to those of the file. Errors: ValueError where a file holds several and none
    is chosen (but lm-eval and evalplus have a default metric), for an option that does not apply,
    an unknown format, or a file that cannot be read.

    `table.attrs` holds `notes`, lines to print with any result; `left_out`, samples by reason;
    `unreadable` and `read`, numbers of lines; `no_votes`, why answers cannot vote, or "";
    `least_k`, the smallest k at which coverage is known.
    """
    path, how = Path(path), look_up(FORMATS, format, "format")
    _check(path, format, {"metric": metric, "filter": filter, "model": model, "columns": columns})
    rows, rejected, notes = _read(how, path, columns or {})
    n_read = len(rows) + len(rejected)
    for name, wanted in (("filter", filter), ("model", model)):
        if name in how.options:
            rows = _only(rows, name, wanted)
    notes += how.settle(rows)
    if "metric" in how.options:
        rows = _judge(rows, how, _metric(rows, how, metric, notes), rejected)
    n_counted = len({row["problem"] for row in rows if "n" in row})
    rows = _expand(rows, rejected) if n_counted else rows
    unreadable = len(rejected)
    table = _table(rows)
    reasons = _reasons(table, rows)
    rejected += _by_place(rows, reasons)
    first = np.array([not why.startswith(REPEATED) for why in reasons], bool)
    table = table[first].reset_index(drop=True)
    table.attrs = {
        "notes": notes,
        "left_out": Counter(reasons[reasons != ""]),
        "unreadable": unreadable,
        "read": n_read,
        "no_votes": _no_votes(how, format, table, n_counted),
        "least_k": max((row.get("least_k", 1) for row in rows), default=1),
    }
    return table, rejected


def _check(path: Path, format: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError unless the file exists and every option applies to its format."""
    if not path.exists():
        raise ValueError(f"no file {path}")
    if path.is_dir() and format != "monkeys":
        raise ValueError(f"{path} is a folder; give a file")
    for name, value in given.items():
        if value and name not in FORMATS[format].options:
            applies = [key for key, other in FORMATS.items() if name in other.options]
            raise ValueError(f"{name}= does not apply to {format}, only to {', '.join(applies)}")
    if not isinstance(given["columns"] or {}, Mapping):
        raise ValueError(
            f"columns is {given['columns']!r}; give our names and the file's as a dictionary, "
            'such as {"problem": "id", "correct": "label"}'
        )
    for name in given["columns"] or ():
        look_up(formats.COLUMNS, name, "column")


def _read(how: Format, path: Path, columns: Mapping[str, str]) -> tuple[Rows, Rejected, list[str]]:
    """Return (rows, rejected, notes); ValueError where not a single record can be read."""
    read = partial(how.rows, columns=columns) if "columns" in how.options else how.rows
    rows: Rows = []
    rejected: Rejected = []
    notes: list[str] = []
    try:
        for where, record in how.records(path):
            if isinstance(record, Note):
                notes.append(record)
                continue
            try:
                for row in read(parsed(record)):
                    row["where"] = where
                    rows.append(row)
            except MALFORMED as error:
                rejected.append((where, _as_line(error)))
    except MALFORMED as error:  # the file as a whole
        rows, rejected = [], [("", _as_line(error))]
    if rejected and not rows:
        why = ": ".join(filter(None, rejected[0]))
        raise ValueError(why if str(path) in why else f"{path} cannot be read as {how.what}: {why}")
    if not rows:
        raise ValueError(f"{path} is empty; needed is {how.what}")
    return rows, rejected, notes


def _as_line(error: BaseException) -> str:
    """Return an error's message as one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    return f"no field {message}" if isinstance(error, KeyError) else message


def _only(rows: Rows, name: str, wanted: str | None) -> Rows:
    """Return the rows of one filter or model; ValueError if one must be chosen."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(str(row.get(name) or "(none)"), []).append(row)
    if wanted is None and len(groups) > 1:
        raise _several(name, list(groups))
    return look_up(groups, wanted or next(iter(groups)), name)


def _several(what: str, names: list[str], argument: str = "") -> ValueError:
    return ValueError(
        f"the file holds {len(names)} {what}s, which are not mixed: {', '.join(names)}; "
        f"choose one with {argument or what}="
    )


def _metric(rows: Rows, how: Format, wanted: str | None, notes: list[str]) -> str:
    """Return the metric that judges: `wanted`, or the only one, or else the default.

    The default is the first with a verdict on the most rows, and the smallest k of pass@k.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    if wanted is not None:
        return look_up(dict.fromkeys(names, wanted), wanted, "metric")
    if len(names) < 2:
        return "".join(names)
    if not how.default:
        raise _several("scorer", names, "metric")

    def judged(name: str) -> int:
        found = (how.judge(row, name) for row in rows if name in row["metrics"])
        return sum(any("n" in s or verdict(s.get("correct")) in (0, 1) for s in f) for f in found)

    best = max(sorted(names, key=k_of), key=judged)
    others = ", ".join(name for name in names if name != best)
    notes.append(f"judged by {best}; choose another with metric=: {others}")
    return best


def _judge(rows: Rows, how: Format, metric: str, rejected: Rejected) -> Rows:
    """Return the rows with a metric's verdicts; rows without one are added to `rejected`."""
    judged: Rows = []
    for row in rows:
        try:
            samples = how.judge(row, metric)
        except MALFORMED as error:
            rejected.append((row["where"], _as_line(error)))
            continue
        for sample in samples:
            sample["where"] = row["where"]
        judged += samples
    return judged


def _expand(rows: Rows, rejected: Rejected) -> Rows:
    """Return rows of counts (n samples, c of them right) expanded to a row per sample.

    The first counts of a problem are kept; others are added to `rejected`.
    """
    first: dict[str, Row] = {}
    expanded: Rows = []
    for row in rows:
        if "n" not in row:
            expanded.append(row)
        elif (known := first.setdefault(row["problem"], row)) is not row:
            but = "" if (known["n"], known["c"]) == (row["n"], row["c"]) else "with other counts "
            why = f"{row['problem']} came before {but}on {known['where']}: the first counts"
            rejected.append((row["where"], why))
        else:
            shared = {"problem": row["problem"], "where": row["where"]}
            expanded += [shared | {"correct": True}] * row["c"]
            expanded += [shared | {"correct": False}] * (row["n"] - row["c"])
    return expanded


def _table(rows: Rows) -> pd.DataFrame:
    found = {name: [row.get(name) for row in rows] for name in COLUMNS}
    found["answer"] = [None if a is None or a == "" else str(a) for a in found["answer"]]
    found["correct"] = list(map(verdict, found["correct"]))
    table = pd.DataFrame(found, dtype=object)  # no guess at types: it took a sixth of the time
    bare = table["chain"].isna()
    table.loc[bare, "chain"] = table.groupby("problem", sort=False).cumcount()[bare]
    return table.astype(COLUMNS)


def _reasons(table: pd.DataFrame, rows: Rows) -> np.ndarray:
    """Return why each sample is left out, "" if it is not."""
    found = np.full(len(table), "", dtype=object)
    for i in np.flatnonzero(table["correct"].isna()):
        why = rows[i].get("why") or no_verdict(rows[i].get("correct"))
        found[i] = f"no verdict: {why}"
    again = table.duplicated(place := ["problem", "chain"])
    if again.any():
        found[again] = f"{REPEATED} with another verdict or answer: the first counts"
        found[again & table.duplicated([*place, "correct", "answer"])] = f"{REPEATED}, the same"
    return found


def _by_place(rows: Rows, reasons: np.ndarray) -> Rejected:
    """Return one sentence per line or entry and reason."""
    found = Counter((rows[i]["where"], str(reasons[i])) for i in np.flatnonzero(reasons != ""))
    size = Counter(row["where"] for row in rows) if found else {}
    return [(where, f"{n} of {size[where]} samples: {why}") for (where, why), n in found.items()]


def _no_votes(how: Format, format: str, table: pd.DataFrame, n_counted: int) -> str:
    """Return why the samples cannot vote, "" if they can."""
    if not how.votes:
        return f"{format} stores whole texts, not extracted answers"
    if n_counted:
        return f"for {n_counted:,} problems the file says how many samples are right, not which"
    answered = table[table["answer"].notna()]
    if not len(answered):
        return "the file holds no answers"
    if any(len(text) > LONGEST_ANSWER or "\n" in text.strip() for text in answered["answer"]):
        return (
            f"answers of several lines, or over {LONGEST_ANSWER} characters, are not extracted "
            "answers"
        )
    agree = answered.duplicated(["problem", "answer"]).any()
    return "" if agree else "no two answers of a problem agree"


def counts(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, c) per problem, in order of appearance: samples with a verdict, correct ones."""
    groups = table.groupby("problem", sort=False)["correct"]
    return groups.count().to_numpy(), groups.sum().to_numpy().astype(int)


def refuse_incomplete(file: Path, facts: Mapping[Any, Any], n: np.ndarray) -> None:
    """Raise ValueError where too many problems have no verdict, or lines cannot be read.

    n: the number of judged samples of each problem.
    """
    for left, total, what in (
        (int((n == 0).sum()), len(n), "problems have no verdict"),
        (facts["unreadable"], facts["read"], "lines or entries cannot be read"),
    ):
        if left > MOST_LEFT_OUT * total or not total:
            why = "; ".join(reasons(facts["left_out"])) or "the first are named above"
            raise ValueError(
                f"{file}: {left:,} of {total:,} {what}, more than {MOST_LEFT_OUT:.0%}: no accuracy "
                f"is printed ({why})"
            )


def reasons(left_out: Counter[str]) -> list[str]:
    """Return the most common reasons why samples were left out, each with their number."""
    most = left_out.most_common(MOST_REASONS)
    found = [f"{count:,} sample{'s' * (count > 1)}, {why}" for why, count in most]
    others = left_out.total() - sum(count for _, count in most)
    return [*found, f"{others:,} samples, other reasons"] if others else found

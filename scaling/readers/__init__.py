"""Other people's samples as one tidy table: a row per sample, what a file does not tell left open.

`read_samples(path, format)` returns the table and the list of what was rejected, by line or entry
and with the reason: nothing is dropped in silence. Columns: `COLUMNS`. Nothing is graded here: a
sample that its tool did not judge keeps its row, with `correct` NaN, and is named.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd

COLUMNS = {  #: column -> type
    "problem": str,  # the tool's own name for it
    "chain": int,  # which of the problem's samples, from 0
    "answer": object,  # what was graded; None when unknown
    "correct": float,  # 1 or 0, NaN without a verdict
    "score": float,  # the tool's number, where it gave one
    "completion_tokens": float,  # NaN when unknown
}
ZSTANDARD = 93  # how a zip archive names it
MOST = 10_000_000  # samples of a problem that a table of counts may claim
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
             EOFError, NotImplementedError, OSError, csv.Error, struct.error, zlib.error,
             zipfile.BadZipFile)  # fmt: skip
DECODER = json.JSONDecoder()
Rows = list[dict[str, Any]]
Rejected = list[tuple[str, str]]


class Format(NamedTuple):
    """How a tool writes samples."""

    texts: Callable[[Path], Iterator[tuple[str, Any]]]  #: (line or entry, its content)
    load: Callable[[Any], Any]  #: content -> record
    rows: Callable[[Any], Rows]  #: record -> samples
    what: str  #: for the help text


def read_samples(path: str | Path, format: str) -> tuple[pd.DataFrame, Rejected]:
    """Return (table, rejected) of a file written in one of `FORMATS`, or a folder of YAML files.

    A sample that comes a second time (lm-evaluation-harness writes one line per filter) is
    rejected: the first counts. ValueError for an unknown format or an unreadable file.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; allowed: {', '.join(FORMATS)}")
    if not Path(path).exists():
        raise ValueError(f"no file {path}")
    how = FORMATS[format]
    if Path(path).is_dir() and how.texts is not _yaml_files:
        raise ValueError(f"{path} is a folder; give a file")
    samples: Rows = []
    places: list[str] = []  # one per sample
    rejected = []
    for where, text in _texts(how, Path(path)):
        try:
            rows = how.rows(how.load(text))
        except MALFORMED as error:
            if isinstance(error, OSError):  # not of the record: no parser
                raise
            rejected.append((where, _reason(error)))
            continue
        samples += rows
        places += [where] * len(rows)
    told = {name: [row.get(name) for row in samples] for name in COLUMNS}
    table = pd.DataFrame(told, dtype=object)  # no guess at types: it took a sixth of the time
    bare = table["chain"].isna()
    table.loc[bare, "chain"] = table.groupby("problem", sort=False).cumcount()[bare]
    table = table.astype(COLUMNS)
    again = table.duplicated(["problem", "chain"])
    rejected += _faults(places, again, "came before: the first counts")
    rejected += _faults(places, table["correct"].isna() & ~again, "have no verdict of their own")
    return table[~again].reset_index(drop=True), rejected


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


def _index(value: Any) -> int:
    """Return the place of a sample among its problem's; ValueError for what is no place."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
        raise ValueError(f"the sample's place is {value!r}; needed is a whole number from 0")
    return value


def _faults(places: list[str], fault: pd.Series, what: str) -> Rejected:
    """Return one sentence per line or entry that holds a sample with the fault."""
    found = Counter(places[i] for i in np.flatnonzero(fault))
    size = found and Counter(where for where in places if where in found)
    return [(where, f"{n} of {size[where]} samples {what}") for where, n in found.items()]


def counts(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, c) per problem, in order of appearance: samples with a verdict, correct ones."""
    groups = table.groupby("problem", sort=False)["correct"]
    return groups.count().to_numpy(), groups.sum().to_numpy().astype(int)


def _verdict(value: Any) -> float:
    """Return 1, 0, or NaN for what is neither (partial credit, several numbers, nothing)."""
    if isinstance(value, str):
        value = {"C": 1, "I": 0, "N": 0}.get(value)
    return float(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else math.nan


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (bool, int, float)) else math.nan


# ---------------------------------------------------------------- formats
def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        yield from ((f"line {i}", line) for i, line in enumerate(file, 1) if line.strip())


def _load_line(line: str) -> Any:
    """Return a line's record in half the time of `json.loads`, which says what is no JSON."""
    try:
        record, end = DECODER.raw_decode(line)
    except ValueError:
        return json.loads(line)
    return json.loads(line) if line[end:].strip(" \t\r\n") else record


def _human_eval(record: Any) -> Rows:
    row = {"problem": str(record["task_id"]), "answer": record.get("completion")}
    row["correct"] = _verdict(record["passed"])
    if "completion_id" in record:
        row["chain"] = _index(record["completion_id"])
    return [row]


def _lm_eval(record: Any) -> Rows:
    """Read all repeats, each with its verdict where the line holds one, see `_judged`."""
    known = [name for name in ("exact_match", "acc", "pass@1") if name in record]
    names = record.get("metrics") or known or ["metrics"]
    repeats = record["resps"][0]
    verdicts = _judged(record, repeats, record[names[0]])
    if len(verdicts) > len(repeats):
        raise ValueError(f"{len(verdicts)} verdicts for {len(repeats)} repeats")
    verdicts = [*verdicts, *[None] * (len(repeats) - len(verdicts))]
    shared = {"problem": str(record["doc_id"])}
    return [
        shared | {"chain": i, "answer": answer, "correct": _verdict(v), "score": _number(v)}
        for i, (answer, v) in enumerate(zip(repeats, verdicts, strict=True))
    ]


def _judged(record: Any, repeats: list[Any], value: Any) -> list[Any]:
    """Return the verdicts of the first repeats that the tool's number settles.

    Without a filter the number is the first repeat's. A filter that keeps all of them
    (`take_first_k`) gives their mean: where equality with the target has that mean, it was the
    rule. After any other filter it is no repeat's own: it may be a vote's.
    """
    if isinstance(value, list):
        return value
    if isinstance(texts := record["filtered_resps"][0], list):
        equal = [float(text == record["target"]) for text in texts]
        return equal if math.isclose(sum(equal), value * len(equal)) else []
    return [value] if record.get("filter", "none") == "none" or len(repeats) == 1 else []


def _inspect_samples(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the samples of an .eval archive, or of the JSON log."""
    if path.suffix == ".json":
        for i, sample in enumerate(json.loads(path.read_text(encoding="utf-8"))["samples"], 1):
            yield f"sample {i}", json.dumps(sample)
        return
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no whole .eval archive; was it cut off?")
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            if entry.filename.startswith("samples/") and entry.filename.endswith(".json"):
                zstandard = entry.compress_type == ZSTANDARD
                yield entry.filename, _unzip(file, entry) if zstandard else archive.read(entry)


def _unzip(file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """Return an entry compressed with Zstandard, which zipfile reads from Python 3.14 on only."""
    import pyarrow

    file.seek(entry.header_offset + 26)  # the entry's own lengths of name and extra field
    lengths = struct.unpack("<HH", file.read(4))
    file.seek(sum(lengths), 1)
    packed = pyarrow.BufferReader(file.read(entry.compress_size))
    with pyarrow.CompressedInputStream(packed, "zstd") as stream:
        return stream.read()


def _inspect(record: Any) -> Rows:
    """The first scorer's verdict; tokens summed over the models that were called."""
    score: Any = next(iter((record.get("scores") or {}).values()), {})
    usage = (record.get("model_usage") or {}).values()
    row = {"problem": str(record["id"]), "chain": _index(record["epoch"] - 1)}
    row |= {"answer": score.get("answer"), "correct": _verdict(score.get("value"))}
    row |= {"score": _number(score.get("value"))}
    tokens = float(sum(u["output_tokens"] for u in usage)) if usage else math.nan
    return [row | {"completion_tokens": tokens}]


def _yaml_files(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
        yield file.name, (file.stem, file.read_text(encoding="utf-8"))


def _load_yaml(named: tuple[str, str]) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise OSError("no YAML parser is installed: pip install pyyaml") from error
    try:
        return named[0], yaml.load(named[1], getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(error) from error


def _monkeys(named: Any) -> Rows:
    problem, record = named
    verdicts = record["is_corrects"] if "is_corrects" in record else record["is_correct"]
    pairs = zip(record["samples"], verdicts, strict=True)
    return [{"problem": problem, "answer": a, "correct": _verdict(v)} for a, v in pairs]


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        names = list(rows.fieldnames or ())
        if not ({"problem", "n", "c"} <= set(names) or {"problem", "correct"} <= set(names)):
            found = f"begins with {','.join(names)[:200]!r}" if names else "is empty"
            raise ValueError(f"{path} {found}; needed is a {FORMATS['csv'].what}, commas between")
        seen: dict[str, str] = {}  # problem -> its first line
        for row in rows:
            where = f"line {rows.line_num}"
            yield where, (row, seen.get(row["problem"]))
            seen.setdefault(row["problem"], where)


def _csv(named: tuple[Any, str | None]) -> Rows:
    record, before = named
    if not record["problem"]:
        raise ValueError("it names no problem")
    return _counted(record, before) if {"n", "c"} <= record.keys() else _sampled(record)


def _sampled(record: Any) -> Rows:
    if None in record:
        raise ValueError("it has more cells than columns: put what holds a comma in quotes")
    row = {"problem": record["problem"], "answer": record.get("answer") or None}
    row["correct"] = _verdict(_cell(record["correct"]))
    row["score"] = _cell(record.get("score", record.get("logprob")))
    return [row | {"completion_tokens": _cell(record.get("completion_tokens"))}]


def _cell(text: str | None) -> float:
    """Return a cell's number, NaN of an empty one; true and false are 1 and 0."""
    word = (text or "nan").strip().lower()
    return float({"true": 1, "false": 0}.get(word, word))


def _counted(record: Any, before: str | None) -> Rows:
    n, c = int(record["n"]), int(record["c"])
    if not (0 <= c <= n <= MOST and n > 0):
        raise ValueError(
            f"{record['problem']}: c is {c}, n is {n}; needed is 0 <= c <= n, n from 1 to {MOST}"
        )
    if before:
        raise ValueError(f"{record['problem']} came before, on {before}: the first counts")
    right, wrong = ({"problem": record["problem"], "correct": verdict} for verdict in (1.0, 0.0))
    return [right] * c + [wrong] * (n - c)


FORMATS = {
    "human-eval": Format(_lines, _load_line, _human_eval, "*_results.jsonl of human-eval"),
    "lm-eval": Format(_lines, _load_line, _lm_eval, "samples_*.jsonl of lm-evaluation-harness"),
    "inspect": Format(_inspect_samples, json.loads, _inspect, ".eval or .json log of inspect_ai"),
    "monkeys": Format(_yaml_files, _load_yaml, _monkeys, "YAML of large_language_monkeys"),
    "csv": Format(
        _csv_rows, tuple, _csv, "CSV of problem, n, c; or of each sample problem, correct"
    ),
}

"""`FORMATS`: how each tool writes samples. A new tool is a row here.

Nothing is graded: the verdicts are the tools' own.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from scaling.readers import inspect, lm_eval, tables
from scaling.readers.values import judged, whole

Rows = list[dict[str, Any]]
DECODER = json.JSONDecoder()


class Format(NamedTuple):
    """How a tool writes samples: content of a file -> records -> rows."""

    texts: Callable[[Path], Iterator[tuple[str, Any]]]  #: (line or entry, its content)
    record: Callable[..., dict[str, Any]]  #: content -> what matters of it
    rows: Callable[[dict[str, Any], str], Rows]  #: (record, metric) -> samples
    what: str  #: for the help text
    options: tuple[str, ...] = ()  #: of `read_samples`, those that apply
    default: bool = True  #: of several metrics take the first that judges; False: refuse
    votes: bool = True  #: `answer` is extracted; False: whole texts or programs
    settle: Callable[[list[dict[str, Any]]], list[str]] = lambda records: []  #: `lm_eval.settle`


def lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the lines of a JSON Lines file; the entries of a JSON array, as some tools indent."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
        if (first := file.readline()).lstrip().startswith("["):
            entries = json.loads(first + file.read())
            yield from ((f"entry {i}", entry) for i, entry in enumerate(entries, 1))
            return
        for i, line in enumerate(chain([first], file), 1):
            if line.strip():
                yield f"line {i}", line


def load_line(line: Any) -> Any:
    """Return a line's record in half the time of `json.loads`, which says what is no JSON."""
    if not isinstance(line, str):
        return line
    try:
        record, end = DECODER.raw_decode(line)
    except ValueError:
        return json.loads(line)
    return json.loads(line) if line[end:].strip(" \t\r\n") else record


def _human_eval(line: Any) -> dict[str, Any]:
    record = load_line(line)
    row = {"problem": str(record["task_id"]), "answer": record.get("completion")}
    if "completion_id" in record:
        row["chain"] = whole(record["completion_id"], "completion_id")
    return row | judged(record["passed"])


def _as_it_is(row: dict[str, Any], metric: str) -> Rows:
    return [row]


def _evalplus_texts(path: Path) -> Iterator[tuple[str, Any]]:
    results = json.loads(path.read_text(encoding="utf-8"))["eval"]
    for problem, found in results.items():
        if isinstance(found, dict):  # before version 0.2: lists of (status, details)
            base, plus = found["base"], found.get("plus") or [[None]] * len(found["base"])
            results[problem] = [
                {"base_status": b[0], "plus_status": p[0]} for b, p in zip(base, plus, strict=True)
            ]
    extra = any(sample.get("plus_status") for found in results.values() for sample in found)
    for problem, found in results.items():
        for i, sample in enumerate(found):
            yield problem, sample | {"task_id": problem, "chain": i, "extra": extra}


def _evalplus(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample judged by the extra tests too, as evalplus reports it, and by the base's."""
    base, plus = (sample.get(f"{name}_status") for name in ("base", "plus"))
    right = {"plus": _passed(base) and _passed(plus)} if sample["extra"] else {}
    named = {"problem": sample["task_id"], "chain": sample["chain"]}
    return named | {"answer": sample.get("solution"), "metrics": right | {"base": _passed(base)}}


def _passed(status: str | None) -> bool:
    return status in ("pass", "success")


def _evalplus_rows(record: dict[str, Any], metric: str) -> Rows:
    row = {name: record[name] for name in ("problem", "chain", "answer")}
    return [row | {"correct": float(record["metrics"][metric])}]


def _yaml_files(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
        yield file.name, (file.stem, file.read_text(encoding="utf-8"))


def _monkeys(named: tuple[str, str]) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise OSError("no YAML parser is installed: pip install pyyaml") from error
    try:
        found = yaml.load(named[1], getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(error) from error
    verdicts = found["is_corrects"] if "is_corrects" in found else found["is_correct"]
    pairs = list(zip(found["samples"], verdicts, strict=True))
    return {"problem": named[0], "pairs": pairs}


def _monkeys_rows(record: dict[str, Any], metric: str) -> Rows:
    return [
        {"problem": record["problem"], "answer": text} | judged(value)
        for text, value in record["pairs"]
    ]


def _lm_eval(line: Any) -> dict[str, Any]:
    return lm_eval.record(load_line(line))


def _jsonl(line: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    return tables.record(load_line(line), columns)


TABLE = ("model", "columns")
FORMATS = {
    "human-eval": Format(
        lines, _human_eval, _as_it_is, "*_results.jsonl of human-eval", votes=False
    ),
    "evalplus": Format(
        _evalplus_texts, _evalplus, _evalplus_rows, "*eval_results.json of evalplus", ("metric",),
        votes=False,
    ),
    "lm-eval": Format(
        lines, _lm_eval, lm_eval.rows, "samples_*.jsonl of lm-evaluation-harness",
        ("metric", "filter"), settle=lm_eval.settle,
    ),
    "inspect": Format(
        inspect.samples, inspect.record, inspect.rows, ".eval or .json log of inspect_ai",
        ("metric",), default=False, settle=inspect.settle,
    ),
    "monkeys": Format(
        _yaml_files, _monkeys, _monkeys_rows, "YAML of large_language_monkeys", votes=False
    ),
    "csv": Format(tables.csv_rows, tables.record, tables.rows, "a CSV table", TABLE),
    "jsonl": Format(lines, _jsonl, tables.rows, "a table in JSON Lines", TABLE),
}  # fmt: skip

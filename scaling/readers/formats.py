"""`FORMATS`: the file formats of other tools. A new tool is one function here and one entry.

The function takes one record of a file and returns its samples as dictionaries: `problem`, `chain`,
`answer`, `score`, `completion_tokens`, and the tool's `correct`; or instead of `correct` `metrics`,
the fields that each metric sets, or `n` and `c`, the numbers of samples and of correct ones. Absent
fields stay empty; nothing is graded here.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from scaling.entries import DECODER, Entries, csv_rows, json_lines, open_text, parquet_rows
from scaling.readers import inspect, lm_eval
from scaling.readers.values import is_empty, whole_number

Row = dict[str, Any]
COLUMNS = {  #: column of a table -> what it holds
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
LARGEST_COUNT = 10_000_000  # samples of a problem that a table of counts may claim


def judge_by_metric(row: Row, metric: str) -> list[Row]:
    """Return a sample judged by one of its metrics."""
    return [row | row["metrics"].get(metric, {"why": row.get("why") or "it was not scored"})]


class Format(NamedTuple):
    """The format in which a tool writes samples."""

    what: str  #: for the help text
    records: Callable[[Path], Entries]  #: (line or entry, a record or its JSON)
    rows: Callable[..., list[Row]]  #: record -> its samples
    names: tuple[str, ...] = ()  #: names in a record by which the format is recognised
    options: tuple[str, ...] = ()  #: the options of `read_samples` that apply
    default: bool = True  #: choose the first of several metrics that judges; False: refuse
    votes: bool = True  #: `answer` is extracted; False: whole texts or programs
    settle: Callable[[list[Row]], list[str]] = lambda rows: []  #: fixes across records; notes
    judge: Callable[[Row, str], list[Row]] = judge_by_metric  #: (sample, metric) -> samples


# ---------------------------------------------------------------- tools
def _human_eval(record: Row) -> list[Row]:
    row = {"problem": str(record["task_id"]), "answer": record.get("completion")}
    if "completion_id" in record:
        row["chain"] = whole_number(record["completion_id"], "completion_id")
    row["correct"] = record["passed"]
    return [row]


def _evalplus_records(path: Path) -> Entries:
    with open_text(path) as file:
        results = json.load(file)["eval"]
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


def _evalplus(sample: Row) -> list[Row]:
    """Return a sample judged by all tests, as evalplus reports it, and by the base tests."""
    passed = [sample.get(f"{name}_status") in ("pass", "success") for name in ("base", "plus")]
    metrics = {"plus": {"correct": all(passed)}} if sample["extra"] else {}
    row = {"problem": sample["task_id"], "chain": sample["chain"]}
    row |= {"answer": sample.get("solution"), "metrics": metrics | {"base": {"correct": passed[0]}}}
    return [row]


def _yaml_files(path: Path) -> Entries:
    for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
        yield file.name, {"problem": file.stem, "yaml": file.read_text(encoding="utf-8")}


def _monkeys(record: Row) -> list[Row]:
    try:
        import yaml
    except ImportError as error:
        raise OSError("no YAML parser is installed: pip install pyyaml") from error
    try:
        found = yaml.load(record["yaml"], getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(error) from error
    verdicts = found["is_corrects"] if "is_corrects" in found else found["is_correct"]
    return [
        {"problem": record["problem"], "answer": text, "correct": value}
        for text, value in zip(found["samples"], verdicts, strict=True)
    ]


# ---------------------------------------------------------------- tables
def _table(record: Any, columns: Mapping[str, str]) -> list[Row]:
    """Return a row of a table, a sample or counts; `columns` maps our names to the file's.

    Errors: ValueError for a row without a problem, without the needed columns, or with a malformed
    number.
    """
    if not isinstance(record, dict):
        raise ValueError("it is not an object of names and values")
    if None in record:
        raise ValueError("it has more cells than columns: put a cell with a comma in quotes")
    names = {name: columns.get(name, name) for name in COLUMNS}
    row = {name: record[other] for name, other in names.items() if other in record}
    has = f"the columns are {', '.join(map(repr, record))[:200]}"
    has += ", with no comma to separate them" * (len(record) == 1)
    if missing := [other for name, other in columns.items() if name not in row]:
        raise ValueError(f"no column {', '.join(missing)}; {has}")
    if not ({"problem", "n", "c"} <= row.keys() or {"problem", "correct"} <= row.keys()):
        raise ValueError(f"needed are {NEEDED}; {has}: name others with columns=")
    if is_empty(row["problem"]):
        raise ValueError("it names no problem")
    level = row.pop("level", None)
    row["problem"] = f"{row['problem']}" if is_empty(level) else f"{level}/{row['problem']}"
    if "correct" not in columns and {"n", "c"} <= row.keys():
        return [_counts(row)]
    row.setdefault("score", record.get("logprob"))
    row.pop("n", None), row.pop("c", None)
    found = {name: value for name, value in row.items() if not is_empty(value)}
    if "chain" in found:
        found["chain"] = whole_number(found["chain"], "chain")
    for name in found.keys() & {"score", "completion_tokens"}:
        found[name] = float(found[name])
    return [found]


def _counts(row: Row) -> Row:
    name, n, c = row["problem"], whole_number(row["n"], "n"), whole_number(row["c"], "c")
    if not (c <= n <= LARGEST_COUNT and n > 0):
        raise ValueError(
            f"{name}: c is {c}, n is {n}; needed is 0 <= c <= n, n from 1 to {LARGEST_COUNT}"
        )
    return {"problem": name, "model": row.get("model"), "n": n, "c": c}


TABLE = ("model", "columns")
FORMATS = {
    "human-eval": Format(
        "*_results.jsonl of human-eval", json_lines, _human_eval, ("task_id", "passed"),
        votes=False,
    ),
    "evalplus": Format(
        "*eval_results.json of evalplus", _evalplus_records, _evalplus, ("hash", "eval"),
        ("metric",),
        votes=False,
    ),
    "lm-eval": Format(
        "samples_*.jsonl of lm-evaluation-harness", json_lines, lm_eval.rows,
        ("resps", "filtered_resps"), ("metric", "filter"), settle=lm_eval.settle,
        judge=lm_eval.judge,
    ),
    "inspect": Format(
        ".eval or .json log of inspect_ai", inspect.records, inspect.rows, ("version", "status"),
        ("metric",), default=False, settle=inspect.settle,
    ),
    "monkeys": Format("YAML of large_language_monkeys", _yaml_files, _monkeys, votes=False),
    "csv": Format("a CSV table", csv_rows, _table, options=TABLE),
    "jsonl": Format("a table in JSON Lines", json_lines, _table, options=TABLE),
    "parquet": Format("a Parquet table", parquet_rows, _table, options=TABLE),
}  # fmt: skip


# ---------------------------------------------------------------- detection of the format
def detect_format(path: str | Path, columns: Mapping[str, str] | None = None) -> str:
    """Return the name of the format in which a file, or a folder of YAML files, is written.

    It is the format whose names the first records hold. JSON without such names is a table in JSON
    Lines, and other text a table in CSV; a file whose columns are named is a table. Errors:
    ValueError where there is no file.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no file {path}")
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        return "monkeys"
    if path.suffix == ".parquet":
        return "parquet"
    if path.suffix == ".eval" or zipfile.is_zipfile(path):
        return "inspect"
    with open_text(path, errors="replace") as file:
        start = file.read(2**20)
    for found in islice(re.finditer(r"^\s*\[?\s*\{", start, re.MULTILINE), 0 if columns else 20):
        names = _names(start, found.end())
        for name, how in FORMATS.items():
            if how.names and names.issuperset(how.names):
                return name
    return "jsonl" if start.lstrip().startswith(("{", "[")) else "csv"


def _names(text: str, at: int) -> set[str]:
    """Return the names in a JSON object, from its first one on; its end may be cut off."""
    found = set[str]()
    while name := re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*:\s*').match(text, at):
        found.add(name[1])
        try:
            _, end = DECODER.raw_decode(text, name.end())
        except ValueError:
            break
        comma = re.compile(r"\s*,").match(text, end)
        at = comma.end() if comma else len(text)
    return found

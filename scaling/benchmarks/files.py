"""Read the rows of published benchmarks from JSON Lines, a JSON list, CSV or Parquet.

A reader is one function from a record to the fields of a `Row`, and one entry in `READERS`. A
record that cannot be graded by ground truth is left out with a reason; a malformed one is an error
that names its line. Nothing is fetched.
"""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from scaling.benchmarks.benchmark import Benchmark, Row, read_prompt
from scaling.benchmarks.extraction import boxed
from scaling.benchmarks.grading import SCORERS
from scaling.entries import csv_rows, json_lines, parquet_rows, parsed
from scaling.records import conversation, look_up

Record = dict[str, Any]
ENTRIES = {"csv": csv_rows, "parquet": parquet_rows}  #: end of a file's name -> how it is read
ID_LENGTH = 80  #: characters of a problem that serve as its id where the file has none


class LeftOut(Exception):
    """A record that is not graded here; the message is the reason."""


class Reader(NamedTuple):
    """How a benchmark's file is read."""

    fields: Callable[[Record], Record]  #: record -> fields of a Row
    prompt: str  #: its usual prompt, a name of `prompts/`
    what: str  #: the fields it reads, for the help text


def load_benchmark(
    name: str, path: str | Path | None, prompt: str | None = None, newer_than: str = ""
) -> Benchmark:
    """Return the benchmark in a file, read by `READERS[name]`.

    prompt: a name of `prompts/` or a file with `{question}` in it; by default the reader's.
    newer_than: an ISO date; only problems released after it, which no older model has seen.
    Errors: ValueError naming the line that is malformed, repeated, or without an answer.
    """
    reader = look_up(READERS, name, "benchmark")
    if not path:
        raise ValueError(f"{name} is a benchmark: give its file, problems_file=")
    rows, left_out = read_rows(name, Path(path))
    template, notes = read_prompt(prompt or reader.prompt)
    notes |= {"file": Path(path).name, "file_sha256": sha256(Path(path).read_bytes()).hexdigest()}
    if newer_than:
        rows, older = _newer(rows, newer_than)
        left_out, notes["newer_than"] = left_out + older, newer_than
    return Benchmark(name, rows, template, notes, left_out)


def _newer(rows: list[Row], date: str) -> tuple[list[Row], Counter[str]]:
    """Return (rows released after a date, how many others there are by reason)."""
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", date):
        raise ValueError(f"newer_than={date!r} is no date; give one as 2024-06-24")
    kept = [row for row in rows if row.meta.get("released", "") > date]
    undated = sum("released" not in row.meta for row in rows)
    older = len(rows) - len(kept) - undated
    return kept, +Counter({f"not newer than {date}": older, "without a release date": undated})


def records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield (line or entry, record) of a file; ValueError naming a malformed line."""
    if not path.is_file():
        raise ValueError(f"no file {path}; give the benchmark's own file (data are not fetched)")
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    where = ""
    try:
        for where, entry in ENTRIES.get(kind, json_lines)(path):
            record = parsed(entry)
            if not isinstance(record, dict):
                raise ValueError(f"{path}, {where} is no object of fields but {str(record)[:40]!r}")
            yield where, record
    except json.JSONDecodeError as error:
        place = f"{path}, {where}" if where else path
        raise ValueError(f"{place} is no JSON: {error}; restore the file") from error
    except (UnicodeDecodeError, csv.Error, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {kind}: {error}; restore the file") from error


def read_rows(name: str, path: Path) -> tuple[list[Row], Counter[str]]:
    """Return (rows, how many were left out by reason) of a benchmark's file.

    Errors: ValueError for a malformed record, a repeated id, or a problem without an answer.
    """
    rows: dict[str, Row] = {}
    places: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for number, (where, record) in enumerate(records(path)):
        defaults: Record = {"id": str(number), "source": name, "task": name, "level": "all"}
        try:
            row = _row(defaults | READERS[name].fields(record))
        except LeftOut as reason:
            left_out[str(reason)] += 1
            continue
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}, {where} is no {name} problem: {what}") from error
        if not row.answer or not row.prompt:
            raise ValueError(f"{path}, {where}: problem {row.id} has no answer, or no question")
        same_start = row.id == row.prompt[:ID_LENGTH]  # the file has no ids
        if row.id in rows and same_start and row.prompt != rows[row.id].prompt:
            row = replace(row, id=f"{row.id} {sha256(row.prompt.encode()).hexdigest()[:8]}")
        if row.id in rows:
            raise ValueError(f"{path}, {where}: id {row.id} came before, {places[row.id]}")
        rows[row.id], places[row.id] = row, where
    return list(rows.values()), left_out


def _row(given: Record) -> Row:
    """Return a row, with numbers as text; ValueError for a field that rows do not have."""
    texts = {f.name for f in fields(Row)} - {"meta"}
    if unknown := set(given) - texts - {"meta"}:
        raise ValueError(f"unknown field {min(unknown)}; allowed: {', '.join(sorted(texts))}, meta")
    for name in texts:
        value = given.get(name)
        if isinstance(value, (bool, list, dict)):
            raise ValueError(f"{name} is {value!r}; give text")
        given[name] = value if isinstance(value, str) else _text(value)
    if not isinstance(given.get("meta", {}), dict):
        raise ValueError(f"meta is {given['meta']!r}; give an object")
    return Row(**given)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


# ---------------------------------------------------------------- formats
def _gsm8k(record: Record) -> Record:
    """Return the fields of a Row. Level: the number of calculations in the reference solution."""
    work, mark, answer = record["answer"].partition("####")
    if not mark:
        raise ValueError("answer has no ####")
    steps = min(max(work.count("<<"), 1), 6)
    return {
        "prompt": record["question"],
        "answer": answer.strip(),
        "level": f"{steps} steps" + " or more" * (steps == 6),
        "scorer": "number",
    }


def _math500(record: Record) -> Record:
    answer = record.get("answer") or boxed(record["solution"]) or ""
    return {
        "id": str(record.get("unique_id") or record["problem"][:ID_LENGTH]),
        "task": str(record.get("subject") or record.get("type") or "math"),
        "prompt": record["problem"],
        "answer": answer,
        "level": f"level {str(record['level']).removeprefix('Level ')}",
        "scorer": "math",
    }


def _svamp(record: Record) -> Record:
    body = record["Body"].strip()
    return {
        "id": record["ID"],
        "prompt": f"{body}{'' if body.endswith('.') else '.'} {record['Question'].strip()}",
        "answer": str(Fraction(str(record["Answer"]))),
        "level": record["Type"].replace("Divison", "Division"),  # the file has both spellings
        "scorer": "number",
    }


def _contest(record: Record) -> Record:
    """Return the fields of a Row, for AIME and similar contests, with a date if there is one."""
    given = {key.lower(): value for key, value in record.items()}
    released = str(given.get("released") or given.get("date") or given.get("year") or "")
    names = [given[k] for k in ("id", "unique_id", "problem_id", "url") if given.get(k) is not None]
    found = {"id": str(names[0])} if names else {}
    return found | {
        "prompt": given["problem"] if "problem" in given else given["question"],
        "answer": _text(given["answer"]),
        "level": str(given.get("level") or given.get("subject") or "all"),
        "scorer": "math",
        "meta": {"released": released} if released else {},
    }


def _game24(record: Record) -> Record:
    """Return the fields of a Row. Level: the quarter of the puzzles, by people's difficulty."""
    numbers = [int(number) for number in record["Puzzles"].split()]
    return {
        "id": record["Puzzles"],
        "prompt": record["Puzzles"],
        "answer": "24",
        "level": f"quarter {min((int(record['Rank']) - 1) * 4 // 1362, 3) + 1}",
        "scorer": "expression",
        "meta": {"numbers": numbers, "target": 24},
    }


LIVEBENCH = {  #: task -> scorer, where one true answer decides; others give partial credit
    "math_comp": "number",
    "AMPS_Hard": "math",
    "web_of_lies_v2": "tagged",
    "web_of_lies_v3": "tagged",
    "spatial": "tagged",
    "zebra_puzzle": "tagged",
    "typos": "contains",
    "cta": "bare_words",
}


def _livebench(record: Record) -> Record:
    """Return the fields of a Row. Level: the category. Only tasks with one true answer are kept."""
    task, turns = record["task"], record["turns"]
    scorer = LIVEBENCH.get(task)
    if scorer is None:
        raise LeftOut(f"of task {task}, not decided by one true answer")
    if len(turns) != 1:
        raise LeftOut("with several turns")
    answer = _text(record["ground_truth"])
    if scorer == "number" and re.fullmatch("[A-Z]", answer):
        scorer = "letter"
    return {
        "id": str(record["question_id"]),
        "task": task,
        "prompt": turns[0],
        "answer": answer,
        "level": record["category"],
        "scorer": scorer,
        "meta": {"released": str(record["livebench_release_date"])[:10]},
    }


def _own(record: Record) -> Record:
    """Return the fields of a Row; `messages` may replace `prompt`."""
    if "messages" in record:
        record["prompt"] = conversation(record.pop("messages"))
    if (scorer := record.get("scorer")) not in SCORERS:
        raise ValueError(f"scorer is {scorer!r}; allowed: {', '.join(SCORERS)}")
    return record


READERS: dict[str, Reader] = {
    "gsm8k": Reader(_gsm8k, "worked", "question, answer with ####"),
    "math500": Reader(_math500, "boxed", "problem, solution or answer, level (MATH, MATH-500)"),
    "svamp": Reader(_svamp, "worked", "Body, Question, Answer"),
    "contest": Reader(_contest, "boxed", "problem, answer (AIME, OlymMATH and the like)"),
    "game24": Reader(_game24, "game24", "24.csv of tree-of-thoughts: Rank, Puzzles"),
    "livebench": Reader(_livebench, "bare", "question files of LiveBench"),
    "rows": Reader(_own, "bare", "rows of your own: id, prompt, answer, scorer, level, meta"),
}

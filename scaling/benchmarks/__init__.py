"""Benchmarks that others published, as files on disk: rows, prompts, and graders that run no code.

    task = load_benchmark("gsm8k", "test.jsonl", prompt="worked")
    sample_run(lm, task, task.problems(100), plan, root, engine=engine)

A `Row` is one problem, whoever wrote it; `readers` brings files to rows, `grading` marks answers,
`gym` makes rows by reasoning-gym. A prompt is a file of `prompts/`, or of the user; the log's
sessions keep the hashes of both. Not here: the kit's own tasks (`tasks`), samples of others
(`readers` of the package: HumanEval among them, since marking it would run a model's code).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from scaling.benchmarks.grading import SCORERS
from scaling.records import Problem, Verdict, conversation, look_up, turns_of

PROMPTS = Path(__file__).with_name("prompts")
QUESTION = "{question}"  #: where a prompt's file takes the question


@dataclass(frozen=True)
class Row:
    """One problem of a benchmark."""

    id: str  #: unique in its file
    source: str  #: the benchmark, e.g. "gsm8k"
    task: str  #: the family within it, e.g. "zebra_puzzle"
    prompt: str  #: the question itself; of several turns, what `records.conversation` makes of them
    answer: str  #: ground truth
    level: str  #: stratum of the curves: difficulty, or category
    scorer: str  #: a name in `grading.SCORERS`
    meta: dict[str, Any] = field(default_factory=dict)  #: `released`: ISO date; what a scorer needs


class Benchmark:
    """Rows as a task: what `methods.draw` asks of one."""

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        template: str = QUESTION,
        notes: Mapping[str, Any] | None = None,
        left_out: Mapping[str, int] | None = None,
    ) -> None:
        """template: text around `{question}`; notes: kept with the log; left_out: reason → rows."""
        if not rows:
            raise ValueError(f"{name} has no problem left ({_counted(left_out or {})})")
        self.name, self.template = name, template
        self.rows = {row.id: row for row in rows}
        self.levels = tuple(dict.fromkeys(row.level for row in rows))
        self.notes = dict(notes or {}) | {"problems": len(rows)}
        self.left_out = dict(left_out or {})
        if self.left_out:
            self.notes["left_out"] = self.left_out

    @property
    def stop(self) -> tuple[str, ...]:
        """Return what ends the answer of a base model: what the template writes before a question.

        Few-shot, such a model goes on with the next question, and answers that.
        """
        label = self.template.partition(QUESTION)[0].rpartition("\n")[2].strip()
        return (f"\n{label}",) if label.endswith(":") else ()

    def only(self, levels: Sequence[str]) -> Benchmark:
        """Return the benchmark without the problems of other levels."""
        for level in levels:
            look_up(dict.fromkeys(self.levels), level, f"level of {self.name}")
        kept = [row for row in self.rows.values() if row.level in levels]
        others = Counter({"of other levels": len(self.rows) - len(kept)})
        left_out = Counter(self.left_out) + others
        return Benchmark(self.name, kept, self.template, self.notes, left_out)

    def problems(self, n: int, split: str = "test", seed: int = 0) -> list[Problem]:
        """Return n problems chosen by hash, all where there are fewer; in the file's order.

        Chosen for n = 100, a problem is also chosen for n = 200.
        """
        rank = {id: blake2b(f"{seed}\0{id}".encode()).digest() for id in self.rows}
        chosen = set(sorted(self.rows, key=rank.__getitem__)[:n])
        return [
            Problem(row.id, self._around(row.prompt), row.answer, row.level)
            for row in self.rows.values()
            if row.id in chosen
        ]

    def _around(self, prompt: str) -> str:
        """Return a prompt, the template around its last turn."""
        *turns, last = turns_of(prompt)
        text = self.template.replace(QUESTION, last["content"])
        return conversation([*turns, {"role": last["role"], "content": text}])

    def prompt(self, problem: Problem) -> str:
        """Return the text a model is given, the prompt's file around the question."""
        return problem.prompt

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return what the row's scorer says of a text, its thinking left out."""
        row = self.rows[problem.id]
        return SCORERS[row.scorer](row.answer, text, row.meta)


def load_benchmark(
    name: str, path: str | Path | None, prompt: str | None = None, newer_than: str = ""
) -> Benchmark:
    """Return the benchmark in a file, read by `READERS[name]`.

    prompt: a name of `prompts/` or a file with `{question}` in it; by default the reader's.
    newer_than: an ISO date; only problems released after it, which no older model has seen.
    Errors: ValueError naming the line that is malformed, twice there, or without an answer.
    """
    from scaling.benchmarks.readers import READERS, read_rows

    reader = look_up(READERS, name, "benchmark")
    if not path:
        raise ValueError(f"{name} is a benchmark: name its file with --problems-file")
    rows, left_out = read_rows(name, Path(path))
    rows, older = newer(rows, newer_than)
    template, notes = read_prompt(prompt or reader.prompt)
    notes |= {"file": Path(path).name, "file_sha256": sha256(Path(path).read_bytes()).hexdigest()}
    if newer_than:
        notes["newer_than"] = newer_than
    return Benchmark(name, rows, template, notes, Counter(left_out) + Counter(older))


def newer(rows: Sequence[Row], date: str) -> tuple[list[Row], dict[str, int]]:
    """Return the rows released after a date, and how many others there were, by reason."""
    if not date:
        return list(rows), {}
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", date):
        raise ValueError(f"--newer-than is {date!r}; give a date as 2024-06-24")
    kept = [row for row in rows if row.meta.get("released", "") > date]
    undated = sum("released" not in row.meta for row in rows)
    older = len(rows) - len(kept) - undated
    reasons = {f"not newer than {date}": older, "without a release date": undated}
    return kept, {why: count for why, count in reasons.items() if count}


def read_prompt(name: str) -> tuple[str, dict[str, Any]]:
    """Return a prompt's template and what the log keeps of it; ValueError where it is none."""
    own = {path.stem: path for path in sorted(PROMPTS.glob("*.txt"))}
    path = own.get(name, Path(name))
    if not path.is_file():
        raise ValueError(f"no prompt {name!r}: give a file, or one of {', '.join(own)}")
    text = path.read_text(encoding="utf-8").removesuffix("\n")
    if text.count(QUESTION) != 1:
        raise ValueError(f"{path} holds {QUESTION} {text.count(QUESTION)} times; once is needed")
    return text, {"prompt": path.name, "prompt_sha256": sha256(text.encode()).hexdigest()}


def audit(
    task: Benchmark, labelled: Iterable[tuple[str, str, bool]]
) -> tuple[int, list[dict[str, Any]]]:
    """Return (texts graded, disagreements) against reference labels (row id, text, correct).

    Each disagreement holds what to look at: the row, its answer, what was read, both verdicts.
    """
    n, odd = 0, []
    for id, text, label in labelled:
        row = look_up(task.rows, id, "problem")
        verdict = SCORERS[row.scorer](row.answer, text, row.meta)
        n += 1
        if verdict.correct != label:
            odd.append(
                {"id": id, "expected": row.answer, "read": verdict.answer}
                | {"ours": verdict.correct, "reference": label, "text": text}
            )
    return n, odd


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in reasons.items()) or "the file is empty"

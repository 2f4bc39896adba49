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
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from scaling.benchmarks.grading import SCORERS
from scaling.records import Problem, Verdict, conversation, look_up, turns_of

PROMPTS = Path(__file__).with_name("prompts")
QUESTION = "{question}"  #: where a prompt's file takes the question
LABEL = re.compile(r"(?:\A|\n)([^\n]*:\s?|[#*<\[][^\n]*\n)\Z")  #: at the end of what is before it


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
    def label(self) -> str:
        """Return what the template writes before a question, such as "Question: "; "" if nothing.

        It is the text before `{question}` on its line, or a heading on the line above.
        """
        found = LABEL.search(self.template.partition(QUESTION)[0])
        return found[1] if found else ""

    @property
    def stop(self) -> tuple[str, ...]:
        """Return what ends an answer: the label of the next question, which models may invent."""
        return (f"\n{self.label.strip()}",) if self.label else ()

    @cached_property
    def shots(self) -> list[dict[str, str]]:
        """Return the worked examples of the template as turns: user, assistant, user, ..."""
        before, _, after = self.template.partition(QUESTION)
        label, turns = re.escape(self.label), list[dict[str, str]]()
        for reply in (after.strip(), "".join(after.strip().partition(":")[:2])):
            ends = re.escape(reply)
            example = rf"^({label}.*?^{ends})(.*?)(?=^{label}|\Z)"
            found = list(re.finditer(example, before, re.M | re.S)) if label and reply else []
            if found and not turns:
                opening = before[: found[0].start()]
                for asks, answers in (match.groups() for match in found):
                    turns.append({"role": "user", "content": opening + asks})
                    turns.append({"role": "assistant", "content": answers.strip()})
                    opening = ""
        return turns

    def as_turns(self, problem: Problem) -> Problem:
        """Return a problem whose prompt has the worked examples as turns of a conversation."""
        *turns, last = turns_of(problem.prompt)
        before = self.template.partition(QUESTION)[0].removesuffix(self.label)
        if not self.shots or not last["content"].startswith(before):
            return problem
        own = {"role": last["role"], "content": last["content"].removeprefix(before)}
        return replace(problem, prompt=conversation([*turns, *self.shots, own]))

    def asked_as(self, chat: bool) -> str:
        """Return in words which prompt is used, and how."""
        examples = self.template.count(self.label) - 1 if self.label else 0
        name = self.notes.get("prompt", "of its own")
        if not examples:
            return f"prompt {name}, without worked examples (zero-shot)"
        how = "plain text" if not chat else "turns" if self.shots else "one user message"
        return f"prompt {name}, {examples} worked examples as {how}"

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
        """Return the verdict of the row's scorer on a text, up to a next question if it has one."""
        row = self.rows[problem.id]
        return SCORERS[row.scorer](row.answer, self.before_next(text), row.meta)

    def before_next(self, text: str) -> str:
        """Return a text up to a further question: its label may be numbered or marked up."""
        if not self.label:
            return text
        word = re.escape(self.label.strip(" \n#*_<>[]():"))
        marked = rf"\n[ \t#*_>]*{word}[ \t]*#?\d*[ \t*_]*:"
        return re.split(rf"{marked}|{re.escape(self.stop[0])}", text, maxsplit=1)[0]


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


def own_prompts() -> dict[str, Path]:
    """Return the files of the kit's own prompts, by name."""
    return {path.stem: path for path in sorted(PROMPTS.glob("*.txt"))}


def read_prompt(name: str) -> tuple[str, dict[str, Any]]:
    """Return a prompt's template and what the log keeps of it; ValueError where it is none."""
    own = own_prompts()
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

"""Benchmarks as tasks: rows of published problems, the prompt around them, and their grading."""

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
QUESTION = "{question}"  #: the place of the question in a prompt file
LABEL = re.compile(r"(?:\A|\n)([^\n]*:\s?|[#*<\[][^\n]*\n)\Z")  #: the last words before it


@dataclass(frozen=True)
class Row:
    """One problem of a benchmark."""

    id: str  #: unique in its file
    source: str  #: the benchmark, e.g. "gsm8k"
    task: str  #: the family within it, e.g. "zebra_puzzle"
    prompt: str  #: the question; of several turns, what `records.conversation` makes of them
    answer: str  #: ground truth
    level: str  #: difficulty or category: curves are drawn for each
    scorer: str  #: a name in `grading.SCORERS`
    meta: dict[str, Any] = field(default_factory=dict)  #: `released`: ISO date; what a scorer needs


class Benchmark:
    """Rows as a task (see `tasks.Task`)."""

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        template: str = QUESTION,
        notes: Mapping[str, Any] | None = None,
        left_out: Mapping[str, int] | None = None,
    ) -> None:
        """template: text around `{question}`; notes: kept with the log; left_out: reason → rows."""
        reasons = ", ".join(f"{count} {why}" for why, count in (left_out or {}).items())
        if not rows:
            raise ValueError(f"{name} has no problem left ({reasons or 'the file is empty'})")
        self.name, self.template = name, template
        self.rows = {row.id: row for row in rows}
        self.levels = tuple(dict.fromkeys(row.level for row in rows))
        self.notes = dict(notes or {}) | {"problems": len(rows)}
        self.left_out = dict(left_out or {})
        if self.left_out:
            self.notes["left_out"] = self.left_out

    @property
    def label(self) -> str:
        """Return the template's text before a question, such as "Question: ", or "".

        It is the text before `{question}` on its line, or a heading on the line above.
        """
        found = LABEL.search(self.template.partition(QUESTION)[0])
        return found[1] if found else ""

    @property
    def stop(self) -> tuple[str, ...]:
        """Return the strings that end an answer: the label of a next question, if any."""
        return (f"\n{self.label.strip()}",) if self.label else ()

    @cached_property
    def shots(self) -> list[dict[str, str]]:
        """Return the worked examples of the template as turns: user, assistant, user, ..."""
        before, _, after = self.template.partition(QUESTION)
        label, reply = re.escape(self.label), after.strip()
        for opening in (reply, "".join(reply.partition(":")[:2])) if label and reply else ():
            example = rf"^({label}.*?^{re.escape(opening)})(.*?)(?=^{label}|\Z)"
            if found := list(re.finditer(example, before, re.M | re.S)):
                pairs = [(match[1], match[2].strip()) for match in found]
                pairs[0] = before[: found[0].start()] + pairs[0][0], pairs[0][1]
                roles = ("user", "assistant")
                return [
                    {"role": role, "content": text}
                    for pair in pairs
                    for role, text in zip(roles, pair, strict=True)
                ]
        return []

    def as_turns(self, problem: Problem) -> Problem:
        """Return a problem whose prompt has the worked examples as turns of a conversation."""
        *turns, last = turns_of(problem.prompt)
        before = self.template.partition(QUESTION)[0].removesuffix(self.label)
        if not self.shots or not last["content"].startswith(before):
            return problem
        own = {"role": last["role"], "content": last["content"].removeprefix(before)}
        return replace(problem, prompt=conversation([*turns, *self.shots, own]))

    def describe_prompt(self, chat: bool) -> str:
        """Return a description of the prompt and its form."""
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
        left_out = Counter(self.left_out) + Counter({"of other levels": len(self.rows) - len(kept)})
        return Benchmark(self.name, kept, self.template, self.notes, left_out)

    def problems(self, n: int, split: str = "test", seed: int = 0) -> list[Problem]:
        """Return n problems chosen by hash, or all where there are fewer; in the file's order.

        A problem chosen for n = 100 is also chosen for n = 200.
        """
        rank = {id: blake2b(f"{seed}\0{id}".encode()).digest() for id in self.rows}
        chosen = set(sorted(self.rows, key=rank.__getitem__)[:n])
        return [
            Problem(row.id, self._with_template(row.prompt), row.answer, row.level)
            for row in self.rows.values()
            if row.id in chosen
        ]

    def _with_template(self, prompt: str) -> str:
        """Return a prompt with the template around its last turn."""
        *turns, last = turns_of(prompt)
        text = self.template.replace(QUESTION, last["content"])
        return conversation([*turns, {"role": last["role"], "content": text}])

    def prompt(self, problem: Problem) -> str:
        """Return the text a model is given."""
        return problem.prompt

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return the verdict of the row's scorer on a text, without a next question."""
        row = self.rows[problem.id]
        return SCORERS[row.scorer](row.answer, self._before_next_question(text), row.meta)

    def _before_next_question(self, text: str) -> str:
        """Return a text up to a further question, whose label may be numbered or marked up."""
        if not self.label:
            return text
        word = re.escape(self.label.strip(" \n#*_<>[]():"))
        marked = rf"\n[ \t#*_>]*{word}[ \t]*#?\d*[ \t*_]*:"
        return re.split(rf"{marked}|{re.escape(self.stop[0])}", text, maxsplit=1)[0]


def own_prompts() -> dict[str, Path]:
    """Return the files of the package's own prompts, by name."""
    return {path.stem: path for path in sorted(PROMPTS.glob("*.txt"))}


def read_prompt(name: str) -> tuple[str, dict[str, Any]]:
    """Return (template, notes for the log) of a prompt: a name in `prompts/`, or a file.

    Errors: ValueError where there is no such prompt, or it has no place for the question.
    """
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

    A disagreement names the row, its answer, the answer that was read, and both verdicts.
    """
    labelled, differ = list(labelled), list[dict[str, Any]]()
    for id, text, label in labelled:
        row = look_up(task.rows, id, "problem")
        verdict = SCORERS[row.scorer](row.answer, text, row.meta)
        if verdict.correct != label:
            differ.append(
                {"id": id, "expected": row.answer, "read": verdict.answer}
                | {"ours": verdict.correct, "reference": label, "text": text}
            )
    return len(labelled), differ

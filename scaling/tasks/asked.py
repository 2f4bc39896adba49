"""A task as one model is asked and answers: prompts as it is given them, verdicts after thinking.

Here the text of a task meets a chat template; samplers and tasks know of neither.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from scaling.records import Completion, Problem, Verdict

OPEN, CLOSE = "<think>", "</think>"


def split_thinking(text: str, opened: bool = False) -> tuple[str, str]:
    """Return (thinking, answer) of a completion; thinking that never ended leaves no answer.

    opened: the prompt had opened the thinking already, as some templates do.
    """
    thinking, closed, answer = text.rpartition(CLOSE)
    if closed:
        return thinking.strip().removeprefix(OPEN).strip(), answer.strip()
    if opened or text.lstrip().startswith(OPEN):
        return text.strip().removeprefix(OPEN).strip(), ""
    return "", text


class Asked:
    """A task between whose texts and one model's stands what the model is used to."""

    def __init__(self, task: Any, lm: Any) -> None:
        """lm: has `asked`, how a prompt is put, and `opens_thinking` (`models.LM`)."""
        self.task, self.lm = task, lm

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def prompt(self, problem: Problem) -> str:
        """Return what the model is given."""
        return self.lm.asked(self.task.prompt(problem))

    def thinking_tokens(self, text: str, done: Completion) -> int | None:
        """Return how many new tokens are thinking, its end included; None where texts are tokens.

        text: of the whole completion.
        """
        if not hasattr(self.lm, "tokenizer"):
            return None
        ends = text.count(CLOSE)
        if not ends:  # all of it, or nothing
            begun = self.lm.opens_thinking or text.lstrip().startswith(OPEN)
            return done.completion_tokens if begun else 0
        lengths = range(len(done.tokens) + 1)  # the least one whose text holds the last end
        return bisect_left(
            lengths, ends, key=lambda n: self.lm.decode(done.tokens[:n]).count(CLOSE)
        )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return the verdict on what follows the thinking."""
        return self.task.verify(problem, split_thinking(text, self.lm.opens_thinking)[1])

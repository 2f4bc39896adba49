"""Wrap a task with a model's chat template, and strip thinking before an answer is graded.

Samplers and tasks know neither templates nor thinking; the markers of thinking are in `markers`.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from scaling.markers import count_ends, is_thinking, opens_thinking, split_thinking
from scaling.records import Completion, Problem, Verdict

__all__ = ["ChatTask", "chat_task", "split_thinking"]


class ChatTask:
    """A task for one model: prompts in its template, verdicts on its answer without thinking."""

    def __init__(self, task: Any, lm: Any) -> None:
        """lm: has `render`, which wraps a prompt, and `opens_thinking` (see `models.LM`)."""
        self.task, self.lm = task, lm

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def prompt(self, problem: Problem) -> str:
        """Return the prompt in the model's template."""
        return self.lm.render(self.task.prompt(problem))

    def opened(self, problem: Problem) -> bool:
        """Return whether a completion begins inside the thinking: template or prompt opened it."""
        plain = not getattr(self.lm, "chat", None)
        return self.lm.opens_thinking or (plain and opens_thinking(self.task.prompt(problem)))

    def thinking_tokens(self, problem: Problem, text: str, done: Completion) -> int | None:
        """Return the number of new tokens up to the end of the thinking; None for a server.

        text: of the completion, thinking and answer.
        """
        if not hasattr(self.lm, "tokenizer"):
            return None
        if is_thinking(text, self.opened(problem)):
            return done.completion_tokens
        ends = count_ends(text)
        lengths = range(len(done.tokens) + 1)  # the smallest whose text holds the last end
        return bisect_left(lengths, ends, key=lambda n: count_ends(self.lm.decode(done.tokens[:n])))

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return the verdict on the text after the thinking."""
        return self.task.verify(problem, split_thinking(text, self.opened(problem))[1])


def chat_task(task: Any, lm: Any) -> Any:
    """Return the task wrapped for a model that renders prompts, or the task itself."""
    return ChatTask(task, lm) if hasattr(lm, "opens_thinking") else task

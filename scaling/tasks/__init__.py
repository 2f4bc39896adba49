"""Families of problems with exact verifiers. A task is one small class, added by a row in `TASKS`.

Items are pure functions of (seed, split, content): a problem belongs to the test split or to the
train split by a hash of its canonical content, so the two are disjoint whatever the seeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, ClassVar, Protocol

from scaling.records import Problem, Verdict, look_up

REVISE, WRONG = "~", "x"  #: what follows a draft: revise it; it was wrong, revise it
ANSWER, WAIT = ">", "|"  #: ends thinking, what follows is the answer; after an answer: think on
STEP_END = ";"  #: ends a step of a written-out solution
TEST_SHARE = 0.1  #: share of all contents that only the test split may use


class Task(Protocol):
    """What the kit asks of a task. `solve` is needed only to train on it."""

    name: ClassVar[str]
    levels: tuple[str, ...]

    def problems(self, n: int, split: str = "test", seed: int = 0) -> list[Problem]: ...
    def prompt(self, problem: Problem) -> str: ...
    def verify(self, problem: Problem, text: str) -> Verdict: ...


def content_split(problem_id: str) -> str:
    """Return "test" or "train" by a hash of the content, whatever the order of its numbers."""
    content = ",".join(sorted(re.split(r"[^0-9]", problem_id)))
    draw = int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "big") / 2**64
    return "test" if draw < TEST_SHARE else "train"


def stream(*key: object) -> Random:
    """Return a random generator owned by a key, e.g. (task, level, split, seed)."""
    digest = blake2b(repr(key).encode(), digest_size=16).digest()
    return Random(int.from_bytes(digest, "big"))


def revision_suffix(feedback: str) -> str:
    """Return the text appended after a draft to ask for the next one."""
    return WRONG if feedback == "verdict" else REVISE


def draw_problems(task, n: int, split: str, seed: int, draw_level) -> list[Problem]:
    """Return n distinct problems of a split, spread evenly over the task's levels.

    `draw_level(level, rng)` returns one problem whose id is its canonical content.
    """
    if n < 1 or split not in ("train", "test"):
        raise ValueError(f"{n} problems of split {split!r}: give at least 1 of 'train' or 'test'")
    chosen: dict[str, Problem] = {}
    for index, level in enumerate(task.levels):
        rng = stream(task.name, level, split, seed)
        want = n * (index + 1) // len(task.levels)
        tries = 0
        while len(chosen) < want:
            problem = draw_level(level, rng)
            tries += 1
            if content_split(problem.id) == split:
                chosen.setdefault(problem.id, problem)
            if tries > 2000 + 200 * n:
                raise ValueError(
                    f"{task.name} {level} has too few distinct problems for {n} of split {split!r};"
                    f" found {len(chosen)}: ask for fewer, or a larger level"
                )
    return list(chosen.values())


def parse_level(level: str) -> tuple[int, int]:
    """Return (terms, largest number) of a level such as "4x20"."""
    terms, _, largest = level.partition("x")
    if not (terms.isdigit() and largest.isdigit() and int(terms) >= 2 and int(largest) >= 2):
        raise ValueError(f"level is {level!r}; give TERMSxLARGEST, e.g. 4x20")
    return int(terms), int(largest)


class Drawn:
    """What tasks share whose problems are drawn by level; a task adds `draw` and `verify`."""

    name: ClassVar[str]
    usual: ClassVar[tuple[str, ...]]  #: levels where none are given
    draw: Callable[[str, Random], Problem]  #: one problem of a level, whose id is its content

    def __init__(self, levels: Sequence[str] = ()) -> None:
        self.levels = tuple(levels) or self.usual
        self.sizes = {level: parse_level(level) for level in self.levels}

    def problems(self, n: int, split: str = "test", seed: int = 0) -> list[Problem]:
        """Return n distinct problems, spread evenly over the levels."""
        return draw_problems(self, n, split, seed, self.draw)

    def prompt(self, problem: Problem) -> str:
        """Return the text a model is given."""
        return problem.prompt


from scaling.tasks.countdown import Countdown  # noqa: E402
from scaling.tasks.sums import Sums  # noqa: E402


def tried(task: Any, n: int, seed: int = 0) -> list[Problem]:
    """Return n problems of a task after a try on the first; ValueError says what the task lacks."""
    tries: tuple[tuple[str, type, Callable[[], Any]], ...] = (
        ("problems(n, split, seed)", list, lambda: task.problems(n, seed=seed)),
        ("prompt(problem)", str, lambda: task.prompt(found[0][0])),
        ("verify(problem, text)", Verdict, lambda: task.verify(found[0][0], "")),
    )
    found: list[Any] = []
    for what, kind, call in tries:
        wanted = f"task {getattr(task, 'name', task)}: {what} must give a {kind.__name__}"
        try:
            found.append(call())
        except (AttributeError, TypeError, IndexError) as error:
            raise ValueError(f"{wanted}, but {error} (docs/add_a_task.md)") from error
        if not isinstance(found[-1], kind):
            raise ValueError(f"{wanted}, not {found[-1]!r:.60} (docs/add_a_task.md)")
    return found[0]


TASKS: dict[str, type] = {"countdown": Countdown, "sums": Sums}


def get_task(name: str, levels: Sequence[str] | None = None):
    """Return a task by name, at its default levels or at those given."""
    try:
        task = look_up(TASKS, name, "task")
    except ValueError as error:
        others = "`sample` takes benchmarks too (docs/benchmarks.md), and yours by --import MODULE"
        raise ValueError(f"{error}; {others}") from error
    return task(tuple(levels)) if levels else task()

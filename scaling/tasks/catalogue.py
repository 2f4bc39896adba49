"""`TASKS`: the package's own tasks. A new task is one module and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scaling.records import Problem, Verdict, look_up
from scaling.tasks.countdown import Countdown
from scaling.tasks.maze import (
    Maze,
    MazePaths,
    MazeQuit,
    MazeRare,
    MazeRevise,
    MazeSearch,
    MazeWalk,
)
from scaling.tasks.permutations import Permutations, PermutationsDirect
from scaling.tasks.sums import Sums

MAZES = (Maze, MazeSearch, MazeWalk, MazeQuit, MazeRare, MazePaths, MazeRevise)
CLASSES = (Countdown, Sums, *MAZES, Permutations, PermutationsDirect)
TASKS: dict[str, type] = {task.name: task for task in CLASSES}


def get_task(name: str, levels: Sequence[str] | None = None) -> Any:
    """Return a task by name, at its default levels or at those given."""
    try:
        task = look_up(TASKS, name, "task")
    except ValueError as error:
        others = "`sample` takes benchmarks too (docs/benchmarks.md), and yours by --import MODULE"
        raise ValueError(f"{error}; {others}") from error
    return task(tuple(levels)) if levels else task()


def validate_task(task: Any, n: int, seed: int = 0) -> list[Problem]:
    """Return n problems of a task after calling each of its methods; ValueError if one is wrong."""
    found: list[Any] = []
    calls: tuple[tuple[str, type, Callable[[], Any]], ...] = (
        ("problems(n, split, seed)", list, lambda: task.problems(n, seed=seed)),
        ("prompt(problem)", str, lambda: task.prompt(found[0][0])),
        ("verify(problem, text)", Verdict, lambda: task.verify(found[0][0], "")),
    )
    for what, kind, call in calls:
        wanted = f"task {getattr(task, 'name', task)}: {what} must give a {kind.__name__}"
        try:
            found.append(call())
        except (AttributeError, TypeError, IndexError) as error:
            raise ValueError(f"{wanted}, but {error} (docs/add_a_task.md)") from error
        if not isinstance(found[-1], kind):
            raise ValueError(f"{wanted}, not {found[-1]!r:.60} (docs/add_a_task.md)")
    return found[0]

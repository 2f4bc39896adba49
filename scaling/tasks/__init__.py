"""Families of problems with exact verifiers: one module per task, one entry in `TASKS`."""

from __future__ import annotations

from scaling.tasks.base import (
    ANSWER,
    REVISE,
    STEP_END,
    WAIT,
    WRONG,
    GeneratedTask,
    Task,
    content_split,
    draw_problems,
    revision_suffix,
    stream,
)
from scaling.tasks.catalogue import TASKS, get_task, validate_task

__all__ = [
    "ANSWER",
    "REVISE",
    "STEP_END",
    "TASKS",
    "WAIT",
    "WRONG",
    "GeneratedTask",
    "Task",
    "content_split",
    "draw_problems",
    "get_task",
    "revision_suffix",
    "stream",
    "validate_task",
]

"""Published benchmarks as files on disk: rows, prompts, and graders that run no code.

    task = load_benchmark("gsm8k", "test.jsonl", prompt="worked")
    sample_run(lm, task, task.problems(100), plan, root, engine=engine)

`files` reads rows from files, `gym` makes rows with reasoning-gym, `grading` compares answers. Not
here: the package's own tasks (`tasks`), and HumanEval, since grading it would run a model's code.
"""

from __future__ import annotations

from scaling.benchmarks.benchmark import Benchmark, Row, audit, own_prompts, read_prompt
from scaling.benchmarks.files import READERS, load_benchmark, records

__all__ = [
    "READERS",
    "Benchmark",
    "Row",
    "audit",
    "load_benchmark",
    "own_prompts",
    "read_prompt",
    "records",
]

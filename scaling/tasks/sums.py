"""Running sums: add several numbers, every partial sum written out.

Prompt `12+45+33=`, solution `12+45=57;57+33=90`. The answer is what follows the last `=`; there is
one right answer, so that majority votes are meaningful.
"""

from __future__ import annotations

import re
from random import Random

from scaling.records import Problem, Verdict
from scaling.tasks.base import GeneratedTask

LAST = re.compile(r"=([0-9]{1,9})$")


def running_sums(numbers: list[int]) -> str:
    """Return every partial sum as text."""
    total, steps = numbers[0], []
    for number in numbers[1:]:
        steps.append(f"{total}+{number}={total + number}")
        total += number
    return ";".join(steps)


class Sums(GeneratedTask):
    """Levels are TERMSxLARGEST: "4x99" adds four numbers of 1 to 99."""

    name, default_levels = "sums", ("3x99", "6x99")

    def draw(self, level: str, rng: Random) -> Problem:
        """Return one problem with its solution."""
        terms, largest = self.sizes[level]
        numbers = [rng.randint(1, largest) for _ in range(terms)]
        expression = "+".join(map(str, numbers))
        return Problem(
            id=expression, prompt=f"{expression}:", answer=running_sums(numbers), level=level
        )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return whether the number after the last = is the sum; the steps are not graded."""
        found = LAST.search(text.strip()[-12:])
        if found is None:
            return Verdict(None, False)
        answer = str(int(found[1]))
        return Verdict(answer, int(answer) == sum(map(int, problem.id.split("+"))))

    def wrong(self, problem: Problem, rng: Random) -> str:
        """Return a plausible wrong draft: one partial sum is wrong, and so are those after it."""
        numbers = [int(number) for number in problem.id.split("+")]
        slip = rng.randrange(1, len(numbers))
        error = rng.choice((-10, -1, 1, 10, 2, -2, 20, 100))
        total, steps = numbers[0], []
        for index, number in enumerate(numbers[1:], start=1):
            result = max(1, total + number + (error if index == slip else 0))
            steps.append(f"{total}+{number}={result}")
            total = result
        return ";".join(steps) if total != sum(numbers) else self.wrong(problem, rng)

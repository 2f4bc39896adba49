"""Countdown: reach a target from given numbers with + - * /, each used once, steps written out.

Prompt `3,7,12=33:`, solution `7*3=21;21+12=33`. Many answers are right; one verifier checks every
step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from scaling.records import Problem, Verdict
from scaling.tasks.base import ANSWER, GeneratedTask

Step = tuple[int, str, int, int]  #: left, operator, right, result
LONGEST_ANSWER = 400  #: characters
LARGEST_RESULT = 99  #: intermediate results of generated problems stay within two digits
STEP = re.compile(r"([0-9]{1,9})([-+*/])([0-9]{1,9})=([0-9]{1,9})")


def apply(left: int, op: str, right: int) -> int | None:
    """Return left op right, or None where it is negative or not a whole number."""
    if op == "+":
        return left + right
    if op == "-":
        return left - right if left >= right else None
    if op == "*":
        return left * right
    return left // right if right and left % right == 0 else None


def random_steps(numbers: Sequence[int], rng: Random) -> list[Step]:
    """Return random valid steps that use all the numbers."""
    pool, steps = list(numbers), list[Step]()
    while len(pool) > 1:
        rng.shuffle(pool)
        left, right = pool[0], pool[1]
        op = rng.choice("+-*/")
        if op in "+*" or left < right:
            left, right = max(left, right), min(left, right)
        result = apply(left, op, right)
        trivial = op in "*/" and right == 1
        if result is None or trivial or not 0 < result <= LARGEST_RESULT:
            continue
        steps.append((left, op, right, result))
        pool = [*pool[2:], result]
    return steps


def write(steps: Sequence[Step]) -> str:
    """Return steps as text."""
    return ";".join(f"{left}{op}{right}={result}" for left, op, right, result in steps)


def parse_problem(id: str) -> tuple[list[int], int]:
    """Return (numbers, target) of a problem's id."""
    given, _, target = id.partition("=")
    return [int(number) for number in given.split(",")], int(target)


def extract_answer(text: str) -> str:
    """Return the answer of a text: the attempt that a trace accepts, or the text after `>`.

    `!` accepts the steps that stand: those since the last restart (`x`), without steps taken back
    (`<`) and checks (`?...`). A direct answer is itself.
    """
    thinking, _, answer = text.rpartition(ANSWER)
    thinking = text if text.endswith("!") else thinking
    if not thinking.endswith("!"):
        return answer
    path: list[str] = []
    for part in re.split(r"(<)", re.split(r"[x|>]", thinking)[-1]):
        if part == "<":
            path = path[:-1]
        else:
            path += filter(None, part.partition("?")[0].rstrip("!").split(";"))
    return ";".join(path)


class Countdown(GeneratedTask):
    """Levels are NUMBERSxLARGEST: "3x20" gives three numbers of 1 to 20."""

    name, default_levels = "countdown", ("3x20", "4x20")

    def draw(self, level: str, rng: Random) -> Problem:
        """Return one problem with a known solution."""
        count, largest = self.sizes[level]
        numbers = sorted(rng.randint(1, largest) for _ in range(count))
        steps = random_steps(numbers, rng)
        prompt = f"{','.join(map(str, numbers))}={steps[-1][3]}:"
        return Problem(id=prompt[:-1], prompt=prompt, answer=write(steps), level=level)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return whether every step is true, uses available numbers, and the last is the target.

        Of a thinking trace only its answer counts, see `extract_answer`.
        """
        pool, target = parse_problem(problem.id)
        text = extract_answer(text)
        if len(text) >= LONGEST_ANSWER:
            return Verdict(None, False)
        text = text.strip()
        steps = [STEP.fullmatch(part) for part in text.split(";")]
        if None in steps:
            return Verdict(None, False)
        for step in filter(None, steps):
            left, right, result = int(step[1]), int(step[3]), int(step[4])
            for number in (left, right):
                if number not in pool:
                    return Verdict(text, False)
                pool.remove(number)
            if apply(left, step[2], right) != result:
                return Verdict(text, False)
            pool.append(result)
        return Verdict(text, pool == [target])

    def wrong(self, problem: Problem, rng: Random) -> str:
        """Return a plausible wrong draft: valid steps that miss the target, half claiming it."""
        numbers, target = parse_problem(problem.id)
        while (steps := random_steps(numbers, rng))[-1][3] == target:
            continue
        if rng.random() < 0.5:
            steps[-1] = (*steps[-1][:3], target)
        return write(steps)

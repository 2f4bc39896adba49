"""Countdown: reach a target from given numbers with + - * /, each used once, steps written out.

Prompt `3,7,12=33:`, solution `7*3=21;21+12=33`. Many answers are right; one verifier checks every
step.
"""

from __future__ import annotations

import re
from random import Random

from scaling.records import Problem, Verdict
from scaling.tasks import ANSWER, Drawn

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


def random_steps(numbers: list[int], rng: Random) -> list[tuple[int, str, int, int]]:
    """Return random valid steps (left, op, right, result) that use up all the numbers."""
    pool, steps = list(numbers), []
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


def write(steps: list[tuple[int, str, int, int]]) -> str:
    """Return steps as text."""
    return ";".join(f"{left}{op}{right}={result}" for left, op, right, result in steps)


def stated(text: str) -> str:
    """Return what a text answers: of a trace the attempt it is content with, or what follows `>`.

    Content (`!`) is with the steps that stand: since the last restart (`x`), less those taken back
    (`<`), checks (`?...`) left out. A direct answer is itself.
    """
    thinking, _, said = text.rpartition(ANSWER)
    thinking = text if text.endswith("!") else thinking
    if not thinking.endswith("!"):
        return said
    path: list[str] = []
    for part in re.split(r"(<)", re.split(r"[x|>]", thinking)[-1]):
        if part == "<":
            path = path[:-1]
        else:
            path += filter(None, part.partition("?")[0].rstrip("!").split(";"))
    return ";".join(path)


class Countdown(Drawn):
    """Levels are NUMBERSxLARGEST: "3x20" gives three numbers of 1 to 20."""

    name, usual = "countdown", ("3x20", "4x20")

    def draw(self, level: str, rng: Random) -> Problem:
        """Return one problem with a known solution."""
        count, largest = self.sizes[level]
        numbers = sorted(rng.randint(1, largest) for _ in range(count))
        steps = random_steps(numbers, rng)
        prompt = f"{','.join(map(str, numbers))}={steps[-1][3]}:"
        return Problem(id=prompt[:-1], prompt=prompt, answer=write(steps), level=level)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return whether every step is true, uses what is there, and the last gives the target.

        Of a thinking trace only its answer is read, see `stated`.
        """
        given, _, target = problem.id.partition("=")
        text = stated(text)
        if len(text) >= 400:
            return Verdict(None, False)
        parts = text.strip().split(";")
        steps = [match for part in parts if (match := STEP.fullmatch(part))]
        if len(steps) < len(parts):
            return Verdict(None, False)
        pool = [int(number) for number in given.split(",")]
        for step in steps:
            left, op, right, result = int(step[1]), step[2], int(step[3]), int(step[4])
            for number in (left, right):
                if number not in pool:
                    return Verdict(text.strip(), False)
                pool.remove(number)
            if apply(left, op, right) != result:
                return Verdict(text.strip(), False)
            pool.append(result)
        return Verdict(text.strip(), pool == [int(target)])

    def wrong(self, problem: Problem, rng: Random) -> str:
        """Return a plausible wrong draft: valid steps that miss the target, half claiming it."""
        given, _, target = problem.id.partition("=")
        while True:
            steps = random_steps([int(number) for number in given.split(",")], rng)
            if steps[-1][3] != int(target):
                break
        if rng.random() < 0.5:
            steps[-1] = (*steps[-1][:3], int(target))
        return write(steps)

"""Texts that no model should write, and verdicts on them by other means than the verifiers'.

    python -m tests.fuzz --inputs 100000

Half of the texts are right answers with a few changes, or true steps that lead elsewhere, so that
many are nearly right; the rest is noise: unicode digits, `9**9**9`, brackets, code, megabytes. The
checkers are written from the rules of the task, slowly, character by character, in exact fractions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from random import Random
from typing import Any

from scaling.records import Problem
from scaling.tasks import TASKS, get_task

DIGITS = "0123456789"
HOSTILE = (
    "", " ", "\n", "\x00", "=", "=" * 1000, ";" * 1_000_000, "9" * 1_000_000, "=" + "9" * 5000,
    "9**9**9", "=9**9**9", "(" * 5000 + "1" + ")" * 5000, "1e999", "=1e2", "=inf", "=nan", "=-0",
    "=+5", "= 5", "=５", "=٣", "=²", "=Ⅴ", "=5\u200b", "=5\n", "=5\r\n", "=05", "=1_0", "=0x1F",
    "__import__('os').system('false')", "exec('raise SystemExit')", "{0.__class__}", "%s%s%n",
    "<script>alert(1)</script>", "\\input{/etc/passwd}", "\ud800", "a" * 399, "1+1=2;" * 66,
    "|" * 9, ">", ">>", "<think>", "</think>",
)  # fmt: skip
PIECES = (*DIGITS, *"+-*/=;:,. ()\n\t>|~x", "==", "**", "=5", "٣", "²", "５", "\u00a0", "-1", "1e3")


def texts(task: Any, problem: Problem, rng: Random) -> Iterator[str]:
    """Yield texts without end, for a problem of a task."""
    while True:
        kind = rng.random()
        if kind < 0.02:
            yield rng.choice(HOSTILE)
        elif kind < 0.5:
            yield changed(problem.answer, rng)
        elif kind < 0.7:
            yield changed(task.wrong(problem, rng), rng)
        elif kind < 0.8:
            yield (
                rng.choice((" ", "\n", "~", ">", "12;"))
                + problem.answer
                + rng.choice((" ", ";", "\n"))
            )
        elif kind < 0.9:
            yield "".join(chr(rng.randrange(1, 0xD800)) for _ in range(rng.randrange(30)))
        else:
            yield "".join(rng.choices(PIECES, k=rng.randrange(40)))


def changed(text: str, rng: Random) -> str:
    """Return a text with zero to three small changes."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        change = rng.randrange(5)
        if change == 0:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif change == 1:
            text = text[:at] + rng.choice(PIECES) + text[at + 1 :]
        elif change == 2:
            text = text[:at] + text[at + 1 :]
        elif change == 3:
            text = ";".join(rng.sample(text.split(";"), len(text.split(";"))))
        else:
            text = text[:to] + text[at:]
    return text


# ---------------------------------------------------------------- verdicts by other means
def number(text: str) -> Fraction | None:
    """Return a number of one to nine plain digits, else None."""
    if not 1 <= len(text) <= 9 or any(character not in DIGITS for character in text):
        return None
    value = Fraction(0)
    for character in text:
        value = value * 10 + DIGITS.index(character)
    return value


def sums_is_right(problem: Problem, text: str) -> bool:
    """Return whether the text ends in = and the sum of the problem's numbers."""
    _, found, tail = text.strip().rpartition("=")
    total = sum((Fraction(part) for part in problem.id.split("+")), Fraction(0))
    return bool(found) and number(tail) == total


def countdown_is_right(problem: Problem, text: str) -> bool:
    """Return whether every step is true and uses what is there, and the target alone is left."""
    numbers, target = problem.id.split("=")
    left = [Fraction(part) for part in numbers.split(",")]
    if len(text[text.rfind(">") + 1 :]) >= 400:
        return False
    for step in text[text.rfind(">") + 1 :].strip().split(";"):
        parts = step.split("=")
        if len(parts) != 2:
            return False
        places = [place for place, character in enumerate(parts[0]) if character in "+-*/"]
        if len(places) != 1:
            return False
        a, sign, b = parts[0][: places[0]], parts[0][places[0]], parts[0][places[0] + 1 :]
        first, second, result = number(a), number(b), number(parts[1])
        if first is None or second is None or result is None or (sign == "/" and second == 0):
            return False
        for used in (first, second):
            if used not in left:
                return False
            left.remove(used)
        true = {"+": first + second, "-": first - second, "*": first * second}
        if (true | ({"/": first / second} if sign == "/" else {}))[sign] != result:
            return False
        left.append(result)
    return left == [Fraction(target)]


RIGHT: dict[str, Callable[[Problem, str], bool]] = {
    "countdown": countdown_is_right,
    "sums": sums_is_right,
}


def attack(name: str, inputs: int, seed: int = 0) -> dict[str, Any]:
    """Return counts of a verifier's verdicts, those that the checker denies, the longest time."""
    task, rng, seen, slowest = get_task(name), Random(f"{name} {seed}"), Counter[str](), 0.0
    problems = task.problems(50, seed=seed)
    streams = [texts(task, problem, rng) for problem in problems]
    for turn in range(inputs):
        problem = problems[turn % len(problems)]
        hostile = turn < len(HOSTILE)
        text = HOSTILE[turn] if hostile else next(streams[turn % len(streams)])
        began = time.process_time()
        verdict = task.verify(problem, text)
        slowest = max(slowest, time.process_time() - began)
        seen["correct"] += verdict.correct
        seen["no answer"] += verdict.answer is None
        right = RIGHT[name](problem, text)
        if verdict.correct != right or (verdict.answer is None and verdict.correct):
            print(f"{problem.id}: {text[:200]!r} is {right}, not {verdict}", file=sys.stderr)
            seen["wrong verdicts"] += 1
    kept = {name: seen[name] for name in ("correct", "no answer", "wrong verdicts")}
    return {"inputs": inputs} | kept | {"slowest (s)": round(slowest, 4)}


def main() -> None:
    """Attack every verifier and note the counts for docs/trust.md."""
    from tests.trust import note

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    options = parser.parse_args()
    found = {name: attack(name, options.inputs) for name in RIGHT if name in TASKS}
    print(found)
    note("fuzz", " ".join(["python -m tests.fuzz", *sys.argv[1:]]), found)


if __name__ == "__main__":
    main()

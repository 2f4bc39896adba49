"""Thinking traces on Countdown: written by searches of varied quality, and analysed as behaviour.

`7+3=10;12+10=22<12*10=120x7*3=21;21+12=33?33-33=0!>7*3=21;21+12=33` tries 7+3 first, goes back one
step (`<`), then to the beginning (`x`), checks a result against the target (`?33-33=0`), accepts it
(`!`) and answers (`>`). The task verifies the answer alone (`countdown.extract_answer`). `|` after
an answer asks to continue. No torch here and no model: `thinking` samples, `reinforce` trains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from scaling.records import Plan, Problem
from scaling.tasks.base import ANSWER, WAIT, content_split, stream
from scaling.tasks.countdown import (
    LARGEST_RESULT,
    STEP,
    Countdown,
    Step,
    apply,
    parse_problem,
    write,
)

BACK, RESTART, CHECK, ACCEPT = "<", "x", "?", "!"
CUT, CONTINUED = 0.3, 0.15  #: shares of examples that are cut, or continued after an answer
TOKEN = re.compile(r"\?(?:[0-9]+-[0-9]+=[0-9]+)?|[0-9]+[-+*/][0-9]+=[0-9]+|[<x!>|]")


@dataclass(frozen=True)
class Searcher:
    """A way of searching; the traces to imitate mix all ways, most of them poor."""

    depth_first: bool  #: after a miss, go back one step; else restart
    memory: bool  #: never try the same attempt twice
    checks: bool  #: subtract each result from the target, in writing
    intuition: float  #: how often an attempt from the beginning is a known solution
    slips: float  #: how often a result is misjudged
    patience: int  #: attempts before it answers with what it has

    @classmethod
    def draw(cls, rng: Random) -> Searcher:
        """Return a random searcher."""
        return cls(
            depth_first=rng.random() < 0.5,
            memory=rng.random() < 0.5,
            checks=rng.random() < 0.8,
            intuition=rng.choice((0.0, 0.0, 0.1)),
            slips=rng.choice((0.0, 0.0, 0.1)),
            patience=rng.choice((1, 1, 1, 2, 2, 3, 4, 6, 10, 20)),
        )


def possible_steps(pool: Sequence[int]) -> list[Step]:
    """Return every allowed step on a pool of numbers that changes something."""
    found = set()
    for small, large in combinations(sorted(pool), 2):
        for op in "+-*/":
            result = apply(large, op, small)
            trivial = op in "*/" and small == 1
            if result is not None and 0 < result <= LARGEST_RESULT and not trivial:
                found.add((large, op, small, result))
    return sorted(found)


def pool_after(numbers: Sequence[int], path: Sequence[Step]) -> list[int]:
    """Return the numbers that are left after some steps."""
    pool = list(numbers)
    for left, _, right, result in path:
        pool.remove(left)
        pool.remove(right)
        pool.append(result)
    return pool


def write_check(result: int, target: int) -> str:
    """Return the written comparison of a result with the target, e.g. `?33-22=11`.

    Models of this size subtract well, but did not learn to compare two numbers directly.
    """
    large, small = max(result, target), min(result, target)
    return f"{CHECK}{large}-{small}={large - small}"


def write_trace(problem: Problem, searcher: Searcher, rng: Random) -> str:
    """Return a complete trace with its answer."""
    numbers, target = parse_problem(problem.id)
    text, tried = "", set[tuple[Step, ...]]()
    path: list[Step] = []
    at_start = True
    for attempt in range(searcher.patience):
        start = len(path)
        if at_start and rng.random() < searcher.intuition:
            path = [(int(a), op, int(b), int(c)) for a, op, b, c in STEP.findall(problem.answer)]
        else:
            path = _complete(numbers, path, tried, searcher, rng)
        tried.add(tuple(path))
        text += write(path[start:])
        right = path[-1][3] == target and len(path) == len(numbers) - 1
        accepted = right != (rng.random() < searcher.slips)
        text += write_check(path[-1][3], target) * searcher.checks + ACCEPT * accepted
        if accepted or attempt + 1 == searcher.patience:
            break
        kept = _go_back(numbers, path, tried) if searcher.depth_first else []
        text += BACK * (len(path) - len(kept)) if kept else RESTART
        path, at_start = kept, not kept
    return text + ANSWER + write(path)


def _complete(
    numbers: Sequence[int], path: list[Step], tried: set, searcher: Searcher, rng: Random
) -> list[Step]:
    """Return `path` continued to a single number, or until no step is possible."""
    for _ in range(20):  # a searcher with a memory looks for a new attempt
        found = list(path)
        while choice := possible_steps(pool_after(numbers, found)):
            found.append(rng.choice(choice))
        if len(found) > len(path) and not (searcher.memory and tuple(found) in tried):
            break
    return found


def _go_back(numbers: Sequence[int], path: list[Step], tried: set) -> list[Step]:
    """Return the longest beginning of `path` with a step that was not tried; [] for none."""
    for keep in range(len(path) - 1, 0, -1):
        done = {
            attempt[keep]
            for attempt in tried
            if list(attempt[:keep]) == path[:keep] != list(attempt)
        }
        if set(possible_steps(pool_after(numbers, path[:keep]))) - done:
            return path[:keep]
    return []


def examples(seed: int, levels: tuple[str, ...] = ("3x20",)) -> Iterator[tuple[str, str]]:
    """Yield (context, continuation) pairs of the train split without end.

    The continuation is a complete trace; or a right answer after a trace that was cut; or another
    trace after one that is followed by `|`.
    """
    rng, task = stream("thinking", seed), Countdown(levels)
    while True:
        problem = task.draw(rng.choice(levels), rng)
        if content_split(problem.id) != "train":
            continue
        trace = write_trace(problem, Searcher.draw(rng), rng)
        kind = rng.random()
        if kind < CUT:
            thinking = trace.partition(ANSWER)[0]
            cut = thinking[: rng.randint(0, len(thinking))]
            yield problem.prompt + cut + ANSWER, problem.answer
        elif kind < CUT + CONTINUED:
            more = write_trace(problem, Searcher.draw(rng), rng)
            yield problem.prompt + trace + WAIT, more
        else:
            yield problem.prompt, trace


def behaviour(problem_id: str, text: str) -> dict[str, int]:
    """Return counts of a trace's actions in its thinking.

    attempts: judged results other than the first step's; switches: attempts with another first step
    than the one before; backtracks: `<`; restarts: `x`; repeats: attempts made before; checks:
    results compared with the target in writing; false_claims: wrong results that are accepted.
    """
    target = parse_problem(problem_id)[1]
    names = ("attempts", "switches", "backtracks", "restarts", "repeats", "checks", "false_claims")
    count, is_open = dict.fromkeys(names, 0), False
    path: list[str] = []
    made: list[tuple[str, ...]] = []
    for token in TOKEN.findall(re.sub(f"{ANSWER}[^{WAIT}]*", ANSWER, text)):
        if token[0].isdigit():
            path.append(token)
            is_open = True
            continue
        if is_open:  # a mark after steps ends an attempt
            count["attempts"] += 1
            count["switches"] += bool(made) and made[-1][0] != path[0]
            count["repeats"] += tuple(path) in made
            made.append(tuple(path))
            is_open = False
        count["backtracks"] += token == BACK
        count["restarts"] += token == RESTART
        count["checks"] += token[0] == CHECK
        wrong = bool(path) and not path[-1].endswith(f"={target}")
        count["false_claims"] += token == ACCEPT and wrong
        if token == BACK:
            path = path[:-1]
        elif token[0] not in (CHECK, ACCEPT):
            path = []
    return count


def thinking_budgets(plan: Plan) -> list[int]:
    """Return the thinking tokens of each step: 0, then doubling up to `max_new_tokens`.

    Errors: ValueError where so many halvings leave less than one token.
    """
    if plan.steps < 2 or plan.max_new_tokens >> (plan.steps - 2) < 1:
        most = plan.max_new_tokens.bit_length() + 1
        raise ValueError(
            f"{plan.steps} steps of thinking within {plan.max_new_tokens} tokens: each step halves "
            f"the budget, give 2 to {most} steps"
        )
    return [0] + [plan.max_new_tokens >> (plan.steps - 1 - i) for i in range(1, plan.steps)]

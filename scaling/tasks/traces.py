"""Thinking traces on Countdown: written in search of varied quality, and read back as behaviour.

`7+3=10;12+10=22<12*10=120x7*3=21;21+12=33?33-33=0!>7*3=21;21+12=33` tries 7+3 first, goes back one
step (`<`), then to the beginning (`x`), checks a result against the target (`?33-33=0`: what is
missing), is content (`!`) and answers (`>`). Only the answer is verified, by the task: the attempt
a trace is content with, or else what follows its last `>`. `|` after an answer says "wait". No
torch here and no model: `thinking` samples, `reinforce` trains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from scaling.records import Plan, Problem
from scaling.tasks import ANSWER, WAIT, content_split, get_task, stream
from scaling.tasks.countdown import LARGEST_RESULT, apply, write

BACK, AGAIN, CHECK, CONTENT = "<", "x", "?", "!"
FORCED, WAITED = 0.3, 0.15  #: shares of examples that are cut and asked, and that are told to wait
TOKEN = re.compile(r"\?(?:[0-9]+-[0-9]+=[0-9]+)?|[0-9]+[-+*/][0-9]+=[0-9]+|[<x!>|]")
Step = tuple[int, str, int, int]


@dataclass(frozen=True)
class Searcher:
    """How one trace searches; the traces to imitate mix all kinds, most of them poor."""

    depth_first: bool  #: after a miss, go back one step; else begin again
    memory: bool  #: never try the same attempt twice
    checks: bool  #: subtract each result from the target, in writing
    intuition: float  #: how often a fresh attempt is a known solution
    slips: float  #: how often a result is misjudged
    patience: int  #: attempts before it answers whatever it has

    @classmethod
    def draw(cls, rng: Random) -> Searcher:
        """Return a searcher of random habits."""
        return cls(
            depth_first=rng.random() < 0.5,
            memory=rng.random() < 0.5,
            checks=rng.random() < 0.8,
            intuition=rng.choice((0.0, 0.0, 0.1)),
            slips=rng.choice((0.0, 0.0, 0.1)),
            patience=rng.choice((1, 1, 1, 2, 2, 3, 4, 6, 10, 20)),
        )


def moves(pool: Sequence[int]) -> list[Step]:
    """Return every step that a pool of numbers allows and that changes something."""
    found = set()
    for pair in combinations(sorted(pool), 2):
        small, large = pair
        for op in "+-*/":
            result = apply(large, op, small)
            trivial = op in "*/" and small == 1
            if result is not None and 0 < result <= LARGEST_RESULT and not trivial:
                found.add((large, op, small, result))
    return sorted(found)


def after(pool: Sequence[int], step: Step) -> list[int]:
    """Return the pool once a step has used two of its numbers."""
    left = list(pool)
    left.remove(step[0])
    left.remove(step[2])
    return [*left, step[3]]


def check(result: int, target: int) -> str:
    """Return a result compared with the target in writing, e.g. `?33-22=11`.

    Models of this size subtract well, but never learnt to compare two numbers side by side.
    """
    large, small = max(result, target), min(result, target)
    return f"{CHECK}{large}-{small}={large - small}"


def write_trace(problem: Problem, searcher: Searcher, rng: Random) -> str:
    """Return a whole trace, its answer included."""
    numbers, target = _given(problem)
    known = _steps(problem.answer)
    text, tried = "", set[tuple[Step, ...]]()
    path: list[Step] = []
    fresh = True  # the present attempt begins at the beginning
    for attempt in range(searcher.patience):
        guided = fresh and rng.random() < searcher.intuition
        start = len(path)
        path = known[:] if guided else _complete(numbers, path, tried, searcher, rng)
        tried.add(tuple(path))
        text += write(path[start:])
        right = path[-1][3] == target and len(path) == len(numbers) - 1
        content = right != (rng.random() < searcher.slips)
        text += check(path[-1][3], target) * searcher.checks + CONTENT * content
        if content or attempt + 1 == searcher.patience:
            break
        path, fresh, mark = _go_back(numbers, path, tried, searcher)
        text += mark
    return text + ANSWER + write(path)


def _complete(
    numbers: Sequence[int], path: list[Step], tried: set, searcher: Searcher, rng: Random
) -> list[Step]:
    """Return `path` continued to one number (or to where nothing is left to do)."""
    for _ in range(20):  # a searcher with a memory looks for an attempt it has not made
        now, pool = list(path), _pool(numbers, path)
        while choice := moves(pool):
            now.append(rng.choice(choice))
            pool = after(pool, now[-1])
        if len(now) > len(path) and not (searcher.memory and tuple(now) in tried):
            break
    return now


def _go_back(numbers: Sequence[int], path: list[Step], tried: set, searcher: Searcher):
    """Return (path to continue from, whether that is the beginning, what is written)."""
    keep = len(path) - 1
    while searcher.depth_first and keep > 0:
        done = {
            attempt[keep]
            for attempt in tried
            if list(attempt[:keep]) == path[:keep] != list(attempt)
        }
        if set(moves(_pool(numbers, path[:keep]))) - done:
            return path[:keep], False, BACK * (len(path) - keep)
        keep -= 1
    return [], True, AGAIN


def _pool(numbers: Sequence[int], path: Sequence[Step]) -> list[int]:
    pool = list(numbers)
    for step in path:
        pool = after(pool, step)
    return pool


def _given(problem: Problem) -> tuple[list[int], int]:
    given, _, target = problem.id.partition("=")
    return [int(number) for number in given.split(",")], int(target)


def _steps(text: str) -> list[Step]:
    found = re.findall(r"([0-9]+)([-+*/])([0-9]+)=([0-9]+)", text)
    return [(int(a), op, int(b), int(c)) for a, op, b, c in found]


def examples(seed: int, levels: tuple[str, ...] = ("3x20",)) -> Iterator[tuple[str, str]]:
    """Yield (context, what is to be written) of the train split without end.

    A whole trace; or one cut anywhere and asked for its answer, which is a right one; or one told
    to wait, with another after it.
    """
    rng, task = stream("thinking", seed), get_task("countdown", levels)
    while True:
        problem = task.draw(rng.choice(levels), rng)
        if content_split(problem.id) != "train":
            continue
        trace = write_trace(problem, Searcher.draw(rng), rng)
        kind = rng.random()
        if kind < FORCED:
            thinking = trace.partition(ANSWER)[0]
            cut = thinking[: rng.randint(0, len(thinking))]
            yield problem.prompt + cut + ANSWER, problem.answer
        elif kind < FORCED + WAITED:
            more = write_trace(problem, Searcher.draw(rng), rng)
            yield problem.prompt + trace + WAIT, more
        else:
            yield problem.prompt, trace


def behaviour(problem_id: str, text: str) -> dict[str, int]:
    """Return how often a trace does what: counts over its thinking, the answer left out.

    attempts: judged results that are not the first step's; switches: attempts with another first
    step than the one before; backtracks: `<`; restarts: `x`; repeats: attempts made before; checks:
    results compared with the target in writing; false_claims: content with a wrong result.
    """
    target = problem_id.partition("=")[2]
    names = ("attempts", "switches", "backtracks", "restarts", "repeats", "checks", "false_claims")
    count, open_ = dict.fromkeys(names, 0), False
    path: list[str] = []
    made: list[tuple[str, ...]] = []
    for token in TOKEN.findall(re.sub(f"{ANSWER}[^{WAIT}]*", ANSWER, text)):
        if token[0].isdigit():
            path.append(token)
            open_ = True
            continue
        if open_:  # a mark after steps ends an attempt
            count["attempts"] += 1
            count["switches"] += bool(made) and made[-1][0] != path[0]
            count["repeats"] += tuple(path) in made
            made.append(tuple(path))
            open_ = False
        count["backtracks"] += token == BACK
        count["restarts"] += token == AGAIN
        count["checks"] += token[0] == CHECK
        count["false_claims"] += (
            token == CONTENT and bool(path) and not path[-1].endswith(f"={target}")
        )
        if token == BACK:
            path = path[:-1]
        elif token[0] != CHECK and token != CONTENT:
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

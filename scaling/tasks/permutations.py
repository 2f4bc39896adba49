"""Permutations: follow five things through a numbered list of swaps.

Prompt `21345:3nb3oa3pE:`: the order at the start, then the swaps, each after its number. `a` swaps
the first two places, `b` the first and the third, and so on (`SWAPS`); the last swap is a capital.
Thinking copies one swap after another and writes the order that it leads to:
`3nb312453oa132453pE12345`. The answer follows `>`: the last order, `12345`. There is one right
answer.

To compose permutations of five things is complete for NC1 (Barrington 1989, JCSS 38, 150-164), and
a transformer of fixed depth computes within TC0 (Merrill & Sabharwal 2023, arXiv:2207.00729). If
the two classes differ, as is believed, no fixed depth answers long lists at once, while one short
step of thinking per swap is enough (Li et al. 2024, arXiv:2402.12875). So thinking buys here what
neither training nor more samples buy. The numbers make it easy to find the next swap: without
them, models of this size lose their place in long lists. They begin anywhere, so that short lists
have every number too. The capital tells where to stop: without it, half of the traces of 16 swaps
and more stop early or go on.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import combinations, cycle, islice
from random import Random

from scaling.records import Problem, Verdict
from scaling.tasks.base import ANSWER, GeneratedTask, stream

THINGS = "12345"
SWAPS = dict(zip("abcdefghij", combinations(range(5), 2), strict=True))  #: letter -> two places
NUMBERS = [digit + letter for digit in "0123456789" for letter in "klmnopqrstuvw"]  #: 0k, 0l, ...
STEP_TOKENS = 8  #: characters of one step of thinking: number, swap and order
CUT = 0.35  #: share of examples whose thinking is cut after a random step


def parse_level(level: str) -> tuple[int, int]:
    """Return the smallest and the largest number of swaps of a level: "8", or a range "4-128"."""
    low, _, high = level.partition("-")
    ends = [int(end) if end.isdecimal() else 0 for end in (low, high or low)]
    if not 1 <= ends[0] <= ends[1] <= len(NUMBERS) or level.endswith("-"):
        raise ValueError(
            f"level is {level!r}; give the number of swaps, 1 to {len(NUMBERS)}, e.g. 8, or a "
            "range, e.g. 4-128"
        )
    return ends[0], ends[1]


def swap(order: str, letter: str) -> str:
    """Return the order after one swap.

    >>> swap("21345", "b")
    '31245'
    """
    first, second = SWAPS[letter.lower()]
    places = list(order)
    places[first], places[second] = places[second], places[first]
    return "".join(places)


def numbered(problem_id: str) -> list[str]:
    """Return the swaps of a problem, each after its number; the last one is a capital.

    The content decides the first number.

    >>> numbered("21345:bae")
    ['3nb', '3oa', '3pE']
    """
    first = stream("numbers", problem_id).randrange(len(NUMBERS))
    numbers = islice(cycle(NUMBERS), first, None)
    letters = problem_id[6:-1] + problem_id[-1].upper()
    return [number + letter for number, letter in zip(numbers, letters, strict=False)]


def write_steps(problem_id: str) -> list[str]:
    """Return the steps of thinking, one per swap: its number, the swap, the order after it.

    >>> write_steps("21345:bae")
    ['3nb31245', '3oa13245', '3pE12345']
    """
    order, steps = problem_id[:5], []
    for numbered_swap in numbered(problem_id):
        order = swap(order, numbered_swap[-1])
        steps.append(numbered_swap + order)
    return steps


class Permutations(GeneratedTask):
    """Levels are the number of swaps, or a range of it, whose logarithm is drawn evenly.

    Its examples think: two thirds to the end; the others are cut after a random step, so that a
    model learns to answer whenever it is asked to.
    """

    name, family = "permutations", "permutations"
    default_levels = ("2", "4", "8", "16", "32", "64", "128")
    mark = ":"  #: ends the prompt
    parse_level = staticmethod(parse_level)

    def draw(self, level: str, rng: Random) -> Problem:
        """Return one problem; its id holds the first order and the letters of the swaps."""
        low, high = self.sizes[level]
        count = int(low * ((high + 1) / low) ** rng.random())
        word = "".join(rng.choices("".join(SWAPS), k=count))
        start = "".join(rng.sample(THINGS, len(THINGS)))
        content = f"{start}:{word}"
        prompt = f"{start}:{''.join(numbered(content))}{self.mark}"
        return Problem(content, prompt, write_steps(content)[-1][-len(THINGS) :], level)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return whether the order after the last `>` is right; the thinking is not graded."""
        answer = text.rpartition(ANSWER)[2].strip()
        if len(answer) != len(THINGS) or set(answer) != set(THINGS):
            return Verdict(None, False)
        return Verdict(answer, answer == problem.answer)

    def wrong(self, problem: Problem, rng: Random) -> str:
        """Return the order that leaving out one swap leads to; its parity is wrong."""
        order, _, word = problem.id.partition(":")
        left_out = rng.randrange(len(word))
        for letter in word[:left_out] + word[left_out + 1 :]:
            order = swap(order, letter)
        return order

    def example(self, problem: Problem, rng: Random) -> tuple[str, str]:
        """Return (context, continuation) to learn from: whole thinking, or an answer after some."""
        steps, answer = write_steps(problem.id), ANSWER + problem.answer
        if rng.random() < CUT:
            some = "".join(steps[: rng.randint(0, len(steps))])
            return problem.prompt + some + ANSWER, problem.answer
        return problem.prompt, "".join(steps) + answer


class PermutationsDirect(Permutations):
    """The same problems, whose prompts ask for the answer at once."""

    name, mark = "permutations-direct", ":" + ANSWER

    def example(self, problem: Problem, rng: Random) -> tuple[str, str]:
        """Return the prompt and the answer."""
        return problem.prompt, problem.answer


# -- known facts -----------------------------------------------------------------------------------


@cache
def floor_of_guessing(swaps: int) -> float:
    """Return the accuracy of the best guess that knows the first order, but not the swaps.

    The parity of the number of swaps leaves 60 of the 120 orders, and after eight swaps all of
    these are about equally likely: 1/60. Without swaps the first order is the answer.
    """
    return max(chances_after(swaps).values())


@cache
def chances_after(swaps: int) -> dict[str, float]:
    """Return {order: chance} after some random swaps of `THINGS`."""
    chances = {THINGS: 1.0}
    for _ in range(swaps):
        after: dict[str, float] = defaultdict(float)
        for order, chance in chances.items():
            for letter in SWAPS:
                after[swap(order, letter)] += chance / len(SWAPS)
        chances = after
    return chances


def accuracy_of_thinking(swaps: int, steps: int, reach: int) -> float:
    """Return the accuracy of thinking without errors that must answer after some steps.

    reach: swaps beyond the last step that the answer takes into account; the rest is a guess. Over
    lengths whose logarithm is even, it is a straight line in the logarithm of the steps.
    """
    return floor_of_guessing(max(0, swaps - steps - reach))

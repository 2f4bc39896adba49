"""Verifiers are exact, problems are pure functions of their seed, train and test never meet."""

from __future__ import annotations

from itertools import permutations, product
from random import Random
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.records import Problem, Verdict
from scaling.tasks import TASKS, content_split, draw_problems, get_task
from scaling.tasks.countdown import Countdown, apply


@pytest.mark.parametrize("name", TASKS)
def test_every_reference_answer_is_right_and_every_planted_wrong_draft_is_wrong(name):
    task, rng = get_task(name), Random(0)
    for problem in task.problems(200):
        assert task.verify(problem, problem.answer).correct
        assert not task.verify(problem, task.wrong(problem, rng)).correct


@pytest.mark.parametrize("name", TASKS)
def test_train_and_test_share_no_content_whatever_the_seeds(name):
    task = get_task(name)
    train = {p.id for seed in range(5) for p in task.problems(300, "train", seed)}
    test = {p.id for seed in range(5) for p in task.problems(300, "test", seed)}
    assert not train & test
    assert all(content_split(item) == "train" for item in train)


def test_the_order_of_the_numbers_does_not_move_a_problem_to_the_other_split():
    for numbers in product(range(1, 40, 7), repeat=3):
        sides = {content_split("+".join(map(str, order))) for order in permutations(numbers)}
        assert len(sides) == 1


@pytest.mark.parametrize("name", TASKS)
def test_neighbouring_seeds_share_few_problems(name):
    task = get_task(name)
    first, second = ({p.id for p in task.problems(100, seed=seed)} for seed in (42, 43))
    assert len(first & second) < 10


def test_levels_get_equal_shares_and_ids_are_distinct():
    problems = get_task("sums", ["2x99", "5x99"]).problems(50)
    assert len({p.id for p in problems}) == 50
    assert [sum(p.level == level for p in problems) for level in ("2x99", "5x99")] == [25, 25]


PROBLEM = Problem("3,7,12=33", "3,7,12=33:", "7*3=21;21+12=33", "3x20")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "33",
        "7*3=21",  # the 12 is left over
        "7*3=22;22+12=34",  # false arithmetic
        "7*3=21;21+12=34",  # false last step
        "7*3=21;21+21=42",  # a number used twice
        "12+12=24;24+9=33",  # numbers that are not given
        "7*3=21;21+12=33;",  # an empty step
        "7*3=21;21+12=33 ok",
        "12*7=84;84/3=28",  # true, but not the target
        "٧*3=21;21+12=33",  # a digit of another script
        "9" * 500,
    ],
)
def test_countdown_refuses(text):
    assert not Countdown().verify(PROBLEM, text).correct


@pytest.mark.parametrize(
    ("step", "result"),
    [("7+3", 10), ("7-7", 0), ("3-4", None), ("6*7", 42), ("8/4", 2), ("7/2", None), ("7/0", None)],
)
def test_a_step_stays_whole_and_does_not_fall_below_nothing(step, result):
    assert apply(int(step[0]), step[1], int(step[2])) == result


def test_countdown_accepts_any_right_order_of_steps():
    assert Countdown().verify(PROBLEM, "3*7=21;12+21=33").correct


def solvable(numbers: tuple[int, ...], target: int) -> bool:
    """Return by brute force whether some use of all the numbers reaches the target."""
    if len(numbers) == 1:
        return numbers[0] == target
    for i, j in permutations(range(len(numbers)), 2):
        rest = tuple(n for at, n in enumerate(numbers) if at not in (i, j))
        results = (apply(numbers[i], op, numbers[j]) for op in "+-*/")
        if any(solvable((*rest, r), target) for r in results if r is not None):
            return True
    return False


def test_brute_force_agrees_that_problems_can_be_solved():
    for problem in Countdown().problems(30):
        numbers, _, target = problem.id.partition("=")
        assert solvable(tuple(map(int, numbers.split(","))), int(target))


@given(st.text(max_size=60) | st.text("0123456789+-*/=;", max_size=40))
def test_verifiers_never_raise_and_never_call_noise_correct(text):
    assert not Countdown().verify(PROBLEM, text).correct or "=33" in text
    sums = get_task("sums")
    verdict = sums.verify(Problem("12+45", "12+45:", "12+45=57", "2x99"), text)
    assert verdict.correct == (verdict.answer == "57")


def test_an_unanswered_sum_has_no_answer_and_leading_zeros_do_not_split_votes():
    problem = Problem("12+45", "12+45:", "12+45=57", "2x99")
    sums = get_task("sums")
    assert sums.verify(problem, "12+45") == Verdict(None, False)
    assert sums.verify(problem, "12+45=057") == Verdict("57", True)


def test_a_new_task_is_one_small_class(monkeypatch):
    class Doubles:
        name: ClassVar = "doubles"

        def __init__(self, levels=("1",)):
            self.levels = levels

        def problems(self, n, split="test", seed=0):
            return draw_problems(self, n, split, seed, self.draw)

        def draw(self, level, rng):
            number = rng.randrange(10**6)
            return Problem(str(number), f"{number}*2=", str(2 * number), level)

        def prompt(self, problem):
            return problem.prompt

        def verify(self, problem, text):
            return Verdict(text.strip() or None, text.strip() == problem.answer)

    monkeypatch.setitem(TASKS, "doubles", Doubles)
    task = get_task("doubles")
    problem = task.problems(3)[0]
    assert task.verify(problem, problem.answer).correct


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: get_task("sums", ["1x9"]), "level is '1x9'; give TERMSxLARGEST, e.g. 4x20$"),
        (lambda: get_task("sums", ["2x1"]), "level is '2x1'; give TERMSxLARGEST, e.g. 4x20$"),
        (
            lambda: get_task("sums").problems(3, "dev"),
            "^3 problems of split 'dev': give at least 1 of 'train' or 'test'$",
        ),
        (
            lambda: get_task("countdown", ["2x2"]).problems(9, "train"),
            "^countdown 2x2 has too few distinct problems for 9 of split 'train'; found 5: ask for "
            "fewer, or a larger level$",
        ),
        (lambda: get_task("countdwon"), "did you mean 'countdown'"),
        (lambda: get_task("sums", ["three"]), "TERMSxLARGEST"),
        (lambda: get_task("sums").problems(0), "at least 1"),
        (lambda: get_task("countdown", ["2x2"]).problems(50), "too few distinct problems"),
    ],
)
def test_bad_input_is_one_clear_line(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)

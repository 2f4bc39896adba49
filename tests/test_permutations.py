"""Permutations: exact verdicts, right traces, known chances, and lengths that fit the models."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from operator import attrgetter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from scaling.engine import Engine
from scaling.ladder import LADDERS, Recipe, Trainer
from scaling.methods import draw
from scaling.methods.thinking import ANSWER_TOKENS
from scaling.models import ALPHABET, CONTEXT, load_lm
from scaling.records import Plan
from scaling.tasks import ANSWER, content_split, get_task
from scaling.tasks.permutations import (
    NUMBERS,
    STEP_TOKENS,
    SWAPS,
    THINGS,
    accuracy_of_thinking,
    chances_after,
    floor_of_guessing,
    swap,
    write_steps,
)

SHIPPED = Path(__file__).parents[1] / "data" / "models" / "permutations" / "0.11M" / "2e13"
step_of = attrgetter("step")
ORDERS = ["".join(order) for order in permutations(THINGS)]


def final_order(prompt: str) -> str:
    """Return the last order of a prompt, by moving things one by one."""
    start, listed = prompt.split(":")[:2]
    things = list(start)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    for letter in listed[2::3]:
        i, j = pairs["abcdefghij".index(letter.lower())]
        things[i], things[j] = things[j], things[i]
    return "".join(things)


def test_the_answer_is_the_order_that_the_prompt_leads_to():
    for problem in get_task("permutations", ["1", "2-128", "130"]).problems(300):
        assert problem.answer == final_order(problem.prompt)


def test_a_swap_twice_changes_nothing_and_all_orders_can_be_reached():
    assert all(swap(swap(order, letter), letter) == order for order in ORDERS for letter in SWAPS)
    reached = {"12345"}
    for _ in range(4):  # any permutation of five is a product of at most four swaps
        reached |= {swap(order, letter) for order in reached for letter in SWAPS}
    assert reached == set(ORDERS)


def test_of_all_orders_only_one_is_right_and_texts_that_are_no_order_have_no_answer():
    task = get_task("permutations", ["5", "40"])
    for problem in task.problems(20):
        verdicts = [task.verify(problem, order) for order in ORDERS]
        assert [v.answer for v in verdicts] == ORDERS
        assert [v.answer for v in verdicts if v.correct] == [problem.answer]
        thinking = "".join(write_steps(problem.id))
        assert task.verify(problem, thinking + ANSWER + problem.answer).correct
        for text in (thinking, thinking + ANSWER, "11345", "123456", "1234", "١2345", "1,2345"):
            assert task.verify(problem, text).answer is None


def test_only_the_text_after_the_last_mark_is_graded():
    task = get_task("permutations", ["3"])
    problem = task.problems(1)[0]
    wrong = task.wrong(problem, Random(0))
    assert task.verify(problem, wrong + ANSWER + problem.answer).correct
    assert not task.verify(problem, problem.answer + ANSWER + wrong).correct


def test_thinking_copies_every_swap_with_its_number_and_applies_it():
    for problem in get_task("permutations", ["1-128"]).problems(100):
        start, listed = problem.prompt.split(":")[:2]
        steps = write_steps(problem.id)
        assert all(len(step) == STEP_TOKENS for step in steps)
        assert "".join(step[:3] for step in steps) == listed
        assert [step[2].isupper() for step in steps] == [False] * (len(steps) - 1) + [True]
        for before, step in zip([start, *(s[3:] for s in steps)], steps, strict=False):
            assert step[3:] == swap(before, step[2])


def test_examples_end_thinking_or_answer_after_whole_steps_of_it():
    task, rng = get_task("permutations", ["12"]), Random(0)
    cut_after = []
    for problem in task.problems(600, "train"):
        context, continuation = task.example(problem, rng)
        whole = "".join(write_steps(problem.id)) + ANSWER + problem.answer
        if context == problem.prompt:
            assert continuation == whole
            continue
        some = context.removeprefix(problem.prompt).removesuffix(ANSWER)
        assert whole.startswith(some)
        assert continuation == problem.answer
        cut_after.append(len(some) / STEP_TOKENS)
    assert set(cut_after) == set(range(13))
    assert 0.29 < len(cut_after) / 600 < 0.41  # 0.35, four standard errors of 0.02 less rounding


def test_direct_prompts_ask_for_an_answer_to_the_same_problems():
    for split in ("train", "test"):
        pairs = zip(
            get_task("permutations").problems(70, split),
            get_task("permutations-direct").problems(70, split),
            strict=True,
        )
        for thinking, direct in pairs:
            assert (thinking.id, thinking.answer) == (direct.id, direct.answer)
            assert direct.prompt == thinking.prompt + ANSWER


def test_words_of_one_length_are_in_both_splits():
    sides = [content_split(f"21345:{a}{b}{c}") for a in SWAPS for b in SWAPS for c in SWAPS]
    assert 60 < sides.count("test") < 140  # 100 of 1,000 expected, four standard deviations


def test_prompts_and_thinking_use_characters_of_the_tokenizer_once():
    assert len(set(NUMBERS)) == len(NUMBERS) == 130
    assert not set("".join(NUMBERS)) & set("abcdefghijABCDEFGHIJ")
    problem = get_task("permutations", ["128"]).problems(1)[0]
    assert set(problem.prompt + "".join(write_steps(problem.id)) + ANSWER) <= set(ALPHABET)


def test_the_longest_list_fits_the_rows_and_the_context_of_the_ladder():
    recipe = replace(LADDERS["permutations"].recipes["0.11M"], compiled=False)
    trainer, task = Trainer((32, 1), recipe), get_task("permutations", ["128"])
    problem = task.problems(1, "train")[0]
    whole = "".join(write_steps(problem.id)) + ANSWER + problem.answer
    assert len(trainer.row(problem.prompt, [whole]).ids) <= recipe.widths[-1]
    limit = trainer.model.config.max_position_embeddings
    assert limit >= len(problem.prompt) + 128 * STEP_TOKENS + len(ANSWER) + ANSWER_TOKENS
    assert Trainer((32, 1), Recipe()).model.config.max_position_embeddings == CONTEXT


def test_lengths_of_a_range_are_even_in_their_logarithm():
    task, rng = get_task("permutations", ["4-127"]), Random(0)
    lengths = [len(task.draw("4-127", rng).id) - 6 for _ in range(2000)]
    assert (min(lengths), max(lengths)) == (4, 127)
    for doubling in range(5):  # 400 of 2,000 expected each, standard deviation 18
        assert 328 < sum(4 << doubling <= n < 8 << doubling for n in lengths) < 472


@pytest.mark.parametrize("level", ["0", "131", "8-4", "4-", "-4", "3x20", "", "²", "4-8-9"])
def test_a_level_that_is_not_a_length_is_refused(level):
    with pytest.raises(ValueError, match=r"level is .*number of swaps"):
        get_task("permutations", [level])


# -- known facts -----------------------------------------------------------------------------------


def test_the_floor_of_guessing_is_one_of_sixty_after_eight_swaps():
    assert [floor_of_guessing(k) for k in (0, 1, 2)] == pytest.approx([1, 1 / 10, 1 / 10])
    for swaps in (8, 9, 16):
        chances = chances_after(swaps)
        assert len(chances) == 60  # the parity of the number of swaps leaves half of 120
        assert sum(chances.values()) == pytest.approx(1)
        assert 1 / 60 <= floor_of_guessing(swaps) < 1.1 / 60
    assert floor_of_guessing(64) == pytest.approx(1 / 60)


def test_the_floor_of_guessing_is_met_by_the_best_constant_guess():
    task, rng = get_task("permutations", ["3"]), Random(0)
    counts = dict.fromkeys(ORDERS, 0)
    for _ in range(20_000):
        problem = task.draw("3", rng)
        counts["".join(str(problem.id.index(thing) + 1) for thing in problem.answer)] += 1
    best = max(counts.values()) / 20_000  # the largest of ten equal chances is a little above
    assert floor_of_guessing(3) == pytest.approx(best, abs=0.006)  # standard error 0.0013
    assert best >= floor_of_guessing(3) - 0.004


def test_ideal_thinking_is_a_straight_line_in_the_logarithm_of_the_steps():
    lengths, steps = np.arange(4, 128), np.array([8, 16, 32, 64])
    shares = np.log((lengths + 1) / lengths) / np.log(128 / 4)
    line = np.log((steps + 1) / 4) / np.log(128 / 4)
    ideal = np.vectorize(accuracy_of_thinking)(lengths, steps[:, None], 0) @ shares
    assert np.all(line < ideal)
    assert np.all(ideal < line + 0.03)  # guesses
    assert accuracy_of_thinking(64, 60, reach=4) == 1
    assert accuracy_of_thinking(64, 0, reach=3) == pytest.approx(1 / 60)


# -- the shipped model -----------------------------------------------------------------------------


def test_the_shipped_model_is_right_after_thinking_and_guesses_without():
    lm, task = load_lm(SHIPPED), get_task("permutations", ["8"])
    plan = Plan("thinking", chains=1, steps=5, max_new_tokens=64)  # 0, 8, 16, 32 and 64 tokens
    engine = Engine(lm.model, eos_ids=lm.eos_ids)
    rows = [row for _, row in draw(lm, task, task.problems(60), plan, engine)]
    right = np.mean([[sample.correct for sample in sorted(r, key=step_of)] for r in rows], axis=0)
    assert right[-1] > 0.9  # .99 on 400 problems; below by chance less than once in 10^4
    assert np.all(right[:-1] < 0.12)  # 1/120 to 1/60: 7 of 60, less than once in 10^4

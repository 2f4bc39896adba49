"""Traces are written and read back; a scripted thinker is read at every budget."""

from __future__ import annotations

import hashlib
import re
from itertools import islice
from random import Random

import numpy as np
import pytest

from scaling import compute
from scaling.methods import draw
from scaling.models import character_tokenizer, load_lm
from scaling.records import Completion, Plan
from scaling.sampling import sample_run
from scaling.tasks import WAIT, content_split, get_task
from scaling.tasks.chat import ChatTask, split_thinking
from scaling.tasks.countdown import extract_answer, random_steps
from scaling.tasks.traces import (
    Searcher,
    behaviour,
    examples,
    pool_after,
    possible_steps,
    thinking_budgets,
    write_check,
    write_trace,
)

TASK = get_task("countdown", ("3x20",))
DILIGENT = Searcher(True, True, True, 0.0, 0.0, patience=500)
PROBLEM = TASK.problems(1)[0]


# ---------------------------------------------------------------- traces
def test_a_patient_search_without_slips_always_ends_right():
    for problem in TASK.problems(30, "train"):
        for depth_first in (True, False):
            searcher = Searcher(depth_first, True, False, 0.0, 0.0, patience=500)
            trace = write_trace(problem, searcher, Random(0))
            assert TASK.verify(problem, trace).correct


def test_every_step_written_is_true_and_allowed_where_its_path_stands():
    for problem in TASK.problems(40, "train"):
        text = write_trace(problem, Searcher.draw(Random(problem.id)), Random(1))
        for whole in paths(text.partition(">")[0]):
            target = re.findall(r"=([0-9]+)", whole)[-1]
            question = problem.id.partition("=")[0] + "=" + target
            fake = type(problem)(question, "", "", "3x20")
            assert TASK.verify(fake, whole).correct, (text, whole)


def paths(thinking: str) -> list[str]:
    """Return the attempts of a trace in full, by another way than `behaviour`: split, rebuild."""
    found = []
    for run in thinking.rstrip("!").split("x"):
        kept: list[str] = []
        for part in re.split(r"(<+)", run):
            if part.startswith("<"):
                kept = kept[: len(kept) - len(part)]
            else:
                kept += re.sub(r"\?[-0-9]+=[0-9]+", "", part).split(";")
                found.append(";".join(kept))
    return found


def test_the_answer_is_the_attempt_a_trace_is_content_with_or_else_what_follows():
    right = "7*3=21;21+12=33"
    search = "7+3=10;12+10=22?33-22=11<12*10=120x"
    for text, answer in (
        (right, right),
        (f"{search}{right}?33-33=0!>1+1=2", right),
        (f"{search}{right}!", right),
        ("7*3=21;21-12=9<21+12=33!>", right),
        (f"{search}>{right}", right),
        (f"{search}4+4=8!>4+4=8|{right}!", right),
        (f"{right}!>1|{search}>4+4=8", "4+4=8"),
        (search, search),
    ):
        assert extract_answer(text) == answer


def test_moves_are_those_that_the_generator_of_problems_can_make():
    numbers = [3, 7, 12]
    seen = {random_steps(numbers, Random(i))[0] for i in range(3000)}  # 11 of them: a miss < 1e-50
    assert {step for step in possible_steps(numbers) if step[2] != 1} >= seen


def test_the_first_attempts_of_a_search_with_a_memory_never_repeat():
    for problem in TASK.problems(20, "train"):
        searcher = Searcher(False, True, False, 0.0, 0.0, patience=6)
        text = write_trace(problem, searcher, Random(2))
        assert behaviour(problem.id, text)["repeats"] == 0


def test_behaviour_is_counted_as_the_trace_was_written():
    text = (
        "7+3=10;12+10=22?33-22=11<12*10=120x7+3=10;12+10=22x7*3=21;21+12=33?33-33=0!"
        ">7*3=21;21+12=33"
    )
    assert behaviour("3,7,12=33", text) == {
        "attempts": 4,
        "switches": 1,
        "backtracks": 1,
        "restarts": 2,
        "repeats": 1,
        "checks": 2,
        "false_claims": 0,
    }
    assert behaviour("3,7,12=34", "7*3=21;21+12=33!>7*3=21")["false_claims"] == 1
    two = behaviour("3,7,12=33", "7+3=10;12+10=22>1+1=2|12-3=9;9*7=63x7+3=10;12+10=22>1+1=2")
    assert (two["attempts"], two["repeats"]) == (3, 1)


def test_examples_are_of_the_train_split_and_show_whole_cut_and_waiting_traces():
    found = list(islice(examples(0), 400))
    assert all(content_split(context.split(":")[0]) == "train" for context, _ in found)
    ends = [context[-1] for context, _ in found]
    assert 80 < ends.count(">") < 160  # 120 expected; outside by chance less than once in 10^4
    assert 30 < ends.count(WAIT) < 95  # 60 expected
    assert found[:20] == list(islice(examples(0), 20)) != list(islice(examples(1), 20))


def test_examples_are_of_the_levels_asked_for():
    found = [context.partition("=")[0] for context, _ in islice(examples(0, ("4x7", "2x30")), 40)]
    drawn = [[int(number) for number in numbers.split(",")] for numbers in found]
    assert {len(numbers) for numbers in drawn} == {2, 4}
    assert all(max(numbers) <= {2: 30, 4: 7}[len(numbers)] for numbers in drawn)


def test_traces_of_a_seed_change_not_without_notice():
    digest = hashlib.sha256(repr(list(islice(examples(0), 300))).encode()).hexdigest()
    assert digest[:16] == "cd1dbb074c790982"


def test_moves_and_checks_are_exact_at_their_edges():
    assert possible_steps([1, 2]) == [
        (2, "+", 1, 3),
        (2, "-", 1, 1),
    ]  # times and over 1 change nothing
    assert possible_steps([2, 4]) == [
        (4, "*", 2, 8),
        (4, "+", 2, 6),
        (4, "-", 2, 2),
        (4, "/", 2, 2),
    ]
    assert possible_steps([3, 3]) == [
        (3, "*", 3, 9),
        (3, "+", 3, 6),
        (3, "/", 3, 1),
    ]  # 0 is no result
    assert possible_steps([33, 3]) == [
        (33, "*", 3, 99), (33, "+", 3, 36), (33, "-", 3, 30), (33, "/", 3, 11)
    ]  # fmt: skip
    assert (34, "*", 3, 102) not in possible_steps([34, 3])
    assert pool_after([2, 4, 4], [(4, "*", 2, 8)]) == [4, 8]
    found = (write_check(22, 33), write_check(33, 22), write_check(5, 5))
    assert found == ("?33-22=11", "?33-22=11", "?5-5=0")


def test_a_false_claim_and_a_mark_without_steps_are_counted_once():
    none = dict.fromkeys(behaviour("1,2=3", ""), 0)
    assert behaviour("1,2=3", "!x<?") == none | {"restarts": 1, "backtracks": 1, "checks": 1}
    assert behaviour("3,7,12=33", "7+3=10!x7+3=10!") == none | {
        "attempts": 2, "repeats": 1, "restarts": 1, "false_claims": 2,
    }  # fmt: skip
    assert behaviour("3,7,12=33", "7+3=10;12+10=22<12-3=9!")["attempts"] == 2


# ---------------------------------------------------------------- prompts of one model
class Spelled:
    """A model of one token per character, whose prompts are given as they are."""

    tokenizer, opens_thinking = "a character each", False

    def decode(self, tokens):
        return "".join(map(chr, tokens))


def test_thinking_that_takes_all_of_a_text_is_counted_to_its_last_token():
    wrapped = ChatTask(TASK, Spelled())
    for text, count in (("1</think>", 9), ("1</think>2", 9), (" \n<think>1", 11), ("1", 0)):
        done = Completion(tuple(map(ord, text)), 0.0, 0.0, "stop", 1, 0, len(text) + 1, 0.0)
        assert wrapped.thinking_tokens(PROBLEM, text, done) == count
    assert split_thinking(" \n<think>1") == ("1", "")


def test_what_else_is_asked_of_a_task_is_its_own():
    wrapped = ChatTask(TASK, Spelled())
    assert (wrapped.name, wrapped.levels) == ("countdown", ("3x20",))
    assert wrapped.problems(2) == TASK.problems(2, "test", 0)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wrapped.nothing  # noqa: B018


# ---------------------------------------------------------------- budgets
class Words:
    tokenizer, skills = character_tokenizer(), ("thinking", "wait")

    def encode(self, text):
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, tokens):
        return self.tokenizer.decode(list(tokens))


class Thinker:
    """Writes its right attempt as tokens 20 to 39; asked before it has, it answers `1+1=2`."""

    context = 2048
    solution = PROBLEM.answer
    thinking = ("2+2=4;4+4=8x" * 9)[: 40 - len(solution)] + solution

    def generate(self, jobs, plan, extend=None):
        words = Words()
        for job in jobs:
            context = words.decode(job.prompt)
            done = context[len(PROBLEM.prompt) :]
            if done.endswith(">"):
                continuation = self.solution if self.solution in done else "1+1=2"
            else:
                continuation = (self.thinking + "x2+2=4" * 40 + ">" + self.solution)[len(done) :]
            tokens = words.encode(continuation)
            over = len(tokens) + 1 > plan.max_new_tokens
            tokens = tokens[: plan.max_new_tokens]
            made = len(tokens) + (not over)
            finish = "length" if over else "stop"
            yield job, 0, Completion(tokens, -1.0, -2.0, finish, len(job.prompt), 0, made, 0.5)


def rows_of(plan: Plan):
    ((_, rows),) = draw(Words(), TASK, [PROBLEM], plan, Thinker())
    return rows


def test_a_thinker_that_solves_at_token_40_is_right_from_that_budget_on():
    assert len(Thinker.thinking) == 40
    plan = Plan("thinking", chains=2, steps=7, max_new_tokens=160)
    assert thinking_budgets(plan) == [0, 5, 10, 20, 40, 80, 160]
    for chain in (0, 1):
        right = [row.correct for row in rows_of(plan) if row.chain == chain]
        assert right == [False, False, False, False, True, True, True]


def test_the_ledger_of_a_thinker_adds_up_and_prices_each_budget_as_if_alone():
    plan = Plan("thinking", chains=1, steps=4, max_new_tokens=80)
    rows, start = rows_of(plan), len(PROBLEM.prompt)
    lengths = [len("1+1=2"), len("1+1=2"), len(PROBLEM.answer), len(PROBLEM.answer)]
    computed = sum(r.prompt_tokens - r.cached_tokens + r.completion_tokens for r in rows)
    assert computed == start + 80 + sum(1 + length + 1 for length in lengths)
    alone = [row.prompt_tokens + row.completion_tokens - start for row in rows]
    want = [b + 1 + n + 1 for b, n in zip([0, 20, 40, 80], lengths, strict=True)]
    assert alone == want


def test_a_trace_that_has_answered_within_a_budget_costs_no_more():
    rows = rows_of(Plan("thinking", chains=1, steps=3, max_new_tokens=1000))
    whole = len(Thinker.thinking + "x2+2=4" * 40 + ">" + PROBLEM.answer) + 1
    assert rows[-1].completion_tokens == whole
    assert rows[-1].finish == "stop"
    middle = rows[1]  # budget 500: over by then
    assert (middle.completion_tokens, middle.text, middle.correct) == (0, "", True)
    assert middle.prompt_tokens == middle.cached_tokens == len(PROBLEM.prompt) + whole


def test_cut_amid_its_answer_a_trace_goes_on_without_being_asked_again():
    cut = len(Thinker.thinking + "x2+2=4" * 40) + 3
    rows = rows_of(Plan("thinking", chains=1, steps=2, max_new_tokens=cut))
    assert rows[-1].text.count(">") == 1
    assert rows[-1].correct


@pytest.mark.parametrize("plan", [Plan("thinking"), Plan("thinking", steps=9, max_new_tokens=64)])
def test_a_budget_below_one_token_is_refused(plan):
    with pytest.raises(ValueError, match="each step halves the budget"):
        rows_of(plan)


def test_budgets_halve_down_to_one_token_and_the_most_steps_are_told():
    assert thinking_budgets(Plan("thinking", steps=2, max_new_tokens=1)) == [0, 1]
    assert thinking_budgets(Plan("thinking", steps=8, max_new_tokens=64))[:2] == [0, 1]
    with pytest.raises(ValueError) as error:  # noqa: PT011
        thinking_budgets(Plan("thinking", steps=9, max_new_tokens=64))
    assert str(error.value) == (
        "9 steps of thinking within 64 tokens: each step halves the budget, give 2 to 8 steps"
    )


def test_a_tiny_model_thinks_waits_and_is_read_by_budget(tiny_folder, tmp_path):
    lm = load_lm(tiny_folder)
    problems = TASK.problems(3)
    plan = Plan("thinking", chains=2, steps=4, max_new_tokens=40)
    with pytest.warns(UserWarning, match="trained for thinking"):
        run = sample_run(lm, TASK, problems, plan, tmp_path, progress=False, device="cpu")
    pool = run
    shape, k = compute.Shape(**lm.card.shape), pool.budgets()
    frame = run.samples.set_index(["problem", "chain", "step"])
    start = frame.prompt_tokens.xs(3, level="step")
    spent = frame.prompt_tokens + frame.completion_tokens - start
    row = (problems[0].id, 0, 1)
    want = compute.sample_flops(shape, start[row[:2]], start[row[:2]], spent[row])
    assert pool.costs["flops"][1][0, 0, 1] == pytest.approx(want)
    alone = (spent + start).xs(problems[0].id).groupby("step").mean()
    np.testing.assert_allclose(pool.cost("tokens", k)[0], alone)
    assert pool.values("last", k).shape == (3, 4)
    plan = Plan("wait", chains=2, steps=3, max_new_tokens=8)
    with pytest.warns(UserWarning, match="trained for wait"):
        waited = sample_run(lm, TASK, problems, plan, tmp_path, progress=False, device="cpu")
    prompts = waited.samples.set_index(["problem", "chain", "step"])
    grown = prompts.prompt_tokens.unstack("step").diff(axis=1)
    text_tokens = 9  # 8 tokens cut by the cap, and the marker (fewer where it stopped by itself)
    assert (grown[1] <= text_tokens).all()
    assert (grown[1] >= 1).all()

"""Stopping at agreement against every order of a small pool; a policy that is run, and logged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from scaling.adaptive import assigned, run_policy
from scaling.comparisons.policy import PolicyGain
from scaling.estimates import agreed_vote, stopped_vote
from scaling.intervals import mean_interval
from scaling.models import load_lm
from scaling.records import Plan, Verdict
from scaling.sampling import sample_run
from scaling.tasks import get_task


def by_hand(answers, correct, cost, agree):
    """Every order, one sample at a time."""
    truth, found = dict(zip(answers, correct, strict=True)), []
    for order in permutations(range(len(answers))):
        votes, spent = Counter(), 0.0
        for i in order:
            spent += cost[i]
            if answers[i] is not None:
                votes[answers[i]] += 1
            if votes and max(votes.values()) >= agree:
                break
        top = [a for a, v in votes.items() if v == max(votes.values())]
        found.append((np.mean([truth[a] for a in top]) if top else 0.0, spent))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("agree", [1, 2, 3, 9])
def test_stopped_votes_agree_with_every_order(agree):
    """720 orders against 4000 drawn ones: five standard errors of a value in [0, 1] are 0.04."""
    answers, correct = ["7", "7", "9", "9", "4", None], [1, 1, 0, 0, 0, 0]
    cost = np.array([1.0, 2.0, 3.0, 1.0, 5.0, 2.0])
    given = np.array(answers, dtype=object)
    value, spent = stopped_vote(given[None], [correct], [cost], agree, orders=4000)
    expected = by_hand(answers, correct, cost, agree)
    assert value[0] == pytest.approx(expected[0], abs=0.04)
    assert spent[0] == pytest.approx(expected[1], abs=0.3)


def test_agreement_of_one_is_one_sample_and_never_reached_is_the_whole_pool():
    answers, correct = np.array([[1, 1, 2, 2]]), np.array([[1.0, 1, 0, 0]])
    value, spent = stopped_vote(answers, correct, np.ones((1, 4)), 1, orders=2000)
    assert spent[0] == 1
    assert value[0] == pytest.approx(0.5, abs=0.06)
    value, spent = stopped_vote(answers, correct, np.ones((1, 4)), 5)
    assert (value[0], spent[0]) == (0.5, 4)
    with pytest.raises(ValueError, match="agree is 0"):
        stopped_vote(answers, correct, correct, 0)


@pytest.mark.parametrize("agree", [2, 3])
def test_a_pool_that_stopped_at_agreement_is_read_without_bias_at_every_cap(agree):
    """The mean over all 3^5 orders of answers, by their odds, is what drawing one by one gives."""
    odds, truth, price, k = [0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [1.0, 2.0, 5.0], np.arange(1, 6)
    truly, read = np.zeros((2, 5)), np.zeros((2, 5))
    for drawn in product((0, 1, -1), repeat=5):  # -1: no answer
        chance = np.prod([odds[i] for i in drawn])
        tops = [max(Counter(a for a in drawn[:n] if a >= 0).values(), default=0) for n in k]
        stop = next((n for n, top in zip(k, tops, strict=True) if top >= agree), 5)
        for cap in k:
            seen = drawn[: min(cap, stop)]
            votes = Counter(a for a in seen if a >= 0)
            best = [a for a in votes if votes[a] == max(votes.values())]
            value = np.mean([truth[a] for a in best]) if best else 0.0
            truly[:, cap - 1] += chance * np.array([value, sum(price[a] for a in seen)])
        there = np.arange(5) < stop
        right, cost = (np.where(there, [x[a] for a in drawn], np.nan) for x in (truth, price))
        value, spent = agreed_vote(
            [[a if a >= 0 else np.nan for a in drawn]], [right], [cost], agree, k
        )
        read += chance * np.array([value[0], spent[0]])
    np.testing.assert_allclose(read, truly, atol=1e-12)


def test_an_undecided_pool_says_nothing_beyond_its_size():
    value, spent = agreed_vote([[1, 2, 0]], [[1, 0, np.nan]], [[1.0, 1, 1]], 2, [1, 2, 3])
    np.testing.assert_array_equal(value, [[0.5, 0.5, np.nan]])
    np.testing.assert_array_equal(spent, [[1, 2, np.nan]])


def a_policy(choice):
    none = mean_interval(np.zeros((3, 2)))
    zero = np.zeros(2)
    return PolicyGain(
        np.array([10.0, 100.0]), zero, zero, zero, none, none, np.array([0.5]), choice
    )


def test_a_problem_gets_the_strategy_of_its_bin_and_budget():
    gain = a_policy([["few", "many"], ["few", "few"]])
    assert assigned(gain, [0.1, 0.9, 0.5], 90) == ["many", "few", "few"]
    assert assigned(gain, [0.1, 0.9], 1) == ["few", "few"]


def test_a_policy_that_is_run_logs_its_pilot_and_covers_every_problem(tiny_folder, tmp_path):
    lm, task = load_lm(tiny_folder), get_task("sums", ("2x99",))
    problems = task.problems(6)
    plans = {"few": Plan(chains=2, max_new_tokens=4), "many": Plan(chains=5, max_new_tokens=4)}
    gain = a_policy([["many", "many"], ["few", "few"]])
    pilot = Plan(chains=3, max_new_tokens=4, seed=1)
    runs = run_policy(lm, task, problems, pilot, plans, gain, 50, tmp_path, progress=False)
    assert len(runs["pilot"].samples) == 18
    later = [problem for name in runs if name != "pilot" for problem in runs[name].problems["id"]]
    assert sorted(later) == sorted(problem.id for problem in problems)
    assert len(runs["many"].samples) == 5 * len(runs["many"].problems)
    with pytest.raises(ValueError, match="no plan for many"):
        run_policy(lm, task, problems, pilot, {"few": plans["few"]}, gain, 50, tmp_path)


def test_a_run_that_stopped_at_agreement_is_the_start_of_the_whole_pool_and_its_price(
    tiny_folder, tmp_path
):
    lm, task = load_lm(tiny_folder), get_task("sums", ("2x99",))
    task.verify = lambda problem, text: Verdict(str(len(text) and ord(text[0]) % 3), len(text) > 1)
    problems, plan = task.problems(12), Plan(chains=12, max_new_tokens=2)
    whole, stopped = (
        sample_run(lm, task, problems, replace(plan, stop_at_agreement=r), tmp_path, progress=False)
        for r in (0, 2)
    )
    columns = ["problem", "chain", "answer", "correct", "completion_tokens"]
    both = whole.samples[columns].merge(stopped.samples[columns], on=["problem", "chain"])
    assert (both.completion_tokens_x == both.completion_tokens_y).all()
    assert len(both) == len(stopped.samples) < len(whole.samples)
    pool, k = stopped, np.array([1, 12])
    assert pool.selectors == ("majority",)
    own = stopped.samples.groupby("problem").completion_tokens.sum()[stopped.problems["id"]]
    shared = stopped.samples.groupby("problem").prompt_tokens.max()[stopped.problems["id"]]
    assert pool.cost("tokens", k)[:, 1] == pytest.approx((own + shared).to_numpy())
    drawn = stopped.samples.groupby("problem").size()[stopped.problems["id"]]
    alone = pool.cost("tokens", k, shared_prompt=False)[:, 1]
    assert alone == pytest.approx((own + shared * drawn).to_numpy())
    assert np.isfinite(pool.curve("majority", "flops").y).all()
    with pytest.raises(ValueError, match="unknown selector"):
        pool.curve("coverage")

"""Every estimator against full enumeration in exact fractions, and against its limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.estimates import (
    accepted_at_k,
    agreed_vote,
    best_budget,
    best_of_k,
    gap_at_k,
    grid_at_k,
    inverse_pass_at_k,
    majority_at_k,
    pass_at_k,
    pass_hat_k,
    read_at_tokens,
    roc,
    stopped_vote,
    verifier_rates,
)
from scaling.estimates.votes import win_probabilities

NAN = float("nan")


# ------------------------------------------------------------------ slow definitions


def mean_over_subsets(n: int, k: int, worth: Callable[[Sequence[int]], Fraction]) -> float:
    """Return the mean of `worth` over all subsets of k of n, in exact fractions."""
    total = sum((worth(chosen) for chosen in itertools.combinations(range(n), k)), Fraction(0))
    return float(total / math.comb(n, k))


def shared(worths: list[Any]) -> Fraction:
    return Fraction(sum(int(w) for w in worths), len(worths))


def best_by_definition(correct: Sequence[int], score: Sequence[float], k: int) -> float:
    def worth(chosen: Sequence[int]) -> Fraction:
        top = max(score[i] for i in chosen)
        return shared([correct[i] for i in chosen if score[i] == top])

    return mean_over_subsets(len(correct), k, worth)


def vote_by_definition(
    answers: Sequence[Any], right: set[Any], k: int, weights: Sequence[float] | None = None
) -> float:
    def worth(chosen: Sequence[int]) -> Fraction:
        tally: dict[Any, float] = {}
        for i in chosen:
            if answers[i] is not None:
                tally[answers[i]] = tally.get(answers[i], 0) + (weights[i] if weights else 1)
        top = max(tally.values(), default=0)
        return shared([a in right for a in tally if tally[a] == top]) if top else Fraction(0)

    return mean_over_subsets(len(answers), k, worth)


def stopped_trials(p: Fraction, r: int, cap: int) -> Iterator[tuple[int, int, Fraction]]:
    """Yield (n, c, probability) of sampling that stops at the r-th success or at the cap."""
    for n in range(r, cap + 1):
        yield n, r, math.comb(n - 1, r - 1) * p**r * (1 - p) ** (n - r)
    for c in range(r):
        yield cap, c, math.comb(cap, c) * p**c * (1 - p) ** (cap - c)


# ------------------------------------------------------------------ counts


def test_pass_at_k_and_pass_hat_k_equal_the_fractions_for_every_small_pool() -> None:
    for n in range(1, 13):
        c, k = np.arange(n + 1)[:, None], np.arange(1, n + 1)
        one = [
            [1 - Fraction(math.comb(n - i, j), math.comb(n, j)) for j in k] for i in range(n + 1)
        ]
        all_ = [[Fraction(math.comb(i, j), math.comb(n, j)) for j in k] for i in range(n + 1)]
        np.testing.assert_allclose(pass_at_k(n, c, k), np.array(one, float), atol=1e-14)
        np.testing.assert_allclose(pass_hat_k(n, c, k), np.array(all_, float), atol=1e-14)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10_000), st.data())
def test_pass_at_k_of_large_pools_equals_big_integers_to_twelve_digits(n: int, data: Any) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    truth = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(truth), abs=1e-12)


def test_counts_broadcast_and_a_missing_count_is_nan() -> None:
    assert pass_at_k([[4], [8]], [[1], [2]], [1, 2, 4]).shape == (2, 3)
    assert isinstance(float(pass_at_k(4, 1, 2)), float)
    np.testing.assert_array_equal(pass_at_k([4, NAN, 4], [1, 1, NAN], 1), [0.25, NAN, NAN])
    assert np.isnan(pass_at_k(0, 0, 1))


@pytest.mark.parametrize("r", [1, 2, 3, 5])
@pytest.mark.parametrize("p", [Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)])
def test_inverse_pass_at_k_has_no_bias_at_any_k_up_to_the_cap(r: int, p: Fraction) -> None:
    cap = 9
    n, c, weight = zip(*stopped_trials(p, r, cap), strict=True)
    assert sum(weight) == 1
    k = np.arange(1, cap + 1)
    estimate = inverse_pass_at_k(np.array(n)[:, None], np.array(c)[:, None], r, k)
    mean = np.array(weight, float) @ estimate
    np.testing.assert_allclose(mean, 1 - (1 - float(p)) ** k, atol=1e-13)


def test_inverse_pass_at_k_is_nan_above_its_cap_and_takes_whole_floats() -> None:
    assert np.isnan(inverse_pass_at_k(3, 2, 2, 9, cap=8))
    assert inverse_pass_at_k(3, 2, 2, 8, cap=8) == 1
    assert np.isnan(inverse_pass_at_k(8, 1, 2, 9))
    assert inverse_pass_at_k(5, 2, 2.0, 3) == inverse_pass_at_k(5, 2, 2, 3) == 0.75


# ------------------------------------------------------------------ best of k


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=9))
def test_best_of_k_equals_enumeration_with_ties(samples: list[tuple[bool, int]]) -> None:
    correct, score = [int(c) for c, _ in samples], [float(s) for _, s in samples]
    k = np.arange(1, len(samples) + 1)
    truth = [best_by_definition(correct, score, int(j)) for j in k]
    np.testing.assert_allclose(best_of_k(correct, score, k), truth, atol=1e-14)


def test_best_of_k_by_correctness_is_pass_at_k_and_by_a_constant_is_accuracy() -> None:
    correct = np.random.default_rng(0).random((5, 200)) < 0.1
    k = [1, 2, 30, 199, 200]
    expected = pass_at_k(200, correct.sum(1)[:, None], k)
    np.testing.assert_allclose(best_of_k(correct, correct, k), expected, atol=1e-13)
    flat = best_of_k(correct, np.ones(correct.shape), k)
    np.testing.assert_allclose(flat, np.repeat(correct.mean(1)[:, None], 5, 1), atol=1e-13)


def test_pools_of_unequal_size_are_read_as_if_alone_and_k_above_a_pool_is_nan() -> None:
    pools = [([1, 0, 1], [0.3, 0.9, 0.1]), ([0, 1], [-math.inf, -math.inf]), ([], [])]
    correct, score = np.full((3, 4), NAN), np.full((3, 4), NAN)
    for i, (c, s) in enumerate(pools):
        correct[i, 1 : 1 + len(c)], score[i, 1 : 1 + len(s)] = c, s
    together = best_of_k(correct, score, [1, 2, 3, 4])
    for row, (c, s) in zip(together[:2], pools, strict=False):
        np.testing.assert_allclose(row, best_of_k(c, s, [1, 2, 3, 4]), atol=1e-15)
    np.testing.assert_array_equal(np.isnan(together).sum(1), [1, 2, 4])


def test_shapes_follow_the_pool_and_the_budget() -> None:
    one, two = np.array([1, 0, 1]), np.array([[1, 0, 1], [0, 0, 1]])
    for estimate in (best_of_k, majority_at_k):
        assert np.shape(estimate(one, one, 2)) == ()
        assert np.shape(estimate(one, one, [1, 2])) == (2,)
        assert np.shape(estimate(two, two, 2)) == (2,)
        assert np.shape(estimate(two, two, [1, 2, 3])) == (2, 3)


# ------------------------------------------------------------------ votes

ANSWERS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), min_size=1, max_size=9)


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.sets(st.sampled_from("abcde")))
def test_majority_at_k_equals_enumeration(answers: list[str | None], right: set[str]) -> None:
    k = np.arange(1, len(answers) + 1)
    truth = [vote_by_definition(answers, right, int(j)) for j in k]
    correct = [answer in right for answer in answers]
    got = majority_at_k(np.array(answers, dtype=object), correct, k)
    np.testing.assert_allclose(got, truth, atol=1e-13)


@pytest.mark.parametrize(
    ("answers", "total"), [(2, 300), (2, 2000), (3, 4000), (12, 300), (30, 900)]
)
def test_the_chances_to_win_of_all_answers_sum_to_one(answers: int, total: int) -> None:
    # Story: cutting the counts by a product of marginal chances lost up to 4e-10 with two answers.
    rng = np.random.default_rng(answers)
    votes = rng.multinomial(total, rng.dirichlet(np.full(answers, 2.0)))
    sizes, place = np.unique(votes[votes > 0], return_inverse=True)
    others = np.bincount(place, minlength=len(sizes)) - np.eye(len(sizes), dtype=int)[place]
    for k in (1, 2, 17, total // 17, total // 3, total - 1):
        assert win_probabilities(place, others, sizes, total, k).sum() == pytest.approx(
            1, abs=3e-12
        )


def test_pools_that_share_tables_are_read_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    pools = np.where(rng.random((12, 40)) < 0.1, NAN, rng.integers(0, 6, (12, 40)))
    pools[3:6] = rng.integers(0, 40, (3, 40))  # nearly all answers differ
    pools[6, :] = 0
    k = [3, 5, 17, 39]
    together = majority_at_k(pools, pools % 3 == 0, k)
    alone = [majority_at_k(pool, pool % 3 == 0, k) for pool in pools]
    np.testing.assert_allclose(together, alone, atol=1e-13)


def test_exact_majority_lies_within_the_error_of_a_plain_simulation() -> None:
    # 10 comparisons at 4.5 standard errors: a false alarm in 14,000 seeds.
    rng = np.random.default_rng(3)
    answers = rng.choice(30, (2, 500), p=rng.dirichlet(np.full(30, 0.5)))
    correct, k = answers == 0, [3, 10, 40, 120, 400]
    exact = majority_at_k(answers, correct, k)
    drawn, error = majority_at_k(answers, correct, k, subsets=4000, seed=1)
    assert (np.abs(drawn - exact) <= 4.5 * error + 1e-12).all()
    assert (error < 0.009).all()


@pytest.mark.parametrize("none", [None, NAN, pd.NA, pd.NaT])
def test_unanswered_samples_among_strings_never_win(none: Any) -> None:
    """Story: numpy made of NaN in a list of strings the answer "nan", which won the vote."""
    assert majority_at_k(["5", none, none], [1, 0, 0], 3) == 1
    pools = [["5", none, none], ["6", "7", "7"]]
    assert majority_at_k(pools, [[1, 0, 0]] * 2, 3).tolist() == [1, 0]
    assert majority_at_k(pd.Series(["5", none, none], dtype=object), [1, 0, 0], 3) == 1
    assert stopped_vote([["5", none, none]], [[1, 0, 0]], np.ones((1, 3)), 1)[0] == 1


def test_tuples_are_answers() -> None:
    assert majority_at_k([(1, 2), (1, 2), (3,)], [1, 1, 0], 3) == 1


def test_minus_one_is_an_answer_like_any_other() -> None:
    """Story: the integer -1 meant "unanswered", so a right answer of -1 could not win a vote."""
    texts, floats = ["-1", "-1", "5"], [-1.0, -1.0, 5.0]
    for answers in ([-1, -1, 5], texts, floats, [-1, -1, None], [-1, -1, "5"]):
        assert majority_at_k(answers, [1, 1, 0], 3) == 1
        assert majority_at_k([answers] * 2, [[1, 1, 0]] * 2, 3).tolist() == [1, 1]
        assert stopped_vote([answers], [[1, 1, 0]], np.ones((1, 3)), 2)[0] == 1
        assert agreed_vote([answers], [[1, 1, 0]], np.ones((1, 3)), 2, 1)[0] == 1
    assert majority_at_k([-1, -1, NAN], [1, 1, 0], [1, 3]).tolist() == pytest.approx([2 / 3, 1])


@pytest.mark.parametrize("none", [None, NAN])
def test_unanswered_samples_are_drawn_but_never_win(none: Any) -> None:
    answers = np.array([none, none, none, 7], dtype=object if none is None else None)
    assert majority_at_k(answers, [0, 0, 0, 1], 1) == pytest.approx(0.25)
    assert majority_at_k(answers, [0, 0, 0, 1], 4) == pytest.approx(1)
    assert majority_at_k(answers[:3], [0, 0, 0], 2) == 0


def test_weighted_votes_meet_enumeration_and_unit_weights_change_nothing() -> None:
    # 10 + 5 comparisons at 4.5 standard errors: a false alarm in 9,000 seeds.
    answers, weights = list("aabbbcd"), [3.0, 2.5, 1.0, 1.0, 1.5, 6.0, 0.0]
    correct, k = [answer in "ad" for answer in answers], np.arange(1, 6)
    pools = np.array([answers, answers])
    mean, error = majority_at_k(pools, [correct] * 2, k, weights=[weights, [1.0] * 7], subsets=3000)
    for j in k:
        truth = vote_by_definition(answers, {"a", "d"}, int(j), weights)
        assert abs(mean[0, j - 1] - truth) <= 4.5 * error[0, j - 1] + 1e-12
    assert (np.abs(mean[1] - majority_at_k(answers, correct, k)) <= 4.5 * error[1] + 1e-12).all()


def test_random_subsets_are_a_function_of_the_seed_alone() -> None:
    answers, correct = np.arange(40) % 7, np.arange(40) % 7 == 0
    for weights in (None, np.arange(40.0)):
        runs = [
            majority_at_k(answers, correct, [5, 3], weights=weights, subsets=50, seed=seed)[0]
            for seed in (1, 1, 2)
        ]
        np.testing.assert_array_equal(runs[0], runs[1])
        assert (runs[0] != runs[2]).any()


def test_weighted_votes_are_those_of_one_permutation_after_another() -> None:
    """Subsets are tallied many at a time; each is a prefix of the stream's next permutation."""
    rng = np.random.default_rng(3)
    answers, weights = rng.integers(-1, 30, 300), rng.exponential(size=300)
    k, stream, credits = [4, 300, 60], np.random.default_rng([5, 0]), []
    for _ in range(200):
        order = stream.permutation(300)
        for size in k:
            drawn = order[:size][answers[order[:size]] >= 0]
            tally = np.bincount(answers[drawn], weights[drawn], minlength=30)
            credits.append(float(tally.argmax() in (0, 7, 8)))
    right = np.isin(answers, (0, 7, 8))
    given = np.where(answers < 0, NAN, answers)
    mean, _ = majority_at_k(given, right, k, weights=weights, subsets=200, seed=5)
    np.testing.assert_allclose(mean, np.reshape(credits, (200, 3)).mean(axis=0))


# ------------------------------------------------------------------ steps and tokens


def test_the_grid_equals_enumeration_over_chains_and_prefixes_of_steps() -> None:
    rng = np.random.default_rng(4)
    correct, score = rng.random((2, 5, 3)) < 0.4, rng.permutation(30).reshape(2, 5, 3).astype(float)
    k = np.arange(1, 6)
    for select, given_score in (("any", None), ("last", None), ("best", score)):
        got = grid_at_k(correct, k, select, given_score)
        for problem, j, s in itertools.product(range(2), k, range(3)):
            pool, rank = correct[problem, :, : s + 1], score[problem, :, : s + 1]
            if select == "best":
                top = rank.argmax(axis=1)
                value, order = pool[np.arange(5), top], rank.max(axis=1)
            else:
                value = order = pool.any(axis=1) if select == "any" else pool[:, -1]
            truth = best_by_definition(
                value.astype(int).tolist(), order.astype(float).tolist(), int(j)
            )
            assert got[problem, j - 1, s] == pytest.approx(truth, abs=1e-13)


def test_a_chain_that_stopped_keeps_its_last_answer() -> None:
    correct = [[0, 1, NAN], [0, 0, 0], [NAN, NAN, NAN]]
    np.testing.assert_allclose(grid_at_k(correct, 1, "last"), [0, 0.5, 0.5])
    assert np.isnan(grid_at_k(correct, 3)).all()


def test_a_trace_is_read_by_its_last_answer_within_the_budget() -> None:
    position, correct = [[5, 9, NAN], [3, 4, 20]], [[1, 0, NAN], [0, 1, 1]]
    got = read_at_tokens(position, correct, [2, 3, 4, 8, 9, 100])
    np.testing.assert_array_equal(got, [[0, 0, 0, 1, 0, 0], [0, 0, 1, 1, 1, 1]])


# ------------------------------------------------------------------ verifiers


def test_the_gap_is_selection_loss_plus_grading_loss_and_nothing_else() -> None:
    rng = np.random.default_rng(6)
    truth = rng.random((20, 32)) < 0.3
    graded = truth & (rng.random(truth.shape) < 0.8)
    k, score = [1, 4, 32], rng.random(truth.shape)
    gap = gap_at_k(graded, best_of_k(graded, score, k), k, truth)
    total = gap.selection_loss + gap.grading_loss
    np.testing.assert_allclose(gap.coverage - gap.accuracy, total, atol=1e-14)
    assert (gap.grading_loss >= 0).all()
    assert (gap_at_k(truth, best_of_k(truth, truth, k), k).selection_loss == 0).all()


def test_the_area_under_roc_is_the_chance_that_right_outscores_wrong_ties_counting_half() -> None:
    rng = np.random.default_rng(7)
    correct = rng.random(60) < 0.4
    score = rng.integers(0, 6, 60) + correct
    false, true, threshold = roc(score, correct)
    pairs = np.sign(score[correct][:, None] - score[~correct])
    assert np.trapezoid(true, false) == pytest.approx((pairs.mean() + 1) / 2, abs=1e-12)
    for rate_f, rate_t, cut in zip(false, true, threshold, strict=True):
        assert verifier_rates(score >= cut, correct) == pytest.approx((rate_t, rate_f))
    assert np.isnan(roc([1, 2], [1, 1])[0][1:]).all()


def test_accuracy_under_an_imperfect_verifier_meets_a_simulation_and_stops_at_its_plateau() -> None:
    # 8 comparisons at 4.5 standard errors of at most 0.0035: a false alarm in 18,000 seeds.
    rng, p, k = np.random.default_rng(8), np.array([0.3, 0.05]), np.array([1, 2, 8, 64])
    right, wrong = accepted_at_k(p, 0.9, 0.2, k)
    samples = rng.random((2, 20_000, 64)) < p[:, None, None]
    accepted = rng.random(samples.shape) < np.where(samples, 0.9, 0.2)
    for b, budget in enumerate(k):
        first = accepted[..., :budget].argmax(-1)[..., None]
        chosen = np.take_along_axis(samples, first, -1)[..., 0] & accepted[..., :budget].any(-1)
        np.testing.assert_allclose(right[:, b], chosen.mean(-1), atol=4.5 * 0.0035)
    plateau = p * 0.9 / (p * 0.9 + (1 - p) * 0.2)
    np.testing.assert_allclose(accepted_at_k(p, 0.9, 0.2, np.inf)[0][:, 0], plateau)
    np.testing.assert_allclose((right + wrong)[:, -1], 1, atol=1e-5)


def test_a_perfect_verifier_has_no_best_budget_and_an_imperfect_one_with_a_penalty_has() -> None:
    p, k = [0.5, 0.4, 0.001], 2 ** np.arange(10)
    assert best_budget(p, 1.0, 0.0, 1.0, k)[0] == 512
    best, worth = best_budget(p, 0.9, 0.05, 1.0, k)
    assert 1 < best < 64
    assert worth < 2 / 3


# ------------------------------------------------------------------ refusals and edges
ONE = np.ones((2, 3))
IMPOSSIBLE = ((4, 5, 1, "c is larger than n"), (4, -1, 1, "c holds -1"), (4.5, 1, 1, "n holds 4.5"),
              (4, 1, 0, "k holds 0"), (4, 1, 1.5, "k holds 1.5"), (math.inf, 1, 1, "n holds inf"),
              ([4, 4, 4], [1, 2, 3], [1, 2], r"give n\[:, None\], c\[:, None\] and k"))  # fmt: skip
REFUSED = (  # arguments, what the message names
    *((function, case[:3], case[3]) for function in (pass_at_k, pass_hat_k) for case in IMPOSSIBLE),
    (inverse_pass_at_k, (3, 3, 2, 1), "c <= r"),
    (inverse_pass_at_k, (5, 2, math.inf, 3), "r is inf, c up to 2"),
    (inverse_pass_at_k, (100, 1, 2, 1, 64), "n is up to 100, above the cap of 64"),
    (inverse_pass_at_k, ([3, 4, 5], [1, 1, 1], 2, [1, 2]), "do not broadcast"),
    (best_of_k, ([1, 0], [0.5], 1), r"shape \(2,\), score \(1,\); give .*padded with"),
    (best_of_k, ([1, 0], [0.5, NAN], 1), "1 samples have a NaN score; .*-inf ranks it last"),
    (best_of_k, ([1, 0], [0.5, 0.1], [[1]]), "k is"),
    *((best_of_k, ([x, 0], [0, 1], 1), f"holds {x}; .* the order is") for x in (2, -1, 0.7)),
    (majority_at_k, (["a", "b"], [2, 0], 1), "correct holds 2; .* the order is"),
    (majority_at_k, ([["a"], ["b"], ["b"]], [1, 0, 0], 3), "not hashable .*give text or numbers"),
    (majority_at_k, (5, [1, 0, 0], 3), "answers: give"),
    (majority_at_k, ([1, 2, 3, 4], [1, 0, 0], 3), "correct has shape"),
    (majority_at_k, ([["a"], ["b", "b"]], [[1, 0], [0, 0]], 1), "answers differ in number"),
    (partial(majority_at_k, weights=[-0.5, 1.0]), (["a", "b"], [1, 0], 1), "weight is negative"),
    (partial(majority_at_k, subsets=1), (["a", "b"], [1, 0], 1), "give 2 or more"),
    (stopped_vote, ([["a", "b"]], [[1, 0]], [[1]], 1), r"shape \(1, 2\), cost \(1, 1\)"),
    (stopped_vote, ([["a"]], [[1]], [[1]], 0), "agree is 0; give .* 1 or more"),
    (agreed_vote, ([["a", "b"]], [[1, 0]], [[1]], 1, 1), r"shape \(1, 2\), cost \(1, 1\)"),
    (agreed_vote, ([["a"]], [[1]], [[1]], 0, 1), "agree is 0"),
    (agreed_vote, ([["a"]], [[1]], [[1]], 1, 0), "k holds 0"),
    (grid_at_k, ([1, 0], 1), r"correct has shape \(2,\); give \(chains, steps\)"),
    (grid_at_k, ([[1, 0]], 1, "best", [1, 0]), r"score has shape \(2,\)"),
    (grid_at_k, ([[1, 0]], 1, "first"), "select is 'first'; allowed: any, last, or best"),
    (grid_at_k, ([[1, 0]], 1, "any", [[1, 2]]), "allowed: any, last, or best"),
    (grid_at_k, ([[1, 0]], 1, "best"), "best together with a score"),
    (grid_at_k, ([[1, 0]], 1, "best", [[1, NAN]]), "a number for every sample"),
    (grid_at_k, ([[1, 0]], 1, "best", [[1, 0, 2]]), "the shape of correct"),
    (read_at_tokens, ([1, 2], [1], 3), r"position \(2,\) and correct \(1,\) need one shape"),
    (read_at_tokens, (1, 1, 3), r"position \(\) and correct \(\)"),
    (read_at_tokens, ([-1, 2], [1, 1], 3), "position must rise .* 0 or more"),
    (read_at_tokens, ([5, 3], [1, 1], 4), "position must rise"),
    (read_at_tokens, ([1.0], [2.0], 1), "correct holds numbers outside 0 to 1"),
    (gap_at_k, ([1, 0], [0.5, 0.5], 1), r"accuracy has shape \(2,\); its pools and k give \(\)"),
    (roc, ([1, 2, 3], [1, 0]), "score has 3 samples, correct 2"),
    (roc, ([1, NAN], [1, 0]), "score is NaN .* give correct = NaN"),
    (roc, ([1, 2], [1, 3]), "correct holds numbers outside 0 to 1"),
    (verifier_rates, ([1, 0], [-1, 0]), "correct holds numbers outside 0 to 1"),
    (verifier_rates, ([0.5, 1], [1, 0]), "accepted must be 0 or 1"),
    (accepted_at_k, ([1.1], 0.9, 0.1, 1), "numbers between 0 and 1"),
    (accepted_at_k, ([0.5], 0.9, -0.1, 1), "numbers between 0 and 1"),
    (accepted_at_k, ([0.5], 0.9, 0.1, [1, -1]), "k holds -1; give budgets of 0 or more"),
)  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "names"), REFUSED)
def test_bad_input_is_refused_in_one_line(function: Any, arguments: tuple, names: str) -> None:
    """Story: agree = 0 ended in an IndexError, correct = 3 in rates above 1."""
    with pytest.raises(ValueError, match=names) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


def test_edges_of_what_is_allowed_are_allowed() -> None:
    assert accepted_at_k([0.0, 1.0], 1.0, 0.0, 1)[0].tolist() == [[0], [1]]
    assert accepted_at_k([0.5], 0.9, 0.1, [0])[0] == 0
    assert accepted_at_k([0.5], 0.0, 1.0, 2)[1].tolist() == [[0.75]]
    assert read_at_tokens([0.0, 0.0], [1, 0], [0]).tolist() == [0]  # two events at one token
    assert read_at_tokens([0.0], [1], 0).tolist() == [1]
    gap = gap_at_k([1, 0, 0], 0.25, 2)
    assert (gap.coverage, gap.accuracy) == (pytest.approx(2 / 3), 0.25)
    assert gap.selection_loss == pytest.approx(2 / 3 - 0.25)
    assert gap.grading_loss == 0
    false, true, threshold = roc([1, 3, 3, NAN], [0, 1, 0, NAN])
    assert (false.tolist(), true.tolist()) == ([0, 0.5, 1], [0, 1, 1])
    assert threshold.tolist() == [math.inf, 3, 1]
    assert verifier_rates([1, 0, 1, 1], [1, 1, 0, NAN]) == (0.5, 1)
    assert np.isnan(verifier_rates([1], [1])[1])
    assert best_budget([0.5], 1.0, 0.0, 1.0, [[1, 8]])[0] == 8
    worth = pytest.approx(0.46875)  # 0.625 - 0.3125 / 2
    assert best_budget([0.5], 1.0, 0.5, 0.5, [1, 2]) == (2, worth)


def test_grading_loss_is_distinguished_from_selection_loss() -> None:
    """Story: nothing failed where the trusted grader was ignored."""
    gap = gap_at_k([1, 0, 0, 0], 0.25, 2, truth=[1, 1, 0, 0])
    assert gap.coverage == pytest.approx(5 / 6)
    assert gap.grading_loss == pytest.approx(5 / 6 - 1 / 2)
    assert gap.selection_loss == pytest.approx(1 / 2 - 1 / 4)

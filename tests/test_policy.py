"""A strategy by difficulty, against plants whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.comparisons.policy import policy_gain, split_pilot

SLOW = pytest.mark.slow
BUDGETS = np.array([1.0, 2.0, 4.0, 8.0])


def planted(problems: int = 200, noise: float = 0.0, seed: int = 0):
    """Return strategies: one wins by 0.2 on easy problems, the other by 0.1 on hard ones."""
    rng = np.random.default_rng(seed)
    easy = np.arange(problems) % 2 == 0
    rise = 0.1 * np.log2(BUDGETS)
    fast = np.where(easy, 0.6, 0.1)[:, None] + rise
    deep = np.where(easy, 0.4, 0.2)[:, None] + rise
    jitter = noise * rng.standard_normal((2, problems, len(BUDGETS)))
    return {"fast": (fast + jitter[0], BUDGETS), "deep": (deep + jitter[1], BUDGETS)}, easy


def test_the_policy_finds_the_planted_strategy_of_each_difficulty_and_its_exact_gain():
    strategies, easy = planted()
    found = policy_gain(strategies, easy, 0.0, [2.0, 4.0], bins=2)
    assert found.choice == [["deep", "deep"], ["fast", "fast"]]
    assert found.free == pytest.approx([0.5, 0.6])
    assert found.single == pytest.approx([0.45, 0.55])
    assert found.gain.value == pytest.approx([0.05, 0.05])
    assert found.survives.all()
    assert len(repr(found)) < 1000  # it printed its replicates


@pytest.mark.parametrize(
    ("charge", "lost"),
    [(2.0, 0.1), (lambda easy: np.where(easy, 2.0, 0.0), 0.05)],
    ids=["of all", "of half of the problems"],
)
def test_a_charge_is_what_the_budget_of_that_problem_would_have_bought(charge, lost):
    """From 4 to 2 units a strategy loses 0.1 of accuracy."""
    strategies, easy = planted()
    cost = charge(easy) if callable(charge) else charge
    found = policy_gain(strategies, easy, cost, 4.0, bins=2)
    assert found.gain_free.value == pytest.approx([0.05])
    assert found.gain.value == pytest.approx([0.05 - lost], abs=1e-12)
    assert not found.survives.any()


def test_a_charge_can_cost_more_than_the_gain_or_the_whole_budget():
    strategies, easy = planted(noise=0.05)
    found = policy_gain(strategies, easy, 3.5, 4.0, bins=2)
    assert found.gain_free.low > 0
    assert found.gain.high < 0
    found = policy_gain(planted()[0], easy, 4.0, [4.0, 8.0], bins=2)
    assert np.isnan(found.paid).tolist() == np.isnan(found.gain.low).tolist() == [True, False]
    assert found.survives.tolist()[0] is False


def test_a_signal_of_two_values_makes_two_bins_however_unevenly_it_falls():
    for share in (0.1, 0.5, 0.9):
        easy = np.arange(100) < 100 * share
        two = {"a": (easy[:, None] * 1.0, [1.0]), "b": (~easy[:, None] * 1.0, [1.0])}
        found = policy_gain(two, easy, 0.0, 1.0, bins=5)
        assert found.edges == pytest.approx([0.5])
        assert found.paid == pytest.approx([1.0])


def test_a_noisy_difficulty_gains_nothing():
    """The interval misses 0 in 1 of 20 plants by chance, half of them above it: more than 6 or 4 of
    40 would in 1 of 150 runs. Scored on the problems it was chosen on, most plants would."""
    missed = flattered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = rng.uniform(size=(120, 1))
        luck = 0.3 * rng.standard_normal((2, 120, 1))
        two = {"a": (truth + luck[0], [1.0]), "b": (truth + luck[1], [1.0])}
        found = policy_gain(
            two, rng.uniform(size=120), 0.0, 1.0, bins=30, repeats=1, replicates=200
        )
        missed += not found.gain.low <= 0 <= found.gain.high
        flattered += bool(found.gain.low > 0)
    assert missed <= 6
    assert flattered <= 4


def world(rng, problems):
    """Return values (strategies, problems) of three strategies that cross, and a noisy signal."""
    hard = rng.uniform(size=problems)
    mean = np.stack([0.7 - 0.5 * hard, 0.55 - 0.2 * hard, 0.5 - 0.12 * hard])
    rate = np.clip(mean + rng.normal(0, 0.12, mean.shape), 0.01, 0.99)
    return rng.binomial(32, rate) / 32, hard + rng.normal(0, 0.1, problems)


def true_gain(problems):
    """Return what a policy of 5 bins chosen on so many problems gains on all others, on average."""
    rng = np.random.default_rng(99)
    value, signal = world(rng, 40_000)
    gains = []
    for _ in range(300):
        seen, marks = world(rng, problems)
        edges = np.quantile(marks, [0.2, 0.4, 0.6, 0.8])
        here, there = np.searchsorted(edges, marks), np.searchsorted(edges, signal)
        best = np.array([seen[:, here == b].mean(axis=1).argmax() for b in range(5)])
        chosen = np.take_along_axis(value, best[there][None], axis=0)[0]
        gains.append(chosen.mean() - value[seen.mean(axis=1).argmax()].mean())
    return float(np.mean(gains))


@pytest.mark.parametrize(
    ("problems", "studies"), [(60, 60), *(pytest.param(n, 400, marks=SLOW) for n in (60, 120))]
)
def test_intervals_of_the_gain_hold_the_true_gain(problems, studies):
    """Fewer than 54 of 60 would come from a true 97 % once in 300 seeds, from 78 % almost always.

    Measured 97 to 98 %: a little too wide, for the reason that `policy_gain` gives.
    """
    truth, covered = true_gain(int(0.8 * problems)), 0
    for seed in range(studies):
        value, signal = world(np.random.default_rng(seed), problems)
        plans = {name: (v[:, None], [1.0]) for name, v in zip("abc", value, strict=True)}
        gain = policy_gain(plans, signal, 0.0, 1.0).gain
        covered += bool(gain.low <= truth <= gain.high)
    print(problems, covered / studies)
    assert covered >= 0.9 * studies


def test_the_gain_of_strategies_that_are_nearly_always_right_keeps_a_width():
    """Story: the interval was [0, 0] in nine of ten such studies, and the true gain is 0.002.

    One strategy fails on 5 % of the hardest fifth, the other on 1.25 % of the rest. The truth is at
    most their difference in failures, 0.01, whichever is chosen; intervals are to allow 0.01.
    """
    for seed in range(10):
        rng = np.random.default_rng(seed)
        hard = rng.uniform(size=60)
        fails = rng.uniform(size=(2, 60)) < np.where(hard > 0.8, [[0.05], [0]], [[0], [0.0125]])
        plans = {name: (1.0 - f[:, None], [1.0]) for name, f in zip("ab", fails, strict=True)}
        gain = policy_gain(plans, hard, 0.0, 1.0, bins=2).gain
        assert gain.low < -0.01
        assert gain.high > 0.01


def test_a_signal_read_from_the_same_samples_flatters_and_a_split_pilot_does_not():
    """Both strategies are one and the same; they differ by luck alone."""
    rng = np.random.default_rng(3)
    pools = (rng.uniform(size=(2, 400, 16)) < rng.uniform(size=(400, 1))).astype(float)
    reused = {n: (p.mean(axis=1, keepdims=True), [16.0]) for n, p in zip("ab", pools, strict=True)}
    luck = pools[0].mean(axis=1) - pools[1].mean(axis=1)
    leaky = policy_gain(reused, luck, 0.0, 16.0)
    pilot, rest = split_pilot(400, 16, 8, seed=1)
    assert (np.sort(np.hstack([pilot, rest]), axis=1) == np.arange(16)).all()
    assert len({tuple(row) for row in pilot}) > 300  # of each problem others
    signal = np.subtract(*(np.take_along_axis(p, pilot, 1).mean(axis=1) for p in pools))
    kept = [np.take_along_axis(p, rest, 1).mean(axis=1, keepdims=True) for p in pools]
    honest = policy_gain({"a": (kept[0], [16.0]), "b": (kept[1], [16.0])}, signal, 0.0, 16.0)
    assert leaky.survives.all()
    assert honest.gain.low <= 0 <= honest.gain.high


def test_between_two_budgets_the_value_is_that_of_mixing_them():
    value = np.array([[0.2, 0.6]] * 6)
    found = policy_gain({"one": (value, [1.0, 3.0])}, np.arange(6), 0.0, [0.5, 2.0, 3.0, 9.0])
    assert found.single == pytest.approx([0.1, 0.4, 0.6, 0.6])
    assert found.gain.value == pytest.approx([0, 0, 0, 0])


def test_families_stay_in_one_fold():
    """A family's problems are copies: a choice made on its copies would find each family's luck."""
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(30), 6)
    luck = rng.standard_normal((2, 30))[:, family, None]
    two = {"a": (luck[0], [1.0]), "b": (luck[1], [1.0])}
    seen = policy_gain(two, family, 0.0, 1.0, bins=30)
    kept = policy_gain(two, family, 0.0, 1.0, bins=30, cluster=family)
    assert seen.gain.value > 0.3
    assert kept.gain.low <= 0 <= kept.gain.high


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"signal": [0.0, np.nan, 1.0]}, "one finite number per problem"),
        ({"pilot_cost": -1.0}, "pilot_cost of 0 or more"),
        ({"budget": 0.0}, "budgets above 0"),
        ({"folds": 9}, "9 folds, 5 bins, 3 problems"),
        ({"strategies": {"a": ([[0.1], [0.2]], [1.0])}}, r"a: give finite .* shape \(3,"),
        ({"strategies": {"a": ([[0.1, 0.2]] * 3, [2.0, 1.0])}}, "a: costs must be above 0 and r"),
    ],
)
def test_bad_input_is_named(change, says):
    good = {"strategies": {"a": ([[0.1]] * 3, [1.0])}, "signal": [0.0, 1.0, 2.0]}
    with pytest.raises(ValueError, match=says):
        policy_gain(**(good | {"pilot_cost": 0.0, "budget": 1.0, "folds": 3} | change))

"""The results on known truths, on walks that are simulated without any mistake."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from test_forecasts import CARD

from scaling.curves import Curve
from scaling.records import Plan, Sample
from scaling.results import repeated, truth
from scaling.runs import load_run
from scaling.store import open_run
from scaling.tasks import get_task
from scaling.tasks.maze import coverage_without_look_ahead

LEVELS = ("1x1", "2x1", "3x1")
MAZE = "ab,ce,bd,ac,bf,fg;ad"  #: a leads to b (right) and to c, e; b to d (the exit) and to f, g


def values(rows, start="") -> dict:
    """Return {(case, quantity): row} of the rows whose case begins so."""
    return {(r["case"], r["quantity"]): r for r in rows if r["case"].startswith(start)}


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Return a run of a walker without mistakes: 40 problems of each level, 64 walks of each."""
    task, rng = get_task("maze-walk", LEVELS), Random(0)
    problems = task.problems(120)
    with open_run(
        tmp_path_factory.mktemp("runs"), task="maze-walk", card=CARD, plan=Plan(chains=64),
        problems=problems,
    ) as writer:  # fmt: skip
        for problem in problems:
            texts = [task.example(problem, rng)[1] for _ in range(64)]
            verdicts = [task.verify(problem, text) for text in texts]
            writer.write([
                Sample(problem.id, i, 0, text, v.answer, v.correct, -1, -1, 9, 0, 5, 1, "stop")
                for i, (text, v) in enumerate(zip(texts, verdicts, strict=True))
            ])  # fmt: skip
        return load_run(writer.seal())


@pytest.mark.parametrize(
    ("text", "found"),
    [("abd", (True, 2, 2)), ("ace", (True, 0, 1)), ("abfg", (True, 1, 2)), ("ab", (False, 1, 1)),
     ("abe", (False, 1, 1)), ("bd", (False, 0, 0)), (None, (False, 0, 0))],
)  # fmt: skip
def test_a_walk_is_followed_to_its_end_or_its_first_mistake(text, found):
    assert truth.follow(MAZE, "abd", text) == found


def test_a_walker_without_mistakes_is_found_at_the_exact_chances(walks):
    found = values(truth.model_rows(walks))
    for level in LEVELS:
        assert found[level, "walks with a step that is not allowed"]["value"] == 0
        off = found[level, "pass@1 less the exact one"]
        assert off["low"] < 0 < off["high"]  # a false alarm in 20 per level
    right = found["all levels", "right branches among those taken"]
    assert abs(right["value"] - 0.5) < 0.03  # 5 standard deviations of 11,000 branches
    known = coverage_without_look_ahead(LEVELS, 64)
    measured = found["all levels", "coverage at 64 samples"]["value"]
    off = found["all levels", "coverage at 64 samples less the exact one"]["value"]
    assert off == pytest.approx(measured - known)


def test_biases_of_estimators_are_those_of_one_right_sample_in_64():
    """One of 64 samples is right: it is among 32 half of the time, among 16 a quarter."""
    right = np.zeros((50, 64))
    right[:, 5] = 1
    found = values(truth.estimator_rows(right, pools=200), "estimator")
    bias = {case: r for (case, quantity), r in found.items() if quantity.startswith("bias")}
    known = dict.fromkeys(bias, 0.0)
    known["estimator: 1 - (1 - c/n)^k, 32 samples"] = (1 - (31 / 32) ** 16) / 2 - 1 / 4
    assert len(bias) == 4
    for case, found_row in bias.items():
        half = (found_row["high"] - found_row["low"]) / 2
        assert abs(found_row["value"] - known[case]) <= 2.5 * half + 1e-9  # 5 standard errors


def test_a_pool_stopped_at_its_second_success_has_the_known_pass_at_k():
    order = np.array([[0, 1, 1, 0], [0, 0, 0, 1]])
    # stopped at the third draw: one of the two before is right; never stopped: 1 of 4
    np.testing.assert_allclose(truth.stopped(order, 2, 1), [0.5, 0.25])


def test_likelihood_intervals_hold_the_mean_of_a_pool_and_a_bootstrap_of_few_does_so_less():
    right = np.random.default_rng(0).random((300, 64)) < np.random.default_rng(1).beta(
        0.1, 1, (300, 1)
    )
    found = values(truth.interval_rows(right, sizes=(20,), studies=400))
    share = {case.split(",")[0]: r["value"] for (case, q), r in found.items()
             if q == "calibration" and "coverage at 1 " in case}  # fmt: skip
    assert share["interval: empirical likelihood"] >= 0.93
    assert share["interval: bootstrap"] < share["interval: empirical likelihood"]


def test_the_law_chosen_is_the_one_that_the_known_points_follow():
    k = truth.KNOWN.astype(float)
    later = truth.LATER.astype(float)

    def curve(law):
        y = law(k)
        return Curve(k, y, y, y, np.tile(y, (20, 1)))

    for name, law, same in (  # a floor less a power near 0 is a line
        ("exp_power", lambda x: np.exp(-2.0 * x**-0.5), ()),
        ("log_line", lambda x: 0.1 + 0.2 * np.log10(x), ("power_floor",)),
    ):
        found = repeated.forecasts_of(curve(law), later, law(later))
        assert repeated.choose(curve(law), list(found)) in (name, *same)
        assert found[name]["error"].abs().max() < 1e-3
        assert found[name]["covered"].all()


def test_the_mean_of_the_levels_forecasts_is_the_exact_coverage(walks):
    scored = repeated.mean_forecast(walks, 8, replicates=40)
    assert scored["x"].tolist() == [16, 32, 64]
    exact = [coverage_without_look_ahead(LEVELS, k) for k in (16, 32, 64)]
    np.testing.assert_allclose(scored["predicted"], exact, atol=0.03)
    assert (scored["low"] < scored["predicted"]).all()
    assert (scored["predicted"] < scored["high"]).all()
    np.testing.assert_allclose(scored["y"], walks.curve().y[4:])


def test_laws_are_scored_on_the_pool_and_on_the_exact_coverage():
    """Rates that are exact leave the luck of 16 samples: the line from 4 is within 4 points."""
    rate = np.repeat(2.0 ** -np.arange(1, 11), 40)[:, None]
    right = np.random.default_rng(0).random((400, 256)) < rate
    found = values(truth.law_rows(right, problems=200, studies=1, replicates=20), "forecast for")
    line = "forecast for the same problems: log_line from 4 samples"
    assert found[line, "median error"]["value"] < 0.04
    assert found[line, "median error against the exact coverage"]["value"] < 0.06
    assert found["forecast for the same problems: power", "median error"]["value"] > 0.05


def test_a_planned_study_costs_what_was_planned_and_its_interval_holds_the_difference(walks):
    found = values(truth.planner_rows(walks, pilots=4, samples=8, studies=100))
    known = (1 / 4 + 3 / 16 + 7 / 64) / 3
    assert found["planner", "difference, exact"]["value"] == pytest.approx(known)
    assert found["planner", "calibration of the interval"]["value"] > 0.9
    assert found["planner", "planned FLOPs by those spent"]["value"] == pytest.approx(1, abs=0.05)
    one, two = truth.pairs(walks)
    rates = [2.0**-n for n in (1, 2, 3)]
    for side, known in ((one, np.mean(rates)), (two, np.mean([1 - (1 - p) ** 2 for p in rates]))):
        assert abs(side.mean() - known) < 5 * np.sqrt(0.2 / side.size)

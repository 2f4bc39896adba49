"""The figures of learning to think: their law, the best mix, and that they draw from small runs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from scaling.figures.gallery import FIGURES, draw_all
from scaling.figures.thinking import (
    LOG_LINE,
    best_within,
    comparable,
    direct_runs,
    families,
    reward_curve,
    traces_as_samples,
    with_extra_runs,
)
from scaling.fits import fit
from scaling.models import load_lm
from scaling.records import Plan
from scaling.runs import Runs
from scaling.sampling import sample_run
from scaling.tasks import get_task


def test_the_line_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    x = np.geomspace(10, 1e5, 12)
    y = 0.1 + 0.15 * np.log10(x) + 0.02 * rng.standard_normal(12)
    b, a = np.polyfit(np.log10(x), y, 1)
    found = fit(LOG_LINE, x, y, bootstrap=0).params
    assert (found["a"], found["b"]) == pytest.approx((a, b), abs=1e-6)


def test_the_best_offer_is_what_enumeration_finds():
    values = np.tile([0.2, 0.4, 0.5], (6, 1))
    best = best_within(np.array([20.0, 60, 70]), values, np.array([11, 20, 60, 110.0]))[:, 0]
    assert best[1:] == pytest.approx([0.2, 0.4, 0.5])
    assert np.isnan(best[0])


def test_the_best_of_many_equal_offers_is_no_better_than_one():
    """The largest of 40 means is .61 on average; four standard errors of our mean are .03."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, 2, (100, 40)).astype(float) for _ in range(50)]
    free, total = np.zeros(40), np.ones(1)
    found = np.array([best_within(free, values, total)[0] for values in draws])
    assert np.mean([values.mean(axis=0).max() for values in draws]) > 0.58
    assert found[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    assert ((found[:, 1] < 0.5) & (found[:, 2] > 0.5)).mean() > 0.85


@pytest.fixture(scope="module")
def study(tiny_folder, tmp_path_factory) -> Runs:
    """Return three checkpoints of a made-up reward phase, and a direct model.

    In addition, a thinker with less pre-training.
    """
    lm, root = load_lm(tiny_folder), tmp_path_factory.mktemp("runs")
    lm = replace(lm, skills=("thinking",))
    task = get_task("countdown", ("3x20",))
    problems = task.problems(4)
    think = Plan("thinking", chains=2, steps=4, max_new_tokens=16)
    names = {"start": 1e9, "grpo/1e8": 1.1e9, "grpo/2e8": 1.2e9, "grpo/1e9": 2e9}
    made = [(root, f"tiny/{name}", flops) for name, flops in names.items()]
    for folder, name, flops in (*made, (root / "thinking", "tiny-1e8/grpo/1e9", 1.1e9)):
        card = replace(lm.card, name=f"thinking/{name}", train_flops=flops)
        other = replace(lm, card=card)
        sample_run(other, task, problems, think, folder, progress=False, device="cpu")
    plain = Plan(chains=2, max_new_tokens=8)
    sample_run(lm, task, problems, plain, root, progress=False, device="cpu")
    return Runs.load(root)


def test_reward_is_priced_without_what_came_before(study):
    found = families(study)
    assert list(found) == ["imitation", "grpo"]
    shown = reward_curve(found["grpo"], found["imitation"][0])
    np.testing.assert_allclose(shown.x, [1e8, 2e8, 1e9])


def test_the_figures_draw_from_small_runs(study, tmp_path, svg_only):
    written = draw_all(study, tmp_path, ["o1_two_panels", "compute_mix"])
    assert len(written) == 4
    facts = json.loads((tmp_path / "compute_mix.json").read_text())["facts"]
    (other,) = with_extra_runs(study)[len(study) :]
    assert facts["beside"] == {other.path.name: other.sha256}
    assert {name.rpartition(" at ")[0] for name in facts} - {""} == {
        "direct: pre-training",
        "thinking: imitation",
        "thinking: GRPO",
        "thinking: GRPO after 1e8",
    }


def test_traces_side_by_side_cost_the_prompt_once_and_each_its_own_thinking(study):
    (_, thinker) = comparable(study, "thinking", families(study)["imitation"][0])[:2]
    k = thinker.budgets()
    for step in range(len(k)):
        traces, spent = traces_as_samples(thinker, step), {}
        for unit in ("flops", "tokens"):
            one, two = traces.cost(unit, np.array([1, 2])).T
            shared = traces.costs[unit][0]
            np.testing.assert_allclose(one, thinker.cost(unit, k)[:, step])
            np.testing.assert_allclose(two - shared, 2 * (one - shared))
            spent[unit] = two
        frame = thinker.samples.query("step == @step")
        asked = thinker.samples.query("step == @thinker.plan.steps - 1").prompt_tokens
        whole = (frame.prompt_tokens + frame.completion_tokens).to_numpy() - asked.to_numpy()
        prompt = asked.to_numpy().reshape(4, 2)[:, 0]
        np.testing.assert_allclose(spent["tokens"], prompt + whole.reshape(4, 2).sum(axis=1))
        np.testing.assert_allclose(
            traces.values("majority", np.array([1])), thinker.values("last", k)[:, [step]]
        )


def test_only_direct_models_on_the_thinkers_problems_are_compared_with_them(study):
    (plain,) = study.select("countdown", "best_of_n")
    others = replace(plain, problems=plain.problems.assign(id="another"))
    pools = (others, *study)
    assert direct_runs(Runs(pools)) == [plain]


def test_figures_are_none_without_thinkers(study):
    without = Runs(tuple(study.select("countdown", "best_of_n")))
    assert FIGURES["o1_two_panels"](without) is FIGURES["compute_mix"](without) is None

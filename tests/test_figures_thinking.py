"""The figures of learning to think: their law, the best mix, and that they draw from small runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scaling.figures import FIGURES, Study, draw_all
from scaling.figures.thinking import LOG_LINE, best_within, families, reward_curve
from scaling.fits import fit
from scaling.models import load_lm
from scaling.records import Plan
from scaling.study import sample_run
from scaling.tasks import get_task


def test_the_line_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    x = np.geomspace(10, 1e5, 12)
    y = 0.1 + 0.15 * np.log10(x) + 0.02 * rng.standard_normal(12)
    b, a = np.polyfit(np.log10(x), y, 1)
    found = fit(LOG_LINE, x, y, bootstrap=0).params
    assert (found["a"], found["b"]) == pytest.approx((a, b), abs=1e-6)


def test_the_best_offer_is_what_enumeration_finds():
    rows = np.array([[10, 1, 0.2, 0, 1], [10, 5, 0.4, 0, 1], [50, 1, 0.5, 0, 1]], float)
    best = best_within(rows, np.array([11, 20, 60, 110, 200.0]), queries=10)[:, 0]
    assert best.tolist()[1:] == [0.2, 0.5, 0.5, 0.5]  # costs: 20, 60, 60
    assert np.isnan(best[0])


@pytest.fixture(scope="module")
def study(tiny_folder, tmp_path_factory) -> Study:
    """Return three checkpoints of a made-up reward phase, and a direct model."""
    lm, root = load_lm(tiny_folder), tmp_path_factory.mktemp("runs")
    lm = replace(lm, skills=("thinking",))
    task = get_task("countdown", ("3x20",))
    problems = task.problems(4)
    think = Plan("thinking", chains=2, steps=4, max_new_tokens=16)
    names = {"start": 1e9, "grpo/1e8": 1.1e9, "grpo/2e8": 1.2e9, "grpo/1e9": 2e9}
    for name, flops in names.items():
        card = replace(lm.card, name=f"thinking/tiny/{name}", train_flops=flops)
        made = replace(lm, card=card)
        sample_run(made, task, problems, think, root, progress=False, device="cpu")
    plain = Plan(chains=2, max_new_tokens=8)
    sample_run(lm, task, problems, plain, root, progress=False, device="cpu")
    return Study.load(root)


def test_reward_is_priced_without_what_came_before(study):
    found = families(study)
    assert list(found) == ["imitation", "grpo"]
    shown = reward_curve(found["grpo"], found["imitation"][0])
    np.testing.assert_allclose(shown.x, [1e8, 2e8, 1e9])


def test_the_figures_draw_from_small_runs_and_are_none_without(study, tmp_path):
    written = draw_all(study, tmp_path, ["o1_two_panels", "compute_mix"])
    assert len(written) == 8
    without = Study(tuple(study.select("countdown")))
    assert FIGURES["o1_two_panels"](without) is FIGURES["compute_mix"](without) is None

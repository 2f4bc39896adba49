"""The figure of learning to think: its law, and that it draws from small runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scaling.figures.gallery import FIGURES
from scaling.figures.thinking import direct_runs, families, reward_curve
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
    found = fit("log_line", x, y, bootstrap=0).params
    assert (found["a"], found["b"]) == pytest.approx((a, b), abs=1e-6)


@pytest.fixture(scope="module")
def study(tiny_folder, tmp_path_factory) -> Runs:
    """Return three checkpoints of a made-up reward phase, one of another start, a direct model."""
    lm, root = load_lm(tiny_folder), tmp_path_factory.mktemp("runs")
    lm = replace(lm, skills=("thinking",))
    task = get_task("countdown", ("3x20",))
    problems = task.problems(4)
    think = Plan("thinking", chains=2, steps=4, max_new_tokens=16)
    names = {"start": 1e9, "grpo/1e8": 1.1e9, "grpo/2e8": 1.2e9, "grpo/1e9": 2e9}
    made = {f"tiny/{name}": flops for name, flops in names.items()} | {"tiny-1e8/grpo/1e9": 1.1e9}
    for name, flops in made.items():
        card = replace(lm.card, name=f"thinking/{name}", train_flops=flops)
        other = replace(lm, card=card)
        sample_run(other, task, problems, think, root, progress=False, device="cpu")
    plain = Plan(chains=2, max_new_tokens=8)
    sample_run(lm, task, problems, plain, root, progress=False, device="cpu")
    return Runs.load(root)


def test_reward_is_priced_without_what_came_before(study):
    found = families(study)
    assert list(found) == ["imitation", "grpo"]
    shown = reward_curve(found["grpo"], found["imitation"][0])
    np.testing.assert_allclose(shown.x, [1e8, 2e8, 1e9])


def test_only_direct_models_on_the_thinkers_problems_are_compared_with_them(study):
    (plain,) = study.select("countdown", "best_of_n")
    others = replace(plain, problems=plain.problems.assign(id="another"))
    pools = (others, *study)
    assert direct_runs(Runs(pools)) == [plain]


def test_the_figure_is_drawn_from_small_runs_and_is_none_without_thinkers(study):
    drawn = study.figure("o1_two_panels")
    assert {"train grpo", "test grpo", "test imitation"} <= set(drawn.facts)
    assert FIGURES["o1_two_panels"](study.select("countdown", "best_of_n")) is None

"""Figures take choices: what each changes, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import scaling as sc
from scaling.figures.gallery import FIGURES, choices_of, draw_all
from tests.test_nothing_silent import planted

pytestmark = pytest.mark.usefixtures("quick", "svg_only")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> sc.Runs:
    """Return two sizes with three checkpoints each and a revised one, on two tasks."""
    root = tmp_path_factory.mktemp("runs")
    for task, shift in (("countdown", 0.0), ("sums", 0.125)):
        for size, rates in ((1_000_000, (0.125, 0.25, 0.5)), (2_000_000, (0.125, 0.375, 0.625))):
            for at, rate in enumerate(rates):
                planted(root, task, rate + shift, size, 10.0 ** (9 + at), chains=32)
        planted(root, task, 0.5 + shift, 1_000_000, 1e11, method="revision", chains=4, steps=4)
    return sc.Runs.load(root)


CHOICES = {
    "task": "sums", "models": ["2.0M"], "level": "0x", "unit": "tokens", "selector": "majority"
}  # fmt: skip
TAKEN = [(name, choice) for name in ("coverage", "methods", "two_panels", "plane", "policy")
         for choice in choices_of(name)]  # fmt: skip


@pytest.mark.parametrize(("name", "choice"), TAKEN)
def test_every_choice_changes_the_points_that_are_drawn(runs, name, choice):
    plain, chosen = runs.figure(name).frame, runs.figure(name, **{choice: CHOICES[choice]}).frame
    numbers = [frame.select_dtypes("number").to_numpy() for frame in (plain, chosen)]
    assert numbers[0].shape != numbers[1].shape or not np.array_equal(*numbers, equal_nan=True)


def test_points_of_a_figure_are_those_of_the_curve(runs):
    drawn = runs.figure("two_panels", task="sums", level="0x", unit="tokens", selector="majority")
    run = runs.select("sums", "best_of_n").by_size("sums")["1.0 M"].closest(0.5)
    curve = run.curve("majority", "tokens", "0x")
    rows = drawn.frame.query("panel == 'sums: majority' and series == @run.model_name")
    for name in ("x", "y", "low", "high"):
        np.testing.assert_array_equal(rows[name], getattr(curve, name))


@pytest.mark.parametrize(
    ("name", "choices", "match"),
    [
        ("coverge", {}, "did you mean 'coverage'"),
        ("coverage", {"level": "0y"}, "unknown level '0y'; allowed: all, 0x, 1x"),
        ("coverage", {"task": "sum"}, "did you mean 'sums'"),
        ("coverage", {"models": ["1.0 N"]}, "did you mean '1.0 M'"),
        ("coverage", {"unit": "token"}, "did you mean 'tokens'"),
        ("coverage", {"selector": "majorty"}, "did you mean 'majority'"),
        ("coverage", {"levle": "0x"}, "takes no choice 'levle'.*did you mean 'level'"),
        (
            "policy",
            {"selector": "majority"},
            "policy takes no choice 'selector'.*taken by coverage",
        ),
        ("search", {}, "search needs runs that are not here"),
    ],
)
def test_a_choice_that_cannot_be_used_is_refused_with_what_can(runs, name, choices, match):
    with pytest.raises(ValueError, match=match):
        runs.figure(name, **choices)


def test_a_task_without_the_level_is_left_out_with_a_warning(tmp_path):
    planted(tmp_path, "sums", 0.5)
    other = sc.Runs.load(tmp_path)
    (run,) = other
    renamed = run.problems.assign(level="hard")
    both = sc.Runs([*other, replace(run, task="other", problems=renamed)])
    with pytest.warns(UserWarning, match="other left out: no level '0x'"):
        drawn = both.figure("coverage", level="0x")
    assert set(drawn.frame["panel"]) == {"sums 0x"}


def test_saved_figures_name_the_command_that_draws_them_with_their_choices(runs, tmp_path):
    paths = draw_all(runs, tmp_path, ["two_panels"], task="sums", level="0x")
    sidecar = json.loads(paths[-1].read_text())
    words = sidecar["redraw"].removeprefix("python -m scaling ").split()
    assert words == ["figures", "two_panels", "--task", "sums", "--level", "0x"]
    assert all("sums" in name for name in sidecar["runs"])
    with pytest.raises(ValueError, match="takes no choice 'level'"):
        draw_all(runs, tmp_path, tuple(FIGURES), level="0x")


def test_sizes_below_a_tenth_of_a_million_stay_apart(tmp_path):
    for size in (1_000, 2_000):
        planted(tmp_path, "sums", 0.5, size)
    assert list(sc.Runs.load(tmp_path).by_size("sums")) == ["1,000", "2,000"]

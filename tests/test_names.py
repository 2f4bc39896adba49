"""A name that nothing has is an error that says the nearest valid one, wherever names are taken."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from scaling.cli import main
from scaling.comparisons.equal_cost import compare
from scaling.comparisons.policy import pool_policy
from scaling.comparisons.revision import transitions
from scaling.estimates import chain_prefix
from scaling.figures.explore import Choice, view
from scaling.figures.gallery import draw_all
from scaling.figures.plane import joint_points, plane_fit
from scaling.fits import LAWS, fit, forecast, tournament
from scaling.fits.forecasts import law_tournament
from scaling.fits.joint import fit_joint, joint_tournament
from scaling.fits.published import curves as published
from scaling.fits.published import refit
from scaling.records import Plan, look_up, nearest_name
from scaling.report.leaderboard import leaderboard
from scaling.runs import Runs
from scaling.tasks import get_task
from tests.test_reporting import made

POINTS = (np.geomspace(1, 9, 9), np.geomspace(1, 9, 9), np.linspace(0.1, 0.9, 9))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    made(root)
    made(root, "revision", 3, 4)
    return Runs.load(root)


def calls(study: Runs):
    """Return {what is named: (a valid name, functions that take one)} of the reading side."""
    (plain,), (revised,) = study.select("planted", "best_of_n"), study.select("planted", "revision")
    run, k = plain.path.name, np.array([2])
    shown = partial(Choice, run)
    law = ("exp_power", plain, study.curve(plain, "coverage", "samples", "all"))
    return {
        "level": ("0x", [
            lambda name: plain.curve(level=name),
            lambda name: compare(revised, plain, "last", "logprob", level=name),
            lambda name: transitions(revised, name),
            lambda name: study.curve(plain, "coverage", "samples", name),
            lambda name: joint_points(study, "planted", "coverage", name),
            lambda name: view(study, shown(level=name, unit="tokens")),
        ]),
        "selector": ("majority", [
            lambda name: plain.curve(name),
            lambda name: plain.values(name, k),
            lambda name: plain.cost("flops", k, selector=name),
            lambda name: compare(revised, plain, name, "logprob"),
            lambda name: compare(revised, plain, "last", name),
            lambda name: law_tournament([plain], name, replicates=25),
            lambda name: view(study, shown(selector=name)),
        ]),
        "score": ("logprob", [plain.score]),
        "unit": ("flops", [
            lambda name: plain.curve(unit=name),
            lambda name: plain.cost(name, k),
            lambda name: plain.stopping_cost(name, k),
            lambda name: compare(revised, plain, "last", "logprob", unit=name),
            lambda name: pool_policy([plain], unit=name, pilot=2),
            lambda name: view(study, shown(unit=name)),
        ]),
        "method": ("revision", [
            lambda name: study.select("planted", str(name)),
            lambda name: study.with_baseline("planted", [name]),
        ]),
        "task": ("planted", [
            lambda name: study.select(str(name)),  # None is every task
            study.by_size,
            lambda name: study.with_baseline(name, ["revision"]),
            lambda name: plane_fit(study, name, "coverage"),
        ]),
        "own task": ("countdown", [get_task]),
        "figure": ("coverage", [lambda name: draw_all(study, study[0].path, [name])]),
        "law": ("exp_power", [
            lambda name: fit(name, law[2]),
            lambda name: forecast(name, law[2]),
            lambda name: tournament({"one": law[2]}, [name]),
            lambda name: law_tournament([plain], laws=[name], replicates=25),
            lambda name: view(study, shown(law=name), 22),
        ]),
        "joint law": ("plane_logit", [
            lambda name: fit_joint(name, *POINTS),
            lambda name: joint_tournament(*POINTS, laws=[name]),
        ]),
        "run": (run, [lambda name: view(study, Choice(name))]),
        "published": ("o1_mini", [refit]),
        "published curve": ("o1_mini_aime2024", [published]),
    }  # fmt: skip


KINDS = ["level", "selector", "score", "unit", "method", "task", "own task", "figure", "law",
         "joint law", "run", "published", "published curve"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [str.upper, lambda name: name + "q", lambda name: name[0] + name])
def test_a_name_that_nothing_has_is_an_error_with_the_nearest_one(study, kind, wrong):
    name, functions = calls(study)[kind]
    for call in functions:
        with pytest.raises(ValueError, match="unknown") as error:
            call(wrong(name))
        assert f"did you mean {name!r}" in str(error.value)


def test_every_kind_of_name_is_tried(study):
    assert set(calls(study)) == set(KINDS)


@pytest.mark.parametrize("other", ["", "hard", None, 3, ("0x",)])
def test_what_is_like_no_name_is_an_error_with_all_of_them(study, other):
    (plain,) = study.select("planted", "best_of_n")
    with pytest.raises(ValueError, match=r"unknown level .* allowed: all, 0x, 1x"):
        plain.curve(level=other)
    with pytest.raises(ValueError, match=r"unknown method .* allowed: best_of_n, revision"):
        study.select("planted", str(other))  # None is every method


def test_a_pool_of_one_level_has_that_level_and_all_alone(study):
    (plain,) = study.select("planted", "best_of_n")
    problems = plain.problems.assign(level="0x")
    single = replace(plain, problems=problems)
    assert np.array_equal(single.curve(level="0x").y, single.curve().y)
    with pytest.raises(ValueError, match="unknown level '1x'"):
        single.curve(level="1x")


def test_a_known_method_without_a_run_gives_none(study):
    for method in ("thinking", "wait", "dvts", "revision+verdict"):
        assert len(study.select("planted", method)) == 0


def test_the_nearest_name_ignores_case():
    assert nearest_name("COVERAGE", ["coverage", "majority"]) == "coverage"
    assert nearest_name("Exp_Power", LAWS) == "exp_power"
    with pytest.raises(ValueError, match="unknown thing 'b'; allowed: none"):
        look_up({}, "b", "thing")


def test_a_model_without_a_price_is_named(study):
    (plain,) = study.select("planted", "best_of_n")
    with pytest.warns(UserWarning, match=r"1 of 1 models have no price: tiny<b>&\$/1e9; the table"):
        table = leaderboard([plain], {"tiny<b>&$/1e8": (1.0, 2.0)})
    assert table["price"].isna().all()


@pytest.mark.parametrize(
    ("command", "near"),
    [
        ("fit --runs {0} --level 0X", "0x"),
        ("fit --runs {0} --selector Coverage", "coverage"),
        ("fit --runs {0} --unit flop", "flops"),
        ("fit --runs {0} --law EXP_POWER", "exp_power"),
        ("fit --runs {0} --task planed", "planted"),
        ("figures --runs {0} Coverage", "coverage"),
        ("search --model m --methods DVTS", "dvts"),
        ("train --size 0.1m", "0.1M"),
        ("reinforce --method GRPO", "grpo"),
        ("study --tasks Countdown --out {1}", "countdown"),
        ("sample --model m --task sums --method Best_of_N", "best_of_n"),
        ("sample --model m --task SUMS", "sums"),
    ],
)
def test_the_command_line_names_the_nearest_too(study, command, near, tmp_path, capsys):
    root = study[0].path.parent
    assert main(command.format(root, tmp_path / "out").split()) == 1
    message = capsys.readouterr().err
    assert f"did you mean {near!r}" in message
    assert message.count("\n") == 1


def test_what_a_plan_and_an_estimator_choose_between_is_named():
    with pytest.raises(ValueError, match="verdict"):
        Plan(method="revision", feedback="Verdict")
    with pytest.raises(ValueError, match="any, last, or best"):
        chain_prefix(np.ones((1, 2, 2)), "Last")

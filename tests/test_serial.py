"""The study of the serial task on planted runs, and forecasts along thinking tokens."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from scaling.compute import Shape
from scaling.figures.study import thinking_tokens
from scaling.records import ModelCard, Sample
from scaling.results import serial
from scaling.results.table import results_table
from scaling.runs import Runs, load_run
from scaling.store import open_run
from scaling.tasks import get_task
from scaling.tasks.permutations import STEP_TOKENS
from scaling.tasks.traces import thinking_budgets

SIZES, KIND = (96, 48, 4, 3, 3, 16, 128, 1472), (True, True, *[False] * 4, 1, False)
SHAPE = asdict(Shape("llama", *SIZES, *KIND))
ANSWER_TOKENS = 7  #: the mark, the order and the stop token


def ideal_thinking(problem, plan) -> list[Sample]:
    """Return the rows of a trace without errors; an answer before its end is wrong."""
    end = (len(problem.id) - 6) * STEP_TOKENS
    start, found = len(problem.prompt), []
    for step, budget in enumerate(thinking_budgets(plan)):
        over = budget >= end
        thought = min(budget, end)
        tokens = (start + thought + 1, start + thought, ANSWER_TOKENS - 1)
        if budget == plan.max_new_tokens:
            tokens = (start, 0, thought + ANSWER_TOKENS)
        answer = problem.answer if over else problem.answer[::-1]
        place = problem.id, 0, step
        found.append(Sample(*place, "", answer, over, -1.0, -1.0, *tokens, 0.1, "stop"))
    return found


def guesses(problem, plan) -> list[Sample]:
    """Return direct answers: the first is right, and of the wrong ones every second is the same."""
    wrong = sorted({problem.answer[i:] + problem.answer[:i] for i in range(1, 5)})
    answers = [problem.answer] + [wrong[j % 2 * (1 + j // 2 % 3)] for j in range(plan.chains - 1)]
    tokens = (len(problem.prompt), 0, ANSWER_TOKENS - 1)
    return [
        Sample(problem.id, i, 0, "", a, a == problem.answer, -1.0, -1.0, *tokens, 0.1, "stop")
        for i, a in enumerate(answers)
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    """Return the runs of the study on four problems a level."""
    root, found = tmp_path_factory.mktemp("serial"), []
    for wanted in serial.SAMPLED:
        card = ModelCard(wanted.model, 115_632, 100_000, 1e13, 10, SHAPE, "w")
        task, write = get_task(wanted.task, wanted.levels), guesses
        problems = task.problems(4 * len(wanted.levels))
        if wanted.plan.method == "thinking":
            write = ideal_thinking
        with open_run(
            root, task=wanted.task, card=card, plan=wanted.plan, problems=problems
        ) as writer:
            for problem in problems:
                writer.write(write(problem, wanted.plan))
            found.append(load_run(writer.seal()))
    return Runs(found)


@pytest.fixture(scope="module")
def results(runs) -> pd.DataFrame:
    found, left_out = results_table(runs, [serial])
    assert not left_out
    return found


@pytest.fixture(scope="module")
def table(results) -> pd.Series:
    return results.set_index(["case", "quantity"])["value"]


def test_a_thinker_without_errors_gains_a_level_per_doubling(table):
    for tokens in serial.TOKENS:
        case = f"all, {tokens} thinking tokens"
        done = sum(int(level) * STEP_TOKENS <= tokens for level in serial.LEVELS)
        assert table[case, "accuracy"] == pytest.approx(done / 6)
        assert 0 <= table[case, "accuracy without errors"] - done / 6 < 0.04  # guesses
    assert table["128", "errors per step"] == 0


def test_the_line_fitted_to_half_of_the_doublings_holds_for_the_others(table):
    case = "log_line in thinking"
    assert table[case, "b"] == pytest.approx(1 / 6 / np.log10(2))
    assert table[case, "median error"] == pytest.approx(0, abs=1e-9)
    assert table[case, "held-out points inside"] == 1
    assert table[f"{case}, 256 thinking tokens", "forecast"] == pytest.approx(5 / 6)


def test_the_prompt_is_charged_once_and_bends_the_line_along_flops(runs, table):
    case = "log_line in flops"
    assert table[case, "median error"] > 0.02
    flops = runs[0].costs["flops"]
    whole = flops[0] + flops[1][:, 0, -1]
    assert table["all, 512 thinking tokens", "FLOPs"] == pytest.approx(whole.mean())


def test_many_guesses_cover_the_answer_and_outvote_it(table):
    for level in ("2", "64", "all"):
        assert table[level, "coverage@64"] == 1
        assert table[level, "majority@64"] == 0
        assert table[f"{level}, {serial.MODEL}", "pass@1"] == pytest.approx(1 / 64)
        assert table[f"{level}, {serial.SHORT}3e12", "pass@1"] == pytest.approx(1 / 8)
    assert table["guesses among 60", "coverage@64"] == pytest.approx(0.659, abs=5e-4)
    assert table["2", "accuracy of the best guess"] == pytest.approx(0.1)


def test_the_figure_draws_fitted_points_full_and_held_out_points_open(results):
    drawn = thinking_tokens(results)
    left, right = drawn.figure.axes
    full, empty = (line.get_ydata() for line in left.lines if line.get_marker() == "o")
    assert list(full) == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert list(empty) == pytest.approx([4 / 6, 5 / 6, 1])
    assert drawn.facts["thinking"]["median error"] == pytest.approx(0, abs=1e-9)
    assert right.get_xlabel() == "test FLOPs per problem"


# -- forecasts along thinking tokens ---------------------------------------------------------------


def test_a_forecast_sees_nothing_of_larger_budgets_of_thinking(runs):
    """Answers to larger budgets all planted wrong change the score, and not the fit."""
    run = runs[0]
    correct = run.correct.copy()
    correct[:, :, 5:] = 0
    for unit in ("thinking", "flops"):
        plain, planted = (
            one.forecast("log_line", 64, unit=unit, replicates=50)
            for one in (run, run.with_arrays(correct=correct))
        )
        assert plain.fit.params == planted.fit.params
        assert plain.fit.n_points == 4
        assert (planted.frame["y"] < plain.frame["y"]).all()
    assert "fitted to 64 thinking tokens" in repr(plain)


@pytest.mark.parametrize(
    ("method", "fit_up_to", "unit", "message"),
    [
        ("thinking", 8, "", "fit_up_to is 8; give thinking tokens: 16, 32"),
        ("thinking", 512, "", "fit_up_to is 512; give thinking tokens: 16, 32"),
        ("thinking", 64, "thoughts", "unit"),
        ("best_of_n", 8, "flops", "best-of-N run is forecast along its samples"),
        ("revision", 8, "", "best-of-N run, or a run by thinking"),
    ],
)
def test_what_cannot_be_forecast_is_refused(runs, method, fit_up_to, unit, message):
    run = runs[0] if method == "thinking" else runs[1]
    run = replace(run, plan=replace(run.plan, method=method)) if method == "revision" else run
    with pytest.raises(ValueError, match=message):
        run.forecast("log_line", fit_up_to, unit=unit)

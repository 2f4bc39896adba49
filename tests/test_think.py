"""Learning to think by reward: the log's columns, the figure, and the command end to end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.cli import main
from scaling.comparisons.overtaking import overtaking
from scaling.figures.reward import learning_to_think
from scaling.ladder import LADDERS, THINKING, rounds
from scaling.models import CARD, load_lm
from scaling.records import Plan, Verdict
from scaling.results import results_table, reward
from scaling.runs import Runs, load_run
from scaling.runs.lengths import cut
from scaling.runs.reward_log import COLUMNS, log_rows, paired_traces
from scaling.sampling import sample_run
from scaling.tasks import get_task
from scaling.think import draw, laws, think

TOY = replace(
    THINKING,
    lesson="grpo",
    decays=False,
    problems=16,
    chains=8,
    max_new_tokens=6,
    compiled=False,
    batch_tokens=512,
    rate=1e-2,
)
NONE = {"returns": 0, "dead_ends": 0, "repeats": 0}


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory):
    """Return the run of a model of random weights on mazes, with its texts."""
    task = get_task("maze-quit", ("1", "2"))
    plan = Plan(chains=4, max_new_tokens=6)
    root = tmp_path_factory.mktemp("runs")
    made = sample_run(load_lm(tiny_folder), task, task.problems(10), plan, root, progress=False)
    return load_run(made.path, text=True)


def test_a_row_of_the_log_is_the_mean_over_the_samples_of_a_level(run):
    def habits(problem_id: str, text: str) -> dict[str, int]:
        return {"returns": len(text) % 2, "dead_ends": 2, "repeats": int("a" in text)}

    log = log_rows(run, 512, 1e9, habits)
    assert list(log.columns) == COLUMNS
    assert log["level"].tolist() == ["1", "2", "all"]
    assert log["n_samples"].tolist() == [20, 20, 40]
    assert log["n_problems"].tolist() == [5, 5, 10]
    rows = run.samples.iloc[20:]  # problems are in the order of their levels
    assert set(rows["problem"]) == set(run.problems["id"][5:])
    second = log.iloc[1]
    assert second.tokens == pytest.approx(rows["completion_tokens"].mean())
    assert second.cut == pytest.approx((rows["finish"] == "length").mean())
    assert second.returns == pytest.approx((rows["text"].str.len() % 2).mean())
    assert second.repeats == pytest.approx(rows["text"].str.contains("a").mean() / 2)
    assert second.accuracy == pytest.approx(rows["correct"].mean())
    none = log_rows(run, 0, 0.0, lambda *_: NONE)
    assert none["repeats"].isna().all()


def test_accuracy_within_a_length_is_read_from_one_pool(run):
    correct, ledger = run.correct.copy(), dict(run.ledger)
    correct[:], lengths = 0, np.full(correct.shape, 9.0)
    correct[5, :2], lengths[5, 0], lengths[5, 1] = 1, 3, 5
    drawn = run.with_arrays(correct=correct, ledger=ledger | {"completion_tokens": lengths})
    for tokens, right in ((2, 0), (3, 1), (4, 1), (5, 2), (9, 2)):
        assert cut(drawn, tokens).correct.mean() == pytest.approx(right / 40)


def scripted(run, correct: np.ndarray):
    """Return a run with these verdicts (problems, chains, 1)."""
    count, chains, _ = correct.shape
    problems = pd.concat([run.problems] * (count // 10), ignore_index=True)
    problems["id"] += [f"/{i}" for i in range(count)]
    drawn = replace(run, problems=problems, plan=replace(run.plan, chains=chains))
    ledger = dict.fromkeys(run.ledger, np.ones(correct.shape))
    return drawn.with_arrays(correct=correct, answers=correct, ledger=ledger)


def test_the_crossing_of_two_known_coverages_is_found_with_an_interval(run):
    """One run solves four problems always, the other all with 1/4 each: they cross at k*."""
    sharp, broad = np.zeros((2, 100, 64, 1))
    sharp[:40], broad[:, ::4] = 1, 1
    before, after = scripted(run, sharp), scripted(run, broad)
    found = overtaking(after, before)
    k = found.k
    assert 1 < k < 2  # coverage 0.25 at one sample, 0.44 at two, against 0.4
    assert k == pytest.approx(2 ** (0.15 / (found.first[1] - 0.25)))
    assert found.low <= k <= found.high
    assert found.low < found.high
    assert (found.most, found.share) == (64, 1.0)
    never = overtaking(scripted(run, 0 * sharp), before)
    assert (never.k, never.low, never.share) == (np.inf, np.inf, 0)
    with pytest.raises(ValueError, match="different problems"):
        overtaking(before, run)


def test_a_law_of_a_known_curve_is_forecast_at_four_times_its_compute(run):
    """Accuracies that lie on a sigmoid are forecast; each law has a row."""
    spent, rng = np.geomspace(1e10, 6e12, 14), np.random.default_rng(0)
    known = 0.1 + 0.85 / (1 + np.exp(-3 * (np.log10(spent) - 11.3)))
    drawn = ((rng.random((400, 4, 1)) < chance).astype(float) for chance in (0.1, *known))
    runs = [scripted(run, correct) for correct in drawn]
    log = pd.DataFrame({"level": "all", "reward_flops": [0.0, *spent]})
    both = laws(runs, log)
    assert both.groupby("level")["law"].apply(list).tolist() == [["bnsl", "sigmoid"]] * 3
    assert (both["rmse_all"] < 0.03).all()
    found = both.iloc[-1]
    assert found.fitted == (spent <= 0.26 * 6e12).sum()
    assert found.fitted + found.held_out == 14
    assert found.predicted == pytest.approx(known[-1], abs=0.03)
    assert found.low <= found.accuracy <= found.high
    assert found.p_midpoint == pytest.approx(11.3, abs=0.1)
    assert laws(runs[:8], log[:8]).empty  # two of seven checkpoints have a quarter of the compute


def test_traces_of_the_same_problems_are_shown_before_and_after(run):
    shown = paired_traces(run, run, 4)
    assert shown["level"].tolist() == ["1", "1", "2", "2"]
    assert (shown["text_before"] == shown["text_after"]).all()
    first = run.samples.set_index(["problem", "chain"]).loc[(shown["id"].iloc[0], 0)]
    assert shown["text_before"].iloc[0] == first["text"]


def test_starts_of_reward_leave_room_for_its_traces():
    """A width that only the second phase has would be compiled for half a minute."""
    for name in ("maze-quit", "maze-rare", "maze-paths"):
        ladder = LADDERS[name]
        for recipe in ladder.recipes.values():  # rows of the two phases have the same shapes
            assert recipe.widths == THINKING.widths
            assert recipe.batch_tokens // recipe.parts == THINKING.batch_tokens
        assert sum(ladder.mixture.values()) == pytest.approx(1)


def test_reward_for_a_habit_makes_it_frequent_and_the_log_shows_it(
    tiny_folder, tmp_path, monkeypatch, svg_only, quick
):
    """A model of random weights is rewarded for returns: they become frequent."""
    task = get_task("maze-quit", THINKING.levels)
    monkeypatch.setattr(task, "verify", lambda _, text: Verdict(text, "|" in text))
    monkeypatch.setattr(task, "habits", lambda _, text: NONE | {"returns": text.count("|")})
    monkeypatch.setattr(rounds, "get_task", lambda *_: task)
    monkeypatch.setattr("scaling.think.get_task", lambda *_: task)
    runs, log = think(tiny_folder, tmp_path, TOY, (1e9, 1e10), problems=16, samples=4)
    total = log[log["level"] == "all"]
    assert total["reward_flops"].iloc[0] == total["samples"].iloc[0] == 0
    assert (total["reward_flops"].iloc[1:] >= [1e9, 1e10]).all()
    assert total["returns"].iloc[0] < 0.3
    assert total["returns"].iloc[-1] > 0.6
    written = pd.read_csv(tmp_path / "log.csv", dtype={"level": str})
    pd.testing.assert_frame_equal(written, log, rtol=1e-5)
    for name, seen in zip(("1e9", "1e10"), total["samples"][1:], strict=True):
        card = json.loads((tmp_path / "grpo" / name / CARD).read_text())
        assert len(card["rounds"]) * 128 == seen
        assert {"returns", "reward"} <= set(card["rounds"][-1])
    again = think(tiny_folder, tmp_path, TOY, (1e9, 1e10), problems=16, samples=4)
    pd.testing.assert_frame_equal(again[1], log)
    assert {path.name for path in draw(log, tmp_path)} == {"think.svg", "think.json"}
    facts = learning_to_think(log).facts
    assert facts["accuracy"] == total["accuracy"].iloc[-1] == runs[-1].first_accuracy


def test_the_command_ends_with_ten_traces_a_log_and_a_figure(
    tmp_path, monkeypatch, capsys, svg_only, quick
):
    """From the shipped start, with a budget of one small round."""
    small = replace(THINKING, problems=8, compiled=False)
    monkeypatch.setattr("scaling.ladder.THINKING", small)
    words = ("think", "--budgets", "1e8", "--problems", "60", "--samples", "2", "--out", tmp_path)
    main([str(word) for word in words])
    printed = capsys.readouterr().out
    traces = re.findall(r"^ +\d  (\S*) \((right|wrong)\)  ->  (\S*) \(", printed, re.MULTILINE)
    assert len(traces) == 10
    tests = get_task("maze-quit").problems(60)
    assert {trace[0][:1] for trace in traces} <= {problem.answer[0] for problem in tests}
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["level"].tolist() == ["1", "2", "3", "4", "6", "8", "all"] * 2
    first = log[log["level"] == "all"].iloc[0]
    assert 0.08 < first.accuracy < 0.3  # 0.179 of 1,200 samples
    assert log["samples"].tolist() == [0] * 7 + [64] * 7
    assert (tmp_path / "think.svg").exists()
    assert (tmp_path / "laws.csv").exists()


def test_the_rows_of_the_result_are_those_of_the_committed_logs(monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root)
    table, left_out = results_table(Runs([]), [reward])
    assert "sample the study first" in left_out["reward"]  # coverage needs the runs
    values = table.set_index(["case", "quantity"])["value"]
    log = pd.read_csv(root / "data/models/maze-quit/0.05M/shortest/log.csv")
    last = log[log["level"] == "all"].iloc[-1]
    case = f"maze-quit/0.05M, all, {last.reward_flops:g} FLOPs"
    for quantity in ("accuracy", "tokens", "samples"):
        assert values[case, quantity] == last[quantity]

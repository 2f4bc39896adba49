"""What a study would cost: a plan from a planted pilot, against its own arithmetic."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

import scaling as sc
from scaling.cli import main
from scaling.compute import Shape, forward_flops, sample_flops
from scaling.intervals import detectable_effect
from scaling.planner import estimate, plan, read_pilot
from scaling.records import ModelCard, Plan, Problem, Sample
from scaling.runs import load_run
from scaling.store import open_run
from scaling.tasks import get_task

SHAPE = Shape("llama", 32, 16, 2, 2, 2, 8, 32, 64, True, True, False, False, False, False, 1, False)
CARD = ModelCard("tiny", 1000, 500, 1e9, 10, asdict(SHAPE), "w")
PROMPT, COMPLETION, SECONDS = 12, 8, 0.25


def write_pilot(root, rate, seed=0, problems=60, chains=16, **changes):
    """Write a run in which problem i is right at `rate[i]`; return its folder."""
    rng = np.random.default_rng(seed)
    generated = [Problem(f"p{i}", "1+1=", "2", "2") for i in range(problems)]
    planned = replace(Plan(chains=chains, seed=seed), **changes)
    with open_run(root, task="sums", card=CARD, plan=planned, problems=generated) as writer:
        for i, problem in enumerate(generated):
            right = rng.uniform(size=chains) < rate[i]
            cost = (PROMPT, 0, COMPLETION, SECONDS, "stop")
            samples = [
                Sample(problem.id, j, 0, "2", "2", bool(r), -1.0, -1.0, *cost)
                for j, r in enumerate(right)
            ]
            writer.write(samples)
        return load_run(writer.seal())


@pytest.fixture(scope="module")
def pilots(tmp_path_factory):
    root = tmp_path_factory.mktemp("pilots")
    rate = np.random.default_rng(5).uniform(0.1, 0.8, size=60)
    return [write_pilot(root, rate + 0.1 * i, seed=i) for i in (0, 1)]


def test_a_pilot_shows_what_a_prompt_and_a_sample_cost(pilots):
    found = read_pilot(pilots)
    assert found.per_problem["tokens"] == 2 * PROMPT
    assert found.per_draw["tokens"] == COMPLETION
    assert found.per_draw["seconds"] == pytest.approx(SECONDS)
    assert found.per_problem["flops"] == pytest.approx(2 * forward_flops(SHAPE, PROMPT, 0, 0))
    assert found.per_draw["flops"] == pytest.approx(sample_flops(SHAPE, PROMPT, PROMPT, COMPLETION))
    assert found.between < 0.12  # planted: the same 0.1 on every problem, spread 0


def test_the_estimate_of_a_run_is_the_cost_that_its_log_shows_later(pilots):
    pool = pilots[0]
    before = estimate([PROMPT] * 60, pool.plan, SHAPE, mean_tokens=COMPLETION)
    for name, unit in (("samples", "samples"), ("flops", "flops")):
        shared, own = pool.costs[unit]
        assert before[name] == pytest.approx(shared.sum() + own.sum())
    frame = pool.samples
    assert before["tokens"] == frame["completion_tokens"].sum()
    assert before["billed_tokens"] == frame["prompt_tokens"].sum()
    assert before["prompt_tokens"] == 60 * PROMPT
    revised = estimate([10, 20], Plan(method="revision", chains=3, steps=2), None, 5)
    assert revised["samples"] == 12
    assert revised["tokens"] == 12 * 5
    assert revised["billed_tokens"] == 3 * (10 + 15 + 20 + 25)


def test_a_dry_run_multiplies_as_by_hand_and_starts_nothing(tiny_folder, tmp_path, capsys):
    task = ["--task", "sums", "--levels", "3x99", "--problems", "5", "--chains", "8"]
    sample = ["sample", "--model", str(tiny_folder), *task, "--max-new-tokens", "10", "--dry-run"]
    sample += ["--runs", str(tmp_path / "runs"), "--per-hour", "3600", "--workers", "3"]
    assert main([*sample]) == 1
    assert "--per-hour needs --tokens-per-second" in capsys.readouterr().err
    assert main([*sample, "--tokens-per-second", "100", "--per-million", "1e6", "2e6"]) == 0
    lines = capsys.readouterr().out.splitlines()[3:]  # behind what is drawn, and where it lies
    prompts = sum(len(problem.prompt) for problem in get_task("sums", ["3x99"]).problems(5))
    assert lines[0] == "40 samples of 5 problems"
    assert lines[1] == f"{prompts} prompt tokens, at most 400 new"
    assert lines[3] == "0.00111 hours on 1 worker(s)"  # 400 / 100 s; one unit keeps one busy
    assert lines[4].startswith(f"{prompts + 800:,}.00 to {8 * prompts + 800:,}.00 for tokens")
    assert lines[5] == "12.00 for hours"  # 4 s, three workers paid, 1 a second
    assert main([*sample, "--tokens-per-second", "100", "--mean-tokens", "5"]) == 0
    assert " 200 new" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_a_plan_detects_the_effect_with_the_wanted_power_and_prices_every_draw(pilots):
    pilot = read_pilot([pilots[0]])
    study, cost = plan(0.03, 0.9, pilot)
    assert study.detectable <= 0.03
    reached = detectable_effect(study.problems, study.samples, 0.15, pilot.within, 0.9)
    assert study.detectable == pytest.approx(float(reached))
    assert study.draws == 2 * study.problems * study.samples
    assert cost["tokens"] == 2 * study.problems * (PROMPT + study.samples * COMPLETION)
    assert cost["seconds"] == pytest.approx(study.draws * SECONDS)


def test_expensive_prompts_move_the_plan_from_problems_to_samples(pilots):
    pilot = read_pilot(pilots[:1])
    expensive = replace(pilot, per_problem={unit: 1e3 * c for unit, c in pilot.per_problem.items()})
    assert plan(0.03, 0.8, expensive)[0].samples > plan(0.03, 0.8, pilot)[0].samples
    assert plan(0.03, between=0.3)[0].problems > plan(0.03, between=0.1)[0].problems
    assert plan(0.03)[1] == {}


def test_pilots_that_cannot_be_paired_are_refused(pilots, tmp_path):
    other = write_pilot(tmp_path, np.full(30, 0.5), problems=30)
    revised = write_pilot(tmp_path, np.full(60, 0.5), method="revision", steps=2)
    correct = pilots[0].correct.copy()
    correct[3, 2, 0] = np.nan
    lost = pilots[0].with_arrays(correct=correct)
    for runs, says in (
        ([pilots[0], other], "different problems"),
        ([revised], "one best-of-N run, or two"),
        ([], "one best-of-N run, or two"),
        ([lost], "as many samples of every problem"),
    ):
        with pytest.raises(ValueError, match=says):
            read_pilot(runs)


def test_a_pilot_whose_costs_are_unknown_gives_a_plan_without_costs():
    (run, *_) = sc.read_counts("tests/data/counts.csv")
    study, cost = plan(0.05, 0.8, read_pilot([run]))
    assert cost == {}
    assert study.problems > 0


def test_the_command_prints_problems_samples_flops_and_hours(pilots, capsys):
    assert main(["plan", "--effect", "0.03", "--pilot", str(pilots[0].path)]) == 0
    study, cost = plan(0.03, 0.8, read_pilot([pilots[0]]))
    out = capsys.readouterr().out
    assert f"{study.problems:,} problems x {study.samples:,} samples x 2 methods" in out
    assert f"{cost['flops']:.3g} FLOPs" in out
    assert f"{cost['seconds'] / 3600:.3g} hours" in out
    assert main(["plan", "--effect", "0.03"]) == 0
    assert "for FLOPs and hours name one or two small runs: --pilot RUN" in capsys.readouterr().out
    assert main(["plan", "--effect", "0.001", "--max-problems", "50"]) == 1
    assert "50 problems cannot detect a difference of 0.001" in capsys.readouterr().err

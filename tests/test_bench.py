"""The benchmark: equal work on both sides, honest counts, a table for every required line."""

from __future__ import annotations

import csv
import os
import sys

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.against_vllm import vllm
from benchmarks.engine import (
    MODELS,
    WORKS,
    Work,
    bench,
    chosen,
    competitors,
    copy_rate,
    fastest_batch,
    limit,
    prompts,
    report,
)
from scaling.cli import main as scaling_main

FIXED = Work("fixed 6 x 5", "0.2M", 6, 3, prompt=4, new=5)
STEPS = Work("revision", "0.2M", 4, 1, prompt=4, new=5, steps=3)
RAGGED = Work("ragged", "0.2M", 4, 2, prompt=4, new=200, ragged=True)


@pytest.mark.parametrize(("work", "useful"), [(FIXED, 6 * 5), (STEPS, 4 * 5 * 3)])
def test_every_engine_draws_all_tokens_of_a_fixed_work(work, useful):
    engines = competitors(work, "cpu")
    assert {name.split(",")[0] for name in engines} == {"generate", "ours"}
    assert {sample() for sample in engines.values()} == {useful}


@pytest.mark.slow
def test_a_ragged_work_counts_tokens_up_to_the_stop_token_only():
    """Stops come once in 64 tokens: none in four rows of 200 has odds of 4e-6."""
    counts = {name: sample() for name, sample in competitors(RAGGED, "cpu").items()}
    assert all(4 <= count < 800 for count in counts.values()), counts


def test_a_pool_asks_a_shipped_model_its_own_problems():
    work = Work("pool", "0.1M/1e14", 6, 2, ragged=True, task="sums")
    assert len({len(prompt) for prompt in prompts(work)}) == 1
    counts = {name: sample() for name, sample in competitors(work, "cpu").items()}
    assert all(6 * 4 < count < 6 * 60 for count in counts.values()), counts  # it ends by itself


def test_the_fastest_batch_is_one_that_was_tried(monkeypatch):
    monkeypatch.setattr(
        "benchmarks.engine._seconds", lambda call: call.args[2] * abs(call.args[2] - 60)
    )
    work = Work("fixed", "0.2M", 1000, 50)
    assert fastest_batch(None, work) == 64
    assert fastest_batch(None, FIXED) == 6


def test_rows_are_written_with_ratios_to_default_and_to_the_best_peer(tmp_path):
    path = tmp_path / "bench.csv"
    rows = bench([FIXED], 2, "cpu", path)
    speed = {row["engine"]: row["tokens_per_second"] for row in rows}
    best = max(speed[name] for name in speed if not name.startswith("ours"))
    for row in rows:
        assert row["low"] <= row["tokens_per_second"] <= row["high"]
        assert row["ratio_to_default"] == pytest.approx(
            row["tokens_per_second"] / speed["generate"]
        )
        assert row["ratio_to_best_peer"] == pytest.approx(row["tokens_per_second"] / best)
    with path.open() as file:
        assert [row["engine"] for row in csv.DictReader(file)] == list(speed)
    assert len(report(rows).splitlines()) == len(rows) + 1


def test_a_limit_halves_with_twice_the_layers_and_grows_with_fewer_bytes(monkeypatch):
    monkeypatch.setattr("benchmarks.engine.matrix_rate", lambda *_: 1e30)
    monkeypatch.setattr("benchmarks.engine.copy_rate", lambda *_: 1e9)
    one, two = limit(FIXED, "cpu", torch.float32), limit(FIXED, "cpu", torch.bfloat16)
    assert two == pytest.approx(2 * one)  # all is bytes, and these are half
    assert limit(STEPS, "cpu", torch.float32) < one


def test_copy_rates_are_positive_at_any_size():
    assert copy_rate("cpu", 1) > 0
    assert copy_rate("cpu", 1e6) > 0


def test_the_works_cover_each_line_asked_of_the_engine():
    required = {("0.2M", 64), ("5M", 1024), ("30M", 64), ("gpt2", 64), ("qwen", 256)}
    assert required <= {(work.model, work.rows) for work in WORKS if work.name.startswith("fixed")}
    assert {work.name.split()[0] for work in WORKS} == {
        "fixed",
        "ragged",
        "prompt",
        "revision",
        "pool",
    }
    assert {work.model for work in WORKS} == set(MODELS)
    floors = {work.name.split()[0]: work.floors for work in WORKS if not work.device}
    assert (floors["ragged"], floors["prompt"], floors["revision"]) == ((6, 5), (13, 10), (4, 3))


@pytest.mark.slow
def test_vllm_samples_the_same_works_in_an_environment_of_its_own():
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        pytest.skip("VLLM_PYTHON names no interpreter that has vLLM: make test-servers")
    with vllm(python, "0.2M") as sample:
        assert sample(FIXED) == 6 * 5
        assert sample(STEPS) == 4 * 5 * 3
        assert 4 <= sample(RAGGED) < 800
        row = bench([FIXED], 1, "cpu", None, {"vLLM": sample})[-1]
    assert row["engine"] == "vLLM"
    assert row["ratio_to_default"] > 0


def test_an_interpreter_without_vllm_is_refused_in_one_line():
    with pytest.raises(ValueError, match="cannot sample with vLLM: ModuleNotFoundError"):
        next(vllm.__wrapped__(sys.executable, "0.2M"))


def test_a_choice_that_names_nothing_is_refused(capsys):
    assert {work.model for work in chosen(["gpt2"], ["fixed"])} == {"gpt2"}
    assert main(["--models", "9M"]) == 1
    assert main(["--works", "nonsense"]) == 1
    printed = capsys.readouterr().err
    assert "no benchmark model '9M'; allowed: 0.2M, 1M" in printed
    assert "no work is named like ['nonsense']" in printed


def test_the_verb_of_earlier_versions_names_the_new_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        scaling_main(["bench"])
    assert "use python -m benchmarks" in capsys.readouterr().err

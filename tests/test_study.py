"""The main job end to end: resumed runs equal unbroken ones, the table has its columns, figures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling import executors, sampling
from scaling.cli import main
from scaling.engine.isa import VARIABLE, levels, library
from scaling.estimates import pass_at_k
from scaling.models import load_lm
from scaling.records import Plan
from scaling.runs import load_run
from scaling.runs.tables import COLUMNS, accuracy_table
from scaling.sampling import RunSpec, sample_run
from scaling.store import writer as store_writer
from scaling.study import without_weights
from scaling.tasks import get_task
from tests.forks import FORKS, command, forked

LEVELS = levels() if library() else ()  #: instruction sets that the engine can compute with
PLAN = Plan(chains=8, max_new_tokens=12)
REVISE = Plan(method="revision", chains=2, steps=3, max_new_tokens=12)
DRAWN = ["problem", "chain", "step", "answer", "correct", "logprob", "completion_tokens", "text"]


def draw_one(model: Path, root: Path, problems: int = 12, task: str = "sums", **changes):
    """Return a sealed run of a plan like PLAN."""
    task = get_task(task)
    plan = replace(PLAN, **changes)
    return sample_run(load_lm(model), task, task.problems(problems), plan, root, progress=False)


def draw_at_once(model: Path, root: Path) -> None:
    """Draw 40 problems, each logged as soon as it is drawn."""
    store_writer.SAVE = 0
    draw_one(model, root, 40, chains=64)


@pytest.fixture(scope="module")
def runs(tiny_folder, tmp_path_factory) -> Path:
    """Return a folder of four small sealed runs."""
    root = tmp_path_factory.mktemp("runs")
    for task in ("sums", "countdown"):
        draw_one(tiny_folder, root, task=task)
        draw_one(tiny_folder, root, task=task, method="revision", chains=2, steps=3)
    return root


@pytest.fixture
def pools(runs):
    return [load_run(path) for path in sorted(runs.iterdir())]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_in_the_samples_of_an_unbroken_one(tiny_folder, tmp_path):
    whole = draw_one(tiny_folder, tmp_path / "whole", 40, chains=64)
    for _ in range(2):
        parts = len(list((tmp_path / "broken").glob("*/parts/*.parquet")))
        with forked(draw_at_once, tiny_folder, tmp_path / "broken") as child:
            until = time.time() + 60
            while time.time() < until and child.is_alive():
                if len(list((tmp_path / "broken").glob("*/parts/*.parquet"))) > parts:
                    break  # a part has just been written: the next problem is being drawn
                time.sleep(0.005)
            assert child.is_alive()
    resumed = draw_one(tiny_folder, tmp_path / "broken", 40, chains=64)
    names = {run.path.name for run in (whole, resumed)}
    assert len(names) == 1
    first, second = (load_run(run.path, text=True).samples[DRAWN] for run in (whole, resumed))
    pd.testing.assert_frame_equal(first, second)


class Watched:
    """A task that counts verdicts, and calls `at(problem)` at each."""

    def __init__(self, at) -> None:
        self.name, self.at, self.seen = "sums", at, Counter()

    def prompt(self, problem):
        return problem.prompt

    def verify(self, problem, text):
        self.seen[problem.id] += 1
        self.at(self)
        return get_task("sums").verify(problem, text)


def logged_problems(root: Path) -> set[str]:
    (path,) = root.iterdir()
    return set(load_run(path).samples["problem"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_leaving_early_keeps_the_complete_problems_and_only_the_others_are_drawn(
    tiny_folder, tmp_path, error
):
    """After 6 of 60 problems the log was once empty: ten were written together, or none."""

    def leave(task):
        if sum(task.seen.values()) > 6 * PLAN.chains:
            raise error

    whole = draw_one(tiny_folder, tmp_path / "whole", 12)
    arguments = load_lm(tiny_folder), get_task("sums").problems(12), PLAN, tmp_path / "broken"
    lm, problems, plan, root = arguments
    one_by_one = {"progress": False, "max_rows": 1}
    left = Watched(leave)
    with pytest.raises(error):
        sample_run(lm, left, problems, plan, root, **one_by_one)
    kept = logged_problems(root)
    done = {name for name, count in left.seen.items() if count == PLAN.chains}
    assert kept <= done
    assert len(done - kept) <= 1, "one may wait for the next row to be yielded"
    assert 4 <= len(kept) < 10
    going_on = Watched(lambda task: None)
    resumed = sample_run(lm, going_on, problems, plan, root, **one_by_one)
    assert not kept & set(going_on.seen)
    first, second = (load_run(run.path, text=True).samples[DRAWN] for run in (whole, resumed))
    pd.testing.assert_frame_equal(first, second)


def stopped_after(problems: int, model: Path, root: Path) -> None:
    """Sample 12 problems, one at a time, and stop after some of them."""

    def leave(task):
        if sum(task.seen.values()) > problems * PLAN.chains:
            raise KeyboardInterrupt

    arguments = load_lm(model), Watched(leave), get_task("sums").problems(12), PLAN, root
    with pytest.raises(KeyboardInterrupt):
        sample_run(*arguments, progress=False, max_rows=1)


@pytest.mark.parametrize("level", [*LEVELS, "none"])
def test_a_run_is_resumed_to_the_same_samples_at_each_instruction_set(
    tiny_folder, tmp_path, monkeypatch, level
):
    monkeypatch.setenv(VARIABLE, level)
    whole = draw_one(tiny_folder, tmp_path / "whole", 12)
    stopped_after(6, tiny_folder, tmp_path / "broken")
    resumed = draw_one(tiny_folder, tmp_path / "broken", 12)
    assert [s["extra"]["isas"] for s in resumed.manifest["sessions"]] == [[level], [level]]
    assert set(resumed.samples["isa"]) == {level}
    first, second = (load_run(run.path, text=True).samples[DRAWN] for run in (whole, resumed))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.skipif(not LEVELS, reason="no compiled engine")
def test_a_run_that_is_resumed_with_another_instruction_set_says_so(
    tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv(VARIABLE, LEVELS[-1])
    stopped_after(6, tiny_folder, tmp_path)
    monkeypatch.setenv(VARIABLE, "none")
    message = rf"\d problems were sampled with SCALING_ISA {LEVELS[-1]}, further ones with none"
    with pytest.warns(UserWarning, match=message):
        resumed = draw_one(tiny_folder, tmp_path, 12)
    isas = [session["extra"]["isas"] for session in resumed.manifest["sessions"]]
    assert isas == [[LEVELS[-1]], ["none"]]
    assert set(resumed.samples["isa"]) == {LEVELS[-1], "none"}


def test_a_run_of_several_workers_logs_what_each_of_them_computes_with(tiny_folder, tmp_path):
    """Workers of a cluster may have different processors."""
    task, lm = get_task("sums"), load_lm(tiny_folder, weights=False)
    spec = RunSpec(str(tiny_folder), task, tuple(task.problems(2)), PLAN, tmp_path)
    with sampling.open_log(lm, spec) as writer:
        for isa in ("avx2", "avx2"):
            sampling.note_engine(writer, {"isa": isa})
        with pytest.warns(UserWarning, match="sampled with SCALING_ISA avx2, further ones with"):
            sampling.note_engine(writer, {"isa": "amx"})
        sampling.note_engine(writer, {"device": "cuda"})
        assert writer.sessions[-1]["extra"]["isas"] == ["avx2", "amx"]


def test_at_any_moment_all_but_the_last_seconds_are_on_the_disk(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store_writer, "SAVE", 0.0)
    on_disk = []

    def look(task):
        done = {name for name, count in task.seen.items() if count == PLAN.chains}
        on_disk.append(len(done - logged_problems(tmp_path)))

    problems = get_task("sums").problems(12)
    sample_run(
        load_lm(tiny_folder), Watched(look), problems, PLAN, tmp_path, progress=False, max_rows=1
    )
    assert max(on_disk) <= 1, "the problem whose last sample has just been judged"
    assert logged_problems(tmp_path) == {problem.id for problem in problems}


@pytest.mark.parametrize("times", [1, 99])
def test_a_write_that_fails_is_raised_and_tried_once_more_on_the_way_out(
    tiny_folder, tmp_path, monkeypatch, times
):
    failures = iter([None, None, *[OSError("no room")] * times])

    def write_part(*arguments, write=store_writer.write_part):
        if failure := next(failures, None):
            raise failure
        write(*arguments)

    monkeypatch.setattr(store_writer, "SAVE", 0.0)
    monkeypatch.setattr(store_writer, "write_part", write_part)
    problems, lm = get_task("sums").problems(12), load_lm(tiny_folder)
    with pytest.raises(OSError, match="no room"):
        sample_run(lm, get_task("sums"), problems, PLAN, tmp_path, progress=False, max_rows=1)
    assert len(logged_problems(tmp_path)) == (3 if times == 1 else 2)


def test_a_run_left_between_its_last_problem_and_its_end_is_sealed_without_sampling(
    tiny_folder, tmp_path, monkeypatch
):
    def leave(*_):
        raise KeyboardInterrupt

    problems, lm = get_task("sums").problems(3), load_lm(tiny_folder)
    with monkeypatch.context() as patch:
        patch.setattr(store_writer.Writer, "seal", leave)
        with pytest.raises(KeyboardInterrupt):
            sample_run(lm, get_task("sums"), problems, PLAN, tmp_path, progress=False)
    assert sample_run(lm, Watched(leave), problems, PLAN, tmp_path, progress=False).sha256
    assert logged_problems(tmp_path) == {problem.id for problem in problems}


def test_samples_do_not_depend_on_the_batch(tiny_folder, tmp_path):
    task = get_task("sums")
    frames = []
    for rows in (3, 64):
        run = sample_run(
            load_lm(tiny_folder), task, task.problems(6), PLAN, tmp_path / str(rows),
            progress=False, max_rows=rows,
        )  # fmt: skip
        frames.append(load_run(run.path, text=True).samples[DRAWN])
    pd.testing.assert_frame_equal(*frames)


def test_another_seed_draws_other_samples(tiny_folder, tmp_path):
    texts = [
        load_run(draw_one(tiny_folder, tmp_path, seed=seed).path, text=True).samples["text"]
        for seed in (42, 43)
    ]
    assert (texts[0] == texts[1]).mean() < 0.1


def test_the_table_has_its_columns_first_and_a_row_per_budget(pools):
    table = accuracy_table(pools, replicates=50)
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS
    best = table.query("method == 'best_of_n' and selector == 'coverage' and level == 'all'")
    assert set(best["k"]) == {1, 2, 4, 8}
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["high"]).all()
    assert not table.duplicated(["task", "level", "model", "method", "selector", "k"]).any()


def test_coverage_is_the_unbiased_estimate_in_plain_pandas(pools):
    for pool in pools:
        if pool.plan.method == "best_of_n":
            frame = pool.samples.groupby("problem")["correct"]
            n, c = frame.size().to_numpy(), frame.sum().to_numpy()
            plain = pass_at_k(n, c, 4).mean()
            found = pool.curve("coverage", replicates=20)
            assert found.y[2] == pytest.approx(plain)


def test_a_budget_pays_for_its_prompt_once_and_for_every_sample(pools):
    (pool,) = [p for p in pools if p.task == "sums" and p.plan.method == "best_of_n"]
    frame = pool.samples
    tokens = pool.cost("tokens", np.array([1, 8])).mean(axis=0)
    prompt = frame.groupby("problem")["prompt_tokens"].first().mean()
    new = frame.groupby("problem")["completion_tokens"].sum().mean()
    assert tokens[1] == pytest.approx(prompt + new)
    assert tokens[0] == pytest.approx(prompt + new / 8)
    each = pool.cost("tokens", np.array([8]), shared_prompt=False).mean()
    assert each == pytest.approx(8 * prompt + new)
    flops = pool.cost("flops", np.array([1, 8])).mean(axis=0)
    assert flops[1] < 8 * flops[0]


def test_a_revision_step_costs_more_flops_than_the_first_draft(pools):
    (pool,) = [p for p in pools if p.task == "sums" and p.plan.method == "revision"]
    own = np.nanmean(pool.costs["flops"][1], axis=(0, 1))
    per_token = own / np.nanmean(pool.costs["tokens"][1], axis=(0, 1))
    assert (np.diff(per_token) > 0).all()


def test_a_pool_stopped_at_successes_is_read_without_bias(pools):
    """Cut whole pools as a stopped sampler would have: on average the whole pool's own pass@k."""
    (pool,) = [p for p in pools if p.task == "sums" and p.plan.method == "best_of_n"]
    rng, k, r = np.random.default_rng(0), np.array([1, 2, 4, 8]), 2
    whole = (rng.random((400, 8, 1)) < rng.beta(0.5, 2, (400, 1, 1))).astype(float)
    cut = whole.copy()
    cut[np.cumsum(whole, axis=1) - whole >= r] = np.nan
    cut[::3] = whole[::3]  # some rows were in flight and finished: they must not count
    run = replace(pool, plan=replace(pool.plan, stop_after_correct=r))
    stopped = run.with_arrays(correct=cut)
    found = stopped.values("coverage", k).mean(axis=0)
    expected = pass_at_k(8, whole[:, :, 0].sum(axis=1)[:, None], k).mean(axis=0)
    # standard error of the difference is below 0.013: four of them, odds 1 in 15,000 per point
    np.testing.assert_allclose(found, expected, atol=0.05)
    naive = pass_at_k(
        np.isfinite(cut[1::3, :, 0]).sum(1), np.nansum(cut[1::3, :, 0], axis=1), 1
    ).mean()
    assert naive > stopped.values("coverage", k)[1::3, 0].mean() + 0.02
    with pytest.raises(ValueError, match="only coverage"):
        stopped.values("majority", k)


def test_stopping_at_the_first_success_costs_what_a_replay_costs(pools):
    (pool,) = [p for p in pools if p.task == "sums" and p.plan.method == "best_of_n"]
    rng, k = np.random.default_rng(1), np.array([1, 3, 8])
    right = (rng.random(pool.correct.shape) < 0.3).astype(float)
    planted = pool.with_arrays(correct=right)
    own, shared = planted.costs["tokens"][1][:, :, 0], planted.costs["tokens"][0]
    replay = np.zeros((len(own), 3))
    for _ in range(400):
        order = rng.permuted(np.tile(np.arange(8), (len(own), 1)), axis=1)
        hit = np.take_along_axis(right[:, :, 0], order, axis=1)
        price = np.take_along_axis(own, order, axis=1)
        alive = np.cumsum(hit, axis=1) - hit == 0
        replay += (shared[:, None] + np.cumsum(price * alive, axis=1)[:, k - 1]) / 400
    exact = planted.stopping_cost("tokens", k)
    np.testing.assert_allclose(exact.mean(axis=0), replay.mean(axis=0), rtol=0.01)


def test_budgets_beyond_the_pool_are_refused(pools):
    for k in ([0], [-1], [9]):
        with pytest.raises(ValueError, match="the run's size"):
            pools[0].values("coverage", np.array(k))
    with pytest.raises(
        ValueError, match="selector of best_of_n 'coverge'; did you mean 'coverage'"
    ):
        pools[0].values("coverge", np.array([1]))


def test_a_grid_of_c_chains_costs_c_chains_and_covers_no_less(pools):
    (pool,) = [p for p in pools if p.task == "sums" and p.plan.method == "revision"]
    k = pool.budgets()
    one, two = (pool.cost("tokens", k, chains).mean(axis=0) for chains in (1, 2))
    prompt = np.nanmax(pool.ledger["prompt_tokens"][:, :, 0], axis=1).mean()
    np.testing.assert_allclose(two - prompt, 2 * (one - prompt))
    assert (pool.values("coverage", k, 2) >= pool.values("coverage", k) - 1e-12).all()
    rows = accuracy_table([pool], replicates=20).query("method == 'revision x2'")
    assert set(rows["k"]) == {2, 4, 6}


def test_seconds_tokens_and_bytes_grow_with_the_budget(pools):
    for pool in pools:
        for unit in ("tokens", "flops", "kv_bytes", "seconds"):
            assert (np.diff(pool.cost(unit, pool.budgets()).mean(axis=0)) > 0).all()


def run_main(*arguments) -> int:
    """Return the exit code of a command line."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as leave:
        return int(leave.code or 0)


def main_job(model: Path, out: Path) -> list[object]:
    """Return the words of the main job at its smallest."""
    return ["study", "--models", model.parents[1], "--preset", "tiny", "--workers", 1, "--out", out]


def test_the_main_job_runs_on_one_tiny_model(tiny_folder, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(executors, "get_context", lambda _: FORKS)
    assert run_main(*main_job(tiny_folder, tmp_path)) == 0
    table = pd.read_csv(tmp_path / "accuracy.csv")
    assert list(table.columns) == COLUMNS
    assert {"best_of_n", "revision", "revision+verdict"} <= set(table["method"])
    for name in ("coverage", "methods", "two_panels", "plane"):
        for suffix in ("png", "pdf", "svg", "json"):
            assert (tmp_path / "figures" / f"{name}.{suffix}").stat().st_size > 100


def test_an_interrupted_main_job_says_so_and_keeps_what_it_had(tiny_folder, tmp_path):
    words = main_job(tiny_folder, tmp_path)
    with forked(command, tmp_path / "message", *words) as child:
        until = time.time() + 120
        while time.time() < until and not list((tmp_path / "runs").glob("*/parts/*facts*")):
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGINT)
        child.join(60)
        assert child.exitcode == 130
    shown = (tmp_path / "message").read_text()
    assert "interrupted; the same command continues" in shown
    assert "Traceback" not in shown
    assert list((tmp_path / "runs").rglob("*.parquet"))


def test_stopped_and_unfinished_runs_are_left_out_of_figures_by_a_line_each(
    runs, tiny_folder, tmp_path, capsys, quick, svg_only
):
    """One run of --stop-after-correct, or one interrupted, once failed the figures of all."""

    def leave(task):
        if sum(task.seen.values()) > 2 * PLAN.chains:
            raise KeyboardInterrupt

    root = tmp_path / "runs"
    shutil.copytree(runs, root)
    stopped = draw_one(tiny_folder, root, stop_after_correct=2)
    arguments = load_lm(tiny_folder), Watched(leave), get_task("sums").problems(12)
    with pytest.raises(KeyboardInterrupt):
        sample_run(*arguments, replace(PLAN, seed=9), root, progress=False, max_rows=1)
    names = ["methods", "two_panels"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run_main("figures", *names, "--runs", root, "--figures", tmp_path / "more") == 0
    message = capsys.readouterr().err
    assert f"{stopped.path.name} is left out: it stopped early" in message
    assert "of 12 problems have no sample" in message
    assert message.count("is left out") == 2
    assert run_main("figures", *names, "--runs", runs, "--figures", tmp_path / "few") == 0
    for path in (tmp_path / "few").iterdir():
        assert path.read_bytes() == (tmp_path / "more" / path.name).read_bytes()


def test_figures_are_byte_identical_when_redrawn(runs, tmp_path):
    for folder in ("a", "b"):
        assert run_main("figures", "methods", "--runs", runs, "--figures", tmp_path / folder) == 0
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["sample", "--model", "/none", "--task", "sums"], 1, "no model folder /none"),
        (["sample", "--model", "/none", "--task", "smus"], 1, "did you mean 'sums'"),
        (
            ["sample", "--model", "/none", "--task", "sums", "--chians", "3"],
            2,
            "did you mean --chains",
        ),
        (["sample", "--model", "/none", "--task", "sums", "--chains", "0"], 1, "chains is 0"),
        (["sample", "--model", "/none", "--task", "sums", "--chains", "-4"], 1, "chains is -4"),
        (["sample", "--model", "/", "--task", "sums", "--method", "revison"], 1, "'revision'"),
        (["fit", "--law", "exp_powr"], 1, "did you mean 'exp_power'"),
        (["figures", "covrage"], 1, "did you mean 'coverage'"),
        (["figures", "--runs", "/none"], 1, "/none"),
        (["study", "--preset", "defualt"], 2, "did you mean default"),
        (["train", "--size", "0.2M"], 1, "unknown size '0.2M'"),
        (["stdy"], 2, "did you mean study"),
        (["audit", "--task", "sums", "/none"], 2, "--problems-file"),
        (["sample", "--model", "/", "--task", "sums", "--memory-gb", "inf"], 1, "positive, finite"),
        (
            ["sample", "--model", "/", "--task", "sums", "--scorer", "/none"],
            1,
            "best_of_n does not read",
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_a_non_zero_exit(arguments, code, says, capsys):
    assert run_main(*arguments) == code
    shown = capsys.readouterr().err.strip()
    assert says in shown
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("device", "code", "says"), [("cuda", 1, "no CUDA device"), ("cpu:x", 2, "allowed: auto, cpu")]
)
def test_a_device_that_is_not_there_is_one_line(device, code, says, tiny_folder, tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    arguments = ["--model", tiny_folder, "--task", "sums", "--device", device, "--runs", tmp_path]
    assert run_main("sample", *arguments) == code
    assert says in capsys.readouterr().err


LIGHT = """
import sys
from scaling.cli import main
try:
    main([sys.argv[1]])
except SystemExit:
    pass
assert "torch" not in sys.modules and "pandas" not in sys.modules
"""


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_need_no_torch(argument):
    subprocess.run([sys.executable, "-c", LIGHT, argument], check=True, capture_output=True)


def test_runs_of_models_without_shipped_weights_are_counted() -> None:
    data = Path(__file__).parents[1] / "data"
    missing = without_weights(data / "runs", data / "models/ladder")
    assert {name.split("/")[1] for name in missing} == {"1.3M", "4.8M"}
    assert all(not (data / "models" / name).exists() for name in missing)

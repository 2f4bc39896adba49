"""The log loses nothing that was finished, and says so when something was touched."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling import show, store
from scaling.estimates import pass_at_k
from scaling.intervals import mean_interval
from scaling.records import FINAL, ModelCard, Plan, Problem, Sample
from scaling.runs import Run, Runs, load_run
from scaling.store import files, manifest

ROOT = Path(store.__file__).parents[2]
PROBLEMS = [Problem(f"p{i}", f"prompt {i}", str(i), "easy" if i < 6 else "hard") for i in range(12)]
CARD = ModelCard("ladder/1M/3e13", 1_000_000, 900_000, 3e13, 5_000_000, {}, "abc")
PLAN = Plan(chains=8, steps=2, seed=3)
GROUPS = [PROBLEMS[i : i + 3] for i in range(0, 12, 3)]


def sample(problem: Problem, chain: int, step: int) -> Sample:
    """A sample that is a function of its place, as the engine's are."""
    rng = random.Random(f"{problem.id} {chain} {step}")
    return Sample(
        problem=problem.id,
        chain=chain,
        step=step,
        text=f"{problem.prompt}\n\u00d7 {rng.random()}",
        answer=rng.choice([None, problem.answer]),
        correct=rng.random() < 0.5,
        logprob=-rng.random(),
        sampling_logprob=float("nan") if step else -rng.random(),
        prompt_tokens=rng.randrange(50),
        cached_tokens=0,
        completion_tokens=rng.randrange(1, 64),
        seconds=0.25,
        finish=rng.choice(["stop", "length", f"{FINAL}: too long"]),
        thinking_tokens=rng.choice([None, 0, 1]),
    )


def rows(problems: list[Problem]) -> list[Sample]:
    grid = [(p, c, s) for p in problems for c in range(PLAN.chains) for s in range(PLAN.steps)]
    return [sample(*place) for place in grid]


def open_run(root: Path, **changed: Any) -> store.Writer:
    arguments = {"task": "sums", "card": CARD, "plan": PLAN, "problems": PROBLEMS} | changed
    return store.open_run(root, **arguments)


def finish(root: Path, written: set[str] | None = None) -> Run:
    """Open the run under `root`, write what is missing (noting it in `written`), seal."""
    with open_run(root) as writer:
        for group in GROUPS:
            if left := [problem for problem in group if problem.id not in writer.complete]:
                writer.write(rows(left))
                if written is not None:
                    written |= {problem.id for problem in left}
        return load_run(writer.seal())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save at once; asking git for the provenance takes longer than all the writing here."""
    monkeypatch.setattr(store.writer.provenance, "collect", lambda: {"commit": "c0ffee"})
    monkeypatch.setattr(store.writer, "SAVE", 0)


@pytest.fixture
def sealed(tmp_path: Path) -> Run:
    return finish(tmp_path / "runs")


@pytest.fixture
def half(tmp_path: Path) -> Iterator[store.Writer]:
    """An open run with half of its problems written, in two parts."""
    with open_run(tmp_path / "runs") as writer:
        for group in GROUPS[:2]:
            writer.write(rows(group))
        yield writer


def good(problems: list[Problem], **changes: Any) -> list[Sample]:
    """Return samples none of which failed."""
    return [dataclasses.replace(row, finish="stop", **changes) for row in rows(problems)]


def logged(run: Run) -> dict[str, bytes]:
    return {name: (run.path / name).read_bytes() for name in ("facts.parquet", "text.parquet")}


# ---- what goes in comes out ----


def test_a_loaded_run_equals_what_was_written(sealed: Run) -> None:
    run = load_run(sealed.path, text=True)
    wanted = pd.DataFrame([dataclasses.asdict(s) for s in rows(PROBLEMS)])
    measured = ["confidence_mean", "confidence_lowest", "entropy", "code_point", "isa"]
    assert run.samples[measured].isna().all(axis=None)
    wanted = wanted.drop(columns=measured)
    got = run.samples[list(wanted.columns)]
    for name in ("logprob", "sampling_logprob"):
        np.testing.assert_array_equal(got[name], wanted[name].astype(np.float32))
    names = [name for name in wanted if "logprob" not in name]
    pd.testing.assert_frame_equal(got[names], wanted[names], check_dtype=False)
    assert (run.task, run.card, run.plan) == ("sums", CARD, PLAN)
    assert [Problem(**row) for row in run.problems.to_dict("records")] == PROBLEMS


def test_unknown_train_flops_come_back_as_nan(tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, train_flops=float("nan"))
    with open_run(tmp_path, card=card) as writer:
        assert np.isnan(load_run(writer.seal()).card.train_flops)


def test_logged_integers_are_wide_enough_to_be_multiplied_by_parameters(
    sealed: Run,
) -> None:
    flops = sealed.samples["completion_tokens"] * 2 * 10**12
    assert (flops > 0).all()


def test_columns_are_chosen_and_an_unknown_one_names_the_nearest(sealed: Run) -> None:
    frame = load_run(sealed.path, columns=["correct", "chain"]).samples
    assert list(frame.columns) == ["correct", "chain"]
    with pytest.raises(ValueError, match=r"unknown column 'corect'; did you mean 'correct'"):
        load_run(sealed.path, columns=["corect"])


def test_load_runs_returns_every_run_of_a_folder(sealed: Run) -> None:
    root = sealed.path.parent
    with open_run(root, plan=Plan(seed=4)) as writer:
        assert {run.path for run in Runs.load(root)} == {sealed.path, writer.path}
    with pytest.raises(ValueError, match="not a folder"):
        Runs.load(root / "nowhere")


def test_an_open_run_can_be_read_while_it_is_written(half: store.Writer) -> None:
    run = load_run(half.path, text=True)
    assert len(run.samples) == 6 * PLAN.chains * PLAN.steps
    assert run.sha256 == ""
    assert run.samples["text"].str.startswith("prompt").all()


def test_a_run_shows_what_it_holds_and_its_accuracy(sealed: Run) -> None:
    n, c = sealed.counts
    found = mean_interval(pass_at_k(n[:, None], c[:, None], np.array([1])))
    shown = sealed._repr_html_()
    assert "sums: ladder/1M/3e13" in shown
    ends = (float(side[0]) for side in (found.value, found.low, found.high))
    for fact in ("192", "12", "best_of_n, 8 chains x 2", show.with_interval(*ends)):
        assert fact in shown


def test_a_run_that_is_sealed_while_it_is_read_is_read_whole(half, monkeypatch):
    for group in GROUPS[2:]:
        half.write(rows(group))
    read = store.reader.read_manifest

    def slowly(path: Path) -> dict[str, Any]:
        monkeypatch.setattr(store.reader, "read_manifest", read)
        manifest = read(path)
        half.seal()
        return manifest

    monkeypatch.setattr(store.reader, "read_manifest", slowly)
    run = load_run(half.path)
    assert (run.manifest["status"], len(run.samples)) == ("sealed", len(rows(PROBLEMS)))


def test_the_newest_samples_of_a_problem_count_once_they_are_on_the_disk(tmp_path, monkeypatch):
    """A problem that failed, or is judged again, is written again."""
    failed = [dataclasses.replace(row, finish="error: timeout") for row in rows(PROBLEMS[:2])]
    with open_run(tmp_path) as writer:
        writer.write([*failed, *good(PROBLEMS[2:3])])
        assert writer.complete == {"p2"}
        with monkeypatch.context() as patch:
            patch.setattr(store.writer, "write_part", no_space)
            with pytest.raises(OSError, match="No space"):
                writer.write(good(PROBLEMS[:1]))
        assert set(load_run(writer.path).samples["finish"]) == {"error: timeout", "stop"}
    with open_run(tmp_path) as writer:
        assert writer.complete == {"p0", "p2"}, "saved on the way out"
        writer.write(good(PROBLEMS[:1], seconds=0.5))
        assert len(writer.read()) == 3 * PLAN.chains * PLAN.steps
        found = load_run(writer.seal()).samples.groupby("problem")
    assert dict(found["seconds"].max()) == {"p0": 0.5, "p1": 0.25, "p2": 0.25}
    assert dict(found["finish"].first())["p1"] == "error: timeout"


def no_space(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_pending_problems_are_saved_by_time_by_flush_by_seal_or_on_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.writer, "SAVE", 1e9)
    with open_run(tmp_path) as writer:
        writer.write(rows(PROBLEMS[:1]))
        assert load_run(writer.path).samples.empty
        writer.flush()
        writer.flush()
        assert len(list(writer.path.glob("parts/*"))) == 2
        writer.write(rows(PROBLEMS[1:2]))
    with open_run(tmp_path) as writer:
        assert writer.complete == {"p0", "p1"}
        writer.write(rows(PROBLEMS[2:]))
        assert writer.finished
        assert len(load_run(writer.seal()).samples) == len(rows(PROBLEMS))


def test_the_instruction_set_of_each_sample_is_logged(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        for group, isa in zip(GROUPS, ("avx2", "amx", None, "avx2"), strict=True):
            writer.write(rows(group), isa)
        run = load_run(writer.seal())
    found = run.samples["isa"].fillna("unknown").groupby(run.samples["problem"]).agg(set)
    assert list(found[["p0", "p3", "p6", "p11"]]) == [{"avx2"}, {"amx"}, {"unknown"}, {"avx2"}]


def test_the_manifest_counts_errors_instead_of_dropping_them(sealed: Run) -> None:
    failed = sum(s.finish.startswith("error") for s in rows(PROBLEMS))
    assert failed > 0
    assert sealed.manifest["n_errors"] == failed
    assert sealed.manifest["n_samples"] == len(sealed.samples)
    assert sealed.manifest["n_problems"] == len(PROBLEMS)


# ---- resume ----


def test_the_same_plan_resumes_and_any_other_is_another_run(half: store.Writer) -> None:
    root = half.path.parent
    half.close()
    with open_run(root) as again:
        assert (again.path, again.complete) == (half.path, {p.id for p in PROBLEMS[:6]})
    others = [
        {"plan": dataclasses.replace(PLAN, seed=4)},
        {"card": dataclasses.replace(CARD, identity="other weights")},
        {"problems": PROBLEMS[:-1]},
        {"task": "countdown"},
    ]
    paths = set()
    for other in others:
        with open_run(root, **other) as writer:
            assert not writer.complete
            paths.add(writer.path)
    assert len(paths | {half.path}) == len(others) + 1


def test_every_session_of_a_run_is_recorded_with_its_settings(half: store.Writer) -> None:
    half.close()
    with open_run(half.path.parent, extra={"device": "cpu"}) as again:
        sessions = load_run(again.path).manifest["sessions"]
    assert sessions == [{"commit": "c0ffee", "extra": e} for e in ({}, {"device": "cpu"})]


def test_problems_in_any_order_end_in_the_same_bytes(sealed: Run, tmp_path: Path) -> None:
    with open_run(tmp_path / "other") as writer:
        for group in reversed(GROUPS):
            writer.write(rows(group)[::-1])
        assert logged(load_run(writer.seal())) == logged(sealed)


def test_sealing_twice_changes_nothing_and_a_sealed_run_takes_no_more(
    sealed: Run,
) -> None:
    before = (sealed.path / "manifest.json").read_bytes()
    with open_run(sealed.path.parent) as writer:
        assert writer.sealed
        assert writer.finished
        assert load_run(writer.seal()).sha256 == sealed.sha256
        with pytest.raises(ValueError, match="is sealed"):
            writer.write(rows(PROBLEMS[:1]))
    assert (sealed.path / "manifest.json").read_bytes() == before
    assert not (sealed.path / "parts").exists()


# ---- crashes ----


class Crash(BaseException):
    """Stands for a power cut: nothing after it runs, cleaning up included."""


@pytest.mark.slow
def test_a_crash_at_any_step_on_the_disk_loses_only_what_is_in_flight(
    sealed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1000):
        root = tmp_path / str(step)
        written: set[str] = set()
        with monkeypatch.context() as patch:
            if not crashes_at(step, root, patch, written):
                break
        with open_run(root) as writer:
            assert writer.complete >= written
        assert logged(finish(root)) == logged(sealed)
        assert not list(root.rglob("*.tmp"))
        assert not list(root.rglob("parts"))
        shutil.rmtree(root)
    assert step > 4 * len(GROUPS), "each part alone has more steps than that"


def crashes_at(step: int, root: Path, patch: pytest.MonkeyPatch, written: set[str]) -> bool:
    """Run until the n-th flush, rename or removal; return whether there was one to crash at."""
    left = iter(range(step))

    def dying(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(left, None) is None:
                patch.setattr(Path, "unlink", lambda *_, **__: None)
                raise Crash
            return real(*arguments, **options)

        return call

    for owner, name in ((os, "fsync"), (os, "replace"), (shutil, "rmtree")):
        patch.setattr(owner, name, dying(getattr(owner, name)))
    try:
        finish(root, written)
    except Crash:
        return True
    return False


OTHER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import *
store.writer.provenance.collect, store.writer.SAVE = dict, 0
for line in sys.stdin:
    print(eval(line), flush=True)
"""


def try_open(root: str) -> str:
    """Return how opening the run ends: in the other process."""
    try:
        open_run(Path(root)).close()
    except ValueError as error:
        return str(error)
    return "opened"


def kill_while_writing(root: str, delay: float) -> str:
    """Fork, let the child write, kill it after `delay` seconds: in the other process."""
    ready, signal = os.pipe()
    child = os.fork()
    if not child:
        finish(Path(f"{root} warm-up {delay}"))
        os.write(signal, b"!")
        finish(Path(root))
        os._exit(0)
    os.read(ready, 1)
    time.sleep(delay)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "killed"


@pytest.fixture(scope="module")
def other() -> Iterator[Callable[[str], str]]:
    """A second process that has imported this file and evaluates what it is sent."""
    pipe, command = subprocess.PIPE, [sys.executable, "-c", OTHER]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        sent, received = process.stdin, process.stdout

        def call(expression: str) -> str:
            print(expression, file=sent, flush=True)
            return received.readline().strip()

        yield call
        process.stdin.close()


@pytest.mark.slow
def test_kills_at_random_moments_end_in_the_same_bytes_as_an_unbroken_run(
    sealed: Run, tmp_path: Path, other: Callable[[str], str]
) -> None:
    rng, root, seen = random.Random(7), tmp_path / "killed", [0]
    for _ in range(10):
        delay = rng.random() * 0.06
        assert other(f"kill_while_writing({str(root)!r}, {delay})") == "killed"
        runs = [load_run(path.parent) for path in root.glob("*/manifest.json")]
        seen.append(sum(len(run.samples) for run in runs))
        assert seen[-1] >= seen[-2], "a complete problem was lost"
        if runs and runs[0].manifest["status"] == "sealed":
            assert logged(runs[0]) == logged(sealed)
            shutil.rmtree(root)
            seen.append(0)
    assert logged(finish(root)) == logged(sealed)


def test_a_second_process_is_refused_and_told_who_holds_the_run(
    half: store.Writer, other: Callable[[str], str]
) -> None:
    expression = f"try_open({str(half.path.parent)!r})"
    assert f"is being written by process {os.getpid()}" in other(expression)
    assert (half.path / "lock").read_text().startswith(f"process {os.getpid()} on ")
    half.close()
    assert other(expression) == "opened"


# ---- a full disk ----


@pytest.mark.parametrize("step", range(3))
def test_a_full_disk_is_one_clear_line_and_loses_nothing_that_is_saved(
    half: store.Writer, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, left, real = sorted(half.path.rglob("*")), iter(range(step)), os.fsync

    def full(handle: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"no space left to write .*free some space"):
            half.write(rows(GROUPS[2]))
    if step < 2:  # before the renames
        assert sorted(half.path.rglob("*")) == before
    half.write(rows(GROUPS[2]))
    assert len(load_run(half.path).samples) == 9 * PLAN.chains * PLAN.steps


def write_on_a_full_disk(disk: Path, ballast: Path) -> None:
    with open_run(disk) as writer:
        writer.write(rows(GROUPS[0]))
        with pytest.raises(OSError, match="No space"):
            fill(ballast)
        writer.write(rows(GROUPS[1]))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)


def test_a_file_system_that_really_fills_up_keeps_every_complete_problem(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="no space left to write"):
            write_on_a_full_disk(disk, ballast)
        with pytest.raises(OSError, match="no space left to write"):
            open_run(disk)
        ballast.unlink()
        assert len(finish(disk).samples) == len(rows(PROBLEMS))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- damage ----


def test_any_flipped_bit_of_a_sealed_log_is_found(sealed: Run) -> None:
    rng = random.Random(11)
    for name in ("facts.parquet", "text.parquet", "problems.parquet", "manifest.json"):
        path, whole = sealed.path / name, (sealed.path / name).read_bytes()
        for _ in range(40):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            with pytest.raises(ValueError, match=name):
                load_run(sealed.path, text=True)
        path.write_bytes(whole)
    load_run(sealed.path, text=True)


def test_a_run_without_its_texts_is_read_unless_texts_are_asked_for(sealed: Run) -> None:
    (sealed.path / "text.parquet").unlink()
    assert len(load_run(sealed.path).samples) == 192
    with pytest.raises(ValueError, match=r"holds no texts.*without text=True"):
        load_run(sealed.path, text=True)


def test_an_edited_log_is_refused_and_the_rows_are_named(sealed: Run) -> None:
    path = sealed.path / "facts.parquet"
    table = pq.read_table(path)
    correct = table["correct"].to_pylist()
    correct[170] = not correct[170]
    place = table.schema.get_field_index("correct")
    field = table.schema.field("correct")
    pq.write_table(table.set_column(place, field, [correct]), path)
    with pytest.raises(
        ValueError, match=r"written \(the first that differ are among rows 0 to 191"
    ):
        load_run(sealed.path)
    pq.write_table(table, path, compression="none")  # the same rows in other bytes
    with pytest.raises(ValueError, match=r"facts\.parquet was changed.*its rows are as they were"):
        load_run(sealed.path)


def test_a_shortened_log_says_how_many_rows_are_left(sealed: Run) -> None:
    path = sealed.path / "facts.parquet"
    pq.write_table(pq.read_table(path).slice(0, 100), path)
    reason = r"\(100 rows instead of 192; the first that differ are among rows 0 to 99\); restore"
    with pytest.raises(ValueError, match=rf"facts\.parquet was changed.*{reason}"):
        load_run(sealed.path)


def test_a_place_that_is_no_folder_is_refused_by_a_line_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"^no run can be written under /dev/full.*another folder"):
        open_run(Path("/dev/full"))


def test_a_truncated_log_names_the_file(sealed: Run) -> None:
    path = sealed.path / "facts.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"facts\.parquet is truncated or damaged"):
        load_run(sealed.path)
    path.unlink()
    with pytest.raises(ValueError, match=r"facts\.parquet cannot be read: No such file"):
        load_run(sealed.path)


def test_a_damaged_part_is_named_and_deleting_it_resumes_without_it(half: store.Writer) -> None:
    half.close()
    path = sorted(half.path.glob("parts/*.facts.parquet"))[1]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"parts/000001\..*delete it and resume"):
        open_run(half.path.parent)
    path.unlink()
    assert len(finish(half.path.parent).samples) == len(rows(PROBLEMS))


def test_a_plan_edited_in_an_open_manifest_is_found(half: store.Writer) -> None:
    path = half.path / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(ValueError, match=r"manifest\.json was edited"):
        load_run(half.path)


def test_another_format_is_refused_with_a_sentence(sealed: Run) -> None:
    path = sealed.path / "manifest.json"
    logged = json.loads(path.read_text())
    for number in (manifest.FORMAT + 1, 0, "two"):
        path.write_text(json.dumps(logged | {"format": number}))
        with pytest.raises(
            ValueError, match=f"format {number}, this version reads 1 to {manifest.FORMAT}; update"
        ):
            load_run(sealed.path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_run_of_an_earlier_format_is_read_resumed_and_guarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Columns are null there; a part `~failed` counts only until one without it is there."""
    old = rows(PROBLEMS[5:6])
    later = files.ADDED_COLUMNS if version == 1 else files.ADDED_COLUMNS[1:]
    with monkeypatch.context() as then:
        then.setitem(files.SCHEMAS, "facts", files.schema_of(Sample, skip=("text", *later)))
        with open_run(tmp_path) as writer:
            for number, samples in (
                ("000001", rows(PROBLEMS[:3])),
                ("000000", rows(PROBLEMS[3:6])),
                ("000000~failed", [dataclasses.replace(row, answer="7") for row in old]),
            ):
                tables = {k: files.table_of(samples, x, "") for k, x in files.SCHEMAS.items()}
                store.parts.write_part(writer.path, number, tables)
            path = writer.path
    logged = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(logged | {"format": version}))
    first = load_run(path).samples
    assert len(first) == 6 * PLAN.chains * PLAN.steps
    assert first["thinking_tokens"].isna().all() == (version == 1)
    assert not (first["answer"] == "7").any()
    run = finish(tmp_path)
    assert run.manifest["format"] == manifest.FORMAT
    assert len(run.samples) == len(rows(PROBLEMS))
    again = load_run(run.path).samples
    pd.testing.assert_frame_equal(again[: len(first)], first)
    assert again["thinking_tokens"][len(first) :].notna().any()


def test_a_manifest_that_is_not_json_names_the_line(sealed: Run) -> None:
    path = sealed.path / "manifest.json"
    path.write_text(path.read_text().replace(",\n", "\n", 1))
    with pytest.raises(ValueError, match=r"manifest\.json is not the manifest.*line 3"):
        load_run(sealed.path)


@pytest.mark.parametrize("field", ["format", "status", "sha256", "hash", "identity", "files"])
def test_a_manifest_without_a_field_names_it(sealed: Run, field: str) -> None:
    path = sealed.path / "manifest.json"
    logged = json.loads(path.read_text())
    del logged[field]
    if "sha256" in logged:
        logged["sha256"] = manifest.seal_hash(logged)
    path.write_text(json.dumps(logged))
    with pytest.raises(ValueError, match=f"is not the manifest of a run: no field '{field}'; rest"):
        load_run(sealed.path)


def test_a_manifest_that_says_nothing_of_the_model_is_one_line(sealed: Run) -> None:
    path = sealed.path / "manifest.json"
    logged = json.loads(path.read_text())
    del logged["identity"]["model"]
    logged["hash"] = files.json_hash(logged["identity"])
    path.write_text(json.dumps(logged | {"sha256": manifest.seal_hash(logged)}))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load_run(sealed.path)
    assert str(error.value) == f"{path} does not describe a run (KeyError('model')); restore it"


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load_run(tmp_path)
    assert str(error.value) == f"{tmp_path}/manifest.json cannot be read: No such file or directory"


# ---- rows that do not fit ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": None}, "column correct, row 5 is None"),
        ({"correct": 0.5}, "column correct"),
        ({"completion_tokens": 1.5}, "column completion_tokens"),
        ({"completion_tokens": 2**40}, "column completion_tokens"),
        ({"text": 3}, "column text"),
        ({"problem": "unheard of"}, "a problem unknown to its run: unheard of"),
        ({"chain": 0, "step": 0}, "1 samples more than once.*problem p0, chain 0, step 0"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    samples = rows(PROBLEMS[:3])
    samples[5] = dataclasses.replace(samples[5], **change)
    with open_run(tmp_path) as writer:
        with pytest.raises(ValueError, match=f"the log.*{message}"):
            writer.write(samples)
        assert not list((writer.path / "parts").iterdir())
    with open_run(tmp_path) as writer:
        assert not writer.complete


def test_a_run_needs_problems_each_once(tmp_path: Path) -> None:
    for problems in ([], [PROBLEMS[0], PROBLEMS[0]]):
        with pytest.raises(ValueError, match="give at least one, each id once"):
            open_run(tmp_path, problems=problems)


# ---- speed ----


@pytest.mark.slow
def test_a_million_samples_load(tmp_path: Path) -> None:
    problems = [Problem(f"p{i}", f"prompt {i}", str(i), "easy") for i in range(100)]
    with open_run(tmp_path, problems=problems) as writer:
        for problem in problems:
            one = sample(problem, 0, 0)
            pool = [dataclasses.replace(one, chain=i, logprob=-1 / (i + 1)) for i in range(10_000)]
            writer.write(pool)
        path = writer.seal()
    assert len(load_run(path).samples) == 1_000_000


def test_equal_tables_give_equal_bytes() -> None:
    table = files.table_of(rows(PROBLEMS), files.SCHEMAS["facts"], "rows")
    again = files.table_of(rows(PROBLEMS), files.SCHEMAS["facts"], "rows")
    assert files.to_parquet(table) == files.to_parquet(again)


@pytest.mark.parametrize(
    ("small", "codec", "split"), [(True, "ZSTD", "BYTE_STREAM_SPLIT"), (False, "SNAPPY", "PLAIN")]
)
def test_a_log_is_as_small_as_it_goes_and_a_part_as_quick(
    small: bool, codec: str, split: str
) -> None:
    one, floats = sample(PROBLEMS[0], 0, 0), 2 + np.random.default_rng(0).random((2000, 3))
    names = ("logprob", "sampling_logprob", "seconds")
    numbers = [dict(zip(names, map(float, row), strict=True)) for row in floats]
    pool = [dataclasses.replace(one, chain=i % 64, **row) for i, row in enumerate(numbers)]
    table = files.table_of(pool, files.SCHEMAS["facts"], "rows")
    group = pq.ParquetFile(io.BytesIO(files.to_parquet(table, small))).metadata.row_group(0)
    columns = {name: group.column(i) for i, name in enumerate(table.column_names)}
    assert {column.compression for column in columns.values()} == {codec}
    for name in names:
        assert split in columns[name].encodings
    assert ("RLE_DICTIONARY" in columns["answer"].encodings) == small
    assert columns["chain"].is_stats_set == small


def test_columns_are_plain_where_repeated_texts_make_that_smaller() -> None:
    rng = np.random.default_rng(0)
    text = rng.integers(500, size=20_000)  # 500 texts, each with its probability
    chosen = {"answer": [f"text {i}" for i in text], "logprob": -rng.random(500)[text]}
    table = pa.table({name: pa.array(column) for name, column in chosen.items()})
    group = pq.ParquetFile(io.BytesIO(files.to_parquet(table))).metadata.row_group(0)
    assert all("PLAIN" in group.column(i).encodings for i in range(2))
    assert not any("RLE_DICTIONARY" in group.column(i).encodings for i in range(2))


def test_hashes_of_runs_are_those_of_json_without_blanks_in_the_order_of_its_keys() -> None:
    """Another spelling of the same would make every older run one that was edited."""
    text = b'{"a":[null,0.5],"b":{"c":1,"d":"x"}}'
    value = {"b": {"d": "x", "c": 1}, "a": [None, 0.5]}
    assert files.json_hash(value) == hashlib.sha256(text).hexdigest()

"""Kills, full disks, damage and shortage of memory lose nothing and end in the same samples."""

from __future__ import annotations

import random
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling import sampling
from scaling.models import load_lm
from scaling.records import Plan
from scaling.runs import Run, Runs, load_run
from scaling.store import Writer, writer
from scaling.store.parts import find_parts
from scaling.tasks import get_task
from tests.forks import forked
from tests.trust.faults import warm_process

PLAN = Plan(chains=4, max_new_tokens=12)
DRAWN = ["problem", "chain", "step", "text", "answer", "correct", "logprob", "completion_tokens"]

posix = pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD and /proc are Linux's")


def draw(model: Path, root: Path, **options: Any) -> Run:
    """Return a small run of eight problems."""
    task = get_task("sums")
    lm, problems = load_lm(model), task.problems(8)
    return sampling.sample_run(lm, task, problems, PLAN, root, progress=False, **options)


def drawn(run: Run) -> pd.DataFrame:
    """Return what must not depend on anything but model, plan and keys."""
    return load_run(run.path, text=True).samples[DRAWN]


@pytest.fixture(autouse=True)
def _save_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SAVE", 0)  # each problem is on the disk as soon as it is complete


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing disturbs."""
    return draw(tiny_folder, tmp_path_factory.mktemp("whole"))


def open_copy(run: Run, model: Path, root: Path, problems: int = 6) -> Path:
    """Return a run under `root` that stopped after some problems."""
    write = Writer.write
    with pytest.MonkeyPatch.context() as patch:

        def stops(log: Writer, *samples: Any) -> None:
            if len(log.complete) == problems:
                raise KeyboardInterrupt
            write(log, *samples)

        patch.setattr(Writer, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            draw(model, root)
    return root / run.path.name


# ---- kills and the disk: see tests/trust/faults.py ----


@posix
def test_kills_at_random_moments_and_a_failing_disk_lose_nothing() -> None:
    """Sealing alone, where most is renamed and removed; `test_study` kills sampling."""
    found = warm_process("kills", "disk", "--jobs", "sealing", "--moments", 30, "--stride", 18)
    assert found["kills"]["sealing"]["moments"] == 6
    disk = found["disk"]["sealing"]
    assert disk["kill"] == disk["disk full from there"] == -(-disk["changes"] // 18)


@posix
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_200_kills_over_every_job_lose_nothing() -> None:
    found = warm_process("kills", "--moments", 200)["kills"]
    assert sum(counts["moments"] for counts in found.values()) >= 200


@posix
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_every_change_of_the_disk_may_fail() -> None:
    for counts in warm_process("disk")["disk"].values():
        assert counts["error"] == counts["kill"] == counts["changes"]


# ---- damage ----


def test_a_flipped_bit_in_a_part_is_named_and_only_its_problem_is_drawn_again(
    whole: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = open_copy(whole, tiny_folder, tmp_path)
    stem = find_parts(path)[1]
    part = path / "parts" / f"{stem}.facts.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 4
    part.write_bytes(data)
    with pytest.raises(ValueError, match=r"000001.*was changed.*delete it and resume"):
        draw(tiny_folder, tmp_path)
    part.unlink()
    written: list[str] = []
    write = Writer.write

    def noted(log: Writer, samples: Any, *isa: Any) -> None:
        written.extend({sample.problem for sample in samples})
        write(log, samples, *isa)

    monkeypatch.setattr(Writer, "write", noted)
    pd.testing.assert_frame_equal(drawn(draw(tiny_folder, tmp_path)), drawn(whole))
    assert len(written) == 3, "the damaged one, and two that had not been drawn"


def test_a_checkpoint_cut_short_is_one_line_that_names_its_folder(
    tiny_folder: Path, tmp_path: Path
) -> None:
    for path in sorted(tiny_folder.iterdir()):
        if path.name in ("generation_config.json", "chat_template.jinja"):
            continue
        folder = tmp_path / path.name / "model"
        shutil.copytree(tiny_folder, folder)
        (folder / path.name).write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match="model") as caught:
            load_lm(folder)
        assert folder.name in str(caught.value), path.name
        assert "\n" not in str(caught.value)


def test_a_copy_that_was_interrupted_loads_as_what_it_holds_or_is_refused_by_name(
    whole: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    source = open_copy(whole, tiny_folder, tmp_path / "open")
    rows = set(drawn(whole).itertuples(index=False, name=None))
    for run in (source, whole.path):
        files = [path for path in sorted(run.rglob("*")) if path.is_file()]
        for stop in range(len(files)):
            for share in (0.0, 0.6):
                copy = tmp_path / "copy" / run.name
                for path in files[: stop + 1]:
                    target = copy / path.relative_to(run)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, target)
                target.write_bytes(target.read_bytes()[: int(share * path.stat().st_size)])
                found, message = set(), ""
                try:
                    found = set(drawn(load_run(copy)).itertuples(index=False, name=None))
                except ValueError as error:
                    message = str(error)
                assert found <= rows
                assert not message or (copy.name in message and "\n" not in message)
                shutil.rmtree(tmp_path / "copy")


def test_a_run_copied_while_it_is_written_goes_on_to_the_same_samples(
    whole: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []
    write = Writer.write

    def copied(log: Writer, *samples: Any) -> None:
        write(log, *samples)
        copies.append(tmp_path / f"copy{len(copies)}")
        shutil.copytree(log.path, copies[-1] / log.path.name)

    monkeypatch.setattr(Writer, "write", copied)
    draw(tiny_folder, tmp_path / "run")
    monkeypatch.setattr(Writer, "write", write)
    assert len(copies) == 8
    for number, copy in enumerate(copies[::3], start=0):
        assert len(Runs.load(copy)[0].samples) == (3 * number + 1) * PLAN.chains
        pd.testing.assert_frame_equal(drawn(draw(tiny_folder, copy)), drawn(whole))


# ---- clocks, memory ----


def test_a_clock_that_jumps_changes_no_sample(
    whole: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    for name in ("time", "perf_counter", "monotonic"):
        monkeypatch.setattr(time, name, lambda: rng.uniform(-1e9, 1e9))
    run = draw(tiny_folder, tmp_path)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(drawn(run), drawn(whole))


def starve(model: Path, root: Path, limit: int, report: Path, **options: Any) -> None:
    """Draw the run with little address space left; report its folder and the smallest batch."""
    import resource

    import torch

    from scaling.engine.schedule import Schedule

    torch.set_num_threads(1)
    evict, rows = Schedule._preempt, []

    def seen(self: Schedule) -> None:
        rows.append(self.max_rows)
        evict(self)

    Schedule._preempt = seen  # type: ignore[method-assign]
    lm, task = load_lm(model), get_task("sums")  # loading starts threads, which take address space
    arguments = (lm, task, task.problems(8), PLAN)
    sampling.sample_run(*arguments, root / "warm", progress=False, max_rows=2)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + limit, size + limit))
    rows.clear()
    options |= {"max_rows": 1 << 17, "memory_cap": 1 << 40}
    run = sampling.sample_run(*arguments, root / "starved", progress=False, **options)
    report.write_text(f"{run.path} {min(rows)}")


@posix
@pytest.mark.parametrize("native", [True, False])
def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_ends_in_the_same_samples(
    whole: Run, tiny_folder: Path, tmp_path: Path, native: bool
) -> None:
    arguments = tiny_folder, tmp_path, 150 << 20, tmp_path / "report"
    with forked(partial(starve, native=native), *arguments) as child:
        child.join(200)
        assert child.exitcode == 0
    path, rows = (tmp_path / "report").read_text().split()
    assert int(rows) < 1 << 16, "the batch was halved at least twice"
    found, wanted = drawn(load_run(Path(path))), drawn(whole)
    exact = [name for name in DRAWN if name != "logprob"]
    pd.testing.assert_frame_equal(found[exact], wanted[exact])
    np.testing.assert_allclose(found["logprob"], wanted["logprob"], atol=1e-4)


@posix
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_million_samples_leave_memory_files_and_speed_as_they_were() -> None:
    from tests.trust.soak import soak

    found = soak(1_000_000)
    assert found["growth of memory (%)"] <= 5
    assert found["growth of open files"] == 0
    assert 0.7 < found["CPU time per sample, last third / first"] < 1.3

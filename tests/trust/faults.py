"""Kill and starve the kit's jobs in every place, and count what was lost.

    python -m tests.trust.faults kills --moments 200       kill -9 at random moments
    python -m tests.trust.faults disk                      every change of the disk fails, or kills

A job runs in a child forked from a process that has everything loaded, so that a kill costs
milliseconds. `faults.c` sits below Python: it sees every write, sync, rename and removal, whichever
makes it. What a child has finished (problems whose `write` returned) it reports over a pipe, and
that must be there after the kill; what is there must be equal to the unbroken job's, and the job
run again must end in the same.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scaling.store.files import RECORD

ROOT = Path(__file__).parents[2]
COUNT, FAIL, FULL, KILL, TEAR = range(5)  #: as in faults.c
CLEAN, BROKEN = 3, 4  #: exit codes of a child: ended by one line; ended by a traceback
Parts = dict[str, str]  #: name of a piece of a result -> its hash


@dataclass(frozen=True)
class Job:
    """Something that a researcher leaves alone, and what of it is on the disk."""

    start: Callable[[Path], None]  #: puts a folder into the state before the job
    work: Callable[[Path, Callable[[str], None]], None]  #: does it, telling each finished piece
    parts: Callable[[Path], Parts]  #: what is there; raises where something is half there
    share: float  #: of the kills


# ---------------------------------------------------------------- the jobs
@cache
def lm() -> Any:
    """Return the smallest shipped model."""
    from scaling.models import load_lm

    return load_lm(ROOT / "data/models/ladder/0.1M/1e12")


def sample(root: Path, report: Callable[[str], None]) -> None:
    """Sample a small pool, each problem saved at once."""
    from scaling.sampling import sample_run
    from scaling.store import Writer, writer
    from scaling.tasks import get_task

    writer.SAVE, task, write = 0, get_task("sums"), Writer.write

    def noted(log: Writer, samples: Any, *isa: str | None) -> None:
        write(log, samples, *isa)
        for row in samples:
            report(f"{row.problem} {row.chain} {row.step}")

    Writer.write = noted  # type: ignore[method-assign]
    sample_run(lm(), task, task.problems(12), plan(), root / "runs", progress=False)


def plan() -> Any:
    """Return what the pool is drawn by."""
    from scaling.records import Plan

    return Plan(chains=6, max_new_tokens=24)


def seal(root: Path, report: Callable[[str], None]) -> None:
    """Seal that pool once all of its problems are there."""
    from scaling.runs import load_run
    from scaling.store import open_run
    from scaling.tasks import get_task

    problems = get_task("sums").problems(12)
    arguments = {"task": "sums", "card": lm().card, "plan": plan(), "problems": problems}
    with open_run(root / "runs", **arguments) as writer:
        for row in load_run(writer.seal()).samples.itertuples():
            report(f"{row.problem} {row.chain} {row.step}")


def sampled(root: Path) -> Parts:
    """Return a hash of every sample in the log, time left out; two at one place are an error."""
    from scaling.runs import load_run

    found: Parts = {}
    for path in (root / "runs").glob("*/manifest.json"):
        frame = load_run(path.parent, text=True).samples.drop(columns="seconds")
        places = (frame["problem"] + " ").str.cat(
            [frame["chain"].astype(str), frame["step"].astype(str)], sep=" "
        )
        places = places.str.replace("  ", " ")
        assert not places.duplicated().any(), "a sample is there twice"
        found |= dict(zip(places, map(repr, frame.itertuples(index=False)), strict=True))
    return found


@cache
def template() -> Path:
    """Return a folder that holds a run with all its problems, not yet sealed, and one sealed."""
    from scaling.store.writer import Writer

    folder, seal = Path(tempfile.mkdtemp(prefix="kit-faults-")), Writer.seal
    with tempfile.TemporaryDirectory() as aside:
        Writer.seal = lambda self, *_, **__: self.path  # type: ignore[method-assign,assignment,return-value]
        sample(Path(aside), lambda _: None)
        Writer.seal = seal  # type: ignore[method-assign]
        shutil.copytree(Path(aside) / "runs", folder / "open" / "runs")
        sample(Path(aside), lambda _: None)
        shutil.copytree(Path(aside) / "runs", folder / "sealed" / "runs")
    return folder


def files(root: Path, pattern: str) -> Parts:
    """Return the hash of every file of a pattern; what was not yet renamed into place is none."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob(pattern))
        if path.is_file() and path.suffix != ".tmp"
    }


def train(root: Path, report: Callable[[str], None]) -> None:
    """Train a model of one layer through two checkpoints."""
    from scaling import ladder
    from scaling.models import SIZES

    SIZES["mini"] = (32, 1)
    save = ladder.Trainer.save_checkpoint

    def reporting(trainer: Any, path: Path, *rest: Any) -> None:
        save(trainer, path, *rest)
        report(f"mini/{path.name}/model.safetensors")

    ladder.Trainer.save_checkpoint = reporting  # type: ignore[method-assign, assignment]
    recipe = ladder.Recipe(batch_tokens=1024, warmup_steps=2)
    ladder.train_rung("mini", (4e8, 1.2e9), root, recipe)


def trained(root: Path) -> Parts:
    """Return the weights of each checkpoint that is there, none of which may lack a file."""
    for folder in root.glob("mini/[0-9]*"):
        if folder.is_dir():
            json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return files(root, "mini/[0-9]*/model.safetensors")


def command(*words: object) -> None:
    """Run a command line in silence; a mistake or a full disk is the error in its one line."""
    from scaling.cli import main

    with open(os.devnull, "w") as out, redirect_stdout(out), redirect_stderr(out):
        if main([str(word) for word in words]):
            raise OSError("the command ended in one line")


def draw(root: Path, report: Callable[[str], None]) -> None:
    """Draw a figure of a sealed run, and the table of its accuracies."""
    runs = template() / "sealed" / "runs"
    command("figures", "coverage", "--runs", runs, "--figures", root / "figures")
    report("figures/coverage.png")
    command("accuracy", "--runs", runs, "--derived", root / "figures")
    report("figures/accuracy.csv")


def drawn(root: Path) -> Parts:
    """Return the hash of every file but the list of those written, which grows as they are."""
    return {
        name: found for name, found in files(root, "figures/*").items() if Path(name).name != RECORD
    }


def read(root: Path, report: Callable[[str], None]) -> None:
    """Import another tool's samples."""
    command("import", root / "human_eval_results.jsonl", "--format", "human-eval")


JOBS = {
    "sampling": Job(lambda root: None, sample, sampled, 0.35),
    "sealing": Job(
        lambda root: shutil.copytree(template() / "open", root, dirs_exist_ok=True),
        seal, sampled, 0.2,
    ),
    "training": Job(lambda root: None, train, trained, 0.2),
    "figures": Job(lambda root: None, draw, drawn, 0.15),
    "import": Job(
        lambda root: shutil.copytree(ROOT / "tests/data", root, dirs_exist_ok=True),
        read, lambda root: files(root, "*.jsonl"), 0.1,
    ),
}  # fmt: skip


# ---------------------------------------------------------------- children
@dataclass
class Child:
    """A job in a process of its own."""

    process: int
    pipe: int

    def wait(self) -> tuple[int, list[str], str]:
        """Return (exit code, minus the signal where killed; what it reported; its traceback)."""
        with os.fdopen(self.pipe) as pipe:
            lines = pipe.read().split("\n")[:-1]
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        reported = [line for line in lines if not line.startswith("!")]
        return code, reported, "\n".join(line[1:] for line in lines if line.startswith("!"))


def begin(job: Job, root: Path, mode: int = COUNT, at: int = -1, number: int = 0) -> Child:
    """Fork a child that does the job, the `at`-th change of its folder being met by `mode`."""
    source, sink = os.pipe()
    process = os.fork()
    if process:
        os.close(sink)
        return Child(process, source)
    code = BROKEN
    try:
        from scaling.engine import native

        native.workers.cache_clear()  # its threads stayed with the parent
        shim().fault_arm(str(root).encode(), at, mode, number)
        job.work(root, lambda piece: os.write(sink, f"{piece}\n".encode()))
        code = 0
    except (OSError, ValueError, MemoryError) as error:
        code = CLEAN if "\n" not in str(error) else BROKEN
        os.write(sink, f"!{error!r}\n".encode())
    except BaseException:  # noqa: BLE001
        os.write(
            sink, "".join(f"!{line}\n" for line in traceback.format_exc().split("\n")).encode()
        )
    os.write(sink, f"!{shim().fault_seen()} changes\n".encode())
    os._exit(code)


@cache
def shim() -> Any:
    """Return faults.c as it sits below this process."""
    library = ctypes.CDLL(None)
    library.fault_seen.restype = ctypes.c_long
    library.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    return library


class Wrong(AssertionError):
    """Something was lost, half there, or twice there."""


def check(job: Job, root: Path, reported: list[str], whole: Parts, where: str) -> Parts:
    """Return what is there after a fault; `Wrong` unless it is exactly what was reported."""
    try:
        there = job.parts(root)
    except Exception as error:
        raise Wrong(f"{where}: what is left cannot be read: {error!r}") from error
    if lost := set(reported) & set(whole) - set(there):
        raise Wrong(f"{where}: finished, then lost: {sorted(lost)[:3]}")
    if other := [name for name, value in there.items() if whole.get(name) != value]:
        raise Wrong(f"{where}: differs from the unbroken job's: {other[:3]}")
    return there


def finish(job: Job, root: Path, whole: Parts, where: str) -> None:
    """Run a job to its end; `Wrong` unless it ends as the unbroken one did."""
    code, reported, trace = begin(job, root).wait()
    if code:
        raise Wrong(f"{where}: run again, it ended with {code}: {trace}")
    if check(job, root, reported, whole, f"{where}, run again") != whole:
        raise Wrong(f"{where}: run again, it ended in something else")


def unbroken(job: Job, root: Path) -> tuple[Parts, float, int]:
    """Return (its result, seconds, changes of the folder) of a job that nothing disturbs."""
    job.start(root)
    began = time.monotonic()
    code, _, trace = begin(job, root).wait()
    assert code == 0, trace
    return job.parts(root), time.monotonic() - began, int(trace.split()[-2])


# ---------------------------------------------------------------- what is done to them
def kill_at_random(name: str, moments: int, seed: int = 0) -> dict[str, int]:
    """Return counts of a job killed at random moments, again and again until it is done."""
    job, rng, seen = JOBS[name], random.Random(seed), Counter[str](moments=0, ended=0)
    with tempfile.TemporaryDirectory() as folder:
        whole, seconds, _ = unbroken(job, Path(folder) / "whole")
        root, reported = Path(folder) / "0", list[str]()
        job.start(root)
        while seen["moments"] < moments:
            child = begin(job, root)
            time.sleep(rng.random() * seconds * 1.1)
            os.kill(child.process, 9)
            code, more, trace = child.wait()
            if code not in (0, -9):
                raise Wrong(f"{name}: ended with {code}: {trace}")
            reported += more
            seen["moments"] += code == -9
            where = f"{name}, kill {seen['moments']}"
            seen["pieces found again"] += len(check(job, root, reported, whole, where))
            if code == 0:
                seen["ended"] += 1
                finish(job, root, whole, where)
                root, reported = Path(folder) / str(seen["ended"]), []
                job.start(root)
        finish(job, root, whole, name)
    return dict(seen)


def break_disk(name: str, modes: dict[str, tuple[int, int]], stride: int = 1) -> dict[str, int]:
    """Return counts of a job whose n-th change of its folder fails, for every `stride`-th n."""
    job, seen = JOBS[name], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        whole, _, changes = unbroken(job, Path(folder) / "whole")
        seen["changes"] = changes
        for kind, (mode, number) in modes.items():
            for n in range(0, changes, stride):
                root, where = Path(folder) / f"{kind}{n}", f"{name}, {kind} at change {n}"
                job.start(root)
                code, reported, trace = begin(job, root, mode, n, number).wait()
                if code == BROKEN or (code not in (0, CLEAN)) != (mode in (KILL, TEAR)):
                    raise Wrong(f"{where}: ended with {code}: {trace}")
                check(job, root, reported, whole, where)
                finish(job, root, whole, where)
                seen[kind] += 1
                shutil.rmtree(root)
    return dict(seen)


MODES = {
    "error": (FAIL, errno.EIO),
    "disk full from there": (FULL, errno.ENOSPC),
    "read-only from there": (FULL, errno.EROFS),
    "kill": (KILL, 0),
    "kill during a write": (TEAR, 0),
}


# ---------------------------------------------------------------- the command
def warm_process(*words: object) -> dict[str, Any]:
    """Return the counts that this file's command measures, run below `faults.c`."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "faults.so"
        compiler = os.environ.get("CC", "cc")
        build = [
            compiler,
            "-O2",
            "-shared",
            "-fPIC",
            "-o",
            library,
            ROOT / "tests/trust/faults.c",
            "-ldl",
        ]
        subprocess.run(build, check=True)
        done = subprocess.run(
            [sys.executable, "-m", "tests.trust.faults", *map(str, words)],
            env=os.environ
            | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    if done.returncode:
        raise AssertionError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(options: argparse.Namespace) -> dict[str, dict[str, dict[str, int]]]:
    """Return the counts of every job, for kills and for the disk."""
    import torch

    from scaling import provenance
    from scaling.figures import plots

    torch.set_num_threads(1)
    provenance.collect = dict  # type: ignore[assignment]  # asking git takes longer than a job
    plots.drawing_code = cache(plots.drawing_code)  # reads the whole package
    template()
    found: dict[str, dict[str, dict[str, int]]] = {what: {} for what in options.what}
    for name in options.jobs or JOBS:
        with tempfile.TemporaryDirectory() as folder:  # once here, so that children find all loaded
            JOBS[name].start(Path(folder) / "warm")
            JOBS[name].work(Path(folder) / "warm", lambda _: None)
        if "kills" in found:
            moments = max(1, round(options.moments * JOBS[name].share))
            found["kills"][name] = kill_at_random(name, moments, options.seed)
        if "disk" in found and name != "import":  # it changes nothing on the disk
            found["disk"][name] = break_disk(name, MODES, options.stride)
    shutil.rmtree(template())
    return found


def main() -> None:
    """Measure, print, and note the counts for docs/trust.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.trust.faults", description=__doc__)
    parser.add_argument("what", nargs="+", choices=("kills", "disk"))
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS))
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--stride", type=int, default=1, help="disk: every so many changes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if "LD_PRELOAD" not in os.environ:
        from tests.trust.tables import note

        for name in options.jobs or JOBS:
            words = [*sys.argv[1:], "--jobs", name]
            for what, found in warm_process(*words).items():
                print(found)
                command = f"python -m tests.trust.faults {what}"
                moments = f" --moments {options.moments}" if what == "kills" else ""
                note(what, command + moments, found)
    else:
        print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()

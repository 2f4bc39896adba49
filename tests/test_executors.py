"""Units of sampling on many workers: a real scheduler, workers that are killed, one writer."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from scaling import executors
from scaling.models import load_lm
from scaling.records import Plan
from scaling.store import load_run
from scaling.study import Work, sample_all, sample_run, units_of
from scaling.tasks import get_task

PLAN = Plan(chains=8, max_new_tokens=12)
DRAWN = ["problem", "chain", "step", "answer", "correct", "logprob", "completion_tokens", "text"]
TESTS = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (TESTS.parent, TESTS)))  #: so that workers find `Noted`
HERE = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS}


class Noted:
    """A task that notes each verdict in a folder, and sleeps at the problems of one unit."""

    name = "sums"

    def __init__(self, folder: Path, slow: tuple[str, ...] = ()) -> None:
        self.folder, self.slow = folder, slow

    def prompt(self, problem):
        if problem.id in self.slow and not (self.folder / "killed").exists():
            (self.folder / "asleep").write_text(str(os.getpid()))
            time.sleep(60)
        return get_task("sums").prompt(problem)

    def verify(self, problem, text):
        with (self.folder / f"{os.getpid()}.txt").open("a") as file:
            file.write(problem.id + "\n")
        return get_task("sums").verify(problem, text)

    def verdicts(self) -> pd.Series:
        """Return how often a sample of each problem was judged, by whichever process."""
        lines = "".join(path.read_text() for path in self.folder.glob("*.txt"))
        return pd.Series(lines.split()).value_counts()


def work(model: Path, root: Path, task=None, problems: int = 40) -> Work:
    """Return a small run of several units."""
    return Work(
        str(model), task or get_task("sums"), tuple(get_task("sums").problems(problems)), PLAN, root
    )


def texts(run) -> pd.DataFrame:
    return load_run(run.path, text=True).frame[DRAWN]


@pytest.fixture(scope="module")
def alone(tiny_folder, tmp_path_factory):
    """Return the run as one process draws it, in one stream."""
    one = work(tiny_folder, tmp_path_factory.mktemp("alone"))
    lm = load_lm(tiny_folder)
    return sample_run(lm, one.task, one.problems, one.plan, one.root, progress=False)


def until(condition, seconds: float = 240):
    """Wait for a condition and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def scheduler():
    """Yield the address of a real Dask scheduler with two workers, each a process of its own."""
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    dask = [sys.executable, "-m"]
    port = ["--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard"]
    worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    commands = [[*dask, "distributed.cli.dask_scheduler", *port], *[[*dask, *worker]] * 2]
    children = [
        subprocess.Popen(c, env=HERE, stderr=subprocess.DEVNULL, start_new_session=True)
        for c in commands
    ]
    yield address.replace("tcp", "dask")
    for child in reversed(children):
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def test_any_executor_draws_what_one_stream_draws(alone, tiny_folder, tmp_path):
    with ThreadPoolExecutor(2) as threads:
        (run,) = sample_all([work(tiny_folder, tmp_path)], executor=threads)
    assert run.path.name == alone.path.name
    assert run.manifest["units"] == ["000000", "000001", "000002", "000003"]
    pd.testing.assert_frame_equal(texts(run), texts(alone))


@pytest.mark.timeout(600)
def test_a_killed_worker_and_a_new_client_lose_nothing_and_log_nothing_twice(
    scheduler, alone, tiny_folder, tmp_path
):
    """A client is killed among units, its worker inside one; the same call ends in the same run."""
    unit = units_of(work(tiny_folder, tmp_path).problems, PLAN)
    slow = tuple(problem for problem, name in unit.items() if name == "000002")
    task = Noted(tmp_path, slow)
    script = "import pickle, sys; from scaling.study import sample_all\n"
    script += "sample_all([pickle.load(open(sys.argv[1], 'rb'))], executor=sys.argv[2])"
    asked = work(tiny_folder, tmp_path / "runs", task)
    (tmp_path / "work").write_bytes(pickle.dumps(asked))
    root = HERE | {"PYTHONPATH": os.pathsep.join(sys.path)}
    client = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "work", scheduler], env=root
    )
    try:
        asleep = until(lambda: (tmp_path / "asleep").exists() and (tmp_path / "asleep").read_text())
        until(lambda: len(list((tmp_path / "runs").glob("*/parts/*.facts.parquet"))) == 3)
    finally:
        client.kill()
        client.wait()
    os.kill(int(asleep), signal.SIGKILL)  # its nanny starts another
    (tmp_path / "killed").touch()
    (run,) = sample_all([asked], executor=scheduler)
    pd.testing.assert_frame_equal(texts(run), texts(alone))
    assert (task.verdicts() == PLAN.chains).all()  # no finished unit was drawn again
    assert len(list(tmp_path.glob("*.txt"))) >= 2
    before = task.verdicts()
    (again,) = sample_all([asked], executor="dask://nobody:1")  # sealed: nobody is needed
    pd.testing.assert_frame_equal(texts(again), texts(alone))
    pd.testing.assert_series_equal(task.verdicts(), before)


def test_a_worker_that_holds_another_model_is_refused(tiny_folder, tmp_path, monkeypatch):
    class Elsewhere(ThreadPoolExecutor):
        def submit(self, unit):
            monkeypatch.setattr("scaling.study.LOADED", {})
            (tmp_path / "card.json").write_text(card.replace('"identity": "', '"identity": "x'))
            return super().submit(unit)

    for path in tiny_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    card = (tmp_path / "card.json").read_text()
    with Elsewhere(1) as pool, pytest.raises(ValueError, match="is another model here: x"):
        sample_all([work(tmp_path, tmp_path / "runs")], executor=pool)


@pytest.mark.parametrize(
    ("where", "says"),
    [("locl", "allowed: local, dask://HOST:PORT, slurm"), ("dask://127.0.0.1:1", "dask scheduler")],
)
def test_an_executor_that_is_not_there_is_one_line(where, says, monkeypatch):
    if where.startswith("dask"):
        pytest.importorskip("distributed")
        monkeypatch.setattr(executors, "PATIENCE", 1)
    with pytest.raises(ValueError, match=says) as caught, executors.open_executor(where):
        pass
    assert "\n" not in str(caught.value)


def test_each_local_process_gets_a_gpu_of_those_the_parent_may_use(monkeypatch):
    monkeypatch.delenv(executors.GPUS, raising=False)
    assert executors.visible_gpus(0) == []
    assert executors.visible_gpus(2) == ["0", "1"]
    monkeypatch.setenv(executors.GPUS, "3,5")
    assert executors.visible_gpus(2) == ["3", "5"]

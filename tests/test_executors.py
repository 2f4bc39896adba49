"""Units of sampling on many workers: a real scheduler, workers that are killed, one writer."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from shutil import which

import pandas as pd
import pytest

from scaling import cli, executors
from scaling.methods import METHODS
from scaling.models import load_lm
from scaling.records import Plan
from scaling.runs import load_run
from scaling.sampling import RunSpec, running_accuracy, sample_all, sample_run, shards_of
from scaling.tasks import get_task
from tests.forks import FORKS, WARM, forked

PLAN = Plan(chains=8, max_new_tokens=12)
DRAWN = ["problem", "chain", "step", "answer", "correct", "logprob", "completion_tokens", "text"]
TESTS = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (TESTS.parent, TESTS)))  #: so that workers find `Noted`


class Noted:
    """A task that notes each verdict in a folder, and sleeps at the problems of one unit."""

    name = "sums"

    def __init__(self, folder: Path, slow: tuple[str, ...] = ()) -> None:
        self.folder, self.slow = folder, slow

    def prompt(self, problem):
        return get_task("sums").prompt(problem)

    def verify(self, problem, text):
        if problem.id in self.slow and not (self.folder / "killed").exists():
            (self.folder / "asleep").write_text(str(os.getpid()))
            time.sleep(600)
        with (self.folder / f"{os.getpid()}.txt").open("a") as file:
            file.write(problem.id + "\n")
        return get_task("sums").verify(problem, text)

    def verdicts(self) -> pd.Series:
        """Return how often a sample of each problem was judged, by whichever process."""
        lines = "".join(path.read_text() for path in self.folder.glob("*.txt"))
        return pd.Series(lines.split()).value_counts()


def work(model: Path, root: Path, task=None, problems: int = 40) -> RunSpec:
    """Return a small run of several units."""
    return RunSpec(
        str(model), task or get_task("sums"), tuple(get_task("sums").problems(problems)), PLAN, root
    )


def sleeper(model: Path, folder: Path) -> RunSpec:
    """Return the run of `work` whose third unit sleeps, until a file "killed" is in the folder."""
    third = shards_of(work(model, folder).problems, PLAN)[2]
    slow = tuple(problem.id for problem in third)
    return work(model, folder / "runs", Noted(folder, slow))


def verb(
    folder: Path, spec: RunSpec, executor: str, workers: int, settings: dict[str, str]
) -> None:
    """Sample a run as a verb of the command line; standard error goes to the file `message`."""

    @cli.APP.command
    def test() -> None:
        sample_all([spec], workers, executor)

    os.environ.update(settings)
    os.dup2(os.open(folder / "message", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.exit(cli.main(["test"]))


def sampling(spec: RunSpec, folder: Path, executor: str, workers: int = 0):
    """Return the context of a process that samples a run."""
    return forked(verb, folder, spec, executor, workers, dict(os.environ))


def ended(client, folder: Path) -> str:
    """Return the standard error of a process that should end by itself, in failure."""
    client.join(120)
    assert client.exitcode == 1
    return (folder / "message").read_text()


def sleeping(folder: Path) -> int:
    """Wait until a worker sleeps and all other units are logged; return its process."""
    asleep = until(lambda: (folder / "asleep").exists() and (folder / "asleep").read_text())
    until(lambda: len(list((folder / "runs").glob("*/parts/*.facts.parquet"))) == 3)
    return int(asleep)


def texts(run) -> pd.DataFrame:
    return load_run(run.path, text=True).samples[DRAWN]


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


def dask(part: str, *options: str) -> None:
    """Be a part of a real Dask cluster, as its command line starts it; workers are forked too."""
    from dask.config import set as configure
    from distributed.utils import get_mp_context

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    configure({"distributed.worker.multiprocessing-method": "forkserver"})
    get_mp_context().set_forkserver_preload(WARM)
    import_module(f"distributed.cli.dask_{part}").main([*options, "--no-dashboard"])


@contextmanager
def cluster(workers: int, *options: str):
    """Yield the address of a real Dask scheduler with workers, and its process."""
    from distributed import Client

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    with (
        forked(dask, "scheduler", "--host", "127.0.0.1", "--port", port) as scheduler,
        forked(dask, "worker", address, "--nthreads", "1", *options),
    ):
        with Client(address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=120)
        yield address.replace("tcp", "dask"), scheduler


@pytest.fixture(scope="module")
def scheduler():
    """Yield the address and the process of a scheduler with two workers, each with its nanny."""
    pytest.importorskip("distributed")
    with cluster(2, "--nworkers", "2") as started:
        yield started


def test_any_executor_draws_what_one_stream_draws_and_shows_how_right_it_is(
    alone, tiny_folder, tmp_path, capsys
):
    with ThreadPoolExecutor(2) as threads:
        (run,) = sample_all([work(tiny_folder, tmp_path)], executor=threads)
    assert run.path.name == alone.path.name
    pd.testing.assert_frame_equal(texts(run), texts(alone))
    rates = run.samples.groupby("problem")["correct"].mean()
    shown = f"accuracy={running_accuracy(list(rates))}"
    assert shown in capsys.readouterr().err


OWN = """
from scaling.methods import METHODS, Method, in_steps
from scaling.tasks import REVISE

METHODS["twice"] = Method(in_steps(lambda plan, step, verdict: None if step else REVISE))
"""


@pytest.mark.slow
def test_a_method_of_ones_own_reaches_the_workers(tiny_folder, tmp_path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    command = [sys.executable, "-m", "scaling", "sample", "--import", "mine", "--task", "sums"]
    command += ["--model", str(tiny_folder.resolve()), "--method", "twice", "--steps", "2"]
    command += ["--problems", "12", "--chains", "2", "--max-new-tokens", "8", "--runs", "runs"]
    command += ["--executor", "local", "--workers", "2"]
    settings = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "runs").iterdir()
    monkeypatch.setitem(METHODS, "twice", None)  # taken back after
    exec(OWN, {})
    task = get_task("sums")
    plan = Plan(method="twice", chains=2, steps=2, max_new_tokens=8)
    run = sample_run(load_lm(tiny_folder), task, task.problems(12), plan, tmp_path / "alone")
    assert path.name == run.path.name
    assert set(run.samples["step"]) == {0, 1}
    pd.testing.assert_frame_equal(texts(load_run(path)), texts(run))


@pytest.mark.timeout(600)
def test_a_killed_worker_and_a_new_client_lose_nothing_and_log_nothing_twice(
    scheduler, alone, tiny_folder, tmp_path
):
    """A client is killed among units, its worker inside one; the same call ends in the same run."""
    address, _ = scheduler
    spec = sleeper(tiny_folder, tmp_path)
    with sampling(spec, tmp_path, address):
        asleep = sleeping(tmp_path)
    os.kill(asleep, signal.SIGKILL)  # its nanny starts another
    (tmp_path / "killed").touch()
    task = spec.task
    (run,) = sample_all([spec], executor=address)
    pd.testing.assert_frame_equal(texts(run), texts(alone))
    assert (task.verdicts() == PLAN.chains).all()  # no finished unit was drawn again
    assert len(list(tmp_path.glob("*.txt"))) >= 2
    before = task.verdicts()
    (again,) = sample_all([spec], executor="dask://nobody:1")  # sealed: nobody is needed
    pd.testing.assert_frame_equal(texts(again), texts(alone))
    pd.testing.assert_series_equal(task.verdicts(), before)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_scheduler_is_one_line_and_a_new_one_loses_nothing_and_draws_nothing_twice(
    scheduler, alone, tiny_folder, tmp_path
):
    """It dies, the last to need it, while the unit of a worker that died is on another.

    Three units are logged by then; those stay as they are.
    """
    address, process = scheduler
    spec = sleeper(tiny_folder, tmp_path)
    with sampling(spec, tmp_path, address) as client:
        first = sleeping(tmp_path)
        (tmp_path / "asleep").unlink()
        os.kill(first, signal.SIGKILL)
        assert sleeping(tmp_path) != first
        process.kill()
        message = ended(client, tmp_path)
    assert message.strip().splitlines()[-1] == (
        f"scaling: the scheduler at {address.replace('dask', 'tcp')} is gone; {executors.AGAIN}"
    )
    assert "Traceback" not in message
    before = spec.task.verdicts()
    (tmp_path / "killed").touch()
    with cluster(1, "--no-nanny") as (address, _):
        (run,) = sample_all([spec], executor=address)
    pd.testing.assert_frame_equal(texts(run), texts(alone))
    assert (spec.task.verdicts() == PLAN.chains).all()
    assert 0 < (before == PLAN.chains).sum() < len(run.problems)


SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=one Default=YES
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Start a real SLURM of one node on loopback, with a munge of its own; skip where none is."""
    pytest.importorskip("submitit")
    paths = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    if missing := [
        n for n in ("munged", "slurmctld", "slurmd", "sbatch") if not which(n, path=paths)
    ]:
        pytest.skip(f"no SLURM here: {', '.join(missing)} not found (apt install slurm-wlm munge)")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0)), two.bind(("127.0.0.1", 0))
        ports = {"controller": one.getsockname()[1], "daemon": two.getsockname()[1]}
    about = {"host": socket.gethostname(), "user": pwd.getpwuid(os.getuid()).pw_name}
    (folder / "slurm.conf").write_text(SLURM.format(folder=folder, **about, **ports))
    at = {f"--{n}-file={folder / n}" for n in ("key", "pid", "log", "seed")}
    munged = ["munged", "--foreground", "--force", f"--socket={folder / 'munge.socket'}", *at]
    commands = [munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "one"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", paths)
        patch.setenv("PYTHONPATH", PATHS)
        patch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        patch.setattr(executors, "PATIENCE", 2)
        children = []
        try:
            for command in commands:
                with (folder / f"{command[0]}.txt").open("w") as log:
                    start = subprocess.Popen(
                        command, stdout=log, stderr=log, start_new_session=True
                    )
                children.append(start)
                until((folder / "munge.socket").exists)
            until(lambda: "idle" in printed("sinfo", "-ho", "%T"), 60)
            yield f"slurm://?timeout_min=20&host=127.0.0.1&folder={folder / 'jobs'}"
            until(lambda: not printed("squeue", "-h"), 60)
        finally:
            for child in reversed(children):
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def printed(*command: str) -> str:
    """Return what a command of SLURM prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def cancel_job_of(process: int) -> None:
    """Cancel the SLURM job that a process belongs to."""
    settings = Path(f"/proc/{process}/environ").read_text().split("\0")
    (job,) = (line.partition("=")[2] for line in settings if line.startswith("SLURM_JOB_ID="))
    subprocess.run(["scancel", job], check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cancelled_slurm_jobs_lose_a_unit_and_the_same_command_goes_on(
    slurm, alone, tiny_folder, tmp_path
):
    """One job is cancelled inside a unit, which the other takes; then that one is cancelled too."""
    spec = sleeper(tiny_folder, tmp_path)
    with sampling(spec, tmp_path, slurm, 2) as client:
        first = sleeping(tmp_path)
        (tmp_path / "asleep").unlink()
        cancel_job_of(first)
        second = sleeping(tmp_path)
        assert second != first
        cancel_job_of(second)
        message = ended(client, tmp_path)
    assert "every SLURM job has ended, by its time limit or scancel" in message
    (tmp_path / "killed").touch()
    (run,) = sample_all([spec], 1, slurm)
    pd.testing.assert_frame_equal(texts(run), texts(alone))
    assert (spec.task.verdicts() == PLAN.chains).all()  # no finished unit was drawn again


@pytest.mark.slow
def test_a_job_that_slurm_does_not_take_is_one_line(slurm, tiny_folder, tmp_path):
    for option in ("&slurm_partition=nowhere", "&timeout_mins=3", "&timeout_min=long"):
        with pytest.raises(ValueError, match="SLURM takes no such job: ") as caught:
            sample_all([work(tiny_folder, tmp_path)], 1, slurm + option)
        assert "\n" not in str(caught.value)


def test_a_worker_that_holds_another_model_is_refused(tiny_folder, tmp_path, monkeypatch):
    class Elsewhere(ThreadPoolExecutor):
        def submit(self, unit):
            monkeypatch.setattr("scaling.sampling.LOADED", {})
            (tmp_path / "card.json").write_text(card.replace('"identity": "', '"identity": "x'))
            return super().submit(unit)

    for path in tiny_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    card = (tmp_path / "card.json").read_text()
    with Elsewhere(1) as pool, pytest.raises(ValueError, match="is another model here: x"):
        sample_all([work(tmp_path, tmp_path / "runs")], executor=pool)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("locl", "allowed: local, dask://HOST:PORT, slurm"),
        ("dask://127.0.0.1:1", "dask scheduler"),
        ("dask://", "no Dask scheduler answers at tcp://;"),
    ],
)
def test_an_executor_that_is_not_there_is_one_line(where, says, monkeypatch):
    if where.startswith("dask"):
        pytest.importorskip("distributed")
        monkeypatch.setattr(executors, "PATIENCE", 1)
    with pytest.raises(ValueError, match=says) as caught, executors.open_executor(where):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("default")
def test_what_two_local_workers_warn_of_is_printed_once_in_one_line(
    tiny_folder, tmp_path, capfd, monkeypatch
):
    """The card does not say that the model was trained to wait; each of four units notices."""
    monkeypatch.setattr(executors, "get_context", lambda _: FORKS)
    arguments = ["sample", "--model", str(tiny_folder), "--task", "sums", "--problems", "40"]
    arguments += ["--method", "wait", "--steps", "2", "--chains", "2", "--max-new-tokens", "4"]
    arguments += ["--runs", str(tmp_path), "--executor", "local", "--workers", "2"]
    assert cli.main(arguments) == 0
    message = capfd.readouterr().err
    assert message.count("does not say that it was trained for wait") == 1
    assert "scaling: warning: the card of tiny/1e9 does not say" in message
    assert "draw(lm" not in message


def test_fewer_workers_than_none_are_refused():
    with pytest.raises(ValueError, match="workers is -1; give 1 or more"):
        executors.open_executor("local", -1)


def test_each_local_process_gets_a_gpu_of_those_the_parent_may_use(monkeypatch):
    monkeypatch.delenv(executors.GPUS, raising=False)
    assert executors.visible_gpus(0) == []
    assert executors.visible_gpus(2) == ["0", "1"]
    monkeypatch.setenv(executors.GPUS, "3,5")
    assert executors.visible_gpus(2) == ["3", "5"]

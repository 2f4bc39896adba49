"""Where units of sampling run: processes of this machine, workers of a Dask scheduler, SLURM jobs.

Each is an executor as `concurrent.futures` knows them; whoever submits collects and logs, so that a
run has one writer. Not here: servers that hold the model themselves (`serving`).
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import active_children, forkserver, get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from multiprocessing.queues import Queue
from threading import Event, Thread
from urllib.parse import parse_qsl, urlsplit

GPUS = "CUDA_VISIBLE_DEVICES"
PATIENCE = 10  #: seconds for a scheduler to answer
FOLDER = "data/slurm"  #: scripts and output of SLURM jobs
QUIET = {  #: settings of a Dask that takes 1 % of a core to watch itself, not 5
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
}
#: what every local worker imports: six seconds, spent once
WARM = ["scaling.methods", "scaling.models", "transformers.models.llama.modeling_llama"]
USER_MODULES: list[str] = []  #: modules of the user's, which every worker imports too
AGAIN = "what was done is kept; run the same command again"


def open_executor(where: str = "local", workers: int = 0) -> AbstractContextManager[Executor]:
    """Return a context whose value is an executor.

    local: `workers` processes, by default one per GPU, or per core without one; dask://HOST:PORT:
    the workers of a running scheduler; slurm://?timeout_min=60&slurm_partition=NAME...: `workers`
    jobs, each a Dask worker, with what `submitit` may be told. Errors: ValueError, one line.
    """
    kinds: dict[str, Callable[[], AbstractContextManager[Executor]]] = {
        "local": lambda: _local(workers),
        "dask": lambda: _dask(where),
        "slurm": lambda: _slurm(where, workers),
    }
    kind = urlsplit(where).scheme or where
    if kind not in kinds:
        raise ValueError(f"executor is {where!r}; allowed: local, dask://HOST:PORT, slurm")
    if workers < 0:
        raise ValueError(f"workers is {workers}; give 1 or more, or 0 for as many as fit")
    if workers and kind == "dask":
        raise ValueError(
            f"workers is {workers}, but a scheduler has those that joined it; leave it"
        )
    return kinds[kind]()


@contextmanager
def _local(workers: int) -> Iterator[Executor]:
    context, gpus = local_context()
    workers = workers or len(gpus) or len(os.sched_getaffinity(0))
    turns: Queue[str | None] = context.Queue()
    for i in range(workers):
        turns.put(gpus[i % len(gpus)] if gpus else None)
    with ProcessPoolExecutor(workers, context, _begin, (turns,)) as pool:
        try:
            yield pool
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():  # what is logged stays; the rest is drawn anew
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                reason = "a process died, perhaps of too little memory"
                raise ValueError(f"{reason}; {AGAIN}") from error
            raise


def local_context() -> tuple[BaseContext, list[str]]:
    """Return how local workers begin, and the GPUs that they share; what they import is begun now.

    Without GPUs they are forked from a process that has imported it; CUDA does not survive that.
    """
    import torch

    gpus = visible_gpus(torch.cuda.device_count())
    if gpus or "forkserver" not in get_all_start_methods():
        return get_context("spawn"), gpus
    context = get_context("forkserver")
    context.set_forkserver_preload(WARM)
    forkserver.ensure_running()
    return context, gpus


def visible_gpus(count: int) -> list[str]:
    """Return the names by which `count` GPUs of this process can be handed to its children."""
    named = os.environ.get(GPUS)
    return (named.split(",") if named else [str(i) for i in range(count)])[:count]


def _begin(turns: Queue[str | None]) -> None:
    """Prepare a local worker: a GPU of its own where there are any, one core else."""
    from signal import SIG_IGN, SIGINT, signal

    signal(SIGINT, SIG_IGN)
    gpu = turns.get()
    if gpu is not None:
        os.environ[GPUS] = gpu  # before torch looks
    import torch

    torch.set_num_threads(1)


@contextmanager
def silent(logger: str) -> Iterator[None]:
    """Keep a library's log from standard error: what it tells is raised too, in one line."""
    log = logging.getLogger(logger)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def _dask(where: str) -> Iterator[Executor]:
    distributed = _distributed()
    address = where.replace("dask://", "tcp://")
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address}; `dask scheduler --port 8786` starts one"
        ) from error
    with silent("distributed.client"), client:
        if where != address and not client.scheduler_info()["workers"]:
            print(f"waiting for workers: dask worker {address} --nthreads 1", file=sys.stderr)
        try:
            yield client.get_executor()
        except distributed.KilledWorker as error:
            raise ValueError(
                f"a unit took {error.allowed_failures + 1} workers with it, perhaps for too little "
                f"memory; {AGAIN}, with --max-rows or --memory-gb"
            ) from error
        except CancelledError as error:
            raise ValueError(f"the scheduler at {address} is gone; {AGAIN}") from error


@contextmanager
def _slurm(where: str, workers: int) -> Iterator[Executor]:
    """Start a scheduler here and jobs that work for it; both end with the context."""
    distributed = _distributed()
    told = dict(parse_qsl(urlsplit(where).query))
    folder, host = told.pop("folder", FOLDER), told.pop("host", None)
    host = host or distributed.utils.get_ip()
    with (
        distributed.LocalCluster(
            n_workers=0, host=host, dashboard_address=f"{host}:0", set_as_default=False
        ) as cluster,
        _jobs(cluster.scheduler_address, workers or 1, folder, told) as names,
        _dask(cluster.scheduler_address) as executor,
    ):
        over, ended = Event(), Event()
        Thread(target=_watch, args=(executor, names, over, ended), daemon=True).start()
        try:
            yield executor
        except CancelledError as error:
            if not ended.is_set():
                raise
            raise ValueError(
                f"every SLURM job has ended, by its time limit or scancel; see {folder}; {AGAIN}"
            ) from error
        finally:
            over.set()


@contextmanager
def _jobs(scheduler: str, count: int, folder: str, told: dict[str, str]) -> Iterator[set[str]]:
    """Submit jobs that `serve` a scheduler; the value is their names; cancel them at the end."""
    try:
        import submitit
    except ImportError as error:
        raise ValueError("SLURM needs: pip install 'inference-scaling-kit[slurm]'") from error
    jobs = []
    try:
        try:
            starter = submitit.AutoExecutor(folder, cluster="slurm")
            starter.update_parameters(**{k: int(v) if v.isdigit() else v for k, v in told.items()})
            for _ in range(count):
                jobs.append(starter.submit(serve, scheduler))
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())  # all of these are raised by submitit
            raise ValueError(f"SLURM takes no such job: {reason}") from error
        yield {job.job_id for job in jobs}
    finally:
        for job in jobs:
            job.cancel()


def _watch(executor: Executor, names: set[str], over: Event, ended: Event) -> None:
    """Cancel what is left once no job is queued or running: nobody would ever do it."""
    while not over.wait(PATIENCE):
        queue = subprocess.run(["squeue", "--me", "-ho", "%A"], capture_output=True, text=True)
        if queue.returncode == 0 and not names & set(queue.stdout.split()):
            ended.set()
            return executor.shutdown(wait=False)


def serve(scheduler: str) -> None:
    """Work for a Dask scheduler until it goes, in a process that is started anew if it dies."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler]
    command += ["--nthreads", "1", "--no-dashboard", "--death-timeout", "60"]
    subprocess.run(command, check=True, env=QUIET | os.environ)


def _distributed():
    try:
        import distributed
    except ImportError as error:
        raise ValueError("Dask needs: pip install 'inference-scaling-kit[dask]'") from error
    return distributed

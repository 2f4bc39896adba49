"""Executors for parts of runs: processes here, workers of a Dask scheduler, SLURM jobs.

Each is an executor as in `concurrent.futures`. The process that submits also collects and logs, so
that a run has one writer. Not here: servers that hold the model themselves (`serving`).
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
from importlib import import_module
from multiprocessing import active_children, forkserver, get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from multiprocessing.queues import Queue
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

GPUS = "CUDA_VISIBLE_DEVICES"
PATIENCE = 10  #: seconds for a scheduler to answer
FOLDER = "data/slurm"  #: scripts and output of SLURM jobs
QUIET = {  #: settings of a Dask that takes 1 % of a core to watch itself, not 5
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
}
#: imported once, by the process that local workers are forked from: two of them begin in 18 s on
#: two cores, in 33 s without this and in 50 s if spawned
WARM = [
    "scaling.engine",
    "scaling.methods",
    "scaling.models",
    "transformers.models.llama.modeling_llama",
]
USER_MODULES: list[str] = []  #: modules of the user, which every worker imports too
AGAIN = "what was done is kept; run the same command again"


def open_executor(where: str = "local", workers: int = 0) -> AbstractContextManager[Executor]:
    """Return a context whose value is an executor.

    local: `workers` processes, by default one per GPU, or per core without one; dask://HOST:PORT:
    the workers of a running scheduler; slurm://?timeout_min=60&slurm_partition=NAME...: `workers`
    jobs, each a Dask worker, with parameters of `submitit`. Errors: ValueError, one line.
    """
    kinds: dict[str, Callable[[str, int], AbstractContextManager[Executor]]] = {
        "local": _local, "dask": _dask, "slurm": _slurm,
    }  # fmt: skip
    kind = urlsplit(where).scheme or where
    if kind not in kinds:
        raise ValueError(f"executor is {where!r}; allowed: local, dask://HOST:PORT, slurm")
    if workers < 0:
        raise ValueError(f"workers is {workers}; give 1 or more, or 0 for as many as fit")
    if workers and kind == "dask":
        raise ValueError(f"workers is {workers}, but the scheduler decides that; leave it out")
    return kinds[kind](where, workers)


@contextmanager
def _local(_: str, workers: int) -> Iterator[Executor]:
    context, gpus = local_context()
    workers = workers or len(gpus) or len(os.sched_getaffinity(0))
    shares: Queue[str | None] = context.Queue()
    for i in range(workers):
        shares.put(gpus[i % len(gpus)] if gpus else None)
    with ProcessPoolExecutor(workers, context, _begin, (shares,)) as pool:
        try:
            yield pool
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():  # what is logged stays; the rest is drawn again
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise ValueError(
                    f"a process died, perhaps of too little memory; {AGAIN}"
                ) from error
            raise


def local_context() -> tuple[BaseContext, list[str]]:
    """Return how local workers start, and the GPUs that they share; start their imports.

    Without GPUs they are forked from a process that imported `WARM`; CUDA does not survive a fork.
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
    """Return the names of this process's `count` GPUs, to hand out to its children."""
    named = os.environ.get(GPUS)
    return (named.split(",") if named else [str(i) for i in range(count)])[:count]


def _begin(shares: Queue[str | None]) -> None:
    """Prepare a local worker: assign it a GPU if there are any, else one core."""
    from signal import SIG_IGN, SIGINT, signal

    signal(SIGINT, SIG_IGN)
    gpu = shares.get()
    if gpu is not None:
        os.environ[GPUS] = gpu  # before torch looks
    import torch

    torch.set_num_threads(1)


@contextmanager
def _dask(where: str, _: int = 0) -> Iterator[Executor]:
    distributed = _optional("distributed", "dask")
    address = where.replace("dask://", "tcp://")
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address}; `dask scheduler --port 8786` starts one"
        ) from error
    log = logging.getLogger("distributed.client")  # its messages are raised here too
    before, log.disabled = log.disabled, True
    try:
        with client:
            if where != address and not client.scheduler_info()["workers"]:
                print(f"waiting for workers: dask worker {address} --nthreads 1", file=sys.stderr)
            yield client.get_executor()
    except distributed.KilledWorker as error:
        raise ValueError(
            f"a shard ended {error.allowed_failures + 1} workers, perhaps for too little memory; "
            f"{AGAIN}, with lower max_rows= or memory_gb="
        ) from error
    except CancelledError as error:
        raise ValueError(f"the scheduler at {address} is gone; {AGAIN}") from error
    finally:
        log.disabled = before


@contextmanager
def _slurm(where: str, workers: int) -> Iterator[Executor]:
    """Start a scheduler here and jobs that work for it; both end with the context."""
    distributed, submitit = (_optional(name, "slurm") for name in ("distributed", "submitit"))
    options: dict[str, Any] = dict(parse_qsl(urlsplit(where).query))
    folder, host = options.pop("folder", FOLDER), options.pop("host", None)
    host = host or distributed.utils.get_ip()
    jobs: list[Any] = []
    over = Event()
    with (
        distributed.LocalCluster(
            n_workers=0, host=host, dashboard_address=f"{host}:0", set_as_default=False
        ) as cluster,
        _dask(cluster.scheduler_address) as executor,
    ):
        try:
            try:
                starter = submitit.AutoExecutor(folder, cluster="slurm")
                numbers = {name: int(v) for name, v in options.items() if v.isdigit()}
                starter.update_parameters(**options | numbers)
                for _ in range(workers or 1):
                    jobs.append(starter.submit(serve, cluster.scheduler_address))
            except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
                reason = " ".join(str(error).split())  # all of these are raised by submitit
                raise ValueError(f"SLURM takes no such job: {reason}") from error
            names = {job.job_id for job in jobs}
            Thread(target=_watch, args=(executor, names, over), daemon=True).start()
            yield executor
        except CancelledError as error:  # by `_watch`: the scheduler lives as long as this process
            raise ValueError(
                f"every SLURM job has ended, by its time limit or scancel; see {folder}; {AGAIN}"
            ) from error
        finally:
            over.set()
            for job in jobs:
                job.cancel()


def _watch(executor: Executor, names: set[str], over: Event) -> None:
    """Cancel what is left once no job is queued or running, since nothing would do it."""
    while not over.wait(PATIENCE):
        queue = subprocess.run(["squeue", "--me", "-ho", "%A"], capture_output=True, text=True)
        if queue.returncode == 0 and not names & set(queue.stdout.split()):
            return executor.shutdown(wait=False)


def serve(scheduler: str) -> None:
    """Work for a Dask scheduler until it ends; a worker process that dies is restarted."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler]
    command += ["--nthreads", "1", "--no-dashboard", "--death-timeout", "60"]
    subprocess.run(command, check=True, env=QUIET | os.environ)


def _optional(module: str, extra: str) -> Any:
    """Return a module that an optional dependency installs."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module} is missing: pip install 'inference-scaling-kit[{extra}]'"
        ) from error

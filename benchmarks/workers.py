"""How much faster two Dask workers are than one: `python -m benchmarks.workers`, extra `dask`.

Next to them, in turns, the same units on plain processes, one and two, whose samples nobody wants:
two of those are as much faster than one as this machine lets anything be. What lies between is what
Dask, the collector and the log take. Models are loaded, and workers known, before the clock starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from scaling.executors import QUIET, open_executor
from scaling.models import load_lm
from scaling.records import Plan
from scaling.sampling import SHARD_PROBLEMS, RunSpec, Shard, sample_all, shards_of
from scaling.tasks import get_task

MODEL, ADDRESS = "data/models/ladder/1.3M/1e14", "tcp://127.0.0.1:18786"
PLAN = Plan(chains=32, max_new_tokens=64)
PROBLEMS, ROUNDS = 160, 3


def work(problems: int, root: str) -> RunSpec:
    """Return a run of so many problems."""
    task = get_task("sums")
    return RunSpec(MODEL, task, tuple(task.problems(problems)), PLAN, Path(root))


def discard(shard: Shard) -> int:
    """Return how many samples were drawn of a shard."""
    return len(shard()[0])


def draw(pool: Executor, problems: int) -> float:
    """Return the seconds that units take whose samples stay where they are drawn."""
    spec, identity = work(problems, ""), load_lm(MODEL, weights=False).card.identity
    parts = shards_of(spec.problems, PLAN)
    shards = [Shard(replace(spec, problems=part), identity) for part in parts]
    start = time.perf_counter()
    assert sum(pool.map(discard, shards)) == problems * PLAN.chains
    return time.perf_counter() - start


def sample(executor: Executor, problems: int) -> float:
    """Return the seconds that a logged run takes."""
    with tempfile.TemporaryDirectory() as root:
        spec, start = work(problems, root), time.perf_counter()
        sample_all([spec], executor=executor)
        return time.perf_counter() - start


@contextmanager
def dask() -> Iterator[tuple[dict[int, Executor], list[int]]]:
    """Yield executors of one and of two workers, and the processes of scheduler and workers."""
    from distributed import Client

    settings = QUIET | os.environ | {"OMP_NUM_THREADS": "1"}
    part = [sys.executable, "-m", "distributed.cli.dask_"]
    host, _, port = ADDRESS.rpartition("/")[2].partition(":")
    scheduler = [*part[:2], part[2] + "scheduler", "--host", host, "--port", port]
    worker = [*part[:2], part[2] + "worker", ADDRESS, "--nthreads", "1", "--no-nanny"]
    children = [
        subprocess.Popen([*command, "--no-dashboard"], env=settings, stderr=subprocess.DEVNULL)
        for command in (scheduler, worker, worker)
    ]
    try:
        with Client(ADDRESS, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
            first = next(iter(client.scheduler_info()["workers"]))
            one = client.get_executor(workers=[first])
            yield {1: one, 2: client.get_executor()}, [child.pid for child in children]
    finally:
        for child in reversed(children):
            child.kill()
            child.wait()


def busy() -> tuple[float, float]:
    """Return the CPU seconds used until now by the machine, its host included, and by us."""
    import psutil

    machine, own = psutil.cpu_times(), psutil.Process()
    us = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return sum(machine) - machine.idle - machine.iowait, sum(t.user + t.system for t in us)


def main() -> None:
    """Print each run's seconds and the cores that others took, then what their medians say."""
    import psutil

    ways = {"plain": draw, "Dask": sample}
    walls: dict[tuple[str, int], list[float]] = {(way, n): [] for n in (1, 2) for way in ways}
    with ExitStack() as stack:
        enter = stack.enter_context
        dask_workers, (scheduler, *_) = enter(dask())
        plain = {n: enter(open_executor("local", n)) for n in (1, 2)}
        pools = {"plain": plain, "Dask": dask_workers}
        for way, n in walls:
            ways[way](pools[way][n], 4 * SHARD_PROBLEMS)  # every worker loads the model
        shared = [psutil.Process(pid) for pid in (os.getpid(), scheduler)]
        before = [sum(process.cpu_times()[:2]) for process in shared]
        for _ in range(ROUNDS):
            for (way, n), found in walls.items():
                start = busy()
                found.append(ways[way](pools[way][n], PROBLEMS))
                all_, ours = (now - then for now, then in zip(busy(), start, strict=True))
                others = (all_ - ours) / found[-1]
                print(f"{n} {way:6}{found[-1]:6.1f} s, others took {others:.2f} cores", flush=True)
        spent = [sum(p.cpu_times()[:2]) - t for p, t in zip(shared, before, strict=True)]
    middle = {key: median(found) for key, found in walls.items()}
    for way in ways:
        print(f"{way:6} two are {middle[way, 1] / middle[way, 2]:.2f} times as fast as one")
    for n in (1, 2):
        print(f"Dask reaches {middle['plain', n] / middle['Dask', n]:.1%} of {n} plain")
    runs = 2 * ROUNDS  # plain processes cost the collector next to nothing
    print(f"CPU of a run: collector {spent[0] / runs:.2f} s, scheduler {spent[1] / runs:.2f} s")


if __name__ == "__main__":
    main()

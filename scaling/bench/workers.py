"""How much faster two Dask workers are than one: `python -m scaling.bench.workers`, extra `dask`.

Wall time tells on a quiet machine with a core per worker and one to spare. CPU time tells on any
what is not shared out: the process that collects and writes, and the scheduler.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scaling.records import Plan
from scaling.study import Work, sample_all
from scaling.tasks import get_task

MODEL, PORT = "data/models/ladder/1.3M/1e14", 18786
PLAN = Plan(chains=64, max_new_tokens=64)


def run(workers: int, problems: int) -> tuple[float, list[float]]:
    """Return (wall seconds, CPU seconds of collector, scheduler, each worker) of a run."""
    import psutil

    port = str(PORT + workers)
    options = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_"]
    scheduler = [*dask[:2], dask[2] + "scheduler", "--host", "127.0.0.1", "--port", port]
    worker = [*dask[:2], dask[2] + "worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1"]
    worker += ["--no-nanny"]
    commands = [scheduler, *[worker] * workers]
    children = [subprocess.Popen([*c, "--no-dashboard"], **options) for c in commands]  # type: ignore[call-overload]
    try:
        address, task = f"dask://127.0.0.1:{port}", get_task("sums")
        time.sleep(20)  # until every worker is there

        def sample(seed: int, count: int) -> None:
            asked = tuple(task.problems(count, seed=seed))
            with tempfile.TemporaryDirectory() as root:
                sample_all([Work(MODEL, task, asked, PLAN, Path(root))], executor=address)

        def spent() -> list[float]:
            of = [psutil.Process(child.pid).cpu_times() for child in children]
            return [time.process_time(), *(times.user + times.system for times in of)]

        sample(1, 10 * workers)  # every worker loads the model
        before, start = spent(), time.perf_counter()
        sample(0, problems)
        wall = time.perf_counter() - start
        return wall, [now - then for now, then in zip(spent(), before, strict=True)]
    finally:
        for child in reversed(children):
            child.kill()
            child.wait()


def main() -> None:
    """Print both, and the ratio of wall times."""
    walls = []
    for workers in (1, 2):
        wall, (collector, scheduler, *each) = run(workers, 160)
        walls.append(wall)
        shares = ", ".join(f"{seconds:.1f}" for seconds in each)
        print(
            f"{workers} worker(s): wall {wall:.1f} s; CPU of the collector {collector:.2f} s,",
            end="",
        )
        print(f" of the scheduler {scheduler:.2f} s, of the workers {shares} s", flush=True)
    print(f"speed-up {walls[0] / walls[1]:.2f}")


if __name__ == "__main__":
    main()

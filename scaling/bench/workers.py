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
from statistics import median

from scaling.records import Plan
from scaling.study import Work, sample_all
from scaling.tasks import get_task

MODEL, PORT = "data/models/ladder/1.3M/1e14", 18786
PLAN = Plan(chains=64, max_new_tokens=64)
REPEATS = 3


def run(workers: int, problems: int) -> tuple[list[float], list[float]]:
    """Return (wall seconds of each repeat, CPU seconds of all: collector, scheduler, workers)."""
    import psutil
    from distributed import Client

    port = str(PORT + workers)
    options = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_"]
    scheduler = [*dask[:2], dask[2] + "scheduler", "--host", "127.0.0.1", "--port", port]
    worker = [*dask[:2], dask[2] + "worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1"]
    worker += ["--no-nanny"]
    commands = [scheduler, *[worker] * workers]
    children = [subprocess.Popen([*c, "--no-dashboard"], **options) for c in commands]  # type: ignore[call-overload]
    try:
        address, task = f"127.0.0.1:{port}", get_task("sums")
        with Client(f"tcp://{address}", timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=120)

        def sample(seed: int, count: int) -> float:
            asked, start = tuple(task.problems(count, seed=seed)), time.perf_counter()
            with tempfile.TemporaryDirectory() as root:
                sample_all(
                    [Work(MODEL, task, asked, PLAN, Path(root))], executor=f"dask://{address}"
                )
            return time.perf_counter() - start

        def spent() -> list[float]:
            of = [psutil.Process(child.pid).cpu_times() for child in children]
            return [time.process_time(), *(times.user + times.system for times in of)]

        sample(1, 20 * workers)  # every worker loads the model
        before = spent()
        walls = [sample(0, problems) for _ in range(REPEATS)]
        return walls, [now - then for now, then in zip(spent(), before, strict=True)]
    finally:
        for child in reversed(children):
            child.kill()
            child.wait()


def main() -> None:
    """Print both, and the ratio of their median wall times."""
    medians = []
    for workers in (1, 2):
        walls, (collector, scheduler, *each) = run(workers, 160)
        medians.append(median(walls))
        shown, shares = (", ".join(f"{s:.1f}" for s in seconds) for seconds in (walls, each))
        print(
            f"{workers} worker(s): wall {shown} s; CPU of the collector {collector:.1f} s, of the "
            f"scheduler {scheduler:.1f} s, of the workers {shares} s",
            flush=True,
        )
    print(f"speed-up {medians[0] / medians[1]:.2f}")


if __name__ == "__main__":
    main()

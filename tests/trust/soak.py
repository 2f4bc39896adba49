"""Sample for long in one process, and watch its memory, its open files and its speed.

    python -m tests.trust.soak --samples 1000000

Runs of 6,400 samples of the smallest shipped model, one after the other, each sealed, loaded, read
and removed. Speed is in CPU time, which other jobs of the machine do not change much.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.records import Plan

ROOT = Path(__file__).parents[2]
WARM_UP = 3  #: runs before the first is measured
PLAN = Plan(chains=64, max_new_tokens=32)


def soak(samples: int) -> dict[str, Any]:
    """Return what grew over at least so many samples: memory, open files, CPU time per sample."""
    import torch

    from scaling.models import load_lm
    from scaling.sampling import sample_run
    from scaling.tasks import get_task

    torch.set_num_threads(1)
    lm, task = load_lm(ROOT / "data/models/ladder/0.1M/1e12"), get_task("sums")
    problems, drawn = task.problems(100), 0
    memory, handles, cost = list[int](), list[int](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        while drawn < samples or len(memory) < WARM_UP + 2:
            began, plan = time.process_time(), replace(PLAN, seed=len(memory))
            run = sample_run(lm, task, problems, plan, Path(folder), progress=False)
            run.curve(replicates=100)
            cost.append((time.process_time() - began) / len(run.samples))
            drawn += len(run.samples)
            shutil.rmtree(run.path)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            memory.append(pages * resource.getpagesize())
            handles.append(len(os.listdir("/proc/self/fd")))
    third = max(1, (len(cost) - WARM_UP) // 3)
    return {
        "samples": drawn,
        "memory after warm-up (MB)": round(memory[WARM_UP - 1] / 1e6),
        "growth of memory (%)": 100 * (max(memory[WARM_UP:]) / memory[WARM_UP - 1] - 1),
        "growth of open files": max(handles[WARM_UP:]) - handles[WARM_UP - 1],
        "CPU time per sample, last third / first": float(
            np.median(cost[-third:]) / np.median(cost[WARM_UP : WARM_UP + third])
        ),
    }


def main() -> None:
    """Soak, print, and note the counts for docs/trust.md."""
    from tests.trust.tables import note

    parser = argparse.ArgumentParser(prog="python -m tests.trust.soak", description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    found = soak(parser.parse_args().samples)
    print(found)
    note("soak", " ".join(["python -m tests.trust.soak", *sys.argv[1:]]), {"0.1M, sums": found})


if __name__ == "__main__":
    main()

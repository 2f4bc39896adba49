"""What logging costs, alone and of sampling: docs/scale.md rests on it. CPU time, one core.

    python -m benchmarks.store

Not here: the speed of sampling (`bench`).
"""

from __future__ import annotations

import gc
import pickle
import random
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.engine import LADDER
from scaling import methods
from scaling.engine import Engine
from scaling.models import load_lm
from scaling.records import ModelCard, Plan, Problem, Sample
from scaling.runs import load_run
from scaling.sampling import sample_run
from scaling.store import open_run
from scaling.study import BEST_OF_N
from scaling.tasks import get_task

PROBLEMS, CHAINS = 200, 1000
DRAWN = {"0.1M/3e13": 100, "1.3M/1e14": 100}  #: model -> problems of `sums`, 64 samples each


def sample(problem: str, chain: int, rng: random.Random) -> Sample:
    """Return a sample of some twelve tokens, like those of the task `sums`."""
    text = f"12+45=57;57+{rng.randrange(99)}=90!{rng.randrange(999)}"
    numbers = -20 * rng.random(), -20 * rng.random()
    right = rng.random() < 0.5
    answer = str(rng.randrange(999))
    return Sample(problem, chain, 0, text, answer, right, *numbers, 12, 0, 13, 0.01, "stop")


def cpu(call: Callable[[], Any]) -> float:
    """Return the seconds of CPU that a call takes."""
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start


def share_of_sampling(model: str, problems: int, repeats: int = 21) -> None:
    """Print what a log adds to the CPU time of sampling: a run of what has been drawn already.

    All that `sample_run` does but draw is counted: opening, checks, bar, writing, sealing, loading.
    """
    lm, task = load_lm(LADDER / model), get_task("sums")
    engine = Engine(lm.model, eos_ids=lm.eos_ids, decode=lm.decode)
    arguments, n = (lm, task, task.problems(problems), BEST_OF_N), problems * BEST_OF_N.chains
    drawn: list[Any] = []
    sampling = cpu(lambda: drawn.extend(methods.draw(*arguments, engine)))
    added = []
    with patch.object(methods, "draw", lambda *_: iter(drawn)):
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as root:
                into = Path(root)
                run = partial(sample_run, *arguments, into, engine=engine, progress=False)
                added.append(cpu(run))
    low, middle, high = (f"{1e6 * at / n:.1f}" for at in (min(added), median(added), max(added)))
    print(
        f"{model:12}{1e6 * sampling / n:8.1f} us a sample, its log {middle} ({low} to {high}): "
        f"{median(added) / sampling:.2%} of {n:,} samples"
    )


def main() -> None:
    """Print what logging costs."""
    for model, count in DRAWN.items():
        share_of_sampling(model, count)
    alone()


def alone() -> None:
    """Print microseconds of CPU, and bytes, per sample."""
    rng, n = random.Random(0), PROBLEMS * CHAINS
    problems = [Problem(f"p{i}", "12+45+33?", "90", "3") for i in range(PROBLEMS)]
    units = [[sample(p.id, chain, rng) for chain in range(CHAINS)] for p in problems]

    def timed(what: str, call: Callable[[], Any]) -> Any:
        start = time.process_time()
        found = call()
        print(f"{what:24}{(time.process_time() - start) / n * 1e6:8.2f} us a sample")
        return found

    sent = [pickle.dumps(unit, -1) for unit in units]
    print(f"{'sent':24}{sum(map(len, sent)) / n:8.1f} bytes a sample")
    timed("receive", lambda: [pickle.loads(unit) for unit in sent])
    with tempfile.TemporaryDirectory() as root:
        plan, card = Plan(chains=CHAINS), ModelCard("m", 1, 1, 1.0, 1)
        with open_run(Path(root), task="t", card=card, plan=plan, problems=problems) as log:

            def write() -> None:
                for unit in units:
                    log.write(unit)
                    log.flush()

            timed("write", write)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            run = timed("seal", log.seal)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"{'memory while sealing':24}{grown * 1024 / n:8.1f} bytes a sample")
        for kind in ("facts", "text"):
            size = (run.path / f"{kind}.parquet").stat().st_size
            print(f"{'sealed ' + kind:24}{size / n:8.1f} bytes a sample")
        timed("load facts", lambda: load_run(run.path))
        timed("load two columns", lambda: load_run(run.path, ["problem", "correct"]))
        timed("load facts and text", lambda: load_run(run.path, text=True))


if __name__ == "__main__":
    main()

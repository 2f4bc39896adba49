"""What logging costs, alone and of sampling: docs/scale.md rests on it. CPU time, one core.

    python -m scaling.bench.store

Not here: the speed of sampling (`bench`).
"""

from __future__ import annotations

import gc
import pickle
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from scaling.engine import Engine, Job
from scaling.methods import draw
from scaling.models import load_lm
from scaling.records import Completion, ModelCard, Plan, Problem, Sample
from scaling.store import load_run, open_run
from scaling.study import PLAIN, sample_run
from scaling.tasks import get_task

PROBLEMS, CHAINS = 200, 1000
LADDER = Path("data/models/ladder")
DRAWN = {"0.1M/3e13": 100, "4.8M/1e14": 100}  #: model -> problems of `sums`, 64 samples each


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


class Replay:
    """An engine that says again what another has said, at no cost."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.said = engine, dict[tuple[str, int], Completion]()

    def generate(self, jobs: Iterable[Job], plan: Plan, extend: Any) -> Iterator[tuple]:
        """Yield what `engine.generate` would, for best-of-N."""
        if not self.said:
            jobs = list(jobs)
            self.said = {job[:2]: done for job, _, done in self.engine.generate(jobs, plan, extend)}
        for job in jobs:
            yield job, 0, self.said[job[:2]]


def beside_sampling(model: str, problems: int, pairs: int = 21) -> None:
    """Print what a log adds to the CPU time of sampling: with it and without, in turns.

    Both are timed on what the engine has said already: the log is what differs, and the noise of
    the engine's time, which is that of the log many times over, stays out of the difference.
    """
    lm, task = load_lm(LADDER / model), get_task("sums")
    engine = Engine(lm.model, eos_ids=lm.eos_ids, decode=lm.decode)
    asked, n = (lm, task, task.problems(problems), PLAIN), problems * PLAIN.chains
    replay, added = Replay(engine), []
    sampling = cpu(lambda: list(draw(*asked, replay)))  # type: ignore[arg-type]
    for _ in range(pairs):
        off = cpu(lambda: list(draw(*asked, replay)))  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as root:
            into = Path(root)
            on = cpu(lambda: sample_run(*asked, into, engine=replay, progress=False))  # noqa: B023
        added.append(on - off)
    low, middle, high = (f"{1e6 * at / n:.1f}" for at in (min(added), median(added), max(added)))
    print(
        f"{model:12}{1e6 * sampling / n:8.1f} us a sample, its log {middle} ({low} to {high}): "
        f"{median(added) / sampling:.2%} of {n:,} samples"
    )


def main() -> None:
    """Print what logging costs."""
    for model, count in DRAWN.items():
        beside_sampling(model, count)
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
                for i, unit in enumerate(units):
                    log.write(f"{i:06d}", unit)

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

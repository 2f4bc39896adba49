"""What logging costs per sample: the arithmetic of docs/scale.md rests on it. CPU time, one core.

    python -m scaling.bench.store

Not here: the speed of sampling (`bench`).
"""

from __future__ import annotations

import pickle
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaling.records import ModelCard, Plan, Problem, Sample
from scaling.store import load_run, open_run

PROBLEMS, CHAINS = 200, 1000


def sample(problem: str, chain: int, draw: random.Random) -> Sample:
    """Return a sample of some twelve tokens, like those of the task `sums`."""
    text = f"12+45=57;57+{draw.randrange(99)}=90!{draw.randrange(999)}"
    numbers = -20 * draw.random(), -20 * draw.random()
    right = draw.random() < 0.5
    answer = str(draw.randrange(999))
    return Sample(problem, chain, 0, text, answer, right, *numbers, 12, 0, 13, 0.01, "stop")


def main() -> None:
    """Print microseconds of CPU, and bytes, per sample."""
    draw, n = random.Random(0), PROBLEMS * CHAINS
    problems = [Problem(f"p{i}", "12+45+33?", "90", "3") for i in range(PROBLEMS)]
    units = [[sample(p.id, chain, draw) for chain in range(CHAINS)] for p in problems]

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

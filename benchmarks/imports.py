"""What importing samples of other tools costs in CPU time: `python -m benchmarks.imports`.

A million samples of each of three formats, of ten thousand problems. Not here: what is done with
them (`bench.estimates`).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scaling.readers import counts, read_samples

PROBLEMS, SAMPLES = 10_000, 100


def csv() -> Iterator[str]:
    """Yield the lines of a table of counts."""
    yield "problem,n,c\n"
    yield from (f"task/{i},{SAMPLES},{i % (SAMPLES + 1)}\n" for i in range(PROBLEMS))


def human_eval() -> Iterator[str]:
    """Yield one line per sample."""
    for i in range(PROBLEMS):
        for j in range(SAMPLES):
            row = {"task_id": f"task/{i}", "completion": f"    return {j}\n", "result": "passed"}
            yield json.dumps(row | {"passed": j < i % (SAMPLES + 1)}) + "\n"


def lm_eval() -> Iterator[str]:
    """Yield one line per problem, its repeats in it."""
    for i in range(PROBLEMS):
        texts = [str(j) for j in range(SAMPLES)]
        row = {"doc_id": i, "target": "7", "resps": [texts], "filtered_resps": [texts]}
        yield json.dumps(row | {"filter": "take_first_k", "exact_match": 1 / SAMPLES}) + "\n"


FILES = {"csv": csv, "human-eval": human_eval, "lm-eval": lm_eval}


def main() -> None:
    """Print the seconds of each format."""
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in FILES.items():
            path = Path(folder) / name
            with path.open("w", encoding="utf-8") as file:
                file.writelines(lines())
            before, wall = time.process_time(), time.perf_counter()
            table, rejected = read_samples(path, name)
            n, _ = counts(table)
            spent = time.process_time() - before, time.perf_counter() - wall
            assert (n.sum(), len(rejected)) == (PROBLEMS * SAMPLES, 0), rejected[:1]
            print(f"{name:12}{spent[0]:6.1f} s of CPU, {spent[1]:.1f} s by the clock")


if __name__ == "__main__":
    main()

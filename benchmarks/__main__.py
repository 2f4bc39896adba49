"""`python -m benchmarks`: time the engine, then the estimators, and write both tables."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.engine import bench, bench_loops, chosen, report

DERIVED = Path("data/derived")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return the exit code. A wrong choice is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=(), help="names in benchmarks.engine.MODELS")
    add("--works", nargs="+", default=(), help="words such as fixed, ragged, prompt, revision")
    add("--estimates", action="store_true", help="time the estimators alone")
    add("--repeats", type=int, default=5)
    add("--device", default="auto", help="auto, cpu, cuda")
    add("--out", type=Path, default=DERIVED / "bench.csv")
    options = parser.parse_args(arguments)
    try:
        works = chosen(options.models, options.works)
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    if not options.estimates:
        print(report(bench(works, options.repeats, options.device, options.out)))
    if not (options.models or options.works):
        print(bench_loops(options.repeats, options.out.with_name("bench_estimates.csv")))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Verbs that keep the project in order: notebooks, bench, external."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from scaling.cli.options import DERIVED, positive

EXTERNAL = Path("data/external")


def add(verbs) -> None:
    """Declare the verbs."""
    verb = verbs.add_parser("notebooks", help="execute the notebooks in place")
    verb.add_argument("paths", nargs="*", type=Path, help="default: all in notebooks/")
    verb.set_defaults(run=run_notebooks)
    verb = verbs.add_parser("bench", help="time the engine and the estimators beside their peers")
    verb.add_argument("--models", nargs="+", default=(), help="names in scaling.bench.MODELS")
    verb.add_argument("--works", nargs="+", default=(), help="e.g. fixed ragged prompt revision")
    verb.add_argument("--estimates", action="store_true", help="the estimators alone")
    verb.add_argument("--repeats", type=positive(int), default=5)
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda")
    verb.add_argument("--out", type=Path, default=DERIVED / "bench.csv")
    verb.set_defaults(run=run_bench)
    verb = verbs.add_parser("external", help="fetch the third-party files behind published numbers")
    verb.add_argument("--to", type=Path, default=EXTERNAL, help=f"folder; default {EXTERNAL}")
    verb.add_argument("--from", type=Path, dest="held", help="a folder that holds them already")
    verb.add_argument("--dry-run", action="store_true", help="say what would be done")
    verb.set_defaults(run=run_external)


def run_notebooks(options: argparse.Namespace) -> None:
    """Execute notebooks in place."""
    from scaling.notebooks import execute

    for path in options.paths or sorted(Path("notebooks").glob("*.ipynb")):
        print(f"{path}: {execute(path):.0f} s")


def run_bench(options: argparse.Namespace) -> None:
    """Time the engine, then the estimators; with a choice of models or works the engine alone."""
    from scaling.bench import bench, bench_loops, chosen, report

    works = chosen(options.models, options.works)
    if not options.estimates:
        print(report(bench(works, options.repeats, options.device, options.out)))
    if not (options.models or options.works):
        print(bench_loops(options.repeats, options.out.with_name("bench_estimates.csv")))


def run_external(options: argparse.Namespace) -> None:
    """Fetch (or copy) what is not there yet, checked by sha256."""
    from scaling.readers.external import check, copy, fetch, fetch_all, sources

    files = sources()
    if options.held:
        check(options.held, files)
    get = partial(copy, held=options.held) if options.held else fetch
    for done, file in fetch_all(options.to, files, None if options.dry_run else get):
        where = options.held / file.file if options.held else file.url()
        print(f"{done:8}{file.file}  {file.bytes:,} bytes, {file.licence}, {where}")

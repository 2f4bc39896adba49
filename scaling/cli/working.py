"""Verbs that keep the project in order: notebooks, bench, external."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

EXTERNAL = Path("data/external")


def add(verbs) -> None:
    """Declare the verbs."""
    verb = verbs.add_parser("notebooks", help="execute the notebooks in place")
    verb.add_argument("paths", nargs="*", type=Path, help="default: all in notebooks/")
    verb.set_defaults(run=run_notebooks)
    verb = verbs.add_parser("bench", help="time the engine and the estimators beside their peers")
    verb.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on; try: bench --help")
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
    """Run the benchmarks."""
    from scaling.bench import main as bench

    bench(options.arguments)


def run_external(options: argparse.Namespace) -> None:
    """Fetch (or copy) what is not there yet, checked by sha256."""
    from scaling.external import check, copy, fetch, fetch_all, sources

    files = sources()
    if options.held:
        check(options.held, files)
    get = partial(copy, held=options.held) if options.held else fetch
    for done, file in fetch_all(options.to, files, None if options.dry_run else get):
        where = options.held / file.file if options.held else file.url()
        print(f"{done:8}{file.file}  {file.bytes:,} bytes, {file.licence}, {where}")

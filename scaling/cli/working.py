"""Verbs that keep the project in order: notebooks, external."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from scaling.notebooks import execute
from scaling.readers.external import check, copy, fetch, fetch_all, sources


def run_notebooks(options: argparse.Namespace) -> None:
    """Execute notebooks in place."""
    paths = options.paths or sorted(Path("notebooks").glob("*.ipynb"))
    if not paths:
        raise ValueError("no notebooks/ here: name some, or run it in the folder that holds them")
    if lost := [path for path in paths if not path.is_file()]:
        there = ", ".join(map(str, sorted(lost[0].parent.glob("*.ipynb")))) or "none"
        raise ValueError(f"no notebook {lost[0]}; there: {there}")
    for path in paths:
        print(f"{path}: {execute(path):.0f} s")


def run_external(options: argparse.Namespace) -> None:
    """Fetch (or copy) what is not there yet, checked by sha256."""
    files = sources()
    if options.held:
        check(options.held, files)
    get = partial(copy, held=options.held) if options.held else fetch
    for done, file in fetch_all(options.to, files, None if options.dry_run else get):
        where = options.held / file.file if options.held else file.url()
        print(f"{done:8}{file.file}  {file.bytes:,} bytes, {file.licence}, {where}")

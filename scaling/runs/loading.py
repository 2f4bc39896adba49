"""Load runs from their folders, sealed or still open. Needs no lock and no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scaling.runs.run import Run
from scaling.store.reader import read_run


def load_run(path: str | Path, columns: Iterable[str] | None = None, text: bool = False) -> Run:
    """Return a run, its files checked against their hashes.

    columns: of `records.Sample`, all by default. text: also what the model wrote.
    Errors: ValueError naming the file, and where it differs, when one is missing or was changed.
    """
    return Run(**read_run(Path(path), columns, text))


def load_runs(root: str | Path) -> list[Run]:
    """Return every run directly under a folder, by name; a damaged one is refused, not skipped."""
    root = Path(root)
    if not root.is_dir():
        raise ValueError(
            f"{root} is not a folder; give the one that holds the run folders (`make study` makes "
            "data/study/runs, data/runs holds the committed ones)"
        )
    return [load_run(path.parent) for path in sorted(root.glob("*/manifest.json"))]

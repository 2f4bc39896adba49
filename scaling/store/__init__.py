"""The door between the rooms: open, append, resume, seal, load a run.

A run is a folder `<task>-<model>-<hash>`, the hash being that of task, model, plan and problems, so
that the same plan resumes. While it is open, each unit of work is a pair of immutable Parquet files
in `parts/`, narrow facts and wide text, that appear whole or not at all: their existence is their
completion. What is finished of an open unit is a part too (`parts.FAILED`), which the whole one
replaces, so that `kill -9` loses seconds (`study.SAVE`). `seal` sorts all parts into
`facts.parquet` and `text.parquet`, keeps their hashes in `manifest.json` and removes the parts.
Not a database: one writer per run (a lock sees to it), any number of readers.
"""

from __future__ import annotations

from scaling.store.writer import Writer, open_run

__all__ = ["Writer", "open_run"]

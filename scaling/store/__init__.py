"""Open, append, resume, seal and load runs.

A run is a folder `<task>-<model>-<hash>`, the hash being that of task, model, plan and problems, so
that the same plan resumes. The unit of completion is the problem: while a run is open, complete
problems are in immutable files in `parts/`, each written atomically, and other problems are sampled
again. `kill -9` loses the last seconds (`writer.SAVE`). `seal` merges all parts into
`facts.parquet` and `text.parquet`, keeps their hashes in `manifest.json` and removes the parts. Not
a database: one writer per run, ensured by a lock, and any number of readers.
"""

from scaling.store.writer import Writer, open_run

__all__ = ["Writer", "open_run"]

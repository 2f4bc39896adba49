"""Write a run: one writer at a time, complete problems only, sealed at the end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scaling import provenance
from scaling.records import FINAL, ModelCard, Plan, Problem, Sample
from scaling.store.files import PROBLEMS, SCHEMAS, json_hash, table_of, write_tables
from scaling.store.manifest import FORMAT, identity_of, read_manifest, seal_hash, write_manifest
from scaling.store.parts import FOLDER, Tables, check_rows, next_number, read_parts, write_part

SAVE = 5.0  #: seconds after which complete problems are on the disk


def open_run(
    root: Path,
    *,
    task: str,
    card: ModelCard,
    plan: Plan,
    problems: Sequence[Problem],
    extra: dict[str, Any] | None = None,
) -> Writer:
    """Return a writer for a run of this task, model, plan and problems, new or resumed.

    `extra` (JSON-ready: device, precision, batch size ...) is kept with the provenance of this
    session; it is no part of the run's identity. A sealed run is returned with all complete.
    Errors: ValueError when another process writes it or it was damaged; OSError on a full disk.
    """
    if not problems or len({problem.id for problem in problems}) < len(problems):
        raise ValueError(f"{len(problems)} problems: give at least one, each id once")
    identity = identity_of(task, card, plan, problems)
    names = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", name) for name in (task, card.name))
    run = Path(root) / f"{names}-{json_hash(identity)[:10]}"
    try:
        run.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ValueError(
            f"no run can be written under {root} ({error.strerror}): give another folder as runs="
        ) from error
    lock = _lock(run)
    try:
        if not (run / "manifest.json").exists():
            _start(run, identity, problems)
        manifest = read_manifest(run)
        if manifest["status"] == "open":
            (run / FOLDER).mkdir(exist_ok=True)
            manifest["format"] = FORMAT  # earlier versions cannot read what this session writes
            manifest["sessions"].append(provenance.collect() | {"extra": extra or {}})
            write_manifest(run, manifest)
        return Writer(run, lock, manifest, [problem.id for problem in problems])
    except BaseException:
        os.close(lock)
        raise


def _start(run: Path, identity: dict[str, Any], problems: Sequence[Problem]) -> None:
    """Write the problems of a new run, then its manifest."""
    files = write_tables(run, {"problems": table_of(problems, PROBLEMS, "problems")})
    manifest = {
        "format": FORMAT,
        "status": "open",
        "hash": json_hash(identity),
        "identity": identity,
        "n_problems": len(problems),
        "sessions": [],
        "files": files,
    }
    write_manifest(run, manifest)


def _lock(run: Path) -> int:
    """Return a handle that holds the run's lock until it is closed or the process dies."""
    import fcntl  # absent on Windows, where logs can still be read

    handle = os.open(run / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 200).decode(errors="replace") or "another process"
        os.close(handle)
        raise ValueError(f"{run} is being written by {holder}; wait for it or stop it") from error
    with contextlib.suppress(OSError):  # the name is not needed; a full disk is reported elsewhere
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return handle


class Writer(contextlib.AbstractContextManager["Writer"]):
    """An open run, locked until closed: `write` complete problems, `seal` at the end."""

    path: Path  #: the run's folder
    complete: set[str]  #: problems that need no more sampling

    def __init__(self, path: Path, lock: int, manifest: dict[str, Any], ids: list[str]) -> None:
        self.path, self._handle, self._manifest, self._ids = path, lock, manifest, ids
        self._pending: dict[str, tuple[list[Sample], str | None]] = {}
        self._saved, self._number = time.perf_counter(), next_number(path)
        self.complete = set(ids)
        if not self.sealed:
            self.complete = _complete(read_parts(path, ["facts"], ids)["facts"])

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Save pending samples and close; an error here does not hide an earlier one."""
        try:
            with contextlib.suppress(*([OSError] if kind else [])):
                self.flush()
        finally:
            self.close()

    @property
    def sealed(self) -> bool:
        """Return whether the run is sealed: complete and closed for good."""
        return bool(self._manifest["status"] == "sealed")

    @property
    def finished(self) -> bool:
        """Return whether every problem is complete."""
        return self.complete.issuperset(self._ids)

    def close(self) -> None:
        """Release the lock; saved samples are kept."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def write(self, samples: Sequence[Sample], isa: str | None = None) -> None:
        """Log all samples of some problems, replacing earlier ones of those problems.

        They are on the disk after `SAVE` seconds, after `flush`, or when the writer is closed. A
        problem with a sample that failed, and may be retried, is logged but not complete.
        isa: the instruction set that computed them.
        Errors: those of `flush`.
        """
        self._check_open()
        of: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            of[sample.problem].append(sample)
        self._pending |= {problem: (rows, isa) for problem, rows in of.items()}
        self.complete |= set(of)
        self.complete -= {row.problem for row in samples if can_be_retried(row.finish)}
        if time.perf_counter() >= self._saved + SAVE:
            self.flush()

    def flush(self) -> None:
        """Save all samples given to `write`; they are on the disk when it returns.

        Errors: ValueError for rows that do not fit the schema, which are dropped; OSError when the
        disk is full, with nothing left behind: the rows stay pending.
        """
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        tables = self._tables(pending)
        try:
            write_part(self.path, self._number, tables)
        except BaseException:
            self._pending = pending | self._pending
            raise
        self._number += 1
        self._saved = time.perf_counter()

    def _tables(self, pending: dict[str, tuple[list[Sample], str | None]]) -> Tables:
        rows = list(chain.from_iterable(rows for rows, _ in pending.values()))
        tables = {kind: table_of(rows, schema, "the log") for kind, schema in SCHEMAS.items()}
        isas = np.repeat(
            np.array([isa for _, isa in pending.values()], object),
            [len(found) for found, _ in pending.values()],
        )
        place = tables["facts"].schema.get_field_index("isa")
        field = tables["facts"].schema.field(place)
        tables["facts"] = tables["facts"].set_column(place, field, [pa.array(isas, field.type)])
        check_rows(tables["facts"], self._ids, "the log")
        return tables

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Return the manifest's entry of each session of this run, the present one last."""
        return list(self._manifest["sessions"])

    def note(self, **facts: Any) -> None:
        """Add JSON-serialisable facts to this session's entry in the manifest."""
        self._check_open()
        self._manifest["sessions"][-1]["extra"] |= facts
        write_manifest(self.path, self._manifest)

    def read(self) -> list[Sample]:
        """Return all samples that were written and not sealed, pending ones included."""
        tables = self._merged()
        texts = tables["text"]["text"].to_pylist()
        rows = zip(tables["facts"].to_pylist(), texts, strict=True)
        return [Sample(**row, text=text) for row, text in rows]

    def seal(self) -> Path:
        """Merge and hash all samples, and close the run for good; return the folder.

        The manifest's rename is the moment of sealing: a crash before it leaves the run open and
        loses nothing, a crash after it leaves unused parts that the next `seal` removes.
        """
        if not self.sealed:
            self._check_open()
            tables = self._merged()
            files = self._manifest["files"] | write_tables(self.path, tables)
            failed = pc.sum(pc.starts_with(tables["facts"]["finish"], "error")).as_py()
            manifest = self._manifest | {
                "status": "sealed",
                "n_samples": tables["facts"].num_rows,
                "n_errors": failed or 0,
                "files": files,
            }
            write_manifest(self.path, manifest := manifest | {"sha256": seal_hash(manifest)})
            self._manifest, self._pending = manifest, {}
        shutil.rmtree(self.path / FOLDER, ignore_errors=True)
        return self.path

    def _merged(self) -> Tables:
        last = self._tables(self._pending) if self._pending else None
        return read_parts(self.path, SCHEMAS, self._ids, last)

    def _check_open(self) -> None:
        if self._handle < 0 or self.sealed:
            state = "sealed" if self.sealed else "closed"
            raise ValueError(f"{self.path} is {state}; nothing more can be written to it")


def can_be_retried(finish: str) -> bool:
    """Return whether a sample failed for a temporary reason."""
    return finish.startswith("error") and not finish.startswith(FINAL)


def _complete(facts: pa.Table) -> set[str]:
    """Return the problems without a sample that can be retried."""
    finish = facts["finish"].to_pylist()
    retry = pa.array([can_be_retried(text) for text in finish], pa.bool_())
    names = facts["problem"]
    return set(names.unique().to_pylist()) - set(names.filter(retry).to_pylist())

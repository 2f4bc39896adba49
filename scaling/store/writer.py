"""Write a run: one writer at a time, one call per unit of work, sealed at the end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import pyarrow.compute as pc

from scaling import provenance
from scaling.records import ModelCard, Plan, Problem, Sample
from scaling.store.files import PROBLEMS, SCHEMAS, json_hash, table_of, write_tables
from scaling.store.manifest import FORMAT, identity_of, read_manifest, seal_hash, write_manifest
from scaling.store.parts import FOLDER, check_rows, find_parts, read_part, read_parts, write_part

LONGEST_UNIT = 180  #: characters of a unit's name once quoted; file systems end at 255


def open_run(
    root: Path,
    *,
    task: str,
    card: ModelCard,
    plan: Plan,
    problems: Sequence[Problem],
    extra: dict[str, Any] | None = None,
) -> Writer:
    """Return a writer for the run of this task, model, plan, problems under `root`, new or resumed.

    `extra` (JSON-ready: device, precision, batch size ...) is kept with the provenance of this
    session; it is no part of the run's identity. A sealed run comes back with everything done.
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
            f"no run can be written under {root} ({error.strerror}): name a folder (--runs)"
        ) from error
    lock = _lock(run)
    try:
        if not (run / "manifest.json").exists():
            _start(run, identity, problems)
        manifest = read_manifest(run)
        if manifest["status"] == "open":
            (run / FOLDER).mkdir(exist_ok=True)
            manifest["format"] = FORMAT  # what this session writes, an older one can not read
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
    with contextlib.suppress(OSError):  # the name is a courtesy; a full disk is told of elsewhere
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return handle


class Writer(contextlib.AbstractContextManager["Writer"]):
    """An open run, locked until closed: `write` each unit of work once, `seal` at the end."""

    path: Path  #: the run's folder
    done: set[str]  #: units whose samples are on the disk

    def __init__(self, path: Path, lock: int, manifest: dict[str, Any], ids: list[str]) -> None:
        self.path = path
        self.done = set(manifest.get("units", ())) | set(find_parts(path))
        self._manifest = manifest
        self._ids = ids
        self._handle: int | None = lock

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sealed(self) -> bool:
        """Whether the run is complete and closed for good."""
        return bool(self._manifest["status"] == "sealed")

    def close(self) -> None:
        """Give the lock back; what was written stays."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def write(self, unit: str, samples: Sequence[Sample], instead_of: str = "") -> None:
        """Log all samples of one unit of work; when it returns they are on the disk.

        instead_of: a unit that goes once the new one is there, with failed samples or the same.
        Errors: ValueError for a sealed run, a unit already done, rows that do not fit the schema;
        OSError when the disk is full, with nothing of the unit left behind.
        """
        self._check_open()
        again = unit in self.done and unit != instead_of
        if again or not 0 < len(quote(unit, safe="")) <= LONGEST_UNIT:
            raise ValueError(
                f"unit {unit!r}: give each once, by a name of 1 to {LONGEST_UNIT} bytes"
            )
        tables = {k: table_of(samples, schema, f"unit {unit!r}") for k, schema in SCHEMAS.items()}
        check_rows(tables["facts"], self._ids, f"unit {unit!r}")
        old = find_parts(self.path).get(instead_of) if instead_of else None
        new = write_part(self.path, unit, tables)
        if old and old != new:
            for kind in ("facts", "text"):
                (self.path / FOLDER / f"{old}.{kind}.parquet").unlink()
        self.done = self.done - {instead_of} | {unit}

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Return what the manifest says of each start of this run, the present one last."""
        return list(self._manifest["sessions"])

    def note(self, **facts: Any) -> None:
        """Add JSON-ready facts to what the manifest tells of this session."""
        self._check_open()
        self._manifest["sessions"][-1]["extra"] |= facts
        write_manifest(self.path, self._manifest)

    def read(self, unit: str) -> list[Sample]:
        """Return the samples of a unit that is on the disk."""
        tables = {kind: read_part(self.path, find_parts(self.path)[unit], kind) for kind in SCHEMAS}
        texts = tables["text"]["text"].to_pylist()
        rows = zip(tables["facts"].to_pylist(), texts, strict=True)
        return [Sample(**row, text=text) for row, text in rows]

    def seal(
        self, rest: Mapping[str, Sequence[Sample]] = MappingProxyType({}), whole: bool = False
    ) -> Path:
        """Merge the parts, hash, close for good; return the folder. Repeating it changes nothing.

        rest: units that were not written, and go into the merged files straight away. whole:
        refuse, with ValueError, while a problem has no sample.

        The manifest's rename is the moment of sealing: a crash before it leaves the run open and
        whole, a crash after it leaves parts that nothing reads and the next `seal` removes.
        """
        if not self.sealed:
            self._check_open()
            self._manifest = self._merge(rest, whole)
            write_manifest(self.path, self._manifest)
        shutil.rmtree(self.path / FOLDER, ignore_errors=True)
        return self.path

    def _merge(self, rest: Mapping[str, Sequence[Sample]], whole: bool) -> dict[str, Any]:
        """Write the merged files; return the manifest that seals them."""
        rows, units = list(chain.from_iterable(rest.values())), ", ".join(rest)
        more = {k: table_of(rows, schema, f"units {units}") for k, schema in SCHEMAS.items()}
        tables = read_parts(self.path, SCHEMAS, self._ids, more)
        check_rows(tables["facts"], self._ids, str(self.path))
        there = set(pc.unique(tables["facts"]["problem"]).to_pylist())
        if whole and (lost := [name for name in self._ids if name not in there]):
            raise ValueError(
                f"{self.path} has no sample of {len(lost)} problems, the first {lost[0]}: another "
                "version cut its units of work in another size; sample into another folder (--runs)"
            )
        files = write_tables(self.path, tables)
        failed = pc.sum(pc.starts_with(tables["facts"]["finish"], "error")).as_py()
        manifest = self._manifest | {
            "status": "sealed",
            "n_samples": tables["facts"].num_rows,
            "n_errors": failed or 0,
            "units": sorted(self.done | set(rest)),
            "files": self._manifest["files"] | files,
        }
        return manifest | {"sha256": seal_hash(manifest)}

    def _check_open(self) -> None:
        if self._handle is None or self.sealed:
            state = "sealed" if self.sealed else "closed"
            raise ValueError(f"{self.path} is {state}; nothing more can be written to it")

"""Fetch the third-party files that `published` refits from their origin, checked by sha256.

data/published/external.csv is the list: for each file its repository, the pinned commit, the path
there, the sha256, the size and the licence under which its owners give it. Nothing is kept that
does not match. Not here: what the files say (`published`).
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from scaling.provenance import sha256

DATA = Path(__file__).parents[2] / "data"
ORIGIN = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Source:
    """One third-party file, as its owners published it."""

    file: str  #: where it goes, under the folder of external files
    repository: str  #: owner/name
    commit: str  #: the pinned version
    path: str  #: within the repository
    sha256: str  #: of the bytes
    bytes: int  #: their number
    licence: str  #: SPDX name, of the repository

    def url(self, origin: str = ORIGIN) -> str:
        """Return the address of the pinned bytes."""
        return f"{origin}/{quote(f'{self.repository}/{self.commit}/{self.path}')}"


def sources(table: Path = DATA / "published" / "external.csv") -> list[Source]:
    """Return the list of files."""
    with table.open(newline="", encoding="utf-8") as lines:
        rows: list[dict[str, Any]] = list(csv.DictReader(lines))
    return [Source(**row | {"bytes": int(row["bytes"])}) for row in rows]


def fault(source: Source, folder: Path) -> str:
    """Return the fault of a file under `folder`: "missing", "changed", or "" if there is none."""
    path = folder / source.file
    if not path.is_file():
        return "missing"
    return "" if sha256(path) == source.sha256 else "changed"


def check(folder: Path, files: Sequence[Source]) -> None:
    """Raise ValueError naming every file that is missing in `folder`, or changed."""
    if faults := [f"{s.file} ({what})" for s in files if (what := fault(s, folder))]:
        raise ValueError(f"{folder}: {len(faults)} of {len(files)} files: {', '.join(faults)}")


def fetch_all(
    folder: Path, files: Sequence[Source], get: Callable[[Source, Path], None] | None
) -> Iterator[tuple[str, Source]]:
    """Yield ("kept" or "fetched", file) for each; with `get` None "wanted", and nothing is done."""
    for source in files:
        wanted = bool(fault(source, folder))
        if wanted and get:
            get(source, folder)
        yield ("kept" if not wanted else "fetched" if get else "wanted"), source


def copy(source: Source, folder: Path, origin: Path) -> None:
    """Copy one file into `folder` from a folder that contains it."""
    part = _part(source, folder)
    shutil.copyfile(origin / source.file, part)
    _keep(source, folder, part, str(origin / source.file))


def fetch(source: Source, folder: Path, origin: str = ORIGIN) -> None:
    """Download one file into `folder`, continuing an earlier download that broke off.

    The file takes its name only when its sha256 is right. Errors: ValueError when the origin cannot
    be reached or breaks off (the part stays), and when its bytes are not those pinned (it goes).
    """
    part, url = _part(source, folder), source.url(origin)
    try:
        _download(url, part, source.bytes)
    except HTTPError as error:
        raise ValueError(f"{url}: the origin answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise ValueError(
            f"cannot reach {url} ({getattr(error, 'reason', error)}): try again with a network, "
            "or give a folder that has the files with --from"
        ) from error
    if (size := part.stat().st_size) < source.bytes:
        raise ValueError(f"{url} broke off at {size} of {source.bytes} bytes; fetch again")
    _keep(source, folder, part, url)


def _part(source: Source, folder: Path) -> Path:
    path = folder / (source.file + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _download(url: str, part: Path, size: int) -> None:
    """Append the rest of a file to `part`, or all of it if the origin cannot skip."""
    done = part.stat().st_size if part.exists() else 0
    if done >= size:
        return
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urlopen(request, timeout=60) as answer:
        resumed = getattr(answer, "status", None) == 206
        with part.open("ab" if resumed else "wb") as file:
            shutil.copyfileobj(answer, file)


def _keep(source: Source, folder: Path, part: Path, where: str) -> None:
    """Give a complete part its name, or remove it and raise."""
    if (found := sha256(part)) != source.sha256:
        part.unlink()
        raise ValueError(f"{where} has sha256 {found}, pinned is {source.sha256}: it is not kept")
    part.replace(folder / source.file)

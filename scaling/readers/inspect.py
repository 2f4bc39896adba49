"""Read logs of inspect_ai, .eval and .json, with each scorer's value as inspect_ai reads it."""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from scaling.readers.values import Note, number, whole_number

ZSTANDARD = 93  # how a zip archive names it
HEADERS = ("header.json", "_journal/start.json")  #: of a finished log, of one that is not
LIMIT = 60  #: characters of an error message that are kept


def records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the samples of a log, and the missing problems of one that was not finished."""
    if path.suffix == ".json":
        header = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(header.get("samples"), list):
            raise ValueError("it holds no samples: only the log's header was saved")
        seen = {str(s["id"]) for s in header["samples"] if isinstance(s, dict) and "id" in s}
        yield from ((f"sample {i}", s) for i, s in enumerate(header["samples"], 1))
    else:
        header, seen = {"status": "not finished"}, set()
        for where, text in _entries(path):
            if where in HEADERS:
                header |= json.loads(text)
            else:
                seen.add(where.removeprefix("samples/").rpartition("_epoch_")[0])
                yield where, text
    if (status := header.get("status", "success")) == "success":
        return
    yield "", Note(f"the log's status is {status!r}, not 'success': samples may be missing")
    for problem in ((header.get("eval") or {}).get("dataset") or {}).get("sample_ids") or ():
        if str(problem) not in seen:
            lost = {"message": "it was never run, or not logged"}
            yield f"problem {problem}", {"id": problem, "epoch": 1, "error": lost}


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (name, bytes) of an archive's header and samples; the last one of a repeated name."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no complete .eval archive; was it cut off?")
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        latest = {entry.filename: entry for entry in archive.infolist()}
        for name, entry in latest.items():
            if name in HEADERS or (name.startswith("samples/") and name.endswith(".json")):
                zstandard = entry.compress_type == ZSTANDARD
                yield name, _unzip(file, entry) if zstandard else archive.read(entry)


def _unzip(file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """Return an entry compressed with Zstandard, which zipfile reads from Python 3.14 on only."""
    import pyarrow

    file.seek(entry.header_offset + 26)  # the entry's own lengths of name and extra field
    lengths = struct.unpack("<HH", file.read(4))
    file.seek(sum(lengths), 1)
    packed = pyarrow.BufferReader(file.read(entry.compress_size))
    with pyarrow.CompressedInputStream(packed, "zstd") as stream:
        return stream.read()


def rows(sample: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a sample; a scorer with several values becomes a metric SCORER.KEY for each."""
    metrics: dict[str, Any] = {}
    why = _why(sample)
    for scorer, score in (sample.get("scores") or {}).items() if not why else ():
        value = score["value"]
        parts = dict(enumerate(value)) if isinstance(value, list) else value
        named = (
            {f"{scorer}.{key}": part for key, part in parts.items()}
            if isinstance(parts, dict)
            else {scorer: value}
        )
        for name, part in named.items():
            metrics[name] = {"correct": part, "score": number(part), "answer": score.get("answer")}
    row = {"problem": str(sample["id"]), "chain": whole_number(sample["epoch"], "epoch", 1) - 1}
    row |= {"metrics": metrics, "why": why, "completion_tokens": _tokens(sample)}
    return [row | {"stopped": [name for name in ("error", "limit") if sample.get(name)]}]


def settle(rows: list[dict[str, Any]]) -> list[str]:
    """Return notes on samples that failed or were stopped but were scored anyway."""
    stopped = Counter(name for row in rows if row["metrics"] for name in row["stopped"])
    words = {"error": "failed", "limit": "were stopped at a limit"}
    return [f"{n:,} samples {words[name]} and were scored anyway" for name, n in stopped.items()]


def _why(sample: dict[str, Any]) -> str | None:
    """Return why a sample has no verdict, regardless of its scorers; None if it may have one."""
    if sample.get("invalidation"):
        return "it was invalidated"
    if sample.get("error") and not sample.get("scores"):
        message = " ".join(str(sample["error"].get("message")).split())
        return f"it failed: {message[:LIMIT]}"
    if sample.get("limit") and not sample.get("scores"):
        return f"it was stopped at a limit: {sample['limit'].get('type')}"
    return None


def _tokens(sample: dict[str, Any]) -> float:
    """Return the new tokens of the model under test, without those of graders; NaN if unknown."""
    usage, roles = sample.get("model_usage") or {}, sample.get("role_usage") or {}
    model = (sample.get("output") or {}).get("model")
    own = [u for name, u in usage.items() if model and name.rpartition("/")[2] == model]
    own = own if len(own) == 1 else list(usage.values())
    if len(own) != 1:
        return math.nan
    graders = sum(u["output_tokens"] for u in roles.values()) if len(usage) == 1 else 0
    return float(own[0]["output_tokens"] - graders)

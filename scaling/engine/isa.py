"""The engine compiled for an instruction set: `SCALING_ISA` chooses it, by default the best.

`native.c` is compiled on first use (about a second per level) with the machine's C compiler and
kept in the user's cache folder. A level is compiled with the same flags on every machine, so that
equal levels compute equal bits wherever the same compiler is used.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from scaling.records import look_up

VARIABLE = "SCALING_ISA"
ADDED = {  #: level -> what it adds to the one before it, by the names of /proc/cpuinfo
    "baseline": (),
    "avx2": ("avx2", "fma"),
    "avx512": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    "avx512_bf16": ("avx512_bf16",),
    "amx": ("amx_tile", "amx_bf16"),
}
SETTINGS = ("auto", "none", *ADDED)  #: allowed values of `SCALING_ISA`; none: torch alone, no C
SOURCE = Path(__file__).with_name("native.c")
INCLUDED = SOURCE.with_name("bfloat16.c")
FLAGS = ["-O3", "-fno-math-errno", "-shared", "-fPIC"]
REQUEST_TILES = (158, 0x1023, 18)  #: arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA


class Compiled(NamedTuple):
    """The engine's C code, loaded."""

    isa: str  #: its level, a key of `ADDED`
    code: ctypes.CDLL
    lanes: int  #: floats in a vector
    units: int  #: what multiplies bfloat16: 2 tiles, 1 vectors, 0 nothing


def library() -> Compiled | None:
    """Return the engine compiled for the level that `SCALING_ISA` names.

    None for `none`, and for `auto` where no compiler works. Errors: ValueError for an unknown
    level, one that this processor lacks, or one that the compiler cannot compile for.
    """
    chosen = os.environ.get(VARIABLE) or "auto"
    look_up(dict.fromkeys(SETTINGS), chosen, VARIABLE)
    if chosen == "none":
        return None
    if chosen == "auto":
        return next((done for level in levels()[::-1] if (done := compiled_for(level)[0])), None)
    if chosen not in levels():
        there = ", ".join(("auto", "none", *levels()))
        raise ValueError(f"{VARIABLE} is {chosen!r}, which this processor lacks; it has: {there}")
    compiled, reason = compiled_for(chosen)
    if compiled is None:
        raise ValueError(f"{VARIABLE} is {chosen!r}, but {reason}; use auto or none")
    return compiled


@functools.cache
def levels() -> tuple[str, ...]:
    """Return the levels that this processor has and its kernel allows, the best last."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    flags = set(next((x for x in lines if x.startswith("flags")), "").split())
    found: list[str] = []
    for level, added in ADDED.items():
        if not flags.issuperset(added) or (level == "amx" and not _tiles_allowed()):
            break
        found.append(level)
    return tuple(found)


def _tiles_allowed() -> bool:
    """Return whether the kernel lets this process, and its children, use tiles."""
    return ctypes.CDLL(None).syscall(*map(ctypes.c_long, REQUEST_TILES)) == 0


@functools.cache
def compiled_for(level: str) -> tuple[Compiled | None, str]:
    """Return the engine compiled for a level, or None and the reason."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None or platform.system() == "Windows":
        return None, "there is no C compiler"
    try:
        code = ctypes.CDLL(str(_built(compiler, level)))
    except (OSError, subprocess.CalledProcessError) as error:
        message = getattr(error, "stderr", b"") or str(error).encode()
        return (
            None,
            f"{compiler} failed: {message.decode(errors='replace').strip().splitlines()[-1]}",
        )
    code.scratch_floats.restype = code.lanes.restype = ctypes.c_long
    return Compiled(level, code, code.lanes(), code.units()), ""


def _built(compiler: str, level: str) -> Path:
    """Return the shared library of a level, compiled unless the cache has it."""
    names = [name for added in ADDED.values() for name in added]
    names = names[: names.index(ADDED[level][-1]) + 1] if ADDED[level] else []
    flags = [*FLAGS, *("-m" + n.replace("amx_", "amx-").replace("_", "") for n in names)]
    code = SOURCE.read_text() + INCLUDED.read_text()
    key = hashlib.sha256("\0".join([code, compiler, platform.machine(), *flags]).encode())
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(home) / "inference-scaling-kit"
    target = cache / f"native-{key.hexdigest()[:16]}.so"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            built = Path(folder) / "native.so"
            command = [compiler, *flags, "-o", str(built), str(SOURCE), "-lm"]
            subprocess.run(command, check=True, capture_output=True)
            built.replace(target)
    return target

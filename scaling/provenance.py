"""Where a result came from: commit, package versions, machine, file hashes.

Not the whole environment: its variables hold secrets and are never read. Torch is asked about the
GPU only when something else has already loaded it.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
RECORDED = ("inference-scaling-kit", "torch", "transformers", "tokenizers", "numpy", "scipy",
            "pandas", "pyarrow", "matplotlib")  # fmt: skip


def _git(*arguments: str) -> str | None:
    """Return what git prints in the package's folder; None without git or outside a repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def code_state() -> tuple[str | None, bool | None]:
    """Return (commit, dirty): dirty when a file of the package differs from that commit or is new.

    (None, None) when the package does not lie at the top of a git checkout (a plain install).
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != PACKAGE.parent:
        return None, None
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", str(PACKAGE))
    return commit, None if changes is None else bool(changes)


def versions(names: tuple[str, ...] = RECORDED) -> dict[str, str]:
    """Return the installed version of each package, from its metadata; absent ones are left out."""
    return {name: found for name in names if (found := _version(name))}


@cache
def _version(name: str) -> str | None:
    """Return a package's version, cached: looking all of them up takes 0.1 s."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    """Return the processor's name as Linux gives it, else the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def device() -> dict[str, Any]:
    """Return the processor, its usable cores, the GPUs torch sees (None: torch is not loaded)."""
    torch = sys.modules.get("torch")
    gpus = torch and [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_name(), "cores": cores, "gpus": gpus}


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_hashes(start: str) -> dict[str, str]:
    """Return a hash of each part of the package that `start` depends on, itself included.

    A part is a module, or a folder of them. Comments, docstrings and layout do not count, since
    they change no number.
    """
    found: dict[str, str] = {}
    waiting = [start]
    while waiting:
        part = waiting.pop()
        if part in found:
            continue
        files = sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]
        read = [_read(path.read_text(encoding="utf-8")) for path in files]
        waiting += [name for names, _ in read for name in names]
        code = "\0".join(code for _, code in read)
        found[part] = hashlib.sha256(code.encode()).hexdigest()[:16]
    return dict(sorted(found.items()))


@cache
def _read(text: str) -> tuple[list[str], str]:
    """Return the parts of the package that a module imports, and its code without comments."""
    tree = ast.parse(text)
    return _imported(tree), ast.unparse(_without_docstrings(tree))


def _imported(tree: ast.AST) -> list[str]:
    """Return the parts of the package that a module imports, at any depth."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            names.append(str(node.module).split(".")[1])
    return names


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body[0] = ast.copy_location(ast.Pass(), first)
    return tree


def collect() -> dict[str, Any]:
    """Return everything above as one JSON-ready dictionary, with the time (UTC) and the command."""
    commit, dirty = code_state()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions(),
        "device": device(),
    }

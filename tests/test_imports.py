"""Who may import whom. The table is the design; an edge that is not in it fails."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "scaling"
ANYTHING = None

MAY_IMPORT: dict[str, set[str] | None] = {
    # foundation
    "show": set(),
    "records": {"show"},
    "curves": {"show"},
    "compute": {"records"},
    "provenance": set(),
    "markers": set(),
    "entries": set(),
    # left room: make samples
    "tasks": {"records", "markers"},
    "benchmarks": {"records", "tasks", "entries"},
    "models": {"records", "compute", "markers"},
    "engine": {"records", "compute"},
    "serving": {"records", "engine", "markers"},
    # the reading side imports `methods.table`; only `methods.scorers` needs torch
    "methods": {"tasks", "models", "engine", "records", "store"},
    "ladder": {"tasks", "models", "methods", "engine", "compute", "records", "provenance"},
    # the door
    "store": {"records", "provenance"},
    # right room: read samples
    "estimates": set(),
    "intervals": {"estimates"},
    "runs": {"show", "records", "curves", "compute", "estimates", "intervals", "store", "readers"}
    | {"provenance", "methods", "tasks"},
    "comparisons": {"show", "curves", "estimates", "intervals", "runs"},
    "fits": {"show", "estimates", "records", "curves", "intervals", "runs", "methods"},
    "planner": {"compute", "runs", "comparisons", "intervals", "records"},
    "readers": {"provenance", "estimates", "records", "entries"},
    "figures": {"records", "curves", "provenance", "show", "store", "intervals", "runs"}
    | {"comparisons", "fits", "methods"},
    "results": {"records", "curves", "estimates", "intervals", "runs", "comparisons", "fits"}
    | {"methods", "tasks", "planner", "figures"},
    "report": {"records", "provenance", "show", "store", "intervals", "tasks", "runs", "fits"}
    | {"curves", "figures"},
    # commands: put the rooms together
    "executors": set(),
    "adaptive": {"comparisons", "runs", "records", "sampling"},
    "preparing": ANYTHING,
    "sampling": ANYTHING,
    "study": ANYTHING,
    "think": ANYTHING,
    "verify": {"records", "benchmarks", "store", "runs", "tasks", "models", "sampling", "methods"}
    | {"fits", "intervals"},
    "cli": ANYTHING,
    "__main__": {"cli"},
    "front": ANYTHING,
    "__init__": ANYTHING,
}
RIGHT_ROOM = (
    "entries",
    "markers",
    "tasks",
    "benchmarks",
    "store",
    "estimates",
    "intervals",
    "runs",
    "comparisons",
    "fits",
    "planner",
    "readers",
    "figures",
    "report",
    "results",
)
LEFT_ROOM_ONLY = {"torch", "transformers", "tokenizers", "safetensors"}


def unit_of(path: Path) -> str:
    """Return the row of the table that a file belongs to: `tasks` for scaling/tasks/sums.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(path: Path) -> set[str]:
    """Return the full dotted names a file imports, at any depth, relative imports resolved."""
    parts = ("scaling", *path.relative_to(PACKAGE).with_suffix("").parts)
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def edges_of(path: Path) -> set[str]:
    """Return the rows of the table a file imports, its own left out."""
    ours = {name.split(".")[1] for name in imported_names(path) if name.startswith("scaling.")}
    return (ours & set(MAY_IMPORT)) - {unit_of(path)}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_the_table_allows(path: Path) -> None:
    assert unit_of(path) in MAY_IMPORT, f"{path.name}: add a row to the table of imports"
    allowed = MAY_IMPORT[unit_of(path)]
    if allowed is not ANYTHING:
        assert edges_of(path) <= allowed


def test_the_reader_of_imports_sees_every_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "tasks").mkdir()
    file = tmp_path / "tasks" / "sums.py"
    file.write_text(
        "import scaling.engine\nfrom scaling import store\nfrom scaling.runs import curve\n"
        "from . import countdown\nfrom ..records import Plan\ndef f():\n    from .. import fits\n"
    )
    assert edges_of(file) == {"engine", "store", "runs", "records", "fits"}


def test_the_table_has_no_cycle() -> None:
    left = {name: set(allowed) for name, allowed in MAY_IMPORT.items() if allowed is not ANYTHING}
    while left:
        free = {name for name, allowed in left.items() if not allowed & set(left)}
        assert free, f"a cycle among {sorted(left)}"
        left = {name: allowed for name, allowed in left.items() if name not in free}


@pytest.mark.parametrize("name", RIGHT_ROOM)
def test_no_file_of_the_right_room_names_torch(name: str) -> None:
    files = [path for path in FILES if unit_of(path) == name]
    assert all(
        n.split(".")[0] not in LEFT_ROOM_ONLY for path in files for n in imported_names(path)
    )


def modules_after(code: str) -> set[str]:
    """Return the top-level modules loaded in a fresh process after running `code`."""
    script = f"{code}\nimport sys\nprint(' '.join(n for n in sys.modules if '.' not in n))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    return set(done.stdout.split())


def test_the_right_room_loads_without_torch_in_a_fresh_process() -> None:
    files = [path.relative_to(PACKAGE) for path in FILES if unit_of(path) in RIGHT_ROOM]
    modules = [".".join(("scaling", *path.with_suffix("").parts)) for path in files]
    loaded = modules_after("\n".join(f"import {name}" for name in modules))
    assert "scaling" in loaded
    assert not loaded & LEFT_ROOM_ONLY


def test_import_scaling_loads_nothing_heavy() -> None:
    loaded = modules_after("import scaling")
    assert not loaded & {*LEFT_ROOM_ONLY, "pandas", "matplotlib", "scipy", "pyarrow"}


NAMES = re.compile(
    r"""(?<!for\ )\b(method|label)\s*(==|!=|in|not\ in)\s*[("'\[{](?!None)|"""
    r"""\b(method|label)\.startswith|"""
    r"""['"](best_of_n|revision|wait|thinking|beam|dvts|rebase|particles)['"]\s*(==|!=|in\b)""",
    re.VERBOSE,
)


def test_only_the_table_of_methods_knows_a_methods_name() -> None:
    """A method of one's own is one entry, so no module may decide anything by a name."""
    assert NAMES.search('if run.plan.method == "best_of_n":')
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in FILES
        if "methods" not in path.parts
        for line in path.read_text(encoding="utf-8").splitlines()
        if NAMES.search(line)
    ]
    assert not found

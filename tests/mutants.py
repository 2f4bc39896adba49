"""Mutate verifiers, estimators, fits and the ledger, and count what no test notices.

    python -m tests.mutants FOLDER-OF-AN-ENVIRONMENT-WITH-MUTMUT --modules fits/losses --sample 50

Works in a copy, one small change at a time; `sample` takes so many mutants of each module, drawn at
random. The counts go to docs/trust.md, the survivors to build/survivors.txt.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from tests.trust import note

ROOT = Path(__file__).parents[1]
MODULES = {  #: module -> tests that ask most of it
    "tasks/countdown": ("pinned", "tasks"),
    "tasks/sums": ("pinned", "tasks"),
    "estimates/counts": ("pinned", "estimates"),
    "estimates/votes": ("estimates", "traps"),
    "intervals": ("intervals", "traps", "pinned"),
    "benchmarks/grading": ("grading_traps",),
    "compute": ("pinned", "compute"),
    "fits/losses": ("laws", "fits"),
    "fits/minimise": ("laws", "fits"),
    "fits/fitting": ("laws", "fits", "pinned"),
    "fits/forecast": ("fits", "pinned"),
    "fits/laws": ("laws", "fits"),
}
SETTINGS = """[mutmut]
source_paths={modules}
pytest_add_cli_args_test_selection={tests}
also_copy=scaling
    tests
    pytest.ini
"""
PYTEST = """[pytest]
addopts = -m 'not slow and not gpu'
markers =
    gpu: needs CUDA
    slow: takes long
"""


def mutate(tools: Path, folder: Path, modules: list[str], sample: int) -> str:
    """Return what mutmut says of each mutant, after trying `sample` of each module, or all."""
    for name in ("scaling", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "tests/conftest.py").write_text("")
    (folder / "pytest.ini").write_text(PYTEST)
    tests = sorted({f"tests/test_{test}.py" for module in modules for test in MODULES[module]})
    paths = [f"scaling/{module}.py" for module in modules]
    lists = {"modules": "\n    ".join(paths), "tests": "\n    ".join(tests)}
    (folder / "setup.cfg").write_text(SETTINGS.format(**lists))
    (library,) = (tools / "lib").glob("python*/site-packages")
    (library / "kit.pth").write_text(sysconfig.get_path("purelib"))
    command, env = [str(tools / "bin/mutmut")], os.environ | {"OMP_NUM_THREADS": "1"}

    def results() -> str:
        asked = [*command, "results", "--all", "true"]
        return subprocess.run(asked, cwd=folder, capture_output=True, text=True, env=env).stdout

    chosen: list[str] = []
    if sample:  # a name that no mutant has: they are made, none is tried
        subprocess.run([*command, "run", "none"], cwd=folder, check=False, env=env)
        made: dict[str, list[str]] = {}
        for name in re.findall(r"^\s*(scaling\.\S+): ", results(), re.MULTILINE):
            made.setdefault(name.partition(".x")[0], []).append(name)
        for names in made.values():
            chosen += Random(0).sample(names, min(sample, len(names)))
    run = [*command, "run", "--max-children", "2", *chosen]
    subprocess.run(run, cwd=folder, check=False, env=env)
    found = results()
    for name in re.findall(r"^\s*(\S+): survived$", found, re.MULTILINE):
        shown = subprocess.run(
            [*command, "show", name], cwd=folder, capture_output=True, text=True, env=env
        )
        found += f"\n{shown.stdout}"
    return found


def counted(results: str) -> Counter[tuple[str, str]]:
    """Return {(module, state): mutants} of what `mutmut results` prints."""
    lines = re.findall(r"^\s*(scaling\.[\w.]+?)\.x\S*: (.+)$", results, re.MULTILINE)
    return Counter(lines)


def main() -> None:
    """Mutate, print, and note the counts for docs/trust.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("tools", type=Path, help="an environment that holds mutmut")
    parser.add_argument("--modules", nargs="+", choices=list(MODULES), default=list(MODULES))
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module; 0: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = mutate(options.tools.resolve(), Path(folder), options.modules, options.sample)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build/survivors.txt").write_text(found)
    write(counted(found))


def write(found: Counter[tuple[str, str]]) -> None:
    """Note counts as a row per module."""
    rows = {}
    for module in sorted({module for module, _ in found}):
        killed = found[module, "killed"] + found[module, "timeout"]  # a loop without an end
        survived = found[module, "survived"]
        if not killed + survived:
            continue
        every = sum(n for (name, _), n in found.items() if name == module)
        row = {"mutants": every, "killed": killed, "survived": survived}
        row |= {"not tried": every - killed - survived}
        rows[module] = row | {"killed of those tried (%)": 100 * killed / (killed + survived)}
    print(rows)
    note("mutants", f"make mutants ARGS='{' '.join(sys.argv[2:])}'", rows)


if __name__ == "__main__":
    main()

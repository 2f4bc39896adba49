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
    "tasks/__init__": ("pinned", "tasks"),
    "tasks/countdown": ("pinned", "tasks", "thinking"),
    "tasks/sums": ("pinned", "tasks"),
    "tasks/traces": ("thinking",),
    "tasks/asked": ("hub", "benchmarks", "thinking"),
    "estimates/counts": ("pinned", "estimates"),
    "estimates/pools": ("estimates", "traps"),
    "estimates/prefixes": ("estimates", "traps"),
    "estimates/verifiers": ("estimates",),
    "estimates/votes": ("estimates", "traps"),
    "estimates/adaptive": ("adaptive", "estimates"),
    "intervals": ("intervals", "traps", "pinned"),
    "benchmarks/grading": ("grading_traps", "benchmarks", "fuzz"),
    "benchmarks/expressions": ("grading_traps", "benchmarks", "fuzz"),
    "compute": ("pinned", "compute"),
    "fits/losses": ("laws", "fits"),
    "fits/minimise": ("laws", "fits"),
    "fits/fitting": ("laws", "fits", "pinned"),
    "fits/forecast": ("fits", "pinned"),
    "fits/forecasts": ("forecasts",),
    "fits/joint": ("joint",),
    "fits/laws": ("laws", "fits"),
    "store/files": ("store",),
    "store/manifest": ("store",),
    "store/parts": ("store",),
}
#: simulations, left out by --quick
SLOW = "nominal_rate or cover or follows_from_the_runs or simulation"
SETTINGS = """[mutmut]
source_paths={module}
pytest_add_cli_args_test_selection={tests}
also_copy=scaling
    tests
    pytest.ini
"""
PYTEST = """[pytest]
addopts = -m 'not slow and not gpu and not browser'
markers =
    browser: needs Chromium
    gpu: needs CUDA
    slow: takes long
    xdist_group: of xdist
"""


def mutate(tools: Path, folder: Path, module: str, sample: int, quick: bool) -> str:
    """Return what mutmut says of each mutant, after trying `sample` of a module, or all.

    mutmut turns a mutant on in a process that has imported the module, so that what runs at import
    is never changed: an interpreter of its own has the last word on each that survived.
    """
    for name in ("scaling", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mutants").mkdir()
    for where in (folder, folder / "mutants"):
        for name in ("data", "docs", "README.md", "constraints.txt"):
            (where / name).symlink_to(ROOT / name)
    (folder / "pytest.ini").write_text(PYTEST.replace("browser'", f"browser' -k 'not ({SLOW})'", 1)
                                       if quick else PYTEST)  # fmt: skip
    tests = [f"tests/test_{test}.py" for test in MODULES[module]]
    lists = {"module": f"scaling/{module}.py", "tests": "\n    ".join(tests)}
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
        made = re.findall(r"^\s*(scaling\.\S+): ", results(), re.MULTILINE)
        chosen = Random(0).sample(made, min(sample, len(made)))
    run = [*command, "run", "--max-children", "1", *chosen]
    subprocess.run(run, cwd=folder, check=False, env=env)
    found = results()
    alone = [str(tools / "bin/python"), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    for name in re.findall(r"^\s*(\S+): (?:survived|no tests)$", found, re.MULTILINE):
        if chosen and name not in chosen:
            continue
        on = env | {"MUTANT_UNDER_TEST": name}
        again = subprocess.run(
            [*alone, *tests], cwd=folder / "mutants", env=on, capture_output=True
        )
        state = "survived" if again.returncode == 0 else "killed"
        found = re.sub(rf"^(\s*{re.escape(name)}): .*$", rf"\1: {state}", found, flags=re.MULTILINE)
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
    parser.add_argument("--quick", action="store_true", help=f"leave out tests named: {SLOW}")
    options = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    survivors = ROOT / "build/survivors.txt"
    survivors.write_text("")
    for module in options.modules:
        with tempfile.TemporaryDirectory() as folder:
            found = mutate(
                options.tools.resolve(), Path(folder), module, options.sample, options.quick
            )
        with survivors.open("a") as file:
            file.write(found)
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

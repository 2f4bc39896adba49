"""Mutate verifiers, estimators, fits, the ledger and the store, and count what no test notices.

    python -m tests.trust.mutants ENVIRONMENT-WITH-MUTMUT --modules fits/losses --sample 50

Works in a copy, one small change at a time; `sample` takes so many mutants of each module, drawn at
random. The counts go to docs/trust.md, the survivors to build/survivors.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tests.trust.tables import note

ROOT = Path(__file__).parents[2]
MODULES = {  #: module -> tests that ask most of it
    "tasks/__init__": ("pinned", "tasks", "thinking"),
    "tasks/countdown": ("pinned", "tasks", "thinking"),
    "tasks/sums": ("pinned", "tasks"),
    "tasks/traces": ("thinking",),
    "tasks/chat": ("families", "thinking"),
    "estimates/counts": ("pinned", "estimates"),
    "estimates/pools": ("estimates", "traps"),
    "estimates/prefixes": ("estimates", "traps"),
    "estimates/verifiers": ("estimates",),
    "estimates/votes": ("estimates", "traps"),
    "estimates/adaptive": ("adaptive", "estimates"),
    "intervals": ("intervals", "traps", "pinned"),
    "benchmarks/choices": ("grading_traps", "grading_forms"),
    "benchmarks/extraction": ("grading_traps", "grading_forms"),
    "benchmarks/grading": ("grading_traps", "grading_forms"),
    "benchmarks/mathematics": ("grading_traps", "grading_forms"),
    "benchmarks/numbers": ("grading_traps", "grading_forms"),
    "benchmarks/spelling": ("grading_traps", "grading_forms"),
    "benchmarks/expressions": ("grading_traps",),
    "compute": ("pinned", "compute"),
    "fits/losses": ("laws", "fits"),
    "fits/minimise": ("laws", "fits"),
    "fits/fitting": ("laws", "fits", "pinned"),
    "fits/forecast": ("fits", "forecasts"),
    "fits/forecasts": ("forecasts",),
    "fits/joint": ("laws", "joint"),
    "fits/laws": ("laws", "fits"),
    "store/files": ("store",),
    "store/manifest": ("store",),
    "store/parts": ("store",),
    "store/reader": ("store",),
    "store/writer": ("store",),
}
#: simulations, left out by --quick
SLOW = "nominal_rate or cover or follows_from_the_runs or simulation"
PYTEST = """[pytest]
addopts = -m 'not slow and not gpu and not browser'
filterwarnings = error
markers =
    browser: needs Chromium
    gpu: needs CUDA
    slow: takes long
    xdist_group: of xdist
"""


def mutate(tools: Path, folder: Path, module: str, sample: int, quick: bool) -> list[dict]:
    """Return what became of each mutant, after trying `sample` of a module, or all."""
    for name in ("scaling", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("data", "docs", "README.md", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "pytest.ini").write_text(PYTEST)
    (folder / "setup.cfg").write_text("[mutmut]\nsource_paths=scaling\n")
    (library,) = (tools / "lib").glob("python*/site-packages")
    (library / "kit.pth").write_text(sysconfig.get_path("purelib"))
    tests = [f"tests/test_{test}.py" for test in MODULES[module]]
    arguments = {"module": module, "tests": tests, "slow": SLOW, "sample": sample, "quick": quick}
    command = [str(tools / "bin/python"), "-m", "tests.trust.mutant", json.dumps(arguments)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # each fork would compile everything anew
    found = []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=env) as tried:
        assert tried.stdout is not None
        for line in tried.stdout:
            found.append(json.loads(line))
            print(found[-1]["mutant"], "killed" if found[-1]["killed"] else "survived", flush=True)
    return found


def main() -> None:
    """Mutate, print, and note the counts for docs/trust.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.trust.mutants", description=__doc__)
    parser.add_argument("tools", type=Path, help="an environment that holds mutmut")
    parser.add_argument("--modules", nargs="+", choices=list(MODULES), default=list(MODULES))
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module; 0: all")
    parser.add_argument("--quick", action="store_true", help=f"leave out tests named: {SLOW}")
    options = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    survivors = ROOT / "build/survivors.txt"
    survivors.write_text("")
    command = f"make mutants ARGS='{' '.join(sys.argv[2:])}'"
    for module in options.modules:
        with tempfile.TemporaryDirectory() as folder:
            found = mutate(
                options.tools.resolve(), Path(folder), module, options.sample, options.quick
            )
        with survivors.open("a") as file:
            for row in found:
                if not row["killed"]:
                    file.write(f"# {row['mutant']}\n{row['change']}\n\n")
        if found:
            note("mutants", command, {f"scaling.{module.replace('/', '.')}": counted(found)})


def counted(found: list[dict]) -> dict[str, float]:
    """Return the row of a module's mutants."""
    killed, mutants = sum(row["killed"] for row in found), found[0]["of"]
    row = {"mutants": mutants, "killed": killed, "survived": len(found) - killed}
    row |= {"not tried": mutants - len(found)}
    return row | {"killed of those tried (%)": 100 * killed / len(found)}


if __name__ == "__main__":
    main()

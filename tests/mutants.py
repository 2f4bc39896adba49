"""Mutate verifiers and estimators one small change at a time, and count what no test notices.

    python -m tests.mutants FOLDER-OF-AN-ENVIRONMENT-WITH-MUTMUT

Works in a copy. Its tests need no torch and few seconds; the counts go to docs/trust.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

from tests.trust import note

ROOT = Path(__file__).parents[1]
MODULES = ("scaling/tasks/countdown.py", "scaling/tasks/sums.py", "scaling/estimates/counts.py")
TESTS = ("tests/test_pinned.py", "tests/test_tasks.py", "tests/test_estimates.py")
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


def mutate(tools: Path, folder: Path) -> Counter[tuple[str, str]]:
    """Return how many mutants of each module were killed, survived, or were not tried."""
    for name in ("scaling", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "tests/conftest.py").write_text("")
    (folder / "pytest.ini").write_text(PYTEST)
    lists = {"modules": "\n    ".join(MODULES), "tests": "\n    ".join(TESTS)}
    (folder / "setup.cfg").write_text(SETTINGS.format(**lists))
    (library,) = (tools / "lib").glob("python*/site-packages")
    (library / "kit.pth").write_text(sysconfig.get_path("purelib"))
    command, env = [str(tools / "bin/mutmut")], os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "run"], cwd=folder, check=False, env=env)
    done = subprocess.run(
        [*command, "results", "--all", "true"], cwd=folder, capture_output=True, text=True, env=env
    )
    return counted(done.stdout)


def counted(results: str) -> Counter[tuple[str, str]]:
    """Return {(module, state): mutants} of what `mutmut results` prints."""
    lines = re.findall(r"^\s*(scaling\.[\w.]+?)\.x\S*: (.+)$", results, re.MULTILINE)
    return Counter(lines)


def main() -> None:
    """Mutate, print, and note the counts for docs/trust.md."""
    with tempfile.TemporaryDirectory() as folder:
        write(mutate(Path(sys.argv[1]).resolve(), Path(folder)))


def write(found: Counter[tuple[str, str]]) -> None:
    """Note counts as a row per module."""
    rows = {}
    for module in sorted({module for module, _ in found}):
        killed, survived = found[module, "killed"], found[module, "survived"]
        every = sum(n for (name, _), n in found.items() if name == module)
        row = {"mutants": every, "killed": killed, "survived": survived}
        row |= {"not tried": every - killed - survived}
        rows[module] = row | {"killed of those tried (%)": 100 * killed / (killed + survived)}
    print(rows)
    note("mutants", "make mutants", rows)


if __name__ == "__main__":
    main()

"""Try mutants of one module, for `tests.trust.mutants`; imports nothing of the package.

Each is tried in a fork of this process, which has loaded the libraries and not yet the package:
what runs at import is changed too. Prints a line of JSON for each.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

LIBRARIES = (
    "numpy", "pandas", "hypothesis", "scipy.stats", "scipy.optimize", "scipy.integrate", "torch",
    "transformers.models.auto",
)  # fmt: skip
SECONDS = 300  #: of a processor, for the tests of a module as it is
PATIENCE = 5  #: times as long, and never less than a minute: longer, and a mutant has no end
ALL_PASS, FAILED, NO_TESTS = 0, 1, 5


def attempt(name: str, tests: list[str], chosen: str, seconds: int = SECONDS) -> int:
    """Return how pytest ends with a mutant turned on, on the tests named by `chosen`."""
    import pytest

    pid = os.fork()
    if not pid:
        os.environ |= {"MUTANT_UNDER_TEST": name, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        code = FAILED
        with contextlib.suppress(BaseException):
            code = int(pytest.main(["-xq", "-p", "no:cacheprovider", "-k", chosen, *tests]))
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(module: str, tests: list[str], slow: str, sample: int, quick: bool) -> None:
    """Write the module with all of its mutants, and try `sample` of them, or all."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.mutation.file_mutation import mutate_file_contents

    path = Path(f"scaling/{module}.py")
    mutated = mutate_file_contents(str(path), path.read_text())
    path.write_text(mutated.code)
    package = f"scaling.{module.replace('/', '.').removesuffix('.__init__')}"
    names = [f"{package}.{name}" for name in mutated.mutant_names]
    for library in LIBRARIES:
        import_module(library)
    parts = [f"not ({slow})"] if quick else [f"not ({slow})", slow]  # what is quick is asked first
    untouched = [attempt("", tests, part) for part in parts]
    if set(untouched) - {ALL_PASS, NO_TESTS} or ALL_PASS not in untouched:
        raise SystemExit(f"{module}: its tests fail before anything was changed")
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = max(60, int(PATIENCE * (taken.ru_utime + taken.ru_stime)))
    tried = Random(0).sample(names, min(sample, len(names))) if sample else names
    for name in tried:
        codes = (attempt(name, tests, part, seconds) for part in parts)
        dead = any(code not in (ALL_PASS, NO_TESTS) for code in codes)
        row: dict[str, Any] = {"mutant": name, "killed": dead, "of": len(names)}
        row |= {} if dead else {"change": get_diff_for_mutant(name, mutated.code, path)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

"""The command line: each verb is a thin call of the package. `python -m scaling --help`.

`options` declares the verbs; a file of this folder holds what related ones do.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

# Set before numpy loads: threads slow our small matrix products down, and change their last bits
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from scaling.cli.options import add_verbs
from scaling.records import nearest_name

EPILOG = """
typical use:
  python -m scaling study                     sample the shipped models, tabulate, fit, draw
  python -m scaling figures                   draw the figures of data/study/runs (no torch)
  python -m scaling sample --model data/models/ladder/1.3M/1e14 --task sums --chains 256
  python -m scaling train --size 0.1M         train one size of the ladder again

exit codes: 0 success, 1 failure (one line says why), 2 wrong usage, 130 interrupted.
"""


#: verbs of earlier versions, and what to use instead
MOVED = {
    "bench": "python -m benchmarks, in a checkout of the project",
    "drift": "python -m tests.trust.drift, in a checkout of the project",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors name the nearest valid option or value."""

    add = argparse.ArgumentParser.add_argument

    def words(self) -> list[str]:
        """Return every option and choice, those of the verbs included."""
        found = []
        for action in self._actions:
            found += [*action.option_strings, *map(str, action.choices or ())]
            if isinstance(action, argparse._SubParsersAction):
                found += [word for verb in action.choices.values() for word in verb.words()]
        return found

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit code 2."""
        moved = [name for name in MOVED if f"invalid choice: '{name}'" in message]
        if moved:
            self.exit(2, f"scaling: {moved[0]!r} is no longer a verb; use {MOVED[moved[0]]}\n")
        valid = self.words()
        wrong = [w.strip("'\",:").split("=")[0] for w in message.split()]
        wrong = [w for w in wrong if not {w, f"--{w}"} & set(valid)]
        near = [m for w in wrong if (m := nearest_name(w, valid, 0.7))]
        hint = f"; did you mean {near[0]}?" if near else ""
        self.exit(2, f"scaling: {message}{hint} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code. A user's mistake is one line on stderr, no traceback."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    told: set[str] = set()

    def tell(message: Warning | str, *_: Any) -> None:
        if str(message) not in told:  # once a verb, without the line of code
            told.add(str(message))
            print(f"scaling: warning: {message}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = tell  # type: ignore[assignment]
            options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nscaling: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, MemoryError) as error:
        print(f"scaling: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> Parser:
    """Return the parser of every verb."""
    parser = Parser(
        prog="scaling",
        description="Measure how accuracy grows with test-time and train-time compute.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    name = "inference-scaling-kit"
    parser.add_argument("--version", action="version", version=f"{name} {version(name)}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    add_verbs(verbs)
    return parser

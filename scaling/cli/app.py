"""The command line: `main`, printing of errors and warnings, and types of options.

A verb is a typed function of `sampling`, `training` or `reading`: cyclopts makes its options of the
parameters and its help of the docstring. Heavy modules are imported inside the verbs, so that
`--help` is quick and the verbs that read samples load no torch.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from inspect import getsource
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

# Set before numpy loads: threads slow our small matrix products down, and change their last bits
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from cyclopts import App, CycloptsError, Group, Parameter

from scaling.records import device_name

NAME = "inference-scaling-kit"
SAMPLE, READ, TRAIN, CHECK = map(
    Group.create_ordered,
    ("Sample", "Read samples", "Train, score and search", "Check and maintain"),
)
MODELS, STUDY = Path("data/models"), Path("data/study")
RUNS = STUDY / "runs"  #: where every verb looks for runs, unless --runs is given
EPILOG = """
Typical use:
  python -m scaling study              sample the shipped models, tabulate, fit, draw
  python -m scaling figures            draw the figures of data/study/runs (no torch)
  python -m scaling train --size 0.1M  train one size of the ladder again
  python -m scaling sample --model data/models/ladder/1.3M/1e14 --task sums --chains 256

Exit codes: 0 success, 1 failure (one line says why), 2 wrong usage, 130 interrupted.
"""
MOVED = {  #: verbs of earlier versions, and what to use instead
    "bench": "python -m benchmarks, in a checkout of the project",
    "notebooks": "make notebooks, in a checkout of the project",
    "drift": "python -m tests.trust.drift, in a checkout of the project",
}


def shown_default(value: Any) -> str | None:
    """Return a default as --help shows it; None if it is off or empty."""
    if value is None or value is False or value in ("", (), {}):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


APP = App(
    name="scaling",
    help="Measure how accuracy grows with test-time and train-time compute.",
    help_epilogue=EPILOG,
    help_format="plaintext",
    version=f"{NAME} {version(NAME)}",
    default_parameter=Parameter(
        consume_multiple=True,
        allow_repeating=True,
        negative_bool=(),
        negative_iterable=(),
        negative_none=(),
        show_default=shown_default,
    ),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    exit_on_error=False,
    print_error=False,
)


def documented(thing: Any, source: Any = None) -> Any:
    """Return a function or dataclass whose options have the `#:` comments of its source as help."""
    found = re.findall(
        r"^    (\w+): .*  #: (.*(?:\n    #: .*)*)", getsource(source or thing), re.MULTILINE
    )
    lines = (f"    {name}: {text}".replace("\n    #:", "") for name, text in found)
    thing.__doc__ = "\n".join((f"{thing.__doc__}\n\nArgs:", *lines))
    return thing


def verb(group: Group, name: str | None = None) -> Any:
    """Return a decorator that makes a function a verb, listed in --help under a heading."""
    return lambda function: APP.command(
        documented(function), name=name, group=group, help_epilogue=""
    )


def options(heading: Group) -> Any:
    """Return a decorator that makes a dataclass a group of options, under a heading."""
    return lambda group: Parameter(name="*", group=heading)(documented(group))


APP.meta.suppress_keyboard_interrupt = False  # `main` says how to continue


@APP.meta.default
@documented
def run(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    modules: Annotated[tuple[str, ...], Parameter(name="--import", consume_multiple=False)] = (),
    #: import your own module first, with its tasks, laws or methods (repeatable)
) -> None:
    """Run one verb."""
    if not words:
        raise CycloptsError(msg="give a verb")
    if words[0] in MOVED:
        raise CycloptsError(msg=f"{words[0]!r} is no longer a verb; use {MOVED[words[0]]}")
    for module in modules:
        import_own(module)
    APP(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code. A user's mistake is one line on stderr, no traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any) -> None:
        if str(message) not in shown:  # once a verb, without the line of code
            shown.add(str(message))
            warn(str(message))

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show  # type: ignore[assignment]
            APP.meta(words)
        sys.stdout.flush()
    except CycloptsError as error:
        verb = "".join(f" {word}" for word in words[:1] if word in APP)
        text = re.sub(r'\. Did you mean "?([^"?]+)"?\?', r"; did you mean \1?", str(error))
        complain(f"{text.rstrip('.')} (see scaling{verb} --help)")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nscaling: interrupted; the same command continues from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, MemoryError) as error:
        complain(str(error) or type(error).__name__)
        return 1
    return 0


def complain(message: str) -> None:
    """Print an error as one line."""
    print(f"scaling: {' '.join(message.split())}", file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning."""
    print(f"scaling: warning: {message}", file=sys.stderr)


def suggest(command: str, **paths: Path) -> None:
    """Print the command to continue with."""
    quoted = {name: quote(str(path)) for name, path in paths.items()}
    print(f"next: python -m scaling {command.format(**quoted)}")


def import_own(module: str) -> None:
    """Import a user's module, from the current folder or Python's path."""
    from scaling.executors import USER_MODULES

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        import_module(module)
        USER_MODULES.append(module)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"--import {module}: it cannot be imported: {what}") from error


# ---------------------------------------------------------------- types of options
def number(what: str, valid: Callable[[Any], bool]) -> Parameter:
    """Return a check of one or several numbers."""

    def check(kind: Any, value: Any) -> None:
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None and not valid(one):
                raise ValueError(f"{one} is not {what}")

    return Parameter(validator=check)


def known_device(kind: Any, value: str) -> None:
    """Raise ValueError for an unknown device name."""
    device_name(value)


def pairs(kind: Any, tokens: Sequence[Any]) -> dict[str, str]:
    """Return a=b,c=d as a dictionary."""
    text = tokens[0].value
    found = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
    if len(found) != text.count(",") + 1 or not all(map(str.strip, (*found, *found.values()))):
        raise ValueError(f"{text!r} is not of the form problem=id,correct=label")
    return {name.strip(): value.strip() for name, value in found.items()}


def json_object(kind: Any, tokens: Sequence[Any]) -> dict[str, Any]:
    """Return the JSON object in a text."""
    try:
        found = json.loads(tokens[0].value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{tokens[0].value!r} is no JSON object")
    return found


POSITIVE = number("positive and finite", lambda x: 0 < x < float("inf"))
Count = Annotated[int, POSITIVE]
Amount = Annotated[float, POSITIVE]
OptionalCount = Annotated[int | None, POSITIVE]
OptionalAmount = Annotated[float | None, POSITIVE]
NaturalNumber = Annotated[int, number("0 or more", lambda x: x >= 0)]
Fraction = Annotated[float, number("between 0 and 1", lambda x: 0 <= x <= 1)]
Columns = Annotated[
    dict[str, str] | None, Parameter(converter=pairs, accepts_keys=False, n_tokens=1)
]
Json = Annotated[dict[str, Any], Parameter(converter=json_object, accepts_keys=False, n_tokens=1)]
Amounts = Annotated[tuple[float, ...], POSITIVE]
Switch = Annotated[bool | None, Parameter(negative_bool="no-")]  #: None where it is not given
Device = Annotated[str, Parameter(validator=known_device)]
Dtype = Literal["float32", "bfloat16", "float16"]

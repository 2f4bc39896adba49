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
from inspect import Parameter as InspectParameter
from inspect import Signature, getsource, signature
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

# Set before numpy loads: threads slow our small matrix products down, and change their last bits
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from cyclopts import App, CycloptsError, Group, Parameter

from scaling.records import SampleWarning, device_name

NAME = "inference-scaling-kit"
SAMPLE, READ, TRAIN, CHECK = map(
    Group.create_ordered,
    ("Sample", "Read samples", "Train, score and search", "Check and maintain"),
)
MODELS, STUDY = Path("data/models"), Path("data/study")
RUNS = STUDY / "runs"  #: where every verb looks for runs, unless --runs is given
EPILOG = """
Typical use:
  python -m scaling study              sample the shipped models, draw figures
  python -m scaling figures            draw the figures of data/study/runs
  python -m scaling train --size 0.1M  retrain one size of the ladder
  python -m scaling sample --model data/models/ladder/1.3M/1e14 --task sums

Exit codes: 0 success, 1 failure (one line says why), 2 wrong usage,
130 interrupted.
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
    value = value if isinstance(value, tuple) else (value,)
    shown = (f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    return " ".join(shown)


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


def comments(function: Any) -> dict[str, str]:
    """Return {parameter or field: its `#:` comment} of a function or dataclass."""
    found = re.findall(
        r"^    (\*?\w+): .*  #: (.*(?:\n    #: .*)*)", getsource(function), re.MULTILINE
    )
    return {name: text.replace("\n    #:", "") for name, text in found}


def verb(group: Group, name: str | None = None, also: Sequence[InspectParameter] = ()) -> Any:
    """Return a decorator that makes a function a verb, listed in --help under a heading.

    also: options that it takes as `**options`; see `option`.
    """

    def add(function: Any) -> Any:
        lines = [f"    {name}: {text}" for name, text in comments(function).items()]
        function.__doc__ = "\n".join([function.__doc__, *(["\nArgs:"] * bool(lines)), *lines])
        own = [p for p in signature(function).parameters.values() if p.kind != p.VAR_KEYWORD]
        function.__signature__ = Signature([*own, *also])
        return APP.command(function, name=name, group=group, help_epilogue="")

    return add


def option(
    name: str, kind: Any, default: Any, text: str, heading: Group | None = None
) -> InspectParameter:
    """Return an option of a verb; text: its help."""
    shown = Parameter(help=text, group=heading) if heading else Parameter(help=text)
    return InspectParameter(
        name, InspectParameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown]
    )


APP.meta.suppress_keyboard_interrupt = False  # `main` says how to continue
IMPORT = Parameter(
    name="--import",
    help="import your module that adds tasks, laws or methods (repeatable)",
    consume_multiple=False,
)


@APP.meta.default
def run(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    modules: Annotated[tuple[str, ...], IMPORT] = (),
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
    name = next((word for word in words if word in APP), "")
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any) -> None:
        if str(message) not in shown:  # once a verb, without the line of code
            shown.add(str(message))
            warn(in_shell(str(message), name))

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show  # type: ignore[assignment]
            warnings.simplefilter("always", SampleWarning)
            APP.meta(words)
        sys.stdout.flush()
    except CycloptsError as error:
        verb = f" {name}" if name else ""
        verbs = ", ".join(word for word in APP if not word.startswith("-"))
        known = re.sub(r"Available commands: .*", f"Allowed: {verbs}", str(error))
        text = re.sub(r'\. Did you mean "?([^"?]+)"?\?', r"; did you mean \1?", known)
        complain(f"{text.rstrip('.')} (see scaling{verb} --help)")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nscaling: interrupted; the same command continues from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, MemoryError) as error:
        complain(in_shell(str(error), name) or type(error).__name__)
        return 1
    return 0


def in_shell(message: str, verb: str) -> str:
    """Return a message in which arguments of Python are the options of a verb.

    `chains=1` becomes `--chains 1`, `force=True` becomes `--force`, and `card=` becomes `--card`.
    """
    if not verb or "=" not in message:
        return message
    known = {name for one in APP[verb].assemble_argument_collection() for name in one.names}

    def option(found: re.Match[str]) -> str:
        name = found["name"].replace("_", "-")
        if f"--{name}" not in known:
            return found[0]
        ends = {"True": f"--{name}", "False": f"--no-{name}", "": f"--{name}"}
        return ends.get(found["value"], f"--{name} {found['value']}")

    return re.sub(r"(?<![\w?&-])(?P<name>[a-z_]+)=(?P<value>(?:[^\s,;:)]|:/)*)", option, message)


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
Json = Annotated[
    dict[str, Any] | None, Parameter(converter=json_object, accepts_keys=False, n_tokens=1)
]
Amounts = Annotated[tuple[float, ...], POSITIVE]
Switch = Annotated[bool | None, Parameter(negative_bool="no-")]  #: None where it is not given
Device = Annotated[str, Parameter(validator=known_device)]

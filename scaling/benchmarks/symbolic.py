"""Compute the key of a formula by latex2sympy2-extended and sympy, in a separate process.

The kernel ends the process when a formula takes too much time or memory; the formula's key is then
its text. Run as a program, this file is that process: lines of JSON in, lines out. Nothing here
evaluates a formula as Python code.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from typing import Any
from zlib import crc32

SECONDS = 0.9  #: of CPU time for one answer, so that no verdict depends on how busy the machine is
WAIT = 60.0  #: seconds by the clock for one formula
START = 120.0  #: seconds for the imports of the process
MEMORY = 4 << 30  #: bytes of the process
LONGEST_REPLY = 2**16  #: bytes
WARM_UP = (  #: evaluated before the first answer: fills the tables of the parser's grammar
    r"\frac{1}{2}x^3+x^2-1", r"(x-1)(x+1)", r"2\sqrt{3}", r"\sqrt[3]{12}", r"\frac{\pi}{2}",
    r"\sin(x)+\log_2 8", r"\binom{5}{2}+|x|", r"3+2i", r"e^{i\pi}", r"\frac{11+9a}{20}",
    r"5!", r"\cot x", r"-13x_1+3", r"2^{2019}", r"x^2+y^2-(1)",
)  # fmt: skip
LONGEST = 100  #: characters of a number in a key
LARGEST = 3000  #: digits of a value before its point
TINY = 1e-25  #: relative difference up to which two values of one formula are equal


class TooLong(Exception):
    """A formula takes more time or memory than it may."""


LIMIT = threading.local()  #: left: seconds of CPU time for the formulas of this thread's answer


def formula_key(latex: str, equation: bool = False) -> str:
    """Return the key of a formula: a rational number as it is, else values to 25 digits.

    equation: whether the formula is one side of an equation whose other side is 0. The key of a
    formula that cannot be read is its text. Errors: TooLong; ValueError where the parser is not
    installed.
    """
    if find_spec("latex2sympy2_extended") is None:
        raise ValueError(
            f"{latex!r} is more than numbers: it is read by latex2sympy2-extended; "
            "pip install 'inference-scaling-kit[tasks]'"
        )
    found, used = evaluator().key(latex, equation, getattr(LIMIT, "left", SECONDS))
    LIMIT.left = getattr(LIMIT, "left", SECONDS) - used
    return found or "".join(latex.split())


@contextmanager
def time_limit() -> Iterator[None]:
    """Limit the formulas within to `SECONDS` of CPU time together."""
    LIMIT.left = SECONDS
    try:
        yield
    finally:
        del LIMIT.left


@cache
def evaluator() -> Evaluator:
    """Return the evaluator that this process shares."""
    return Evaluator()


class Evaluator:
    """A process that computes keys, started when first needed and again after it failed."""

    def __init__(self, wait: float = WAIT) -> None:
        self.wait = wait
        self.killed = 0  #: formulas that took too long
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def key(
        self, latex: str, equation: bool = False, seconds: float = SECONDS
    ) -> tuple[str, float]:
        """Return (a formula's key, "" if it cannot be read; seconds of CPU time); or TooLong."""
        with self._lock:
            if self.process is None:
                self._start()
            request = json.dumps([seconds, latex, equation]).encode() + b"\n"
            reply = self._exchange(request, self.wait)
            if not reply:
                self.close()
            if reply[:1] != b"=":
                self.killed += 1
                warnings.warn(
                    f"a formula is not evaluated: {latex[:60]!r} takes more than {seconds:.2g} s "
                    f"of CPU time, or more than {MEMORY >> 30} GiB",
                    stacklevel=2,
                )
                raise TooLong
            used, _, found = reply[1:-1].decode().partition(" ")
            return found, float(used)

    def close(self) -> None:
        """End the process; the next formula starts another."""
        if self.process is not None:
            self._end()
            self.process = None

    def _start(self) -> None:
        self._connection, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-W", "ignore", __file__]
        self.process = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL
        )
        theirs.close()
        self._end = weakref.finalize(self, _end, self.process, self._connection)
        if self._exchange(b"", START) != b"ready\n":
            self.close()
            raise ValueError(
                "the process that reads formulas does not start; check with: "
                "python -c 'import latex2sympy2_extended'"
            )

    def _exchange(self, request: bytes, seconds: float) -> bytes:
        """Return the reply to a request; b"" if it takes too long or the process died."""
        self._connection.settimeout(seconds)
        try:
            self._connection.sendall(request)
            return self._connection.recv(LONGEST_REPLY)
        except OSError:
            return b""


def _end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    process.kill()
    process.wait()


# ---------------------------------------------------------------- within the process
def serve() -> None:
    """Write for each line of input "=", seconds and a key, or "!" if the worker was killed."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.set_int_max_str_digits(0)  # the time is limited anyway
    client = socket.socket(fileno=os.dup(0))
    os.dup2(2, 1)  # the output of libraries must not mix with the answers
    for latex in WARM_UP:
        evaluate(latex)
    client.sendall(b"ready\n")
    worker = None
    for line in client.makefile("rb"):
        worker = worker or start_worker()
        reply = b""
        with suppress(OSError):
            worker.sendall(line)
            reply = worker.recv(LONGEST_REPLY)
        if not reply:
            worker.close()
            os.wait()
            worker = None
        client.sendall((reply or b"!") + b"\n")


def start_worker() -> socket.socket:
    """Return a connection to a copy of this process, which answers until a formula ends it."""
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    try:
        for line in theirs.makefile("rb"):
            seconds, latex, equation = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-6))  # then the kernel ends us
            found = evaluate(latex, equation)
            left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
            theirs.sendall(f"={seconds - left:.6f} {found}".encode())
    finally:
        os._exit(0)


def evaluate(latex: str, equation: bool = False) -> str:
    """Return the key of a formula; "" for one that cannot be read."""
    try:
        formula = parse(latex)
        return equation_key(formula) if equation else value_key(formula)
    except Exception:  # noqa: BLE001  the parser and sympy raise all kinds of errors
        return ""


def parse(latex: str) -> Any:
    """Return a formula as an expression of sympy: decimals exact, i and e as the constants."""
    import sympy
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    formula = latex2sympy(
        latex,
        normalization_config=NormalizationConfig(malformed_operators=True, boxed="none"),
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )
    if not isinstance(formula, sympy.Expr):
        raise TypeError(f"{latex} is not a formula but {type(formula).__name__}")
    constants = {"i": sympy.I, "e": sympy.E}
    exact = {number: sympy.Rational(str(number)) for number in formula.atoms(sympy.Float)}
    exact |= {s: constants[s.name] for s in formula.free_symbols if s.name in constants}
    return formula.xreplace(exact)


def value_key(formula: Any) -> str:
    """Return a text that is equal for formulas of equal value.

    A rational number or a single symbol is returned as it is; any other formula is evaluated at two
    fixed points.
    """
    import sympy

    if not formula.free_symbols and not formula.has(sympy.Sum, sympy.Product, sympy.Integral):
        formula = formula.doit()
    if formula.is_Rational or formula.is_Symbol:
        return short(str(formula))
    values = values_of(formula)
    names = ",".join(sorted(symbol.name for symbol in formula.free_symbols))
    if values[0] == values[1]:
        return values[0]
    return f"f({names}) = {values[0]}, {values[1]}"


def equation_key(formula: Any) -> str:
    """Return the key of formula = 0, whatever its factor; a line in x and y is solved for y."""
    import sympy

    symbols = {symbol.name: symbol for symbol in formula.free_symbols}
    if set(symbols) == {"x", "y"}:
        slope = sympy.expand(sympy.diff(formula.doit(), symbols["y"]))
        if slope.is_Rational and slope:
            return value_key(symbols["y"] - formula / slope)
    values = [point_value(formula, point) for point in range(4)]
    names = ",".join(sorted(symbols))
    more = max(map(more_digits, values))
    values = [point_value(formula, point, places=40 + more) for point in range(4)]
    return f"0 = f({names}), {', '.join(digits(v / values[0], more) for v in values[1:])}"


def values_of(formula: Any) -> list[str]:
    """Return the digits of a formula at two points; negative ones only without roots or logs."""
    import sympy

    powers = (p for p in formula.atoms(sympy.Pow) if p.exp.is_integer is not True)
    positive = formula.has(sympy.log) or any(p.base.free_symbols for p in powers)
    return [digits(point_value(formula, point, positive)) for point in (0, 1)]


def point_value(formula: Any, point: int, positive: bool = True, places: int = 40) -> Any:
    """Return a formula's value to 40 digits or more, with a fixed value for each letter."""
    import sympy

    sign = -1 if point and not positive else 1
    where = {
        symbol: sign * sympy.Rational(crc32(f"{symbol.name} {point}".encode()) % 9973 + 2500, 5003)
        for symbol in formula.free_symbols
    }
    value = sympy.N(formula.xreplace(where), places)
    needed = 40 + more_digits(value)
    return value if needed <= places else sympy.N(formula.xreplace(where), needed)


def more_digits(value: Any) -> int:
    """Return how many more digits a large number needs, so that adding 1 changes them.

    Errors: ValueError for a number of more than `LARGEST` digits.
    """
    parts = (part for part in value.as_real_imag() if part.is_Float)
    size = max((int(0.302 * sum(part._mpf_[2:])) for part in parts), default=0)
    if size > LARGEST:
        raise ValueError(f"a number of {size} digits; at most {LARGEST}")
    return max(0, size - 10)


def digits(value: Any, more: int = 0) -> str:
    """Return a number to 25 digits, and more of a large one; a simple fraction as it is."""
    import sympy

    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo):
        raise ValueError(f"{value} is not a finite number")
    parts = value.as_real_imag()
    more = more or more_digits(value)
    tiny = max(abs(part) for part in parts) * TINY / 10**more
    real, imaginary = ("0" if abs(part) <= tiny else _digits(part, 25 + more) for part in parts)
    return real if imaginary == "0" else f"{real} + {imaginary} i"


def _digits(number: Any, places: int) -> str:
    if abs(number) < TINY and number._prec == 1:  # rounding alone
        return "0"
    fraction = Fraction(str(number)) if places == 25 and 1e-9 < abs(number) < 1e9 else Fraction()
    near = fraction.limit_denominator(10**6)
    if fraction and abs(near / fraction - 1) < TINY:
        return str(near)
    return short(str(number.n(places)))


def short(text: str) -> str:
    """Return a text, cut to its hash where it is long."""
    if len(text) <= LONGEST:
        return text
    return f"{text[:20]}...{blake2b(text.encode(), digest_size=8).hexdigest()}"


if __name__ == "__main__":
    serve()

"""Whether two pieces of mathematics are the same, by `math-verify` in a process that can be killed.

Its own time limits are signals, which fail in threads and do not stop everything; here the process
that takes too long, or too much memory, is killed, and the answer counts as wrong. Run as a
program, this file is that process: lines of JSON in, lines out.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import weakref
from functools import cache
from importlib.util import find_spec

SECONDS = 5.0  #: for one answer
START = 120.0  #: for the imports of the process
MEMORY = 4 << 30  #: bytes of the process
FAULTS = (  #: what symbolic mathematics raises at nonsense
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def same_mathematics(expected: str, answer: str) -> bool:
    """Return whether an answer equals the expected one; False where that takes too long.

    Errors: ValueError where math-verify is not installed.
    """
    if find_spec("math_verify") is None:
        raise ValueError(
            f"{answer!r} against {expected!r} is more than numbers: marking it needs math-verify; "
            "pip install 'inference-scaling-kit[tasks]'"
        )
    return judge().same(expected, answer)


@cache
def judge() -> Judge:
    """Return this process's judge; it starts when first asked."""
    return Judge()


class Judge:
    """A process that compares, started anew after it had to be killed."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.killed = 0  #: answers that took too long
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def same(self, expected: str, answer: str) -> bool:
        """Return whether both are the same; False when the process had to be killed."""
        with self._turn:
            process = self._process or self._start()
            line = json.dumps([expected, answer]).encode() + b"\n"
            try:
                process.stdin.write(line)  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                reply = _line(process, self.seconds)
            except OSError:
                reply = b""
            if not reply:
                self.killed += 1
                self.close()
            return reply == b"1\n"

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._end()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-W", "ignore", __file__]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._process, self._end = process, weakref.finalize(self, _end, process)
        if _line(process, START) != b"ready\n":
            self.close()
            raise ValueError(
                "math-verify does not start; check with: python -c 'import math_verify'"
            )
        return process


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Return the next line of a process; nothing when it takes too long or has died."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else b""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        try:
            pipe.close()  # type: ignore[union-attr]
        except OSError:  # a line that could not be sent any more
            continue


def serve() -> None:
    """Answer questions until the input ends: 1 for the same, 0 otherwise."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints is no answer
    from math_verify import parse, verify

    verify(parse("$x+1$", parsing_timeout=None), parse("$1+x$", parsing_timeout=None))  # imports
    out.write(b"ready\n")
    for line in sys.stdin.buffer:
        try:
            pair = (parse(f"${text}$", parsing_timeout=None) for text in json.loads(line))
            same = verify(*pair, timeout_seconds=None)
        except FAULTS:
            same = False
        out.write(b"1\n" if same else b"0\n")


if __name__ == "__main__":
    serve()

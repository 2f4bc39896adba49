"""Whether two pieces of mathematics are the same, by `math-verify` in a process that can be killed.

Its own time limits are signals, which fail in threads and do not stop everything. Here the kernel
ends the process that takes too long, or too much memory, and the answer counts as wrong. Run as a
program, this file is what starts that process, again and again: lines of JSON in, lines out.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from functools import cache
from importlib.util import find_spec

SECONDS = 0.9  #: of a processor, for one answer: no verdict hangs on how busy the machine is
WAIT = 60.0  #: for one answer, by the clock
START = 120.0  #: for the imports of the process
MEMORY = 4 << 30  #: bytes of the process
WARM = (  #: what a first answer would wait for: imports, and tables of the grammar as it meets them
    (r"\frac{1}{2}x^3+x^2-1", r"(x-1)(x+1)"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    (r"\left(3,\frac{\pi}{2}\right)", r"(3, \pi/2)"),
    (r"[1,2)\cup(3,\infty)", r"x\in[1,2)"),
    (r"\{1,2\}", r"1, 2"),
    (r"1\le x\le 2", r"x>1"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
    (r"\sin(x)+\log_2 8", r"\binom{5}{2}+|x|"),
    (r"3+2i", r"e^{i\pi}"),
)
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

    def __init__(self, seconds: float = SECONDS, wait: float = WAIT) -> None:
        self.seconds, self.wait = seconds, wait
        self.killed = 0  #: answers that took too long
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def same(self, expected: str, answer: str) -> bool:
        """Return whether both are the same; False, with a warning, where that takes too long."""
        with self._turn:
            process = self._process or self._start()
            line = json.dumps([expected, answer]).encode() + b"\n"
            try:
                process.stdin.write(line)  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                reply = _line(process, self.wait)
            except OSError:
                reply = b""
            if not reply:
                self.close()
            if reply not in (b"0\n", b"1\n"):
                self.killed += 1
                warnings.warn(
                    f"an answer counts as wrong: comparing it takes more than {self.seconds:g} s "
                    f"of a processor, or more than {MEMORY >> 30} GiB",
                    stacklevel=2,
                )
            return reply == b"1\n"

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._end()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-W", "ignore", __file__, str(self.seconds)]
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


def serve(seconds: float) -> None:
    """Answer questions until the input ends: 1 is the same, 0 is not, ! was killed."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints is no answer
    for pair in WARM:
        compare(*pair)
    out.write(b"ready\n")
    worker = None
    for line in sys.stdin.buffer:
        worker = worker or fork(seconds)
        try:
            worker.sendall(line)
            reply = worker.recv(1)
        except OSError:
            reply = b""
        if not reply:
            worker.close()
            os.wait()
            worker = None
        out.write((reply or b"!") + b"\n")


def fork(seconds: float) -> socket.socket:
    """Return a connection to a copy of this process, which answers until an answer ends it."""
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    try:
        for line in theirs.makefile("rb"):
            signal.setitimer(signal.ITIMER_PROF, seconds)  # then the kernel ends this process
            same = compare(*json.loads(line))
            signal.setitimer(signal.ITIMER_PROF, 0)
            theirs.sendall(b"1" if same else b"0")
    finally:
        os._exit(0)


def compare(expected: str, answer: str) -> bool:
    """Return whether math-verify takes both for the same."""
    from math_verify import parse, verify

    try:
        pair = (parse(f"${text}$", parsing_timeout=None) for text in (expected, answer))
        return bool(verify(*pair, timeout_seconds=None))
    except FAULTS:
        return False


if __name__ == "__main__":
    serve(float(sys.argv[1]))

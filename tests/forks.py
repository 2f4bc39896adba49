"""Processes that find torch imported: a child costs milliseconds where a new one takes six seconds.

They are real ones, and can be killed; who wants a command line runs it by `command`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

FORKS = get_context("forkserver")
WARM = ["scaling.methods", "scaling.engine", "scaling.cli", "scaling.sampling", "scaling.study"]
WARM += ["transformers.models.llama.modeling_llama"]
FORKS.set_forkserver_preload(WARM)


@contextmanager
def forked(what: Callable[..., Any], *arguments: Any) -> Iterator[BaseProcess]:
    """Yield a process, at the head of a group of its own; kill what is left of the group."""
    child = FORKS.Process(target=_lead, args=(what, *arguments))
    child.start()
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid or 0, signal.SIGKILL)
        child.kill()
        child.join()


def _lead(what: Callable[..., Any], *arguments: Any) -> None:
    os.setsid()
    what(*arguments)


def command(stderr_file: Path, *words: object) -> None:
    """Be a command line that Ctrl-C can reach; its standard error goes to `stderr_file`."""
    from scaling.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(stderr_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.exit(main([str(word) for word in words]))

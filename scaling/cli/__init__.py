"""The command line, `python -m scaling --help`: each verb is a typed function."""

from scaling.cli import checking, reading, sampling, training  # noqa: F401  (they add verbs)
from scaling.cli.app import APP, main

__all__ = ["APP", "main"]

"""Options that several verbs share, and the folders they default to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

MODELS, RUNS, FIGURES = Path("data/models/ladder"), Path("data/runs"), Path("figures")
STUDY, DERIVED = Path("data/study"), Path("data/derived")


def positive(kind: type):
    """Return a converter to a positive number of a kind."""

    def convert(text: str):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    convert.__name__ = f"positive {kind.__name__}"
    return convert


def add_engine_options(verb: argparse.ArgumentParser) -> None:
    """Add what decides where and how fast samples are drawn, not which."""
    verb.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto: a GPU if any)"
    )
    verb.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32 on a CPU"
    )
    verb.add_argument(
        "--memory-gb", type=positive(float), help="cap on keys and values; sets the batch"
    )
    verb.add_argument("--max-rows", type=positive(int), help="cap on rows in flight")


def engine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the engine's keyword arguments."""
    cap = options.memory_gb and int(options.memory_gb * 2**30)
    return {
        "device": options.device,
        "dtype": options.dtype,
        "memory_cap": cap,
        "max_rows": options.max_rows,
    }

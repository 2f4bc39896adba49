"""The verb that teaches a tiny model to think: imitation of traces, then reward."""

from __future__ import annotations

import argparse
from pathlib import Path

from scaling.cli.options import MODELS, positive

START = MODELS / "0.1M" / "1e14"
OUT = MODELS.parent / "thinking" / "0.1M"


def add(verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("reinforce", help="teach a tiny model to think: imitate, then reward")
    verb.add_argument("--model", type=Path, default=START, help="where imitation starts")
    verb.add_argument(
        "--imitate", type=positive(float), default=5e12, help="FLOPs of imitation, default 5e12"
    )
    verb.add_argument("--method", default="grpo", help="grpo (default) or expert")
    verb.add_argument(
        "--budgets", nargs="+", type=positive(float), default=[1e11, 3e11, 1e12, 3e12],
        help="FLOPs of the reward phase at its checkpoints, rising",
    )  # fmt: skip
    verb.add_argument("--out", type=Path, default=OUT, help=f"folder, default {OUT}")
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(run=run_reinforce)


def run_reinforce(options: argparse.Namespace) -> None:
    """Imitate unless that is done, then train by reward; print the checkpoints."""
    from scaling.models import load_lm
    from scaling.records import look_up
    from scaling.train import Recipe
    from scaling.train.reinforce import CREDIT, Course, imitate, reward

    look_up(CREDIT, options.method, "method")
    start = options.out / "start"
    if not start.exists():
        imitate(
            load_lm(options.model),
            options.imitate,
            start,
            Recipe(seed=options.seed, rate=1.5e-3, compiled=True),
        )
    course = Course(method=options.method, seed=options.seed)
    for path in [
        start,
        *reward(load_lm(start), options.budgets, options.out / options.method, course),
    ]:
        print(path)

"""Options of verbs that sample: which model and how it is asked, where units run, what it costs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from scaling.cli.options import positive
from scaling.records import Plan

LOADING = (
    "dtype", "device_map", "quantize", "remote_code", "chat", "system", "thinking", "train_tokens"
)  # fmt: skip


def add_model_options(verb: argparse.ArgumentParser) -> None:
    """Add what `models.load_lm` takes."""
    group = verb.add_argument_group("models", "where --model is a folder or a hub name")
    yes_no = argparse.BooleanOptionalAction
    group.add_argument(
        "--chat", action=yes_no, help="ask by the chat template; default: where there is one"
    )
    group.add_argument("--system", default="", help="system prompt")
    group.add_argument("--thinking", action=yes_no, help="for templates that can do either")
    group.add_argument(
        "--model-defaults",
        action="store_true",
        help="temperature, top-k, top-p, min-p as the model's makers suggest, unless given",
    )
    group.add_argument(
        "--train-tokens", type=positive(float), help="trained on, where no table knows"
    )
    group.add_argument("--device-map", help="auto: spread over all GPUs (needs accelerate)")
    group.add_argument("--quantize", choices=("8bit", "4bit"), help="needs bitsandbytes")
    group.add_argument(
        "--remote-code", action="store_true", help="run Python files that this model brings"
    )


def add_executor_options(verb: argparse.ArgumentParser) -> None:
    """Add where units of sampling run."""
    verb.add_argument(
        "--executor", help="local, dask://HOST:PORT or slurm://?timeout_min=60 (docs/scale.md)"
    )
    verb.add_argument(
        "--workers", type=int, default=0, help="processes or jobs; 0: one per GPU, else per core"
    )


def add_cost_options(verb: argparse.ArgumentParser) -> None:
    """Add the dry run."""
    group = verb.add_argument_group("costs", "of a run, before it starts")
    group.add_argument("--dry-run", action="store_true", help="print what it would cost, and stop")
    group.add_argument(
        "--mean-tokens", type=positive(float), help="new tokens per step; default: the cap"
    )
    group.add_argument("--tokens-per-second", type=positive(float), help="new ones, of one worker")
    group.add_argument("--per-hour", type=positive(float), help="price of a worker's hour")
    group.add_argument(
        "--per-million", type=float, nargs=2, help="prices of a million input and output tokens"
    )


def loading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `load_lm` that were given."""
    given = {name: getattr(options, name) for name in LOADING}
    return {name: value for name, value in given.items() if value not in (None, False, "")}


def plan_of(options: argparse.Namespace, suggested: Mapping[str, Any]) -> Plan:
    """Return the plan: what was given, else what the model suggests, else the plan's defaults."""
    given = {f.name: getattr(options, f.name) for f in fields(Plan)}
    return Plan(**({**suggested} | {name: x for name, x in given.items() if x is not None}))


def print_cost(options: argparse.Namespace, lm: Any, task: Any, problems: Any, plan: Plan) -> None:
    """Print what a run would cost."""
    from scaling.compute import Shape
    from scaling.planner import estimate
    from scaling.study import asked, units_of

    texts = [asked(task, lm).prompt(problem) for problem in problems]
    local = hasattr(lm, "tokenizer")
    lengths = [len(lm.encode(text)) if local else len(text.encode()) / 4 for text in texts]
    shape = Shape(**lm.card.shape) if lm.card.shape else None
    cost = estimate(lengths, plan, shape, options.mean_tokens)
    units = len(set(units_of(problems, plan).values()))
    about = "" if local else " (a token per four bytes)"
    most = "" if options.mean_tokens else " at most"
    print(f"{cost['samples']:,.0f} samples of {len(problems):,} problems in {units:,} units")
    print(f"{cost['prompt_tokens']:,.0f} prompt tokens{about},{most} {cost['tokens']:,.0f} new")
    print(f"{cost['flops']:.3g} FLOPs" if shape else "FLOPs unknown: give --card")
    workers = options.workers or 1
    hours = math.nan
    if options.tokens_per_second:
        hours = cost["tokens"] / options.tokens_per_second / workers / 3600
        print(f"{hours:,.3g} hours on {workers:,} worker(s)")
    else:
        print("hours: give --tokens-per-second, as the bar of a run of few problems shows it")
    if options.per_million:
        paid = (cost["prompt_tokens"], cost["tokens"])
        money = sum(n * p / 1e6 for n, p in zip(paid, options.per_million, strict=True))
        print(f"{money:,.2f} for tokens")
    if options.per_hour:
        print(f"{hours * workers * options.per_hour:,.2f} for hours")

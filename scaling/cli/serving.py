"""Options of `sample` for servers and batch files: what to ask, and how patiently."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from scaling.cli.options import positive


def add_server_options(verb: argparse.ArgumentParser) -> None:
    """Add what applies where --model is the address of a server, or --batch is given."""
    group = verb.add_argument_group("servers", "where --model is http(s)://…/v1, or with --batch")
    group.add_argument("--served-name", help="the model's name there; default: the only one listed")
    group.add_argument(
        "--api",
        choices=("completions", "chat"),
        default="completions",
        help="plain text (default), or chat: turns in the model's own template",
    )
    group.add_argument(
        "--request", type=_fields, default={}, help='more fields of a request: {"min_tokens": 1}'
    )
    group.add_argument("--in-flight", type=positive(int), default=64, help="requests; default 64")
    group.add_argument(
        "--deadline", type=positive(float), default=600, help="seconds of a request; default 600"
    )
    group.add_argument("--card", type=Path, help="card.json of the model, so that FLOPs are known")
    group.add_argument(
        "--batch", type=Path, help="folder of OpenAI Batch files, in the place of a server"
    )


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return found


def is_served(options: argparse.Namespace) -> bool:
    """Return whether samples come from a server, or from batch files."""
    return bool(options.batch) or options.model.startswith(("http://", "https://"))


def open_server(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return (lm, engine) of the server or the batch folder that the options name."""
    from scaling.models import read_card
    from scaling.serving import Client, Endpoint, Served, connect, served_card, served_names
    from scaling.serving.batch import BatchEngine

    name = options.model if options.batch else options.served_name
    if not name:
        with Client(options.model, deadline=30) as client:
            names = served_names(client)
        if len(names) != 1:
            raise ValueError(f"{options.model} has {', '.join(names)}: pick one by --served-name")
        (name,) = names
    system = getattr(options, "system", "") or ""
    endpoint = Endpoint(name, options.api, system, options.request)
    card = read_card(options.card) if options.card else None
    if options.batch:
        return Served(served_card(endpoint, card)), BatchEngine(options.batch, endpoint)
    patience = {"in_flight": options.in_flight, "deadline": options.deadline}
    return connect(options.model, endpoint, card, **patience)

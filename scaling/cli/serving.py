"""Servers and batch files on the command line: in the place of a model and its engine."""

from __future__ import annotations

import argparse
from typing import Any

from scaling.models import read_card
from scaling.serving import Client, Endpoint, Served, connect, served_card, served_names
from scaling.serving.batch import BatchEngine


def is_served(options: argparse.Namespace) -> bool:
    """Return whether samples come from a server, or from batch files."""
    return bool(options.batch) or options.model.startswith(("http://", "https://"))


def open_server(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return (lm, engine) of the server or the batch folder that the options name."""
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

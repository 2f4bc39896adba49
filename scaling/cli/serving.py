"""Servers and batch files on the command line: in the place of a model and its engine."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.models import load_lm, read_card
from scaling.records import ModelCard
from scaling.serving import Client, Endpoint, Served, alike, connect, served_card, served_names
from scaling.serving.batch import BatchEngine


def asked_for(options: argparse.Namespace) -> dict[str, Any]:
    """Return the further fields of a request; --thinking goes to the server's chat template."""
    if options.thinking is None:
        return options.request
    if options.api != "chat":
        raise ValueError("--thinking needs --api chat: plain completions have no template")
    told = options.request.get("chat_template_kwargs") or {}
    template = {"enable_thinking": options.thinking} | told
    return options.request | {"chat_template_kwargs": template}


def card_of(path: Path) -> ModelCard:
    """Return the card in a JSON file, or that of a model's folder or GGUF file."""
    whole = path.is_dir() or path.suffix.lower() == ".gguf"
    return load_lm(path, weights=False, chat=False).card if whole else read_card(path)


def open_server(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return (lm, engine) of the server or the batch folder that the options name."""
    name = options.model if options.batch else options.served_name
    if not name:
        with Client(options.model, deadline=30, tries=3) as client:
            names = served_names(client)
        if len(names) != 1:
            raise ValueError(f"{options.model} has {', '.join(names)}: pick one by --served-name")
        (name,) = names
    endpoint = Endpoint(name, options.api, options.system, asked_for(options))
    card = card_of(options.card) if options.card else None
    if options.batch:
        chat, opens = options.api == "chat", options.opens_thinking
        lm = Served(served_card(endpoint, card), chat, opens_thinking=opens)
        return lm, BatchEngine(options.batch, endpoint)
    how = {n: getattr(options, n) for n in ("in_flight", "deadline", "opens_thinking")}
    return connect(options.model, endpoint, card, **how)


def warn_if_alike(frame: pd.DataFrame) -> None:
    """Warn where a server gave most problems one text again and again, although the plan samples.

    The probe before a run asks about one prompt; a cache in the middle, or a server that was
    started anew without sampling, shows in the samples only.
    """
    same, of = alike(frame)
    if same > of / 2:
        warnings.warn(
            f"in {same:,} of {of:,} problems all samples are the same text: unless the model is "
            "that sure of itself, this server, or a cache before it, does not sample",
            stacklevel=2,
        )

"""Sampling from servers that speak the OpenAI protocol, and from Batch files. See `engines`."""

from scaling.serving.batch import read_answers
from scaling.serving.client import Client, Failed, Refused
from scaling.serving.engines import (
    BatchEngine,
    HttpEngine,
    Served,
    connect,
    has_failed,
    open_endpoint,
    seed_of,
    served_card,
    served_names,
)
from scaling.serving.protocol import Endpoint, token_counts
from scaling.serving.trials import Honoured, count_identical, warn_if_identical

__all__ = [
    "BatchEngine",
    "Client",
    "Endpoint",
    "Failed",
    "Honoured",
    "HttpEngine",
    "Refused",
    "Served",
    "connect",
    "count_identical",
    "has_failed",
    "open_endpoint",
    "read_answers",
    "seed_of",
    "served_card",
    "served_names",
    "token_counts",
    "warn_if_identical",
]

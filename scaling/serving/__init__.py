"""Sampling from servers that speak the OpenAI protocol, and from Batch files. See `engines`."""

from scaling.serving.client import Client
from scaling.serving.engines import Served, connect, served_names
from scaling.serving.protocol import Endpoint
from scaling.serving.trials import warn_if_identical

__all__ = ["Client", "Endpoint", "Served", "connect", "served_names", "warn_if_identical"]

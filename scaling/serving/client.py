"""JSON requests to one server, with retries and a deadline. Knows nothing of language models.

Plain `http.client`, one kept connection per thread: it took a seventh of httpx's CPU time per
request. `tests/client_speed.py` times it.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import suppress
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)  #: the same request may do better later
NO_KEY = "check the key in the environment variable SCALING_API_KEY"
HOPELESS = {  #: no request to this address will do better
    401: NO_KEY,
    403: NO_KEY,
    404: "check the address, --served-name and --api",
}
LONGEST_PAUSE = 30.0  #: seconds between two tries


class Failed(Exception):
    """One request had no answer after all its tries; the message is the reason, in one line."""


class Client:
    """Connections to one server; `with client:` closes them at its end."""

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        deadline: float = 600.0,
        tries: int = 6,
        pause: float = 0.5,
    ) -> None:
        """Take an address such as http://127.0.0.1:8000/v1.

        key: sent as a bearer token, never in any message; deadline: seconds for one request, its
        retries included; pause: seconds before the second try, doubled for each further one.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(
                f"{parts.scheme}://{parts.hostname}{parts.path} is no server's address; give "
                "http(s)://host:port/v1 without a user name (a key goes in SCALING_API_KEY)"
            )
        self.url = url.rstrip("/")
        self.deadline, self.tries, self.pause = deadline, tries, pause
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._open = lambda: kinds[parts.scheme](parts.hostname or "", parts.port)
        self._path = parts.path.rstrip("/")
        self._key = key
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._own = threading.local()
        self._all: set[http.client.HTTPConnection] = set()
        self._closed = threading.Event()

    def ask(self, path: str, body: Any = None) -> Any:
        """Return the JSON answer to a POST of `body`, or to a GET where there is none.

        Errors: `Failed` with the last reason when every try failed or the deadline passed;
        ValueError for a refused key or an address that the server does not have.
        """
        data = None if body is None else json.dumps(body).encode()
        until, wait = time.monotonic() + self.deadline, self.pause
        for number in range(self.tries):
            reason, asked = self._try(path, data, until)
            if reason is None:
                return asked
            pause = max(asked or 0.0, wait * SystemRandom().uniform(0.5, 1.5))
            last = number == self.tries - 1 or time.monotonic() + pause > until
            if last or asked is None or self._closed.wait(min(pause, LONGEST_PAUSE)):
                raise Failed(reason)
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def _try(self, path: str, data: bytes | None, until: float) -> tuple[str | None, Any]:
        """Return (None, answer), or (reason, least pause in seconds; None: do not try again)."""
        try:
            status, headers, text = self._exchange(path, data, until)
        except TimeoutError:
            self._drop()
            return f"no answer within {self.deadline:g} s", None
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            return f"{type(error).__name__}: {error}".rstrip(": "), 0.0
        shown = " ".join(text[:300].decode(errors="replace").split())
        shown = shown.replace(self._key, "***") if self._key else shown
        if status in HOPELESS:
            raise ValueError(f"{self.url}{path} answers {status}: {shown}; {HOPELESS[status]}")
        if status in RETRIED:
            return f"status {status}: {shown}", _seconds(headers.get("retry-after"))
        if status != 200:
            return f"status {status}: {shown}", None
        try:
            return None, json.loads(text)
        except ValueError:
            return f"answer is no JSON: {shown!r}", 0.0

    def _exchange(
        self, path: str, data: bytes | None, until: float
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._open()
            connection.auto_open = 0  # closed by another thread, it stays closed
        left = max(until - time.monotonic(), 1e-3)
        connection.timeout = left
        if (sock := connection.sock) is None:
            connection.connect()
            sock = connection.sock
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._all.add(connection)
            if self._closed.is_set():  # and whoever did so may not have seen this connection
                raise ConnectionError("the client was closed")
        sock.settimeout(left)
        method = "GET" if data is None else "POST"
        connection.request(method, self._path + path, data, self._headers)
        response = connection.getresponse()
        blocks = []
        while block := response.read1(1 << 16):
            blocks.append(block)
            if time.monotonic() > until:  # a server that sends a byte a second
                raise TimeoutError
        left_out, status, headers = response.length, response.status, response.headers
        response.close()  # gives the connection back: `read1` does not, at the end of a body
        if left_out:
            raise http.client.IncompleteRead(b"".join(blocks), left_out)
        return status, headers, b"".join(blocks)

    def _drop(self) -> None:
        """Close this thread's connection; the next request opens another."""
        connection = self._own.__dict__.pop("connection", None)
        if connection is not None:
            self._all.discard(connection)
            connection.close()

    def __enter__(self) -> Client:
        self._closed.clear()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection; requests in flight end, those of other threads too."""
        self._closed.set()
        for connection in tuple(self._all):
            with suppress(OSError, AttributeError):  # closed meanwhile
                connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._all.clear()


def _seconds(text: str | None) -> float:
    """Return a Retry-After in seconds; 0 where there is none, or a date."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0

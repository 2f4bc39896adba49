"""JSON requests to one server, with retries and a deadline. Knows nothing of language models.

One kept `http.client` connection per thread: urllib3 took twice its CPU time per request, httpx (on
which the OpenAI SDK is built) three to ten times, for ten lines less. `tests/client_speed.py` times
the engine.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

#: status codes after which the same request may succeed later; 52x: proxies, 529: overloaded
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, *range(520, 525), 529)
REFUSED = (400, 413, 414, 422, 451)  #: this request will never succeed; another one may
NO_KEY = "check the key in the environment variable SCALING_API_KEY"
NO_PATH = "check the address, served_name= and api="
FINAL_STATUS = {401: NO_KEY, 402: "the account has no credit left", 403: NO_KEY} | dict.fromkeys(
    (404, 405, 410, 501), NO_PATH
)  #: no request to this address will succeed
MODERATED = re.compile(r"moderat|flagged|content.?(filter|policy|management)", re.IGNORECASE)
LONGEST_PAUSE = 30.0  #: seconds between two tries, unless the server asks for more


class Failed(Exception):
    """A request that failed; the message is the reason, in one line.

    wait: the least seconds before another try may succeed; None if no try will.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Refused(Failed):
    """A request that this server will never answer, although it may answer others."""


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
                f"{parts.scheme}://{parts.hostname}{parts.path} is not the address of a server; "
                "give http(s)://host:port/v1 without a user name (a key goes in SCALING_API_KEY)"
            )
        self.url = url.rstrip("/")
        self.deadline, self.tries, self.pause = deadline, tries, pause
        self._key, self._path = key, parts.path.rstrip("/")
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._new = partial(kinds[parts.scheme], parts.hostname, parts.port)
        self._own = threading.local()  #: the connection of each thread
        self._all: set[http.client.HTTPConnection] = set()
        self._closed = threading.Event()

    def ask(self, path: str, body: Any = None) -> Any:
        """Return the JSON answer to a POST of `body`, or to a GET if there is none.

        Errors: `Failed` with the last reason when every try failed or the deadline passed, and
        `Refused` when the server says that the request itself is at fault;
        ValueError for a refused key or an address that the server does not have.
        """
        data = None if body is None else json.dumps(body).encode()
        until, backoff = time.monotonic() + self.deadline, self.pause
        for tries_left in reversed(range(self.tries)):
            try:
                return self._try(path, data, until)
            except Failed as error:
                if error.wait is None or not tries_left:
                    raise
                jittered = backoff * SystemRandom().uniform(0.5, 1.5)
                pause = max(error.wait, min(jittered, LONGEST_PAUSE))
                if time.monotonic() + pause > until:
                    asks = f"; the server asks to wait {error.wait:,.0f} s, longer than deadline="
                    raise Failed(f"{error}{asks if error.wait else ''}") from None
                if self._closed.wait(pause):
                    raise
                backoff *= 2
        raise AssertionError("the last try returns or raises")

    def _try(self, path: str, data: bytes | None, until: float) -> Any:
        """Return the JSON answer of one exchange; see `ask` for its errors."""
        try:
            status, headers, text = self._exchange(path, data, until)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            if isinstance(error, TimeoutError):
                raise Failed(f"no answer within {self.deadline:g} s") from None
            raise Failed(f"{type(error).__name__}: {error}".rstrip(": "), wait=0.0) from None
        shown = " ".join(text[:300].decode(errors="replace").split())
        shown = shown.replace(self._key, "***") if self._key else shown
        reason = f"status {status}: {shown}"
        if status in REFUSED or (status == 403 and MODERATED.search(shown)):
            raise Refused(reason)
        if status in FINAL_STATUS:
            raise ValueError(f"{self.url}{path} answers {status}: {shown}; {FINAL_STATUS[status]}")
        if status != 200:
            raise Failed(reason, retry_after(dict(headers)) if status in RETRIED else None)
        try:
            return json.loads(text)
        except ValueError:
            raise Failed(f"answer is no JSON: {shown!r}", wait=0.0) from None

    def _exchange(
        self, path: str, data: bytes | None, until: float
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Return (status, headers, body) of one request."""
        connection = self._connection(max(until - time.monotonic(), 1e-3))
        method = "GET" if data is None else "POST"
        connection.request(method, self._path + path, data, self._headers)
        response = connection.getresponse()
        blocks = []
        while block := response.read1(1 << 16):
            blocks.append(block)
            if time.monotonic() > until:  # a server that sends a byte a second
                raise TimeoutError
        missing = response.length
        response.close()  # gives the connection back: `read1` does not, at the end of a body
        if missing:
            raise http.client.IncompleteRead(b"".join(blocks), missing)
        return response.status, response.headers, b"".join(blocks)

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        """Return this thread's connection, whose reads take at most so many seconds each."""
        connection = getattr(self._own, "connection", None)
        if connection is None or connection.sock is None:
            self._own.connection = connection = self._new(timeout=seconds)
            connection.auto_open = 0  # closed by another thread, it stays closed
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._all.add(connection)
            if self._closed.is_set():  # `__exit__` may not have seen this connection
                raise ConnectionError("the client was closed")
        connection.sock.settimeout(seconds)
        return connection

    def _drop(self) -> None:
        """Close this thread's connection; the next request opens another."""
        if connection := self._own.__dict__.pop("connection", None):
            self._all.discard(connection)
            connection.close()

    def __enter__(self) -> Client:
        self._closed.clear()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection; requests in flight end, those of other threads too."""
        self._closed.set()
        for connection in tuple(self._all):
            with suppress(OSError, AttributeError):  # closed already
                connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._all.clear()


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a server asks to wait before the next try; 0 if it does not.

    Read from `Retry-After-Ms`, or from `Retry-After`: a number, or a date, which is compared with
    the server's own clock (`Date`) if it is given.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    text, ms = headers.get("retry-after") or "", headers.get("retry-after-ms")
    try:
        if ms or re.fullmatch(r"[\s\d.]+", text):
            seconds = float(ms) / 1000 if ms else float(text)
        else:
            now = headers.get("date")
            seconds = parsedate_to_datetime(text).timestamp()
            seconds -= parsedate_to_datetime(now).timestamp() if now else time.time()
    except (ValueError, TypeError):
        return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0

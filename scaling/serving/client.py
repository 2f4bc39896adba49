"""JSON requests to one server, with retries and a deadline. Knows nothing of language models.

Plain `http.client`, one kept connection per thread: it took a seventh of httpx's CPU time per
request. `tests/client_speed.py` times it.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import socket
import threading
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

#: status codes after which the same request may succeed later; 52x: proxies, 529: overloaded
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, *range(520, 525), 529)
REFUSED = (400, 413, 414, 422, 451)  #: this request will never succeed; another one may
NO_KEY = "check the key in the environment variable SCALING_API_KEY"
NO_PATH = "check the address, --served-name and --api"
HOPELESS = {  #: no request to this address will succeed
    401: NO_KEY,
    402: "the account has no credit left",
    403: NO_KEY,
    404: NO_PATH,
    405: NO_PATH,
    410: NO_PATH,
    501: NO_PATH,
}
MODERATED = re.compile(r"moderat|flagged|content.?(filter|policy|management)", re.IGNORECASE)
LONGEST_PAUSE = 30.0  #: seconds between two tries, unless the server asks for more


class Failed(Exception):
    """A request without an answer after all its tries; the message is the reason, in one line."""


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

        Errors: `Failed` with the last reason when every try failed or the deadline passed, and
        `Refused` when the server says that the request itself is at fault;
        ValueError for a refused key or an address that the server does not have.
        """
        data = None if body is None else json.dumps(body).encode()
        until, wait = time.monotonic() + self.deadline, self.pause
        for left in reversed(range(self.tries)):
            reason, answer = self._try(path, data, until)
            if reason is None:
                return answer
            pause = max(answer, min(wait * SystemRandom().uniform(0.5, 1.5), LONGEST_PAUSE))
            if answer and left and time.monotonic() + pause > until:
                reason += f"; the server asks to wait {answer:,.0f} s, longer than --deadline"
            elif left and time.monotonic() + pause < until and not self._closed.wait(pause):
                wait *= 2
                continue
            raise Failed(reason)
        raise AssertionError("the last try returns or raises")

    def _try(self, path: str, data: bytes | None, until: float) -> tuple[str | None, Any]:
        """Return (None, answer), or (reason, seconds to wait at least) where to try again.

        Errors: `Failed` and `Refused` where another try is pointless.
        """
        try:
            status, headers, text = self._exchange(path, data, until)
        except TimeoutError:
            self._drop()
            raise Failed(f"no answer within {self.deadline:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            return f"{type(error).__name__}: {error}".rstrip(": "), 0.0
        shown = " ".join(text[:300].decode(errors="replace").split())
        shown = shown.replace(self._key, "***") if self._key else shown
        if status in REFUSED or (status == 403 and MODERATED.search(shown)):
            raise Refused(f"status {status}: {shown}")
        if status in HOPELESS:
            raise ValueError(f"{self.url}{path} answers {status}: {shown}; {HOPELESS[status]}")
        if status in RETRIED:
            return f"status {status}: {shown}", retry_after(headers)
        if status != 200:
            raise Failed(f"status {status}: {shown}")
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


def retry_after(headers: http.client.HTTPMessage) -> float:
    """Return the seconds that a server asks to wait before the next try; 0 if it does not.

    Read from `Retry-After-Ms`, or from `Retry-After`: a number, or a date, which is compared with
    the server's own clock (`Date`) where it is given.
    """
    text = headers.get("retry-after") or ""
    try:
        if in_ms := headers.get("retry-after-ms"):
            seconds = float(in_ms) / 1000
        elif re.fullmatch(r"[\s\d.]+", text):
            seconds = float(text)
        else:
            then = parsedate_to_datetime(text).timestamp()
            now = headers.get("date")
            seconds = then - (parsedate_to_datetime(now).timestamp() if now else time.time())
    except (ValueError, TypeError):
        return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0

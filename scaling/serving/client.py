"""JSON requests to one server, with retries and a deadline. Knows nothing of language models.

One kept connection per thread, and of HTTP/1.1 what an API needs: a request is one write, a head
is read line by line. `http.client`, which builds and parses mail headers, took three times the CPU
time, httpx twenty. `tests/client_speed.py` times it.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from random import SystemRandom
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)  #: the same request may do better later
NO_KEY = "check the key in the environment variable SCALING_API_KEY"
HOPELESS = {  #: no request to this address will do better
    401: NO_KEY,
    403: NO_KEY,
    404: "check the address, --served-name and --api",
}
LONGEST_PAUSE = 30.0  #: seconds between two tries
BLOCK, MOST_FIELDS = 1 << 16, 128  #: bytes read at a time, and of a line; lines of a head


class Failed(Exception):
    """One request had no answer after all its tries; the message is the reason, in one line."""


class Answer(NamedTuple):
    """What came back over a connection."""

    status: int
    headers: dict[bytes, bytes]  #: by lower-case name
    text: bytes
    kept: bool  #: the connection takes another request


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
        self._place = parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
        self._secure = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        if not (key + parts.netloc).isascii() or not key.isprintable():
            raise ValueError("a key and a server's address are plain ASCII; see SCALING_API_KEY")
        self._key = key
        head = f"host: {parts.netloc}\r\naccept: application/json\r\naccept-encoding: identity\r\n"
        self._head = head + (f"authorization: Bearer {key}\r\n" if key else "")
        self._own = threading.local()
        self._all: set[tuple[socket.socket, BinaryIO]] = set()
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
            status, headers, text, kept = self._exchange(path, data, until)
        except TimeoutError:
            self._drop()
            return f"no answer within {self.deadline:g} s", None
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            self._drop()
            return f"{type(error).__name__}: {error}".rstrip(": "), 0.0
        if not kept:
            self._drop()
        shown = " ".join(text[:300].decode(errors="replace").split())
        shown = shown.replace(self._key, "***") if self._key else shown
        if status in HOPELESS:
            raise ValueError(f"{self.url}{path} answers {status}: {shown}; {HOPELESS[status]}")
        if status in RETRIED:
            return f"status {status}: {shown}", _seconds(headers.get(b"retry-after"))
        if status != 200:
            return f"status {status}: {shown}", None
        try:
            return None, json.loads(text)
        except ValueError:
            return f"answer is no JSON: {shown!r}", 0.0

    def _exchange(self, path: str, data: bytes | None, until: float) -> Answer:
        left = max(until - time.monotonic(), 1e-3)
        connection = getattr(self._own, "connection", None)
        if connection not in self._all:  # none yet, or closed by another thread
            connection = self._open(left)
        sock, file = connection
        sock.settimeout(left)
        method = "GET" if data is None else "POST"
        head = f"{method} {self._path}{path} HTTP/1.1\r\n{self._head}"
        if data is not None:
            head += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n"
        sock.sendall(head.encode() + b"\r\n" + (data or b""))
        return _answer(file, until)

    def _open(self, left: float) -> tuple[socket.socket, BinaryIO]:
        """Connect this thread; ConnectionError where the client was closed meanwhile."""
        sock = socket.create_connection(self._place, left)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._secure:
            sock = self._secure.wrap_socket(sock, server_hostname=self._place[0])
        self._own.connection = sock, sock.makefile("rb")
        self._all.add(self._own.connection)
        if self._closed.is_set():  # and whoever did so may not have seen this connection
            raise ConnectionError("the client was closed")
        return self._own.connection

    def _drop(self) -> None:
        """Close this thread's connection; the next request opens another."""
        connection = self._own.__dict__.pop("connection", ())
        self._all.discard(connection)
        for part in connection:
            part.close()

    def __enter__(self) -> Client:
        self._closed.clear()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection; requests in flight end, those of other threads too."""
        self._closed.set()
        for sock, file in tuple(self._all):
            with suppress(OSError):  # closed meanwhile
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
            file.close()
        self._all.clear()


def _answer(file: BinaryIO, until: float) -> Answer:
    """Return the next answer of a connection; ConnectionError where it ends early or is none."""
    status, line = 100, b""
    while status == 100:  # "go on"
        line = file.readline(BLOCK)
        version, _, rest = line.partition(b" ")
        if not line:
            raise ConnectionError("the server closed the connection")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise ConnectionError(f"no answer of HTTP/1.1: {line[:40]!r}")
        status, headers = int(rest[:3]), _fields(file)
    try:
        size: int | None = int(headers.get(b"content-length", b""))
    except ValueError:
        size = 0 if status in (204, 304) else None
    chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
    text = b"".join(_chunks(file, until) if chunked else _blocks(file, size, until))
    told = headers.get(b"connection", b"close" if version == b"HTTP/1.0" else b"").lower()
    return Answer(status, headers, text, told != b"close" and (chunked or size is not None))


def _fields(file: BinaryIO) -> dict[bytes, bytes]:
    """Return the fields of a head, or of what follows the last chunk, up to the empty line."""
    fields: dict[bytes, bytes] = {}
    for _ in range(MOST_FIELDS):
        line = file.readline(BLOCK)
        if line in (b"\r\n", b"\n"):
            return fields
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    raise ConnectionError("the head of the answer has no end")


def _blocks(file: BinaryIO, size: int | None, until: float) -> Iterator[bytes]:
    """Yield a body of so many bytes; of all there are where the size is None."""
    while size != 0:
        block = file.read1(BLOCK if size is None else min(size, BLOCK))  # type: ignore[attr-defined]
        if time.monotonic() > until:  # a server that sends a byte a second
            raise TimeoutError
        if not block:
            if size is not None:
                raise ConnectionError(f"the answer broke off, {size} bytes too early")
            return
        size = None if size is None else size - len(block)
        yield block


def _chunks(file: BinaryIO, until: float) -> Iterator[bytes]:
    """Yield the parts of a body whose length is told piece by piece."""
    while True:
        line = file.readline(BLOCK).split(b";")[0].strip()
        try:
            size = int(line, 16)
        except ValueError:
            raise ConnectionError(f"the answer broke off: {line[:40]!r} is no chunk") from None
        if not size:
            _fields(file)
            return
        yield from _blocks(file, size, until)
        file.readline(BLOCK)


def _seconds(text: bytes | None) -> float:
    """Return a Retry-After in seconds; 0 where there is none, or a date."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0

"""A small server of the OpenAI protocol that misbehaves on purpose, one fault per test.

Its "model" answers `<number>=<digit>`, drawn by the seed, unless a fault says otherwise.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler", dict[str, Any]], bool]  #: True: the fault has answered


class State:
    """What tests look at afterwards."""

    def __init__(self, fault: Fault | None, honours_n: bool = False) -> None:
        self.fault, self.honours_n = fault, honours_n
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.seen: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    def first_time(self, body: dict[str, Any]) -> bool:
        """Return whether this very request has not come before."""
        with self.lock:
            self.seen[json.dumps(body, sort_keys=True)] += 1
            return self.seen[json.dumps(body, sort_keys=True)] == 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "toy"}]})

    def do_POST(self) -> None:
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with state.lock:
            state.bodies.append(body)
            state.headers.append(dict(self.headers))
            state.in_flight += 1
            state.most_in_flight = max(state.most_in_flight, state.in_flight)
        answered = state.fault is not None and state.fault(self, body)
        with state.lock:
            state.in_flight -= 1
        if not answered:
            self.reply(200, self.answer(body))

    def answer(self, body: dict[str, Any], choices: int | None = None) -> dict[str, Any]:
        n = choices or (body.get("n", 1) if self.state.honours_n else 1)
        rng = random.Random(str((body["seed"], body.get("prompt") or body.get("messages"))))
        texts = [f"{rng.randrange(10**6)}={rng.randrange(10)}" for _ in range(n)]
        chat = self.path.endswith("/chat/completions")
        found = [choice(text, i, chat, bool(body.get("logprobs"))) for i, text in enumerate(texts)]
        usage = {"prompt_tokens": 7, "completion_tokens": 3 * n, "total_tokens": 7 + 3 * n}
        return {"choices": found, "usage": usage}

    def reply(self, status: int, value: Any, **headers: str) -> None:
        self.send(status, json.dumps(value).encode(), **headers)

    def send(self, status: int, data: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(data) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def cut(self) -> None:
        """End the connection."""
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def prompt_of(body: dict[str, Any]) -> str:
    """Return the prompt of a request, of a chat its last message."""
    return str(body["prompt"] if "prompt" in body else body["messages"][-1]["content"])


def choice(text: str, index: int, chat: bool, logprobs: bool) -> dict[str, Any]:
    """Return one choice of three tokens, each of log-probability -0.5."""
    row: dict[str, Any] = {"index": index, "finish_reason": "stop", "logprobs": None}
    row |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    if logprobs and chat:
        row["logprobs"] = {"content": [{"token": "x", "logprob": -0.5}] * 3}
    elif logprobs:
        row["logprobs"] = {"tokens": ["x"] * 3, "token_logprobs": [-0.5] * 3}
    return row


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serve(fault: Fault | None = None, honours_n: bool = False) -> Iterator[tuple[str, State]]:
    """Yield the address of a running server, and its state."""
    state = State(fault, honours_n)
    server = Server(("127.0.0.1", 0), type("Own", (Handler,), {"state": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ---------------------------------------------------------------- faults
def busy(handler: Handler, body: dict[str, Any]) -> bool:
    """Refuse every request the first time it comes."""
    first = handler.state.first_time(body)
    if first:
        handler.reply(429, {"error": "slow down"}, retry_after="0.01")
    return first


def broken(handler: Handler, body: dict[str, Any]) -> bool:
    first = handler.state.first_time(body)
    if first:
        handler.reply(503, {"error": "overloaded"})
    return first


def half(handler: Handler, body: dict[str, Any]) -> bool:
    """Stop in the middle of an answer, the first time."""
    first = handler.state.first_time(body)
    if first:
        handler.send(200, b'{"choices": [', length=500)
        handler.cut()
    return first


def garbled(handler: Handler, body: dict[str, Any]) -> bool:
    first = handler.state.first_time(body)
    if first:
        handler.send(200, b"<html>proxy error</html>")
    return first


def hung_up(handler: Handler, body: dict[str, Any]) -> bool:
    first = handler.state.first_time(body)
    if first:
        handler.cut()
    return first


def chunked(handler: Handler, body: dict[str, Any]) -> bool:
    """Send an answer in chunks, each with its length."""
    data = json.dumps(handler.answer(body)).encode()
    pieces = [b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in (data[:7], data[7:])]
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"".join(pieces) + b"0\r\nx-trailer: 1\r\n\r\n")
    return True


def unframed(handler: Handler, body: dict[str, Any]) -> bool:
    """End an answer by hanging up."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(json.dumps(handler.answer(body)).encode())
    handler.cut()
    return True


def hesitant(handler: Handler, body: dict[str, Any]) -> bool:
    """Say "go on" first, and hang up after every answer."""
    handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    handler.reply(200, handler.answer(body), connection="close")
    handler.cut()
    return True


def same(handler: Handler, body: dict[str, Any]) -> bool:
    """Ignore the seed, as a server does that decodes greedily."""
    handler.reply(200, handler.answer(body | {"seed": 0}))
    return True


def sure(handler: Handler, body: dict[str, Any]) -> bool:
    """Give every seed the same text after a prompt that is not cut, which ends in +."""
    uncut = body["prompt"].endswith("+")
    return same(handler, body) if uncut else False


def dripping(handler: Handler, body: dict[str, Any]) -> bool:
    """Send a byte now and then, for ever."""
    handler.send(200, b"", length=10_000)
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.05)
    return True


def liar(handler: Handler, body: dict[str, Any]) -> bool:
    """Give all choices of a short request, as a probe sends, and two of a longer one."""
    few = body.get("n", 1) > 4
    if few:
        handler.reply(200, handler.answer(body, choices=2))
    return few


def long_prompts(handler: Handler, body: dict[str, Any]) -> bool:
    """Refuse prompts that begin with 9, as a server does whose context is too short."""
    bad = prompt_of(body).startswith("9")
    if bad:
        handler.reply(400, {"error": "maximum context length is 8 tokens"})
    return bad

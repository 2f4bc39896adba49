"""Time the HTTP engine next to a bare load generator: `python -m tests.client_speed [URL MODEL]`.

Without arguments against servers of its own, which answer at once, after 5 and after 50 ms, then
against `transformers serve` with a model of the ladder, whose own limit binds. The bare generator
sends prebuilt bytes over raw sockets and looks at nothing but the length of the answer. In turns.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from scaling.engine import Job
from scaling.records import Plan
from scaling.serving import Endpoint, connect
from scaling.serving.engines import has_failed, seed_of
from scaling.serving.trials import Honoured
from tests.test_servers import transformers_serve

PROMPT, PLAN = "12+45+77+33:", Plan(max_new_tokens=48)
CHOICE = {"index": 0, "text": "12+45=57", "finish_reason": "stop", "logprobs": None}
ANSWER = {"choices": [CHOICE], "usage": {"prompt_tokens": 13, "completion_tokens": 9}}


class Same(asyncio.Protocol):
    """Answers every request with the same bytes, after a while."""

    delay = 0.0
    body = json.dumps(ANSWER).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    def connection_made(self, transport):
        self.transport, self.seen = transport, b""

    def data_received(self, data):
        self.seen += data
        while (request := length_of(self.seen)) is not None:
            self.seen = self.seen[request:]
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.transport.write, self.answer)
            else:
                self.transport.write(self.answer)


def length_of(data: bytes) -> int | None:
    """Return the length of the first message in some bytes; None while it is not there."""
    head, mark, _ = data.partition(b"\r\n\r\n")
    if not mark:
        return None
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    end = len(head) + 4 + int(length or 0)
    return end if len(data) >= end else None


def bare(url: str, bodies: list[bytes], in_flight: int) -> None:
    parts, turn = urlsplit(url), threading.Lock()
    head = b"POST %s/completions HTTP/1.1\r\nhost: x\r\n" % parts.path.encode()
    head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    left = iter([head % len(body) + body for body in bodies])

    def work() -> None:
        with socket.create_connection((parts.hostname, parts.port)) as place:
            place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                with turn:
                    if (request := next(left, None)) is None:
                        return
                place.sendall(request)
                seen = b""
                while length_of(seen) is None:
                    seen += place.recv(1 << 16)

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def timed(name: str, n: int, run: Callable[[], None]) -> float:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:8}{n / wall:9,.1f} requests/s {1e6 * cpu / n:7.0f} us of CPU each", flush=True)
    return n / wall


def measure(url: str, model: str, n: int, in_flight: int = 32, turns: int = 3) -> None:
    endpoint = Endpoint(model)
    _, engine = connect(url, endpoint, in_flight=in_flight)
    engine.honoured = Honoured(n=False, logprobs=False)
    jobs = [Job("p", chain, (PROMPT,)) for chain in range(n)]

    def ours() -> None:
        assert not any(has_failed(done) for _, _, done in engine.generate(jobs, PLAN))

    requests = [endpoint.request(PLAN, [PROMPT], seed_of(PLAN, job, 0)) for job in jobs]
    bodies = [json.dumps(body).encode() for body in requests]
    rates = [
        (timed("bare", n, lambda: bare(url, bodies, in_flight)), timed("engine", n, ours))
        for _ in range(turns)
    ]
    middle = [median(found) for found in zip(*rates, strict=True)]
    print(f"the engine reaches {middle[1] / middle[0]:.0%}, by medians", flush=True)


async def serve(port: int, delay: float) -> None:
    Same.delay = delay
    server = await asyncio.get_running_loop().create_server(Same, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--serve"]:
        asyncio.run(serve(int(arguments[1]), float(arguments[2])))
    elif len(arguments) == 2:
        measure(*arguments, n=100)
    else:
        for port, delay in ((8765, 0.0), (8766, 0.005), (8767, 0.05)):
            print(f"a server that answers after {1000 * delay:g} ms, 32 in flight")
            command = [sys.executable, "-m", "tests.client_speed", "--serve", str(port), str(delay)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
                server.stdout.readline()
                try:
                    measure(f"http://127.0.0.1:{port}/v1", "toy", n=3000)
                finally:
                    server.terminate()
        with tempfile.TemporaryDirectory() as folder, transformers_serve(Path(folder)) as server:
            print("transformers serve, a model of 0.1 M, up to 48 tokens, 4 in flight")
            measure(*server, n=100, in_flight=4)


if __name__ == "__main__":
    main(sys.argv[1:])

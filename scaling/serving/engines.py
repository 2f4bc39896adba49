"""Sampling from a server or OpenAI Batch files instead of a model in memory and its engine.

    lm, engine = connect("http://127.0.0.1:8000/v1", Endpoint("my-model"))
    sample_run(lm, task, problems, plan, root, engine=engine)

Texts take the place of tokens: `Served.encode` wraps a text, `HttpEngine.generate` sends it, and
the `usage` of a server is the ledger. A request that fails after all its tries is a row whose
`finish` says why; the run stays open, and the same call asks again. Not here: starting servers.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from queue import SimpleQueue
from typing import Any, NamedTuple, cast

from scaling.engine.draw import row_key
from scaling.engine.schedule import Extend, Job
from scaling.records import FINAL, Completion, ModelCard, Plan
from scaling.serving.batch import BatchFolder, NotAnswered
from scaling.serving.client import Client, Failed, Refused
from scaling.serving.protocol import Endpoint, Unreadable
from scaling.serving.trials import EASY, Honoured, probe, with_neutral_fields

MAX_CHOICES = 32  #: of one request
GIVE_UP = 20  #: failures in a row after which the server is taken to be down
KEY = "SCALING_API_KEY"  #: environment variable with the key, if the server wants one


class Served:
    """Replaces `models.LM`: a text is its own single token."""

    skills = ("revision",)  #: unknown for a served model, so that no warning is given

    def __init__(
        self, card: ModelCard, engine: Any = None, opens_thinking: bool | None = None
    ) -> None:
        """opens_thinking: None leaves it to the trials of the engine."""
        self.card, self.engine, self.given = card, engine, opens_thinking
        self.chat = bool(engine) and engine.endpoint.api == "chat"  #: several turns

    @property
    def opens_thinking(self) -> bool:
        """Return whether the server's template opens the thinking that a completion then ends."""
        honoured = getattr(self.engine, "honoured", None)
        return bool(honoured and honoured.opens_thinking) if self.given is None else self.given

    def encode(self, text: str) -> tuple[str, ...]:
        """Return the text as the only token."""
        return (text,)

    def render(self, text: str) -> str:
        """Return the text itself: the server puts it into its chat template."""
        return text

    def decode(self, tokens: Iterable[str]) -> str:
        """Return the text of a completion."""
        return "".join(tokens)


def served_card(endpoint: Endpoint, card: ModelCard | None = None) -> ModelCard:
    """Return the card of a served model: a known card under the endpoint's identity.

    Without a card, size, shape and training are unknown, and so are the FLOPs.
    """
    known = card or ModelCard(endpoint.model, 0, 0, math.nan, 0)
    fields = {k: v for k, v in asdict(endpoint).items() if v and k != "model"}
    name = endpoint.model  # llama.cpp calls a model by its path
    name = PurePath(name).stem if name.lower().endswith(".gguf") else name
    return replace(known, name=name, identity=f"{known.identity} served {fields}".strip())


def connect(
    url: str,
    endpoint: Endpoint,
    card: ModelCard | None = None,
    *,
    batch: str | Path | None = None,
    in_flight: int = 64,
    opens_thinking: bool | None = None,
    **options: Any,
) -> tuple[Served, HttpEngine]:
    """Return (lm, engine) of a server, or of a folder of Batch files. Nothing is sampled yet.

    An endpoint without a model's name gets that of the server's only one. opens_thinking: whether
    the server's chat template opens the thinking; None: found by a trial. options: of `Client`.
    Errors: ValueError where the server has several models.
    """
    if batch:
        folder = BatchEngine(Path(batch), endpoint)
        return Served(served_card(endpoint, card), folder, opens_thinking), folder
    key = os.environ.get(KEY, "")
    if not endpoint.model:
        with Client(url, key=key, deadline=30, tries=3) as client:
            names = served_names(client)
        if len(names) != 1:
            raise ValueError(f"{url} has {', '.join(names)}: pick one by served_name=")
        endpoint = replace(endpoint, model=names[0])
    engine = HttpEngine(Client(url, key=key, **options), endpoint, in_flight)
    return Served(served_card(endpoint, card), engine, opens_thinking), engine


def served_names(client: Client) -> list[str]:
    """Return the names of the models that a server lists."""
    try:
        return [str(model["id"]) for model in client.ask("/models")["data"]]
    except (Failed, KeyError, TypeError) as error:
        if str(error).startswith(("ConnectionRefusedError", "gaierror")):
            raise ValueError(f"no server answers at {client.url} ({error})") from error
        raise ValueError(
            f"{client.url} does not list its models ({error}); name one with served_name="
        ) from error


class Request(NamedTuple):
    """Chains that share a context, at the same step."""

    jobs: tuple[Job, ...]
    step: int
    context: tuple[Any, ...]  #: texts: prompt, draft, suffix, draft, ...


class HttpEngine:
    """An engine whose model runs on a server. See `generate`."""

    timed = True  #: whether the time until an answer is that of sampling

    def __init__(self, client: Any, endpoint: Endpoint, in_flight: int = 64) -> None:
        """in_flight: requests that wait for their answers at the same time."""
        self.client, self.endpoint, self.in_flight = client, endpoint, in_flight
        self.honoured: Honoured | None = None  #: found by the first call
        self.answers = False  #: whether it has answered a request of the plan's length

    def generate(
        self, jobs: Iterable[Job], plan: Plan, extend: Extend | None = None
    ) -> Iterator[tuple[Job, int, Completion]]:
        """Yield (job, step, completion) as answers come in, as `engine.Engine.generate` does.

        Errors: ValueError when the server cannot do the plan, or `GIVE_UP` requests fail in a row.
        """
        requests = self._first_requests(jobs, plan)
        later: deque[Request] = deque()  # next steps of chains
        sent: dict[Future, tuple[Request, float]] = {}  #: requests in flight, and when they began
        answered: SimpleQueue[Future] = SimpleQueue()
        failures = 0
        # if left in the middle, the client is closed first, which ends its threads' waiting
        with ThreadPoolExecutor(self.in_flight, "scaling-http") as pool, self.client:
            while True:
                while len(sent) < self.in_flight:
                    request = later.popleft() if later else next(requests, None)
                    if request is None:
                        break
                    future = pool.submit(self._complete, request, plan)
                    sent[future] = request, time.perf_counter()
                    future.add_done_callback(answered.put)
                if not sent:
                    return
                future = answered.get()
                found, in_flight = future.result(), len(sent)
                request, began = sent.pop(future)
                seconds = self.timed * (time.perf_counter() - began) / in_flight
                if not found:  # a batch without answers so far
                    continue
                refused = found[0].finish.startswith(FINAL)
                failures = failures + 1 if has_failed(found[0]) and not refused else 0
                if refused and not self.answers:
                    self._check_answers(plan)
                self.answers |= refused or not failures
                for job, completion in zip(request.jobs, found, strict=True):
                    yield job, request.step, replace(completion, seconds=seconds / len(found))
                    if extend is None or has_failed(completion):
                        continue
                    if (suffix := extend(job, request.step, completion)) is not None:
                        context = (*request.context, *completion.tokens, *suffix)
                        later.append(Request((job,), request.step + 1, context))
                if failures == GIVE_UP:
                    raise ValueError(
                        f"{self.client.url} failed {failures} requests in a row, the last with "
                        f"{found[0].finish}; what was done is kept: run the same again"
                    )

    def _first_requests(self, jobs: Iterable[Job], plan: Plan) -> Iterator[Request]:
        """Yield first requests: `MAX_CHOICES` chains of a prompt in one if `n` is honoured."""
        group: list[Job] = []
        for job in jobs:
            if self.honoured is None:
                at = cast(Any, job.prompt)
                self.endpoint = with_neutral_fields(self._once, self.endpoint, plan, at)
                self.honoured = probe(self._once, self.endpoint, plan, at)
            most = MAX_CHOICES if self.honoured.n else 1
            same = group and (job.problem, job.prompt) == (group[0].problem, group[0].prompt)
            if group and (not same or len(group) == most):
                yield Request(tuple(group), 0, group[0].prompt)
                group = []
            group.append(job)
        if group:
            yield Request(tuple(group), 0, group[0].prompt)

    def _check_answers(self, plan: Plan) -> None:
        """Raise ValueError if a server refuses an easy question as well as a real prompt.

        Then the fault is not the prompt's, but of something that all requests have in common.
        """
        try:
            self._once(self.endpoint.request(plan, (EASY,), 0), plan)
        except Failed as error:
            raise ValueError(
                f"{self.client.url} refuses every request ({error}): change what they have in "
                "common, such as max_new_tokens=, request= or served_name="
            ) from error

    def _once(
        self, body: dict[str, Any], plan: Plan | None = None, cached: bool = False
    ) -> list[Completion]:
        answer = self.client.ask(self.endpoint.path, body)
        return self.endpoint.completions(answer, plan or Plan(), cached)

    def _complete(self, request: Request, plan: Plan) -> list[Completion]:
        """Return a completion per chain; none if a batch has no answer yet.

        Choices that the server leaves out are requested again; if it refuses a request or its
        answer cannot be counted, the choices are requested one by one.
        """
        found: list[Completion] = []
        logprobs = bool(self.honoured and self.honoured.logprobs)
        most = len(request.jobs)
        while left := request.jobs[len(found) :][:most]:
            seed = seed_of(plan, left[0], request.step)
            body = self.endpoint.request(plan, request.context, seed, len(left), logprobs)
            try:
                found += self._once(body, plan, cached=request.step > 0)[: len(left)]
            except NotAnswered:
                return []
            except Failed as error:
                if len(left) > 1 and isinstance(error, (Refused, Unreadable)):
                    most = 1  # one of the choices may be at fault, or their number
                else:
                    finish = f"{FINAL if isinstance(error, Refused) else 'error'}: {error}"
                    failed = Completion((), math.nan, math.nan, finish, 0, 0, 0, 0.0)
                    found += [failed] * len(left)
        return found


class BatchEngine(HttpEngine):
    """An engine that reads the answers of a batch, and writes the requests of the next one.

    Its `generate` raises ValueError that says which requests were written.
    """

    timed = False

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        super().__init__(BatchFolder(folder), endpoint, in_flight=1)
        self.honoured, self.answers = Honoured(), True  # no trials: each sample has its request


def seed_of(plan: Plan, job: Job, step: int) -> int:
    """Return a sample's seed, of 31 bits, the most that servers take."""
    return row_key(plan.seed, job.problem, job.chain, step) & 0x7FFFFFFF


def has_failed(completion: Completion) -> bool:
    """Return whether a completion only holds the reason of a failure."""
    return completion.finish.startswith("error")

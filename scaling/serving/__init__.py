"""Sampling from a server that speaks the OpenAI protocol, in the place of model and engine.

    lm, engine = connect("http://127.0.0.1:8000/v1", Endpoint("my-model"))
    sample_run(lm, task, problems, plan, root, engine=engine)

Texts stand where tokens do: `Served.encode` wraps a text, `HttpEngine.generate` sends it, and the
`usage` of a server is the ledger. A request that fails after all its tries is a row whose `finish`
says why; the run stays open, and the same call asks again. Not here: starting servers
(docs/serving.md).
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import PurePath
from queue import SimpleQueue
from typing import Any, NamedTuple, cast

from scaling.engine.draw import row_key
from scaling.engine.schedule import Extend, Job
from scaling.records import FINAL, Completion, ModelCard, Plan
from scaling.serving.client import Client, Failed, Refused
from scaling.serving.neutral import with_neutral_fields
from scaling.serving.probe import EASY, Honoured, probe
from scaling.serving.protocol import Endpoint, Unreadable

__all__ = ["Client", "Endpoint", "HttpEngine", "Served", "connect", "served_card"]

MOST_CHOICES = 32  #: of one request
SEVERAL = 4  #: samples of a problem that should not all be the same text
GIVE_UP = 20  #: failures in a row after which the server is taken to be down
KEY = "SCALING_API_KEY"  #: environment variable with the key, if the server wants one


class Served:
    """Stands where `models.LM` does: a text is its own single token."""

    skills = ("revision",)  #: what a served model was trained for is its user's to know

    def __init__(
        self,
        card: ModelCard,
        chat: bool = False,
        engine: Any = None,
        opens_thinking: bool | None = None,
    ) -> None:
        """chat: prompts may have several turns; opens_thinking: None leaves it to the probe."""
        self.card, self.chat, self.engine, self.given = card, chat, engine, opens_thinking

    @property
    def opens_thinking(self) -> bool:
        """Return whether the server's template opens the thinking that a completion then ends."""
        found = getattr(self.engine, "honoured", None)
        return bool(found and found.opens_thinking) if self.given is None else self.given

    def encode(self, text: str) -> tuple[str, ...]:
        """Return the text as the only token."""
        return (text,)

    def render(self, text: str) -> str:
        """Return the text: a server writes its chat template around it."""
        return text

    def decode(self, tokens: Iterable[str]) -> str:
        """Return the text of a completion."""
        return "".join(tokens)


def served_card(endpoint: Endpoint, card: ModelCard | None = None) -> ModelCard:
    """Return the card of a served model: what `card` knows of it, under the endpoint's identity.

    Without a card, size, shape and training are unknown, and so are the FLOPs.
    """
    known = card or ModelCard(endpoint.model, 0, 0, math.nan, 0)
    asked = {k: v for k, v in asdict(endpoint).items() if v and k != "model"}
    name = endpoint.model  # llama.cpp calls a model by its path
    name = PurePath(name).stem if name.lower().endswith(".gguf") else name
    return replace(known, name=name, identity=f"{known.identity} served {asked}".strip())


def connect(
    url: str,
    endpoint: Endpoint,
    card: ModelCard | None = None,
    in_flight: int = 64,
    opens_thinking: bool | None = None,
    **options: Any,
) -> tuple[Served, HttpEngine]:
    """Return (lm, engine) of a server; `options` are those of `Client`. Nothing is asked yet.

    opens_thinking: whether the server's chat template opens the thinking; None: a trial tells.
    """
    client = Client(url, key=os.environ.get(KEY, ""), **options)
    engine = HttpEngine(client, endpoint, in_flight)
    chat = endpoint.api == "chat"
    return Served(served_card(endpoint, card), chat, engine, opens_thinking), engine


def served_names(client: Client) -> list[str]:
    """Return the names of the models that a server says it has."""
    try:
        return [str(model["id"]) for model in client.ask("/models")["data"]]
    except (Failed, KeyError, TypeError) as error:
        if str(error).startswith(("ConnectionRefusedError", "gaierror")):
            raise ValueError(f"no server answers at {client.url} ({error})") from error
        raise ValueError(
            f"{client.url} does not list its models ({error}); name one with --served-name"
        ) from error


class Ask(NamedTuple):
    """One request on its way: chains that share a context, at the same step."""

    jobs: tuple[Job, ...]
    step: int
    context: tuple[Any, ...]  #: texts: prompt, draft, suffix, draft, ...


class HttpEngine:
    """An engine whose model runs elsewhere. See `generate`."""

    def __init__(self, client: Client, endpoint: Endpoint, in_flight: int = 64) -> None:
        """in_flight: requests that wait for their answers at the same time."""
        self.client, self.endpoint, self.in_flight = client, endpoint, in_flight
        self.honoured: Honoured | None = None  #: found by the first call
        self.answers = False  #: known to answer some request of the plan's length

    def generate(
        self, jobs: Iterable[Job], plan: Plan, extend: Extend | None = None
    ) -> Iterator[tuple[Job, int, Completion]]:
        """Yield (job, step, completion) as answers come in, as `engine.Engine.generate` does.

        Errors: ValueError when the server cannot do the plan, or `GIVE_UP` requests fail in a row.
        """
        requests = self._requests(jobs, plan)
        more: deque[Ask] = deque()  # next steps of chains
        answers: SimpleQueue[tuple[Ask, float, Future]] = SimpleQueue()
        flying = failures = 0
        # left in the middle, the client is closed first, which ends what its threads wait for
        with ThreadPoolExecutor(self.in_flight, "scaling-http") as pool, self.client:
            while True:
                while flying < self.in_flight:
                    ask = more.popleft() if more else next(requests, None)
                    if ask is None:
                        break
                    note = partial(_note, answers, ask, time.perf_counter())
                    pool.submit(self._complete, ask, plan).add_done_callback(note)
                    flying += 1
                if not flying:
                    return
                ask, begun, future = answers.get()
                found = future.result()
                share = (time.perf_counter() - begun) / flying / len(found)
                flying -= 1
                refused = found[0].finish.startswith(FINAL)
                failures = failures + 1 if has_failed(found[0]) and not refused else 0
                if refused and not self.answers:
                    self._check_answers(plan)
                self.answers |= refused or not failures
                for job, completion in zip(ask.jobs, found, strict=True):
                    yield job, ask.step, replace(completion, seconds=share)
                    if extend is None or has_failed(completion):
                        continue
                    if (ids := extend(job, ask.step, completion)) is not None:
                        context = (*ask.context, *completion.tokens, *ids)
                        more.append(Ask((job,), ask.step + 1, context))
                if failures == GIVE_UP:
                    raise ValueError(
                        f"{self.client.url} failed {failures} requests in a row, the last with "
                        f"{found[0].finish}; what was done is kept: run the same again"
                    )

    def _requests(self, jobs: Iterable[Job], plan: Plan) -> Iterator[Ask]:
        """Yield first requests: `MOST_CHOICES` chains of a prompt in one where `n` is honoured."""
        group: list[Job] = []
        for job in jobs:
            if self.honoured is None:
                at = cast(Any, job.prompt)
                self.endpoint = with_neutral_fields(self._once, self.endpoint, plan, at)
                self.honoured = probe(self._once, self.endpoint, plan, at)
            if group and (job.problem, job.prompt) != (group[0].problem, group[0].prompt):
                yield Ask(tuple(group), 0, group[0].prompt)
                group = []
            group.append(job)
            if len(group) == (MOST_CHOICES if self.honoured.n else 1):
                yield Ask(tuple(group), 0, job.prompt)
                group = []
        if group:
            yield Ask(tuple(group), 0, group[0].prompt)

    def _check_answers(self, plan: Plan) -> None:
        """Raise ValueError where a server refuses an easy question as well as a real prompt.

        Then not the prompt is at fault, but something that all requests have in common.
        """
        try:
            self._once(self.endpoint.request(plan, (EASY,), 0), plan)
        except Failed as error:
            raise ValueError(
                f"{self.client.url} refuses every request ({error}): change what they have in "
                "common, such as --max-new-tokens, --request or --served-name"
            ) from error

    def _once(
        self, body: dict[str, Any], plan: Plan | None = None, cached: bool = False
    ) -> list[Completion]:
        answer = self.client.ask(self.endpoint.path, body)
        return self.endpoint.completions(answer, plan or Plan(), cached)

    def _complete(self, ask: Ask, plan: Plan) -> list[Completion]:
        """Return a completion per chain.

        Choices that the server leaves out are asked for again, those of a request that it refuses
        or that cannot be counted one by one.
        """
        found: list[Completion] = []
        logprobs = bool(self.honoured and self.honoured.logprobs)
        most = len(ask.jobs)
        while left := ask.jobs[len(found) :][:most]:
            body = self.endpoint.request(
                plan, ask.context, seed_of(plan, left[0], ask.step), len(left), logprobs
            )
            try:
                found += self._once(body, plan, cached=ask.step > 0)[: len(left)]
            except Failed as error:
                final = isinstance(error, Refused)
                if len(left) > 1 and (final or isinstance(error, Unreadable)):
                    most = 1  # one of the choices may be at fault, or their number
                else:
                    found += [failed_completion(str(error), final)] * len(left)
        return found


def _note(answers: SimpleQueue, ask: Ask, begun: float, future: Future) -> None:
    answers.put((ask, begun, future))


def seed_of(plan: Plan, job: Job, step: int) -> int:
    """Return a sample's seed, 31 bits: servers take no more."""
    return row_key(plan.seed, job.problem, job.chain, step) & 0x7FFFFFFF


def has_failed(completion: Completion) -> bool:
    """Return whether a completion is only the reason why there is none."""
    return completion.finish.startswith("error")


def alike(frame: Any) -> tuple[int, int]:
    """Return (problems whose drafts are all the same text, problems with SEVERAL) of a log."""
    good = frame[(frame["step"] == 0) & ~frame["finish"].str.startswith("error")]
    texts = good.groupby("problem")["text"].agg(["size", "nunique"])
    several = texts[texts["size"] >= SEVERAL]
    return int((several["nunique"] == 1).sum()), len(several)


def failed_completion(reason: str, final: bool = False) -> Completion:
    """Return the row of a request without an answer; final: it will never have one."""
    finish = f"{FINAL if final else 'error'}: {reason}"
    return Completion((), math.nan, math.nan, finish, 0, 0, 0, 0.0)

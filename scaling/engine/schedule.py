"""Assign chains to rows: schedule, prefill or decode, postprocess.

Rows 0..n-1 are active and decode together; a finished row is refilled, or the last row moves into
its place. Prompts have slots of their own, so that a thousand chains share one prefill. A store
that `shares_contexts` computes rows with equal contexts once; rows are then left empty while enough
others are active, because chains that start together share more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from scaling.engine.draw import row_key, uniforms
from scaling.records import Completion, Plan

if TYPE_CHECKING:
    from scaling.engine import Engine

PREFILL_TOKENS = 16384  #: most tokens (padding included) of one prefill call

ROW = np.dtype(
    [
        ("key", "u8"),  # of the row's stream of uniforms
        ("length", "i8"),  # context before the step's first new token
        ("count", "i8"),  # new tokens of this step
        ("cap", "i8"),  # most new tokens of this step
        ("last", "i8"),  # the newest token, not yet in the cache
        ("stopped", "?"),  # the newest token is a stop token
        ("logprob", "f8"),  # sums over this step, nats
        ("sampling_logprob", "f8"),
        ("began", "f8"),  # value of the clock at admission
    ]
)


class Job(NamedTuple):
    """One chain to sample: jobs that share a prompt should follow each other."""

    problem: str  #: Problem.id, part of the row's random key
    chain: int
    prompt: tuple[int, ...]  #: token ids


Extend = Callable[[Job, int, Completion], Sequence[int] | None]


@dataclass
class Chain:
    """A job in progress, with the context of its present step."""

    job: Job
    step: int
    context: tuple[int, ...]
    num_cached_tokens: int  #: tokens of the context that earlier steps computed


@dataclass(eq=False)
class Prompt:
    """A prefilled context: its slot, its next-token logits, and how many still need the slot."""

    context: tuple[int, ...]
    slot: int
    users: int
    logits: torch.Tensor | None = None


class Schedule:
    """One run of the engine over a stream of jobs."""

    def __init__(
        self, engine: Engine, plan: Plan, jobs: Iterable[Job], extend: Extend | None
    ) -> None:
        if plan.stop and engine.decode is None:
            raise ValueError(f"stop is {plan.stop}; an engine needs decode=lm.decode to see text")
        self.engine, self.plan, self.extend = engine, plan, extend
        self.stop_window = (
            4 * max(map(len, plan.stop), default=0) + 4
        )  #: newest tokens to search for a stop string
        self.jobs = (Chain(engine.checked(job), 0, job.prompt, 0) for job in jobs)
        self.waiting: deque[Chain] = deque()  #: preempted chains, which precede the jobs
        self.clock = 0.0  #: seconds per row in flight, summed over calls
        self.max_rows = engine.max_rows
        self._reset()

    def run(self) -> Iterator[tuple[Job, int, Completion]]:
        """Yield each completed step; the order depends on the schedule, the content does not."""
        while True:
            yield from self._postprocess()
            try:
                if not self._step():
                    self.engine.keep_store(self.store)
                    return
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                if self.rows == 1:
                    raise ValueError(f"one row does not fit in memory: {error}") from error
                self.max_rows = self.rows // 2
                self._preempt()

    def _reset(self) -> None:
        """Empty every row and slot; the next admission opens a new store."""
        self.store: Any = None
        self.rows = 0
        self.chains: list[Chain] = []  #: of each live row
        self.prompt_of: list[Prompt | None] = []
        self.finished: list[int] = []  #: rows whose step is complete
        self.ended: dict[int, str] = {}  #: finished row -> the stop string that it wrote
        self.empty_rows: list[int] = []  #: rows whose chain has ended
        self.new_rows: list[int] = []  #: rows without a first token
        #: row -> tokens that extend its context; () where another row of that context has them
        self.extensions: dict[int, tuple[int, ...]] = {}
        self.prompts: dict[tuple[int, ...], Prompt] = {}
        self.current_prompt: Prompt | None = None

    def _preempt(self) -> None:
        """Return every active chain to the queue; its step restarts, and draws the same tokens."""
        alive = [chain for row, chain in enumerate(self.chains) if row not in self.empty_rows]
        self.waiting.extendleft(reversed(alive))
        self._reset()

    def _open_store(self, chain: Chain) -> None:
        """Open a store in which `chain` fits, and as many rows as the memory cap allows."""
        steps = self.plan.steps if self.extend else 1
        wanted = len(chain.context) + max(steps - chain.step, 1) * self.plan.max_new_tokens
        self.capacity = min(wanted, self.engine.context)
        self.rows, spare = self.engine.rows_for(self.capacity, self.max_rows)
        self.store = self.engine.take_store(self.rows + spare, self.capacity)
        self.free_slots = list(range(self.rows, self.rows + spare))
        self.state = np.zeros(self.rows, ROW)
        self.tokens = np.zeros((self.rows, self.plan.max_new_tokens), np.int64)

    def _fits(self, chain: Chain) -> bool:
        needed = min(len(chain.context) + self.plan.max_new_tokens, self.engine.context)
        return self.store is not None and needed <= self.capacity

    # -- finishing ---------------------------------------------------------------------------------

    def _postprocess(self) -> Iterator[tuple[Job, int, Completion]]:
        """Yield finished steps; extend the context of each row, or mark the row as empty."""
        finished, self.finished = self.finished, []
        for row in finished:
            chain, completion = self.chains[row], self._completion(row)
            yield chain.job, chain.step, completion
            ids = self.extend(chain.job, chain.step, completion) if self.extend else None
            if ids is None:
                self._retire(row)
                continue
            context = chain.context + completion.tokens + self.engine.checked_ids(ids)
            num_cached_tokens = completion.prompt_tokens + completion.completion_tokens - 1
            chain = Chain(chain.job, chain.step + 1, context, num_cached_tokens)
            if len(context) == num_cached_tokens:
                raise ValueError(f"step {chain.step} of {chain.job[:2]} appends no token; give one")
            if len(context) < self.engine.context:
                self.chains[row], self.extensions[row] = chain, context[num_cached_tokens:]
            else:
                empty = Completion((), 0.0, 0.0, "length", len(context), len(context), 0, 0.0)
                yield chain.job, chain.step, empty
                self._retire(row)
        if self.extensions and self.store.shares_contexts:
            self._join(finished)

    def _join(self, finished: list[int]) -> None:
        """Merge rows that continue one context, so that it is computed once."""
        first: dict[tuple[int, ...], int] = {}
        for row in filter(self.extensions.__contains__, finished):
            leader = first.setdefault(self.chains[row].context, row)
            if row == leader:
                self.store.detach(row, self.chains[row].num_cached_tokens)
            else:
                self.store.follow(row, leader)
                self.extensions[row] = ()

    def _completion(self, row: int) -> Completion:
        state = self.state[row]
        count, stopped = int(state["count"]), bool(state["stopped"])
        return Completion(
            tokens=tuple(self.tokens[row, : count - stopped].tolist()),
            logprob=float(state["logprob"]),
            sampling_logprob=float(state["sampling_logprob"]),
            finish="stop" if stopped or row in self.ended else "length",
            prompt_tokens=int(state["length"]),
            cached_tokens=self.chains[row].num_cached_tokens,
            completion_tokens=count,
            seconds=self.clock - float(state["began"]),
            stop_token=int(state["last"]) if stopped else -1,
            stop_string=self.ended.pop(row, ""),
        )

    def _retire(self, row: int) -> None:
        self.empty_rows.append(row)
        self._release(self.prompt_of[row])
        self.prompt_of[row] = None

    def _release(self, prompt: Prompt | None) -> None:
        """Drop one use of a prompt; the last one frees its slot."""
        if prompt is None:
            return
        prompt.users -= 1
        if not prompt.users:
            self.free_slots.append(prompt.slot)
            del self.prompts[prompt.context]

    # -- admitting ---------------------------------------------------------------------------------

    @torch.inference_mode()
    def _step(self) -> bool:
        """Refill rows, then prefill new contexts or else decode; return False when all is done."""
        if not all(self._fits(self.chains[row]) for row in self.extensions):
            self._preempt()
        self._schedule()
        if not self.chains:
            return False
        if self.new_rows or self.extensions:
            self._prefill()
        else:
            self._decode()
        return True

    def _schedule(self) -> None:
        """Assign waiting chains to empty and unused rows; the last rows fill what stays empty."""
        self.empty_rows.sort(reverse=True)
        done = [*self.empty_rows, *self.extensions]
        if done and self.store.shares_contexts:
            state = self.state[: len(self.chains)]
            self.store.inherit(done, state["length"] + state["count"] - 1)
        waits = self._holds_back()
        while not waits and (self.store is None or self.empty_rows or len(self.chains) < self.rows):
            chain = self.waiting.popleft() if self.waiting else next(self.jobs, None)
            if chain is None:
                break
            if not self._fits(chain):
                self._preempt()
                self.waiting.append(chain)  # stays there if the store does not fit in memory
                self._open_store(chain)
                self.waiting.pop()
            if not self._admit(chain):
                self.waiting.appendleft(chain)
                break
        for row in self.empty_rows:
            self._move(len(self.chains) - 1, row)
        self.empty_rows = []

    def _holds_back(self) -> bool:
        """Return whether to leave rows empty for now: chains that start together share more."""
        if self.store is None or not self.store.shares_contexts or self.plan.stop_after_correct:
            return False
        return len(self.chains) - len(self.empty_rows) > self.store.busy

    def _admit(self, chain: Chain) -> bool:
        """Give a chain a row and its context a slot; return False if none is free."""
        prompt = self.prompts.get(chain.context)
        if self.current_prompt is not None and prompt is not self.current_prompt:
            self._release(self.current_prompt)
            self.current_prompt = None
        if prompt is None:
            if not self.free_slots:
                return False
            prompt = self.prompts[chain.context] = Prompt(chain.context, self.free_slots.pop(), 0)
        if self.current_prompt is None:
            prompt.users += 1
            self.current_prompt = prompt
        prompt.users += 1
        row = self.empty_rows.pop() if self.empty_rows else len(self.chains)
        if row == len(self.chains):
            self.chains.append(chain)
            self.prompt_of.append(prompt)
        self.chains[row], self.prompt_of[row] = chain, prompt
        self.new_rows.append(row)
        return True

    def _move(self, source: int, row: int) -> None:
        """Move the last row into an empty one, and drop the last."""
        if source != row:
            length = int(self.state[source]["length"] + self.state[source]["count"])
            self.store.move(source, row, length)
            self.state[row], self.tokens[row] = self.state[source], self.tokens[source]
            self.chains[row], self.prompt_of[row] = self.chains[source], self.prompt_of[source]
            if source in self.extensions:
                self.extensions[row] = self.extensions.pop(source)
        self.chains.pop()
        self.prompt_of.pop()

    # -- computing ---------------------------------------------------------------------------------

    def _prefill(self) -> None:
        """Compute new prompts and continued contexts, and draw the first token of their rows."""
        start = time.perf_counter()
        prompts = [self.prompts[self.chains[row].context] for row in self.new_rows]
        new = [p for p in dict.fromkeys(prompts) if p.logits is None]
        work: list[Any] = [(p.slot, p.context, 0) for p in new]
        leads = [row for row, ids in self.extensions.items() if ids]
        work += [(row, self.extensions[row], self.chains[row].num_cached_tokens) for row in leads]
        parts = [self.store.prefill(*zip(*batch, strict=True)) for batch in batches(work)]
        computed = [row for part in parts for row in part]
        for prompt, row_logits in zip(new, computed, strict=False):
            prompt.logits = row_logits
        logits = [p.logits for p in prompts if p.logits is not None]
        contexts = [self.chains[row].context for row in leads]
        of = dict(zip(contexts, computed[len(new) :], strict=True))
        logits += [of[self.chains[row].context] for row in self.extensions]
        for row, prompt in zip(self.new_rows, prompts, strict=True):
            self._adopt(row, prompt)
        rows = np.array(self.new_rows + list(self.extensions))
        self.new_rows, self.extensions = [], {}
        for row in rows:
            chain = self.chains[row]
            key = row_key(self.plan.seed, chain.job.problem, chain.job.chain, chain.step)
            cap = min(self.plan.max_new_tokens, self.engine.context - len(chain.context))
            self.state[row] = (key, len(chain.context), 0, cap, 0, False, 0.0, 0.0, self.clock)
        self._draw(rows, torch.stack(logits))
        self.state["began"][rows] -= (time.perf_counter() - start) / len(rows)

    def _adopt(self, row: int, prompt: Prompt) -> None:
        """Give a row its prompt's keys and values; where they are copied, release the prompt."""
        self.store.adopt(prompt.slot, row, len(prompt.context))
        if not self.store.shares_prefixes:
            self._release(prompt)
            self.prompt_of[row] = None

    def _decode(self) -> None:
        """Append each row's newest token to its context and draw the next few tokens."""
        start, n = time.perf_counter(), len(self.chains)
        drawn = self.store.advance(self.state[:n], self.plan, self.engine.is_stop)
        self.clock += (time.perf_counter() - start) / n
        self._record(np.arange(n), *drawn)

    def _draw(self, rows: np.ndarray, logits: torch.Tensor) -> None:
        """Draw the first token of each of `rows`."""
        uniform = torch.from_numpy(uniforms(self.state["key"][rows], np.zeros(len(rows))))
        tokens, *sums = self.store.draw(logits, uniform.to(logits.device), self.plan)
        sums = torch.stack(sums, 1).cpu().numpy()
        self._record(rows, tokens.cpu().numpy()[:, None], np.ones(len(rows), np.int64), sums)

    def _record(
        self, rows: np.ndarray, tokens: np.ndarray, made: np.ndarray, sums: np.ndarray
    ) -> None:
        """Record `made` new tokens of each of `rows`, and the rows that are finished.

        tokens (rows, steps), valid up to `made`; sums (rows, 2): log-probabilities of these tokens.
        """
        state = self.state[rows]
        if not np.isfinite(sums[:, 0]).all():
            row = int(np.flatnonzero(~np.isfinite(sums[:, 0]))[0])
            chain, token = self.chains[rows[row]], state["count"][row] + made[row] - 1
            raise ValueError(
                f"logits are not finite: problem {chain.job.problem!r}, chain {chain.job.chain}, "
                f"step {chain.step}, token {token}; check the weights, or try dtype='float32'"
            )
        for step in range(tokens.shape[1]):
            alive = step < made
            self.tokens[rows[alive], state["count"][alive] + step] = tokens[alive, step]
        state["count"] += made
        state["last"] = tokens[np.arange(len(rows)), made - 1]
        state["stopped"] = self.engine.is_stop[state["last"]]
        state["logprob"] += sums[:, 0]
        state["sampling_logprob"] += sums[:, 1]
        self.state[rows] = state
        done = state["stopped"] | (state["count"] >= state["cap"])
        if self.plan.stop:
            done |= [self._wrote_stop(*pair) for pair in zip(rows, state, strict=True)]
        self.finished = rows[done].tolist()

    def _wrote_stop(self, row: int, state: np.void) -> bool:
        """Return whether the newest token of a row completes a stop string, and note which."""
        assert self.engine.decode is not None
        count = int(state["count"] - state["stopped"])
        text = self.engine.decode(
            self.tokens[row, max(count - self.stop_window, 0) : count].tolist()
        )
        found = [stop for stop in self.plan.stop if stop in text]
        if found and not state["stopped"]:
            self.ended[int(row)] = min(found, key=text.index)
        return bool(found)


def is_shortage(error: Exception) -> bool:
    """Return whether an error means that memory ran out; a CPU's allocator only has a message."""
    message_says = "allocate memory" in str(error) or "not enough memory" in str(error)
    return message_says or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def batches(work: list[tuple[int, Sequence[int], int]]) -> Iterator[list[Any]]:
    """Yield prefill work in calls of at most PREFILL_TOKENS tokens, padding included."""
    batch: list[Any] = []
    for item in work:
        width = max(len(ids) for _, ids, _ in [*batch, item])
        if batch and width * (len(batch) + 1) > PREFILL_TOKENS:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch

"""Sample many problems by one method on one engine: run the methods' generators in turns."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from scaling.methods.chains import Process, Question
from scaling.methods.search import Scorer, checked_scores
from scaling.methods.table import METHODS, check_plan
from scaling.records import Completion, Plan, Problem, Sample
from scaling.tasks import STEP_END, Task

if TYPE_CHECKING:
    from scaling.engine import Engine
    from scaling.models import LM

TOGETHER = 64  #: problems that take turns if a method asks in rounds
REMEMBERED = 4096  #: texts and verdicts that are looked up: chains of a problem often end the same
Drawn = Iterator[tuple[Problem, list[Sample]]]


def draw(
    lm: LM,
    task: Task,
    problems: Sequence[Problem],
    plan: Plan,
    engine: Engine,
    scorer: Scorer | None = None,
) -> Drawn:
    """Yield each problem with all its verified samples, in no fixed order.

    Errors: ValueError for a plan that the method, the model or the server cannot do.
    """
    check_plan(plan)
    check_stop(plan, lm)
    method = METHODS[plan.method]
    if not hasattr(lm, "tokenizer") and (method.rounds or plan.history):
        what = plan.method if method.rounds else "history"
        names = ", ".join(name for name, other in METHODS.items() if not other.rounds)
        raise ValueError(
            f"{what} cuts contexts token by token, and a server gives texts; from a server sample "
            f"{names}, all drafts in view"
        )
    if method.is_search:
        if not (scorer or plan.scorer):
            raise ValueError(f"{plan.method} needs a scorer: name its folder, or hand one over")
        from scaling.methods.scorers import load_scorer

        scorer = scorer or load_scorer(plan.scorer)
        engine = stopping_at(engine, lm.encode(STEP_END))
    elif method.needs_skill and plan.method not in lm.skills:
        warnings.warn(
            f"the card of {lm.card.name} does not say that it was trained for {plan.method}; "
            "it is sampled as it is",
            stacklevel=2,
        )
    remember = lru_cache(REMEMBERED)
    encode, decode, verify = remember(lm.encode), remember(lm.decode), remember(task.verify)

    def begin(problem: Problem) -> Turn:
        prompt, limit = encode(task.prompt(problem)), getattr(engine, "context", 0)
        known = prompt, plan, task, limit, encode, decode, verify, scorer
        return Turn(problem, method.sample(Question(problem, *known)))

    size = max(1, len(problems)) if method.asks_once(plan) else TOGETHER
    in_place = not (method.rounds or plan.history)
    groups = [problems[start : start + size] for start in range(0, len(problems), size)]
    return chain.from_iterable(
        _take_turns(map(begin, group), plan, engine, encode if in_place else None, scorer)
        for group in groups
    )


def check_stop(plan: Plan, lm: LM) -> None:
    """Raise ValueError for a stop string that can never match."""
    for stop in plan.stop:
        written = lm.decode(lm.encode(f"a{stop}a"))
        if stop not in written:
            raise ValueError(
                f"stop string {stop!r} can never match: the tokenizer of {lm.card.name} writes "
                f"{written[1:-1]!r} for it; give one that it can write"
            )


def stopping_at(engine: Engine, ids: Sequence[int]) -> Engine:
    """Return the engine with one more token that ends a completion."""
    if len(ids) > 1:
        raise ValueError(f"{STEP_END!r} is {len(ids)} tokens here; a step must end by one")
    engine = copy.copy(engine)
    engine.is_stop = engine.is_stop.copy()
    engine.is_stop[list(ids)] = True
    return engine


@dataclass(eq=False)
class Turn:
    """One problem that is being sampled: its method's requests, and the answers so far."""

    problem: Problem
    process: Process
    request: list[Any] = field(default_factory=list)  #: asks, or texts to score; empty at the end
    answers: list[Any] = field(default_factory=list)
    unanswered: int = 0
    rows: list[Sample] = field(default_factory=list)  #: once it has ended

    @property
    def wants_scores(self) -> bool:
        """Return whether the request is texts to score."""
        return isinstance(self.request[0], str)

    def resume(self, answers: Any) -> Turn:
        """Send the answers to the method, and receive its next request or its rows."""
        self.request = []
        try:
            while not self.request:  # a request of nothing is answered at once
                self.request, answers = self.process.send(answers), []
        except StopIteration as end:
            self.rows = end.value
        self.answers, self.unanswered = [None] * len(self.request), len(self.request)
        return self


def _take_turns(
    turns: Iterable[Turn],
    plan: Plan,
    engine: Engine,
    encode: Callable[[str], Any] | None,
    scorer: Scorer | None,
) -> Drawn:
    """Yield each problem as it ends. A round is one call of the engine, then one of the scorer."""
    going: dict[Turn, None] = {}  # turns of this round, in the order of the problems

    def begun() -> Iterator[Turn]:
        for turn in turns:
            going[turn.resume(None)] = None
            yield turn

    def ended(turns: Iterable[Turn]) -> Drawn:
        for turn in turns:
            if not turn.request:
                del going[turn]
                yield turn.problem, turn.rows

    asking: Iterable[Turn] = begun()
    while asking or going:
        yield from ended(_ask(asking, plan, engine, encode))
        yield from ended(_score([turn for turn in going if turn.wants_scores], scorer))
        asking = [turn for turn in going if not turn.wants_scores]
        if asking and (cap := asking[0].request[0].max_new_tokens):
            plan = replace(plan, max_new_tokens=cap)


def _ask(
    turns: Iterable[Turn], plan: Plan, engine: Engine, encode: Callable[[str], Any] | None
) -> Iterator[Turn]:
    """Yield each turn once all its asks are answered and sent to the method.

    encode: where chains continue in place, else None.
    """
    from scaling.engine import Job

    places: dict[tuple[str, int], tuple[Turn, int]] = {}
    suffixes: dict[tuple[str, int], str] = {}
    answered: list[Turn] = []

    def count(turn: Turn) -> None:
        turn.unanswered -= 1
        if not turn.unanswered:
            answered.append(turn)

    def jobs() -> Iterator[Job]:
        for turn, place in _in_order(turns, plan.stop_after_correct):
            ask = turn.request[place]
            if ask.needed and not ask.needed():
                count(turn)
                continue
            name = turn.problem.id + ask.key
            places[name, ask.chain] = turn, place
            yield Job(name, ask.chain, ask.context)

    def extend(job: Job, step: int, completion: Completion) -> Any:
        suffix = suffixes.pop(job[:2], None)
        return None if suffix is None or encode is None else encode(suffix)

    for job, step, completion in engine.generate(jobs(), plan, *([extend] if encode else [])):
        key = job[:2]
        turn, place = places[key]
        after = turn.request[place].after
        suffix = after(step, completion) if after else None
        if suffix is not None and completion.completion_tokens:
            suffixes[key] = suffix
            continue
        turn.answers[place] = completion
        del places[key]
        count(turn)
        while answered:
            turn = answered.pop()
            yield turn.resume(turn.answers)
    for turn in answered:
        yield turn.resume(turn.answers)


def _in_order(turns: Iterable[Turn], block: int) -> Iterator[tuple[Turn, int]]:
    """Yield (turn, place of an ask) in the order of drawing: turn by turn where block is 0.

    Else `TOGETHER` turns alternate, `block` asks each, so that later asks may not be needed.
    """
    turns = iter(turns)
    while group := list(islice(turns, TOGETHER if block else 1)):
        most = max(len(turn.request) for turn in group)
        size = block or most
        for first in range(0, most, size):
            for turn in group:
                for place in range(first, min(first + size, len(turn.request))):
                    yield turn, place


def _score(turns: Sequence[Turn], scorer: Scorer | None) -> Iterator[Turn]:
    """Score the texts of all turns in one call, send each its scores, and yield it."""
    if not turns or scorer is None:
        return
    pairs = [(turn.problem, text) for turn in turns for text in turn.request]
    scores = iter(checked_scores(scorer, pairs))
    for turn in turns:
        yield turn.resume(list(islice(scores, len(turn.request))))

"""Try what a server really does with a request, before a sweep is paid for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.markers import ends_unopened, is_thinking
from scaling.records import Completion, Plan
from scaling.serving.client import Failed, Refused
from scaling.serving.protocol import Endpoint

#: seeds that must not give equal texts; those of a run are as large. A server that keeps 16 bits of
#: a seed, halves it, takes it modulo 2 or limits its size gives some of them the same text
SEEDS = (2, 3, 2**16 + 2, 2**31 - 1)
HOT = 2.0  #: the highest temperature of the protocol
LENGTH = 64  #: most tokens of a trial
THINKING = 1024  #: most tokens of a trial of how a chat template begins
EASY = "What is 1 + 1? Answer with the number alone."

Ask = Callable[[dict[str, Any]], list[Completion]]


@dataclass(frozen=True)
class Honoured:
    """What a server does with a request's fields."""

    n: bool  #: several choices, all different, each countable
    logprobs: bool  #: log-probabilities of the sampled tokens
    opens_thinking: bool = False  #: its chat template opens the thinking that a text then ends


def probe(ask: Ask, endpoint: Endpoint, plan: Plan, context: Sequence[str]) -> Honoured:
    """Return what the server honours, tried on a real prompt.

    A model may be sure of itself: equal texts are tried again at the highest temperature, then with
    half a prompt, where many continuations are likely. Warns of seeds, choices and caches that do
    not do what they should. Errors: ValueError when the server does not answer, or gives every seed
    the same text even then, although the plan samples.
    """
    short = replace(plan, max_new_tokens=min(plan.max_new_tokens, LENGTH))
    hot = replace(short, temperature=HOT, top_p=1.0, top_k=0, min_p=0.0)
    greedy = replace(short, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)

    def trial(plan: Plan, seed: int, at: Sequence[str], **more: Any) -> list[Completion]:
        return ask(endpoint.request(plan, at, seed, **more))

    try:
        first = _greedy(trial, greedy, context)
        if first is None and _refuses(trial, short, context):
            context = (EASY,)  # the fault may be that prompt's own: the others are sampled anyway
            first = _greedy(trial, greedy, context)
        half = (context[0][: (len(context[0]) + 1) // 2],)
        found: dict[int, tuple[Plan, Sequence[str]]] = {}  # different texts -> where they came
        for settings, at in ((short, context), (hot, context), (hot, half)):
            texts = {trial(settings, seed, at)[0].tokens for seed in SEEDS}
            found.setdefault(len(texts), (settings, at))
            if len(texts) == len(SEEDS) or not plan.temperature:
                break
    except Failed as error:
        raise ValueError(f"the server does not answer a plain request: {error}") from error
    distinct = max(found)
    if plan.temperature and distinct == 1:
        same = str(texts.pop()[0])[:40]
        raise ValueError(
            f"{len(SEEDS)} seeds gave the same text {same!r}, even at temperature {HOT} and after "
            "half a prompt: this server does not sample; with `transformers serve`, set "
            '"do_sample": true in the model\'s generation_config.json'
        )
    if plan.temperature and distinct < len(SEEDS):
        warnings.warn(
            f"{len(SEEDS)} seeds gave only {distinct} different texts, even at temperature {HOT} "
            "and after half a prompt: some seeds collide on this server, and samples may be copies",
            stacklevel=2,
        )
    honoured = Honoured(
        n=bool(plan.temperature) and _honours_n(trial, (found[distinct], (hot, half)), distinct),
        logprobs=_honours_logprobs(trial, short, context),
        opens_thinking=endpoint.api == "chat" and _opens_thinking(trial, plan),
    )
    if (again := _greedy(trial, greedy, context)) != first:
        warnings.warn(
            f"greedy decoding gave {str(first)[:40]!r} first and {str(again)[:40]!r} later for one "
            "prompt: a cache or the batch changes what this server writes, and its samples cannot "
            "be repeated; with llama.cpp, --request '{\"cache_prompt\": false}'",
            stacklevel=2,
        )
    return honoured


def _greedy(trial: Callable[..., list[Completion]], plan: Plan, at: Sequence[str]) -> str | None:
    """Return what the server writes greedily; None where it refuses to."""
    try:
        return str(trial(plan, SEEDS[0], at)[0].tokens[0])
    except Failed:
        return None


def _refuses(trial: Callable[..., list[Completion]], plan: Plan, at: Sequence[str]) -> bool:
    try:
        trial(plan, SEEDS[0], at)
    except Refused:
        return True
    return False


def _honours_n(
    trial: Callable[..., list[Completion]],
    places: Sequence[tuple[Plan, Sequence[str]]],
    distinct: int,
) -> bool:
    """Return whether choices of one request differ as samples of different seeds do, or warn."""
    most = 0
    for plan, at in places:
        try:
            found = trial(plan, SEEDS[0], at, n=len(SEEDS), logprobs=True)
        except Failed:
            return False
        if len(found) < len(SEEDS) or any(one.logprob != one.logprob for one in found):
            return False  # fewer than asked for, or without a count of tokens
        most = max(most, len({one.tokens for one in found}))
        if most >= distinct:
            return True
    warnings.warn(
        f"n={len(SEEDS)} gave only {most} different texts where {len(SEEDS)} seeds gave {distinct}:"
        " choices of one request are copies on this server; every sample gets its own request",
        stacklevel=3,
    )
    return False


def _honours_logprobs(
    trial: Callable[..., list[Completion]], plan: Plan, at: Sequence[str]
) -> bool:
    try:
        (found,) = trial(plan, SEEDS[0], at, logprobs=True)
    except (Failed, ValueError):
        return False
    return found.logprob == found.logprob


def _opens_thinking(trial: Callable[..., list[Completion]], plan: Plan) -> bool:
    """Return whether a text ends a thinking that it did not open, tried on an easy question.

    A model that does not think answers it in a few tokens; one that does soon comes to its end.
    """
    try:
        for seed in SEEDS[:2]:
            (found,) = trial(replace(plan, max_new_tokens=THINKING, stop=()), seed, (EASY,))
            text = str(found.tokens[0])
            if found.finish == "stop" or is_thinking(text):
                return ends_unopened(text)
    except Failed:
        pass
    return False

"""Ask a server what it really honours, before a sweep is paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.records import Completion, Plan
from scaling.serving.client import Failed
from scaling.serving.protocol import Endpoint

TRIES = 4  #: samples of one prompt that must not all be equal
HOT = 2.0  #: the highest temperature of the protocol: no model is so sure of itself
LENGTH = 64  #: most tokens of a trial

Ask = Callable[[dict[str, Any]], list[Completion]]


@dataclass(frozen=True)
class Honoured:
    """What a server does with a request's fields."""

    n: bool  #: several choices, all different, each countable
    logprobs: bool  #: log-probabilities of the sampled tokens


def probe(ask: Ask, endpoint: Endpoint, plan: Plan, context: Sequence[str]) -> Honoured:
    """Return what the server honours, tried on a real prompt.

    A model may be sure of itself: equal texts are tried again at the highest temperature, then with
    half a prompt, which leaves it open what comes. Errors: ValueError when the server does not
    answer, or gives every seed the same text even then, although the plan samples.
    """
    short = replace(plan, max_new_tokens=min(plan.max_new_tokens, LENGTH))
    hot = replace(short, temperature=HOT, top_p=1.0, top_k=0, min_p=0.0)
    half = (context[0][: (len(context[0]) + 1) // 2],)

    def trial(plan: Plan, seed: int, at: Sequence[str] = context, **more: Any) -> list[Completion]:
        return ask(endpoint.request(plan, at, seed, **more))

    try:
        for settings, at in ((short, context), (hot, context), (hot, half)):
            texts = {trial(settings, seed, at)[0].tokens for seed in range(1, TRIES + 1)}
            if len(texts) > 1 or not plan.temperature:
                break
    except Failed as error:
        raise ValueError(f"the server does not answer a plain request: {error}") from error
    if plan.temperature and len(texts) == 1:
        same = str(texts.pop()[0])[:40]
        raise ValueError(
            f"{TRIES} seeds gave the same text {same!r}, even at temperature {HOT} and after half "
            "a prompt: this server does not sample; with `transformers serve`, set "
            '"do_sample": true in the model\'s generation_config.json'
        )
    return Honoured(
        n=bool(plan.temperature) and _honours_n(trial, hot),
        logprobs=_honours_logprobs(trial, short),
    )


def _honours_n(trial: Callable[..., list[Completion]], hot: Plan) -> bool:
    try:
        found = trial(hot, 1, n=TRIES, logprobs=True)
    except Failed:
        return False
    counted = all(one.logprob == one.logprob for one in found)
    return counted and len(found) == TRIES and len({one.tokens for one in found}) > 1


def _honours_logprobs(trial: Callable[..., list[Completion]], plan: Plan) -> bool:
    try:
        (found,) = trial(plan, 1, logprobs=True)
    except (Failed, ValueError):
        return False
    return found.logprob == found.logprob

"""Turn off sampling settings that a server would add by itself to those of a plan.

llama.cpp's server samples from 40 tokens with `min_p` 0.05 unless a request says otherwise; vLLM
and SGLang take `top_k` and a repetition penalty from the model's generation_config.json. A pool
drawn with them is not the pool that the plan describes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from scaling.records import Completion, Plan
from scaling.serving.client import Failed, Refused
from scaling.serving.probe import EASY
from scaling.serving.protocol import Endpoint

#: fields of a request -> value at which they do nothing; -1 is understood by all three servers
CUTS = {"top_k": -1, "min_p": 0.0}
PENALTIES = {"repetition_penalty": 1.0, "repeat_penalty": 1.0}  #: of vLLM and SGLang; of llama.cpp


def with_neutral_fields(
    ask: Callable[[dict[str, Any]], list[Completion]],
    endpoint: Endpoint,
    plan: Plan,
    context: Sequence[str],
) -> Endpoint:
    """Return the endpoint whose requests also turn off what the plan leaves off.

    Fields that the server refuses are left out: it has no such settings. Those that the endpoint
    or the plan sets stay as they are. Errors: ValueError where the server does not answer.
    """
    short = replace(plan, max_new_tokens=min(plan.max_new_tokens, 16))
    for at in (context, (EASY,)):  # the prompt itself may be refused, as too long
        for fields in (CUTS | PENALTIES, CUTS, {}):
            off = {name: value for name, value in fields.items() if not getattr(plan, name, 0)}
            full = replace(endpoint, extra=off | endpoint.extra)
            try:
                ask(full.request(short, at, 1))
                return full
            except Refused:
                continue
            except Failed as error:
                raise ValueError(f"the server does not answer a plain request: {error}") from error
    return endpoint

"""The OpenAI protocol, both ways: a chain's texts to a request, an answer to completions.

Texts stand where the in-process engine has token ids: a context is (prompt, draft, suffix, draft,
...), joined for /completions, turns of user and assistant for /chat/completions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from scaling.markers import MARK, is_thinking
from scaling.records import FINAL, Completion, Plan, turns_of, with_system
from scaling.serving.client import Failed

APIS = ("completions", "chat")
STOPPED = (  #: what servers call the end of an answer; a call of a tool ends one without answer
    "stop", "eos", "eos_token", "stop_sequence", "stop_token", "end_turn", "completed", "complete",
    "tool_calls", "tool_use", "function_call",
)  # fmt: skip
CUT = ("length", "max_tokens", "max_new_tokens", "max_length", "model_length", "token_limit")
UNTOLD = ("", "null", "none", "unknown")
FILTERED = re.compile("filter|safety|moderat|recitation|prohibited|blocklist|spii|sensitive|refus")
THOUGHTS = (  #: fields of a message that hold its thinking; the first that is not empty is read
    "reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "thought",
)  # fmt: skip
TEXTS = ("text", "thinking", "reasoning", "content", "summary", "refusal")  #: of a part


class Unreadable(Failed):
    """An answer that cannot be read or counted."""


@dataclass(frozen=True)
class Endpoint:
    """What is asked of a server besides the prompt; all of it makes a run what it is."""

    model: str  #: the name under which the server has the model
    api: str = "completions"  #: plain continuation, or "chat": turns in the model's own template
    system: str = ""  #: system message of a chat
    extra: dict[str, Any] = field(default_factory=dict)  #: more fields of a request; None drops one

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise ValueError(f"api is {self.api!r}; allowed: {', '.join(APIS)}")
        if self.system and self.api != "chat":
            raise ValueError("a system message needs api='chat': plain completions have no turns")

    @property
    def path(self) -> str:
        """Return where requests go."""
        return "/chat/completions" if self.api == "chat" else "/completions"

    def request(
        self, plan: Plan, context: Sequence[str], seed: int, n: int = 1, logprobs: bool = False
    ) -> dict[str, Any]:
        """Return the body that asks for n completions of a context."""
        body: dict[str, Any] = {"model": self.model, "max_tokens": plan.max_new_tokens}
        body |= {"temperature": plan.temperature, "top_p": plan.top_p, "seed": seed}
        # beyond the standard, known to vLLM, SGLang and llama.cpp: sent only where they matter
        body |= {k: v for k in ("top_k", "min_p") if (v := getattr(plan, k))}
        body |= {"stop": list(plan.stop)} if plan.stop else {}
        body |= {"n": n} if n > 1 else {}
        turns = turns_of(context[0])
        if self.api == "chat":
            later = zip(cycle(("assistant", "user")), context[1:], strict=False)
            turns += [{"role": role, "content": text} for role, text in later]
            body["messages"] = with_system(self.system, turns)
            body |= {"logprobs": True} if logprobs else {}
        elif len(turns) > 1:
            raise ValueError("problems of several messages need --api chat")
        else:
            body["prompt"] = "".join(context)
            body |= {"logprobs": 1} if logprobs else {}
        return {k: v for k, v in (body | self.extra).items() if v is not None}

    def completions(self, answer: Any, plan: Plan, cached: bool = False) -> list[Completion]:
        """Return the completions of an answer; `Unreadable` for one that cannot be counted or read.

        The tokens of several choices are counted by their log-probabilities, since `usage` holds
        only their sum. cached: the context continues one that the server has seen before.
        """
        try:
            usage, choices = answer["usage"], answer["choices"]
            prompt, new, thought = token_counts(usage)
            details = usage.get("prompt_tokens_details") or {}
            known = min(int(details.get("cached_tokens") or 0), prompt) if cached else 0
            logprobs = [_logprobs(choice) for choice in choices]
            counts = [new] if len(choices) == 1 else [len(one) for one in logprobs]
            if len(choices) > 1 and (0 in counts or abs(sum(counts) - new) > len(choices)):
                raise ValueError("several choices, and no count of tokens for each")
            found = []
            for choice, one, count in zip(choices, logprobs, counts, strict=True):
                # tokens of hidden thinking have no log-probabilities: those of the rest are no sum
                complete = one and not (thought and len(one) <= new - thought + 1)
                logprob = math.fsum(one) if complete else math.nan
                text, cut = _text(choice, plan.stop)
                found.append(
                    Completion(
                        tokens=(text,),  # type: ignore[arg-type]
                        logprob=logprob,
                        sampling_logprob=logprob if is_plain(plan) else math.nan,
                        finish="stop" if cut else _finish(choice, count >= plan.max_new_tokens),
                        prompt_tokens=prompt,
                        cached_tokens=known,
                        completion_tokens=max(count, 1),
                        seconds=0.0,
                        thinking_tokens=thought if len(choices) == 1 else None,
                    )
                )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise Unreadable(f"answer is not understood ({what})") from error
        if not found:
            raise Unreadable("answer holds no choice")
        return found


def is_plain(plan: Plan) -> bool:
    """Return whether a plan samples from the model's own distribution."""
    return (plan.temperature, plan.top_p, plan.top_k, plan.min_p) == (1, 1, 0, 0)


def token_counts(usage: dict[str, Any]) -> tuple[int, int, int | None]:
    """Return (prompt tokens, new tokens, those of thinking among them; None where not reported).

    Some servers leave the tokens of thinking out of `completion_tokens` (xAI, Gemini): then
    `total_tokens` is larger than the sum, or there are more of them than of all new tokens.
    """
    prompt, new = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
    places = (usage.get("completion_tokens_details"), usage.get("output_tokens_details"), usage)
    told = [place["reasoning_tokens"] for place in places if place and "reasoning_tokens" in place]
    thought = None if not told or told[0] is None else int(told[0])
    outside = int(usage.get("total_tokens") or 0) - prompt - new
    if outside <= 0:
        outside = thought if thought and thought > new else 0
    if outside and thought is None:
        thought = outside
    return prompt, new + outside, None if thought is None else min(thought, new + outside)


def _logprobs(choice: dict[str, Any]) -> list[float]:
    """Return the log-probability of each token, nats; none where the server has none."""
    given = choice.get("logprobs") or {}
    if given.get("content"):
        return [float(token["logprob"]) for token in given["content"]]
    return [float(value) for value in given.get("token_logprobs") or ()]


def _text(choice: dict[str, Any], stop: Sequence[str]) -> tuple[str, bool]:
    """Return what the model wrote, thinking in tags, and whether a stop string cut it here.

    A server that ignores stop strings sends what follows them; they end an answer, no thinking.
    """
    if "message" not in choice:
        thought, text = "", choice["text"]
    else:
        message = choice["message"]
        thought, text = _parts(message.get("content"))
        thought = thought or next(filter(None, map(_plain, map(message.get, THOUGHTS))), "")
        text = text or message.get("refusal") or ""
    if not isinstance(text, str):
        raise TypeError(f"text is {text!r}")
    begin = max((mark.end() for mark in MARK.finditer(text)), default=0)
    ends = [at for string in stop if (at := text.find(string, begin)) >= 0]
    cut = bool(ends) and not is_thinking(text)
    text = text[: min(ends)] if cut else text
    if thought and not begin:  # else the text has its thinking in it already
        still = not text.strip() and choice.get("finish_reason") != "stop"
        text = f"<think>{thought}" + "</think>" * (not still) + text
    return text, cut


def _parts(content: Any) -> tuple[str, str]:
    """Return (thinking, text) of a message's content: a text, a list of parts, or none."""
    parts = content if isinstance(content, list) else [content or ""]
    found = {True: "", False: ""}
    for part in parts:
        kind = str(part.get("type", "text")) if isinstance(part, dict) else "text"
        if not re.search("text|refusal|think|reason|summary", kind):
            raise ValueError(f"a part of the content is of type {kind!r}")
        found[bool(re.search("think|reason|summary", kind))] += _plain(part)
    return found[True], found[False]


def _plain(value: Any) -> str:
    """Return the text of a part of a message, whatever it is wrapped in."""
    if isinstance(value, list):
        return "".join(map(_plain, value))
    if isinstance(value, dict):
        return next(filter(None, map(_plain, map(value.get, TEXTS))), "")
    return value if isinstance(value, str) else ""


def _finish(choice: dict[str, Any], full: bool) -> str:
    """Return how a completion ended; full: it has as many tokens as it may have."""
    reason = choice.get("finish_reason")
    name = str(reason or "").lower()
    if name in STOPPED:
        return "stop"
    if name in CUT or (name in UNTOLD and full):
        return "length"
    if name in UNTOLD:
        return "stop"
    if FILTERED.search(name):
        return f"{FINAL}: ended by the server's content filter ({reason})"
    return f"error: finished by {reason}"

"""The OpenAI protocol: a chain's texts become a request, an answer becomes completions.

Texts take the place of the in-process engine's token ids: a context is (prompt, draft, suffix,
draft, ...), joined for /completions, turns of user and assistant for /chat/completions.
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
FINISH: dict[str, str] = {  #: servers' names for the end of an answer; "": not reported
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "stop_token"), "stop"),
    **dict.fromkeys(("end_turn", "completed", "complete"), "stop"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), "stop"),  # without an answer
    **dict.fromkeys(("length", "max_tokens", "max_new_tokens", "max_length"), "length"),
    **dict.fromkeys(("model_length", "token_limit"), "length"),
    **dict.fromkeys(("", "null", "none", "unknown"), ""),
}
FILTERED = re.compile("filter|safety|moderat|recitation|prohibited|blocklist|spii|sensitive|refus")
THOUGHTS = (  #: fields of a message with its thinking; the first that is not empty is read
    "reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "thought",
)  # fmt: skip
TEXTS = ("text", "thinking", "reasoning", "content", "summary", "refusal")  #: of a part
THINKING = re.compile("think|reason|summary")  #: types of parts that are thinking
TEXT = re.compile("text|refusal")  #: types of parts that are not


class Unreadable(Failed):
    """An answer that cannot be read or counted."""


@dataclass(frozen=True)
class Endpoint:
    """The fields of a request that prompt and plan do not set; part of a run's identity."""

    model: str  #: the name under which the server has the model
    api: str = "completions"  #: plain continuation, or "chat": turns in the model's own template
    system: str = ""  #: system message of a chat
    extra: dict[str, Any] = field(default_factory=dict)  #: more request fields; None drops one

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise ValueError(f"api is {self.api!r}; allowed: {', '.join(APIS)}")
        if self.system and self.api != "chat":
            raise ValueError("a system message needs api='chat': plain completions have no turns")

    @property
    def path(self) -> str:
        """Return the path of requests under the server's address."""
        return "/chat/completions" if self.api == "chat" else "/completions"

    def request(
        self, plan: Plan, context: Sequence[str], seed: int, n: int = 1, logprobs: bool = False
    ) -> dict[str, Any]:
        """Return the request body for n completions of a context."""
        body: dict[str, Any] = {"model": self.model, "max_tokens": plan.max_new_tokens}
        body |= {"temperature": plan.temperature, "top_p": plan.top_p, "seed": seed}
        # outside the standard, known to vLLM, SGLang and llama.cpp: sent only where they matter
        body |= {k: v for k in ("top_k", "min_p") if (v := getattr(plan, k))}
        body |= {"stop": list(plan.stop)} if plan.stop else {}
        body |= {"n": n} if n > 1 else {}
        turns = turns_of(context[0])
        if self.api == "chat":
            later = zip(cycle(("assistant", "user")), context[1:], strict=False)
            turns += [{"role": role, "content": text} for role, text in later]
            body["messages"] = with_system(self.system, turns)
        elif len(turns) > 1:
            raise ValueError("problems of several messages need api=chat")
        else:
            body["prompt"] = "".join(context)
        body |= {"logprobs": True if self.api == "chat" else 1} if logprobs else {}
        return {k: v for k, v in (body | self.extra).items() if v is not None}

    def completions(self, answer: Any, plan: Plan, cached: bool = False) -> list[Completion]:
        """Return the completions of an answer; `Unreadable` if it cannot be counted or read.

        The tokens of several choices are counted by their log-probabilities: `usage` holds the sum.
        cached: the context continues one that the server has seen before.
        """
        plain = (plan.temperature, plan.top_p, plan.top_k, plan.min_p) == (1, 1, 0, 0)
        found = []
        try:
            usage, choices = answer["usage"], answer["choices"]
            prompt, new, thought = token_counts(usage)
            details = usage.get("prompt_tokens_details") or {}
            known = min(int(details.get("cached_tokens") or 0), prompt) if cached else 0
            logprobs = [logprobs_of(choice) for choice in choices]
            counts = [new] if len(choices) == 1 else list(map(len, logprobs))
            if len(choices) > 1 and (0 in counts or abs(sum(counts) - new) > len(choices)):
                raise ValueError("several choices, and no count of tokens for each")
            for choice, values, count in zip(choices, logprobs, counts, strict=True):
                # tokens of hidden thinking have no log-probabilities: then the rest is no sum
                hidden = thought and len(values) <= new - thought + 1
                logprob = math.fsum(values) if values and not hidden else math.nan
                text, cut = text_of(choice, plan.stop)
                reason = "stop" if cut else choice.get("finish_reason")
                found.append(
                    Completion(
                        tokens=(text,),  # type: ignore[arg-type]
                        logprob=logprob,
                        sampling_logprob=logprob if plain else math.nan,
                        finish=finish_of(reason, full=count >= plan.max_new_tokens),
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


def token_counts(usage: dict[str, Any]) -> tuple[int, int, int | None]:
    """Return (prompt tokens, new tokens, thinking tokens among them; None if not reported).

    Some servers leave the tokens of thinking out of `completion_tokens` (xAI, Gemini): then
    `total_tokens` is larger than the sum, or there are more of them than of all new tokens.
    """
    prompt, new = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
    places = (usage.get("completion_tokens_details"), usage.get("output_tokens_details"), usage)
    given = [place["reasoning_tokens"] for place in places if place and "reasoning_tokens" in place]
    thought = None if not given or given[0] is None else int(given[0])
    outside = int(usage.get("total_tokens") or 0) - prompt - new
    if outside <= 0:
        outside = thought if thought and thought > new else 0
    if outside and thought is None:
        thought = outside
    return prompt, new + outside, None if thought is None else min(thought, new + outside)


def logprobs_of(choice: dict[str, Any]) -> list[float]:
    """Return the log-probability of each token in nats; [] if the server reports none."""
    given = choice.get("logprobs") or {}
    if given.get("content"):
        return [float(token["logprob"]) for token in given["content"]]
    return [float(value) for value in given.get("token_logprobs") or ()]


def text_of(choice: dict[str, Any], stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text of a choice with thinking in tags, and whether a stop string cut it here.

    A server that ignores stop strings sends the text after them; they end answers, not thinking.
    """
    thought, text = "", choice.get("text")
    if "message" in choice:
        message = choice["message"]
        thought, text = split_text(message.get("content"))
        thoughts = (split_text(message.get(name), thinking=True)[0] for name in THOUGHTS)
        thought = thought or next(filter(None, thoughts), "")
        text = text or message.get("refusal") or ""
    if not isinstance(text, str):
        raise TypeError(f"text is {text!r}")
    begin = max((mark.end() for mark in MARK.finditer(text)), default=0)
    ends = [at for string in stop if (at := text.find(string, begin)) >= 0]
    cut = bool(ends) and not is_thinking(text)
    text = text[: min(ends)] if cut else text
    if thought and not begin:  # else the text contains its thinking already
        unfinished = not text.strip() and choice.get("finish_reason") != "stop"
        text = f"<think>{thought}" + "</think>" * (not unfinished) + text
    return text, cut


def split_text(value: Any, thinking: bool = False) -> tuple[str, str]:
    """Return (thinking, text) of a part of a message: a text, an object, a list of those, or none.

    thinking: the part lies inside thinking.
    """
    if isinstance(value, str):
        return (value, "") if thinking else ("", value)
    found = []
    if isinstance(value, list):
        found = [split_text(part, thinking) for part in value]
    elif isinstance(value, dict):
        kind = str(value.get("type", "text"))
        thinking = thinking or bool(THINKING.search(kind))
        if not (thinking or TEXT.search(kind)):
            raise ValueError(f"a part of the content is of type {kind!r}")
        inner = (split_text(value.get(name), thinking) for name in TEXTS)
        found = list(filter(any, inner))[:1]
    return "".join(thought for thought, _ in found), "".join(text for _, text in found)


def finish_of(reason: Any, full: bool) -> str:
    """Return how a completion ended; full: it has reached its token cap."""
    name = str(reason or "").lower()
    if name in FINISH:
        return FINISH[name] or ("length" if full else "stop")
    if FILTERED.search(name):
        return f"{FINAL}: ended by the server's content filter ({reason})"
    return f"error: finished by {reason}"

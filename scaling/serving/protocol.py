"""The OpenAI protocol, both ways: a chain's texts to a request, an answer to completions.

Texts stand where the in-process engine has token ids: a context is (prompt, draft, suffix, draft,
...), joined for /completions, turns of user and assistant for /chat/completions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from scaling.records import Completion, Plan, turns_of, with_system
from scaling.serving.client import Failed

APIS = ("completions", "chat")


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
        """Return the completions of an answer; `Failed` for one that cannot be counted or read.

        The tokens of several choices are counted by their log-probabilities, since `usage` holds
        only their sum. cached: the context continues one that the server has seen before.
        """
        try:
            usage, choices = answer["usage"], answer["choices"]
            prompt, new = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
            details = usage.get("prompt_tokens_details") or {}
            known = min(int(details.get("cached_tokens") or 0), prompt) if cached else 0
            told = usage.get("completion_tokens_details") or {}
            thought = int(told["reasoning_tokens"]) if "reasoning_tokens" in told else None
            found = []
            for choice in choices:
                logprobs = _logprobs(choice)
                count = new if len(choices) == 1 else len(logprobs)
                if not count and len(choices) > 1:
                    raise ValueError("several choices, and no count of tokens for each")
                logprob = math.fsum(logprobs) if logprobs else math.nan
                found.append(
                    Completion(
                        tokens=(_text(choice),),  # type: ignore[arg-type]
                        logprob=logprob,
                        sampling_logprob=logprob if is_plain(plan) else math.nan,
                        finish=_finish(choice),
                        prompt_tokens=prompt,
                        cached_tokens=known,
                        completion_tokens=max(count, 1),
                        seconds=0.0,
                        thinking_tokens=thought if len(choices) == 1 else None,
                    )
                )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Failed(f"answer is not understood ({type(error).__name__}: {error})") from error
        if not found:
            raise Failed("answer holds no choice")
        return found


def is_plain(plan: Plan) -> bool:
    """Return whether a plan samples from the model's own distribution."""
    return (plan.temperature, plan.top_p, plan.top_k, plan.min_p) == (1, 1, 0, 0)


def _logprobs(choice: dict[str, Any]) -> list[float]:
    """Return the log-probability of each token, nats; none where the server does not tell."""
    given = choice.get("logprobs") or {}
    if given.get("content"):
        return [float(token["logprob"]) for token in given["content"]]
    return [float(value) for value in given.get("token_logprobs") or ()]


def _text(choice: dict[str, Any]) -> str:
    """Return what the model wrote, its thinking (where the server cut it off) put back in tags."""
    if "message" not in choice:
        text = choice["text"]
    else:
        message = choice["message"]
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
        text = f"<think>{thought}</think>" * bool(thought) + (message.get("content") or "")
    if not isinstance(text, str):
        raise TypeError(f"text is {text!r}")
    return text


def _finish(choice: dict[str, Any]) -> str:
    reason = choice["finish_reason"]
    return reason if reason in ("stop", "length") else f"error: finished by {reason}"

"""Test how a server really treats requests, before and after a run.

Servers add their own sampling settings, ignore seeds or `n`, and hide their chat template. Some of
it is visible only in all samples together: `settle_served`, `warn_if_identical`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.markers import count_ends, ends_unopened, is_thinking
from scaling.records import FINAL, Completion, Plan, Sample, SampleWarning
from scaling.serving.client import Failed, Refused
from scaling.serving.protocol import Endpoint

#: seeds that must not give equal texts, as large as those of a run. A server that keeps 16 bits of
#: a seed, halves it, takes it modulo 2 or limits its size gives the same text for some of them
SEEDS = (2, 3, 2**16 + 2, 2**31 - 1)
HOT = 2.0  #: the highest temperature of the protocol
SEVERAL = 4  #: samples of a problem that should not all be the same text
LENGTH = 64  #: most tokens of a trial
THINKING = 1024  #: most tokens of a trial of how a chat template begins
EASY = "What is 1 + 1? Answer with the number alone."
#: request fields at values that do nothing. llama.cpp keeps 40 tokens with `min_p` 0.05 otherwise;
#: vLLM and SGLang take `top_k` and a repetition penalty from the model's generation_config.json
CUTS = {"top_k": -1, "min_p": 0.0}
PENALTIES = {"repetition_penalty": 1.0, "repeat_penalty": 1.0}  #: of vLLM and SGLang; of llama.cpp
NO_ANSWER = "the server does not answer a plain request"

Ask = Callable[[dict[str, Any]], list[Completion]]
Attempt = Callable[..., list[Completion]]  #: an empty list if the request fails


@dataclass(frozen=True)
class Honoured:
    """The fields of a request that a server honours."""

    n: bool = False  #: several choices, all different, each countable
    logprobs: bool = False  #: log-probabilities of the sampled tokens
    opens_thinking: bool = False  #: its chat template opens the thinking that a text then ends


def with_neutral_fields(
    ask: Ask, endpoint: Endpoint, plan: Plan, context: Sequence[str]
) -> Endpoint:
    """Return the endpoint whose requests turn off all sampling settings that the plan does not use.

    Fields that the server refuses are left out: it has no such settings. Fields that the endpoint
    or the plan sets are kept. Errors: ValueError if the server does not answer.
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
                raise ValueError(f"{NO_ANSWER}: {error}") from error
    return endpoint


def probe(ask: Ask, endpoint: Endpoint, plan: Plan, context: Sequence[str]) -> Honoured:
    """Return the fields that the server honours, tested with a real prompt.

    A model may be certain: equal texts are tested again at the highest temperature, then with half
    a prompt, which has many likely continuations. Warns of seeds, choices and caches that do not
    work. Errors: ValueError if the server does not answer, or if the plan samples and every seed
    gives the same text even then.
    """

    def sample(plan: Plan, seed: int, at: Sequence[str], **more: Any) -> list[Completion]:
        return ask(endpoint.request(plan, at, seed, **more))

    def attempt(*request: Any, **more: Any) -> list[Completion]:
        try:
            return sample(*request, **more)
        except (Failed, ValueError):
            return []

    short = replace(plan, max_new_tokens=min(plan.max_new_tokens, LENGTH))
    greedy = replace(short, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)
    hot = replace(greedy, temperature=HOT)
    first = attempt(greedy, SEEDS[0], context)
    if not first and not attempt(short, SEEDS[0], context):
        context = (EASY,)  # the fault may be of this prompt only: the others are sampled anyway
        first = attempt(greedy, SEEDS[0], context)
    half = (context[0][: (len(context[0]) + 1) // 2],)
    found: dict[int, tuple[Plan, Sequence[str]]] = {}  #: different texts -> where they came first
    for where in ((short, context), (hot, context), (hot, half)):
        try:
            texts = {sample(where[0], seed, where[1])[0].tokens for seed in SEEDS}
        except Failed as error:
            raise ValueError(f"{NO_ANSWER}: {error}") from error
        found.setdefault(len(texts), where)
        if len(texts) == len(SEEDS) or not plan.temperature:
            break
    distinct = max(found)
    if plan.temperature:
        check_seeds(distinct, str(texts.pop()[0]))
    n = bool(plan.temperature) and honours_n(attempt, (found[distinct], (hot, half)), distinct)
    one = attempt(short, SEEDS[0], context, logprobs=True)
    logprobs = len(one) == 1 and one[0].logprob == one[0].logprob
    opens = endpoint.api == "chat" and opens_thinking(attempt, plan)
    again = attempt(greedy, SEEDS[0], context)
    before, after = (str(done[0].tokens[0]) if done else None for done in (first, again))
    if before != after:
        warnings.warn(
            f"greedy decoding gave {str(before)[:40]!r} first and {str(after)[:40]!r} later for "
            "one prompt: a cache or the batch changes what this server writes, and its samples "
            "cannot be repeated; with llama.cpp, give request= '{\"cache_prompt\": false}'",
            stacklevel=2,
        )
    return Honoured(n, logprobs, opens)


def check_seeds(distinct: int, text: str) -> None:
    """Raise ValueError if all seeds gave one text; warn if some did."""
    if distinct == 1:
        raise ValueError(
            f"{len(SEEDS)} seeds gave the same text {text[:40]!r}, even at temperature {HOT} and "
            "after half a prompt: this server does not sample; with `transformers serve`, set "
            '"do_sample": true in the model\'s generation_config.json'
        )
    if distinct < len(SEEDS):
        warnings.warn(
            f"{len(SEEDS)} seeds gave only {distinct} different texts, even at temperature {HOT} "
            "and after half a prompt: some seeds collide on this server, and samples may be copies",
            stacklevel=3,
        )


def honours_n(
    attempt: Attempt, places: Sequence[tuple[Plan, Sequence[str]]], distinct: int
) -> bool:
    """Return whether the choices of one request differ as samples of different seeds do.

    Warns if they are copies.
    """
    most = 0
    for plan, at in places:
        found = attempt(plan, SEEDS[0], at, n=len(SEEDS), logprobs=True)
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


def opens_thinking(attempt: Attempt, plan: Plan) -> bool:
    """Return whether a text ends thinking that it did not open, tested with an easy question.

    A model that does not think answers it in a few tokens; one that thinks ends soon.
    """
    for seed in SEEDS[:2]:
        for done in attempt(replace(plan, max_new_tokens=THINKING, stop=()), seed, (EASY,)):
            text = str(done.tokens[0])
            if done.finish == "stop" or is_thinking(text):
                return ends_unopened(text)
    return False


def count_identical(frame: Any) -> tuple[int, int]:
    """Return (problems whose drafts are all the same text, problems with `SEVERAL` drafts)."""
    good = frame[(frame["step"] == 0) & ~frame["finish"].str.startswith("error")]
    texts = good.groupby("problem")["text"].agg(["size", "nunique"])
    texts = texts[texts["size"] >= SEVERAL]
    return int((texts["nunique"] == 1).sum()), len(texts)


def warn_if_identical(frame: Any) -> None:
    """Warn where a server gave most problems of a log the same text for every sample.

    The probe before a run checks one prompt only; a cache shows in the samples.
    """
    same, of = count_identical(frame)
    if same > of / 2:
        warnings.warn(
            f"in {same:,} of {of:,} problems all samples are the same text: unless the model is "
            "that sure of itself, this server, or a cache before it, does not sample",
            SampleWarning,
            stacklevel=3,
        )


def settle_served(writer: Any, lm: Any) -> None:
    """Remove answers that were read from unfinished thinking; record what was refused for good.

    writer: the run's `store.Writer`.
    """
    rows = writer.read()
    noted = any(session["extra"].get("opens_thinking") for session in writer.sessions)
    given = getattr(lm, "given", None)
    opened = bool(lm.opens_thinking or (given is None and (noted or shows_opened(rows))))
    if opened:
        settled = [without_answer(row) if is_thinking(row.text, True) else row for row in rows]
        changed = [new.problem for old, new in zip(rows, settled, strict=True) if new is not old]
        writer.write([row for row in settled if row.problem in set(changed)])
        if changed:
            warnings.warn(
                f"{len(changed):,} samples never end their thinking, which the chat template of "
                "this server opens, as other texts show: they have no answer "
                "(opens_thinking=False: they do)",
                stacklevel=3,
            )
    refused = {row.problem: row.finish for row in rows if row.finish.startswith(FINAL)}
    writer.note(opens_thinking=opened, refused=refused)


def shows_opened(rows: Sequence[Sample]) -> bool:
    """Return whether texts show that each begins inside its thinking.

    They do if one of them ends thinking that it did not open, or if all that were not cut off have
    thinking: then the server removed the markers of those that it could parse to the end.
    """
    good = [row for row in rows if not row.finish.startswith("error")]
    complete = [row.text for row in good if row.finish != "length"]
    all_think = bool(complete) and all(map(count_ends, complete))
    return all_think or any(ends_unopened(row.text) for row in good)


def without_answer(row: Sample) -> Sample:
    """Return the sample without its answer."""
    return row if row.answer is None else replace(row, answer=None, correct=False)

"""The data classes of the kit, which pass from the samplers to the figures.

A sample sits at (problem, chain, step): best-of-N is N chains of one step, sequential revision is
one chain of N steps, and everything between is a grid. Imports no torch, and no module of the
package but `show`, by which these classes print in a notebook.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from scaling import show

T = TypeVar("T")
MEASURED = (  #: fields that a sample takes from its completion
    "logprob", "sampling_logprob", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds",
    "finish", "thinking_tokens",
)  # fmt: skip
FEEDBACKS = ("none", "verdict")
FINAL = "error, not retried"  #: begins the `finish` of a failed sample that is not asked for again
TURNS = re.compile("(system,)?((user|assistant),)*user")  #: roles of a conversation
#: plan field -> smallest value
MINIMUM = {"chains": 1, "steps": 1, "max_new_tokens": 1, "top_k": 0, "stop_after_correct": 0}
MINIMUM |= {"history": 0, "width": 0, "keep": 0, "stop_at_agreement": 0}
#: plan fields added in a later version
OMIT_IF_DEFAULT = {"history", "width", "keep", "scorer", "stop", "stop_at_agreement"}


def nearest_name(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the most similar of the names, ignoring case, or None.

    >>> nearest_name("4X20", ["3x20", "4x20"]), nearest_name("hard", ["3x20", "4x20"])
    ('4x20', None)
    """
    folded = {str(valid).casefold(): str(valid) for valid in names}
    near = get_close_matches(str(name).casefold(), folded, 1, cutoff)
    return folded[near[0]] if near else None


def look_up(table: Mapping[str, T], name: str, what: str) -> T:
    """Return table[name]; raises ValueError naming the nearest valid name and all of them."""
    if not isinstance(name, str) or name not in table:
        near = nearest_name(name, table)
        hint = f"did you mean {near!r}? " if near else ""
        raise ValueError(f"unknown {what} {name!r}; {hint}allowed: {', '.join(table) or 'none'}")
    return table[name]


class SampleWarning(UserWarning):
    """What should be known of samples before a result is believed: many were cut, or identical."""


def device_name(text: str) -> str:
    """Return the name of a device; ValueError if it is not one."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError(f"device is {text!r}; allowed: auto, cpu, cuda, cuda:0, …")
    return text


class AsTable:
    """Shows the fields of a dataclass as a table in a notebook."""

    def _repr_html_(self) -> str:
        rows = {name: value for name, value in vars(self).items() if not isinstance(value, dict)}
        return show.card(type(self).__name__, rows)


@dataclass(frozen=True)
class Problem(AsTable):
    """One question of a task.

    >>> Problem("p1", "1+1=", "2", "easy").answer
    '2'
    """

    id: str  #: unique within the task, readable, a pure function of the content
    prompt: str  #: the text a model is given; of several turns, what `conversation` makes of them
    answer: str  #: a reference answer (one of several where the task allows several)
    level: str  #: difficulty, for stratified curves


def conversation(messages: Any) -> str:
    """Return turns as one prompt: a single user turn as its text, several turns as JSON.

    Errors: ValueError if they are not turns, or do not end with the user's.
    """
    try:
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
        roles = ",".join(turn["role"] for turn in turns)
    except (KeyError, TypeError):
        turns, roles = [], ""
    if not (TURNS.fullmatch(roles) and all(isinstance(turn["content"], str) for turn in turns)):
        raise ValueError(
            "messages are a list of {role, content}: text only, a system's first if any, the "
            "user's last"
        )
    return json.dumps(turns, ensure_ascii=False) if len(turns) > 1 else turns[0]["content"]


def turns_of(prompt: str) -> list[dict[str, str]]:
    """Return the turns of a prompt written by `conversation`, else one user turn."""
    with suppress(ValueError, TypeError, KeyError):  # a text that only begins like one
        if prompt.startswith('[{"role": ') and conversation(turns := json.loads(prompt)) == prompt:
            return turns
    return [{"role": "user", "content": prompt}]


def with_system(system: str, turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return turns after a system prompt; ValueError if they have one already."""
    if system and turns[0]["role"] == "system":
        raise ValueError("a problem brings its own system prompt: leave out system=")
    return [{"role": "system", "content": system}, *turns] if system else turns


@dataclass(frozen=True)
class Verdict(AsTable):
    """A verifier's judgement of one text.

    >>> Verdict("2", correct=True)
    Verdict(answer='2', correct=True)
    """

    answer: str | None  #: the normalised answer; None when nothing could be extracted
    correct: bool  #: checked against ground truth; False when answer is None


@dataclass(frozen=True)
class Plan(AsTable):
    """How a pool of samples is drawn. Frozen and logged; two equal plans give equal samples.

    >>> Plan(chains=4, temperature=0.8) == Plan(chains=4, temperature=0.8)
    True
    >>> Plan(chains=0)
    Traceback (most recent call last):
    ValueError: chains is 0; give an integer of at least 1
    """

    method: str = "best_of_n"  #: best_of_n, revision, wait, thinking, beam, dvts, rebase, particles
    chains: int = 64  #: independent chains of samples per problem (exchangeable)
    steps: int = 1  #: steps per chain: drafts, thinking budgets or search nodes
    temperature: float = 1.0  #: sampling temperature; 0 is greedy decoding
    top_k: int = 0  #: sample from the k most likely tokens; 0: all tokens
    top_p: float = 1.0  #: sample from the most likely tokens, up to this total probability
    min_p: float = 0.0  #: smallest probability of a token, relative to the most likely one
    max_new_tokens: int = 64  #: maximum number of new tokens per step
    feedback: str = "none"  #: verdict: revisions see whether the verifier rejected the draft
    stop_after_correct: int = 0  #: stop sampling a problem after this many are correct; 0: never
    seed: int = 0  #: seed of the samples, hashed with (problem, chain, step) for each one
    history: int = 0  #: number of previous drafts that a revision sees; 0: all
    width: int = 0  #: for searches: candidates per round; 0: no search
    keep: int = 0  #: for searches: beams or subtrees kept per round
    scorer: str = ""  #: for searches: folder of the scorer; logged with "@" and its identity
    stop: tuple[str, ...] = ()  #: strings that end a step; only the text before them is kept
    stop_at_agreement: int = 0  #: stop sampling a problem once this many agree; 0: never

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            kind = type(getattr(type(self), name))
            kinds = {float: (int, float), tuple: (tuple, list)}.get(kind, kind)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise ValueError(f"{name} is {value!r}; give {kind.__name__}")
        for name, low in MINIMUM.items():
            if (value := getattr(self, name)) < low:
                raise ValueError(f"{name} is {value}; give an integer of at least {low}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}; give 0 (greedy) or more")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p < 1:
            raise ValueError(
                f"top_p {self.top_p}, min_p {self.min_p}: give 0 < top_p <= 1, 0 <= min_p < 1"
            )
        if not all(isinstance(s, str) and s for s in self.stop):
            raise ValueError(f"stop is {self.stop!r}; give a tuple of strings that are not empty")
        object.__setattr__(self, "stop", tuple(self.stop))  # JSON has lists
        if self.feedback not in FEEDBACKS:
            raise ValueError(f"feedback is {self.feedback!r}; allowed: {', '.join(FEEDBACKS)}")

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Plan:
        """Return the plan that a dictionary describes; ValueError for an unknown key."""
        unknown = set(row) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown plan keys: {', '.join(sorted(unknown))}")
        return cls(**row)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as logged, without unset `OMIT_IF_DEFAULT` fields, so hashes last."""
        default = {name for name, value in vars(self).items() if value == getattr(Plan, name)}
        omitted = OMIT_IF_DEFAULT & default
        return {name: value for name, value in asdict(self).items() if name not in omitted}


@dataclass(frozen=True)
class Completion:
    """An engine's result for one step of one row. Knows tokens, not tasks."""

    tokens: tuple[int, ...]  #: new token ids, the stop token left out
    logprob: float  #: sum over new tokens under the model's own distribution (temperature 1), nats
    sampling_logprob: float  #: the same under the distribution that was sampled from, nats
    finish: str  #: "stop", "length", "error: reason", or `FINAL` and the reason
    prompt_tokens: int  #: length of the context before the first new token
    cached_tokens: int  #: of these, computed by an earlier step of the same chain
    completion_tokens: int  #: new tokens computed, the stop token included
    seconds: float  #: share of wall time, batch time divided by rows in flight
    stop_token: int = -1  #: the token that ended it; -1 where none did
    stop_string: str = ""  #: of `Plan.stop`, the one that ended it: its tokens are among `tokens`
    thinking_tokens: int | None = None  #: of the new tokens, see `Sample`


@dataclass(frozen=True)
class Sample(AsTable):
    """One verified completion: a row of the log.

    >>> place, text, logprob = ("p1", 0, 0), ("2", "2", True), (-0.1, -0.1)
    >>> Sample(*place, *text, *logprob, 5, 0, 2, 0.01, "stop").correct
    True
    """

    problem: str  #: Problem.id
    chain: int  #: parallel index
    step: int  #: revision index, 0 = first draft
    text: str  #: what the model wrote in this step
    answer: str | None  #: Verdict.answer
    correct: bool  #: Verdict.correct
    logprob: float  #: nats, model's distribution
    sampling_logprob: float  #: nats, distribution sampled from
    prompt_tokens: int  #: context length before this step
    cached_tokens: int  #: of these, computed by an earlier step of the same chain
    completion_tokens: int  #: new tokens, stop token included
    seconds: float  #: share of wall time
    finish: str  #: "stop", "length", "error: reason", or `FINAL` and the reason
    thinking_tokens: int | None = None  #: new tokens up to the end of thinking; None: unknown
    confidence_mean: float | None = None  #: mean confidence of a token, nats; None: not measured
    confidence_lowest: float | None = None  #: lowest mean over a window of tokens; None: as above
    entropy: float | None = None  #: mean entropy per new token, nats; None: not measured
    code_point: float | None = None  #: arithmetic sampling: its code point in [0, 1); else None
    isa: str | None = None  #: instruction set that computed it, set by the log; None: unknown

    @classmethod
    def of(
        cls, place: tuple[str, int, int], text: str, verdict: Verdict, done: Completion, **own: Any
    ) -> Sample:
        """Return the row of a completion at (problem, chain, step); `own` replaces its fields."""
        shared = {name: getattr(done, name) for name in MEASURED}
        return cls(*place, text, verdict.answer, verdict.correct, **shared | own)


@dataclass(frozen=True)
class ModelCard(AsTable):
    """A model's size, shape and training, without its weights.

    >>> ModelCard("mine", 1000, 800, train_flops=6e9, train_tokens=1_000_000).train_flops
    6000000000.0
    """

    name: str  #: e.g. "ladder/1.2M/3e13"
    n_params: int  #: all parameters, tied ones once
    n_params_no_embedding: int  #: without token embeddings and output head
    train_flops: float  #: compute spent on training; NaN when unknown
    train_tokens: int  #: tokens trained on; 0 when unknown
    shape: dict[str, Any] = field(default_factory=dict)  #: `compute.Shape` as a dictionary
    identity: str = ""  #: hash of the weights, or hub commit

"""Best-of-N and revision: chains of steps, each step a completion of its chain's context.

A method samples one problem as a generator: it yields `Ask`s and receives a completion for each,
until it returns the rows of the log. `driver` runs the generators of many problems on one engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import Any

from scaling.records import Completion, Plan, Problem, Sample, Verdict
from scaling.tasks import WAIT, revision_suffix
from scaling.tasks.chat import ChatTask

Tokens = tuple[int, ...]
Process = Generator[Any, Any, list[Sample]]  #: yields asks, or texts to score
Append = Callable[[Plan, int, Verdict], str | None]


@dataclass(frozen=True)
class Ask:
    """A request for one completion, or for several in a chain that continues in place."""

    chain: int  #: with the problem and the step, the seed of the completion
    context: Tokens
    #: (step, completion) -> what to append and continue with; None ends the chain
    after: Callable[[int, Completion], str | None] | None = None
    key: str = ""  #: appended to the problem's id in the seed
    max_new_tokens: int = 0  #: equal for all asks of a round; 0 is the plan's


@dataclass(frozen=True)
class Question:
    """One problem as a method samples it."""

    problem: Problem
    prompt: Tokens
    plan: Plan
    task: Any
    limit: int  #: tokens of the model's context
    encode: Callable[[str], Tokens]
    decode: Callable[[Sequence[int]], str]
    verify: Callable[[Problem, str], Verdict]
    scorer: Any = None  #: of a search

    def row(self, chain: int, step: int, completion: Completion) -> Sample:
        """Return a completion as a row of the log; one that failed is a row with its reason."""
        text, own = self.decode(completion.tokens), {}
        if completion.thinking_tokens is None and isinstance(self.task, ChatTask):
            count = self.task.thinking_tokens(self.problem, text, completion)
            own = {"thinking_tokens": count}
        if completion.stop_string:
            text = text[: text.index(completion.stop_string)]
        failed = completion.finish.startswith("error")
        verdict = Verdict(None, False) if failed else self.verify(self.problem, text)
        return Sample.of((self.problem.id, chain, step), text, verdict, completion, **own)


def best_of_n(question: Question) -> Process:
    """Sample chains of one step, in rounds where the plan stops early.

    A round draws the least that is needed. Its last sample is therefore the first that can end the
    problem, and the rows are the same as when drawing one by one.
    """
    plan, rows = question.plan, list[Sample]()
    while count := min(samples_needed(plan, rows), plan.chains - len(rows)):
        chains = range(len(rows), len(rows) + count)
        completions = yield [Ask(chain, question.prompt) for chain in chains]
        rows += [question.row(*pair) for pair in zip(chains, [0] * count, completions, strict=True)]
    return rows


def samples_needed(plan: Plan, rows: Sequence[Sample]) -> int:
    """Return how many more samples a problem needs at least before its plan stops."""
    if plan.stop_after_correct:
        return plan.stop_after_correct - sum(row.correct for row in rows)
    if plan.stop_at_agreement:
        votes = Counter(row.answer for row in rows if row.answer is not None)
        return plan.stop_at_agreement - max(votes.values(), default=0)
    return plan.chains


def in_steps(append: Append) -> Callable[[Question], Process]:
    """Return a method whose chains continue after each step with the text that `append` returns."""
    return partial(_in_steps, append)


def _in_steps(append: Append, question: Question) -> Process:
    if question.plan.history:
        return (yield from _with_history(append, question))
    rows = list[Sample]()

    def after(chain: int, step: int, completion: Completion) -> str | None:
        rows.append(row := question.row(chain, step, completion))
        return append(question.plan, step, Verdict(row.answer, row.correct))

    chains = range(question.plan.chains)
    yield [Ask(chain, question.prompt, partial(after, chain)) for chain in chains]
    return rows


def _with_history(append: Append, question: Question) -> Process:
    """Sample chains that see only their last `plan.history` drafts.

    Dropping a draft makes a new context, of which only the prompt is cached; the log counts that.
    """
    plan, rows = question.plan, list[Sample]()
    drafts: dict[int, list[Tokens]] = {chain: [] for chain in range(plan.chains)}
    computed: dict[int, Tokens] = dict.fromkeys(drafts, ())  #: by the last step of a chain
    for step in range(plan.steps):
        contexts = {
            chain: (*question.prompt, *sum(drafts[chain][-plan.history :], ()))
            for chain in computed
        }
        if step:  # a chain whose context is full ends
            contexts = {c: ids for c, ids in contexts.items() if len(ids) < question.limit}
        if not contexts:
            break
        completions = yield [Ask(c * plan.steps + step, ids) for c, ids in contexts.items()]
        computed, before = {}, computed
        for (chain, context), done in zip(contexts.items(), completions, strict=True):
            cached = shared_prefix(before[chain], context[:-1])
            rows.append(row := question.row(chain, step, replace(done, cached_tokens=cached)))
            suffix = append(plan, step, Verdict(row.answer, row.correct))
            if suffix is not None:
                drafts[chain].append((*done.tokens, *question.encode(suffix)))
                length = done.prompt_tokens + done.completion_tokens - 1
                computed[chain] = (*context, *done.tokens)[:length]
    return rows


def revise(plan: Plan, step: int, verdict: Verdict) -> str | None:
    """Return the text that requests another draft; with feedback a correct draft is the last."""
    accepted = plan.feedback == "verdict" and verdict.correct
    return None if accepted or step + 1 >= plan.steps else revision_suffix(plan.feedback)


def wait(plan: Plan, step: int, verdict: Verdict) -> str | None:
    """Return the text that makes a model continue to think after answering."""
    return None if step + 1 >= plan.steps else WAIT


def shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common beginning of two contexts."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))

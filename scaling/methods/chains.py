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
from typing import Any, NamedTuple

from scaling.records import Completion, Plan, Problem, Sample, Verdict
from scaling.tasks import WAIT, revision_suffix
from scaling.tasks.chat import ChatTask

Tokens = tuple[int, ...]
Process = Generator[Any, Any, list[Sample]]  #: yields asks, or texts to score
Append = Callable[[Plan, int, Verdict], str | None]


class Ask(NamedTuple):
    """A request for one completion, or for several in a chain that continues in place."""

    chain: int  #: with the problem and the step, the seed of the completion
    context: Tokens
    #: (step, completion) -> what to append and continue with; None ends the chain
    after: Callable[[int, Completion], str | None] | None = None
    key: str = ""  #: appended to the problem's id in the seed
    max_new_tokens: int = 0  #: equal for all asks of a round; 0 is the plan's
    needed: Callable[[], bool] | None = None  #: called when a row is free; False: left out


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
    """Sample chains of one step, until the plan stops early."""
    return _until_agreement(question) if question.plan.stop_at_agreement else _chains(question)


def _until_agreement(question: Question) -> Process:
    """Sample in rounds until `plan.stop_at_agreement` answers agree.

    A round draws what is needed at least. So the last sample of a round is the first that can end
    it, and the rows are those of drawing one by one.
    """
    plan, rows, votes = question.plan, list[Sample](), Counter[str]()
    needed = plan.stop_at_agreement
    while needed and len(rows) < plan.chains:
        chains = range(len(rows), min(len(rows) + needed, plan.chains))
        completions = yield [Ask(chain, question.prompt) for chain in chains]
        new = [question.row(c, 0, done) for c, done in zip(chains, completions, strict=True)]
        votes.update(row.answer for row in new if row.answer is not None)
        rows += new
        needed = plan.stop_at_agreement - max(votes.values(), default=0)
    return rows


def in_steps(append: Append) -> Callable[[Question], Process]:
    """Return a method of chains to which `append` adds a text after each step, None at the end."""

    def sample(question: Question) -> Process:
        history = question.plan.history
        return _with_history(question, append) if history else _chains(question, append)

    return sample


def _chains(question: Question, append: Append | None = None) -> Process:
    """Sample chains that continue in place, each of one step where nothing is appended.

    No chain begins after `plan.stop_after_correct` samples were correct. Those in flight still
    finish and are rows, so chains 0 to m - 1 are always complete, and m is read from the log.
    """
    plan, rows, correct = question.plan, list[Sample](), 0

    def after(chain: int, step: int, completion: Completion) -> str | None:
        nonlocal correct
        rows.append(row := question.row(chain, step, completion))
        correct += row.correct
        return append(plan, step, Verdict(row.answer, row.correct)) if append else None

    def needed() -> bool:
        return correct < plan.stop_after_correct

    check = needed if plan.stop_after_correct else None
    chains = range(plan.chains)
    yield [Ask(chain, question.prompt, partial(after, chain), needed=check) for chain in chains]
    return rows


def _with_history(question: Question, append: Append) -> Process:
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

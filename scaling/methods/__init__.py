"""Ways of spending inference compute, as settings of one sampler over (problem, chain, step).

Best-of-N is N chains of one step, sequential revision one chain of N steps; a method only says what
is appended to a chain after a step. A method of `search.SEARCHES` grows a tree instead. Not here:
batching (the engine), the log (the store).
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING

from scaling.engine import Engine, Job
from scaling.methods.scorers import load_scorer
from scaling.methods.search import SEARCHES, Scorer, check_search, search
from scaling.methods.thinking import draw_thinking
from scaling.records import Completion, Plan, Problem, Sample, Verdict, look_up
from scaling.tasks import WAIT, Task, revision_suffix
from scaling.tasks.chat import ChatTask
from scaling.tasks.traces import thinking_budgets

if TYPE_CHECKING:
    from scaling.models import LM

TOGETHER = 64  #: problems that take turns where sampling stops at successes
REMEMBERED = 4096  #: texts and verdicts that are looked up: chains of a problem often end alike
Append = Callable[[Plan, int, Verdict], str | None]


def answer_once(plan: Plan, step: int, verdict: Verdict) -> str | None:
    """Best-of-N: every chain is one sample."""
    return None


def revise(plan: Plan, step: int, verdict: Verdict) -> str | None:
    """Sequential revision: ask for another draft; told of a right draft, a chain rests."""
    told_right = plan.feedback == "verdict" and verdict.correct
    return None if told_right or step + 1 >= plan.steps else revision_suffix(plan.feedback)


def wait(plan: Plan, step: int, verdict: Verdict) -> str | None:
    """Budget forcing: step w is what a thinker answers after it was told w times to think on."""
    return None if step + 1 >= plan.steps else WAIT


METHODS: dict[str, Append] = {"best_of_n": answer_once, "revision": revise, "wait": wait}


READS = {  #: method -> what it reads of the plan fields that not all methods read
    "best_of_n": {"stop_after_correct", "stop_at_agreement", "stop"},
    "revision": {"steps", "feedback", "history", "stop"},
    "wait": {"steps", "history", "stop"},
    "thinking": {"steps"},
    "beam": {"steps", "width", "keep", "scorer"},
    "dvts": {"steps", "width", "keep", "scorer"},
    "rebase": {"steps", "width", "scorer"},
    "particles": {"steps", "width", "scorer"},
}


def check_plan(plan: Plan) -> None:
    """Raise ValueError where a method is unknown, does not read what is set, or cannot have it.

    A method that `READS` does not name reads what revision does, a search what beam search does.
    """
    look_up(METHODS | SEARCHES | {"thinking": None}, plan.method, "method")
    reads = READS.get(plan.method, READS["revision" if plan.method in METHODS else "beam"])
    for name in sorted(set().union(*READS.values()) - reads):
        if (value := getattr(plan, name)) != getattr(Plan, name):
            readers = ", ".join(method for method in READS if name in READS[method])
            raise ValueError(
                f"{name} is {value!r}, but {plan.method} does not read it: it is of {readers}; "
                "leave it out"
            )
    stops = {n: r for n in ("stop_after_correct", "stop_at_agreement") if (r := getattr(plan, n))}
    for name, r in stops.items():
        if r >= plan.chains:
            raise ValueError(
                f"{name} is {r} of {plan.chains} chains: no chain would be saved; give less, or "
                "more chains"
            )
    if len(stops) > 1:
        raise ValueError(f"{' and '.join(stops)} are both set: a pool is read by one; give one")
    if plan.method in SEARCHES:
        check_search(plan)
    elif plan.method == "thinking":
        thinking_budgets(plan)


def check_stop(plan: Plan, lm: LM) -> None:
    """Raise ValueError for a stop string that can never match."""
    for stop in plan.stop:
        written = lm.decode(lm.encode(f"a{stop}a"))
        if stop not in written:
            raise ValueError(
                f"stop string {stop!r} can never match: the tokenizer of {lm.card.name} writes "
                f"{written[1:-1]!r} for it; give one that it can write"
            )


def draw(
    lm: LM,
    task: Task,
    problems: Sequence[Problem],
    plan: Plan,
    engine: Engine,
    scorer: Scorer | None = None,
) -> Iterator[tuple[Problem, list[Sample]]]:
    """Yield each problem with all its verified samples, in no fixed order."""
    check_plan(plan)
    check_stop(plan, lm)
    if not hasattr(lm, "tokenizer") and (plan.method not in METHODS or plan.history):
        what = "history" if plan.method in METHODS else plan.method
        raise ValueError(
            f"{what} cuts contexts token by token, and a server gives texts; from a server sample "
            f"{', '.join(METHODS)}, all drafts in view"
        )
    if plan.method in SEARCHES:
        if not (scorer or plan.scorer):
            raise ValueError(f"{plan.method} needs a scorer: name its folder, or hand one over")
        return search(lm, task, problems, plan, engine, scorer or load_scorer(plan.scorer))
    if plan.method in ("revision", "wait", "thinking") and plan.method not in lm.skills:
        warnings.warn(
            f"the card of {lm.card.name} does not say that it was trained for {plan.method}; "
            "it is sampled as it is",
            stacklevel=2,
        )
    if plan.method == "thinking":
        return draw_thinking(lm, task, problems, plan, engine)
    if plan.stop_at_agreement:
        return draw_until_agreed(lm, task, problems, plan, engine)
    return (draw_recent if plan.history else draw_chains)(lm, task, problems, plan, engine)


def draw_chains(
    lm: LM, task: Task, problems: Sequence[Problem], plan: Plan, engine: Engine
) -> Iterator[tuple[Problem, list[Sample]]]:
    """Yield each problem with all its verified samples, as its last chain ends; in no fixed order.

    With `stop_after_correct=r`, `TOGETHER` problems take turns, r chains each, and no chain is
    started once r samples of its problem were right; those in flight still finish, so chains
    0..m-1 are always complete and m is read from the log.
    """
    append, by_id = METHODS[plan.method], {problem.id: problem for problem in problems}
    samples: dict[str, list[Sample]] = defaultdict(list)
    unfinished, right = Counter[str](), Counter[str]()
    ready: list[Problem] = []
    decode, verify = lru_cache(REMEMBERED)(lm.decode), lru_cache(REMEMBERED)(task.verify)

    def finish(problem: Problem) -> None:
        unfinished[problem.id] -= 1
        if not unfinished[problem.id]:
            ready.append(problem)

    def jobs() -> Iterator[Job]:
        stop = plan.stop_after_correct
        block, together = (stop, TOGETHER) if stop else (plan.chains, 1)
        for start in range(0, len(problems), together):
            group = problems[start : start + together]
            unfinished.update(problem.id for problem in group)  # one for chains still to come
            for first in range(0, plan.chains, block):
                for problem in group:
                    if stop and right[problem.id] >= stop:
                        continue
                    prompt = lm.encode(task.prompt(problem))
                    for chain in range(first, min(first + block, plan.chains)):
                        unfinished[problem.id] += 1
                        yield Job(problem.id, chain, prompt)
            for problem in group:
                finish(problem)

    def suffix_of(sample: Sample) -> str | None:
        return append(plan, sample.step, Verdict(sample.answer, sample.correct))

    def extend(job: Job, step: int, completion: Completion) -> Sequence[int] | None:
        rows = samples.get(job.problem)  # the newest is this step; a finished problem has none
        suffix = suffix_of(rows[-1]) if rows else None
        return None if suffix is None else lm.encode(suffix)

    for job, step, completion in engine.generate(jobs(), plan, extend):
        problem = by_id[job.problem]
        text = decode(completion.tokens)
        sample = verified(text, task, problem, job, step, completion, verify)
        samples[problem.id].append(sample)
        right[problem.id] += sample.correct
        if suffix_of(sample) is None or not completion.completion_tokens:
            finish(problem)
        while ready:
            done = ready.pop()
            yield done, samples.pop(done.id)
    for done in ready:
        yield done, samples.pop(done.id)


def draw_until_agreed(
    lm: LM, task: Task, problems: Sequence[Problem], plan: Plan, engine: Engine
) -> Iterator[tuple[Problem, list[Sample]]]:
    """Yield each problem with its samples, drawn until `plan.stop_at_agreement` answers agree.

    A round draws for each problem what its leading answer still lacks. So agreement comes with a
    round's last sample or not in it, and what is logged is what drawing one by one had drawn.
    """
    for start in range(0, len(problems), TOGETHER):
        prompts = {p: lm.encode(task.prompt(p)) for p in problems[start : start + TOGETHER]}
        found: dict[str, list[Sample]] = {problem.id: [] for problem in prompts}
        by_id = {problem.id: problem for problem in prompts}
        while by_id:
            jobs = (
                Job(name, chain, prompts[problem])
                for name, problem in by_id.items()
                for first in [len(found[name])]
                for chain in range(first, min(first + lacking(plan, found[name]), plan.chains))
            )
            for job, step, done in engine.generate(list(jobs), plan, lambda *_: None):
                text, problem = lm.decode(done.tokens), by_id[job.problem]
                found[job.problem].append(verified(text, task, problem, job, step, done))
            for name in list(by_id):
                if len(found[name]) == plan.chains or not lacking(plan, found[name]):
                    yield by_id.pop(name), found[name]


def lacking(plan: Plan, samples: Sequence[Sample]) -> int:
    """Return how many votes the leading answer lacks to be agreed on."""
    votes = Counter(sample.answer for sample in samples if sample.answer is not None)
    return plan.stop_at_agreement - max(votes.values(), default=0)


def draw_recent(
    lm: LM, task: Task, problems: Sequence[Problem], plan: Plan, engine: Engine
) -> Iterator[tuple[Problem, list[Sample]]]:
    """Yield samples of chains that see their last `plan.history` drafts only.

    Forgetting makes a new context: after the prompt nothing of it is cached, and the log says so.
    """
    append = METHODS[plan.method]
    for start in range(0, len(problems), TOGETHER):
        group = {problem.id: problem for problem in problems[start : start + TOGETHER]}
        prompts = {key: lm.encode(task.prompt(problem)) for key, problem in group.items()}
        drafts: dict[tuple[str, int], list[tuple[int, ...]]] = {
            (key, chain): [] for key in group for chain in range(plan.chains)
        }
        known: dict[tuple[str, int], tuple[int, ...]] = {
            key: () for key in drafts
        }  #: what a chain's last step has computed
        found: dict[str, list[Sample]] = defaultdict(list)
        for step in range(plan.steps):
            jobs = {
                (key[0], key[1] * plan.steps + step): (*prompts[key[0]], *sum(recent, ()))
                for key in known
                for recent in [drafts[key][-plan.history :]]
            }
            if step:  # a chain whose context is full ends
                jobs = {key: c for key, c in jobs.items() if len(c) < engine.context}
            going = {}
            for job, _, done in engine.generate((Job(*k, c) for k, c in jobs.items()), plan):
                key = (job.problem, job.chain // plan.steps)
                cached = shared_prefix(known[key], job.prompt[:-1])
                own = replace(done, cached_tokens=cached)
                text, whole = lm.decode(done.tokens), Job(*key, job.prompt)
                sample = verified(text, task, group[key[0]], whole, step, own)
                found[key[0]].append(sample)
                suffix = append(plan, step, Verdict(sample.answer, sample.correct))
                if suffix is not None:
                    drafts[key].append((*done.tokens, *lm.encode(suffix)))
                    computed = done.prompt_tokens + done.completion_tokens - 1
                    going[key] = (*job.prompt, *done.tokens)[:computed]
            known = going
        for name, samples in found.items():
            yield group[name], samples


def shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two contexts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def verified(
    text: str,
    task: Task,
    problem: Problem,
    job: Job,
    step: int,
    completion: Completion,
    verify: Callable[[Problem, str], Verdict] | None = None,
) -> Sample:
    """Return a completion as a row of the log; one that failed is a row with its reason.

    verify: the task's, unless told otherwise.
    """
    own = {}
    if completion.thinking_tokens is None and isinstance(task, ChatTask):
        own = {"thinking_tokens": task.thinking_tokens(problem, text, completion)}
    if completion.stop_string:
        text = text[: text.index(completion.stop_string)]
    failed = completion.finish.startswith("error")
    verdict = Verdict(None, False) if failed else (verify or task.verify)(problem, text)
    return Sample.of((problem.id, job.chain, step), text, verdict, completion, **own)

"""Ways of spending inference compute, as settings of one sampler over (problem, chain, step).

Best-of-N is N chains of one step, sequential revision one chain of N steps; a method only says what
is appended to a chain after a step. Not here: batching (the engine), the log (the store).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from scaling.engine import Engine, Job
from scaling.records import Completion, Plan, Problem, Sample, Verdict, look_up
from scaling.tasks import Task, revision_suffix

if TYPE_CHECKING:
    from scaling.models import LM

TOGETHER = 64  #: problems that take turns where sampling stops at successes
Append = Callable[[Plan, int, Verdict], str | None]


def answer_once(plan: Plan, step: int, verdict: Verdict) -> str | None:
    """Best-of-N: every chain is one sample."""
    return None


def revise(plan: Plan, step: int, verdict: Verdict) -> str | None:
    """Sequential revision: ask for another draft; told of a right draft, a chain rests."""
    told_right = plan.feedback == "verdict" and verdict.correct
    return None if told_right or step + 1 >= plan.steps else revision_suffix(plan.feedback)


METHODS: dict[str, Append] = {"best_of_n": answer_once, "revision": revise}


def get_method(plan: Plan) -> Append:
    """Return what a plan's method appends after a step; raises ValueError where they do not fit."""
    append = look_up(METHODS, plan.method, "method")
    if plan.method == "best_of_n" and plan.steps > 1:
        raise ValueError(f"best_of_n has one step, not {plan.steps}; use method='revision'")
    return append


def draw(
    lm: LM, task: Task, problems: Sequence[Problem], plan: Plan, engine: Engine
) -> Iterator[tuple[Problem, list[Sample]]]:
    """Yield each problem with all its verified samples, as its last chain ends; in no fixed order.

    With `stop_after_correct=r`, `TOGETHER` problems take turns, r chains each, and no chain is
    started once r samples of its problem were right; those in flight still finish, so chains
    0..m-1 are always complete and m is read from the log.
    """
    append, by_id = get_method(plan), {problem.id: problem for problem in problems}
    samples: dict[str, list[Sample]] = defaultdict(list)
    unfinished, right = Counter[str](), Counter[str]()
    ready: list[Problem] = []

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
        sample = verified(lm.decode(completion.tokens), task, problem, job, step, completion)
        samples[problem.id].append(sample)
        right[problem.id] += sample.correct
        if suffix_of(sample) is None or not completion.completion_tokens:
            finish(problem)
        while ready:
            done = ready.pop()
            yield done, samples.pop(done.id)
    for done in ready:
        yield done, samples.pop(done.id)


def verified(
    text: str, task: Task, problem: Problem, job: Job, step: int, completion: Completion
) -> Sample:
    """Return a completion as a row of the log; one that failed is a row with its reason."""
    failed = completion.finish.startswith("error")
    verdict = Verdict(None, False) if failed else task.verify(problem, text)
    return Sample(
        problem=problem.id,
        chain=job.chain,
        step=step,
        text=text,
        answer=verdict.answer,
        correct=verdict.correct,
        logprob=completion.logprob,
        sampling_logprob=completion.sampling_logprob,
        prompt_tokens=completion.prompt_tokens,
        cached_tokens=completion.cached_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        finish=completion.finish,
    )

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

    With `stop_after_correct=r` no chain is started once r samples of its problem were right; those
    in flight still finish, so chains 0..m-1 are always complete and m is read from the log.
    """
    append, by_id = get_method(plan), {problem.id: problem for problem in problems}
    samples: dict[str, list[Sample]] = defaultdict(list)
    open_chains, right = Counter[str](), Counter[str]()  # a problem's own issuing counts as one

    def jobs() -> Iterator[Job]:
        for problem in problems:
            prompt = lm.encode(task.prompt(problem))
            open_chains[problem.id] += 1
            for chain in range(plan.chains):
                if plan.stop_after_correct and right[problem.id] >= plan.stop_after_correct:
                    break
                open_chains[problem.id] += chain < plan.chains - 1  # the last one takes over
                yield Job(problem.id, chain, prompt)
            else:
                continue
            open_chains[problem.id] -= 1

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
            open_chains[problem.id] -= 1
        if not open_chains[problem.id]:
            yield problem, samples.pop(problem.id)
    for problem in problems:  # stopped early while nothing of theirs was in flight
        if problem.id in samples:
            yield problem, samples[problem.id]


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

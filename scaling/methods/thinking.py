"""Think for a budget, then answer: every budget read from one long trace by budget forcing.

A trace is drawn once at the largest budget. At each smaller one it is cut, and where it has not yet
answered by then it is asked to (`>`), which costs that token and those of the answer. Step 0 is a
budget of 0: answer at once. Steps are ordered, rows are logged like any other (see `draw`).
The other way, to make a model think on after it has answered, is `methods.wait`.
Not here: what traces look like (`traces`), how a model learns to write them (`reinforce`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from scaling.engine import Engine, Job
from scaling.models import LM
from scaling.records import Completion, Plan, Problem, Sample, Verdict
from scaling.tasks import ANSWER, WAIT, Task
from scaling.tasks.traces import thinking_budgets

Prompts = dict[str, tuple[int, ...]]  #: problem -> token ids
Traces = dict[tuple[str, int], Completion]  #: (problem, chain) -> trace
ANSWER_TOKENS = 48  #: cap of a forced answer
TOGETHER = 32  #: problems whose traces are in memory at a time


def draw_thinking(
    lm: LM, task: Task, problems: Sequence[Problem], plan: Plan, engine: Engine
) -> Iterator[tuple[Problem, list[Sample]]]:
    """Yield each problem with its samples: step i is what its chain answers at the i-th budget.

    The ledger is of what was computed: the trace in the last step, only the forced answer in the
    others, their thinking cached. So prompt + completion tokens of a row less the problem's prompt
    are what that budget would have cost alone (`curves.Run`), and their sums what all did cost.
    """
    budgets, alone = thinking_budgets(plan), replace(plan, method="best_of_n", steps=1)
    for start in range(0, len(problems), TOGETHER):
        group = problems[start : start + TOGETHER]
        prompts = {problem.id: lm.encode(task.prompt(problem)) for problem in group}
        longest = max(map(len, prompts.values()))
        if longest + plan.max_new_tokens + 2 > engine.context:
            raise ValueError(
                f"a prompt of {longest} tokens, {plan.max_new_tokens} of thinking and an answer do "
                f"not fit into the model's context of {engine.context}: lower --max-new-tokens"
            )
        jobs = (Job(id_, chain, p) for id_, p in prompts.items() for chain in range(plan.chains))
        traces = {job[:2]: trace for job, _, trace in engine.generate(jobs, alone)}
        answers = dict(_forced(lm, engine, prompts, traces, budgets, alone))
        for problem in group:
            found = [(chain, traces[problem.id, chain]) for chain in range(plan.chains)]
            yield (
                problem,
                [
                    _row(lm, task, problem, chain, trace, step, budgets, answers)
                    for chain, trace in found
                    for step in range(plan.steps)
                ],
            )


def is_over(trace: Completion, budget: int) -> bool:
    """Return whether a trace ended within a budget, or failed: there is nothing to force."""
    return trace.finish != "length" and trace.completion_tokens <= budget


def question(thinking: str) -> str:
    """Return what asks for an answer after some thinking; nothing amid an answer."""
    return "" if ANSWER in thinking.rpartition(WAIT)[2] else ANSWER


def _forced(
    lm: LM, engine: Engine, prompts: Prompts, traces: Traces, budgets: Sequence[int], plan: Plan
) -> Iterator[tuple[tuple[str, int, int], Completion]]:
    """Yield ((problem, chain, step), completion) of every answer that must be asked for."""
    jobs, place = [], {}
    for (id_, chain), trace in traces.items():
        for step, budget in enumerate(budgets):
            if not is_over(trace, budget):
                cut = trace.tokens[:budget]
                asked = prompts[id_] + cut + lm.encode(question(lm.decode(cut)))
                jobs.append(Job(f"{id_} after {budget}", chain, asked))
                place[jobs[-1][:2]] = (id_, chain, step)
    for job, _, completion in engine.generate(jobs, replace(plan, max_new_tokens=ANSWER_TOKENS)):
        yield place[job[:2]], completion


def _row(
    lm: LM,
    task: Task,
    problem: Problem,
    chain: int,
    trace: Completion,
    step: int,
    budgets: Sequence[int],
    answers: dict[tuple[str, int, int], Completion],
) -> Sample:
    """Return the row of one budget; `draw` says what its ledger holds."""
    answer, start = answers.get((problem.id, chain, step)), trace.prompt_tokens
    thought = min(budgets[step], trace.completion_tokens) if answer else trace.completion_tokens
    thinking = lm.decode(trace.tokens[:thought])
    asked = question(thinking) if answer else ""
    said = lm.decode(answer.tokens) if answer else ""
    made = answer.completion_tokens if answer else 0
    failed = (answer or trace).finish.startswith("error")
    whole = thinking + asked + said
    verdict = Verdict(None, False) if failed else task.verify(problem, whole)
    if step + 1 == len(budgets):
        parts, text = [trace, answer] if answer else [trace], whole
        prompt, cached, new = start, 0, thought + len(asked) + made
    else:
        parts, text = [answer] if answer else [], asked + said
        prompt, cached, new = start + thought + len(asked), start + thought, made
    spent = Completion(
        tokens=(),
        logprob=sum(part.logprob for part in parts),
        sampling_logprob=sum(part.sampling_logprob for part in parts),
        finish=(answer or trace).finish,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=new,
        seconds=sum(part.seconds for part in parts),
        thinking_tokens=thought if step + 1 == len(budgets) else 0,
    )
    return Sample.of((problem.id, chain, step), text, verdict, spent)

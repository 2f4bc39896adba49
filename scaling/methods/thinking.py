"""Think for a budget, then answer: every budget read from one long trace by budget forcing.

A trace is drawn once at the largest budget. It is cut at each smaller one; if it has no answer by
then, `>` requests one, which costs that token and those of the answer. Step 0 is a budget of 0: an
immediate answer. Steps are ordered; rows are logged like any other.
Extending the thinking after an answer is another method, `chains.wait`.
Not here: what traces look like (`traces`), how a model learns to write them (`reinforce`).
"""

from __future__ import annotations

from scaling.methods.chains import Ask, Process, Question
from scaling.records import Completion, Sample, Verdict
from scaling.tasks import ANSWER, WAIT
from scaling.tasks.traces import thinking_budgets

ANSWER_TOKENS = 48  #: cap of a forced answer


def think(question: Question) -> Process:
    """Sample traces, then force an answer at each budget; step i is the i-th budget.

    The ledger counts what was computed: the trace in the last step, only the forced answer in the
    others, with their thinking cached. Prompt + completion tokens of a row minus the problem's
    prompt are the cost of that budget alone (`runs`).
    """
    plan, prompt, budgets = question.plan, question.prompt, thinking_budgets(question.plan)
    if len(prompt) + plan.max_new_tokens + 2 > question.limit:
        raise ValueError(
            f"a prompt of {len(prompt)} tokens, {plan.max_new_tokens} of thinking and an answer do "
            f"not fit into the model's context of {question.limit}: lower max_new_tokens="
        )
    traces = yield [Ask(chain, prompt) for chain in range(plan.chains)]
    forced = {}
    for chain, trace in enumerate(traces):
        for step, budget in enumerate(budgets):
            if not is_over(trace, budget):
                cut = trace.tokens[:budget]
                context = prompt + cut + question.encode(request(question.decode(cut)))
                forced[chain, step] = Ask(
                    chain, context, key=f" after {budget}", max_new_tokens=ANSWER_TOKENS
                )
    completions = yield list(forced.values())
    answers = dict(zip(forced, completions, strict=True))
    return [
        _row(question, trace, answers.get((chain, step)), chain, step, budget)
        for chain, trace in enumerate(traces)
        for step, budget in enumerate(budgets)
    ]


def is_over(trace: Completion, budget: int) -> bool:
    """Return whether a trace ended within a budget or failed, so that nothing is forced."""
    return trace.finish != "length" and trace.completion_tokens <= budget


def request(thinking: str) -> str:
    """Return the text that requests an answer after some thinking; "" within an answer."""
    return "" if ANSWER in thinking.rpartition(WAIT)[2] else ANSWER


def _row(
    question: Question,
    trace: Completion,
    answer: Completion | None,
    chain: int,
    step: int,
    budget: int,
) -> Sample:
    """Return the row of one budget; `think` says what its ledger holds."""
    thought = min(budget, trace.completion_tokens) if answer else trace.completion_tokens
    thinking = question.decode(trace.tokens[:thought])
    added = request(thinking) if answer else ""
    reply = added + (question.decode(answer.tokens) if answer else "")
    made = answer.completion_tokens if answer else 0
    last = step + 1 == question.plan.steps
    if last:
        text, prompt, cached = thinking + reply, trace.prompt_tokens, 0
        new = thought + len(added) + made
    else:
        text, cached, new = reply, trace.prompt_tokens + thought, made
        prompt = cached + len(added)
    parts = [part for part in (trace if last else None, answer) if part]
    spent = Completion(
        tokens=(),
        logprob=sum(part.logprob for part in parts),
        sampling_logprob=sum(part.sampling_logprob for part in parts),
        finish=(answer or trace).finish,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=new,
        seconds=sum(part.seconds for part in parts),
        thinking_tokens=thought if last else 0,
    )
    verdict = Verdict(None, False)
    if not spent.finish.startswith("error"):
        verdict = question.verify(question.problem, thinking + reply)
    return Sample.of((question.problem.id, chain, step), text, verdict, spent)

"""Methods on a scripted engine whose right behaviour is known exactly, and on a real tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.engine import Engine
from scaling.methods import METHODS, Method, check_plan, draw, in_steps
from scaling.models import character_tokenizer, load_lm
from scaling.records import Completion, Plan, Verdict
from scaling.tasks import get_task


class Words:
    """An LM without weights: characters in, characters out."""

    tokenizer, skills = character_tokenizer(), ("revision",)

    def encode(self, text):
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, tokens):
        return self.tokenizer.decode(list(tokens))


class Scripted:
    """An engine that says what `script(problem, chain, step, context)` says, chain by chain."""

    def __init__(self, script):
        self.script, self.words, self.contexts = script, Words(), []

    def generate(self, jobs, plan, extend):
        for job in jobs:
            context, cached = list(job.prompt), 0
            for step in range(100):
                text = self.script(job.problem, job.chain, step, self.words.decode(context))
                self.contexts.append(self.words.decode(context))
                tokens = self.words.encode(text)
                done = Completion(
                    tokens, -1.0, -1.0, "stop", len(context), cached, len(tokens) + 1, 0.01
                )
                yield job, step, done
                more = extend(job, step, done)
                if more is None:
                    break
                cached = len(context) + len(tokens)
                context += [*tokens, *more]


def pools(script, plan, n=3, levels=("2x99",)):
    task = get_task("sums", levels)
    problems = task.problems(n)
    engine = Scripted(script)
    return dict(draw(Words(), task, problems, plan, engine)), engine


def right(problem, *_):
    return f"x={sum(map(int, problem.split('+')))}"


def test_best_of_n_draws_every_chain_once():
    found, _ = pools(right, Plan(chains=5))
    assert len(found) == 3
    for samples in found.values():
        assert [(s.chain, s.step) for s in samples] == [(chain, 0) for chain in range(5)]
        assert all(s.correct for s in samples)


def test_a_revision_sees_its_drafts_and_pays_for_its_longer_prompt():
    plan = Plan(method="revision", chains=1, steps=3)
    found, engine = pools(lambda *_: "7=7", plan, n=1)
    (problem, samples), *_ = found.items()
    assert engine.contexts == [problem.prompt + "7=7~" * step for step in range(3)]
    grown = [s.prompt_tokens - len(problem.prompt) for s in samples]
    assert grown == [0, 4, 8]
    assert [s.cached_tokens for s in samples][1:] == [s.prompt_tokens - 1 for s in samples][1:]


def test_told_of_a_right_draft_a_chain_rests_and_untold_it_goes_on():
    def fixes_on_step_2(problem, chain, step, context):
        return right(problem) if step == 2 else "7=7"

    with_feedback = Plan(method="revision", chains=2, steps=6, feedback="verdict")
    found, engine = pools(fixes_on_step_2, with_feedback, n=1)
    (samples,) = found.values()
    assert [s.correct for s in samples] == [False, False, True] * 2
    assert engine.contexts[1].endswith("7=7x")
    found, _ = pools(fixes_on_step_2, replace(with_feedback, feedback="none"), n=1)
    assert [len(samples) for samples in found.values()] == [12]


@pytest.mark.parametrize("r", [1, 2, 3])
def test_stop_after_correct_starts_no_chain_after_the_rth_success(r):
    def every_third(problem, chain, step, context):
        return right(problem) if chain % 3 == 2 else "7=7"

    found, _ = pools(every_third, Plan(chains=20, stop_after_correct=r))
    assert [len(samples) for samples in found.values()] == [3 * r] * 3


@pytest.mark.parametrize("r", [1, 2, 3])
def test_voting_stops_at_agreement_with_the_samples_that_one_by_one_had_drawn(r):
    answers = ["7=7", "", "8=8", "9=9", "8=8", "8=8", "9=9", "8=8", "1=1", "1=1"]  # "": no answer
    found, _ = pools(
        lambda problem, chain, *_: answers[chain], Plan(chains=10, stop_at_agreement=r)
    )
    stop = {1: 1, 2: 5, 3: 6}[r]
    assert [[s.chain for s in samples] for samples in found.values()] == [[*range(stop)]] * 3
    never, _ = pools(lambda problem, chain, *_: f"1={chain}", Plan(chains=5, stop_at_agreement=2))
    assert [len(samples) for samples in never.values()] == [5] * 3


def test_stopping_saves_samples_on_the_real_engine(tiny_folder):
    """With all chains in flight at once nothing would be saved; problems take turns instead."""
    from scaling.engine import Engine
    from scaling.models import load_lm

    class Easy:
        prompt = staticmethod(lambda problem: problem.prompt)
        verify = staticmethod(lambda problem, text: Verdict(text, True))

    lm, problems = load_lm(tiny_folder), get_task("sums").problems(20)
    engine = Engine(lm.model, eos_ids=lm.eos_ids)
    plan = Plan(chains=64, max_new_tokens=4, stop_after_correct=2)
    found = dict(draw(lm, Easy, problems, plan, engine))
    assert len(found) == 20
    assert sum(map(len, found.values())) < 20 * 64 / 4


def test_stop_after_correct_runs_to_the_cap_where_success_never_comes():
    found, _ = pools(lambda *_: "7=7", Plan(chains=20, stop_after_correct=1))
    assert [len(samples) for samples in found.values()] == [20] * 3


def test_a_failed_completion_is_a_row_with_its_reason():
    engine = Scripted(right)

    def broken(jobs, plan, extend):
        for job in jobs:
            yield job, 0, Completion((), 0.0, 0.0, "error: no answer", len(job.prompt), 0, 0, 0.0)
            extend(job, 0, None)

    engine.generate = broken
    task = get_task("sums")
    ((_, samples),) = draw(Words(), task, task.problems(2)[:1], Plan(chains=1), engine)
    assert (samples[0].finish, samples[0].correct, samples[0].answer) == (
        "error: no answer",
        False,
        None,
    )


def test_a_new_method_is_one_entry(monkeypatch):
    twice = in_steps(lambda plan, step, verdict: "~" if step == 0 else None)
    monkeypatch.setitem(METHODS, "twice", Method(twice))
    found, _ = pools(right, Plan(method="twice", chains=2, steps=2), n=1)
    assert [len(samples) for samples in found.values()] == [4]


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan(method="best_of_m"), "did you mean 'best_of_n'"),
        (Plan(steps=3), "steps is 3, but best_of_n does not read it.*revision, wait"),
        (Plan(chains=2, stop_after_correct=5), "5 of 2 chains: no chain would be saved"),
        (Plan(chains=2, stop_after_correct=2), "2 of 2 chains"),
        (Plan(chains=3, stop_at_agreement=3), "stop_at_agreement is 3 of 3 chains"),
        (Plan(chains=9, stop_at_agreement=3, stop_after_correct=1), "are both set"),
    ],
)
def test_plans_that_do_not_fit_are_one_clear_line(plan, says):
    with pytest.raises(ValueError, match=says):
        check_plan(plan)


FITS = {"chains": 4, "steps": 4, "width": 4, "keep": 2, "max_new_tokens": 8}
SET = {"feedback": "verdict", "history": 3, "scorer": "a@b", "stop": ("a",)}
SET |= {"stop_after_correct": 1, "stop_at_agreement": 2, **FITS}


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_field_that_its_method_does_not_read_is_refused_not_ignored(method):
    """`--history 3` and `--feedback verdict` once changed nothing of best_of_n but its hash."""
    read = {"chains", "max_new_tokens", *METHODS[method].reads}
    fits = {name: value for name, value in FITS.items() if name in read}
    for name, value in SET.items():
        plan = Plan(method=method, **fits | {name: value})
        if name in read:
            check_plan(plan)
        else:
            with pytest.raises(ValueError, match=f"^{name} is .* {method} does not read it"):
                check_plan(plan)


def test_every_committed_run_has_a_plan_that_is_still_taken():
    found = list((Path(__file__).parents[1] / "data").rglob("manifest.json"))
    assert len(found) > 100
    for path in found:
        check_plan(Plan.from_dict(json.loads(path.read_text())["identity"]["plan"]))


@pytest.mark.parametrize("method", ["revision", "wait", "thinking", "beam"])
def test_only_best_of_n_stops_at_successes_for_only_it_is_read_without_bias_then(method):
    with pytest.raises(ValueError, match=f"stop_after_correct is 2, but {method}"):
        check_plan(Plan(method=method, steps=2, stop_after_correct=2))


def test_a_full_context_ends_a_chain_with_history_and_thinking_says_so_beforehand(tiny_folder):
    lm = replace(load_lm(tiny_folder), skills=("revision", "thinking"))
    task = get_task("countdown", ["3x20"])
    engine = Engine(lm.model, eos_ids=(), decode=lm.decode)  # nothing ends by itself
    room = engine.context
    long = Plan(method="revision", chains=2, steps=8, max_new_tokens=room // 3, history=7)
    ((_, samples),) = draw(lm, task, task.problems(1), long, engine)
    last = {chain: max(s.step for s in samples if s.chain == chain) for chain in (0, 1)}
    assert 1 <= min(last.values()) <= max(last.values()) < 7
    for one in samples:
        before = [s for s in samples if (s.chain, s.step) == (one.chain, one.step - 1)]
        for past in before:  # the last token of a draft cut by its length was never computed
            assert one.cached_tokens <= past.prompt_tokens + past.completion_tokens - 1
    think = Plan(method="thinking", steps=2, max_new_tokens=room)
    with pytest.raises(ValueError, match="lower max_new_tokens"):
        list(draw(lm, task, task.problems(1), think, engine))


@pytest.mark.parametrize(
    "wrong",
    [
        {"chains": 0},
        {"steps": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"feedback": "truth"},
        {"max_new_tokens": 0},
        {"stop_after_correct": -1},
    ],
)
def test_plans_refuse_values_that_mean_nothing(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Plan(**wrong)


def test_a_plan_refuses_an_unknown_key():
    with pytest.raises(ValueError, match="unknown plan keys: chians"):
        Plan.from_dict({"chians": 3})


def test_fields_added_to_the_plan_later_leave_the_hashes_of_old_runs_alone():
    assert not {"history", "width", "keep", "scorer"} & set(Plan().to_dict())
    kept = Plan(method="beam", steps=8, width=4, keep=2, history=1, scorer="a@b")
    assert {"history", "width", "keep", "scorer"} <= set(kept.to_dict())
    assert Plan.from_dict(kept.to_dict()) == kept

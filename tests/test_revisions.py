"""What is read from revision pools, on chains whose behaviour is planted."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_methods import Scripted, Words, right

from scaling.comparisons.equal_cost import compare
from scaling.comparisons.revision import plateau, transitions
from scaling.methods import draw
from scaling.methods.chains import shared_prefix
from scaling.models import load_lm
from scaling.records import Plan
from scaling.report.numbers import Entry
from scaling.runs import load_run
from scaling.runs.tables import accuracy_table
from scaling.store import open_run
from scaling.tasks import get_task, stream

REVISE = Plan(method="revision", chains=2, steps=5)


class Recorder(Scripted):
    """The scripted engine, for rounds of single steps as well."""

    context = 512

    def generate(self, jobs, plan, extend=lambda *_: None):
        return super().generate(jobs, plan, extend)


@pytest.fixture
def planted(tiny_folder, tmp_path):
    """Return a function that logs a scripted pool with the tiny model's card, and reads it."""
    card, task = load_lm(tiny_folder).card, get_task("sums", ("2x99",))

    def make(script, plan, n=30):
        problems = task.problems(n)
        with open_run(tmp_path, task="sums", card=card, plan=plan, problems=problems) as writer:
            drawn = draw(Words(), task, problems, plan, Recorder(script))
            writer.write([sample for _, samples in drawn for sample in samples])
            return load_run(writer.seal())

    return make


def test_a_reviser_that_fixes_on_step_2_is_seen_to(planted):
    pool = planted(lambda p, c, s, _: right(p) if s == 2 else f"{s}=1", REVISE, n=6)
    table = transitions(pool)
    assert table["accuracy"].tolist() == [0, 0, 1, 0, 0]
    assert table["fixed"].tolist()[1:3] == [0, 1]
    assert table["broken"].iloc[3] == 1
    assert table["repeats"].tolist()[1:] == [1, 0, 1, 1]  # "1" again, the sum for once, "1" again


def test_the_plateau_of_a_chain_of_two_states_is_forecast_from_its_first_steps(planted):
    """Fixed .3, broken .2: it rests at .6. 600 chains, tolerance five standard errors, seeded."""

    def markov(problem, chain, step, context):
        draws = [stream(problem, chain, i).random() for i in range(step + 1)]
        state = draws[0] < 0.1
        for u in draws[1:]:
            state = (u >= 0.2) if state else (u < 0.3)
        return right(problem) if state else "1=1"

    pool = planted(markov, replace(REVISE, chains=20, steps=6))
    level, path = plateau(transitions(pool))
    assert level == pytest.approx(0.6, abs=0.08)
    assert path[-1] == pytest.approx(transitions(pool)["accuracy"].iloc[-1], abs=0.1)


def coin(problem, chain, step, context):
    return right(problem) if stream(problem, chain, step).random() < 0.3 else "7=77"


def test_a_reviser_that_always_fixes_beats_samples(planted):
    sampled = planted(coin, Plan(chains=24))
    fixer = planted(
        lambda p, c, s, t: right(p) if s else coin(p, c, s, t), replace(REVISE, chains=8, steps=4)
    )
    found = compare(fixer, sampled, k=2)
    assert found.verdict == "wins"
    assert found.value == 1
    assert 2 < found.samples < 4


def test_a_cost_that_the_rival_cannot_spend_is_refused(planted):
    few = planted(coin, Plan(chains=2))
    with pytest.raises(ValueError, match="the baseline's samples cost from"):
        compare(planted(coin, replace(REVISE, steps=8)), few, "last", "coverage")


def test_a_revision_with_a_short_memory_sees_its_last_drafts_and_pays_anew():
    engine = Recorder(lambda p, c, s, t: f"{t.count('~')}=7")
    task = get_task("sums", ("2x99",))
    plan = replace(REVISE, chains=1, steps=4, history=1)
    ((problem, samples),) = draw(Words(), task, task.problems(1), plan, engine)
    assert engine.contexts == [problem.prompt, *[problem.prompt + f"{d}=7~" for d in (0, 1, 1)]]
    prompt = len(problem.prompt)
    assert [s.prompt_tokens for s in samples] == [prompt, prompt + 4, prompt + 4, prompt + 4]
    assert [s.cached_tokens for s in samples] == [0, prompt + 3, prompt, prompt + 3]
    assert [(s.chain, s.step) for s in samples] == [(0, i) for i in range(4)]


def test_shared_prefix():
    cases = (((1, 2), (1, 3)), ((), (1,)), ((1, 2), (1, 2, 3)), ((1, 2, 3), (1, 2, 4)))
    assert [shared_prefix(a, b) for a, b in cases] == [1, 0, 2, 2]


def test_revision_of_a_model_not_trained_for_it_warns_once_and_runs():
    task = get_task("sums", ("2x99",))

    class Plain(Words):
        skills = ()
        card = type("Card", (), {"name": "plain"})

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        found = dict(draw(Plain(), task, task.problems(3), REVISE, Scripted(right)))
    assert len(found) == 3
    assert [str(w.message) for w in caught] == [
        "the card of plain does not say that it was trained for revision; it is sampled as it is"
    ]


def test_drafts_after_verifier_feedback_are_not_read_as_a_vote(planted):
    """The truth stops such a chain: its majority stood at 0.68 next to 0.43 without feedback."""
    script = lambda p, c, s, _: right(p) if s == c + 1 else f"{s}=1"  # noqa: E731
    with_feedback = planted(script, replace(REVISE, feedback="verdict"), n=6)
    plain = planted(script, REVISE, n=6)
    assert with_feedback.selectors == ("coverage", "first", "last")
    assert plain.selectors == ("coverage", "majority", "logprob", "first", "last")
    assert not {"majority", "logprob"} & set(accuracy_table([with_feedback], 20)["selector"])
    assert Entry("run.a", "", with_feedback).selectors == with_feedback.selectors
    for name in ("majority", "logprob"):
        with pytest.raises(ValueError, match="with verifier feedback the truth decides"):
            with_feedback.values(name, np.array([2]))

"""What is read from revision pools, on chains whose behaviour is planted."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_methods import Scripted, Words, pools, right

from scaling.comparisons.equal_cost import compare
from scaling.comparisons.revision import grid_ratio, plateau, transitions
from scaling.methods import draw, shared_prefix
from scaling.models import load_lm
from scaling.records import Plan
from scaling.report.numbers import Entry
from scaling.runs import load_run
from scaling.runs.tables import accuracy_table
from scaling.store import open_run
from scaling.tasks import get_task, stream
from scaling.train.revise import (
    Course,
    answer_lesson,
    avoid_lesson,
    batches,
    reward_lesson,
    row_of,
    train_reviser,
)

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
            writer.write("all", [sample for _, samples in drawn for sample in samples])
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


def test_drafts_that_do_not_depend_on_each_other_are_worth_less_than_samples(planted):
    """Equal chances, but a draft pays for its longer context: every ratio beyond s=1 is below 1."""
    fresh = planted(coin, Plan(chains=24))
    grid = grid_ratio(planted(coin, replace(REVISE, chains=8, steps=4)), fresh)
    assert grid.ratio.shape == (4, 4)
    assert np.isfinite(grid.ratio[0]).all()
    assert grid.ratio[0, 0] == pytest.approx(1, abs=0.35)
    assert grid.ratio[1, -1] < 1.05
    assert np.isnan(grid.ratio[-1, -1])  # more than the 24 samples of the rival
    told = planted(coin, replace(REVISE, chains=8, steps=4, feedback="verdict"))
    assert (grid_ratio(told, fresh).flops < grid.flops)[:, 1:].all()  # it stops when right


def test_a_reviser_that_always_fixes_beats_samples_and_the_grid_says_so(planted):
    fresh = planted(coin, Plan(chains=24))
    fixer = planted(
        lambda p, c, s, t: right(p) if s else coin(p, c, s, t), replace(REVISE, chains=8, steps=4)
    )
    assert grid_ratio(fixer, fresh).low[0, 1] > 1
    found = compare(fixer, fresh, k=2)
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
    assert [
        shared_prefix(a, b) for a, b in (((1, 2), (1, 3)), ((), (1,)), ((1, 2), (1, 2, 3)))
    ] == [1, 0, 2]


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


# ---------------------------------------------------------------- training
def chain_of(script, feedback="none"):
    found, _ = pools(script, replace(REVISE, chains=1, steps=4, feedback=feedback), n=1)
    ((problem, chain),) = found.items()
    return problem, chain


def test_a_row_learns_the_weighed_drafts_and_their_ends_alone():
    words = Words()
    words.eos_ids = (1,)
    ids, labels, weights = row_of(words, "1+2:", (["3=4", "5=3"], [0.0, 1.0]), "~")
    assert words.decode(ids) == "1+2:3=4~5=3"
    learnt = [(i, label) for i, (label, w) in enumerate(zip(labels, weights, strict=True)) if w]
    assert [label for _, label in learnt] == [*words.encode("5=3"), 1]
    assert words.decode([ids[learnt[0][0]]]) == "~"
    assert labels[words.decode(ids).index("~") - 1] == 1  # a draft ends by the stop token


def test_lessons_end_in_a_right_draft_and_rewards_are_against_the_usual():
    problem, chain = chain_of(lambda p, c, s, t: right(p) if s == 1 else "7=7")
    drafts, weights = answer_lesson(problem, chain, False, None)
    assert drafts == ["7=7", right(problem.id), right(problem.id)]
    assert weights == [0, 1, 1]
    problem, told = chain_of(lambda p, c, s, t: right(p) if s == 1 else "7=7", "verdict")
    assert answer_lesson(problem, told, True, None) == (["7=7", right(problem.id)], [0, 1])
    again = avoid_lesson(*chain_of(lambda p, c, s, t: "7=7" if s < 3 else right(p)), False, None)
    assert again[1] == [0, -0.3, -0.3, 1, 1]
    problem, never = chain_of(lambda *_: "7=7")
    assert answer_lesson(problem, never, True, None)[0][-1] == problem.answer
    usual = {(problem.level, s): 0.25 for s in range(4)}
    assert reward_lesson(problem, chain, False, usual)[1] == [-0.25, 0.75, -0.25, -0.25]


def test_batches_hold_rows_of_like_length():
    rows = [([1] * n, [2] * n, [1.0] * n) for n in (10, 20, 100, 300) for _ in range(8)]
    shapes = {ids.shape[1] for ids, _, _ in batches(rows, 448, stream(0))}
    assert shapes == {48, 112, 224}


def test_a_reviser_is_trained_from_its_own_drafts(tiny_folder):
    lm = load_lm(tiny_folder)
    course = Course(
        "sums", ("2x9",), rounds=2, problems=12, batch_tokens=1000, compiled=False, steps=2
    )
    made, accuracy = train_reviser(lm, course, "revisers/t")
    assert len(accuracy) == 2
    assert made.card.train_flops > lm.card.train_flops
    assert made.card.identity != lm.card.identity
    with pytest.raises(ValueError, match="unknown lesson 'rewards'; did you mean 'reward'"):
        train_reviser(lm, replace(course, lesson="rewards"), "x")


def test_drafts_after_verifier_feedback_are_not_read_as_a_vote(planted):
    """The truth stops such a chain: its majority stood at 0.68 next to 0.43 without feedback."""
    script = lambda p, c, s, _: right(p) if s == c + 1 else f"{s}=1"  # noqa: E731
    told = planted(script, replace(REVISE, feedback="verdict"), n=6)
    plain = planted(script, REVISE, n=6)
    assert told.selectors == ("coverage", "first", "last")
    assert plain.selectors == ("coverage", "majority", "logprob", "first", "last")
    assert not {"majority", "logprob"} & set(accuracy_table([told], 20)["selector"])
    assert Entry("run.a", "", told).selectors == told.selectors
    for name in ("majority", "logprob"):
        with pytest.raises(ValueError, match="with verifier feedback the truth decides"):
            told.values(name, np.array([2]))

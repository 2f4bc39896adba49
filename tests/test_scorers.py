"""Scorers: what they read, what they cost, that they learn, and where their numbers go."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from scaling import compute
from scaling.ladder import ScorerCourse, train_scorer
from scaling.ladder.scorer import new_scorer
from scaling.methods.scorers import (
    SelfCertainty,
    load_scorer,
    save_scorer,
    score_run,
    scorer_name,
    scorer_notes,
    step_ends,
)
from scaling.models import load_lm
from scaling.records import Plan, Problem, Verdict
from scaling.runs import load_run
from scaling.sampling import sample_run
from scaling.store.scores import read_scores, write_scores
from scaling.tasks import get_task


@pytest.fixture(scope="module")
def lm(tiny_folder):
    return load_lm(tiny_folder)


@pytest.fixture(scope="module")
def run(lm, tmp_path_factory):
    task = get_task("sums", ("2x99", "3x99"))
    plan = Plan(chains=6, max_new_tokens=12)
    made = sample_run(
        lm, task, task.problems(8), plan, tmp_path_factory.mktemp("r"), progress=False
    )
    return load_run(made.path, text=True)


class Length:
    """A rule: the longer the better; free."""

    name, card = "length", None

    def __call__(self, pairs):
        return [[float(len(text)), -float(len(text))] for _, text in pairs]


def test_steps_end_at_their_mark_and_at_the_last_token():
    assert step_ends([5, 9, 1, 9, 2, 3], 0, 9) == [1, 3, 5]
    assert step_ends([9, 5, 9], 1, 9) == [2]  # a mark in the prompt is none; the last counts once


def test_a_reward_model_scores_a_prefix_as_it_scores_it_inside_the_whole(lm):
    """A causal model: the score after step one does not know step two."""
    torch.manual_seed(0)
    scorer = new_scorer(lm, "process", "s")
    torch.nn.init.normal_(scorer.model.score.weight)
    problem = Problem("1+2+3", "1+2+3:", "", "3x9")
    whole, part, other = scorer([(problem, t) for t in ("1+2=3;3+3=6", "1+2=3;", "7")])
    assert len(whole) == 2
    assert part[0] == pytest.approx(whole[0], abs=1e-5)
    assert len(other) == 1
    outcome = replace(scorer, kind="outcome")
    assert outcome([(problem, "1+2=3;3+3=6")])[0] == pytest.approx(whole[-1:], abs=1e-6)


def test_self_certainty_is_the_mean_divergence_from_uniform(lm):
    """Against torch's own KL divergence, token by token."""
    problem, text = Problem("1+2", "1+2:", "", "2x9"), "1+2=3"
    ids = torch.tensor([lm.encode(problem.prompt + text)])
    logs = lm.model(ids).logits[0].detach().float().log_softmax(-1)[3 : ids.shape[1]]
    uniform = torch.full_like(logs, 1 / logs.shape[-1])
    each = torch.nn.functional.kl_div(logs, uniform, reduction="none").sum(-1)
    padding = (problem, "1+2=3;3+3=6;6+6=12")
    scores = SelfCertainty(lm)([(problem, text), padding])
    assert scores[0][0] == pytest.approx(float(each.mean()), abs=1e-5)


class Marked:
    """A task whose truth can be seen: a solution is right when its last character is early."""

    name, levels = "sums", ("2x99",)
    problems = staticmethod(get_task("sums", ("2x99",)).problems)
    prompt = staticmethod(lambda problem: problem.prompt)

    @staticmethod
    def verify(problem, text):
        return Verdict(text, text[-1:] < "=")


@pytest.mark.slow
def test_a_reward_model_learns_what_can_be_seen(lm):
    lesson = ScorerCourse(
        problems=48, chains=8, epochs=8, batch_tokens=1536, rate=1e-2, kind="outcome"
    )
    scorer, seen = train_scorer(lm, Marked, lesson, "scorers/early")
    assert 0.1 < seen["right"] < 0.9
    assert scorer.card.train_flops > lm.card.train_flops
    problem = Marked.problems(1, "test")[0]
    ranked = [score for (score,) in scorer([(problem, "12+3" + last) for last in "0369*+abyz"])]
    assert max(ranked[6:]) < min(ranked[:6])


def test_a_course_without_contrast_stops_and_says_so(lm):
    class Never(Marked):
        verify = staticmethod(lambda problem, text: Verdict(text, False))

    with pytest.raises(ValueError, match="0% of the samples are right: no contrast"):
        train_scorer(lm, Never, ScorerCourse(problems=4, chains=2), "s")
    with pytest.raises(ValueError, match="kind is 'vibes'; allowed: process, outcome"):
        train_scorer(lm, Never, ScorerCourse(kind="vibes"), "s")


def test_a_saved_scorer_says_the_same_and_is_known_by_its_identity(lm, tmp_path):
    torch.manual_seed(1)
    scorer = new_scorer(lm, "process", "scorers/process")
    torch.nn.init.normal_(scorer.model.score.weight)
    scorer.model.to(torch.bfloat16).float()
    save_scorer(scorer, tmp_path / "p")
    pairs = [(Problem("1+2", "1+2:", "", "2x9"), "1+2=3;")]
    name = scorer_name(tmp_path / "p")
    assert load_scorer(name)(pairs)[0] == pytest.approx(scorer(pairs)[0], abs=1e-3)
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pkl"))
    notes = scorer_notes(Plan(scorer=name))["scorer"]
    assert notes["shape"] == json.loads((tmp_path / "p" / "card.json").read_text())["shape"]
    with pytest.raises(ValueError, match="holds no scorer of identity 'ffffffff'"):
        load_scorer(f"{tmp_path / 'p'}@ffffffff")
    with pytest.raises(ValueError, match="holds no scorer"):
        load_scorer(tmp_path)


def test_scores_go_beside_a_sealed_run_and_are_read_back(run):
    before = {path: path.read_bytes() for path in run.path.glob("*.*")}
    write_scores(run, score_run(Length(), run))
    assert {path: path.read_bytes() for path in run.path.glob("*.*")} == before
    pool = load_run(run.path)
    assert {"length:last", "length:min", "length:product", "weighted length:last"} <= set(
        pool.selectors
    )
    lengths = run.samples["text"].str.len().to_numpy(float).reshape(8, 6, 1)
    assert np.array_equal(pool.score("length:last"), -lengths)
    assert np.array_equal(pool.score("length:min"), -lengths)
    assert np.array_equal(pool.score("length:product"), 0 * lengths)
    chosen = pool.values("length:last", np.array([6]))[:, 0]
    correct = pool.correct[:, :, 0]
    by_hand = [c[n == n.min()].mean() for c, n in zip(correct, lengths[:, :, 0], strict=True)]
    assert chosen == pytest.approx(by_hand)


def test_a_scorer_is_paid_for_by_the_selectors_that_use_it(run, lm):
    scorer = SelfCertainty(lm)
    write_scores(run, score_run(scorer, run))
    pool, k = load_run(run.path), np.array([1, 6])
    shape = compute.Shape(**lm.card.shape)
    plain, paid = (pool.cost("flops", k, selector=s) for s in ("coverage", "self-certainty:last"))
    prompt, new = (
        run.samples[c].to_numpy(float).reshape(8, 6) for c in ("prompt_tokens", "completion_tokens")
    )
    passes = compute.forward_flops(shape, new, prompt, logit_rows=0).mean(axis=1)
    once = compute.forward_flops(shape, prompt[:, 0], 0, logit_rows=0)
    assert paid - plain == pytest.approx(once[:, None] + passes[:, None] * k, rel=1e-9)
    assert pool.curve("self-certainty:last", "flops").x[-1] == pytest.approx(paid[:, 1].mean())


def test_scores_of_another_run_are_refused(run, tmp_path):
    path = write_scores(run, score_run(Length(), run))
    data = path.read_bytes()
    moved = replace(run, sha256="0" * 64)
    with pytest.raises(ValueError, match="scores another run"):
        read_scores(moved)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="holds no scores"):
        read_scores(run)
    path.unlink()


def test_a_run_without_texts_cannot_be_scored(run):
    with pytest.raises(ValueError, match="load the run with text=True"):
        score_run(Length(), load_run(run.path))

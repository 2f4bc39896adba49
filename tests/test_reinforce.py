"""Reward training: gradients that are known, compute that adds up, and a bandit that is learnt."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest
import torch

from scaling import compute
from scaling.models import LM, load_lm
from scaling.records import Sample, Verdict
from scaling.tasks import get_task
from scaling.train import Recipe, Trainer, reinforce, train_rung
from scaling.train.reinforce import (
    CREDIT,
    Course,
    credit_loss,
    imitate,
    padded,
    play_round,
    reward,
    row_of,
    sampling_flops,
)

SMALL = Course(
    problems=6, samples=4, max_new_tokens=4, replay=0.0, rate=3e-3, batch_tokens=512, compiled=False
)
RECIPE = Recipe(batch_tokens=512, warmup_steps=1)


@pytest.fixture
def lm(tiny_folder) -> LM:
    return load_lm(tiny_folder)


def script_verdict(monkeypatch, right) -> None:
    """Let the task's verifier say `right(text)`."""
    task = get_task("countdown", ("3x20",))
    monkeypatch.setattr(task, "verify", lambda problem, text: Verdict(text, bool(right(text))))
    monkeypatch.setattr(reinforce, "get_task", lambda *_: task)


def test_groups_are_credited_against_their_own_mean():
    rewards = np.array([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    assert CREDIT["expert"](rewards) is rewards
    advantages = CREDIT["grpo"](rewards)
    np.testing.assert_allclose(advantages[0], np.array([3, -1, -1, -1]) / np.sqrt(3))
    assert not advantages[1:].any()


def test_the_gradient_of_a_bandit_is_that_of_its_expected_reward():
    rewards = torch.tensor([1.0, 0.0, 0.3, 0.0])
    logits = torch.tensor([0.2, -0.4, 0.9, 0.1], dtype=torch.float64, requires_grad=True)
    (known,) = torch.autograd.grad((torch.softmax(logits, 0) * rewards).sum(), logits)
    for baseline in (0.0, 0.37):  # a baseline changes no expectation
        weights = torch.softmax(logits, 0).detach() * (rewards - baseline)  # every arm, by its odds
        rows = logits.expand(4, 1, 4)
        (ours,) = torch.autograd.grad(credit_loss(rows, torch.arange(4)[:, None], weights), logits)
        torch.testing.assert_close(-ours, known, rtol=1e-5, atol=1e-6)


def test_only_what_was_written_is_learnt(lm):
    ids, labels, _ = row_of(lm, "1,2=3:", "2+1=3", ended=True)
    assert lm.decode(ids) == "1,2=3:2+1=3"
    assert labels[:5] == [-100] * 5
    assert labels[5:] == [*lm.encode("2+1=3"), lm.tokenizer.eos_token_id]
    assert row_of(lm, "1,2=3:", "2+1=3", ended=False)[1][5:] == list(lm.encode("2+1=3"))


def test_batches_hold_every_row_once_and_have_few_shapes(lm):
    rows = [row_of(lm, "1,2=3:", "1" * n, True, float(n)) for n in range(1, 200, 7)]
    found = list(padded(rows, 512))
    weights = np.concatenate([weights.numpy() for *_, weights in found])
    assert sorted(weights[weights > 0]) == [row[2] for row in rows]
    assert {tuple(ids.shape) for ids, *_ in found} <= {(8, 64), (4, 128), (1, 288)}
    for ids, labels, weights in found:
        assert ((labels >= 0).any(dim=1) == (weights > 0)).all()
        learnt = labels[:, :-1] > lm.tokenizer.eos_token_id
        assert (labels[:, :-1][learnt] == ids[:, 1:][learnt]).all()


def test_the_compute_of_a_round_is_its_samples_and_its_updates(lm, monkeypatch):
    script_verdict(monkeypatch, lambda text: hash(text) % 2)
    trainer = Trainer(lm, RECIPE)
    before, seen = trainer.flops, []
    sample_groups = reinforce.sample_groups
    monkeypatch.setattr(
        reinforce, "sample_groups", lambda *a: seen.append(sample_groups(*a)) or seen[0]
    )
    facts = play_round(trainer, replace(SMALL, method="expert"), 0, repeat(("", "")))
    rows, rewards, log = seen[0]
    assert trainer.flops - before == pytest.approx(facts["sampling_flops"] + facts["update_flops"])
    kept = [row for row, right in zip(rows, rewards.ravel(), strict=True) if right]
    positions = 64 * 8 * -(-len(kept) // 8)
    want = float(compute.train_flops(trainer.shape, positions, 65 / 2))
    assert facts["update_flops"] == pytest.approx(want)
    assert facts["learnt"] == len(kept)
    alone = [  # the same from first principles: prompts once per problem, then token by token
        sum(compute.forward_flops(trainer.shape, 1, s.prompt_tokens + t - 1) for t in range(1, n))
        + compute.head_flops(trainer.shape)
        for s in log
        for n in [s.completion_tokens]
    ]
    prompts = {s.problem: s.prompt_tokens for s in log}
    shared = [compute.forward_flops(trainer.shape, n, 0, 0) for n in prompts.values()]
    assert facts["sampling_flops"] == pytest.approx(sum(alone) + sum(shared), rel=1e-3)


def test_a_prompt_is_paid_once_however_many_samples_share_it(lm):
    shape = compute.Shape(**lm.card.shape)
    log = [Sample("a", i, 0, "", "", True, 0, 0, 10, 10 * (i > 0), 5, 0, "stop") for i in range(3)]
    prompt = compute.forward_flops(shape, 10, 0, logit_rows=0)
    assert sampling_flops(shape, log) == pytest.approx(
        prompt + 3 * compute.sample_flops(shape, 10, 10, 5)
    )


@pytest.mark.parametrize("method", CREDIT)
def test_reward_makes_what_is_rewarded_more_likely(lm, monkeypatch, method):
    digits = "0123456789"  # a bandit: only the first character counts; 10 of 64 arms pay at first
    script_verdict(monkeypatch, lambda text: text[:1] in digits and text)
    trainer = Trainer(lm, RECIPE)
    course = replace(SMALL, method=method, problems=8, samples=8, max_new_tokens=1, rate=1e-2)
    rounds = [play_round(trainer, course, i, repeat(("", "")))["reward"] for i in range(25)]
    assert rounds[0] < 0.4
    assert np.mean(rounds[-5:]) > 0.8  # measured .97 to 1 for seeds 0, 1, 2


def test_a_reward_that_never_fires_says_so_and_stops(lm, tmp_path):
    with pytest.raises(ValueError, match="none of 24 samples of 3x20 was right"):
        reward(lm, [1e9], tmp_path, SMALL)
    with pytest.raises(ValueError, match="did you mean 'grpo'"):
        reward(lm, [1e9], tmp_path, replace(SMALL, method="grop"))
    with pytest.raises(ValueError, match="at most 264"):
        reward(lm, [1e9], tmp_path, replace(SMALL, max_new_tokens=400))


def test_checkpoints_count_all_compute_and_a_killed_run_goes_on(lm, tmp_path, monkeypatch):
    script_verdict(monkeypatch, lambda text: "1" in text)
    start = load_lm(imitate(lm, 2e8, tmp_path / "start", RECIPE))
    assert 2e8 <= start.card.train_flops - lm.card.train_flops < 4e8
    assert start.skills == ("thinking", "wait")
    course, budgets = replace(SMALL, max_new_tokens=16, replay=0.5), (5e7, 2e8)
    first = reward(start, budgets[:1], tmp_path / "grpo", course)
    before = (first[0] / "card.json").read_text()
    both = reward(start, budgets, tmp_path / "grpo", course)  # as after a kill: the first is there
    assert both[:1] == first
    assert (first[0] / "card.json").read_text() == before
    for path, budget in zip(both, budgets, strict=True):
        card = json.loads((path / "card.json").read_text())
        assert card["train_flops"] - start.card.train_flops >= budget
        total = card["start_flops"] + card["sampling_flops"] + card["update_flops"]
        assert card["train_flops"] == pytest.approx(total)
        assert load_lm(path).card.identity == card["identity"]
    rounds = json.loads((both[1] / "card.json").read_text())["rounds"]
    assert rounds[: len(json.loads(before)["rounds"])] == json.loads(before)["rounds"]
    assert not list((tmp_path / "grpo").glob(".*"))


def test_a_model_that_answers_directly_is_rewarded_without_a_trace(lm, tmp_path, monkeypatch):
    script_verdict(monkeypatch, lambda text: "1" in text)
    monkeypatch.setattr(reinforce, "examples", lambda *_: pytest.fail("no trace is to be replayed"))
    seen, row = [], row_of
    monkeypatch.setattr(reinforce, "row_of", lambda *a, **k: seen.append(a[1:3]) or row(*a, **k))
    course = replace(SMALL, direct=True, replay=0.5, max_new_tokens=16)
    (path,) = reward(replace(lm, skills=("revision",)), [1e8], tmp_path / "t/direct", course)
    answers = [answer for context, answer in seen if "=" in answer and "=" in context]
    assert any(re.fullmatch(r"[-+*/0-9=;]+", answer) for answer in answers)
    assert not [answer for answer in answers if ">" in answer]
    made = load_lm(path)
    assert (made.card.name, made.skills) == ("thinking/t/direct/1e8", ("revision",))
    assert made.card.train_flops >= lm.card.train_flops + 1e8


@pytest.mark.parametrize("budgets", [(1e9, 1e8), (1e8, 1e8), (0.0,), (-1.0, 1.0), ()])
def test_budgets_that_do_not_rise_are_refused_before_anything_is_trained(lm, tmp_path, budgets):
    """A checkpoint named 1e8 once held 3.4e9 FLOPs."""
    for train in (
        lambda: reward(lm, budgets, tmp_path, SMALL),
        lambda: train_rung("0.1M", budgets, tmp_path),
    ):
        with pytest.raises(ValueError, match="give FLOPs that rise"):
            train()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_fewer_flops_is_not_made_from_one_of_more(lm, tmp_path):
    """It once held the weights, and told the FLOPs, of the one that was there."""
    (tmp_path / "1e9").mkdir()
    (tmp_path / "1e9" / "card.json").write_text("{}")
    with pytest.raises(ValueError, match="1e9 is there, and 1e8, of fewer FLOPs, is not"):
        reward(lm, (1e8, 1e9, 1e10), tmp_path, SMALL)

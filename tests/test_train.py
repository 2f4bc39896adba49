"""Training lowers the loss, counts its compute exactly, and a branch leaves the trunk as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scaling import compute
from scaling.models import load_lm
from scaling.tasks import REVISE, WRONG, content_split
from scaling.train import Recipe, Trainer, batches, examples, train_rung

SMALL = Recipe(batch_tokens=1024, warmup_steps=2)


@pytest.fixture
def trainer() -> Trainer:
    return Trainer((32, 1), SMALL)


def test_the_loss_falls(trainer):
    losses = [trainer.step() for _ in range(40)]
    assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.5


def test_flops_are_those_of_the_tokens_that_were_computed(trainer):
    trainer.data = iter([[(torch.ones(4, 32, dtype=int), torch.ones(4, 32, dtype=int))]])
    trainer.step()
    assert trainer.tokens == 128
    assert trainer.flops == float(compute.train_flops(trainer.shape, 128, 33 / 2))


def test_a_branch_leaves_the_trunk_as_it_was(trainer):
    trainer.step()
    trunk = trainer.state()
    before = [p.clone() for p in trainer.model.parameters()]
    for _ in trainer.branch(trainer.flops * 4):
        pass
    assert any((a != b).any() for a, b in zip(before, trainer.model.parameters(), strict=True))
    trainer.restore(trunk)
    assert all((a == b).all() for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_examples_are_of_the_train_split_and_only_the_answer_is_learnt():
    stream = examples(0)
    pairs = [next(stream) for _ in range(500)]
    assert all(content_split(context.split(":")[0]) == "train" for context, _ in pairs)
    shown = [context.split(":", 1)[1] for context, _ in pairs]
    revisions = [drafts for drafts in shown if drafts]
    assert 20 < len(revisions) < 90  # 50 expected; outside by chance less than once in 10^5
    assert all(drafts[-1] in (REVISE, WRONG) for drafts in revisions)


def test_labels_are_the_ids_moved_by_one_where_they_count(trainer):
    step = next(batches(trainer.tokenizer, 0, 1024))
    for ids, labels in step:
        assert ids.shape == labels.shape
        counted = labels[:, :-1] >= 0
        assert (labels[:, :-1][counted] == ids[:, 1:][counted]).all()
        assert (labels >= 0).any(dim=1).all()


def test_a_rung_saves_checkpoints_that_record_their_own_path(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("scaling.train").train.SIZES, "mini", (32, 1))
    folders = train_rung("mini", (1e9, 3e9), tmp_path, SMALL)
    cards = [json.loads((folder / "card.json").read_text()) for folder in folders]
    assert [folder.name for folder in folders] == ["1e9", "3e9"]
    for card, budget in zip(cards, (1e9, 3e9), strict=True):
        assert budget <= card["train_flops"] < budget * 1.4
        assert card["train_tokens"] > 0
        assert card["recipe"]["seed"] == 0
    assert load_lm(folders[1]).card.identity == cards[1]["identity"]


def test_training_goes_on_after_a_kill_and_ends_in_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("scaling.train").train.SIZES, "mini", (32, 1))
    whole = train_rung("mini", (1e9, 3e9), tmp_path / "whole", SMALL)
    branch, killed = Trainer.branch, tmp_path / "killed"

    def dies_in_the_second_branch(self, flops):
        yield from (
            loss for i, loss in enumerate(branch(self, flops)) if flops < 2e9 or 1 / (3 - i)
        )

    monkeypatch.setattr(Trainer, "branch", dies_in_the_second_branch)
    with pytest.raises(ZeroDivisionError):
        train_rung("mini", (1e9, 3e9), killed, SMALL)
    assert [path.name for path in (killed / "mini").iterdir() if path.is_dir()] == ["1e9"]
    monkeypatch.setattr(Trainer, "branch", branch)
    resumed = train_rung("mini", (1e9, 3e9), killed, SMALL)
    for a, b in zip(whole, resumed, strict=True):
        assert load_lm(a).card.identity == load_lm(b).card.identity
    assert not list(killed.rglob("trunk*"))


def test_a_trunk_of_another_recipe_or_cut_short_is_refused(tmp_path, trainer):
    path = tmp_path / "trunk.safetensors"
    trainer.step()
    trainer.save(path)
    with pytest.raises(ValueError, match="another recipe"):
        Trainer((32, 1), Recipe(batch_tokens=2048)).resume(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        trainer.resume(path)

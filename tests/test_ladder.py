"""Training: losses fall, gradients are known, compute adds up, and a killed run continues."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from itertools import combinations, islice, repeat

import numpy as np
import pytest
import torch

from scaling import compute
from scaling.ladder import (
    LADDERS,
    Course,
    Recipe,
    Trainer,
    examples,
    held_out_loss,
    imitate,
    pretraining,
    reinforce,
    rounds,
    train_reviser,
    train_rung,
)
from scaling.ladder.presets import SHARES
from scaling.ladder.rounds import LESSONS, Pool, play_round, sampling_flops
from scaling.ladder.trainer import Muon, Row, token_loss
from scaling.models import LM, SIZES, load_lm
from scaling.records import Problem, Sample, Verdict
from scaling.tasks import REVISE, WRONG, content_split, get_task, traces

pytestmark = pytest.mark.filterwarnings("ignore:.*training rows were cut")
SMALL = Recipe(batch_tokens=1024, warmup_steps=2)
COURSE = Course(
    problems=6, chains=4, max_new_tokens=4, replay=0.0, rate=3e-3, batch_tokens=512, compiled=False
)
PROBLEM = Problem("2+1=3", "2+1:", "3", "easy")


@pytest.fixture
def trainer() -> Trainer:
    made = Trainer((32, 1), SMALL)
    made.feed(examples(0))
    return made


@pytest.fixture
def lm(tiny_folder) -> LM:
    return load_lm(tiny_folder)


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setitem(SIZES, "mini", (32, 1))


def script_verdict(monkeypatch, right) -> None:
    """Let the task's verifier say `right(text)`."""
    task = get_task("countdown", ("3x20",))
    monkeypatch.setattr(task, "verify", lambda problem, text: Verdict(text, bool(right(text))))
    monkeypatch.setattr(rounds, "get_task", lambda *_: task)


# -- rows and steps ------------------------------------------------------------------------------


def test_only_what_has_a_weight_is_learnt(lm):
    trainer = Trainer(lm, SMALL)
    ids, labels, weights = trainer.row("1,2=3:", ["2+1=3"])
    assert lm.decode(ids) == "1,2=3:2+1=3"
    learnt = [label for label, weight in zip(labels, weights, strict=True) if weight]
    assert learnt == [*lm.encode("2+1=3"), lm.tokenizer.eos_token_id]
    *_, cut = trainer.row("1,2=3:", ["2+1=3"], ended=False)
    assert cut == [*weights[:-1], 0.0]


def test_a_draft_is_followed_by_the_stop_token_and_not_by_what_asks_for_the_next(lm):
    ids, labels, weights = Trainer(lm, SMALL).row("1+2:", ["3=4", "5=3"], [0.0, 1.0], "~")
    text = lm.decode(ids)
    assert text == "1+2:3=4~5=3"
    learnt = [(i, label) for i, (label, w) in enumerate(zip(labels, weights, strict=True)) if w]
    assert [label for _, label in learnt] == [*lm.encode("5=3"), 1]
    assert text[learnt[0][0]] == "~"
    assert labels[text.index("~") - 1] == 1


def test_batches_hold_every_row_once_have_few_shapes_and_cut_what_is_too_long(lm):
    trainer = Trainer(lm, replace(SMALL, widths=(64, 128, 144)))
    rows = [trainer.row("1,2=3:", ["1" * n], [float(n)]) for n in range(1, 200, 7)]
    batches = list(trainer.pack(rows, 512))
    largest = np.concatenate([weights.amax(1).numpy() for *_, weights in batches])
    assert sorted(largest[largest > 0]) == [max(row.weights) for row in rows]
    assert {tuple(ids.shape) for ids, *_ in batches} <= {(8, 64), (4, 128), (3, 144)}
    assert trainer.rows_cut == sum(len(row.ids) > 144 for row in rows) > 0
    for ids, labels, weights in batches:
        learnt = (weights[:, :-1] > 0) & (labels[:, :-1] != trainer.stop)
        assert (labels[:, :-1][learnt] == ids[:, 1:][learnt]).all()


def test_the_loss_falls(trainer):
    losses = [trainer.step() for _ in range(40)]
    assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.5


def test_a_step_takes_its_tokens_in_as_many_parts_as_the_recipe_says():
    for parts in (1, 2, 4):
        trainer = Trainer((32, 1), replace(SMALL, parts=parts))
        trainer.feed(examples(0))
        batches = trainer.next_batches()
        assert len(batches) == parts
        assert all(512 < ids.numel() * parts <= 1024 for ids, *_ in batches)


def test_muon_steps_as_torch_does_matrix_by_matrix():
    torch.manual_seed(0)
    shapes = [(32, 32)] * 3 + [(96, 32)] * 2 + [(32, 96)]
    ours, theirs = ([torch.randn(shape).requires_grad_() for shape in shapes] for _ in range(2))
    options = {"lr": 0.1, "weight_decay": 0.01, "adjust_lr_fn": "match_rms_adamw"}
    steppers = Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for a, b in zip(ours, theirs, strict=True):
        b.data.copy_(a.data)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        before = [a.detach().clone() for a in ours]
        for stepper in steppers:
            stepper.step()
        for start, a, b in zip(before, ours, theirs, strict=True):  # torch rounds to bfloat16
            assert (a - b).norm() < 0.05 * (a - start).norm()
            b.data.copy_(a.data)


def test_flops_are_those_of_the_tokens_that_were_computed(trainer):
    ids = torch.ones(4, 32, dtype=int)
    trainer.learn([(ids, ids, torch.ones(4, 32))], 1e-3)
    assert trainer.tokens == 128
    assert trainer.flops == float(compute.train_flops(trainer.shape, 128, 33 / 2))


def test_examples_are_of_the_train_split_and_some_show_drafts():
    pairs = list(islice(examples(0), 500))
    assert all(content_split(context.split(":")[0]) == "train" for context, _ in pairs)
    shown = [context.split(":", 1)[1] for context, _ in pairs]
    revisions = [drafts for drafts in shown if drafts]
    assert 20 < len(revisions) < 90  # 50 expected; outside by chance less than once in 10^5
    assert all(drafts[-1] in (REVISE, WRONG) for drafts in revisions)


def test_a_mixture_gives_each_task_and_level_its_share_in_either_split():
    ladder = LADDERS["maze"]
    for split in ("train", "test"):
        pairs = list(islice(examples(0, ladder, split), 3200))
        assert all(content_split(context[:-1]) == split for context, _ in pairs)
        counts = Counter((context[-1], context.count(",")) for context, _ in pairs)
        assert len(counts) == 16  # tasks by depth; a maze of d junctions has 4 d - 1 commas
        for (mark, _), count in counts.items():
            expected = 3200 / 8 * SHARES["maze" if mark == ":" else "maze-search"]
            assert abs(count - expected) < 5 * expected**0.5  # outside once in 10^6
    assert any("|" in text for _, text in pairs)


def test_the_held_out_loss_is_the_mean_over_learnt_tokens_of_each_task_and_level(lm, monkeypatch):
    monkeypatch.setattr(pretraining, "HELD_OUT", 40)
    ladder = replace(LADDERS["maze"], mixture={("maze", "2"): 0.5, ("maze-search", "3"): 0.5})
    found = held_out_loss(lm, ladder)
    assert found == held_out_loss(lm, ladder)
    nats = {"maze/2": [], "maze-search/3": []}
    for context, text in islice(examples(0, ladder, "test"), 40):  # one by one, by hand
        ids = [*lm.encode(context), *lm.encode(text), lm.tokenizer.eos_token_id]
        logits = lm.model(torch.tensor([ids])).logits[0].detach().float().log_softmax(-1)
        learnt = range(len(lm.encode(context)), len(ids))
        kind = "maze/2" if context.endswith(":") else "maze-search/3"
        nats[kind] += [-float(logits[i - 1, ids[i]]) for i in learnt]
    assert found == pytest.approx({kind: np.mean(values) for kind, values in nats.items()}, 1e-4)


# -- pre-training --------------------------------------------------------------------------------


def test_a_branch_leaves_the_trunk_as_it_was(trainer):
    trainer.step()
    trunk = trainer.state()
    before = [p.clone() for p in trainer.model.parameters()]
    for _ in trainer.branch(trainer.flops * 4):
        pass
    assert any((a != b).any() for a, b in zip(before, trainer.model.parameters(), strict=True))
    trainer.restore(trunk)
    assert all((a == b).all() for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_a_rung_saves_checkpoints_that_record_their_own_path(tmp_path):
    folders = train_rung("mini", (1e9, 3e9), tmp_path, SMALL)
    cards = [json.loads((folder / "card.json").read_text()) for folder in folders]
    assert [folder.name for folder in folders] == ["1e9", "3e9"]
    for card, budget in zip(cards, (1e9, 3e9), strict=True):
        assert budget <= card["train_flops"] < budget * 1.4
        assert card["train_tokens"] > 0
        assert card["recipe"]["seed"] == 0
    assert load_lm(folders[1]).card.identity == cards[1]["identity"]


def test_a_rung_continues_from_a_checkpoint_of_another_ladder(tmp_path):
    first = train_rung("mini", (1e9,), tmp_path / "first", SMALL)[0]
    spent = load_lm(first).card.train_flops
    ladder = replace(LADDERS["arithmetic"], start=("first", "1e9"))
    later = train_rung(
        "mini", (spent * 1.001,), tmp_path / "second", replace(SMALL, rate=0), ladder
    )
    card = json.loads((later[0] / "card.json").read_text())
    assert card["start"] == ["first", "1e9"]
    assert card["train_flops"] > spent
    assert card["identity"] == load_lm(first).card.identity  # at a rate of 0 nothing is learnt
    with pytest.raises(ValueError, match=r"1e\+09: first/mini/1e9 has spent as much; give more"):
        train_rung("mini", (1e9,), tmp_path / "third", SMALL, ladder)


def test_training_continues_after_a_kill_and_ends_in_the_same_weights(tmp_path, monkeypatch):
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
    half = killed / "mini" / ".3e9.tmp"  # as a kill leaves it that comes while a model is written
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    resumed = train_rung("mini", (1e9, 3e9), killed, SMALL)
    for a, b in zip(whole, resumed, strict=True):
        assert load_lm(a).card.identity == load_lm(b).card.identity
    assert not list(killed.rglob("trunk*"))


def test_a_kept_trunk_takes_larger_budgets_later_and_each_seed_has_its_folder(tmp_path):
    once = train_rung("mini", (1e9, 3e9), tmp_path / "once", SMALL)
    train_rung("mini", (1e9,), tmp_path / "twice", SMALL, keep_trunk=True)
    later = train_rung("mini", (1e9, 3e9), tmp_path / "twice", SMALL)
    other = train_rung("mini", (1e9,), tmp_path / "twice", replace(SMALL, seed=2))
    cards = [[load_lm(path).card for path in paths] for paths in (once, later, other)]
    assert cards[0][1].identity == cards[1][1].identity
    assert [card.name for card in cards[1]] == ["twice/mini/1e9", "twice/mini/3e9"]
    assert cards[2][0].name == "twice/mini-seed2/1e9"
    assert cards[2][0].identity != cards[1][0].identity


def test_a_trunk_of_another_recipe_or_cut_short_is_refused(tmp_path, trainer):
    path = tmp_path / "trunk.safetensors"
    trainer.step()
    trainer.save(path)
    with pytest.raises(ValueError, match="another recipe"):
        Trainer((32, 1), Recipe(batch_tokens=2048)).resume(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        trainer.resume(path)


# -- lessons -------------------------------------------------------------------------------------


def chain(*right: bool, texts: str = "") -> list[Sample]:
    rows = enumerate(zip(texts or "w" * len(right), right, strict=True))
    return [Sample("p", 0, i, t, t, r, 0, 0, 4, 0, 1, 0, "stop") for i, (t, r) in rows]


def taught(name: str, *chains: list[Sample], feedback: bool = False, means=None):
    return LESSONS[name](Pool(PROBLEM, chains), feedback, means or {})


def test_groups_are_weighed_against_their_own_mean():
    group = [chain(right) for right in (True, False, False, False)]
    assert [weights for _, weights in taught("expert", *group)] == [[1], [0], [0], [0]]
    advantages = [weight for _, (weight,) in taught("grpo", *group)]
    np.testing.assert_allclose(advantages, np.array([3, -1, -1, -1]) / np.sqrt(3))
    for same in (True, False):
        assert taught("grpo", chain(same), chain(same)) == [(["w"], [0])] * 2


def test_the_shortest_right_samples_of_a_problem_are_learnt():
    lengths = [(9, True), (2, False), (5, True), (7, True), (5, True)]
    group = [[replace(chain(right)[0], completion_tokens=n, chain=i)]
             for i, (n, right) in enumerate(lengths)]  # fmt: skip
    assert [weight for _, (weight,) in taught("shortest", *group)] == [0, 0, 1, 0, 1]
    assert [weight for _, (weight,) in taught("shortest", *group[:2])] == [1, 0]


def test_a_decaying_rate_rises_and_falls_to_nothing_at_the_last_budget(lm, tmp_path, monkeypatch):
    """The rate of a round follows from the compute so far: a killed run continues with it."""
    script_verdict(monkeypatch, lambda text: True)
    course, budgets = replace(COURSE, lesson="expert", decays=True), (5e8, 2e9)
    rates: list[float] = []
    monkeypatch.setattr(
        rounds, "play_round", lambda *args: rates.append(args[-1]) or play_round(*args)
    )
    first, last = reinforce(lm, budgets, tmp_path / "whole", course)
    count = len(rates)
    assert count > 6
    assert rates[0] == pytest.approx(course.rate / 3)
    falls = course.rate * (1 - np.arange(count) / count)  # rounds cost about the same
    np.testing.assert_allclose(rates[2:], falls[2:], atol=0.1 * course.rate)
    shutil.rmtree(last)
    done = len(json.loads((first / "card.json").read_text())["rounds"])
    reinforce(lm, budgets, tmp_path / "whole", course)
    assert rates[count] == pytest.approx(rates[done])


@pytest.mark.parametrize("right", range(7))
def test_reward_for_pass_at_k_is_what_a_sample_adds_to_groups_of_k(right):
    """Enumerated: every group of three of six samples, with the sample and without it."""
    verdicts = [i < right for i in range(6)]
    gains = []
    for i in range(6):
        groups = {True: [], False: []}
        for group in combinations(range(6), 3):
            groups[i in group].append(any(verdicts[j] for j in group))
        gains.append(np.mean(groups[True]) - np.mean(groups[False]))
    want = (np.array(gains) - np.mean(gains)) / (np.std(gains) or 1)
    found = [weight for _, (weight,) in taught("pass_at_k", *map(chain, verdicts))]
    np.testing.assert_allclose(found, want, atol=1e-12)
    assert (right in (0, 4, 5, 6)) == (not any(found))  # any three of them hold a right one
    with pytest.raises(ValueError, match="at least 2 chains"):
        taught("pass_at_k", chain(True))


def test_lessons_of_revision_end_in_a_right_draft_and_rewards_are_against_the_mean():
    second = chain(False, True, False, False, texts="wrww")
    assert taught("answer", second) == [(["w", "r", "r"], [0, 1, 1])]
    assert taught("answer", second, feedback=True) == [(["w", "r"], [0, 1])]
    late = chain(False, False, False, True, texts="wwwr")
    assert taught("avoid", late)[0][1] == [0, -0.3, -0.3, 1, 1]
    assert taught("answer", chain(False, False))[0] == (["w", "w", PROBLEM.answer], [0, 0, 1])
    means = {(PROBLEM.level, step): 0.25 for step in range(4)}
    assert taught("reward", second, means=means)[0][1] == [-0.25, 0.75, -0.25, -0.25]
    assert taught("plain", second) == [([PROBLEM.answer], [1])]


def test_the_gradient_of_a_bandit_is_that_of_its_expected_reward():
    rewards = torch.tensor([1.0, 0.0, 0.3, 0.0])
    logits = torch.tensor([0.2, -0.4, 0.9, 0.1], dtype=torch.float64, requires_grad=True)
    (known,) = torch.autograd.grad((torch.softmax(logits, 0) * rewards).sum(), logits)
    for baseline in (0.0, 0.37):  # a baseline changes no expectation
        weights = torch.softmax(logits, 0).detach() * (rewards - baseline)  # every arm, by its odds
        nats = token_loss(logits.expand(4, 1, 4), torch.arange(4)[:, None])
        (ours,) = torch.autograd.grad((nats[:, 0] * weights).sum(), logits)
        torch.testing.assert_close(-ours, known, rtol=1e-5, atol=1e-6)


# -- rounds --------------------------------------------------------------------------------------


def test_the_compute_of_a_round_is_its_samples_and_its_updates(lm, monkeypatch):
    script_verdict(monkeypatch, lambda text: len(text) % 2)
    trainer, seen = Trainer(lm, replace(SMALL, widths=COURSE.widths)), []
    before, sample_round = trainer.flops, rounds.sample_round
    monkeypatch.setattr(rounds, "sample_round", lambda *a: seen.append(sample_round(*a)) or seen[0])
    facts = play_round(trainer, replace(COURSE, lesson="expert"), 0, repeat(("", "")), 1e-3)
    log = [sample for _, chains in seen[0] for (sample,) in chains]
    assert trainer.flops - before == pytest.approx(facts["sampling_flops"] + facts["update_flops"])
    assert facts["learnt"] == sum(sample.correct for sample in log) > 0
    positions = 64 * 8 * -(-facts["learnt"] // 8)
    want = float(compute.train_flops(trainer.shape, positions, 65 / 2))
    assert facts["update_flops"] == pytest.approx(want)
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
    log.append(Sample("a", 0, 1, "", "", True, 0, 0, 16, 14, 5, 0, "stop"))
    assert sampling_flops(shape, log) == pytest.approx(
        compute.forward_flops(shape, 10, 0, logit_rows=0)
        + 3 * compute.sample_flops(shape, 10, 10, 5)
        + compute.sample_flops(shape, 16, 14, 5)
    )


@pytest.mark.parametrize("lesson", ["expert", "shortest", "grpo", "pass_at_k"])
def test_reward_makes_what_is_rewarded_more_likely(lm, monkeypatch, lesson):
    digits = "0123456789"  # a bandit: only the first character counts; 10 of 64 arms pay at first
    script_verdict(monkeypatch, lambda text: text[:1] in digits and text)
    course = replace(COURSE, lesson=lesson, problems=8, chains=8, max_new_tokens=1)
    trainer = rounds.start(lm, course)
    rewards = [play_round(trainer, course, i, repeat(("", "")), 1e-2)["reward"] for i in range(25)]
    assert rewards[0] < 0.4
    assert np.mean(rewards[-5:]) > 0.8  # measured 0.97 to 1 for seeds 0, 1, 2


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({}, "none of 24 samples of 3x20 was right"),
        ({"lesson": "grop"}, "did you mean 'grpo'"),
        ({"max_new_tokens": 400}, "max_new_tokens is 400.*at most 27[0-9]"),
        ({"replay": 0.5}, "replay is 0.5, of no examples"),
    ],
)
def test_a_course_that_cannot_teach_is_refused(changes, match, lm, tmp_path):
    with pytest.raises(ValueError, match=match):
        reinforce(lm, [1e9], tmp_path, replace(COURSE, **changes))


def test_checkpoints_count_all_compute_and_a_killed_run_continues(lm, tmp_path, monkeypatch):
    script_verdict(monkeypatch, lambda text: "1" in text)
    start = load_lm(imitate(lm, 2e8, tmp_path / "start", Recipe(batch_tokens=512)))
    assert 2e8 <= start.card.train_flops - lm.card.train_flops < 4e8
    assert start.skills == ("thinking", "wait")
    course, budgets = replace(COURSE, max_new_tokens=16, replay=0.5), (5e7, 2e8)
    seen = []
    rest = tmp_path / "grpo", course, traces.examples, seen.append
    first = reinforce(start, budgets[:1], *rest)
    before = (first[0] / "card.json").read_text()
    both = reinforce(start, budgets, *rest)  # as after a kill
    assert both[:1] == first
    assert seen == first + both
    assert (first[0] / "card.json").read_text() == before
    for path, budget in zip(both, budgets, strict=True):
        card = json.loads((path / "card.json").read_text())
        assert card["train_flops"] - start.card.train_flops >= budget
        total = card["start_flops"] + card["sampling_flops"] + card["update_flops"]
        assert card["train_flops"] == pytest.approx(total)
        assert load_lm(path).card.identity == card["identity"]
    played = json.loads((both[1] / "card.json").read_text())["rounds"]
    assert played[: len(json.loads(before)["rounds"])] == json.loads(before)["rounds"]
    assert not list((tmp_path / "grpo").glob(".*"))


def test_a_model_that_answers_directly_is_rewarded_without_a_trace(lm, tmp_path, monkeypatch):
    script_verdict(monkeypatch, lambda text: "1" in text)
    seen, row = [], Trainer.row

    def noted(self, prompt, drafts, *rest, **options) -> Row:
        seen.append((prompt, drafts[0]))
        return row(self, prompt, drafts, *rest, **options)

    monkeypatch.setattr(Trainer, "row", noted)
    course, folder = replace(COURSE, replay=0.5, max_new_tokens=16), tmp_path / "thinking/t/direct"
    (path,) = reinforce(replace(lm, skills=("revision",)), [1e8], folder, course, examples)
    answers = [answer for context, answer in seen if "=" in answer and "=" in context]
    assert any(re.fullmatch(r"[-+*/0-9=;]+", answer) for answer in answers)
    made = load_lm(path)
    assert (made.card.name, made.skills) == ("thinking/t/direct/1e8", ("revision",))
    assert made.card.train_flops >= lm.card.train_flops + 1e8


@pytest.mark.parametrize("budgets", [(1e9, 1e8), (1e8, 1e8), (0.0,), (-1.0, 1.0), ()])
def test_budgets_that_do_not_rise_are_refused_before_anything_is_trained(lm, tmp_path, budgets):
    """A checkpoint named 1e8 once held 3.4e9 FLOPs."""
    for train in (
        lambda: reinforce(lm, budgets, tmp_path, COURSE),
        lambda: train_rung("0.1M", budgets, tmp_path),
    ):
        with pytest.raises(ValueError, match="give FLOPs that rise"):
            train()
    assert not list(tmp_path.iterdir())


def test_no_budget_is_taken_for_a_model_whose_training_flops_are_unknown(lm, tmp_path):
    """The untrained model was saved as the checkpoint of the budget: NaN is below no number."""
    unknown = replace(lm, card=replace(lm.card, train_flops=float("nan")))
    for train in (
        lambda: imitate(unknown, 1e8, tmp_path / "start", SMALL),
        lambda: reinforce(unknown, [1e8], tmp_path, COURSE),
    ):
        with pytest.raises(ValueError, match="training FLOPs of tiny/1e9 are unknown"):
            train()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_fewer_flops_is_not_made_from_one_of_more(lm, tmp_path):
    """It once held the weights and the FLOPs of the one that was there."""
    (tmp_path / "1e9").mkdir()
    (tmp_path / "1e9" / "card.json").write_text("{}")
    with pytest.raises(ValueError, match="1e9 exists and 1e8, of fewer FLOPs, does not"):
        reinforce(lm, (1e8, 1e9, 1e10), tmp_path, COURSE)


def test_a_reviser_is_trained_from_its_own_drafts(lm):
    course = Course(
        "answer", "sums", ("2x9",), problems=12, chains=2, steps=2, step_per_batch=True, replay=0.0,
        plain=0.2, max_new_tokens=16, batch_tokens=1000, compiled=False,
    )  # fmt: skip
    made, accuracy = train_reviser(lm, course, 2, "revisers/t")
    assert len(accuracy) == 2
    assert made.card.train_flops > lm.card.train_flops
    assert made.card.identity != lm.card.identity
    with pytest.warns(UserWarning, match="training rows were cut after 16 tokens"):
        train_reviser(lm, replace(course, widths=(16,)), 1, "revisers/t")
    with pytest.raises(ValueError, match="unknown lesson 'rewards'; did you mean 'reward'"):
        train_reviser(lm, replace(course, lesson="rewards"), 1, "x")


def test_a_trainer_without_rows_says_so_and_does_not_pretend_to_learn():
    """A loop over `step` until some compute was spent never ended when no rows were given."""
    with pytest.raises(ValueError, match="call feed"):
        Trainer("0.1M", Recipe()).step()

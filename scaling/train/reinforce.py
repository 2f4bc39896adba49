"""Learn by reward: to think, after imitating traces of mixed quality, or to answer at once.

A round samples a group of traces per train-split problem and learns from each trace once, weighted
by `CREDIT`: expert iteration keeps the right ones (weight 1 or 0), GRPO weighs a trace by its
reward less its group's mean, in standard deviations (Shao et al. 2024, arXiv:2402.03300, eq. 4; one
update per sample, so that no ratio needs a clip, and no reference model is kept). A share of what
was learnt before is replayed: traces for a thinker, the ladder's own examples for a model that
answers directly. The only reward is the task's verifier on the final answer.

All compute is counted: `train_flops` of a checkpoint are those of its start, of every sampled
token, and of three forwards per position learnt from. Not here: how traces are written (`traces`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from scaling import compute
from scaling.engine import Engine
from scaling.methods import draw
from scaling.models import CARD, LM, load_lm
from scaling.records import Plan, Sample, look_up
from scaling.tasks import get_task, stream
from scaling.tasks.traces import examples
from scaling.train import Recipe, Trainer, batches, check_budgets, flops_name, save_checkpoint
from scaling.train import examples as direct_examples

WIDTHS = (64, 128, 288)  #: padded lengths of traces; few, since each is compiled
SKILLS = ["thinking", "wait"]  #: methods that a card says its model was trained for
PROMPT_TOKENS = 24  #: room for the longest prompt
Row = tuple[list[int], list[int], float]  #: ids, labels (-100: not learnt), weight


def keep_right(rewards: np.ndarray) -> np.ndarray:
    """Return weights of expert iteration, (problems, samples): only right traces count."""
    return rewards


def group_baseline(rewards: np.ndarray) -> np.ndarray:
    """Return GRPO's advantages, (problems, samples); 0 where a whole group fares alike."""
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    spread = rewards.std(axis=1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)


CREDIT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "expert": keep_right,
    "grpo": group_baseline,
}


@dataclass(frozen=True)
class Course:
    """How a model is rewarded; written into its card."""

    method: str = "grpo"  #: a name in `CREDIT`
    levels: tuple[str, ...] = ("3x20",)  #: of Countdown
    direct: bool = False  #: replay direct answers, not traces
    problems: int = 64  #: per round
    samples: int = 8  #: per problem
    max_new_tokens: int = 256  #: longest trace, or answer
    updates: int = 1  #: optimiser steps per round
    replay: float = 0.1  #: examples of what was learnt before, per sample learnt from
    rate: float = 1e-3
    batch_tokens: int = 2048  #: padded tokens per forward
    compiled: bool = True
    seed: int = 0


def imitate(
    lm: LM, flops: float, path: Path, recipe: Recipe, levels: tuple[str, ...] = ("3x20",)
) -> Path:
    """Train on written traces for `flops` more, the rate falling to zero; return the checkpoint."""
    trainer = Trainer(lm, recipe)
    pairs = examples(recipe.seed, levels)
    trainer.data = batches(trainer.tokenizer, recipe.seed, recipe.batch_tokens, pairs, WIDTHS)
    before = trainer.flops
    bar = tqdm(total=flops, unit="FLOP", unit_scale=True, desc=f"imitate {path.name}")
    for loss in trainer.branch(trainer.flops + flops):
        bar.update(trainer.flops - before - bar.n)
        bar.set_postfix(loss=f"{loss:.3f}")
    bar.close()
    notes = {"recipe": asdict(recipe), "start": lm.card.name, "imitation_flops": flops}
    notes |= {"final_loss": float(np.mean(trainer.losses[-20:])), "skills": SKILLS}
    return save_checkpoint(trainer, path, f"thinking/{path.parent.name}/{path.name}", notes)


def sample_groups(
    trainer: Trainer, course: Course, index: int
) -> tuple[list[Row], np.ndarray, list[Sample]]:
    """Return a round's traces as rows of weight 1, their rewards (problems, samples), their log."""
    seed = stream("reward", course.seed, index).getrandbits(31)
    task = get_task("countdown", course.levels)
    problems = task.problems(course.problems, "train", seed)
    plan = Plan(chains=course.samples, max_new_tokens=course.max_new_tokens, seed=seed)
    lm = LM(trainer.model, trainer.tokenizer, None)  # type: ignore[arg-type]
    engine = Engine(trainer.model, eos_ids=[trainer.tokenizer.eos_token_id])
    rows, rewards, log = [], [], []
    for problem, samples in draw(lm, task, problems, plan, engine):
        rows += [row_of(lm, problem.prompt, s.text, s.finish == "stop") for s in samples]
        rewards.append([float(s.correct) for s in samples])
        log += samples
    return rows, np.array(rewards), log


def row_of(lm: LM, context: str, text: str, ended: bool, weight: float = 1.0) -> Row:
    """Return (ids, labels, weight) of a text after its context, the stop token where it ended."""
    given, written = list(lm.encode(context)), list(lm.encode(text))
    written += [lm.tokenizer.eos_token_id] * ended
    ids = given + written
    return ids[:-1], [-100] * (len(given) - 1) + written, weight


def padded(
    rows: Sequence[Row], batch_tokens: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield (ids, labels (rows, width), weights (rows,)), like lengths together.

    Shapes are few, as compiling wants it: a batch is filled up with rows of nothing to learn.
    """
    groups: dict[int, list[Row]] = {width: [] for width in WIDTHS}
    for row in rows:
        groups[next(width for width in WIDTHS if len(row[0]) <= width)].append(row)
    for width, group in groups.items():
        size = max(1, batch_tokens // width)
        for start in range(0, len(group), size):
            part = group[start : start + size]
            part += [([], [], 0.0)] * (size - len(part))
            ids = torch.tensor([row + [0] * (width - len(row)) for row, _, _ in part])
            labels = torch.tensor([row + [-100] * (width - len(row)) for _, row, _ in part])
            yield ids, labels, torch.tensor([float(weight) for *_, weight in part])


def credit_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the sum over rows of weight x (-log p of the row's labels), in nats.

    With advantages as weights its gradient is that of the policy gradient, sign reversed.
    """
    nats = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return (nats.view(labels.shape).sum(dim=1) * weights).sum()


def learn(trainer: Trainer, rows: Sequence[Row], course: Course) -> float:
    """Take one optimiser step on weighted rows, per label; return the FLOPs it took."""
    count, before = sum(sum(i >= 0 for i in row[1]) for row in rows), trainer.flops
    trainer.learn(
        padded(rows, course.batch_tokens), lambda *part: credit_loss(*part) / count, course.rate
    )
    return trainer.flops - before


def sampling_flops(shape: compute.Shape, log: Sequence[Sample]) -> float:
    """Return what a round's samples cost, each problem's prompt computed once."""
    prompts = {sample.problem: sample.prompt_tokens for sample in log}
    ledger = np.array([(s.prompt_tokens, s.prompt_tokens, s.completion_tokens) for s in log])
    shared = compute.forward_flops(shape, np.array(list(prompts.values())), 0, logit_rows=0)
    return float(np.sum(shared) + np.sum(compute.sample_flops(shape, *ledger.T)))


def play_round(trainer: Trainer, course: Course, index: int, replay: Iterator) -> dict[str, float]:
    """Sample, credit, learn; return the round's facts.

    Errors: ValueError where not one sample of the first round was right.
    """
    rows, rewards, log = sample_groups(trainer, course, index)
    spent = sampling_flops(trainer.shape, log)
    trainer.flops += spent
    if index == 0 and not rewards.any():
        raise ValueError(
            f"none of {rewards.size} samples of {', '.join(course.levels)} was right: a reward "
            "that never fires teaches nothing; start from a more trained model, or an easier level"
        )
    weights = CREDIT[course.method](rewards).ravel()
    kept = [(ids, labels, w) for (ids, labels, _), w in zip(rows, weights, strict=True) if w]
    lm = LM(trainer.model, trainer.tokenizer, None)  # type: ignore[arg-type]
    pairs = [next(replay) for _ in range(round(course.replay * len(kept)))]
    kept += [row_of(lm, a, b, ended=True) for a, b in pairs if len(a + b) < WIDTHS[-1]]
    order = np.random.default_rng([course.seed, index]).permutation(len(kept))
    parts = [part for part in np.array_split(order, course.updates) if len(part)]
    updates = sum(learn(trainer, [kept[i] for i in part], course) for part in parts)
    tokens = np.mean([sample.completion_tokens for sample in log])
    facts = {"reward": rewards.mean(), "tokens": tokens, "learnt": len(kept)}
    return facts | {"sampling_flops": spent, "update_flops": updates}


def reward(lm: LM, budgets: Sequence[float], folder: Path, course: Course) -> list[Path]:
    """Train by reward; return checkpoints at `budgets` FLOPs (rising) beyond the start's own.

    A checkpoint is complete or absent: the same call goes on after the last complete one, with
    fresh optimisers. Errors: ValueError for an unknown method, budgets that do not rise, or a
    reward that never fires.
    """
    look_up(CREDIT, course.method, "method")
    check_budgets(budgets)
    if course.max_new_tokens > WIDTHS[-1] - PROMPT_TOKENS:
        raise ValueError(
            f"max_new_tokens is {course.max_new_tokens}; traces that are learnt from have at most "
            f"{WIDTHS[-1] - PROMPT_TOKENS}"
        )
    paths = [folder / flops_name(budget) for budget in budgets]
    done = [path for path in paths if (path / CARD).exists()]
    if done != paths[: len(done)]:
        lacks = next(path for path in paths if path not in done)
        raise ValueError(
            f"{done[-1]} is there, and {lacks.name}, of fewer FLOPs, is not: it can not be made "
            "from what has learnt more; leave that budget out, or give another folder (--out)"
        )
    start, lm = lm.card, load_lm(done[-1]) if done else lm
    trainer = Trainer(lm, Recipe(seed=course.seed, compiled=course.compiled))
    spent = {"sampling_flops": 0.0, "update_flops": 0.0}
    rounds: list[dict[str, float]] = []
    if done:
        notes = json.loads((done[-1] / CARD).read_text())
        spent, rounds = {name: notes[name] for name in spent}, notes["rounds"]
    seed = stream("replay", course.seed, len(rounds)).getrandbits(31)
    replay = direct_examples(seed) if course.direct else examples(seed, course.levels)
    bar = tqdm(total=budgets[-1], unit="FLOP", unit_scale=True, desc=course.method)
    for budget, path in zip(budgets, paths, strict=True):
        while path not in done and trainer.flops - start.train_flops < budget:
            facts = play_round(trainer, course, len(rounds), replay)
            spent = {name: value + facts.pop(name) for name, value in spent.items()}
            rounds.append({name: round(float(value), 4) for name, value in facts.items()})
            bar.update(trainer.flops - start.train_flops - bar.n)
            bar.set_postfix(rounds[-1])
        if path not in done:
            notes = {"course": asdict(course), "start": start.name, "rounds": rounds}
            notes |= {"start_flops": start.train_flops} | spent | {"skills": lm.skills}
            name = f"thinking/{folder.parent.name}/{folder.name}/{path.name}"
            save_checkpoint(trainer, path, name, notes)
    bar.close()
    return paths

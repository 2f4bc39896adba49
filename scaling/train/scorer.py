"""Train a reward model on a model's own samples, graded by the verifier.

The verdict on a whole solution is one rollout from each of its prefixes, so it labels every step's
end: fitted by logistic loss, the head learns the chance that a solution that begins like this ends
right. A "process" model learns from every step, an "outcome" model from the last alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm.auto import tqdm

from scaling import compute
from scaling.engine import Engine
from scaling.methods import draw
from scaling.methods.scorers import KINDS, RewardModel, padded
from scaling.models import LM, make_card
from scaling.records import Plan
from scaling.tasks import Task, stream
from scaling.train import descend, optimisers


@dataclass(frozen=True)
class Lesson:
    """How a reward model is trained; written into its card."""

    kind: str = "process"
    problems: int = 2000  #: of the train split
    chains: int = 8  #: solutions of each
    epochs: int = 2
    rate: float = 1e-3
    batch_rows: int = 256
    seed: int = 0


def new_scorer(lm: LM, kind: str, name: str) -> RewardModel:
    """Return a checkpoint's body with a scalar head that knows nothing yet."""
    from transformers import LlamaForTokenClassification

    config = copy.deepcopy(lm.model.config)
    config.num_labels, config.classifier_dropout = 1, 0.0
    config._attn_implementation = "eager"
    model = LlamaForTokenClassification(config)
    model.model.load_state_dict(lm.model.model.state_dict())
    torch.nn.init.zeros_(model.score.weight)
    return RewardModel(model.float(), lm, replace(lm.card, name=name), kind)


def train_scorer(lm: LM, task: Task, lesson: Lesson, name: str) -> tuple[RewardModel, dict]:
    """Return a reward model, and what its training saw; all compute is in its card.

    Solutions are the model's own on train-split problems. Each step's end is labelled by the
    verdict on the whole; the loss is the mean logistic loss per solution.
    """
    if lesson.kind not in KINDS:
        raise ValueError(f"kind is {lesson.kind!r}; allowed: {', '.join(KINDS)}")
    scorer, rng = new_scorer(lm, lesson.kind, name), stream("scorer", lesson.seed)
    rows, flops = solutions(lm, task, lesson, scorer)
    share = float(np.mean([right for _, _, right in rows]))
    if not 0 < share < 1:
        raise ValueError(f"{share:.0%} of the samples are right: no contrast to learn from")
    shape = compute.Shape.from_config(scorer.model.config)
    both = optimisers(scorer.model, lesson.rate)
    total = lesson.epochs * (len(rows) // lesson.batch_rows)
    losses = []
    for step, batch in enumerate(tqdm(deal(rows, lesson, rng), total=total, desc=name)):
        losses.append(learn(scorer, both, batch, lesson.rate * (1 - step / total)))
        width = max(len(ids) for ids, _, _ in batch)
        flops += float(compute.train_flops(shape, len(batch) * width, (width + 1) / 2))
    scorer.model.to(torch.bfloat16).float()  # what anybody will load
    card = make_card(scorer.model, name, lm.card.train_flops + flops, lm.card.train_tokens)
    seen = {"solutions": len(rows), "right": share, "loss": float(np.mean(losses[-20:]))}
    return replace(scorer, card=card), seen


def solutions(
    lm: LM, task: Task, lesson: Lesson, scorer: RewardModel
) -> tuple[list[tuple[list[int], list[int], bool]], float]:
    """Return (tokens, ends of steps, right) of the model's own solutions, and their FLOPs."""
    seed = stream("scorer", lesson.seed).getrandbits(31)
    plan = Plan(chains=lesson.chains, max_new_tokens=64, seed=seed)
    engine = Engine(lm.model, eos_ids=lm.eos_ids)
    rows, flops, shape = [], 0.0, compute.Shape.from_config(lm.model.config)
    problems = task.problems(lesson.problems, "train", seed)
    for problem, samples in draw(lm, task, problems, plan, engine):
        rows += [(*scorer.row(problem, sample.text), sample.correct) for sample in samples]
        ledger = [(s.prompt_tokens, s.prompt_tokens, s.completion_tokens) for s in samples]
        flops += float(compute.sample_flops(shape, *np.array(ledger).T).sum())
    return rows, flops


def deal(rows: list, lesson: Lesson, rng: Random) -> Iterator[list]:
    """Yield batches of like lengths, in random order, epoch by epoch."""
    size = lesson.batch_rows
    for _ in range(lesson.epochs):
        order = sorted(rng.sample(rows, len(rows)), key=lambda row: len(row[0]))
        starts = range(0, len(rows) - size + 1, size)
        yield from ([order[i] for i in range(s, s + size)] for s in rng.sample(starts, len(starts)))


def learn(scorer: RewardModel, both: Sequence[Any], batch: list, rate: float) -> float:
    """Take one step; return the loss per solution, in nats."""
    logits = scorer.model(input_ids=padded([ids for ids, _, _ in batch])).logits[..., 0].float()
    loss = torch.zeros(())
    for row, (_, ends, right) in zip(logits, batch, strict=True):
        ends = ends if scorer.kind == "process" else ends[-1:]
        label = torch.full((len(ends),), float(right))
        loss = loss + binary_cross_entropy_with_logits(row[ends], label)
    loss = loss / len(batch)
    loss.backward()
    descend(both, rate)
    return loss.item()

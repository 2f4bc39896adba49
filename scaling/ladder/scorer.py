"""Train a reward model on a model's own samples, graded by the verifier.

The verdict on a solution is one rollout from each of its prefixes, so it labels the end of every
step: fitted by logistic loss, the head learns the probability that a partial solution ends right. A
"process" model learns from every step, an "outcome" model only from the last.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm.auto import tqdm

from scaling import compute
from scaling.engine import Engine
from scaling.ladder.rounds import sampling_flops
from scaling.ladder.trainer import Batch, Recipe, Row, Trainer
from scaling.methods import draw
from scaling.methods.scorers import KINDS, RewardModel
from scaling.models import LM
from scaling.records import Plan
from scaling.tasks import Task, stream


@dataclass(frozen=True)
class ScorerCourse:
    """How a reward model is trained; written into its card."""

    kind: str = "process"
    problems: int = 2000  #: of the train split
    chains: int = 8  #: solutions of each
    epochs: int = 2
    rate: float = 1e-3
    batch_tokens: int = 12288
    seed: int = 0


def new_scorer(lm: LM, kind: str, name: str) -> RewardModel:
    """Return a checkpoint's body with a scalar head of zeros."""
    from transformers import LlamaForTokenClassification

    config = copy.deepcopy(lm.model.config)
    config.num_labels, config.classifier_dropout = 1, 0.0
    config._attn_implementation = "eager"
    model = LlamaForTokenClassification(config)
    model.model.load_state_dict(lm.model.model.state_dict())
    torch.nn.init.zeros_(model.score.weight)
    return RewardModel(model.float(), lm, replace(lm.card, name=name), kind)


def verdict_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the logistic loss of each position (rows, width), in nats; labels are 0 or 1."""
    return binary_cross_entropy_with_logits(outputs[..., 0], labels.float(), reduction="none")


def train_scorer(
    lm: LM, task: Task, course: ScorerCourse, name: str
) -> tuple[RewardModel, dict[str, float]]:
    """Return a reward model, and the facts of its training; all compute is in its card.

    Solutions are the model's own on train-split problems. Each step's end is labelled by the
    verdict on the whole solution.
    """
    if course.kind not in KINDS:
        raise ValueError(f"kind is {course.kind!r}; allowed: {', '.join(KINDS)}")
    scorer = new_scorer(lm, course.kind, name)
    rows, right, flops = solutions(lm, task, course, scorer)
    if not 0 < right < 1:
        raise ValueError(f"{right:.0%} of the samples are right: no contrast to learn from")
    trainer = Trainer(
        LM(scorer.model, lm.tokenizer, lm.card),
        Recipe(rate=course.rate, seed=course.seed),
        loss=verdict_loss,
    )
    trainer.flops += flops
    batches = list(epochs(trainer, rows, course))
    losses = [
        trainer.learn([batch], course.rate * (1 - step / len(batches)))
        for step, batch in enumerate(tqdm(batches, desc=name))
    ]
    trained = trainer.lm(name)
    card = replace(trained.card, train_tokens=lm.card.train_tokens)
    seen = {"solutions": len(rows), "right": right, "loss": float(np.mean(losses[-20:]))}
    return replace(scorer, model=trained.model.float(), card=card), seen


def solutions(
    lm: LM, task: Task, course: ScorerCourse, scorer: RewardModel
) -> tuple[list[Row], float, float]:
    """Return the model's solutions as rows, the share that is right, and their FLOPs.

    Positions where steps end have the verdict as label, and weight 1.
    """
    seed = stream("scorer", course.seed).getrandbits(31)
    plan = Plan(chains=course.chains, max_new_tokens=64, seed=seed)
    engine = Engine(lm.model, eos_ids=lm.eos_ids)
    rows, log = [], []
    for problem, samples in draw(
        lm, task, task.problems(course.problems, "train", seed), plan, engine
    ):
        for sample in samples:
            ids, ends = scorer.row(problem, sample.text)
            labels, weights = [0] * len(ids), [0.0] * len(ids)
            for end in ends if course.kind == "process" else ends[-1:]:
                labels[end], weights[end] = int(sample.correct), 1.0
            rows.append(Row(ids, labels, weights))
        log += samples
    right = float(np.mean([sample.correct for sample in log]))
    return rows, right, sampling_flops(compute.Shape.from_config(lm.model.config), log)


def epochs(trainer: Trainer, rows: list[Row], course: ScorerCourse) -> Iterator[Batch]:
    """Yield batches of rows of similar length in random order, epoch by epoch."""
    rng = stream("scorer", course.seed)
    for _ in range(course.epochs):
        batches = list(trainer.pack(rng.sample(rows, len(rows)), course.batch_tokens))
        yield from rng.sample(batches, len(batches))

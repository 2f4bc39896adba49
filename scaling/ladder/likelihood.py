"""The exact chance of a reference answer: no sampling, one forward pass.

The chance that a model writes a given text is the product of the chances of its tokens. Where a
problem has one right answer, that is its pass@1 at temperature 1, and 1 - (1 - p)^k its coverage
by k samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scaling.ladder.trainer import Recipe, Row, Trainer, as_batch
from scaling.models import LM, load_lm
from scaling.records import Problem
from scaling.tasks import GeneratedTask

BATCH = 128  #: answers per forward pass
CARD_COLUMNS = ("n_params", "train_flops", "train_tokens")


def example_nats(trainer: Trainer, rows: Sequence[Row]) -> np.ndarray:
    """Return minus the log-likelihood (rows,) of the learnt tokens of each row, in nats."""
    nats = np.empty(len(rows))
    order = np.argsort([len(row.ids) for row in rows])
    for at in np.split(order, range(BATCH, len(rows), BATCH)):
        some = [rows[i] for i in at]
        ids, labels, weights = as_batch(some, len(some), max(len(row.ids) for row in some))
        with torch.no_grad():
            outputs = trainer.model(input_ids=ids.to(trainer.device), use_cache=False).logits
        found = trainer.loss(outputs.float(), labels.to(trainer.device)).cpu() * weights
        nats[at] = found.sum(dim=1).numpy()
    return nats


def answer_nats(lm: LM, problems: Sequence[Problem]) -> tuple[np.ndarray, np.ndarray]:
    """Return minus the log-likelihood of each reference answer in nats, and its tokens.

    Both (problems,). The stop token is part of an answer.
    """
    trainer = Trainer(lm, Recipe())
    rows = [trainer.row(problem.prompt, [problem.answer]) for problem in problems]
    return example_nats(trainer, rows), np.array([np.count_nonzero(row.weights) for row in rows])


def likelihood_table(
    checkpoints: Iterable[Path], task: GeneratedTask, problems: int
) -> pd.DataFrame:
    """Return one row per checkpoint and test problem: the likelihood of the reference answer.

    problems: number per level. Columns: model, n_params, train_flops, train_tokens, level, problem
    (its number within the level), nats, tokens.
    """
    drawn = task.problems(problems * len(task.levels))
    common = pd.DataFrame({"level": [problem.level for problem in drawn]})
    common["problem"] = common.groupby("level").cumcount()
    parts = []
    for path in checkpoints:
        lm = load_lm(path)
        nats, tokens = answer_nats(lm, drawn)
        card = {name: getattr(lm.card, name) for name in CARD_COLUMNS}
        parts.append(pd.DataFrame({"model": lm.card.name, **card, **common, "nats": nats,
                                   "tokens": tokens}))  # fmt: skip
    return pd.concat(parts, ignore_index=True)

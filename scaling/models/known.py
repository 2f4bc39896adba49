"""Models whose shape and training are published: `known_models.csv`, a row per size. No torch.

A row provides a model's training FLOPs, and lets its sampling be priced before its weights are
there. To add a model, add a row: a test checks that its shape gives its parameters.

Tokens are those of pretraining; `sure` as in data/published: A read in the source, B from a
secondary source, C recalled. Shapes were recalled, and sum to the printed `n_params`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scaling.compute import Shape, size_names

TABLE = Path(__file__).with_name("known_models.csv")


@dataclass(frozen=True)
class Known:
    """One row: a model, or a checkpoint of it."""

    names: tuple[str, ...]  #: of its repositories, fine-tuned ones included
    shape: Shape
    n_params: int  #: as published
    train_tokens: float  #: NaN where not published
    step_tokens: float  #: tokens per training step, for revisions "step1000"; NaN where none
    train_context: int  #: tokens per row of training
    source: str
    sure: str

    def tokens_at(self, revision: str = "") -> float:
        """Return the tokens seen by a checkpoint, from the step in its name; all for the last one.

        NaN if they are not published, or if a commit does not show which checkpoint it is.
        """
        if step := re.fullmatch(r"step(\d+)", revision):
            return int(step[1]) * self.step_tokens
        unclear = revision not in ("", "main") and not math.isnan(self.step_tokens)
        return math.nan if unclear else self.train_tokens


def rows(path: Path = TABLE) -> Iterator[Known]:
    """Yield the rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            family = row["family"]
            config = {name: int(row[field]) for field, name in size_names(family).items()}
            traits = {"model_type": family, "tie_word_embeddings": row["tied"] == "1"}
            yield Known(
                names=(row["name"], *row["also"].split()),
                shape=Shape.from_config(config | traits),
                n_params=int(row["n_params"]),
                train_tokens=float(row["train_tokens"] or math.nan),
                step_tokens=float(row["step_tokens"] or math.nan),
                train_context=int(row["train_context"]),
                source=row["source"],
                sure=row["sure"],
            )


def look_up(name: str, path: Path = TABLE) -> Known | None:
    """Return the row of a model, by its hub name or by a folder named like the end of that name.

    Folders do not match a model with checkpoints of many steps: they may hold any of them.
    """
    for row in rows(path):
        names = {known.lower() for known in row.names}
        if math.isnan(row.step_tokens):
            names |= {known.split("/")[-1] for known in names}
        if name.lower() in names:
            return row
    return None

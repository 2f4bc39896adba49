"""The model's own forward behind the store interface: slow, right for any causal architecture.

Nothing is cached: each call runs the rows' whole contexts, padded on the right, where a causal
model cannot see. The lean forwards are checked against it; a family they lack runs on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from scaling.engine.draw import draw
from scaling.engine.lean import advance


class ReferenceStore:
    """Contexts of `slots` rows as token lists."""

    shares_prefixes = shares_contexts = False
    steps = 1
    draw = staticmethod(draw)
    advance = advance

    def __init__(self, model: Any, slots: int, capacity: int) -> None:
        self.model, self.device = model, model.device
        self.contexts: list[list[int]] = [[] for _ in range(slots)]

    def decode(self, last: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Return logits (rows, vocab) after one more token each; rows are slots 0..rows-1."""
        slots = range(last.shape[0])
        return self.prefill(slots, last[:, None].tolist(), positions.tolist())

    @torch.inference_mode()
    def prefill(
        self, slots: Sequence[int], ids: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> torch.Tensor:
        """Return logits (rows, vocab) after appending ids[i] at position starts[i] of slots[i]."""
        for slot, row, start in zip(slots, ids, starts, strict=True):
            self.contexts[slot][start:] = row
        contexts = [self.contexts[slot] for slot in slots]
        width = max(map(len, contexts))
        padded = [[*context, *[0] * (width - len(context))] for context in contexts]
        logits = self.model(torch.tensor(padded, device=self.model.device), use_cache=False).logits
        return torch.stack([row[len(c) - 1] for row, c in zip(logits, contexts, strict=True)])

    def adopt(self, source: int, row: int, length: int) -> None:
        """Copy the first `length` tokens of a slot into another."""
        self.contexts[row] = self.contexts[source][:length]

    move = adopt

"""Stores in torch: a lean forward pass with static keys and values, and the model's own forward.

A store owns the keys and values of `slots` rows. Rows 0..n-1 decode together; further slots hold
prompts, which `adopt` copies into rows. `native` has the same interface in C, `graphs` in Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from scaling.engine.draw import draw, uniforms
from scaling.engine.weights import Linear, Weights
from scaling.records import Plan

CHUNK = 16  #: capacities and attended lengths are multiples of this


def linear(x: torch.Tensor, layer: Linear) -> torch.Tensor:
    """Return the projection of x in x's precision; the product is in the weight's precision."""
    return F.linear(x.to(layer.weight.dtype), layer.weight, layer.bias).to(x.dtype)


def norm(x: torch.Tensor, layer: Linear, weights: Weights) -> torch.Tensor:
    """Return x after an RMS norm or a layer norm."""
    if weights.rms:
        return F.rms_norm(x, x.shape[-1:], layer.weight, weights.eps)
    return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, weights.eps)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return x (rows, time, heads, head_dim) with 2·half channels rotated; cos (.., half)."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


def activated(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Return the MLP's inner activation, gated if the family has gates."""
    gate, value = x.chunk(2, -1) if weights.shape.gated else (x, None)
    if weights.activation == "silu":
        gate = F.silu(gate)
    else:
        gate = F.gelu(gate, approximate="tanh" if weights.activation == "gelu_tanh" else "none")
    return gate if value is None else gate * value


def advance(
    store: Any, state: np.ndarray, plan: Plan, is_stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode `store.steps` tokens for each row of `state`, without stopping in between.

    Returns tokens (rows, steps), how many of them count (up to a stop token, or the row's cap), and
    the sums of their log-probabilities (rows, 2): the model's, and of the sampling distribution.
    """
    device, steps = store.device, 1 if plan.stop else store.steps
    first = state["length"] + state["count"] - 1
    ages = state["count"][:, None] + np.arange(steps)
    uniform = torch.from_numpy(uniforms(state["key"][:, None], ages)).to(device)
    last = torch.from_numpy(state["last"].copy()).to(device)
    position, longest = torch.from_numpy(first).to(device), int(first.max())
    drawn = []
    for step in range(steps):
        logits = store.decode(last, position + step, longest + step)
        drawn.append(store.draw(logits, uniform[:, step], plan))
        last = drawn[-1][0]
    tokens, *sums = (torch.stack(part, 1).cpu().numpy() for part in zip(*drawn, strict=True))
    return counted(tokens, np.stack(sums, 2), state, is_stop)


def counted(
    tokens: np.ndarray, sums: np.ndarray, state: np.ndarray, is_stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tokens (rows, steps), the number of valid ones per row, and their summed `sums`.

    sums (rows, steps, 2): log-probabilities of each token.
    """
    steps, stops = tokens.shape[1], is_stop[tokens]
    made = np.where(stops.any(1), stops.argmax(1) + 1, steps)
    made = np.minimum(made, state["cap"] - state["count"])
    counts = np.arange(steps) < made[:, None]
    return tokens, made, np.where(counts[:, :, None], sums, 0).sum(1)


class LeanStore:
    """Keys and values of `slots` rows of `capacity` positions, with the forward that fills them."""

    shares_prefixes = shares_contexts = False
    steps = 1  #: tokens per call of `advance`
    draw = staticmethod(draw)
    advance = advance

    def __init__(self, weights: Weights, slots: int, capacity: int, dtype: torch.dtype) -> None:
        s = weights.shape
        self.weights = weights
        self.capacity = -(-capacity // CHUNK) * CHUNK
        length = self.capacity + 1  # the last position is a bin for padding
        size = (s.layers, 2, slots, s.kv_heads, length, s.head_dim)
        self.device = weights.embedding.device
        self.kv = torch.zeros(size, dtype=dtype, device=self.device)
        self.range = torch.arange(max(slots, self.capacity + 1), device=self.kv.device)

    def decode(self, last: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Append one token to each of slots 0..rows-1; return the next logits (rows, vocab)."""
        rows = last.shape[0]
        positions = positions[:, None].clamp(max=self.capacity)
        hidden = self._forward(last[:, None], positions, slice(0, rows), longest + 1)
        return self._logits(hidden[:, 0])

    def prefill(
        self, slots: Sequence[int], ids: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> torch.Tensor:
        """Return logits (rows, vocab) after appending ids[i] at position starts[i] of slots[i]."""
        device, width = self.kv.device, max(len(row) for row in ids)
        padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=device)
        first = torch.tensor(starts, device=device)[:, None]
        positions = (first + self.range[:width]).clamp_(max=self.capacity)
        longest = max(start + len(row) for start, row in zip(starts, ids, strict=True))
        where = torch.tensor(slots, device=device)
        hidden = self._forward(padded, positions, where, longest)
        final = torch.tensor([len(row) - 1 for row in ids], device=device)
        return self._logits(hidden[self.range[: len(ids)], final])

    def adopt(self, source: int, row: int, length: int) -> None:
        """Copy the first `length` positions of a slot into another."""
        self.kv[:, :, row, :, :length] = self.kv[:, :, source, :, :length]

    move = adopt

    def _visible(self, half: torch.Tensor, slots: Any, length: int) -> torch.Tensor:
        """Return the keys or values (rows, kv_heads, length, head_dim) that rows attend to."""
        return half[slots, :, :length]

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = norm(hidden, self.weights.norm, self.weights)
        return linear(hidden, Linear(self.weights.head))

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, slots: Any, longest: int
    ) -> torch.Tensor:
        """Return hidden states (rows, time, hidden); ids and positions are (rows, time).

        slots: a slice, whose keys are read without a copy, or a tensor (rows,).
        """
        w = self.weights
        x = w.embedding[ids].to(self.kv.dtype)
        if w.positions is not None:
            x = x + w.positions[positions.clamp(max=w.shape.context - 1)]
        length = min(-(-longest // CHUNK) * CHUNK, self.capacity)
        seen = self.range[:length] <= positions[:, :, None]  # (rows, time, length)
        mask = torch.zeros_like(seen, dtype=x.dtype).masked_fill_(~seen, -torch.inf)
        turn = None
        if w.cos is not None and w.sin is not None:
            at = positions.clamp(max=w.shape.context - 1)
            turn = (w.cos[at][:, :, None], w.sin[at][:, :, None])
        for layer, block in enumerate(w.blocks):
            inner = norm(x, block.norm1, w)
            mixed = linear(self._attention(layer, inner, positions, slots, mask, turn), block.out)
            x = x + mixed if not w.parallel else x
            up = activated(linear(norm(x, block.norm2, w), block.up), w)
            x = x + linear(up, block.down) + (mixed if w.parallel else 0)
        return x

    def _attention(self, layer, x, positions, slots, mask, turn):
        """Return attended values (rows, time, heads·head_dim); also store keys and values."""
        w, s, (rows, time, _) = self.weights, self.weights.shape, x.shape
        block = w.blocks[layer]
        split = [s.heads, s.kv_heads, s.kv_heads]
        qkv = linear(x, block.qkv).view(rows, time, sum(split), s.head_dim)
        q, k, v = qkv.split(split, dim=2)
        if block.q_norm is not None:
            q = F.rms_norm(q, q.shape[-1:], block.q_norm, w.eps)
            k = F.rms_norm(k, k.shape[-1:], block.k_norm, w.eps)
        if turn is not None:
            q, k = (rotated(part, *turn).to(x.dtype) for part in (q, k))
        cache = self.kv[layer]
        at = self.range[slots] if isinstance(slots, slice) else slots
        cache[0, at[:, None], :, positions] = k.to(cache.dtype)
        cache[1, at[:, None], :, positions] = v.to(cache.dtype)
        keys, values = (self._visible(half, slots, mask.shape[-1]) for half in cache)
        q = q.view(rows, time, s.kv_heads, -1, s.head_dim).permute(0, 2, 3, 1, 4)
        scores = q.reshape(rows, s.kv_heads, -1, s.head_dim) @ keys.transpose(-1, -2)
        scores = scores.view(rows, s.kv_heads, -1, time, mask.shape[-1]) * s.head_dim**-0.5
        weights = (scores + mask[:, None, None]).softmax(-1)
        out = weights.view(rows, s.kv_heads, -1, mask.shape[-1]) @ values
        out = out.view(rows, s.kv_heads, -1, time, s.head_dim).permute(0, 3, 1, 2, 4)
        return out.reshape(rows, time, -1)


class ReferenceStore:
    """The model's own forward over whole contexts: slow, and right for any causal architecture.

    Nothing is cached. Rows are padded on the right, where a causal model cannot see. The other
    stores are checked against it, and a family that they do not support runs on it.
    """

    shares_prefixes = shares_contexts = False
    steps = 1
    draw = staticmethod(draw)
    advance = advance

    def __init__(self, model: Any, slots: int, capacity: int) -> None:
        self.model, self.device = model, model.device
        self.contexts: list[list[int]] = [[] for _ in range(slots)]

    def decode(self, last: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Append one token to each of slots 0..rows-1; return the next logits (rows, vocab)."""
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

"""The lean forward on a GPU: fused kernels, shared prompts, each decode step one CUDA graph.

Small models are bound by kernel launches, large pools by keys and values. So a step is nine
kernels per layer, replayed as a graph without the host; and rows that share a prompt read its keys
and values together, in place. Graphs need fixed shapes: the number of rows is rounded up, and the
rows that pad a batch write to memory that is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from triton import cdiv, next_power_of_2
from triton.errors import TritonError

from scaling.engine import kernels
from scaling.engine.draw import draw, is_unfiltered, uniforms
from scaling.engine.lean import LeanStore, counted, linear
from scaling.engine.weights import Linear, Unknown, Weights
from scaling.records import Plan

STEPS = 16  #: tokens per graph replay, after which the host checks for finished rows
BUSY = 264  #: programs that keep a GPU busy: two on each of an H100's processors
ROOM = 4  #: largest size of a lane, as a multiple of the rows and items that are needed
NO_ONE = -1  #: in a table of readers


class Lane(NamedTuple):
    """The tensors that a step of a given size reads and writes, and its graph."""

    size: int  #: rows, padding included
    items: int  #: spans of keys beyond the rows' own: prompts that they share
    splits: int  #: parts in which each span is read
    plan: Plan
    tables: torch.Tensor  #: int32, flat: positions, counts, slots, starts, ends, readers
    last: torch.Tensor  #: (size,) newest tokens
    uniform: torch.Tensor  #: (size, STEPS) fp64
    trail: torch.Tensor  #: (size, STEPS) tokens drawn
    logs: torch.Tensor  #: (size, STEPS, 2) log-probabilities of these, fp64
    parts: tuple[torch.Tensor, ...]  #: what `kernels.attend` leaves to `kernels.merge`
    graph: list[Any]  #: the captured step, once there is one


class GraphStore(LeanStore):
    """A lean store whose rows share their prompts, and whose steps are captured and replayed."""

    shares_prefixes = True
    steps = STEPS

    def __init__(self, weights: Weights, slots: int, capacity: int, dtype: torch.dtype) -> None:
        super().__init__(weights, slots, capacity, dtype)
        s = weights.shape
        self.lanes: dict[tuple, list[Lane]] = {}  #: by how tokens are sampled
        self.pool = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None
        self.wide = max(next_power_of_2(s.head_dim), kernels.TILE)
        self.tile = max(next_power_of_2(s.heads // s.kv_heads), kernels.TILE)
        self.rows_per_tile = self.tile // (s.heads // s.kv_heads)  #: rows that one item serves
        self.reopened(slots, capacity)

    def reopened(self, slots: int, capacity: int) -> bool:
        """Clear all rows and slots; return whether `slots` of `capacity` positions fit."""
        count = self.kv.shape[2]
        self.slot_of = np.arange(count)  #: of a row: moving rows moves no keys
        self.base, self.shared = np.zeros(count, np.int64), np.zeros(count, np.int64)
        return slots <= count and capacity <= self.capacity

    # -- contents of rows --------------------------------------------------------------------------

    def adopt(self, source: int, row: int, length: int) -> None:
        """Start a row with `length` positions of a prompt's slot; nothing is copied."""
        self.base[row], self.shared[row] = source, length

    def move(self, source: int, row: int, length: int) -> None:
        """Move the row `source` to `row`."""
        self.slot_of[[source, row]] = self.slot_of[[row, source]]
        self.base[row], self.shared[row] = self.base[source], self.shared[source]

    def prefill(
        self, slots: Sequence[int], ids: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> torch.Tensor:
        """Return logits (rows, vocab) after appending ids[i] at position starts[i] of slots[i]."""
        rows = np.array(slots)
        shared = np.where(np.array(starts) > 0, self.shared[rows], 0)
        self.borrowed_prefix = [
            torch.from_numpy(x).to(self.device) for x in (self.base[rows], shared)
        ]
        return super().prefill(self.slot_of[rows].tolist(), ids, starts)

    def _visible(self, half: torch.Tensor, slots: Any, length: int) -> torch.Tensor:
        """Return the keys or values (rows, kv_heads, length, head_dim) that rows attend to."""
        base, shared = self.borrowed_prefix
        theirs = (self.range[:length] < shared[:, None])[:, None, :, None]
        return torch.where(theirs, half[base, :, :length], half[slots, :, :length])

    # -- steps -------------------------------------------------------------------------------------

    def decode(self, last: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Return logits (rows, vocab) after one more token each; rows are slots 0..rows-1.

        Raises `Unknown` where Triton cannot build or run the kernels.
        """
        try:
            lane = self._filled(positions.cpu().numpy(), Plan())
            lane.last[: len(last)] = last
            return self._step_logits(lane)[: len(last)]
        except (TritonError, RuntimeError) as error:
            message = str(error).strip().partition("\n")[0]
            raise Unknown(f"no Triton kernels here ({message})") from error

    def advance(
        self, state: np.ndarray, plan: Plan, is_stop: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the result of `lean.advance`, after up to STEPS tokens for each row."""
        n, left = len(state), state["cap"] - state["count"]
        steps = 1 if plan.stop else int(min(self.steps, left.max()))
        lane = self._filled(state["length"] + state["count"] - 1, plan)
        ages = state["count"][:, None] + np.arange(STEPS)
        lane.uniform[:n] = torch.from_numpy(uniforms(state["key"][:, None], ages))
        lane.last[:n] = torch.from_numpy(state["last"].copy())
        for _ in range(steps):
            lane.graph[0].replay() if lane.graph else self._step(lane)
        tokens, logs = (part[:n, :steps].cpu().numpy() for part in (lane.trail, lane.logs))
        return counted(tokens, logs, state, is_stop)

    def _filled(self, positions: np.ndarray, plan: Plan) -> Lane:
        """Return the lane for rows 0..n-1 at these positions, with its tables filled."""
        n = len(positions)
        rows = np.flatnonzero(self.shared[:n])
        rows = rows[np.argsort(self.base[rows], kind="stable")]
        new = np.diff(self.base[rows], prepend=-1) != 0
        rank = np.arange(len(rows)) - np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))
        opens = rank % self.rows_per_tile == 0
        lane = self._lane(n, int(opens.sum()), plan)
        size, most = lane.size, lane.size + lane.items
        where = np.full(size, self.capacity)
        where[:n] = np.minimum(positions, self.capacity)
        slots, starts, ends = (np.zeros(most, np.int64) for _ in range(3))
        readers = np.full((most, self.rows_per_tile), NO_ONE)
        slots[:n], starts[:size] = self.slot_of[:n], self.capacity
        starts[:n], readers[:size, 0] = self.shared[:n], np.arange(size)
        items = slice(size, size + int(opens.sum()))
        slots[items], ends[items] = self.base[rows[opens]], self.shared[rows[opens]]
        readers[size + opens.cumsum() - 1, rank % self.rows_per_tile] = rows
        tables = (where, np.zeros(size), slots, starts, ends, readers.ravel())
        lane.tables.copy_(torch.from_numpy(np.concatenate(tables).astype(np.int32)))
        return lane

    def _lane(self, rows: int, items: int, plan: Plan) -> Lane:
        """Return the smallest lane for these rows and items; a new one if all are far too large.

        Capturing a lane takes as long as hundreds of steps.
        """
        lanes = self.lanes.setdefault((plan.temperature, plan.top_k, plan.top_p, plan.min_p), [])
        most = ROOM * (rows + items)
        fit = [x for x in lanes if x.size >= rows and x.items >= items and x.size + x.items <= most]
        if not fit:
            fit = [self._new_lane(_rounded(rows), items and next_power_of_2(items), plan)]
            if self.pool is not None:
                self._capture(fit[0])
            lanes += fit
        return min(fit, key=lambda lane: lane.size + lane.items)

    def _new_lane(self, size: int, items: int, plan: Plan) -> Lane:
        s, splits = self.weights.shape, 1
        fewest = min(size, items) if items else size
        while splits < 8 and self.capacity > 4 * splits * kernels.KEYS and (
            fewest * s.kv_heads * splits < BUSY
        ):  # fmt: skip
            splits *= 2

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        parts = size, s.heads, 2 * splits
        tables = zeros(2 * size + (size + items) * (3 + self.rows_per_tile), dtype=torch.int32)
        tables[:size] = self.capacity
        tables[2 * size + (size + items) * 3 :] = NO_ONE
        return Lane(
            size, items, splits, plan, tables,
            last=zeros(size, dtype=torch.int64), uniform=zeros(size, STEPS, dtype=torch.float64),
            trail=zeros(size, STEPS, dtype=torch.int64),
            logs=zeros(size, STEPS, 2, dtype=torch.float64),
            parts=(zeros(*parts), zeros(*parts), zeros(*parts, self.wide)), graph=[],
        )  # fmt: skip

    def _capture(self, lane: Lane) -> None:
        """Run a lane's step twice, so that no lazy set-up is captured, then capture it."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._step(lane)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            self._step(lane)
        lane.graph.append(graph)

    def _step(self, lane: Lane) -> None:
        """Append each row's newest token to its context, draw the next token and record it."""
        tokens, own, sampled = self._drawn(self._step_logits(lane), lane)
        counts = lane.tables[lane.size :]
        kernels.note[(cdiv(lane.size, 256),)](
            tokens, own, sampled, lane.last, lane.tables, counts, lane.trail, lane.logs, lane.size,
            self.capacity, STEPS=STEPS, BLOCK=256,
        )  # fmt: skip

    def _drawn(self, logits: torch.Tensor, lane: Lane) -> tuple[torch.Tensor, ...]:
        """Return the result of `draw.draw`, by two kernels if the plan has no filter."""
        plan, size = lane.plan, lane.size
        counts = lane.tables[size : 2 * size]
        if plan.temperature == 0 or not is_unfiltered(plan):
            return draw(logits, lane.uniform.gather(1, counts.long()[:, None])[:, 0], plan)
        vocab, coldness = logits.shape[-1], 1 / plan.temperature
        piece = min(next_power_of_2(vocab), kernels.PIECE)
        pieces = cdiv(vocab, piece)
        sizes = {"VOCAB": vocab, "PIECE": piece, "PIECES": pieces, "coldness": coldness}
        tops, sums, cooled = logits.new_empty(3, size, pieces, dtype=torch.float32)
        own, sampled = logits.new_empty(2, size, dtype=torch.float32)
        tokens = torch.empty_like(lane.last)
        kernels.weigh[(size, pieces)](logits, tops, sums, cooled, **sizes)
        kernels.pick[(size,)](
            logits, tops, sums, cooled, lane.uniform, counts, tokens, own, sampled,
            WIDE=next_power_of_2(pieces), STEPS=STEPS, **sizes,
        )  # fmt: skip
        return tokens, own, sampled

    def _step_logits(self, lane: Lane) -> torch.Tensor:
        """Return logits (size, vocab) of the rows' newest tokens; store their keys and values."""
        w = self.weights
        x = w.embedding[lane.last].to(self.kv.dtype)
        if w.positions is not None:
            at = lane.tables[: lane.size].clamp(max=w.shape.context - 1)
            x = x + w.positions[at]
        normed = self._normed(x, (), w.blocks[0].norm1)
        for layer, block in enumerate(w.blocks):
            mixed = linear(self._attended(layer, linear(normed, block.qkv), lane), block.out)
            normed = self._normed(x, () if w.parallel else (mixed,), block.norm2)
            down = linear(self._activated(linear(normed, block.up)), block.down)
            after = w.blocks[layer + 1].norm1 if layer + 1 < len(w.blocks) else w.norm
            normed = self._normed(x, (mixed, down) if w.parallel else (down,), after)
        return linear(normed, Linear(w.head))

    def _attended(self, layer: int, qkv: torch.Tensor, lane: Lane) -> torch.Tensor:
        w, s, size, most = self.weights, self.weights.shape, lane.size, lane.size + lane.items
        positions, _, slots, starts, ends, readers = lane.tables.split(
            [size, size, most, most, most, most * self.rows_per_tile]
        )
        block, cache = w.blocks[layer], self.kv[layer]
        out = qkv.new_empty(size, s.heads * s.head_dim)
        sizes = {"HEADS": s.heads, "D": s.head_dim, "WIDE": self.wide, "SPLITS": lane.splits}
        kernels.attend[(most, s.kv_heads, lane.splits)](
            qkv, cache, *(qkv if t is None else t for t in (w.cos, w.sin)),
            *(qkv if t is None else t for t in (block.q_norm, block.k_norm)),
            positions, slots, starts, ends, readers, *lane.parts, size, s.context - 1,
            *cache.stride()[:3], s.head_dim**-0.5, KV_HEADS=s.kv_heads,
            HALF=0 if w.cos is None else w.cos.shape[1], EPS=w.eps,
            NORMED=block.q_norm is not None, TILE=self.tile, KEYS=kernels.KEYS,
            PRECISION="ieee" if self.kv.dtype == torch.float32 else "tf32", **sizes,
        )  # fmt: skip
        kernels.merge[(size, s.heads)](*lane.parts, starts, out, **sizes)
        return out

    def _normed(self, x: torch.Tensor, branches: Sequence[torch.Tensor], layer: Linear) -> Any:
        """Add branches to the stream x (rows, hidden), in place; return its norm."""
        w, out, hidden = self.weights, torch.empty_like(x), x.shape[-1]
        first, second = (*branches, x, x)[:2]
        kernels.add_norm[(len(x),)](
            x, first, second, layer.weight, layer.weight if layer.bias is None else layer.bias, out,
            w.eps, HIDDEN=hidden, WIDE=next_power_of_2(hidden), ADDED=len(branches), RMS=w.rms,
            BIASED=layer.bias is not None,
        )  # fmt: skip
        return out

    def _activated(self, x: torch.Tensor) -> torch.Tensor:
        w, rows = self.weights, len(x)
        inner = w.shape.intermediate
        out = x.new_empty(rows, inner)
        kernels.activate[(rows, cdiv(inner, 1024))](
            x, out, INNER=inner, GATED=w.shape.gated, KIND=w.activation, BLOCK=1024
        )
        return out


def _rounded(rows: int) -> int:
    """Return the smallest 2^k or 3·2^k that is at least `rows`."""
    two = next_power_of_2(rows)
    return two * 3 // 4 if rows <= two * 3 // 4 and two > 2 else two

"""A store whose forward is in C: on a CPU several times faster than torch.

`isa` compiles `native.c`; without a compiler the engine uses `lean`.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from scaling.engine.draw import draw, is_unfiltered
from scaling.engine.isa import Compiled
from scaling.engine.lean import advance
from scaling.engine.weights import Linear, Unknown, Weights
from scaling.records import Plan

SPAN, TILE = 16, 64  #: as in native.c
WIDE = 2 * SPAN  #: outputs are padded to a multiple of this
LINE = 64  #: bytes of a cache line
STEPS = 8  #: tokens per call; a row that stops within leaves its tile, and is refilled after
ACTIVATIONS = ("silu", "gelu", "gelu_tanh")
LAYER = ("norm1", "norm1_bias", "qkv", "qkv_bias", "q_norm", "k_norm", "out", "out_bias", "norm2",
         "norm2_bias", "up", "up_bias", "down", "down_bias")  # fmt: skip
SIZES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "inner", "vocab", "turned", "rms",
         "gated", "activation", "parallel", "bf16")  # fmt: skip
TABLES = ("embedding", "positions", "cos", "sin", "norm", "norm_bias", "head")


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in LAYER]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_long) for name in SIZES),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in TABLES),
        ("layer", ctypes.POINTER(_Layer)),
        ("blocks", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in ("kv", "base", "shared")),
    ]


@functools.cache
def workers() -> ThreadPoolExecutor:
    """Return the helper threads of the calling thread; C runs without the interpreter's lock."""
    return ThreadPoolExecutor(os.cpu_count())


def _panels(weight: torch.Tensor, lanes: int, bf16: bool) -> torch.Tensor:
    """Return a matrix (out, in) as zero-padded panels (n, in, columns), two vectors wide.

    bf16: in bfloat16, with the inputs padded too and in pairs (n, in/2, columns, 2).
    """
    (out, inside), columns = weight.shape, 2 * lanes
    step = 2 if bf16 else 1
    padded = torch.nn.functional.pad(weight, (0, -inside % WIDE if bf16 else 0, 0, -out % WIDE))
    padded = padded.to(torch.bfloat16 if bf16 else torch.float32)
    return padded.view(-1, columns, padded.shape[1] // step, step).transpose(1, 2).contiguous()


def _padded(bias: torch.Tensor | None) -> torch.Tensor | None:
    if bias is None:
        return None
    return torch.nn.functional.pad(bias.float(), (0, -len(bias) % WIDE))


def _vector(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else values.float().contiguous()


def _zeros(count: int) -> np.ndarray:
    """Return zero bytes that start at a cache line and become resident only where they are used.

    `torch.zeros` writes to all of its memory, which took longer than sampling.
    """
    room = np.zeros(count + LINE, np.uint8)
    skip = -room.ctypes.data % LINE
    return room[skip : skip + count]


class NativeWeights:
    """Weights packed for native.c. Raises `Unknown` for sizes that do not fill its vectors."""

    def __init__(self, weights: Weights, compiled: Compiled, bf16: bool = False) -> None:
        """`bf16`: compute in bfloat16 where the compiled engine has units for it."""
        shape = weights.shape
        self.compiled = compiled
        self.units = compiled.units if bf16 else 0
        self.bf16 = self.units > 0
        if shape.hidden % SPAN or shape.head_dim % SPAN:
            raise Unknown(f"hidden or head_dim is no multiple of {SPAN}")
        self.source, self.kept = weights, []  # type: ignore[var-annotated]
        self.layers = (_Layer * shape.layers)(*map(self._layer, weights.blocks))
        self.model = _Model(
            layers=shape.layers, hidden=shape.hidden, heads=shape.heads, kv_heads=shape.kv_heads,
            head_dim=shape.head_dim, inner=shape.intermediate, vocab=shape.vocab,
            turned=0 if weights.cos is None else weights.cos.shape[1], rms=weights.rms,
            gated=shape.gated, activation=ACTIVATIONS.index(weights.activation),
            parallel=weights.parallel, bf16=self.bf16, eps=weights.eps, layer=self.layers,
            **self._pointers(TABLES, [
                _vector(weights.embedding), _vector(weights.positions), _vector(weights.cos),
                _vector(weights.sin), _vector(weights.norm.weight), _vector(weights.norm.bias),
                _panels(weights.head, compiled.lanes, self.bf16),
            ]),
        )  # fmt: skip

    def _pointers(
        self, names: Sequence[str], tensors: Sequence[torch.Tensor | None]
    ) -> dict[str, Any]:
        self.kept += tensors
        pairs = zip(names, tensors, strict=True)
        return {name: None if t is None else t.data_ptr() for name, t in pairs}

    def _layer(self, block: Any) -> _Layer:
        tensors: list[torch.Tensor | None] = []
        for part in (block.norm1, block.qkv, (block.q_norm, block.k_norm), block.out, block.norm2,
                     block.up, block.down):  # fmt: skip
            if not isinstance(part, Linear):
                tensors += map(_vector, part)
            elif part.weight.dim() == 1:
                tensors += [_vector(part.weight), _vector(part.bias)]
            else:
                panels = _panels(part.weight, self.compiled.lanes, self.bf16)
                tensors += [panels, _padded(part.bias)]
        return _Layer(**self._pointers(LAYER, tensors))


class NativeStore:
    """Keys and values of `slots` rows; rows read the full blocks of their prompt in place.

    Among rows with equal contexts one is the leader: it computes and stores keys and values for
    all of them, until they draw different tokens.
    """

    shares_prefixes = shares_contexts = True
    steps = 1  #: of `advance` with filters
    device = torch.device("cpu")

    def __init__(self, weights: NativeWeights, slots: int, capacity: int) -> None:
        shape = weights.source.shape
        self.vocab, self.stride = shape.vocab, -(-shape.vocab // WIDE) * WIDE
        self.lanes = weights.compiled.lanes  #: positions of a block of keys and values
        self.weights = weights  # keeps what the pointers of self.model point to
        self.model = _Model.from_buffer_copy(weights.model)
        self.code = weights.compiled.code
        self.kv = _zeros(self._bytes(slots, capacity))
        self.reopened(slots, capacity)

    def _bytes(self, slots: int, capacity: int) -> int:
        shape, size = self.weights.source.shape, 2 if self.weights.bf16 else 4
        positions = -(-capacity // self.lanes) * self.lanes
        return slots * shape.layers * shape.kv_heads * 2 * positions * shape.head_dim * size

    def reopened(self, slots: int, capacity: int) -> bool:
        """Divide the memory into new slots, discarding its contents; return whether it suffices."""
        if self._bytes(slots, capacity) > len(self.kv):
            return False
        self.base, self.shared = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self.lead = np.arange(slots)  #: slot that holds this one's context: its own or another's
        self.model.blocks, self.model.kv = -(-capacity // self.lanes), self.kv.ctypes.data
        self.model.base, self.model.shared = self.base.ctypes.data, self.shared.ctypes.data
        self.threads = torch.get_num_threads()
        self.busy = TILE * self.threads  #: rows that fill the machine
        floats = self.code.scratch_floats(ctypes.byref(self.model))
        self.logits = [torch.zeros(TILE, self.stride) for _ in range(self.threads)]
        self.scratch = [torch.zeros(floats) for _ in range(self.threads)]
        return True

    def advance(
        self, state: np.ndarray, plan: Plan, is_stop: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the result of `lean.advance`; without filters, for STEPS tokens per call."""
        if not is_unfiltered(plan):
            return advance(self, state, plan, is_stop)
        n = len(state)
        names = ("last", "key", "count")
        last, key, count = (np.ascontiguousarray(state[name]) for name in names)
        position, left = state["length"] + count - 1, state["cap"] - count
        steps = 1 if plan.stop else STEPS
        tokens, made, sums = np.zeros((n, steps), np.int64), np.zeros(n, np.int64), np.zeros((n, 2))
        order, cuts = self._part(last, position)
        cuts = cuts[np.linspace(0, len(cuts) - 1, self.threads + 1).astype(int)].tolist()
        arrays = [_at(a) for a in (last, position, key, count, left, is_stop)]
        results = [_at(a) for a in (tokens, made, sums)]

        def span(i: int) -> None:
            self.code.decode(
                ctypes.byref(self.model), _long(cuts[i + 1] - cuts[i]), _at(order, cuts[i]),
                _at(self.lead), _long(steps), *arrays, ctypes.c_double(plan.temperature), *results,
                _at(self.logits[i]), _at(self.scratch[i]),
            )  # fmt: skip

        self._in_threads(span)
        return tokens, made, sums

    def decode(self, last: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Return logits (rows, vocab) after one more token each; rows are slots 0..rows-1."""
        order, starts = self._part(last.numpy(), positions.numpy())
        leaders = order[starts[:-1]]
        cuts = np.linspace(0, len(leaders), self.threads + 1).astype(int)
        wanted = np.ones(len(leaders), np.int8)
        ids, at = last.numpy()[leaders], positions.numpy()[leaders]
        logits, row = self._forward(ids, leaders, at, wanted, cuts), np.empty_like(order)
        row[order] = np.repeat(np.arange(len(leaders)), np.diff(starts))
        return logits[row]

    def _part(self, last: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split rows of one context that drew different tokens; the first row of each leads.

        Returns the rows sorted by context, each group led by its first row, and where each group
        begins, followed by the end.
        """
        n = len(last)
        lead, rows = self.lead[:n], np.arange(n)
        order = np.lexsort((lead != rows, lead))
        arrays = [_at(a) for a in (order, self.lead, last, positions)]
        self.code.part_rows(ctypes.byref(self.model), _long(n), *arrays)
        return order, np.append(np.flatnonzero(lead[order] == order), n)

    def prefill(
        self, slots: Sequence[int], ids: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> torch.Tensor:
        """Return logits (rows, vocab) after appending ids[i] at position starts[i] of slots[i]."""
        for slot, start in zip(slots, starts, strict=True):
            if not start:
                self.shared[slot], self.lead[slot] = 0, slot
            self.detach(slot, start)
        counts = np.array([len(row) for row in ids])
        ends = counts.cumsum()
        positions = np.arange(ends[-1]) - np.repeat(ends - counts - np.array(starts), counts)
        wanted = np.zeros(ends[-1], np.int8)
        wanted[ends - 1] = 1
        nearest = np.searchsorted(ends, np.linspace(0, ends[-1], self.threads + 1)[1:-1])
        cuts = np.concatenate([[0], ends[nearest], ends[-1:]])
        flat = np.concatenate([np.asarray(row, np.int64) for row in ids])
        return self._forward(flat, np.repeat(np.array(slots), counts), positions, wanted, cuts)

    def adopt(self, source: int, row: int, length: int) -> None:
        """Start a row with `length` positions of a slot, which it reads in place."""
        self.base[row], self.shared[row], self.lead[row] = source, length // self.lanes, source

    def move(self, source: int, row: int, length: int) -> None:
        """Move the row `source` to `row`."""
        self.base[row], self.shared[row] = self.base[source], self.shared[source]
        self.lead[row] = self.lead[source]
        if self.lead[row] == source:
            self.lead[self.lead == source] = row
            self._copy(source, row, length)

    def follow(self, row: int, leader: int) -> None:
        """Continue a row with the context of another row, which computes for both.

        The leader must hold its own keys and values (`detach`): what it has only borrowed is not
        in its slot, where the row would read it.
        """
        assert self.lead[leader] == leader, f"row {leader} is followed, but leads nobody"
        self.lead[row] = leader

    def detach(self, row: int, length: int) -> None:
        """Give a row its own keys and values for its first `length` positions."""
        if self.lead[row] != row:
            self._copy(int(self.lead[row]), row, length)
            self.lead[row] = row

    def inherit(self, done: Sequence[int], lengths: np.ndarray) -> None:
        """Pass contexts (of these lengths) on from finished rows to rows that still read them."""
        heirs: dict[int, int] = {}
        rows = np.setdiff1d(np.arange(len(lengths)), done)
        for row in rows[np.isin(self.lead[rows], done)].tolist():
            heir = heirs.setdefault(int(self.lead[row]), row)
            if row == heir:
                self.detach(row, int(lengths[row]))
            else:
                self.follow(row, heir)

    def _copy(self, source: int, row: int, position: int) -> None:
        """Copy the positions of a slot up to this one that the row does not share."""
        self.code.copy_own(ctypes.byref(self.model), *map(_long, (source, row, position)))

    def draw(self, logits: torch.Tensor, uniform: torch.Tensor, plan: Plan) -> Any:
        """Return the result of `draw.draw`, by C if the plan has no filter."""
        if not is_unfiltered(plan):
            return draw(logits, uniform, plan)
        rows = logits.shape[0]
        if logits.stride(0) != self.stride:
            logits = torch.nn.functional.pad(logits, (0, self.stride - self.vocab))
        tokens = torch.empty(rows, dtype=torch.int64)
        sums = torch.zeros(rows, 2, dtype=torch.float64)
        self.code.draw_rows(
            _long(rows), _long(self.vocab), _at(logits), _at(uniform),
            ctypes.c_double(plan.temperature), _at(tokens), _at(sums),
        )  # fmt: skip
        return tokens, sums[:, 0], sums[:, 1]

    def _forward(
        self,
        ids: np.ndarray,
        slots: np.ndarray,
        positions: np.ndarray,
        wanted: np.ndarray,
        cuts: Any,
    ) -> torch.Tensor:
        """Run tokens in one thread per span between `cuts`; return the requested logits."""
        ids, slots, positions = (np.ascontiguousarray(a, np.int64) for a in (ids, slots, positions))
        logits = torch.empty(int(wanted.sum()), self.stride)
        firsts = np.concatenate([[0], wanted.cumsum()])[cuts]

        def span(i: int) -> None:
            a, b = int(cuts[i]), int(cuts[i + 1])
            if a < b:
                self.code.forward(
                    ctypes.byref(self.model), _long(b - a), _at(ids, a), _at(slots, a),
                    _at(positions, a), _at(wanted, a), _at(logits[firsts[i] :]),
                    _at(self.scratch[i]),
                )  # fmt: skip

        self._in_threads(span)
        return logits[:, : self.vocab]

    def _in_threads(self, span: Callable[[int], None]) -> None:
        """Call span(i) for each thread's part; this thread does the first."""
        others = [workers().submit(span, i) for i in range(1, self.threads)]
        span(0)
        for other in others:
            other.result()


_long = ctypes.c_long


def _at(array: Any, offset: int = 0) -> ctypes.c_void_p:
    """Return a pointer to an array's or a tensor's data."""
    if isinstance(array, torch.Tensor):
        return ctypes.c_void_p(array.data_ptr())
    return ctypes.c_void_p(array.ctypes.data + offset * array.itemsize)

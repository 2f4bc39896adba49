"""The arithmetic of a decode step in Triton: attention, norms, activations, inverse CDF.

Matrix products stay in torch. Rows that share a prompt read its keys and values together, in place.
Used only by `graphs`; tests compare it with `lean`, which does the same in torch (without a GPU, by
Triton's interpreter: TRITON_INTERPRET=1).
"""

from __future__ import annotations

import triton
import triton.language as tl

TILE = 16  #: queries per program of `attend`: the smallest number that a matrix unit takes
KEYS = 64  #: keys per iteration of `attend`
PIECE = 1024  #: logits per program of `weigh`


@triton.jit
def _turned(at, d, gain, cos, sin, D: tl.constexpr, HALF: tl.constexpr, EPS: tl.constexpr,
            NORMED: tl.constexpr, known):  # fmt: skip
    """Return heads (n, D) read from `at` (n,) in fp32: RMS norm, then rotation by cos, sin (n,)."""
    x = tl.load(at[:, None] + d[None, :], mask=known & (d < D)[None, :], other=0.0).to(tl.float32)
    if NORMED:
        scale = tl.rsqrt(tl.sum(x * x, 1) / D + EPS)[:, None]
        x = x * scale * tl.load(gain + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    if HALF > 0:
        inside = known & (d < 2 * HALF)[None, :]
        other = tl.where(d < HALF, d + HALF, d - HALF)
        y = tl.load(at[:, None] + other[None, :], mask=inside, other=0.0).to(tl.float32)
        if NORMED:
            y_gain = tl.load(gain + other, mask=d < 2 * HALF, other=0.0).to(tl.float32)
            y = y * scale * y_gain[None, :]
        turn = (d % HALF)[None, :]
        c = tl.load(cos[:, None] + turn, mask=inside, other=1.0).to(tl.float32)
        s = tl.load(sin[:, None] + turn, mask=inside, other=0.0).to(tl.float32)
        x = x * c + tl.where(d < HALF, -1.0, 1.0)[None, :] * y * s
    return x


@triton.jit
def attend(qkv, kv, cos, sin, q_gain, k_gain, positions, slots, starts, ends, readers,
           tops, totals, sums, rows, furthest, half_stride, slot_stride, head_stride, scale,
           HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, WIDE: tl.constexpr,
           HALF: tl.constexpr, EPS: tl.constexpr, NORMED: tl.constexpr, PRECISION: tl.constexpr,
           TILE: tl.constexpr, KEYS: tl.constexpr, SPLITS: tl.constexpr):  # fmt: skip
    """Write the partial attention of each item: a span of one slot's keys, and the rows reading it.

    Items 0..rows-1 are the rows' own spans (slots[i], starts[i] to the row's position), whose first
    split also stores the new token's key and value; further items are prompts that rows share.
    grid (items, KV_HEADS, SPLITS); readers (items, TILE // group), -1 where there is none.
    """
    item, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    GROUP: tl.constexpr = HEADS // KV_HEADS
    ROWS_PER_TILE: tl.constexpr = TILE // GROUP
    m, d = tl.arange(0, TILE), tl.arange(0, WIDE)
    row = tl.load(
        readers + item * ROWS_PER_TILE + m // GROUP, mask=m // GROUP < ROWS_PER_TILE, other=-1
    )
    known = row >= 0
    row = tl.where(known, row, 0)
    own = item < rows
    slot = tl.load(slots + item).to(tl.int64)
    start = tl.load(starts + item)
    end = tl.load(ends + item)
    here = tl.load(positions + item, mask=own, other=0)
    end = tl.where(own, here, end)
    width: tl.constexpr = (HEADS + 2 * KV_HEADS) * D
    query = head * GROUP + m % GROUP
    turn = tl.minimum(tl.load(positions + row), furthest) * HALF
    q = _turned(qkv + row.to(tl.int64) * width + query * D, d, q_gain, cos + turn, sin + turn,
                D, HALF, EPS, NORMED, known[:, None])  # fmt: skip
    kind = kv.dtype.element_ty
    q = q.to(kind)
    keys = kv + slot * slot_stride + head.to(tl.int64) * head_stride
    values = keys + half_stride

    first = own & (split == 0)
    new = qkv + item.to(tl.int64) * width + HEADS * D + head * D + tl.zeros([1], tl.int64)
    alone = here + tl.zeros([1], here.dtype)
    turn = tl.minimum(alone, furthest) * HALF
    k = _turned(new, d, k_gain, cos + turn, sin + turn, D, HALF, EPS, NORMED,
                first & (tl.zeros([1, 1], tl.int32) == 0)).to(kind)  # fmt: skip
    v = tl.load(new[:, None] + KV_HEADS * D + d[None, :], mask=first & (d < D)[None, :], other=0.0)
    to = (alone * D)[:, None] + d[None, :]
    tl.store(keys + to, k, mask=first & (d < D)[None, :])
    tl.store(values + to, v.to(kind), mask=first & (d < D)[None, :])
    newest = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1) * scale
    top = tl.where(first, newest, float("-inf"))
    total = tl.where(first, 1.0, 0.0) + tl.zeros([TILE], tl.float32)
    mixed = tl.where(first, 1.0, 0.0) * v.to(tl.float32) + tl.zeros([TILE, WIDE], tl.float32)

    span = tl.cdiv(tl.cdiv(tl.maximum(end - start, 0), SPLITS), KEYS) * KEYS
    low = start + split * span
    high = tl.minimum(low + span, end)
    for begin in range(low, high, KEYS):
        n = begin + tl.arange(0, KEYS)
        inside = (n < high)[:, None] & (d < D)[None, :]
        where = n[:, None] * D + d[None, :]
        k_held = tl.load(keys + where, mask=inside, other=0.0)
        v_held = tl.load(values + where, mask=inside, other=0.0)
        score = tl.dot(q, tl.trans(k_held), input_precision=PRECISION) * scale
        score = tl.where((n < high)[None, :], score, float("-inf"))
        peak = tl.maximum(top, tl.max(score, 1))
        shrink = tl.exp(top - peak)
        weight = tl.exp(score - peak[:, None])
        total = total * shrink + tl.sum(weight, 1)
        mixed = mixed * shrink[:, None] + tl.dot(weight.to(kind), v_held, input_precision=PRECISION)
        top = peak
    part = (row * HEADS + query) * (2 * SPLITS) + tl.where(own, 0, SPLITS) + split
    tl.store(tops + part, top, mask=known)
    tl.store(totals + part, total, mask=known)
    tl.store(sums + part[:, None] * WIDE + d[None, :], mixed, mask=known[:, None])


@triton.jit
def merge(tops, totals, sums, starts, out, HEADS: tl.constexpr, D: tl.constexpr,
          WIDE: tl.constexpr, SPLITS: tl.constexpr):  # fmt: skip
    """Write attended values (rows, HEADS·D) from the parts of `attend`; grid (rows, HEADS).

    The second half of a row's parts belongs to a shared prompt, if starts[row] > 0.
    """
    row, head = tl.program_id(0), tl.program_id(1)
    p, d = tl.arange(0, 2 * SPLITS), tl.arange(0, WIDE)
    there = (p < SPLITS) | (tl.load(starts + row) > 0)
    part = (row * HEADS + head) * (2 * SPLITS) + p
    top = tl.load(tops + part, mask=there, other=float("-inf"))
    weight = tl.exp(top - tl.max(top, 0))
    total = tl.sum(weight * tl.load(totals + part, mask=there, other=0.0), 0)
    mixed = tl.load(sums + part[:, None] * WIDE + d[None, :], mask=there[:, None], other=0.0)
    mixed = tl.sum(mixed * weight[:, None], 0) / total
    tl.store(out + (row * HEADS + head) * D + d, mixed.to(out.dtype.element_ty), mask=d < D)


@triton.jit
def add_norm(x, first, second, gain, bias, out, eps, HIDDEN: tl.constexpr, WIDE: tl.constexpr,
             ADDED: tl.constexpr, RMS: tl.constexpr, BIASED: tl.constexpr):  # fmt: skip
    """Add 0, 1 or 2 branches to the stream x (rows, HIDDEN), and write its norm; grid (rows,)."""
    d = tl.arange(0, WIDE)
    inside = d < HIDDEN
    at = tl.program_id(0) * HIDDEN + d
    kind = x.dtype.element_ty
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if ADDED > 0:
        value += tl.load(first + at, mask=inside, other=0.0).to(tl.float32)
        if ADDED > 1:
            value += tl.load(second + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(x + at, value.to(kind), mask=inside)
        value = value.to(kind).to(tl.float32)
    if not RMS:
        value = tl.where(inside, value - tl.sum(value, 0) / HIDDEN, 0.0)
    value = value * tl.rsqrt(tl.sum(value * value, 0) / HIDDEN + eps)
    value *= tl.load(gain + d, mask=inside, other=0.0).to(tl.float32)
    if BIASED:
        value += tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(kind), mask=inside)


@triton.jit
def activate(x, out, INNER: tl.constexpr, GATED: tl.constexpr, KIND: tl.constexpr,
             BLOCK: tl.constexpr):  # fmt: skip
    """Write the MLP's inner activation (rows, INNER) of x, (rows, 2·INNER) when gated."""
    row, d = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < INNER
    at = row * (2 * INNER if GATED else INNER) + d
    gate = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if KIND == "silu":
        value = gate * tl.sigmoid(gate)
    elif KIND == "gelu_tanh":
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        value = gate * tl.sigmoid(2 * inner)
    else:
        value = 0.5 * gate * (1 + tl.erf(gate * 0.7071067811865476))
    if GATED:
        value *= tl.load(x + at + INNER, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * INNER + d, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def weigh(logits, tops, sums, cooled, VOCAB: tl.constexpr, PIECE: tl.constexpr,
          PIECES: tl.constexpr, coldness):  # fmt: skip
    """Write each piece's largest logit and its sums of exp, plain and by temperature.

    grid (rows, PIECES); coldness is 1 / temperature.
    """
    row, piece = tl.program_id(0), tl.program_id(1)
    at = piece * PIECE + tl.arange(0, PIECE)
    x = tl.load(logits + row.to(tl.int64) * VOCAB + at, mask=at < VOCAB, other=float("-inf"))
    x = x.to(tl.float32)
    top = tl.max(x, 0)
    x = x - tl.maximum(top, -3e38)
    to = row * PIECES + piece
    tl.store(tops + to, top)
    tl.store(sums + to, tl.sum(tl.exp(x), 0))
    tl.store(cooled + to, tl.sum(tl.exp(x * coldness), 0))


@triton.jit
def pick(logits, tops, sums, cooled, uniforms, counts, tokens, own, sampled, VOCAB: tl.constexpr,
         PIECE: tl.constexpr, PIECES: tl.constexpr, WIDE: tl.constexpr, STEPS: tl.constexpr,
         coldness):  # fmt: skip
    """Write the token at the inverse CDF of each row's uniform, in vocabulary order; grid (rows,).

    Also write its log-probabilities at temperature 1 and at the sampling temperature. uniforms
    (rows, STEPS) in fp64; counts[row] is the column to use.
    """
    row = tl.program_id(0)
    p = tl.arange(0, WIDE)
    at = row * PIECES + p
    tops_ = tl.load(tops + at, mask=p < PIECES, other=float("-inf"))
    top = tl.maximum(tl.max(tops_, 0), -3e38)
    plain = tl.load(sums + at, mask=p < PIECES, other=0.0) * tl.exp(tops_ - top)
    cold = tl.load(cooled + at, mask=p < PIECES, other=0.0) * tl.exp((tops_ - top) * coldness)
    weights = cold.to(tl.float64)
    target = tl.load(uniforms + row * STEPS + tl.load(counts + row)) * tl.sum(weights, 0)
    ends = tl.cumsum(weights, 0)
    piece = tl.sum((ends <= target).to(tl.int32), 0)
    last = tl.max(tl.where(weights > 0, p, 0), 0)
    piece = tl.minimum(piece, last)
    target -= tl.sum(tl.where(p < piece, weights, 0.0), 0)
    v = piece * PIECE + tl.arange(0, PIECE)
    x = tl.load(logits + row.to(tl.int64) * VOCAB + v, mask=v < VOCAB, other=float("-inf"))
    x = x.to(tl.float32)
    inner = tl.exp((x - top) * coldness).to(tl.float64)
    chosen = tl.sum((tl.cumsum(inner, 0) <= target).to(tl.int32), 0)
    last = tl.max(tl.where(inner > 0, tl.arange(0, PIECE), 0), 0)
    token = piece * PIECE + tl.minimum(chosen, last)
    logit = tl.load(logits + row.to(tl.int64) * VOCAB + token).to(tl.float32) - top
    tl.store(tokens + row, token.to(tl.int64))
    tl.store(own + row, logit - tl.log(tl.sum(plain, 0)))
    tl.store(sampled + row, logit * coldness - tl.log(tl.sum(cold, 0)))


@triton.jit
def note(tokens, own, sampled, last, positions, counts, trail, logs, rows, capacity,
         STEPS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Record the token of each row and advance it by one position; grid (rows / BLOCK,)."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    count = tl.load(counts + row, mask=inside, other=0)
    token = tl.load(tokens + row, mask=inside, other=0)
    to = row * STEPS + count
    tl.store(trail + to, token, mask=inside)
    tl.store(logs + 2 * to, tl.load(own + row, mask=inside, other=0.0).to(tl.float64), mask=inside)
    value = tl.load(sampled + row, mask=inside, other=0.0).to(tl.float64)
    tl.store(logs + 2 * to + 1, value, mask=inside)
    tl.store(last + row, token, mask=inside)
    place = tl.load(positions + row, mask=inside, other=0)
    tl.store(positions + row, tl.minimum(place + 1, capacity), mask=inside)
    tl.store(counts + row, tl.minimum(count + 1, STEPS - 1), mask=inside)

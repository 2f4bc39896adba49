"""Exact estimators: what a pool of samples says about every smaller budget, drawn without replacement.

A budget is not a run. From one pool of n samples per problem these functions return the expected
result of drawing k of them, averaged over all subsets (parallel samples are exchangeable) or read
from the prefix (steps and tokens are ordered). No interval lives here: see `intervals`.

Conventions. Pools are arrays (samples,) or (problems, samples). Pools of unequal size are padded to a
rectangle, and NaN in `correct` marks a place without a sample: it is not drawn and not counted.
A failed sample is a sample: give it correct = 0. Results have shape problems + budgets, each axis
left out where a single pool or a scalar k was given. NaN where undefined (k > n, n = 0).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]
TAIL = 33.0  # a count outside its window has probability below exp(-33) = 5e-15
TABLE_LIMIT = 1 << 22
NEGLIGIBLE = 1e-17
TINY = 1e-300
WAVES = 24


# ------------------------------------------------------------------ counts


@lru_cache(maxsize=4)
def _log_factorial_table(bits: int) -> NDArray[Any]:
    steps = np.log(np.maximum(np.arange(1 << bits), 1).astype(np.longdouble))
    return np.cumsum(steps)


def _log_factorial(x: NDArray[Any]) -> NDArray[Any]:
    """Return log x! of whole numbers; extended precision keeps differences good to 1e-14."""
    largest = int(x.max(initial=0))
    if largest > TABLE_LIMIT:
        return gammaln(x + 1.0)
    return _log_factorial_table(max(largest.bit_length(), 10))[x]


def _whole(name: str, value: ArrayLike, least: int = 0) -> Floats:
    """Return `value` as floats, having checked that they are whole numbers (NaN stands for missing)."""
    array = np.asarray(value, dtype=float)
    bad = ~np.isnan(array) & ~((array >= least) & (array == np.floor(array)) & np.isfinite(array))
    if bad.any():
        raise ValueError(
            f"{name} holds {array[bad].flat[0]:g}; give whole numbers of at least {least}"
        )
    return array


def _budget(k: ArrayLike) -> NDArray[np.int64]:
    budgets = _whole("k", k, least=1)
    if np.isnan(budgets).any() or budgets.ndim > 1:
        raise ValueError(f"k is {k!r}; give one whole number or a list of them, 1 or more")
    return budgets.astype(np.int64)


def _draws(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> tuple[Any, Any, Any, NDArray[np.bool_]]:
    """Return n, c, k as whole numbers, and where k of n can be drawn (elsewhere all three are 0)."""
    n, c, k = _whole("n", n), _whole("c", c), _whole("k", k, least=1)
    if (c > n).any():
        raise ValueError("c is larger than n; give c correct samples among n drawn, so c <= n")
    defined = (n >= k) & (c >= 0)
    whole = [np.where(np.isnan(a), 0, a).astype(np.int64) for a in (n, c, k)]
    return *whole, defined


def _falling_ratio(top: Any, bottom: Any, k: Any) -> Floats:
    """Return C(top, k) / C(bottom, k) for 0 <= top <= bottom; 0 where k > top."""
    spare, room = np.maximum(top - k, 0), np.maximum(bottom - k, 0)
    first = _log_factorial(top) - _log_factorial(bottom)
    second = _log_factorial(room) - _log_factorial(spare)
    return np.where(top >= k, np.exp((first + second).astype(float)), 0.0)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Any:
    """Return the probability that at least one of k samples is correct, without bias: 1 - C(n-c, k) / C(n, k).

    n: samples drawn, c: correct among them, k: budget; the three broadcast. Its mean over problems is
    coverage. NaN when k > n or a count is NaN, also for c = 0. ValueError when c > n, or a count is
    negative or fractional. Source: Chen et al. 2021, arXiv:2107.03374, equation 1.
    """
    n, c, k, defined = _draws(n, c, k)
    return np.where(defined, 1.0 - _falling_ratio(n - c, n, k), np.nan)[()]


def pass_hat_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Any:
    """Return the probability that all of k samples are correct, without bias: C(c, k) / C(n, k).

    Shapes, NaN and errors as in `pass_at_k`. Source: Yao et al. 2024 (tau-bench), arXiv:2406.12045.
    """
    n, c, k, defined = _draws(n, c, k)
    return np.where(defined, _falling_ratio(c, n, k), np.nan)[()]


def inverse_pass_at_k(
    n: ArrayLike, c: ArrayLike, r: int, k: ArrayLike, cap: int | None = None
) -> Any:
    """Return unbiased pass@k of problems whose sampling stopped at the r-th success, or else at a cap.

    c = r: stopped by the r-th success at draw n, 1 - C(n-1-k, r-1) / C(n-1, r-1), also for k > n;
    c < r: stopped by the cap, the usual pass@k. Unbiased for every k up to the cap; give `cap` and
    larger k are NaN. Coverage only: votes and scores need whole pools. ValueError when c > r (the
    draws after the r-th success must be left out). Source: Girshick, Mosteller, Savage 1946.
    """
    c_whole = _whole("c", c)
    if (c_whole > r).any() or int(r) != r or r < 1:
        raise ValueError(f"r is {r}, c up to {np.nanmax(c_whole):g}; give r >= 1 and c <= r")
    capped = pass_at_k(n, c, k)
    n, c, k, _ = _draws(n, c, k)
    last = np.maximum(n - 1, 0)
    # C(n-1-k, r-1) / C(n-1, r-1), written so that it is 0 as soon as n-1-k < r-1
    stopped = 1.0 - _falling_ratio(np.maximum(last - k, 0), last, r - 1) * (last - k >= r - 1)
    value = np.where(c_whole == r, stopped, capped)
    return np.where(k > (np.inf if cap is None else cap), np.nan, value)[()]


# ------------------------------------------------------------------ pools with a score


def _pools(correct: ArrayLike, other: Any, name: str) -> tuple[Floats, NDArray[Any]]:
    """Return `correct` and a companion array of the same shape, both (problems, samples)."""
    pool = np.asarray(correct, dtype=float)
    other = np.asarray(other)
    if pool.ndim not in (1, 2) or other.shape != pool.shape:
        raise ValueError(
            f"correct has shape {pool.shape}, {name} {other.shape}; give both as (samples,) or both as "
            "(problems, samples), short pools padded with correct = NaN"
        )
    return np.atleast_2d(pool), np.atleast_2d(other)


def _shaped(result: Floats, correct: ArrayLike, k: ArrayLike) -> Any:
    """Drop the problem axis of a single pool and the budget axis of a scalar k."""
    result = result if np.ndim(correct) == 2 else result[0]
    return result if np.ndim(k) else result[..., 0]


def _rank_weights(n: int, k: NDArray[np.int64]) -> Floats:
    """Return P(the i-th lowest of n is the highest of k drawn) = C(i-1, k-1) / C(n, k), (n, budgets)."""
    rank = np.arange(n)[:, None]
    # C(i, k-1) / C(n, k) = C(i, k-1) / C(n-1, k-1) * k / n
    return _falling_ratio(rank, np.int64(n - 1), np.minimum(k, n) - 1) * np.where(
        k <= n, k / n, np.nan
    )


def _share_ties(value: Floats, score: Floats) -> Floats:
    """Return values (problems, samples) sorted by score, each run of equal scores sharing its mean."""
    order = np.argsort(score, axis=1)
    value, score = np.take_along_axis(value, order, 1), np.take_along_axis(score, order, 1)
    fresh = np.ones(score.shape, dtype=bool)
    fresh[:, 1:] = score[:, 1:] != score[:, :-1]
    if fresh.all():
        return value
    start = np.flatnonzero(fresh)
    size = np.diff(start, append=score.size)
    return np.repeat(np.add.reduceat(value.ravel(), start) / size, size).reshape(value.shape)


def best_of_k(correct: ArrayLike, score: ArrayLike, k: ArrayLike) -> Any:
    """Return the expected correctness of the best-scored of k samples drawn without replacement.

    Sum over samples in rising order of score of correct_i C(i-1, k-1) / C(n, k); equal scores share
    their weight. score = correct gives pass@k, a constant score mean accuracy, a log-probability or a
    reward best-of-k. correct, score: (samples,) or (problems, samples), absent samples correct = NaN.
    NaN when k > n. ValueError when a present sample has a NaN score: give -inf to rank it last.
    """
    pool, scores = _pools(correct, score, "score")
    present, budgets = ~np.isnan(pool), np.atleast_1d(_budget(k))
    scores = scores.astype(float)
    if np.isnan(scores[present]).any():
        raise ValueError(
            f"{np.isnan(scores[present]).sum()} samples have a NaN score; give each sample a number, "
            "-inf to rank it last, or correct = NaN where there is no sample"
        )
    sizes = present.sum(axis=1)
    if not present.all():  # NaN sorts last, so that the samples of a pool lead its row
        pool, scores = np.where(present, pool, 0.0), np.where(present, scores, np.nan)
    ranked = _share_ties(pool, scores)
    result = np.full((len(pool), len(budgets)), np.nan)
    for n in np.unique(sizes[sizes > 0]):
        rows = sizes == n
        result[rows] = (ranked if rows.all() else ranked[rows])[:, :n] @ _rank_weights(n, budgets)
    return _shaped(result, correct, k)


# ------------------------------------------------------------------ votes


def _intern(answers: NDArray[Any]) -> NDArray[np.int64]:
    """Return each answer of one pool as a small whole number; -1 where there is none (None, NaN, -1)."""
    if answers.dtype == object:
        ids: dict[Any, int] = {}
        known = (a is not None and a == a and a != -1 for a in answers)
        return np.array(
            [
                ids.setdefault(a, len(ids)) if ok else -1
                for a, ok in zip(answers, known, strict=True)
            ],
            dtype=np.int64,
        )
    values, ids_of = np.unique(answers, return_inverse=True)
    if values.dtype.kind in "fiu":
        ids_of = np.where(np.isnan(values) | (values == -1), -1, np.arange(len(values)))[ids_of]
    return ids_of.astype(np.int64)


def _classes(answers: NDArray[Any], correct: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return votes per distinct answer and the share of each answer's samples that are correct."""
    ids = _intern(answers) + 1
    votes = np.bincount(ids, minlength=1)[1:]
    right = np.bincount(ids, weights=correct, minlength=1)[1:]
    return votes[votes > 0], right[votes > 0] / votes[votes > 0]


_legendre = lru_cache(maxsize=512)(np.polynomial.legendre.leggauss)


def _reach(variance: Any) -> Any:
    """Return how far a count strays from its mean, but for exp(-TAIL) (Bernstein's inequality)."""
    return TAIL / 3 + np.sqrt((TAIL / 3) ** 2 + 2 * TAIL * variance)


def _window(size: Any, total: int, k: int) -> tuple[Any, Any]:
    """Return the range that holds the count drawn from a class, but for exp(-TAIL)."""
    mean = size * (k / total)
    variance = mean * (1 - k / total) * (1 - size / total) * total / max(total - 1, 1)
    reach = _reach(variance)
    low = np.maximum(np.ceil(mean - reach), np.maximum(0, k - total + size))
    high = np.minimum(np.floor(mean + reach), np.minimum(size, k))
    return low.astype(np.int64), high.astype(np.int64)


@lru_cache(maxsize=256)
def _log_choose_row(size: int) -> NDArray[Any]:
    table = _log_factorial_table(max(size.bit_length(), 10))
    return table[size] - table[: size + 1] - table[size::-1]


def _log_choose(size: int, low: int, high: int) -> NDArray[Any]:
    """Return log C(size, i) for i = low..high, -inf where i is outside 0..size."""
    result = np.full(high - low + 1, -np.inf, dtype=np.longdouble)
    inside = _log_choose_row(size)[max(low, 0) : high + 1]
    start = max(-low, 0)
    result[start : start + len(inside)] = inside
    return result


def _binomials(sizes: NDArray[Any], low: int, high: int, p: float) -> Floats:
    """Return the Binomial(size, p) probabilities of the counts low..high, (sizes, counts)."""
    count = np.arange(low, high + 1)
    log_chance = np.array([_log_choose(int(size), low, high) for size in sizes])
    log_chance += count * np.log(p) + (sizes[:, None] - count) * np.log1p(-p)
    return np.exp(log_chance.astype(float))


def _tie_nodes(most: int, log_weight: Floats, crowd: Floats) -> tuple[Floats, Floats]:
    """Return nodes on [0, 1] that integrate the rivals' polynomial in u at every count.

    U nodes are exact to degree 2U - 1 (`most` ties). Fewer do where the remainder, at most
    weight crowd^2U / (2U)! U!^4 / (2U)!^2 with `crowd` ties expected, is negligible.
    """
    nodes = np.arange(1, most // 2 + 2)[:, None]
    error = 4 * gammaln(nodes + 1) - 3 * gammaln(2 * nodes + 1) + 2 * nodes * np.log(crowd + TINY)
    enough = (error + log_weight).max(axis=1) < np.log(NEGLIGIBLE)
    enough[-1] = True
    place, weight = _legendre(1 + int(enough.argmax()))
    return 0.5 + 0.5 * place, 0.5 * weight


def _power_product(base: NDArray[Any], times: NDArray[Any]) -> NDArray[Any]:
    """Return the product over the first axis of base ** times, by repeated squaring."""
    result = base.prod(axis=0) if times.max(initial=1) == 1 else base[times % 2 == 1].prod(axis=0)
    while times.max(initial=1) > 1:
        base, times = base[times > 1] ** 2, times[times > 1] // 2
        result *= base[times % 2 == 1].prod(axis=0)
    return result


def _win_probability(
    size: int, rivals: NDArray[Any], many: NDArray[Any], total: int, k: int
) -> float:
    """Return P(a class of `size` wins the vote of k drawn from `total`), a tie of t+1 counted 1/(t+1).

    rivals, many: (groups,) sizes of the other classes and how many have that size. Counts drawn without
    replacement are independent Binomial(m, p) given their sum, for any p. So
    P = sum_j P(X = j) P(others below j, ties weighted, sum k - j) / P(sum k), where
    - rivals that cannot reach the lowest j of interest merge into one untruncated binomial;
    - the sum is fixed by a discrete Fourier transform, read until its terms have decayed;
    - 1/(t+1) is the integral of u^t on [0, 1], by Gauss-Legendre.
    """
    least, most = _window(rivals, total, k)
    own_least, high = (int(end) for end in _window(size, total, k))
    low = max(1, own_least, int(least.max(initial=0)))
    if low > high:
        return 0.0
    near = most >= low
    rivals, many, first = rivals[near], many[near], min(int(least[near].min(initial=low)), low)
    p = min(k, total - 0.5) / total
    count = np.arange(first, high + 1)
    chance = _binomials(np.append(rivals, size), first, high, p)
    log_sum = float(_log_choose_row(total)[k]) + k * np.log(p) + (total - k) * np.log1p(-p)
    # Upper bound of P(wins with j): the counts, rivals, nodes that can matter follow from it.
    within = np.maximum(np.cumsum(chance[:-1], axis=1), TINY)  # (groups, counts)
    bound = np.log(chance[-1] + TINY) + many @ np.log(within) - log_sum
    kept = np.flatnonzero((bound > np.log(NEGLIGIBLE)) & (count >= low))
    if not len(kept):
        return 0.0
    j = np.arange(kept[0], kept[-1] + 1)  # positions in `count`
    near = (within - chance[:-1])[:, j[0]] < 1 - 1e-15  # may reach the lowest count of interest
    rivals, many, within, chance = (
        rivals[near],
        many[near],
        within[near],
        chance[np.append(near, True)],
    )
    crowd = (many @ (chance[:-1] / within))[j]
    ties = _tie_nodes(min(int(many.sum()), k // int(count[j[0]]) - 1), bound[j], crowd)
    rest = total - size - int(rivals @ many)
    value, period = 0.0, int(_reach(total * p * (1 - p))) | 1
    for start in range(0, period // 2 + 1, WAVES):
        wave = np.arange(start, min(start + WAVES, period // 2 + 1))
        phase = np.exp(2j * np.pi / period * (np.outer(count[: j[-1] + 1], wave) % period))
        merged = (1 - p + p * np.exp(2j * np.pi / period * wave)) ** rest
        turn = np.exp(-2j * np.pi / period * (k * wave % period)) * np.where(wave, 2.0, 1.0)
        terms = _wave_terms(chance, phase, j, many, ties) * (merged * turn)
        value += float(terms.sum().real)
        if np.abs(terms[:, -WAVES // 2 :]).sum(axis=0).max() < NEGLIGIBLE:
            break
    return min(max(value / period / float(np.exp(log_sum)), 0.0), 1.0)


def _wave_terms(
    chance: Floats,
    phase: NDArray[Any],
    j: NDArray[Any],
    many: NDArray[Any],
    ties: tuple[Floats, Floats],
) -> NDArray[Any]:
    """Return P(X = j) times the rivals' cut characteristic functions, (j, waves)."""
    level = chance[:-1, j, None] * phase[j]  # (groups, j, waves): a rival level with us
    below = (chance[:-1, : j[0]] @ phase[: j[0]])[:, None] + np.cumsum(level, axis=1) - level
    held = sum(w * _power_product(below + u * level, many) for u, w in zip(*ties, strict=True))
    return chance[-1, j, None] * phase[j] * held


def _exact_votes(
    votes: NDArray[np.int64], right: Floats, total: int, budgets: NDArray[np.int64]
) -> Floats:
    """Return the expected correctness of the vote of each budget, for one pool, (budgets,)."""
    sizes, group = np.unique(votes, return_inverse=True)
    many, credit = np.bincount(group), np.bincount(group, weights=right)
    result = np.where(budgets <= total, 0.0, np.nan)
    for g in np.flatnonzero(credit):
        others = many - (np.arange(len(sizes)) == g)
        rivals, times = sizes[others > 0], others[others > 0]
        for b in np.flatnonzero(budgets <= total):
            result[b] += credit[g] * _win_probability(
                int(sizes[g]), rivals, times, total, int(budgets[b])
            )
    return result


def majority_at_k(answers: Any, correct: ArrayLike, k: ArrayLike) -> Any:
    """Return the expected correctness of the commonest answer among k samples, exactly.

    answers: (samples,) or (problems, samples), any hashable; None, NaN and the number -1 mean
    unanswered: such a sample is drawn but cannot win, and a draw of nothing else is wrong. A tie is
    worth 1 / number tied. Normalise answers first: votes go by equality. An answer whose samples
    disagree on `correct` counts by its share. NaN when k > n.
    """
    pool, given = _pools(correct, answers, "answers")
    budgets = np.atleast_1d(_budget(k))
    present = ~np.isnan(pool)
    result = np.full((len(pool), len(budgets)), np.nan)
    for i, here in enumerate(present):
        if here.any():
            votes, right = _classes(given[i, here], pool[i, here])
            result[i] = _exact_votes(votes, right, int(here.sum()), budgets)
    return _shaped(result, correct, k)

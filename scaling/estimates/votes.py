"""Selection by vote: the commonest answer among k samples, over all subsets of a pool."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from scaling.estimates.counts import Floats, budgets_of, log_factorial_table
from scaling.estimates.pools import pools_of, shaped

TAIL = 33.0  # a count outside its window has probability below exp(-33) = 5e-15
NEGLIGIBLE = 1e-17
TINY = 1e-300
WAVES = 24  # frequencies evaluated at a time


def _intern(answers: NDArray[Any]) -> NDArray[np.int64]:
    """Return each answer as a small whole number; -1 where there is none (None, NaN, -1)."""
    if answers.dtype.kind in "iu" and answers.min() >= -1 and answers.max() < 4 * answers.size:
        return answers.astype(np.int64)
    if answers.dtype == object:
        ids: dict[Any, int] = {None: -1, -1: -1}
        return np.array([ids.setdefault(a, len(ids)) if a == a else -1 for a in answers], int)
    values, place = np.unique(answers, return_inverse=True)
    none = np.isnan(values) | (values == -1) if values.dtype.kind in "fiu" else values != values
    return np.where(none, -1, np.arange(len(values)))[place]


def _classes(ids: NDArray[np.int64], correct: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return votes per answer, and the share of each answer's samples that are correct."""
    votes = np.bincount(ids + 1, minlength=1)[1:]
    right = np.bincount(ids + 1, weights=correct, minlength=1)[1:]
    return votes, right / np.maximum(votes, 1)


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
    table = log_factorial_table(max(size.bit_length(), 10))
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
    """Return P(a class of `size` wins the vote of k of `total`), a tie of t+1 counted 1/(t+1).

    rivals, many: (groups,) sizes of the other classes and how many have that size. Counts drawn
    without replacement are independent Binomial(m, p) given their sum, for any p. So P = sum_j P(X
    = j) P(others below j, ties weighted, sum k - j) / P(sum k), where
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


def _exact_votes(ids: NDArray[np.int64], correct: Floats, budgets: NDArray[np.int64]) -> Floats:
    """Return the expected correctness of the vote at each budget, for one pool, (budgets,)."""
    votes, right = _classes(ids, correct)
    sizes, group = np.unique(votes[votes > 0], return_inverse=True)
    many, credit = np.bincount(group), np.bincount(group, weights=right[votes > 0])
    result = np.array([_plain_votes(votes, right, len(ids), int(k)) for k in budgets])
    hard = np.flatnonzero(np.isnan(result))
    result[hard] = 0.0
    for g in np.flatnonzero(credit):
        others = many - (np.arange(len(sizes)) == g)
        rivals, times = sizes[others > 0], others[others > 0]
        for b in hard:
            chance = _win_probability(int(sizes[g]), rivals, times, len(ids), int(budgets[b]))
            result[b] += credit[g] * chance
    return result


def _plain_votes(votes: NDArray[np.int64], right: Floats, n: int, k: int) -> float:
    """Return the vote's expected correctness where no draw is to be weighed; NaN elsewhere.

    All n are drawn, or one, or two: of two answers each is worth a half, alike or not.
    """
    if k == n:
        return float(_credit(votes, right)) if len(votes) else 0.0
    answered, correct = int(votes.sum()), float(votes @ right)
    if k == 1:
        return correct / n
    if k == 2:
        return correct * ((answered - 1) / 2 + n - answered) / (n * (n - 1) / 2)
    return float("nan")


def _credit(tally: NDArray[Any], right: Floats) -> Floats:
    """Return the correctness of the winners of each tally (..., answers), ties shared."""
    top = tally.max(axis=-1, keepdims=True, initial=0.0)
    wins = (tally >= top * (1 - 1e-12)) & (tally > 0)
    return wins @ right / np.maximum(wins.sum(axis=-1), 1)


def _drawn_votes(
    ids: NDArray[np.int64],
    correct: Floats,
    budgets: NDArray[np.int64],
    weights: Floats | None,
    subsets: int,
    rng: np.random.Generator,
) -> Floats:
    """Return the correctness of the vote in random subsets, (subsets, budgets)."""
    votes, right = _classes(ids, correct)
    if weights is None:  # counts are enough: hypergeometric draws, the unanswered in front
        pool = np.append((ids < 0).sum(), votes)
        drawn = [rng.multivariate_hypergeometric(pool, k, subsets, "marginals") for k in budgets]
        return np.stack([_credit(d[:, 1:], right) for d in drawn], axis=1)
    # One permutation serves all budgets: sample i of it enters from the first budget above i.
    order, width = np.sort(budgets), len(votes) + 1
    entry = np.searchsorted(order, np.arange(len(ids)), side="right") * width
    credits = np.empty((subsets, len(order)))
    for row in credits:
        shuffle = rng.permutation(len(ids))
        tally = np.bincount(
            entry + ids[shuffle] + 1, weights[shuffle], minlength=width * (len(order) + 1)
        )
        row[:] = _credit(tally.reshape(-1, width)[:-1, 1:].cumsum(axis=0), right)
    return credits[:, np.searchsorted(order, budgets)]


def majority_at_k(
    answers: Any,
    correct: ArrayLike,
    k: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    subsets: int | None = None,
    seed: int = 0,
) -> Any:
    """Return the expected correctness of the commonest answer among k samples, exactly.

    answers: (samples,) or (problems, samples), any hashable; None, NaN and the number -1 mean
    unanswered: such a sample is drawn but cannot win, and a draw of nothing else is wrong. A tie is
    worth 1 / number tied. Votes go by equality, so normalise answers first; an answer whose samples
    disagree on `correct` counts by its share of correct ones. NaN when k > n.

    `subsets` averages that many random subsets instead (exact costs more than about 800), and
    `weights` (the shape of answers, 0 or more) gives each vote its weight, for which no closed form
    is known (1000 subsets unless told): both return (estimate, standard error), seeded by `seed`.
    """
    pool, given = pools_of(correct, answers, "answers")
    budgets = np.atleast_1d(budgets_of(k))
    drawn = weights is not None or subsets is not None
    subsets = 1000 if subsets is None else subsets
    if subsets < 2:
        raise ValueError(f"subsets is {subsets}; give 2 or more, so that its error can be told")
    heavy = None if weights is None else pools_of(correct, weights, "weights")[1].astype(float)
    present = ~np.isnan(pool)
    if heavy is not None and not (np.isfinite(heavy) & (heavy >= 0))[present].all():
        raise ValueError("a weight is negative or not finite; give 0 or more, such as exp(logprob)")
    result, error = np.full((2, len(pool), len(budgets)), np.nan)
    for i, here in enumerate(present):
        able = budgets <= here.sum()
        if not able.any():
            continue
        ids, right = _intern(given[i, here]), pool[i, here]
        if not drawn:
            result[i, able] = _exact_votes(ids, right, budgets[able])
            continue
        rng, own = np.random.default_rng([seed, i]), None if heavy is None else heavy[i, here]
        credits = _drawn_votes(ids, right, budgets[able], own, subsets, rng)
        result[i, able] = credits.mean(axis=0)
        error[i, able] = credits.std(axis=0, ddof=1) / np.sqrt(subsets)
    if drawn:
        return shaped(result, correct, k), shaped(error, correct, k)
    return shaped(result, correct, k)

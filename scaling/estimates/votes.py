"""Selection by vote: the commonest answer among k samples, over all subsets of a pool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from scaling.estimates.counts import Floats, budgets_of, log_factorial_table
from scaling.estimates.pools import pools_of, shaped

TAIL = 31.0  # a count outside its window has probability below exp(-31) = 3e-14
NEGLIGIBLE = 1e-15
TINY = 1e-300
WAVES = 32  # frequencies evaluated at a time
SMALL = 512  # pools up to this size share tables: larger ones have too few sizes in common
TOGETHER = 512  # pools that share them
BLOCK = 2**15  # cells of the tallies of random subsets at a time: what fits in the cache


def voted_pools(correct: ArrayLike, answers: Any) -> tuple[Floats, NDArray[Any]]:
    """Return `pools_of` correct and answers, each answer kept as it is.

    With strings among them, numpy would make the string "nan" of NaN, and columns of tuples.
    """
    if not hasattr(answers, "__array__"):
        rows = [answers] if np.ndim(correct) == 1 else answers
        if not all(hasattr(row, "__iter__") for row in (rows, *rows)):
            raise ValueError("answers: give (samples,) or (problems, samples), as of correct")
        kept = [np.fromiter(row, dtype=object) for row in rows]
        if len({row.size for row in kept}) > 1:
            raise ValueError("answers differ in number; pad short pools, with correct = NaN there")
        answers = kept[0] if np.ndim(correct) == 1 else np.array(kept, dtype=object)
    return pools_of(correct, answers, "answers")


def _intern(answers: NDArray[Any]) -> NDArray[np.int64]:
    """Return each answer as a small whole number; -1 where there is none (None, NaN, NA)."""
    if answers.dtype.kind in "iu" and answers.min() >= 0 and answers.max() < 4 * answers.size:
        return answers.astype(np.int64)
    if answers.dtype == object:
        ids: dict[Any, int] = {None: -1}
        return np.array([_place(a, ids) for a in answers], int)
    values, place = np.unique(answers, return_inverse=True)
    return np.where(values != values, -1, np.arange(len(values)))[place]


def _place(answer: Any, ids: dict[Any, int]) -> int:
    """Return an answer's number in `ids`, a new one for a new answer."""
    try:
        place = ids.setdefault(answer, len(ids) - 1)
    except TypeError:
        kind = type(answer).__name__
        raise ValueError(f"an answer is a {kind}, not hashable; give text or numbers") from None
    same = answer == answer  # False for NaN, unknown for pandas' NA
    return place if isinstance(same, (bool, np.bool_)) and same else -1


def _interned(answers: NDArray[Any]) -> NDArray[np.int64]:
    """Return `_intern` of each row of answers, (pools, samples)."""
    if answers.dtype.kind not in "iuf":
        return np.stack([_intern(row) for row in answers])
    order = np.argsort(answers, axis=1)
    value = np.take_along_axis(answers, order, axis=1)
    ids = np.zeros(answers.shape, np.int64)
    ids[:, 1:] = np.cumsum(value[:, 1:] != value[:, :-1], axis=1)
    place = np.empty_like(ids)
    np.put_along_axis(place, order, np.where(value != value, -1, ids), axis=1)
    return place


def _classes(ids: NDArray[np.int64], correct: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return votes per answer, and the share of each answer's samples that are correct.

    ids, correct: (pools, samples); both returned are (pools, answers).
    """
    pools, width = len(ids), int(ids.max(initial=0)) + 2
    cells = (ids + 1 + width * np.arange(pools)[:, None]).ravel()
    votes = np.bincount(cells, minlength=pools * width).reshape(pools, width)[:, 1:]
    right = np.bincount(cells, correct.ravel(), pools * width).reshape(pools, width)[:, 1:]
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


def _binomials(sizes: NDArray[Any], count: NDArray[Any], p: float) -> Floats:
    """Return the Binomial(size, p) probabilities of each count, (sizes, counts)."""
    log_chance = np.full((len(sizes), len(count)), -np.inf, dtype=np.longdouble)
    for row, size in zip(log_chance, sizes, strict=True):
        inside = _log_choose_row(int(size))[count[0] : count[-1] + 1]
        row[: len(inside)] = inside
    log_chance += count * np.log(p) + (sizes[:, None] - count) * np.log1p(-p)
    return np.exp(log_chance.astype(float))


def _tie_nodes(most: NDArray[np.int64], log_weight: Floats, crowd: Floats) -> NDArray[np.int64]:
    """Return per count how many nodes on [0, 1] integrate the rivals' polynomial in u.

    U nodes are exact to degree 2U - 1 (`most` ties). Fewer do where the remainder, at most
    weight crowd^2U / (2U)! U!^4 / (2U)!^2 with `crowd` ties expected, is negligible.
    """
    upto = most // 2 + 1
    nodes = np.arange(1, upto.max() + 1)[:, None]
    error = 4 * gammaln(nodes + 1) - 3 * gammaln(2 * nodes + 1) + 2 * nodes * np.log(crowd + TINY)
    enough = (error + log_weight < np.log(NEGLIGIBLE)) | (nodes >= upto)
    return 1 + enough.argmax(axis=0)


def _power(base: NDArray[Any], times: int) -> NDArray[Any]:
    """Return base ** times, times >= 1, by repeated squaring."""
    if times == 1:
        return base
    even = _power(base * base, times // 2)
    return even * base if times % 2 else even


@dataclass(frozen=True)
class _Case:
    """A class and those it votes against; places are rows of a table of class sizes."""

    own: int
    rivals: NDArray[Any]  # (groups,) places
    many: NDArray[Any]  # (groups,) how many classes have that size


@dataclass(frozen=True)
class _Plans:
    """What of the cases is worth computing: rivals that matter, a range of counts each."""

    at: NDArray[Any]  # (plans,) positions of their cases
    own: NDArray[Any]  # (plans,) places
    many: NDArray[Any]  # (plans, sizes) rivals of each size
    start: NDArray[Any]  # (plans,) the first count, by position
    stop: NDArray[Any]
    rest: NDArray[Any]  # (plans,) samples of the classes that cannot reach the counts, and of none
    nodes: NDArray[Any]  # (counts,) to integrate over ties


def _win_probabilities(cases: list[_Case], sizes: NDArray[Any], total: int, k: int) -> Floats:
    """Return P(own class wins the vote of k of `total`), a tie of t+1 counted 1/(t+1), per case.

    Counts drawn without replacement are independent Binomial(m, p) given their sum, for any p. So
    P = sum_j P(X = j) P(others below j, ties weighted, sum k - j) / P(sum k), where
    - rivals that cannot reach the lowest j of interest merge into one untruncated binomial;
    - the sum is fixed by a discrete Fourier transform, read until its terms have decayed;
    - 1/(t+1) is the integral of u^t on [0, 1], by Gauss-Legendre, with the nodes that j needs.
    The cut characteristic functions of a size, and their powers, are computed once for all cases.
    """
    p, value = min(k, total - 0.5) / total, np.zeros(len(cases))
    log_sum = float(_log_choose_row(total)[k]) + k * np.log(p) + (total - k) * np.log1p(-p)
    count, chance, plans = _plans(cases, sizes, total, k, p, log_sum)
    if plans is None:
        return value
    rule = [_legendre(nodes) for nodes in plans.nodes.tolist() if nodes]
    u, weight = (np.concatenate(part)[:, None] / 2 for part in zip(*rule, strict=True))
    which = np.repeat(np.arange(len(count)), plans.nodes)  # the count that a node is of
    edge = np.append(0, np.cumsum(plans.nodes))
    spans = [slice(*ends) for ends in zip(edge[plans.start], edge[plans.stop], strict=True)]
    rivals = [[(int(s), int(many[s])) for s in np.flatnonzero(many)] for many in plans.many]
    period = int(_reach(total * p * (1 - p))) | 1
    going = list(range(len(spans)))
    for first in range(0, period // 2 + 1, WAVES):
        wave = np.arange(first, min(first + WAVES, period // 2 + 1))
        phase = np.exp(2j * np.pi / period * (np.outer(count, wave) % period))
        level = chance[:, :, None] * phase  # (sizes, j, waves): level with us
        below = np.cumsum(level, axis=1) - level
        level = level[:, which]
        cut = below[:, which] + (0.5 + u) * level  # (sizes, nodes, waves)
        level *= weight
        merged = 1 - p + p * np.exp(2j * np.pi / period * wave)
        turn = np.exp(-2j * np.pi / period * (k * wave % period)) * np.where(wave, 2.0, 1.0)
        left = merged ** plans.rest[:, None] * turn  # (plans, waves)
        power = cache(lambda size, times, cut=cut: _power(cut[size], times))
        still = []
        for i in going:
            terms = level[plans.own[i], spans[i]] * left[i]
            for size, times in rivals[i]:
                terms *= power(size, times)[spans[i]]
            value[plans.at[i]] += terms.sum().real
            if np.abs(terms[:, -WAVES // 2 :]).sum(axis=0).max() >= NEGLIGIBLE:
                still.append(i)
        if not (going := still):
            break
    return np.clip(value / period / np.exp(log_sum), 0.0, 1.0)


def _plans(
    cases: list[_Case], sizes: NDArray[Any], total: int, k: int, p: float, log_sum: float
) -> tuple[NDArray[Any], Floats, _Plans | None]:
    """Return counts, the chance of each by size, plans of the cases that may win (None: none)."""
    least, most = _window(sizes, total, k)
    own, many = np.array([case.own for case in cases]), np.zeros((len(cases), len(sizes)))
    row = np.repeat(np.arange(len(cases)), [len(case.rivals) for case in cases])
    place, times = (np.concatenate([getattr(c, n) for c in cases]) for n in ("rivals", "many"))
    np.add.at(many, (row, place), times)
    low = np.maximum(1, np.maximum(least[own], np.where(many, least, 0).max(axis=1)))
    many *= most >= low[:, None]
    at = np.flatnonzero(low <= most[own])
    if not len(at):
        return least, least, None
    own, many, low = own[at], many[at], low[at]
    count = np.arange(np.where(many, least, low[:, None]).min(), most[own].max() + 1)
    chance = _binomials(sizes, count, p)
    within = np.maximum(np.cumsum(chance, axis=1), TINY)
    # Upper bound of P(wins with j): the counts, rivals, nodes that can matter follow from it.
    bound = np.log(chance + TINY)[own] + many @ np.log(within) - log_sum
    kept = (bound > np.log(NEGLIGIBLE)) & (count >= low[:, None])
    able = kept.any(axis=1)
    if not able.any():
        return count, chance, None
    at, own, many, bound, kept = at[able], own[able], many[able], bound[able], kept[able]
    start, stop = kept.argmax(axis=1), len(count) - kept[:, ::-1].argmax(axis=1)
    many *= (within - chance)[:, start].T < 1 - 1e-15  # may reach the lowest count of interest
    span = np.arange(len(count))
    span = (start[:, None] <= span) & (span < stop[:, None])  # (plans, counts)
    crowd = np.where(span, many @ (chance / within), 0.0).max(axis=0)
    ties = np.minimum(many.sum(axis=1).max(), k // np.maximum(count, 1) - 1).astype(np.int64)
    nodes = _tie_nodes(ties, np.where(span, bound, -np.inf).max(axis=0), crowd)
    many, right = many.astype(np.int64), stop.max()
    plans = _Plans(
        at, own, many, start, stop, total - sizes[own] - many @ sizes, (nodes * span.any(0))[:right]
    )
    return count[:right], chance[:, :right], plans


def _exact_votes(ids: NDArray[np.int64], correct: Floats, budgets: NDArray[np.int64]) -> Floats:
    """Return the expected correctness of the vote at each budget, (pools, budgets).

    ids, correct: (pools, samples).
    """
    total, (votes, right) = ids.shape[1], _classes(ids, correct)
    result = np.stack([_plain_votes(votes, right, total, int(k)) for k in budgets], axis=1)
    hard = np.flatnonzero(np.isnan(result[0]))
    result[:, hard] = 0.0
    step = TOGETHER if total <= SMALL else 1
    for begin in range(0, len(ids) if len(hard) else 0, step):
        some = slice(begin, begin + step)
        sizes, cases, credits, owners = _cases(votes[some], right[some])
        for b in hard if cases else ():
            chance = _win_probabilities(cases, sizes, total, int(budgets[b]))
            result[some, b] += np.bincount(owners, credits * chance, len(result[some]))
    return result


def _cases(
    votes: NDArray[np.int64], right: Floats
) -> tuple[NDArray[np.int64], list[_Case], NDArray[Any], NDArray[Any]]:
    """Return class sizes, and per size of a pool with correct answers its case, their correctness
    and the pool. votes, right: (pools, answers).
    """
    pool, answer = np.nonzero(votes)
    sizes, place = np.unique(votes[pool, answer], return_inverse=True)
    groups, group = np.unique(pool * len(sizes) + place, return_inverse=True)
    many, credit = np.bincount(group), np.bincount(group, weights=right[pool, answer])
    owner, place = np.divmod(groups, max(len(sizes), 1))
    cases, scored = [], np.flatnonzero(credit)
    begins, ends = np.searchsorted(owner, [owner[scored], owner[scored] + 1])
    for g, begin, end in zip(scored, begins, ends, strict=True):
        others = many[begin:end].copy()
        others[g - begin] -= 1
        cases.append(_Case(int(place[g]), place[begin:end][others > 0], others[others > 0]))
    return sizes, cases, credit[scored], owner[scored]


def _plain_votes(votes: NDArray[np.int64], right: Floats, n: int, k: int) -> Floats:
    """Return the vote's expected correctness, (pools,), where no draw is to be weighed; else NaN.

    All n are drawn, or one, or two: of two answers each is worth a half, alike or not.
    """
    if k == n:
        return _credit(votes, right)
    answered, correct = votes.sum(axis=1), (votes * right).sum(axis=1)
    if k == 1:
        return correct / n
    if k == 2:
        return correct * ((answered - 1) / 2 + n - answered) / (n * (n - 1) / 2)
    return np.full(len(votes), np.nan)


def _credit(tally: NDArray[Any], right: Floats) -> Floats:
    """Return the correctness of the winners of each tally (..., answers), ties shared."""
    top = tally.max(axis=-1, keepdims=True, initial=0.0)
    wins = tally >= np.where(top > 0, top * (1 - 1e-12), np.inf)
    return (wins * right).sum(axis=-1) / np.maximum(wins.sum(axis=-1), 1)


def _drawn_votes(
    ids: NDArray[np.int64],
    correct: Floats,
    budgets: NDArray[np.int64],
    weights: Floats | None,
    subsets: int,
    rng: np.random.Generator,
) -> Floats:
    """Return the correctness of the vote in random subsets, (subsets, budgets)."""
    votes, right = (row[0] for row in _classes(ids[None], correct[None]))
    if not right.any():
        return np.zeros((subsets, len(budgets)))
    if weights is None:  # counts are enough: hypergeometric draws, the unanswered in front
        pool = np.append((ids < 0).sum(), votes)
        drawn = [rng.multivariate_hypergeometric(pool, k, subsets, "marginals") for k in budgets]
        return np.stack([_credit(d[:, 1:], right) for d in drawn], axis=1)
    # One permutation serves all budgets: sample i of it enters from the first budget above i.
    ids, right = np.append(np.cumsum(votes > 0) - 1, -1)[ids], right[votes > 0]
    order, width = np.sort(budgets), len(right) + 1
    entry = np.searchsorted(order, np.arange(len(ids)), side="right")
    credits, step = np.empty((subsets, len(order))), max(1, BLOCK // (width * (len(order) + 1)))
    for first in range(0, subsets, step):
        rows = np.arange(min(step, subsets - first))[:, None]
        shuffle = rng.permuted(np.tile(np.arange(len(ids)), (len(rows), 1)), axis=1)
        shape = len(order) + 1, width, len(rows)  # subsets last: sums over answers go side by side
        cells = ((entry * width + ids[shuffle] + 1) * len(rows) + rows).ravel()
        tally = np.bincount(cells, weights[shuffle].ravel(), math.prod(shape)).reshape(shape)
        for before, after in pairwise(tally):  # cumsum takes thrice as long
            after += before
        held = _credit(tally[:-1, 1:].swapaxes(1, 2), right)  # (budgets, subsets)
        credits[first : first + len(rows)] = held.T
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

    answers: (samples,) or (problems, samples), any hashable; None, NaN and NA mean unanswered:
    such a sample is drawn but cannot win, and a draw of nothing else is wrong. A tie is
    worth 1 / number tied. Votes go by equality, so normalise answers first; an answer whose samples
    disagree on `correct` counts by its share of correct ones. NaN when k > n.

    `subsets` averages that many random subsets instead (exact costs more than about 800), and
    `weights` (the shape of answers, 0 or more) gives each vote its weight, for which no closed form
    is known (1000 subsets unless told): both return (estimate, standard error), seeded by `seed`.
    """
    pool, given = voted_pools(correct, answers)
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
    sizes = present.sum(axis=1)
    for size in () if drawn else np.unique(sizes):
        rows, able = np.flatnonzero(sizes == size), budgets <= size
        if able.any():
            here = present[rows]
            ids = _interned(given[rows][here].reshape(-1, size))
            right = pool[rows][here].reshape(-1, size)
            result[np.ix_(rows, able)] = _exact_votes(ids, right, budgets[able])
    for i, here in enumerate(present if drawn else ()):
        able = budgets <= here.sum()
        if not able.any():
            continue
        ids, right = _intern(given[i, here]), pool[i, here]
        rng, own = np.random.default_rng([seed, i]), None if heavy is None else heavy[i, here]
        credits = _drawn_votes(ids, right, budgets[able], own, subsets, rng)
        result[i, able] = credits.mean(axis=0)
        error[i, able] = credits.std(axis=0, ddof=1) / np.sqrt(subsets)
    if drawn:
        return shaped(result, correct, k), shaped(error, correct, k)
    return shaped(result, correct, k)

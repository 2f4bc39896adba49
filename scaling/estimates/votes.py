"""Selection by vote: the most common answer of k samples, over all subsets of a pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from scaling.estimates.counts import Floats, Ints, budgets_of, log_factorial
from scaling.estimates.scores import pools_of, shaped

TAIL = 31.0  # a count outside its window has probability below exp(-31) = 3e-14
NEGLIGIBLE = 1e-15
TINY = 1e-300
WAVES = 32  # frequencies evaluated at a time
SMALL, TOGETHER = 512, 512  # pools up to this size share tables, so many at a time
BLOCK = 2**15  # cells of the tallies of random subsets at a time: what fits in the cache


# ---------------------------------------------------------------- answers as numbers
def voted_pools(correct: ArrayLike, answers: Any) -> tuple[Floats, NDArray[Any]]:
    """Return correct and answers as (problems, samples) arrays, each answer unchanged.

    A list that mixes strings and NaN becomes an array of objects: numpy would make the string
    "nan" of NaN, and columns of tuples.
    """
    if not hasattr(answers, "__array__"):
        rows = [answers] if np.ndim(correct) == 1 else answers
        if not all(hasattr(row, "__iter__") for row in (rows, *rows)):
            raise ValueError("answers: give (samples,) or (problems, samples), as for correct")
        kept = [np.fromiter(row, dtype=object) for row in rows]
        if len({row.size for row in kept}) > 1:
            raise ValueError("answers differ in number; pad short pools, with correct = NaN there")
        answers = kept[0] if np.ndim(correct) == 1 else np.array(kept, dtype=object)
    return pools_of(correct, answers, "answers")


def answer_ids(answers: NDArray[Any]) -> Ints:
    """Return the answers of each pool, (pools, samples), as 0, 1, ...; -1 where unanswered.

    Unanswered are None, NaN and pandas' NA.
    """
    if answers.dtype.kind not in "biuf":
        from pandas import factorize

        try:
            codes = [factorize(row)[0] for row in answers]
        except TypeError as error:
            raise ValueError(f"an answer is not hashable ({error}); give text or numbers") from None
        return np.array(codes, np.int64).reshape(answers.shape)
    order = np.argsort(answers, axis=1)
    value = np.take_along_axis(answers, order, axis=1)
    ids = np.zeros(answers.shape, np.int64)
    ids[:, 1:] = np.cumsum(value[:, 1:] != value[:, :-1], axis=1)
    place = np.empty_like(ids)
    np.put_along_axis(place, order, np.where(value != value, -1, ids), axis=1)
    return place


def tally(ids: Ints, correct: Floats) -> tuple[Ints, Floats]:
    """Return votes per answer, and the share of its samples that are correct, (pools, answers)."""
    pools, width = len(ids), int(ids.max(initial=0)) + 2
    cells = (ids + 1 + width * np.arange(pools)[:, None]).ravel()
    votes = np.bincount(cells, minlength=pools * width).reshape(pools, width)[:, 1:]
    right = np.bincount(cells, correct.ravel(), pools * width).reshape(pools, width)[:, 1:]
    return votes, right / np.maximum(votes, 1)


def winners_worth(votes: NDArray[Any], right: Floats) -> Floats:
    """Return the correctness of the winners of votes (..., answers), averaged over ties."""
    top = votes.max(axis=-1, keepdims=True, initial=0.0)
    wins = votes >= np.where(top > 0, top * (1 - 1e-12), np.inf)
    return (wins * right).sum(axis=-1) / np.maximum(wins.sum(axis=-1), 1)


# ---------------------------------------------------------------- exact votes
def majority_at_k(
    answers: Any,
    correct: ArrayLike,
    k: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    subsets: int | None = None,
    seed: int = 0,
) -> Any:
    """Return the expected correctness of the most common answer among k samples, exactly.

    answers: (samples,) or (problems, samples), any hashable; None, NaN and NA mean unanswered:
    such a sample is drawn but cannot win, and a draw of nothing else is wrong. A tie is
    worth 1 / number tied. Answers are compared by equality, so normalise them first; an answer
    whose samples disagree on `correct` counts by its share of correct ones. NaN when k > n.

    `subsets` averages over that many random subsets instead (slower than the exact value below
    about 800), and `weights` (the shape of answers, 0 or more) gives each vote a weight, for which
    no closed form is known (1000 subsets by default). Both return (estimate, standard error) and
    are seeded by `seed`.
    """
    pool, given = voted_pools(correct, answers)
    budgets = budgets_of(k)
    drawn = weights is not None or subsets is not None
    subsets = 1000 if subsets is None else subsets
    if subsets < 2:
        raise ValueError(
            f"subsets is {subsets}; give 2 or more, so that its error can be estimated"
        )
    heavy = None if weights is None else pools_of(correct, weights, "weights")[1].astype(float)
    present = ~np.isnan(pool)
    if heavy is not None and not (np.isfinite(heavy) & (heavy >= 0))[present].all():
        raise ValueError("a weight is negative or not finite; give 0 or more, such as exp(logprob)")
    result, error = np.full((2, len(pool), len(budgets)), np.nan)
    sizes = present.sum(axis=1)
    for size in () if drawn else np.unique(sizes):
        rows, able = np.flatnonzero(sizes == size), budgets <= size
        if able.any():
            ids = answer_ids(given[rows][present[rows]].reshape(-1, size))
            right = pool[rows][present[rows]].reshape(-1, size)
            result[np.ix_(rows, able)] = _exact_votes(ids, right, budgets[able])
    for i, here in enumerate(present if drawn else ()):
        able = budgets <= here.sum()
        if able.any():
            ids, right = answer_ids(given[i, here][None]), pool[i, here][None]
            rng, own = np.random.default_rng([seed, i]), None if heavy is None else heavy[i, here]
            credits = _drawn_votes(ids, right, budgets[able], own, subsets, rng)
            result[i, able] = credits.mean(axis=0)
            error[i, able] = credits.std(axis=0, ddof=1) / np.sqrt(subsets)
    if drawn:
        return shaped(result, correct, k), shaped(error, correct, k)
    return shaped(result, correct, k)


def _exact_votes(ids: Ints, correct: Floats, budgets: Ints) -> Floats:
    """Return the vote's expected correctness, (pools, budgets).

    ids, correct: (pools, samples).
    """
    total, (votes, right) = ids.shape[1], tally(ids, correct)
    result, together = np.empty((len(ids), len(budgets))), TOGETHER if total <= SMALL else 1
    for begin in range(0, len(ids), together):
        some = slice(begin, begin + together)
        sizes, own, others, credit, owner = _cases(votes[some], right[some])
        for b, k in enumerate(budgets.tolist()):
            if k == total:
                result[some, b] = winners_worth(votes[some], right[some])
            elif k <= 2:  # of two answers each is worth a half, equal or not
                answered = votes[some].sum(axis=1)
                correct = (votes[some] * right[some]).sum(axis=1)
                both = (answered - 1) / 2 + total - answered
                result[some, b] = correct * ((1 / total) if k == 1 else both / math.comb(total, 2))
            else:
                chance = win_probabilities(own, others, sizes, total, k)
                result[some, b] = np.bincount(owner, credit * chance, len(result[some]))
    return result


def _cases(votes: Ints, right: Floats) -> tuple[Ints, Ints, Ints, Floats, Ints]:
    """Return the arguments of `win_probabilities`, a case per size of a correct answer.

    votes, right: (pools, answers). Returned: the sizes; per case its place among them, how many
    other answers of its pool have each size, the summed correctness of those it stands for, and
    its pool.
    """
    pool, answer = np.nonzero(votes)
    sizes, place = np.unique(votes[pool, answer], return_inverse=True)
    cells, shape = pool * len(sizes) + place, (len(votes), len(sizes))
    many = np.bincount(cells, minlength=math.prod(shape)).reshape(shape)
    credit = np.bincount(cells, right[pool, answer], math.prod(shape)).reshape(shape)
    owner, own = np.nonzero(credit)
    others = many[owner]
    others[np.arange(len(own)), own] -= 1
    return sizes, own, others, credit[owner, own], owner  # type: ignore[return-value]


def win_probabilities(own: Ints, others: Ints, sizes: Ints, total: int, k: int) -> Floats:
    """Return the probability that an answer wins the vote of k < total samples, (cases,).

    own: (cases,) the place of the answer's number of samples in `sizes`; others: (cases, sizes)
    number of other answers by size. A tie with t others counts 1 / (t + 1).

    Counts drawn without replacement are independent Binomial(m, p) given their sum, for any p. So
    P = sum_j P(X = j) P(others below j, ties weighted, sum k - j) / P(sum k), where
    - others that cannot reach the lowest j of interest merge into one untruncated binomial;
    - the sum is fixed by a discrete Fourier transform, read until its terms have decayed;
    - 1 / (t + 1) is the integral of u^t on [0, 1], by Gauss-Legendre, with the nodes that j needs.
    The truncated characteristic functions and their powers are computed once for all cases.
    """
    least, most = _window(sizes, total, k)
    low = np.maximum(1, np.maximum(least[own], np.where(others, least, 0).max(axis=1, initial=0)))
    others = others * (most >= low[:, None])
    if not (low <= most[own]).any():
        return np.zeros(len(own))
    p = k / total
    count = np.arange(np.where(others, least, low[:, None]).min(), most[own].max() + 1)
    chance, log_sum = _binomials(sizes, count, p), float(_log_binomial(total, np.array(k), p))
    others, spans, which, u, weight = _nodes(own, others, count, low, chance, log_sum, k)
    rest = (total - sizes[own] - others @ sizes)[:, None]  # samples that cannot win
    period = int(_reach(total * p * (1 - p))) | 1

    def transforms(wave: Ints) -> tuple[NDArray[Any], ...]:
        level, below = _characteristic(chance, count, which, u, wave, period)
        other = (1 - p + p * np.exp(2j * np.pi / period * wave)) ** rest
        other *= np.exp(-2j * np.pi / period * (k * wave % period)) * np.where(wave, 2.0, 1.0)
        return level * weight, below, other

    value = _sum_of_waves(transforms, own, others, spans, period // 2 + 1)
    return np.clip(value / period / np.exp(log_sum), 0.0, 1.0)


def _sum_of_waves(
    transforms: Callable[[Ints], tuple[NDArray[Any], ...]],
    own: Ints, others: Ints, spans: list[slice], waves: int,
) -> Floats:  # fmt: skip
    """Return the sum over frequencies of each case's terms, (cases,), until they have decayed."""
    value = np.zeros(len(own))
    factors = [[(int(s), int(row[s])) for s in np.flatnonzero(row)] for row in others]
    going = [i for i, span in enumerate(spans) if span.stop > span.start]
    for first in range(0, waves, WAVES):
        level, below, other = transforms(np.arange(first, min(first + WAVES, waves)))
        power = cache(lambda size, times, below=below: _power(below[size], times))
        still = []
        for i in going:
            terms = level[own[i], spans[i]] * other[i]
            for size, times in factors[i]:
                terms *= power(size, times)[spans[i]]
            value[i] += terms.sum().real
            if np.abs(terms[:, -WAVES // 2 :]).sum(axis=0).max() >= NEGLIGIBLE:
                still.append(i)
        if not (going := still):
            break
    return value


def _nodes(
    own: Ints, others: Ints, count: Ints, low: Ints, chance: Floats, log_sum: float, k: int
) -> tuple[Ints, list[slice], Ints, Floats, Floats]:
    """Return the relevant others, each case's nodes, and the count, u and weight of each node.

    Answers that certainly have fewer votes are left out, and so are counts with which a case wins
    with negligible probability.
    """
    within = np.maximum(np.cumsum(chance, axis=1), TINY)
    bound = np.log(chance + TINY)[own] + others @ np.log(within) - log_sum  # of winning with j
    kept = (bound > np.log(NEGLIGIBLE)) & (count >= low[:, None])
    ends = len(count) - kept[:, ::-1].argmax(axis=1)
    starts = np.where(kept.any(axis=1), kept.argmax(axis=1), ends)
    others = others * ((within - chance)[:, np.minimum(starts, len(count) - 1)].T < 1 - 1e-15)
    ties = np.minimum(others.sum(axis=1).max(), np.maximum(k // np.maximum(count, 1) - 1, 0))
    crowd = np.where(kept, others @ (chance / within), 0.0).max(axis=0)
    weights = np.where(kept, bound, -np.inf).max(axis=0)
    nodes = _enough_nodes(ties, crowd, weights) * kept.any(axis=0)
    edge = np.append(0, np.cumsum(nodes))
    rule = [(np.zeros(0),) * 2, *(_legendre(number) for number in nodes.tolist() if number)]
    u, weight = (np.concatenate(part)[:, None] / 2 for part in zip(*rule, strict=True))
    spans = [slice(*pair) for pair in zip(edge[starts], edge[ends], strict=True)]
    return others, spans, np.repeat(np.arange(len(count)), nodes), 0.5 + u, weight


def _enough_nodes(ties: Ints, crowd: Floats, log_weight: Floats) -> Ints:
    """Return the number of Gauss-Legendre nodes per count that integrate the polynomial in u.

    U nodes are exact to degree 2U - 1 (`ties`). Fewer do where the remainder, at most
    weight crowd^2U / (2U)! U!^4 / (2U)!^2 with `crowd` ties expected, is negligible.
    """
    upto = ties // 2 + 1
    nodes = np.arange(1, upto.max() + 1)[:, None]
    error = 4 * gammaln(nodes + 1) - 3 * gammaln(2 * nodes + 1) + 2 * nodes * np.log(crowd + TINY)
    enough = (error + log_weight < np.log(NEGLIGIBLE)) | (nodes >= upto)
    return 1 + enough.argmax(axis=0)


def _characteristic(
    chance: Floats, count: Ints, which: Ints, u: Floats, wave: Ints, period: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the transform of "level with count j" and of "below it, or level at weight u".

    Both (sizes, nodes, waves).
    """
    level = chance[:, :, None] * np.exp(2j * np.pi / period * (np.outer(count, wave) % period))
    below = np.cumsum(level, axis=1) - level
    level, below = level[:, which], below[:, which]
    below += u * level
    return level, below


_legendre = lru_cache(maxsize=512)(np.polynomial.legendre.leggauss)


def _reach(variance: Any) -> Any:
    """Return a bound on a count's distance from its mean, exceeded with probability exp(-TAIL)."""
    return TAIL / 3 + np.sqrt((TAIL / 3) ** 2 + 2 * TAIL * variance)


def _window(size: Ints, total: int, k: int) -> tuple[Ints, Ints]:
    """Return the range of the count drawn from each size, except with probability exp(-TAIL)."""
    mean = size * (k / total)
    variance = mean * (1 - k / total) * (1 - size / total) * total / max(total - 1, 1)
    reach = _reach(variance)
    low = np.maximum(np.ceil(mean - reach), np.maximum(0, k - total + size))
    high = np.minimum(np.floor(mean + reach), np.minimum(size, k))
    return low.astype(np.int64), high.astype(np.int64)


def _log_binomial(size: Any, count: Ints, p: float) -> NDArray[Any]:
    """Return the log of the Binomial(size, p) probability of counts up to size."""
    log_choose = log_factorial(size) - log_factorial(count) - log_factorial(size - count)
    return log_choose + count * np.log(p) + (size - count) * np.log1p(-p)


def _binomials(sizes: Ints, count: Ints, p: float) -> Floats:
    """Return the Binomial(size, p) probability of each count, (sizes, counts)."""
    inside = np.minimum(count, sizes[:, None])
    chance = np.exp(_log_binomial(sizes[:, None], inside, p).astype(float))
    return np.where(count <= sizes[:, None], chance, 0.0)


def _power(base: NDArray[Any], times: int) -> NDArray[Any]:
    """Return base ** times for times >= 1, by repeated squaring."""
    if times == 1:
        return base
    even = _power(base * base, times // 2)
    return even * base if times % 2 else even


# ---------------------------------------------------------------- random subsets
def _drawn_votes(
    ids: Ints, correct: Floats, budgets: Ints, weights: Floats | None, subsets: int,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Return the vote's correctness in random subsets of one pool, (subsets, budgets)."""
    votes, right = (row[0] for row in tally(ids, correct))
    if not right.any():
        return np.zeros((subsets, len(budgets)))
    if weights is None:  # counts are enough: hypergeometric draws, the unanswered in front
        pool = np.append((ids < 0).sum(), votes)
        drawn = [rng.multivariate_hypergeometric(pool, k, subsets, "marginals") for k in budgets]
        return np.stack([winners_worth(d[:, 1:], right) for d in drawn], axis=1)
    # One permutation serves all budgets: sample i of it enters from the first budget above i.
    order, width = np.sort(budgets), len(right) + 1
    entry = np.searchsorted(order, np.arange(ids.size), side="right")
    credits, step = np.empty((subsets, len(order))), max(1, BLOCK // (width * (len(order) + 1)))
    for first in range(0, subsets, step):
        rows = np.arange(min(step, subsets - first))[:, None]
        shuffle = rng.permuted(np.tile(np.arange(ids.size), (len(rows), 1)), axis=1)
        shape = len(order) + 1, width, len(rows)  # subsets last: answers are summed side by side
        cells = ((entry * width + ids[0, shuffle] + 1) * len(rows) + rows).ravel()
        counted = np.bincount(cells, weights[shuffle].ravel(), math.prod(shape)).reshape(shape)
        for before, after in pairwise(counted):  # three times as fast as cumsum
            after += before
        credits[first : first + len(rows)] = winners_worth(counted[:-1, 1:].swapaxes(1, 2), right).T
    return credits[:, np.searchsorted(order, budgets)]

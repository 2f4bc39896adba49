"""Selection by vote: the commonest answer among k samples, over all subsets of a pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
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
FEW = 4  # classes of one size up to which multiplying beats squaring
SMALL = 512  # pools up to this size share tables: larger ones have too few sizes in common


def voted_pools(correct: ArrayLike, answers: Any) -> tuple[Floats, NDArray[Any]]:
    """Return `pools_of` correct and answers, each answer kept as it is.

    Beside strings numpy would make the string "nan" of NaN, "-1" of -1, columns of tuples.
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
    """Return each answer as a small whole number; -1 where there is none (None, NaN, NA, -1)."""
    if answers.dtype.kind in "iu" and answers.min() >= -1 and answers.max() < 4 * answers.size:
        return answers.astype(np.int64)
    if answers.dtype == object:
        ids: dict[Any, int] = {None: -1, -1: -1}
        return np.array([_place(a, ids) for a in answers], int)
    values, place = np.unique(answers, return_inverse=True)
    none = np.isnan(values) | (values == -1) if values.dtype.kind in "fiu" else values != values
    return np.where(none, -1, np.arange(len(values)))[place]


def _place(answer: Any, ids: dict[Any, int]) -> int:
    """Return an answer's number in `ids`, a new one for a new answer."""
    try:
        place = ids.setdefault(answer, len(ids) - 2)
    except TypeError:
        kind = type(answer).__name__
        raise ValueError(f"an answer is a {kind}, not hashable; give text or numbers") from None
    same = answer == answer  # False for NaN, unknown for pandas' NA
    return place if isinstance(same, (bool, np.bool_)) and same else -1


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


def _binomials(sizes: NDArray[Any], count: NDArray[Any], p: float) -> Floats:
    """Return the Binomial(size, p) probabilities of each count, (sizes, counts)."""
    log_chance = np.full((len(sizes), len(count)), -np.inf, dtype=np.longdouble)
    for row, size in zip(log_chance, sizes, strict=True):
        inside = _log_choose_row(int(size))[count[0] : count[-1] + 1]
        row[: len(inside)] = inside
    log_chance += count * np.log(p) + (sizes[:, None] - count) * np.log1p(-p)
    return np.exp(log_chance.astype(float))


def _tie_nodes(most: int, log_weight: Floats, crowd: Floats) -> tuple[Floats, Floats]:
    """Return nodes on [0, 1] that integrate the rivals' polynomial in u at every count.

    U nodes are exact to degree 2U - 1 (`most` ties). Fewer do where the remainder, at most
    weight crowd^2U / (2U)! U!^4 / (2U)!^2 with `crowd` ties expected, is negligible.
    """
    upto, log_crowd = most // 2 + 1, np.log(crowd + TINY)
    for last in (min(upto, 16), upto):  # few are nearly always enough
        nodes = np.arange(1, last + 1)[:, None]
        error = 4 * gammaln(nodes + 1) - 3 * gammaln(2 * nodes + 1) + 2 * nodes * log_crowd
        enough = (error + log_weight).max(axis=1) < np.log(NEGLIGIBLE)
        if enough.any():
            break
    enough[-1] = True
    place, weight = _legendre(1 + int(enough.argmax()))
    return 0.5 + 0.5 * place, 0.5 * weight


def _power_product(base: NDArray[Any], times: NDArray[Any]) -> NDArray[Any]:
    """Return the product over the first axis of base ** times (none: 1), by repeated squaring."""
    if not len(times):
        return np.multiply.reduce(base, axis=0)
    result = base[times % 2 == 1].prod(axis=0)
    while times.max(initial=1) > 1:
        base, times = base[times > 1] ** 2, times[times > 1] // 2
        result *= base[times % 2 == 1].prod(axis=0)
    return result


@dataclass(frozen=True)
class _Case:
    """A class and those it votes against; places are rows of a table of class sizes."""

    own: int
    rivals: NDArray[Any]  # (groups,) places
    many: NDArray[Any]  # (groups,) how many classes have that size


@dataclass(frozen=True)
class _Plan:
    """What of a case is worth computing: its rivals that matter, a range of counts."""

    at: int  # position of the case
    case: _Case
    start: int
    stop: int
    rest: int  # samples of the classes that cannot reach the counts, and of none


def _win_probabilities(cases: list[_Case], sizes: NDArray[Any], total: int, k: int) -> Floats:
    """Return P(own class wins the vote of k of `total`), a tie of t+1 counted 1/(t+1), per case.

    Counts drawn without replacement are independent Binomial(m, p) given their sum, for any p. So
    P = sum_j P(X = j) P(others below j, ties weighted, sum k - j) / P(sum k), where
    - rivals that cannot reach the lowest j of interest merge into one untruncated binomial;
    - the sum is fixed by a discrete Fourier transform, read until its terms have decayed;
    - 1/(t+1) is the integral of u^t on [0, 1], by Gauss-Legendre.
    The cut characteristic functions of a size are computed once for all cases.
    """
    p, value = min(k, total - 0.5) / total, np.zeros(len(cases))
    log_sum = float(_log_choose_row(total)[k]) + k * np.log(p) + (total - k) * np.log1p(-p)
    count, chance, plans, ties = _plans(cases, sizes, total, k, p, log_sum)
    if not plans:
        return value
    left, right = min(plan.start for plan in plans), max(plan.stop for plan in plans)
    period = int(_reach(total * p * (1 - p))) | 1
    for first in range(0, period // 2 + 1, WAVES):
        wave = np.arange(first, min(first + WAVES, period // 2 + 1))
        phase = np.exp(2j * np.pi / period * (np.outer(count[:right], wave) % period))
        level = chance[:, left:right, None] * phase[left:]  # (sizes, j, waves): level with us
        below = (chance[:, :left] @ phase[:left])[:, None] + np.cumsum(level, axis=1) - level
        merged = 1 - p + p * np.exp(2j * np.pi / period * wave)
        turn = np.exp(-2j * np.pi / period * (k * wave % period)) * np.where(wave, 2.0, 1.0)
        held = [np.zeros((plan.stop - plan.start, len(wave)), complex) for plan in plans]
        for u, weight in zip(*ties, strict=True):
            cut = below + u * level
            for plan, sum_ in zip(plans, held, strict=True):
                at = slice(plan.start - left, plan.stop - left)
                sum_ += weight * _power_product(cut[plan.case.rivals, at], plan.case.many)
        going = []
        for plan, sum_ in zip(plans, held, strict=True):
            own = level[plan.case.own, plan.start - left : plan.stop - left]
            terms = own * sum_ * (merged**plan.rest * turn)
            value[plan.at] += terms.sum().real
            if np.abs(terms[:, -WAVES // 2 :]).sum(axis=0).max() >= NEGLIGIBLE:
                going.append(plan)
        plans = going
        if not plans:
            break
    return np.clip(value / period / np.exp(log_sum), 0.0, 1.0)


def _plans(
    cases: list[_Case], sizes: NDArray[Any], total: int, k: int, p: float, log_sum: float
) -> tuple[NDArray[Any], Floats, list[_Plan], tuple[Floats, Floats]]:
    """Return counts, the chance of each by size, plans of the cases that may win, tie nodes."""
    least, most = _window(sizes, total, k)
    near, low = [], []
    for case in cases:
        low.append(max(1, int(least[case.own]), int(least[case.rivals].max(initial=0))))
        near.append(most[case.rivals] >= low[-1])
    able = [i for i, case in enumerate(cases) if low[i] <= most[case.own]]
    if not able:
        return least, least, [], (least, least)
    first = min(min(low[i], int(least[cases[i].rivals[near[i]]].min(initial=low[i]))) for i in able)
    count = np.arange(first, max(most[cases[i].own] for i in able) + 1)
    chance = _binomials(sizes, count, p)
    within = np.maximum(np.cumsum(chance, axis=1), TINY)
    log_within, log_chance = np.log(within), np.log(chance + TINY)
    share, fewer = chance / within, within - chance
    plans: list[_Plan] = []
    bounds, crowds, most_ties = [], [], 0
    for i in able:
        own, rivals, many = cases[i].own, cases[i].rivals[near[i]], cases[i].many[near[i]]
        # Upper bound of P(wins with j): the counts, rivals, nodes that can matter follow from it.
        bound = log_chance[own] + many @ log_within[rivals] - log_sum
        kept = np.flatnonzero((bound > np.log(NEGLIGIBLE)) & (count >= low[i]))
        if not len(kept):
            continue
        start, stop = int(kept[0]), int(kept[-1]) + 1
        may = fewer[rivals, start] < 1 - 1e-15  # may reach the lowest count of interest
        rivals, many = rivals[may], many[may]
        bounds.append(bound[start:stop])
        crowds.append(many @ share[rivals, start:stop])
        most_ties = max(most_ties, min(int(many.sum()), k // int(count[start]) - 1))
        rest = total - int(sizes[own]) - int(sizes[rivals] @ many)
        if many.max(initial=1) <= FEW:
            rivals, many = np.repeat(rivals, many), many[:0]
        plans.append(_Plan(i, _Case(own, rivals, many), start, stop, rest))
    if not plans:
        return count, chance, plans, (share, share)
    ties = _tie_nodes(most_ties, np.concatenate(bounds), np.concatenate(crowds))
    return count, chance, plans, ties


def _exact_votes(
    pools: list[tuple[NDArray[np.int64], Floats]], budgets: NDArray[np.int64]
) -> Floats:
    """Return the expected correctness of the vote at each budget, (pools, budgets); same sizes."""
    total = len(pools[0][0])
    result = np.empty((len(pools), len(budgets)))
    groups = []  # per pool: sizes of its classes, how many of each, correctness they bring
    for row, (ids, correct) in zip(result, pools, strict=True):
        votes, right = _classes(ids, correct)
        row[:] = [_plain_votes(votes, right, total, int(k)) for k in budgets]
        size, group = np.unique(votes[votes > 0], return_inverse=True)
        groups.append((size, np.bincount(group), np.bincount(group, weights=right[votes > 0])))
    hard = np.flatnonzero(np.isnan(result[0]))
    result[:, hard] = 0.0
    step = len(pools) if total <= SMALL else 1
    for begin in range(0, len(pools), step):
        some = groups[begin : begin + step]
        sizes = np.unique(np.concatenate([size for size, _, _ in some]))
        cases, credits, owners = [], [], []
        for owner, (size, many, credit) in enumerate(some, begin):
            place = np.searchsorted(sizes, size)
            for g in np.flatnonzero(credit):
                others = many - (np.arange(len(size)) == g)
                cases.append(_Case(int(place[g]), place[others > 0], others[others > 0]))
                credits.append(credit[g])
                owners.append(owner)
        for b in hard if cases else ():
            chance = _win_probabilities(cases, sizes, total, int(budgets[b]))
            np.add.at(result[:, b], owners, np.array(credits) * chance)
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

    answers: (samples,) or (problems, samples), any hashable; None, NaN, NA and the number -1 mean
    unanswered: such a sample is drawn but cannot win, and a draw of nothing else is wrong. A tie is
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
            pools = [(_intern(given[i, present[i]]), pool[i, present[i]]) for i in rows]
            result[np.ix_(rows, able)] = _exact_votes(pools, budgets[able])
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

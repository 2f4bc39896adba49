"""Laws of accuracy by training and test compute, and their consequences.

Lines of equal accuracy, the exchange rate between the two kinds of compute with its end, and the
best split of a budget between them. The laws are rows of `laws.LAWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize.elementwise import find_root
from scipy.special import expit

from scaling.curves import Fit
from scaling.fits.fitting import MIN_REPLICATES, fit
from scaling.fits.forecasts import GRAIN, best_first, score
from scaling.fits.functions import Array, Axes
from scaling.fits.laws import Law, joint_laws
from scaling.records import look_up

LOWEST, HIGHEST = -6.0, 45.0  # log10 FLOPs between which a solution is searched
CERTAIN = 1 - 1e-6  # an accuracy that counts as having no ceiling


def fit_joint(
    law: str,
    train_flops: Any,
    test_flops: Any,
    accuracy: Any,
    *,
    n_params: Any = None,
    replicates: Array | None = None,
    sample_flops: Any = None,
    weights: Array | None = None,
    scatter: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Fit:
    """Return a joint law fitted to arrays (points,) of train and test FLOPs and accuracy.

    `replicates` (replicates, points) come from resampling the same problems for every point;
    without them, points are resampled as if they were independent. `item_response` counts samples:
    `sample_flops` (points,) is the cost of one sample, by default the smallest test_flops at the
    same train_flops. The cost is modelled as a power law of train_flops, so that the fit depends on
    the two axes alone; `ability` is that at C0, the geometric mean of train_flops. For `emergence`
    give the number of samples in place of test_flops, and `n_params` (points,) as the third axis.

    `scatter`: intervals include the scatter of checkpoints about the law, so that they cover a new
    checkpoint; see `scattered`. It needs replicates.
    """
    row = look_up(joint_laws(), law, "joint law")
    train, test = (np.asarray(axis, float).ravel() for axis in (train_flops, test_flops))
    axes: Axes = (train, test)
    to_law_axes: Callable[[Axes], Axes] | None = None
    if law == "item_response":
        axes, to_law_axes = _samples_bought(train, test, sample_flops)
    elif row.axes == 3:
        if n_params is None:
            raise ValueError(
                f"{law} has model size as an axis: give n_params in addition to train_flops"
            )
        axes = train, test, np.broadcast_to(np.asarray(n_params, float).ravel(), train.shape)
    options: dict[str, Any] = {"weights": weights, "bootstrap": bootstrap, "seed": seed}
    if scatter:
        if replicates is None:
            raise ValueError("scatter widens the intervals of replicates; give replicates")
        size = train if n_params is None else np.broadcast_to(np.ravel(n_params), train.shape)
        checkpoint = np.unique(np.stack([train, size]), axis=1, return_inverse=True)[1].ravel()
        fitted = scattered(row, axes, np.ravel(accuracy), replicates, checkpoint, **options)
    else:
        fitted = fit(row, axes, accuracy, replicates=replicates, **options)
    if np.ptp(fitted.predict(axes)) <= GRAIN:
        flat = "accuracy is the same at all of this compute: try budgets at which it changes"
        fitted = replace(fitted, success=False, message=flat)
    if to_law_axes:
        plain = fitted.function
        fitted = replace(fitted, function=lambda x, p: plain(to_law_axes(x), p))
    return fitted


def _samples_bought(
    train: Array, test: Array, sample_flops: Any
) -> tuple[Axes, Callable[[Axes], Axes]]:
    """Return (train / C0, samples) of the points, and the same as a function of FLOPs."""
    if len(train) != len(test) or not ((train > 0) & (test > 0)).all():
        raise ValueError("give as many train_flops as test_flops, all of them positive")
    least = np.array([test[train == c].min() for c in train])
    cost = least if sample_flops is None else np.broadcast_to(sample_flops, train.shape)
    centre = float(np.log10(train).mean())
    decade = np.log10(train) - centre
    slope = float(decade @ np.log10(cost) / max(decade @ decade, 1e-300))
    level = float(np.log10(cost).mean())

    def to_law_axes(x: Axes) -> Axes:
        c, t = (np.asarray(axis, float) for axis in x)
        decade = np.log10(c) - centre
        return 10**decade, t / 10 ** (level + slope * decade)

    return (10**decade, test / cost), to_law_axes


def scattered(
    law: Law, axes: Axes, y: Array, replicates: Array, checkpoint: Array, *, seed: int = 0,
    **options: Any,
) -> Fit:  # fmt: skip
    """Return a fit whose intervals include problems, the law's misfit, and a new checkpoint's own.

    Points of one checkpoint deviate from a law together: by a number of its own times
    sqrt(y (1 - y)), whose size is estimated from the residuals (Pearson's dispersion) and is
    uncertain too (Student's width). Each replicate is fitted to checkpoints moved so, and read with
    one more such number: the last parameter of the fit, `scatter`, 0 in the estimate. A checkpoint
    that never succeeds has no information on its size.
    """
    plain = fit(law, axes, y, **(options | {"bootstrap": 0}))
    rng, value = np.random.default_rng(seed), plain.predict(axes)
    off, seen = y - value, np.isfinite(y)
    size = off**2 / (value * (1 - value) + GRAIN)
    groups = [np.flatnonzero(seen & (checkpoint == g)) for g in np.unique(checkpoint)]
    informative = [at for at in groups if len(at) and y[at].max() > GRAIN]
    degrees = max(len(informative) - len(law.params), 1)
    spread = np.sqrt(sum(size[at].mean() for at in informative) / degrees)
    spread = spread * np.sqrt(degrees / rng.chisquare(degrees, (len(replicates), 1)))
    turn = spread * rng.standard_normal((len(replicates), checkpoint.max() + 1))
    turned = turn[:, checkpoint] * np.sqrt(value * (1 - value))
    fitted = fit(law, axes, y, replicates=value + (replicates - y) + turned, **options)
    own = spread * rng.standard_normal((len(replicates), 1))

    def function(x: Any, p: Array) -> Array:
        mean = fitted.function(x, p[..., :-1])
        return np.clip(mean + p[..., -1:] * np.sqrt(np.maximum(mean * (1 - mean), 0)), 0, 1)

    low, high = np.quantile(own, [0.025, 0.975])
    return replace(
        fitted,
        params=fitted.params | {"scatter": 0.0},
        interval=fitted.interval | {"scatter": (float(low), float(high))},
        replicates=np.hstack([fitted.replicates, own]),
        function=function,
    )


# ---------------------------------------------------------------- consequences of a joint law
@dataclass(frozen=True)
class Exchange:
    """The test compute that replaces `factor` times the training compute at an operating point."""

    train_flops: float  #: operating point
    test_flops: float  #: operating point
    factor: float  #: how many times the training compute
    #: this many times the test compute is as accurate; inf: none is; NaN: no gain above the noise
    rate: float
    low: float  #: lower end of its 95 % interval; NaN without replicates
    high: float  #: upper end; inf when replicates saturate
    ends_at: float  #: factor of training compute that no test compute replaces; inf: without end
    ends_low: float  #: lower end of its 95 % interval
    ends_high: float  #: upper end


def at_size(fitted: Fit, n_params: float, sample_flops: float) -> Fit:
    """Return a law of (train_flops, samples, parameters) as one of (train_flops, test_flops).

    For models of `n_params` parameters, one sample of which costs `sample_flops`: what `iso_line`,
    `exchange_rate` and `allocate` take. Less than one sample is answering that share of the time.
    """
    if not (n_params > 0 and sample_flops > 0):
        raise ValueError(f"n_params {n_params}, sample_flops {sample_flops}; give both above 0")

    def function(x: Any, p: Array) -> Array:
        train, test = (np.asarray(axis, float) for axis in x)
        return fitted.function((train, test / sample_flops, np.full(1, float(n_params))), p)

    return replace(fitted, function=function)


def iso_line(fitted: Fit, accuracy: float, train_flops: Any) -> pd.DataFrame:
    """Return the test_flops that reach `accuracy` at each train_flops, with interval (low, high).

    inf where no test compute does, in the fit or in that share of the replicates.
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"accuracy is {accuracy}; give a number between 0 and 1")
    train = np.atleast_1d(np.asarray(train_flops, float))
    if not (train > 0).all():
        raise ValueError(f"train_flops holds {train.min():g}; give compute above 0")
    p = _parameters(fitted)
    goal = np.full((len(p), len(train)), accuracy)
    test = _solve(lambda c, t, p: fitted.function((c, t), p), goal, train, p)
    low, high = _ends(test)
    return pd.DataFrame({"train_flops": train, "test_flops": test[0], "low": low, "high": high})


def exchange_rate(
    fitted: Fit, train_flops: float, test_flops: float, factor: float = 10.0
) -> Exchange:
    """Return the multiple of test compute that is worth `factor` times the training compute.

    The rate r solves accuracy(train, r test) = accuracy(factor train, test). It ends where even
    unbounded test compute does not reach the right side: from `ends_at` times the training on. NaN
    where that training gains nothing, by its 95 % interval or to the ninth digit.
    """
    if not (train_flops > 0 and test_flops > 0 and factor > 1):
        raise ValueError("give train_flops > 0, test_flops > 0 and factor > 1")
    p, c, t = _parameters(fitted), np.array([float(train_flops)]), np.array([float(test_flops)])
    here, goal = fitted.function((c, t), p), fitted.function((factor * c, t), p)
    rate = _solve(lambda c, t, p: fitted.function((c, t), p), goal, c, p) / test_flops
    gain = goal - here
    rate = np.where((gain > 1e-9) & ~(_ends(gain)[0] <= 0), rate, np.nan)
    best = fitted.function((c, np.array([10.0**HIGHEST])), p)
    end = _solve(lambda t, c, p: fitted.function((c, t), p), best - 1e-12, t, p) / train_flops
    end = np.where(best > CERTAIN, np.inf, np.maximum(end, 1.0))
    ends = [float(v[0]) for v in (rate[0], *_ends(rate), end[0], *_ends(end))]
    return Exchange(float(train_flops), float(test_flops), factor, *ends)


def allocate(fitted: Fit, budget: Any, queries: float) -> pd.DataFrame:
    """Return the most accurate split of each budget = train_flops + queries * test_flops.

    One row per budget, intervals over replicates (each chooses its own split). `queries` is how
    many problems the model answers over its life; `at_edge` flags a split at the end of the range.
    """
    budget = np.atleast_1d(np.asarray(budget, float))
    if not ((budget > 0).all() and queries > 0):
        raise ValueError("give budgets > 0 and queries > 0")
    share = expit(np.linspace(-14, 14, 561))  # of the budget that goes into training
    p = _parameters(fitted)
    rows = []
    for total in budget:
        train, test = share * total, (1 - share) * total / queries
        y = fitted.function((train, test), p)  # (1 + replicates, shares)
        best = y.argmax(-1)
        row = {"budget": total, "train_flops": train[best[0]], "test_flops": test[best[0]]}
        row["train_low"], row["train_high"] = _ends(train[best])
        row["accuracy"], (row["low"], row["high"]) = y[0].max(), _ends(y.max(-1))
        rows.append(row | {"at_edge": best[0] in (0, len(share) - 1)})
    return pd.DataFrame(rows)


def frontier(cost: Any, accuracy: Any) -> Array:
    """Return which points (points,) bool no point of equal or lower cost beats; NaN is none."""
    cost, accuracy = np.asarray(cost, float), np.asarray(accuracy, float)
    worth = np.where(np.isnan(cost) | np.isnan(accuracy), -np.inf, accuracy)
    order = np.lexsort([-worth, cost])
    before = np.maximum.accumulate(np.concatenate([[-np.inf], worth[order][:-1]]))
    on = np.zeros(len(cost), bool)
    on[order] = worth[order] > before
    return on


def _parameters(fitted: Fit) -> Array:
    """Return (1 + good replicates, parameters): the best fit, then its replicates."""
    good = fitted.replicates[np.isfinite(fitted.replicates).all(-1)]
    return np.vstack([list(fitted.params.values()), good])


def _ends(values: Array) -> tuple[Array, Array]:
    """Return the 95 % interval over values[1:], inf counted as large; NaN without replicates."""
    if len(values) <= MIN_REPLICATES:
        return (np.full(values.shape[1:], np.nan),) * 2
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0, method="nearest")
    return low, high


def _solve(
    value: Callable[[Array, Array, Array], Array], goal: Array, at: Array, p: Array
) -> Array:
    """Return the compute u at which the rising value(at, u, p) reaches `goal` (rows, points).

    at: (points,); p: (rows, parameters). inf where it never does, 0 where the least compute is
    already enough.
    """
    row, point = map(np.asarray, np.indices(goal.shape))

    def gap(u: Array, row: Array, point: Array) -> Array:
        row, point, shape = row.ravel(), point.ravel(), u.shape
        found = value(at[point, None], 10 ** u.reshape(-1, 1), p[row])[:, 0]
        off = found - goal[row, point]  # where rounding makes it 0, the least compute counts
        return np.where(off == 0, 1e-300, off).reshape(shape)

    with np.errstate(all="ignore"):
        ends = [gap(np.full(goal.shape, end), row, point) for end in (LOWEST, HIGHEST)]
        never, always = ends[1] < 0, ends[0] >= 0
        found = find_root(gap, (LOWEST, HIGHEST), args=(row, point), tolerances={"xatol": 1e-11})
    return np.where(never, np.inf, np.where(always, 0.0, 10**found.x))


# ---------------------------------------------------------------- comparison of joint laws
def joint_tournament(
    train_flops: Any, test_flops: Any, accuracy: Any, *, n_params: Any = None,
    replicates: Array | None = None, sample_flops: Any = None, laws: Iterable[str] | None = None,
    train_share: float = 1 / 4, test_share: float = 1 / 16, most: float = np.inf,
) -> pd.DataFrame:  # fmt: skip
    """Return the forecast errors of joint laws: one row per law and region, best first.

    Fitted to train_flops <= train_share * largest, and there to test_flops <= test_share * the
    largest of the same train_flops and size. Regions: later "test", "train", or "both". Intervals
    are those of a new checkpoint (`scattered`). `most` leaves out all larger train_flops: at
    train_share of the largest, a law is chosen without using the budgets to be forecast.
    """
    size = 1.0 if n_params is None else n_params
    cost = np.nan if sample_flops is None else sample_flops
    given = (train_flops, test_flops, accuracy, size, cost)
    columns = np.broadcast_arrays(*(np.asarray(v, float).ravel() for v in given))
    inside = columns[0] <= most * (1 + 1e-12)
    train, test, y, size, cost = (column[inside] for column in columns)
    same = (train[:, None] == train) & (size[:, None] == size)
    cost = np.where(np.isnan(cost), np.where(same, test, np.inf).min(axis=1), cost)
    early = train <= train_share * train.max() * (1 + 1e-12)
    few = test <= test_share * np.where(same, test, 0).max(axis=1) * (1 + 1e-12)
    used, seen, table = early & few, np.isfinite(y), joint_laws()
    regions = {"test": early & ~few, "train": ~early & few, "both": ~early & ~few}
    if laws is None:
        laws = [name for name, law in table.items() if law.axes == 2 or n_params is not None]
    laws = list(laws)
    for law in laws:  # a wrong name is an error, not a row that says so
        look_up(table, law, "joint law")
    part = None if replicates is None else np.asarray(replicates)[:, inside][:, used]
    rows: list[dict[str, Any]] = []
    for law in laws:
        try:
            fitted = fit_joint(
                law, train[used], test[used], y[used], replicates=part, scatter=part is not None,
                n_params=None if n_params is None else size[used], sample_flops=cost[used],
            )  # fmt: skip
        except ValueError as reason:
            rows.append({"law": law, "region": "all", "success": False, "message": str(reason)})
            continue
        for region, held_out in regions.items():
            at = held_out & seen
            scores = score(fitted, (train[at], test[at], size[at])[: table[law].axes], y[at])
            row = {"law": law, "region": region, "median_error": scores.error.abs().median()}
            row |= {"coverage": scores.covered.mean(), "n_fitted": fitted.n_points}
            row |= {"width": (scores.high - scores.low).median(), "n_held_out": at.sum()}
            rows.append(row | {"success": fitted.success, "message": fitted.message})
    order = ["law", "region", "median_error", "coverage", "width", "n_fitted", "n_held_out"]
    found = pd.DataFrame(rows).reindex(columns=[*order, "success", "message"])
    by = ["region", "median_error"]
    return found.sort_values(by, kind="stable", ignore_index=True, key=best_first)

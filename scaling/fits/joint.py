"""Laws of accuracy by training and test compute, and their consequences.

Lines of equal accuracy, the exchange rate between the two kinds of compute with its end, and the
best split of a budget between them. The laws are rows of `laws.LAWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from scaling.curves import Fit, ends
from scaling.fits.fitting import fit
from scaling.fits.forecasts import GRAIN, best_first, score, summarised
from scaling.fits.functions import Array, Axes
from scaling.fits.laws import Law, joint_laws
from scaling.records import look_up

LOWEST, HIGHEST = -6.0, 45.0  # log10 FLOPs between which a solution is searched
BITS = 28  # of a solution, before it is interpolated
FEW = 500  # solutions
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
    size = train if n_params is None else np.broadcast_to(np.ravel(n_params), train.shape)
    axes: Axes = (train, test, size)[: row.axes]
    to_law_axes: Callable[[Axes], Axes] = tuple
    if law == "item_response":
        axes, to_law_axes = _samples_bought(train, test, sample_flops)
    elif row.axes == 3 and n_params is None:
        raise ValueError(f"{law} has model size as an axis: give n_params next to train_flops")
    fit_law: Callable[..., Fit] = fit
    if scatter:
        if replicates is None:
            raise ValueError("scatter widens the intervals of replicates; give replicates")
        checkpoint = np.unique(np.stack([train, size]), axis=1, return_inverse=True)[1].ravel()
        fit_law = partial(scattered, checkpoint=checkpoint)
    given = {"replicates": replicates, "weights": weights, "bootstrap": bootstrap, "seed": seed}
    fitted = fit_law(row, axes, np.ravel(accuracy), **given)
    if np.ptp(fitted.predict(axes)) <= GRAIN:
        flat = "accuracy is the same at all of this compute: try budgets at which it changes"
        fitted = replace(fitted, success=False, message=flat)
    function = fitted.function
    return replace(fitted, function=lambda x, p: function(to_law_axes(x), p))


def _samples_bought(
    train: Array, test: Array, sample_flops: Any
) -> tuple[Axes, Callable[[Axes], Axes]]:
    """Return (train / C0, samples) of the points, and the same as a function of FLOPs."""
    if len(train) != len(test) or not ((train > 0) & (test > 0)).all():
        raise ValueError("give as many train_flops as test_flops, all of them positive")
    least = np.array([test[train == c].min() for c in train])
    cost = least if sample_flops is None else np.broadcast_to(sample_flops, train.shape)
    centre, level = np.log10(train).mean(), np.log10(cost).mean()
    decade = np.log10(train) - centre
    slope = decade @ np.log10(cost) / max(decade @ decade, 1e-300)

    def to_law_axes(x: Axes) -> Axes:
        c, t = (np.asarray(axis, float) for axis in x)
        decade = np.log10(c) - centre
        return 10**decade, t / 10 ** (level + slope * decade)

    return (10**decade, test / cost), to_law_axes


def scattered(
    law: Law, axes: Axes, y: Array, *, replicates: Array, checkpoint: Array, seed: int = 0,
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

    low, high = (float(end[0]) for end in ends(own))
    return replace(
        fitted,
        params=fitted.params | {"scatter": 0.0},
        interval=fitted.interval | {"scatter": (low, high)},
        numbers=fitted.numbers | {"scatter": (0.0, low, high)},
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
    test = _solve(lambda u: fitted.function((train, u), p), goal)
    low, high = _interval(test)
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
    rate = _solve(lambda u: fitted.function((c, u), p), goal) / test_flops
    gain = goal - here
    rate = np.where((gain > 1e-9) & ~(_interval(gain)[0] <= 0), rate, np.nan)
    best = fitted.function((c, np.array([10.0**HIGHEST])), p)
    end = _solve(lambda u: fitted.function((u, t), p), best - 1e-12) / train_flops
    end = np.where(best > CERTAIN, np.inf, np.maximum(end, 1.0))
    found = [float(v[0]) for v in (rate[0], *_interval(rate), end[0], *_interval(end))]
    return Exchange(float(train_flops), float(test_flops), factor, *found)


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
        row["train_low"], row["train_high"] = _interval(train[best])
        row["accuracy"], (row["low"], row["high"]) = y[0].max(), _interval(y.max(-1))
        rows.append(row | {"at_edge": best[0] in (0, len(share) - 1)})
    return pd.DataFrame(rows)


def frontier(cost: Any, accuracy: Any) -> Array:
    """Return which points (points,) bool no point of equal or lower cost beats; NaN is none.

    cost: (points,), or a tuple of costs. Costs within 1 % are equal, and so are accuracies that
    differ by rounding.
    """
    costs = [np.asarray(axis, float) for axis in (cost if isinstance(cost, tuple) else (cost,))]
    accuracy = np.asarray(accuracy, float)
    cheaper = np.all([axis[:, None] <= axis * 1.01 for axis in costs], axis=0)
    beaten = (cheaper & (accuracy[:, None] > accuracy + 1e-9)).any(axis=0)
    return ~beaten & np.isfinite([*costs, accuracy]).all(axis=0)


def _parameters(fitted: Fit) -> Array:
    """Return (1 + good replicates, parameters): the best fit, then its replicates."""
    return np.vstack([list(fitted.params.values()), fitted.refits])


def _interval(values: Array) -> tuple[Array, Array]:
    """Return the 95 % interval over values[1:], inf counted as large; NaN without replicates."""
    return ends(values[1:], method="nearest")


def _solve(value: Callable[[Array], Array], goal: Array) -> Array:
    """Return the compute at which the rising `value` reaches `goal` (rows, points).

    inf where it never does, 0 where the least compute is already enough. The range is divided into
    sections, the one with the solution again, and so on; interpolated in the last.
    """
    low, width = np.full(goal.shape, LOWEST), HIGHEST - LOWEST
    sections = 16 if goal.size < FEW else 2  # each call has an overhead
    between = np.arange(1, sections)[:, None, None]
    never, always = value(10 ** (low + width)) < goal, value(10**low) >= goal
    for _ in range(BITS // int(np.log2(sections))):
        width /= sections
        low += width * (value(10 ** (low + width * between)) < goal).sum(axis=0)
    below, above = (value(10**u) for u in (low, low + width))
    with np.errstate(all="ignore"):
        part = np.clip(np.nan_to_num((goal - below) / (above - below), nan=1.0), 0, 1)
    return np.where(never, np.inf, np.where(always, 0.0, 10 ** (low + width * part)))


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
    used, seen = early & few, np.isfinite(y)
    regions = {"test": early & ~few, "train": ~early & few, "both": ~early & ~few}
    table = {k: v for k, v in joint_laws().items() if v.axes == 2 or n_params is not None}
    chosen = [look_up(joint_laws(), law, "joint law") for law in laws or table]
    part = None if replicates is None else np.asarray(replicates)[:, inside][:, used]
    rows: list[dict[str, Any]] = []
    for law in chosen:
        try:
            fitted = fit_joint(
                law.name, train[used], test[used], y[used], sample_flops=cost[used],
                n_params=None if n_params is None else size[used],
                replicates=part, scatter=part is not None,
            )  # fmt: skip
        except ValueError as reason:
            rows.append(
                {"law": law.name, "region": "all", "success": False, "message": str(reason)}
            )
            continue
        for region, held_out in regions.items():
            at = held_out & seen
            scores = score(fitted, (train[at], test[at], size[at])[: law.axes], y[at])
            rows.append({"law": law.name, "region": region} | summarised(fitted, scores))
    order = ["law", "region", "median_error", "calibration", "width", "n_fitted", "n_held_out"]
    found = pd.DataFrame(rows).reindex(columns=[*order, "success", "message"])
    return best_first(found, ["region", "median_error"])

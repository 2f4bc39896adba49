"""Laws of accuracy over (train_flops, test_flops), and what they say.

Iso-accuracy lines, the exchange rate between the two kinds of compute with its end, and the best
split of a budget between them. Fits come from `fits`; nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaln, digamma, expit, ndtr

from scaling.fits import fit, score
from scaling.fits.forecast import GRAIN, best_first
from scaling.fits.laws import Array, Law, Terms, scaled, spread
from scaling.records import Fit, look_up

NODES = np.linspace(-6.0, 6.0, 81)  # standard normal difficulties
MASS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()
LOWEST, HIGHEST = -6.0, 45.0  # log10 FLOPs between which a solution is looked for
HALVINGS, CLOSE = 12, 1e-11  # first steps towards it; decades between which it is found
CERTAIN = 1 - 1e-6  # an accuracy that counts as having no ceiling

Link = Callable[[Array], tuple[Array, Array]]  # inverse link and its slope


# ---------------------------------------------------------------- the laws
def logit(u: Array) -> tuple[Array, Array]:
    y = expit(u)
    return y, y * (1 - y)


def probit(u: Array) -> tuple[Array, Array]:
    return ndtr(u), np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)


def loglog(u: Array) -> tuple[Array, Array]:
    y = np.exp(-np.exp(-u))
    return y, y * np.exp(-u)


def plane(c: Array, t: Array, intercept: Array, train: Array, test: Array, *, link: Link) -> Terms:
    y, slope = link(intercept + train * np.log10(c) + test * np.log10(t))
    return y, (slope, slope * np.log10(c), slope * np.log10(t))


def jones(c: Array, t: Array, intercept: Array, train: Array, test: Array, plateau: Array) -> Terms:
    u = intercept + train * np.log10(c) + test * np.log10(t)
    y, slope = logit(np.minimum(u, plateau))
    rising = slope * (u < plateau)
    return y, (rising, rising * np.log10(c), rising * np.log10(t), slope - rising)


def item_response(
    c: Array, t: Array, ability: Array, growth: Array, spread: Array, *, centre: float, cost: Any
) -> Terms:
    decade = np.log10(c) - centre
    k = t / 10 ** (cost[0] + cost[1] * decade)  # samples that t buys
    z = (ability + growth * decade)[..., None] - spread[..., None] * NODES
    miss = np.exp(-k[..., None] * np.logaddexp(0, z))  # (1 - p)^k
    by_z = k[..., None] * miss * expit(z) * MASS
    by_u = by_z.sum(-1)
    return 1 - miss @ MASS, (by_u, by_u * decade, -(by_z @ NODES))


def emergence(
    c: Array, k: Array, n: Array,
    top: Array, middle: Array, growth: Array, size: Array, precision: Array,
) -> Terms:  # fmt: skip
    ahead = np.log(c) - size * np.log(n) - np.log(10) * middle
    lag = np.exp(np.clip(-growth * ahead, -99.0, 9.0))
    mean, slope = logit(np.clip(top - lag, -30.0, 30.0))
    b = (1 - mean) * precision  # rates are Beta(mean precision, b)
    missed = digamma(b + k) - digamma(b)
    miss = np.exp(betaln(b + k, precision) - betaln(b, precision + k))
    by_u = miss * precision * missed * slope
    by_ahead = by_u * lag * growth
    by_precision = miss * (digamma(precision + k) - digamma(precision) - (1 - mean) * missed)
    parts = (by_u, -np.log(10) * by_ahead, by_u * lag * ahead, -np.log(n) * by_ahead, by_precision)
    return 1 - miss, parts


def additive(
    c: Array, t: Array, ceiling: Array, a: Array, b: Array, alpha: Array, beta: Array
) -> Terms:
    u, v = c**-alpha, t**-beta
    g = np.exp(-(a * u + b * v))
    y = ceiling * g
    return y, (g, -y * u, -y * v, y * a * u * np.log(c), y * b * v * np.log(t))


def shift(p: Array, units: list[float]) -> Array:
    """Return plane parameters of (axes times units): only the intercept moves."""
    moved = p.copy()
    moved[..., 0] -= p[..., 1:3] @ np.log10(units)
    return moved


# fmt: off
PLANE = {"intercept": np.linspace(-5, 5, 9), "train": np.linspace(0.1, 4, 6),
         "test": np.linspace(0.1, 4, 6)}
SUM = "intercept + train log10 C + test log10 T"
UNITS = "(train_flops C, test_flops T) -> accuracy"
JONES = "Jones 2021, arXiv 2104.03113"
TABLE = (
    *(Law(f"plane_{link.__name__}", ("intercept", "train", "test"), partial(plane, link=link), {},
          lambda x: PLANE, f"{link.__name__} y = {SUM}", UNITS, JONES, axes=2, share=True,
          rescale=shift)
      for link in (logit, probit, loglog)),
    Law("jones", ("intercept", "train", "test", "plateau"), jones, {},
        lambda x: PLANE | {"plateau": np.array([-2.0, 0.0, 2.0, 5.0])},
        f"logit y = min(plateau, {SUM})", UNITS, JONES, axes=2, share=True, rescale=shift),
    Law("item_response", ("ability", "growth", "spread"),
        partial(item_response, centre=0.0, cost=(0.0, 0.0)), {"spread": (1e-3, 50.0)},
        lambda x: {"ability": np.linspace(-12, 6, 10), "growth": np.linspace(0.1, 5, 6),
                   "spread": spread(0.2, 8.0, 6)},
        "y = E 1 - (1 - p)^k, logit p = ability + growth log10(C / C0) - spread z, z ~ N(0, 1), "
        "k = T / cost(C)", UNITS,
        "Rasch's model of items; pass@k as in Chen et al. 2021, arXiv 2107.03374",
        axes=2, share=True, logs=("spread",)),
    Law("emergence", ("top", "middle", "growth", "size", "precision"), emergence,
        {"growth": (0.02, 20.0), "size": (-2.0, 2.0), "precision": (0.05, 1e4),
         "top": (-10.0, 10.0)},
        lambda x: {"top": np.array([-1.0, 1.0, 3.0]), "growth": spread(0.2, 3.0, 5),
                   "middle": np.log10(np.quantile(x[0] / x[2] ** 0.5, [0.1, 0.3, 0.5, 0.7, 0.9])),
                   "size": np.array([0.5]), "precision": np.array([1.0, 5.0])},
        "rates of problems are Beta of that precision; logit of their mean = "
        "top - (M N^size / C)^growth, log10 M = middle",
        "(train_flops C, samples k, parameters N) -> coverage",
        "the data term of Hoffmann et al. 2022, arXiv 2203.15556, as an ability",
        axes=3, share=True, logs=("growth", "precision")),
    Law("additive", ("ceiling", "A", "B", "alpha", "beta"), additive,
        {"ceiling": (0.0, 1.0), "A": (1e-9, 1e9), "B": (1e-9, 1e9),
         "alpha": (0.0, 3.0), "beta": (0.0, 3.0)},
        lambda x: {"A": spread(0.03, 3.0, 6), "B": spread(0.03, 3.0, 6),
                   "alpha": spread(0.05, 1.0, 6), "beta": spread(0.05, 1.0, 6)},
        "y = ceiling exp(-A / C^alpha - B / T^beta)", UNITS,
        "the form of Hoffmann et al. 2022, arXiv 2203.15556, for -log accuracy",
        linear=("ceiling",), axes=2, share=True, logs=("A", "B"),
        rescale=scaled(lambda y, a, b, alpha, beta: [(0, alpha, 0, 0, 0), (0, 0, beta, 0, 0)])),
)
# fmt: on
JOINT = {law.name: law for law in TABLE}


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

    `replicates` (replicates, points) come from resampling problems, the same ones for every point;
    without them points are resampled as if independent. `item_response` counts samples:
    `sample_flops` (points,) is the cost of one, by default the least test_flops at the same
    train_flops. It is summarised as a power law of train_flops, so that the law speaks of the two
    axes only; `ability` is at C0, the geometric mean of train_flops. `emergence` takes samples in
    place of test_flops, and `n_params` (points,), its third axis.

    `scatter`: intervals also hold how checkpoints lie about the law, so that they are of what a new
    checkpoint reaches; see `scattered`. It needs replicates.
    """
    train, test = (np.asarray(axis, float).ravel() for axis in (train_flops, test_flops))
    row = look_up(JOINT, law, "joint law")
    axes: tuple[Array, ...] = (train, test)
    if law == "item_response":
        row, test = _with_costs(row, train, test, sample_flops)
        axes = train, test
    elif row.axes == 3:
        if n_params is None:
            raise ValueError(
                f"{law} has model size as an axis: give n_params in addition to train_flops"
            )
        axes = train, test, np.broadcast_to(np.asarray(n_params, float).ravel(), train.shape)
    common: dict[str, Any] = {"weights": weights, "bootstrap": bootstrap, "seed": seed}
    if not scatter:
        return _steep(fit(row, axes, accuracy, replicates=replicates, **common), axes)
    if replicates is None:
        raise ValueError("scatter widens the intervals of replicates; give replicates")
    size = train if n_params is None else np.broadcast_to(np.ravel(n_params), train.shape)
    checkpoint = np.unique(np.stack([train, size]), axis=1, return_inverse=True)[1].ravel()
    return _steep(scattered(row, axes, np.ravel(accuracy), replicates, checkpoint, **common), axes)


def _steep(fitted: Fit, axes: tuple[Array, ...]) -> Fit:
    """Return the fit, not a success where it says that compute changes nothing."""
    if np.ptp(fitted.predict(axes)) > GRAIN:
        return fitted
    flat = "accuracy is the same at all of this compute: try budgets at which it changes"
    return replace(fitted, success=False, message=flat)


def scattered(
    law: Law, axes: tuple[Array, ...], y: Array, replicates: Array, checkpoint: Array, *,
    seed: int = 0, **options: Any,
) -> Fit:  # fmt: skip
    """Return a fit whose intervals hold problems, the law's misses, and a new checkpoint's own.

    Points of one checkpoint miss a law together: by a number of its own times sqrt(y (1 - y)), of
    a size that the misses tell (Pearson's dispersion) and that is uncertain too (Student's width).
    Each replicate is fitted to checkpoints moved so, and read with one more such number: the last
    parameter of the fit, `scatter`, 0 in the estimate. A checkpoint that never succeeds tells
    nothing of its size.
    """
    plain = fit(law, axes, y, **(options | {"bootstrap": 0}))
    rng, value = np.random.default_rng(seed), plain.predict(axes)
    off, seen = y - value, np.isfinite(y)
    size = off**2 / (value * (1 - value) + GRAIN)
    groups = [np.flatnonzero(seen & (checkpoint == g)) for g in np.unique(checkpoint)]
    telling = [at for at in groups if len(at) and y[at].max() > GRAIN]
    free = max(len(telling) - len(law.params), 1)
    spread_of = np.sqrt(sum(size[at].mean() for at in telling) / free)
    spread_of = spread_of * np.sqrt(free / rng.chisquare(free, (len(replicates), 1)))
    turn = spread_of * rng.standard_normal((len(replicates), checkpoint.max() + 1))
    turned = turn[:, checkpoint] * np.sqrt(value * (1 - value))
    fitted = fit(law, axes, y, replicates=value + (replicates - y) + turned, **options)
    own = spread_of * rng.standard_normal((len(replicates), 1))

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


def _with_costs(law: Law, train: Array, test: Array, sample_flops: Any) -> tuple[Law, Array]:
    """Return the item-response law with its cost of a sample, and test FLOPs that buy as many."""
    if len(train) != len(test) or not ((train > 0) & (test > 0)).all():
        raise ValueError("give as many train_flops as test_flops, all of them positive")
    least = np.array([test[train == c].min() for c in train])
    cost = least if sample_flops is None else np.broadcast_to(sample_flops, train.shape)
    centre = float(np.log10(train).mean())
    decade = np.log10(train) - centre
    slope = float(decade @ np.log10(cost) / max(decade @ decade, 1e-300))
    line = float(np.log10(cost).mean()), slope
    bought = test / cost * 10 ** (line[0] + line[1] * decade)
    return replace(law, function=partial(item_response, centre=centre, cost=line)), bought


# ---------------------------------------------------------------- what a joint law says
@dataclass(frozen=True)
class Exchange:
    """What `factor` times the training compute is worth in test compute, at one operating point."""

    train_flops: float  #: operating point
    test_flops: float  #: operating point
    factor: float  #: how many times the training compute
    rate: (
        float  #: test compute times this is as accurate; inf: none is; NaN: no gain above the noise
    )
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
    test = _solve(lambda t: fitted.function((train, t), p), goal)
    low, high = _ends(test)
    return pd.DataFrame({"train_flops": train, "test_flops": test[0], "low": low, "high": high})


def exchange_rate(
    fitted: Fit, train_flops: float, test_flops: float, factor: float = 10.0
) -> Exchange:
    """Return how many times the test compute is worth `factor` times the training compute here.

    The rate r solves accuracy(train, r test) = accuracy(factor train, test). It ends where even
    unbounded test compute does not reach the right side: from `ends_at` times the training on. NaN
    where that training gains nothing, by its 95 % interval or to the ninth digit.
    """
    if not (train_flops > 0 and test_flops > 0 and factor > 1):
        raise ValueError("give train_flops > 0, test_flops > 0 and factor > 1")
    p, c, t = _parameters(fitted), np.array([[train_flops]]), np.array([[test_flops]])
    here, goal = fitted.function((c, t), p), fitted.function((factor * c, t), p)
    rate = _solve(lambda u: fitted.function((c, u), p), goal) / test_flops
    gain = goal - here
    rate = np.where((gain > 1e-9) & ~(_ends(gain)[0] <= 0), rate, np.nan)
    best = fitted.function((c, np.array([[10.0**HIGHEST]])), p)
    end = _solve(lambda u: fitted.function((u, t), p), best - 1e-12) / train_flops
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
    """Return which points (points,) bool no point of equal or lower cost beats; never a NaN."""
    cost, accuracy = np.asarray(cost, float), np.asarray(accuracy, float)
    worth = np.where(np.isnan(cost) | np.isnan(accuracy), -np.inf, accuracy)
    order = np.lexsort([-worth, cost])
    before = np.maximum.accumulate(np.concatenate([[-np.inf], worth[order][:-1]]))
    on = np.zeros(len(cost), bool)
    on[order] = worth[order] > before
    return on


def joint_tournament(
    train_flops: Any, test_flops: Any, accuracy: Any, *, n_params: Any = None,
    replicates: Array | None = None, sample_flops: Any = None, laws: Iterable[str] | None = None,
    train_share: float = 1 / 4, test_share: float = 1 / 16, most: float = np.inf,
) -> pd.DataFrame:  # fmt: skip
    """Return how joint laws forecast held-out budgets: one row per law and region, best first.

    Fitted to train_flops <= train_share * largest, and there to test_flops <= test_share * the
    largest of the same train_flops and size. Regions: later "test", "train", or "both". Intervals
    are those of a new checkpoint (`scattered`). `most` leaves larger train_flops out of all of it:
    at train_share of the largest, it chooses a law without a look at what is to be forecast.
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
    fitted_to, seen = early & few, np.isfinite(y)
    regions = {"test": early & ~few, "train": ~early & few, "both": ~early & ~few}
    laws = None if laws is None else list(laws)
    for law in laws or ():  # a name that is wrong is an error, not a row that says so
        look_up(JOINT, law, "joint law")
    if laws is None:
        laws = [name for name, law in JOINT.items() if law.axes == 2 or n_params is not None]
    part = None if replicates is None else np.asarray(replicates)[:, inside][:, fitted_to]
    rows: list[dict[str, Any]] = []
    for law in laws:
        here = [column[fitted_to] for column in (train, test, y)]
        try:
            fitted = fit_joint(
                law, *here, n_params=None if n_params is None else size[fitted_to],
                replicates=part, sample_flops=cost[fitted_to], scatter=part is not None,
            )  # fmt: skip
        except ValueError as reason:
            rows.append({"law": law, "region": "all", "success": False, "message": str(reason)})
            continue
        for region, held in regions.items():
            at = held & seen
            axes = (train[at], test[at], size[at])[: JOINT[law].axes]
            table = score(fitted, axes, y[at])
            row = {
                "law": law,
                "region": region,
                "n_fitted": fitted.n_points,
                "n_held_out": at.sum(),
            }
            row |= {"median_error": table.error.abs().median(), "coverage": table.covered.mean()}
            row |= {"width": (table.high - table.low).median()}
            rows.append(row | {"success": fitted.success, "message": fitted.message})
    order = ["law", "region", "median_error", "coverage", "width", "n_fitted", "n_held_out"]
    table = pd.DataFrame(rows).reindex(columns=[*order, "success", "message"])
    by = ["region", "median_error"]
    return table.sort_values(by, kind="stable", ignore_index=True, key=best_first)


def _parameters(fitted: Fit) -> Array:
    """Return (1 + good replicates, parameters): the best fit, then its replicates."""
    good = fitted.replicates[np.isfinite(fitted.replicates).all(-1)]
    return np.vstack([list(fitted.params.values()), good])


def _ends(values: Array) -> tuple[Array, Array]:
    """Return the 95 % interval over values[1:], inf counted as large; NaN without replicates."""
    if len(values) < 21:
        return (np.full(values.shape[1:], np.nan),) * 2
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0, method="nearest")
    return low, high


def _solve(value: Callable[[Array], Array], goal: Array) -> Array:
    """Return the compute at which the rising `value` reaches `goal` (rows, points).

    inf where it never does, 0 where the least compute is already enough. Halvings, then ITP
    (Oliveira and Takahashi 2021) where the law is nearly straight.
    """
    low, high = np.full(goal.shape, LOWEST), np.full(goal.shape, HIGHEST)
    with np.errstate(all="ignore"):
        below, above = value(10**low) - goal, value(10**high) - goal
        never, always = above < 0, below >= 0
        width = (HIGHEST - LOWEST) / 2**HALVINGS
        for step in range(46):  # as many halvings get to 1e-12 of a decade
            middle = (low + high) / 2
            if step >= HALVINGS:
                if (high - low)[~(never | always)].max(initial=0) < CLOSE:
                    break
                # ITP: the secant, moved inwards, within what leaves no more steps than halving
                secant = (above * low - below * high) / (above - below)
                inwards = np.sign(middle - secant)
                shift = np.maximum(0.2 / width * (high - low) ** 2, CLOSE / 4)
                secant += inwards * np.minimum(shift, abs(middle - secant))
                spare = width / 2.0 ** (step - HALVINGS) - (high - low) / 2
                guess = np.clip(secant, middle - spare, middle + spare)
                middle = np.where(np.isfinite(guess), guess, middle)
            off = value(10**middle) - goal
            low, below = np.where(off < 0, middle, low), np.where(off < 0, off, below)
            high, above = np.where(off < 0, high, middle), np.where(off < 0, above, off)
    return np.where(never, np.inf, np.where(always, 0.0, 10**high))

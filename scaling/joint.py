"""Laws of accuracy over (train_flops, test_flops), and what they say: iso-accuracy lines, the exchange rate
between the two kinds of compute with its end, and the best split of a budget. Draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr

from scaling.fits import fit
from scaling.laws import Law, Terms, spread
from scaling.records import Fit

NODES = np.linspace(-6.0, 6.0, 81)  # standard normal difficulties
MASS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()
LOWEST, HIGHEST = -6.0, 45.0  # log10 FLOPs between which a solution is looked for


# ---------------------------------------------------------------- the laws
def _logit(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = expit(u)
    return y, y * (1 - y)


def _probit(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ndtr(u), np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)


def _loglog(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = np.exp(-np.exp(-u))
    return y, y * np.exp(-u)


def plane(c, t, intercept, train, test, *, link) -> Terms:
    u = intercept + train * np.log10(c) + test * np.log10(t)
    y, slope = link(u)
    return y, (slope, slope * np.log10(c), slope * np.log10(t))


def jones(c, t, intercept, train, test, plateau) -> Terms:
    u = intercept + train * np.log10(c) + test * np.log10(t)
    y, slope = _logit(np.minimum(u, plateau))
    rising, flat = slope * (u < plateau), slope * (u >= plateau)
    return y, (rising, rising * np.log10(c), rising * np.log10(t), flat)


def item_response(c, t, ability, growth, spread, *, centre, cost) -> Terms:
    decade = np.log10(c) - centre
    u = ability + growth * decade
    k = t / 10 ** (cost[0] + cost[1] * decade)  # samples that t buys
    z = u[..., None] - spread[..., None] * NODES
    log_miss = -np.logaddexp(0, z)  # log(1 - p)
    miss = np.exp(k[..., None] * log_miss)
    by_z = k[..., None] * miss * expit(z) * MASS
    by_u = by_z.sum(-1)
    return 1 - miss @ MASS, (by_u, by_u * decade, -(by_z @ NODES))


def additive(c, t, e, a, b, alpha, beta) -> Terms:
    u, v = c**-alpha, t**-beta
    y = np.exp(-(e + a * u + b * v))
    return y, (-y, -y * u, -y * v, y * a * u * np.log(c), y * b * v * np.log(t))


def _shift(p: np.ndarray, units) -> np.ndarray:
    """Return plane parameters of axes times `units`: only the intercept moves."""
    moved = p.copy()
    moved[..., 0] -= p[..., 1] * np.log10(units[0]) + p[..., 2] * np.log10(units[1])
    return moved


PLANE = {"intercept": np.linspace(-5, 5, 9), "train": np.linspace(0.1, 4, 6)}
PLANE |= {"test": np.linspace(0.1, 4, 6)}
UNITS = "(train_flops, test_flops) -> accuracy"
SCALING = "Jones 2021, arXiv 2104.03113"


def _plane(name: str, link, formula: str) -> Law:
    return Law(
        name, ("intercept", "train", "test"), partial(plane, link=link), {}, lambda x: PLANE,
        f"{formula} = intercept + train log10 C + test log10 T", UNITS, SCALING, axes=2, rescale=_shift,
    )  # fmt: skip


TABLE = (
    _plane("plane_logit", _logit, "logit y"),
    _plane("plane_probit", _probit, "probit y"),
    _plane("plane_loglog", _loglog, "-log(-log y)"),
    Law(
        "jones", ("intercept", "train", "test", "plateau"), jones, {},
        lambda x: PLANE | {"plateau": np.array([-2.0, 0.0, 2.0, 5.0])},
        "logit y = min(plateau, intercept + train log10 C + test log10 T)", UNITS, SCALING,
        axes=2, rescale=_shift,
    ),
    Law(
        "item_response", ("ability", "growth", "spread"), partial(item_response, centre=0.0, cost=(0.0, 0.0)),
        {"spread": (1e-3, 50.0)},
        lambda x: {"ability": np.linspace(-12, 6, 10), "growth": np.linspace(0.1, 5, 6), "spread": spread(0.2, 8.0, 6)},
        "y = E 1 - (1 - p)^k, logit p = ability + growth log10(C / C0) - spread z, z ~ N(0, 1), k = T / cost(C)",
        UNITS, "item response theory; pass@k as in Chen et al. 2021, arXiv 2107.03374",
        axes=2, logs=("spread",),
    ),
    Law(
        "additive", ("E", "A", "B", "alpha", "beta"), additive, {"alpha": (0.0, 3.0), "beta": (0.0, 3.0)},
        lambda x: {"E": spread(0.01, 1.0, 4), "A": spread(0.03, 3.0, 5), "B": spread(0.03, 3.0, 5),
                   "alpha": spread(0.05, 1.0, 5), "beta": spread(0.05, 1.0, 5)},
        "-log y = E + A / C^alpha + B / T^beta", UNITS, "Hoffmann et al. 2022, arXiv 2203.15556, on -log accuracy",
        axes=2, logs=("E", "A", "B"),
        rescale=lambda p, s: p * np.stack([np.ones_like(p[..., 3]), s[0] ** p[..., 3], s[1] ** p[..., 4],
                                           np.ones_like(p[..., 3]), np.ones_like(p[..., 3])], -1),
    ),
)  # fmt: skip
JOINT = {law.name: law for law in TABLE}


def fit_joint(
    law: str,
    train_flops: np.ndarray,
    test_flops: np.ndarray,
    accuracy: np.ndarray,
    *,
    replicates: np.ndarray | None = None,
    sample_flops: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Fit:
    """Return a joint law fitted to arrays (points,) of train and test FLOPs and accuracy.

    `replicates` (replicates, points) come from resampling the problems, the same ones in every column; without them
    the points are resampled as if independent. `item_response` counts samples: `sample_flops` (points,) is the
    cost of one, by default the least test_flops at the same train_flops. It is summarised as a power law of
    train_flops, so that the law speaks of the two axes only; `ability` is at C0, the geometric mean of train_flops.
    """
    if law not in JOINT:
        raise ValueError(f"there is no joint law {law!r}; known: {', '.join(JOINT)}")
    train, test = (np.asarray(axis, float).ravel() for axis in (train_flops, test_flops))
    row = JOINT[law]
    if (
        law == "item_response"
        and (train > 0).all()
        and (test > 0).all()
        and len(train) == len(test)
    ):
        cost = (
            np.array([test[train == c].min() for c in train])
            if sample_flops is None
            else np.asarray(sample_flops)
        )
        decade = np.log10(train) - np.log10(train).mean()
        slope = (decade @ np.log10(cost)) / max(decade @ decade, 1e-300)
        line = float(np.log10(cost).mean()), float(slope)
        function = partial(item_response, centre=float(np.log10(train).mean()), cost=line)
        row = replace(row, function=function)
        test = test / cost * 10 ** (line[0] + line[1] * decade)
    return fit(
        row,
        (train, test),
        accuracy,
        replicates=replicates,
        weights=weights,
        bootstrap=bootstrap,
        seed=seed,
    )


# ---------------------------------------------------------------- what a joint law says
@dataclass(frozen=True)
class Exchange:
    """What `factor` times the training compute is worth in test compute, at one operating point."""

    train_flops: float  #: operating point
    test_flops: float  #: operating point
    factor: float  #: how many times the training compute
    rate: float  #: how many times the test compute gives the same accuracy; inf when none does
    low: float  #: lower end of the 95 % interval; NaN without replicates
    high: float  #: upper end; inf when some replicates saturate
    replaces_at_most: (
        float  #: largest factor of training compute that test compute can replace; inf: no end
    )
    at_most_low: float  #: lower end of its interval
    at_most_high: float  #: upper end of its interval


def _parameters(fitted: Fit) -> np.ndarray:
    """Return (1 + replicates, parameters): the best fit first, then the replicates that could be fitted."""
    good = fitted.replicates[np.isfinite(fitted.replicates).all(-1)]
    return np.vstack([list(fitted.params.values()), good])


def _ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval over rows 1: of (1 + replicates, ...); infinite values are kept, not averaged."""
    if len(values) < 21:
        return (np.full(values.shape[1:], np.nan),) * 2
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0, method="nearest")
    return low, high


def _reach(function, p: np.ndarray, target: np.ndarray, train=None, test=None) -> np.ndarray:
    """Return log10 of the compute (rows, points) on the axis left None that gives `target`; inf where none does.

    -inf where the least compute already exceeds it. Bisection: every joint law is monotone in both axes, or is
    read as never reaching the target.
    """

    def value(u: np.ndarray) -> np.ndarray:
        return function((10**u, test) if train is None else (train, 10**u), p)

    shape = np.broadcast_shapes(
        target.shape, np.shape(train if test is None else test), (len(p), 1)
    )
    low, high = np.full(shape, LOWEST), np.full(shape, HIGHEST)
    above, below = value(high) < target, value(low) >= target
    for _ in range(60):
        middle = (low + high) / 2
        short = value(middle) < target
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.where(above, np.inf, np.where(below, -np.inf, high))


def iso_line(fitted: Fit, accuracy: float, train_flops: np.ndarray) -> pd.DataFrame:
    """Return, for each train_flops, the test_flops that reach `accuracy`, with its interval (low, high).

    inf where no amount of test compute does, in the fit or in enough replicates.
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"accuracy is {accuracy}; give a number between 0 and 1")
    train = np.atleast_1d(np.asarray(train_flops, float))
    found = 10 ** _reach(
        fitted.function, _parameters(fitted), np.array([[accuracy]]), train=train[None]
    )
    low, high = _ends(found)
    return pd.DataFrame({"train_flops": train, "test_flops": found[0], "low": low, "high": high})


def exchange_rate(
    fitted: Fit, train_flops: float, test_flops: float, factor: float = 10.0
) -> Exchange:
    """Return how many times the test compute is worth `factor` times the training compute at this point.

    The rate r solves accuracy(train, r test) = accuracy(factor train, test). Test compute ends where even an
    unbounded amount of it does not reach that accuracy: `replaces_at_most` is the factor at which it does.
    """
    if not (train_flops > 0 and test_flops > 0 and factor > 1):
        raise ValueError("give train_flops > 0, test_flops > 0 and factor > 1")
    p = _parameters(fitted)
    here = np.array([[float(train_flops)]]), np.array([[float(test_flops)]])
    rate = 10 ** _reach(
        fitted.function, p, fitted.function((factor * here[0], here[1]), p), train=here[0]
    )
    most = fitted.function((here[0], np.array([[10.0**HIGHEST]])), p)
    end = 10 ** _reach(fitted.function, p, most - 1e-9, test=here[1])
    rate, end = rate[:, 0] / test_flops, end[:, 0] / train_flops
    ends = [float(x) for x in (*_ends(rate), end[0], *_ends(end))]
    return Exchange(float(train_flops), float(test_flops), factor, float(rate[0]), *ends)


def allocate(fitted: Fit, budget: np.ndarray, queries: float) -> pd.DataFrame:
    """Return the split of each total budget, train_flops + queries * test_flops, with the highest accuracy.

    One row per budget: the split, its accuracy, and intervals over replicates (each chooses its own split).
    `queries` is how many problems the model answers over its life.
    """
    budget = np.atleast_1d(np.asarray(budget, float))
    if not ((budget > 0).all() and queries > 0):
        raise ValueError("give budgets > 0 and queries > 0")
    share = expit(np.linspace(-14, 14, 561))  # of the budget that goes into training
    p = _parameters(fitted)
    rows = []
    for total in budget:
        train, test = share * total, (1 - share) * total / queries
        y = fitted.function((train[None], test[None]), p)  # (1 + replicates, shares)
        best = y.argmax(-1)
        (train_low, train_high), (low, high) = _ends(train[best]), _ends(y.max(-1))
        rows.append((total, train[best[0]], train_low, train_high, test[best[0]], y[0].max(), low, high,
                     best[0] in (0, len(share) - 1)))  # fmt: skip
    names = ["budget", "train_flops", "train_low", "train_high", "test_flops"]
    return pd.DataFrame(rows, columns=[*names, "accuracy", "low", "high", "at_edge"])


def frontier(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Return which points (points,) bool are on the frontier: no cheaper or equal point is as accurate."""
    cost, accuracy = np.asarray(cost, float), np.asarray(accuracy, float)
    order = np.lexsort([-accuracy, cost])
    before = np.maximum.accumulate(
        np.concatenate([[-np.inf], np.nan_to_num(accuracy[order], nan=-np.inf)])
    )[:-1]
    on = np.zeros(len(cost), bool)
    on[order] = accuracy[order] > before
    return on

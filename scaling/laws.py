"""The table of scaling laws: what each is, where to search for it, where it comes from. Nothing is fitted here.

A law is a row of `LAWS`. Its function takes the axes and then the parameters, in the order of `Law.params`,
and returns the value with its derivative by each parameter; `fits` needs nothing else to fit it. Laws of a
distribution (`Law.density`) are fitted on counts per problem and predict pass@k for any k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, digamma, expit

Axes = tuple[np.ndarray, ...]
Terms = tuple[np.ndarray, tuple[np.ndarray, ...]]
INF = np.inf
LOGITS = np.linspace(
    -25.0, 25.0, 501
)  # where a distribution of success rates is read, for prediction


@dataclass(frozen=True)
class Law:
    """One functional form: how to evaluate it, where its parameters may lie and where to look for them."""

    name: str  #: public name, key of `LAWS`
    params: tuple[str, ...]  #: parameter names, in order
    function: Callable[..., Terms]  #: (*axes, *params) -> value, derivative by each parameter
    bounds: dict[str, tuple[float, float]]  #: allowed range; a parameter not named is free
    search: Callable[[Axes], dict[str, np.ndarray]]  #: starting values of the non-linear parameters
    formula: str  #: as printed in papers
    units: str  #: of the axes and of the value
    source: str  #: where the law comes from
    linear: tuple[str, ...] = ()  #: parameters in which the value is linear: solved, not searched
    logs: tuple[str, ...] = ()  #: positive parameters, moved in their logarithm
    rescale: Callable[..., np.ndarray] | None = (
        None  #: (params, units) -> params of the axes times units
    )
    log_response: bool = False  #: compare log y, not y
    density: Callable[..., Terms] | None = (
        None  #: log density of logit(success rate), with derivatives
    )
    axes: int = 1  #: number of axes

    def terms(self, x: Axes, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the value (..., points) and its derivatives (..., points, parameters)."""
        value, parts = self.function(*x, *np.moveaxis(np.asarray(p, float), -1, 0)[..., None])
        return value, np.stack([np.broadcast_to(part, value.shape) for part in parts], -1)

    def predict(self, x: np.ndarray | Axes, p: np.ndarray) -> np.ndarray:
        """Return the value (..., points) at `x`, a tuple for several axes, for parameters (..., parameters)."""
        x = tuple(np.asarray(axis, float) for axis in (x if isinstance(x, tuple) else (x,)))
        if len(x) != self.axes:
            raise ValueError(f"{self.name} takes {self.axes} axes ({self.units}), got {len(x)}")
        with np.errstate(all="ignore"):
            return self.function(*x, *np.moveaxis(np.asarray(p, float), -1, 0)[..., None])[0]


def power(x, a, b) -> Terms:
    t = x**b
    return a * t, (t, a * t * np.log(x))


def power_floor(x, a, b, floor) -> Terms:
    t = x**b
    return floor + a * t, (t, a * t * np.log(x), np.ones_like(t))


def exp_power(x, a, b) -> Terms:
    t = x**b
    y = np.exp(a * t)
    return y, (y * t, y * a * t * np.log(x))


def sigmoid(x, lower, upper, midpoint, slope) -> Terms:
    u = np.log10(x) - midpoint
    s = expit(slope * u)
    d = (upper - lower) * s * (1 - s)
    return lower + (upper - lower) * s, (1 - s, s, -slope * d, u * d)


def bnsl(x, a, b, c0, c1, d1, f1) -> Terms:
    u = np.log(x / d1) / f1
    bend = np.logaddexp(0, u)
    y = np.exp(-c0 * np.log(x) - c1 * f1 * bend)
    tail = c1 * expit(u)
    return a + b * y, (
        np.ones_like(y),
        y,
        -b * y * np.log(x),
        -b * y * f1 * bend,
        b * y * tail / d1,
        b * y * (tail * u - c1 * bend),
    )


def saturating_majority(x, first, ceiling, scale) -> Terms:
    g = (1 + (x - 1) / scale) ** -0.5
    return ceiling + (first - ceiling) * g, (
        g,
        1 - g,
        (first - ceiling) * g**3 * (x - 1) / (2 * scale**2),
    )


def chinchilla(n, d, e, a, b, alpha, beta) -> Terms:
    u, v = np.exp(-alpha * np.log(n)), np.exp(-beta * np.log(d))
    return e + a * u + b * v, (np.ones_like(u), u, v, -a * u * np.log(n), -b * v * np.log(d))


def over_training(c, m, e, a, b, eta) -> Terms:
    u, v = (m / c) ** eta, (m * c) ** -eta
    by_eta = a * u * np.log(m / c) - b * v * np.log(m * c)
    return e + a * u + b * v, (np.ones_like(u), u, v, by_eta)


def beta_density(logit, alpha, beta) -> Terms:
    low, high = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)  # log p, log(1 - p)
    both = digamma(alpha + beta)
    value = alpha * low + beta * high - betaln(alpha, beta)
    return value, (low - digamma(alpha) + both, high - digamma(beta) + both)


def kumaraswamy_density(logit, a, b) -> Terms:
    low, high = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    rest = np.log(-np.expm1(np.minimum(a * low, -1e-300)))  # log(1 - p^a)
    value = np.log(a * b) + a * low + (b - 1) * rest + high
    by_a = 1 / a + low - (b - 1) * low * np.exp(a * low - rest)
    return value, (by_a, 1 / b + rest)


def weigh(density: Callable[..., Terms], logits: np.ndarray, *p: np.ndarray) -> Terms:
    """Return the mass at p = 0, at each of `logits` and at p = 1, (..., nodes + 2), with its derivatives.

    Trapezoid on an even grid of logits; beyond its ends the density falls as exp(-p_i |logit|), where p_i is
    the first parameter below and the second above, so that the masses left and right are closed forms. A
    third parameter is the share of impossible problems, a mass at p = 0.
    """
    value, parts = density(logits, *p[:2])
    mass = np.exp(value) * (logits[1] - logits[0])
    mass[..., [0, -1]] /= 2
    ends = np.exp(value[..., :1]) / p[0], np.exp(value[..., -1:]) / p[1]
    full = np.concatenate([ends[0], mass, ends[1]], -1)
    logs = [np.concatenate([d[..., :1], d, d[..., -1:]], -1) * np.ones_like(full) for d in parts]
    logs[0][..., :1] -= 1 / p[0]
    logs[1][..., -1:] -= 1 / p[1]
    parts = [full * d for d in logs]
    if len(p) == 3:
        atom = np.zeros_like(full)
        atom[..., 0] = 1
        parts = [(1 - p[2]) * d for d in parts] + [atom - full]
        full = (1 - p[2]) * full + p[2] * atom
    return full, tuple(parts)


def coverage(density: Callable[..., Terms]) -> Callable[..., Terms]:
    """Return pass@k = 1 - E[(1 - p)^k] of a distribution of success rates, as the function of a law."""
    with np.errstate(under="ignore"):
        fail = np.concatenate(
            [[0.0], -np.logaddexp(0, LOGITS), [-np.inf]]
        )  # log(1 - p) at the nodes

    def function(k, *p) -> Terms:
        miss = np.exp(np.maximum(fail[:, None] * np.maximum(k, 1e-300), -700.0))
        mass, parts = weigh(density, LOGITS, *p)
        return 1 - mass @ miss, tuple(-(part @ miss) for part in parts)

    return function


def spread(low: float, high: float, count: int = 16) -> np.ndarray:
    """Return `count` values from `low` to `high`, evenly in their logarithm, with the sign of `low`."""
    return np.sign(low) * np.geomspace(abs(low), abs(high), count)


def decades(axis: np.ndarray, beyond: float = 0.5, count: int = 16) -> np.ndarray:
    """Return positions over the range of an axis and `beyond` of its length at either side."""
    low, high = np.log10(axis.min()), np.log10(axis.max())
    return np.linspace(low - beyond * (high - low), high + beyond * (high - low), count)


def distribution(
    name: str, names: tuple[str, ...], density: Callable[..., Terms], formula: str, source: str
) -> Law:
    """Return the law of a distribution of success rates over problems."""
    two = {name: spread(0.02, 20.0, 10) for name in names[:2]}
    return Law(
        name, names, coverage(density),
        {"impossible": (0.0, 1.0)} | {name: (1e-4, 1e5) for name in names[:2]},
        lambda x: two | ({"impossible": np.array([0.01, 0.2])} if len(names) == 3 else {}),
        formula, "n samples and c correct per problem (or a coverage curve) -> pass@k", source,
        logs=names[:2], density=density,
    )  # fmt: skip


MONKEYS = "Brown et al. 2024, arXiv 2407.21787"
BETA = "Schaeffer et al. 2025, arXiv 2502.17578; Kazdan et al. 2025, arXiv 2510.05197"
FREE = np.concatenate([spread(-0.02, -4.0), spread(0.02, 2.0, 8)])  # exponents, falling and rising

TABLE = (
    Law(
        "power", ("a", "b"), power, {}, lambda x: {"b": FREE},
        "a x^b", "any budget -> any", "Kaplan et al. 2020, arXiv 2001.08361",
        linear=("a",),
        rescale=lambda p, s: np.stack([p[..., 0] * s[0] ** -p[..., 1], p[..., 1]], -1),
    ),
    Law(
        "power_floor", ("a", "b", "floor"), power_floor, {"b": (-6.0, -1e-3)},
        lambda x: {"b": spread(-0.02, -4.0, 48)},
        "floor + a x^b, b < 0 (with a < 0 the floor is a ceiling)", "any budget -> any",
        "Hestness et al. 2017, arXiv 1712.00409; Henighan et al. 2020, arXiv 2010.14701",
        linear=("a", "floor"),
        rescale=lambda p, s: np.stack([p[..., 0] * s[0] ** -p[..., 1], p[..., 1], p[..., 2]], -1),
    ),
    Law(
        "exp_power", ("a", "b"), exp_power, {"a": (-INF, 0.0), "b": (-6.0, 6.0)},
        lambda x: {"a": spread(-0.003, -12.0), "b": FREE},
        "exp(a k^b)", "samples -> coverage", MONKEYS,
        rescale=lambda p, s: np.stack([p[..., 0] * s[0] ** -p[..., 1], p[..., 1]], -1),
    ),
    Law(
        "sigmoid", ("lower", "upper", "midpoint", "slope"), sigmoid,
        {"lower": (0.0, 1.0), "upper": (0.0, 1.0), "slope": (0.0, INF)},
        lambda x: {"midpoint": decades(x[0]), "slope": spread(0.3, 30.0, 12)},
        "lower + (upper - lower) / (1 + exp(-slope (log10 x - midpoint)))",
        "budget -> accuracy; slope per decade", "Ruan et al. 2024, arXiv 2405.10938",
        linear=("lower", "upper"), logs=("slope",),
        rescale=lambda p, s: p + np.log10(s[0]) * np.array([0, 0, 1, 0]),
    ),
    Law(
        "bnsl", ("a", "b", "c0", "c1", "d1", "f1"), bnsl, {"f1": (0.02, 20.0), "c0": (-6.0, 6.0), "c1": (-6.0, 6.0)},
        lambda x: {"c0": np.array([0.03, 0.3, 1.0]), "c1": np.array([-0.5, 0.3, 1.0, 3.0]),
                   "d1": 10 ** decades(x[0], 0.0, 7), "f1": np.array([0.1, 0.4, 1.0])},
        "a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1): one break", "any budget -> any",
        "Caballero et al. 2022, arXiv 2210.14891",
        linear=("a", "b"), logs=("d1", "f1"),
        rescale=lambda p, s: np.stack([p[..., 0], p[..., 1] * s[0] ** p[..., 2], *np.moveaxis(p[..., 2:4], -1, 0),
                                       p[..., 4] * s[0], p[..., 5]], -1),
    ),
    Law(
        "saturating_majority", ("first", "ceiling", "scale"), saturating_majority,
        {"first": (0.0, 1.0), "ceiling": (0.0, 1.0), "scale": (1e-3, 1e9)},
        lambda x: {"scale": spread(0.05, 50 * x[0].max(), 48)},
        "ceiling - (ceiling - first) / sqrt(1 + (k - 1) / scale)", "samples voted on -> accuracy of the majority",
        "ours: at k votes the problems whose margin is within 1/sqrt(k) of a tie are undecided, and a density of "
        "margins that is finite at zero leaves a share of them that falls as 1/sqrt(k)",
        linear=("first", "ceiling"), logs=("scale",),
    ),
    Law(
        "chinchilla", ("E", "A", "B", "alpha", "beta"), chinchilla,
        {"alpha": (0.0, 3.0), "beta": (0.0, 3.0)},
        lambda x: {"alpha": spread(0.03, 2.0, 15), "beta": spread(0.03, 2.0, 15)},
        "E + A / N^alpha + B / D^beta", "(parameters N, tokens D) -> loss in nats",
        "Hoffmann et al. 2022, arXiv 2203.15556; Besiroglu et al. 2024, arXiv 2404.10102",
        linear=("E", "A", "B"), logs=("E", "A", "B"), log_response=True, axes=2,
        rescale=lambda p, s: p * np.stack([np.ones_like(p[..., 3]), s[0] ** p[..., 3], s[1] ** p[..., 4],
                                           np.ones_like(p[..., 3]), np.ones_like(p[..., 3])], -1),
    ),
    Law(
        "over_training", ("E", "a", "b", "eta"), over_training, {"eta": (1e-3, 2.0)},
        lambda x: {"eta": spread(0.01, 1.0, 48)},
        "E + (a M^eta + b M^-eta) C^-eta", "(training FLOPs C = 6 N D, tokens per parameter M = D / N) -> loss in nats",
        "Gadre et al. 2024, arXiv 2403.08540",
        linear=("E", "a", "b"), axes=2,
        rescale=lambda p, s: np.stack([p[..., 0], p[..., 1] * (s[0] / s[1]) ** p[..., 3],
                                       p[..., 2] * (s[0] * s[1]) ** p[..., 3], p[..., 3]], -1),
    ),
    distribution("beta_binomial", ("alpha", "beta"), beta_density,
                 "pass@k = 1 - B(alpha, beta + k) / B(alpha, beta)", BETA),
    distribution("beta_binomial_zero", ("alpha", "beta", "impossible"), beta_density,
                 "pass@k = (1 - impossible) (1 - B(alpha, beta + k) / B(alpha, beta))", BETA),
    distribution("kumaraswamy", ("a", "b"), kumaraswamy_density,
                 "pass@k = 1 - E (1 - p)^k, density a b p^(a-1) (1 - p^a)^(b-1)", BETA),
    distribution("kumaraswamy_zero", ("a", "b", "impossible"), kumaraswamy_density,
                 "the same, times 1 - impossible", BETA),
)  # fmt: skip
LAWS = {law.name: law for law in TABLE}

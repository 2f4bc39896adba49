"""The table of scaling laws: what each is, where to search for it, where it comes from.

A law is a row of `LAWS`. Its function takes the axes, then the parameters in the order of
`Law.params`, and returns the value with its derivative by each parameter: `fits` needs no more.
Laws of a distribution (`Law.density`) describe success rates over problems; they are fitted on
counts and predict pass@k for any k. Nothing is fitted here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.special import betaln, digamma, expit

Array = np.ndarray
Axes = tuple[Array, ...]
Terms = tuple[Array, tuple[Array, ...]]  # value, derivative by each parameter
INF = np.inf
LOGITS = np.linspace(-25.0, 25.0, 501)  # where a distribution of success rates is read to predict


@dataclass(frozen=True)
class Law:
    """One functional form: how to evaluate it, where its parameters may lie and are looked for."""

    name: str  #: public name, key of `LAWS`
    params: tuple[str, ...]  #: parameter names, in order
    function: Callable[..., Terms]  #: (*axes, *params) -> value and derivatives
    bounds: dict[str, tuple[float, float]]  #: allowed range; a parameter not named is free
    search: Callable[[Axes], dict[str, Array]]  #: starting values of the non-linear parameters
    formula: str  #: as printed in papers
    units: str  #: of the axes and of the value
    source: str  #: where the law comes from
    linear: tuple[str, ...] = ()  #: parameters in which the value is linear: solved, not searched
    logs: tuple[str, ...] = ()  #: positive parameters, moved in their logarithm
    rescale: Callable[[Array, list[float]], Array] | None = None  #: to params of (axes times units)
    log_response: bool = False  #: compare log y, not y
    density: Callable[..., Terms] | None = None  #: log density of logit(success rate)
    axes: int = 1  #: number of axes
    share: bool = False  #: the value is an accuracy: y outside 0 to 1 is refused
    of_samples: bool = False  #: x counts samples or votes: a curve in another unit is refused

    @cached_property
    def moved_in_logs(self) -> Array:
        """Return which parameters (parameters,) bool are moved in their logarithm."""
        return np.array([name in self.logs for name in self.params])

    def limits(self) -> tuple[Array, Array]:
        """Return the lowest and the highest value of each parameter, in the coordinates moved."""
        default = {name: (1e-300 if name in self.logs else -INF, INF) for name in self.params}
        low, high = self.free(np.array(list((default | self.bounds).values())).T)
        return low, high

    def free(self, p: Array) -> Array:
        """Return the coordinates that a fit moves: logarithms of the parameters in `logs`."""
        return np.where(self.moved_in_logs, np.log(np.where(self.moved_in_logs, p, 1.0)), p)

    def natural(self, z: Array) -> Array:
        """Return the parameters of the coordinates `z`."""
        if not self.logs:
            return z
        return np.where(self.moved_in_logs, np.exp(np.where(self.moved_in_logs, z, 0.0)), z)

    def terms(self, x: Axes, z: Array) -> tuple[Array, Array]:
        """Return the value (..., points) and its slopes by z (..., points, parameters)."""
        p = self.natural(z)
        value, parts = self.function(*x, *(p[..., i, None] for i in range(len(self.params))))
        slopes = np.empty((*value.shape, len(parts)))
        for i, (name, part) in enumerate(zip(self.params, parts, strict=True)):
            slopes[..., i] = part * p[..., i, None] if name in self.logs else part
        return value, slopes

    def split(self, x: Array | Axes) -> Axes:
        """Return `x` as one array per axis; ValueError for another number of axes."""
        axes = tuple(np.asarray(axis, float) for axis in (x if isinstance(x, tuple) else (x,)))
        if len(axes) != self.axes:
            raise ValueError(f"{self.name} takes {self.axes} axes, {self.units}; got {len(axes)}")
        return axes

    def predict(self, x: Array | Axes, p: Array) -> Array:
        """Return the value (..., points) at `x` (a tuple of axes) for p (..., parameters).

        NaN where an axis is not positive: laws read them in logarithms.
        """
        parameters, axes = np.moveaxis(np.asarray(p, float), -1, 0)[..., None], self.split(x)
        with np.errstate(all="ignore"):
            value = self.function(*axes, *parameters)[0]
        positive = np.all(np.broadcast_arrays(*(axis > 0 for axis in axes)), axis=0)
        return np.where(positive, value, np.nan)


# ---------------------------------------------------------------- functions of the axes
def power(x: Array, a: Array, b: Array) -> Terms:
    t = x**b
    return a * t, (t, a * t * np.log(x))


def power_floor(x: Array, a: Array, b: Array, floor: Array) -> Terms:
    t = x**b
    return floor + a * t, (t, a * t * np.log(x), np.ones_like(t))


def exp_power(x: Array, a: Array, b: Array) -> Terms:
    t = x**b
    y = np.exp(a * t)
    return y, (y * t, y * a * t * np.log(x))


def sigmoid(x: Array, lower: Array, upper: Array, midpoint: Array, slope: Array) -> Terms:
    u = np.log10(x) - midpoint
    s = expit(slope * u)
    d = (upper - lower) * s * (1 - s)
    return lower + (upper - lower) * s, (1 - s, s, -slope * d, u * d)


def bnsl(x: Array, a: Array, b: Array, c0: Array, c1: Array, d1: Array, f1: Array) -> Terms:
    u = np.log(x / d1) / f1
    bend, tail = np.logaddexp(0, u), c1 * expit(u)
    t = np.exp(-c0 * np.log(x) - c1 * f1 * bend)
    by_f1 = b * t * (tail * u - c1 * bend)
    parts = (np.ones_like(t), t, -b * t * np.log(x), -b * t * f1 * bend, b * t * tail / d1, by_f1)
    return a + b * t, parts


def saturating_majority(k: Array, first: Array, ceiling: Array, scale: Array) -> Terms:
    g = (1 + (k - 1) / scale) ** -0.5
    gap = first - ceiling
    return ceiling + gap * g, (g, 1 - g, gap * g**3 * (k - 1) / (2 * scale**2))


def chinchilla(
    n: Array, d: Array, e: Array, a: Array, b: Array, alpha: Array, beta: Array
) -> Terms:
    log_n, log_d = np.log(n), np.log(d)
    u, v = np.exp(-alpha * log_n), np.exp(-beta * log_d)
    return e + a * u + b * v, (np.ones_like(u), u, v, -a * u * log_n, -b * v * log_d)


def over_training(c: Array, m: Array, e: Array, a: Array, b: Array, eta: Array) -> Terms:
    u, v = (m / c) ** eta, (m * c) ** -eta
    by_eta = a * u * np.log(m / c) - b * v * np.log(m * c)
    return e + a * u + b * v, (np.ones_like(u), u, v, by_eta)


# ---------------------------------------------------------------- distributions of success rates
def beta_density(logit: Array, alpha: Array, beta: Array) -> Terms:
    log_p, log_q = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    both = digamma(alpha + beta)
    value = alpha * log_p + beta * log_q - betaln(alpha, beta)
    return value, (log_p - digamma(alpha) + both, log_q - digamma(beta) + both)


def kumaraswamy_density(logit: Array, a: Array, b: Array) -> Terms:
    log_p, log_q = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    power = a * log_p
    rest = np.log(-np.expm1(np.minimum(power, -1e-300)))  # log(1 - p^a)
    value = np.log(a * b) + power + (b - 1) * rest + log_q
    return value, (1 / a + log_p - (b - 1) * log_p * np.exp(power - rest), 1 / b + rest)


def kumaraswamy_below(logit: Array, a: Array, b: Array) -> Terms:
    """Return the mass below a logit, 1 - (1 - p^a)^b, and its slopes."""
    log_p = -np.logaddexp(0, -logit)
    power = np.exp(np.minimum(a * log_p, -1e-300))
    rest = np.log1p(-power)
    by_a = b * np.exp((b - 1) * rest) * power * log_p
    return -np.expm1(b * rest), (by_a, -np.exp(b * rest) * rest)


#: densities that do not fall as exp(-p_0 |logit|) below -25 unless p_0 is large
BELOW = {kumaraswamy_density: kumaraswamy_below}


def weigh(density: Callable[..., Terms], logits: Array, *p: Array) -> Terms:
    """Return the mass at p = 0, at each of `logits` and at p = 1, (..., nodes + 2), with slopes.

    Trapezoid on an even grid of logits. Beyond its ends the density falls as exp(-p_i |logit|), p_i
    the first parameter below (`BELOW` holds exceptions) and the second above, which gives the
    masses there in closed form. A third parameter is the share of impossible problems, an atom at
    p = 0.
    """
    value, parts = density(logits, *p[:2])
    step = np.full(len(logits) + 2, logits[1] - logits[0])
    step[[1, -2]] /= 2
    step[[0, -1]] = 1
    mass = np.empty((*value.shape[:-1], len(step)))
    mass[..., 1:-1] = value
    mass[..., :1], mass[..., -1:] = value[..., :1] - np.log(p[0]), value[..., -1:] - np.log(p[1])
    mass = np.multiply(np.exp(mass, out=mass), step, out=mass)
    by = [np.empty(mass.shape) for _ in parts]
    for slope, part, (low, high) in zip(by, parts, ((1 / p[0], 0.0), (0.0, 1 / p[1])), strict=True):
        np.multiply(mass[..., 1:-1], part, out=slope[..., 1:-1])
        slope[..., :1] = mass[..., :1] * (part[..., :1] - low)
        slope[..., -1:] = mass[..., -1:] * (part[..., -1:] - high)
    if below := BELOW.get(density):
        mass[..., :1], (by[0][..., :1], by[1][..., :1]) = below(logits[:1], *p[:2])
    if len(p) == 2:
        return mass, tuple(by)
    possible, by_impossible = 1 - p[2], -mass
    by_impossible[..., 0] += 1
    for part in (mass, *by):
        part *= possible
    mass[..., :1] += p[2]
    return mass, (*by, by_impossible)


def coverage(density: Callable[..., Terms]) -> Callable[..., Terms]:
    """Return pass@k = 1 - E[(1 - p)^k] of a distribution of success rates, as a law's function."""

    def function(k: Array, *p: Array) -> Terms:
        mass, parts = weigh(density, LOGITS, *p)
        miss = misses(tuple(np.atleast_1d(k).tolist()))
        return 1 - mass @ miss, tuple(-(part @ miss) for part in parts)

    return function


@lru_cache(maxsize=8)  # a fit asks hundreds of times
def misses(k: tuple[float, ...]) -> Array:
    """Return (1 - p)^k at the nodes of `weigh`, (nodes + 2, k)."""
    log_miss = np.concatenate([[0.0], -np.logaddexp(0, LOGITS), [-1e300]])  # log(1 - p)
    return np.exp(np.maximum(log_miss[:, None] * np.array(k), -700.0))


# ---------------------------------------------------------------- the table
def spread(low: float, high: float, count: int = 16) -> Array:
    """Return `count` values from `low` to `high`, even in their logarithm, signed as `low`."""
    return np.sign(low) * np.geomspace(abs(low), abs(high), count)


def decades(axis: Array, beyond: float = 0.5, count: int = 16) -> Array:
    """Return log10 positions over the range of an axis, and `beyond` of it at either side."""
    low, high = np.log10(axis.min()), np.log10(axis.max())
    return np.linspace(low - beyond * (high - low), high + beyond * (high - low), count)


def scaled(powers: Callable[..., list[tuple]]) -> Callable[[Array, list[float]], Array]:
    """Return a `Law.rescale`; `powers(*params)`: per axis, each parameter's power of the unit."""

    def rescale(p: Array, units: list[float]) -> Array:
        rows = zip(powers(*np.moveaxis(p, -1, 0)), units, strict=True)
        return p * np.exp(sum(np.stack(np.broadcast_arrays(*e), -1) * np.log(u) for e, u in rows))

    return rescale


def distribution(
    name: str, params: tuple[str, ...], density: Callable[..., Terms], most: float, formula: str
) -> Law:
    """Return the law of a distribution of success rates; a third parameter is a share of zeros.

    most: bound of the first parameter, beyond which the density falls between two nodes.
    """
    grid = {name: spread(0.02, 20.0, 4) for name in params[:2]}
    bounds = {params[0]: (1e-4, most), params[1]: (1e-4, 1e5)}
    if len(params) == 3:
        grid, bounds = grid | {params[2]: np.array([0.01, 0.2])}, bounds | {params[2]: (0.0, 1.0)}
    units = "per problem: n samples, c correct (or a coverage curve) -> pass@k"
    source = "Schaeffer et al. 2025, arXiv 2502.17578; Kazdan et al. 2025, arXiv 2510.05197"
    return Law(name, params, coverage(density), bounds, lambda x: grid, formula, units, source,
               logs=params[:2], density=density, share=True, of_samples=True)  # fmt: skip


BOTH_SIGNS = np.concatenate([spread(-0.02, -4.0), spread(0.02, 2.0, 8)])  # exponents
SHARE = (0.0, 1.0)  # an accuracy

# fmt: off
TABLE = (
    Law("power", ("a", "b"), power, {}, lambda x: {"b": BOTH_SIGNS},
        "a x^b", "any budget -> any", "Kaplan et al. 2020, arXiv 2001.08361",
        linear=("a",), rescale=scaled(lambda a, b: [(-b, 0)])),
    Law("power_floor", ("a", "b", "floor"), power_floor, {"b": (-6.0, -1e-3)},
        lambda x: {"b": spread(-0.02, -4.0, 48)},
        "floor + a x^b, b < 0 (where a < 0 the floor is a ceiling)", "any budget -> any",
        "Hestness et al. 2017, arXiv 1712.00409; Henighan et al. 2020, arXiv 2010.14701",
        linear=("a", "floor"), rescale=scaled(lambda a, b, floor: [(-b, 0, 0)])),
    Law("exp_power", ("a", "b"), exp_power, {"a": (-INF, 0.0), "b": (-6.0, 6.0)},
        lambda x: {"a": spread(-0.003, -12.0), "b": BOTH_SIGNS},
        "exp(a k^b)", "samples -> coverage", "Brown et al. 2024, arXiv 2407.21787", share=True,
        rescale=scaled(lambda a, b: [(-b, 0)])),
    Law("sigmoid", ("lower", "upper", "midpoint", "slope"), sigmoid,
        {"lower": SHARE, "upper": SHARE, "slope": (1e-3, 1e3)},
        lambda x: {"midpoint": decades(x[0]), "slope": spread(0.3, 30.0, 12)},
        "lower + (upper - lower) / (1 + exp(-slope (log10 x - midpoint)))",
        "budget -> accuracy; slope per decade", "Ruan et al. 2024, arXiv 2405.10938",
        linear=("lower", "upper"), logs=("slope",), share=True,
        rescale=lambda p, units: p + np.log10(units[0]) * np.array([0, 0, 1, 0])),
    Law("bnsl", ("a", "b", "c0", "c1", "d1", "f1"), bnsl,
        {"c0": (-6.0, 6.0), "c1": (-6.0, 6.0), "f1": (0.02, 20.0)},
        lambda x: {"c0": np.array([0.03, 0.3, 1.0]), "c1": np.array([-0.5, 0.3, 1.0, 3.0]),
                   "d1": 10 ** decades(x[0], 0.0, 7), "f1": np.array([0.1, 0.4, 1.0])},
        "a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1): one break", "any budget -> any",
        "Caballero et al. 2022, arXiv 2210.14891", linear=("a", "b"), logs=("d1", "f1"),
        rescale=scaled(lambda a, b, c0, c1, d1, f1: [(0, c0, 0, 0, 1, 0)])),
    # At k votes the problems whose margin is within 1/sqrt(k) of a tie are undecided; a density of
    # margins that is finite at zero leaves a share of them that falls as 1/sqrt(k).
    Law("saturating_majority", ("first", "ceiling", "scale"), saturating_majority,
        {"first": SHARE, "ceiling": SHARE, "scale": (1e-3, 1e9)},
        lambda x: {"scale": spread(0.05, 50 * x[0].max(), 48)},
        "ceiling - (ceiling - first) / sqrt(1 + (k - 1) / scale)", "votes -> majority's accuracy",
        "derived here from a density of vote margins that is finite at a tie",
        linear=("first", "ceiling"), logs=("scale",), share=True, of_samples=True),
    Law("chinchilla", ("E", "A", "B", "alpha", "beta"), chinchilla,
        {"E": (1e-6, INF), "alpha": (0.0, 3.0), "beta": (0.0, 3.0)},
        lambda x: {"alpha": spread(0.03, 2.0, 15), "beta": spread(0.03, 2.0, 15)},
        "E + A / N^alpha + B / D^beta", "(parameters N, tokens D) -> loss in nats",
        "Hoffmann et al. 2022, arXiv 2203.15556; Besiroglu et al. 2024, arXiv 2404.10102",
        linear=("E", "A", "B"), logs=("E", "A", "B"), log_response=True, axes=2,
        rescale=scaled(lambda e, a, b, alpha, beta: [(0, alpha, 0, 0, 0), (0, 0, beta, 0, 0)])),
    Law("over_training", ("E", "a", "b", "eta"), over_training, {"eta": (1e-3, 2.0)},
        lambda x: {"eta": spread(0.01, 1.0, 48)}, "E + (a M^eta + b M^-eta) C^-eta",
        "(training FLOPs C = 6 N D, tokens per parameter M = D / N) -> loss in nats",
        "Gadre et al. 2024, arXiv 2403.08540", linear=("E", "a", "b"), axes=2,
        rescale=scaled(lambda e, a, b, eta: [(0, eta, eta, 0), (0, -eta, eta, 0)])),
    distribution("beta_binomial", ("alpha", "beta"), beta_density, 150.0,
                 "pass@k = 1 - B(alpha, beta + k) / B(alpha, beta)"),
    distribution("beta_binomial_zero", ("alpha", "beta", "impossible"), beta_density, 150.0,
                 "pass@k = (1 - impossible) (1 - B(alpha, beta + k) / B(alpha, beta))"),
    distribution("kumaraswamy", ("a", "b"), kumaraswamy_density, 15.0,
                 "pass@k = 1 - E (1 - p)^k, p of density a b p^(a-1) (1 - p^a)^(b-1)"),
    distribution("kumaraswamy_zero", ("a", "b", "impossible"), kumaraswamy_density, 15.0,
                 "the same times 1 - impossible"),
)
# fmt: on
LAWS = {law.name: law for law in TABLE}

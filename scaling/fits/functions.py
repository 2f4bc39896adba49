"""The functions of the laws: each takes the axes, then the parameters, and returns its value.

It returns the derivative by each parameter too, for speed; a function that returns the value alone
is differentiated numerically (`laws.Law.terms`). The rows that use them are in `scaling.fits.laws`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.special import betaln, digamma, expit, ndtr

Array = np.ndarray
Axes = tuple[Array, ...]
Terms = tuple[Array, tuple[Array, ...]]  # value, derivative by each parameter
Link = Callable[[Array], tuple[Array, Array]]  # inverse link and its slope
LOGITS = np.linspace(-25.0, 25.0, 501)  # where a distribution of success rates is evaluated
NODES = np.linspace(-6.0, 6.0, 81)  # standard normal difficulties
MASS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()


# ---------------------------------------------------------------- functions of one axis, and losses
def power(x: Array, a: Array, b: Array) -> Terms:
    t = x**b
    return a * t, (t, a * t * np.log(x))


def power_floor(x: Array, a: Array, b: Array, floor: Array) -> Terms:
    t = x**b
    return floor + a * t, (t, a * t * np.log(x), np.ones_like(t))


def log_line(x: Array, a: Array, b: Array) -> Terms:
    log = np.log10(x)
    return a + b * log, (np.ones_like(log), log)


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


# ---------------------------------------------------------------- train and test compute
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


def item_response(c: Array, k: Array, ability: Array, growth: Array, spread: Array) -> Terms:
    decade = np.log10(c)
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


@lru_cache(maxsize=8)  # called hundreds of times in a fit
def misses(k: tuple[float, ...]) -> Array:
    """Return (1 - p)^k at the nodes of `weigh`, (nodes + 2, k)."""
    log_miss = np.concatenate([[0.0], -np.logaddexp(0, LOGITS), [-1e300]])  # log(1 - p)
    return np.exp(np.maximum(log_miss[:, None] * np.array(k), -700.0))

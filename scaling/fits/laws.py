"""The table of scaling laws: each one's function, starting values of its parameters, and source.

A law is a row of `LAWS`; `fit`, `forecast` and the command line need nothing else. Its function
takes the axes, then the parameters in the order of `Law.params`. Laws of one axis describe a curve.
Laws of several axes that are accuracies (`joint_laws`) describe training and test compute together.
Laws of a distribution (`Law.density`) describe success rates over problems; they are fitted to
counts and predict pass@k for any k.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from scaling.fits import functions as f
from scaling.fits.functions import Array, Axes, Terms

INF = np.inf


@dataclass(frozen=True)
class Law:
    """One functional form: how to evaluate it, its parameters' ranges and starting values."""

    name: str  #: public name, key of `LAWS`
    params: tuple[str, ...]  #: parameter names, in order
    function: Callable[..., Terms | Array]  #: (*axes, *params) -> value, or value and derivatives
    bounds: dict[str, tuple[float, float]]  #: allowed ranges; a parameter not named is unbounded
    search: Callable[[Axes], dict[str, Array]]  #: starting values of the non-linear parameters
    formula: str  #: in terms of `params`, or of the numbers that `printed` returns
    units: str  #: of the axes and of the value
    source: str  #: where the law comes from
    linear: tuple[str, ...] = ()  #: parameters in which the value is linear: solved, not searched
    logs: tuple[str, ...] = ()  #: positive parameters, searched on a log scale
    rescale: Callable[[Array, list[float]], Array] | None = None  #: to params of (axes times units)
    log_response: bool = False  #: compare log y, not y
    density: Callable[..., Terms] | None = None  #: log density of logit(success rate)
    axes: int = 1  #: number of axes
    share: bool = False  #: the value is an accuracy: y outside 0 to 1 is refused
    of_samples: bool = False  #: x counts samples or votes: a curve in another unit is refused
    #: (*params) -> the numbers of `formula`, where others are easier to read than the parameters
    printed: Callable[..., dict[str, Array]] | None = None

    @cached_property
    def is_log(self) -> Array:
        """Return which parameters (parameters,) bool are searched on a log scale."""
        return np.array([name in self.logs for name in self.params])

    def limits(self) -> tuple[Array, Array]:
        """Return the lowest and the highest unconstrained value of each parameter."""
        default = {name: (1e-300 if name in self.logs else -INF, INF) for name in self.params}
        low, high = self.to_unconstrained(np.array(list((default | self.bounds).values())).T)
        return low, high

    def to_unconstrained(self, p: Array) -> Array:
        """Return the optimiser's coordinates: logarithms of the parameters in `logs`."""
        return np.where(self.is_log, np.log(np.where(self.is_log, p, 1.0)), p)

    def from_unconstrained(self, z: Array) -> Array:
        """Return the parameters of unconstrained values `z`."""
        if not self.logs:
            return z
        return np.where(self.is_log, np.exp(np.where(self.is_log, z, 0.0)), z)

    def terms(self, x: Axes, z: Array) -> tuple[Array, Array]:
        """Return the value (..., points) and its slopes by z (..., points, parameters).

        Slopes that the function does not return are central differences.
        """
        p = self.from_unconstrained(z)
        found = self.function(*x, *(p[..., i, None] for i in range(len(self.params))))
        if not isinstance(found, tuple):
            steps = 1e-6 * np.maximum(np.abs(z), 1.0)[..., None] * np.eye(len(self.params))
            ends = (
                self._value(x, self.from_unconstrained(z + sign * steps[..., i, :]))
                for i in range(len(self.params))
                for sign in (1, -1)
            )
            rise = np.stack([up - down for up, down in zip(ends, ends, strict=True)], -1)
            return found, rise / (2 * np.diagonal(steps, axis1=-2, axis2=-1)[..., None, :])
        value, parts = found
        slopes = np.empty((*value.shape, len(parts)))
        for i, (name, part) in enumerate(zip(self.params, parts, strict=True)):
            slopes[..., i] = part * p[..., i, None] if name in self.logs else part
        return value, slopes

    def _value(self, x: Axes, p: Array) -> Array:
        found = self.function(*x, *np.moveaxis(np.asarray(p, float), -1, 0)[..., None])
        return found[0] if isinstance(found, tuple) else found

    def split(self, x: Array | Axes) -> Axes:
        """Return `x` as one array per axis; ValueError for another number of axes."""
        axes = tuple(np.asarray(axis, float) for axis in (x if isinstance(x, tuple) else (x,)))
        if len(axes) != self.axes:
            raise ValueError(f"{self.name} takes {self.axes} axes, {self.units}; got {len(axes)}")
        return axes

    def predict(self, x: Array | Axes, p: Array) -> Array:
        """Return the value (..., points) at `x` (a tuple of axes) for p (..., parameters).

        NaN where an axis is not positive: laws use its logarithm.
        """
        axes = self.split(x)
        with np.errstate(all="ignore"):
            value = self._value(axes, p)
        positive = np.all(np.broadcast_arrays(*(axis > 0 for axis in axes)), axis=0)
        return np.where(positive, value, np.nan)

    def numbers(self, p: Array) -> dict[str, Array]:
        """Return the numbers of `formula` by name, for parameters p (..., parameters)."""
        columns = dict(zip(self.params, np.moveaxis(np.asarray(p, float), -1, 0), strict=True))
        with np.errstate(all="ignore"):
            return self.printed(*columns.values()) if self.printed else columns

    def written(self, p: Array) -> str:
        """Return the formula with the numbers that parameters p (parameters,) give.

        >>> LAWS["exp_power"].written(np.array([-2.0, -0.5]))
        'exp(-(x / 4)^-0.5)'
        """
        values = self.numbers(p)
        name = re.compile(rf"(?<![\w@])({'|'.join(map(re.escape, values))})(?![\w(])")
        text = name.sub(lambda found: f"{float(values[found[1]]):.4g}", self.formula)
        return text.replace("+ -", "- ").replace("- -", "+ ")


# ---------------------------------------------------------------- starting values, changes of unit
def spread(low: float, high: float, count: int = 16) -> Array:
    """Return `count` values from `low` to `high`, even in their logarithm, signed as `low`."""
    return np.sign(low) * np.geomspace(abs(low), abs(high), count)


def decades(axis: Array, beyond: float = 0.5, count: int = 16) -> Array:
    """Return log10 positions over the range of an axis, extended by `beyond` of it on each side."""
    low, high = np.log10(axis.min()), np.log10(axis.max())
    return np.linspace(low - beyond * (high - low), high + beyond * (high - low), count)


def scaled(powers: Callable[..., list[tuple]]) -> Callable[[Array, list[float]], Array]:
    """Return a `Law.rescale`; `powers(*params)`: per axis, each parameter's power of the unit."""

    def rescale(p: Array, units: list[float]) -> Array:
        rows = zip(powers(*np.moveaxis(p, -1, 0)), units, strict=True)
        return p * np.exp(sum(np.stack(np.broadcast_arrays(*e), -1) * np.log(u) for e, u in rows))

    return rescale


def shift(p: Array, units: list[float]) -> Array:
    """Return plane parameters of (axes times units): only the intercept moves."""
    moved = p.copy()
    moved[..., 0] -= p[..., 1:3] @ np.log10(units)
    return moved


def distribution(
    name: str, params: tuple[str, ...], density: Callable[..., Terms], highest: float, formula: str
) -> Law:
    """Return the law of a distribution of success rates; a third parameter is a share of zeros.

    highest: bound of the first parameter, beyond which the density falls between two nodes.
    """
    grid = {name: spread(0.02, 20.0, 4) for name in params[:2]}
    bounds = {params[0]: (1e-4, highest), params[1]: (1e-4, 1e5)}
    if len(params) == 3:
        grid, bounds = grid | {params[2]: np.array([0.01, 0.2])}, bounds | {params[2]: SHARE}
    units = "per problem: n samples, c correct (or a coverage curve) -> pass@k"
    source = "Schaeffer et al. 2025, arXiv 2502.17578; Kazdan et al. 2025, arXiv 2510.05197"
    return Law(name, params, f.coverage(density), bounds, lambda x: grid, formula, units, source,
               logs=params[:2], density=density, share=True, of_samples=True)  # fmt: skip


# ---------------------------------------------------------------- the table
BOTH_SIGNS = np.concatenate([spread(-0.02, -4.0), spread(0.02, 2.0, 8)])  # exponents
SHARE = (0.0, 1.0)  # bounds of an accuracy
PLANE = {"intercept": np.linspace(-5, 5, 9), "train": np.linspace(0.1, 4, 6),
         "test": np.linspace(0.1, 4, 6)}  # fmt: skip
SUM = "intercept + train log10 C + test log10 T"
COMPUTE = "(train_flops C, test_flops T) -> accuracy"
JONES = "Jones 2021, arXiv 2104.03113"

# fmt: off
TABLE = (
    # one axis
    Law("power", ("a", "b"), f.power, {}, lambda x: {"b": BOTH_SIGNS},
        "a x^b", "any budget -> any", "Kaplan et al. 2020, arXiv 2001.08361",
        linear=("a",), rescale=scaled(lambda a, b: [(-b, 0)])),
    Law("power_floor", ("a", "b", "floor"), f.power_floor, {"b": (-6.0, -1e-3)},
        lambda x: {"b": spread(-0.02, -4.0, 48)}, "floor + a x^b", "any budget -> any",
        "Hestness et al. 2017, arXiv 1712.00409; Henighan et al. 2020, arXiv 2010.14701",
        linear=("a", "floor"), rescale=scaled(lambda a, b, floor: [(-b, 0, 0)])),
    Law("log_line", ("a", "b"), f.log_line, {}, lambda x: {}, "a + b log10 x",
        "any budget -> accuracy", "the axes of OpenAI, Learning to reason, 2024",
        linear=("a", "b")),
    Law("exp_power", ("a", "b"), f.exp_power, {"a": (-INF, 0.0), "b": (-6.0, 6.0)},
        lambda x: {"a": spread(-0.003, -12.0), "b": BOTH_SIGNS},
        "exp(-(x / x0)^b)", "samples -> coverage", "Brown et al. 2024, arXiv 2407.21787",
        share=True, rescale=scaled(lambda a, b: [(-b, 0)]),
        printed=lambda a, b: {"x0": (-a) ** (-1 / b), "b": b}),  # exp(a x^b)
    Law("sigmoid", ("lower", "upper", "midpoint", "slope"), f.sigmoid,
        {"lower": SHARE, "upper": SHARE, "slope": (1e-3, 1e3)},
        lambda x: {"midpoint": decades(x[0]), "slope": spread(0.3, 30.0, 12)},
        "lower + (upper - lower) / (1 + exp(-slope (log10 x - midpoint)))",
        "budget -> accuracy; slope per decade", "Ruan et al. 2024, arXiv 2405.10938",
        linear=("lower", "upper"), logs=("slope",), share=True,
        rescale=lambda p, units: p + np.log10(units[0]) * np.array([0, 0, 1, 0])),
    Law("bnsl", ("a", "b", "c0", "c1", "d1", "f1"), f.bnsl,
        {"c0": (-6.0, 6.0), "c1": (-6.0, 6.0), "f1": (0.02, 20.0)},
        lambda x: {"c0": np.array([0.03, 0.3, 1.0]), "c1": np.array([-0.5, 0.3, 1.0, 3.0]),
                   "d1": 10 ** decades(x[0], 0.0, 7), "f1": np.array([0.1, 0.4, 1.0])},
        "a + b x^-c0 (1 + (x / d1)^(1 / f1))^(-c1 f1)", "any budget -> any",
        "Caballero et al. 2022, arXiv 2210.14891", linear=("a", "b"), logs=("d1", "f1"),
        rescale=scaled(lambda a, b, c0, c1, d1, f1: [(0, c0, 0, 0, 1, 0)])),
    # At k votes the problems whose margin is within 1/sqrt(k) of a tie are undecided; a density of
    # margins that is finite at zero leaves a share of them that falls as 1/sqrt(k).
    Law("saturating_majority", ("first", "ceiling", "scale"), f.saturating_majority,
        {"first": SHARE, "ceiling": SHARE, "scale": (1e-3, 1e9)},
        lambda x: {"scale": spread(0.05, 50 * x[0].max(), 48)},
        "ceiling - (ceiling - first) / sqrt(1 + (k - 1) / scale)", "votes -> majority's accuracy",
        "derived here from a density of vote margins that is finite at a tie",
        linear=("first", "ceiling"), logs=("scale",), share=True, of_samples=True),
    # losses
    Law("chinchilla", ("E", "A", "B", "alpha", "beta"), f.chinchilla,
        {"E": (1e-6, INF), "alpha": (0.0, 3.0), "beta": (0.0, 3.0)},
        lambda x: {"alpha": spread(0.03, 2.0, 15), "beta": spread(0.03, 2.0, 15)},
        "E + A / N^alpha + B / D^beta", "(parameters N, tokens D) -> loss in nats",
        "Hoffmann et al. 2022, arXiv 2203.15556; Besiroglu et al. 2024, arXiv 2404.10102",
        linear=("E", "A", "B"), logs=("E", "A", "B"), log_response=True, axes=2,
        rescale=scaled(lambda e, a, b, alpha, beta: [(0, alpha, 0, 0, 0), (0, 0, beta, 0, 0)])),
    Law("over_training", ("E", "a", "b", "eta"), f.over_training, {"eta": (1e-3, 2.0)},
        lambda x: {"eta": spread(0.01, 1.0, 48)}, "E + (a M^eta + b M^-eta) C^-eta",
        "(training FLOPs C = 6 N D, tokens per parameter M = D / N) -> loss in nats",
        "Gadre et al. 2024, arXiv 2403.08540", linear=("E", "a", "b"), axes=2,
        rescale=scaled(lambda e, a, b, eta: [(0, eta, eta, 0), (0, -eta, eta, 0)])),
    # distributions of success rates
    distribution("beta_binomial", ("alpha", "beta"), f.beta_density, 150.0,
                 "1 - B(alpha, beta + k) / B(alpha, beta)"),
    distribution("beta_binomial_zero", ("alpha", "beta", "impossible"), f.beta_density, 150.0,
                 "(1 - impossible) (1 - B(alpha, beta + k) / B(alpha, beta))"),
    distribution("kumaraswamy", ("a", "b"), f.kumaraswamy_density, 15.0,
                 "1 - E (1 - p)^k, p ~ Kumaraswamy(a, b)"),
    distribution("kumaraswamy_zero", ("a", "b", "impossible"), f.kumaraswamy_density, 15.0,
                 "(1 - impossible) (1 - E (1 - p)^k), p ~ Kumaraswamy(a, b)"),
    # accuracy by train and test compute
    *(Law(f"plane_{link.__name__}", ("intercept", "train", "test"), partial(f.plane, link=link), {},
          lambda x: PLANE, f"{link.__name__}^-1({SUM})", COMPUTE, JONES, axes=2, share=True,
          rescale=shift)
      for link in (f.logit, f.probit, f.loglog)),
    Law("jones", ("intercept", "train", "test", "plateau"), f.jones, {},
        lambda x: PLANE | {"plateau": np.array([-2.0, 0.0, 2.0, 5.0])},
        f"logit^-1(min(plateau, {SUM}))", COMPUTE, JONES, axes=2, share=True, rescale=shift),
    Law("item_response", ("ability", "growth", "spread"), f.item_response, {"spread": (1e-3, 50.0)},
        lambda x: {"ability": np.linspace(-12, 6, 10), "growth": np.linspace(0.1, 5, 6),
                   "spread": spread(0.2, 8.0, 6)},
        "E 1 - (1 - p)^k, logit p = ability + growth log10(C / C0) - spread z, z ~ N(0, 1)",
        "(train_flops C / C0, samples k) -> coverage",
        "Rasch's model of items; pass@k as in Chen et al. 2021, arXiv 2107.03374",
        axes=2, share=True, logs=("spread",)),
    Law("emergence", ("top", "middle", "growth", "size", "precision"), f.emergence,
        {"growth": (0.02, 20.0), "size": (-2.0, 2.0), "precision": (0.05, 1e4),
         "top": (-10.0, 10.0)},
        lambda x: {"top": np.array([-1.0, 1.0, 3.0]), "growth": spread(0.2, 3.0, 5),
                   "middle": np.log10(np.quantile(x[0] / x[2] ** 0.5, [0.1, 0.3, 0.5, 0.7, 0.9])),
                   "size": np.array([0.5]), "precision": np.array([1.0, 5.0])},
        "1 - E (1 - p)^k, p ~ Beta(precision m, precision (1 - m)), "
        "logit m = top - (10^middle N^size / C)^growth",
        "(train_flops C, samples k, parameters N) -> coverage",
        "the data term of Hoffmann et al. 2022, arXiv 2203.15556, as an ability",
        axes=3, share=True, logs=("growth", "precision")),
    Law("additive", ("ceiling", "A", "B", "alpha", "beta"), f.additive,
        {"ceiling": SHARE, "A": (1e-9, 1e9), "B": (1e-9, 1e9),
         "alpha": (0.0, 3.0), "beta": (0.0, 3.0)},
        lambda x: {"A": spread(0.03, 3.0, 6), "B": spread(0.03, 3.0, 6),
                   "alpha": spread(0.05, 1.0, 6), "beta": spread(0.05, 1.0, 6)},
        "ceiling exp(-A / C^alpha - B / T^beta)", COMPUTE,
        "the form of Hoffmann et al. 2022, arXiv 2203.15556, for -log accuracy",
        linear=("ceiling",), axes=2, share=True, logs=("A", "B"),
        rescale=scaled(lambda y, a, b, alpha, beta: [(0, alpha, 0, 0, 0), (0, 0, beta, 0, 0)])),
)
# fmt: on
LAWS = {law.name: law for law in TABLE}


def joint_laws() -> dict[str, Law]:
    """Return the laws of accuracy as a function of training and test compute, by name."""
    return {name: law for name, law in LAWS.items() if law.axes > 1 and law.share}

"""A curve and a law fitted to it: data that shows itself, and calls what fits and draws it.

Not here: how curves are computed (`runs`), laws and fitting (`fits`), figures (`figures`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling import show

if TYPE_CHECKING:
    import pandas as pd


MIN_REPLICATES = 20  #: for an interval


def ends(values: np.ndarray, level: float = 0.95, **method: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval over values (replicates, ...); NaN below MIN_REPLICATES."""
    if len(values) < MIN_REPLICATES:
        return (np.full(values.shape[1:], np.nan),) * 2
    tails = np.round([(1 - level) / 2, (1 + level) / 2], 12)
    low, high = np.quantile(values, tails, axis=0, **method)
    return low, high


def onward(module: str, name: str) -> Any:
    """Return a function of a module that is loaded on first use, such as fitting or drawing."""
    return getattr(import_module(f"scaling.{module}"), name)


@dataclass(frozen=True)
class Curve:
    """Accuracy against budget; `replicates` are bootstrap curves, from which laws are refitted.

    >>> import scaling as sc
    >>> curve = sc.read_counts("tests/data/counts.csv")[0].curve(level="easy")
    >>> curve.frame.round(3).iloc[[0, -1], :4].values.tolist()
    [[1.0, 0.094, 0.049, 0.519], [32.0, 1.0, 0.531, 1.0]]
    """

    x: np.ndarray  #: (points,) budget, in `x_unit`
    y: np.ndarray  #: (points,) estimate; NaN where undefined
    low: np.ndarray  #: (points,) lower end of the 95 % interval
    high: np.ndarray  #: (points,) upper end
    replicates: np.ndarray  #: (replicates, points) the same curve on resampled problems and samples
    x_unit: str = "samples"  #: samples, tokens, flops, seconds, price
    estimator: str = ""  #: e.g. "pass_at_k"
    n_problems: int = 0  #: problems behind the estimate
    n_missing: int = 0  #: samples or problems that could not be counted
    label: str = ""  #: for legends

    @property
    def frame(self) -> pd.DataFrame:
        """Return one row per budget: its unit's name, accuracy, low, high, n_problems."""
        import pandas as pd

        columns = {self.x_unit: self.x, "accuracy": self.y, "low": self.low, "high": self.high}
        return pd.DataFrame(columns | {"n_problems": self.n_problems})

    def fit(self, law: str, **options: Any) -> Fit:
        """Return a law fitted to the curve and to each replicate; see `scaling.fits.fit`."""
        fitted: Fit = onward("fits", "fit")(law, self, **options)
        return fitted

    def plot(self, ax: Any = None, **style: Any) -> Any:
        """Draw the curve with its band on matplotlib axes, new ones by default; return the axes."""
        ax = onward("figures.plots", "new_axes")() if ax is None else ax
        onward("figures.plots", "draw_curve")(ax, self, **style)
        return ax

    def __repr__(self) -> str:
        """Return the curve's name, size and ends with intervals in one line."""
        ends = list(zip(self.x, self.y, self.low, self.high, strict=True))
        shown = [f"{show.with_interval(*end)} at {show.number(float(x))} {self.x_unit}"
                 for x, *end in ends[:: max(1, len(ends) - 1)]]  # fmt: skip
        size = f"{len(ends)} points, {self.n_problems} problems"
        return f"Curve({', '.join([*filter(None, (self.label, self.estimator)), size, *shown])})"

    def _repr_html_(self) -> str:
        title = f"{self.label}: {self.estimator}" if self.label else self.estimator
        return self.card(title, {"problems": self.n_problems, "missing": self.n_missing})

    def card(self, title: str, facts: dict[str, Any], what: str = "accuracy") -> str:
        """Return a card with facts, the curve's ends with intervals, and a picture, as HTML."""
        for at in sorted({0, len(self.x) - 1}):
            name = f"{what} at {show.number(float(self.x[at]))} {self.x_unit}"
            facts = facts | {name: show.with_interval(self.y[at], self.low[at], self.high[at])}
        return show.card(title, facts, show.picture(self.x, self.y, self.low, self.high))


@dataclass(frozen=True)
class Fit:
    """A law fitted to a curve and to each of its replicates.

    >>> import scaling as sc
    >>> law = sc.read_counts("tests/data/counts.csv")[0].curve(level="easy").fit("exp_power")
    >>> law.success, [round(value, 2) for value in law.params.values()]
    (True, [-4.49, -1.11])
    """

    law: str  #: a name in `scaling.fits.laws.LAWS`
    params: dict[str, float]  #: best fit
    interval: dict[str, tuple[float, float]]  #: 95 % interval of each parameter
    replicates: np.ndarray  #: (replicates, parameters) refits; NaN rows failed
    success: bool  #: False: `message` says what to try
    message: str
    rmse: float  #: root mean squared error over the fitted points
    n_points: int
    n_failed: int  #: replicates that could not be fitted
    function: Callable[..., np.ndarray] = field(repr=False, compare=False)  #: (x, parameters) -> y
    formula: str = ""  #: the law with its numbers
    n_problems: int = 0  #: problems behind the points; 0 where unknown
    #: numbers in `formula`: estimate, low, high; the parameters, or those that are printed instead
    numbers: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    x_unit: str = ""  #: of the fitted curve

    @property
    def frame(self) -> pd.DataFrame:
        """Return one row per parameter: estimate, low, high."""
        import pandas as pd

        rows = [(name, value, *self.interval[name]) for name, value in self.params.items()]
        return pd.DataFrame(rows, columns=["parameter", "estimate", "low", "high"])

    def _rows(self) -> list[dict[str, Any]]:
        """Return the rows of the printed table, one per number of the formula."""
        names = ("parameter", "estimate", "low", "high")
        return [dict(zip(names, (k, *v), strict=True)) for k, v in self.numbers.items()]

    def _facts(self) -> dict[str, Any]:
        unit = f", x in {self.x_unit}" if self.x_unit else ""
        facts: dict[str, Any] = {"formula": f"y = {self.formula}{unit}"}
        facts |= {"success": self.success, "message": self.message, "rmse": self.rmse}
        facts |= {"points": self.n_points}
        facts |= {"problems": self.n_problems} if self.n_problems else {}
        refits = f"{len(self.replicates) - self.n_failed} of {len(self.replicates)}"
        return facts | {"replicates fitted": refits}

    def __repr__(self) -> str:
        """Return the law with its numbers and whether the fit succeeded, in one line."""
        return f"Fit({self.law}: {self._facts()['formula']}; {self.message})"

    def __str__(self) -> str:
        import pandas as pd

        facts = "\n".join(f"{name}: {show.number(v)}" for name, v in self._facts().items())
        table = pd.DataFrame(self._rows()).map(show.number).to_string(index=False)
        return f"{self.law}, 95 % intervals\n{table}\n{facts}"

    def _repr_html_(self) -> str:
        """Return the parameters with intervals as a card for a notebook."""
        title = f"{self.law}, 95 % intervals"
        return show.card(title, self._facts(), show.table_html(self._rows()))

    def summary(self) -> str:
        """Return the formula, the parameters with 95 % intervals and the fit's quality, as text."""
        return str(self)

    def plot(self, x: Any, ax: Any = None, **style: Any) -> Any:
        """Draw the law over `x` with its band on matplotlib axes; return the axes."""
        ax = onward("figures.plots", "new_axes")() if ax is None else ax
        onward("figures.plots", "draw_fit")(ax, self, np.asarray(x, float), **style)
        return ax

    def predict(self, x: Any) -> np.ndarray:
        """Return the law at `x` (a tuple of arrays for several axes), in the unit of y."""
        return self.function(x, np.array(list(self.params.values())))

    @property
    def refits(self) -> np.ndarray:
        """Return the parameters of the replicates that could be fitted, (refits, parameters)."""
        return self.replicates[np.isfinite(self.replicates).all(-1)]

    def band(self, x: Any, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the law's pointwise interval at `x`, from the refitted replicates.

        NaN when fewer than 20 replicates could be fitted.
        """
        return ends(self.function(x, self.refits), level)

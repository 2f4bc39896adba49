"""Look around in logged runs from a notebook: curves, fits, residuals and forecasts at a click.

`explore(root)` returns a widget; what it shows is made by plain functions, which tests and scripts
can call. Nothing is estimated or fitted here by other means than the package's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling import show
from scaling.figures import plots
from scaling.figures.names import disambiguate, selector_name
from scaling.figures.plane import summary
from scaling.figures.screen import picture
from scaling.fits import fit, forecast
from scaling.fits.laws import LAWS
from scaling.records import Curve, Fit, look_up
from scaling.runs import PRICES, UNITS, Run, Runs

CODE = """\
from dataclasses import replace

from scaling.figures import plots
from scaling.fits import fit, forecast
from scaling.runs import load_run

pool = load_run({path!r}).at_prices({prices})
points = pool.curve({selector!r}, {unit!r}, {level!r})
{fitting}
with plots.style():
    fig, axes = plots.figure(1, 2, height=2.6)
    plots.draw_forecast(axes[0][0], points, fitted)
    plots.draw_residuals(axes[0][1], points, fitted)
"""
APART = "<style>.scaling-explorer :is(td,th){padding:0 .8em 0 0}</style>"
QUICK = 22  #: replicates that a law is refitted to on the screen; all where a figure is saved
STARTS = 8  #: on the screen, of a law of a distribution, which weighs 500 nodes at each step


@dataclass(frozen=True)
class Choice:
    """What the explorer shows."""

    run: str  #: name of the run's folder
    selector: str = "coverage"
    unit: str = "samples"  #: one of `curves.UNITS`
    level: str = "all"
    law: str = "exp_power"
    share: float = 1.0  #: the law is fitted to budgets up to this share of the largest
    prices: tuple[float, float] = PRICES  #: per million input and output tokens


@dataclass(frozen=True)
class View:
    """What a choice gives."""

    curve: Curve
    fitted: Fit | None  #: None: `message` says why there is no fit
    held_out: pd.DataFrame  #: measured, predicted and error at the budgets not fitted
    message: str = ""


def find(study: Runs, name: str) -> Run:
    """Return the pool of a run's folder."""
    return look_up({pool.path.name: pool for pool in study}, name, "run")


def view(study: Runs, choice: Choice, replicates: int | None = None) -> View:
    """Return curve, fit and forecast of a choice; a change of unit re-prices the same curve.

    replicates: how many of the curve's the law is refitted to, quickly; None is all, with care.
    """
    pool, law = find(study, choice.run), look_up(LAWS, choice.law, "law")
    found = study.curve(pool, choice.selector, "samples", choice.level)
    if choice.unit != "samples":
        priced = pool.at_prices(choice.prices) if choice.unit == "price" else pool
        cost = priced.cost(choice.unit, pool.budgets(), selector=choice.selector)
        x = cost[pool.rows(choice.level)].mean(axis=0)
        found = replace(found, x=x, x_unit=choice.unit)
    if not (found.y > 0).any():
        return View(found, None, pd.DataFrame(), "no sample was right, or no budget can be read")
    refitted = replace(found, replicates=found.replicates[:replicates])
    try:
        if choice.share < 1:
            return View(found, *forecast(choice.law, refitted, choice.share))
        few = replicates is not None and law.density
        fitted = fit(choice.law, refitted, starts=STARTS if few else None)
    except ValueError as reason:
        return View(found, None, pd.DataFrame(), str(reason))
    return View(found, fitted, pd.DataFrame())


def draw(seen: View):
    """Return a figure of a view: curve with law and forecast, and residuals."""
    from matplotlib.figure import Figure

    with plots.style():
        fig = Figure(figsize=(plots.PAGE, 2.6), layout="constrained")
        left, right = fig.subplots(1, 2)
        if seen.fitted is None:
            right.axis("off")
        if not np.isfinite(seen.curve.x * seen.curve.y).any():
            left.axis("off")
        elif seen.fitted is None:
            plots.draw_curve(left, seen.curve, **plots.series_style(0))
        else:
            plots.draw_forecast(left, seen.curve, seen.fitted)
            plots.draw_residuals(right, seen.curve, seen.fitted)
    return fig


def code(study: Runs, choice: Choice) -> str:
    """Return Python that draws a choice's figure from the log."""
    fitting = f"fitted = fit({choice.law!r}, points)"
    if choice.share < 1:
        fitting = f"fitted, held_out = forecast({choice.law!r}, points, share={choice.share:.6g})"
    parts = vars(choice) | {"path": str(find(study, choice.run).path), "fitting": fitting}
    return CODE.format(**parts)


def report(seen: View) -> str:
    """Return the fit's table and the forecast's errors as HTML."""
    if seen.fitted is None:
        return f"<p>no fit: {show.verbatim(seen.message)}</p>"
    html = seen.fitted._repr_html_()
    if (drawn := len(seen.curve.replicates)) > (used := len(seen.fitted.replicates)):
        html += (
            f"<p>on the screen the law is refitted to {used} of {drawn:,} replicates: its "
            "intervals are rough; a saved figure uses all</p>"
        )
    if len(seen.held_out):
        columns = ["x", "y", "predicted", "low", "high", "error"]
        rows = [dict(zip(columns, r, strict=True)) for r in seen.held_out[columns].to_numpy()]
        html += f"<p>held out</p>{show.table_html(rows)}"
    return html


def named(pools: Sequence[Run]) -> dict[str, str]:
    """Return runs' folders by name; names that repeat tell the search's width or the grid too."""
    plans = [pool.plan for pool in pools]
    names = [f"{p.task} · {p.card.name} · {p.label}" for p in pools]
    sizes = [f"width {p.width}" if p.width else f"{p.chains} × {p.steps}" for p in plans]
    names = disambiguate(disambiguate(names, sizes), (run.short_hash for run in pools))
    return dict(zip(names, (pool.path.name for pool in pools), strict=True))


# ---------------------------------------------------------------- the explorer
def explore(root: str | Path | Runs, figures: str | Path = "build/figures"):
    """Return a widget: choose run, selector, unit, level, law and the budgets fitted.

    root: a folder of runs, or a `Runs` that is loaded. "save figure" writes into `figures`.
    """
    return Explorer(root if isinstance(root, Runs) else Runs.load(Path(root)), Path(figures)).box


class Explorer:
    """The widgets and what ties them to `view`; `choice` is what they stand at."""

    def __init__(self, study: Runs, figures: Path) -> None:
        import ipywidgets as w

        self.study, self.figures, self.busy = study, figures, False
        self.shown: dict[Choice, tuple[bytes, str]] = {}  # picture and table of what was chosen
        laws = [name for name, law in LAWS.items() if law.axes == 1]
        wide = {"layout": w.Layout(width="23em"), "style": {"description_width": "5em"}}
        plain = [pool for pool in study if pool.label == "best_of_n"]
        start = Runs(plain or study).closest(0.3).path.name
        self.run = w.Dropdown(options=named(study), value=start, description="run",
                              layout=w.Layout(width="40em"), style=wide["style"])  # fmt: skip
        self.selector = w.Dropdown(description="selector", **wide)
        self.level = w.Dropdown(description="level", **wide)
        units = {"cache traffic" if unit == "kv_bytes" else unit: unit for unit in UNITS}
        self.unit = w.Dropdown(options=units, description="budget in", **wide)
        self.law = w.Dropdown(options=laws, value="exp_power", description="law", **wide)
        self.upto = w.SelectionSlider(options=[1], description="fit up to", **wide)
        self.upto.continuous_update = False
        self.prices = [w.BoundedFloatText(p, min=0, max=1e9, description=f"{what} / M", **wide)
                       for p, what in zip(PRICES, ("input", "output"), strict=True)]  # fmt: skip
        self.picture = w.Image(format="svg+xml", layout=w.Layout(max_width="100%"))
        self.table, self.said, self.text = w.HTML(), w.HTML(), w.Textarea(disabled=True)
        self.text.layout = w.Layout(width="100%", height="16em", display="none")
        self.copier = w.Output()
        buttons = [w.Button(description=what) for what in ("save figure", "copy code")]
        for button, act in zip(buttons, (self.save, self.copy), strict=True):
            button.on_click(act)
        self.money = w.HBox(self.prices)
        self.box = w.VBox([
            w.HBox([self.run, self.selector, self.level, self.unit, self.law, self.upto],
                   layout=w.Layout(flex_flow="wrap")),
            self.money, self.picture, self.table, w.HBox(buttons), self.said, self.text,
            self.copier,
        ])  # fmt: skip
        self.box.add_class("scaling-explorer")
        self.fill()
        for widget in (self.run, self.selector, self.level, self.unit, self.law, self.upto,
                       *self.prices):  # fmt: skip
            widget.observe(self.changed, "value")

    @property
    def choice(self) -> Choice:
        """Return what the widgets stand at."""
        x = find(self.study, self.run.value).budgets()
        share = 1.0 if self.upto.value >= x[-1] else self._share(self.upto.value)
        return Choice(self.run.value, self.selector.value, self.unit.value, self.level.value,
                      self.law.value, share, tuple(p.value for p in self.prices))  # fmt: skip

    def _share(self, k: int) -> float:
        """Return the share of the largest cost at which k samples (or steps) stand."""
        pool = find(self.study, self.run.value)
        priced = pool.at_prices(tuple(p.value for p in self.prices))
        cost = priced.cost(self.unit.value, pool.budgets(), selector=self.selector.value)
        cost = cost[pool.rows(self.level.value)]
        cost = cost.mean(axis=0)
        return float(cost[list(pool.budgets()).index(k)] / cost[-1])

    def fill(self) -> None:
        """Offer what the chosen run holds, keeping what was chosen where it still can be; draw."""
        pool = find(self.study, self.run.value)
        called = {selector_name(name): name for name in pool.selectors}
        budgets = [int(k) for k in pool.budgets()]
        upto = budgets[1:] or budgets  # one budget is too few for any law
        offers = ((self.selector, called), (self.level, list(pool.levels)), (self.upto, upto))
        self.busy = True
        for widget, options in offers:
            kept = widget.value
            widget.options = options
            values = list(options.values()) if isinstance(options, dict) else options
            first = values[0] if widget is self.selector else values[-1]
            widget.value = kept if kept in values else first
        self.busy = False
        self.show()

    def changed(self, change: dict[str, Any]) -> None:
        """Answer a widget."""
        if not self.busy:
            self.fill() if change["owner"] is self.run else self.show()

    def show(self) -> None:
        """Draw the choice, or show it again."""
        choice = self.choice
        if choice not in self.shown:
            seen = view(self.study, choice, QUICK)
            self.shown[choice] = picture(seen.curve, seen.fitted), APART + report(seen)
        self.picture.value, self.table.value = self.shown[choice]
        self.money.layout.display = "" if self.unit.value == "price" else "none"
        self.text.layout.display, self.said.value = "none", ""

    def save(self, _: Any = None) -> None:
        """Write the figure as PDF, SVG and PNG with its sidecar."""
        self.said.value = "saving…"
        seen, choice = view(self.study, self.choice), self.choice
        run = find(self.study, choice.run)
        name = (
            f"explored_{run.path.name}_{choice.selector}_{choice.unit}_{choice.level}_{choice.law}"
        )
        name = re.sub("[ :]", "-", name)
        facts = vars(choice) | {"fit": seen.fitted and summary(seen.fitted)}
        paths = plots.save(draw(seen), name, self.figures, [run], facts, code(self.study, choice))
        self.said.value = "saved " + show.verbatim(", ".join(map(str, paths)))

    def copy(self, _: Any = None) -> None:
        """Show the code, and put it on the clipboard where the browser lets us."""
        from IPython.display import Javascript, display

        self.text.value = code(self.study, self.choice)
        self.text.layout.display = ""
        self.copier.clear_output()
        with self.copier:
            text = json.dumps(self.text.value)
            display(Javascript(f"navigator.clipboard?.writeText({text}).catch(() => null)"))

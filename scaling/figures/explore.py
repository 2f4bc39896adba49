"""Explore runs in a notebook: curves, laws, residuals and forecasts.

`explore(runs)` returns a widget; its content comes from plain functions that scripts can call.
Estimates and fits are those of the package.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling import show
from scaling.curves import Curve, Fit
from scaling.figures import plots
from scaling.figures.names import disambiguate, selector_name
from scaling.figures.plane import summary
from scaling.fits import fit, forecast
from scaling.fits.laws import LAWS
from scaling.records import look_up
from scaling.runs import PRICES, UNITS, Run, Runs

CODE = """\
import scaling as sc
from scaling.figures import plots
from scaling.fits import fit, forecast

run = {load}
points = run.at_prices({prices}).curve({selector!r}, {unit!r}, {level!r})
{fitting}
with plots.style():
    fig, axes = plots.figure(1, 2, height=2.6)
    plots.draw_forecast(axes[0][0], points, fitted)
    plots.draw_residuals(axes[0][1], points, fitted)
"""
CSS = "<style>.scaling-explorer :is(td,th){padding:0 .8em 0 0}</style>"
MARGINS = {"left": 0.08, "right": 0.99, "bottom": 0.17, "top": 0.96, "wspace": 0.28}
QUICK = 22  #: replicates that a law is refitted to on the screen; all where a figure is saved
STARTS = 8  #: starts of a law of a distribution on the screen, where each step weighs 500 nodes


@dataclass(frozen=True)
class Choice:
    """The state of the explorer."""

    run: str  #: a name in `run_names`
    selector: str = "coverage"
    unit: str = "samples"  #: one of `runs.UNITS`
    level: str = "all"
    law: str = "exp_power"
    share: float = 1.0  #: the law is fitted to budgets up to this share of the largest
    prices: tuple[float, float] = PRICES  #: per million input and output tokens


@dataclass(frozen=True)
class View:
    """The results of a choice."""

    curve: Curve
    fitted: Fit | None  #: None: `message` says why there is no fit
    held_out: pd.DataFrame  #: measured, predicted and error at the budgets not fitted
    message: str = ""


def run_names(runs: Iterable[Run]) -> dict[str, Run]:
    """Return runs by the name of their folder; imported ones by their file and model.

    Names that repeat are numbered.
    """
    runs = list(runs)
    names = [run.path.name + f": {run.card.name}" * run.imported for run in runs]
    return dict(zip(disambiguate(names, map(str, range(1, len(runs) + 1))), runs, strict=True))


def find(runs: Runs, name: str) -> Run:
    """Return the run with a name in `run_names`."""
    return look_up(run_names(runs), name, "run")


def menu(runs: Iterable[Run]) -> dict[str, str]:
    """Return {text of a menu: name in `run_names`}; repeated texts get a grid size or hash."""
    names, known = run_names(runs), list(run_names(runs).values())
    texts = [f"{run.task} · {run.card.name} · {run.label}" for run in known]
    plans = [run.plan for run in known]
    sizes = [f"width {p.width}" if p.width else f"{p.chains} × {p.steps}" for p in plans]
    texts = disambiguate(disambiguate(texts, sizes), (run.short_hash for run in known))
    return dict(zip(texts, names, strict=True))


def costs_of(run: Run, choice: Choice) -> np.ndarray:
    """Return the mean cost per problem of each budget of a choice."""
    priced = run.at_prices(choice.prices) if choice.unit == "price" else run
    cost = priced.cost(choice.unit, run.budgets(), selector=choice.selector)
    return np.asarray(cost[run.rows(choice.level)].mean(axis=0))


def view(runs: Runs, choice: Choice, replicates: int | None = None) -> View:
    """Return curve, fit and forecast of a choice; another unit re-prices the same curve.

    replicates: how many of the curve's the law is refitted to, quickly; None is all, with care.
    """
    run, law = find(runs, choice.run), look_up(LAWS, choice.law, "law")
    found = runs.curve(run, choice.selector, "samples", choice.level)
    found = replace(found, x=costs_of(run, choice), x_unit=choice.unit)
    nothing = View(found, None, pd.DataFrame())
    if not np.isfinite(found.x).any():
        return replace(nothing, message=f"the cost in {choice.unit} of this run is unknown")
    if not (found.y > 0).any():
        return replace(nothing, message="no sample was right, or no budget can be read")
    refitted = replace(found, replicates=found.replicates[:replicates])
    try:
        if choice.share < 1:
            return View(found, *forecast(choice.law, refitted, choice.share))
        few = replicates is not None and law.density
        return replace(nothing, fitted=fit(choice.law, refitted, starts=STARTS if few else None))
    except ValueError as reason:
        return replace(nothing, message=str(reason))


def draw(seen: View, layout: Any = "constrained"):
    """Return a figure of a view: curve with law and forecast, and residuals."""
    from matplotlib.figure import Figure

    with plots.style():
        fig = Figure(figsize=(plots.PAGE, 2.6), layout=layout)
        left, right = fig.subplots(1, 2)
        known = (np.isfinite(seen.curve.y) & (seen.curve.x > 0)).any()
        if known:
            plots.draw_forecast(left, seen.curve, seen.fitted)
        else:
            left.axis("off")
        if known and seen.fitted:
            plots.draw_residuals(right, seen.curve, seen.fitted)
        else:
            right.axis("off")
    return fig


def picture(seen: View) -> bytes:
    """Return `draw` as SVG; fixed margins and few ticks make it three times as fast."""
    from matplotlib.ticker import LogLocator

    with plots.style(), io.BytesIO() as data:
        fig = draw(seen, layout="none")
        fig.subplots_adjust(**MARGINS)
        for ax in fig.axes:
            ax.locator_params(axis="y", nbins=5)
            if seen.curve.x_unit != "samples":
                ax.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        fig.savefig(data, format="svg", metadata=plots.FORMATS["svg"])
        return data.getvalue()


def code(runs: Runs, choice: Choice) -> str:
    """Return Python code that draws a choice's figure from the log or the imported file."""
    run = find(runs, choice.run)
    load = f"sc.load_run({str(run.path)!r})"
    if run.imported:
        load = f"sc.read_samples({str(run.path)!r})  # with the options that you read it with"
    if run.arrays.counts:
        load = f"sc.read_counts({str(run.path)!r}).select(model={run.card.name!r})[0]"
    fitting = f"fitted = fit({choice.law!r}, points)"
    if choice.share < 1:
        fitting = f"fitted, held_out = forecast({choice.law!r}, points, share={choice.share:.6g})"
    return CODE.format(**vars(choice) | {"load": load, "fitting": fitting})


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
        html += f"<p>held out</p>{show.table_html(seen.held_out[columns].to_dict('records'))}"
    return html


# ---------------------------------------------------------------- the widget
def explore(runs: str | Path | Runs, figures: str | Path = "build/figures"):
    """Return a widget: choose run, selector, unit, level, law and the budgets fitted.

    runs: a folder of runs, or loaded or imported ones. "save figure" writes into `figures`.
    """
    return Explorer(runs if isinstance(runs, Runs) else Runs.load(runs), Path(figures)).box


class Explorer:
    """The widgets and their callbacks to `view`; `choice` is their present state."""

    def __init__(self, runs: Runs, figures: Path) -> None:
        import ipywidgets as w

        self.runs, self.figures, self.busy = runs, figures, False
        self.shown: dict[Choice, tuple[bytes, str]] = {}  # picture and table of earlier choices
        wide = {"layout": w.Layout(width="23em"), "style": {"description_width": "5em"}}
        start = Runs([run for run in runs if run.method.exchangeable] or runs).closest(0.3)
        (start_name,) = run_names([start])
        units = {"cache traffic" if unit == "kv_bytes" else unit: unit for unit in UNITS}
        laws = [name for name, law in LAWS.items() if law.axes == 1]
        self.run = w.Dropdown(options=menu(runs), value=start_name, description="run", **wide)
        self.run.layout = w.Layout(width="40em")
        self.selector = w.Dropdown(description="selector", **wide)
        self.level = w.Dropdown(description="level", **wide)
        self.unit = w.Dropdown(options=units, description="budget in", **wide)
        self.law = w.Dropdown(options=laws, value="exp_power", description="law", **wide)
        self.upto = w.SelectionSlider(options=[1], description="fit up to", **wide)
        self.upto.continuous_update = False
        self.prices = [w.BoundedFloatText(p, min=0, max=1e9, description=f"{what} / M", **wide)
                       for p, what in zip(PRICES, ("input", "output"), strict=True)]  # fmt: skip
        self.picture = w.Image(format="svg+xml", layout=w.Layout(max_width="100%"))
        self.table, self.status, self.text = w.HTML(), w.HTML(), w.Textarea(disabled=True)
        self.text.layout = w.Layout(width="100%", height="16em", display="none")
        self.clipboard = w.Output()
        buttons = [w.Button(description=what) for what in ("save figure", "copy code")]
        for button, act in zip(buttons, (self.save, self.copy), strict=True):
            button.on_click(act)
        self.money = w.HBox(self.prices)
        menus = [self.run, self.selector, self.level, self.unit, self.law, self.upto]
        top = w.HBox(menus, layout=w.Layout(flex_flow="wrap"))
        self.box = w.VBox([top, self.money, self.picture, self.table, w.HBox(buttons), self.status,
                           self.text, self.clipboard])  # fmt: skip
        self.box.add_class("scaling-explorer")
        self.fill()
        for widget in (*menus, *self.prices):
            widget.observe(self.changed, "value")

    @property
    def choice(self) -> Choice:
        """Return the values of the widgets."""
        run = find(self.runs, self.run.value)
        prices = tuple(price.value for price in self.prices)
        chosen = Choice(self.run.value, self.selector.value, self.unit.value, self.level.value,
                        self.law.value, prices=prices)  # fmt: skip
        budgets = run.budgets().tolist()
        if self.upto.value >= budgets[-1]:
            return chosen
        cost = costs_of(run, chosen)
        return replace(chosen, share=float(cost[budgets.index(self.upto.value)] / cost[-1]))

    def fill(self) -> None:
        """Offer the options of the chosen run, keep valid choices, and draw."""
        run = find(self.runs, self.run.value)
        selectors = {selector_name(name): name for name in run.selectors}
        budgets = run.budgets().tolist()
        upto = budgets[1:] or budgets  # one budget is too few for any law
        self.busy = True
        for widget, options, first in (
            (self.selector, selectors, run.selectors[0]),
            (self.level, list(run.levels), list(run.levels)[-1]),
            (self.upto, upto, upto[-1]),
        ):
            kept = widget.value
            widget.options = options
            known = options.values() if isinstance(options, dict) else options
            widget.value = kept if kept in known else first
        self.busy = False
        self.show()

    def changed(self, change: dict[str, Any]) -> None:
        """Respond to a change of a widget."""
        if not self.busy:
            self.fill() if change["owner"] is self.run else self.show()

    def show(self) -> None:
        """Draw the choice, or show its cached picture."""
        choice = self.choice
        if choice not in self.shown:
            seen = view(self.runs, choice, QUICK)
            self.shown[choice] = picture(seen), CSS + report(seen)
        self.picture.value, self.table.value = self.shown[choice]
        self.money.layout.display = "" if self.unit.value == "price" else "none"
        self.text.layout.display, self.status.value = "none", ""

    def save(self, _: Any = None) -> None:
        """Write the figure as PDF, SVG and PNG with its sidecar."""
        self.status.value = "saving…"
        choice = self.choice
        seen, run = view(self.runs, choice), find(self.runs, choice.run)
        parts = (choice.run, choice.selector, choice.unit, choice.level, choice.law)
        name = re.sub(r"[^\w.-]", "-", "_".join(("explored", *parts)))
        facts = vars(choice) | {"fit": seen.fitted and summary(seen.fitted)}
        paths = plots.save(draw(seen), name, self.figures, [run], facts, code(self.runs, choice))
        self.status.value = "saved " + show.verbatim(", ".join(map(str, paths)))

    def copy(self, _: Any = None) -> None:
        """Show the code, and copy it to the clipboard if the browser allows it."""
        from IPython.display import Javascript, display

        self.text.value = code(self.runs, self.choice)
        self.text.layout.display = ""
        self.clipboard.clear_output()
        with self.clipboard:
            text = json.dumps(self.text.value)
            display(Javascript(f"navigator.clipboard?.writeText({text}).catch(() => null)"))

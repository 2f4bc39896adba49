"""Look around in logged runs from a notebook: curves, fits, residuals and forecasts at a click.

`explore(root)` returns a widget; what it shows is made by plain functions, which tests and scripts
can call. Nothing is estimated or fitted here by other means than the package's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling import show
from scaling.curves import PRICES, UNITS, Pool
from scaling.figures import SELECTOR_NAMES, Study, nearest, plots, summary
from scaling.fits import fit, forecast, score
from scaling.fits.laws import LAWS
from scaling.records import Curve, Fit

CODE = """\
from dataclasses import replace

from scaling.figures import plots
from scaling.curves import curve, read_pool
from scaling.fits import fit, forecast
from scaling.store import load_run

pool = replace(read_pool(load_run({path!r})), prices={prices})
points = curve(pool, {selector!r}, {unit!r}, {level!r})
{fitting}
with plots.style():
    fig, axes = plots.figure(1, 2, height=2.6)
    plots.draw_forecast(axes[0][0], points, fitted)
    plots.draw_residuals(axes[0][1], points, fitted)
"""
QUICK = 50  #: replicates that a law is refitted to on the screen; all where a figure is saved
SIZE = (742, 290)  #: of the picture on the screen, pixels
LEFT, WIDE, TOP, HIGH = (58, 436), 298, 10, 230  #: of its two panels
BLUE, DASHED = plots.COLORS[0], 'stroke-dasharray="5 2.5"'
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}"
 font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">\
<rect width="100%" height="100%" fill="white"/>{2}</svg>"""


@dataclass(frozen=True)
class Choice:
    """What the explorer shows."""

    run: str  #: name of the run's folder
    selector: str = "oracle"
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


def find(study: Study, name: str) -> Pool:
    """Return the pool of a run's folder."""
    return next(pool for pool in study.pools if pool.run.path.name == name)


def view(study: Study, choice: Choice, replicates: int | None = None) -> View:
    """Return curve, fit and forecast of a choice; a change of unit re-prices the same curve.

    replicates: how many of the curve's the law is refitted to; None is all.
    """
    pool = find(study, choice.run)
    found = study.curve(pool, choice.selector, "samples", choice.level)
    if choice.unit != "samples":
        priced = replace(pool, prices=choice.prices) if choice.unit == "price" else pool
        cost = priced.cost(choice.unit, pool.budgets(), selector=choice.selector)
        x = cost[pool.levels[choice.level]].mean(axis=0)
        found = replace(found, x=x, x_unit=choice.unit)
    if not (found.y > 0).any():
        return View(found, None, pd.DataFrame(), "no sample was right, or no budget can be read")
    refitted = replace(found, replicates=found.replicates[:replicates])
    try:
        if choice.share < 1:
            return View(found, *forecast(choice.law, refitted, choice.share))
        fitted = fit(choice.law, refitted)
    except ValueError as reason:
        return View(found, None, pd.DataFrame(), str(reason))
    return View(found, fitted, score(fitted, np.array([]), np.array([])))


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
            plots.draw_curve(left, seen.curve, **plots.look(0))
        else:
            plots.draw_forecast(left, seen.curve, seen.fitted)
            plots.draw_residuals(right, seen.curve, seen.fitted)
    return fig


def code(study: Study, choice: Choice) -> str:
    """Return Python that draws a choice's figure from the log."""
    fitting = f"fitted = fit({choice.law!r}, points)"
    if choice.share < 1:
        fitting = f"fitted, held_out = forecast({choice.law!r}, points, share={choice.share:.6g})"
    parts = vars(choice) | {"path": str(find(study, choice.run).run.path), "fitting": fitting}
    return CODE.format(**parts)


def report(seen: View) -> str:
    """Return the fit's table and the forecast's errors as HTML."""
    if seen.fitted is None:
        return f"<p>no fit: {escape(seen.message)}</p>"
    html = seen.fitted._repr_html_()
    if len(seen.held_out):
        columns = ["x", "y", "predicted", "low", "high", "error"]
        rows = [dict(zip(columns, r, strict=True)) for r in seen.held_out[columns].to_numpy()]
        html += f"<p>held out</p>{show.table_html(rows)}"
    return html


# ---------------------------------------------------------------- the picture on the screen
def picture(seen: View) -> bytes:
    """Return what `draw` shows of a view, as SVG for the screen.

    Written here because matplotlib takes 50 to 100 ms to draw it, half of what a click may take.
    """
    curve, fitted, parts = seen.curve, seen.fitted, []
    known = np.isfinite(curve.x * curve.y) & (curve.x > 0)
    x, *ends = (getattr(curve, name)[known] for name in ("x", "y", "low", "high"))
    if fitted is None and known.any():
        line, marks = (x, *ends, ""), (x, *ends[:1] * 3, BLUE)
        parts = panel(LEFT[0], curve.x_unit, "accuracy", "%", [line], [marks])
    elif fitted is not None:
        n, law = fitted.n_points, fitted.predict(x)
        held = n < len(x)
        spans = [(x[0], x[n - 1], ""), (x[n - 1], x[-1], DASHED)][: 1 + held]
        grids = [(np.geomspace(start, end, 60), dash) for start, end, dash in spans]
        lines = [(grid, fitted.predict(grid), *band(fitted, grid), dash) for grid, dash in grids]
        shares = ((slice(n), BLUE), (slice(n, None), "white"))[: 1 + held]
        points = [(x[at], *(v[at] for v in ends), fill) for at, fill in shares]
        off = [(x[at], *(100 * (v - law)[at] for v in ends), fill) for at, fill in shares]
        parts = panel(LEFT[0], curve.x_unit, "accuracy", "%", lines, points)
        parts += legend(f"fitted, n={curve.n_problems} problems", fitted.law, held)
        parts += panel(LEFT[1], curve.x_unit, "measured − law (points)", "", [], off)
    return SVG.format(*SIZE, "".join(parts)).encode()


def band(fitted: Fit, x: np.ndarray) -> np.ndarray:
    """Return `fitted.band(x)`, low and high, from a few places at a time.

    For all at once BLAS wakes threads, which on two shared cores took 70 ms of a click.
    """
    return np.concatenate([fitted.band(part) for part in np.array_split(x, 6)], axis=1)


def panel(
    left: int, unit: str, name: str, suffix: str, lines: Sequence[Any], points: Sequence[Any]
) -> list[str]:
    """Return the SVG of axes: lines in their bands, points with error bars.

    lines: (x, y, low, high, dash); points: (x, y, low, high, fill). Without lines y = 0 is drawn.
    suffix: "%" writes shares as such.
    """
    every, scale = (*lines, *points), 100 if suffix else 1
    x = np.log10(np.concatenate([part[0] for part in every]))
    y = np.concatenate([[0.0] * (not lines), *(v for part in every for v in part[1:4])]) * scale
    (x0, x1), (y0, y1) = map(limits, (x, y))

    def across(v: Any) -> Any:
        return left + (np.log10(v) - x0) / (x1 - x0) * WIDE

    def down(v: Any) -> Any:
        return TOP + (y1 - v) / (y1 - y0) * HIGH

    bottom, right = TOP + HIGH, left + WIDE
    parts = []
    for value, text in ticks(10**x0, 10**x1, unit):
        parts.append(f'<path d="M{across(value):.1f} {TOP}V{bottom}" stroke="#e6e6e6"/>')
        parts.append(written(across(value), bottom + 15, text))
    for value in rounds(y0, y1):
        parts.append(f'<path d="M{left} {down(value):.1f}H{right}" stroke="#e6e6e6"/>')
        parts.append(written(left - 5, down(value) + 4, f"{value:g}{suffix}", "end"))
    if not lines:
        parts.append(f'<path d="M{left} {down(0):.1f}H{right}" stroke="gray"/>')
    for at, middle, low, high, dash in lines:
        if np.isfinite(low).all():
            there = trace(across(at), down(scale * low))
            back = trace(across(at), down(scale * high), -1)
            parts.append(f'<path d="M{there}L{back}Z" fill="{BLUE}" fill-opacity="0.1"/>')
        line = trace(across(at), down(scale * middle))
        parts.append(f'<path d="M{line}" fill="none" stroke="{BLUE}" {dash}/>')
    for at, middle, low, high, fill in points:
        rows = zip(across(at), *(down(scale * v) for v in (middle, low, high)), strict=True)
        for u, v, least, most in rows:
            bar = f"M{u:.1f} {least:.1f}V{most:.1f}" if np.isfinite(least + most) else ""
            parts.append(f'<path d="{bar}" stroke="{BLUE}"/>{dot(u, v, fill)}')
    parts.append(f'<path d="M{left} {TOP}V{bottom}H{right}" fill="none" stroke="black"/>')
    label = plots.UNIT_LABELS[unit].replace("$k$", '<tspan font-style="italic">k</tspan>')
    parts.append(written(left + WIDE / 2, bottom + 33, label))
    turned = f'<g transform="translate({left - 46} {TOP + HIGH / 2}) rotate(-90)">'
    return [*parts, turned, written(0, 0, name), "</g>"]


def legend(fitted: str, law: str, held: bool) -> list[str]:
    """Return the SVG of what points and lines are, where a rising curve is not."""
    names = [(fitted, BLUE), (law, ""), ("held out", "white"), ("forecast", DASHED)][: 2 + 2 * held]
    at, parts = LEFT[0] + WIDE - 130, []
    for row, (name, look) in enumerate(reversed(names)):
        y = TOP + HIGH - 12 - 14 * row
        is_line = look in ("", DASHED)
        line = f'<path d="M{at - 20} {y}h16" stroke="{BLUE}" {look}/>'
        parts.append(line if is_line else dot(at - 12, y, look))
        parts.append(written(at, y + 4, escape(name), "start"))
    return parts


def limits(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of an axis, a twentieth beyond its values on either side."""
    low, high = np.nanmin(values), np.nanmax(values)
    beyond = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - beyond, high + beyond


def rounds(low: float, high: float) -> list[float]:
    """Return about five round numbers from low to high."""
    raw = (high - low) / 5
    size = 10.0 ** np.floor(np.log10(raw))
    step = size * next(m for m in (1, 2, 2.5, 5, 10) if m * size >= 0.999 * raw)
    return [round(i * step, 12) for i in range(int(np.ceil(low / step)), int(high // step) + 1)]


def ticks(low: float, high: float, unit: str) -> list[tuple[float, str]]:
    """Return places and texts on a log axis, as `plots.accuracy_axes` chooses them."""
    if unit == "samples":
        powers = range(int(np.ceil(np.log2(low))), int(np.log2(high)) + 1)
        return [(2.0**i, f"{2.0**i:g}") for i in powers if len(powers) < 4 or i % 2 == 0]
    first = (1, 2, 3, 5, 7) if high < 3.2 * low else (1, 2, 5) if high < 20 * low else (1,)
    tens = range(int(np.floor(np.log10(low))), int(np.floor(np.log10(high))) + 1)
    power = '10<tspan dy="-4" font-size="8">{}</tspan>'
    named = [(d * 10.0**e, f"{d}×" * (d > 1) + power.format(e)) for e in tens for d in first]
    return [(value, text) for value, text in named if low <= value <= high]


def trace(x: np.ndarray, y: np.ndarray, way: int = 1) -> str:
    """Return places as SVG writes them, in reverse where `way` is -1."""
    return "L".join(f"{u:.1f} {v:.1f}" for u, v in zip(x[::way], y[::way], strict=True))


def dot(x: float, y: float, fill: str) -> str:
    """Return a point's SVG."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.7" fill="{fill}" stroke="{BLUE}"/>'


def written(x: float, y: float, text: str, anchor: str = "middle") -> str:
    """Return a text's SVG."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


# ---------------------------------------------------------------- the explorer
def explore(root: str | Path | Study = "data/runs", figures: str | Path = "figures"):
    """Return a widget: choose run, selector, unit, level, law and the budgets fitted.

    root: a folder of runs, or a `Study` that is loaded. "save figure" writes into `figures`.
    """
    return Explorer(root if isinstance(root, Study) else Study.load(Path(root)), Path(figures)).box


class Explorer:
    """The widgets and what ties them to `view`; `choice` is what they stand at."""

    def __init__(self, study: Study, figures: Path) -> None:
        import ipywidgets as w

        self.study, self.figures, self.busy = study, figures, False
        self.shown: dict[Choice, tuple[bytes, str]] = {}  # picture and table of what was chosen
        runs = {f"{p.run.task} · {p.run.card.name} · {p.label}": p.run.path.name
                for p in study.pools}  # fmt: skip
        laws = [name for name, law in LAWS.items() if law.axes == 1]
        wide = {"layout": w.Layout(width="23em"), "style": {"description_width": "5em"}}
        plain = [pool for pool in study.pools if pool.label == "best_of_n"]
        start = nearest(plain or study.pools, 0.3).run.path.name
        self.run = w.Dropdown(options=runs, value=start, description="run", **wide)
        self.selector = w.Dropdown(description="selector", **wide)
        self.level = w.Dropdown(description="level", **wide)
        self.unit = w.Dropdown(options=UNITS, description="budget in", **wide)
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
            w.HBox([self.run, self.selector, self.level], layout=w.Layout(flex_flow="wrap")),
            w.HBox([self.unit, self.law, self.upto], layout=w.Layout(flex_flow="wrap")),
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
        priced = replace(pool, prices=tuple(p.value for p in self.prices))
        cost = priced.cost(self.unit.value, pool.budgets(), selector=self.selector.value)
        cost = cost[pool.levels[self.level.value]]
        cost = cost.mean(axis=0)
        return float(cost[list(pool.budgets()).index(k)] / cost[-1])

    def fill(self) -> None:
        """Offer what the chosen run holds, keeping what was chosen where it still can be; draw."""
        pool = find(self.study, self.run.value)
        offered = ("oracle",) if pool.run.plan.stop_after_correct else pool.selectors
        named = {SELECTOR_NAMES.get(name, name): name for name in offered}
        budgets = [int(k) for k in pool.budgets()]
        offers = ((self.selector, named), (self.level, list(pool.levels)), (self.upto, budgets[1:]))
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
            self.shown[choice] = picture(seen), report(seen)
        self.picture.value, self.table.value = self.shown[choice]
        self.money.layout.display = "" if self.unit.value == "price" else "none"
        self.text.layout.display, self.said.value = "none", ""

    def save(self, _: Any = None) -> None:
        """Write the figure as PDF, SVG and PNG with its sidecar."""
        seen, choice = view(self.study, self.choice), self.choice
        run = find(self.study, choice.run).run
        name = (
            f"explored_{run.path.name}_{choice.selector}_{choice.unit}_{choice.level}_{choice.law}"
        )
        facts = vars(choice) | {"fit": seen.fitted and summary(seen.fitted)}
        paths = plots.save(draw(seen), name, self.figures, [run], facts, code(self.study, choice))
        self.said.value = "saved " + escape(", ".join(map(str, paths)))

    def copy(self, _: Any = None) -> None:
        """Show the code, and put it on the clipboard where the browser lets us."""
        from IPython.display import Javascript, display

        self.text.value = code(self.study, self.choice)
        self.text.layout.display = ""
        self.copier.clear_output()
        with self.copier:
            text = json.dumps(self.text.value)
            display(Javascript(f"navigator.clipboard?.writeText({text}).catch(() => null)"))

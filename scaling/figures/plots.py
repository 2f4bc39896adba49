"""Draw curves, laws and planes on axes, and save a figure with its sidecar.

Each draw function takes `ax` and returns it; nothing is estimated or fitted here. `draw_panels`
draws a tidy table, one row per point. Colours follow Okabe and Ito; marker and line style carry the
same information.
"""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scaling import provenance
from scaling.curves import Curve, Fit
from scaling.records import look_up
from scaling.store.files import sha256, write_outputs

REDRAW = "python -m scaling figures"
STYLE = Path(__file__).with_name("paper.mplstyle")
#: metadata of each file format of a saved figure, without the date
FORMATS: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {},
}
COLUMN, PAGE = 3.25, 6.75  #: widths in inches
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)), "-", "--", ":", "-.")
DIGITS = 5  #: significant digits of fitted numbers: later ones differ between processors
UNIT_LABELS = {
    "samples": "samples per problem, $k$",
    "tokens": "test tokens per problem",
    "thinking": "thinking tokens allowed",
    "flops": "test FLOPs per problem",
    "kv_bytes": "cache traffic per problem (bytes)",
    "seconds": "seconds per problem",
    "price": "price per problem",
}
#: mark of a series -> opacity of its interval as a band (0: as error bars), and its style
MARKS: dict[str, tuple[float, dict[str, Any]]] = {
    "line": (0.15, {}),
    "markers": (0.15, {"linestyle": "none"}),
    "dashed": (0.15, {"linestyle": "--", "marker": ""}),
    "dotted": (0.15, {"linestyle": ":", "marker": "", "color": "0.5"}),
    "law": (0.08, {"linestyle": "--", "linewidth": 0.8, "marker": ""}),
    "fitted law": (0.08, {"linestyle": "-", "linewidth": 0.8, "marker": ""}),
    "points": (0, {"linestyle": "none"}),
    "open points": (0, {"linestyle": "none", "mfc": "white", "zorder": 3}),
    "joined points": (0, {}),
}


class Drawn(NamedTuple):
    """The result of a figure function."""

    figure: Any  #: of matplotlib
    facts: dict[str, Any]  #: fitted numbers and claims, for the sidecar
    frame: pd.DataFrame  #: one row per point drawn


def style():
    """Return a context in which figures have the style of the paper; nothing global changes."""
    import matplotlib.pyplot as plt

    return plt.style.context(STYLE)


def figure(
    rows: int = 1, columns: int = 1, width: float = PAGE, height: float = 2.4, **options: Any
):
    """Return (figure, array of axes); call it, and draw, inside `style()`."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, **options)


def close(fig) -> None:
    """Remove a figure from pyplot; it can still be shown and saved."""
    import matplotlib.pyplot as plt

    plt.close(fig)


def new_axes():
    """Return the axes of a new figure in the style of the paper."""
    with style():
        return figure(1, 1, width=3.4, height=2.6)[1][0][0]


def series_style(index: int) -> dict[str, Any]:
    """Return the colour, marker and line style of the index-th series."""
    turn = index % len(COLORS)
    return {"color": COLORS[turn], "marker": MARKERS[turn], "linestyle": DASHES[turn]}


def settled(values: Any) -> np.ndarray:
    """Return fitted numbers with the digits on which all processors agree, for equal bytes.

    >>> settled([0.123456789, 98765.4321, float("inf")]).tolist()
    [0.12346, 98765.0, inf]
    """
    values = np.asarray(values, float)
    return np.array([float(f"{v:.{DIGITS}g}") for v in values.flat]).reshape(values.shape)


# ---------------------------------------------------------------- series
def draw_series(ax, x, y, low=np.nan, high=np.nan, mark: str = "line", **style: Any):
    """Draw a series with its interval as a band or as error bars, by `MARKS`."""
    opacity, own = look_up(MARKS, mark, "mark")
    style = own | style
    if not opacity:
        spread = np.clip([np.subtract(y, low), np.subtract(high, y)], 0, None)
        ax.errorbar(x, y, yerr=spread, **{"capsize": 1.5, "elinewidth": 0.7} | style)
        return ax
    (line,) = ax.plot(x, y, **style)
    if np.isfinite(low).any():
        ax.fill_between(x, low, high, color=line.get_color(), alpha=opacity, lw=0)
    return ax


def draw_points(ax, x, y, low, high, **style: Any):
    """Draw estimates with error bars; `mfc="none"` marks points held out of a fit."""
    return draw_series(ax, x, y, low, high, "points", **style)


def draw_curve(ax, curve: Curve, **style: Any):
    """Draw accuracy against budget with its 95 % interval as a band."""
    draw_series(ax, curve.x, curve.y, curve.low, curve.high, **{"label": curve.label} | style)
    return accuracy_axes(ax, curve.x_unit)


def draw_fit(ax, fitted: Fit, x, *, band: bool = True, **style: Any):
    """Draw a fitted law over `x`, with the interval of its replicates as a band."""
    law = law_curve(fitted, x, band=band)
    return draw_series(ax, law.x, law.y, law.low, law.high, "law", **style)


def law_curve(fitted: Fit, x, unit: str = "samples", band: bool = True) -> Curve:
    """Return a fitted law at `x` as a curve, its interval NaN without `band`."""
    x, nothing = settled(x), np.full(np.shape(x), np.nan)
    low, high = map(settled, fitted.band(x)) if band else (nothing, nothing)
    return Curve(x, settled(fitted.predict(x)), low, high, np.empty((0, len(x))), unit)


def split(curve: Curve, n_points: int) -> tuple[Curve, Curve]:
    """Return the first `n_points` defined points of a curve, which are fitted, and the rest.

    Neither has replicates.
    """
    known = np.flatnonzero(np.isfinite(curve.y))
    parts = ({side: getattr(curve, side)[at] for side in ("x", "y", "low", "high")}
             for at in (known[:n_points], known[n_points:]))  # fmt: skip
    first, rest = (replace(curve, replicates=np.empty((0, 0)), **part) for part in parts)
    return first, rest


def draw_forecast(ax, curve: Curve, fitted: Fit | None):
    """Draw a curve's points with error bars and the law fitted to its first `n_points`.

    Points held out of the fit are open, and the law is dashed there: a forecast. Without a fit the
    curve is drawn alone.
    """
    if fitted is None:
        return draw_curve(ax, curve, **series_style(0))
    used, held_out = split(curve, fitted.n_points)
    points = [points_of(used, "", f"fitted, $n$={curve.n_problems} problems", "points")]
    spans = [(used.x[0], used.x[-1], fitted.law, "fitted law")]
    if len(held_out.x):
        points.append(points_of(held_out, "", "held out", "open points"))
        spans.append((used.x[-1], held_out.x[-1], "forecast", "law"))
    for start, end, name, mark in spans:
        law = law_curve(fitted, np.geomspace(start, end, 60), curve.x_unit)
        points.append(points_of(law, "", name, mark))
    draw_table(ax, pd.concat(points)).legend()
    return ax


def draw_residuals(ax, curve: Curve, fitted: Fit):
    """Draw measured minus predicted accuracy in percentage points; held-out points are open."""
    for part, mark in zip(split(curve, fitted.n_points), ("points", "open points"), strict=True):
        law = settled(fitted.predict(part.x))
        y, low, high = (100 * (values - law) for values in (part.y, part.low, part.high))
        draw_series(ax, part.x, y, low, high, mark, **series_style(0) | MARKS[mark][1])
    ax.axhline(0, color="0.5", linewidth=0.8)
    accuracy_axes(ax, curve.x_unit).set_ylabel("measured − predicted\n(percentage points)")
    ax.yaxis.set_major_formatter(plain_ticks())
    return ax


# ---------------------------------------------------------------- tables of points
def points_of(curve: Curve, panel: str, series: str, mark: str = "line", look: int = 0):
    """Return a curve as rows of a figure's table, one per point, for `draw_panels`.

    mark: a name in `MARKS`; look: the index of the series' style.
    """
    columns = {"panel": panel, "series": series, "x": curve.x, "unit": curve.x_unit}
    columns |= {"y": curve.y, "low": curve.low, "high": curve.high}
    return pd.DataFrame(columns | {"n_problems": curve.n_problems, "mark": mark, "look": look})


def forecast_points(curve: Curve, fitted: Fit, intervals: bool = True, **at: Any) -> pd.DataFrame:
    """Return rows of a law over a curve's budgets, and of the points held out of its fit as open.

    at: panel, series and look.
    """
    x = curve.x[np.isfinite(curve.y)]
    law = law_curve(fitted, np.geomspace(x.min(), x.max(), 60), curve.x_unit, intervals)
    held_out = split(curve, fitted.n_points)[1]
    if not intervals:
        held_out = replace(held_out, low=held_out.y * np.nan, high=held_out.y * np.nan)
    tables = points_of(law, mark="law", **at), points_of(held_out, mark="open points", **at)
    return pd.concat(tables)


def draw_table(ax, table: pd.DataFrame):
    """Draw the rows of one panel: every series by its mark, named once in the legend."""
    named: set[Any] = set()
    keys: Any
    for keys, rows in table.groupby(["series", "mark", "look"], sort=False):
        series, mark, look = keys
        own = series_style(look) | MARKS[mark][1] | {"label": None if series in named else series}
        named.add(series)
        x, y, low, high = (rows[name].to_numpy() for name in ("x", "y", "low", "high"))
        draw_series(ax, x, y, low, high, mark, **own)
    return accuracy_axes(ax, table["unit"].iloc[0])


def draw_panels(table: pd.DataFrame, height: float, ylabel: str = "accuracy", **legend: Any):
    """Return a figure of a table's panels side by side, with one legend below."""
    panels = table.groupby("panel", sort=False)
    fig, axes = figure(1, len(panels), height=height, sharey=True)
    for ax, (panel, rows) in zip(axes[0], panels, strict=True):
        n = rows["n_problems"].max()
        draw_table(ax, rows).set(ylabel=ylabel if ax is axes[0][0] else "", ylim=(0, 1.02))
        ax.set_title(f"{panel}  ($n$={n})" if n else panel)
    legend_below(fig, axes[0], **legend)
    return fig


def legend_below(fig, axes, **options: Any) -> None:
    """Put one legend of all the axes' series under the figure, each name once."""
    named: dict[str, Any] = {}
    for ax in axes:
        handles, names = ax.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    fig.legend(named.values(), named, loc="outside lower center", **{"ncols": 4} | options)


# ---------------------------------------------------------------- axes
def plain_ticks():
    """Return a formatter of ticks that writes plain numbers."""
    from matplotlib.ticker import StrMethodFormatter

    return StrMethodFormatter("{x:g}")


def _minor_tick(ax, value: float, _: int) -> str:
    """Return the label of a minor tick: 2 and 5 within 1.3 decades, 3 and 7 too within half one."""
    low, high = ax.get_xlim()
    exponent = int(np.floor(np.log10(value) + 1e-9))
    first = round(value / 10.0**exponent)
    shown = (2, 3, 5, 7) if high < 3.2 * low else (2, 5) if high < 20 * low else ()
    return rf"${first}{{\times}}10^{{{exponent}}}$" if first in shown else ""


def accuracy_axes(ax, unit: str):
    """Label and scale axes of accuracy against a budget."""
    from matplotlib.ticker import (
        FuncFormatter,
        LogLocator,
        NullLocator,
        PercentFormatter,
    )

    if unit == "samples":
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(LogLocator(base=4, numticks=12))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(FuncFormatter(partial(_minor_tick, ax)))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set(xlabel=UNIT_LABELS[unit], ylabel="accuracy")
    return ax


def save(
    fig,
    name: str,
    folder: str | Path,
    runs: Iterable[Any] = (),
    facts: Mapping[str, Any] | None = None,
    redraw: str = "",
    code: str = "figures",
    force: bool = False,
) -> list[Path]:
    """Write a figure as PDF, SVG and PNG with a JSON sidecar; return the paths.

    The sidecar holds the runs with their hashes, the numbers in `facts`, how to `redraw` it (a
    command or code), and hashes of the files, of the package versions and of all code that the part
    `code` of the package imports: `check` compares them. Equal inputs give equal bytes. Errors:
    ValueError if the kit did not write an existing file of that name; `force` overwrites it.
    """
    drawn = dict(zip(paths_of(name, folder), FORMATS.values(), strict=False))
    files: dict[Path, bytes] = {}
    with style():
        for path, dates in drawn.items():
            buffer = io.BytesIO()
            fig.savefig(buffer, format=path.suffix[1:], metadata=dates)
            files[path] = buffer.getvalue()
    close(fig)
    sidecar = {
        "figure": name,
        "redraw": redraw,
        "runs": {run.path.name: run.sha256 for run in runs},
        "files": {path.name: sha256(data) for path, data in files.items()},
        "packages": drawing_packages(),
        "drawn_by": code,
        "code": drawing_code(code),
        "facts": rounded(dict(facts or {})),
    }
    sidecar_path = paths_of(name, folder)[-1]
    files[sidecar_path] = (json.dumps(sidecar, indent=1, default=float) + "\n").encode()
    write_outputs(files, force)
    return list(files)


def paths_of(name: str, folder: str | Path) -> list[Path]:
    """Return the files of a figure, in the order of `FORMATS`; the last is its sidecar."""
    return [Path(folder) / f"{name}.{suffix}" for suffix in (*FORMATS, "json")]


def rounded(fact: Any) -> Any:
    """Return facts with numbers `settled`.

    >>> rounded({"a": [0.123456789, 3], "b": "x", "c": True})
    {'a': [0.12346, 3], 'b': 'x', 'c': True}
    """
    if isinstance(fact, Mapping):
        return {name: rounded(value) for name, value in fact.items()}
    if isinstance(fact, list | tuple):
        return [rounded(value) for value in fact]
    return float(settled(fact)) if isinstance(fact, float | np.floating) else fact


def drawing_packages() -> dict[str, str]:
    """Return the versions of the packages that a figure's bytes depend on."""
    names = ("numpy", "scipy", "pandas", "pyarrow", "matplotlib")
    return {"python": platform.python_version()} | provenance.versions(names)


def drawing_code(start: str) -> dict[str, str]:
    """Return hashes of the drawing code, from the part `start` of the package on, and the style."""
    return provenance.code_hashes(start) | {STYLE.name: provenance.sha256(STYLE)[:16]}

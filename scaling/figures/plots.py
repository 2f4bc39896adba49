"""Axes in, axes out: how curves, fits and planes look. Nothing is estimated or fitted here.

Each draw function takes `ax` and returns it. `save` writes a figure with a sidecar that says what
it was drawn from. Colours follow Okabe and Ito; marker and line style repeat what colour says.
"""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scaling import provenance
from scaling.fits.joint import iso_line
from scaling.records import Curve, Fit
from scaling.store.files import sha256, write_outputs

REDRAW = "python -m scaling figures"
STYLE = Path(__file__).with_name("paper.mplstyle")
#: of a saved figure, each without the date
FORMATS: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {},
}
COLUMN, PAGE = 3.25, 6.75  #: widths in inches
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)), "-", "--", ":", "-.")
ISO = (0.1, 0.25, 0.5, 0.75, 0.9)  #: iso-accuracy lines drawn
DIGITS = 5  #: of fitted numbers: later ones differ between processors
UNIT_LABELS = {
    "samples": "samples per problem, $k$",
    "tokens": "test tokens per problem",
    "flops": "test FLOPs per problem",
    "kv_bytes": "cache traffic per problem (bytes)",
    "seconds": "seconds per problem",
    "price": "price per problem",
}


def style():
    """Return a context in which things are drawn in the paper's style; nothing global changes."""
    import matplotlib.pyplot as plt

    return plt.style.context(STYLE)


def figure(
    rows: int = 1, columns: int = 1, width: float = PAGE, height: float = 2.4, **options: Any
):
    """Return (figure, axes array); call it, and draw, inside `style()`."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, **options)


def new_axes():
    """Return the axes of a new figure in the house style."""
    with style():
        return figure(1, 1, width=3.4, height=2.6)[1][0][0]


def look(index: int) -> dict[str, Any]:
    """Return the colour, marker and line style of the index-th series."""
    turn = index % len(COLORS)
    return {"color": COLORS[turn], "marker": MARKERS[turn], "linestyle": DASHES[turn]}


def settled(values: Any) -> np.ndarray:
    """Return fitted numbers with the digits that every processor gives, so that bytes are equal.

    >>> settled([0.123456789, 98765.4321, float("inf")]).tolist()
    [0.12346, 98765.0, inf]
    """
    values = np.asarray(values, float)
    return np.array([float(f"{v:.{DIGITS}g}") for v in values.flat]).reshape(values.shape)


def draw_curve(ax, curve: Curve, *, band: bool = True, **style: Any):
    """Draw accuracy against budget with its 95 % interval as a band."""
    style = {"label": curve.label, **style}
    (line,) = ax.plot(curve.x, curve.y, **style)
    if band:
        ax.fill_between(curve.x, curve.low, curve.high, color=line.get_color(), alpha=0.15, lw=0)
    return accuracy_axes(ax, curve.x_unit)


def draw_fit(ax, fitted: Fit, x, *, band: bool = True, **style: Any):
    """Draw a fitted law over `x`, with the interval of its replicates as a band."""
    style, x = {"linestyle": "--", "linewidth": 0.8, **style}, settled(x)
    (line,) = ax.plot(x, settled(fitted.predict(x)), **style)
    if band:
        low, high = map(settled, fitted.band(x))
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.08, lw=0)
    return ax


def draw_grid(ax, columns, rows, ratio, low, high, reach: float = 0.5):
    """Draw ratios (columns, rows) as a heat map, bold where the interval excludes 1; return it.

    Red above 1, blue below, full at 1 ± `reach`; white at 1 and where there is none.
    """
    from matplotlib.colors import TwoSlopeNorm

    image = ax.imshow(ratio.T, origin="lower", aspect="auto", cmap="RdBu_r",
                      norm=TwoSlopeNorm(1.0, 1 - reach, 1 + reach))  # fmt: skip
    for (i, j), value in np.ndenumerate(ratio):
        if np.isfinite(value):
            sure = low[i, j] > 1 or high[i, j] < 1
            weight = "bold" if sure else "normal"
            ink = "white" if abs(value - 1) > 0.6 * reach else "black"
            style = {"fontsize": 6, "fontweight": weight, "color": ink}
            ax.text(i, j, f"{value:.2f}", ha="center", va="center", **style)
    ax.grid(False)
    ax.set(xticks=range(len(columns)), xticklabels=columns, xlabel="chains")
    ax.set(yticks=range(len(rows)), yticklabels=rows, ylabel="steps")
    return image


def draw_points(ax, x, y, low, high, **style: Any):
    """Draw estimates with error bars; `mfc="none"` marks points held out of a fit."""
    style = {"linestyle": "none", "capsize": 1.5, "elinewidth": 0.7, **style}
    spread = np.clip([np.subtract(y, low), np.subtract(high, y)], 0, None)
    ax.errorbar(x, y, yerr=spread, **style)
    return ax


def draw_forecast(ax, curve: Curve, fitted: Fit, **style: Any):
    """Draw a curve's points with error bars and the law fitted to its first `n_points`.

    Points beyond them are open, and the law reaches them dashed, with its band: a forecast.
    """
    style = {"color": COLORS[0], "marker": MARKERS[0], "label": fitted.law} | style
    ends = {name: getattr(curve, name)[np.isfinite(curve.y)] for name in ("x", "y", "low", "high")}
    seen = {name: values[: fitted.n_points] for name, values in ends.items()}
    held = {name: values[fitted.n_points :] for name, values in ends.items()}
    draw_points(ax, **seen, **style | {"label": f"fitted, $n$={curve.n_problems} problems"})
    draw_fit(ax, fitted, np.geomspace(seen["x"][0], seen["x"][-1], 60), linestyle="-", **style
             | {"marker": ""})  # fmt: skip
    if len(held["x"]):
        draw_points(ax, **held, **style | {"mfc": "none", "label": "held out"})
        beyond = np.geomspace(seen["x"][-1], held["x"][-1], 60)
        draw_fit(ax, fitted, beyond, **style | {"marker": "", "label": "forecast"})
    accuracy_axes(ax, curve.x_unit).legend()
    return ax


def draw_residuals(ax, curve: Curve, fitted: Fit, **style: Any):
    """Draw measured minus law in points of accuracy, held-out points open, the curve's interval."""
    style = {"color": COLORS[0], "marker": MARKERS[0]} | style
    x, y, low, high = (getattr(curve, n)[np.isfinite(curve.y)] for n in ("x", "y", "low", "high"))
    law = settled(fitted.predict(x))
    for part, fill in (
        (slice(fitted.n_points), {}),
        (slice(fitted.n_points, None), {"mfc": "none"}),
    ):
        off = (100 * (values - law)[part] for values in (y, low, high))
        draw_points(ax, x[part], *off, **style | fill)
    ax.axhline(0, color="0.5", linewidth=0.8)
    accuracy_axes(ax, curve.x_unit)
    ax.yaxis.set_major_formatter(plain())
    ax.set_ylabel("measured − law (points)")
    return ax


def plain():
    """Return a formatter of ticks that writes plain numbers."""
    from matplotlib.ticker import StrMethodFormatter

    return StrMethodFormatter("{x:g}")


def draw_plane(ax, fitted: Fit, train, test, accuracy, used, levels=ISO):
    """Draw measured accuracies over (train, test) FLOPs, and the law's iso-accuracy lines.

    used: (points,) bool; points the law was not fitted to are drawn open. Labels of lines lie a
    step apart in height, so that those of steep lines side by side do not cover each other.
    """
    from matplotlib import patheffects

    colors = {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0, "zorder": 3}
    points = ax.scatter(train[used], test[used], c=accuracy[used], s=16, lw=0, **colors)
    edges = points.to_rgba(accuracy[~used])
    ax.scatter(train[~used], test[~used], s=9, lw=0.7, facecolors="none", edgecolors=edges)
    grid = settled(np.geomspace(train.min(), train.max(), 400))  # steep lines need many
    bottom, top = test.min() / 1.6, test.max() * 1.6
    ax.set(xscale="log", yscale="log", ylim=(bottom, top))
    names = iter(np.linspace(0.9, 0.1, len(levels)))
    for level in levels:
        line = iso_line(fitted, level, grid)
        inside = (line.test_flops > bottom) & (line.test_flops < top)
        if inside.sum() < 2:
            continue
        clipped = settled(line.test_flops).clip(bottom, top)  # a steep line ends at the frame
        ends = np.convolve(inside, [1, 1, 1], "same") > 0
        ax.plot(grid[ends], clipped[ends], color="0.25", lw=0.9, zorder=2)
        band = (settled(values).clip(bottom, top) for values in (line.low, line.high))
        ax.fill_between(grid, *band, color="0.25", alpha=0.12, lw=0)
        low, high = np.log(clipped[inside].min()), np.log(clipped[inside].max())
        height = np.exp(low + next(names) * (high - low))
        at = np.flatnonzero(inside)[abs(np.log(clipped[inside] / height)).argmin()]
        halo = [patheffects.withStroke(linewidth=1.6, foreground="white")]
        where = {"ha": "center", "va": "center", "fontsize": 6, "zorder": 4}
        ax.text(grid[at], clipped[at], f"{level:.0%}", path_effects=halo, **where)
    ax.set(xlabel="train FLOPs", ylabel=UNIT_LABELS["flops"])
    return points


def _between_decades(ax, value: float, _: int) -> str:
    """Return the label of a minor tick: 2 and 5 of less than 1.3 decades, 3 and 7 of half a one."""
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
        ax.xaxis.set_minor_formatter(FuncFormatter(partial(_between_decades, ax)))
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
    """Write figure as PDF, SVG and PNG, and a JSON sidecar; return the paths.

    Errors: ValueError where one of them is there already and the kit did not write it; `force`
    overwrites it.

    The sidecar holds the runs drawn from with their hashes, the fitted numbers in `facts`, how to
    `redraw` it (a command or code), and hashes of the files, of the packages' versions and of the
    part `code` of the kit with all that it leans on: `check` compares them. The same inputs give
    the same bytes.
    """
    import matplotlib.pyplot as plt

    drawn = dict(zip(paths_of(name, folder), FORMATS.values(), strict=False))
    files: dict[Path, bytes] = {}
    with style():
        for path, dates in drawn.items():
            held = io.BytesIO()
            fig.savefig(held, format=path.suffix[1:], metadata=dates)
            files[path] = held.getvalue()
    plt.close(fig)
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
    """Return the versions of what a figure's bytes depend on."""
    names = ("numpy", "scipy", "pandas", "pyarrow", "matplotlib")
    return {"python": platform.python_version()} | provenance.versions(names)


def drawing_code(start: str) -> dict[str, str]:
    """Return hashes of the code that draws, from the part `start` of the kit on, and the style."""
    return provenance.code_hashes(start) | {STYLE.name: provenance.sha256(STYLE)[:16]}

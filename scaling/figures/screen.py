"""A curve and its law as SVG text for the screen, where each click draws anew.

matplotlib takes 50 to 100 ms for this picture, half of what a click may take. Figures that are
saved are drawn by it all the same (`plots`).
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from scaling.figures import plots
from scaling.records import Curve, Fit

SIZE = (742, 308)  #: of the picture on the screen, pixels
LEFT, WIDE, TOP, HIGH = (58, 436), 298, 28, 230  #: of its two panels; above them is the legend
BLUE, DASHED = plots.COLORS[0], 'stroke-dasharray="5 2.5"'
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}"
 font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">\
<rect width="100%" height="100%" fill="white"/>{2}</svg>"""


def picture(curve: Curve, fitted: Fit | None) -> bytes:
    """Return a curve with its law, forecast and residuals as SVG, as `explore.draw` draws them."""
    parts: list[str] = []
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
    return np.concatenate([fitted.band(part) for part in np.array_split(x, 3)], axis=1)


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
        text = f"{value:g}{suffix}".replace("-", "−")
        parts.append(written(left - 5, down(value) + 4, text, "end"))
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
    """Return the SVG of what points and lines are, in a line above the panels."""
    names = [(fitted, BLUE), (law, ""), ("held out", "white"), ("forecast", DASHED)][: 2 + 2 * held]
    at, y, parts = LEFT[0] + 20, TOP - 14, []
    for name, look in names:
        is_line = look in ("", DASHED)
        line = f'<path d="M{at - 20} {y}h16" stroke="{BLUE}" {look}/>'
        parts.append(line if is_line else dot(at - 12, y, look))
        parts.append(written(at, y + 4, escape(name), "start"))
        at += 40 + 6 * len(name)
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
    named = [(d * 10.0**e, f"{d}×" * (d > 1) + power.format(f"{e}".replace("-", "−")))
             for e in tens for d in first]  # fmt: skip
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

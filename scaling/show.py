"""Tables, cards and small pictures of results for notebooks and terminals. Strings only.

Knows no class of the kit and imports nothing heavy; every text is escaped. Figures for print are
drawn in `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Row = Mapping[Any, Any]
#: marks what a notebook must not typeset as mathematics, for versions 2 and 3 of MathJax
VERBATIM = 'class="tex2jax_ignore mathjax_ignore"'
WIDTH, HEIGHT = 190, 64  #: of the small picture, pixels


def verbatim(text: str) -> str:
    """Return text as HTML that shows it unchanged, also if a notebook typesets mathematics.

    MathJax pairs dollar signs ("$50 and spent $18") within one run of text: each is kept apart.

    >>> verbatim("$5 < $6")
    '<span>&#36;</span>5 &lt; <span>&#36;</span>6'
    """
    apart = escape(text).replace("$", "<span>&#36;</span>")
    return apart.replace("\\", "<span>&#92;</span>")


def number(value: Any) -> str:
    """Return a value as tables show it: numbers to three digits, text unchanged.

    >>> number(0.12345), number(123456), number(1.5e13), number(float("nan")), number("sums")
    ('0.123', '123,456', '1.5e+13', '–', 'sums')
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if math.isnan(value):
        return "–"
    whole = float(value).is_integer() and abs(value) < 1e7
    text = f"{int(value):,}" if whole else f"{value:.3g}"
    return text.replace("-", "−")


def with_interval(value: float, low: float, high: float) -> str:
    """Return an estimate with its interval.

    >>> with_interval(0.5, 0.41, 0.59)
    '0.5 [0.41, 0.59]'
    """
    return f"{number(float(value))} [{number(float(low))}, {number(float(high))}]"


def table_html(rows: Sequence[Row]) -> str:
    """Return rows as an HTML table."""
    head = "".join(f"<th>{verbatim(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{verbatim(number(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table {VERBATIM}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(
    x: Iterable[float],
    y: Iterable[float],
    low: Iterable[float],
    high: Iterable[float],
    log: bool = True,
) -> str:
    """Return an accuracy curve (y from 0 to 1) with its band as a small SVG, without NaN points.

    log: x on a log axis.
    """
    points = [p for p in zip(x, y, low, high, strict=True) if all(map(math.isfinite, p))]
    if not points:
        return ""
    across = [math.log(p[0]) if log else p[0] for p in points]
    span = max(across) - min(across) or 1.0

    def place(column: int, turn: int = 1) -> str:
        pairs = zip(across, (p[column] for p in points), strict=True)
        at = [(4 + (WIDTH - 8) * (a - min(across)) / span, HEIGHT - 4 - (HEIGHT - 8) * v)
              for a, v in pairs]  # fmt: skip
        return " ".join(f"{left:.1f},{top:.1f}" for left, top in at[::turn])

    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="accuracy from {points[0][1]:.3g} to {points[-1][1]:.3g}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>'
        f'<polygon points="{place(2)} {place(3, -1)}" fill="#0072B2" opacity="0.2"/>'
        f'<polyline points="{place(1)}" fill="none" stroke="#0072B2" stroke-width="1.5"/></svg>'
    )


def card(title: str, facts: Row, *below: str) -> str:
    """Return a title with a table of facts, next to a picture or a table in HTML."""
    lines = "".join(
        f'<tr><td style="text-align:left;color:#666">{verbatim(name)}</td>'
        f'<td style="text-align:left">{verbatim(number(value))}</td></tr>'
        for name, value in facts.items()
    )
    return (
        f'<div {VERBATIM}><b>{verbatim(title)}</b><div style="display:flex;gap:1.5em;'
        f'align-items:center;flex-wrap:wrap"><table>{lines}</table>{"".join(below)}</div></div>'
    )

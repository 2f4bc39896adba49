"""The two figures of a report, a panel per run."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from scaling.figures import plots
from scaling.figures.names import selector_name
from scaling.report.numbers import Entry
from scaling.runs import Runs

LETTERS = 50  #: characters per line of a panel's title
FIGURES = ("coverage_and_law", "accuracy_by_flops")


def draw(found: Sequence[Entry]) -> dict[str, Any]:
    """Return the report's figures by name."""
    across = min(2, len(found))
    down = -(-len(found) // across)
    size = {"width": plots.PAGE if across > 1 else 4.5, "height": 2.3 * down + 0.3}
    known = list(dict.fromkeys(name for entry in found for name in entry.selectors))
    drawn = {}
    for name in FIGURES:
        with plots.style():
            fig, axes = plots.figure(down, across, **size)
            for ax, entry in zip(axes.flat, found, strict=False):
                title = f"{entry.run.task}, {entry.called}, {entry.run.label}"
                lines = "\n".join(map(_plain, wrap(title, LETTERS)))
                ax.set_title(f"{lines}  ($n$={entry.coverage.n_problems})")
                if name == "accuracy_by_flops":
                    _selectors(ax, entry, known)
                else:
                    _law(ax, entry)
                ax.set_ylim(0, 1.02)
            for ax in axes.flat[len(found) :]:
                ax.axis("off")
            if name == "accuracy_by_flops":
                plots.legend_below(fig, axes.flat)
        drawn[name] = fig
    return drawn


def _selectors(ax: Any, entry: Entry, known: list[str]) -> None:
    """Draw each selector against cost; its place in `known` gives it one style in all panels."""
    for selector in entry.selectors:
        found = entry.run.curve(selector, Runs([entry.run]).cost_unit)
        style = plots.series_style(known.index(selector)) | {"label": selector_name(selector)}
        plots.draw_curve(ax, found, **style)


def _law(ax: Any, entry: Entry) -> None:
    """Draw coverage, with its law if there is one."""
    plots.draw_forecast(ax, entry.coverage, entry.law[0])
    if not entry.run.method.exchangeable:
        every = -(-len(entry.coverage.x) // 8)  # so that labels do not overlap
        ax.set(xticks=entry.coverage.x[every - 1 :: every], xlabel="steps of a chain")


def _plain(text: str) -> str:
    """Return text that matplotlib prints literally, with ? for characters its font may lack."""
    return "".join(c if " " <= c <= "~" or c == "·" else "?" for c in text).replace("$", r"\$")

"""The figures of a report, a panel per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap
from typing import Any

from scaling.figures import plots
from scaling.figures.gallery import legend_below
from scaling.figures.names import SELECTOR_NAMES
from scaling.report.numbers import Part, selectors
from scaling.runs import Runs

LETTERS = 50  #: of a panel's title in one line
FIGURES = {
    "coverage_and_law": "Coverage against samples (steps, for revision) with its law; bars and "
    "bands are intervals, open points were held out.",
    "accuracy_by_flops": "Accuracy by selector against test FLOPs (tokens, of a model whose FLOPs "
    "are unknown); bands are intervals.",
}


def draw(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the report's figures by name, a panel per run."""
    across = min(2, len(parts))
    down = -(-len(parts) // across)
    size = {"width": plots.PAGE if across > 1 else 4.5, "height": 2.3 * down + 0.3}
    known = list(dict.fromkeys(name for part in parts for name in selectors(part.pool)))
    drawn = {}
    for name in FIGURES:
        with plots.style():
            fig, axes = plots.figure(down, across, **size)
            for ax, part in zip(axes.flat, parts, strict=False):
                _panel(ax, part, name, known)
            for ax in axes.flat[len(parts) :]:
                ax.axis("off")
            if name == "accuracy_by_flops":
                legend_below(fig, axes.flat)
        drawn[name] = fig
    return drawn


def _panel(ax, part: Part, name: str, known: list[str]) -> None:
    """Draw one run's panel; a selector looks alike in all, by its place in `known`."""
    title = f"{part.pool.task}, {part.called}, {part.pool.label}"
    lines = "\n".join(map(_plain, wrap(title, LETTERS)))
    ax.set_title(f"{lines}  ($n$={part.coverage.n_problems})")
    if name == "accuracy_by_flops":
        for selector in selectors(part.pool):
            found = part.pool.curve(selector, Runs([part.pool]).cost_unit)
            found = replace(found, label=SELECTOR_NAMES[selector])
            plots.draw_curve(ax, found, **plots.look(known.index(selector)))
    elif part.fitted is None:
        plots.draw_curve(ax, part.coverage, **plots.look(0))
    else:
        plots.draw_forecast(ax, part.coverage, part.fitted)
    if part.pool.plan.method != "best_of_n" and name != "accuracy_by_flops":
        every = -(-len(part.coverage.x) // 8)  # so that labels stay apart
        ax.set(xticks=part.coverage.x[every - 1 :: every], xlabel="steps of a chain")
    ax.set_ylim(0, 1.02)


def _plain(text: str) -> str:
    """Return text that matplotlib prints as it is, in a font that has its characters."""
    return "".join(c if " " <= c <= "~" or c == "·" else "?" for c in text).replace("$", r"\$")

"""The figure of learning to think: the two panels of o1.

Rewarded checkpoints are named by their cards: `thinking/0.1M/start` imitates, and
`thinking/0.1M/grpo/3e12` has had 3e12 FLOPs of reward training after that. `thinking/0.1M-3e13/...`
began with 3e13 FLOPs of pre-training, the others with the most that their size has had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.curves import Curve, Fit
from scaling.figures import plots
from scaling.figures.plane import curve_across, summary
from scaling.figures.plots import points_of
from scaling.fits import fit, forecast
from scaling.fits.published import curves as published
from scaling.intervals import wilson
from scaling.runs import Run, Runs

FITTED = 0.5  #: laws are fitted up to this share of the largest budget, the rest is forecast
NAMES = {"grpo": "GRPO", "expert": "expert iteration"}  #: in legends


# ---------------------------------------------------------------- runs by how they were trained
def families(runs: Runs) -> dict[str, list[Run]]:
    """Return thinking runs by how they were trained, each from least to most training.

    Only those that began with the most pre-training of their size: imitation, grpo, expert.
    """
    found: dict[str, list[Run]] = {}
    for run in runs.select("countdown", "thinking") if "countdown" in runs.tasks else ():
        project, size, kind, *_ = *run.card.name.split("/"), "", ""
        if project == "thinking" and "-" not in size:
            found.setdefault(kind.replace("start", "imitation"), []).append(run)
    return found


def direct_runs(runs: Runs) -> list[Run]:
    """Return best-of-N of models of the thinkers' size on the thinkers' problems, by training.

    The runs of the folder `thinking` next to the given ones are read too.
    """
    start, extra = families(runs)["imitation"][0], runs[0].path.parent / "thinking"
    both = runs + (Runs.load(extra) if any(extra.glob("*/manifest.json")) else [])
    found = [
        run
        for run in both.select("countdown", "best_of_n")
        if run.card.n_params == start.card.n_params
        and run.problems["id"].equals(start.problems["id"])
    ]
    return sorted(found, key=lambda run: run.card.train_flops)


# ---------------------------------------------------------------- the two panels of o1
def reward_curve(rewarded: Sequence[Run], start: Run, level: str = "all") -> Curve:
    """Return accuracy at the largest thinking budget against FLOPs of the reward phase."""
    curves = [run.curve("last", level=level) for run in rewarded]
    spent = [run.card.train_flops - start.card.train_flops for run in rewarded]
    return curve_across(curves, spent, x_unit="flops", estimator="pass@1")


def points_and_law(shown: Curve, **at: Any) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    """Return (points, the line fitted to the cheaper ones and its forecast of the others; facts).

    At least three points are fitted; fewer than four are shown without a line.
    """
    points = [points_of(shown, mark="points", **at)]
    share = max(FITTED, *np.sort(shown.x)[2:3] / shown.x.max(), 0)
    if len(shown.x) < 4 or share >= 1:
        return points, {"message": "too few points to forecast"}
    fitted, held_out = forecast("log_line", shown, share)
    facts = summary(fitted) | {"held_out_error": held_out.error.tolist()}
    points.append(plots.forecast_points(shown, fitted, **at))
    return points, facts | {"n_held_out": len(held_out)}


def o1_two_panels(runs: Runs, level: str = "all", unit: str = "flops") -> plots.Drawn | None:
    """Pass@1 against reward compute, accuracy against thinking compute, published points of o1."""
    found = families(runs)
    if "imitation" not in found or len(found) < 2:
        return None
    start, facts = found.pop("imitation")[0], {}
    tables: dict[str, list[pd.DataFrame]] = {"train": [], "test": []}
    fig, axes = plots.figure(2, 3, height=3.8, width_ratios=(1.4, 1.4, 1))
    spec = axes[0, 0].get_gridspec()
    for ax in axes[:, :2].ravel():
        ax.remove()
    panels = {side: fig.add_subplot(spec[:, i]) for i, side in enumerate(tables)}
    last = {name: rewarded[-1] for name, rewarded in found.items()} | {"imitation": start}
    curves = [
        ("train", name, reward_curve(rewarded, start, level)) for name, rewarded in found.items()
    ]
    curves += [("test", name, run.curve("last", unit, level)) for name, run in last.items()]
    for side, name, shown in curves:
        look, label = list(last).index(name), NAMES.get(name, name)
        rows, facts[f"{side} {name}"] = points_and_law(shown, panel=side, series=label, look=look)
        tables[side] += rows
    first = start.curve("last", unit, level)
    panels["train"].axhspan(first.low[-1], first.high[-1], color="0.5", alpha=0.15, lw=0)
    panels["train"].axhline(first.y[-1], color="0.5", linestyle=":", label="start: imitation")
    titles = {"train": "reward training", "test": "the last checkpoints"}
    for side, ax in panels.items():
        plots.draw_table(ax, pd.concat(tables[side]))
        ax.set(title=f"{titles[side]}  ($n$={first.n_problems})", ylim=(0, 1.02), ylabel="")
        ax.legend(loc="upper left", title="open: held out")
    panels["train"].set(xlabel="train FLOPs of the reward phase", ylabel="pass@1")
    for ax, name, title, axis in (
        (axes[0, 2], "o1_test_time_aime", "o1, digitised", "relative test compute"),
        (axes[1, 2], "o1_mini_aime2024", "o1-mini ($n$=30)", "thinking tokens"),
    ):
        facts[name] = summary(draw_published(ax, name))
        ax.set(title=title, xlabel=axis, ylabel="AIME 2024", ylim=(0, 1.02))
    return plots.Drawn(fig, facts, pd.concat(tables["train"] + tables["test"]))


def draw_published(ax, name: str) -> Fit:
    """Draw a published curve with the line fitted to it; its points count as independent."""
    table = published(name)
    x, y, n = (table[column].to_numpy(float) for column in ("x", "y", "n"))
    y = y / 100 if y.max() > 1 else y
    fitted = fit("log_line", x, y)
    low, high = wilson(np.round(y * n), n) if np.isfinite(n).all() else (y, y)
    plots.draw_points(ax, x, y, low, high, color=plots.COLORS[6], marker="o", markersize=2.5)
    plots.draw_fit(ax, fitted, np.geomspace(x[0], x[-1], 60), color=plots.COLORS[6])
    plots.accuracy_axes(ax, "tokens")
    return fitted

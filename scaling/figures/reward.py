"""The figure of training by reward: accuracy, trace length and returns against its compute."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scaling.figures import plots

PANELS = {"accuracy": "accuracy", "tokens": "tokens per trace", "returns": "share"}
SHARES = {"returns": "traces that return", "repeats": "dead ends entered again"}


def learning_to_think(log: pd.DataFrame, lengths: Mapping[str, float] | None = None) -> plots.Drawn:
    """Return the figure of a log (`runs.reward_log`): a panel per quantity, a line per level.

    The start, which has had no reward, is drawn at half of the least compute. lengths: known mean
    lengths of searches by name, drawn as dotted lines. The third panel is over all levels: the
    share of traces that return to a junction, and the share of dead ends that are entered again.
    """
    from matplotlib import colormaps

    levels = [level for level in log["level"].unique() if level != "all"]
    colors = dict(zip(levels, colormaps["viridis"](np.linspace(0, 0.9, len(levels))), strict=True))
    least = log.loc[log["reward_flops"] > 0, "reward_flops"].min()
    log = log.assign(x=log["reward_flops"].where(log["reward_flops"] > 0, least / 2))
    fig, axes = plots.figure(1, 3, height=2.5)
    for (column, label), ax in zip(PANELS.items(), axes[0], strict=True):
        for level in levels if column != "returns" else ():
            rows = log[log["level"] == level]
            known = column == "accuracy"
            low, high = (rows[end] if known else np.nan for end in ("low", "high"))
            style = {"color": colors[level], "marker": "o", "markersize": 2, "label": level}
            plots.draw_series(ax, rows["x"], rows[column], low, high, "line", **style)
        ax.set(xscale="log", xlabel="train FLOPs of the reward phase", ylabel=label)
    total = log[log["level"] == "all"]
    for i, (column, label) in enumerate(SHARES.items()):
        style = plots.series_style(i) | {"markersize": 2, "label": label}
        plots.draw_series(axes[0, 2], total["x"], total[column], **style)
    for name, length in (lengths or {}).items():
        axes[0, 1].axhline(length, color="0.5", linestyle=":", linewidth=0.8)
        axes[0, 1].annotate(name, (least / 2, length), fontsize=6, va="bottom")
    axes[0, 0].set(ylim=(0, 1.02))
    axes[0, 0].legend(title="junctions", ncols=2, fontsize=6, handlelength=1, columnspacing=0.8)
    axes[0, 2].set(ylim=(0, 1.02))
    axes[0, 2].legend()
    last = total.iloc[-1]
    facts = {name: float(last[name]) for name in ("samples", "reward_flops", "accuracy", "tokens")}
    return plots.Drawn(fig, facts, log)

"""The figures of the study, drawn from its table of results alone: no runs, no models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from scaling.figures import plots
from scaling.fits import fit

ISO = (0.25, 0.5, 0.75)  #: coverages of the lines in the heat map
SHOWN = 0.5  #: accuracy whose cost the figure of exchange shows


def part(table: pd.DataFrame, result: str, quantity: str, case: str) -> pd.DataFrame:
    """Return the rows of a result whose quantity and case match, with the groups of `case`.

    quantity, case: regular expressions that match in full; named groups of both become columns.
    Errors: ValueError where there is none.
    """
    rows = table[table["result"] == result]
    named = [rows[column].str.extract(f"^{pattern}$") for column, pattern in
             (("quantity", f"(?P<_q>{quantity})"), ("case", f"(?P<_c>{case})"))]  # fmt: skip
    found = pd.concat([rows, *named], axis=1).dropna(subset=["_q", "_c"])
    if found.empty:
        raise ValueError(f"the table of results has no {quantity} of {result}")
    return found.drop(columns=["_q", "_c"]).reset_index(drop=True)


def sizes(table: pd.DataFrame) -> plots.Drawn:
    """Draw the loss of paths, and their pass@1, against training compute: a line per size."""
    rows = part(table, "ladder", "(?:nats per token|pass@1), (?P<kind>[^,]*).*",
                r"maze/(?P<size>[\d.]+M)/(?P<budget>.*)")  # fmt: skip
    rows = rows.assign(budget=rows["budget"].astype(float))
    kinds, names = rows["kind"].unique(), sorted(rows["size"].unique(), key=lambda s: float(s[:-1]))
    fig, axes = plots.figure(2, len(kinds), height=4.4, sharex=True, sharey="row")
    for column, kind in zip(axes.T, kinds, strict=True):
        for ax, what in zip(column, ("nats per token", "pass@1"), strict=True):
            for look, size in enumerate(names):
                chosen = rows["quantity"].str.startswith(what) & (rows["kind"] == kind)
                line = rows[chosen & (rows["size"] == size)].sort_values("budget")
                style = plots.series_style(look) | {"label": size}
                ends = line["low"], line["high"]
                plots.draw_series(ax, line["budget"], line["value"], *ends, "points", **style)
            ax.set(xscale="log")
        column[0].set(title=kind, yscale="log")
        column[1].set(xlabel="train FLOPs", ylim=(0, 1.02))
    axes[0, 0].set_ylabel("loss of the right path\n(nats per token)")
    axes[1, 0].set_ylabel("pass@1 of a path\n(1 to 4 junctions)")
    axes[0, 0].legend(title="parameters", ncols=2)
    return plots.Drawn(fig, {"problems": int(rows["n"].max())}, rows)


def equal_cost(table: pd.DataFrame) -> plots.Drawn:
    """Draw what one search gains over direct paths of equal cost, against training compute."""
    rows = part(table, "thinking_pays", "gain over coverage",
                r"[\d.]+M/(?P<budget>[\d.e]+), (?P<depth>\d+)(?P<kind>.*)")  # fmt: skip
    rows = rows.assign(budget=rows["budget"].astype(float))
    kinds = {"": "mazes", "x2x2": "mazes with corridors"}
    fig, axes = plots.figure(1, len(kinds), height=2.6, sharey=True)
    for ax, (kind, title) in zip(axes[0], kinds.items(), strict=True):
        for look, depth in enumerate(rows["depth"].unique()):
            line = rows[(rows["kind"] == kind) & (rows["depth"] == depth)].sort_values("budget")
            y, low, high = (100 * line[name] for name in ("value", "low", "high"))
            style = plots.series_style(look) | {"label": f"{depth} junctions"}
            plots.draw_series(ax, line["budget"], y, low, high, "points", **style)
        ax.axhline(0, color="0.5", linewidth=0.6)
        ax.set(xscale="log", xlabel="train FLOPs", title=title)
    axes[0, 0].set_ylabel("gain of one search over direct paths\nof equal cost (points)")
    axes[0, 1].legend()
    return plots.Drawn(fig, {"problems": int(rows["n"].max())}, rows)


def lengths(table: pd.DataFrame) -> plots.Drawn:
    """Draw coverage over (samples, tokens of each) as a heat map; direct paths are length 0."""
    rows = part(table, "lengths", "coverage",
                r"(?P<level>\S+), (?P<samples>\d+) x (?P<length>\d+)")  # fmt: skip
    rows = rows.assign(samples=rows["samples"].astype(int), length=rows["length"].astype(int))
    shown = [level for level in ("4", "8", "4x2x2", "8x2x2") if level in set(rows["level"])]
    fig, axes = plots.figure(1, len(shown), height=2.5, sharey=True)
    for ax, level in zip(axes[0], shown, strict=True):
        of_level = rows[rows["level"] == level]
        grid = of_level.pivot_table("value", "length", "samples")
        image = ax.imshow(grid, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="viridis")
        for (i, j), value in np.ndenumerate(grid.to_numpy()):
            if np.isfinite(value):
                color = "white" if value < 0.6 else "black"
                ax.text(
                    j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=5, color=color
                )
        ax.contour(grid, levels=ISO, colors="white", linewidths=0.8)
        ax.grid(False)
        depth, corridors = level.partition("x")[::2]
        ax.set(title=f"{depth} junctions" + ", corridors" * bool(corridors), xlabel="samples")
        ax.set_xticks(range(len(grid.columns)), grid.columns)
        ax.set_yticks(range(len(grid.index)), ["direct", *grid.index[1:]])
    axes[0, 0].set_ylabel("tokens of a search")
    fig.colorbar(image, ax=axes[0].tolist(), pad=0.01, label="coverage (lines: 25, 50, 75 %)")
    return plots.Drawn(fig, {"problems": int(rows["n"].max())}, rows)


def o1(table: pd.DataFrame) -> plots.Drawn:
    """Draw accuracy against compute of training by reward, and against thinking tokens.

    Laws are fitted to the cheaper points (solid) and forecast the open ones (dashed).
    """
    trained = part(table, "reward", "accuracy", r"maze-quit/0\.05M, all, (?P<x>\S+) FLOPs")
    thought = part(table, "serial", "accuracy", r"all, (?P<x>\d+) thinking tokens")
    panels = {
        "training by reward (mazes)": (trained, "bnsl", 0.26, "train FLOPs of the reward phase"),
        "thinking (permutations)": (thought, "log_line", 0.13, "thinking tokens"),
    }
    fig, axes = plots.figure(1, 2, height=2.6, sharey=True)
    for ax, (title, (rows, law, share, label)) in zip(axes[0], panels.items(), strict=True):
        rows = rows.assign(x=rows["x"].astype(float)).query("x > 0").sort_values("x")
        x, y = rows["x"].to_numpy(), rows["value"].to_numpy()
        early = x <= share * x.max()
        fitted = fit(law, x[early], y[early], bootstrap=0)
        for chosen, face in ((early, None), (~early, "none")):
            some = rows[chosen]
            style = {"color": plots.COLORS[0], "marker": "o", "linestyle": "", "mfc": face}
            plots.draw_points(ax, some["x"], some["value"], some["low"], some["high"], **style)
        for low, high, dashes in ((x[0], x[early][-1], "-"), (x[early][-1], x[-1], "--")):
            grid = np.geomspace(low, high, 60)
            ax.plot(grid, fitted.predict(grid), color=plots.COLORS[0], linestyle=dashes)
        ax.set(
            xscale="log", xlabel=label, ylim=(0, 1.02), title=f"{title}, n = {rows['n'].max():g}"
        )
    axes[0, 0].set_ylabel("accuracy")
    return plots.Drawn(fig, {}, pd.concat([trained, thought]))


def known_truth(table: pd.DataFrame) -> plots.Drawn:
    """Draw the coverage of a walker that cannot look ahead, next to the exact one of its task."""
    rows = part(table, "truth", r"coverage at (?P<x>\d+) samples", "(?P<who>all levels|exact)")
    rows = rows.assign(x=rows["x"].astype(float)).sort_values("x")
    fig, axes = plots.figure(1, 1, width=3.4, height=2.6)
    ax = axes[0, 0]
    exact, found = (rows[rows["who"] == who] for who in ("exact", "all levels"))
    ax.plot(exact["x"], exact["value"], color="0.4", linestyle=":", label="exact, from the task")
    style = plots.series_style(0) | {"linestyle": "", "label": "a trained walker"}
    plots.draw_points(ax, found["x"], found["value"], found["low"], found["high"], **style)
    ax.set(xscale="log", xlabel="samples", ylabel="coverage", ylim=(0, 1.02))
    ax.set_title(f"10 levels of 1 to 10 junctions, n = {found['n'].max():g}")
    ax.legend(loc="upper left")
    return plots.Drawn(fig, {}, rows)


def exchange(table: pd.DataFrame) -> plots.Drawn:
    """Draw the test compute that reaches an accuracy against training compute, per level."""
    rows = part(table, "exchange", f"test compute for {SHOWN:g}",
                r"(?P<level>\S+), (?P<kind>thinking|samples), (?P<budget>\S+) .*",
                )  # fmt: skip
    rows = rows.assign(budget=rows["budget"].astype(float))
    labels = {"thinking": "FLOPs of new tokens, one trace", "samples": "direct paths"}
    fig, axes = plots.figure(1, len(labels), height=2.8)
    levels = list(rows["level"].unique())
    for ax, (kind, label) in zip(axes[0], labels.items(), strict=True):
        for look, level in enumerate(levels):
            line = rows[(rows["kind"] == kind) & (rows["level"] == level)].sort_values("budget")
            style = plots.series_style(look) | {"label": level}
            ends = line["low"], line["high"].replace(np.inf, np.nan)
            plots.draw_series(ax, line["budget"], line["value"], *ends, "points", **style)
        ax.set(xscale="log", yscale="log", xlabel="train FLOPs", ylabel=label)
        ax.set_title(f"{label} for {SHOWN:.0%} right")
    plots.legend_below(fig, axes[0][:1])
    return plots.Drawn(fig, {"accuracy": SHOWN}, rows)


LINES = {  #: unit -> title
    "thinking": "all lists; thin: lists of so many swaps",
    "flops": "the same answers; the prompt is charged once",
}


def thinking_tokens(table: pd.DataFrame) -> plots.Drawn:
    """Draw accuracy against thinking tokens and FLOPs, with a line and its forecast."""
    rows = part(table, "serial", "accuracy|FLOPs|majority",
                r"(?P<level>\w+), (?P<budget>\d+) (?P<kind>thinking tokens|direct answers)",
                )  # fmt: skip
    rows = rows.assign(budget=rows["budget"].astype(float))
    thinking, votes = (
        rows[(rows["kind"] == kind) & (rows["budget"] > 0)]
        for kind in ("thinking tokens", "direct answers")
    )
    accuracy = thinking[thinking["quantity"] == "accuracy"]
    points = accuracy[accuracy["level"] == "all"]
    flops = thinking[thinking["quantity"] == "FLOPs"]
    fig, axes = plots.figure(1, 2, height=2.7, sharey=True)
    facts, drawn = {}, []
    for unit, x in (("thinking", points["budget"]), ("flops", flops["value"])):
        law = part(table, "serial", ".*", f"log_line in {unit}.*")
        facts[unit] = law.set_index("quantity")["value"].drop("forecast").to_dict()
        drawn += with_forecast(unit, x.to_numpy(), points, law, facts[unit])
    spent = votes.loc[votes["quantity"] == "FLOPs", "value"].to_numpy()
    name = "majority of 1 to 64 direct answers"
    drawn.append(series("flops", name, "line", spent, votes[votes["quantity"] == "majority"], 1))
    shown = pd.concat(drawn)
    for ax, (unit, title) in zip(axes[0], LINES.items(), strict=True):
        plots.draw_table(ax, shown[shown["panel"] == unit]).set(title=title, ylim=(0, 1.1))
    counts = accuracy["level"].value_counts(sort=False).drop("all")
    for level in counts.index[counts > 1]:
        line = accuracy[accuracy["level"] == level]
        tokens, y = line["budget"].to_numpy(), line["value"].to_numpy()
        axes[0, 0].plot(tokens, y, color="0.7", linewidth=0.6, zorder=1)
        axes[0, 0].text(tokens[y.argmax()], 1.03, level, fontsize=6, ha="center")
    axes[0, 1].set_ylabel("")
    plots.legend_below(fig, axes[0], ncols=5)
    return plots.Drawn(fig, facts, shown)


def with_forecast(
    unit: str, x: np.ndarray, points: pd.DataFrame, law: pd.DataFrame, numbers: dict[Any, float]
) -> list[pd.DataFrame]:
    """Return the points, the line up to where it was fitted, and its forecast, as series.

    Points that the line was fitted to are full, held-out points open.
    """
    forecast = law[law["quantity"] == "forecast"]
    n = len(x) - len(forecast)
    line = pd.DataFrame({"value": numbers["a"] + numbers["b"] * np.log10(x[:n])})
    line = line.assign(low=line["value"], high=line["value"])
    return [
        series(unit, "line in the logarithm", "fitted law", x[:n], line),
        series(unit, "forecast", "law", x[n - 1 :], pd.concat([line[-1:], forecast])),
        series(unit, f"fitted, $n$={points['n'].max():,.0f}", "points", x[:n], points[:n]),
        series(unit, "held out", "open points", x[n:], points[n:]),
    ]


def series(
    unit: str, name: str, mark: str, x: np.ndarray, rows: pd.DataFrame, look: int = 0
) -> pd.DataFrame:
    """Return rows of the table of results at x, as a series for `plots.draw_table`."""
    values = rows[["value", "low", "high"]].rename(columns={"value": "y"})
    return values.assign(panel=unit, series=name, x=x, unit=unit, mark=mark, look=look)


STUDY_FIGURES: dict[str, Callable[[pd.DataFrame], plots.Drawn]] = {
    "study_o1": o1,
    "study_known_truth": known_truth,
    "study_sizes": sizes,
    "study_equal_cost": equal_cost,
    "study_lengths": lengths,
    "study_exchange": exchange,
    "study_thinking_tokens": thinking_tokens,
}

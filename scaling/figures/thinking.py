"""The figures of learning to think: the two panels of o1, and what mix of compute is best.

Rewarded checkpoints are told apart by their cards: `thinking/0.1M/start` imitates, and
`thinking/0.1M/grpo/3e12` has had so many FLOPs of reward more. Reads logs only, draws, never fits
by other means than `fits`; `figures.FIGURES` lists what is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.curves import Pool, curve
from scaling.figures import plots
from scaling.fits import fit
from scaling.fits.forecast import forecast
from scaling.fits.laws import Law
from scaling.fits.published import curves as published
from scaling.records import Curve, Fit

HELD = 0.5  #: laws are fitted up to this share of the largest budget, the rest is forecast
NAMES = {"grpo": "GRPO", "expert": "expert iteration"}  #: as legends name them
QUERIES = (1e4, 1e6, 1e8)  #: problems answered over a model's life


def log_line(x: np.ndarray, a: np.ndarray, b: np.ndarray):
    """Return a + b log10 x, and its slopes."""
    log = np.log10(x)
    return a + b * log, (np.ones_like(log), log)


LOG_LINE = Law("log_line", ("a", "b"), log_line, {}, lambda x: {}, "a + b log10 x",
               "any budget -> accuracy", "the axes of OpenAI, Learning to reason, 2024",
               linear=("a", "b"))  # fmt: skip


def family(pool: Pool) -> str:
    """Return how a thinker was trained: imitation, grpo, expert."""
    return pool.run.card.name.split("/")[2].replace("start", "imitation")


def families(study: Any) -> dict[str, list[Pool]]:
    """Return thinking pools by how they were trained, each from least to most training."""
    found: dict[str, list[Pool]] = {}
    for pool in study.select("countdown", "thinking"):
        if pool.run.card.name.startswith("thinking/"):
            found.setdefault(family(pool), []).append(pool)
    return found


def reward_curve(pools: Sequence[Pool], start: Pool, level: str = "all") -> Curve:
    """Return accuracy at the largest thinking budget against FLOPs of the reward phase."""
    shown = [curve(pool, "last", level=level) for pool in pools]
    ends = {name: np.array([getattr(c, name)[-1] for c in shown]) for name in ("y", "low", "high")}
    return Curve(
        x=np.array([p.run.card.train_flops - start.run.card.train_flops for p in pools]),
        replicates=np.stack([c.replicates[:, -1] for c in shown], axis=1),
        x_unit="flops",
        estimator="pass@1",
        n_problems=shown[0].n_problems,
        n_missing=sum(c.n_missing for c in shown),
        label=family(pools[0]),
        **ends,
    )


def draw_law(ax, shown: Curve, index: int, label: str) -> dict[str, Any]:
    """Draw points, a line fitted to the cheaper ones, and its forecast of the others (open).

    At least three points are fitted; fewer than four are drawn without a line. Return the facts.
    """
    share = max(HELD, *np.sort(shown.x)[2:3] / shown.x.max(), 0)
    if len(shown.x) < 4 or share >= 1:
        style = {"color": plots.COLORS[index], "marker": plots.MARKERS[index], "label": label}
        plots.draw_points(ax, shown.x, shown.y, shown.low, shown.high, **style)
        return {"message": "too few points to forecast"}
    fitted, held = forecast(LOG_LINE, shown, share)
    style = {"color": plots.COLORS[index], "marker": plots.MARKERS[index]}
    for part, face in ((slice(fitted.n_points), None), (slice(fitted.n_points, None), "none")):
        ends = [getattr(shown, name)[part] for name in ("x", "y", "low", "high")]
        fill = {"label": label} if face is None else {"mfc": face}
        plots.draw_points(ax, *ends, **style | fill)
    plots.draw_fit(ax, fitted, np.geomspace(shown.x[0], shown.x[-1], 60), color=style["color"])
    return facts_of(fitted) | {"held_out_error": held.error.tolist(), "n_held_out": len(held)}


def facts_of(fitted: Fit) -> dict[str, Any]:
    """Return a fit as a sidecar keeps it."""
    kept = ("law", "params", "interval", "success", "message", "rmse", "n_points")
    return {name: getattr(fitted, name) for name in kept}


def o1_two_panels(study: Any) -> tuple[Any, dict] | None:
    """Pass@1 against the compute of reward, and accuracy against that of thinking; o1 beside."""
    found = families(study)
    if "imitation" not in found or len(found) < 2:
        return None
    start, facts = found["imitation"][0], {}
    fig, axes = plots.figure(2, 3, height=3.8, width_ratios=(1.4, 1.4, 1))
    grid = axes[0, 0].get_gridspec()
    for ax in axes[:, :2].ravel():
        ax.remove()
    train, test = (fig.add_subplot(grid[:, column]) for column in (0, 1))
    first = curve(start, "last", "flops")
    train.axhspan(first.low[-1], first.high[-1], color="0.5", alpha=0.15, lw=0)
    train.axhline(first.y[-1], color="0.5", linestyle=":", label="start: imitation")
    rewarded = {name: pools for name, pools in found.items() if name != "imitation"}
    for index, (name, pools) in enumerate(rewarded.items()):
        shown = reward_curve(pools, start)
        facts[f"train {name}"] = draw_law(train, shown, index, NAMES.get(name, name))
    shown_last = {name: pools[-1] for name, pools in rewarded.items()} | {"imitation": start}
    for index, (name, pool) in enumerate(shown_last.items()):
        tested = curve(pool, "last", "flops")
        facts[f"test {name}"] = draw_law(test, tested, index, NAMES.get(name, name))
    n = shown.n_problems
    plots.accuracy_axes(train, "flops").set(
        xlabel="train FLOPs of the reward phase", ylabel="pass@1", title=f"reward  ($n$={n})"
    )
    plots.accuracy_axes(test, "flops").set(ylabel="", title=f"the last checkpoints  ($n$={n})")
    for ax in (train, test):
        ax.set_ylim(0, 1.02)
        ax.legend(loc="upper left", title="open: held out of the line")
    for ax, name, title, unit in (
        (axes[0, 2], "o1_test_time_aime", "o1, digitised", "relative test compute"),
        (axes[1, 2], "o1_mini_aime2024", "o1-mini ($n$=30)", "thinking tokens"),
    ):
        facts[name] = facts_of(draw_published(ax, name))
        ax.set(title=title, xlabel=unit, ylabel="AIME 2024", ylim=(0, 1.02))
    return fig, facts


def draw_published(ax, name: str) -> Fit:
    """Draw a published curve with the line fitted to it; its points count as independent."""
    from scaling.intervals import wilson

    table = published(name)
    x, y = table.x.to_numpy(float), table.y.to_numpy(float)
    y = y / 100 if y.max() > 1 else y
    fitted = fit(LOG_LINE, x, y)
    n = table.n.to_numpy(float)
    low, high = wilson(np.round(y * n), n) if np.isfinite(n).all() else (y, y)
    plots.draw_points(ax, x, y, low, high, color=plots.COLORS[6], marker="o", markersize=2.5)
    plots.draw_fit(ax, fitted, np.geomspace(x[0], x[-1], 60), color=plots.COLORS[6])
    return plots.accuracy_axes(ax, "tokens") and fitted


def offers(study: Any, level: str = "3x20") -> dict[str, np.ndarray]:
    """Return what each way of spending offers: rows of (train, test FLOPs, accuracy, low, high).

    Pre-training alone answers once, directly; imitation and reward think for any budget.
    """
    found = {}
    size = next(iter(families(study).values()))[0].run.card.n_params
    direct = [p for p in study.select("countdown") if p.run.card.n_params == size]
    ways = {"pre-training": [curve(p, "oracle", "flops", level, np.array([1]))
                                         for p in direct]}  # fmt: skip
    trained = {"pre-training": direct}
    for name, pools in families(study).items():
        ways[NAMES.get(name, name)] = [curve(p, "last", "flops", level) for p in pools]
        trained[NAMES.get(name, name)] = pools
    for name, shown in ways.items():
        rows = [
            (pool.run.card.train_flops, *point)
            for pool, c in zip(trained[name], shown, strict=True)
            for point in zip(c.x, c.y, c.low, c.high, strict=True)
        ]
        found[f"{name} ($n$={shown[0].n_problems})"] = np.array(rows)
    return found


def best_within(rows: np.ndarray, total: np.ndarray, queries: float) -> np.ndarray:
    """Return (totals, 3): accuracy, low, high of the best offer within each total; NaN: none.

    An offer costs its training once, and its test FLOPs for each of `queries` problems.
    """
    cost = rows[:, 0] + queries * rows[:, 1]
    best = np.full((len(total), 3), np.nan)
    for i, limit in enumerate(total):
        allowed = rows[cost <= limit]
        if len(allowed):
            best[i] = allowed[allowed[:, 2].argmax(), 2:]
    return best


def compute_mix(study: Any) -> tuple[Any, dict] | None:
    """The best accuracy that each mix of training and thinking reaches within a total compute."""
    if len(families(study)) < 2:
        return None
    found, facts = offers(study), {}
    fig, axes = plots.figure(1, len(QUERIES), height=2.9, sharey=True)
    for ax, queries in zip(axes[0], QUERIES, strict=True):
        costs = np.concatenate([rows[:, 0] + queries * rows[:, 1] for rows in found.values()])
        total = np.geomspace(costs.min(), costs.max() * 1.2, 200)
        for index, (name, rows) in enumerate(found.items()):
            best = best_within(rows, total, queries)
            style = {key: plots.look(index)[key] for key in ("color", "linestyle")}
            ax.plot(total, best[:, 0], drawstyle="steps-post", label=name, **style)
            ax.fill_between(
                total, best[:, 1], best[:, 2], color=style["color"], alpha=0.12, lw=0, step="post"
            )
            facts[f"{name} at {queries:g}"] = {"accuracy": best[-1, 0], "total": total[-1]}
        plots.accuracy_axes(ax, "flops").set(
            xlabel="train + test FLOPs", title=f"{queries:,.0f} answers", ylim=(0, 1.02)
        )
        ax.set_ylabel("best accuracy" if ax is axes[0][0] else "")
    named = axes[0][0].get_legend_handles_labels()
    title = "one answer without thinking, and three ways of learning to think"
    fig.legend(*named, title=title, loc="outside lower center", ncols=4)
    return fig, facts

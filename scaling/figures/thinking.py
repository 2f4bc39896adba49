"""Figures of learning to think: the two panels of o1, and the best mix of training and inference.

Rewarded checkpoints are named by their cards: `thinking/0.1M/start` imitates, and
`thinking/0.1M/grpo/3e12` has had 3e12 FLOPs of reward training after that. `thinking/0.1M-3e13/...`
began with 3e13 FLOPs of pre-training, the others with the most that their size has had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from scaling.figures import plots
from scaling.figures.plane import curve_across, summary
from scaling.figures.plots import points_of
from scaling.fits import fit, forecast
from scaling.fits.laws import Law
from scaling.fits.published import curves as published
from scaling.intervals import mean_interval, wilson
from scaling.records import Curve, Fit
from scaling.runs import Run, Runs

FITTED = 0.5  #: laws are fitted up to this share of the largest budget, the rest is forecast
NAMES = {"grpo": "GRPO", "direct-grpo": "GRPO", "expert": "expert iteration"}  #: in legends
AFTER = " after "  #: between how a model was trained and how much pre-training came before
QUERIES = (1e5, 1e6, 1e7)  #: problems answered over a model's life


def log_line(x: np.ndarray, a: np.ndarray, b: np.ndarray):
    """Return a + b log10 x, and its slopes."""
    log = np.log10(x)
    return a + b * log, (np.ones_like(log), log)


LOG_LINE = Law("log_line", ("a", "b"), log_line, {}, lambda x: {}, "a + b log10 x",
               "any budget -> accuracy", "the axes of OpenAI, Learning to reason, 2024",
               linear=("a", "b"))  # fmt: skip


# ---------------------------------------------------------------- runs by how they were trained
def family(run: Run) -> str:
    """Return how a model was trained: imitation, grpo, expert, "grpo after 3e13"."""
    _, size, kind, *_ = run.card.name.split("/")
    begun = size.partition("-")[2]
    return kind.replace("start", "imitation") + (AFTER + begun if begun else "")


def legend_name(family: str) -> str:
    """Return a family as legends name it."""
    kind, after, begun = family.partition(AFTER)
    return NAMES.get(kind, kind) + after + begun


def families(runs: Runs) -> dict[str, list[Run]]:
    """Return thinking runs by how they were trained, each from least to most training."""
    found: dict[str, list[Run]] = {}
    for run in runs.select("countdown", "thinking") if "countdown" in runs.tasks else ():
        if run.card.name.startswith("thinking/"):
            found.setdefault(family(run), []).append(run)
    return found


def with_extra_runs(runs: Runs) -> Runs:
    """Return runs with those of the folder `thinking` next to them added."""
    extra = runs[0].path.parent / "thinking"
    return runs + (Runs.load(extra) if any(extra.glob("*/manifest.json")) else [])


def comparable(runs: Runs, method: str, start: Run) -> list[Run]:
    """Return a method's runs of models of a start's size on its problems, by training."""
    found = [
        run
        for run in runs.select("countdown", method)
        if run.card.n_params == start.card.n_params
        and run.problems["id"].equals(start.problems["id"])
    ]
    return sorted(found, key=lambda run: run.card.train_flops)


def direct_runs(runs: Runs) -> list[Run]:
    """Return best-of-N of models of the thinkers' size on the thinkers' problems."""
    return comparable(with_extra_runs(runs), "best_of_n", families(runs)["imitation"][0])


# ---------------------------------------------------------------- the two panels of o1
def reward_curve(rewarded: Sequence[Run], start: Run, level: str = "all") -> Curve:
    """Return accuracy at the largest thinking budget against FLOPs of the reward phase."""
    curves = [run.curve("last", level=level) for run in rewarded]
    spent = [run.card.train_flops - start.card.train_flops for run in rewarded]
    label = family(rewarded[0])
    return curve_across(curves, spent, x_unit="flops", estimator="pass@1", label=label)


def points_and_law(shown: Curve, **at: Any) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    """Return points, the line fitted to the cheaper ones, its forecast of the others; the facts.

    At least three points are fitted; fewer than four are shown without a line.
    """
    points = [points_of(shown, mark="points", **at)]
    share = max(FITTED, *np.sort(shown.x)[2:3] / shown.x.max(), 0)
    if len(shown.x) < 4 or share >= 1:
        return points, {"message": "too few points to forecast"}
    fitted, held_out = forecast(LOG_LINE, shown, share)
    facts = facts_of(fitted) | {"held_out_error": held_out.error.tolist()}
    points.append(plots.forecast_points(shown, fitted, **at))
    return points, facts | {"n_held_out": len(held_out)}


def facts_of(fitted: Fit) -> dict[str, Any]:
    """Return what a sidecar keeps of a line."""
    return {name: value for name, value in summary(fitted).items() if name != "n_failed"}


def o1_two_panels(runs: Runs, level: str = "all", unit: str = "flops") -> plots.Drawn | None:
    """Pass@1 against reward compute, accuracy against thinking compute, published points of o1."""
    found = {kind: rows for kind, rows in families(runs).items() if AFTER not in kind}
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
        look, label = list(last).index(name), legend_name(name)
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
        facts[name] = facts_of(draw_published(ax, name))
        ax.set(title=title, xlabel=axis, ylabel="AIME 2024", ylim=(0, 1.02))
    return plots.Drawn(fig, facts, pd.concat(tables["train"] + tables["test"]))


def draw_published(ax, name: str) -> Fit:
    """Draw a published curve with the line fitted to it; its points count as independent."""
    table = published(name)
    x, y, n = (table[column].to_numpy(float) for column in ("x", "y", "n"))
    y = y / 100 if y.max() > 1 else y
    fitted = fit(LOG_LINE, x, y)
    low, high = wilson(np.round(y * n), n) if np.isfinite(n).all() else (y, y)
    plots.draw_points(ax, x, y, low, high, color=plots.COLORS[6], marker="o", markersize=2.5)
    plots.draw_fit(ax, fitted, np.geomspace(x[0], x[-1], 60), color=plots.COLORS[6])
    plots.accuracy_axes(ax, "tokens")
    return fitted


# ---------------------------------------------------------------- the best mix within a total
def traces_as_samples(run: Run, budget: int) -> Run:
    """Return a thinker's traces of one budget (a step) as a run of best-of-N: votes among traces.

    Their new tokens are those of thinking and answer, as if drawn at this budget; the prompt is
    computed once.
    """
    ledger = {name: values[:, :, [budget]] for name, values in run.ledger.items()}
    start = run.ledger["prompt_tokens"][:, :, -1:]
    thought = ledger["prompt_tokens"] + ledger["completion_tokens"] - start
    ledger |= {"prompt_tokens": start, "cached_tokens": start, "completion_tokens": thought}
    return run.with_arrays(
        plan=replace(run.plan, method="best_of_n", steps=1),
        correct=run.correct[:, :, [budget]],
        answers=run.answers[:, :, [budget]],
        ledger=ledger,
    )


def choices(run: Run) -> Iterator[tuple[Run, str]]:
    """Yield (best-of-N run, selector) of each way to choose an answer from a model's samples.

    For thinkers the log-probability chooses among complete traces alone: at a smaller budget a row
    holds that of the forced answer, or none where the trace had ended.
    """
    if run.method.exchangeable:
        yield from ((run, selector) for selector in ("majority", "logprob"))
        return
    budgets = [traces_as_samples(run, step) for step in range(run.plan.steps)]
    yield from ((traces, "majority") for traces in budgets)
    yield budgets[-1], "logprob"


def options(runs: Sequence[Run]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the costs and the accuracy of every way to spend compute, by kind of model.

    Costs are (options, 2), train and test FLOPs; accuracy is (problems, options), all on the same
    problems. Direct models answer once, vote, or choose by log-probability among N; thinkers think
    up to any budget, once or in parallel traces, among which the same two choose.
    """
    costs: dict[str, list[np.ndarray]] = {}
    values: dict[str, list[np.ndarray]] = {}
    for run in runs:
        rewarded = run.card.name.startswith("thinking/")
        how = "direct" if run.method.exchangeable else "thinking"
        kind = f"{how}: {legend_name(family(run)) if rewarded else 'pre-training'}"
        for traces, selector in choices(run):
            k = traces.budgets()
            test = traces.cost("flops", k).mean(axis=0)
            train = np.full(len(k), run.card.train_flops)
            costs.setdefault(kind, []).append(np.stack([train, test], axis=1))
            values.setdefault(kind, []).append(traces.values(selector, k))
    return {kind: (np.concatenate(costs[kind]), np.concatenate(values[kind], axis=1))
            for kind in costs}  # fmt: skip


def chosen_within(cost: np.ndarray, values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return (problems, totals): values of the best option within each total; NaN: none.

    The best of many noisy options looks better than it is. So it is chosen on one half of the
    problems and scored on the other, both ways. cost: (options,); values: (problems, options).
    """
    half = np.arange(len(values)) % 2
    scored = np.full((len(values), len(totals)), np.nan)
    means = np.stack([values[half != side].mean(axis=0) for side in (0, 1)])
    for i, total in enumerate(totals):
        allowed = np.flatnonzero(cost <= total)
        for side in (0, 1) if len(allowed) else ():
            best = allowed[means[side, allowed].argmax()]
            scored[half == side, i] = values[half == side, best]
    return scored


def best_within(cost: np.ndarray, values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return (totals, 3): accuracy, low, high of what `chosen_within` finds."""
    scored = chosen_within(cost, values, totals)
    best = np.full((len(totals), 3), np.nan)
    known = np.isfinite(scored[0])
    if known.any():
        found = mean_interval(scored[:, known])
        best[known] = np.stack([found.value, found.low, found.high], axis=1)
    return best


def steps_of(totals: np.ndarray, best: np.ndarray) -> Curve:
    """Return what `best_within` found as a curve, at the totals where it changes."""
    known = np.isfinite(best[:, 0])
    totals, best = totals[known], best[known]
    changes = np.any(np.diff(best, axis=0, prepend=np.nan) != 0, axis=1)
    changes[-1] = True
    y, low, high = best[changes].T
    return Curve(totals[changes], y, low, high, np.empty((0, 0)), "flops")


def compute_mix(runs: Runs) -> plots.Drawn | None:
    """The best accuracy within a total compute, for each mix of training and thinking."""
    if len(families(runs)) < 2:
        return None
    start, wide = families(runs)["imitation"][0], with_extra_runs(runs)
    compared = [
        run for method in ("best_of_n", "thinking") for run in comparable(wide, method, start)
    ]
    extra = {run.path.name: run.sha256 for run in compared if run not in runs}
    facts, tables = {"beside": extra}, []
    found = options(compared)
    bases = list(dict.fromkeys(name.partition(AFTER)[0] for name in found))
    for queries in QUERIES:
        costs = {name: cost @ [1, queries] for name, (cost, _) in found.items()}
        every = np.concatenate(list(costs.values()))
        totals = np.geomspace(every.min(), every.max() * 1.2, 200)
        for name, (_, values) in found.items():
            base, after, _ = name.partition(AFTER)
            best = best_within(costs[name], values, totals)
            steps, panel = steps_of(totals, best), f"{queries:,.0f} answers"
            mark = "dotted steps" if after else "steps"
            tables.append(points_of(steps, panel, name, mark, bases.index(base)))
            last = dict(zip(("accuracy", "low", "high"), best[-1].tolist(), strict=True))
            facts[f"{name} at {queries:g}"] = last | {"total": totals[-1]}
    title = f"one answer or the best of N, at once or after thinking ($n$={len(start.problems)})"
    if any(AFTER in name for name in found):
        title += "\ndots: reward training began after less pre-training, as named"
    table = pd.concat(tables)
    fig = plots.draw_panels(table, 3.3, "best accuracy", title=title, ncols=3)
    for ax in fig.axes:
        ax.set_xlabel("train + test FLOPs")
    return plots.Drawn(fig, facts, table)

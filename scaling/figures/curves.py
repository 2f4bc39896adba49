"""Figures of accuracy against budget, of one or many models and methods.

Each makes a tidy table, one row per point, and draws it. Reads logs only: no torch, no model.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from scaling.comparisons.equal_cost import compare
from scaling.comparisons.policy import pool_policy
from scaling.curves import Curve
from scaling.figures import plots
from scaling.figures.names import selector_name, series_name
from scaling.figures.plane import HEADLINE, curve_across, summary, train_curve
from scaling.figures.plots import points_of
from scaling.fits import fit, forecast
from scaling.methods.table import METHODS, searches
from scaling.runs import Runs
from scaling.runs.collection import near_half

MIDDLE = (0.25, 0.75)  #: pass@1 of the checkpoints whose curves against test compute are compared
FITTED = 16  #: samples up to which the law of the coverage figure is fitted


def coverage(
    runs: Runs, level: str | None = None, unit: str = "samples", selector: str = "coverage"
) -> plots.Drawn:
    """Coverage against samples: a law fitted to k <= `FITTED`, its forecast of the open points.

    For each model size, the checkpoint with pass@1 closest to 10 %.
    """
    facts, tables = {}, []
    for task in runs.sampled_tasks:
        names = [level] if level else runs.select(task, "best_of_n")[0].level_names
        for name, (look, sized) in product(names, enumerate(runs.by_size(task).values())):
            run = sized.closest(0.1)
            shown = runs.curve(run, selector, unit, name)
            share = shown.x[run.budgets() <= FITTED][-1] / shown.x[-1]
            at: Any = {"panel": f"{task} {name}", "series": run.model_name, "look": look}
            tables.append(points_of(shown, mark="markers", **at))
            if np.nanmin(shown.y) > 0 and share < 1:
                fitted, held_out = forecast("exp_power", shown, share)
                tables.append(plots.forecast_points(shown, fitted, intervals=False, **at))
                facts[f"{task} {name} {run.card.name}"] = summary(fitted) | {
                    "held_out_error": held_out.error.tolist()
                }
    title = "for each size, the checkpoint with pass@1 closest to 10 %: parameters, train FLOPs"
    if facts:
        title += f"\ndashed: $\\exp(a k^b)$ fitted to $k \\leq {FITTED}$; open points: held out"
    fig = plots.draw_panels(pd.concat(tables), 2.6, selector_name(selector), title=title)
    return plots.Drawn(fig, facts, pd.concat(tables))


def methods(
    runs: Runs, level: str = "all", unit: str | None = None, selector: str | None = None
) -> plots.Drawn:
    """Accuracy against test compute: every selector and method of one model.

    The model is the one that was revised, with pass@1 closest to 50 %; compute is FLOPs, or tokens
    or samples where FLOPs are unknown.
    """
    facts, tables = {}, []
    for task in runs.sampled_tasks:
        sampled = runs.select(task, "best_of_n")
        revised = [
            run for name in ("revision", "revision+verdict") for run in runs.select(task, name)
        ]
        cards = [run.card for run in runs.select(task, "revision")]
        top = Runs([run for run in sampled if run.card in cards] or sampled).closest(0.5)
        own = [selector] if selector else ["coverage", "majority", "logprob"]
        series = [(top, name) for name in own if selector or name in top.selectors]
        for run in revised:  # with feedback a chain ends at its first right draft
            kinds = ("last",) if run.plan.feedback == "verdict" else ("coverage", "last")
            series += [
                (run, kind) for kind in kinds if run.card == top.card and kind in (selector or kind)
            ]
        axis, panel = unit or Runs([top]).cost_unit, f"{task}, {top.model_name}"
        for look, (run, name) in enumerate(series):
            shown = runs.curve(run, name, axis, level)
            tables.append(points_of(shown, panel, series_name(run, name), look=look))
            facts[f"{task} {shown.estimator}"] = {"x": shown.x.tolist(), "y": shown.y.tolist()}
        if selector in (None, "coverage") and not top.arrays.counts:
            shown = runs.curve(top, "coverage", axis, level)
            spent = top.stopping_cost(axis, top.budgets())[top.rows(level)].mean(axis=0)
            name = "samples, verifier feedback: coverage"
            tables.append(points_of(replace(shown, x=spent), panel, name, "dotted", 7))
    table = pd.concat(tables)
    return plots.Drawn(plots.draw_panels(table, 3.1, ncols=3), facts, table)


def two_panels(
    runs: Runs, level: str = "all", unit: str | None = None, selector: str | None = None
) -> plots.Drawn:
    """Accuracy against training compute (one sample) and against test compute, per task.

    On the right, for each model size, the checkpoint with pass@1 closest to 50 %; a size that has
    none in `MIDDLE` is left out, and named.
    """
    facts: dict[str, Any] = {}
    tables, tasks = [], runs.sampled_tasks
    fig, axes = plots.figure(len(tasks), 2, height=2.2 * len(tasks), sharey="row")
    middle = "–".join(f"{100 * share:g}" for share in MIDDLE) + " %"
    for (left, right), task in zip(axes, tasks, strict=True):
        chosen = selector or HEADLINE.get(task, "coverage")
        axis = unit or runs.select(task, "best_of_n").cost_unit
        sizes = runs.by_size(task)
        halves = near_half(sizes, MIDDLE)
        trained, tested = [], []
        for look, (size, sized) in enumerate(sizes.items()):
            if checkpoints := sized.trained:
                shown = train_curve(runs, checkpoints, "coverage", 1, level)
                trained.append(points_of(shown, f"{task}: training", size, "points", look))
                if len(shown.x) >= 4:
                    fitted = fit("sigmoid", shown)
                    facts[f"{task} {size} train"] = summary(fitted)
                    if fitted.success:
                        grid = np.geomspace(shown.x[0], shown.x[-1], 60)
                        law = plots.law_curve(fitted, grid, "flops", band=False)
                        trained.append(points_of(law, f"{task}: training", size, "law", look))
            if size in halves:
                shown, name = runs.curve(halves[size], chosen, axis, level), halves[size].model_name
                tested.append(points_of(shown, f"{task}: {chosen}", name, look=look))
        if trained:
            plots.draw_table(left, pd.concat(trained))
        else:
            left.text(0.5, 0.5, "train FLOPs unknown", ha="center", transform=left.transAxes)
            left.set(xticks=[])
        left.set(xlabel="train FLOPs", ylabel=f"{task}: pass@1", ylim=(0, 1.02))
        if tested:
            plots.draw_table(right, pd.concat(tested))
        plots.accuracy_axes(right, axis)
        right.set_ylabel(f"{task}: {selector_name(chosen)}", labelpad=6)
        if left_out := [size for size in sizes if size not in halves]:
            right.plot([], [], " ", label=f"none in {middle}: {', '.join(left_out)}")
        right.legend(title="parameters, train FLOPs")
        tables += trained + tested
    count = len(runs.select(tasks[0], "best_of_n")[0].rows(level))
    axes[0][0].set_title(f"one sample, more training  ($n$={count} problems each)")
    axes[0][1].set_title(f"pass@1 closest to 50 % ({middle}), more samples")
    if axes[0][0].lines:
        dashed = any(fact["success"] for fact in facts.values())
        axes[0][0].legend(title="parameters" + " (dashed: sigmoid)" * dashed)
    return plots.Drawn(fig, facts, pd.concat(tables) if tables else pd.DataFrame())


def searches_with_baseline(runs: Runs) -> dict[str, Runs]:
    """Return the searches whose models have best-of-N too, on the first task that has any.

    Countdown comes first, then the other tasks by name.
    """
    for task in sorted(runs.tasks, key=lambda task: (task != "countdown", task)):
        found = {method: runs.with_baseline(task, [method]) for method in searches()}
        if any(found.values()):
            return found
    return {}


def search(runs: Runs, level: str | None = None, unit: str = "flops") -> plots.Drawn | None:
    """Accuracy against test compute: searches of rising width, and best-of-N by the same scorer."""
    found = searches_with_baseline(runs)
    searched = [run for group in found.values() for run in group]
    if not searched:
        return None
    sampled, facts, tables = runs.baseline(searched[0]), {}, []
    by_score = [s for s in sampled.selectors if s.endswith(":last") and "weighted" not in s]
    names = [*by_score, "logprob", "coverage"]
    for at in [level] if level else sampled.level_names:
        panel = f"{at}, {sampled.model_name}"
        for look, name in enumerate(names):
            shown, label = runs.curve(sampled, name, unit, at), f"best of N: {selector_name(name)}"
            tables.append(points_of(shown, panel, label, "dashed", look))
        for look, (name, group) in enumerate(found.items(), start=len(names)):
            if not group:
                continue
            by_width = sorted(group, key=lambda run: run.plan.width)
            curves = [runs.curve(run, "last", unit, at) for run in by_width]
            shift = 1.04 ** (look - len(names) - 1.5)  # so that error bars do not overlap
            ends = curve_across(curves, [curve.x[-1] * shift for curve in curves])
            label = METHODS[name].title or name
            tables.append(points_of(ends, panel, label, "joined points", look))
            for run in group:
                against = compare(run, sampled, "last", names[0], level=at, unit=unit)
                gain = [float(x) for x in (against.gain.value, against.gain.low, against.gain.high)]
                facts[f"{at} {name} {run.plan.width}"] = {
                    unit: against.cost, "accuracy": against.value, "best_of_n": against.baseline,
                    "gain": gain, "verdict": against.verdict,
                }  # fmt: skip
    widths = ", ".join(str(width) for width in sorted({run.plan.width for run in searched}))
    title = f"points: widths {widths}, shifted by 4 % each for legibility"
    table = pd.concat(tables)
    return plots.Drawn(plots.draw_panels(table, 3.1, title=title), facts, table)


def policy(runs: Runs, unit: str | None = None) -> plots.Drawn | None:
    """The gain of choosing a selector by difficulty, without and with the cost of its pilot."""
    if any("majority" not in run.selectors for run in runs.select(method="best_of_n")):
        return None  # a choice without a verifier needs the answers of each sample
    facts, tables = {}, []
    fig, axes = plots.figure(1, len(runs.sampled_tasks), height=2.6)
    for ax, task in zip(axes[0], runs.sampled_tasks, strict=True):
        top = runs.select(task, "best_of_n").closest(0.5)
        same = [run for run in runs.select(task, "revision") if run.card == top.card]
        axis = unit or Runs([top]).cost_unit
        found = pool_policy([top, *same], pilot=max(2, top.correct.shape[1] // 8), unit=axis)
        sides = {
            "oracle difficulty": found.gain_free,
            "estimated difficulty (pilot cost included)": found.gain,
        }
        for look, (name, gain) in enumerate(sides.items()):
            y, low, high = (100 * np.asarray(side) for side in (gain.value, gain.low, gain.high))
            x, nothing = found.budget * 1.03**look, np.empty((0, 0))
            shown = Curve(x, y, low, high, nothing, axis, n_problems=gain.problems)
            tables.append(points_of(shown, task, name, "points", look))
        plots.draw_table(ax, pd.concat(tables[-2:])).axhline(0, color="0.5", linewidth=0.6)
        ax.yaxis.set_major_formatter(plots.plain_ticks())
        claims = ", ".join(dict.fromkeys(found.gain.claim))
        ax.set_title(
            f"{task}, {top.model_name} ($n$={found.gain.problems})\npilot cost included: {claims}"
        )
        gained = "gain over the best\nsingle selector (percentage points)"
        ax.set_ylabel(gained if ax is axes[0][0] else "")
        facts[task] = {"model": top.card.name, "rows": found.table().to_dict("records")}
    plots.legend_below(fig, axes[0][:1])
    return plots.Drawn(fig, facts, pd.concat(tables))

"""The figures of the study, each a function of the runs: `FIGURES` lists, `draw_all` redraws them.

Reads logs only: no torch, no model. Every number drawn or fitted goes into the figure's sidecar.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from scaling.comparisons.equal_cost import at_equal_cost
from scaling.comparisons.policy import pool_policy
from scaling.comparisons.revision import grid_ratio
from scaling.figures import plots
from scaling.figures.names import SEARCH_NAMES, SELECTOR_NAMES, selector_name, series_name
from scaling.figures.plane import (
    Plane,
    exchange_rates,
    exchange_text,
    plane_fit,
    summary,
    train_curve,
)
from scaling.figures.thinking import compute_mix, o1_two_panels
from scaling.fits import fit, forecast
from scaling.records import Curve, look_up
from scaling.runs import SEARCHES, Run, Runs
from scaling.runs.collection import near_half
from scaling.store.files import refuse_foreign

HEADLINE = {"countdown": "coverage", "sums": "majority"}  #: what a task's panels show by default
MIDDLE = (0.25, 0.75)  #: pass@1 of the checkpoints whose curves against test compute are compared
SEEN = 16  #: samples to which the law of the coverage figure is fitted


def legend_below(fig, axes, **options: Any) -> None:
    """Put one legend of all the axes' series under the figure, each name once."""
    named: dict[str, Any] = {}
    for ax in axes:
        handles, names = ax.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    fig.legend(named.values(), named, loc="outside lower center", **{"ncols": 4, **options})


def coverage(study: Runs, level: str | None = None, selector: str = "coverage") -> tuple[Any, dict]:
    """Coverage against samples, one law fitted to k <= `SEEN` and its forecast beyond (open).

    Drawn is, for each size, the checkpoint with pass@1 closest to 10 %.
    """
    facts: dict[str, Any] = {}
    panels = [
        (task, name)
        for task in study.sampled_tasks
        for name in ([level] if level else study.select(task, "best_of_n")[0].level_names)
    ]
    fig, axes = plots.figure(1, len(panels), height=2.6, sharey=True)
    for ax, (task, level) in zip(axes[0], panels, strict=True):
        for index, pools in enumerate(study.by_size(task).values()):
            pool, style = pools.closest(0.1), plots.look(index)
            shown = study.curve(pool, selector, "samples", level)
            plots.draw_curve(ax, shown, **style | {"linestyle": "none", "label": pool.model_name})
            share = SEEN / shown.x[-1]
            if np.nanmin(shown.y) > 0 and share < 1:
                beyond = shown.x > SEEN
                ax.plot(shown.x[beyond], shown.y[beyond], linestyle="none", marker=style["marker"],
                        color=style["color"], mfc="white", zorder=3)  # fmt: skip
                fitted, held = forecast("exp_power", shown, share)
                plots.draw_fit(ax, fitted, shown.x, color=style["color"], band=False)
                facts[f"{task} {level} {pool.card.name}"] = summary(fitted) | {
                    "held_out_error": held.error.tolist()
                }
        ax.set(title=f"{task} {level}  ($n$={shown.n_problems})", ylim=(0, 1.02))
        ax.set_ylabel(SELECTOR_NAMES.get(selector, selector) if ax is axes[0][0] else "")
    title = "for each size, the checkpoint with pass@1 closest to 10 %: parameters, train FLOPs\n"
    if facts:
        title += f"dashed: $\\exp(a k^b)$ fitted to $k \\leq {SEEN}$, "
        title += "its forecast of the open points beyond"
    legend_below(fig, axes[0], title=title)
    return fig, facts


def methods(study: Runs, level: str = "all", unit: str | None = None) -> tuple[Any, dict]:
    """Accuracy against test compute: every selector and method of the most trained largest model.

    FLOPs, or tokens where the model's are unknown.
    """
    facts: dict[str, Any] = {}
    fig, axes = plots.figure(1, len(study.sampled_tasks), height=3.1)
    for ax, task in zip(axes[0], study.sampled_tasks, strict=True):
        revisers = [p.card for p in study.select(task, "revision")]
        pools = study.select(task, "best_of_n")
        top = Runs([p for p in pools if p.card in revisers] or pools).closest(0.5)
        own = [name for name in ("coverage", "majority", "logprob") if name in top.selectors]
        series: list[tuple[Run, str]] = [(top, selector) for selector in own]
        for method in ("revision", "revision+verdict"):
            same = [p for p in study.select(task, method) if p.card == top.card]
            ways = (
                ("coverage", "last") if method == "revision" else ("last",)
            )  # with feedback they are one
            series += [(pool, selector) for pool in same for selector in ways]
        axis = unit or Runs([top]).cost_unit
        for index, (pool, selector) in enumerate(series):
            shown = study.curve(pool, selector, axis, level)
            plots.draw_curve(
                ax, shown, **plots.look(index) | {"label": series_name(pool, selector)}
            )
            facts[f"{task} {shown.estimator}"] = dict(x=shown.x.tolist(), y=shown.y.tolist())
        fresh = study.curve(top, "coverage", axis, level)
        stopped = top.stopping_cost(axis, top.budgets())[top.rows(level)].mean(axis=0)
        ax.plot(
            stopped,
            fresh.y,
            color="0.5",
            linestyle=":",
            label="samples, verifier feedback: coverage",
        )
        ax.fill_between(stopped, fresh.low, fresh.high, color="0.5", alpha=0.15, lw=0)
        ax.set(title=f"{task}, {top.model_name}  ($n$={fresh.n_problems})", ylim=(0, 1.02))
        ax.set_ylabel("accuracy" if ax is axes[0][0] else "")
    legend_below(fig, axes[0][:1], ncols=3)
    return fig, facts


def two_panels(
    study: Runs, level: str = "all", unit: str | None = None, selector: str | None = None
) -> tuple[Any, dict]:
    """Accuracy against training compute (one sample) and against test compute, per task.

    On the right, for each size, the checkpoint with pass@1 closest to 50 %; a size that has none in
    `MIDDLE` is left out, and named.
    """
    facts: dict[str, Any] = {}
    rows = len(study.sampled_tasks)
    fig, axes = plots.figure(rows, 2, height=2.2 * rows, sharey="row")
    middle = "–".join(f"{100 * share:g}" for share in MIDDLE) + " %"
    for (left, right), task in zip(axes, study.sampled_tasks, strict=True):
        chosen = selector or HEADLINE.get(task, "coverage")
        axis = unit or study.select(task, "best_of_n").cost_unit
        sizes = study.by_size(task)
        halves = near_half(sizes, MIDDLE)
        for index, (size, pools) in enumerate(sizes.items()):
            style = plots.look(index)
            if checkpoints := pools.trained:
                shown = train_curve(study, checkpoints, "coverage", 1, level)
                facts |= draw_trained(left, shown, style, f"{task} {size} train")
            if size in halves:
                tested = study.curve(halves[size], chosen, axis, level)
                plots.draw_curve(right, tested, **style | {"label": halves[size].model_name})
        untrained = not left.lines
        if untrained:
            left.text(0.5, 0.5, "train FLOPs unknown", ha="center", transform=left.transAxes)
        plots.accuracy_axes(left, "flops").set(xlabel="train FLOPs", ylabel=f"{task}: pass@1")
        if untrained:  # an empty axis has no ticks on a log scale
            left.set(xscale="linear", xticks=[])
        plots.accuracy_axes(right, axis)
        right.set_ylabel(f"{task}: {SELECTOR_NAMES[chosen]}", labelpad=6)
        left.set_ylim(0, 1.02)
        if left_out := [size for size in sizes if size not in halves]:
            right.plot([], [], " ", label=f"none in {middle}: {', '.join(left_out)}")
        right.legend(title="parameters, train FLOPs")
    count = len(study.select(study.sampled_tasks[0], "best_of_n")[0].rows(level))
    axes[0][0].set_title(f"one sample, more training  ($n$={count} problems each)")
    axes[0][1].set_title(f"pass@1 closest to 50 % ({middle}), more samples")
    if axes[0][0].lines:
        dashed = any(fact["success"] for fact in facts.values())
        axes[0][0].legend(title="parameters" + " (dashed: sigmoid)" * dashed)
    return fig, facts


def draw_trained(ax, shown: Curve, style: dict[str, Any], name: str) -> dict[str, Any]:
    """Draw one size's checkpoints and, through four or more, a sigmoid; return its facts."""
    plots.draw_points(
        ax, shown.x, shown.y, shown.low, shown.high,
        color=style["color"], marker=style["marker"], label=shown.label,
    )  # fmt: skip
    if len(shown.x) < 4:
        return {}
    fitted = fit("sigmoid", shown)
    if fitted.success:
        grid = np.geomspace(shown.x[0], shown.x[-1], 60)
        plots.draw_fit(ax, fitted, grid, color=style["color"], band=False)
    return {name: summary(fitted)}


def plane(study: Runs) -> tuple[Any, dict] | None:
    """Iso-accuracy lines over train and test compute, and what ten times the training is worth."""
    facts: dict[str, Any] = {}
    planes: dict[str, Plane] = {}
    for task in study.sampled_tasks:
        if (pools := study.select(task, "best_of_n").trained).cost_unit == "flops" and pools:
            try:
                planes[task] = plane_fit(study, task, HEADLINE.get(task, "coverage"))
            except ValueError as reason:  # a frontier of fewer points than the law has parameters
                warnings.warn(f"plane: {task} is left out: {reason}", stacklevel=2)
    if not planes:
        return None
    fig, axes = plots.figure(1, len(planes), height=2.9)
    for ax, (task, found) in zip(axes[0], planes.items(), strict=True):
        points = plots.draw_plane(
            ax, found.fitted, found.train, found.test, found.accuracy, found.used
        )
        name = SELECTOR_NAMES[HEADLINE.get(task, "coverage")]
        count = len(study.select(task, "best_of_n").trained[0].rows("all"))
        rates = exchange_rates(found)
        text = exchange_text(rates, found.test.max() / found.test.min())
        ax.set_title(f"{task}, {name} ($n$={count}); lines: logit plane\n{text}")
        facts[task] = summary(found.fitted) | {"exchange": asdict(found.exchange)}
        facts[task]["exchange_by_law"] = rates
    bar = fig.colorbar(points, ax=axes[0].tolist(), pad=0.01)
    bar.set_label("measured accuracy")
    kinds = (("on the frontier: fitted", "0.25"), ("worse than another size: left out", "none"))
    for label, face in kinds:
        axes[0][0].scatter([], [], s=14, lw=0.7, facecolors=face, edgecolors="0.25", label=label)
    legend_below(fig, axes[0][:1])
    return fig, facts


def search(study: Runs) -> tuple[Any, dict] | None:
    """Accuracy against test FLOPs: searches of rising width, and best-of-N by the same scorer."""
    if "countdown" not in study.tasks:
        return None
    found = {name: study.with_baseline("countdown", [name]) for name in SEARCHES}
    pools = [pool for group in found.values() for pool in group]
    if not pools:
        return None
    fresh, facts = study.baseline(pools[0]), {}
    by_score = [s for s in fresh.selectors if s.endswith(":last") and "weighted" not in s]
    levels = [level for level in fresh.levels if level != "all"]
    fig, axes = plots.figure(1, len(levels), height=3.1, sharey=True)
    for ax, level in zip(axes[0], levels, strict=True):
        names = [*by_score, "logprob", "coverage"]
        for index, name in enumerate(names):
            shown = study.curve(fresh, name, "flops", level)
            style = plots.look(index) | {"linestyle": "--", "marker": ""}
            plots.draw_curve(ax, shown, **style | {"label": f"best of N: {selector_name(name)}"})
        for index, (name, group) in enumerate(found.items(), start=len(names)):
            last = [study.curve(p, "last", "flops", level) for p in sorted(group, key=width_of)]
            ends = {
                n: np.array([getattr(c, n)[-1] for c in last]) for n in ("x", "y", "low", "high")
            }
            ends["x"] = ends["x"] * 1.04 ** (index - len(names) - 1.5)  # tells bars apart
            label = SEARCH_NAMES.get(name, name)
            plots.draw_points(ax, **ends, **plots.look(index) | {"label": label})
            for pool in group:
                against = at_equal_cost(pool, "last", fresh, by_score[0] if by_score else "logprob",
                                        level=level)  # fmt: skip
                gain = [float(x) for x in (against.gain.value, against.gain.low, against.gain.high)]
                facts[f"{level} {name} {width_of(pool)}"] = {
                    "flops": against.cost, "accuracy": against.value, "best_of_n": against.baseline,
                    "gain": gain, "verdict": against.verdict,
                }  # fmt: skip
        ax.set(title=f"{level}, {fresh.model_name}  ($n$={shown.n_problems})", ylim=(0, 1.02))
        ax.set_ylabel("accuracy" if ax is axes[0][0] else "")
    widths = ", ".join(str(width) for width in sorted({width_of(pool) for pool in pools}))
    legend_below(
        fig, axes[0][:1], title=f"points: widths {widths}, shifted by 4 % each for legibility"
    )
    return fig, facts


def width_of(pool: Run) -> int:
    """Return a search's candidates per round."""
    return pool.plan.width


def grid(study: Runs) -> tuple[Any, dict] | None:
    """Coverage of chains x steps of revision over best-of-N at equal test FLOPs, per level.

    From two steps on: chains of one step are best-of-N itself, whose ratio is 1 but for noise.
    """
    if "countdown" not in study.tasks:
        return None
    pools = study.with_baseline("countdown", ["revision", "revision+verdict"])
    pools = Runs(pool for pool in pools if pool.plan.steps > 1)
    if not pools:
        return None
    most = max(pools, key=lambda p: (p.correct.size, -abs(np.nanmean(p.correct[..., 0]) - 0.3)))
    shown = [p for p in pools if p.card == most.card]
    levels, facts = [level for level in most.levels if level != "all"], {}
    fig, axes = plots.figure(len(shown), len(levels), height=2.4 * len(shown))
    grids = {(p, level): grid_ratio(p, study.baseline(p), level) for p in shown for level in levels}
    ratios = np.concatenate([found.ratio[:, 1:].ravel() for found in grids.values()])
    reach = np.fmax.reduce(abs(ratios - 1), initial=0.05)  # passes over NaN, if nothing is right
    for row, pool in zip(axes, shown, strict=True):
        for ax, level in zip(row, levels, strict=True):
            found = grids[pool, level]
            drawn = {name: getattr(found, name)[:, 1:] for name in ("ratio", "low", "high")}
            steps = found.steps[1:]
            image = plots.draw_grid(ax, found.chains, steps, **drawn, reach=reach)
            feedback = "with" if pool.plan.feedback == "verdict" else "without"
            ax.set_title(f"{level}, {feedback} verifier feedback  ($n$={found.n_problems})")
            facts[f"{level} {feedback} verifier feedback"] = {
                name: values.tolist() for name, values in drawn.items()
            } | {"steps": steps.tolist(), "flops": found.flops[:, 1:].tolist()}
    fig.suptitle(
        f"coverage relative to best-of-N at equal test FLOPs: {most.model_name}\n"
        "bold: 95 % CI excludes 1; blank: costs more than the whole best-of-N pool"
    )
    fig.colorbar(image, ax=axes.ravel().tolist(), pad=0.01, label="ratio")
    return fig, facts


def policy(study: Runs) -> tuple[Any, dict] | None:
    """What choosing a selector by difficulty gains, without and with the cost of its pilot."""
    facts: dict[str, Any] = {}
    if any("majority" not in run.selectors for run in study.select(method="best_of_n")):
        return None  # a choice without a verifier needs the answers of each sample
    fig, axes = plots.figure(1, len(study.sampled_tasks), height=2.6)
    for ax, task in zip(axes[0], study.sampled_tasks, strict=True):
        top = study.select(task, "best_of_n").closest(0.5)
        same = [p for p in study.select(task, "revision") if p.card == top.card]
        unit = Runs([top]).cost_unit
        found = pool_policy([top, *same], pilot=max(2, top.correct.shape[1] // 8), unit=unit)
        ax.axhline(0, color="0.5", linewidth=0.6)
        sides = {
            "oracle difficulty": found.gain_free,
            "estimated difficulty (pilot cost included)": found.gain,
        }
        for index, (name, gain) in enumerate(sides.items()):
            x, style = found.budget * 1.03**index, plots.look(index) | {"linestyle": "none"}
            ends = (100 * np.asarray(side) for side in (gain.value, gain.low, gain.high))
            plots.draw_points(ax, x, *ends, label=name, **style)
        plots.accuracy_axes(ax, unit).yaxis.set_major_formatter(plots.plain())
        claims = ", ".join(dict.fromkeys(found.gain.claim))
        ax.set_title(
            f"{task}, {top.model_name} ($n$={found.gain.problems})\npilot cost included: {claims}"
        )
        ax.set_ylabel("gain over the best\nsingle selector (points)" if ax is axes[0][0] else "")
        facts[task] = {"model": top.card.name, "rows": found.table().to_dict("records")}
    legend_below(fig, axes[0][:1])
    return fig, facts


FIGURES: dict[str, Callable[..., tuple[Any, dict] | None]] = {
    "coverage": coverage,
    "methods": methods,
    "two_panels": two_panels,
    "plane": plane,
    "policy": policy,
    "search": search,
    "grid": grid,
    "o1_two_panels": o1_two_panels,
    "compute_mix": compute_mix,
}


def draw_all(
    study: Runs, folder: Path, names: Sequence[str] = tuple(FIGURES), force: bool = False
) -> list[Path]:
    """Draw and save figures by name; return the files written, none for one that lacks its runs.

    Errors: ValueError, with nothing drawn, where files are in the way that the kit did not write.
    """
    functions = {name: look_up(FIGURES, name, "figure") for name in names}
    refuse_foreign([path for name in names for path in plots.paths_of(name, folder)], force)
    if not study.sampled_tasks:
        raise ValueError("no complete best-of-N run among the runs: every figure starts from one")
    written = []
    for name, function in functions.items():
        with plots.style():
            drawn = function(study)
        if drawn is None:
            continue
        fig, facts = drawn
        runs = study.complete
        written += plots.save(fig, name, folder, runs, facts, plots.REDRAW, force=force)
    return written


@dataclass(frozen=True)
class Drawing:
    """A drawn figure, the facts that its sidecar keeps, and the runs behind it."""

    name: str
    figure: Any  #: of matplotlib
    facts: dict[str, Any]
    runs: Runs

    def __repr__(self) -> str:
        return f"Drawing({self.name}, of {len(self.runs)} runs)"

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as data:
            self.figure.savefig(data, format="png")
            return data.getvalue()

    def save(self, folder: str | Path, force: bool = False) -> list[Path]:
        """Write the figure as PDF, SVG and PNG with its sidecar; return the files."""
        runs = self.runs.complete
        return plots.save(
            self.figure, self.name, folder, runs, self.facts, plots.REDRAW, force=force
        )


def figure_of(
    runs: Runs,
    name: str,
    task: str | None = None,
    models: Sequence[str] | None = None,
    **choices: Any,
) -> Drawing:
    """Return a figure of the gallery, drawn from the runs of a task and of some models.

    models: names of models, or their sizes as legends name them, such as "0.1 M". Errors:
    ValueError for a choice that the figure does not take, or where it lacks its runs.
    """
    function = look_up(FIGURES, name, "figure")
    takes = [key for key in signature(function).parameters if key != "study"]
    for choice in choices:
        if choice not in takes:
            allowed = ", ".join(["task", "models", *takes])
            raise ValueError(f"the figure {name} takes no choice {choice!r}; allowed: {allowed}")
    if task is not None:
        look_up(dict.fromkeys(runs.tasks), task, "task")
        runs = Runs(run for run in runs if run.task == task)
    if models is not None:
        known = dict.fromkeys(key for run in runs for key in (run.card.name, run.size_name))
        for model in models:
            look_up(known, model, "model")
        runs = Runs(run for run in runs if {run.card.name, run.size_name} & set(models))
    with plots.style():
        drawn = function(runs, **choices)
    if drawn is None:
        shows = (function.__doc__ or "").partition("\n")[0]
        raise ValueError(f"the figure {name} needs runs that are not here; it shows: {shows}")
    return Drawing(name, *drawn, runs)

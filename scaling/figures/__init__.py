"""The figures of the study, each a function of the pools: `FIGURES` lists, `draw_all` redraws them.

Reads logs only: no torch, no model. Every number drawn or fitted goes into the figure's sidecar.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scaling.curves import SEARCHES, SELECTORS, Pool, curve, read_pool
from scaling.curves.policy import pool_policy
from scaling.curves.revisions import grid_ratio
from scaling.curves.table import unfinished
from scaling.curves.versus import at_equal_cost
from scaling.figures import plots
from scaling.figures.thinking import compute_mix, o1_two_panels
from scaling.fits import fit, forecast
from scaling.fits.joint import Exchange, exchange_rate, fit_joint
from scaling.records import Curve, Fit, look_up
from scaling.store import load_runs
from scaling.store.files import refuse_foreign

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
METHODS = (*SELECTORS, "revision+verdict")  #: labels of pools, in addition to those of one's own
HEADLINE = {"countdown": "oracle", "sums": "majority"}  #: what a task's panels show by default
SELECTOR_NAMES = {
    "oracle": "coverage",
    "majority": "majority vote",
    "logprob": "best log-probability",
    "weighted logprob": "vote weighted by probability",
    "first": "first draft",
    "last": "last draft",
}
MIDDLE = (0.25, 0.75)  #: pass@1 of the checkpoints whose curves against test compute are compared
PLANES = ("plane_logit", "plane_loglog", "additive")  #: joint laws that an exchange rate must share
SEEN = 16  #: samples to which the law of the coverage figure is fitted
SEARCH_NAMES = {"dvts": "DVTS", "rebase": "REBASE"}


@dataclass(frozen=True, eq=False)
class Study:
    """The pools of a ladder, looked up by what they hold; curves are computed once."""

    pools: tuple[Pool, ...]

    @classmethod
    def load(cls, root: Path) -> Study:
        """Read every run in a folder."""
        root = Path(root)
        pools = tuple(read_pool(run) for run in load_runs(root))
        if not pools and (root / "manifest.json").exists():
            raise ValueError(f"{root} is one run; give the folder of the runs, {root.parent}")
        if not pools:
            raise ValueError(f"no runs in {root}; `make study` samples some into data/study/runs")
        return cls(pools)

    @cached_property
    def whole(self) -> list[Pool]:
        """Return the pools that give every curve; a warning names each of the others, and why."""
        lacks = {pool: lack(pool) for pool in self.pools}
        for pool, why in lacks.items():
            if why:
                warnings.warn(f"{pool.run.path} is left out: {why}", stacklevel=2)
        return [pool for pool, why in lacks.items() if not why]

    @property
    def tasks(self) -> list[str]:
        """Return the tasks that were sampled independently: every figure starts from best-of-N."""
        return sorted({pool.run.task for pool in self.whole if pool.label == "best_of_n"})

    @property
    def held(self) -> list[str]:
        """Return the tasks of all pools."""
        return sorted({pool.run.task for pool in self.pools})

    def select(self, task: str, method: str = "best_of_n") -> list[Pool]:
        """Return the pools of a task and method, small models and short training first.

        A known method of which there is no run gives none. Errors: ValueError for an unknown name.
        """
        look_up(dict.fromkeys(self.held), task, "task")
        look_up(dict.fromkeys((*METHODS, *(p.label for p in self.pools))), method, "method")
        found = [p for p in self.whole if p.run.task == task and p.label == method]
        if method.startswith("revision"):  # of two grids of one model the larger holds the other
            found = list(
                {p.run.card.name: p for p in sorted(found, key=lambda p: p.correct.size)}.values()
            )
        return sorted(found, key=lambda p: (p.run.card.n_params, known_flops(p), p.run.card.name))

    def fresh(self, pool: Pool) -> Pool:
        """Return best-of-N of the same model on the same task; ValueError where there is none."""
        for found in self.select(pool.run.task):
            if found.run.card == pool.run.card:
                return found
        raise ValueError(f"no whole best-of-N run of {pool.run.card.name} on {pool.run.task}")

    def beside(self, task: str, methods: Sequence[str]) -> list[Pool]:
        """Return the pools of methods whose models have best-of-N of the same task too."""
        cards = [pool.run.card for pool in self.select(task)]
        found = [pool for method in methods for pool in self.select(task, method)]
        return [pool for pool in found if pool.run.card in cards]

    def sizes(self, task: str) -> dict[str, list[Pool]]:
        """Return best-of-N pools by model size, each from least to most training."""
        sizes: dict[str, list[Pool]] = {}
        for pool in self.select(task):
            sizes.setdefault(size_name(pool), []).append(pool)
        return sizes

    @cache  # noqa: B019 - a study lives as long as its process
    def curve(self, pool: Pool, selector: str, unit: str, level: str) -> Curve:
        """Return a curve of the study."""
        return curve(pool, selector, unit, level)


def lack(pool: Pool) -> str:
    """Return what keeps a pool out of the figures; "" where nothing does."""
    if pool.run.plan.stop_after_correct or pool.run.plan.stop_at_agreement:
        return "it stopped early, so that not every selector can be read"
    return unfinished(pool)


def known_flops(pool: Pool) -> float:
    """Return a model's training FLOPs; 0 where they are unknown."""
    return float(np.nan_to_num(pool.run.card.train_flops))


def trained(pools: Sequence[Pool]) -> list[Pool]:
    """Return the pools that have a place on an axis of training compute."""
    return [pool for pool in pools if known_flops(pool) > 0]


def cost_unit(pools: Sequence[Pool]) -> str:
    """Return the unit that all pools can be priced in: tokens where a model's FLOPs are unknown."""
    return "flops" if all(pool.run.card.shape for pool in pools) else "tokens"


def size_name(pool: Pool) -> str:
    """Return a model's size as legends name it; its name where a server hides the size."""
    if not pool.run.card.n_params:
        return pool.run.card.name.replace("$", r"\$")
    millions = pool.run.card.n_params / 1e6
    return f"{millions:.1f} M" if millions < 10 else f"{millions:,.0f} M"


def strata(pool: Pool) -> list[str]:
    """Return the levels of a pool, without "all" of them where there are several."""
    return [level for level in pool.levels if level != "all"] or ["all"]


def hash_of(pool: Pool) -> str:
    """Return the hash at the end of a run's folder, or the whole of a name without one."""
    return pool.run.path.name.rpartition("-")[2]


def apart(
    names: Sequence[str], more: Iterable[str], by: Sequence[Hashable] | None = None
) -> list[str]:
    """Return names, behind each that repeats (or whose entry of `by` does) what tells it apart.

    >>> apart(["a", "b", "a"], "xyz")
    ['a · x', 'b', 'a · z']
    """
    by = by or names
    often, rows = Counter(by), zip(names, more, by, strict=True)
    return [f"{name} · {own}" if often[key] > 1 else name for name, own, key in rows]


def nearest(pools: Sequence[Pool], share: float) -> Pool:
    """Return the pool whose accuracy with one sample is nearest to `share`."""
    return min(pools, key=lambda pool: abs(np.nanmean(pool.correct[:, :, 0]) - share))


def near_half(sizes: Mapping[str, Sequence[Pool]]) -> dict[str, Pool]:
    """Return the checkpoint of each size with pass@1 closest to 50 %, where it is in `MIDDLE`."""
    found = {size: nearest(pools, 0.5) for size, pools in sizes.items()}
    low, high = MIDDLE
    return {
        size: pool
        for size, pool in found.items()
        if low <= np.nanmean(pool.correct[:, :, 0]) <= high
    }


def model_name(pool: Pool) -> str:
    """Return a checkpoint as legends name it: parameters, and training compute where known."""
    if not known_flops(pool):
        return size_name(pool)
    mantissa, exponent = f"{known_flops(pool):.1e}".split("e+")
    times = "" if mantissa == "1.0" else f"{float(mantissa):g}×"
    return f"{size_name(pool)}, {times}10{exponent.lstrip('0').translate(RAISED)}"


def series_name(pool: Pool, selector: str) -> str:
    """Return what a legend calls a method and selector; told of its errors, it says so."""
    name = {"best_of_n": "samples", "revision": "revision", "revision+verdict": "revision, told"}
    return f"{name[pool.label]}: {SELECTOR_NAMES[selector]}"


def train_curve(study: Study, pools: Sequence[Pool], selector: str, k: int, level: str) -> Curve:
    """Return accuracy at k samples against training compute, over the checkpoints of one size."""
    curves = [study.curve(pool, selector, "samples", level) for pool in pools]
    budgets = pools[0].budgets()
    if k not in budgets:
        raise ValueError(f"no curve has a point at {k} samples; allowed: {budgets.tolist()}")
    at = int(np.flatnonzero(budgets == k)[0])
    columns = {
        name: np.array([getattr(c, name)[at] for c in curves]) for name in ("y", "low", "high")
    }
    return Curve(
        x=np.array([pool.run.card.train_flops for pool in pools]),
        **columns,
        replicates=np.stack([c.replicates[:, at] for c in curves], axis=1),
        x_unit="flops",
        estimator=f"{selector} at {k}",
        n_problems=curves[0].n_problems,
        n_missing=sum(c.n_missing for c in curves),
        label=size_name(pools[0]),
    )


@dataclass(frozen=True)
class Plane:
    """A joint law over (train, test) FLOPs, and the points of the ladder it was fitted to."""

    fitted: Fit
    exchange: Exchange  #: at the geometric middle of the fitted points
    train: np.ndarray  #: (points,)
    test: np.ndarray  #: (points,)
    accuracy: np.ndarray  #: (points,)
    used: np.ndarray  #: (points,) bool: on the frontier


def joint_points(
    study: Study, task: str, selector: str, level: str = "all", unit: str = "flops"
) -> tuple[np.ndarray, ...]:
    """Return (train, test, accuracy, replicates (R, points), n_params) of checkpoints and budgets.

    unit: of test; "samples" for laws of samples.
    """
    pools = trained(study.select(task))
    if not pools:
        raise ValueError(f"no model on {task} has known train FLOPs: there is no training axis")
    curves = [study.curve(pool, selector, unit, level) for pool in pools]
    cards = [p.run.card for p, c in zip(pools, curves, strict=True) for _ in c.x]
    train, size = np.array([(card.train_flops, float(card.n_params)) for card in cards]).T
    test, accuracy = (np.concatenate([getattr(c, name) for c in curves]) for name in ("x", "y"))
    return train, test, accuracy, np.concatenate([c.replicates for c in curves], axis=1), size


def plane_fit(
    study: Study,
    task: str,
    selector: str,
    level: str = "all",
    law: str = "plane_logit",
    frontier: bool = True,
) -> Plane:
    """Return a joint law of the frontier: what the best model size reaches at each pair of budgets.

    A point that another reaches or beats with no more of either compute says that its size was the
    wrong one for its budget, and is left out; `frontier=False` keeps all. Intervals are of problems
    resampled, given this law and these points: they hold neither choice.
    """
    train, test, accuracy, replicates, _ = joint_points(study, task, selector, level)
    cheaper = (train[:, None] <= train * 1.01) & (test[:, None] <= test)
    used = np.asarray(~(cheaper & (accuracy[:, None] > accuracy)).any(axis=0) | (not frontier))
    fitted = fit_joint(law, train[used], test[used], accuracy[used], replicates=replicates[:, used])
    middle = (float(np.exp(np.log(axis[used]).mean())) for axis in (train, test))
    return Plane(fitted, exchange_rate(fitted, *middle), train, test, accuracy, used)


def summary(fitted: Fit) -> dict[str, Any]:
    """Return a fit as a sidecar keeps it."""
    kept = ("law", "params", "interval", "success", "message", "rmse", "n_points", "n_failed")
    return {name: getattr(fitted, name) for name in kept}


def exchange_rates(found: Plane) -> dict[str, float]:
    """Return what ten times the training is worth in test FLOPs, by each law of `PLANES`.

    All laws are fitted to the points of the plane; inf where no test compute is worth as much. A
    law with more parameters than there are points is left out.
    """
    points = [values[found.used] for values in (found.train, found.test, found.accuracy)]
    middle = found.exchange.train_flops, found.exchange.test_flops
    rates = {}
    for law in PLANES:
        with suppress(ValueError):
            rates[law] = exchange_rate(fit_joint(law, *points, bootstrap=0), *middle).rate
    return rates


def exchange_text(by_law: Mapping[str, float], measured: float) -> str:
    """Return what ten times the training is worth, as two lines; a range where laws disagree.

    measured: the largest test FLOPs over the smallest; a rate beyond them is not known.

    >>> exchange_text({"a": 20.0, "b": 3000.0}, 900.0).splitlines()[1]
    '20× to more than 900× the inference, by law'
    """
    rates = list(by_law.values())
    low, high = (f"{x:,.2g}×" if x < 100 else f"{x:,.0f}×" for x in (min(rates), max(rates)))
    most = f"more than {measured:,.0f}×"
    if len(rates) == 1:
        worth = low if rates[0] < measured else most
        return f"10× the training is worth {worth} the inference\nby one law, which no other checks"
    if min(rates) >= measured:
        return f"10× the training is worth\n{most} the inference, by each of {len(rates)} laws"
    high = most if max(rates) >= measured else high
    return (
        f"no robust exchange rate: 10× the training is worth\n{low} to {high} the inference, by law"
    )


def legend_below(fig, axes, **options: Any) -> None:
    """Put one legend of all the axes' series under the figure, each name once."""
    named: dict[str, Any] = {}
    for ax in axes:
        handles, names = ax.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    fig.legend(named.values(), named, loc="outside lower center", ncols=4, **options)


# ---------------------------------------------------------------- the figures
def coverage(study: Study) -> tuple[Any, dict]:
    """Coverage against samples, one law fitted to k <= `SEEN` and its forecast beyond (open).

    Drawn is the checkpoint of each size nearest to 10 % right.
    """
    facts: dict[str, Any] = {}
    panels = [(task, level) for task in study.tasks for level in strata(study.select(task)[0])]
    fig, axes = plots.figure(1, len(panels), height=2.6, sharey=True)
    for ax, (task, level) in zip(axes[0], panels, strict=True):
        for index, pools in enumerate(study.sizes(task).values()):
            pool, style = nearest(pools, 0.1), plots.look(index)
            shown = study.curve(pool, "oracle", "samples", level)
            plots.draw_curve(ax, shown, **style | {"linestyle": "none", "label": model_name(pool)})
            share = SEEN / shown.x[-1]
            if np.nanmin(shown.y) > 0 and share < 1:
                beyond = shown.x > SEEN
                ax.plot(shown.x[beyond], shown.y[beyond], linestyle="none", marker=style["marker"],
                        color=style["color"], mfc="white", zorder=3)  # fmt: skip
                fitted, held = forecast("exp_power", shown, share)
                plots.draw_fit(ax, fitted, shown.x, color=style["color"], band=False)
                facts[f"{task} {level} {pool.run.card.name}"] = summary(fitted) | {
                    "held_out_error": held.error.tolist()
                }
        ax.set(title=f"{task} {level}  ($n$={shown.n_problems})", ylim=(0, 1.02))
        ax.set_ylabel("coverage" if ax is axes[0][0] else "")
    title = "of each size the checkpoint nearest to 10 % right: parameters, train FLOPs\n"
    if facts:
        title += f"dashed: $\\exp(a k^b)$ fitted to $k \\leq {SEEN}$, "
        title += "its forecast of the open points beyond"
    legend_below(fig, axes[0], title=title)
    return fig, facts


def methods(study: Study) -> tuple[Any, dict]:
    """Accuracy against test compute: every selector and method of the most trained largest model.

    FLOPs, or tokens where the model's are unknown.
    """
    facts: dict[str, Any] = {}
    fig, axes = plots.figure(1, len(study.tasks), height=3.1)
    for ax, task in zip(axes[0], study.tasks, strict=True):
        revisers = [p.run.card for p in study.select(task, "revision")]
        pools = study.select(task)
        top = nearest([p for p in pools if p.run.card in revisers] or pools, 0.5)
        series = [(top, selector) for selector in ("oracle", "majority", "logprob")]
        for method in ("revision", "revision+verdict"):
            same = [p for p in study.select(task, method) if p.run.card == top.run.card]
            ways = ("oracle", "last") if method == "revision" else ("last",)  # told: they are one
            series += [(pool, selector) for pool in same for selector in ways]
        unit = cost_unit([top])
        for index, (pool, selector) in enumerate(series):
            shown = study.curve(pool, selector, unit, "all")
            plots.draw_curve(
                ax, shown, **plots.look(index) | {"label": series_name(pool, selector)}
            )
            facts[f"{task} {shown.estimator}"] = dict(x=shown.x.tolist(), y=shown.y.tolist())
        fresh = study.curve(top, "oracle", unit, "all")
        stopped = top.stopping_cost(unit, top.budgets())[top.rows("all")].mean(axis=0)
        ax.plot(stopped, fresh.y, color="0.5", linestyle=":", label="samples, told: coverage")
        ax.fill_between(stopped, fresh.low, fresh.high, color="0.5", alpha=0.15, lw=0)
        ax.set(title=f"{task}, {model_name(top)}  ($n$={fresh.n_problems})", ylim=(0, 1.02))
        ax.set_ylabel("accuracy" if ax is axes[0][0] else "")
    legend_below(fig, axes[0][:1])
    return fig, facts


def two_panels(study: Study) -> tuple[Any, dict]:
    """Accuracy against training compute (one sample) and against test compute, per task.

    On the right, for each size, the checkpoint with pass@1 closest to 50 %; a size that has none in
    `MIDDLE` is left out, and named.
    """
    facts: dict[str, Any] = {}
    rows = len(study.tasks)
    fig, axes = plots.figure(rows, 2, height=2.2 * rows, sharey="row")
    middle = "–".join(f"{100 * share:g}" for share in MIDDLE) + " %"
    for (left, right), task in zip(axes, study.tasks, strict=True):
        selector, unit = HEADLINE.get(task, "oracle"), cost_unit(study.select(task))
        sizes = study.sizes(task)
        halves = near_half(sizes)
        for index, (size, pools) in enumerate(sizes.items()):
            style = plots.look(index)
            if checkpoints := trained(pools):
                shown = train_curve(study, checkpoints, "oracle", 1, "all")
                facts |= draw_trained(left, shown, style, f"{task} {size} train")
            if size in halves:
                tested = study.curve(halves[size], selector, unit, "all")
                plots.draw_curve(right, tested, **style | {"label": model_name(halves[size])})
        if not left.lines:
            left.text(0.5, 0.5, "train FLOPs unknown", ha="center", transform=left.transAxes)
        plots.accuracy_axes(left, "flops").set(xlabel="train FLOPs", ylabel=f"{task}: pass@1")
        plots.accuracy_axes(right, unit)
        right.set_ylabel(f"{task}: {SELECTOR_NAMES[selector]}", labelpad=6)
        left.set_ylim(0, 1.02)
        if left_out := [size for size in sizes if size not in halves]:
            right.plot([], [], " ", label=f"none in {middle}: {', '.join(left_out)}")
        right.legend(title="parameters, train FLOPs")
    count = len(study.select(study.tasks[0])[0].rows("all"))
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


def plane(study: Study) -> tuple[Any, dict] | None:
    """Iso-accuracy lines over train and test compute, and what ten times the training is worth."""
    facts: dict[str, Any] = {}
    planes: dict[str, Plane] = {}
    for task in study.tasks:
        if cost_unit(pools := trained(study.select(task))) == "flops" and pools:
            try:
                planes[task] = plane_fit(study, task, HEADLINE.get(task, "oracle"))
            except ValueError as reason:  # a frontier of fewer points than the law has parameters
                warnings.warn(f"plane: {task} is left out: {reason}", stacklevel=2)
    if not planes:
        return None
    fig, axes = plots.figure(1, len(planes), height=2.9)
    for ax, (task, found) in zip(axes[0], planes.items(), strict=True):
        points = plots.draw_plane(
            ax, found.fitted, found.train, found.test, found.accuracy, found.used
        )
        name = SELECTOR_NAMES[HEADLINE.get(task, "oracle")]
        count = len(trained(study.select(task))[0].rows("all"))
        rates = exchange_rates(found)
        text = exchange_text(rates, found.test.max() / found.test.min())
        ax.set_title(f"{task}, {name} ($n$={count}); lines: logit plane\n{text}")
        facts[task] = summary(found.fitted) | {"exchange": asdict(found.exchange)}
        facts[task]["exchange_by_law"] = rates
    bar = fig.colorbar(points, ax=axes[0].tolist(), pad=0.01)
    bar.set_label("measured accuracy")
    kinds = (("on the frontier: fitted", "0.25"), ("beaten by another size: left out", "none"))
    for label, face in kinds:
        axes[0][0].scatter([], [], s=14, lw=0.7, facecolors=face, edgecolors="0.25", label=label)
    legend_below(fig, axes[0][:1])
    return fig, facts


def search(study: Study) -> tuple[Any, dict] | None:
    """Accuracy against test FLOPs: searches of rising width, and best-of-N by the same scorer."""
    if "countdown" not in study.held:
        return None
    found = {name: study.beside("countdown", [name]) for name in SEARCHES}
    pools = [pool for group in found.values() for pool in group]
    if not pools:
        return None
    fresh, facts = study.fresh(pools[0]), {}
    by_score = [s for s in fresh.selectors if s.endswith(":last") and "weighted" not in s]
    levels = [level for level in fresh.levels if level != "all"]
    fig, axes = plots.figure(1, len(levels), height=3.1, sharey=True)
    for ax, level in zip(axes[0], levels, strict=True):
        names = [*by_score, "logprob", "oracle"]
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
                    "flops": against.cost, "accuracy": against.value, "best_of_n": against.rival,
                    "gain": gain, "verdict": against.verdict,
                }  # fmt: skip
        ax.set(title=f"{level}, {model_name(fresh)}  ($n$={shown.n_problems})", ylim=(0, 1.02))
        ax.set_ylabel("accuracy" if ax is axes[0][0] else "")
    widths = ", ".join(str(width) for width in sorted({width_of(pool) for pool in pools}))
    legend_below(fig, axes[0][:1], title=f"points: widths {widths}, moved apart by 4 %")
    return fig, facts


def width_of(pool: Pool) -> int:
    """Return a search's candidates per round."""
    return pool.run.plan.width


def selector_name(selector: str) -> str:
    """Return what a legend calls a selector; one fed by a scorer is called by it."""
    plain = selector.replace(":last", "").replace(":", ", ")
    return SELECTOR_NAMES.get(selector, plain.replace("weighted ", "vote weighted by "))


def grid(study: Study) -> tuple[Any, dict] | None:
    """Coverage of chains x steps of revision over best-of-N at equal test FLOPs, per level.

    From two steps on: chains of one step are best-of-N itself, whose ratio is 1 but for noise.
    """
    if "countdown" not in study.held:
        return None
    pools = study.beside("countdown", ["revision", "revision+verdict"])
    pools = [pool for pool in pools if pool.run.plan.steps > 1]
    if not pools:
        return None
    most = max(pools, key=lambda p: (p.correct.size, -abs(np.nanmean(p.correct[..., 0]) - 0.3)))
    shown = [p for p in pools if p.run.card == most.run.card]
    levels, facts = [level for level in most.levels if level != "all"], {}
    fig, axes = plots.figure(len(shown), len(levels), height=2.4 * len(shown))
    grids = {(p, level): grid_ratio(p, study.fresh(p), level) for p in shown for level in levels}
    ratios = np.concatenate([found.ratio[:, 1:].ravel() for found in grids.values()])
    reach = np.fmax.reduce(abs(ratios - 1), initial=0.05)  # passes over NaN, if nothing is right
    for row, pool in zip(axes, shown, strict=True):
        for ax, level in zip(row, levels, strict=True):
            found = grids[pool, level]
            drawn = {name: getattr(found, name)[:, 1:] for name in ("ratio", "low", "high")}
            steps = found.steps[1:]
            image = plots.draw_grid(ax, found.chains, steps, **drawn, reach=reach)
            feedback = "with" if pool.run.plan.feedback == "verdict" else "without"
            ax.set_title(f"{level}, {feedback} verifier feedback  ($n$={found.n_problems})")
            facts[f"{level} {feedback} verifier feedback"] = {
                name: values.tolist() for name, values in drawn.items()
            } | {"steps": steps.tolist(), "flops": found.flops[:, 1:].tolist()}
    fig.suptitle(
        f"coverage relative to best-of-N at equal test FLOPs: {model_name(most)}\n"
        "bold: 95 % CI excludes 1; blank: costs more than the whole best-of-N pool"
    )
    fig.colorbar(image, ax=axes.ravel().tolist(), pad=0.01, label="ratio")
    return fig, facts


def policy(study: Study) -> tuple[Any, dict]:
    """What choosing a selector by difficulty gains, before and after it has paid for its pilot."""
    facts: dict[str, Any] = {}
    fig, axes = plots.figure(1, len(study.tasks), height=2.6)
    for ax, task in zip(axes[0], study.tasks, strict=True):
        top = nearest(study.select(task), 0.5)
        same = [p for p in study.select(task, "revision") if p.run.card == top.run.card]
        unit = cost_unit([top])
        found = pool_policy([top, *same], pilot=max(2, top.correct.shape[1] // 8), unit=unit)
        ax.axhline(0, color="0.5", linewidth=0.6)
        sides = {"difficulty for nothing": found.gain_free, "its estimate paid for": found.gain}
        for index, (name, gain) in enumerate(sides.items()):
            x, style = found.budget * 1.03**index, plots.look(index) | {"linestyle": "none"}
            ends = (100 * np.asarray(side) for side in (gain.value, gain.low, gain.high))
            plots.draw_points(ax, x, *ends, label=name, **style)
        plots.accuracy_axes(ax, unit).yaxis.set_major_formatter(plots.plain())
        claims = ", ".join(dict.fromkeys(found.gain.claim))
        ax.set_title(f"{task}, {model_name(top)} ($n$={found.gain.problems})\npaid for: {claims}")
        ax.set_ylabel("gain over the best\nsingle selector (points)" if ax is axes[0][0] else "")
        facts[task] = {"model": top.run.card.name, "rows": found.table().to_dict("records")}
    legend_below(fig, axes[0][:1])
    return fig, facts


FIGURES: dict[str, Callable[[Study], tuple[Any, dict] | None]] = {
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
    study: Study, folder: Path, names: Sequence[str] = tuple(FIGURES), force: bool = False
) -> list[Path]:
    """Draw and save figures by name; return the files written, none for one that lacks its runs.

    Errors: ValueError, with nothing drawn, where files are in the way that the kit did not write.
    """
    functions = {name: look_up(FIGURES, name, "figure") for name in names}
    refuse_foreign([path for name in names for path in plots.paths_of(name, folder)], force)
    if not study.tasks:
        raise ValueError("no complete best-of-N run among the runs: every figure starts from one")
    written = []
    for name, function in functions.items():
        with plots.style():
            drawn = function(study)
        if drawn is None:
            continue
        fig, facts = drawn
        runs = [pool.run for pool in study.whole]
        written += plots.save(fig, name, folder, runs, facts, plots.REDRAW, force=force)
    return written

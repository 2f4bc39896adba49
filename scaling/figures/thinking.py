"""The figures of learning to think: the two panels of o1, and what mix of compute is best.

Rewarded checkpoints are told apart by their cards: `thinking/0.1M/start` imitates, and
`thinking/0.1M/grpo/3e12` has had so many FLOPs of reward more. `thinking/0.1M-3e13/...` began with
3e13 FLOPs of pre-training, where the others began with the ladder's most. Reads logs only, draws,
never fits by other means than `fits`; `figures.FIGURES` lists what is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scaling.figures import plots
from scaling.fits import fit
from scaling.fits.forecast import forecast
from scaling.fits.laws import Law
from scaling.fits.published import curves as published
from scaling.intervals import mean_interval, wilson
from scaling.records import Curve, Fit
from scaling.runs import Run, Runs

HELD = 0.5  #: laws are fitted up to this share of the largest budget, the rest is forecast
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


def family(pool: Run) -> str:
    """Return how a model was trained: imitation, grpo, expert, "grpo after 3e13"."""
    _, size, way, *_ = pool.card.name.split("/")
    begun = size.partition("-")[2]
    return way.replace("start", "imitation") + (AFTER + begun if begun else "")


def named(way: str) -> str:
    """Return a family as legends name it."""
    way, after, begun = way.partition(AFTER)
    return NAMES.get(way, way) + after + begun


def families(study: Any) -> dict[str, list[Run]]:
    """Return thinking pools by how they were trained, each from least to most training."""
    found: dict[str, list[Run]] = {}
    for pool in study.select("countdown", "thinking") if "countdown" in study.tasks else ():
        if pool.card.name.startswith("thinking/"):
            found.setdefault(family(pool), []).append(pool)
    return found


def with_beside(study: Any) -> Any:
    """Return the study with the runs of the folder `thinking` in its own folder added."""
    beside = study[0].path.parent / "thinking"
    return study + (Runs.load(beside) if any(beside.glob("*/manifest.json")) else [])


def reward_curve(pools: Sequence[Run], start: Run, level: str = "all") -> Curve:
    """Return accuracy at the largest thinking budget against FLOPs of the reward phase."""
    shown = [pool.curve("last", level=level) for pool in pools]
    ends = {name: np.array([getattr(c, name)[-1] for c in shown]) for name in ("y", "low", "high")}
    return Curve(
        x=np.array([p.card.train_flops - start.card.train_flops for p in pools]),
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
    """Pass@1 against reward compute, accuracy against thinking compute, published points of o1."""
    found = {way: pools for way, pools in families(study).items() if AFTER not in way}
    if "imitation" not in found or len(found) < 2:
        return None
    start, facts = found["imitation"][0], {}
    fig, axes = plots.figure(2, 3, height=3.8, width_ratios=(1.4, 1.4, 1))
    grid = axes[0, 0].get_gridspec()
    for ax in axes[:, :2].ravel():
        ax.remove()
    train, test = (fig.add_subplot(grid[:, column]) for column in (0, 1))
    first = start.curve("last", "flops")
    train.axhspan(first.low[-1], first.high[-1], color="0.5", alpha=0.15, lw=0)
    train.axhline(first.y[-1], color="0.5", linestyle=":", label="start: imitation")
    rewarded = {name: pools for name, pools in found.items() if name != "imitation"}
    for index, (name, pools) in enumerate(rewarded.items()):
        shown = reward_curve(pools, start)
        facts[f"train {name}"] = draw_law(train, shown, index, named(name))
    shown_last = {name: pools[-1] for name, pools in rewarded.items()} | {"imitation": start}
    for index, (name, pool) in enumerate(shown_last.items()):
        tested = pool.curve("last", "flops")
        facts[f"test {name}"] = draw_law(test, tested, index, named(name))
    n = shown.n_problems
    plots.accuracy_axes(train, "flops").set(
        xlabel="train FLOPs of the reward phase", ylabel="pass@1", title=f"reward  ($n$={n})"
    )
    plots.accuracy_axes(test, "flops").set(ylabel="", title=f"the last checkpoints  ($n$={n})")
    for ax in (train, test):
        ax.set_ylim(0, 1.02)
        ax.legend(loc="upper left", title="open: held out")
    for ax, name, title, unit in (
        (axes[0, 2], "o1_test_time_aime", "o1, digitised", "relative test compute"),
        (axes[1, 2], "o1_mini_aime2024", "o1-mini ($n$=30)", "thinking tokens"),
    ):
        facts[name] = facts_of(draw_published(ax, name))
        ax.set(title=title, xlabel=unit, ylabel="AIME 2024", ylim=(0, 1.02))
    return fig, facts


def draw_published(ax, name: str) -> Fit:
    """Draw a published curve with the line fitted to it; its points count as independent."""
    table = published(name)
    x, y = table.x.to_numpy(float), table.y.to_numpy(float)
    y = y / 100 if y.max() > 1 else y
    fitted = fit(LOG_LINE, x, y)
    n = table.n.to_numpy(float)
    low, high = wilson(np.round(y * n), n) if np.isfinite(n).all() else (y, y)
    plots.draw_points(ax, x, y, low, high, color=plots.COLORS[6], marker="o", markersize=2.5)
    plots.draw_fit(ax, fitted, np.geomspace(x[0], x[-1], 60), color=plots.COLORS[6])
    return plots.accuracy_axes(ax, "tokens") and fitted


def direct_pools(study: Any) -> list[Run]:
    """Return best-of-N of models of the thinkers' size on the thinkers' problems.

    Looked for among the study's runs, and in the folder `thinking` beside them.
    """
    return comparable(with_beside(study), "best_of_n", families(study)["imitation"][0])


def comparable(study: Any, method: str, start: Run) -> list[Run]:
    """Return a method's pools of models of a start's size on its problems, by training."""
    found = [
        pool
        for pool in study.select("countdown", method)
        if pool.card.n_params == start.card.n_params
        and pool.problems["id"].equals(start.problems["id"])
    ]
    return sorted(found, key=lambda pool: pool.card.train_flops)


def side_by_side(pool: Run, budget: int) -> Run:
    """Return a thinker's traces of one budget (a step) as a pool of best-of-N: votes among traces.

    Their new tokens are those of thinking and answer, as if drawn at this budget; the prompt is
    computed once.
    """
    ledger = {name: values[:, :, [budget]] for name, values in pool.ledger.items()}
    start = pool.ledger["prompt_tokens"][:, :, -1:]
    thought = ledger["prompt_tokens"] + ledger["completion_tokens"] - start
    ledger |= {"prompt_tokens": start, "cached_tokens": start, "completion_tokens": thought}
    plan = replace(pool.plan, method="best_of_n", steps=1)
    return pool.with_arrays(
        plan=plan,
        correct=pool.correct[:, :, [budget]],
        answers=pool.answers[:, :, [budget]],
        ledger=ledger,
    )


def choices(pool: Run) -> Iterator[tuple[Run, str]]:
    """Yield (best-of-N pool, selector) of each way to choose an answer from a model's pool.

    Of thinkers the log-probability chooses among whole traces alone: at a smaller budget a row
    holds that of the forced answer, none where the trace had ended.
    """
    if pool.label == "best_of_n":
        yield from ((pool, selector) for selector in ("majority", "logprob"))
        return
    budgets = [side_by_side(pool, step) for step in range(pool.plan.steps)]
    yield from ((traces, "majority") for traces in budgets)
    yield budgets[-1], "logprob"


def offers(pools: Sequence[Run]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what each way of spending offers: its costs (train, test FLOPs), and accuracy.

    Costs are (offers, 2), accuracy is (problems, offers), all on the same problems. Direct models
    answer once, vote, or choose by log-probability among N; thinkers think for any budget, once or
    in traces side by side, among which the same two choose.
    """
    found: dict[str, list[tuple[Run, str]]] = {}
    for pool in pools:
        rewarded = pool.card.name.startswith("thinking/")
        how = "direct" if pool.label == "best_of_n" else "thinking"
        way = f"{how}: {named(family(pool)) if rewarded else 'pre-training'}"
        found.setdefault(way, []).extend(choices(pool))
    return {way: _offered(pairs) for way, pairs in found.items()}


def _offered(pairs: Sequence[tuple[Run, str]]) -> tuple[np.ndarray, np.ndarray]:
    costs, values = [], []
    for pool, selector in pairs:
        k = pool.budgets()
        tested = pool.cost("flops", k).mean(axis=0)
        costs.append(np.stack([np.full(len(k), pool.card.train_flops), tested], axis=1))
        values.append(pool.values(selector, k))
    return np.concatenate(costs), np.concatenate(values, axis=1)


def chosen_within(cost: np.ndarray, values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return (problems, totals): values of the best offer within each total; NaN: none.

    The best of many noisy offers looks better than it is. So it is chosen on one half of the
    problems and scored on the other, both ways. cost: (offers,); values: (problems, offers).
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
    able = np.isfinite(scored[0])
    if able.any():
        found = mean_interval(scored[:, able])
        best[able] = np.stack([found.value, found.low, found.high], axis=1)
    return best


def draw_steps(ax, totals: np.ndarray, best: np.ndarray, **style: Any):
    """Draw accuracy and its interval, (totals, 3), as steps: only where they change."""
    able = np.isfinite(best[:, 0])
    totals, best = totals[able], best[able]
    turns = np.any(np.diff(best, axis=0, prepend=np.nan) != 0, axis=1)
    turns[-1] = True
    x, (y, low, high) = totals[turns], best[turns].T
    (line,) = ax.plot(x, y, drawstyle="steps-post", markersize=2.2, **style)
    ax.fill_between(x, low, high, color=line.get_color(), alpha=0.1, lw=0, step="post")
    return ax


def compute_mix(study: Any) -> tuple[Any, dict] | None:
    """The best accuracy that each mix of training and thinking reaches within a total compute."""
    if len(families(study)) < 2:
        return None
    start, wide = families(study)["imitation"][0], with_beside(study)
    direct, thinkers = (comparable(wide, method, start) for method in ("best_of_n", "thinking"))
    beside = [pool for pool in (*direct, *thinkers) if pool not in study]
    facts: dict[str, Any] = {"beside": {pool.path.name: pool.sha256 for pool in beside}}
    found, n = offers([*direct, *thinkers]), len(start.problems)
    bases = list(dict.fromkeys(name.partition(AFTER)[0] for name in found))
    fig, axes = plots.figure(1, len(QUERIES), height=3.3, sharey=True)
    for ax, queries in zip(axes[0], QUERIES, strict=True):
        costs = {name: cost @ [1, queries] for name, (cost, _) in found.items()}
        every = np.concatenate(list(costs.values()))
        totals = np.geomspace(every.min(), every.max() * 1.2, 200)
        for name, (_, values) in found.items():
            base, after, _ = name.partition(AFTER)
            best = best_within(costs[name], values, totals)
            style = plots.look(bases.index(base)) | {"marker": "o" if after else ""}
            draw_steps(ax, totals, best, label=name, **style)
            last = dict(zip(("accuracy", "low", "high"), best[-1].tolist(), strict=True))
            facts[f"{name} at {queries:g}"] = last | {"total": totals[-1]}
        plots.accuracy_axes(ax, "flops").set(
            xlabel="train + test FLOPs", title=f"{queries:,.0f} answers", ylim=(0, 1.02)
        )
        ax.set_ylabel("best accuracy" if ax is axes[0][0] else "")
    title = f"one answer or the best of N, at once or after thinking ($n$={n})"
    if any(AFTER in name for name in found):
        title += "\ndots: reward began with less pre-training, as named"
    legend = axes[0][0].get_legend_handles_labels()
    fig.legend(*legend, title=title, loc="outside lower center", ncols=3)
    return fig, facts

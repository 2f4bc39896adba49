"""Is what is read from samples true? Estimators, intervals, laws and the planner on a known truth.

A model of `maze-walk` has seen nothing that says which branch is right, so it cannot look ahead.
Its coverage follows from the task alone, and over levels of 1 to 10 junctions it is nearly a line
in the logarithm of the number of samples. There are two truths: the task's, from which the model's
own mistakes are reported apart, and the model's, the mean over its whole pool. Small studies are
drawn from the pool, problems with replacement and samples without, so the second is their exact
expectation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from scaling import planner
from scaling.curves import Curve, ends
from scaling.estimates import inverse_pass_at_k, pass_at_k
from scaling.fits import fit
from scaling.intervals import (
    Estimate,
    bootstrap_problems,
    difference,
    likelihood_interval,
    mean_interval,
    wilson,
)
from scaling.records import Plan
from scaling.results.repeated import (
    OF_LEVELS,
    choose,
    forecast_rows,
    forecasts_of,
    mean_forecast,
)
from scaling.results.table import Sampled, estimate_row, find, row
from scaling.runs import Run, Runs
from scaling.tasks.maze import chance_without_look_ahead, coverage_without_look_ahead, parse_problem

LEVELS = tuple(f"{junctions}x1" for junctions in range(1, 11))
WALKS = Sampled(
    "maze-walk/0.05M/3e12", "maze-walk", LEVELS, 100, Plan(chains=256, max_new_tokens=40)
)
SAMPLED = (WALKS,)
SEEN = 16  #: samples of each problem that laws are fitted to, half of the logarithmic axis
POWER = 0.8  #: of the planned studies
KNOWN, LATER = 2 ** np.arange(5), 2 ** np.arange(5, 9)  #: budgets that are fitted, and forecast
Rows = Iterator[dict[str, Any]]


def rows(runs: Runs) -> Rows:
    """Yield how far the model is off the task's truth, and the kit off the model's."""
    run = find(runs, WALKS)
    right = run.correct[:, :, 0]
    yield from model_rows(run)
    yield from estimator_rows(right)
    yield from interval_rows(right)
    yield from law_rows(right)
    yield from level_rows(run)
    yield from planner_rows(run)


# ---------------------------------------------------------------- the model and the task
def exact_coverage(levels: Sequence[str], k: np.ndarray) -> np.ndarray:
    """Return the coverage of walks without look-ahead at each k, from the task alone."""
    return np.array([coverage_without_look_ahead(levels, int(samples)) for samples in k])


def model_rows(run: Run) -> Rows:
    """Yield accuracy next to the task's, mistakes, and whether the model looks ahead."""
    n, c = run.counts
    mistakes, share = habits(run)
    for level in run.level_names:
        at, exact = run.rows(level), chance_without_look_ahead(level)
        found = mean_interval((c / n)[at])
        yield estimate_row(level, "pass@1", found)
        yield shifted_row(level, "pass@1 less the exact one", found, -exact)
        yield estimate_row(
            level, "walks with a step that is not allowed", mean_interval(mistakes[at])
        )
    known = share[np.isfinite(share)]
    yield estimate_row("all levels", "right branches among those taken", mean_interval(known))
    k = run.budgets()
    whole = exact_coverage(run.level_names, k)
    for i, samples in enumerate(k):
        found = mean_interval(run.values("coverage", k)[:, i])
        name = f"coverage at {samples} samples"
        yield estimate_row("all levels", name, found)
        yield row("exact", name, float(whole[i]))
        yield shifted_row("all levels", f"{name} less the exact one", found, -float(whole[i]))
    line = fit("log_line", k.astype(float), whole, bootstrap=0)
    yield row("exact", "coverage per doubling of samples", line.params["b"] * np.log10(2))
    yield row("exact", "root mean square distance from a line in log k", line.rmse)


def shifted_row(case: str, quantity: str, found: Estimate, shift: float) -> dict[str, Any]:
    """Return a mean over problems, less what it should be, as a row."""
    value, low, high = (float(end) + shift for end in (found.value, found.low, found.high))
    return row(case, quantity, value, low, high, found.problems)


def habits(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return per problem the share of walks with a step that is not allowed, and of right branches.

    Right branches are counted among all that were taken at junctions, up to such a step.
    """
    texts = run.samples.groupby(["problem", "answer"], dropna=False).size().reset_index(name="n")
    places = pd.Index(run.problems["id"]).get_indexer(texts["problem"])
    broken, right, taken = np.zeros((3, len(run.problems)))
    for at, text, times in zip(places, texts["answer"], texts["n"], strict=True):
        problem, path = run.problems["id"][at], run.problems["answer"][at]
        allowed, good, junctions = follow(problem, path, text)
        broken[at] += times * (not allowed)
        right[at] += times * good
        taken[at] += times * junctions
    return broken / run.counts[0], right / np.where(taken, taken, np.nan)


def follow(problem: str, path: str, text: Any) -> tuple[bool, int, int]:
    """Return whether a walk is allowed and complete, its right branches, and its junctions."""
    ways, room, _ = parse_problem(problem)
    good = junctions = 0
    if not isinstance(text, str) or text[0] != room:
        return False, 0, 0
    for step in text[1:]:
        if step not in ways[room]:
            return False, good, junctions
        junctions += len(ways[room]) > 1
        good += len(ways[room]) > 1 and step in path
        room = step
    return not ways[room], good, junctions


# ---------------------------------------------------------------- estimators
def estimator_rows(right: np.ndarray, drawn: int = 32, k: int = 16, pools: int = 100) -> Rows:
    """Yield bias and error of estimators of coverage at k, each from samples of a pool's order.

    right: (problems, chains). Biases have intervals over pools.
    """
    size, rng = right.shape[1], np.random.default_rng(0)
    total = right.sum(axis=1)
    found: dict[str, list[float]] = {}
    for _ in range(pools):
        order = rng.permuted(right, axis=1)
        c = order[:, :drawn].sum(axis=1)
        values = {
            f"unbiased, {drawn} samples": pass_at_k(drawn, c, k),
            f"1 - (1 - c/n)^k, {drawn} samples": 1 - (1 - c / drawn) ** k,
            f"whether one of the first {k} is right": order[:, :k].any(axis=1),
            f"stopped at 4 correct of {size}": stopped(order, 4, k),
        }
        for name, value in values.items():
            found.setdefault(name, []).append(float(np.mean(value)))
    truth = float(np.mean(pass_at_k(size, total, k)))
    for name, means in found.items():
        error = np.array(means) - truth
        half = 1.96 * error.std(ddof=1) / np.sqrt(pools)
        middle = float(error.mean())
        yield row(f"estimator: {name}", f"bias of coverage at {k}", middle, middle - half,
                  middle + half, pools)  # fmt: skip
        yield row(f"estimator: {name}", "root mean square error", float(np.sqrt((error**2).mean())),
                  n=pools)  # fmt: skip


def stopped(order: np.ndarray, r: int, k: int) -> np.ndarray:
    """Return pass@k of problems sampled in this order until the r-th is correct, (problems,)."""
    running = np.cumsum(order, axis=1)
    n = (running - order < r).sum(axis=1)
    c = np.minimum(running[:, -1], r)
    return np.asarray(inverse_pass_at_k(n, c, r, k, cap=order.shape[1]))


# ---------------------------------------------------------------- intervals
def draw_study(
    right: np.ndarray, problems: int, samples: int, rng: np.random.Generator, studies: int = 1
) -> np.ndarray:
    """Return correct samples per problem and study, (problems, studies), drawn from a pool."""
    good = right.sum(axis=1).astype(int)
    at = rng.integers(len(right), size=(problems, studies))
    return rng.hypergeometric(good[at], right.shape[1] - good[at], samples)


def interval_rows(
    right: np.ndarray, sizes: Sequence[int] = (30, 100, 400), samples: int = 16, studies: int = 2000
) -> Rows:
    """Yield how often intervals of 95 % contain the truth, and their mean width, per kind.

    Problems of all levels are drawn at random, as the intervals assume.
    """
    rng = np.random.default_rng(1)
    for problems in sizes:
        c = draw_study(right, problems, samples, rng, studies)
        for k in (1, samples):
            truth = float(np.mean(pass_at_k(right.shape[1], right.sum(axis=1), k)))
            values = np.asarray(pass_at_k(samples, c, k))
            both: dict[str, Any] = {"empirical likelihood": likelihood_interval(values)}
            both["bootstrap"] = ends(bootstrap_problems(values, 400))
            if k == samples:  # one verdict per problem: whether a sample is right
                both["Wilson"] = wilson((c > 0).sum(axis=0), np.full(studies, problems))
            for name, (low, high) in both.items():
                case = f"interval: {name}, {problems} problems, coverage at {k} of {samples}"
                inside = ((low <= truth) & (truth <= high)).sum()
                least, most = wilson(inside, studies)
                share = float(inside / studies)
                yield row(case, "calibration", share, float(least), float(most), studies)
                yield row(case, "mean width", float(np.mean(np.subtract(high, low))), n=studies)


# ---------------------------------------------------------------- laws
def study_curve(c: np.ndarray, samples: int, replicates: int) -> Curve:
    """Return coverage of problems with c of so many samples right at 1, 2, 4, ... of them."""
    k = KNOWN[samples >= KNOWN]
    found = mean_interval(pass_at_k(samples, c[:, None], k), replicates)
    return Curve(k.astype(float), found.value, found.low, found.high, found.replicates,
                 n_problems=len(c))  # fmt: skip


def law_rows(
    right: np.ndarray, problems: int = 400, studies: int = 8, replicates: int = 200
) -> Rows:
    """Yield the error of each law's forecast from studies of `SEEN` samples, and of the law chosen.

    Chosen is the law that forecasts the later half of the seen samples best from the earlier ones.
    A study has all problems, so that its forecast is of the same ones, or some drawn at random.
    """
    rng, size = np.random.default_rng(2), right.shape[1]
    truth = np.mean(pass_at_k(size, right.sum(axis=1)[:, None], LATER), axis=0)
    exact, good = exact_coverage(LEVELS, LATER), right.sum(axis=1).astype(int)
    found: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for i in range(2 * studies):
        same = i < studies
        c = (rng.hypergeometric(good, size - good, SEEN) if same
             else draw_study(right, problems, SEEN, rng)[:, 0])  # fmt: skip
        of = "forecast for the same problems" if same else f"forecast from {problems} problems"
        curve = study_curve(c, SEEN, replicates)
        scores = forecasts_of(curve, LATER, truth)
        scores["law chosen"] = scores[choose(curve, list(scores))]
        for name, scored in scores.items():
            found.setdefault((of, name), []).append(scored.assign(off=scored["predicted"] - exact))
    for (of, name), tables in found.items():
        yield from forecast_rows(f"{of}: {name}", table := pd.concat(tables), studies)
        yield row(f"{of}: {name}", "median error against the exact coverage",
                  float(table["off"].abs().median()), n=studies)  # fmt: skip


def level_rows(run: Run, studies: int = 3) -> Rows:
    """Yield the error of the mean of the levels' forecasts, from `SEEN` samples in other orders."""
    rng, exact = np.random.default_rng(7), exact_coverage(run.level_names, LATER)
    orders = [run.with_arrays(correct=rng.permuted(run.correct, axis=1)) for _ in range(studies)]
    case = f"forecast for the same problems: mean over levels of {OF_LEVELS}"
    scored = pd.concat([mean_forecast(order, SEEN) for order in orders])
    yield from forecast_rows(case, scored, studies)
    off = (scored["predicted"] - np.tile(exact, studies)).abs()
    yield row(case, "median error against the exact coverage", float(off.median()), n=studies)


# ---------------------------------------------------------------- the planner
def pairs(run: Run, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return two methods' verdicts, (problems, samples): one walk, and the better of two others."""
    right = np.random.default_rng(seed).permuted(run.correct[:, :, 0], axis=1)
    quarter = right.shape[1] // 4
    one, two = right[:, : 2 * quarter], right[:, 2 * quarter :]
    return one, np.maximum(two[:, :quarter], two[:, quarter : 2 * quarter])


def as_run(run: Run, right: np.ndarray, rows: np.ndarray, samples: int) -> Run:
    """Return a pilot: the first `samples` verdicts of some problems, at the run's costs."""
    ledger = {name: column[rows, :samples] for name, column in run.ledger.items()}
    arrays = replace(
        run.arrays,
        correct=right[rows, :samples, None],
        answers=run.answers[rows, :samples],
        ledger=ledger,
    )
    return replace(run, problems=run.problems.iloc[rows].reset_index(drop=True), derived=arrays)


def planner_rows(run: Run, pilots: int = 20, samples: int = 8, studies: int = 500) -> Rows:
    """Yield the planned power and cost of studies of a known difference, and what came out.

    The difference is that between one walk and the better of two, known from the task. Each pilot
    is ten problems of each level; studies of the planned size are drawn from the pool.
    """
    rng, sides = np.random.default_rng(4), pairs(run)
    chances = np.array([chance_without_look_ahead(level) for level in run.level_names])
    exact, truth = float(np.mean(chances * (1 - chances))), float(sides[1].mean() - sides[0].mean())
    table = []
    for _ in range(pilots):
        rows = np.concatenate([rng.choice(run.rows(level), 10, False) for level in run.level_names])
        pilot = planner.read_pilot([as_run(run, side, rows, samples) for side in sides])
        study, cost = planner.plan(truth, POWER, pilot)
        at = rng.integers(len(sides[0]), size=(study.problems, studies))
        one, two = (rng.binomial(study.samples, side.mean(axis=1)[at]) / study.samples
                    for side in sides)  # fmt: skip
        found, gain = difference(two, one, replicates=2), two - one
        error = gain.std(axis=0, ddof=1) / np.sqrt(study.problems)
        table.append({
            "problems of the plan": study.problems,
            "samples of each": study.samples,
            "power": (found.low > 0).mean(),
            "power of a z test": (gain.mean(axis=0) > 1.96 * error).mean(),
            "calibration of the interval": ((found.low <= truth) & (truth <= found.high)).mean(),
            "planned FLOPs by those spent": cost["flops"] / flops_of(run, study),
        })  # fmt: skip
    yield row("planner", "difference, exact", exact)
    yield row("planner", "difference in the pool, to be found", truth)
    yield row("planner", "planned power", POWER)
    for name, values in pd.DataFrame(table).items():
        low, high = np.quantile(values, [0.025, 0.975])
        yield row("planner", str(name), float(values.mean()), float(low), float(high), pilots)


def flops_of(run: Run, study: Any) -> float:
    """Return the mean FLOPs of a study of two methods at the run's costs."""
    once, each = run.costs["flops"]
    return float(study.problems * 2 * once.mean() + study.draws * np.nanmean(each))

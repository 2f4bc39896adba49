"""What revision does: correct to wrong, wrong to correct, its plateau, and its value in samples.

Reads runs only. The grid compares c chains of s steps with best-of-N at equal mean test FLOPs;
where the verifier gives feedback, both sides stop at their first correct draft.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.comparisons.equal_cost import require_same_problems
from scaling.estimates import chain_prefix, pass_at_k
from scaling.intervals import difference_limits, likelihood_interval
from scaling.runs import Run, cost_until_right, doublings

Floats = NDArray[np.float64]


def transitions(run: Run, level: str = "all") -> pd.DataFrame:
    """Return one row per step: accuracy, share fixed of wrong drafts, broken of correct, repeats.

    `repeats`: drafts whose answer an earlier draft of the chain has; unanswered ones repeat none.
    `fixed` and `broken` have intervals over problems; NaN where no draft of that kind was revised.
    """
    rows = run.rows(level)
    correct, answers = run.correct[rows], run.answers[rows]
    table = []
    for step in range(correct.shape[-1]):
        now = correct[..., step]
        facts: dict[str, float] = {"step": step, "accuracy": float(np.nanmean(now))}
        if step:
            seen = (answers[..., :step] == answers[..., step : step + 1]).any(axis=-1)
            answered = np.isfinite(now) & (answers[..., step] >= 0)
            facts["repeats"] = float(seen[answered].mean()) if answered.any() else np.nan
            for name, kind in (("fixed", 0), ("broken", 1)):
                facts |= _rate(name, correct[..., step - 1] == kind, now, 1 - kind)
        table.append(facts)
    return pd.DataFrame(table)


def _rate(name: str, before: NDArray[np.bool_], now: Floats, result: int) -> dict[str, float]:
    """Return the share of drafts of a kind that end as `result`, with its interval over problems.

    The drafts of one problem are one family.
    """
    problem, chain = np.nonzero(before & np.isfinite(now))
    if not len(problem):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    ends = now[problem, chain] == result
    low, high = (float(end) for end in likelihood_interval(ends, problem))
    return {name: float(ends.mean()), f"{name}_low": low, f"{name}_high": high}


def plateau(table: pd.DataFrame, fit_steps: int = 3) -> tuple[float, Floats]:
    """Return the accuracy that revision without feedback tends to, and its forecast per step.

    Drafts as a two-state Markov chain: accuracy a goes to a (1 - broken) + (1 - a) fixed, whose
    limit is fixed / (fixed + broken). Rates are the means over the first `fit_steps` steps.
    """
    early = table.iloc[1 : 1 + fit_steps]
    fixed, broken = float(early["fixed"].mean()), float(early["broken"].mean())
    path = [float(table["accuracy"].iloc[0])]
    for _ in range(len(table) - 1):
        path.append(path[-1] * (1 - broken) + (1 - path[-1]) * fixed)
    return fixed / (fixed + broken), np.array(path)


@dataclass(frozen=True)
class Grid:
    """Coverage of c chains x s steps over best-of-N at equal test FLOPs; arrays (chains, steps)."""

    chains: NDArray[np.int64]
    steps: NDArray[np.int64]
    ratio: Floats  #: above 1 revision is better; NaN where best-of-N has too few samples
    low: Floats  #: 95 % interval over problems, paired
    high: Floats
    flops: Floats  #: mean per problem
    n_problems: int


def grid_ratio(revised: Run, sampled: Run, level: str = "all") -> Grid:
    """Return the grid of a revision run compared with best-of-N of the same model and problems.

    Between two budgets of best-of-N its coverage is that of mixing them.
    """
    require_same_problems(revised, sampled)
    rows = np.intersect1d(revised.rows(level), sampled.rows(level))
    feedback = revised.plan.feedback == "verdict"
    chains = doublings(revised.correct.shape[1])
    k = np.arange(1, sampled.correct.shape[1] + 1)
    spent = sampled.stopping_cost("flops", k) if feedback else sampled.cost("flops", k)
    value, cost = (table[rows] for table in _grid(revised, chains, feedback))
    base = _at_mean_cost(spent[rows], sampled.values("coverage", k)[rows], cost)
    low, high = ratio_interval(value, base)
    ratio, steps = value.mean(axis=0) / _positive(base), np.arange(1, value.shape[-1] + 1)
    return Grid(chains, steps, ratio, low, high, cost.mean(axis=0), len(rows))


def _grid(run: Run, chains: NDArray[np.int64], feedback: bool) -> tuple[Floats, Floats]:
    """Return coverage and mean FLOPs, each (problems, chains, steps).

    With feedback, chains run one after another until one is correct: the j-th is begun with the
    probability that j - 1 were wrong, and correct and wrong chains have costs of their own.
    """
    shared, own = run.costs["flops"]
    right = chain_prefix(run.correct, "any")[0]  # (problems, chains, steps)
    spent = np.cumsum(np.nan_to_num(own), axis=2)
    n, c = right.shape[1], right.sum(axis=1).astype(int)  # (problems, steps)
    every = np.arange(1, int(chains[-1]) + 1)
    coverage = pass_at_k(n, c[:, None, :], every[:, None])  # (problems, every, steps)
    if feedback:
        cost = cost_until_right(spent, right, coverage)
    else:
        cost = every[:, None] * spent.mean(axis=1)[:, None]
    return coverage[:, chains - 1], (cost + shared[:, None, None])[:, chains - 1]


def _at_mean_cost(spent: Floats, right: Floats, cost: Floats) -> Floats:
    """Return the coverage of best-of-N at the mean of `cost`, per problem; NaN beyond its samples.

    spent, right: (problems, k); cost: (problems, ...). To first order: a problem on which the other
    method spends more than best-of-N counts with what that difference buys on average.
    """
    spent, right = (np.pad(side, ((0, 0), (1, 0))) for side in (spent, right))  # k = 0: nothing
    ladder, wanted = spent.mean(axis=0), cost.mean(axis=0)
    at = np.clip(np.searchsorted(ladder, wanted) - 1, 0, len(ladder) - 2)
    step = np.where(wanted <= ladder[-1], ladder[at + 1] - ladder[at], np.nan)
    part = (wanted - ladder[at]) / step
    here, there = (side[:, at] + part * (side[:, at + 1] - side[:, at]) for side in (right, spent))
    slope = (right[:, at + 1] - right[:, at]).mean(axis=0) / step
    return here + slope * (cost - there)


def _positive(base: Floats) -> Floats:
    """Return the mean over problems, NaN where it is not above 0."""
    mean = base.mean(axis=0)
    return np.where(mean > 0, mean, np.nan)


def ratio_interval(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the 95 % interval of mean(a) / mean(b), paired over problems (Fieller's method).

    It holds each ratio r for which the interval of mean(a - r b) holds 0. a: (problems, ...),
    accuracies; b: of the same shape. NaN where mean(b) is not above 0.
    """
    points = a.shape[1:]
    a, b = (side.reshape(len(side), -1) for side in (a, b))
    ratio, ends = a.mean(axis=0) / _positive(b), []
    for side in (0, 1):
        least, most = np.zeros_like(ratio), np.ones_like(ratio)
        for _ in range(30):  # bisection: r is a share of the ratio, or the ratio over a share
            share = (least + most) / 2
            r = np.maximum(ratio, 1e-3) / share if side else ratio * share
            gain = a - r * b
            bottom, top = difference_limits(a, np.clip(r * b, 0, 1))
            limits = np.minimum(gain.min(axis=0), bottom), np.maximum(gain.max(axis=0), top)
            end = likelihood_interval(gain, limits=limits)[side]
            outside = end < 0 if side else end > 0
            least, most = np.where(outside, share, least), np.where(outside, most, share)
        ends.append(r.reshape(points))
    return ends[0], ends[1]

"""Estimate the cost of a study from a pilot's log: problems, samples, FLOPs and hours.

`intervals.plan_study` finds how many problems and samples detect a difference of a given size; a
pilot shows how much problems vary and what a sample costs on the machine that drew it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling import compute
from scaling.comparisons.equal_cost import require_same_problems
from scaling.intervals import Study, pilot_spread, plan_study
from scaling.records import Plan
from scaling.runs import Run

UNITS = ("tokens", "flops", "seconds")


@dataclass(frozen=True)
class Pilot:
    """What one or two small runs on the same problems imply for a larger study."""

    between: float | None  #: spread over problems of the paired difference; None for one run
    within: float  #: mean of p (1 - p)
    per_problem: dict[str, float]  #: unit -> cost of one problem, both methods: the prompts
    per_draw: dict[str, float]  #: unit -> cost of one sample, mean of the methods


def read_pilot(pools: Sequence[Run]) -> Pilot:
    """Return the pilot of one or two best-of-N runs; ValueError if they cannot be paired."""
    if not 1 <= len(pools) <= 2 or not all(p.method.exchangeable for p in pools):
        raise ValueError("a pilot is one best-of-N run, or two on the same problems")
    require_same_problems(*pools)
    pair = pools[0], pools[-1]
    counts = [pool.counts for pool in pair]
    n = int(counts[0][0][0])
    if any((drawn != n).any() for drawn, _ in counts):
        raise ValueError(
            "a pilot needs as many samples of every problem in both runs: draw it without "
            "stop_after_correct, and again if samples failed"
        )
    between, within = pilot_spread(n, counts[0][1], counts[1][1])
    costs = [pool.costs for pool in pair]
    return Pilot(
        between if len(pools) == 2 else None,
        within,
        {unit: float(sum(cost[unit][0].mean() for cost in costs)) for unit in UNITS},
        {unit: float(np.mean([_known_mean(cost[unit][1]) for cost in costs])) for unit in UNITS},
    )


def _known_mean(values: np.ndarray) -> float:
    """Return the mean of the known values; NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def plan(
    effect: float,
    power: float = 0.8,
    pilot: Pilot | None = None,
    between: float | None = None,
    max_problems: int | None = None,
) -> tuple[Study, dict[str, float]]:
    """Return the cheapest study in FLOPs that finds `effect`, and its cost per unit.

    between: the paired spread over problems, by default the pilot's, else 0.15. Without a pilot the
    costs are {}, as they are for samples of unknown FLOPs.
    """
    spread = pilot.between if pilot and between is None else between
    known = {} if spread is None else {"between": spread}
    if pilot is None:
        return plan_study(effect, power, max_problems=max_problems, **known), {}
    once, each = pilot.per_problem, pilot.per_draw  # both methods' prompts, one sample
    known |= {"within": pilot.within}
    if math.isnan(each["flops"]):  # samples of another tool: their spread is known, no cost
        return plan_study(effect, power, max_problems=max_problems, **known), {}
    known |= {"problem_cost": once["flops"] / each["flops"]}
    study = plan_study(effect, power, max_problems=max_problems, **known)
    return study, {u: study.problems * once[u] + study.draws * each[u] for u in UNITS}


def estimate(
    prompts: Sequence[float],
    plan: Plan,
    shape: compute.Shape | None = None,
    mean_tokens: float | None = None,
) -> dict[str, float]:
    """Return samples, prompt, billed and new tokens, and FLOPs of a run, before it is drawn.

    prompts: prompt tokens of each problem. mean_tokens: new tokens per step, by default the plan's
    cap, which makes the estimate an upper bound, as it is for searches and thinking budgets. A
    prompt is processed once and shared by its chains; billed_tokens are the input if every sample
    is a request of its own. FLOPs are NaN without a shape.
    """
    new, prompt = mean_tokens or plan.max_new_tokens, np.asarray(prompts, float)
    step = np.arange(plan.steps)
    context = prompt[:, None] + step * new
    cached = np.where(step, context - 1, context)  # a step's last token is read by the next one
    flops = math.nan
    if shape:
        shared = compute.forward_flops(shape, prompt, 0, logit_rows=0).sum()
        flops = shared + plan.chains * compute.sample_flops(shape, context, cached, new).sum()
    samples = len(prompt) * plan.chains * plan.steps
    return {
        "samples": samples,
        "prompt_tokens": float(prompt.sum()),
        "billed_tokens": float(context.sum()) * plan.chains,
        "tokens": samples * new,
        "flops": float(flops),
    }


def price(
    cost: dict[str, float],
    workers: int = 0,
    tokens_per_second: float | None = None,
    per_hour: float | None = None,
    per_million: Sequence[float] | None = None,
) -> dict[str, float]:
    """Return an estimate with hours, and prices where they are given, added.

    cost: that of `estimate`, and how many shards keep workers busy. per_million: prices of input
    and output tokens; prompts are paid once (price_of_tokens) or with every sample (price_at_most).
    """
    paid, speed = max(1, workers), tokens_per_second or math.nan
    busy = min(paid, cost["shards"])
    hours = cost["tokens"] / speed / busy / 3600
    found = cost | {"workers": busy, "hours": hours}
    if per_million:
        read, written = per_million
        once, often = (
            (cost[tokens] * read + cost["tokens"] * written) / 1e6
            for tokens in ("prompt_tokens", "billed_tokens")
        )
        found |= {"price_of_tokens": once, "price_at_most": often}
    return found | ({"price_of_hours": hours * paid * per_hour} if per_hour else {})


def cost_lines(cost: dict[str, float], about: str = "", most: str = "") -> list[str]:
    """Return the cost of a run as lines to print."""
    lines = [
        f"{cost['samples']:,.0f} samples of {cost['problems']:,} problems",
        f"{cost['prompt_tokens']:,.0f} prompt tokens{about},{most} {cost['tokens']:,.0f} new",
        "FLOPs unknown: the model has no card"
        if math.isnan(cost["flops"])
        else f"{cost['flops']:.3g} FLOPs",
        "hours unknown: tokens per second are not given (a short run's progress bar shows them)"
        if math.isnan(cost["hours"])
        else f"{cost['hours']:,.3g} hours on {cost['workers']:,} worker(s)",
    ]
    if "price_of_tokens" in cost:
        ends = (cost["price_of_tokens"], cost["price_at_most"])
        shown = " to ".join(dict.fromkeys(f"{end:,.2f}" for end in ends))
        lines.append(f"{shown} for tokens, prompts paid once or with every sample")
    if "price_of_hours" in cost:
        lines.append(f"{cost['price_of_hours']:,.2f} for hours")
    return lines

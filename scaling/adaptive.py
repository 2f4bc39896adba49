"""Run a policy by difficulty: a pilot measures how hard a problem is, its bin sets the strategy.

The choice per bin comes from `policy.policy_gain` on other problems (the train split, say). The
pilot and each strategy are runs of their own, so that every token is in a log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.comparisons.policy import PolicyGain
from scaling.records import Plan, Problem
from scaling.runs import Run
from scaling.sampling import sample_run


def assigned(gain: PolicyGain, signal: Sequence[float], budget: float) -> list[str]:
    """Return the strategy of each problem, by the bin of its signal, at the nearest budget."""
    at = int(np.abs(gain.budget - budget).argmin())
    bins = np.searchsorted(gain.edges, np.asarray(signal, dtype=float), side="right")
    return [gain.choice[b][at] for b in bins]


def share_right(run: Run) -> list[float]:
    """Return the fraction of correct samples per problem, as a measure of its difficulty."""
    rate = run.samples.groupby("problem")["correct"].mean()
    return [float(rate[problem]) for problem in run.problems["id"]]


def run_policy(
    lm: Any,
    task: Any,
    problems: Sequence[Problem],
    pilot: Plan,
    strategies: Mapping[str, Plan],
    gain: PolicyGain,
    budget: float,
    root: Path,
    **options: Any,
) -> dict[str, Run]:
    """Return {name: run} of the pilot and of each chosen strategy; options of `sample_run`."""
    unknown = {name for row in gain.choice for name in row} - set(strategies)
    if unknown:
        raise ValueError(f"no plan for {', '.join(sorted(unknown))}; the policy may choose it")
    runs = {"pilot": sample_run(lm, task, problems, pilot, root, **options)}
    names = assigned(gain, share_right(runs["pilot"]), budget)
    for name in dict.fromkeys(names):
        group = [problem for problem, own in zip(problems, names, strict=True) if own == name]
        runs[name] = sample_run(lm, task, group, strategies[name], root, **options)
    return runs

"""Effects of revision: drafts changed from correct to wrong and back, and the plateau."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.intervals import likelihood_interval
from scaling.runs import Run

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

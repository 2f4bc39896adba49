"""Compare the accuracy of two runs at equal cost, paired over problems, with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling import show
from scaling.intervals import Estimate, difference
from scaling.runs import Cluster, Run


@dataclass(frozen=True)
class Comparison:
    """The accuracy of a run and of a baseline at the same cost.

    >>> import scaling as sc
    >>> small, _, large = sc.read_counts("tests/data/counts.csv")
    >>> sc.compare(large, small, unit="samples", k=8).verdict
    'wins'
    """

    cost: float  #: mean per problem, the same for both
    value: float  #: accuracy of the run
    baseline: float  #: accuracy of the baseline at that cost
    samples: float  #: number of samples that the baseline draws for that cost
    gain: Estimate  #: value - baseline, paired over problems
    unit: str  #: of the cost

    def __repr__(self) -> str:
        """Return both accuracies, and their difference with its 95 % interval, in one line."""
        low, high = float(self.gain.low), float(self.gain.high)
        return (
            f"Comparison({self.value:.3f} against {self.baseline:.3f} at {self.cost:.3g} "
            f"{self.unit} per problem: {self.gain.value:+.3f} [{low:+.3f}, {high:+.3f}], "
            f"{self.gain.problems} problems)"
        )

    def _repr_html_(self) -> str:
        gain = (float(end) for end in (self.gain.value, self.gain.low, self.gain.high))
        facts: dict[str, Any] = {"accuracy": self.value, "baseline": self.baseline}
        facts |= {"gain": show.with_interval(*gain), "problems": self.gain.problems}
        facts |= {f"{self.unit} per problem": self.cost, "samples of the baseline": self.samples}
        return show.card(f"equal cost: {self.verdict}", facts)

    @property
    def verdict(self) -> str:
        """Return "wins", "loses" or "even", by the 95 % interval."""
        return "wins" if self.gain.low > 0 else "loses" if self.gain.high < 0 else "even"


def compare(
    run: Run,
    baseline: Run,
    selector: str = "coverage",
    baseline_selector: str | None = None,
    *,
    level: str = "all",
    unit: str = "flops",
    k: int | None = None,
    cluster: Cluster | None = None,
) -> Comparison:
    """Return a run's accuracy compared with that of a best-of-N run at equal cost, paired.

    selector, baseline_selector: how each chooses an answer, the same by default. k: budget of the
    run, by default its largest. Between two numbers of samples the baseline mixes them. A run whose
    verifier gave feedback is compared with a baseline that stops at its first correct sample. With
    `cluster` whole families of problems are resampled. Errors: ValueError for runs on different
    problems, and for a cost that is unknown or that the baseline's samples do not reach.

    >>> import scaling as sc
    >>> small, _, large = sc.read_counts("tests/data/counts.csv")
    >>> compare(large, small, unit="samples", k=8)
    Comparison(0.898 against 0.385 at 8 samples per problem: +0.514 [+0.231, +0.669], 12 problems)
    """
    for given in (run, baseline):
        if not isinstance(given, Run):
            raise ValueError(f"{type(given).__name__} is given; give two runs, such as runs[0]")
    require_same_problems(run, baseline)
    rows = np.intersect1d(run.rows(level), baseline.rows(level))
    at = run.budgets()[-1:] if k is None else np.array([k])
    every = np.arange(1, baseline.budgets()[-1] + 1)
    other = baseline_selector or selector
    value = run.values(selector, at)[rows, 0]
    cost = run.cost(unit, at, selector=selector)[rows, 0].mean()
    if run.plan.feedback == "verdict":
        spent = baseline.stopping_cost(unit, every)[rows].mean(axis=0)
    else:
        spent = baseline.cost(unit, every, selector=other)[rows].mean(axis=0)
    if np.isnan(cost) or np.isnan(spent).all():
        unknown = run if np.isnan(cost) else baseline
        raise ValueError(
            f"the cost in {unit} of {unknown.card.name} {unknown.label} is unknown; "
            "compare by unit='samples', or by another unit that both runs hold"
        )
    if not spent[0] <= cost <= spent[-1]:
        raise ValueError(
            f"{run.label} costs {cost:.3g} {unit} per problem; the baseline's samples cost from "
            f"{spent[0]:.3g} to {spent[-1]:.3g}: take another budget, or a baseline of more samples"
        )
    samples = float(np.interp(cost, spent, every))
    below = min(int(samples), len(every) - 1)
    ends = baseline.values(other, np.array([below, below + 1]))[rows]
    base = ends[:, 0] + (samples - below) * (ends[:, 1] - ends[:, 0])
    gain = difference(value, base, cluster=run.families(cluster, rows))
    return Comparison(float(cost), float(value.mean()), float(base.mean()), samples, gain, unit)


def require_same_problems(*runs: Run) -> None:
    """Raise ValueError where runs were drawn on different problems."""
    if any(list(run.problems["id"]) != list(runs[0].problems["id"]) for run in runs):
        raise ValueError("the runs were drawn on different problems; draw them on the same ones")

"""Two methods at equal cost, paired over problems: who wins, by how much, how sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.intervals import Estimate, difference
from scaling.runs import Cluster, Run


@dataclass(frozen=True)
class Comparison:
    """One run's accuracy and that of a baseline which spends as much."""

    cost: float  #: mean per problem, of both sides
    value: float  #: accuracy of the method
    baseline: float  #: accuracy of the baseline at that cost
    samples: float  #: that the baseline draws for it
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

    @property
    def verdict(self) -> str:
        """Return "wins", "loses" or "even", by the 95 % interval."""
        return "wins" if self.gain.low > 0 else "loses" if self.gain.high < 0 else "even"


def at_equal_cost(
    pool: Run,
    selector: str,
    rival: Run,
    rival_selector: str,
    *,
    level: str = "all",
    unit: str = "flops",
    k: int | None = None,
    stopping: bool = False,
    cluster: Cluster | None = None,
) -> Comparison:
    """Return a method at budget k (its largest, unless told) beside best-of-N at the same cost.

    Between two numbers of samples the rival mixes them. stopping: the rival is told its verdicts
    and stops at its first right sample. With `cluster` whole families of problems are resampled.
    Errors: ValueError for other problems, or a cost outside the rival's pool.
    """
    if list(pool.problems["id"]) != list(rival.problems["id"]):
        raise ValueError("the two runs hold other problems; sample both on the same ones")
    rows = np.intersect1d(pool.rows(level), rival.rows(level))
    at = pool.budgets()[-1:] if k is None else np.array([k])
    value = pool.values(selector, at)[rows, 0]
    cost = pool.cost(unit, at, selector=selector)[rows, 0].mean()
    every = np.arange(1, rival.budgets()[-1] + 1)
    spent = rival.stopping_cost(unit, every) if stopping else None
    if spent is None:
        spent = rival.cost(unit, every, selector=rival_selector)
    mean = spent[rows].mean(axis=0)
    if np.isnan(cost) or np.isnan(mean).all():
        unknown = pool if np.isnan(cost) else rival
        raise ValueError(
            f"the cost in {unit} of {unknown.card.name} {unknown.label} is unknown; "
            "compare by unit='samples', or by another unit that both runs hold"
        )
    if not mean[0] <= cost <= mean[-1]:
        raise ValueError(
            f"{pool.label} costs {cost:.3g} {unit} per problem; the rival's pool reaches from "
            f"{mean[0]:.3g} to {mean[-1]:.3g}: take another budget, or a larger pool"
        )
    samples = float(np.interp(cost, mean, every))
    below = min(int(samples), len(every) - 1)
    ends = rival.values(rival_selector, np.array([below, below + 1]))[rows]
    other = ends[:, 0] + (samples - below) * (ends[:, 1] - ends[:, 0])
    gain = difference(value, other, cluster=pool.families(cluster, rows))
    return Comparison(float(cost), float(value.mean()), float(other.mean()), samples, gain, unit)


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

    selector, baseline_selector: how each chooses an answer, the same by default. A run whose
    verifier gave feedback is compared with a baseline that stops at its first right sample.
    """
    for given in (run, baseline):
        if not isinstance(given, Run):
            raise ValueError(f"{type(given).__name__} is given; give two runs, such as runs[0]")
    return at_equal_cost(
        run,
        selector,
        baseline,
        baseline_selector or selector,
        level=level,
        unit=unit,
        k=k,
        stopping=run.plan.feedback == "verdict",
        cluster=cluster,
    )

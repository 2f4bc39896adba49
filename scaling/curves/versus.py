"""Two methods at equal cost, paired over problems: who wins, by how much, how sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.curves import Cluster, Pool
from scaling.intervals import Estimate, difference


@dataclass(frozen=True)
class Versus:
    """One method's best budget beside a rival that spends as much."""

    cost: float  #: mean per problem, of both sides
    value: float  #: accuracy of the method
    rival: float  #: accuracy of the rival at that cost
    samples: float  #: that the rival draws for it
    gain: Estimate  #: value - rival, paired over problems

    @property
    def verdict(self) -> str:
        """Return "wins", "loses" or "even", by the 95 % interval."""
        return "wins" if self.gain.low > 0 else "loses" if self.gain.high < 0 else "even"


def at_equal_cost(
    pool: Pool,
    selector: str,
    rival: Pool,
    rival_selector: str,
    *,
    level: str = "all",
    unit: str = "flops",
    k: int | None = None,
    stopping: bool = False,
    cluster: Cluster | None = None,
) -> Versus:
    """Return a method at budget k (its largest, unless told) beside best-of-N at the same cost.

    Between two numbers of samples the rival mixes them. stopping: the rival is told its verdicts
    and stops at its first right sample. With `cluster` whole families of problems are resampled.
    Errors: ValueError for other problems, or a cost outside the rival's pool.
    """
    if list(pool.run.problems["id"]) != list(rival.run.problems["id"]):
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
    return Versus(float(cost), float(value.mean()), float(other.mean()), samples, gain)

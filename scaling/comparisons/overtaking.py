"""The number of samples from which a run's coverage exceeds another's, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.comparisons.equal_cost import require_same_problems
from scaling.curves import ends
from scaling.runs import Run


@dataclass(frozen=True)
class Overtaking:
    """From how many samples on the first of two runs solves more problems than the second.

    A training by reward that only makes frequent samples more frequent is overtaken by its own
    start: Yue et al. 2025, arXiv:2504.13837.
    """

    k: float  #: interpolated along log k; 1 if it is ahead from the first sample, inf if never
    low: float  #: 95 % interval over problems; inf where it never overtakes
    high: float
    share: float  #: of the replicates in which it overtakes within `most` samples
    most: int  #: samples drawn of each problem
    first: np.ndarray  #: (budgets,) coverage of the first run at 1, 2, 4, ... samples
    second: np.ndarray  #: (budgets,) coverage of the second


def overtaking(first: Run, second: Run, level: str = "all") -> Overtaking:
    """Return when `first` overtakes `second`, paired over problems.

    Errors: ValueError where the runs are not of the same problems, or not of equal size.
    """
    require_same_problems(first, second)
    curves = [run.curve("coverage", level=level) for run in (first, second)]
    if len(curves[0].y) != len(curves[1].y):
        sizes = " and ".join(str(run.plan.chains) for run in (first, second))
        raise ValueError(f"the runs have {sizes} samples of each problem; draw equally many")
    k = first.budgets()
    gaps = curves[0].replicates - curves[1].replicates  # resampled with the same weights
    at = crossing(k, np.vstack([curves[0].y - curves[1].y, gaps]))
    low, high = ends(at[1:], method="nearest")
    share = float(np.isfinite(at[1:]).mean())
    return Overtaking(at[0], float(low), float(high), share, int(k[-1]), curves[0].y, curves[1].y)


def crossing(k: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Return where each gap (rows, budgets) becomes positive and stays so, (rows,).

    Interpolated along log k between two budgets; the first budget where it is positive everywhere,
    inf where it is not at the last one.

    >>> crossing(np.array([1, 2, 4]), np.array([[-1, 1, 1], [1, 1, 1], [1, -1, 0], [-1, 0, 2.0]]))
    array([1.41421356, 1.        ,        inf, 2.        ])
    """
    behind = gap <= 0
    last = np.where(behind.any(axis=1), gap.shape[1] - 1 - behind[:, ::-1].argmax(axis=1), -1)
    found = np.full(len(gap), np.inf)
    found[last == -1] = k[0]
    rows = np.flatnonzero((last >= 0) & (last < gap.shape[1] - 1))
    before, after = gap[rows, last[rows]], gap[rows, last[rows] + 1]
    share = -before / (after - before)
    log = np.log(k.astype(float))
    found[rows] = np.exp(log[last[rows]] + share * (log[last[rows] + 1] - log[last[rows]]))
    return found

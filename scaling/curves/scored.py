"""What scorers said of a pool, as arrays, and what their passes cost. No scorer runs here.

A search logs its scorer's passes among its own rows; a scorer that came later left a file beside
the run. Both become `Scored`: numbers to rank by, and a ledger priced by the scorer's own shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling import compute
from scaling.store import LoadedRun
from scaling.store.scores import LEDGER, Scores, placed, read_scores

Costs = dict[str, tuple[np.ndarray, np.ndarray]]  #: unit -> (shared per problem, own per sample)


@dataclass(frozen=True, eq=False)
class Scored:
    """One scorer's passes over a pool; arrays are (problems, chains, steps), NaN where absent."""

    ways: dict[str, np.ndarray]  #: how steps are joined (min, last, product) -> score
    prompt: np.ndarray  #: tokens in sight of a pass
    cached: np.ndarray  #: of these, read by an earlier pass
    shape: Mapping[str, Any] | None  #: of the model that a pass runs; None: passes are free

    def costs(self, shared: np.ndarray, prices: tuple[float, float]) -> Costs:
        """Return per unit what reading the prompt once costs, and what each pass costs."""
        if self.shape is None:
            return {}
        shape, new = compute.Shape(**self.shape), self.prompt - self.cached
        return {
            "tokens": (shared, new),
            "flops": tuple(
                compute.forward_flops(shape, read, cached, logit_rows=0)
                for read, cached in ((shared, 0), (new, self.cached))
            ),
            "kv_bytes": (
                compute.kv_bytes(shape, shared),
                compute.sample_kv_traffic(shape, self.prompt, self.cached, 0),
            ),
            "price": (
                compute.price(shared, 0, 0, *prices),
                compute.price(self.prompt, self.cached, 0, *prices),
            ),
        }


def added(costs: Costs, more: Costs) -> Costs:
    """Return costs with those of a scorer on top; a unit it does not know stays as it is."""
    none = (np.zeros(()), np.zeros(()))
    return {
        unit: (shared + more.get(unit, none)[0], own + np.nan_to_num(more.get(unit, none)[1]))
        for unit, (shared, own) in costs.items()
    }


def passes_of(run: LoadedRun) -> tuple[pd.DataFrame, Scored | None]:
    """Return the log without a search's scorer passes, and the passes."""
    passes = (run.frame["finish"] == "scored").to_numpy()
    if not passes.any():
        return run.frame, None
    shape = (len(run.problems), run.plan.chains, run.plan.steps)
    index, frame = pd.Index(run.problems["id"]), run.frame[passes]
    score, prompt, cached = (
        placed(frame, name, index, shape, shift=run.plan.steps) for name in ("logprob", *LEDGER)
    )
    (scorer,) = [s["extra"]["scorer"] for s in run.manifest["sessions"][-1:]]
    return run.frame[~passes], Scored({"last": score}, prompt, cached, scorer["shape"])


def as_scored(run: LoadedRun, scores: Scores) -> Scored:
    """Return a scorer's rows as arrays over a run's (problem, chain, step)."""
    shape = (len(run.problems), run.plan.chains, run.plan.steps)
    index = pd.Index(run.problems["id"])
    ways = {way: placed(scores.frame, way, index, shape) for way in scores.ways}
    prompt, cached = (placed(scores.frame, name, index, shape) for name in LEDGER)
    return Scored(ways, prompt, cached, scores.shape)


def scores_of(run: LoadedRun) -> dict[str, Scored]:
    """Return by name what each scorer left beside a run."""
    return {scores.name: as_scored(run, scores) for scores in read_scores(run)}

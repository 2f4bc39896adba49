"""What scorers said of a pool, as arrays, and what their passes cost. No scorer runs here.

A search logs its scorer's passes among its own rows; a scorer that came later left a file beside
the run. Both become `Scored`: numbers to rank by, and a ledger priced by the scorer's own shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling import compute
from scaling.store import LoadedRun
from scaling.store.scores import LEDGER, Scores

Costs = dict[str, tuple[np.ndarray, np.ndarray]]  #: unit -> (shared per problem, own per sample)
Prices = tuple[float, float]  #: per million input and output tokens


@dataclass(frozen=True, eq=False)
class Scored:
    """One scorer's passes over a pool; arrays are (problems, chains, steps), NaN where absent."""

    ways: dict[str, np.ndarray]  #: how steps are joined (min, last, product) -> score
    prompt: np.ndarray  #: tokens in sight of a pass
    cached: np.ndarray  #: of these, read by an earlier pass
    shape: Mapping[str, Any] | None  #: of the model that a pass runs; None: passes are free

    def costs(self, shared: np.ndarray, prices: Prices) -> Costs:
        """Return per unit what reading the prompt once costs, and what each pass costs."""
        if self.shape is None:
            return {}
        shape, read = compute.Shape(**self.shape), self.prompt - self.cached
        flops = compute.forward_flops(shape, read, self.cached, logit_rows=0)
        return priced(shape, prices, shared, (self.prompt, self.cached, 0), flops)


def priced(
    shape: compute.Shape, prices: Prices, shared: Any, ledger: tuple[Any, Any, Any], flops: Any
) -> Costs:
    """Return per unit (what reading the shared prompt costs, what each pass costs).

    ledger: tokens that a pass sees, those of them that are cached, those that it writes.
    """
    prompt, cached, new = ledger
    read = compute.forward_flops(shape, shared, 0, logit_rows=0)
    traffic = compute.sample_kv_traffic(shape, prompt, cached, new)
    price = compute.price(prompt, cached, new, *prices)
    return {
        "tokens": (shared, prompt - cached + new),
        "flops": (read, flops),
        "kv_bytes": (compute.kv_bytes(shape, shared), traffic),
        "price": (compute.price(shared, 0, 0, *prices), price),
    }


def placed(
    run: LoadedRun, frame: pd.DataFrame, columns: Iterable[str], shift: int = 0
) -> list[np.ndarray]:
    """Return columns of rows as arrays over the run's (problem, chain, step), NaN without a row."""
    row = pd.Index(run.problems["id"]).get_indexer(frame["problem"].astype(object))
    at = row, frame["chain"].to_numpy(), frame["step"].to_numpy() - shift
    arrays = []
    for name in columns:
        arrays.append(np.full((len(run.problems), run.plan.chains, run.plan.steps), np.nan))
        arrays[-1][at] = frame[name].to_numpy(float)
    return arrays


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
    columns = ("logprob", *LEDGER)
    score, prompt, cached = placed(run, run.frame[passes], columns, shift=run.plan.steps)
    scorer = run.manifest["sessions"][-1]["extra"]["scorer"]
    return run.frame[~passes], Scored({"last": score}, prompt, cached, scorer["shape"])


def as_scored(run: LoadedRun, scores: Scores) -> Scored:
    """Return a scorer's rows as arrays over a run's (problem, chain, step)."""
    *ways, prompt, cached = placed(run, scores.frame, (*scores.ways, *LEDGER))
    return Scored(dict(zip(scores.ways, ways, strict=True)), prompt, cached, scores.shape)

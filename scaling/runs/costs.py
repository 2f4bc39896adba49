"""What samples cost, and what the passes of scorers over them cost. No scorer runs here.

A search logs its scorer's passes among its own rows; a scorer that came later wrote a file into the
run's folder. Both become `Scored`: numbers to rank by, and a ledger priced by the scorer's shape.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scaling import compute
from scaling.store.scores import LEDGER, Scores

if TYPE_CHECKING:
    from scaling.runs.run import Run

TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")  #: of a sample's ledger
NEEDS = {  #: unit -> what a run must hold for a cost in it
    "tokens": "token counts",
    "flops": "token counts or the shape of the model",
    "kv_bytes": "token counts or the shape of the model",
    "seconds": "times",
    "price": "token counts",
}
Costs = dict[str, tuple[np.ndarray, np.ndarray]]  #: unit -> (shared per problem, own per sample)
Prices = tuple[float, float]  #: per million input and output tokens


@dataclass(frozen=True, eq=False)
class Scored:
    """One scorer's passes over a run; arrays are (problems, chains, steps), NaN where absent."""

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
        return costs_of(shape, prices, shared, (self.prompt, self.cached, 0), flops)


def costs_of(
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


def to_arrays(
    run: Run, frame: pd.DataFrame, columns: Iterable[str], shift: int = 0
) -> list[np.ndarray]:
    """Return columns of rows as arrays over the run's (problem, chain, step), NaN without a row."""
    row = pd.Index(run.problems["id"]).get_indexer(frame["problem"].astype(object))
    at = row, frame["chain"].to_numpy(), frame["step"].to_numpy() - shift
    arrays = []
    for name in columns:
        arrays.append(np.full((len(run.problems), run.plan.chains, run.plan.steps), np.nan))
        arrays[-1][at] = frame[name].to_numpy(float)
    return arrays


def add_costs(costs: Costs, more: Costs) -> Costs:
    """Return costs with those of a scorer on top; a unit it does not know stays as it is."""
    none = (np.zeros(()), np.zeros(()))
    return {
        unit: (shared + more.get(unit, none)[0], own + np.nan_to_num(more.get(unit, none)[1]))
        for unit, (shared, own) in costs.items()
    }


def passes_of(run: Run) -> tuple[pd.DataFrame, Scored | None]:
    """Return the log without a search's scorer passes, and the passes."""
    passes = (run.samples["finish"] == "scored").to_numpy()
    if not passes.any():
        return run.samples, None
    columns = ("logprob", *LEDGER)
    score, prompt, cached = to_arrays(run, run.samples[passes], columns, shift=run.plan.steps)
    scorer = run.manifest["sessions"][-1]["extra"]["scorer"]
    return run.samples[~passes], Scored({"last": score}, prompt, cached, scorer["shape"])


def as_scored(run: Run, scores: Scores) -> Scored:
    """Return a scorer's rows as arrays over a run's (problem, chain, step)."""
    *ways, prompt, cached = to_arrays(run, scores.frame, (*scores.ways, *LEDGER))
    return Scored(dict(zip(scores.ways, ways, strict=True)), prompt, cached, scores.shape)


def cost_until_right(own: np.ndarray, right: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Return the mean cost of drawing up to 1, 2, ... chains, stopping at the first right one.

    own, right: (problems, chains, ...) cost and correctness; coverage: their pass@1, pass@2, ...,
    (problems, budgets, ...), the shape of the result. Without bias: of the min(T, k) draws, sum
    over j < k of (1 - pass@j) on average, pass@k are right, and draws of either kind are
    exchangeable.
    """
    draws = np.cumsum(1 - np.insert(coverage, 0, 0.0, axis=1)[:, :-1], axis=1)
    good, bad = (
        (np.where(kind, own, 0).sum(axis=1) / np.maximum(kind.sum(axis=1), 1))[:, None]
        for kind in (right == 1, right == 0)
    )
    return good * coverage + bad * (draws - coverage)


def over_chains(reduce: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return a reduction of the first steps over chains; NaN for a problem that has none.

    Such are problems all of whose requests failed, and FLOPs of a model of unknown shape.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return reduce(values[:, :, 0], axis=1)


def run_costs(run: Run) -> Costs:
    """Return per unit what a problem's prompt costs, and what each sample of it costs."""
    shape = compute.Shape(**run.card.shape) if run.card.shape else compute.UNKNOWN
    prompt, cached, new = (run.ledger[name] for name in TOKENS)
    if run.plan.method == "thinking":  # each budget alone: it computed what it thought
        start = np.broadcast_to(prompt[:, :, -1:], prompt.shape)
        prompt, cached, new = start, start, prompt + new - start
    first = np.zeros(prompt.shape[-1], bool)
    first[0] = True
    in_cache = np.where(first, prompt, cached)  # step 0 finds the shared prompt in the cache
    shared = over_chains(np.nanmax, prompt)
    zero, flops = np.zeros(len(shared)), compute.sample_flops(shape, prompt, in_cache, new)
    costs = costs_of(shape, run.prices, shared, (prompt, in_cache, new), flops)
    costs["samples"] = zero, np.where(np.isnan(run.correct), np.nan, 1.0)
    costs["seconds"] = zero, run.ledger["seconds"]
    return add_costs(costs, run.passes.costs(shared, run.prices)) if run.passes else costs


def costs_of_counts(problems: int, units: Iterable[str]) -> Costs:
    """Return the costs of samples of which counts alone are known: NaN but in samples."""
    each = np.ones((problems, 1, 1))
    return {u: (np.zeros(problems), each * (1 if u == "samples" else np.nan)) for u in units}

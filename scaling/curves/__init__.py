"""From a run's log to accuracy per budget: pools, costs, curves. `curves.table` tabulates them.

A pool holds a run as arrays over (problem, chain, step); every budget, selector and price is read
from it. Prices follow `compute`: a prompt is prefilled once per problem and shared by its chains
(`shared_prompt=False` charges it to every chain, as an endpoint without a prefix cache does).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scaling import compute
from scaling.curves.scored import Costs, Scored, added, as_scored, passes_of, placed, priced
from scaling.estimates import (
    best_of_k,
    chain_prefix,
    grid_at_k,
    inverse_pass_at_k,
    majority_at_k,
    pass_at_k,
)
from scaling.estimates.adaptive import agreed_vote
from scaling.intervals import REPLICATES, mean_interval
from scaling.records import Curve, look_up
from scaling.store import LoadedRun
from scaling.store.scores import read_scores

UNITS = ("samples", "tokens", "flops", "kv_bytes", "seconds", "price")
PRICES = (1.0, 4.0)  #: per million input and output tokens: output at four times the input's price
SEARCHES = ("beam", "dvts", "rebase", "particles")  #: methods that grow a tree


class Selectors(dict[str, tuple[str, ...]]):
    """Selectors by method; one that is not named has those that fit all."""

    def __missing__(self, method: str) -> tuple[str, ...]:
        return ("oracle", "last")


SELECTORS = Selectors(
    {  #: method -> what may be read from its pool
        "best_of_n": ("oracle", "majority", "logprob"),
        "revision": ("oracle", "majority", "logprob", "first", "last"),
        "wait": ("oracle", "first", "last"),
        "thinking": ("last",),
        **dict.fromkeys(SEARCHES, ("last", "oracle")),
    }
)
SUBSETS = 200  #: random subsets of a weighted vote
WEIGHTED = "weighted "  #: before a score's name: votes weighed by exp(score)
Cluster = Mapping[str, object] | ArrayLike  #: family by problem id, or one label per problem
LEDGER = ("prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "logprob")


@dataclass(frozen=True, eq=False)
class Pool:
    """A run as arrays; NaN where a chain rested, was not drawn, or failed."""

    run: LoadedRun
    correct: np.ndarray  #: (problems, chains, steps) 1, 0, NaN
    answers: np.ndarray  #: (problems, chains, steps) answer ids, NaN = unanswered or absent
    ledger: dict[str, np.ndarray]  #: (problems, chains, steps) per column of `LEDGER`
    n_missing: int  #: samples that failed and were left out
    prices: tuple[float, float] = PRICES  #: per million input and output tokens, any currency
    passes: Scored | None = None  #: a search's own scorer passes, part of every cost
    scores: dict[str, Scored] = field(default_factory=dict)  #: of scorers that came later
    refused: dict[str, str] = field(default_factory=dict)  #: problem without any sample -> reason
    known: dict[tuple, np.ndarray] = field(default_factory=dict, init=False, repr=False)  #: values

    def __repr__(self) -> str:
        """Return what was sampled, how much of it, and what may be read, in one line."""
        run = self.run
        size = f"{len(self.rows('all')):,} problems, {len(run.frame):,} samples"
        told = f"{run.task}, {run.card.name}, {self.label}: {size}; {', '.join(self.selectors)}"
        return f"Pool({told})"

    def _repr_html_(self) -> str:
        """Return the card of the pool's coverage, or of its own first selector."""
        selector = "oracle" if "oracle" in self.selectors else self.selectors[0]
        return replace(curve(self, selector), label=self.run.card.name)._repr_html_()

    @property
    def label(self) -> str:
        """Return the method as legends and tables name it; told of its errors, it says so."""
        plan = self.run.plan
        return plan.method + ("+verdict" if plan.feedback == "verdict" else "")

    @cached_property
    def selectors(self) -> tuple[str, ...]:
        """Return what may be read: the method's own selectors, and `scorer:way` of each scorer."""
        plan = self.run.plan
        if plan.stop_at_agreement:  # the size of such a pool depends on its answers
            return ("majority",)
        if plan.stop_after_correct:  # ... and here on the truth
            return ("oracle",)
        ranks = self.ranks
        own = [s for s in SELECTORS[plan.method] if s != "logprob" or s in ranks]
        if plan.feedback == "verdict":  # the truth decided which drafts there are: no fair choice
            own = [s for s in own if s not in ("majority", "logprob")]
        if plan.method != "best_of_n":
            return tuple(own)
        named = [name for name in ranks if name != "logprob"]
        return (*own, *named, *(WEIGHTED + name for name in ranks))

    @cached_property
    def ranks(self) -> dict[str, np.ndarray]:
        """Return the numbers that samples may be ranked or weighed by, by name."""
        found = {"logprob": self.ledger["logprob"]}
        if not np.isfinite(found["logprob"]).any():  # some servers do not report it
            found.clear()
        for name, scored in self.scores.items():
            found |= {f"{name}:{way}": values for way, values in scored.ways.items()}
        return found

    @property
    def caveat(self) -> str:
        """Return why fewer selectors can be read than the method has; "" where all can."""
        plan = self.run.plan
        if plan.stop_at_agreement:
            return "sampling stopped once answers agreed: only majority can be read without bias"
        if plan.stop_after_correct:
            return "sampling stopped at correct samples: only oracle can be read without bias"
        if plan.feedback == "verdict":
            return "with verifier feedback the truth decides which drafts there are: no fair vote"
        return ""

    def _check(self, selector: str, more: tuple[str, ...] = ()) -> None:
        """Raise ValueError for a selector that cannot be read from this pool."""
        known, what = dict.fromkeys((*more, *self.selectors)), f"selector of {self.label}"
        try:
            look_up(known, selector, what)
        except ValueError as error:
            raise ValueError(f"{error}; {self.caveat}" if self.caveat else str(error)) from None

    def score(self, selector: str) -> np.ndarray:
        """Return the number that a selector ranks or weighs samples by, one per sample."""
        return look_up(self.ranks, selector.removeprefix(WEIGHTED), "score")

    @cached_property
    def drawn(self) -> np.ndarray:
        """Return whether each problem has a sample, (problems,)."""
        return np.isfinite(self.correct).any(axis=(1, 2))

    @cached_property
    def levels(self) -> dict[str, np.ndarray]:
        """Return the rows of each level, and of "all" where there are several."""
        column = self.run.problems["level"].to_numpy()
        rows = {level: np.flatnonzero(column == level) for level in dict.fromkeys(column)}
        return rows if len(rows) == 1 else {**rows, "all": np.arange(len(column))}

    def rows(self, level: str) -> np.ndarray:
        """Return the rows of a level's problems that have a sample; "all" is every level.

        Where none has one these are all rows, whose values are NaN.
        """
        every = look_up({"all": np.arange(len(self.correct)), **self.levels}, level, "level")
        found = every[self.drawn[every]]
        return found if len(found) else every

    def families(self, cluster: Cluster | None, rows: np.ndarray) -> np.ndarray | None:
        """Return the family of each problem in `rows`; None: each is its own."""
        if cluster is None:
            return None
        if isinstance(cluster, Mapping):
            lost = [name for name in self.run.problems["id"] if name not in cluster]
            if lost:
                raise ValueError(f"cluster holds no family of {len(lost)} problems: {lost[0]!r}")
            cluster = [str(cluster[name]) for name in self.run.problems["id"]]
        labels = np.asarray(cluster)
        if labels.shape != (len(self.correct),):
            raise ValueError(
                f"cluster {labels.shape}: give a label for {len(self.correct)} problems"
            )
        return labels[rows]

    @cached_property
    def costs(self) -> Costs:
        """Return per unit (shared cost per problem, own cost per chain and step).

        The shared cost is the prompt's prefill; a later step's own cost holds its longer context.
        """
        sizes = self.run.card.shape
        shape = compute.Shape(**sizes) if sizes else compute.UNKNOWN
        prompt, cached, new = (self.ledger[name] for name in LEDGER[:3])
        if self.run.plan.method == "thinking":  # each budget alone: what it thought, it computed
            start = np.broadcast_to(prompt[:, :, -1:], prompt.shape)
            prompt, cached, new = start, start, prompt + new - start
        first = np.zeros(prompt.shape[-1], bool)
        first[0] = True
        known = np.where(first, prompt, cached)  # step 0 finds the shared prompt in the cache
        shared = over_chains(np.nanmax, prompt)
        zero, flops = np.zeros(len(shared)), compute.sample_flops(shape, prompt, known, new)
        costs = priced(shape, self.prices, shared, (prompt, known, new), flops)
        costs["samples"] = zero, np.where(np.isnan(new), np.nan, 1.0)
        costs["seconds"] = zero, self.ledger["seconds"]
        return added(costs, self.passes.costs(shared, self.prices)) if self.passes else costs

    def costs_with(self, selector: str) -> Costs:
        """Return `costs`, the passes of a selector's scorer included."""
        self._check(selector, more=("oracle",))
        scored = self.scores.get(selector.removeprefix(WEIGHTED).partition(":")[0])
        shared = over_chains(np.nanmax, self.ledger["prompt_tokens"])
        return added(self.costs, scored.costs(shared, self.prices)) if scored else self.costs

    def budgets(self) -> np.ndarray:
        """Return 1, 2, 4, ... up to the pool: chains of best-of-N, steps of a revision chain."""
        _, chains, steps = self.correct.shape
        parallel = self.run.plan.method == "best_of_n"
        return doublings(chains) if parallel else np.arange(1, steps + 1)

    def values(self, selector: str, k: np.ndarray, chains: int = 1) -> np.ndarray:
        """Return the estimate per problem and budget, (problems, budgets); no bias, NaN beyond.

        k: samples of best-of-N, steps of a revision chain; `chains` of them side by side make a
        grid, whose coverage alone is read ("oracle"). What was read once is remembered, read-only.
        """
        self._check(selector)
        if np.any(np.floor(k) != k) or np.min(k) < 1 or np.max(k) > self.budgets()[-1]:
            most = self.budgets()[-1]
            raise ValueError(f"budgets {list(k)}: give whole numbers, 1 to {most}, the pool's size")
        k = np.asarray(k, int)
        if chains > 1 and (selector != "oracle" or chains > self.run.plan.chains):
            raise ValueError(f"{chains} chains: give up to {self.run.plan.chains}, selector oracle")
        asked = selector, tuple(k), chains
        if asked not in self.known:
            if chains > 1:
                found = grid_at_k(self.correct, chains, "any")[:, k - 1]
            elif self.run.plan.method == "best_of_n":
                found = self._parallel(selector, k)
            else:
                found = self._sequential(selector, k)
            found.flags.writeable = False
            self.known[asked] = found
        return self.known[asked]

    def _parallel(self, selector: str, k: np.ndarray) -> np.ndarray:
        """Chains are exchangeable: average over all subsets of k."""
        correct = self.correct[:, :, 0]
        if agree := self.run.plan.stop_at_agreement:
            return agreed_vote(self.answers[:, :, 0], correct, correct, agree, k)[0]
        if self.run.plan.stop_after_correct:
            return self._stopped(k)
        if selector == "oracle":
            drawn = np.isfinite(correct).sum(axis=1)
            return pass_at_k(drawn[:, None], np.nansum(correct, axis=1)[:, None], k)
        if selector == "majority":
            return majority_at_k(self.answers[:, :, 0], correct, k)
        score = self.score(selector)[:, :, 0]
        if selector.startswith(WEIGHTED):
            weights = np.exp(score - np.nanmax(score, axis=1, keepdims=True))
            answers, weights = self.answers[:, :, 0], np.nan_to_num(weights)
            return majority_at_k(answers, correct, k, weights=weights, subsets=SUBSETS)[0]
        return best_of_k(correct, score, k)

    def _stopped(self, k: np.ndarray) -> np.ndarray:
        """Sampling that stopped at a success is no plain pool: plain pass@k is too high."""
        r, correct = self.run.plan.stop_after_correct, self.correct[:, :, 0]
        sofar = np.cumsum(np.nan_to_num(correct), axis=1)
        counted = np.isfinite(correct) & (sofar - np.nan_to_num(correct) < r)  # up to the r-th
        n, c = counted.sum(axis=1)[:, None], np.minimum(sofar[:, -1:], r).astype(int)
        return inverse_pass_at_k(n, c, r, k, cap=self.run.plan.chains)

    def _sequential(self, selector: str, k: np.ndarray) -> np.ndarray:
        """Steps are ordered: read prefixes, and average over chains."""
        if selector == "majority":
            return np.stack([self._vote(steps) for steps in k], axis=1)
        if selector == "first":
            first = np.nanmean(self.correct[:, :, 0], axis=1)
            return np.repeat(first[:, None], len(k), axis=1)
        select = {"oracle": "any", "last": "last", "logprob": "best"}[selector]
        score = self.ledger["logprob"] if select == "best" else None
        return grid_at_k(self.correct, 1, select, score)[:, k - 1]

    def _vote(self, steps: int) -> np.ndarray:
        """Return the accuracy of a vote among the drafts of one chain, (problems,)."""
        shape = (-1, steps)
        correct = self.correct[:, :, :steps].reshape(shape)
        rested = np.isnan(correct)  # a chain told that it is right has its answer
        answers = np.where(rested, np.nan, self.answers[:, :, :steps].reshape(shape))
        votes = majority_at_k(answers, np.nan_to_num(correct), np.array([steps]))
        value = np.where(rested[:, -1], chain_prefix(correct[:, None])[0][:, 0, -1], votes[:, 0])
        return value.reshape(self.correct.shape[:2]).mean(axis=1)

    def cost(
        self,
        unit: str,
        k: np.ndarray,
        chains: int = 1,
        shared_prompt: bool = True,
        selector: str = "oracle",
    ) -> np.ndarray:
        """Return the mean cost per problem of each budget, (problems, budgets), in `unit`.

        A selector that a scorer feeds pays for its passes.
        """
        shared, own = look_up(self.costs_with(selector), unit, "unit")
        if agree := self.run.plan.stop_at_agreement:
            each = own[:, :, 0] + shared[:, None] * (not shared_prompt)
            spent = agreed_vote(self.answers[:, :, 0], self.correct[:, :, 0], each, agree, k)[1]
            return spent + shared[:, None] * shared_prompt
        if self.run.plan.method == "best_of_n":
            spent = over_chains(np.nanmean, own)[:, None] * k
            return spent + shared[:, None] * (1 if shared_prompt else k)
        sofar = own if self.run.plan.method == "thinking" else np.cumsum(np.nan_to_num(own), axis=2)
        spent = np.nanmean(sofar, axis=1)
        return chains * spent[:, k - 1] + shared[:, None] * (1 if shared_prompt else chains)

    def stopping_cost(self, unit: str, k: np.ndarray) -> np.ndarray:
        """Return the mean cost of drawing up to k samples, stopping at the first right one.

        (problems, budgets), for best-of-N: what a sampler pays that is told the verdict, as told
        revision is.
        """
        shared, own = look_up(self.costs, unit, "unit")
        coverage = self.values("oracle", np.arange(1, int(np.max(k)) + 1))
        spent = told_cost(own[:, :, 0], self.correct[:, :, 0], coverage)
        return (shared[:, None] + spent)[:, np.asarray(k) - 1]


def doublings(size: int) -> np.ndarray:
    """Return 1, 2, 4, ... and the size itself."""
    return np.unique(np.append(2 ** np.arange(int(np.log2(size)) + 1), size))


def told_cost(own: np.ndarray, right: np.ndarray, coverage: np.ndarray) -> np.ndarray:
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


def read_pool(run: LoadedRun) -> Pool:
    """Return a run's log as arrays over (problem, chain, step).

    Errors: ValueError where every sample of every problem failed.
    """
    refused = refused_problems(run)
    if len(refused) == len(run.problems):
        reason = next(iter(refused.values()))
        raise ValueError(f"{run.path.name}: every sample of every problem failed ({reason})")
    frame, passes = passes_of(run)
    failed = frame["finish"].astype(str).str.startswith("error").to_numpy()
    frame = frame[~failed]
    frame = frame.assign(answer=pd.factorize(frame["answer"])[0])
    correct, answers, *columns = placed(run, frame, ("correct", "answer", *LEDGER))
    answers, ledger = np.where(answers < 0, np.nan, answers), zip(LEDGER, columns, strict=True)
    scores = {scores.name: as_scored(run, scores) for scores in read_scores(run)}
    missing = int(failed.sum())
    return Pool(
        run, correct, answers, dict(ledger), missing, passes=passes, scores=scores, refused=refused
    )


def refused_problems(run: LoadedRun) -> dict[str, str]:
    """Return {problem: reason} of the problems all of whose samples failed."""
    failed = run.frame[run.frame["finish"].astype(str).str.startswith("error")]
    good = set(run.frame["problem"].drop(failed.index))
    reasons = dict(zip(failed["problem"], failed["finish"], strict=True))
    return {name: why for name, why in reasons.items() if name not in good}


def curve(
    pool: Pool,
    selector: str = "oracle",
    unit: str = "samples",
    level: str = "all",
    k: np.ndarray | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    shared_prompt: bool = True,
    cluster: Cluster | None = None,
) -> Curve:
    """Return accuracy against budget with its interval over problems and samples.

    x is the mean cost per problem in `unit`. Problems without a sample are left out and counted in
    `n_missing`. With `cluster` whole families are resampled.
    """
    rows, k = pool.rows(level), pool.budgets() if k is None else np.asarray(k)
    family = pool.families(cluster, rows)
    found = mean_interval(pool.values(selector, k)[rows], replicates, seed, family)
    return Curve(
        x=pool.cost(unit, k, shared_prompt=shared_prompt, selector=selector)[rows].mean(axis=0),
        y=found.value,
        low=found.low,
        high=found.high,
        replicates=found.replicates,
        x_unit=unit,
        estimator=f"{pool.label} {selector}",
        n_problems=int(pool.drawn[rows].sum()),
        n_missing=len(pool.levels.get(level, pool.drawn)) - int(pool.drawn[rows].sum()),
        label=pool.run.card.name,
    )

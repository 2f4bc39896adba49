"""One run: the samples of one model on one task by one plan, and everything that is read from them.

The samples become arrays over (problem, chain, step); every budget, selector and price is read from
these. Prices follow `compute`: a prompt is prefilled once per problem and shared by its chains
(`shared_prompt=False` charges it to every chain, as an endpoint without a prefix cache does).
Nothing is sampled here, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scaling import show
from scaling.estimates import grid_at_k
from scaling.estimates.adaptive import agreed_vote
from scaling.intervals import mean_interval
from scaling.records import Curve, ModelCard, Plan, look_up, onward
from scaling.runs import selection
from scaling.runs.arrays import Arrays, arrays_of, refused_problems
from scaling.runs.costs import (
    NEEDS,
    Costs,
    Scored,
    add_costs,
    cost_until_right,
    costs_of_counts,
    over_chains,
    run_costs,
)
from scaling.runs.selection import SEARCHES, SELECTORS, WEIGHTED

UNITS = ("samples", "tokens", "flops", "kv_bytes", "seconds", "price")
PRICES = (1.0, 4.0)  #: per million input and output tokens: output at four times the input's price
Cluster = Mapping[str, object] | ArrayLike  #: family by problem id, or one label per problem
IMPORTED = "imported"  #: in place of the hash of a run whose samples another tool drew
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, eq=False)
class Run:
    """The samples of one model, task and plan, sealed or still open."""

    path: Path  #: the run's folder
    manifest: dict[str, Any]  #: as written
    task: str  #: name of the task
    card: ModelCard  #: the model that was sampled
    plan: Plan  #: how it was sampled
    problems: pd.DataFrame  #: columns of `records.Problem`, in the order asked
    samples: pd.DataFrame  #: columns of `records.Sample`, sorted by problem, chain, step
    sha256: str  #: of the manifest, which holds the files' hashes; "" while the run is open
    prices: tuple[float, float] = PRICES  #: per million input and output tokens, any currency
    derived: Arrays | None = field(default=None, repr=False)  #: in place of those of `samples`
    known: dict[tuple, np.ndarray] = field(default_factory=dict, init=False, repr=False)  #: values

    def __repr__(self) -> str:
        """Return what was sampled, how much of it, and what may be read, in one line."""
        size = f"{len(self.rows('all')):,} problems, {self.n_samples:,} samples"
        facts = f"{self.task}, {self.card.name}, {self.label}: {size}; {', '.join(self.selectors)}"
        return f"Run({facts})"

    def _repr_html_(self) -> str:
        """Return the run's card: what was drawn, and coverage (else the first selector) by k."""
        selector = "coverage" if "coverage" in self.selectors else self.selectors[0]
        k = self.budgets()
        found = mean_interval(self.values(selector, k)[self.rows("all")])
        facts: dict[str, Any] = {"problems": len(self.problems), "samples": self.n_samples}
        facts |= {"plan": f"{self.label}, {self.plan.chains} chains x {self.plan.steps}"}
        facts |= {"seed": self.plan.seed, "train FLOPs": self.card.train_flops}
        for at in sorted({0, len(k) - 1}):
            ends = (float(side[at]) for side in (found.value, found.low, found.high))
            facts[f"{selector} at {k[at]}"] = show.with_interval(*ends)
        picture = show.picture(k, found.value, found.low, found.high)
        return show.card(f"{self.task}: {self.card.name}", facts, picture)

    @property
    def label(self) -> str:
        """Return the method as tables name it, with "+verdict" where the verifier gave feedback."""
        return self.plan.method + ("+verdict" if self.plan.feedback == "verdict" else "")

    @property
    def train_flops(self) -> float:
        """Return the model's training FLOPs, 0 where they are unknown."""
        return float(np.nan_to_num(self.card.train_flops))

    @property
    def size_name(self) -> str:
        """Return the model's size as legends name it; its name where a server hides the size."""
        if not self.card.n_params:
            return self.card.name.replace("$", r"\$")
        millions = self.card.n_params / 1e6
        return f"{millions:.1f} M" if millions < 10 else f"{millions:,.0f} M"

    @property
    def model_name(self) -> str:
        """Return the checkpoint as legends name it: parameters, and train FLOPs where known."""
        if not self.train_flops:
            return self.size_name
        mantissa, exponent = f"{self.train_flops:.1e}".split("e+")
        times = "" if mantissa == "1.0" else f"{float(mantissa):g}×"
        return f"{self.size_name}, {times}10{exponent.lstrip('0').translate(RAISED)}"

    @property
    def short_hash(self) -> str:
        """Return the hash at the end of the folder's name, or the whole name without one."""
        return self.path.name.rpartition("-")[2]

    @cached_property
    def arrays(self) -> Arrays:
        """Return the samples as arrays over (problem, chain, step), read-only.

        Errors: ValueError where every sample of every problem failed.
        """
        return self.derived or arrays_of(self)

    def with_arrays(self, plan: Plan | None = None, **changes: Any) -> Run:
        """Return the run with other arrays in place of some of its own: fields of `Arrays`.

        plan: the one that the new arrays have the shape of; by default the run's.
        """
        return replace(self, plan=plan or self.plan, derived=replace(self.arrays, **changes))

    def at_prices(self, prices: tuple[float, float]) -> Run:
        """Return the run priced otherwise, per million input and output tokens."""
        return replace(self, prices=prices, derived=self.arrays)

    @property
    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, c), each (problems,): first steps drawn per problem, and correct ones."""
        if self.arrays.counts:
            return self.arrays.counts
        first = self.correct[:, :, 0]
        return np.isfinite(first).sum(axis=1), np.nansum(first, axis=1)

    @property
    def correct(self) -> np.ndarray:
        """Return verdicts, (problems, chains, steps): 1, 0, NaN without a sample."""
        return self.arrays.correct

    @property
    def answers(self) -> np.ndarray:
        """Return answer ids, (problems, chains, steps), NaN where unanswered or absent."""
        return self.arrays.answers

    @property
    def ledger(self) -> dict[str, np.ndarray]:
        """Return tokens, seconds and log-probabilities, each (problems, chains, steps)."""
        return self.arrays.ledger

    @property
    def n_missing(self) -> int:
        """Return the number of samples that failed and were left out."""
        return self.arrays.n_missing

    @property
    def passes(self) -> Scored | None:
        """Return a search's own scorer passes, part of every cost."""
        return self.arrays.passes

    @property
    def scores(self) -> dict[str, Scored]:
        """Return what scorers that came later gave each sample, by the scorer's name."""
        return self.arrays.scores

    @cached_property
    def refused(self) -> dict[str, str]:
        """Return {problem: reason} of the problems all of whose samples failed."""
        return refused_problems(self.samples)

    @cached_property
    def drawn(self) -> np.ndarray:
        """Return whether each problem has a sample, (problems,)."""
        counted = self.arrays.counts
        return counted[0] > 0 if counted else np.isfinite(self.correct).any(axis=(1, 2))

    @property
    def n_samples(self) -> int:
        """Return the number of samples, failed ones included; of counts, how many were counted."""
        counted = self.arrays.counts
        return int(counted[0].sum()) if counted else len(self.samples)

    @property
    def first_accuracy(self) -> float:
        """Return the mean accuracy of the first step; NaN for a search, whose steps are nodes."""
        if self.plan.method in SEARCHES:
            return float("nan")
        if not self.arrays.counts:
            return float(np.nanmean(self.correct[:, :, 0]))
        n, c = self.counts
        return float((c[n > 0] / n[n > 0]).mean())

    @cached_property
    def levels(self) -> dict[str, np.ndarray]:
        """Return the rows of each level, and of "all" where there are several."""
        column = self.problems["level"].to_numpy()
        rows = {level: np.flatnonzero(column == level) for level in dict.fromkeys(column)}
        return rows if len(rows) == 1 else {**rows, "all": np.arange(len(column))}

    @property
    def level_names(self) -> list[str]:
        """Return the levels, without "all" of them where there are several."""
        return [level for level in self.levels if level != "all"] or ["all"]

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
            lost = [name for name in self.problems["id"] if name not in cluster]
            if lost:
                raise ValueError(f"cluster holds no family of {len(lost)} problems: {lost[0]!r}")
            cluster = [str(cluster[name]) for name in self.problems["id"]]
        labels = np.asarray(cluster)
        if labels.shape != (len(self.correct),):
            raise ValueError(
                f"cluster {labels.shape}: give a label for {len(self.correct)} problems"
            )
        return labels[rows]

    @cached_property
    def selectors(self) -> tuple[str, ...]:
        """Return what may be read: the method's own selectors, and `scorer:way` of each scorer."""
        plan = self.plan
        if self.arrays.counts:
            return ("coverage",)
        if plan.stop_at_agreement:  # the number of samples depends on their answers
            return ("majority",)
        if plan.stop_after_correct:  # ... and here on the truth
            return ("coverage",)
        ranks = self.ranks
        own = [s for s in SELECTORS[plan.method] if s != "logprob" or s in ranks]
        if self.manifest.get("no_votes"):
            return tuple(s for s in own if s != "majority")
        if plan.feedback == "verdict":  # the truth decided which drafts there are: no fair choice
            own = [s for s in own if s not in ("majority", "logprob")]
        if plan.method != "best_of_n":
            return tuple(own)
        named = [name for name in ranks if name != "logprob"]
        return (*own, *named, *(WEIGHTED + name for name in ranks))

    @cached_property
    def ranks(self) -> dict[str, np.ndarray]:
        """Return the numbers that samples may be ranked or weighted by, by name."""
        found = {"logprob": self.ledger["logprob"]}
        if not np.isfinite(found["logprob"]).any():  # some servers do not report it
            found.clear()
        for name, scored in self.scores.items():
            found |= {f"{name}:{way}": values for way, values in scored.ways.items()}
        return found

    def score(self, selector: str) -> np.ndarray:
        """Return the number that a selector ranks or weights samples by, one per sample."""
        return look_up(self.ranks, selector.removeprefix(WEIGHTED), "score")

    @property
    def caveat(self) -> str:
        """Return why fewer selectors can be read than the method has; "" where all can."""
        if why := self.manifest.get("no_votes"):
            return f"majority cannot be read: {why}"
        return selection.caveat(self.plan, counted=bool(self.arrays.counts))

    def _check(self, selector: str, more: tuple[str, ...] = ()) -> None:
        """Raise ValueError for a selector that cannot be read from this run."""
        known, what = dict.fromkeys((*more, *self.selectors)), f"selector of {self.label}"
        if selector == "oracle":
            raise ValueError("the selector 'oracle' is called 'coverage' now")
        try:
            look_up(known, selector, what)
        except ValueError as error:
            raise ValueError(f"{error}; {self.caveat}" if self.caveat else str(error)) from None

    def curve(
        self, selector: str = "coverage", unit: str = "samples", level: str = "all", **options: Any
    ) -> Curve:
        """Return accuracy against budget with its 95 % interval; see `runs.curves.curve`.

        Errors: ValueError where no cost in `unit` is known.
        """
        found: Curve = onward("runs.curves", "curve")(self, selector, unit, level, **options)
        if unit in NEEDS and np.isnan(found.x).all():
            raise ValueError(
                f"the cost in {unit} of this run is unknown: it lacks {NEEDS[unit]}; "
                "use unit='samples'"
            )
        return found

    def forecast(
        self,
        law: str,
        fit_up_to: int,
        selector: str = "coverage",
        level: str = "all",
        replicates: int = 1000,
    ) -> Any:
        """Return a law fitted to the first `fit_up_to` samples of each problem, and its score.

        The law sees nothing of later samples; it is scored on every larger budget, whose accuracy
        is read from all samples. Best-of-N only. See `fits.forecasts.Forecast`.
        """
        find = onward("fits.forecasts", "forecast_run")
        return find(self, law, fit_up_to, selector, level, replicates)

    def budgets(self) -> np.ndarray:
        """Return 1, 2, 4, ... up to what was drawn: chains of best-of-N, steps of a chain."""
        if self.arrays.counts:
            return doublings(int(self.counts[0].min()))
        _, chains, steps = self.correct.shape
        return doublings(chains) if self.plan.method == "best_of_n" else np.arange(1, steps + 1)

    def values(self, selector: str, k: np.ndarray, chains: int = 1) -> np.ndarray:
        """Return the estimate per problem and budget, (problems, budgets); no bias, NaN beyond.

        k: samples of best-of-N, steps of a revision chain; `chains` of them in parallel make a
        grid, of which coverage alone is read. What was read once is remembered, read-only.
        """
        self._check(selector)
        if np.any(np.floor(k) != k) or np.min(k) < 1 or np.max(k) > self.budgets()[-1]:
            most = self.budgets()[-1]
            raise ValueError(f"budgets {list(k)}: give whole numbers, 1 to {most}, the run's size")
        k = np.asarray(k, int)
        if chains > 1 and (selector != "coverage" or chains > self.plan.chains):
            raise ValueError(f"{chains} chains: give up to {self.plan.chains}, selector coverage")
        key = selector, tuple(k), chains
        if key not in self.known:
            if chains > 1:
                found = grid_at_k(self.correct, chains, "any")[:, k - 1]
            elif self.plan.method == "best_of_n":
                found = selection.of_chains(self, selector, k)
            else:
                found = selection.of_steps(self, selector, k)
            found.flags.writeable = False
            self.known[key] = found
        return self.known[key]

    @cached_property
    def costs(self) -> Costs:
        """Return per unit (shared cost per problem, own cost per chain and step).

        The shared cost is the prompt's prefill; a later step's own cost holds its longer context.
        """
        return costs_of_counts(len(self.problems), UNITS) if self.arrays.counts else run_costs(self)

    def costs_with(self, selector: str) -> Costs:
        """Return `costs`, the passes of a selector's scorer included."""
        self._check(selector, more=("coverage",))
        scored = self.scores.get(selector.removeprefix(WEIGHTED).partition(":")[0])
        shared = over_chains(np.nanmax, self.ledger["prompt_tokens"])
        return add_costs(self.costs, scored.costs(shared, self.prices)) if scored else self.costs

    def cost(
        self,
        unit: str,
        k: np.ndarray,
        chains: int = 1,
        shared_prompt: bool = True,
        selector: str = "coverage",
    ) -> np.ndarray:
        """Return the mean cost per problem of each budget, (problems, budgets), in `unit`.

        A selector that ranks by a scorer pays for the scorer's passes.
        """
        shared, own = look_up(self.costs_with(selector), unit, "unit")
        if agree := self.plan.stop_at_agreement:
            each = own[:, :, 0] + shared[:, None] * (not shared_prompt)
            spent = agreed_vote(self.answers[:, :, 0], self.correct[:, :, 0], each, agree, k)[1]
            return spent + shared[:, None] * shared_prompt
        if self.arrays.counts:
            return own[:, 0] * k + shared[:, None]
        if self.plan.method == "best_of_n":
            spent = over_chains(np.nanmean, own)[:, None] * k
            return spent + shared[:, None] * (1 if shared_prompt else k)
        summed = own if self.plan.method == "thinking" else np.cumsum(np.nan_to_num(own), axis=2)
        spent = np.nanmean(summed, axis=1)
        return chains * spent[:, k - 1] + shared[:, None] * (1 if shared_prompt else chains)

    def stopping_cost(self, unit: str, k: np.ndarray) -> np.ndarray:
        """Return the mean cost of drawing up to k samples, stopping at the first right one.

        (problems, budgets), for best-of-N: what a sampler with verifier feedback pays, to compare
        with revision that has it.
        """
        shared, own = look_up(self.costs, unit, "unit")
        coverage = self.values("coverage", np.arange(1, int(np.max(k)) + 1))
        spent = cost_until_right(own[:, :, 0], self.correct[:, :, 0], coverage)
        return (shared[:, None] + spent)[:, np.asarray(k) - 1]


def doublings(size: int) -> np.ndarray:
    """Return 1, 2, 4, ... and the size itself."""
    return np.unique(np.append(2 ** np.arange(int(np.log2(size)) + 1), size))

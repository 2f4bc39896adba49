"""`Run`: the samples of one model on one task by one plan, and all results read from them.

The samples become arrays over (problem, chain, step); every budget, selector and cost is read from
these. Nothing is sampled here, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.curves import Curve, onward
from scaling.intervals import REPLICATES, mean_interval
from scaling.methods.table import Method, method_of
from scaling.records import ModelCard, Plan, look_up
from scaling.runs import costs, selection
from scaling.runs.arrays import Arrays, Cluster, Layout, family_labels, refused_problems
from scaling.runs.costs import NEEDS, PRICES, Costs
from scaling.runs.selection import WEIGHTED
from scaling.store.reader import read_run
from scaling.store.scores import Scores, read_scores

SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def load_run(path: str | Path, columns: Iterable[str] | None = None, text: bool = False) -> Run:
    """Return the run in a folder, its files checked against their hashes. Needs no lock, no torch.

    columns: of `records.Sample`, all by default. text: also load the model's texts.
    Errors: ValueError naming a file that is missing or was changed, and where it differs.

    >>> load_run("tests/data/runs/sums-ladder_0.1M_1e13-fd34c6426c").n_samples
    24
    """
    return Run(**read_run(Path(path), columns, text))


@dataclass(frozen=True, eq=False)
class Run:
    """The samples of one model, task and plan, sealed or still open.

    >>> run = load_run("tests/data/runs/sums-ladder_0.1M_1e13-fd34c6426c")
    >>> run.task, run.card.name, run.n_samples, run.selectors[:2]
    ('sums', 'ladder/0.1M/1e13', 24, ('coverage', 'majority'))
    >>> [round(float(y), 3) for y in run.curve("coverage").y]
    [0.958, 1.0, 1.0]
    """

    path: Path  #: the run's folder; of samples that another tool drew, their file
    manifest: dict[str, Any]  #: as written
    task: str  #: name of the task
    card: ModelCard  #: the model that was sampled
    plan: Plan  #: how it was sampled
    problems: pd.DataFrame  #: columns of `records.Problem`, in the order they were drawn
    samples: pd.DataFrame  #: columns of `records.Sample`, sorted by problem, chain, step
    sha256: str  #: hash of the manifest (which holds the files' hashes) or file; "" while open
    prices: tuple[float, float] = PRICES  #: per million input and output tokens, any currency
    derived: Arrays | None = field(default=None, repr=False)  #: replace those of `samples`
    known: dict[tuple, np.ndarray] = field(default_factory=dict, init=False, repr=False)  #: values

    def __repr__(self) -> str:
        """Return task, model, method, size and selectors in one line."""
        size = f"{len(self.rows('all')):,} problems, {self.n_samples:,} samples"
        facts = f"{self.task}, {self.card.name}, {self.label}: {size}; {', '.join(self.selectors)}"
        return f"Run({facts})"

    def _repr_html_(self) -> str:
        """Return the run's card: its facts, and coverage (else the first selector) by k."""
        selector = "coverage" if "coverage" in self.selectors else self.selectors[0]
        facts: dict[str, Any] = {"problems": len(self.problems), "samples": self.n_samples}
        facts |= {"plan": f"{self.label}, {self.plan.chains} chains x {self.plan.steps}"}
        facts |= {"seed": self.plan.seed, "train FLOPs": self.card.train_flops}
        return self.curve(selector).card(f"{self.task}: {self.card.name}", facts, selector)

    # ------------------------------------------------------------ names
    @property
    def method(self) -> Method:
        """Return the method by which the run was sampled and is read."""
        return method_of(self.plan)

    @property
    def label(self) -> str:
        """Return the method as tables name it, with "+verdict" where the verifier gave feedback."""
        return self.plan.method + ("+verdict" if self.plan.feedback == "verdict" else "")

    @property
    def imported(self) -> bool:
        """Return whether another tool drew the samples, so that there is no run folder."""
        return "import" in self.manifest

    @property
    def short_hash(self) -> str:
        """Return the hash at the end of the folder's name, or the whole name without one."""
        return self.path.name.rpartition("-")[2]

    @property
    def train_flops(self) -> float:
        """Return the model's training FLOPs, 0 if unknown."""
        return float(np.nan_to_num(self.card.train_flops))

    @property
    def size_name(self) -> str:
        """Return the model's size for legends; its name if a server hides the size."""
        if not self.card.n_params:
            return self.card.name.replace("$", r"\$")
        millions = self.card.n_params / 1e6
        if millions < 0.05:  # two such sizes would both be "0.0 M"
            return f"{self.card.n_params:,}"
        return f"{millions:.1f} M" if millions < 10 else f"{millions:,.0f} M"

    @property
    def model_name(self) -> str:
        """Return the checkpoint's name for legends: parameters, and train FLOPs if known."""
        if not self.train_flops:
            return self.size_name
        mantissa, exponent = f"{self.train_flops:.1e}".split("e+")
        times = "" if mantissa == "1.0" else f"{float(mantissa):g}×"
        return f"{self.size_name}, {times}10{exponent.lstrip('0').translate(SUPERSCRIPT)}"

    # ------------------------------------------------------------ samples
    @cached_property
    def arrays(self) -> Arrays:
        """Return the samples as arrays over (problem, chain, step), read-only.

        Errors: ValueError where every sample of every problem failed.
        """
        if self.derived:
            return self.derived
        if len(self.refused) == len(self.problems):
            reason = next(iter(self.refused.values()))
            raise ValueError(f"{self.path.name}: every sample of every problem failed ({reason})")
        rows, passes = self.samples, (self.samples["finish"] == "scored").to_numpy()
        found = self._layout.arrays(rows[~passes])
        if passes.any():
            scorer = self.manifest["sessions"][-1]["extra"]["scorer"]
            found = replace(found, passes=self._layout.passes(rows[passes], scorer["shape"]))
        scores = {scores.name: self._layout.scored(scores) for scores in read_scores(self)}
        return replace(found, scores=scores)

    @property
    def _layout(self) -> Layout:
        return Layout(list(self.problems["id"]), self.plan.chains, self.plan.steps)

    def with_arrays(self, plan: Plan | None = None, **changes: Any) -> Run:
        """Return the run with some of its arrays (fields of `Arrays`) replaced.

        plan: the plan that describes the new arrays; by default the run's.
        """
        return replace(self, plan=plan or self.plan, derived=replace(self.arrays, **changes))

    def with_scores(self, *scores: Scores) -> Run:
        """Return the run with the scores of further scorers, which become selectors."""
        more = {given.name: self._layout.scored(given) for given in scores}
        return self.with_arrays(scores=self.arrays.scores | more)

    def at_prices(self, prices: tuple[float, float]) -> Run:
        """Return the run at other prices per million input and output tokens."""
        return replace(self, prices=prices, derived=self.arrays)

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
    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, c), each (problems,): first steps drawn per problem, and correct ones."""
        return selection.counts_of(self.arrays)

    @property
    def n_missing(self) -> int:
        """Return the number of samples that failed and were left out."""
        return self.arrays.n_missing

    @property
    def n_samples(self) -> int:
        """Return the number of samples, including failed ones; for counts, the sum of n."""
        return int(self.counts[0].sum()) if self.arrays.counts else len(self.samples)

    @cached_property
    def refused(self) -> dict[str, str]:
        """Return {problem: reason} of the problems all of whose samples failed."""
        return refused_problems(self.samples)

    @cached_property
    def drawn(self) -> np.ndarray:
        """Return whether each problem has a sample, (problems,)."""
        known = np.isfinite(self.correct).any(axis=(1, 2))
        return self.counts[0] > 0 if self.arrays.counts else known

    @property
    def first_accuracy(self) -> float:
        """Return the mean accuracy of the first step; NaN for a search, whose steps are nodes."""
        if self.method.is_search:
            return float("nan")
        if not self.arrays.counts:
            return float(np.nanmean(self.correct[:, :, 0]))
        n, c = self.counts
        return float((c[n > 0] / n[n > 0]).mean())

    # ------------------------------------------------------------ problems
    @cached_property
    def levels(self) -> dict[str, np.ndarray]:
        """Return the rows of each level, and of "all" where there are several."""
        column = self.problems["level"].to_numpy()
        rows = {level: np.flatnonzero(column == level) for level in dict.fromkeys(column)}
        return rows if len(rows) == 1 else {**rows, "all": np.arange(len(column))}

    @property
    def level_names(self) -> list[str]:
        """Return the levels, without "all"."""
        return [level for level in self.levels if level != "all"] or ["all"]

    def rows(self, level: str) -> np.ndarray:
        """Return the row indices of a level's problems that were sampled; "all" is every level.

        If none of them was sampled, return the rows of all its problems; their values are NaN.
        """
        every = look_up({"all": np.arange(len(self.correct)), **self.levels}, level, "level")
        found = every[self.drawn[every]]
        return found if len(found) else every

    def families(self, cluster: Cluster | None, rows: np.ndarray) -> np.ndarray | None:
        """Return the family of each problem in `rows`; None: each problem is its own."""
        return None if cluster is None else family_labels(cluster, self.problems["id"])[rows]

    # ------------------------------------------------------------ accuracy
    @cached_property
    def _readable(self) -> tuple[tuple[str, ...], str]:
        return selection.readable(self.plan, self.arrays, self.manifest.get("no_votes", ""))

    @property
    def selectors(self) -> tuple[str, ...]:
        """Return the selectors: the method's own, and `scorer:reduction` of each scorer."""
        return self._readable[0]

    @property
    def caveat(self) -> str:
        """Return why fewer selectors can be read than the method has; "" if all can."""
        return self._readable[1]

    def score(self, selector: str) -> np.ndarray:
        """Return the number that a selector ranks or weights samples by, one per sample."""
        return look_up(self.arrays.ranks, selector.removeprefix(WEIGHTED), "score")

    def budgets(self) -> np.ndarray:
        """Return 1, 2, 4, ... up to the number drawn: chains of best-of-N, else steps."""
        if self.arrays.counts:
            return selection.doublings(int(self.counts[0].min()))
        _, chains, steps = self.correct.shape
        return selection.doublings(chains) if self.method.exchangeable else np.arange(1, steps + 1)

    def values(self, selector: str, k: np.ndarray, chains: int = 1) -> np.ndarray:
        """Return the estimate per problem and budget, (problems, budgets); unbiased, NaN beyond.

        k: samples of best-of-N, steps of a revision chain; `chains` of them in parallel make a
        grid, for which only coverage is read. Results are cached, read-only.
        """
        selection.check(selector, self.selectors, self.label, self.caveat)
        most = self.budgets()[-1]
        if np.any(np.floor(k) != k) or np.min(k) < 1 or np.max(k) > most:
            raise ValueError(f"budgets {list(k)}: give whole numbers, 1 to {most}, the run's size")
        if chains > 1 and (selector != "coverage" or chains > self.plan.chains):
            raise ValueError(f"{chains} chains: give up to {self.plan.chains}, selector coverage")
        k = np.asarray(k, int)
        key = selector, tuple(k), chains
        if key not in self.known:
            self.known[key] = selection.values_of(self.plan, self.arrays, selector, k, chains)
            self.known[key].flags.writeable = False
        return self.known[key]

    # ------------------------------------------------------------ costs
    @cached_property
    def costs(self) -> Costs:
        """Return per unit (shared cost per problem, own cost per chain and step).

        The shared cost is that of the prompt; a later step's own cost holds its longer context.
        """
        return costs.sample_costs(self.arrays, self.plan, self.card.shape, self.prices)

    def cost(
        self,
        unit: str,
        k: np.ndarray,
        chains: int = 1,
        shared_prompt: bool = True,
        selector: str = "coverage",
    ) -> np.ndarray:
        """Return the mean cost per problem of each budget, (problems, budgets), in `unit`.

        shared_prompt: False charges the prompt to every chain, as an endpoint without a prefix
        cache does. A selector that ranks by a scorer pays for the scorer's passes.
        """
        selection.check(selector, ("coverage", *self.selectors), self.label, self.caveat)
        scored = self.arrays.scores.get(selector.removeprefix(WEIGHTED).partition(":")[0])
        every = costs.with_scorer(self.costs, self.arrays, scored, self.prices)
        found = look_up(every, unit, "unit")
        return costs.budget_cost(self.arrays, self.plan, found, k, chains, shared_prompt)

    def stopping_cost(self, unit: str, k: np.ndarray) -> np.ndarray:
        """Return the mean cost of drawing up to k samples, stopping at the first correct one.

        (problems, budgets), for best-of-N: the cost of a sampler with verifier feedback, for
        comparison with revision with feedback.
        """
        shared, own = look_up(self.costs, unit, "unit")
        coverage = self.values("coverage", np.arange(1, int(np.max(k)) + 1))
        spent = costs.cost_until_right(own[:, :, 0], self.correct[:, :, 0], coverage)
        return (shared[:, None] + spent)[:, np.asarray(k) - 1]

    # ------------------------------------------------------------ curves, laws, figures, reports
    def curve(
        self,
        selector: str = "coverage",
        unit: str = "samples",
        level: str = "all",
        k: np.ndarray | None = None,
        replicates: int = REPLICATES,
        seed: int = 0,
        shared_prompt: bool = True,
        cluster: Cluster | None = None,
    ) -> Curve:
        """Return accuracy against budget with its 95 % interval over problems.

        x is the mean cost per problem in `unit`, one of `UNITS`; for a run by thinking also
        "thinking", the tokens of thinking that are allowed. Problems without a sample are left out
        and counted in `n_missing`. With `cluster` whole families of problems are resampled. Errors:
        ValueError for an unknown name, and where no cost in `unit` is known.
        """
        rows, k = self.rows(level), self.budgets() if k is None else np.asarray(k)
        found = mean_interval(
            self.values(selector, k)[rows], replicates, seed, self.families(cluster, rows)
        )
        cost = self.cost(unit, k, shared_prompt=shared_prompt, selector=selector)[rows]
        if unit in NEEDS and np.isnan(cost.mean(axis=0)).all():
            raise ValueError(
                f"the cost in {unit} of this run is unknown: it lacks {NEEDS[unit]}; "
                "use unit='samples'"
            )
        n_problems = int(self.drawn[rows].sum())
        return Curve(
            x=cost.mean(axis=0),
            y=found.value,
            low=found.low,
            high=found.high,
            replicates=found.replicates,
            x_unit=unit,
            estimator=f"{self.label} {selector}",
            n_problems=n_problems,
            n_missing=len(self.levels.get(level, self.drawn)) - n_problems,
            label=self.card.name,
        )

    def forecast(
        self,
        law: str,
        fit_up_to: int,
        selector: str = "",
        level: str = "all",
        replicates: int = 1000,
        unit: str = "",
    ) -> Any:
        """Return a law fitted to the first `fit_up_to` samples of each problem, and its score.

        The law does not see later samples; it is scored on every larger budget, whose accuracy is
        read from all samples. For a run by thinking, `fit_up_to` is in thinking tokens, and the law
        is fitted along `unit`: thinking tokens by default, or another unit of cost, such as flops.
        Other methods have no forecast. selector: the first of the run's by default. See
        `fits.forecasts.Forecast`.
        """
        options = law, fit_up_to, selector, level, replicates, unit
        return onward("fits.forecasts", "forecast_run")(self, *options)

    def figure(self, name: str, **choices: Any) -> Any:
        """Return a figure of the gallery drawn from this run alone; see `Runs.figure`."""
        return onward("runs", "Runs")([self]).figure(name, **choices)

    def report(self, out: str | Path, force: bool = False) -> list[Path]:
        """Write a report on this run alone; see `Runs.report`."""
        paths: list[Path] = onward("runs", "Runs")([self]).report(out, force)
        return paths

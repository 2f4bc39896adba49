"""Compare laws by their forecasts: fitted to small budgets, scored on larger ones.

For curves (`forecast`, `tournament`), for the curves of runs (`law_tournament`), for counts of
correct samples (`count_tournament`), and for joint laws (`joint.joint_tournament`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scaling import show
from scaling.curves import Curve, Fit, ends
from scaling.estimates import pass_at_k
from scaling.fits.fitting import fit
from scaling.fits.laws import LAWS, Law
from scaling.intervals import mean_interval
from scaling.records import look_up
from scaling.runs import Run, doublings

GRAIN = 1e-3  # 0.1 percentage points: a law below 1 never equals a measured 1 to the last digit
COLUMNS = ["x", "y", "predicted", "low", "high", "error", "covered"]
RESULTS = ["law", "curve", "median_error", "worst_error", "calibration", "width",
           "n_fitted", "n_held_out", "success", "message"]  # fmt: skip
#: decimals of scores that do not depend on the processor
DECIMALS = {"median_error": 3, "worst_error": 3, "calibration": 2, "width": 2}
GROUPS = ("task", "level")
SIZES = (4, 16, 64, 256, 1024)  #: of the prefixes counted
USEFUL = (0.002, 0.95)  #: accuracy of one sample between which a curve has something to forecast
OUTSIDE = f"curves whose first accuracy is not between {USEFUL[0]} and {USEFUL[1]}"
OTHERS = "pools of another method, or stopped early"
Labelled = tuple[tuple[str, ...], Curve, Curve]  # task, level, model; fitted curve, scored curve


# ---------------------------------------------------------------- one law, one curve
def forecast(
    law: str | Law, curve: Curve, share: float = 1 / 16, known: Curve | None = None,
    other_problems: bool = False,
) -> tuple[Fit, pd.DataFrame]:  # fmt: skip
    """Return `law` fitted to x <= share * largest x, and its score at every larger x.

    known: the curve that is fitted, where it was read from fewer samples than `curve`;
    `other_problems`: and from other problems, see `score`. Rows: the measured y, the prediction
    with its 95 % band, error = predicted - y, and whether the band covers y within `GRAIN` (NaN
    without a band). ValueError when too few points remain to fit.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; give a number between 0 and 1, say 1/16")
    known, seen = known or curve, np.isfinite(curve.y)
    limit = share * curve.x[seen].max() * (1 + 1e-12)
    early = np.isfinite(known.y) & (known.x <= limit)
    parts = {k: getattr(known, k)[..., early] for k in ("x", "y", "low", "high", "replicates")}
    fitted, later = fit(law, replace(known, **parts)), seen & (curve.x > limit)
    noise = (curve.replicates - curve.y)[:, later] if other_problems else None
    return fitted, score(fitted, curve.x[later], curve.y[later], noise)


def score(
    fitted: Fit, x: np.ndarray | tuple[np.ndarray, ...], y: np.ndarray,
    noise: np.ndarray | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return a fit's error and calibration at held-out points.

    noise: where y was measured on other problems than the fit's, its replicates less y, as many as
    the fit's; they widen the band to the range of such a measurement.
    """
    predicted, drawn = fitted.predict(x), fitted.function(x, fitted.refits)
    if noise is not None:
        drawn += noise[np.isfinite(fitted.replicates).all(-1)]
    low, high = ends(drawn)
    covered = np.where(np.isnan(low), np.nan, (low - GRAIN <= y) & (y <= high + GRAIN))
    at = x[0] if isinstance(x, tuple) else x
    columns = (at, y, predicted, low, high, predicted - y, covered)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


@dataclass(frozen=True)
class Forecast:
    """A law fitted to few samples of each problem, and its score at larger budgets."""

    fit: Fit
    frame: pd.DataFrame  #: a row per held-out budget: x, y, predicted, low, high, error, covered
    fit_up_to: int  #: samples, or thinking tokens, of each problem that the law was fitted to
    unit: str = "samples"  #: of `fit_up_to`

    @property
    def median_error(self) -> float:
        """Return the median absolute error over the held-out budgets."""
        return float(self.frame["error"].abs().median())

    def __repr__(self) -> str:
        """Return the error of the law at the held-out budgets, in one line."""
        inside = self.frame["covered"]
        return (
            f"Forecast({self.fit.law} fitted to {self.fit_up_to} {self.unit}: median error "
            f"{self.median_error:.3f} at {len(self.frame)} larger budgets, "
            f"{int(inside.sum())} of {inside.notna().sum()} inside the 95 % band)"
        )

    def _repr_html_(self) -> str:
        table = show.table_html(self.frame.to_dict("records"))
        return show.card(repr(self), {"message": self.fit.message}, table)


def forecast_run(
    run: Run, law: str, fit_up_to: int, selector: str, level: str, replicates: int, unit: str
) -> Forecast:
    """Return the forecast of a run from `fit_up_to` samples or thinking tokens; `Run.forecast`."""
    selector = selector or run.selectors[0]
    if run.method.one_trace:
        return _forecast_thinking(run, law, fit_up_to, selector, level, replicates, unit)
    if not run.method.exchangeable or run.arrays.counts:
        raise ValueError("a forecast needs the samples of a best-of-N run, or a run by thinking")
    if unit not in ("", "samples"):
        raise ValueError(f"unit is {unit!r}; a best-of-N run is forecast along its samples")
    most = int(run.budgets()[-1])
    if not 1 < fit_up_to < most:
        raise ValueError(f"fit_up_to is {fit_up_to}; give 2 to {most - 1} of the {most} samples")
    rows = run.rows(level)
    known = _curve(first_chains(run, fit_up_to), selector, rows, replicates)
    found = forecast(law, _curve(run, selector, rows, replicates), fit_up_to / most, known)
    return Forecast(*found, fit_up_to)


def _forecast_thinking(
    run: Run, law: str, fit_up_to: int, selector: str, level: str, replicates: int, unit: str
) -> Forecast:
    """Return the forecast of a run by thinking; the immediate answer, at 0 tokens, is left out."""
    steps = run.budgets()[1:]
    tokens = run.cost("thinking", steps)[0]
    if not tokens[0] < fit_up_to < tokens[-1]:
        allowed = ", ".join(f"{budget:g}" for budget in tokens[1:-1])
        raise ValueError(f"fit_up_to is {fit_up_to}; give thinking tokens: {allowed}")
    curve = run.curve(selector, unit or "thinking", level, steps, replicates)
    share = float(curve.x[tokens <= fit_up_to][-1] / curve.x[-1])
    return Forecast(*forecast(law, curve, share), fit_up_to, "thinking tokens")


# ---------------------------------------------------------------- many laws, many curves
def tournament(
    curves: Mapping[str, Curve | tuple[Curve, Curve]], laws: Iterable[str], share: float = 1 / 16,
    other_problems: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Return one row per law and curve: the score of its forecast beyond `share` of the budget.

    A pair of curves is (fitted, scored), see `forecast`, also for `other_problems`. `median_error`
    and `worst_error` are absolute, in the unit of y; `calibration` is the share of held-out points
    inside the band. A law that cannot be fitted to a curve keeps its row, with NaN scores and the
    reason in `message`. Best law first.
    """
    rows = []
    chosen = [look_up(LAWS, law, "law") for law in laws]  # a wrong name is an error, not a row
    for name, given in curves.items():
        known, curve = given if isinstance(given, tuple) else (given, given)
        for law in chosen:
            row: dict[str, Any] = {"law": law.name, "curve": name, "n_fitted": 0, "n_held_out": 0}
            try:
                row |= summarised(*forecast(law, curve, share, known, other_problems))
            except ValueError as reason:
                row |= {"success": False, "message": str(reason)}
            rows.append(row)
    return best_first(pd.DataFrame(rows).reindex(columns=RESULTS), ["curve", "median_error"])


def summarised(fitted: Fit, scores: pd.DataFrame) -> dict[str, Any]:
    """Return a forecast's row of a tournament: its scores, and how the fit went."""
    error, width = scores.error.abs(), (scores.high - scores.low).median()
    row = {"median_error": error.median(), "worst_error": error.max(), "width": width}
    row |= {"calibration": scores.covered.mean(), "n_held_out": len(scores)}
    row |= {"n_fitted": fitted.n_points, "success": fitted.success, "message": fitted.message}
    return row


def trust(
    table: pd.DataFrame, error: float = 0.02, calibration: float = 0.9, by: Sequence[str] = ()
) -> pd.DataFrame:
    """Return one row per law, summarised over the curves of a tournament, most trustworthy first.

    `by`: columns to group by first, such as `GROUPS`. A law is `trusted` if its median error is at
    most `error` and its intervals contain at least `calibration` of the held-out points, over the
    curves that it could be fitted to; `n_unfitted` counts the other curves.
    """
    groups = table.groupby([*by, "law"])
    found = groups[["median_error", "worst_error", "width"]].median()
    found["calibration"] = groups["calibration"].mean()
    found["n_curves"] = groups["median_error"].count()
    found["n_unfitted"] = groups.size() - found["n_curves"]
    found["trusted"] = (found.median_error <= error) & (found.calibration >= calibration)
    order, ascending = [*by, "trusted", "median_error"], [*[True] * len(by), False, True]
    return best_first(found.reset_index(), order, ascending)


def printable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of scores with the digits that do not depend on the processor.

    Where a fit is not a success, some replicates have no optimum, and rounding decides where they
    stop: its calibration has one decimal, its width one significant digit.
    """
    shown = table.round(DECIMALS)
    if "success" in shown:
        unsure = ~shown["success"].astype(bool)
        shown.loc[unsure, "calibration"] = table.loc[unsure, "calibration"].round(1)
        shown.loc[unsure, "width"] = [float(f"{v:.1g}") for v in table.loc[unsure, "width"]]
    return shown


def best_first(
    table: pd.DataFrame, by: Sequence[str], ascending: bool | list[bool] = True
) -> pd.DataFrame:
    """Return a table of scores sorted by columns; errors that print equally are ties."""
    order = table.round(DECIMALS).sort_values(list(by), ascending=ascending, kind="stable").index
    return table.loc[order].reset_index(drop=True)


# ---------------------------------------------------------------- curves of runs and of counts
def law_tournament(
    pools: Sequence[Run],
    selector: str = "coverage",
    laws: Iterable[str] | None = None,
    share: float = 1 / 16,
    few: bool = False,
    halves: bool = False,
    replicates: int = 300,
) -> pd.DataFrame:
    """Return `tournament` over best-of-N pools and their levels, with task, level and model.

    Laws see k up to `share` of the pool. Accuracy at those budgets is computed from the whole pool,
    so that the error is due to the law alone. With `few` it is computed from the first chains only,
    as if no more had been drawn, so that the error includes sampling noise. `halves` fits to every
    second problem and scores on the others, so that fit and score share no noise. Curves that start
    outside `USEFUL` and pools of other methods are left out; `attrs["left_out"]` counts both.
    """
    left_out = Counter[str]()

    def curves() -> Iterator[Labelled]:
        for pool in pools:
            plan = pool.plan
            if not pool.method.exchangeable or plan.stop_after_correct or plan.stop_at_agreement:
                left_out[OTHERS] += 1
                continue
            early = first_chains(pool, max(1, int(share * pool.correct.shape[1]))) if few else pool
            for level in [name for name in pool.levels if name != "all"]:
                rows = pool.rows(level)
                fitted, scored = (rows[::2], rows[1::2]) if halves else (rows, rows)
                known = _curve(early, selector, fitted, replicates)
                measured = _curve(pool, selector, scored, replicates, seed=1)
                yield (pool.task, level, pool.card.name), known, measured

    return _labelled_tournament(curves(), laws or suited_laws(selector), share, halves, left_out)


def count_tournament(
    counts: pd.DataFrame, n: int, laws: Iterable[str] | None = None, share: float = 1 / 16,
    halves: bool = False, replicates: int = 300,
) -> pd.DataFrame:  # fmt: skip
    """Return `law_tournament` of coverage by `prefix_counts`, fitted to the first share * n of n.

    counts: with columns for n and share * n.
    """
    few, step = round(share * n), 2 if halves else 1
    if missing := [size for size in (few, n) if str(size) not in counts]:
        raise ValueError(f"counts hold no column {missing[0]}; they have {list(counts.columns)}")

    def curves() -> Iterator[Labelled]:
        for key, rows in counts.groupby([*GROUPS, "model"], sort=False):
            measured = _coverage(rows[str(n)][step - 1 :: step], n, replicates, seed=1)
            known = _coverage(rows[str(few)][::step], few, replicates)
            yield tuple(map(str, key)), known, measured

    laws = laws or suited_laws("coverage")
    return _labelled_tournament(curves(), laws, share, halves, Counter())


def _labelled_tournament(
    labelled: Iterable[Labelled], laws: Iterable[str], share: float, halves: bool,
    left_out: Counter[str],
) -> pd.DataFrame:  # fmt: skip
    """Return `tournament` of the useful curves, with the task, level and model of each."""
    curves, labels = {}, []
    for label, known, measured in labelled:
        if USEFUL[0] < measured.y[0] < USEFUL[1]:
            labels.append((*label, " ".join(label)))
            curves[" ".join(label)] = known, measured
        else:
            left_out[OUTSIDE] += 1
    table = tournament(curves, laws, share, other_problems=halves)
    table = table.merge(pd.DataFrame(labels, columns=[*GROUPS, "model", "curve"]), on="curve")
    table.attrs["left_out"] = dict(left_out)
    return table


def prefix_counts(pool: Run, sizes: Sequence[int] = SIZES) -> pd.DataFrame:
    """Return one row per problem of a best-of-N pool: how many of its first n chains are right.

    Columns: task, level, model, problem, and one per n in `sizes`, named by it. Enough to fit and
    score forecasts from n samples, at a thousandth of the log's size.
    """
    chains = pool.correct.shape[1]
    if not pool.method.exchangeable or max(sizes) > chains:
        raise ValueError(f"sizes are {list(sizes)}; give numbers up to the {chains} chains drawn")
    problems = pool.problems
    named = {"task": pool.task, "level": problems["level"], "model": pool.card.name}
    right = {str(n): pool.correct[:, :n, 0].sum(axis=1).astype(int) for n in sizes}
    return pd.DataFrame(named | {"problem": problems["id"]} | right)


def first_chains(pool: Run, count: int) -> Run:
    """Return the pool as it was when `count` chains had been drawn."""
    ledger = {name: column[:, :count] for name, column in pool.ledger.items()}
    return pool.with_arrays(
        correct=pool.correct[:, :count], answers=pool.answers[:, :count], ledger=ledger
    )


def _coverage(right: pd.Series, n: int, replicates: int, seed: int = 0) -> Curve:
    """Return coverage by samples of problems with `right` of n samples correct."""
    k = doublings(n)
    return _averaged(pass_at_k(n, right.to_numpy()[:, None], k), k, replicates, seed)


def _curve(pool: Run, selector: str, rows: np.ndarray, replicates: int, seed: int = 0) -> Curve:
    """Return accuracy by samples of the problems in `rows`."""
    k = pool.budgets()
    return _averaged(pool.values(selector, k)[rows], k, replicates, seed)


def _averaged(values: np.ndarray, k: np.ndarray, replicates: int, seed: int) -> Curve:
    """Return the mean over problems of values (problems, k) as a curve."""
    found = mean_interval(values, replicates, seed)
    return Curve(k.astype(float), found.value, found.low, found.high, found.replicates,
                 n_problems=len(values))  # fmt: skip


def suited_laws(selector: str) -> list[str]:
    """Return the laws of one axis that describe a selector's accuracy; some do coverage's only.

    A straight line in log k is none: coverage and votes bend.
    """
    laws = [name for name, law in LAWS.items() if law.axes == 1 and name != "log_line"]
    if selector == "coverage":
        return laws
    return [name for name in laws if LAWS[name].density is None and name != "exp_power"]

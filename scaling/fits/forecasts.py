"""Which law to trust on runs of one's own: every law fitted to small budgets, scored on larger.

`fits.tournament` does it for curves; here are the curves of pools, and the verdict over all of
them. Not here: laws over train and test compute together (`joint.joint_tournament`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling import show
from scaling.estimates import pass_at_k
from scaling.fits import tournament
from scaling.fits.forecast import best_first, forecast
from scaling.fits.laws import LAWS
from scaling.intervals import mean_interval
from scaling.records import Curve, Fit, look_up
from scaling.runs import Run, doublings

GROUPS = ("task", "level")
SIZES = (4, 16, 64, 256, 1024)  #: of the prefixes counted
USEFUL = (0.002, 0.95)  #: accuracy of one sample between which a curve has something to forecast
OUTSIDE = f"curves whose first accuracy is not between {USEFUL[0]} and {USEFUL[1]}"


def first_chains(pool: Run, count: int) -> Run:
    """Return the pool as it was when `count` chains had been drawn."""
    ledger = {name: column[:, :count] for name, column in pool.ledger.items()}
    return pool.with_arrays(
        correct=pool.correct[:, :count], answers=pool.answers[:, :count], ledger=ledger
    )


@dataclass(frozen=True)
class Forecast:
    """A law fitted to few samples of each problem, and its score at larger budgets."""

    fit: Fit
    frame: pd.DataFrame  #: a row per held-out budget: x, y, predicted, low, high, error, covered
    fit_up_to: int  #: samples of each problem that the law saw

    @property
    def median_error(self) -> float:
        """Return the median absolute error over the held-out budgets."""
        return float(self.frame["error"].abs().median())

    def __repr__(self) -> str:
        """Return how far off the law is at the budgets that it did not see."""
        inside = self.frame["covered"]
        return (
            f"Forecast({self.fit.law} fitted to {self.fit_up_to} samples: median error "
            f"{self.median_error:.3f} at {len(self.frame)} larger budgets, "
            f"{int(inside.sum())} of {inside.notna().sum()} inside the 95 % band)"
        )

    def _repr_html_(self) -> str:
        table = show.table_html(self.frame.to_dict("records"))
        return show.card(repr(self), {"message": self.fit.message}, table)


def forecast_run(
    run: Run, law: str, fit_up_to: int, selector: str, level: str, replicates: int
) -> Forecast:
    """Return the forecast of a best-of-N run from the first `fit_up_to` samples of each problem."""
    if run.plan.method != "best_of_n" or run.arrays.counts:
        raise ValueError("a forecast along samples needs the samples of a best-of-N run")
    most = int(run.budgets()[-1])
    if not 1 < fit_up_to < most:
        raise ValueError(f"fit_up_to is {fit_up_to}; give 2 to {most - 1} of the {most} samples")
    rows = run.rows(level)
    known = _curve(first_chains(run, fit_up_to), selector, rows, replicates)
    found = forecast(law, _curve(run, selector, rows, replicates), fit_up_to / most, known)
    return Forecast(*found, fit_up_to)


def law_tournament(
    pools: Sequence[Run],
    selector: str = "coverage",
    laws: Iterable[str] | None = None,
    share: float = 1 / 16,
    few: bool = False,
    halves: bool = False,
    replicates: int = 300,
) -> pd.DataFrame:
    """Return one row per law and curve, see `fits.tournament`, over best-of-N pools and levels.

    Laws see k up to `share` of the pool. Those budgets are read from the whole pool, so that the
    error is the law's alone; `few` reads them from the first chains only, as one who had drawn no
    more would, and the error holds luck too. `halves` fits to every second problem and scores on
    the others, so that fit and measurement share no luck. Curves that start outside `USEFUL` are
    left out, and pools of other methods; `attrs["left_out"]` counts both. Further columns: task,
    level, model.
    """
    curves, which, left_out = {}, [], Counter[str]()
    for pool in pools:
        plan = pool.plan
        if plan.method != "best_of_n" or plan.stop_after_correct or plan.stop_at_agreement:
            left_out["pools of another method, or stopped early"] += 1
            continue
        early = first_chains(pool, max(1, int(share * pool.correct.shape[1]))) if few else pool
        for level in [name for name in pool.levels if name != "all"]:
            rows = pool.rows(level)
            fitted, scored = (rows[::2], rows[1::2]) if halves else (rows, rows)
            whole = _curve(pool, selector, scored, replicates, seed=1)
            if USEFUL[0] < whole.y[0] < USEFUL[1]:
                place = pool.task, level, pool.card.name
                which.append((*place, " ".join(place)))
                curves[" ".join(place)] = _curve(early, selector, fitted, replicates), whole
            else:
                left_out[OUTSIDE] += 1
    return _judge(curves, which, laws or suiting(selector), share, halves, left_out)


def _judge(
    curves: dict[str, tuple[Curve, Curve]], which: Sequence[tuple[str, ...]], laws: Iterable[str],
    share: float, halves: bool, left_out: Mapping[str, int],
) -> pd.DataFrame:  # fmt: skip
    """Return `fits.tournament` of curves, with the task, level and model of each in `which`."""
    table = tournament(curves, laws, share, apart=halves)
    table = table.merge(pd.DataFrame(which, columns=[*GROUPS, "model", "curve"]), on="curve")
    table.attrs["left_out"] = dict(left_out)
    return table


def prefix_counts(pool: Run, sizes: Sequence[int] = SIZES) -> pd.DataFrame:
    """Return one row per problem of a best-of-N pool: how many of its first n chains are right.

    Columns: task, level, model, problem, and one per n in `sizes`, named by it. What forecasts from
    n samples really drawn are fitted to and scored on, in a thousandth of the log's size.
    """
    chains = pool.correct.shape[1]
    if pool.plan.method != "best_of_n" or max(sizes) > chains:
        raise ValueError(f"sizes are {list(sizes)}; give numbers up to the {chains} chains drawn")
    problems = pool.problems
    told = {"task": pool.task, "level": problems["level"], "model": pool.card.name}
    right = {str(n): pool.correct[:, :n, 0].sum(axis=1).astype(int) for n in sizes}
    return pd.DataFrame(told | {"problem": problems["id"]} | right)


def count_tournament(
    counts: pd.DataFrame, n: int, laws: Iterable[str] | None = None, share: float = 1 / 16,
    halves: bool = False, replicates: int = 300,
) -> pd.DataFrame:  # fmt: skip
    """Return `law_tournament` of coverage by `prefix_counts`, fitted to the first share * n of n.

    counts: with columns for n and share * n.
    """
    few, curves, which, left_out = round(share * n), {}, [], Counter[str]()
    missing = [size for size in (few, n) if str(size) not in counts]
    if missing:
        raise ValueError(f"counts hold no column {missing[0]}; they have {list(counts.columns)}")
    for key, rows in counts.groupby([*GROUPS, "model"], sort=False):
        place, step = tuple(map(str, key)), 2 if halves else 1
        whole = _coverage(rows[str(n)][step - 1 :: step], n, replicates, seed=1)
        if USEFUL[0] < whole.y[0] < USEFUL[1]:
            which.append((*place, " ".join(place)))
            known = _coverage(rows[str(few)][::step], few, replicates)
            curves[" ".join(place)] = known, whole
        else:
            left_out[OUTSIDE] += 1
    return _judge(curves, which, laws or suiting("coverage"), share, halves, left_out)


def _coverage(right: pd.Series, n: int, replicates: int, seed: int = 0) -> Curve:
    """Return coverage by samples of problems of which `right` of n samples are right."""
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


def suiting(selector: str) -> list[str]:
    """Return the laws of one axis that speak of what a selector reaches."""
    return [name for name, law in LAWS.items() if law.axes == 1 and suits(name, selector)]


def suits(law: str, selector: str) -> bool:
    """Return whether a law speaks of what a selector reaches: some speak of coverage alone."""
    coverage = look_up(LAWS, law, "law").density is not None or law == "exp_power"
    return selector == "coverage" or not coverage


def trust(
    table: pd.DataFrame, error: float = 0.02, coverage: float = 0.9, by: Sequence[str] = ()
) -> pd.DataFrame:
    """Return one row per law over the curves of a tournament, the most trustworthy first.

    `by`: columns to tell apart, such as `GROUPS`. `trusted`: median error at most `error` and
    intervals that hold at least `coverage` of the held-out points, of the
    curves that it could be fitted to; `n_unfitted` counts the others.
    """
    groups = table.groupby([*by, "law"])
    found = groups[["median_error", "worst_error", "width"]].median()
    found["coverage"] = groups["coverage"].mean()
    found["n_curves"] = groups["median_error"].count()
    found["n_unfitted"] = groups.size() - found["n_curves"]
    found["trusted"] = (found.median_error <= error) & (found.coverage >= coverage)
    found = found.reset_index()
    order = [*by, "trusted", "median_error"]
    ascending = [*[True] * len(by), False, True]
    return found.sort_values(order, ascending=ascending, ignore_index=True, key=best_first)

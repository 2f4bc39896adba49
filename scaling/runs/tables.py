"""The table `accuracy.csv`: accuracy per budget of every run, and the samples not in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from scaling.intervals import REPLICATES, mean_interval
from scaling.records import FINAL, SampleWarning
from scaling.runs.arrays import Cluster, has_failed
from scaling.runs.run import Run
from scaling.runs.selection import WEIGHTED

COLUMNS = ["task", "level", "model", "n_params", "train_flops", "method", "selector",
           "k", "test_tokens", "test_flops", "accuracy", "low", "high",
           "n_problems", "n_missing", "n_unextracted", "n_truncated"]  # fmt: skip

MANY = 0.1  #: share of samples cut, or without an answer, that is warned of


def accuracy_rows(
    run: Run, replicates: int = REPLICATES, cluster: Cluster | None = None
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of `accuracy.csv` of one run; a grid's method name includes its chains.

    Problems without a sample are left out, and counted in `n_missing` together with those that have
    too few samples for the budget, because some failed: these make the accuracy NaN.
    """
    k, card = run.budgets(), run.card
    series = [(name, 1) for name in run.selectors if not name.startswith(WEIGHTED)]
    if run.method.grid:
        series += [("coverage", 2**i) for i in range(1, run.plan.chains.bit_length())]
    flaws = np.stack(flaws_of(run))
    for selector, chains in series:
        method = run.label + (f" x{chains}" if chains > 1 else "")
        values = run.values(selector, k, chains)
        costs = [run.cost(unit, k, chains, selector=selector) for unit in ("tokens", "flops")]
        for level, every in run.levels.items():
            rows = run.rows(level)
            family = run.families(cluster, rows)
            found = mean_interval(values[rows], replicates, cluster=family)
            tokens, flops = (cost[rows].mean(axis=0) for cost in costs)
            which = run.task, level, card.name, card.n_params, card.train_flops, method, selector
            missing = np.isnan(values[every]).sum(axis=0)
            columns = k * chains, tokens, flops, found.value, found.low, found.high
            for *point, n_missing in zip(*columns, missing, strict=True):
                counts = run.drawn[rows].sum(), n_missing, *flaws[:, every].sum(axis=1)
                yield *which, *point, *counts


def accuracy_table(
    runs: Iterable[Run], replicates: int = REPLICATES, cluster: Cluster | None = None
) -> pd.DataFrame:
    """Return one row per task, level, model, method, selector and budget."""
    rows = [row for run in runs for row in accuracy_rows(run, replicates, cluster)]
    return pd.DataFrame(rows, columns=COLUMNS)


def samples_of(run: Run) -> pd.DataFrame:
    """Return the rows of a log that hold an answer; for a search, the last node of each chain.

    Failed samples and passes of a scorer are left out.
    """
    frame = run.samples
    frame = frame[~frame["finish"].isin(["scored", "discarded"]) & ~has_failed(frame)]
    if run.plan.width:
        frame = frame.drop_duplicates(["problem", "chain"], keep="last")
    return frame


def flaws_of(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return each problem's samples without an extractable answer, and those cut at the token cap.

    Both are (problems,).
    """
    frame, names = samples_of(run), run.problems["id"]
    if run.imported and frame["answer"].isna().all():  # it holds no answers at all
        frame = frame.assign(answer="")
    unextracted, truncated = (
        frame["problem"][flaw].value_counts().reindex(names, fill_value=0).to_numpy()
        for flaw in (frame["answer"].isna(), frame["finish"] == "length")
    )
    return unextracted, truncated


def flaw_counts(runs: Iterable[Run]) -> tuple[int, int, int]:
    """Return how many samples there are, have no extractable answer, and hit the token cap."""
    found = [(len(samples_of(run)), *(int(f.sum()) for f in flaws_of(run))) for run in runs]
    drawn, unextracted, truncated = (sum(column) for column in zip(*found, strict=True))
    return drawn, unextracted, truncated


def flaw_line(runs: Iterable[Run]) -> str:
    """Return a line to print about truncated samples and samples without an answer."""
    drawn, unextracted, truncated = flaw_counts(runs)
    cut = f"{truncated:,} cut at the token cap"
    return f"{drawn:,} samples: {cut}, {unextracted:,} without an extractable answer"


def incomplete(run: Run) -> str:
    """Return how many problems were not drawn and how many samples failed; "" if none."""
    missing, found = int((~run.drawn).sum()), []
    if missing:
        found.append(f"{missing:,} of {len(run.drawn):,} problems have no sample")
    if run.n_missing:
        found.append(f"{run.n_missing:,} samples failed")
    return " and ".join(found)


def unfinished(run: Run) -> str:
    """Return a message on what an unfinished run lacks; "" if the run is finished."""
    if run.sha256 or run.drawn.all():
        return ""
    return f"it is unfinished, {incomplete(run)}; run the command that began it again"


def missing_lines(run: Run) -> list[str]:
    """Return how many samples and problems are missing, each problem by name, and why, as lines."""
    failed = run.samples["finish"].astype(str)[has_failed(run.samples)]
    reasons = failed.value_counts().head(5)
    lines = [f"{count:,} samples are missing ({reason})" for reason, count in reasons.items()]
    if again := int((~failed.str.startswith(FINAL)).sum()):
        lines.append(
            f"{again:,} of them failed for a reason that may pass: the same command asks again"
        )
    drawn = run.samples["problem"].drop(failed.index).value_counts()
    if len(failed) and drawn.min() < drawn.max():
        lines.append(
            f"problems have {drawn.min():,} to {drawn.max():,} samples: NaN where k is larger"
        )
    if run.refused:
        names, total = list(run.refused), len(run.problems)
        shown = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
        lines.append(
            f"{len(names):,} of {total:,} problems have no sample and are left out: {shown}"
        )
    return lines


def warn_of_flaws(run: Run) -> None:
    """Warn where many samples were cut or gave no answer."""
    drawn, unextracted, truncated = flaw_counts([run])
    cap = f"the cap of {run.plan.max_new_tokens:,} new tokens: raise it with max_new_tokens="
    for count, what in (
        (truncated, f"were cut at {cap}"),
        (unextracted, "have no answer that could be extracted; they count as wrong"),
    ):
        if count > MANY * drawn:
            warnings.warn(f"{count:,} of {drawn:,} samples {what}", SampleWarning, stacklevel=3)

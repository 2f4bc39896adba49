"""Import samples of other tools as `Run` and `Runs`, for curves, laws, figures and reports.

Facts that a file lacks stay unknown: without token counts costs are NaN, votes need answers, and a
table of counts gives coverage only. `manifest["import"]` records how a file was read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.curves import Curve
from scaling.estimates import best_of_k, majority_at_k, pass_at_k
from scaling.intervals import mean_interval
from scaling.provenance import sha256
from scaling.readers import counts, detect_format, reasons, refuse_incomplete
from scaling.readers import read_samples as read_table
from scaling.records import ModelCard, Plan, Sample
from scaling.runs.arrays import LEDGER, Arrays
from scaling.runs.collection import Runs
from scaling.runs.run import Run
from scaling.store.files import json_hash

NEEDED = ("problem", "n", "c")
EXACT = 800  #: samples of a problem up to which votes are counted exactly


def read_samples(
    path: str | Path,
    format: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    metric: str | None = None,
    filter: str | None = None,
    model: str | None = None,
) -> Run:
    """Return samples that another tool drew as a run, for curves, laws and figures.

    format: a name in `scaling.readers.FORMATS`; by default it is recognised from the file. columns:
    maps our names to those of a table, such as {"problem": "id", "correct": "label"}; others are
    chain, answer, score, completion_tokens, model and level. A vote needs `answer`, and costs need
    `completion_tokens`. metric, filter, model: which one to read of a file that holds several. What
    was left out is listed in `run.manifest["notes"]` and counted in `run.n_missing`. Errors:
    ValueError for a file that cannot be read, that holds several models, or of which more than 10 %
    of the problems have no verdict.

    >>> read_samples("tests/data/human_eval_results.jsonl").selectors
    ('coverage',)
    """
    path = Path(path)
    format = format or detect_format(path, columns)
    chosen: dict[str, Any] = {
        "columns": columns,
        "metric": metric,
        "filter": filter,
        "model": model,
    }
    table, rejected = read_table(path, format, **chosen)
    refuse_incomplete(path, table.attrs, counts(table)[0])
    how = {"format": format} | {name: value for name, value in chosen.items() if value}
    run = from_table(table, path, model or "", how)
    run.manifest["notes"] = [*table.attrs["notes"], *(f"{at}: {why}" for at, why in rejected)]
    return run


def from_table(
    table: pd.DataFrame, path: Path, model: str = "", how: Mapping[str, Any] | None = None
) -> Run:
    """Return a table of samples as a run; columns: `readers.samples.COLUMNS`.

    Samples without a verdict are left out, and counted in `n_missing`. Errors: ValueError for a
    metric from which pass@1 does not follow.
    """
    if (least := table.attrs.get("least_k", 1)) > 1:
        raise ValueError(
            f"{path}: this metric gives pass@k from k = {least} on only; choose one that gives "
            "pass@1 with metric="
        )
    kept = table[table["correct"].notna()]
    ids = list(dict.fromkeys(table["problem"]))
    place = kept.groupby("problem", sort=False).cumcount().to_numpy()
    at = pd.Index(ids).get_indexer(kept["problem"]), place, 0
    size = (len(ids), int(place.max(initial=0)) + 1, 1)

    def spread(values: np.ndarray) -> np.ndarray:
        array = np.full(size, np.nan)
        array[at] = values
        return array

    answers, _ = pd.factorize(kept["answer"])
    correct, score = kept["correct"].to_numpy(float), kept["score"].to_numpy(float)
    ledger = dict.fromkeys(LEDGER, np.full(size, np.nan))
    ledger["completion_tokens"] = spread(kept["completion_tokens"].to_numpy(float))
    none = np.where(np.isnan(ledger["completion_tokens"]), np.nan, 0.0)
    ledger |= {"prompt_tokens": none, "cached_tokens": none}
    if not np.array_equal(score, correct):  # a score that is the verdict ranks nothing
        ledger["logprob"] = spread(score)
    votes = spread(np.where(answers < 0, np.nan, answers))
    derived = Arrays(spread(correct), votes, ledger, n_missing=len(table) - len(kept))
    card = ModelCard(model or path.stem, 0, 0, math.nan, 0)
    run = _run(path, card, _problems(ids), size[1], derived, kept.assign(step=0), how or {})
    run.manifest["no_votes"] = table.attrs.get("no_votes", "")
    return run


class Accuracy:
    """Accuracy against k of another tool's samples: what the verb `import` prints."""

    def __init__(self, file: Path, table: pd.DataFrame) -> None:
        """table: columns `readers.samples.COLUMNS`. ValueError where too much is left out."""
        n, c = counts(table)
        refuse_incomplete(file, table.attrs, n)
        self.table = table
        self.n, self.c = n[n > 0], c[n > 0]  #: (problems,) samples with a verdict, correct ones
        k = 2 ** np.arange(int(np.log2(self.n.min())) + 1)
        self.k = np.union1d(k[k >= table.attrs["least_k"]], self.n.min())  #: (budgets,)
        self.coverage = mean_interval(pass_at_k(self.n[:, None], self.c[:, None], self.k))

    def curve(self) -> Curve:
        """Return coverage as a curve."""
        found = self.coverage
        ends = found.value, found.low, found.high, found.replicates
        return Curve(self.k, *ends, n_problems=len(self.n))

    def frame(self) -> pd.DataFrame:
        """Return a row per k: pass@k, and where answers or scores allow it majority and best-of-k.

        Each has the ends of its 95 % interval in columns low and high; their names end in spaces,
        so that they differ.
        """
        known = self.table[self.table["correct"].notna()]

        def samples(column: str) -> pd.DataFrame:  # (problems, samples), NaN where there is none
            return known.pivot(index="problem", columns="chain", values=column)

        shown = {"pass@k": self.coverage}
        if not self.table.attrs["no_votes"]:
            answers: Any = samples("answer").astype(object)
            answers = answers.where(answers.notna(), None).to_numpy()
            subsets = 1000 if answers.shape[1] > EXACT else None
            votes: Any = majority_at_k(answers, samples("correct"), self.k, subsets=subsets)
            shown["majority"] = mean_interval(votes[0] if subsets else votes)
        if known["score"].notna().all() and (known["score"] != known["correct"]).any():
            best = best_of_k(samples("correct"), samples("score"), self.k)
            shown["best-of-k"] = mean_interval(best)
        columns: dict[str, Any] = {"k": self.k}
        for i, (name, estimate) in enumerate(shown.items()):
            ends = {"low" + " " * i: estimate.low, "high" + " " * i: estimate.high}
            columns |= {name: estimate.value, **ends}
        return pd.DataFrame(columns)

    def lines(self) -> list[str]:
        """Return how many samples there are, what was left out, and why k ends, as lines."""
        facts, n, k = self.table.attrs, self.n, self.k
        parts = reasons(facts["left_out"])
        if missing := self.table["problem"].nunique() - len(n):
            parts.append(f"{missing:,} problems without a verdict")
        if facts["unreadable"]:
            parts.append(f"{facts['unreadable']:,} of {facts['read']:,} lines or entries")
        left = f"; left out: {'; '.join(parts)}" if parts else ""
        lines = [f"{n.sum():,} samples of {len(n):,} problems{left}", *facts["notes"]]
        if k[-1] < n.max():
            few, most = (n == k[-1]).sum(), n.max()
            lines.append(
                f"k ends at {k[-1]}: {few:,} problems have no more samples, others up to {most}"
            )
        if k[0] > 1:
            lines.append(f"k begins at {k[0]}: the metric does not give smaller k")
        return lines


def read_counts(path: str | Path, columns: Mapping[str, str] | None = None) -> Runs:
    """Return many models' counts per problem as runs, one per model, the least trained first.

    The CSV file (also .gz) has the columns problem, n (samples) and c (correct samples), `model` if
    it holds several models, and optionally level, n_params, train_tokens and train_flops (by
    default 6 n_params train_tokens). columns: maps our names to those of the file, such as {"c":
    "passed"}. Errors: ValueError naming what is missing, or the first line whose counts are
    impossible.

    >>> read_counts("tests/data/counts.csv")[0]
    Run(counts, small, best_of_n: 12 problems, 384 samples; coverage)
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no file {path}")
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error
    table = table.rename(columns={theirs: ours for ours, theirs in (columns or {}).items()})
    if missing := [name for name in NEEDED if name not in table]:
        raise ValueError(
            f"{path} has columns {', '.join(map(str, table.columns))}; needed are "
            f"{', '.join(NEEDED)} (missing: {', '.join(missing)}): name others with columns="
        )
    n, c = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in ("n", "c"))
    good = (n >= 1) & (c >= 0) & (c <= n) & (n % 1 == 0) & (c % 1 == 0)
    if not good.all():
        at = int(np.argmin(good))
        raise ValueError(
            f"{path}, line {at + 2}: n is {table['n'][at]}, c is {table['c'][at]}; give whole "
            "numbers with 1 <= n and 0 <= c <= n"
        )
    if "model" not in table:
        table["model"] = path.name.partition(".")[0]
    if table.duplicated(["model", "problem"]).any():
        again = table[table.duplicated(["model", "problem"])].iloc[0]
        raise ValueError(f"{path}: problem {again['problem']} of {again['model']} is there twice")
    how = {"format": "counts"} | ({"columns": dict(columns)} if columns else {})
    runs = [
        _counted(path, str(name), rows, how) for name, rows in table.groupby("model", sort=False)
    ]
    return Runs(sorted(runs, key=lambda run: (run.card.n_params, run.train_flops)))


def _counted(path: Path, model: str, rows: pd.DataFrame, how: Mapping[str, Any]) -> Run:
    """Return the counts of one model as a run."""

    def known(name: str) -> int:
        value = rows.iloc[0].get(name)
        return 0 if value is None or pd.isna(value) else int(value)

    size, tokens = known("n_params"), known("train_tokens")
    flops = rows.iloc[0].get("train_flops", 6.0 * size * tokens if size and tokens else math.nan)
    n, c = rows["n"].to_numpy(float), rows["c"].to_numpy(float)
    unknown = np.full((len(rows), 1, 1), np.nan)
    derived = Arrays(unknown, unknown, dict.fromkeys(LEDGER, unknown), 0, counts=(n, c))
    levels = rows["level"].astype(str).tolist() if "level" in rows else None
    problems = _problems(rows["problem"].astype(str).tolist(), levels)
    card = ModelCard(model, size, size, float(flops), tokens)
    return _run(path, card, problems, int(n.max()), derived, rows.iloc[:0], how)


def reread(path: Path, model: str, how: Mapping[str, Any]) -> Run:
    """Return a run read again as its manifest records; for counts, the run of a model."""
    options = {name: value for name, value in how.items() if name != "format"}
    if how["format"] != "counts":
        return read_samples(path, how["format"], **options)
    found = {run.card.name: run for run in read_counts(path, **options)}
    if model not in found:
        raise ValueError(f"{path} holds no model {model}")
    return found[model]


def _problems(ids: list[str], levels: list[str] | None = None) -> pd.DataFrame:
    found = pd.DataFrame({"id": ids, "prompt": "", "answer": ""})
    return found.assign(level=levels or "all")


def _run(
    path: Path,
    card: ModelCard,
    problems: pd.DataFrame,
    chains: int,
    derived: Arrays,
    samples: pd.DataFrame,
    how: Mapping[str, Any],
) -> Run:
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return Run(
        path=path,
        manifest={"sessions": [], "import": dict(how), "notes": []},
        task=path.name.partition(".")[0],
        card=card,
        plan=Plan(chains=chains),
        problems=problems,
        samples=samples.reindex(columns=[f.name for f in fields(Sample)]).assign(finish="stop"),
        sha256=sha256(path) if path.is_file() else json_hash(list(map(sha256, files))),
        derived=derived,
    )

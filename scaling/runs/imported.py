"""Import samples of other tools as `Run` and `Runs`, for curves, laws, figures and reports.

Facts that a file lacks stay unknown: without token counts costs are NaN, votes need answers, and a
table of counts gives coverage only. `manifest["import"]` records how a file was read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.curves import Curve
from scaling.provenance import sha256
from scaling.readers import counts, detect_format, reasons, refuse_incomplete
from scaling.readers import read_samples as read_table
from scaling.records import ModelCard, Plan, Sample
from scaling.runs.arrays import LEDGER, Arrays, Layout
from scaling.runs.collection import Runs
from scaling.runs.run import Run
from scaling.store.files import json_hash

NEEDED = ("problem", "n", "c")
FIELDS = [field.name for field in fields(Sample)]
SHOWN = {"coverage": "pass@k", "majority": "majority", "logprob": "best-of-k"}  #: by selector


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
    chosen: dict[str, Any] = {"columns": columns, "metric": metric, "filter": filter}
    chosen["model"] = model
    table, rejected = read_table(path, format, **chosen)
    if (least := table.attrs["least_k"]) > 1:
        raise ValueError(
            f"{path}: this metric gives pass@k from k = {least} on only; choose one that gives "
            "pass@1 with metric="
        )
    how = {"format": format} | {name: value for name, value in chosen.items() if value}
    run = from_table(table, path, model or "", how)
    run.manifest["notes"] += [f"{at}: {why}" for at, why in rejected]
    return run


def from_table(
    table: pd.DataFrame, path: Path, model: str = "", how: Mapping[str, Any] | None = None
) -> Run:
    """Return a table of samples as a run; columns: `readers.samples.COLUMNS`.

    Samples without a verdict are left out, and counted in `n_missing`. Errors: ValueError where
    too much is left out.
    """
    refuse_incomplete(path, table.attrs, counts(table)[0])
    kept, notes = table[table["correct"].notna()], list(table.attrs["notes"])
    samples = kept.assign(step=0, finish="stop").reindex(columns=FIELDS)
    samples["prompt_tokens"] = samples["cached_tokens"] = 0 * samples["completion_tokens"]
    if unscored := int(kept["score"].isna().sum()):
        if unscored < len(kept):
            notes.append(f"{unscored:,} of {len(kept):,} samples have no score: none ranks them")
    elif (kept["score"] != kept["correct"]).any():  # a score that is the verdict ranks nothing
        samples["logprob"] = kept["score"]
    ids, place = list(dict.fromkeys(table["problem"])), kept.groupby("problem").cumcount()
    chains = int(place.max()) + 1
    derived = Layout(ids, chains, 1).arrays(samples.assign(chain=place))
    derived = replace(derived, n_missing=len(table) - len(kept))
    card = ModelCard(model or path.stem, 0, 0, math.nan, 0)
    run = _run(path, card, _problems(ids), chains, derived, samples, how or {})
    run.manifest.update(no_votes=table.attrs["no_votes"], notes=notes)
    return run


class Accuracy:
    """Accuracy against k of another tool's samples: what the verb `import` prints."""

    def __init__(self, file: Path, table: pd.DataFrame) -> None:
        """table: columns `readers.samples.COLUMNS`. ValueError where too much is left out."""
        self.run, self.facts = from_table(table, file), table.attrs
        n, c = self.run.counts
        self.n, self.c = n[n > 0], c[n > 0]  #: (problems,) samples with a verdict, correct ones
        k = 2 ** np.arange(int(np.log2(self.n.min())) + 1)
        self.k = np.union1d(k[k >= self.facts["least_k"]], self.n.min())  #: (budgets,)

    def curve(self, selector: str = "coverage") -> Curve:
        """Return accuracy at each k."""
        return self.run.curve(selector, k=self.k)

    def frame(self) -> pd.DataFrame:
        """Return a row per k: pass@k, and where answers or scores allow it majority and best-of-k.

        Each has the ends of its 95 % interval in columns low and high; their names end in spaces,
        so that they differ.
        """
        columns: dict[str, Any] = {"k": self.k}
        for i, selector in enumerate(name for name in SHOWN if name in self.run.selectors):
            found = self.curve(selector)
            ends = {"low" + " " * i: found.low, "high" + " " * i: found.high}
            columns |= {SHOWN[selector]: found.y, **ends}
        return pd.DataFrame(columns)

    def lines(self) -> list[str]:
        """Return how many samples there are, what was left out, and why k ends, as lines."""
        facts, n, k = self.facts, self.n, self.k
        parts = reasons(facts["left_out"])
        if missing := len(self.run.problems) - len(n):
            parts.append(f"{missing:,} problems without a verdict")
        if facts["unreadable"]:
            parts.append(f"{facts['unreadable']:,} of {facts['read']:,} lines or entries")
        left = f"; left out: {'; '.join(parts)}" if parts else ""
        samples = f"{n.sum():,} samples of {len(n):,} problems{left}"
        lines = [samples, *self.run.manifest["notes"]]
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
    return _run(path, card, problems, int(n.max()), derived, pd.DataFrame(columns=FIELDS), how)


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
        samples=samples,
        sha256=sha256(path) if path.is_file() else json_hash(list(map(sha256, files))),
        derived=derived,
    )

"""Samples that other tools drew, as `Run` and `Runs`: curves, laws and figures work on them too.

What a file does not tell stays unknown: costs in tokens are NaN, votes need answers, and a table of
counts has coverage alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.records import ModelCard, Plan, Sample
from scaling.runs.arrays import LEDGER, Arrays
from scaling.runs.collection import Runs
from scaling.runs.run import IMPORTED, Run

NEEDED = ("problem", "n", "c")
KNOWN = ("model", *NEEDED, "level", "n_params", "train_tokens", "train_flops")


def from_table(table: pd.DataFrame, path: Path, model: str = "") -> Run:
    """Return a table of samples as a run; columns: `readers.samples.COLUMNS`, `level` if any.

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
    row = pd.Index(ids).get_indexer(kept["problem"])
    size = (len(ids), int(place.max(initial=0)) + 1, 1)
    answers, _ = pd.factorize(kept["answer"])
    columns = {
        "correct": kept["correct"].to_numpy(float),
        "answers": np.where(answers < 0, np.nan, answers),
        "completion_tokens": kept["completion_tokens"].to_numpy(float),
        "logprob": kept["score"].to_numpy(float),  # a score that is the verdict ranks nothing
    }
    arrays = {name: np.full(size, np.nan) for name in (*columns, *LEDGER)}
    if np.array_equal(columns["logprob"], columns["correct"]):
        columns["logprob"] = np.full(len(kept), np.nan)
    for name, values in columns.items():
        arrays[name][row, place, 0] = values
    arrays["prompt_tokens"] = np.where(np.isnan(arrays["completion_tokens"]), np.nan, 0.0)
    arrays["cached_tokens"] = arrays["prompt_tokens"]
    derived = Arrays(
        correct=arrays["correct"],
        answers=arrays["answers"],
        ledger={name: arrays[name] for name in LEDGER},
        n_missing=len(table) - len(kept),
    )
    run = _run(path, model or path.stem, _problems(ids), size[1], derived, kept.assign(step=0))
    run.manifest["no_votes"] = table.attrs.get("no_votes", "")
    return run


def read_counts(path: str | Path, columns: Mapping[str, str] | None = None) -> Runs:
    """Return many models' counts per problem as runs, one per model, the least trained first.

    The CSV file (also .gz) has the columns problem, n (samples) and c (correct samples), `model` if
    it holds several models, and optionally level, n_params, train_tokens and train_flops (by
    default 6 n_params train_tokens). columns: maps our names to those of the file, such as {"c":
    "passed"}. Errors: ValueError naming what is missing, or the first line whose counts are
    impossible.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no file {path}")
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error
    table = table.rename(columns={theirs: ours for ours, theirs in (columns or {}).items()})
    if lost := [name for name in NEEDED if name not in table]:
        raise ValueError(
            f"{path} has columns {', '.join(map(str, table.columns))}; needed are "
            f"{', '.join(NEEDED)} (missing: {', '.join(lost)}): name others with columns="
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
    runs = [_counted(path, str(name), rows) for name, rows in table.groupby("model", sort=False)]
    return Runs(sorted(runs, key=lambda run: (run.card.n_params, run.train_flops)))


def _counted(path: Path, model: str, rows: pd.DataFrame) -> Run:
    first = rows.iloc[0]
    size, tokens = (_whole(first.get(name)) for name in ("n_params", "train_tokens"))
    flops = float(first.get("train_flops", 6.0 * size * tokens if size and tokens else math.nan))
    counts = rows["n"].to_numpy(float), rows["c"].to_numpy(float)
    unknown = np.full((len(rows), 1, 1), np.nan)
    derived = Arrays(unknown, unknown, dict.fromkeys(LEDGER, unknown), 0, counts=counts)
    levels = rows["level"].astype(str) if "level" in rows else None
    problems = _problems(rows["problem"].astype(str).tolist(), levels)
    card = ModelCard(model, size, size, flops, tokens)
    most = int(counts[0].max())
    return _run(path, card, problems, most, derived, rows.iloc[:0])


def _whole(value: Any) -> int:
    return 0 if value is None or pd.isna(value) else int(value)


def _problems(ids: list[str], levels: Any = None) -> pd.DataFrame:
    found = pd.DataFrame({"id": ids, "prompt": "", "answer": ""})
    return found.assign(level="all" if levels is None else list(levels))


def _run(
    path: Path,
    model: str | ModelCard,
    problems: pd.DataFrame,
    chains: int,
    derived: Arrays,
    samples: pd.DataFrame,
) -> Run:
    card = ModelCard(model, 0, 0, math.nan, 0) if isinstance(model, str) else model
    return Run(
        path=path,
        manifest={"sessions": []},
        task=path.name.partition(".")[0],
        card=card,
        plan=Plan(chains=chains),
        problems=problems,
        samples=samples.reindex(columns=[f.name for f in fields(Sample)]).assign(finish="stop"),
        sha256=IMPORTED,
        derived=derived,
    )

"""A benchmark's table: accuracy per category with its interval, and what a sample cost. No torch.

Accuracy is that of one sample, the mean over all drawn; tokens and price are means per sample, its
prompt paid for. Thinking tokens are those that were counted; where nobody did (old logs, most
servers), completion tokens by the share of characters in <think>, NaN without the texts. Not here:
more samples than one (`curves`), grading (`benchmarks`).
"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.intervals import mean_interval
from scaling.records import nearest_name
from scaling.runs import Run
from scaling.tasks.chat import split_thinking

UNPRICED = (math.nan, math.nan)


def read_prices(path: Path) -> dict[str, tuple[float, float]]:
    """Return {model: (price of a million input tokens, of a million output tokens)} of a CSV file.

    Columns model, input, output, in any currency. Errors: ValueError naming the line.
    """
    prices: dict[str, tuple[float, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            for row in rows:
                prices[row["model"]] = float(row["input"]), float(row["output"])
                if not min(prices[row["model"]]) >= 0:
                    raise ValueError("a price is negative")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        line = f"line {rows.line_num}: {type(error).__name__} {error}"
        raise ValueError(f"{path}, {line}; give columns model, input, output") from error
    return prices


def leaderboard(
    pools: Iterable[Run], prices: Mapping[str, tuple[float, float]] | None = None
) -> pd.DataFrame:
    """Return a row per model and category, best first within a category; price NaN where unknown.

    Problems without a sample are left out, and counted in `n_missing`.
    """
    rows, pools = [], list(pools)
    models = dict.fromkeys(pool.card.name for pool in pools)
    if prices and (lost := [model for model in models if model not in prices]):
        near = [name for model in lost if (name := nearest_name(model, prices))]
        hint = f"; the table has {', '.join(dict.fromkeys(near))}" if near else ""
        warnings.warn(
            f"{len(lost)} of {len(models)} models have no price: {', '.join(lost)}{hint}",
            stacklevel=2,
        )
    for pool in pools:
        model = pool.card.name
        pool = pool.at_prices((prices or {}).get(model, UNPRICED))
        one = np.array([1])
        right = pool.values("coverage", one)
        costs = {unit: pool.cost(unit, one, shared_prompt=False) for unit in ("tokens", "price")}
        thought = thinking_tokens(pool)
        for category, every in pool.levels.items():
            at = pool.rows(category)
            n_problems = int(pool.drawn[at].sum())
            found = mean_interval(right[at])
            rows.append(
                {
                    "task": pool.task,
                    "category": category,
                    "model": model,
                    "accuracy": found.value[0],
                    "low": found.low[0],
                    "high": found.high[0],
                    "tokens": costs["tokens"][at].mean(),
                    "thinking_tokens": thought[at].mean(),
                    "price": costs["price"][at].mean(),
                    "n_problems": n_problems,
                    "n_missing": len(every) - n_problems,
                }
            )
    table = pd.DataFrame(rows)
    return table.sort_values(
        ["task", "category", "accuracy"], ascending=[True, True, False], ignore_index=True
    )


def thinking_tokens(pool: Run) -> np.ndarray:
    """Return the mean tokens of thinking per sample and problem, (problems,)."""
    frame = pool.samples
    tokens = frame["thinking_tokens"].astype(float)
    if "text" in frame:
        shares = [len(split_thinking(text)[0]) / max(len(text), 1) for text in frame["text"]]
        tokens = tokens.fillna(frame["completion_tokens"] * shares)
    tokens = tokens.groupby(frame["problem"]).mean()
    return tokens.reindex(pool.problems["id"]).to_numpy()

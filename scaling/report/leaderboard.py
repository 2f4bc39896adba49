"""A leaderboard: accuracy per category with its interval, and the cost of a sample. No torch.

Accuracy is the mean over all samples; tokens and price are means per sample, prompt included.
Thinking tokens that were not counted (old logs, most servers) are completion tokens times the share
of characters in <think>; NaN without the texts.
"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

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
    runs: Iterable[Run], prices: Mapping[str, tuple[float, float]] | None = None
) -> pd.DataFrame:
    """Return a row per model and category, best first within a category; unknown prices are NaN.

    Problems without a sample are left out, and counted in `n_missing`.
    """
    runs, prices, rows, one = list(runs), prices or {}, [], np.array([1])
    models = dict.fromkeys(run.card.name for run in runs)
    if prices and (unpriced := [model for model in models if model not in prices]):
        near = [name for model in unpriced if (name := nearest_name(model, prices))]
        hint = f"; the table has {', '.join(dict.fromkeys(near))}" if near else ""
        warnings.warn(
            f"{len(unpriced)} of {len(models)} models have no price: {', '.join(unpriced)}{hint}",
            stacklevel=2,
        )
    for run in runs:
        priced = run.at_prices(prices.get(run.card.name, UNPRICED))
        tokens, price = (priced.cost(u, one, shared_prompt=False) for u in ("tokens", "price"))
        thought = thinking_tokens(run)
        for category in run.levels:
            at, found = run.rows(category), run.curve(level=category, k=one)
            row = {"task": run.task, "category": category, "model": run.card.name}
            row |= {"accuracy": found.y[0], "low": found.low[0], "high": found.high[0]}
            row |= {"tokens": tokens[at].mean(), "thinking_tokens": thought[at].mean()}
            row |= {"price": price[at].mean()}
            rows.append(row | {"n_problems": found.n_problems, "n_missing": found.n_missing})
    order = ["task", "category", "accuracy"]
    return pd.DataFrame(rows).sort_values(order, ascending=[True, True, False], ignore_index=True)


def thinking_tokens(run: Run) -> np.ndarray:
    """Return the mean tokens of thinking per sample and problem, (problems,)."""
    frame = run.samples
    tokens = frame["thinking_tokens"].astype(float)
    if "text" in frame:
        shares = [len(split_thinking(text)[0]) / max(len(text), 1) for text in frame["text"]]
        tokens = tokens.fillna(frame["completion_tokens"] * shares)
    tokens = tokens.groupby(frame["problem"]).mean()
    return tokens.reindex(run.problems["id"]).to_numpy()

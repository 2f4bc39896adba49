"""The log of training by reward: what a model does at each checkpoint, by level of difficulty.

A checkpoint is sampled as a run on test problems. Not here: training (`ladder`), figures
(`figures.reward`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from scaling.runs.run import Run

Habits = Callable[[str, str], Mapping[str, int]]  #: (problem id, text) -> counts of what it does
COLUMNS = ["samples", "reward_flops", "level", "accuracy", "low", "high", "tokens", "cut",
           "returns", "repeats", "n_problems", "n_samples"]  # fmt: skip


def log_rows(run: Run, samples: int, reward_flops: float, habits: Habits) -> pd.DataFrame:
    """Return one row per level of a best-of-N run of a checkpoint, and "all": see `COLUMNS`.

    samples, reward_flops: of training by reward before this checkpoint. accuracy is pass@1 with its
    95 % interval over problems, tokens the mean length of a sample, cut the share of samples that
    reached the longest length, returns the share of samples with a return, and repeats the share of
    entries into dead ends that were entered before; NaN where no dead end was entered. The run
    needs its texts.
    """
    texts, level_of = run.samples, run.problems.set_index("id")["level"]
    pairs = zip(texts["problem"], texts["text"], strict=True)
    found = pd.DataFrame([habits(*pair) for pair in pairs])
    found["level"] = texts["problem"].map(level_of).to_numpy()
    found["tokens"] = texts["completion_tokens"].to_numpy()
    found["cut"] = (texts["finish"] == "length").to_numpy()
    rows = []
    for level in run.levels:
        part = found[found["level"] == level] if level in run.level_names else found
        curve, entries = run.curve("coverage", level=level), part["dead_ends"].sum()
        rows.append((
            samples, reward_flops, level, curve.y[0], curve.low[0], curve.high[0],
            part["tokens"].mean(), part["cut"].mean(), (part["returns"] > 0).mean(),
            part["repeats"].sum() / entries if entries else np.nan, curve.n_problems, len(part),
        ))  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def paired_traces(before: Run, after: Run, count: int) -> pd.DataFrame:
    """Return the first samples of `count` problems spread over the levels, before and after.

    Columns: level, text and correct before, text and correct after. Both runs need their texts.
    """
    at = np.linspace(0, len(before.problems) - 1, count).round().astype(int)
    shown = before.problems.iloc[at][["id", "level"]]
    for name, run in (("before", before), ("after", after)):
        firsts = run.samples[run.samples["chain"] == 0].set_index("problem").loc[shown["id"]]
        for column in ("text", "correct"):
            shown[f"{column}_{name}"] = firsts[column].to_numpy()
    return shown

"""The samples of a run as arrays over (problem, chain, step)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scaling.runs.costs import TOKENS, Scored, as_scored, passes_of, to_arrays
from scaling.store.scores import read_scores

if TYPE_CHECKING:
    from scaling.runs.run import Run

LEDGER = (*TOKENS, "seconds", "logprob")


@dataclass(frozen=True, eq=False)
class Arrays:
    """The samples of a run as arrays; NaN where a chain rested, was not drawn, or failed."""

    correct: np.ndarray  #: (problems, chains, steps) 1, 0, NaN
    answers: np.ndarray  #: (problems, chains, steps) answer ids, NaN = unanswered or absent
    ledger: dict[str, np.ndarray]  #: (problems, chains, steps) per column of `LEDGER`
    n_missing: int  #: samples that failed and were left out
    passes: Scored | None = None  #: a search's own scorer passes, part of every cost
    scores: dict[str, Scored] = field(default_factory=dict)  #: of scorers that came later
    counts: tuple[np.ndarray, np.ndarray] | None = None  #: (n, c) per problem, where all is known


def arrays_of(run: Run) -> Arrays:
    """Return the arrays of a run's samples, read-only.

    Errors: ValueError where every sample of every problem failed.
    """
    if len(run.refused) == len(run.problems):
        reason = next(iter(run.refused.values()))
        raise ValueError(f"{run.path.name}: every sample of every problem failed ({reason})")
    frame, passes = passes_of(run)
    failed = frame["finish"].astype(str).str.startswith("error").to_numpy()
    frame = frame[~failed]
    frame = frame.assign(answer=pd.factorize(frame["answer"])[0])
    correct, answers, *columns = to_arrays(run, frame, ("correct", "answer", *LEDGER))
    answers = np.where(answers < 0, np.nan, answers)
    for array in (correct, answers, *columns):
        array.flags.writeable = False  # a run is read many times
    return Arrays(
        correct=correct,
        answers=answers,
        ledger=dict(zip(LEDGER, columns, strict=True)),
        n_missing=int(failed.sum()),
        passes=passes,
        scores={scores.name: as_scored(run, scores) for scores in read_scores(run)},
    )


def refused_problems(samples: pd.DataFrame) -> dict[str, str]:
    """Return {problem: reason} of the problems all of whose samples failed."""
    failed = samples[samples["finish"].astype(str).str.startswith("error")]
    good = set(samples["problem"].drop(failed.index))
    reasons = dict(zip(failed["problem"], failed["finish"], strict=True))
    return {name: why for name, why in reasons.items() if name not in good}

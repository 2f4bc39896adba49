"""The samples of a run as arrays over (problem, chain, step). Nothing is estimated or priced here.

A search logs its scorer's passes among its own rows; a scorer that is run later writes a file into
the run's folder. Both become `Scored`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scaling.store.scores import KEYS, Scores
from scaling.store.scores import LEDGER as SCORER_LEDGER

TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")
LEDGER = (*TOKENS, "seconds", "logprob")
Cluster = Mapping[str, object] | ArrayLike  #: family by problem id, or one label per problem


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores that one scorer gave; arrays are (problems, chains, steps), NaN where absent."""

    reductions: dict[str, np.ndarray]  #: reduction over steps (min, last, product) -> score
    prompt: np.ndarray  #: tokens in the context of a pass
    cached: np.ndarray  #: of these, computed by an earlier pass
    shape: Mapping[str, Any] | None  #: of the scorer's model; None: passes cost nothing


@dataclass(frozen=True, eq=False)
class Arrays:
    """The samples of a run; NaN where a chain had stopped, was not drawn, or failed."""

    correct: np.ndarray  #: (problems, chains, steps) 1, 0, NaN
    answers: np.ndarray  #: (problems, chains, steps) answer ids, NaN = unanswered or absent
    ledger: dict[str, np.ndarray]  #: (problems, chains, steps) per column of `LEDGER`
    n_missing: int  #: samples that failed and were left out
    passes: Scored | None = None  #: a search's own scorer passes, part of every cost
    scores: dict[str, Scored] = field(default_factory=dict)  #: of scorers that were run later
    counts: tuple[np.ndarray, np.ndarray] | None = None  #: (n, c) per problem, if nothing else is

    @property
    def ranks(self) -> dict[str, np.ndarray]:
        """Return the numbers by which samples can be ranked or weighted, by name."""
        found = {}
        if np.isfinite(self.ledger["logprob"]).any():  # some servers do not report it
            found["logprob"] = self.ledger["logprob"]
        for name, scored in self.scores.items():
            found |= {f"{name}:{way}": values for way, values in scored.reductions.items()}
        return found


class Layout:
    """The positions (problem, chain, step) of a run's samples in arrays."""

    def __init__(self, problems: Sequence[str], chains: int, steps: int) -> None:
        self.index, self.size = pd.Index(problems), (len(problems), chains, steps)

    def fill(self, frame: pd.DataFrame, columns: Iterable[str]) -> list[np.ndarray]:
        """Return columns of a table as arrays, NaN where there is no row."""
        row = self.index.get_indexer(pd.Index(frame["problem"].astype(object)))
        at = row, frame["chain"].to_numpy(), frame["step"].to_numpy()
        arrays = []
        for name in columns:
            arrays.append(np.full(self.size, np.nan))
            arrays[-1][at] = frame[name].to_numpy(float)
            arrays[-1].flags.writeable = False  # a run is read many times
        return arrays

    def scored(self, scores: Scores) -> Scored:
        """Return the scores of a scorer as arrays."""
        *reductions, prompt, cached = self.fill(scores.frame, (*scores.reductions, *SCORER_LEDGER))
        return Scored(
            dict(zip(scores.reductions, reductions, strict=True)), prompt, cached, scores.shape
        )

    def passes(self, rows: pd.DataFrame, shape: dict[str, Any] | None) -> Scored:
        """Return the scorer passes that a search logged, numbered after its own steps."""
        frame = rows.assign(step=rows["step"] - self.size[2])
        return self.scored(Scores("", shape, frame[[*KEYS, "logprob", *SCORER_LEDGER]]))

    def arrays(self, samples: pd.DataFrame) -> Arrays:
        """Return samples as arrays; failed ones are left out and counted in `n_missing`."""
        failed = has_failed(samples)
        frame = samples[~failed]
        frame = frame.assign(answer=pd.factorize(frame["answer"])[0])
        frame["answer"] = frame["answer"].where(frame["answer"] >= 0)
        correct, answers, *columns = self.fill(frame, ("correct", "answer", *LEDGER))
        ledger = dict(zip(LEDGER, columns, strict=True))
        return Arrays(correct, answers, ledger, n_missing=int(failed.sum()))


def has_failed(samples: pd.DataFrame) -> np.ndarray:
    """Return a mask of the rows of a log that are failed samples, (rows,)."""
    return samples["finish"].astype(str).str.startswith("error").to_numpy()


def refused_problems(samples: pd.DataFrame) -> dict[str, str]:
    """Return {problem: reason} for the problems whose samples all failed."""
    failed = samples[has_failed(samples)]
    good = set(samples["problem"].drop(failed.index))
    reasons = dict(zip(failed["problem"], failed["finish"], strict=True))
    return {name: why for name, why in reasons.items() if name not in good}


def family_labels(cluster: Cluster, problems: pd.Series) -> np.ndarray:
    """Return the family of each problem; ValueError if some have none."""
    if isinstance(cluster, Mapping):
        if missing := [name for name in problems if name not in cluster]:
            raise ValueError(f"cluster holds no family of {len(missing)} problems: {missing[0]!r}")
        cluster = [str(cluster[name]) for name in problems]
    labels = np.asarray(cluster)
    if labels.shape != (len(problems),):
        raise ValueError(f"cluster {labels.shape}: give a label for {len(problems)} problems")
    return labels

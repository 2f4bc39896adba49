"""Check a run: judge its texts again, and draw some of its samples again.

The hashes of a run do not show whether today's verifier agrees with the logged verdicts, nor
whether model, engine and keys still give the same samples. On a CPU in float32 a sample that
differs is a change that a result may rest on; elsewhere it is expected, and `tests/trust/drift.py`
measures it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from scaling.benchmarks import READERS, load_benchmark, own_prompts
from scaling.methods.chains import shared_prefix
from scaling.models import CARD, find_models, load_lm, read_card
from scaling.records import Problem
from scaling.runs import Run, load_run
from scaling.tasks import get_task
from scaling.tasks.chat import ChatTask

KEYS = ["problem", "chain", "step"]


def problems_of(run: Run) -> list[Problem]:
    """Return the problems of a run, in the order in which they were drawn."""
    rows = run.problems.to_dict("records")
    return [Problem(**{str(name): value for name, value in row.items()}) for row in rows]


def task_of(run: Run, file: Path | None = None) -> Any:
    """Return the task that judged a run; file: the file of its benchmark."""
    if run.task not in READERS:
        return get_task(run.task, list(dict.fromkeys(run.problems["level"])))
    prompt = Path(str(notes_of(run).get("prompt", ""))).stem
    task = load_benchmark(run.task, file, prompt if prompt in own_prompts() else "bare")
    if missing := [name for name in run.problems["id"] if name not in task.rows]:
        raise ValueError(
            f"{file} lacks {len(missing)} problems of the run, such as {missing[0]!r}; give the "
            "file that was sampled"
        )
    return task


def verdicts(
    run: Run, share: float = 1.0, seed: int = 0, file: Path | None = None
) -> tuple[int, pd.DataFrame]:
    """Return (number of texts judged again, rows whose verdict changed) for a share of the texts.

    Failed samples were never judged and are left out. file: as in `task_of`. Errors: ValueError for
    a share outside (0, 1], and for a benchmark without its file.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; give more than 0 and at most 1")
    task, by_id = task_of(run, file), {problem.id: problem for problem in problems_of(run)}
    notes = notes_of(run)
    if (opened := notes.get("opens_thinking")) is not None:
        task = ChatTask(task, SimpleNamespace(opens_thinking=opened, chat=notes.get("chat")))
    frame = _judged(run, load_run(run.path, text=True).samples)
    frame = frame.sample(frac=share, random_state=seed)
    found = [task.verify(by_id[str(row.problem)], row.text) for row in frame.itertuples()]
    frame = frame.assign(
        answer_now=pd.Series([v.answer for v in found], frame.index, dtype=object),
        correct_now=pd.Series([v.correct for v in found], frame.index, dtype=object),
    )
    same = frame["correct"] == frame["correct_now"]
    same &= frame["answer"].fillna("").eq(frame["answer_now"].fillna(""))
    same &= frame["answer"].isna() == frame["answer_now"].isna()
    return len(frame), frame[~same].sort_index()


def _judged(run: Run, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose verdict belongs to their own text.

    A row of a search holds the answer of the search so far, which is its own where it changed. A
    chain of thought is judged as a whole, at its last step.
    """
    frame = frame[~frame["finish"].str.startswith("error")]
    if run.method.is_search:
        frame = frame[frame["finish"] != "scored"]
        answers = frame["answer"].fillna("")
        before = answers.groupby([frame["problem"], frame["chain"]]).shift(fill_value="")
        return frame[answers != before]
    return frame[frame["step"] == run.plan.steps - 1] if run.method.one_trace else frame


@dataclass(frozen=True)
class Agreement:
    """How far the samples of two runs of the same problems agree."""

    samples: int  #: rows that both runs hold
    identical: float  #: share of them with the same text and the same end
    first_token: float  #: median place of the first token that differs, from 0; NaN if none does


def compare(first: Run, second: Run, encode: Callable[[str], Sequence[int]]) -> Agreement:
    """Return how far two runs agree, in text and (with the texts encoded again) in tokens.

    Errors: ValueError where the runs share no problem.
    """
    frames = [load_run(run.path, text=True).samples for run in (first, second)]
    both = frames[0].merge(frames[1], on=KEYS, suffixes=("", "_other"))
    if both.empty:
        raise ValueError(f"{first.path} and {second.path} share no sample; give runs of one plan")
    same = (both["text"] == both["text_other"]) & (both["finish"] == both["finish_other"])
    texts = both.loc[~same, ["text", "text_other"]].itertuples(index=False)
    places = [shared_prefix(encode(a), encode(b)) for a, b in texts]
    median = float(np.median(places)) if places else float("nan")
    return Agreement(len(both), float(same.mean()), median)


def redraw(
    run: Run, lm: Any, count: int = 2, seed: int = 0, file: Path | None = None, **engine: Any
) -> Agreement:
    """Return how far the samples of `count` problems, drawn again, agree with the logged ones.

    file: as in `task_of`. engine: options of `sample_run`.
    """
    from scaling.sampling import sample_run

    problems = problems_of(run)
    chosen = Random(seed).sample(problems, min(count, len(problems)))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        task = task_of(run, file)
        again = sample_run(lm, task, chosen, run.plan, place, progress=False, **engine)
        return compare(run, again, lm.encode)


def notes_of(run: Run) -> dict[str, Any]:
    """Return the last session's notes on the model, prompt and engine of a run."""
    return (run.manifest["sessions"] or [{"extra": {}}])[-1]["extra"]


def logged_model(run: Run) -> tuple[str, dict[str, Any]]:
    """Return (model's folder, options of `load_lm` by which it was prompted) from the log."""
    notes = notes_of(run)
    chat = notes.get("chat")
    how = {"chat": bool(chat)} | (chat or {}) if "chat" in notes else {}
    return notes.get("model", ""), how


def model_of(run: Run, root: Path) -> Path:
    """Return the folder of the model that drew a run, by the hash of its weights.

    It is looked for under `root`, then where the log says. Errors: ValueError where it is in
    neither place.
    """
    with suppress(ValueError):  # no model at all
        for folder in find_models(root):
            if read_card(folder / CARD).identity == run.card.identity:
                return folder
    where, chat = logged_model(run)
    if where and Path(where).exists():
        card = load_lm(where, weights=False, **chat).card
        if card.identity == run.card.identity:
            return Path(where)
    places = f"under {root} or at {where}" if where else f"under {root}"
    raise ValueError(
        f"no model {places} has the weights {run.card.identity} of {run.card.name}; name "
        "another folder with models=, or check verdicts alone with redraw=0"
    )

"""Whether a run still says what it said: its texts judged again, some of its samples drawn again.

What the hashes of a run cannot tell: that the verifier of today agrees with that of the day, and
that model, engine and keys still give the same samples. Where samples of a CPU in float32 differ,
something changed that a result may rest on; elsewhere that is expected, and
`tests/trust/drift.py` measures it.
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

from scaling.benchmarks import load_benchmark, own_prompts
from scaling.benchmarks.readers import READERS
from scaling.fits import fit
from scaling.intervals import difference
from scaling.models import CARD, find_models, load_lm, read_card
from scaling.records import Problem
from scaling.runs import SEARCHES, Run, load_run
from scaling.tasks import get_task
from scaling.tasks.chat import ChatTask

KEYS = ["problem", "chain", "step"]
NAN = float("nan")
UNKNOWN = (NAN, NAN, NAN)  #: a change that cannot be estimated
LAW, EXPONENT = "exp_power", "b"  #: coverage of k samples is exp(a k^b)


def problems_of(run: Run) -> list[Problem]:
    """Return the problems of a run, in the order asked."""
    rows = run.problems.to_dict("records")
    return [Problem(**{str(name): value for name, value in row.items()}) for row in rows]


def task_of(run: Run, file: Path | None = None) -> Any:
    """Return the task a run was judged by; file: of its benchmark, whose rows tell the grading."""
    if run.task not in READERS:
        return get_task(run.task, list(dict.fromkeys(run.problems["level"])))
    prompt = Path(str(notes_of(run).get("prompt", ""))).stem
    task = load_benchmark(run.task, file, prompt if prompt in own_prompts() else "bare")
    if lost := [name for name in run.problems["id"] if name not in task.rows]:
        raise ValueError(
            f"{file} lacks {len(lost)} problems of the run, such as {lost[0]!r}; give the file "
            "that was sampled"
        )
    return task


def verdicts(
    run: Run, share: float = 1.0, seed: int = 0, file: Path | None = None
) -> tuple[int, pd.DataFrame]:
    """Return (texts judged again, rows whose verdict is another now): a share of the run's texts.

    Samples that failed were never judged and are left out. file: as of `task_of`. Errors:
    ValueError for a share outside (0, 1], and for a benchmark without its file.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; give more than 0 and at most 1")
    task, by_id = task_of(run, file), {problem.id: problem for problem in problems_of(run)}
    notes = notes_of(run)
    if (opened := notes.get("opens_thinking")) is not None:
        task = ChatTask(task, SimpleNamespace(opens_thinking=opened, chat=notes.get("chat")))
    frame = load_run(run.path, text=True).samples
    frame = _judged(run, frame).sample(frac=share, random_state=seed)
    found = [task.verify(by_id[str(row.problem)], row.text) for row in frame.itertuples()]
    now = pd.DataFrame(
        {"answer_now": [v.answer for v in found], "correct_now": [v.correct for v in found]},
        index=frame.index,
        dtype=object,
    )
    frame = frame.join(now)
    answers = frame["answer"].where(frame["answer"].notna(), None)
    same = (frame["correct"] == frame["correct_now"]) & (
        (answers == frame["answer_now"]) | (answers.isna() & frame["answer_now"].isna())
    )
    return len(frame), frame[~same].sort_index()


def _judged(run: Run, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose verdict is that of their own text.

    A row of a search holds the answer of the search so far: its own where that changed. A trace of
    thinking is judged whole, at its last step.
    """
    frame = frame[~frame["finish"].str.startswith("error")]
    if run.plan.method in SEARCHES:
        frame = frame[frame["finish"] != "scored"]
        told = frame["answer"].fillna("")
        before = told.groupby([frame["problem"], frame["chain"]]).shift(fill_value="")
        return frame[told != before]
    whole = frame["step"] == run.plan.steps - 1
    return frame[whole] if run.plan.method == "thinking" else frame


def redraw(
    run: Run, lm: Any, count: int = 2, seed: int = 0, file: Path | None = None,
    **engine_options: Any,
) -> Agreement:  # fmt: skip
    """Return how far the samples of `count` problems, drawn again, are those that were logged.

    file: as of `task_of`.
    """
    from scaling.study import sample_run

    problems = problems_of(run)
    chosen = Random(seed).sample(problems, min(count, len(problems)))
    with tempfile.TemporaryDirectory() as folder:
        again = sample_run(
            lm, task_of(run, file), chosen, run.plan, Path(folder), progress=False,
            **engine_options,
        )  # fmt: skip
        return compare(run, again, lm.encode)


def notes_of(run: Run) -> dict[str, Any]:
    """Return what the last session of a run noted of its model, prompt and engine."""
    return (run.manifest["sessions"] or [{"extra": {}}])[-1]["extra"]


def told_model(run: Run) -> tuple[str, dict[str, Any]]:
    """Return (where the model lay, how it was asked: options of `load_lm`), as the log tells."""
    told = notes_of(run)
    chat = told.get("chat")
    how = {"chat": bool(chat)} | (chat or {}) if "chat" in told else {}
    return told.get("model", ""), how


def model_of(run: Run, root: Path) -> Path:
    """Return the folder of the model that drew a run, by the hash of its weights.

    It is looked for under `root`, then where the log says that it lay. Errors: ValueError where it
    is in neither place.
    """
    with suppress(ValueError):  # no model at all
        for folder in find_models(root):
            if read_card(folder / CARD).identity == run.card.identity:
                return folder
    where, chat = told_model(run)
    if where and Path(where).exists():
        card = load_lm(where, weights=False, **chat).card
        if card.identity == run.card.identity:
            return Path(where)
    places = f"under {root} or at {where}" if where else f"under {root}"
    raise ValueError(
        f"no model {places} has the weights {run.card.identity} of {run.card.name}; name "
        "another folder with --models, or check verdicts alone with --redraw 0"
    )


@dataclass(frozen=True)
class Agreement:
    """How far two runs of the same problems agree; changes are the second's minus the first's.

    A change is (estimate, low, high), 95 % over problems, paired; NaN where it cannot be estimated.
    """

    samples: int  #: rows that both runs hold
    identical: float  #: share of them with the same text and the same end
    first_token: float  #: median place of the first token that differs, from 0; NaN if none does
    accuracy: tuple[float, float, float]  #: change of the accuracy of one sample
    exponent: tuple[float, float, float]  #: change of the exponent of coverage


def compare(first: Run, second: Run, encode: Callable[[str], Sequence[int]]) -> Agreement:
    """Return how far two runs agree. Tokens are those of the texts, encoded again.

    Errors: ValueError where the runs share no problem.
    """
    frames = [load_run(run.path, text=True).samples for run in (first, second)]
    both = frames[0].merge(frames[1], on=KEYS, suffixes=("", "_other"))
    if both.empty:
        raise ValueError(f"{first.path} and {second.path} share no sample; give runs of one plan")
    same = (both["text"] == both["text_other"]) & (both["finish"] == both["finish_other"])
    texts = both.loc[~same, ["text", "text_other"]].itertuples(index=False)
    places = [first_difference(encode(a), encode(b)) for a, b in texts]
    means = both.groupby("problem")[["correct", "correct_other"]].mean()
    pairs = means["correct_other"].to_numpy(float), means["correct"].to_numpy(float)
    accuracy = UNKNOWN
    if same.all():  # nothing changed, whatever other problems would show
        accuracy = 0.0, 0.0, 0.0
    elif len(means) > 1:
        change = difference(*pairs)
        accuracy = float(change.value), float(change.low), float(change.high)
    return Agreement(
        samples=len(both),
        identical=float(same.mean()),
        first_token=float(np.median(places)) if places else NAN,
        accuracy=accuracy,
        exponent=_exponent_change(first, second),
    )


def first_difference(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the first place where two sequences differ; the shorter's length if it is a start."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))


def _exponent_change(first: Run, second: Run) -> tuple[float, float, float]:
    """Return the change of the fitted exponent with its paired interval.

    Replicates of both fits resample the same problems. NaN for other methods, other problems, and
    where a law cannot be fitted, as to a model that is never right.
    """
    ids = [list(run.problems["id"]) for run in (first, second)]
    if ids[0] != ids[1] or {first.plan.method, second.plan.method} != {"best_of_n"}:
        return UNKNOWN
    try:
        fits = [fit(LAW, run.curve(replicates=400)) for run in (first, second)]
    except ValueError:
        return UNKNOWN
    column = list(fits[0].params).index(EXPONENT)
    change = fits[1].replicates[:, column] - fits[0].replicates[:, column]
    change = change[np.isfinite(change)]
    low, high = np.quantile(change, [0.025, 0.975]) if len(change) >= 20 else UNKNOWN[:2]
    return fits[1].params[EXPONENT] - fits[0].params[EXPONENT], float(low), float(high)

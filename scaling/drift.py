"""How far samples hold where batch, number format, engine or threads change: one pool, drawn again.

`drift` draws a plan under each of `SETTINGS` and sets it beside the first. `compare` sets any two
runs of the same problems side by side, so that `verify` uses it too: a run of another machine, or
of another version of a package. Not here: which of the two is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.fits import fit
from scaling.intervals import difference
from scaling.records import Plan, Problem, look_up
from scaling.runs import Run, load_run

KEYS = ["problem", "chain", "step"]
NAN = float("nan")
UNKNOWN = (NAN, NAN, NAN)  #: a change that cannot be estimated
LAW, EXPONENT = "exp_power", "b"  #: coverage of k samples is exp(a k^b)
SETTINGS: dict[str, dict[str, Any]] = {  #: name -> options of `engine.Engine`, and threads
    "base": {"device": "cpu"},
    "rows-3": {"device": "cpu", "max_rows": 3},
    "rows-1000": {"device": "cpu", "max_rows": 1000},
    "threads-3": {"device": "cpu", "threads": 3},
    "torch": {"device": "cpu", "native": False},
    "reference": {"device": "cpu", "reference": True},
    "float64": {"device": "cpu", "dtype": "float64"},
    "bfloat16": {"device": "cpu", "dtype": "bfloat16"},
    "float16": {"device": "cpu", "dtype": "float16"},
    "cuda": {"device": "cuda", "dtype": "float32"},
    "cuda-bfloat16": {"device": "cuda", "dtype": "bfloat16"},
}


@dataclass(frozen=True)
class Agreement:
    """Two runs of the same problems beside each other; changes are the second's minus the first's.

    A change is (estimate, low, high), 95 % over problems, paired; NaN where it cannot be estimated.
    """

    samples: int  #: rows that both runs hold
    identical: float  #: share of them with the same text and the same end
    first_token: float  #: median place of the first token that differs, from 0; NaN if none does
    accuracy: tuple[float, float, float]  #: change of the accuracy of one sample
    exponent: tuple[float, float, float]  #: change of the exponent of coverage


def compare(first: Run, second: Run, encode: Callable[[str], Sequence[int]]) -> Agreement:
    """Return how far two runs agree. Tokens are those of the texts, encoded anew.

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


def drift(
    model: Path,
    task: Any,
    problems: Sequence[Problem],
    plan: Plan,
    root: Path,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return one row per setting: how far its samples agree with those of the first one named.

    Each setting is a run under `root`, resumed like any other. By default all settings that this
    machine has.
    """
    from scaling.models import load_lm
    from scaling.study import sample_run

    runs: dict[str, Run] = {}
    for name in names or available():
        options = dict(look_up(SETTINGS, name, "setting"))
        lm = load_lm(model)  # anew: an engine casts the weights in place
        with threads(options.pop("threads", None)):
            runs[name] = sample_run(lm, task, problems, plan, root / name, **options)
    base = next(iter(runs.values()))
    return pd.DataFrame([row(name, compare(base, run, lm.encode)) for name, run in runs.items()])


def row(name: str, found: Agreement) -> dict[str, Any]:
    """Return a comparison as a row to print."""
    shown = {"setting": name, "samples": found.samples, "identical": f"{found.identical:.4%}"}
    shown["first_token"] = "" if np.isnan(found.first_token) else f"{found.first_token:g}"
    for what, (value, low, high) in (("accuracy", found.accuracy), ("exponent", found.exponent)):
        shown[f"change of {what}"] = f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
    return shown


def available() -> list[str]:
    """Return the settings that this machine can draw under."""
    import torch

    there = {"cpu", "cuda"} if torch.cuda.is_available() else {"cpu"}
    return [name for name, options in SETTINGS.items() if options["device"] in there]


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Give torch, and the engine with it, so many threads for a while; None leaves them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

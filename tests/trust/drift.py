"""How much samples change when batch size, number format, engine or threads change.

`python -m tests.trust.drift [SETTING ...]` draws the same samples under each setting and compares
them with those of the first. `python -m tests.trust.tables drift` writes the table into
docs/trust.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.fits import fit
from scaling.intervals import difference
from scaling.records import Plan, Problem, look_up
from scaling.runs import Run
from scaling.verify import KEYS, compare

Change = tuple[float, float, float]  #: estimate, low, high: 95 % over problems, paired
UNKNOWN: Change = (float("nan"),) * 3

MODEL = Path("data/models/ladder/0.1M/1e13")
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
    from scaling.sampling import sample_run

    runs: dict[str, Run] = {}
    for name in names or available():
        options = dict(look_up(SETTINGS, name, "setting"))
        lm = load_lm(model)  # loaded again: an engine casts the weights in place
        with threads(options.pop("threads", None)):
            runs[name] = sample_run(lm, task, problems, plan, root / name, **options)
    base = next(iter(runs.values()))
    return pd.DataFrame([row(name, base, run, lm.encode) for name, run in runs.items()])


def row(name: str, base: Run, run: Run, encode: Callable[[str], Sequence[int]]) -> dict[str, Any]:
    """Return a comparison as a row to print."""
    found = compare(base, run, encode)
    shown = {"setting": name, "samples": found.samples, "identical": f"{found.identical:.4%}"}
    shown["first_token"] = "" if np.isnan(found.first_token) else f"{found.first_token:g}"
    same = found.identical == 1  # nothing changed, whatever other problems would show
    changes = {
        "accuracy": (0.0, 0.0, 0.0) if same else accuracy_change(base, run),
        "exponent": exponent_change(base, run),
    }
    for what, (value, low, high) in changes.items():
        shown[f"change of {what}"] = f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
    return shown


def accuracy_change(first: Run, second: Run) -> Change:
    """Return the change of the accuracy of one sample, over the samples that both runs hold."""
    both = first.samples.merge(second.samples, on=KEYS, suffixes=("", "_other"))
    means = both.groupby("problem")[["correct", "correct_other"]].mean()
    if len(means) < 2:
        return UNKNOWN
    pairs = means["correct_other"].to_numpy(float), means["correct"].to_numpy(float)
    change = difference(*pairs)
    return float(change.value), float(change.low), float(change.high)


def exponent_change(first: Run, second: Run) -> Change:
    """Return the change of the exponent b of coverage, exp(a k^b), with its paired interval.

    Replicates of both fits resample the same problems. NaN for other methods, other problems, and
    where the law cannot be fitted, as to a model that is never correct.
    """
    ids = [list(run.problems["id"]) for run in (first, second)]
    if ids[0] != ids[1] or {first.plan.method, second.plan.method} != {"best_of_n"}:
        return UNKNOWN
    try:
        fits = [fit("exp_power", run.curve(replicates=400)) for run in (first, second)]
    except ValueError:
        return UNKNOWN
    column = list(fits[0].params).index("b")
    change = fits[1].replicates[:, column] - fits[0].replicates[:, column]
    change = change[np.isfinite(change)]
    low, high = np.quantile(change, [0.025, 0.975]) if len(change) >= 20 else UNKNOWN[:2]
    return fits[1].params["b"] - fits[0].params["b"], float(low), float(high)


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


def main() -> None:
    """Print how far each setting's samples agree with the first's."""
    from scaling.tasks import get_task

    parser = argparse.ArgumentParser(prog="python -m tests.trust.drift", description=__doc__)
    parser.add_argument("settings", nargs="*", help=f"default: all of {', '.join(SETTINGS)}")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--task", default="sums")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--runs", type=Path, default=Path("data/study/drift"))
    options = parser.parse_args()
    task, plan = get_task(options.task), Plan(chains=options.chains, max_new_tokens=64)
    problems = task.problems(options.problems)
    table = drift(options.model, task, problems, plan, options.runs, options.settings or None)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()

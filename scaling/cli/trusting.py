"""The verb that tests results: verify."""

from __future__ import annotations

import argparse

from scaling.models import load_lm
from scaling.runs import load_run
from scaling.verify import logged_model, model_of, redraw, verdicts


def run_verify(options: argparse.Namespace) -> None:
    """Print what was checked; a verdict or too many samples that differ are an error."""
    for path in options.runs:
        run = load_run(path)
        checked, wrong = verdicts(run, options.share, file=options.problems_file)
        print(f"{path}: {checked:,} texts judged again, {len(wrong)} verdicts differ")
        if len(wrong):
            row = wrong.iloc[0]
            raise ValueError(
                f"{path}: problem {row['problem']}, chain {row['chain']}, step {row['step']} was "
                f"logged as {row['correct']} ({row['answer']!r}), now it is {row['correct_now']} "
                f"({row['answer_now']!r}): the verifier or the log has changed"
            )
        if not options.redraw:
            continue
        lm = load_lm(model_of(run, options.models), **logged_model(run)[1])
        on = {"device": options.device, "dtype": options.dtype}
        found = redraw(run, lm, options.redraw, file=options.problems_file, **on)
        print(f"{path}: {found.samples:,} samples drawn again, {found.identical:.4%} the same")
        if 1 - found.identical > options.tolerance:
            raise ValueError(
                f"{path}: {1 - found.identical:.4%} of {found.samples:,} redrawn samples differ, "
                f"the first token that does at {found.first_token:g}; the manifest's sessions tell "
                "device, dtype and packages of the day, --tolerance allows a share"
            )

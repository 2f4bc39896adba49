"""Verbs that test results: drift, verify."""

from __future__ import annotations

import argparse
from pathlib import Path

from scaling.cli.options import MODELS, STUDY, positive


def add(verbs) -> None:
    """Declare the verbs."""
    verb = verbs.add_parser("drift", help="draw one pool under other batches, dtypes, engines")
    verb.add_argument("--model", type=Path, default=MODELS / "0.3M" / "1e13", help="a folder")
    verb.add_argument("--task", default="sums")
    verb.add_argument("--levels", nargs="+", help="default: the task's own")
    verb.add_argument("--problems", type=positive(int), default=40)
    verb.add_argument("--chains", type=positive(int), default=64)
    verb.add_argument("--max-new-tokens", type=positive(int), default=64)
    verb.add_argument("--settings", nargs="+", help="the first is the base; default: all")
    verb.add_argument("--runs", type=Path, default=STUDY / "drift", help="a folder per setting")
    verb.set_defaults(run=run_drift)
    verb = verbs.add_parser("verify", help="judge a run's texts again, and redraw some samples")
    verb.add_argument("runs", type=Path, nargs="+", help="run folders")
    verb.add_argument("--share", type=positive(float), default=1.0, help="of texts; default 1")
    verb.add_argument("--redraw", type=int, default=2, help="problems to draw again; default 2")
    verb.add_argument("--models", type=Path, default=MODELS, help="where the run's model is")
    verb.add_argument("--device", default="auto", help="to draw on: auto, cpu, cuda")
    verb.add_argument("--dtype", choices=("float32", "bfloat16", "float16"))
    verb.add_argument("--tolerance", type=float, default=0.0, help="share of redrawn samples that"
                      " may differ; default 0, which only a CPU in float32 keeps")  # fmt: skip
    verb.set_defaults(run=run_verify)


def run_drift(options: argparse.Namespace) -> None:
    """Print how far each setting's samples agree with the first's."""
    from scaling.drift import SETTINGS, drift
    from scaling.records import Plan, look_up
    from scaling.tasks import get_task

    for name in options.settings or ():
        look_up(SETTINGS, name, "setting")
    task = get_task(options.task, options.levels)
    plan = Plan(chains=options.chains, max_new_tokens=options.max_new_tokens)
    problems = task.problems(options.problems)
    table = drift(options.model, task, problems, plan, options.runs, options.settings)
    print(table.to_string(index=False))


def run_verify(options: argparse.Namespace) -> None:
    """Print what was checked; a verdict or too many samples that differ are an error."""
    from scaling.models import load_lm
    from scaling.store import load_run
    from scaling.verify import model_of, redraw, verdicts

    for path in options.runs:
        run = load_run(path)
        checked, wrong = verdicts(run, options.share)
        print(f"{path}: {checked:,} texts judged again, {len(wrong)} verdicts differ")
        if len(wrong):
            row = wrong.iloc[0]
            raise ValueError(
                f"{path}: problem {row['problem']}, chain {row['chain']}, step {row['step']} was "
                f"logged as {row['correct']} ({row['answer']!r}), now it is {row['correct_now']} "
                f"({row['answer_now']!r}): the verifier or the log has changed"
            )
        if options.redraw < 1:
            continue
        lm = load_lm(model_of(run, options.models))
        found = redraw(run, lm, options.redraw, device=options.device, dtype=options.dtype)
        print(f"{path}: {found.samples:,} samples drawn again, {found.identical:.4%} the same")
        if 1 - found.identical > options.tolerance:
            raise ValueError(
                f"{path}: {1 - found.identical:.4%} of {found.samples:,} redrawn samples differ, "
                f"the first token that does at {found.first_token:g}; the manifest's sessions tell "
                "device, dtype and packages of the day, --tolerance allows a share"
            )

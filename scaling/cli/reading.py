"""Verbs that read samples: accuracy, figures, fit, import, plan. No torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scaling.cli.options import DERIVED, FIGURES, RUNS, positive
from scaling.records import look_up

IMPORTS = ("human-eval", "lm-eval", "inspect", "monkeys", "csv")


def add(verbs) -> None:
    """Declare the verbs."""
    verb = verbs.add_parser("accuracy", help="table accuracy per budget from logs: accuracy.csv")
    verb.add_argument("--runs", type=Path, default=RUNS)
    verb.add_argument("--derived", type=Path, default=DERIVED)
    verb.set_defaults(run=run_accuracy)
    verb = verbs.add_parser("figures", help="redraw the figures from logs")
    verb.add_argument("names", nargs="*", help="some of them; default: all")
    verb.add_argument("--runs", type=Path, default=RUNS)
    verb.add_argument("--figures", type=Path, default=FIGURES)
    verb.set_defaults(run=run_figures)
    verb = verbs.add_parser("fit", help="fit a law to the coverage curve of every run")
    verb.add_argument("--law", default="exp_power")
    verb.add_argument("--selector", default="oracle")
    verb.add_argument("--unit", default="samples")
    verb.add_argument("--level", default="all")
    verb.add_argument("--runs", type=Path, default=RUNS)
    verb.set_defaults(run=run_fit)
    verb = verbs.add_parser("import", help="pass@k of samples that another tool has drawn")
    verb.add_argument("file", type=Path, help="a file, or a folder of YAML files")
    verb.add_argument("--format", required=True, choices=IMPORTS)
    verb.set_defaults(run=run_import)
    verb = verbs.add_parser("plan", help="what telling two methods apart would cost")
    verb.add_argument("--effect", type=positive(float), required=True, help="difference, e.g. 0.03")
    verb.add_argument("--power", type=positive(float), default=0.8, help="default 0.8")
    verb.add_argument("--pilot", type=Path, nargs="+", default=[], help="run folders, one or two")
    verb.add_argument("--between", type=positive(float), help="paired spread; default: the pilot's")
    verb.add_argument("--max-problems", type=positive(int), help="what the benchmark holds")
    verb.set_defaults(run=run_plan)


def run_accuracy(options: argparse.Namespace) -> None:
    """Write accuracy.csv."""
    from scaling.curves import accuracy_table
    from scaling.figures import Study
    from scaling.store.files import write_files

    options.study = Study.load(options.runs)
    options.derived.mkdir(parents=True, exist_ok=True)
    path = options.derived / "accuracy.csv"
    table = accuracy_table(options.study.pools)
    write_files({path: table.to_csv(index=False, float_format="%.6g").encode()})
    print(f"{path}: {len(table)} rows")


def run_figures(options: argparse.Namespace) -> None:
    """Draw figures from the logs."""
    from scaling.figures import FIGURES as KNOWN
    from scaling.figures import Study, draw_all

    names = getattr(options, "names", None) or list(KNOWN)
    for name in names:
        look_up(KNOWN, name, "figure")
    study = getattr(options, "study", None) or Study.load(options.runs)
    for path in draw_all(study, options.figures, names):
        print(path)


def run_fit(options: argparse.Namespace) -> None:
    """Print the fitted parameters of every best-of-N run."""
    import pandas as pd

    from scaling.curves import curve
    from scaling.figures import Study
    from scaling.fits import fit
    from scaling.fits.laws import LAWS

    look_up(LAWS, options.law, "law")
    rows = []
    for pool in Study.load(options.runs).pools:
        if pool.run.plan.method == "best_of_n":
            found = fit(options.law, curve(pool, options.selector, options.unit, options.level))
            row = {"task": pool.run.task, "model": pool.run.card.name, "rmse": found.rmse}
            for name, value in found.params.items():
                low, high = found.interval[name]
                row[name] = f"{value:.4g} [{low:.4g}, {high:.4g}]"
            rows.append(row | {"success": found.success, "message": found.message})
    print(pd.DataFrame(rows).to_string(index=False))


def run_import(options: argparse.Namespace) -> None:
    """Print pass@k with its interval; name what could not be used on stderr."""
    import numpy as np

    from scaling.estimates import pass_at_k
    from scaling.intervals import mean_interval
    from scaling.readers import counts, read_samples

    table, rejected = read_samples(options.file, options.format)
    for where, why in rejected[:20]:
        print(f"{options.file}, {where}: {why}", file=sys.stderr)
    n, c = counts(table)
    judged = n > 0
    n, c = n[judged], c[judged]
    if not len(n):
        raise ValueError(f"{options.file} holds no sample with a verdict")
    print(f"{n.sum():,} samples of {len(n)} problems", end="; ")
    print(f"{(~judged).sum()} problems without a verdict, {len(rejected)} places rejected")
    k = np.unique(np.append(2 ** np.arange(int(np.log2(n.min())) + 1), n.min()))
    found = mean_interval(pass_at_k(n[:, None], c[:, None], k))
    print(f"{'k':>5}{'pass@k':>10}{'low':>10}{'high':>10}")
    for row in zip(k, found.value, found.low, found.high, strict=True):
        print("{:>5}{:>10.4f}{:>10.4f}{:>10.4f}".format(*row))


def run_plan(options: argparse.Namespace) -> None:
    """Print the cheapest study that tells the difference, and its price at the pilot's costs."""
    from scaling.curves import read_pool
    from scaling.planner import plan, read_pilot
    from scaling.store import load_run

    pools = [read_pool(load_run(path)) for path in options.pilot]
    pilot = read_pilot(pools) if pools else None
    study, cost = plan(options.effect, options.power, pilot, options.between, options.max_problems)
    print(
        f"{study.problems:,} problems x {study.samples:,} samples x 2 methods: {study.draws:,} "
        f"samples tell a difference of {study.detectable:.3g} with power {options.power:g}"
    )
    if cost:
        hours = f"{cost['seconds'] / 3600:.3g} hours on the pilot's machine"
        print(f"{cost['tokens']:.3g} tokens, {cost['flops']:.3g} FLOPs, {hours}")

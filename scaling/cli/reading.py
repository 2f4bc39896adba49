"""Verbs that read samples: accuracy, figures, fit, import, plan, report, check. No torch."""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pandas as pd

from scaling.curves import accuracy_table, curve, read_pool
from scaling.estimates import best_of_k, majority_at_k, pass_at_k
from scaling.figures import FIGURES, Study, draw_all, lack
from scaling.fits import fit
from scaling.fits.laws import LAWS, Law
from scaling.intervals import mean_interval
from scaling.planner import plan, read_pilot
from scaling.readers import counts, read_samples
from scaling.records import Curve, look_up
from scaling.report import differences, write
from scaling.report.check import stale
from scaling.store import load_run
from scaling.store.files import write_files

EXACT = 800  #: samples of a problem up to which votes are counted exactly


def run_accuracy(options: argparse.Namespace) -> None:
    """Write accuracy.csv."""
    options.study = Study.load(options.runs)
    options.derived.mkdir(parents=True, exist_ok=True)
    path = options.derived / "accuracy.csv"
    table = accuracy_table(options.study.pools)
    write_files({path: table.to_csv(index=False, float_format="%.6g").encode()})
    print(f"{path}: {len(table)} rows")


def run_figures(options: argparse.Namespace) -> None:
    """Draw figures from the logs."""
    names = getattr(options, "names", None) or list(FIGURES)
    for name in names:
        look_up(FIGURES, name, "figure")
    study = getattr(options, "study", None) or Study.load(options.runs)
    paths = draw_all(study, options.figures, names)
    for path in paths:
        print(path)
    if left := [name for name in names if name not in {path.stem for path in paths}]:
        print(f"not drawn, for want of their runs: {', '.join(left)}")


def run_fit(options: argparse.Namespace) -> None:
    """Print the fitted parameters of every best-of-N run; a row that has none says why."""
    law = law_of_one_axis(options.law)
    pools = [p for p in Study.load(options.runs).pools if p.run.plan.method == "best_of_n"]
    if not pools:
        raise ValueError(f"no best-of-N run under {options.runs}: a law is fitted to those alone")
    if options.task:
        look_up({pool.run.task: None for pool in pools}, options.task, "task")
        pools = [pool for pool in pools if pool.run.task == options.task]
    levels = {level: None for pool in pools for level in ("all", *pool.levels)}
    look_up(levels, options.level, "level")
    rows = []
    for pool in pools:
        if options.level not in ("all", *pool.levels):
            continue
        row = {"task": pool.run.task, "model": pool.run.card.name, "run": pool.run.path.name}
        row |= dict.fromkeys(("rmse", *law.params), "")
        try:
            points = curve(pool, options.selector, options.unit, options.level)
            if (points.y == 0).all():
                raise ValueError("no sample was right")
            found = fit(law, points)
        except ValueError as error:
            rows.append(row | {"success": False, "message": lack(pool) or str(error)})
            continue
        row["rmse"] = f"{found.rmse:.3g}"
        for name, value in found.params.items():
            low, high = found.interval[name]
            row[name] = f"{value:.4g} [{low:.4g}, {high:.4g}]"
        rows.append(row | {"success": found.success, "message": found.message})
    if not any(row["rmse"] for row in rows):
        why = {row["message"]: row["run"] for row in rows}
        told = "; ".join(f"{message} ({run})" for message, run in why.items())
        raise ValueError(f"none of {len(rows)} runs could be fitted: {told}")
    table = pd.DataFrame(rows)
    repeated = table.duplicated(["task", "model"]).any()
    print(table.drop(columns=[] if repeated else "run").to_string(index=False))


def law_of_one_axis(name: str) -> Law:
    """Return a law that a curve can be fitted by; those of two axes take more than a curve."""
    return look_up({name: law for name, law in LAWS.items() if law.axes == 1}, name, "law")


def run_import(options: argparse.Namespace) -> None:
    """Print pass@k, votes and a law with intervals; name what could not be used on stderr."""
    law = law_of_one_axis(options.law) if options.law else None
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
    coverage = Curve(k, found.value, found.low, found.high, found.replicates, n_problems=len(n))
    shown = {"k": k, "pass@k": found.value, "low": found.low, "high": found.high}
    if (table["answer"].notna() & table["correct"].notna()).any():
        votes = mean_interval(votes_of(table, k))
        shown |= {"majority": votes.value, "low ": votes.low, "high ": votes.high}
    given = table[table["correct"].notna()]
    if given["score"].notna().all() and (given["score"] != given["correct"]).any():
        correct, score = by_problem(given, "correct"), by_problem(given, "score")
        best = mean_interval(best_of_k(correct, score, k))
        shown |= {"best-of-k": best.value, "low  ": best.low, "high  ": best.high}
    print(pd.DataFrame(shown).to_string(index=False, float_format="{:.4f}".format))
    if law:
        print(fit(law, n, c) if law.density else fit(law, coverage))


def votes_of(table: pd.DataFrame, k: np.ndarray) -> np.ndarray:
    """Return the accuracy of the commonest of k answers, (problems, budgets), of a tidy table.

    By random subsets where the exact count over all of them would take long.
    """
    judged = table[table["correct"].notna()]
    correct, answers = by_problem(judged, "correct"), by_problem(judged, "answer")
    answers = answers.astype(object).where(answers.notna(), None)
    many = correct.shape[1] > EXACT
    found = majority_at_k(answers.to_numpy(), correct.to_numpy(), k, subsets=1000 if many else None)
    return found[0] if many else found


def by_problem(judged: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a column of a tidy table as (problems, samples), NaN where there is no sample."""
    return judged.pivot(index="problem", columns="chain", values=column)


def run_plan(options: argparse.Namespace) -> None:
    """Print the cheapest study that tells the difference, and its price at the pilot's costs."""
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
    else:
        print("for FLOPs and hours name one or two small runs: --pilot RUN [RUN]")


def run_report(options: argparse.Namespace) -> None:
    """Write a report and check it."""
    for path in write(options.runs, options.out):
        print(path)
    if wrong := differences(options.out):
        raise ValueError("; ".join(wrong))


def run_check(options: argparse.Namespace) -> None:
    """Print why each figure is stale; a stale one is an error."""
    found = stale(options.report or options.figures, options.runs)
    if options.report:
        found["report"] = differences(options.report)
    for name, reasons in found.items():
        print(f"{name}: {'; '.join(reasons) or 'up to date'}")
    wrong = [name for name, reasons in found.items() if reasons]
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(found)} stale: {', '.join(wrong)}")

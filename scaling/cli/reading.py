"""Verbs that read samples: accuracy, figures, fit, import, plan, report, check. No torch."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import pandas as pd

from scaling.cli.options import caution
from scaling.estimates import best_of_k, majority_at_k, pass_at_k
from scaling.figures.gallery import FIGURES, draw_all
from scaling.fits import fit
from scaling.fits.laws import LAWS, Law
from scaling.intervals import mean_interval
from scaling.planner import plan, read_pilot
from scaling.readers import counts, read_samples, reasons, refuse_incomplete
from scaling.records import Curve, Fit, look_up
from scaling.report import differences, stale
from scaling.runs import Runs, load_run
from scaling.runs.tables import accuracy_table, flaw_counts, flaw_line, incomplete, unfinished
from scaling.store.files import refuse_foreign, write_outputs

EXACT = 800  #: samples of a problem up to which votes are counted exactly
SHOWN = 20  #: places of a file that are named one by one


def run_accuracy(options: argparse.Namespace) -> None:
    """Write accuracy.csv."""
    path = options.derived / "accuracy.csv"
    refuse_foreign([path], options.force)
    options.study = Runs.load(options.runs)
    warn_of_gaps(options.study)
    table = accuracy_table(options.study)
    csv = table.to_csv(index=False, float_format="%.6g").encode()
    write_outputs({path: csv}, options.force)
    print(f"{path}: {len(table):,} rows of {len(options.study):,} runs")
    print(flaw_line(*flaw_counts(options.study)))


def warn_of_gaps(study: Runs) -> None:
    """Warn of each run that lacks problems or samples, and of rows that are NaN because of it."""
    for pool in study:
        if why := incomplete(pool):
            caution(f"{pool.path}: {why}: see n_missing")


def run_figures(options: argparse.Namespace) -> None:
    """Draw figures from the logs."""
    names = getattr(options, "names", None) or list(FIGURES)
    for name in names:
        look_up(FIGURES, name, "figure")
    study = getattr(options, "study", None) or Runs.load(options.runs)
    paths = draw_all(study, options.figures, names, options.force)
    for path in paths:
        print(path)
    drawn = {path.stem for path in paths}
    if left := [name for name in names if name not in drawn]:
        print(f"{len(left)} of {len(names)} not drawn, their runs are missing: {', '.join(left)}")


def run_fit(options: argparse.Namespace) -> None:
    """Print the fitted parameters of every best-of-N run; a row that has none says why."""
    law = law_of_one_axis(options.law)
    study = Runs.load(options.runs)
    pools = [p for p in study if p.plan.method == "best_of_n"]
    if not pools:
        raise ValueError(f"no best-of-N run under {options.runs}: a law is fitted to those alone")
    if options.task:
        look_up({pool.task: None for pool in pools}, options.task, "task")
        pools = [pool for pool in pools if pool.task == options.task]
    levels = {level: None for pool in pools for level in ("all", *pool.levels)}
    look_up(levels, options.level, "level")
    others = len(study) - len(pools)
    usable = [pool for pool in pools if options.level in ("all", *pool.levels)]
    without = len(pools) - len(usable)
    for count, what in (
        (others, "of other methods or tasks"),
        (without, f"without level {options.level}"),
    ):
        if count:
            print(f"{count:,} of {len(study):,} runs left out: {what}")
    rows = []
    for pool in usable:
        row = {"task": pool.task, "model": pool.card.name, "run": pool.path.name}
        row |= dict.fromkeys(("rmse", *law.params), "")
        try:
            if gap := unfinished(pool):
                raise ValueError(gap)
            found = checked_fit(law, pool.curve(options.selector, options.unit, options.level))
        except ValueError as error:
            rows.append(row | {"success": False, "message": str(error)})
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


def checked_fit(law: Law, curve: Curve, counted: tuple[Any, Any] | None = None) -> Fit:
    """Return a law fitted to a curve, or a law of a distribution to counts (n, c) per problem.

    ValueError where no law can be determined: nothing was right, everything was, or the curve has
    no more points than the law has parameters.
    """
    y = curve.y[np.isfinite(curve.y)]
    if not y.any() or (y == 1).all():
        what = "every sample was right" if y.any() else "no sample was right"
        raise ValueError(f"{what}: there is nothing to fit {law.name} to")
    if law.density is not None and counted is not None:
        return fit(law, *counted)
    if len(y) <= len(law.params):
        raise ValueError(
            f"{law.name} has {len(law.params)} parameters and the curve {len(y)} points: draw more "
            "samples per problem, or fit a law with fewer parameters"
        )
    return fit(law, curve)


def run_import(options: argparse.Namespace) -> None:
    """Print pass@k, votes and a law with intervals; name what could not be used on stderr."""
    law = law_of_one_axis(options.law) if options.law else None
    chosen = {name: getattr(options, name) for name in ("metric", "filter", "model", "columns")}
    table, rejected = read_samples(options.file, options.format, **chosen)
    for where, why in rejected[:SHOWN]:
        print(f"{options.file}, {where}: {why}", file=sys.stderr)
    if len(rejected) > SHOWN:
        print(f"and {len(rejected) - SHOWN:,} more places", file=sys.stderr)
    n, c = counts(table)
    refuse_incomplete(options.file, table.attrs, n)
    n, c = n[n > 0], c[n > 0]
    k = 2 ** np.arange(int(np.log2(n.min())) + 1)
    k = np.union1d(k[k >= table.attrs["least_k"]], n.min())
    for line in about(table, n, k):
        print(line)
    found = mean_interval(pass_at_k(n[:, None], c[:, None], k))
    shown = {"k": k, "pass@k": found.value, "low": found.low, "high": found.high}
    if not table.attrs["no_votes"]:
        votes = mean_interval(votes_of(table, k))
        shown |= {"majority": votes.value, "low ": votes.low, "high ": votes.high}
    given = table[table["correct"].notna()]
    if given["score"].notna().all() and (given["score"] != given["correct"]).any():
        correct, score = by_problem(given, "correct"), by_problem(given, "score")
        best = mean_interval(best_of_k(correct, score, k))
        shown |= {"best-of-k": best.value, "low  ": best.low, "high  ": best.high}
    print(pd.DataFrame(shown).to_string(index=False, float_format="{:.4f}".format))
    if table.attrs["no_votes"]:
        print(f"no majority column: {table.attrs['no_votes']}")
    if law and law.density is not None and k[0] > 1:
        raise ValueError(f"{law.name} is fitted to counts, which the metric does not settle")
    if law:
        curve = Curve(k, found.value, found.low, found.high, found.replicates, n_problems=len(n))
        print(checked_fit(law, curve, (n, c)))


def about(table: pd.DataFrame, n: np.ndarray, k: np.ndarray) -> list[str]:
    """Return lines that say what stands behind the numbers, what was left out, and why k ends."""
    facts = table.attrs
    parts = reasons(facts["left_out"])
    if lacking := table["problem"].nunique() - len(n):
        parts.append(f"{lacking:,} problems without a verdict")
    if facts["unreadable"]:
        parts.append(f"{facts['unreadable']:,} of {facts['read']:,} lines or entries")
    left = f"; left out: {'; '.join(parts)}" if parts else ""
    lines = [f"{n.sum():,} samples of {len(n):,} problems{left}", *facts["notes"]]
    if k[-1] < n.max():
        few, most = (n == k[-1]).sum(), n.max()
        lines.append(
            f"k ends at {k[-1]}: {few:,} problems have no more samples, others up to {most}"
        )
    if k[0] > 1:
        lines.append(f"k begins at {k[0]}: the metric does not settle smaller k")
    return lines


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
    pools = [load_run(path) for path in options.pilot]
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
    runs = Runs(load_run(path) for path in options.runs)
    for path in runs.report(options.out, options.force):
        print(path)
    if wrong := differences(options.out):
        raise ValueError("; ".join(wrong))


def run_check(options: argparse.Namespace) -> None:
    """Print why each figure is stale; a stale one is an error."""
    found = stale(options.report or options.figures, options.runs)
    if options.report:
        found["report"] = differences(options.report)
    for name, causes in found.items():
        print(f"{name}: {'; '.join(causes) or 'up to date'}")
    wrong = [name for name, causes in found.items() if causes]
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(found)} stale: {', '.join(wrong)}")

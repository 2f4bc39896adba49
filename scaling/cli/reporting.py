"""Verbs for what is published: report, check. No torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from scaling.cli.options import FIGURES, RUNS


def add(verbs) -> None:
    """Declare the verbs."""
    verb = verbs.add_parser("report", help="write runs up: HTML page, LaTeX fragment, BibTeX")
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    verb.add_argument("-o", "--out", type=Path, default=Path("report"), help="default: report")
    verb.set_defaults(run=run_report)
    verb = verbs.add_parser("check", help="name figures and reports that no longer follow")
    verb.add_argument("--figures", type=Path, default=FIGURES)
    verb.add_argument("--runs", type=Path, default=RUNS, help="what the figures are drawn from")
    verb.add_argument("--report", type=Path, help="the folder of a report, checked instead")
    verb.set_defaults(run=run_check)


def run_report(options: argparse.Namespace) -> None:
    """Write a report and check it."""
    from scaling.report import differences, write

    for path in write(options.runs, options.out):
        print(path)
    wrong = differences(options.out)
    assert not wrong, wrong


def run_check(options: argparse.Namespace) -> None:
    """Print why each figure is stale; a stale one is an error."""
    from scaling.report import differences
    from scaling.report.check import stale

    found = stale(options.report or options.figures, options.runs)
    if options.report:
        found["report"] = differences(options.report)
    for name, reasons in found.items():
        print(f"{name}: {'; '.join(reasons) or 'up to date'}")
    wrong = [name for name, reasons in found.items() if reasons]
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(found)} stale: {', '.join(wrong)}")

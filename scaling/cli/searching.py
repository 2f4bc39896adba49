"""Verbs for scorers and search: score, search."""

from __future__ import annotations

import argparse
from typing import Any

from scaling.methods.scorers import SelfCertainty, load_scorer, score_run, scorer_name
from scaling.methods.search import SEARCHES, search_plans
from scaling.models import load_lm
from scaling.records import look_up
from scaling.runs import load_run
from scaling.sampling import sample_run
from scaling.store.scores import write_scores
from scaling.tasks import get_task


def run_score(options: argparse.Namespace) -> None:
    """Write the scores of each scorer beside each run."""
    scorers: list[Any] = [load_scorer(folder) for folder in options.scorer]
    if options.certainty:
        scorers.append(SelfCertainty(load_lm(options.certainty)))
    if not scorers:
        raise ValueError("nothing to score with: give --scorer FOLDER or --certainty MODEL")
    for path in options.runs:
        run = load_run(path, text=True)
        for scorer in scorers:
            print(write_scores(run, score_run(scorer, run)))


def run_search(options: argparse.Namespace) -> None:
    """Sample every search at every width; a run that is there already is kept."""
    methods = options.methods or list(SEARCHES)
    for method in methods:
        look_up(SEARCHES, method, "search")
    lm, task = load_lm(options.model), get_task(options.task)
    problems = task.problems(options.problems)
    for plan in search_plans(methods, options.widths, scorer_name(options.scorer)):
        print(sample_run(lm, task, problems, plan, options.runs).path)

"""Verbs for scorers, search and revision: scorer, score, search, reviser."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scaling.cli.options import RUNS, positive
from scaling.records import look_up

SCORERS, REVISERS = Path("data/models/scorers"), Path("data/models/revisers")


def add(verbs) -> None:
    """Declare the verbs."""
    verb = verbs.add_parser("scorer", help="train a reward model on a model's own solutions")
    verb.add_argument("--model", type=Path, required=True)
    verb.add_argument("--task", default="countdown")
    verb.add_argument("--kind", default="process", help="process (every step) or outcome")
    verb.add_argument("--problems", type=positive(int), default=5000)
    verb.add_argument("--out", type=Path, default=SCORERS, help="its folder gets the kind's name")
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(run=run_scorer)
    verb = verbs.add_parser("score", help="score the samples of runs; the numbers go beside them")
    verb.add_argument("runs", nargs="+", type=Path, help="run folders")
    verb.add_argument("--scorer", nargs="+", type=Path, default=[], help="folders of reward models")
    verb.add_argument("--certainty", type=Path, help="model folder, for its self-certainty")
    verb.set_defaults(run=run_score)
    verb = verbs.add_parser("search", help="every search over steps, at several widths")
    verb.add_argument("--model", type=Path, required=True)
    verb.add_argument("--task", default="countdown")
    verb.add_argument("--scorer", type=Path, default=SCORERS / "process")
    verb.add_argument("--methods", nargs="+", help="default: all")
    verb.add_argument("--widths", nargs="+", type=positive(int), default=[4, 8, 16])
    verb.add_argument("--problems", type=positive(int), default=100)
    verb.add_argument("--runs", type=Path, default=RUNS)
    verb.set_defaults(run=run_search)
    verb = verbs.add_parser("reviser", help="train a model to revise its own drafts")
    verb.add_argument("--model", type=Path, required=True)
    verb.add_argument("--name", help="of the folder; default: from lesson and feedback")
    verb.add_argument("--task", default="countdown")
    verb.add_argument("--levels", nargs="+", default=["3x20", "4x20"])
    verb.add_argument("--lesson", default="answer", help="answer, avoid, reward, plain")
    verb.add_argument("--rate", type=positive(float), default=3e-4)
    verb.add_argument("--feedback", nargs="+", default=["verdict"], help="none, verdict")
    verb.add_argument("--rounds", type=positive(int), default=24)
    verb.add_argument("--problems", type=positive(int), default=1000, help="of each round")
    verb.add_argument("--steps", type=positive(int), default=6, help="drafts of a chain")
    verb.add_argument("--out", type=Path, default=REVISERS)
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(run=run_reviser)


def run_scorer(options: argparse.Namespace) -> None:
    """Train and save a reward model."""
    from scaling.methods.scorers import save_scorer
    from scaling.models import load_lm
    from scaling.tasks import get_task
    from scaling.train.scorer import Lesson, train_scorer

    lesson = Lesson(kind=options.kind, problems=options.problems, seed=options.seed)
    lm = load_lm(options.model)
    scorer, seen = train_scorer(lm, get_task(options.task), lesson, f"scorers/{options.kind}")
    folder = options.out / options.kind
    save_scorer(scorer, folder, lesson=asdict(lesson), seen=seen, base=lm.card.name)
    print(f"{folder}: {seen['solutions']:,} solutions, {seen['right']:.0%} right")


def run_score(options: argparse.Namespace) -> None:
    """Write the scores of each scorer beside each run."""
    from scaling.methods.scorers import SelfCertainty, load_scorer, score_run
    from scaling.models import load_lm
    from scaling.store import load_run
    from scaling.store.scores import write_scores

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
    from scaling.methods.scorers import scorer_name
    from scaling.methods.search import SEARCHES, search_plans
    from scaling.models import load_lm
    from scaling.study import sample_run
    from scaling.tasks import get_task

    methods = options.methods or list(SEARCHES)
    for method in methods:
        look_up(SEARCHES, method, "search")
    lm, task = load_lm(options.model), get_task(options.task)
    problems = task.problems(options.problems)
    for plan in search_plans(methods, options.widths, scorer_name(options.scorer)):
        print(sample_run(lm, task, problems, plan, options.runs).path)


def run_reviser(options: argparse.Namespace) -> None:
    """Train and save a reviser."""
    from scaling.models import load_lm, save_lm
    from scaling.train.revise import Course, as_notes, train_reviser

    feedbacks = tuple(options.feedback)
    course = Course(
        task=options.task,
        levels=tuple(options.levels),
        lesson=options.lesson,
        feedbacks=feedbacks,
        rounds=options.rounds,
        problems=options.problems,
        steps=options.steps,
        rate=options.rate,
        seed=options.seed,
    )
    name = options.name or f"{options.lesson}-{'-'.join(feedbacks)}"
    lm, accuracy = train_reviser(load_lm(options.model), course, f"revisers/{name}")
    save_lm(lm, options.out / name, **as_notes(course), first_drafts=accuracy)
    print(f"{options.out / name}: first drafts {accuracy[0]:.3f} to {accuracy[-1]:.3f} right")

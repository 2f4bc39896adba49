"""Verbs that train: train, scorer, reviser, reinforce."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

from scaling.ladder import (
    LADDER,
    RECIPES,
    Course,
    Recipe,
    ScorerCourse,
    check_budgets,
    imitate,
    reinforce,
    train_reviser,
    train_rung,
    train_scorer,
)
from scaling.methods.scorers import save_scorer
from scaling.models import load_lm, save_lm
from scaling.records import look_up
from scaling.tasks import get_task

REWARDED = ("expert", "grpo")  #: lessons of `reinforce`


def run_train(options: argparse.Namespace) -> None:
    """Train rungs of the ladder."""
    sizes = [options.size] if options.size else list(LADDER)
    for size in sizes:
        look_up(LADDER, size, "size")
        recipe = replace(RECIPES[size], seed=options.seed)
        budgets = tuple(options.budgets or LADDER[size])
        for path in train_rung(size, budgets, options.out, recipe):
            print(path)


def run_scorer(options: argparse.Namespace) -> None:
    """Train and save a reward model."""
    course = ScorerCourse(kind=options.kind, problems=options.problems, seed=options.seed)
    lm = load_lm(options.model)
    scorer, seen = train_scorer(lm, get_task(options.task), course, f"scorers/{options.kind}")
    folder = options.out / options.kind
    save_scorer(scorer, folder, course=asdict(course), seen=seen, base=lm.card.name)
    print(f"{folder}: {seen['solutions']:,} solutions, {seen['right']:.0%} right")


def run_reviser(options: argparse.Namespace) -> None:
    """Train and save a reviser."""
    feedbacks = tuple(options.feedback)
    names = ("task", "lesson", "problems", "steps", "rate", "seed")
    course = Course(
        levels=tuple(options.levels), feedbacks=feedbacks, chains=2, max_new_tokens=64, updates=0,
        replay=0.0, plain=0.2, batch_tokens=8192, widths=(48, 112, 224),
        **{name: getattr(options, name) for name in names},
    )  # fmt: skip
    name = options.name or f"{options.lesson}-{'-'.join(feedbacks)}"
    lm, accuracy = train_reviser(load_lm(options.model), course, options.rounds, f"revisers/{name}")
    notes = {"course": asdict(course), "skills": ["revision"], "first_drafts": accuracy}
    save_lm(lm, options.out / name, **notes)
    print(f"{options.out / name}: first drafts {accuracy[0]:.3f} to {accuracy[-1]:.3f} right")


def run_reinforce(options: argparse.Namespace) -> None:
    """Imitate unless that is done or not wanted, then train by reward; print the checkpoints."""
    look_up(dict.fromkeys(REWARDED), options.method, "method")
    check_budgets(options.budgets)
    if not 0 <= options.imitate < float("inf"):
        raise ValueError(f"imitate is {options.imitate:g}; give FLOPs, or 0 for none")
    course = Course(lesson=options.method, seed=options.seed)
    start, folder = options.out / "start", options.out / options.method
    if not options.imitate:
        course = replace(course, direct=True, max_new_tokens=64)
        start, folder = options.model, options.out / f"direct-{options.method}"
    elif not start.exists():
        recipe = Recipe(seed=options.seed, rate=1.5e-3, compiled=True, widths=course.widths)
        imitate(load_lm(options.model), options.imitate, start, recipe)
    for path in [start, *reinforce(load_lm(start), options.budgets, folder, course)]:
        print(path)

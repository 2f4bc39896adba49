"""Verbs that train models and scorers, score samples and search."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from scaling.cli.app import (
    MODELS,
    POSITIVE,
    RUNS,
    STUDY,
    TRAIN,
    Amount,
    Amounts,
    Count,
    suggest,
    verb,
)

LIKELIHOOD_LEVELS = tuple(f"{depth}{kind}" for kind in ("", "x2x2") for depth in (1, 2, 3, 4, 6, 8))
LADDER, SCORERS = MODELS / "ladder", MODELS / "scorers"


@verb(TRAIN)
def train(
    *,
    ladder: str = "arithmetic",  #: arithmetic (countdown and sums), maze, permutations, ...
    size: str = "",  #: one of the ladder's sizes; default: all
    budgets: Amounts = (),  #: train FLOPs of the checkpoints, rising; default: those of the ladder
    out: Path | None = None,  #: folder of the checkpoints; default: data/models/LADDER
    seed: int = 0,  #: seed of weights and data; another than 0 is written into the folder's name
    keep_trunk: bool = False,  #: keep the state of the training, to add larger budgets later
) -> None:
    """Train a ladder of small models, or one size of it."""
    from scaling.ladder import LADDERS, train_rung
    from scaling.records import look_up

    chosen = look_up(LADDERS, ladder, "ladder")
    folder = out or (LADDER if ladder == "arithmetic" else MODELS / ladder)
    for name in [size] if size else chosen.budgets:
        look_up(chosen.budgets, name, "size")
        recipe = replace(chosen.recipes[name], seed=seed)
        steps = tuple(budgets or chosen.budgets[name])
        for path in train_rung(name, steps, folder, recipe, chosen, keep_trunk):
            print(path)


@verb(TRAIN)
def likelihood(
    *,
    models: Path = MODELS / "maze",  #: folder of the checkpoints; likelihood.parquet goes there
    task: str = "maze",  #: a task whose problems have one right answer each
    levels: tuple[str, ...] = LIKELIHOOD_LEVELS,  #: levels of the task
    problems: Count = 400,  #: number of test problems of each level
) -> None:
    """Write the likelihood of the right answers under each checkpoint: exact pass@1.

    Rows of checkpoints that are not in the folder any more are kept.
    """
    import pandas as pd

    from scaling.ladder import likelihood_table
    from scaling.models import find_models
    from scaling.store.files import write_outputs
    from scaling.tasks import get_task

    path = models / "likelihood.parquet"
    table = likelihood_table(find_models(models), get_task(task, levels), problems)
    if path.exists():
        earlier = pd.read_parquet(path)
        table = pd.concat([earlier[~earlier["model"].isin(table["model"])], table])
    table["nats"] = table["nats"].map("{:.4g}".format).astype("float32")
    data = table.sort_values(["n_params", "train_flops", "model"], kind="stable")
    write_outputs({path: data.to_parquet(index=False, compression="zstd")})
    print(f"{path}: {len(table):,} rows of {table['model'].nunique()} checkpoints")


@verb(TRAIN)
def scorer(
    *,
    model: Path,  #: folder of the model
    task: str = "countdown",  #: the task whose problems are solved
    kind: str = "process",  #: process (scores every step) or outcome (scores the solution)
    problems: Count = 5000,  #: number of problems to solve
    out: Path = SCORERS,  #: folder of the scorers; a folder of the kind's name is written into it
    seed: int = 0,  #: seed of samples and training
) -> None:
    """Train a reward model on a model's own solutions."""
    from scaling.ladder import ScorerCourse, train_scorer
    from scaling.methods.scorers import save_scorer
    from scaling.models import load_lm
    from scaling.tasks import get_task

    course = ScorerCourse(kind=kind, problems=problems, seed=seed)
    lm = load_lm(model)
    trained, seen = train_scorer(lm, get_task(task), course, f"scorers/{kind}")
    save_scorer(trained, out / kind, course=asdict(course), seen=seen, base=lm.card.name)
    print(f"{out / kind}: {seen['solutions']:,} solutions, {seen['right']:.0%} right")


@verb(TRAIN)
def score(
    runs: tuple[Path, ...],  #: run folders
    /,
    *,
    scorer: tuple[Path, ...] = (),  #: folders of reward models
    certainty: Path | None = None,  #: folder of a model, to score by its self-certainty
) -> None:
    """Score the samples of runs; the scores go into each run's folder."""
    from scaling.methods.scorers import SelfCertainty, load_scorer, score_run
    from scaling.models import load_lm
    from scaling.runs import load_run
    from scaling.store.scores import write_scores

    scorers: list[Any] = [load_scorer(folder) for folder in scorer]
    if certainty:
        scorers.append(SelfCertainty(load_lm(certainty)))
    if not scorers:
        raise ValueError("nothing to score with: give --scorer FOLDER or --certainty MODEL")
    for path in runs:
        run = load_run(path, text=True)
        for one in scorers:
            print(write_scores(run, score_run(one, run)))


@verb(TRAIN)
def search(
    *,
    model: Path,  #: folder of the model
    task: str = "countdown",  #: the task to sample
    scorer: Path = SCORERS / "process",  #: folder of the scorer that guides the search
    methods: tuple[str, ...] = (),  #: search methods; default: all
    widths: Annotated[tuple[int, ...], POSITIVE] = (4, 8, 16),  #: candidates per round
    problems: Count = 100,  #: number of problems
    runs: Path = RUNS,  #: folder to write runs into
) -> None:
    """Sample with every search method at several widths; skip runs that are complete."""
    from scaling.methods.scorers import scorer_name
    from scaling.methods.table import METHODS, searches
    from scaling.models import load_lm
    from scaling.records import Plan, look_up
    from scaling.sampling import sample_run
    from scaling.tasks import get_task

    print(f"runs in {runs}")
    for method in methods:
        look_up(dict.fromkeys(searches()), method, "search")
    lm, chosen, name = load_lm(model), get_task(task), scorer_name(scorer)
    for width, method in product(widths, methods or searches()):
        keep = max(1, width // 4) * ("keep" in METHODS[method].reads)
        plan = Plan(method, 4, 4 * width, max_new_tokens=32, width=width, keep=keep, scorer=name)
        print(sample_run(lm, chosen, chosen.problems(problems), plan, runs).path)
    suggest("accuracy --runs {runs}; figures takes the same --runs", runs=runs)


@verb(TRAIN)
def reviser(
    *,
    model: Path,  #: folder of the model
    name: str = "",  #: name of the folder to write; default: from lesson and feedback
    task: str = "countdown",  #: the task to train on
    levels: tuple[str, ...] = ("3x20", "4x20"),  #: levels of the task
    lesson: str = "answer",  #: answer, avoid, reward or plain
    rate: Amount = 3e-4,  #: learning rate
    feedback: tuple[str, ...] = ("verdict",),  #: none, verdict, or both
    rounds: Count = 24,  #: rounds of sampling and training
    problems: Count = 1000,  #: number of problems per round
    steps: Count = 6,  #: drafts per chain
    out: Path = MODELS / "revisers",  #: folder of the revisers
    seed: int = 0,  #: seed of samples and training
) -> None:
    """Train a model to revise its own drafts."""
    from scaling.ladder import Course, train_reviser
    from scaling.models import load_lm, save_lm

    course = Course(
        task=task, levels=levels, lesson=lesson, rate=rate, feedbacks=feedback, problems=problems,
        steps=steps, seed=seed, chains=2, max_new_tokens=64, replay=0.0, plain=0.2,
        step_per_batch=True, batch_tokens=8192, widths=(48, 112, 224),
    )  # fmt: skip
    name = name or f"{lesson}-{'-'.join(feedback)}"
    lm, accuracy = train_reviser(load_lm(model), course, rounds, f"revisers/{name}")
    notes = {"course": asdict(course), "skills": ["revision"], "first_drafts": accuracy}
    save_lm(lm, out / name, **notes)
    print(f"{out / name}: first drafts {accuracy[0]:.3f} to {accuracy[-1]:.3f} right")


@verb(TRAIN)
def reinforce(
    *,
    model: Path = LADDER / "0.1M" / "1e14",  #: folder of the model to start from
    imitate: float = 5e12,  #: FLOPs of supervised training; 0: RL training of direct answers
    method: str = "grpo",  #: grpo or expert
    budgets: Amounts = (1e11, 3e11, 1e12, 3e12),  #: FLOPs of RL training at its checkpoints
    out: Path = MODELS / "thinking" / "0.1M",  #: folder of the checkpoints
    seed: int = 0,  #: seed of samples and training
) -> None:
    """Train a tiny model to think: supervised fine-tuning on traces, then RL."""
    from scaling import ladder
    from scaling.models import load_lm
    from scaling.records import look_up
    from scaling.tasks.traces import examples as trace_examples

    look_up(dict.fromkeys(("expert", "grpo")), method, "method")
    ladder.check_budgets(budgets)
    if not 0 <= imitate < float("inf"):
        raise ValueError(f"imitate is {imitate:g}; give FLOPs, or 0 for none")
    course = ladder.Course(lesson=method, seed=seed, replay=0.1)
    start, folder = out / "start", out / method
    examples: ladder.Examples = trace_examples
    if not imitate:
        course, examples = replace(course, max_new_tokens=64), ladder.examples
        start, folder = model, out / f"direct-{method}"
    elif not start.exists():
        recipe = ladder.Recipe(seed=seed, rate=1.5e-3, compiled=True, widths=course.widths)
        ladder.imitate(load_lm(model), imitate, start, recipe)
    for path in [start, *ladder.reinforce(load_lm(start), budgets, folder, course, examples)]:
        print(path)


@verb(TRAIN)
def think(
    *,
    model: Path = MODELS / "maze-quit" / "0.05M" / "1e13",  #: folder of the model to start from
    task: str = "maze-quit",  #: the task that the model has imitated
    budgets: Amounts = (),  #: FLOPs of RL training at which it is tested; default: 1e10 to 4e12
    problems: Count = 300,  #: number of test problems
    samples: Count = 4,  #: number of samples of each
    out: Path = STUDY / "think",  #: folder of checkpoints, runs, log and figure; resumed if there
    lesson: str = "shortest",  #: shortest, expert, grpo or pass_at_k; grpo fell back after 2e12
    rate: Amount = 2e-3,  #: learning rate, which falls linearly to 0 at the last budget
    seed: int = 0,  #: seed of samples and training
) -> None:
    """Train a tiny model by reward until it searches mazes, and show how it changes."""
    from scaling import ladder
    from scaling import think as live
    from scaling.store.files import write_outputs

    course = replace(ladder.THINKING, task=task, lesson=lesson, rate=rate, seed=seed)
    runs, log = live.think(model, out, course, budgets or live.BUDGETS, problems, samples)
    print("junctions, a trace before and after training by reward:")
    print(*live.traces_in_words(runs[0], runs[-1]), sep="\n")
    laws = live.laws(runs, log)
    write_outputs({out / "laws.csv": laws.to_csv(index=False, float_format="%.6g").encode()})
    print(*live.laws_in_words(laws), *live.draw(log, out), out / "log.csv", sep="\n")

"""Train models of the ladder from scratch, with checkpoints at log-spaced training FLOPs.

Schedule: warm-up, then a constant rate (the trunk); each checkpoint is a branch of the trunk whose
rate falls linearly to zero over its last `DECAY` of tokens. So each checkpoint is a finished run of
its own budget (Hägele et al. 2024, arXiv:2405.18392), unlike the points along one cosine schedule,
and the trunk is shared. The `train_flops` of a checkpoint are those of its own path: the trunk up
to the branch, plus the branch.

Data: solutions of generated problems of the train split, some after wrong drafts. Only the last
answer is learnt.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from tqdm.auto import tqdm

from scaling.ladder.presets import ARITHMETIC, Ladder
from scaling.ladder.trainer import Recipe, Row, Trainer, check_budgets, flops_name
from scaling.models import LM, load_lm
from scaling.tasks import TASKS, content_split, revision_suffix, stream
from scaling.tasks.traces import examples as trace_examples

DECAY = 0.2  #: share of a checkpoint's tokens over which its rate falls to zero
HELD_OUT = 2048  #: examples of the test split on which a checkpoint's loss is measured
THINKING = ("thinking", "wait")  #: methods that imitation of traces trains for


def examples(
    seed: int, ladder: Ladder = ARITHMETIC, split: str = "train"
) -> Iterator[tuple[str, str]]:
    """Yield (context, continuation) pairs of a split without end; the loss is on the latter."""
    return (pair for _, pair in examples_by_kind(seed, ladder, split))


def examples_by_kind(
    seed: int, ladder: Ladder, split: str = "train"
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Yield ((task, level), (context, continuation)), in the shares of the ladder's mixture."""
    rng = stream(split, seed)
    names, weights = list(ladder.mixture), list(ladder.mixture.values())
    tasks = {key: TASKS[key[0]]((key[1],)) for key in names}
    while True:
        key = rng.choices(names, weights)[0]
        problem = tasks[key].draw(key[1], rng)
        if content_split(problem.id) == split:
            context, text = tasks[key].example(problem, rng)
            yield key, (context + _drafts(tasks[key], problem, ladder.revisions, rng), text)


def held_out_loss(lm: LM, ladder: Ladder) -> dict[str, float]:
    """Return {"task/level": nats per learnt token} on the first examples of the test split.

    There are `HELD_OUT` examples in all. Stop tokens count as learnt tokens.
    """
    widths = max((recipe.widths for recipe in ladder.recipes.values()), key=max)
    trainer = Trainer(lm, Recipe(widths=widths))
    rows: dict[str, list[Row]] = {"/".join(key): [] for key in ladder.mixture}
    for key, (context, text) in islice(examples_by_kind(0, ladder, "test"), HELD_OUT):
        rows["/".join(key)].append(trainer.row(context, [text]))
    return {name: trainer.mean_loss(found) for name, found in rows.items()}


def _drafts(task: Any, problem: Any, share: float, rng: Random) -> str:
    """Return 0 to 5 earlier drafts, each with the request for the next: `7*3=21;21+12=34x`."""
    if rng.random() >= share:
        return ""
    feedback = rng.choice(("none", "verdict"))
    drafts = [task.wrong(problem, rng) for _ in range(rng.randint(1, 5))]
    if feedback == "none" and rng.random() < 0.3:  # a right draft should be kept
        drafts[-1] = problem.answer
    return "".join(draft + revision_suffix(feedback) for draft in drafts)


def train_rung(
    size: str,
    budgets: tuple[float, ...],
    folder: Path,
    recipe: Recipe | None = None,
    ladder: Ladder = ARITHMETIC,
    keep_trunk: bool = False,
) -> list[Path]:
    """Train one size through its budgets (train FLOPs, rising); return the checkpoint folders.

    A checkpoint is complete or absent. After a crash the same call continues from the last one.
    keep_trunk: keep the state of the training, so that a later call adds larger budgets.
    """
    check_budgets(budgets)
    recipe, started = recipe or Recipe(), time.time()
    rung = folder / (f"{size}-seed{recipe.seed}" if recipe.seed else size)
    trainer = begin(size, rung, recipe, ladder, budgets[0])
    trunk, paths = rung / "trunk.safetensors", [rung / flops_name(budget) for budget in budgets]
    if trunk.exists():
        trainer.resume(trunk)
    bar = tqdm(total=budgets[-1], unit="FLOP", unit_scale=True, desc=f"train {size}")
    bar.update(trainer.flops)
    for budget, path in zip(budgets, paths, strict=True):
        if trainer.flops >= budget * (1 - DECAY) and trunk.exists() and path.exists():
            continue
        while trainer.flops < budget * (1 - DECAY):
            before, loss = trainer.flops, trainer.step()
            bar.update(trainer.flops - before)
            bar.set_postfix(loss=f"{loss:.3f}")
        state = trainer.state()
        for _ in trainer.branch(budget):
            pass
        name = f"{folder.name}/{rung.name}/{path.name}"
        notes = {
            "recipe": asdict(trainer.recipe),
            "mixture": {"/".join(key): share for key, share in ladder.mixture.items()},
            "skills": ladder.skills,
            "start": ladder.start,
            "held_out_loss": held_out_loss(trainer.lm(name), ladder),
            "seconds": time.time() - started,
        }
        trainer.save_checkpoint(path, name, notes)
        trainer.restore(state)
        trainer.save(trunk)
    bar.close()
    if not keep_trunk:
        trunk.unlink(missing_ok=True)
    return paths


def begin(size: str, rung: Path, recipe: Recipe, ladder: Ladder, budget: float) -> Trainer:
    """Return the trainer of a rung with its data: of new weights, or of the ladder's start.

    Errors: ValueError if the start has spent the budget already.
    """
    start: str | LM = size
    if ladder.start:
        name, spent = ladder.start
        start = load_lm(rung.parents[1] / name / rung.name / spent)
        if budget <= start.card.train_flops:
            raise ValueError(f"budget {budget:g}: {start.card.name} has spent as much; give more")
    trainer = Trainer(start, recipe)
    trainer.feed(examples(recipe.seed, ladder))
    return trainer


def imitate(
    lm: LM, flops: float, path: Path, recipe: Recipe, levels: tuple[str, ...] = ("3x20",)
) -> Path:
    """Train on written traces for `flops` more, the rate falling to zero; return the checkpoint."""
    check_budgets([flops], lm)
    trainer = Trainer(lm, recipe)
    trainer.feed(trace_examples(recipe.seed, levels))
    before = trainer.flops
    bar = tqdm(total=flops, unit="FLOP", unit_scale=True, desc=f"imitate {path.name}")
    for loss in trainer.branch(trainer.flops + flops):
        bar.update(trainer.flops - before - bar.n)
        bar.set_postfix(loss=f"{loss:.3f}")
    bar.close()
    notes = {"recipe": asdict(recipe), "start": lm.card.name, "imitation_flops": flops}
    name = f"thinking/{path.parent.name}/{path.name}"
    return trainer.save_checkpoint(path, name, notes | {"skills": THINKING})

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
from pathlib import Path
from random import Random
from typing import Any

from tqdm.auto import tqdm

from scaling.ladder.trainer import Recipe, Trainer, check_budgets, flops_name
from scaling.models import LM
from scaling.tasks import TASKS, content_split, revision_suffix, stream
from scaling.tasks.traces import examples as trace_examples

MIXTURE = {  #: share of training examples by task and level
    ("countdown", "3x20"): 0.25,
    ("countdown", "4x20"): 0.35,
    ("sums", "2x99"): 0.08,
    ("sums", "3x99"): 0.10,
    ("sums", "4x99"): 0.08,
    ("sums", "5x99"): 0.06,
    ("sums", "6x99"): 0.08,
}
REVISIONS = 0.1  #: share of examples that show drafts first
DECAY = 0.2  #: share of a checkpoint's tokens over which its rate falls to zero
LADDER = {  #: size -> train FLOPs of its checkpoints, closer where sums are being learnt
    "0.1M": (3e11, 1e12, 3e12, 5.6e12, 1e13, 3e13, 1e14),
    "0.3M": (1e12, 3e12, 5.6e12, 1e13, 3e13, 1e14),
    "1.3M": (1e12, 3e12, 1e13, 3e13, 1e14),
    "4.8M": (3e12, 1e13, 3e13, 1e14, 3e14),
}
RECIPES = {  #: compiling pays for the small; the larger see fewer tokens and need more steps
    "0.1M": Recipe(compiled=True),
    "0.3M": Recipe(compiled=True),
    "1.3M": Recipe(batch_tokens=4096),
    "4.8M": Recipe(batch_tokens=4096),
}
THINKING = ("thinking", "wait")  #: methods that imitation of traces trains for


def examples(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (context, answer) pairs of the train split without end; loss is on the answer only."""
    rng = stream("train", seed)
    names, weights = list(MIXTURE), list(MIXTURE.values())
    tasks = {key: TASKS[key[0]]((key[1],)) for key in names}
    while True:
        key = rng.choices(names, weights)[0]
        problem = tasks[key].draw(key[1], rng)
        if content_split(problem.id) == "train":
            yield problem.prompt + _drafts(tasks[key], problem, rng), problem.answer


def _drafts(task: Any, problem: Any, rng: Random) -> str:
    """Return 0 to 5 earlier drafts, each with the request for the next: `7*3=21;21+12=34x`."""
    if rng.random() >= REVISIONS:
        return ""
    feedback = rng.choice(("none", "verdict"))
    drafts = [task.wrong(problem, rng) for _ in range(rng.randint(1, 5))]
    if feedback == "none" and rng.random() < 0.3:  # a right draft should be kept
        drafts[-1] = problem.answer
    return "".join(draft + revision_suffix(feedback) for draft in drafts)


def train_rung(
    size: str, budgets: tuple[float, ...], folder: Path, recipe: Recipe | None = None
) -> list[Path]:
    """Train one size through its budgets (train FLOPs, rising); return the checkpoint folders.

    A checkpoint is complete or absent. After a crash the same call continues from the last one.
    """
    check_budgets(budgets)
    trainer, started = Trainer(size, recipe or Recipe()), time.time()
    trainer.feed(examples(trainer.recipe.seed))
    trunk = folder / size / "trunk.safetensors"
    paths = [folder / size / flops_name(budget) for budget in budgets]
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
        notes = {
            "recipe": asdict(trainer.recipe),
            "mixture": {"/".join(key): share for key, share in MIXTURE.items()},
            "seconds": time.time() - started,
        }
        trainer.save_checkpoint(path, f"ladder/{size}/{path.name}", notes)
        trainer.restore(state)
        trainer.save(trunk)
    bar.close()
    trunk.unlink(missing_ok=True)
    return paths


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

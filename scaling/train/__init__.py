"""Train tiny language models from scratch, with checkpoints at log-spaced training FLOPs.

Schedule: warm-up, then a constant rate (the trunk); each checkpoint is a branch of the trunk whose
rate falls linearly to zero over its last `DECAY` of tokens. So each checkpoint *is* a finished run
of its own budget (Hägele et al. 2024, arXiv:2405.18392), unlike points along one cosine, and the
trunk is shared. A checkpoint's `train_flops` are those of its own path: trunk up to the branch,
plus the branch.

Data: solutions of generated train-split problems, and revisions (drafts, then a right answer). Only
the last answer is learnt from. Not here: reward training.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from scaling import compute
from scaling.engine.isa import levels
from scaling.models import (
    LM,
    SIZES,
    character_tokenizer,
    make_card,
    save_lm,
    tiny_config,
    writing,
)
from scaling.tasks import TASKS, content_split, revision_suffix, stream

MIXTURE = {  #: share of training examples by task and level
    ("countdown", "3x20"): 0.25,
    ("countdown", "4x20"): 0.35,
    ("sums", "2x99"): 0.08,
    ("sums", "3x99"): 0.10,
    ("sums", "4x99"): 0.08,
    ("sums", "5x99"): 0.06,
    ("sums", "6x99"): 0.08,
}
COUNTS = ("steps", "tokens", "flops", "losses")  #: of a Trainer, that a branch changes
State = tuple[dict[str, torch.Tensor], dict[str, Any]]  #: tensors by name, counts
REVISIONS = 0.1  #: share of examples that show drafts first
DECAY = 0.2  #: share of a checkpoint's tokens over which its rate falls to zero
WIDTHS = (32, 48, 64, 96, 144, 208)  #: padded lengths; an example that is longer is left out
LADDER = {  #: size -> train FLOPs of its checkpoints, closer where sums are being learnt
    "0.1M": (3e11, 1e12, 3e12, 5.6e12, 1e13, 3e13, 1e14),
    "0.3M": (1e12, 3e12, 5.6e12, 1e13, 3e13, 1e14),
    "1.3M": (1e12, 3e12, 1e13, 3e13, 1e14),
    "4.8M": (3e12, 1e13, 3e13, 1e14, 3e14),
}


@dataclass(frozen=True)
class Recipe:
    """How a rung is trained; written into each checkpoint's card."""

    rate: float = 3e-3  #: peak rate of the matrices' optimiser (Muon, RMS-matched to AdamW)
    batch_tokens: int = 8192  #: padded tokens per step
    warmup_steps: int = 20
    seed: int = 0
    compiled: bool = False  #: torch.compile: three times faster for the smallest, slower to start


RECIPES = {  #: compiling pays for the small; the larger see fewer tokens and need more steps
    "0.1M": Recipe(compiled=True),
    "0.3M": Recipe(compiled=True),
    "1.3M": Recipe(batch_tokens=4096),
    "4.8M": Recipe(batch_tokens=4096),
}


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


def _drafts(task, problem, rng: Random) -> str:
    """Return 0 to 5 earlier drafts with what asks for the next, e.g. `7*3=21;21+12=34x`."""
    if rng.random() >= REVISIONS:
        return ""
    feedback = rng.choice(("none", "verdict"))
    drafts = [task.wrong(problem, rng) for _ in range(rng.randint(1, 5))]
    if feedback == "none" and rng.random() < 0.3:  # a right draft is to be kept, not broken
        drafts[-1] = problem.answer
    return "".join(draft + revision_suffix(feedback) for draft in drafts)


def batches(
    tokenizer,
    seed: int,
    batch_tokens: int,
    pairs: Iterable[tuple[str, str]] | None = None,
    widths: tuple[int, ...] = WIDTHS,
) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Yield steps: lists of (ids, labels) of shape (rows, width), like lengths together.

    `pairs` of (context, answer) are learnt from, by default `examples(seed)`.
    """
    ids_of = {
        character: tokenizer.convert_tokens_to_ids(character) for character in tokenizer.get_vocab()
    }
    eos = tokenizer.eos_token_id
    waiting: dict[int, list[tuple[list[int], list[int]]]] = {width: [] for width in widths}
    step: list[tuple[torch.Tensor, torch.Tensor]] = []
    rows_of = {width: max(1, batch_tokens // 4 // width) for width in widths}
    for context, answer in pairs or examples(seed):
        ids = [ids_of[character] for character in context + answer] + [eos]
        width = next((w for w in widths if len(ids) <= w + 1), None)
        if width is None:
            continue
        pad = width + 1 - len(ids)
        labels = [-100] * len(context) + ids[len(context) :] + [-100] * pad
        waiting[width].append((ids + [0] * pad, labels))
        if len(waiting[width]) == rows_of[width]:
            rows = torch.tensor(waiting[width])  # (rows, 2, width + 1)
            step.append((rows[:, 0, :-1].contiguous(), rows[:, 1, 1:].contiguous()))
            waiting[width] = []
        if len(step) == 4:
            yield step
            step = []


def optimisers(model, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices and AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def descend(
    optimisers: Sequence[torch.optim.Optimizer], rate: float, most: float = torch.inf
) -> None:
    """Take one step on the gradients that have gathered, their norm cut to `most`."""
    parameters = [p for o in optimisers for group in o.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, most)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad()


class Trainer:
    """A model, its optimisers, its data and what it has cost so far."""

    def __init__(self, start: str | tuple[int, int] | LM, recipe: Recipe) -> None:
        """start: a size of the ladder, (hidden, layers), or a model to go on from."""
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, "cuda" if torch.cuda.is_available() else "cpu"
        # a processor without units for bfloat16 emulates it, 10 times slower
        self.narrow = self.device == "cuda" or "avx512_bf16" in levels()
        self.steps, self.tokens, self.flops = 0, 0, 0.0
        attention = "sdpa" if self.device == "cuda" else "eager"  # fused is slower on a CPU: LOG.md
        if isinstance(start, LM):
            self.model, self.tokenizer = copy.deepcopy(start.model).float(), start.tokenizer
            self.model.set_attn_implementation(attention)
            self.tokens, self.flops = start.card.train_tokens, start.card.train_flops
        else:
            from transformers import AutoModelForCausalLM

            config = tiny_config(*(SIZES[start] if isinstance(start, str) else start))
            self.model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
            self.tokenizer = character_tokenizer()
        self.model.to(self.device)
        self.shape = compute.Shape.from_config(self.model.config)
        self.optimisers = optimisers(self.model, recipe.rate)
        self.data = batches(self.tokenizer, recipe.seed, recipe.batch_tokens)
        self.forward = self.model.forward
        if recipe.compiled:
            self.forward = torch.compile(self.model.forward, dynamic=False)
        self.drawn = 0  #: steps of data, those of branches included
        self.losses: list[float] = []

    def learn(self, parts: Iterable[Sequence[torch.Tensor]], loss: Callable, rate: float) -> float:
        """Take one step down the sum of `loss(logits, *rest)` over parts (ids, *rest); return it.

        Matrix products are counted, and in bfloat16 where this machine has units for it. ids and
        labels are (rows, width).
        """
        total = torch.zeros((), device=self.device)
        for ids, *rest in parts:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.narrow):
                logits = self.forward(input_ids=ids.to(self.device), use_cache=False).logits
            value = loss(logits.float(), *(part.to(self.device) for part in rest))
            value.backward()
            total += value.detach()
            self.tokens += ids.numel()
            context = (ids.shape[1] + 1) / 2
            self.flops += float(compute.train_flops(self.shape, ids.numel(), context))
        descend(self.optimisers, rate, most=1.0)
        return total.item()

    def step(self, decay: float = 1.0) -> float:
        """Take one step at `decay` times the trunk's rate; return the loss per answer token."""
        warm = min(1.0, (self.steps + 1) / self.recipe.warmup_steps)
        micro = self.draw()
        count = sum(int((labels >= 0).sum()) for _, labels in micro)

        def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / count

        self.losses.append(self.learn(micro, loss, self.recipe.rate * warm * decay))
        self.steps += 1
        return self.losses[-1]

    def branch(self, flops: float) -> Iterator[float]:
        """Decay from here to `flops`, leaving the model at the branch's end; yield losses."""
        start = self.flops
        while self.flops < flops:
            yield self.step(decay=max(0.0, 1 - (self.flops - start) / (flops - start)))

    def state(self) -> State:
        """Return a copy of what a branch would change."""
        tensors = {f"weights/{name}": t.clone() for name, t in self.model.state_dict().items()}
        for i, optimiser in enumerate(self.optimisers):
            for index, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"{i}/{index}/{name}": t.clone() for name, t in slots.items()}
        return tensors, {name: copy.copy(getattr(self, name)) for name in COUNTS}

    def restore(self, state: State) -> None:
        """Go back to a copied state; the data stream goes on."""
        tensors, counts = state
        weights, states = {}, [o.state_dict() | {"state": {}} for o in self.optimisers]
        for name, tensor in tensors.items():
            where, _, rest = name.partition("/")
            if where == "weights":
                weights[rest] = tensor
            else:
                index, slot = rest.split("/")
                states[int(where)]["state"].setdefault(int(index), {})[slot] = tensor
        self.model.load_state_dict(weights)
        for optimiser, saved in zip(self.optimisers, states, strict=True):
            optimiser.load_state_dict(saved)
        for name in COUNTS:
            setattr(self, name, counts[name])

    def save(self, path: Path) -> None:
        """Write all that training goes on from (safetensors), whole or not at all."""
        tensors, counts = self.state()
        notes = counts | {"drawn": self.drawn, "recipe": asdict(self.recipe)}
        aside = path.with_suffix(".tmp")
        with writing(aside):
            save_file(tensors, aside, {"trunk": json.dumps(notes)})
        os.replace(aside, path)

    def resume(self, path: Path) -> None:
        """Go on from what `save` wrote; the data stream is drawn again up to there.

        Errors: ValueError where the file is unreadable or of another recipe.
        """
        try:
            with safe_open(path, "pt") as file:
                notes = json.loads(file.metadata()["trunk"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); delete it to start anew") from error
        if notes["recipe"] != asdict(self.recipe):
            raise ValueError(f"{path} is of another recipe; delete it to start anew")
        self.restore((tensors, {"losses": []} | notes))
        for _ in range(notes["drawn"]):
            self.draw()

    def draw(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the next step's data."""
        self.drawn += 1
        return next(self.data)

    def lm(self, name: str) -> LM:
        """Return the model as it would be loaded: rounded to bfloat16, with its card."""
        model = copy.deepcopy(self.model).to(torch.bfloat16)
        return LM(model, self.tokenizer, make_card(model, name, self.flops, self.tokens))


def flops_name(flops: float) -> str:
    """Return FLOPs as folders are named: 3e12."""
    digits, _, exponent = f"{flops:.3g}".partition("e") if flops >= 1e6 else (f"{flops:g}", "", "")
    return f"{digits}e{int(exponent)}" if exponent else digits


def check_budgets(budgets: Sequence[float]) -> None:
    """Raise ValueError unless budgets rise: a checkpoint would be named what it is not."""
    if not budgets or any(b <= a for a, b in pairwise([0.0, *budgets])):
        given = ", ".join(map(flops_name, budgets)) or "none"
        raise ValueError(f"budgets are {given}; give FLOPs that rise, e.g. 1e11 1e12")


def train_rung(
    size: str, budgets: tuple[float, ...], folder: Path, recipe: Recipe | None = None
) -> list[Path]:
    """Train one size through its budgets (train FLOPs, rising); return the checkpoint folders.

    A checkpoint is complete or absent. After a crash the same call goes on from the last one.
    """
    check_budgets(budgets)
    trainer, started = Trainer(size, recipe or Recipe()), time.time()
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
            "final_loss": float(np.mean(trainer.losses[-20:])),
            "seconds": time.time() - started,
        }
        save_checkpoint(trainer, path, f"ladder/{size}/{path.name}", notes)
        trainer.restore(state)
        trainer.save(trunk)
    bar.close()
    trunk.unlink(missing_ok=True)
    return paths


def save_checkpoint(trainer: Trainer, path: Path, name: str, notes: dict[str, Any]) -> Path:
    """Write a checkpoint aside and move it into place; an older one of its name is replaced."""
    aside = path.with_name(f".{path.name}.tmp")
    save_lm(trainer.lm(name), aside, **notes)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(aside, path)
    return path

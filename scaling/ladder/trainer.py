"""Train a small language model on weighted tokens: one trainer for every kind of training.

A row holds token ids, the label of each position and the weight of each label in the loss.
Pre-training and imitation give answers weight 1, expert iteration gives it to right samples, and a
policy gradient weighs every sample by its advantage. What to teach is in `pretraining`, `rounds`
and `scorer`.
"""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from scaling import compute
from scaling.engine.isa import levels
from scaling.models import (
    CONTEXT,
    LM,
    SIZES,
    character_tokenizer,
    make_card,
    save_lm,
    tiny_config,
    writing,
)

WIDTHS = (32, 48, 64, 96, 144, 208, 288)  #: row lengths after padding
COUNTS = ("steps", "tokens", "flops", "losses")  #: fields of a Trainer that a branch changes
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  #: ids, labels, weights (rows, width)
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  #: (outputs, labels) -> nats per label
State = tuple[dict[str, torch.Tensor], dict[str, Any]]  #: tensors by name, counts


class Row(NamedTuple):
    """One training example; position i predicts labels[i], with weights[i] in the loss."""

    ids: Sequence[int]
    labels: Sequence[int]
    weights: Sequence[float]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; written into its card."""

    rate: float = 3e-3  #: peak rate of the matrices' optimiser (Muon, RMS-matched to AdamW)
    batch_tokens: int = 8192  #: padded tokens per step of a stream, or per batch of a round
    parts: int = 4  #: batches, each of rows of similar length, that a step of a stream consists of
    warmup_steps: int = 20
    seed: int = 0
    compiled: bool = False  #: torch.compile: three times faster for the smallest, slower to start
    widths: tuple[int, ...] = WIDTHS  #: row lengths after padding; each is compiled


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the negative log-probability of each label (rows, width), in nats."""
    nats = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return nats.view(labels.shape)


def encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """Return a function from text to token ids, by a table where tokens are characters (faster)."""
    table = {token: i for token, i in tokenizer.get_vocab().items() if len(token) == 1}
    if len(tokenizer) > len(table) + len(tokenizer.all_special_tokens):
        return lambda text: tokenizer.encode(text, add_special_tokens=False)
    return lambda text: [table[character] for character in text]


class Muon(torch.optim.Muon):
    """torch's Muon, with all matrices of one shape made orthogonal at once, in float32.

    One by one, the matrices of a narrow model take as long as its forward and backward passes.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            grads = [p.grad for p in params]
            for p in params:
                self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
            momenta = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            updates = torch._foreach_lerp(grads, momenta, group["momentum"])  # Nesterov
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for shape in dict.fromkeys(p.shape for p in params):
                same = [i for i, p in enumerate(params) if p.shape == shape]
                steps = orthogonal(torch.stack([updates[i] for i in same]), group)
                rate = group["lr"] * 0.2 * math.sqrt(max(shape))  # the RMS of AdamW's updates
                torch._foreach_add_([params[i] for i in same], steps.unbind(), alpha=-rate)


def orthogonal(matrices: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """Return the nearly orthogonal matrices (count, rows, columns) next to the given ones.

    Newton-Schulz iteration with the settings of a group of Muon, as in `torch.optim.Muon`.
    """
    (a, b, c), tall = group["ns_coefficients"], matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def optimisers(model: Any, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices and AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


class Trainer:
    """A model, its optimisers, its data and the compute spent so far."""

    def __init__(
        self, start: str | tuple[int, ...] | LM, recipe: Recipe, loss: Loss = token_loss
    ) -> None:
        """start: a size of the ladder, a value of `SIZES`, or a model to continue from."""
        torch.manual_seed(recipe.seed)
        self.recipe, self.loss = recipe, loss
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # a processor without bfloat16 units emulates it, 10 times slower
        self.bf16 = self.device == "cuda" or "avx512_bf16" in levels()
        self.steps, self.tokens, self.flops, self.rows_cut = 0, 0, 0.0, 0
        attention = "sdpa" if self.device == "cuda" else "eager"  # fused is slower on a CPU: LOG.md
        if isinstance(start, LM):
            self.model, self.tokenizer = copy.deepcopy(start.model).float(), start.tokenizer
            self.model.set_attn_implementation(attention)
            self.tokens, self.flops = start.card.train_tokens, start.card.train_flops
        else:
            from transformers import AutoModelForCausalLM

            size = SIZES[start] if isinstance(start, str) else start
            config = tiny_config(*size, context=max(CONTEXT, recipe.widths[-1]))  # type: ignore[misc]
            self.model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
            self.tokenizer = character_tokenizer()
        self.model.to(self.device)
        self.shape = compute.Shape.from_config(self.model.config)
        self.optimisers = optimisers(self.model, recipe.rate)
        self.encode, self.stop = encoder(self.tokenizer), self.tokenizer.eos_token_id
        self.forward = self.model.forward
        if recipe.compiled:
            self.forward = torch.compile(self.model.forward, dynamic=False)
        self.batches: Iterator[Batch] = iter(())  #: of `feed`
        self.batches_drawn = 0
        self.losses: list[float] = []

    # -- rows and batches --------------------------------------------------------------------------

    def row(
        self,
        prompt: str,
        drafts: Sequence[str],
        weights: Sequence[float] = (1.0,),
        suffix: str = "",
        ended: bool = True,
    ) -> Row:
        """Return a prompt and its drafts as a row; each draft is followed by a stop token.

        weights: one per draft. suffix: the text that asks for the next draft; in the row it takes
        the place of the stop token, and it is not learnt. ended=False: the last draft was cut off
        and its stop token is not learnt.
        """
        after, ids = self.encode(suffix), self.encode(prompt)
        labels, weight_of = ids[1:], [0.0] * (len(ids) - 1)
        for draft, weight in zip(drafts, weights, strict=True):
            tokens = self.encode(draft)
            ids += [*tokens, *after]
            labels += [*tokens, self.stop, *after[1:]]
            weight_of += [weight] * (len(tokens) + 1) + [0.0] * max(len(after) - 1, 0)
        if not ended:
            weight_of[-max(len(after), 1)] = 0.0
        return Row(ids[: len(labels)], labels, weight_of)

    def pack(self, rows: Iterable[Row], batch_tokens: int) -> Iterator[Batch]:
        """Yield batches of rows of similar length; a row longer than every width is cut.

        Shapes are few, because each is compiled: the last batches are filled with empty rows.
        """
        widths = self.recipe.widths
        waiting: dict[int, list[Row]] = {width: [] for width in widths}
        for row in rows:
            width = next((w for w in widths if len(row.ids) <= w), widths[-1])
            self.rows_cut += len(row.ids) > width
            waiting[width].append(row)
            if len(waiting[width]) == max(1, batch_tokens // width):
                yield as_batch(waiting[width], len(waiting[width]), width)
                waiting[width] = []
        for width, rest in waiting.items():
            if rest:
                yield as_batch(rest, max(1, batch_tokens // width), width)

    def feed(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Set the endless (context, answer) pairs that `step` learns from: only answers count."""
        rows = (self.row(context, [answer]) for context, answer in pairs)
        self.batches = self.pack(rows, self.recipe.batch_tokens // self.recipe.parts)

    # -- steps -------------------------------------------------------------------------------------

    def learn(self, batches: Iterable[Batch], rate: float) -> float:
        """Take one optimiser step on some batches; return the weighted loss per learnt token.

        The loss is the sum of weight x nats over the number of tokens with a weight. Compute is
        counted with padding, and matrix products are in bfloat16 where the machine has units for
        it.
        """
        batches = list(batches)
        count = max(1, sum(int(weights.count_nonzero()) for *_, weights in batches))
        total = torch.zeros((), device=self.device)
        for ids, labels, weights in batches:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                outputs = self.forward(input_ids=ids.to(self.device), use_cache=False).logits
            nats = self.loss(outputs.float(), labels.to(self.device))
            value = (nats * weights.to(self.device)).sum() / count
            value.backward()
            total += value.detach()
            self.tokens += ids.numel()
            context = (ids.shape[1] + 1) / 2
            self.flops += float(compute.train_flops(self.shape, ids.numel(), context))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad()
        return total.item()

    @torch.no_grad()
    def mean_loss(self, rows: Sequence[Row], batch_tokens: int = 8192) -> float:
        """Return the weighted loss per learnt token of rows, in nats, without learning."""
        total, count = 0.0, 0
        for ids, labels, weights in self.pack(rows, batch_tokens):
            outputs = self.model(input_ids=ids.to(self.device), use_cache=False).logits
            nats = self.loss(outputs.float(), labels.to(self.device)).cpu()
            total += float((nats * weights).sum())
            count += int(weights.count_nonzero())
        return total / max(1, count)

    def step(self, decay: float = 1.0) -> float:
        """Learn from the next batches of `feed`, at `decay` times the peak rate; return the loss.

        The rate rises over the first `warmup_steps`. Errors: ValueError if no rows are left.
        """
        batches, warmup = self.next_batches(), min(1.0, (self.steps + 1) / self.recipe.warmup_steps)
        if not batches:
            raise ValueError("there are no rows to learn from; call feed with rows first")
        self.losses.append(self.learn(batches, self.recipe.rate * warmup * decay))
        self.steps += 1
        return self.losses[-1]

    def next_batches(self) -> list[Batch]:
        """Return the next batches of the stream, which make up one step."""
        self.batches_drawn += self.recipe.parts
        return list(islice(self.batches, self.recipe.parts))

    def branch(self, flops: float) -> Iterator[float]:
        """Train up to `flops` in total while the rate falls linearly to zero; yield the losses."""
        start = self.flops
        while self.flops < flops:
            yield self.step(decay=max(0.0, 1 - (self.flops - start) / (flops - start)))

    # -- saving ------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return a copy of everything that a branch changes."""
        tensors = {f"weights/{name}": t.clone() for name, t in self.model.state_dict().items()}
        for i, optimiser in enumerate(self.optimisers):
            for index, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"{i}/{index}/{name}": t.clone() for name, t in slots.items()}
        return tensors, {name: copy.copy(getattr(self, name)) for name in COUNTS}

    def restore(self, state: State) -> None:
        """Return to a copied state; the stream of data is not rewound."""
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
            setattr(self, name, copy.copy(counts[name]))

    def save(self, path: Path) -> None:
        """Write all state that training continues from, atomically (safetensors)."""
        tensors, counts = self.state()
        notes = counts | {"batches_drawn": self.batches_drawn, "recipe": asdict(self.recipe)}
        temporary = path.with_suffix(".tmp")
        with writing(temporary):
            save_file(tensors, temporary, {"trunk": json.dumps(notes)})
        os.replace(temporary, path)

    def resume(self, path: Path) -> None:
        """Continue from the state written by `save`; the data stream is replayed up to there.

        Errors: ValueError where the file is unreadable or of another recipe.
        """
        try:
            with safe_open(path, "pt") as file:
                notes = json.loads(file.metadata()["trunk"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            drawn = notes["batches_drawn"]
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}); delete it to start again"
            ) from error
        if notes["recipe"] != json.loads(json.dumps(asdict(self.recipe))):
            raise ValueError(f"{path} is of another recipe; delete it to restart")
        self.restore((tensors, notes))
        while self.batches_drawn < drawn:
            self.next_batches()

    def lm(self, name: str, skills: tuple[str, ...] = ()) -> LM:
        """Return the model rounded to bfloat16, as it will be loaded, with its card.

        Warns if training rows were cut.
        """
        if self.rows_cut:
            warnings.warn(
                f"{name}: {self.rows_cut:,} training rows were cut after "
                f"{self.recipe.widths[-1]} tokens, the longest row of the recipe",
                stacklevel=2,
            )
        model = copy.deepcopy(self.model).to(torch.bfloat16)
        card = make_card(model, name, self.flops, self.tokens)
        return LM(model, self.tokenizer, card, skills=skills)

    def save_checkpoint(self, path: Path, name: str, notes: dict[str, Any]) -> Path:
        """Write a checkpoint atomically, replacing an older one."""
        temporary = path.with_name(f".{path.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)  # of a job that was killed as it wrote
        last = {"final_loss": float(np.mean(self.losses[-20:]))} if self.losses else {}
        save_lm(self.lm(name), temporary, **notes, **last, rows_cut=self.rows_cut)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
        return path


def as_batch(rows: Sequence[Row], size: int, width: int) -> Batch:
    """Return rows as tensors (size, width), padded on the right and filled with empty rows."""
    ids, labels = torch.zeros(2, size, width, dtype=torch.int64)
    batch = ids, labels, torch.zeros(size, width)
    for i, row in enumerate(rows):
        for part, values in zip(batch, row, strict=True):
            part.numpy()[i, : len(values)] = values[:width]
    return batch


def flops_name(flops: float) -> str:
    """Return FLOPs as they are written in folder names: 3e12."""
    digits, _, exponent = f"{flops:.3g}".partition("e") if flops >= 1e6 else (f"{flops:g}", "", "")
    return f"{digits}e{int(exponent)}" if exponent else digits


def check_budgets(budgets: Sequence[float], lm: LM | None = None) -> None:
    """Raise ValueError unless budgets rise, so that no two checkpoints have the same name.

    Also if the FLOPs that a model starts with are unknown: no budget could end its training.
    """
    if not budgets or any(b <= a for a, b in pairwise([0.0, *budgets])):
        given = ", ".join(map(flops_name, budgets)) or "none"
        raise ValueError(f"budgets are {given}; give FLOPs that rise, e.g. 1e11 1e12")
    if lm and math.isnan(lm.card.train_flops):
        name = lm.card.name
        raise ValueError(f"the training FLOPs of {name} are unknown: give its train_tokens= first")

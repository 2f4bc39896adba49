"""The sampling engine: draws pools of completions from any Hugging Face causal LM, by token ids.

    engine = Engine(model, eos_ids=[tokenizer.eos_token_id])
    for job, step, completion in engine.generate(jobs, plan): ...

A prompt is prefilled once however many chains share it; rows of many problems decode together and a
finished row is refilled at once; a revision extends its own cache. What a row draws depends on
(seed, problem, chain, step) and the model only. Knows nothing of tasks, texts or logs.

`schedule` decides who sits where, `draw` turns logits into tokens, and a store computes: `lean` in
torch for the families that `weights` reads, or `reference` by the model's own forward.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from scaling.engine.lean import LeanStore
from scaling.engine.native import NativeStore, NativeWeights, library
from scaling.engine.reference import ReferenceStore
from scaling.engine.schedule import Extend, Job, Schedule
from scaling.engine.weights import Unknown, Weights, read_weights
from scaling.records import Completion, Plan

__all__ = ["Engine", "Job"]

TOLERANCE = 1e-4  #: largest accepted difference of lean and reference logits, fp32
ROWS = {"cpu": 256, "cuda": 512}  #: rows in flight unless told otherwise
CPU_MEMORY = 1 << 30  #: bytes of keys and values on a CPU unless told otherwise


class Engine:
    """A model ready to be sampled from. See `generate`."""

    def __init__(
        self,
        model: Any,
        *,
        eos_ids: Iterable[int],
        device: str = "auto",
        dtype: str | None = None,
        memory_cap: int | None = None,
        max_rows: int | None = None,
        reference: bool = False,
        native: bool = True,
    ) -> None:
        """Take a `transformers` causal LM; it is moved to `device` and cast to `dtype`.

        eos_ids: tokens that end a completion. memory_cap: bytes of keys and values. max_rows: rows in
        flight. reference: use the model's own forward. dtype: float32 unless told otherwise on a CPU.
        """
        self.device = _device(device)
        kept = model.dtype if self.device.type == "cuda" else torch.float32
        self.dtype = getattr(torch, dtype) if dtype else kept
        self.model = model.to(self.device, self.dtype).eval()
        config = model.config
        self.vocab, self.context = config.vocab_size, config.max_position_embeddings
        self.is_stop = np.zeros(self.vocab, bool)
        self.is_stop[list(self.checked_ids(eos_ids))] = True
        self.memory_cap = memory_cap or _free_memory(self.device)
        self.max_rows = max_rows or ROWS[self.device.type]
        self.weights: Weights | None = None if reference else self._lean_weights()
        self.native = self._native_weights() if self.weights and native else None

    def generate(
        self, jobs: Iterable[Job], plan: Plan, extend: Extend | None = None
    ) -> Iterator[tuple[Job, int, Completion]]:
        """Yield (job, step, completion) as steps finish; jobs are pulled when a row falls free.

        extend(job, step, completion) returns the token ids to append after the completion (its stop
        token is not in the context), or None to end the chain. A context that would overflow ends the
        chain: its next step is yielded empty, with finish "length".
        """
        with torch.inference_mode():
            yield from Schedule(self, plan, jobs, extend).run()

    def checked_ids(self, ids: Iterable[int]) -> tuple[int, ...]:
        """Return token ids as a tuple; raises ValueError for one outside the vocabulary."""
        ids = tuple(ids)
        if ids and not (min(ids) >= 0 and max(ids) < self.vocab):
            wrong = next(i for i in ids if not 0 <= i < self.vocab)
            raise ValueError(f"token id {wrong} is outside the vocabulary of {self.vocab}")
        return ids

    def checked(self, job: Job) -> Job:
        """Return the job; raises ValueError for an empty, too long, or foreign prompt."""
        if not job.prompt:
            raise ValueError(f"the prompt of {job.problem!r} is empty; give at least one token")
        if len(job.prompt) >= self.context:
            raise ValueError(
                f"the prompt of {job.problem!r} has {len(job.prompt)} tokens; "
                f"the model's context of {self.context} leaves room for {self.context - 1}"
            )
        return Job(job.problem, job.chain, self.checked_ids(job.prompt))

    def rows_for(self, capacity: int, most: int) -> tuple[int, int]:
        """Return (rows, prompt slots) of `capacity` positions that the memory cap allows."""
        config, itemsize = self.model.config, self.dtype.itemsize
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        slot = 2 * config.num_hidden_layers * heads * width * itemsize * capacity
        for rows in range(most, 0, -1):
            spare = min(rows, 64) + 1
            if (rows + spare) * slot <= self.memory_cap:
                return rows, spare
        raise ValueError(
            f"memory_cap is {self.memory_cap} bytes; one row of {capacity} tokens and its prompt need "
            f"{3 * slot}"
        )

    def open_store(self, slots: int, capacity: int) -> Any:
        """Return an empty store for `slots` rows and prompts."""
        if self.weights is None:
            return ReferenceStore(self.model, slots, capacity)
        if self.native is not None:
            return NativeStore(self.native, slots, capacity)
        return LeanStore(self.weights, slots, capacity, self.dtype)

    def _native_weights(self) -> NativeWeights | None:
        """Return weights for the C forward where it applies: fp32, CPU, a compiler, fitting sizes."""
        if self.device.type != "cpu" or self.dtype != torch.float32 or library() is None:
            return None
        try:
            return NativeWeights(self.weights)
        except Unknown:
            return None

    @torch.inference_mode()
    def _lean_weights(self) -> Weights | None:
        """Return the lean weights if their logits match the model's own, else None with a warning."""
        try:
            weights = read_weights(self.model)
        except Unknown as reason:
            warnings.warn(f"{reason}: sampling by the model's own forward, slower", stacklevel=3)
            return None
        ids = [[(7 * i + 3) % self.vocab for i in range(min(12, self.context))]]
        store = LeanStore(weights, 1, len(ids[0]), self.dtype)
        ours = store.prefill([0], ids, [0])
        theirs = ReferenceStore(self.model, 1, len(ids[0])).prefill([0], ids, [0])
        gap = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
        if gap > TOLERANCE * (1 if self.dtype == torch.float32 else 1000):
            warnings.warn(
                f"lean logits differ from the model's by {gap:.1e}: sampling by its own forward, slower",
                stacklevel=3,
            )
            return None
        return weights


def _device(name: str) -> torch.device:
    """Return a device by name; "auto" takes CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but torch finds no CUDA device; use 'cpu' or 'auto'")
    if name.split(":")[0] not in ROWS:
        raise ValueError(f"device is {name!r}; allowed: auto, cpu, cuda, cuda:0, …")
    return torch.device(name)


def _free_memory(device: torch.device) -> int:
    """Return the bytes that keys and values may take: 60 % of what a GPU has free, 1 GiB of a CPU."""
    return int(torch.cuda.mem_get_info(device)[0] * 0.6) if device.type == "cuda" else CPU_MEMORY

"""Draw pools of completions from a causal language model, by token ids.

    engine = Engine(model, eos_ids=[tokenizer.eos_token_id])
    for job, step, completion in engine.generate(jobs, plan): ...

A prompt is prefilled once however many chains share it; rows of many problems decode together, and
finished rows are refilled; a revision extends its own cache. In C, rows that have drawn the same
tokens are computed once until they differ. What a row draws depends on the model and on (seed,
problem, chain, step) only. Knows nothing of tasks, texts or logs.

`schedule` assigns chains to rows, `draw` turns logits into tokens, and a store computes: `native`
in C on a CPU, `graphs` in Triton on a GPU, `lean` in torch. These support the families that
`weights` reads; every other model runs by its own forward.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch

from scaling.engine.isa import library
from scaling.engine.lean import LeanStore, ReferenceStore
from scaling.engine.native import NativeStore, NativeWeights
from scaling.engine.schedule import Extend, Job, Schedule
from scaling.engine.weights import Unknown, Weights, is_placed, read_weights
from scaling.records import Completion, Plan, device_name

Store = Any  #: what `LeanStore` offers: prefill, adopt, move, draw, advance
OpenStore = Callable[[int, int], Store]  #: (slots, capacity) -> store

DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}
#: largest accepted difference of lean and reference logits, relative to the largest logit above 1
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}
UNITS = ("float32", "bfloat16 vectors", "bfloat16 tiles")  #: what C computes on, as in bfloat16.c
PROMPTS = 128  #: prompts that may wait or be shared at a time
ROWS = {"cpu": 256, "cuda": 512}  #: rows in flight by default
CPU_MEMORY = 1 << 29  #: bytes of keys and values on a CPU by default


class Engine:
    """A model that is ready for sampling."""

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
        decode: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        """Take a `transformers` causal LM; it is moved to `device` and cast to `dtype`.

        eos_ids: tokens that end a completion. dtype: default float32 on a CPU, the model's own on a
        GPU. memory_cap: bytes of keys and values. max_rows: rows in flight. reference: run the
        model's own forward. native: use C or Triton where they are faster than torch. decode: turns
        token ids into text, for plans with stop strings.
        """
        self.device = _device(device)
        default = model.dtype if self.device.type == "cuda" else torch.float32
        if dtype not in (None, *DTYPES):
            raise ValueError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
        if max_rows is not None and max_rows < 1:
            raise ValueError(f"max_rows is {max_rows}; give at least 1")
        self.dtype = DTYPES[dtype] if dtype else default
        self.model = _moved(model, self.device, self.dtype).eval()
        config = model.config
        self.vocab, self.context = config.vocab_size, config.max_position_embeddings
        self.is_stop = np.zeros(self.vocab, bool)
        self.is_stop[list(self.checked_ids(eos_ids))] = True
        self.memory_cap = memory_cap or _free_memory(self.device)
        self.decode = decode
        self.max_rows = max_rows or ROWS[self.device.type]
        self.open_store = self._reference if reference else self._fastest(native)
        self.idle_store: Store | None = None  #: of the last run, for the next one

    def generate(
        self, jobs: Iterable[Job], plan: Plan, extend: Extend | None = None
    ) -> Iterator[tuple[Job, int, Completion]]:
        """Yield (job, step, completion) as steps finish; jobs are read when a row becomes empty.

        extend(job, step, completion) returns the token ids to append after the completion (its stop
        token is not in the context), or None to end the chain. A context that would overflow ends
        the chain: its next step is yielded empty, with finish "length".
        """
        return Schedule(self, plan, jobs, extend).run()

    @property
    def setting(self) -> dict[str, Any]:
        """Return the settings that a sample's last digits may depend on, for a run's manifest."""
        store = getattr(self.open_store, "func", ReferenceStore)
        found = {"device": str(self.device), "dtype": str(self.dtype).removeprefix("torch.")}
        found |= {"store": store.__name__, "threads": torch.get_num_threads()}
        if self.device.type == "cpu":
            found |= {"isa": "none", "torch_isa": torch.backends.cpu.get_cpu_capability().lower()}
        if store is NativeStore:
            weights = self.open_store.args[0]  # type: ignore[attr-defined]
            found |= {"isa": weights.compiled.isa, "units": UNITS[weights.units]}
        return found | {"max_rows": self.max_rows, "memory_cap": self.memory_cap}

    def checked_ids(self, ids: Iterable[int]) -> tuple[int, ...]:
        """Return token ids as a tuple; raises ValueError for one outside the vocabulary."""
        ids = tuple(ids)
        if ids and not (min(ids) >= 0 and max(ids) < self.vocab):
            wrong = next(i for i in ids if not 0 <= i < self.vocab)
            raise ValueError(f"token id {wrong} is outside the vocabulary of {self.vocab}")
        return ids

    def checked(self, job: Job) -> Job:
        """Return the job; raises ValueError for an empty or too long prompt, or unknown tokens."""
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
        config, itemsize = self.model.config, 2 if self.dtype.itemsize == 2 else 4
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        slot = 2 * config.num_hidden_layers * heads * width * itemsize * capacity
        for rows in range(most, 0, -1):
            spare = min(rows, PROMPTS) + 1
            if (rows + spare) * slot <= self.memory_cap:
                return rows, spare
        raise ValueError(
            f"memory_cap is {self.memory_cap} bytes; one row of {capacity} tokens and its prompts "
            f"need {3 * slot}"
        )

    def take_store(self, slots: int, capacity: int) -> Store:
        """Return a store with at least these slots and positions, the idle one if it is enough."""
        store, self.idle_store = self.idle_store, None
        if store is not None and store.reopened(slots, capacity):
            return store
        del store  # its memory may be needed
        return self.open_store(slots, capacity)

    def keep_store(self, store: Store) -> None:
        """Keep a store for the next run: its graphs or pages would cost time again."""
        if hasattr(store, "reopened"):
            self.idle_store = store

    def _reference(self, slots: int, capacity: int) -> Store:
        return ReferenceStore(self.model, slots, capacity)

    def _fastest(self, native: bool) -> OpenStore:
        """Return the opener of the fastest store whose logits match the model's; warn if none."""
        slower: Unknown | None = None
        try:
            weights = read_weights(self.model)
            if native and (fused := self._fused(weights)):
                try:
                    self._check(fused)
                    return fused
                except Unknown as reason:
                    slower = reason
            lean = partial(LeanStore, weights, dtype=self.dtype)
            self._check(lean)
        except Unknown as reason:
            warnings.warn(f"{reason}: sampling by the model's own forward, slower", stacklevel=3)
            return self._reference
        if slower:
            warnings.warn(f"{slower}: sampling in torch, slower", stacklevel=3)
        return lean

    def _fused(self, weights: Weights) -> OpenStore | None:
        """Return the opener of the store in C or Triton, if this machine has one for the dtype."""
        bf16 = self.dtype == torch.bfloat16
        if not bf16 and self.dtype != torch.float32:
            return None
        if self.device.type == "cuda":
            with suppress(ImportError):  # torch's CUDA builds bring Triton
                from scaling.engine.graphs import GraphStore

                return partial(GraphStore, weights, dtype=self.dtype)
        elif compiled := library():
            with suppress(Unknown):
                return partial(NativeStore, NativeWeights(weights, compiled, bf16))
        return None

    @torch.inference_mode()
    def _check(self, open_store: OpenStore) -> None:
        """Raise `Unknown` if a store's logits differ from the model's, in prefill or decoding."""
        length = min(20, self.context - 1)
        ids = [(7 * i * i + 3 * i + 1) % self.vocab for i in range(length)]
        store = open_store(2, length)
        store.prefill([1], [ids[: length // 2]], [0])
        store.adopt(1, 0, length // 2)
        ours = [store.prefill([0], [ids[length // 2 : -1]], [length // 2])]
        last, at = torch.tensor([[ids[-1]], [length - 1]], device=self.device)
        ours.append(store.decode(last, at, length - 1))
        model = self._reference(1, length)
        theirs = [model.prefill([0], [ids[:-1]], [0]), model.prefill([0], [ids[-1:]], [length - 1])]
        ours_all, theirs_all = torch.cat(ours).float(), torch.cat(theirs).float()
        gap = float((ours_all - theirs_all).abs().max() / theirs_all.abs().max().clamp(min=1))
        if not gap <= TOLERANCE[self.dtype]:
            raise Unknown(f"lean logits differ from the model's by {gap:.1e}")


def _device(name: str) -> torch.device:
    """Return a device by name; "auto" takes CUDA where there is one."""
    if device_name(name) == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but torch finds no CUDA device; use 'cpu' or 'auto'")
    return torch.device(name)


def _moved(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the model, cast; its rotary frequencies stay as they are.

    `to` would round them: in bfloat16 positions beyond a few hundred then turn by wrong angles.
    """
    if is_placed(model):
        return model
    rotary = [(part, part.inv_freq) for part in model.modules() if hasattr(part, "inv_freq")]
    model.to(device, dtype)
    for part, frequencies in rotary:
        part.inv_freq = frequencies.to(device)
    return model


def _free_memory(device: torch.device) -> int:
    """Return the bytes for keys and values: 60 % of a GPU's free ones, 512 MiB on a CPU."""
    return int(torch.cuda.mem_get_info(device)[0] * 0.6) if device.type == "cuda" else CPU_MEMORY

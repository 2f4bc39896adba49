"""Our engine against `generate` of transformers: same weights, prompts and lengths, in turns.

Speeds are useful tokens per second: tokens that end up in a sample, a stop token included. Models
have random weights, whose samples diverge at once; those of "pool" are shipped models, whose
samples share prefixes that our engine computes once. `generate` is called as users call it, one
prompt per call; its variants use the number of rows per call that suited them best. Says nothing
about accuracy. `benchmarks.estimates` times the estimators.
"""

from __future__ import annotations

import csv
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf

from benchmarks import estimates
from scaling import compute
from scaling.engine import Engine, Job
from scaling.models import load_lm
from scaling.records import Plan
from scaling.tasks import get_task

KERNELS = 9  #: per layer and step, of `engine.graphs`
STOP = 1  #: token id that ends a sample where lengths are ragged
LADDER = Path("data/models/ladder")


@dataclass(frozen=True)
class Work:
    """One row of the table: what is sampled, from how large a model."""

    name: str
    model: str  #: a name in MODELS
    rows: int  #: samples in all
    per_prompt: int  #: samples of each prompt
    prompt: int = 24  #: tokens
    new: int = 64  #: most new tokens per step
    ragged: bool = False  #: stop tokens end samples (about one token in 64), else all have `new`
    steps: int = 1  #: revision steps, four tokens of prompt between them
    task: str = ""  #: whose prompts are taken; "" are random ones
    device: str = ""  #: where alone it is run; "" anywhere
    floors: tuple[float, float] = (2.5, 2.0)  #: least ratios to default and best `generate`; or NaN


def llama(hidden: int, layers: int, context: int = 1024) -> tf.PretrainedConfig:
    """Return a Llama-style configuration with heads of 32 channels and a vocabulary of 64."""
    return tf.LlamaConfig(
        vocab_size=64, hidden_size=hidden, num_hidden_layers=layers, tie_word_embeddings=True,
        num_attention_heads=hidden // 32, intermediate_size=hidden * 8 // 3 // 16 * 16,
        max_position_embeddings=context, bos_token_id=0, eos_token_id=STOP, pad_token_id=0,
    )  # fmt: skip


MODELS: dict[str, Callable[[], tf.PretrainedConfig]] = {
    "0.2M": lambda: llama(64, 4),
    "1M": lambda: llama(128, 5),
    "5M": lambda: llama(256, 6),
    "30M": lambda: llama(512, 9),
    "gpt2": tf.GPT2Config,
    "qwen": lambda: tf.Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=STOP,
        pad_token_id=0,
    ),
}
TRAINED = ("0.1M/1e14", "0.3M/1e14", "1.3M/1e14")
MODELS |= {name: partial(tf.AutoConfig.from_pretrained, LADDER / name) for name in TRAINED}
LARGE, RAGGED, LONG, CHAINS = (5, 2.5), (6, 5), (13, 10), (4, 3)  #: floors of works
NONE = float("nan")
WORKS = [
    *(
        Work(f"fixed {rows} x 64", model, rows, 64)
        for model in ("0.2M", "1M", "5M")
        for rows in (64, 256, 1024)
    ),
    *(Work("fixed 64 x 32", name, 64, 64, new=32, floors=LARGE) for name in ("30M", "gpt2")),
    *(
        work
        for name in ("0.2M", "1M")
        for work in (
            Work("ragged 256", name, 256, 64, new=256, ragged=True, floors=RAGGED),
            Work("prompt 512", name, 64, 64, prompt=512, new=32, floors=LONG),
            Work("revision 8 steps", name, 64, 1, new=24, steps=8, floors=CHAINS),
        )
    ),
    *(
        Work(f"pool of {task}", name, 256, 64, ragged=True, task=task, floors=RAGGED)
        for name in TRAINED
        for task in ("countdown", "sums")
    ),
    *(
        Work(f"fixed {rows} x 256", model, rows, 64, 256, 256, device="cuda", floors=(least, NONE))
        for model in ("gpt2", "qwen")
        for rows, least in ((64, 8), (256, 5))
    ),
]
BATCHES = (16, 64, 256, 1024)  #: rows per call that `generate` is tried with
DTYPES = {False: torch.float32, True: torch.bfloat16}  #: by whether an engine's name says so
BETWEEN = [5, 6, 7, 8]  #: tokens that a revision appends


Others = Mapping[str, Callable[[Work], int]]


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set torch's fp32 matrix precision for a while."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache  # not a part of what is timed
def prompts(work: Work) -> list[list[int]]:
    """Return one prompt per group of samples: random, or those of a task that are as long."""
    draws, count = np.random.default_rng(0), work.rows // work.per_prompt
    if not work.task:
        return draws.integers(9, 64, size=(count, work.prompt)).tolist()
    lm, task = load_lm(LADDER / work.model, weights=False), get_task(work.task)
    found = [list(lm.encode(task.prompt(problem))) for problem in task.problems(200)]
    [(usual, _)] = Counter(map(len, found)).most_common(1)
    return [prompt for prompt in found if len(prompt) == usual][:count]


@torch.inference_mode()
def run_generate(model: Any, work: Work, batch: int, **options: Any) -> int:
    """Sample the work with `generate`, `batch` rows per call; return useful tokens."""
    useful = 0
    rows = torch.tensor(prompts(work)).repeat_interleave(work.per_prompt, 0).to(model.device)
    for ids in rows.split(batch):
        for _ in range(work.steps):
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0,
                max_new_tokens=work.new, pad_token_id=0,
                eos_token_id=STOP if work.ragged else None, **options,
            )  # fmt: skip
            new = out[:, ids.shape[1] :]
            stopped = (new == STOP).long().cumsum(1) - (new == STOP).long() > 0
            useful += int((~stopped).sum()) if work.ragged else new.numel()
            ids = torch.cat([out, torch.tensor([BETWEEN] * len(out), device=out.device)], 1)
    return useful


def run_ours(engine: Engine, work: Work) -> int:
    """Sample the work with our engine; return useful tokens."""
    jobs = [
        Job(str(i), chain, tuple(prompt))
        for i, prompt in enumerate(prompts(work))
        for chain in range(work.per_prompt)
    ]
    plan = Plan(max_new_tokens=work.new, steps=work.steps)

    def extend(job: Job, step: int, completion: Any) -> list[int] | None:
        return BETWEEN if step + 1 < work.steps else None

    done = engine.generate(jobs, plan, extend)
    return sum(completion.completion_tokens for _, _, completion in done)


def competitors(work: Work, device: str) -> dict[str, Callable[[], int]]:
    """Return each engine of the comparison as a call that samples the work once."""
    torch.manual_seed(0)
    kind = tf.AutoModelForCausalLM
    shipped = kind.from_pretrained(LADDER / work.model) if work.task else None
    model = (shipped or kind.from_config(MODELS[work.model]())).eval()
    half = deepcopy(model).to(device, torch.bfloat16)
    model = model.to(device)
    model.generation_config.eos_token_id = half.generation_config.eos_token_id = None
    eos = [STOP] if work.ragged else []
    ours = {
        f"ours, {dtype}": Engine(deepcopy(model), eos_ids=eos, device=device, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    }
    peer = half if device != "cpu" else model  # what a user of this device would call
    users = work.per_prompt if work.per_prompt > 1 else work.rows
    best = fastest_batch(peer, work)

    def medium() -> int:
        with matmul_precision("medium"):
            return run_generate(model, work, best)

    return {
        "generate": lambda: run_generate(peer, work, users),
        f"generate, {best} rows": lambda: run_generate(peer, work, best),
        "generate, static cache": lambda: run_generate(
            peer, work, best, cache_implementation="static"
        ),
        "generate, medium": medium,
        "generate, bfloat16": lambda: run_generate(half, work, best),
        **{name: partial(run_ours, engine, work) for name, engine in ours.items()},
    }


def fastest_batch(model: Any, work: Work) -> int:
    """Return the rows per call at which `generate` is fastest on this work, of those in BATCHES.

    One call of each is timed; of ragged lengths, where calls differ, all the work.
    """
    tried = sorted({min(rows, work.rows) for rows in (*BATCHES, work.per_prompt, work.rows)})
    tried = [rows for rows in tried if rows >= 16 or rows == work.rows]

    def cost(rows: int) -> float:
        one = replace(work, rows=rows, per_prompt=min(rows, work.per_prompt))
        part = work if work.ragged else one
        return _seconds(partial(run_generate, model, part, rows)) / part.rows

    return min(tried, key=cost)


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Return this machine's own matrix rate, in FLOP/s."""
    size = 1024 if device == "cpu" else 8192  # so small a GPU would only launch
    a = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / fastest(lambda: a @ a)


def launch_seconds(device: str, kernels: int = 1000) -> float:
    """Return the seconds of one tiny kernel that waits for the one before, within a CUDA graph."""
    if device == "cpu":
        return 0.0
    x, graph = torch.zeros(1024, device=device), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(kernels):
            x.add_(1)
    return fastest(graph.replay) / kernels


def copy_rate(device: str, size: float) -> float:
    """Return this machine's copy rate (bytes/s, read and written) within `size` bytes of memory.

    What fits in a cache is read from there: at most 2**28 bytes are tried, at least 2**16.
    """
    half = int(min(max(size, 2**16), 2**28)) // 2
    source, target = (torch.zeros(half, dtype=torch.uint8, device=device) for _ in range(2))
    times = 1 + 2**24 // half

    def copy() -> None:
        for _ in range(times):
            target.copy_(source)

    return 2 * half * times / fastest(copy)


def fastest(call: Callable[[], object], most: int = 9, enough: float = 2.0) -> float:
    """Return the seconds of the fastest of `most` calls, of two where `enough` seconds are gone."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < most and sum(taken) < enough):
        taken.append(_seconds(call))
    return min(taken)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def limit(work: Work, device: str, dtype: torch.dtype) -> float:
    """Return the tokens per second that the machine's rates allow a decode step of this work.

    Weights, and a prompt that samples share, are read once per step; rows of at most 256 go on
    together. A GPU's step takes no less than its kernels' launches (KERNELS a layer). Prefill is
    left out, so that works with long prompts cannot reach their limit.
    """
    shape, rows = compute.Shape.from_config(MODELS[work.model]()), min(work.rows, 256)
    context = work.steps * (work.prompt + work.new) / 2 if work.steps > 1 else work.new / 2
    own = compute.kv_bytes(shape, context, dtype.itemsize)
    shared = compute.kv_bytes(shape, work.prompt, dtype.itemsize) / min(work.per_prompt, rows)
    moved = own + shared + compute.total_parameters(shape) * dtype.itemsize / rows
    flops = compute.forward_flops(shape, 1, context + work.prompt)
    rates = matrix_rate(device, dtype), copy_rate(device, float(moved) * rows)
    launches = launch_seconds(device) * KERNELS * shape.layers / rows
    return 1 / max(float(compute.seconds(flops, moved, *rates)), launches)


def peak_megabytes(device: str, reset: bool = False) -> float:
    """Return the most memory held since the last reset, in MB; NaN if /proc does not report it."""
    if device != "cpu":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(work: Work, repeats: int, device: str, others: Others) -> list[dict[str, Any]]:
    """Return one row per engine: speeds over repeats, taken in turns after one warm-up each.

    `fraction_of_limit` is of what the machine's rates in the engine's precision would allow were
    each row computed (rows of one context are not, so it may pass 1), NaN for `others`, whose
    precision is their own. Floors are what is asked of our faster precision.
    """
    engines = competitors(work, device)
    engines |= {name: partial(sample, work) for name, sample in others.items()}
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    memory: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, sample in engines.items():
            peak_megabytes(device, reset=True)
            start = time.perf_counter()
            tokens = sample()
            if repeat:
                speeds[name].append(tokens / (time.perf_counter() - start))
            memory[name] = peak_megabytes(device)
    median = {name: float(np.median(values)) for name, values in speeds.items()}
    best = max(value for name, value in median.items() if name.startswith("generate"))
    single, half = (limit(work, device, DTYPES[bf16]) for bf16 in (False, True))
    limits = {False: single, True: max(single, half)}  # without units for bfloat16: float32's
    most = {name: NONE if name in others else limits["bfloat16" in name] for name in engines}
    return [
        {
            "work": work.name, "model": work.model, "engine": name, "device": device,
            "tokens_per_second": median[name], "low": min(values), "high": max(values),
            "ratio_to_default": median[name] / median["generate"],
            "floor_to_default": work.floors[0],
            "ratio_to_best_peer": median[name] / best,
            "floor_to_best_peer": work.floors[1],
            "fraction_of_limit": median[name] / most[name],
            "peak_megabytes": memory[name], "repeats": repeats, "threads": torch.get_num_threads(),
        }
        for name, values in speeds.items()
    ]  # fmt: skip


def bench(
    works: list[Work] | None = None,
    repeats: int = 5,
    device: str = "auto",
    path: Path | None = None,
    others: Others | None = None,
) -> list[dict[str, Any]]:
    """Return a row per work and engine, and write them to `path` (CSV) as they come.

    others: further engines by name, each a call that samples a work and returns useful tokens.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[dict[str, Any]] = []
    for work in WORKS if works is None else works:
        if work.device not in ("", device.split(":")[0]):
            continue
        rows += measure(work, repeats, device, others or {})
        if path is not None:
            write(rows, path)
    return rows


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows as CSV, all of them or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    with aside.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    aside.replace(path)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table for a terminal."""
    head = f"{'work':<18}{'model':<10}{'engine':<24}{'tok/s':>9}{'low':>9}{'high':>9}"
    lines = [head + f"{'/default':>9}{'floor':>6}{'/best':>7}{'floor':>6}{'/limit':>7}{'MB':>6}"]
    for r in rows:
        line = f"{r['work']:<18}{r['model']:<10}{r['engine']:<24}"
        line += "".join(f"{r[key]:>9.0f}" for key in ("tokens_per_second", "low", "high"))
        line += f"{r['ratio_to_default']:>9.2f}{r['floor_to_default']:>6g}"
        line += f"{r['ratio_to_best_peer']:>7.2f}{r['floor_to_best_peer']:>6g}"
        lines.append(line + f"{r['fraction_of_limit']:>7.2f}{r['peak_megabytes']:>6.0f}")
    return "\n".join(lines)


def chosen(models: Sequence[str], works: Sequence[str]) -> list[Work]:
    """Return the works of these models whose names hold one of these words; none given: all."""
    unknown = [name for name in models if name not in MODELS]
    if unknown:
        raise ValueError(f"no benchmark model {unknown[0]!r}; allowed: {', '.join(MODELS)}")
    found = [work for work in WORKS if work.model in (models or MODELS)]
    found = [work for work in found if not works or any(word in work.name for word in works)]
    if not found:
        raise ValueError(f"no work is named like {works}: {', '.join(w.name for w in WORKS)}")
    return found


def bench_loops(repeats: int, path: Path) -> str:
    """Return the table of the estimators, each number with its limit, and write it as CSV."""
    rows = estimates.measure(repeats)
    write(rows, path)
    lines = []
    for r in rows:
        lines.append(f"{r['workload']}, {r['size']}; against {r['loop']}")
        for what, met in (
            (f"{r['seconds']:.4f} s, at most {r['most']:g}", r["seconds"] <= r["most"]),
            (f"{r['ratio']:.0f} times faster, at least {r['floor']:g}", r["ratio"] >= r["floor"]),
        ):
            lines.append(f"  {what}: {'met' if met else 'MISSED'}")
    return "\n".join(lines)

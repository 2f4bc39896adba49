"""Our engine beside `transformers` generate: same weights, prompts and lengths, in turns.

Speeds are useful tokens per second: tokens that end up in a sample, a stop token included. Models
have random weights: speed does not depend on what they have learnt. Not for accuracy.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf

from scaling import compute
from scaling.engine import Engine, Job
from scaling.records import Plan

STOP = 1  #: token id that ends a sample where lengths are ragged


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
}
WORKS = [
    Work("fixed 64 x 64", "0.2M", 64, 64),
    Work("fixed 256 x 64", "0.2M", 256, 64),
    Work("fixed 1024 x 64", "0.2M", 1024, 64),
    Work("fixed 256 x 64", "1M", 256, 64),
    Work("fixed 64 x 64", "5M", 64, 64),
    Work("fixed 64 x 32", "30M", 64, 64, new=32),
    Work("fixed 64 x 32", "gpt2", 64, 64, new=32),
    Work("ragged 256", "0.2M", 256, 64, new=256, ragged=True),
    Work("ragged 256", "1M", 256, 64, new=256, ragged=True),
    Work("prompt 512", "0.2M", 64, 64, prompt=512, new=32),
    Work("prompt 512", "1M", 64, 64, prompt=512, new=32),
    Work("revision 8 steps", "0.2M", 64, 1, new=24, steps=8),
    Work("revision 8 steps", "1M", 64, 1, new=24, steps=8),
]
BETWEEN = [5, 6, 7, 8]  #: tokens that a revision appends


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set torch's fp32 matrix precision for a while."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def prompts(work: Work) -> list[list[int]]:
    """Return one random prompt per group of samples."""
    draws = np.random.default_rng(0)
    shape = (work.rows // work.per_prompt, work.prompt)
    return draws.integers(9, 64, size=shape).tolist()


@torch.inference_mode()
def run_generate(model: Any, work: Work, **options: Any) -> int:
    """Sample the work with `generate`, a prompt per call as its users do; return useful tokens."""
    useful = 0
    calls = prompts(work) if work.per_prompt > 1 else [prompts(work)]
    for call in calls:
        ids = torch.tensor(call, device=model.device).view(-1, work.prompt)
        copies = work.per_prompt
        for _ in range(work.steps):
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0,
                num_return_sequences=copies, max_new_tokens=work.new, pad_token_id=0,
                eos_token_id=STOP if work.ragged else None, **options,
            )  # fmt: skip
            new = out[:, ids.shape[1] :]
            stopped = (new == STOP).long().cumsum(1) - (new == STOP).long() > 0
            useful += int((~stopped).sum()) if work.ragged else new.numel()
            ids = torch.cat([out, torch.tensor([BETWEEN] * len(out), device=out.device)], 1)
            copies = 1
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
    model = tf.AutoModelForCausalLM.from_config(MODELS[work.model]()).eval()
    half = deepcopy(model).to(device, torch.bfloat16)
    model = model.to(device)
    model.generation_config.eos_token_id = half.generation_config.eos_token_id = None
    eos = [STOP] if work.ragged else []
    dtype = "bfloat16" if device != "cpu" else "float32"
    engine = Engine(deepcopy(model), eos_ids=eos, device=device, dtype=dtype)

    def medium() -> int:
        with matmul_precision("medium"):
            return run_generate(model, work)

    return {
        "generate": lambda: run_generate(model, work),
        "generate, static cache": lambda: run_generate(model, work, cache_implementation="static"),
        "generate, medium": medium,
        "generate, bf16": lambda: run_generate(half, work),
        "ours": lambda: run_ours(engine, work),
    }


def machine(device: str) -> tuple[float, float]:
    """Return this machine's own matrix rate (FLOP/s) and copy rate (bytes/s, read and written)."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    a = torch.randn(1024, 1024, dtype=dtype, device=device)
    big = torch.zeros(1 << 26, dtype=torch.uint8, device=device)
    with matmul_precision("medium"):
        multiply = min(_seconds(lambda: a @ a) for _ in range(9))
    return 2 * 1024**3 / multiply, 2 * big.numel() / min(_seconds(big.clone) for _ in range(9))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def limit(work: Work, flops_per_second: float, bytes_per_second: float, itemsize: int) -> float:
    """Return the tokens per second that the machine's rates allow one decode step of this work."""
    shape = compute.Shape.from_config(MODELS[work.model]())
    context = work.prompt + work.new / 2
    flops = compute.forward_flops(shape, 1, context)
    weights = compute.total_parameters(shape) * itemsize / min(work.rows, 256)
    moved = compute.kv_bytes(shape, context, itemsize) + weights
    return 1 / float(compute.seconds(flops, moved, flops_per_second, bytes_per_second))


def peak_megabytes(reset: bool = False) -> float:
    """Return the most memory held since the last reset, in MB; NaN where /proc does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(
    work: Work, repeats: int, device: str, rates: tuple[float, float]
) -> list[dict[str, Any]]:
    """Return one row per engine: speeds over repeats, taken in turns after one warm-up each."""
    engines = competitors(work, device)
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    memory: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, sample in engines.items():
            peak_megabytes(reset=True)
            start = time.perf_counter()
            tokens = sample()
            if repeat:
                speeds[name].append(tokens / (time.perf_counter() - start))
            memory[name] = peak_megabytes()
    median = {name: float(np.median(values)) for name, values in speeds.items()}
    best = max(value for name, value in median.items() if name != "ours")
    most = limit(work, *rates, itemsize=4 if device == "cpu" else 2)
    return [
        {
            "work": work.name, "model": work.model, "engine": name, "device": device,
            "tokens_per_second": median[name], "low": min(values), "high": max(values),
            "ratio_to_default": median[name] / median["generate"],
            "ratio_to_best_peer": median[name] / best, "fraction_of_limit": median[name] / most,
            "peak_megabytes": memory[name], "repeats": repeats, "threads": torch.get_num_threads(),
        }
        for name, values in speeds.items()
    ]  # fmt: skip


def bench(
    works: list[Work] | None = None,
    repeats: int = 5,
    device: str = "auto",
    path: Path | None = None,
) -> list[dict[str, Any]]:
    """Return a row per work and engine, and write them to `path` (CSV) as they come."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    rates, rows = machine(device), []
    for work in WORKS if works is None else works:
        rows += measure(work, repeats, device, rates)
        if path is not None:
            write(rows, path)
    return rows


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    with aside.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    aside.replace(path)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table for a terminal."""
    head = f"{'work':<18}{'model':<6}{'engine':<24}{'tok/s':>9}{'low':>9}{'high':>9}"
    lines = [head + f"{'/default':>9}{'/best':>7}{'/limit':>8}{'MB':>7}"]
    for r in rows:
        line = f"{r['work']:<18}{r['model']:<6}{r['engine']:<24}"
        line += "".join(f"{r[key]:>9.0f}" for key in ("tokens_per_second", "low", "high"))
        line += f"{r['ratio_to_default']:>9.2f}{r['ratio_to_best_peer']:>7.2f}"
        lines.append(line + f"{r['fraction_of_limit']:>8.2f}{r['peak_megabytes']:>7.0f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] = ()) -> None:
    """Run the benchmarks that the arguments name, print their table, and write it as CSV."""
    parser = argparse.ArgumentParser(
        prog="scaling bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--models", default=",".join(MODELS), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="auto, cpu, or cuda")
    parser.add_argument("--out", type=Path, default=Path("data/derived/bench.csv"))
    options = parser.parse_args(arguments)
    names = options.models.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown or options.repeats < 1:
        raise ValueError(
            f"models {options.models!r}, repeats {options.repeats}: give models among "
            f"{', '.join(MODELS)}, and at least 1 repeat"
        )
    works = [work for work in WORKS if work.model in names]
    print(report(bench(works, options.repeats, options.device, options.out)))

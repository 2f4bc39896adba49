"""The GPU's kernels without a GPU: run by Triton's interpreter, and compiled for a real one.

Triton is not among the kit's dependencies (torch's CUDA builds bring it): `make test-kernels`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

if "triton" in sys.modules:  # torch's CUDA builds load it; how it runs kernels is settled then
    pytest.skip("Triton is loaded already: make test-kernels", allow_module_level=True)
INTERPRET = pytest.MonkeyPatch()
INTERPRET.setenv("TRITON_INTERPRET", "1")  # read when Triton is imported, and when kernels run
pytest.importorskip("triton", reason="Triton is not installed; make test-kernels")

from scaling.engine import Engine, Job  # noqa: E402
from scaling.engine import graphs as fused  # noqa: E402
from scaling.engine.weights import read_weights  # noqa: E402
from scaling.records import Plan  # noqa: E402
from tests.test_engine import CONFIGS, again, random_model, samples  # noqa: E402

INTERPRET.undo()
PROMPTS = [tuple(np.random.default_rng(i).integers(2, 61, size=9 + i).tolist()) for i in range(2)]
JOBS = [Job(f"p{i}", chain, prompt) for i, prompt in enumerate(PROMPTS) for chain in range(2)]
PLANS = {
    "qwen3": [Plan(steps=2, max_new_tokens=5), Plan(temperature=0.7, max_new_tokens=4)],
    "gpt2": [Plan(temperature=0, max_new_tokens=5)],
    "gpt_neox": [Plan(top_k=5, max_new_tokens=4)],
}


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run kernels in Python, on this machine's processor."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.usefixtures("interpreted")
def test_kernels_draw_what_the_lean_forward_draws(name: str) -> None:
    """Chains share prompts, are moved, and continue their contexts; log-probabilities agree."""
    model = random_model(CONFIGS[name])
    lean = Engine(model, eos_ids=[1], device="cpu", native=False)
    ours = Engine(model, eos_ids=[1], device="cpu", native=False, max_rows=3)
    ours.open_store = partial(fused.GraphStore, read_weights(model), dtype=torch.float32)
    for plan in PLANS[name]:
        found = samples(ours, JOBS, plan, again if plan.steps > 1 else None)
        expected = samples(lean, JOBS, plan, again if plan.steps > 1 else None)
        assert {k: v[:5] for k, v in found.items()} == {k: v[:5] for k, v in expected.items()}
        for key, row in expected.items():
            assert found[key][5:] == pytest.approx(row[5:], abs=1e-4)
    assert ours.idle_store is not None, "graphs would be captured anew in each run"


def test_rows_are_rounded_up_to_few_sizes_by_at_most_a_half() -> None:
    sizes = [fused._rounded(n) for n in range(1, 600)]
    assert all(n <= size <= 1.5 * n + 1 for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 21


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from scaling.engine import kernels

def built(kernel, constants, **types):
    kinds = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    done = triton.compile(ASTSource(kernel, kinds, places), target=GPUTarget("cuda", 90, 32))
    return "ptx" in done.asm

real, table, tile = "*fp32", "*i32", dict(TILE=16, KEYS=64)
for kind in ("*bf16", "*fp32"):
    parts = dict(tops=real, totals=real, sums=real)
    heads = dict(HEADS=14, D=64, WIDE=64, SPLITS=2)
    assert built(
        kernels.attend,
        heads | dict(KV_HEADS=2, HALF=32, EPS=1e-6, NORMED=True, PRECISION="ieee") | tile,
        qkv=kind, kv=kind, cos=real, sin=real, q_gain=kind, k_gain=kind, positions=table,
        slots=table, starts=table, ends=table, readers=table, rows="i32", furthest="i32",
        half_stride="i64", slot_stride="i32", head_stride="i32", scale="fp32", **parts)
    assert built(kernels.merge, heads, starts=table, out=kind, **parts)
    assert built(
        kernels.add_norm, dict(HIDDEN=896, WIDE=1024, ADDED=2, RMS=False, BIASED=True),
        x=kind, first=kind, second=kind, gain=kind, bias=kind, out=kind, eps="fp32")
    for name in ("silu", "gelu", "gelu_tanh"):
        sizes = dict(INNER=4864, GATED=name == "silu", KIND=name, BLOCK=1024)
        assert built(kernels.activate, sizes, x=kind, out=kind)
    sizes = dict(VOCAB=151936, PIECE=1024, PIECES=149)
    logits = dict(logits=kind, tops=real, sums=real, cooled=real, coldness="fp32")
    assert built(kernels.weigh, sizes, **logits)
    assert built(
        kernels.pick, sizes | dict(WIDE=256, STEPS=16), uniforms="*fp64", counts=table,
        tokens="*i64", own=real, sampled=real, **logits)
assert built(
    kernels.note, dict(STEPS=16, BLOCK=256), tokens="*i64", own=real, sampled=real, last="*i64",
    positions=table, counts=table, trail="*i64", logs="*fp64", rows="i32", capacity="i32")
"""


def test_every_kernel_compiles_for_a_gpu() -> None:
    """The interpreter lets pass what the compiler does not: names that change their shape."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, cwd=root,
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

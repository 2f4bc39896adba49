"""What the tests share: a tiny model with random weights, and one trained enough for opinions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test files run side by side, one thread each
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """Return a folder that holds a random two-layer model of the ladder's family, with its card."""
    import torch
    from transformers import AutoModelForCausalLM

    from scaling.models import LM, character_tokenizer, make_card, save_lm, tiny_config

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(32, 1))
    folder = tmp_path_factory.mktemp("models") / "tiny" / "1e9"
    save_lm(
        LM(model, character_tokenizer(), make_card(model, "tiny/1e9", 1e9, 10)),
        folder,
        skills=["revision"],
    )
    return folder


def few_replicates(patch: pytest.MonkeyPatch) -> None:
    """Have intervals of fifty replicates, for tests that look at what is drawn, not at how wide."""
    from scaling import intervals
    from scaling.comparisons import policy

    weights = intervals.problem_weights

    def few(problems: int, replicates: int = 50, *rest: Any, **options: Any) -> Any:
        return weights(problems, min(replicates, 50), *rest, **options)

    for module in (intervals, policy):
        patch.setattr(module, "problem_weights", few)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `few_replicates` in one test."""
    few_replicates(monkeypatch)


@pytest.fixture
def svg_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have figures saved in their cheapest format alone, for tests that do not open them."""
    from scaling.figures import plots

    monkeypatch.setattr(plots, "FORMATS", {"svg": plots.FORMATS["svg"]})


# Files whose tests share servers, workers or runs stay whole; the longest begin first
LONG = "notebooks study benchmarks servers executors joint reporting fits faults fuzz train bench"
FIRST = [f"test_{name}" for name in LONG.split()]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell xdist what belongs together (`--dist loadgroup`): a file, or one notebook."""

    def rank(item: pytest.Item) -> int:
        return FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST)

    items.sort(key=rank)
    for item in items:
        alone = item.path.stem == "test_notebooks"
        item.add_marker(pytest.mark.xdist_group(item.name if alone else item.path.stem))

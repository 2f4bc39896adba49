"""What the README shows runs as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from scaling.tasks import TASKS, get_task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.split("\n")[0])
def test_its_python_runs(code, monkeypatch):
    monkeypatch.chdir(ROOT)
    known = dict(TASKS)
    for module in ("scaling.tasks", "scaling.tasks.catalogue"):
        monkeypatch.setattr(f"{module}.TASKS", known)
    exec(compile(code, "README.md", "exec"), names := {})
    if "Doubles" in names:
        task = get_task("doubles")
        problem = task.problems(3)[0]
        assert task.verify(problem, problem.answer).correct
        assert not task.verify(problem, "no").correct


def test_every_file_it_points_to_exists():
    links = re.findall(
        r"\]\(([^)#]+)\)|`((?:notebooks|scaling|tests|figures|data)/[\w./]+\.\w+)`", README
    )
    for path in {a or b for a, b in links} - {"data/derived/accuracy.csv"}:
        assert (ROOT / path).exists(), path


def test_the_models_of_the_first_figure_are_as_large_as_the_caption_says():
    cards = (ROOT / "data/models" / path / "card.json" for path in
             ("maze-quit/0.05M/1e13", "permutations/0.11M/2e13"))  # fmt: skip
    sizes = [json.loads(card.read_text())["n_params"] / 1e6 for card in cards]
    assert f"{sizes[0]:.2f} and {sizes[1]:.1f} million parameters" in README


def test_intervals_are_as_wide_as_the_known_limits_say():
    table = pd.read_csv(ROOT / "data" / "derived" / "accuracy.csv")
    table = table[table.accuracy.between(0.4, 0.6) & table.n_problems.isin((50, 100))]
    half = 50 * (table.high - table.low)
    assert f"{half.min():.0f} to {half.max():.0f} percentage points" in README

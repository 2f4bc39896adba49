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


def test_held_out_points_are_as_far_off_as_the_caption_says():
    facts = json.loads((ROOT / "figures" / "o1_two_panels.json").read_text())["facts"]
    off = [100 * abs(e) for fact in facts.values() for e in fact.get("held_out_error", ())]
    assert f"lie {min(off):.0f} to {max(off):.0f} percentage points off" in README


def test_intervals_are_as_wide_as_the_known_limits_say():
    table = pd.read_csv(ROOT / "data" / "derived" / "accuracy.csv")
    table = table[table.accuracy.between(0.4, 0.6) & table.n_problems.isin((50, 100))]
    half = 50 * (table.high - table.low)
    assert f"{half.min():.0f} to {half.max():.0f} percentage points" in README

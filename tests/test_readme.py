"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scaling.tasks import TASKS, get_task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.split("\n")[0])
def test_its_python_runs(code, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("scaling.tasks.TASKS", dict(TASKS))
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

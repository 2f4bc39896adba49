"""What docs/methods.md shows works as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_methods import Words, pools
from test_search import Steps

from scaling.methods import METHODS, draw
from scaling.models import load_lm
from scaling.records import Plan
from scaling.tasks import get_task

PAGE = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.fixture
def names(monkeypatch):
    """Return what the page's code defines; its additions to the tables are taken back."""
    for name in ("second_look", "near_best"):
        monkeypatch.setitem(METHODS, name, None)
    defined: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "methods.md", "exec"), defined)
    return defined


def test_its_method_looks_again_at_short_answers(names):
    plan = Plan(method="second_look", chains=2, steps=2)
    assert METHODS["second_look"].selectors == ("coverage", "last")
    for text, samples in (("7=7", 4), ("7=1234", 2), ("?", 4)):
        found, _ = pools(lambda *_, text=text: text, plan, n=1)
        assert [len(rows) for rows in found.values()] == [samples]


def test_its_policy_is_chosen_on_train_problems_and_run_on_others(names, tiny_folder, tmp_path):
    lm, task = load_lm(tiny_folder), get_task("sums", ("2x99",))
    gain, runs = names["by_difficulty"](lm, task, 1e9, tmp_path, n=8)
    assert {name for row in gain.choice for name in row} <= {"temperature 0.6", "temperature 1.0"}
    assert len(runs.pop("pilot").samples) == 4 * 8
    drawn = [problem for run in runs.values() for problem in run.problems["id"]]
    assert sorted(drawn) == sorted(problem.id for problem in task.problems(8))


def test_its_search_and_its_scorer_find_the_good_branch(names):
    task = get_task("sums", ("4x99",))
    found = dict(
        draw(Words(), task, task.problems(2), names["plan"], Steps(3), names["Truthful"]())
    )
    assert all(rows[-1].correct for rows in found.values())

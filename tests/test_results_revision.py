"""Revision compared with fresh samples, on a reviser and a searcher that are simulated."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from test_forecasts import CARD

from scaling.records import Sample
from scaling.results import revision
from scaling.runs import load_run
from scaling.store import open_run
from scaling.tasks import get_task
from scaling.tasks.maze import chance_of_dead_ends, write_walk, wrong_branches

PROBLEMS = 100  # of each level


def chains_of(wanted, problem, rng):
    """Return the texts of each chain of a perfect reviser, walker or searcher."""
    if wanted.plan.method == "best_of_n":
        search = {"go_on": 1.0, "remembers": True} if wanted.task == "maze-search" else {}
        return [[write_walk(problem, rng, **search)] for _ in range(wanted.plan.chains)]
    drafts, wrong = list[str](), set[str]()
    for _ in range(wanted.plan.steps):
        drafts.append(write_walk(problem, rng, avoided=wrong))
        wrong |= wrong_branches(problem, drafts[-1])
        if wanted.plan.feedback == "verdict" and drafts[-1] == problem.answer:
            break
    return [drafts]


def simulated(root, wanted):
    task, rng = get_task(wanted.task, wanted.levels), Random(0)
    problems = task.problems(PROBLEMS * len(wanted.levels))
    card = replace(CARD, name=wanted.model)
    options = {"task": wanted.task, "card": card, "plan": wanted.plan, "problems": problems}
    with open_run(root, **options) as writer:
        for problem in problems:
            rows = []
            for chain, texts in enumerate(chains_of(wanted, problem, rng)):
                context = len(problem.prompt)
                for step, text in enumerate(texts):
                    cached = context - 1 if step else 0
                    new = len(text) + 1
                    verdict = task.verify(problem, text)
                    facts = -1.0, -1.0, context, cached, new, 0.1, "stop"
                    rows.append(Sample(problem.id, chain, step, text, verdict.answer,
                                       verdict.correct, *facts))  # fmt: skip
                    context += new
            writer.write(rows)
        return load_run(writer.seal())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    runs = [simulated(root, wanted) for wanted in revision.SAMPLED]
    return {(row["case"], row["quantity"]): row for row in revision.rows(runs)}


@pytest.mark.parametrize("level", revision.FRESH.levels)
def test_a_perfect_reviser_is_right_as_often_as_is_known(found, level):
    for steps in (1, 2, revision.STEPS):
        case = f"{level}, {steps} drafts without feedback"
        known = chance_of_dead_ends(level, steps - 1)
        assert found[case, "right within them, perfect reviser"]["value"] == known
        spread = (known * (1 - known) / PROBLEMS) ** 0.5  # 5 of these: a false alarm in 10^6
        assert abs(found[case, "right within them"]["value"] - known) <= 5 * spread


def test_drafts_beat_fresh_walks_of_equal_cost_on_deep_mazes_and_not_searches(found):
    case = f"8x1, {revision.STEPS} drafts without feedback"
    gain = found[f"{case}, any right", "gain at equal test FLOPs"]
    assert gain["low"] > 0.5
    baseline = found[f"{case}, any right", "accuracy of the baseline"]["value"]
    samples = found[f"{case}, any right", "samples of the baseline"]["value"]
    chance = 1 - (1 - 2**-8) ** samples  # of a walker that cannot look ahead
    assert abs(baseline - chance) < 5 * (chance / PROBLEMS) ** 0.5
    assert found[f"{case} against searches", "gain at equal test FLOPs"]["high"] <= 0


def test_a_perfect_reviser_breaks_nothing_and_repeats_only_what_is_right(found):
    for draft in range(2, revision.STEPS + 1):
        assert found[f"all levels, draft {draft}", "broken"]["value"] == 0
        assert found[f"all levels, draft {draft}", "fixed"]["value"] > 0.1

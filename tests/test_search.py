"""Searches on a scripted model and scorer, where the right behaviour is known exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from test_methods import Words

from scaling import compute
from scaling.methods import METHODS, draw, searches
from scaling.methods.search import Node, beam, dvts, particles, rebase
from scaling.models import load_lm
from scaling.records import Completion, Plan
from scaling.runs import load_run
from scaling.store import open_run
from scaling.tasks import get_task

LEVELS = ("4x99",)  # three steps


class Steps:
    """An engine that writes one step of a sum: right in child `good` of each parent, else off."""

    context = 512

    def __init__(self, good):
        self.good, self.words, self.calls = good, Words(), []
        self.is_stop = np.zeros(96, bool)
        self.is_stop[1] = True

    def generate(self, jobs, plan):
        (end,) = self.words.encode(";")
        assert self.is_stop[end], "a step ends the sampling"
        seen: dict[tuple, int] = {}
        for job in jobs:
            context = self.words.decode(job.prompt)
            numbers = [int(n) for n in job.problem.split("+")]
            done = context.count(";")
            key = (job.problem, job.chain // plan.steps, context)
            child = seen[key] = seen.get(key, -1) + 1
            total = sum(numbers[: done + 1]) if done == 0 else int(context.split("=")[-1][:-1])
            step = f"{total}+{numbers[done + 1]}={total + numbers[done + 1] + self.off(child)}"
            last = done + 3 == len(numbers) + 1
            tokens = self.words.encode(step)
            stop = 1 if last else end
            self.calls.append(job)
            yield (
                job,
                0,
                Completion(
                    tokens, -1.0, -1.0, "stop", len(job.prompt), 0, len(tokens) + 1, 0.01, stop
                ),
            )

    def off(self, child):
        return 0 if child == self.good else 100 + child


class Exact:
    """A scorer that knows the truth; it is priced like the model `card`."""

    name = "exact"

    def __init__(self, card=None):
        self.card, self.read = card, 0

    def __call__(self, pairs):
        self.read += len(pairs)
        return [[0.0 if self.on_track(problem, text) else -9.0] for problem, text in pairs]

    def on_track(self, problem, text):
        numbers = [int(n) for n in problem.id.split("+")]
        steps = text.rstrip(";").split(";")
        return int(steps[-1].split("=")[-1]) == sum(numbers[: len(steps) + 1])


def run(plan, good=3, scorer=None, n=2):
    task = get_task("sums", LEVELS)
    engine = Steps(good)
    problems = task.problems(n)
    return dict(draw(Words(), task, problems, plan, engine, scorer or Exact())), engine


BEAM = Plan(method="beam", chains=1, steps=12, width=4, keep=1, max_new_tokens=20)


def test_a_beam_finds_the_one_good_branch_where_sampling_finds_it_once_in_64():
    found, engine = run(BEAM)
    for rows in found.values():
        assert [row.correct for row in rows].index(True) == 11  # the last child of round three
        assert rows[-1].correct
    assert len(engine.calls) == 2 * 12


def test_a_search_ends_at_its_cap_where_all_contexts_are_full_after_a_step(monkeypatch):
    """Rounds without a free node ask for nothing and are only scored; one after another failed."""
    prompt = get_task("sums", LEVELS).prompt(get_task("sums", LEVELS).problems(1)[0])
    monkeypatch.setattr(Steps, "context", len(Words().encode(prompt)) + 3)
    found, engine = run(BEAM, n=1)
    (rows,) = found.values()
    assert len(engine.calls) == 4
    assert [row.completion_tokens > 0 for row in rows] == [True] * 4 + [False] * (len(rows) - 4)


@pytest.mark.parametrize("method", searches())
def test_every_search_finds_it_too_and_binds_its_cap(method):
    plan = replace(
        BEAM, method=method, width=8, steps=24, keep=1 * ("keep" in METHODS[method].reads)
    )
    found, _ = run(plan)
    for rows in found.values():
        assert rows[-1].correct
        assert len(rows) <= plan.steps
        assert [row.step for row in rows] == list(range(len(rows)))


def test_a_cap_that_is_no_multiple_of_the_width_is_spent_to_the_last_node():
    found, engine = run(replace(BEAM, steps=10), n=1)
    assert [len(rows) for rows in found.values()] == [10]
    assert len(engine.calls) == 10
    assert [row.answer for rows in found.values() for row in rows][:8] == [None] * 8


def test_a_beam_as_wide_as_its_round_prunes_nothing_and_is_best_of_n():
    plan = replace(BEAM, keep=4, steps=12)
    found, _ = run(plan, good=0)
    for rows in found.values():
        assert rows[-1].correct
        assert len({row.text.split(";")[0] for row in rows[-4:]}) == 4  # four separate lines


def test_rows_off_the_path_are_discarded_and_those_on_it_are_the_answer():
    found, _ = run(BEAM, n=1)
    (rows,) = found.values()
    kept = [row for row in rows if row.finish != "discarded"]
    assert [row.text for row in kept] == [
        rows[-1].text.rsplit(";", 2 - i)[0] + ";" * (i < 2) for i in range(3)
    ]


def test_the_ledger_adds_up_scorer_passes_and_discarded_branches_included(tiny_folder, tmp_path):
    """Sum of every row's FLOPs = tokens sampled and read, recounted from the tree by hand."""
    lm, task = load_lm(tiny_folder), get_task("sums", LEVELS)
    scorer, plan, problems = Exact(lm.card), replace(BEAM, chains=2), task.problems(2)
    words, shape = Words(), compute.Shape(**lm.card.shape)
    extra = {"scorer": {"name": "exact", "shape": lm.card.shape}}
    with open_run(
        tmp_path, task="sums", card=lm.card, plan=plan, problems=problems, extra=extra
    ) as writer:
        for _, rows in draw(words, task, problems, plan, Steps(3), scorer):
            writer.write(rows)
        pool = load_run(writer.seal())
    flops = 0.0
    for problem in problems:
        prompt = len(words.encode(problem.prompt))
        flops += 2 * compute.forward_flops(shape, prompt, 0, logit_rows=0)  # model and scorer
        for _ in range(plan.chains):
            total, context = int(problem.id.split("+")[0]), prompt
            numbers = [int(n) for n in problem.id.split("+")]
            for index, number in enumerate(numbers[1:]):
                for child in range(4):
                    new = len(f"{total}+{number}={total + number + Steps(3).off(child)}") + 1
                    began = context - (index > 0)
                    flops += compute.forward_flops(
                        shape, new - 1 + (index > 0), began, logit_rows=new
                    )
                    read = new - (index == 2)  # the model's stop token is no text
                    flops += compute.forward_flops(shape, read, context, logit_rows=0)
                    if child == 3:
                        grown = new
                total, context = total + number, context + grown
    spent = pool.cost("flops", np.array([plan.steps])).sum()
    per_problem = flops / plan.chains  # the prompt is shared by both chains, and paid once
    shared = 2 * sum(
        compute.forward_flops(shape, len(words.encode(p.prompt)), 0, logit_rows=0) for p in problems
    )
    assert spent == pytest.approx(per_problem + shared * (1 - 1 / plan.chains), rel=1e-9)
    assert scorer.read == 2 * 2 * 12


def nodes(*scores):
    return [Node(i, i, None, score=math.log(s)) for i, s in enumerate(scores)]


def counts(shares):
    return {node.index: children for node, children in shares if children}


def test_rules_share_the_room_as_their_papers_say():
    plan, rng = Plan(method="beam", steps=64, width=8, keep=2), Random(0)
    four = nodes(0.9, 0.8, 0.2, 0.1)
    assert counts(beam(plan, four, 8, rng)) == {0: 4, 1: 4}
    # subtrees are roots 0, 2 and 1, 3: the best of each goes on, however bad
    assert counts(dvts(plan, nodes(0.9, 0.1, 0.8, 0.2), 8, rng)) == {0: 4, 3: 4}
    weights = np.exp(np.array([0.9, 0.8, 0.2, 0.1]) / 0.2)
    shares = counts(rebase(plan, four, 800, rng))
    assert sum(shares.values()) == 800
    assert [shares[i] for i in range(4)] == pytest.approx(800 * weights / weights.sum(), abs=1)


def test_particles_follow_the_rise_of_the_chance():
    """1000 draws at 0.6 : 0.3 : 0.1; five standard errors, false alarm below 1e-5, seed fixed."""
    plan = Plan(method="particles", steps=4000, width=1000)
    shares = counts(particles(plan, nodes(0.6, 0.3, 0.1), 1000, Random(1)))
    assert sum(shares.values()) == 1000
    for index, share in enumerate((0.6, 0.3, 0.1)):
        assert abs(shares[index] - 1000 * share) < 5 * math.sqrt(1000 * share * (1 - share))


def test_particles_with_exact_chances_draw_from_the_successes():
    """The twisted filter on a known tree: survivors' shares are those of the model given success.

    Four paths, model probability 1/2 each way; three succeed: each should hold a third of the
    survivors. 3000 particles, tolerance five standard errors, seed fixed.
    """
    plan, rng, n = Plan(method="particles", steps=9000, width=3000), Random(2), 3000
    success = {"aa": 1.0, "ab": 1.0, "ba": 1.0, "bb": 1e-12}
    chance = {"a": 1.0, "b": 0.5}
    first = [rng.choice("ab") for _ in range(n)]
    start = [Node(i, i, None, text, score=math.log(chance[text])) for i, text in enumerate(first)]
    grown = [node for node, c in particles(plan, start, n, rng) for _ in range(c)]
    ends = []
    for i, parent in enumerate(grown):
        text = parent.text + rng.choice("ab")
        ends.append(Node(i, 0, parent, text, score=math.log(success[text])))
    last = [node.text for node, c in particles(plan, ends, n, rng) for _ in range(c)]
    for text in ("aa", "ab", "ba"):
        assert abs(last.count(text) / n - 1 / 3) < 5 * math.sqrt(3 * (1 / 3) * (2 / 3) / n)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 0}, "width is 0"),
        ({"steps": 3}, "width is 4 with a cap of 3 nodes"),
        ({"keep": 5}, "keep is 5; beam of width 4"),
        ({"keep": 0}, "keep is 0"),
        ({"method": "baem"}, "did you mean 'beam'"),
        ({"stop_after_correct": 1}, "does not read it.*best_of_n"),
        ({"feedback": "verdict"}, "feedback is 'verdict', but beam"),
        ({"method": "best_of_n", "steps": 1}, "keep is 1, but best_of_n"),
    ],
)
def test_plans_that_do_not_fit_are_one_clear_line(change, says):
    with pytest.raises(ValueError, match=says):
        run(replace(BEAM, **change))


def test_a_search_without_a_scorer_says_so():
    task = get_task("sums", LEVELS)
    with pytest.raises(ValueError, match="beam needs a scorer"):
        draw(Words(), task, task.problems(1), BEAM, Steps(0))


class Bad(Exact):
    name = "bad"

    def __init__(self, result):
        super().__init__()
        self.result = result

    def __call__(self, pairs):
        return self.result(pairs)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (lambda pairs: [[0.0]], "returned 1 scores for 8 texts"),
        (lambda pairs: [[math.nan]] * len(pairs), r"returned \[nan\] for"),
        (lambda pairs: [[]] * len(pairs), r"returned \[\] for"),
    ],
)
def test_a_scorer_that_miscounts_or_is_nan_is_one_clear_line(result, says):
    with pytest.raises(ValueError, match=says):
        run(BEAM, scorer=Bad(result))


def test_minus_infinity_ranks_last_and_breaks_nothing():
    for method in searches():
        plan = replace(BEAM, method=method, keep=1 * ("keep" in METHODS[method].reads))
        found, _ = run(plan, scorer=Bad(lambda p: [[-math.inf]] * len(p)))
        assert len(found) == 2


def test_a_search_on_the_real_engine_ends_and_repeats_itself(tiny_folder):
    from scaling.engine import Engine

    lm, task = load_lm(tiny_folder), get_task("sums", LEVELS)
    plan = replace(BEAM, chains=2, steps=16)
    scorer = Bad(lambda pairs: [[-float(len(text))] for _, text in pairs])
    found = []
    for rows_in_flight in (3, 256):
        engine = Engine(lm.model, eos_ids=lm.eos_ids, max_rows=rows_in_flight)
        problems = dict(draw(lm, task, task.problems(3), plan, engine, scorer))
        found.append(
            {p.id: [(r.chain, r.step, r.text) for r in rows] for p, rows in problems.items()}
        )
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_the_command_line_refuses_a_search_that_does_not_fit_before_it_loads_a_model(capsys):
    from scaling.cli import main

    arguments = [
        "sample",
        "--model",
        "nowhere",
        "--task",
        "sums",
        "--method",
        "beam",
        "--width",
        "8",
        "--steps",
        "4",
    ]
    assert main(arguments) == 1
    assert "width is 8 with a cap of 4 nodes" in capsys.readouterr().err

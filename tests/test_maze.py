"""Mazes have one right path, walks are their own certificates, and known chances are met."""

from __future__ import annotations

import re
from collections import Counter
from itertools import permutations, product
from math import comb
from random import Random

import numpy as np
import pytest

from scaling.models import ALPHABET
from scaling.records import Problem, Verdict
from scaling.tasks import content_split, get_task
from scaling.tasks.catalogue import MAZES
from scaling.tasks.maze import (
    ROOMS,
    Maze,
    MazeSearch,
    chance_of_dead_ends,
    chance_within,
    chance_without_look_ahead,
    coverage_without_look_ahead,
    mean_search_length,
    parse_problem,
    write_walk,
    wrong_branches,
)

NAMES = [task.name for task in MAZES]
#: a leads to b (right) and to c, e; b to d (the exit) and to f, g
PROBLEM = Problem("ab,ce,bd,ac,bf,fg;ad", "", "abd", "2x2")


def reachable(ways: dict[str, list[str]], start: str) -> Counter[str]:
    """Return the number of ways from a room to every room, by following all of them."""
    found = Counter(start)
    for room in ways[start]:
        found += reachable(ways, room)
    return found


@pytest.mark.parametrize("level", ["1", "3", "8", "11x2", "8x2x2", "4x1x1x3", "2x3x2x4"])
def test_a_maze_is_a_tree_with_one_right_path_of_the_stated_size(level):
    parts = [*map(int, level.split("x"))]
    junctions, dead_end, corridor, branches = (*parts, *(3, 1, 2)[len(parts) - 1 :])
    for problem in Maze((level,)).problems(20):
        ways, start, exit = parse_problem(problem.id)
        assert reachable(ways, start) == dict.fromkeys(ways, 1)
        assert len(problem.answer) == 1 + junctions * corridor
        assert problem.answer[0] == start
        assert problem.answer[-1] == exit
        assert sorted(map(len, ways.values())).count(branches) == junctions
        ends = [room for room, onward in ways.items() if not onward and room != exit]
        assert len(ends) == junctions * (branches - 1)
        assert len(ways) == 1 + junctions * (corridor + (branches - 1) * dead_end)
        assert set(problem.prompt) <= set(ALPHABET)


@pytest.mark.parametrize("name", NAMES)
def test_all_kinds_of_walk_are_asked_for_on_the_same_problems(name):
    problems, same = get_task(name).problems(60), Maze().problems(60)
    assert [(p.id, p.answer) for p in problems] == [(p.id, p.answer) for p in same]
    assert len({get_task(name).mark for name in NAMES}) == len(NAMES)
    assert all(p.prompt == p.id + get_task(name).mark for p in problems)


def test_the_order_of_passages_does_not_move_a_maze_to_the_other_split():
    passages, _, ends = Maze(("1",)).problems(1)[0].id.partition(";")
    orders = {",".join(order) for order in permutations(passages.split(","))}
    assert len(orders) == 24
    assert len({content_split(f"{order};{ends}") for order in orders}) == 1


@pytest.mark.parametrize(
    ("text", "answer", "correct"),
    [
        ("abd", "abd", True),
        (" abd\n", "abd", True),
        ("ace|abd", "abd", True),
        ("abfg|bd", "abd", True),
        ("ace|ac|abd", "abd", True),  # a dead end taken twice
        ("abd|abd", "abd", True),
        ("abd|a", "a", False),
        ("ace", "ace", False),
        ("ab", "ab", False),
        ("a", "a", False),
        ("abg", "abg", False),  # no passage
        ("bd", "bd", False),  # begins elsewhere
        ("zd", "zd", False),
        ("ace|bd", "ace|bd", False),  # back to where it has not been
        ("ad", "ad", False),
        ("|abd", None, False),
        ("abd|", None, False),
        ("ace||abd", None, False),
        ("a,b,d", None, False),
        ("abxd", None, False),
        ("ABD", None, False),
        ("", None, False),
        ("abd" + "|abd" * 128, None, False),
    ],
)
def test_a_walk_is_right_if_every_step_is_a_passage_and_the_last_room_the_exit(
    text, answer, correct
):
    assert MazeSearch().verify(PROBLEM, text) == Verdict(answer, correct)
    path = Verdict(text, False) if answer and "|" in text else Verdict(answer, correct)
    assert Maze().verify(PROBLEM, text) == path  # a path does not return


def test_every_short_text_is_judged_as_enumeration_judges_it():
    """All texts of up to five characters over the rooms of a small maze, and returns."""
    small = Problem("ab,ac;ab", "", "ab", "1x1")
    right = {"ab", "ac|ab", "ab|ab", "ab|b", "a|ab"}
    texts = ("".join(text) for n in range(6) for text in product("abc|", repeat=n))
    assert {text for text in texts if MazeSearch().verify(small, text).correct} == right


@pytest.mark.parametrize(
    ("name", "right"), [("maze", 1.0), ("maze-search", 1.0), ("maze-walk", 1 / 8)]
)
def test_texts_to_imitate_are_legal_and_as_often_right_as_is_known(name, right):
    task, rng = get_task(name, ("3",)), Random(0)
    verdicts = [
        task.verify(problem, task.example(problem, rng)[1]) for problem in task.problems(2000)
    ]
    assert all(len(verdict.answer) in (2, 3, 4, 5, 6) for verdict in verdicts)
    spread = np.sqrt(right * (1 - right) / 2000)  # 5 of these: a false alarm in 10^6
    assert abs(np.mean([verdict.correct for verdict in verdicts]) - right) <= 5 * spread
    assert chance_without_look_ahead("3") == 1 / 8


def test_coverage_of_walks_without_look_ahead_is_a_line_in_the_logarithm_of_samples():
    levels, task = [f"{depth}x1" for depth in range(1, 11)], get_task("maze-walk")
    known = [coverage_without_look_ahead(levels, 2**n) for n in range(9)]
    np.testing.assert_allclose(np.diff(known), 0.1, atol=0.05)  # a tenth of the levels each time
    rng, samples, found = Random(0), 16, []
    for level in levels:
        for problem in Maze((level,)).problems(200):
            texts = [task.example(problem, rng)[1] for _ in range(samples)]
            found.append(any(task.verify(problem, text).correct for text in texts))
    error = np.std(found) / np.sqrt(len(found))  # 5 of these: a false alarm in 10^6
    assert abs(np.mean(found) - known[4]) <= 5 * error


def test_few_walks_that_quit_return_and_only_a_search_never_repeats_a_branch():
    rng, quits = Random(0), get_task("maze-quit", ("8",))
    problems = quits.problems(1000)
    returns = np.mean(["|" in quits.example(problem, rng)[1] for problem in problems])
    assert 0.05 < returns < 0.15  # 10 % of first dead ends; 5 standard deviations
    searched = [write_walk(p, rng, go_on=1.0, remembers=True) for p in problems]
    drawn = [write_walk(p, rng, go_on=1.0) for p in problems]

    def repeats(walk: str) -> bool:
        ends = [part[-1] for part in walk.split("|")]
        return len({*ends}) < len(ends)

    assert not any(map(repeats, searched))
    known = 1 - 0.75**8  # two wrong draws or more at one of eight junctions
    assert abs(np.mean([*map(repeats, drawn)]) - known) < 0.05  # 5 standard deviations


@pytest.mark.parametrize(("name", "go_on"), [("maze-quit", 0.1), ("maze-rare", 0.02)])
def test_walks_that_quit_return_and_succeed_as_often_as_is_known(name, go_on):
    """At each of three junctions: right at once, or after dead ends that it returns from."""
    task, rng = get_task(name, ("3",)), Random(0)
    pairs = [(problem, task.example(problem, rng)[1]) for problem in task.problems(2000)]
    for found, known in (
        ([task.habits(problem.id, text)["returns"] > 0 for problem, text in pairs], 7 / 8 * go_on),
        ([task.verify(*pair).correct for pair in pairs], (0.5 / (1 - 0.5 * go_on)) ** 3),
    ):
        assert abs(np.mean(found) - known) <= 5 * np.sqrt(known * (1 - known) / 2000)


@pytest.mark.parametrize(
    ("walk", "wrong"), [("ace", "c"), ("abfg", "cf"), ("abd", "cf"), ("acez", "c")]
)
def test_a_walk_shows_which_branches_are_wrong(walk, wrong):
    assert wrong_branches(PROBLEM, walk) == set(wrong)


def test_a_draft_that_took_one_of_three_ways_shows_only_that_one_to_be_wrong():
    assert wrong_branches(Problem("ab,ac,ad,be,ce;ae", "", "abe", ""), "ad") == {"d"}
    assert wrong_branches(Problem("ab,ac,ad,be,cf;ae", "", "abe", ""), "abe") == {"c", "d"}


def test_drafts_of_walks_avoid_what_earlier_ones_showed_and_succeed_as_often_as_is_known():
    """With two ways on, a draft more than there are wrong turns among the junctions: binomial."""
    task, rng = get_task("maze-revise", ("8x1",)), Random(0)
    right: dict[int, list[bool]] = {}
    for problem in task.problems(3000):
        context, text = task.example(problem, rng)
        *drafts, rest = re.split("[~x]", context.removeprefix(problem.prompt))
        assert rest == ""
        for i, draft in enumerate(drafts):
            known = set[str]().union(*(wrong_branches(problem, before) for before in drafts[:i]))
            assert not known & set(draft)
            assert problem.answer != draft or ("x" not in context and text == draft)
        if "x" not in context:
            right.setdefault(len(drafts), []).append(task.verify(problem, text).correct)
    assert sorted(right) == [*range(6)]
    for drafts, found in right.items():
        known = sum(comb(8, wrong) for wrong in range(drafts + 1)) / 2**8
        assert chance_of_dead_ends("8x1", drafts) == pytest.approx(known)
        spread = np.sqrt(known * (1 - known) / len(found))  # 5 of these: a false alarm in 10^6
        assert abs(np.mean(found) - known) <= 5 * spread


def test_a_tenth_of_paths_are_searches_and_all_are_right():
    task, rng = get_task("maze-paths", ("8",)), Random(0)
    pairs = [(problem, task.example(problem, rng)[1]) for problem in task.problems(2000)]
    assert all(task.verify(*pair).correct for pair in pairs)
    searches = np.mean([text != problem.answer for problem, text in pairs])
    known = 0.1 * (1 - 0.5**8)  # a search may be right at once
    assert abs(searches - known) <= 5 * np.sqrt(known * (1 - known) / 2000)


def test_habits_are_counted_by_hand_and_half_of_what_a_forgetful_search_enters_is_repeated():
    def habits(text: str) -> tuple[int, ...]:
        return tuple(Maze().habits(PROBLEM.id, text).values())

    assert habits("abd") == (0, 0, 0)
    assert habits("ace") == (0, 1, 0)
    assert habits("ace|ac|abfg|bd") == (3, 3, 1)
    assert habits("ace|ag|abd") == (1, 1, 0)  # ag is no passage: the rest is not counted
    assert habits("ace|2|abd") == (0, 1, 0)  # back to a room that is not in the maze
    assert habits("ace|bd") == (0, 1, 0)  # or that it has not visited
    assert habits("bfg") == habits("") == (0, 0, 0)
    rng, task = Random(0), Maze(("8",))
    drawn = [task.habits(p.id, write_walk(p, rng, 1.0)) for p in task.problems(1000)]
    total = {name: sum(habits[name] for habits in drawn) for name in drawn[0]}
    assert total["returns"] == total["dead_ends"]
    assert abs(total["dead_ends"] / 8000 - 1) < 0.08  # geometric: standard deviation 0.016
    assert abs(total["repeats"] / total["dead_ends"] - 0.5) < 0.04


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("level", ["1", "4", "8", "8x2x2", "3x2x1x3", "2x1"])
def test_searches_have_the_known_length(level, remembers):
    rng = Random(0)
    problems = Maze((level,)).problems(100)
    walks = [write_walk(p, rng, go_on=1.0, remembers=remembers) for p in problems * 40]
    lengths = np.array([len(walk) for walk in walks])
    error = lengths.std() / np.sqrt(len(lengths))  # 5 of these: a false alarm in 10^6
    assert abs(lengths.mean() - mean_search_length(level, remembers)) <= 5 * error
    for length in (2, 5, 9, 20, 40):
        chance = chance_within(level, length, remembers)
        spread = np.sqrt(chance * (1 - chance) / len(lengths))
        assert abs((lengths <= length).mean() - chance) <= 5 * spread
    assert chance_within(level, 10_000, remembers) == pytest.approx(1)


def test_known_lengths_are_those_of_the_default_maze():
    assert [mean_search_length(level) for level in "1248"] == [4.5, 8, 15, 29]
    assert [mean_search_length(level, remembers=False) for level in "1248"] == [7, 13, 25, 49]
    assert chance_within("8", 80, remembers=False) == pytest.approx(0.93, abs=0.01)


@pytest.mark.parametrize(
    ("level", "says"),
    [
        ("", "give JUNCTIONS, JUNCTIONSxDEAD_END"),
        ("four", "level is 'four'; give JUNCTIONS"),
        ("4x2x2x2x2", "give JUNCTIONS"),
        ("4x2x0", "at least 1 room"),
        ("-1", "give JUNCTIONS"),
        ("0", "at least 1 junction"),
        ("2x0", "at least 1 room"),
        ("2x2x1x1", "2 ways on"),
        ("9", "a maze of 37 rooms"),
    ],
)
def test_a_level_that_is_no_maze_is_one_clear_line(level, says):
    with pytest.raises(ValueError, match=says) as caught:
        Maze((level,))
    assert "\n" not in str(caught.value)


def test_rooms_are_letters_that_mean_nothing_else():
    assert len(set(ROOMS)) == 35
    assert set(ROOMS) <= set(ALPHABET) - set("x~|>;,:?.!")

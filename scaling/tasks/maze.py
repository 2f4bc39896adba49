"""Mazes: walk from the start to the exit of a tree of one-way passages with dead ends.

Prompt `ab,ce,bd,ac;ad:`: the passages in random order, then start, exit and a mark. Solution `abd`:
the rooms of the right path. A walk that meets a dead end may return to a room that it has visited:
`ace|abd` goes back to `a`. A walk is its own certificate: every step must be a passage, and the
last room the exit.

These tasks pose the same problems. Their prompts differ in the mark, and each has its own texts to
imitate, so the mark decides which kind of walk a model writes that has learnt several of them:

`maze`         the right path, which takes look-ahead to find; a text that returns is no path
`maze-search`  depth first: branches in random order, none taken twice
`maze-walk`    a random branch at every junction; a dead end ends the walk
`maze-quit`    the same, but a tenth of dead ends is followed by a return and another draw
`maze-rare`    the same, but only one dead end in fifty is
`maze-paths`   the right path, or in a tenth of the texts a search
`maze-revise`  as `maze-walk`, but after drafts whose dead ends it avoids

Models that have imitated `maze-quit`, `maze-rare` or `maze-paths` are where training by reward
starts. Nothing in `maze-quit` and `maze-rare` says which branch is right: a model can be rewarded
more often only by returning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import islice, pairwise
from random import Random
from typing import ClassVar

import numpy as np

from scaling.records import FEEDBACKS, Problem, Verdict
from scaling.tasks.base import GeneratedTask, revision_suffix

ROOMS = "0123456789abcdefghijklmnopqrstuvwyz"  #: without x, which says that a draft was wrong
BACK = "|"  #: in a walk: return to the room that follows
SIZE = 3, 1, 2  #: of a level that says no more: rooms of a dead end and of a corridor, ways on
SEARCHES = 0.1  #: share of the texts of `maze-paths` that are searches
DRAFTS = 5  #: most drafts before a walk of `maze-revise`
LONGEST_WALK = 512  #: characters
STEP = rf"\{BACK}?[{ROOMS}]"
WALK = re.compile(f"[{ROOMS}]({STEP})*")
Size = tuple[int, int, int, int]  #: junctions, rooms of a dead end and of a corridor, ways on


def parse_level(level: str) -> Size:
    """Return the size of a level: "4" has four junctions, "4x2" dead ends of two rooms.

    "4x2x2" has corridors of two rooms too: the second is the next junction or the exit. "4x2x2x3"
    has three ways on at a junction, two of which are dead ends.
    """
    parts = level.split("x")
    if not (all(part.isdigit() for part in parts) and len(parts) <= 4):
        raise ValueError(
            f"level is {level!r}; give JUNCTIONS, JUNCTIONSxDEAD_END or JUNCTIONSxDEAD_ENDxCORRIDOR"
            ", e.g. 4 or 4x2x2"
        )
    size: Size = (*map(int, parts), *SIZE[len(parts) - 1 :])  # type: ignore[assignment]
    if min(size) < 1 or size[-1] < 2 or count_rooms(size) > len(ROOMS):
        raise ValueError(
            f"level is {level!r}, a maze of {count_rooms(size)} rooms; give at least 1 junction, "
            f"dead ends and corridors of at least 1 room, 2 ways on, and at most {len(ROOMS)} rooms"
        )
    return size


class Maze(GeneratedTask):
    """Levels are the number of junctions, see `parse_level`; the text to imitate is the path."""

    name: ClassVar[str] = "maze"
    family = "maze"  #: tasks of one family draw the same problems
    default_levels = ("1", "2", "3", "4", "6", "8")
    mark: ClassVar[str] = ":"  #: ends the prompt
    may_return: ClassVar[bool] = False  #: whether a walk that returns may be right
    parse_level = staticmethod(parse_level)

    def draw(self, level: str, rng: Random) -> Problem:
        """Return one maze; its id is the prompt without the mark."""
        junctions, dead_end, corridor, branches = self.sizes[level]
        rooms = iter(rng.sample(ROOMS, count_rooms(self.sizes[level])))
        path, passages = next(rooms), list[str]()
        for _ in range(junctions):
            lengths = (corridor, *[dead_end] * (branches - 1))
            ways = [path[-1] + "".join(islice(rooms, length)) for length in lengths]
            passages += ["".join(pair) for way in ways for pair in pairwise(way)]
            path += ways[0][1:]
        rng.shuffle(passages)
        content = f"{','.join(passages)};{path[0]}{path[-1]}"
        return Problem(id=content, prompt=content + self.mark, answer=path, level=level)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Return whether the text is a walk through passages to the exit.

        Where a path is asked for it may not return: a model that has learnt searches too goes on
        searching after a wrong turn, whatever the mark. The answer is the way to the last room
        without what the walk took back, so that votes count equal ways; it is the text itself where
        a step or return is not allowed.
        """
        text = text.strip()
        if len(text) > LONGEST_WALK or not WALK.fullmatch(text):
            return Verdict(None, False)
        ways, start, exit = parse_problem(problem.id)
        room, way_to = start, {start: start}  #: way_to: visited room -> way without returns
        if text[0] != start:
            return Verdict(text, False)
        for step in re.findall(STEP, text[1:]):
            if step[-1] not in (way_to if step[0] == BACK else ways[room]):
                return Verdict(text, False)
            way_to.setdefault(step[-1], way_to[room] + step[-1])
            room = step[-1]
        allowed = self.may_return or BACK not in text
        return Verdict(way_to[room] if allowed else text, allowed and room == exit)

    def habits(self, problem_id: str, text: str) -> dict[str, int]:
        """Return counts of what a walk does, up to a step or return that is not allowed.

        returns: to a room visited before; dead_ends: entries into one; repeats: entries into one
        that was entered before. Half of the entries of a search that forgets are repeats.
        """
        ways, start, exit = parse_problem(problem_id)
        from_room = {onward: room for room, found in ways.items() for onward in found}
        path = [exit]
        while path[-1] != start:
            path.append(from_room[path[-1]])
        room, visited, entered, returns = start, {start}, list[str](), 0
        for step in re.findall(STEP, text[1:]) if text[:1] == start else ():
            if step[-1] not in (visited if step[0] == BACK else ways[room]):
                break
            returns += step[0] == BACK
            if step[0] != BACK and room in path and step not in path:
                entered.append(step)
            room = step[-1]
            visited.add(room)
        repeats = len(entered) - len(set(entered))
        return {"returns": returns, "dead_ends": len(entered), "repeats": repeats}

    def wrong(self, problem: Problem, rng: Random) -> str:
        """Return a walk that ends in a dead end."""
        while (walk := write_walk(problem, rng))[-1] == problem.answer[-1]:
            continue
        return walk


class MazeSearch(Maze):
    """Search depth first, without taking a branch twice."""

    name, mark, may_return = "maze-search", "?", True

    def example(self, problem: Problem, rng: Random) -> tuple[str, str]:
        """Return the prompt, and a search that finds the exit."""
        return problem.prompt, write_walk(problem, rng, go_on=1.0, remembers=True)


class MazeWalk(Maze):
    """Take a random branch at every junction, and stop at the first dead end."""

    name, mark = "maze-walk", "."

    def example(self, problem: Problem, rng: Random) -> tuple[str, str]:
        """Return the prompt, and a walk without look-ahead and without returns."""
        return problem.prompt, write_walk(problem, rng)


class MazeRevise(MazeWalk):
    """Walk after drafts, and take no branch that they have shown to be wrong."""

    name, mark = "maze-revise", "^"

    def example(self, problem: Problem, rng: Random) -> tuple[str, str]:
        """Return the prompt with up to `DRAFTS` drafts, each after the first a revision; the next.

        With verifier feedback a right draft is the last one; without, it is written again.
        """
        context, suffix = problem.prompt, revision_suffix(rng.choice(FEEDBACKS))
        wrong, text = set[str](), write_walk(problem, rng)
        for _ in range(rng.randint(0, DRAFTS)):
            if text == problem.answer and suffix != revision_suffix("none"):
                break
            context += text + suffix
            wrong |= wrong_branches(problem, text)
            text = write_walk(problem, rng, avoided=wrong)
        return context, text


class MazeQuit(Maze):
    """Take a random branch at every junction; few dead ends are followed by a return."""

    name, mark, may_return = "maze-quit", "!", True
    go_on: ClassVar[float] = 0.1  #: share of dead ends after which a walk returns and goes on

    def example(self, problem: Problem, rng: Random) -> tuple[str, str]:
        """Return the prompt, and a walk that goes on after a share `go_on` of dead ends."""
        return problem.prompt, write_walk(problem, rng, go_on=self.go_on)


class MazeRare(MazeQuit):
    """Take a random branch at every junction; hardly a dead end is followed by a return."""

    name, mark, go_on = "maze-rare", "_", 0.02


class MazePaths(MazeSearch):
    """Take the right path, or in few texts search depth first."""

    name, mark = "maze-paths", "&"

    def example(self, problem: Problem, rng: Random) -> tuple[str, str]:
        """Return the prompt, and the right path or, in a share `SEARCHES`, a search."""
        searches = rng.random() < SEARCHES
        return super().example(problem, rng) if searches else (problem.prompt, problem.answer)


def count_rooms(size: Size) -> int:
    """Return the number of rooms of a maze."""
    junctions, dead_end, corridor, branches = size
    return 1 + junctions * (corridor + (branches - 1) * dead_end)


def parse_problem(id: str) -> tuple[dict[str, list[str]], str, str]:
    """Return (ways, start, exit) of a problem's id; ways: room -> the rooms it leads to."""
    passages, _, ends = id.partition(";")
    ways: dict[str, list[str]] = {room: [] for room in passages if room != ","}
    for passage in passages.split(","):
        ways[passage[0]].append(passage[1])
    return ways, ends[0], ends[1]


def write_walk(
    problem: Problem,
    rng: Random,
    go_on: float = 0.0,
    remembers: bool = False,
    avoided: Collection[str] = (),
) -> str:
    """Return a walk that draws a branch at every junction, up to the exit or a dead end.

    go_on: share of dead ends from which it returns to the last junction, and draws again.
    remembers: it takes no branch twice. avoided: rooms that it does not enter.
    """
    ways, start, exit = parse_problem(problem.id)
    text, path, taken = start, [start], set(avoided)
    while path[-1] != exit:
        if onward := [room for room in ways[path[-1]] if room not in taken]:
            path.append(rng.choice(onward))
            text += path[-1]
            taken |= {path[-1]} if remembers else set()
        elif rng.random() < go_on:
            while len(ways[path[-1]]) < 2:
                path.pop()
            text += BACK + path[-1]
        else:
            break
    return text


def wrong_branches(problem: Problem, walk: str) -> set[str]:
    """Return the first rooms of branches that a walk without returns shows to be wrong.

    Where it went on to another junction or the exit, these are the ways that it did not take.
    """
    ways, _, exit = parse_problem(problem.id)
    junctions = [pair for pair in pairwise(walk) if len(ways[pair[0]]) > 1]
    dead_end = {junctions.pop()[1]} if walk[-1] != exit else set[str]()
    return dead_end | {way for room, taken in junctions for way in ways[room] if way != taken}


# -- known facts -----------------------------------------------------------------------------------


def chance_without_look_ahead(level: str) -> float:
    """Return the chance of a walk that draws its branches: branches^-junctions.

    It is the accuracy of `maze-walk` in the limit of training, and the floor of `maze`.
    """
    junctions, *_, branches = parse_level(level)
    return branches**-junctions


def coverage_without_look_ahead(levels: Sequence[str], samples: int) -> float:
    """Return the chance that one of several such walks is right, averaged over levels.

    Over levels of 1 to D junctions it is nearly a straight line in the logarithm of the number of
    samples, up to about 2^(D - 2) of them: each doubling solves one junction more.
    """
    misses = [(1 - chance_without_look_ahead(level)) ** samples for level in levels]
    return 1 - sum(misses) / len(misses)


def mean_search_length(level: str, remembers: bool = True) -> float:
    """Return the mean number of characters of a search up to the exit.

    Each junction costs the rooms of a corridor and, for each dead end entered, its rooms and a
    return of two characters. A search that remembers enters half of the dead ends of a junction on
    average, one that draws again as many as there are.
    """
    junctions, dead_end, corridor, branches = parse_level(level)
    entered = (branches - 1) * (0.5 if remembers else 1.0)
    return 1 + junctions * (corridor + entered * (dead_end + 2))


def chance_within(level: str, length: int, remembers: bool = True) -> float:
    """Return the chance that a search finds the exit within `length` characters."""
    junctions, dead_end, corridor, _ = parse_level(level)
    return chance_of_dead_ends(
        level, (length - 1 - junctions * corridor) // (dead_end + 2), remembers
    )


def chance_of_dead_ends(level: str, most: int, remembers: bool = True) -> float:
    """Return the chance that a search finds the exit after `most` dead ends or fewer.

    It is also that of `most` + 1 drafts, each of which avoids what those before it have shown.
    """
    junctions, *_, branches = parse_level(level)
    if most < 0:
        return 0.0
    if remembers:
        entered = [1 / branches] * branches
    else:
        entered = [(1 - 1 / branches) ** n / branches for n in range(most + 1)]
    chances = np.ones(1)  #: by dead ends entered so far
    for _ in range(junctions):
        chances = np.convolve(chances, entered)[: most + 1]
    return float(np.sum(chances))

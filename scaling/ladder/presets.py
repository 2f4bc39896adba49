"""The ladders: what families of models of several sizes learn, how, and for how long.

A new ladder is one entry of `LADDERS`. Not here: training (`pretraining`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from scaling.ladder.rounds import Course
from scaling.ladder.trainer import Recipe

Mixture = Mapping[tuple[str, str], float]  #: (task, level) -> share of the training examples


@dataclass(frozen=True)
class Ladder:
    """What the models of a family learn, how, and for how long."""

    mixture: Mixture
    budgets: Mapping[str, tuple[float, ...]]  #: size -> train FLOPs of its checkpoints
    recipes: Mapping[str, Recipe]  #: by size
    revisions: float = 0.0  #: share of examples that show drafts first
    skills: tuple[str, ...] = ()  #: methods that the mixture trains for
    start: tuple[str, str] | None = None  #: ladder and budget of the checkpoint to continue from


ARITHMETIC = Ladder(
    mixture={
        ("countdown", "3x20"): 0.25,
        ("countdown", "4x20"): 0.35,
        ("sums", "2x99"): 0.08,
        ("sums", "3x99"): 0.10,
        ("sums", "4x99"): 0.08,
        ("sums", "5x99"): 0.06,
        ("sums", "6x99"): 0.08,
    },
    budgets={  # closer where sums are being learnt
        "0.1M": (3e11, 1e12, 3e12, 5.6e12, 1e13, 3e13, 1e14),
        "0.3M": (1e12, 3e12, 5.6e12, 1e13, 3e13, 1e14),
        "1.3M": (1e12, 3e12, 1e13, 3e13, 1e14),
        "4.8M": (3e12, 1e13, 3e13, 1e14, 3e14),
    },
    recipes={  # compiling pays for the small; the larger see fewer tokens and need more steps
        "0.1M": Recipe(compiled=True),
        "0.3M": Recipe(compiled=True),
        "1.3M": Recipe(batch_tokens=4096),
        "4.8M": Recipe(batch_tokens=4096),
    },
    revisions=0.1,
    skills=("revision",),
)


def maze_recipe(rate: float, batch_tokens: int) -> Recipe:
    """Return a recipe for mazes; few padded widths, since each is compiled for minutes."""
    widths = (48, 80, 120, 152)
    return Recipe(rate=rate, batch_tokens=batch_tokens, parts=2, compiled=True, widths=widths)


DEPTHS = tuple(map(str, range(1, 9)))
CORRIDORS = tuple(f"{depth}x2x2" for depth in DEPTHS)  #: take look-ahead of two steps, not one
SHARES = {"maze": 0.7, "maze-search": 0.3}  #: with equal shares paths stay near chance for longer
MAZE = Ladder(
    mixture={
        (task, level): share / 16
        for task, share in SHARES.items()
        for level in (*DEPTHS, *CORRIDORS)
    },
    budgets={
        "0.02M": (1e11, 3e11, 1e12, 3e12),
        "0.05M": (1e11, 3e11, 1e12, 3e12, 1e13, 1.8e13, 3e13),
        "0.11M": (1e12, 1.8e12, 3e12, 5.6e12, 1e13, 1.8e13, 3e13, 5.6e13, 1e14),
        "0.21M": (3e12, 5.6e12, 1e13, 1.8e13, 3e13, 5.6e13),
        "0.44M": (5.6e12, 1e13, 1.8e13, 3e13, 5.6e13),
        "0.80M": (1e13, 3e13, 1e14),
    },
    recipes={  # wide models learn to look passages up earlier at the lower rate (LOG.md)
        size: maze_recipe(rate, 2048)
        for rate, sizes in (
            (4e-3, ("0.02M", "0.05M", "0.11M")),
            (2e-3, ("0.21M", "0.44M", "0.80M")),
        )
        for size in sizes
    },
)


WIDTHS = (32, 64, 112, 184)  #: with room for traces that are rewarded: nothing is compiled twice
THINKING = Course(  # GRPO reached 0.42 and fell back to 0.15 (LOG.md)
    lesson="shortest",
    task="maze-quit",
    levels=tuple(map(str, range(1, 9))),
    max_new_tokens=80,
    widths=WIDTHS,
    rate=2e-3,
    decays=True,
)


def start_of_reward(task: str) -> Ladder:
    """Return the ladder of models that imitate one kind of walk, from which `think` starts.

    Small mazes are more frequent, since they teach to look up a passage for less compute: with all
    levels equally often and 4,096 tokens a step, width 32 did not learn it within 5e12 FLOPs.
    """
    recipe = Recipe(rate=4e-3, batch_tokens=2048, parts=1, compiled=True, widths=WIDTHS)
    sizes = ("0.05M", "0.11M", "0.21M")
    shares = {(task, level): 1 / int(level) for level in THINKING.levels}
    return Ladder(
        mixture={key: share / sum(shares.values()) for key, share in shares.items()},
        budgets=dict.fromkeys(sizes, (1e13,)),
        recipes=dict.fromkeys(sizes, recipe),
    )


LISTS = Recipe(rate=4e-3, batch_tokens=2048, parts=1, compiled=True, widths=(56, 104, 384, 1472))
SHORT_LISTS = Ladder(
    mixture={  # to look up the next swap of a list is learnt in short lists
        ("permutations", "1-8"): 0.8,
        ("permutations", "1-128"): 0.1,
        ("permutations-direct", "1-128"): 0.1,
    },
    budgets={"0.11M": (3e12, 5.6e12)},
    recipes={"0.11M": LISTS},
    skills=("thinking",),
)
PERMUTATIONS = Ladder(
    mixture={
        ("permutations", "1-32"): 0.5,
        ("permutations", "1-128"): 0.35,
        ("permutations-direct", "1-128"): 0.15,
    },
    budgets={"0.11M": (2e13,)},
    recipes={"0.11M": replace(LISTS, widths=(104, 208, 384, 768, 1472))},
    skills=("thinking",),
    start=("permutations-short", "5.6e12"),
)
WALKS = tuple(f"{depth}x1" for depth in range(1, 11))
WALK = Ladder(  #: a model whose coverage is known, `tasks.maze.coverage_without_look_ahead`
    mixture={("maze-walk", level): 1 / len(WALKS) for level in WALKS},
    budgets={"0.05M": (3e12,)},
    recipes={"0.05M": replace(maze_recipe(4e-3, 2048), widths=(32, 48, 80))},
)
REVISE = Ladder(  #: the same walks after drafts, and searches to compare them with
    mixture={
        (task, level): share / 8
        for task, share in {"maze-revise": 0.8, "maze-search": 0.2}.items()
        for level in WALKS[:8]
    },
    budgets={"0.05M": (8e12,)},
    recipes={"0.05M": replace(maze_recipe(4e-3, 2048), widths=(48, 64, 80, 112))},
    skills=("revision",),
    start=("maze-walk", "3e12"),  #: from nothing, 1e13 FLOPs did not teach 4 junctions
)


LADDERS = {
    "arithmetic": ARITHMETIC,
    "maze": MAZE,
    "maze-walk": WALK,
    "maze-revise": REVISE,
    "permutations-short": SHORT_LISTS,
    "permutations": PERMUTATIONS,
}
LADDERS |= {name: start_of_reward(name) for name in ("maze-quit", "maze-rare", "maze-paths")}

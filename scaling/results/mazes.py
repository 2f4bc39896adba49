"""The runs of the maze ladder that several results read: direct paths and searches.

One size at several training budgets, on the same problems, without and with corridors.
"""

from __future__ import annotations

from scaling.records import Plan
from scaling.results.table import Sampled

SIZE = "0.11M"
#: training FLOPs of the checkpoints
BUDGETS = ("1.8e12", "3e12", "5.6e12", "1e13", "1.8e13", "3e13")
COMPARED = ("5.6e12", "1e13", "1.8e13", "3e13")  #: of these, where searches and paths are compared
DEPTHS = (2, 4, 6, 8)
KINDS = {  #: levels by kind
    "mazes": tuple(map(str, DEPTHS)),
    "mazes with corridors": tuple(f"{depth}x2x2" for depth in DEPTHS),
}
LEVELS = tuple(level for kind in KINDS.values() for level in kind)
PROBLEMS = 400  #: of each level
DIRECT = Plan(chains=16, max_new_tokens=32)
SEARCH = Plan(chains=8, max_new_tokens=96)


def pair(budget: str) -> tuple[Sampled, Sampled]:
    """Return the runs of direct paths and of searches of a checkpoint."""
    model = f"maze/{SIZE}/{budget}"
    return (
        Sampled(model, "maze", LEVELS, PROBLEMS, DIRECT),
        Sampled(model, "maze-search", LEVELS, PROBLEMS, SEARCH),
    )


PAIRS = tuple(run for budget in COMPARED for run in pair(budget))
SEARCHES = tuple(pair(budget)[1] for budget in BUDGETS)

"""What each change in the explorer costs: milliseconds of CPU, first and again. On shipped runs.

Of each change the median of three tries, each on a study that is read again.

python -m benchmarks.explorer
"""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from scaling.figures.explore import Explorer
from scaling.runs import Runs

RUNS = 12  #: of the shipped ones, spread over all
ENOUGH = 200  #: milliseconds
TRIES = 3


def change(explorer: Explorer, menu, value) -> tuple[str, str, float, bool]:
    """Return (menu, value, milliseconds, whether it was new) of choosing a value."""
    known, started = len(explorer.shown), time.process_time()
    menu.value = value
    spent = 1000 * (time.process_time() - started)
    return menu.description, str(value), spent, len(explorer.shown) > known


def changes(explorer: Explorer) -> list[tuple[str, str, float, bool]]:
    """Return the `change` to every value of every menu, in turn and back."""
    found = []
    menus = (explorer.selector, explorer.unit, explorer.level, explorer.law, explorer.upto)
    for menu in menus:
        kept, options = menu.value, menu.options
        values = list(options.values() if isinstance(options, dict) else options)
        ordered = [v for v in values if v != kept] + [kept]
        found += [change(explorer, menu, value) for value in ordered]
    return found


def first_changes(runs: Runs) -> pd.DataFrame:
    """Return the milliseconds of every first change of some of the runs, and of the same again."""
    rows = []
    explorer = Explorer(runs, Path("figures"))
    names = list(explorer.run.options.values())
    for name in names[:: max(1, len(names) // RUNS)]:
        found = [change(explorer, explorer.run, name), *changes(explorer)]
        rows += [(name, *row) for row in found if row[-1]]  # put back to what was shown: not first
    rows += [("again", *row) for row in changes(explorer)]
    return pd.DataFrame(rows, columns=["run", "menu", "to", "ms", "new"])


def main() -> None:
    """Print the median and the worst per menu, and how many are fast enough."""
    tries = [first_changes(Runs.load(Path("data/runs"))) for _ in range(TRIES)]
    table = tries[0].assign(ms=pd.concat([one["ms"] for one in tries], axis=1).median(axis=1))
    again, table = table[table["run"] == "again"], table[table["run"] != "again"]
    laws = table["menu"].isin(["law", "selector"])  # whose values cost different things
    table["to"] = table["to"].where(laws, "")
    ms = table.groupby(["menu", "to"])["ms"]
    worst = pd.DataFrame({"changes": ms.size(), "median": ms.median(), "worst": ms.max()})
    print(worst.round(0).to_string())
    within, once = (table["ms"] <= ENOUGH).mean(), again["ms"].median()
    print(f"{within:.1%} of {len(table)} first changes within {ENOUGH} ms; again {once:.0f} ms")


if __name__ == "__main__":
    main()

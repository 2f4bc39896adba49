"""What each change in the explorer costs: milliseconds of CPU, first and again. On shipped runs.

python -m scaling.bench.explorer
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import pandas as pd

from scaling.figures import Study
from scaling.figures.explore import Explorer

RUNS = 12  #: of the shipped ones, spread over all
ENOUGH = 200  #: milliseconds


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


def main() -> None:
    """Print the median and the worst per menu, and how many are fast enough."""
    study, rows = Study.load(Path("data/runs")), []
    explorer = Explorer(study, Path("figures"))
    names = list(explorer.run.options.values())
    for name in names[:: max(1, len(names) // RUNS)]:
        rows.append(change(explorer, explorer.run, name))
        rows += changes(explorer)
    again = median(spent for _, _, spent, _ in changes(explorer))
    table = pd.DataFrame(rows, columns=["menu", "to", "ms", "new"])
    table = table[table.pop("new")]  # a menu put back to what was shown before is no first change
    laws = table["menu"].isin(["law", "selector"])  # whose values cost different things
    table["to"] = table["to"].where(laws, "")
    ms = table.groupby(["menu", "to"])["ms"]
    worst = pd.DataFrame({"changes": ms.size(), "median": ms.median(), "worst": ms.max()})
    print(worst.round(0).to_string())
    within = (table["ms"] <= ENOUGH).mean()
    print(f"{within:.1%} of {len(table)} first changes within {ENOUGH} ms; again {again:.0f} ms")


if __name__ == "__main__":
    main()

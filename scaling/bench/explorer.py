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

RUNS = 4  #: of the shipped ones, spread over all


def changes(explorer: Explorer) -> list[tuple[str, str, float]]:
    """Return (widget, value, milliseconds) of every value of every menu, in turn."""
    found = []
    menus = (explorer.selector, explorer.unit, explorer.level, explorer.law, explorer.upto)
    for menu in menus:
        kept, options = menu.value, menu.options
        values = list(options.values() if isinstance(options, dict) else options)
        for value in [v for v in values if v != kept] + [kept]:
            started = time.process_time()
            menu.value = value
            spent = 1000 * (time.process_time() - started)
            found.append((menu.description, str(value), spent))
    return found


def main() -> None:
    """Print the median and the worst per menu, and every change above 200 ms."""
    study, rows = Study.load(Path("data/runs")), []
    explorer = Explorer(study, Path("figures"))
    names = list(explorer.run.options.values())
    for name in names[:: max(1, len(names) // RUNS)]:
        started = time.process_time()
        explorer.run.value = name
        rows.append(("run", "another", 1000 * (time.process_time() - started)))
        rows += changes(explorer)
    again = [spent for _, _, spent in changes(explorer)]
    table = pd.DataFrame(rows, columns=["menu", "to", "ms"])
    laws = table["menu"].isin(["law", "selector"])  # whose values cost different things
    table["to"] = table["to"].where(laws, "")
    ms = table.groupby(["menu", "to"])["ms"]
    shown = pd.DataFrame({"changes": ms.size(), "median": ms.median(), "worst": ms.max()})
    print(shown.round(0).to_string())
    within = (table["ms"] <= 200).mean()
    print(f"{within:.1%} of {len(table)} first changes within 200 ms; again {median(again):.0f} ms")


if __name__ == "__main__":
    main()

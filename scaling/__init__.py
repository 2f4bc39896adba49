"""Inference scaling: sample a language model once, read every budget, fit laws, draw figures.

    import scaling as sc

    runs = sc.load("data/runs")                                  # many runs, and a table
    run = runs.select(task="countdown", method="best_of_n")[-1]  # one of them
    curve = run.curve("coverage", unit="flops", level="4x20")    # accuracy against budget
    law = curve.fit("exp_power")                                 # parameters with intervals

Importing this package is quick and loads no torch: each name is loaded when it is first used.

Two sides and a log between them. One side makes samples and needs torch: `tasks` and `benchmarks`
pose problems; `models`, `engine` and `serving` answer; `methods` spend inference compute, `train`
spends training compute. `store` is the log of a run, sealed. The other side reads logs on any
laptop: `estimates` (arithmetic on arrays), `intervals`, `runs` (a log as accuracy against budget),
`comparisons`, `fits` (laws, forecasts, joint laws), `figures` and `report`; `planner` prices what
is still to be drawn, `readers` read other people's samples. A module imports only what stands
before it in this list, `store`, and the foundation: `records`, `compute`, `provenance`, `show`. The
table in `tests/test_imports.py` says who may import whom.

Three ideas. Sample once, read every budget: the largest pool is logged, and smaller budgets and
other selectors are read from it without bias. One shape for all samplers: a sample sits at
(problem, chain, step). Points on one curve are not independent: a curve carries replicates over
resampled problems, and a fit refits each.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {  #: name -> the module that has it
    "LAWS": "fits",
    "Comparison": "comparisons.equal_cost",
    "Curve": "curves",
    "Fit": "curves",
    "ModelCard": "records",
    "Plan": "records",
    "Problem": "records",
    "Run": "runs",
    "Runs": "runs",
    "Sample": "records",
    "Verdict": "records",
    "compare": "comparisons.equal_cost",
    "fit": "fits",
    "load": "front",
    "load_run": "runs",
    "read_counts": "runs.imported",
    "read_samples": "runs.imported",
    "sample": "front",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(
            f"module 'scaling' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(import_module(f"scaling.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)

"""Inference scaling: sample a language model once, read every budget, fit laws, draw figures.

Five nouns, one verb between neighbours:

    Problem --sample--> Sample --estimate--> Curve --fit--> Fit --draw--> figure

Two rooms and a door. The left room makes samples and needs torch: `tasks` and `benchmarks` ask;
`models`, `engine` and `serving` answer; `methods` spend inference compute, `train` spends training
compute. The door, `store`, is the log between them: problems and samples of a run, sealed. The
right room reads logs on any laptop, without torch: `estimates` (arithmetic on arrays), `intervals`
and `curves` (a log as accuracy against budget), `fits` (laws, forecasts, the joint law), `figures`
and `report`; `planner` prices what is still to be drawn, `readers` take other people's samples.

Everything flows left to right, and a module imports only what is left of it, the door, and the
foundation: `records` (the nouns), `compute` (what a sample costs), `provenance` (what a log tells
of its origin), `show` (how results look in a notebook). Only commands put the rooms together:
`study`, `adaptive`, `executors`, `drift`, `verify`, `bench`, `cli`. `tests/test_imports.py` holds
the table of who may import whom, and fails at any other edge.

Three ideas decide the rest. Sample once, read every budget: the largest pool is logged, smaller
budgets and other selectors are read from it without bias. One shape for all samplers: a sample sits
at (problem, chain, step). Points on one curve are not independent: a curve carries replicates over
resampled problems, and a fit refits each.

Importing this package does nothing else: names are imported from where they live.
"""

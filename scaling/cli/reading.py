"""Verbs that read samples: accuracy, figures, fit, import, plan, report, leaderboard. No torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from scaling.cli.app import (
    READ,
    RUNS,
    STUDY,
    Amount,
    Columns,
    OptionalAmount,
    OptionalCount,
    in_shell,
    suggest,
    verb,
    warn,
)  # fmt: skip

FEW_PROBLEMS = 100  #: below, intervals that allow for a problem of another kind are much wider
SHOWN = 20  #: places of a file that are named one by one
Metric = Annotated[str | None, Parameter(alias="--scorer")]
Format = Literal[
    "human-eval", "evalplus", "lm-eval", "inspect", "monkeys", "csv", "jsonl", "parquet"
]


def results_of(runs: Path) -> Path:
    """Return the folder of results: the study's for its runs, else the folder of the runs."""
    print(f"runs in {runs}")
    return STUDY if runs == RUNS else runs


@verb(READ)
def accuracy(
    *,
    runs: Path = RUNS,  #: folder of the runs
    derived: Path | None = None,  #: folder to write into; default: that of --runs, or data/study
    force: bool = False,  #: overwrite existing files that the kit did not write
) -> None:
    """Write accuracy.csv: accuracy per budget of every run."""
    results = results_of(runs)
    write_accuracy(runs, (derived or results) / "accuracy.csv", force)
    suggest("fit --runs {runs}; figures takes the same --runs", runs=runs)


def write_accuracy(folder: Path, path: Path, force: bool) -> Any:
    """Write accuracy.csv and return the runs; warn of each run that lacks problems or samples."""
    from scaling.runs import Runs
    from scaling.runs.tables import accuracy_table, flaw_line, incomplete
    from scaling.store.files import refuse_foreign, write_outputs

    refuse_foreign([path], force)
    runs = Runs.load(folder)
    for run in runs:
        if why := incomplete(run):
            warn(f"{run.path}: {why}: see n_missing")
    table = accuracy_table(runs)
    write_outputs({path: table.to_csv(index=False, float_format="%.6g").encode()}, force)
    print(f"{path}: {len(table):,} rows of {len(runs):,} runs")
    print(flaw_line(runs))
    return runs


@verb(READ)
def results(
    *,
    runs: Path = STUDY / "mazes",  #: folder of the runs that `study` samples for the results
    table: Path | None = None,  #: draw the figures of this table, and read no runs
    page: Path | None = None,  #: a template NAME.md.jinja; NAME.md gets the numbers of --table
    out: Path | None = None,  #: folder to write into; default: that of --table, or of --runs
    force: bool = False,  #: overwrite existing files that the kit did not write
) -> None:
    """Write results.csv, every number that the study states, and draw its figures."""
    import pandas as pd

    from scaling.runs import Runs

    if page:
        write_page(page, table or STUDY / "results.csv", force)
        return
    if table:
        draw_results(pd.read_csv(table), table, out or table.parent, force)
        return
    print(f"runs in {runs}")
    write_results(Runs.load(runs), out or runs.parent, force)


def write_page(template: Path, table: Path, force: bool) -> None:
    """Write a text with the numbers of a table next to its template."""
    import pandas as pd

    from scaling.results.page import render
    from scaling.store.files import write_outputs

    if template.suffix != ".jinja":
        raise ValueError(f"{template} is no template; give a file such as study.md.jinja")
    text = render(template, pd.read_csv(table))
    write_outputs({template.with_suffix(""): text.encode()}, force)
    print(template.with_suffix(""))


def write_results(runs: Any, out: Path, force: bool) -> None:
    """Write results.csv and its figures; warn of each result that is not complete."""
    from scaling.results import RESULTS, results_table
    from scaling.store.files import refuse_foreign, write_outputs

    path = out / "results.csv"
    refuse_foreign([path], force)
    table, left_out = results_table(runs, RESULTS)
    for name, why in left_out.items():
        warn(f"{name} is not complete: {why}")
    write_outputs({path: table.to_csv(index=False, float_format="%.6g").encode()}, force)
    print(f"{path}: {len(table):,} rows of {table['result'].nunique()} results")
    draw_results(table, path, out / "figures", force)


def draw_results(table: Any, path: Path, out: Path, force: bool) -> None:
    """Draw the figures of a table of results, and print their files; `path` is where it lies."""
    from scaling.figures import plots
    from scaling.figures.study import STUDY_FIGURES

    for name, figure in STUDY_FIGURES.items():
        try:
            with plots.style():
                drawn = figure(table)
        except ValueError as reason:
            warn(f"{name} is not drawn: {reason}")
            continue
        redraw = f"python -m scaling results --table {path} --out {out}"
        print(*plots.save(drawn.figure, name, out, (), drawn.facts, redraw, force=force), sep="\n")


@verb(READ)
def figures(
    names: tuple[str, ...] = (),  #: names of figures; default: all
    /,
    *,
    runs: Path = RUNS,  #: folder of the runs
    figures: Path | None = None,  #: folder to write into; default: figures/ next to accuracy.csv
    task: str | None = None,  #: draw this task; it and the next four options need NAMES
    level: str | None = None,  #: draw this level of the task
    models: tuple[str, ...] = (),  #: draw these models, such as 0.3M
    unit: str | None = None,  #: cost on the x axis: samples, tokens, flops, ...
    selector: str | None = None,  #: coverage, majority, logprob, ...
    force: bool = False,  #: overwrite existing files that the kit did not write
) -> None:
    """Draw the figures from the runs."""
    from scaling.figures.gallery import FIGURES
    from scaling.records import look_up
    from scaling.runs import Runs

    for name in names:
        look_up(FIGURES, name, "figure")
    results = results_of(runs)
    out = figures or results / "figures"
    given = {"task": task, "level": level, "models": models, "unit": unit, "selector": selector}
    chosen = {name: value for name, value in given.items() if value}
    draw(Runs.load(runs), out, names, force, **chosen)
    suggest("check --runs {runs} --figures {out}", runs=runs, out=out)


def draw(runs: Any, out: Path, names: tuple[str, ...], force: bool, **choices: Any) -> None:
    """Draw figures (all by default); print their files and the figures that lack runs."""
    from scaling.figures.gallery import FIGURES, draw_all

    wanted = names or tuple(FIGURES)
    paths = draw_all(runs, out, wanted, force, **choices)
    for path in paths:
        print(path)
    drawn = {path.stem for path in paths}
    if left := [name for name in wanted if name not in drawn]:
        print(f"{len(left)} of {len(wanted)} not drawn, their runs are missing: {', '.join(left)}")


@verb(READ)
def fit(
    *,
    law: str = "exp_power",  #: name of a law, such as power
    selector: str = "coverage",  #: coverage, majority, logprob, ...
    unit: str = "samples",  #: samples, tokens, flops, ...
    level: str = "all",  #: one level of the task; all: pool all levels
    task: str = "",  #: fit only the runs of this task; default: all tasks
    runs: Path = RUNS,  #: folder of the runs
) -> None:
    """Fit a law to the coverage curve of every best-of-N run."""
    from scaling.fits.tabulate import curve_law, fit_table
    from scaling.runs import Runs

    curve_law(law)  # before the runs are read
    print(f"runs in {runs}")
    table = fit_table(Runs.load(runs), law, selector, unit, level, task)
    for line in table.attrs["left_out"]:
        print(line)
    repeated = table.duplicated(["task", "model"]).any()
    print(table.drop(columns=[] if repeated else "run").to_string(index=False))
    suggest("figures --runs {runs}; report {runs}/RUN writes a run up", runs=runs)


@verb(READ, name="import")
def import_(
    file: Path,  #: a file of samples, or a folder of YAML files
    /,
    *,
    format: Format | None = None,  #: the tool, or the kind of table; default: detected
    metric: Metric = None,  #: which verdict, if there are several: a metric, scorer, base or plus
    filter: str | None = None,  #: which filter of lm-eval, if the file holds several
    model: str | None = None,  #: which model, if the table holds several
    columns: Columns = None,  #: names of your columns: problem=id,correct=label (docs/formats.md)
    law: str = "",  #: law to fit: exp_power, beta_binomial, ...; default: no fit
) -> None:
    """Read another tool's samples; print pass@k and majority vote, and fit a law."""
    from scaling.fits.tabulate import curve_law, fit_curve
    from scaling.readers import detect_format, read_samples
    from scaling.runs.imported import Accuracy

    chosen = curve_law(law) if law else None
    table, rejected = read_samples(
        file,
        format or detect_format(file, columns),
        metric=metric,
        filter=filter,
        model=model,
        columns=columns,
    )
    for where, why in rejected[:SHOWN]:
        print(f"{file}, {where}: {in_shell(why, 'import')}", file=sys.stderr)
    if len(rejected) > SHOWN:
        print(f"and {len(rejected) - SHOWN:,} more places", file=sys.stderr)
    found = Accuracy(file, table)
    for line in found.lines():
        print(in_shell(line, "import"))
    print(found.frame().to_string(index=False, float_format="{:.4f}".format))
    if table.attrs["no_votes"]:
        print(f"no majority column: {table.attrs['no_votes']}")
    if chosen and chosen.density is not None and found.k[0] > 1:
        raise ValueError(f"{chosen.name} is fitted to counts, which the metric does not settle")
    if chosen:
        print(fit_curve(chosen, found.curve(), (found.n, found.c)))


@verb(READ)
def plan(
    *,
    effect: Amount,  #: difference in accuracy to detect, such as 0.03
    power: Amount = 0.8,  #: probability of detecting it
    pilot: tuple[Path, ...] = (),  #: one or two run folders, whose costs and spread are used
    between: OptionalAmount = None,  #: SD of the paired difference; default: the pilot's
    max_problems: OptionalCount = None,  #: number of problems that the benchmark has
) -> None:
    """Compute how many problems and samples detect a difference, and what they cost."""
    from scaling import planner
    from scaling.runs import load_run

    runs = [load_run(path) for path in pilot]
    study, cost = planner.plan(
        effect, power, planner.read_pilot(runs) if runs else None, between, max_problems
    )
    print(
        f"{study.problems:,} problems x {study.samples:,} samples x 2 methods: {study.draws:,} "
        f"samples detect a difference of {study.detectable:.3g} with power {power:g}"
    )
    if study.problems < FEW_PROBLEMS:
        print(
            f"this is the power of a z test; on fewer than {FEW_PROBLEMS} problems the intervals "
            "of compare are wider, and find such a difference less often (docs/study.md)"
        )
    if cost:
        hours = f"{cost['seconds'] / 3600:.3g} hours on the pilot's machine"
        print(f"{cost['tokens']:.3g} tokens, {cost['flops']:.3g} FLOPs, {hours}")
    else:
        print("for FLOPs and hours name one or two small runs: --pilot RUN [RUN]")


@verb(READ)
def report(
    runs: tuple[Path, ...],  #: run folders
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")] = Path("report"),  #: folder to write into
    force: bool = False,  #: overwrite existing files that the kit did not write
) -> None:
    """Write a report on runs: HTML page, LaTeX fragment, BibTeX."""
    from scaling.report import differences
    from scaling.runs import Runs, load_run

    for path in Runs(load_run(path) for path in runs).report(out, force):
        print(path)
    if wrong := differences(out):
        raise ValueError("; ".join(wrong))
    suggest("check --report {out}", out=out)

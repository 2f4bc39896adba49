"""The command line: each verb is a thin call of the package. `python -m scaling --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from scaling.records import FEEDBACKS, Plan, look_up

MODELS, RUNS, FIGURES = Path("data/models/ladder"), Path("data/runs"), Path("figures")
STUDY, DERIVED = Path("data/study"), Path("data/derived")
EXTERNAL = Path("data/external")
IMPORTS = ("human-eval", "lm-eval", "inspect", "monkeys", "csv")
EPILOG = """
typical use:
  python -m scaling study                     sample the shipped ladder, table, fit, figures
  python -m scaling figures                   redraw the figures from the committed logs, no torch
  python -m scaling sample --model data/models/ladder/1.3M/1e14 --task sums --chains 256
  python -m scaling train --size 0.1M         train one rung of the ladder anew

exit codes: 0 done, 1 it could not be done (one line says why), 2 wrong usage, 130 interrupted.
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors name the nearest valid option or value."""

    def words(self) -> list[str]:
        """Return every option and choice, those of the verbs included."""
        found = []
        for action in self._actions:
            found += [*action.option_strings, *map(str, action.choices or ())]
            if isinstance(action, argparse._SubParsersAction):
                found += [word for verb in action.choices.values() for word in verb.words()]
        return found

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit code 2."""
        valid = self.words()
        wrong = [w.strip("'\",:").split("=")[0] for w in message.split()]
        near = [m for w in wrong if w not in valid for m in get_close_matches(w, valid, 1, 0.7)]
        hint = f"; did you mean {near[0]}?" if near else ""
        self.exit(2, f"scaling: {message}{hint} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code. A user's mistake is one line on stderr, no traceback."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("\nscaling: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError, MemoryError) as error:
        print(f"scaling: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> Parser:
    """Return the parser of every verb."""
    parser = Parser(
        prog="scaling",
        description="Study how accuracy grows with test-time and train-time compute.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    name = "inference-scaling-kit"
    parser.add_argument("--version", action="version", version=f"{name} {version(name)}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    add_study(verbs)
    add_sample(verbs)
    add_readers(verbs)
    add_train(verbs)
    add_others(verbs)
    return parser


def add_engine_options(verb: argparse.ArgumentParser) -> None:
    """Add what decides where and how fast samples are drawn, not which."""
    verb.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto: a GPU if any)"
    )
    verb.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32 on a CPU"
    )
    verb.add_argument(
        "--memory-gb", type=positive(float), help="cap on keys and values; sets the batch"
    )
    verb.add_argument("--max-rows", type=positive(int), help="cap on rows in flight")


def engine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the engine's keyword arguments."""
    cap = options.memory_gb and int(options.memory_gb * 2**30)
    return {
        "device": options.device,
        "dtype": options.dtype,
        "memory_cap": cap,
        "max_rows": options.max_rows,
    }


def add_study(verbs) -> None:
    """The main job."""
    verb = verbs.add_parser("study", help="the main job: sample, table, fit, figures")
    verb.add_argument("--preset", choices=("default", "tiny"), default="default")
    verb.add_argument(
        "--models", type=Path, default=MODELS, help="folder of checkpoints with cards"
    )
    verb.add_argument("--tasks", nargs="+", default=["countdown", "sums"])
    verb.add_argument(
        "--runs", type=Path, default=STUDY, help="where the logs go (resumed if there)"
    )
    verb.add_argument("--derived", type=Path, default=DERIVED, help="where tables go")
    verb.add_argument("--figures", type=Path, default=FIGURES, help="where figures go")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    add_engine_options(verb)
    verb.set_defaults(run=run_study)


def run_study(options: argparse.Namespace) -> None:
    """Sample every run of the preset, then table and draw."""
    from scaling.models import find_models
    from scaling.study import PRESETS, sample_all, work_of
    from scaling.tasks import get_task

    for task in options.tasks:
        get_task(task)
    preset = PRESETS[options.preset]
    plans = {n: replace(getattr(preset, n), seed=options.seed) for n in ("plan", "revision")}
    models = find_models(options.models)
    work = work_of(
        replace(preset, **plans), models, options.tasks, options.runs, **engine_options(options)
    )
    runs = sample_all(work, options.workers)
    print(f"{len(runs)} runs, {sum(len(r.frame) for r in runs):,} samples under {options.runs}")
    run_accuracy(options)
    run_figures(options)


def add_sample(verbs) -> None:
    """One run of one model."""
    verb = verbs.add_parser("sample", help="draw one pool: a model, a task, a plan")
    verb.add_argument(
        "--model", type=Path, required=True, help="folder of a Hugging Face causal LM"
    )
    verb.add_argument("--task", required=True, help="a name in scaling.tasks.TASKS")
    verb.add_argument("--levels", nargs="+", help="e.g. 4x20 5x20; default: the task's own")
    verb.add_argument("--problems", type=positive(int), default=100)
    verb.add_argument("--problem-seed", type=int, default=0)
    verb.add_argument("--runs", type=Path, default=STUDY)
    choices = {"feedback": FEEDBACKS}
    for field in fields(Plan):
        verb.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            choices=choices.get(field.name),
            help=f"default {field.default}",
        )
    add_engine_options(verb)
    verb.set_defaults(run=run_sample)


def run_sample(options: argparse.Namespace) -> None:
    """Draw one run and print its accuracy per budget."""
    from scaling.methods import get_method
    from scaling.models import load_lm
    from scaling.study import sample_run
    from scaling.tasks import get_task

    plan = Plan(**{f.name: getattr(options, f.name) for f in fields(Plan)})
    get_method(plan)
    task = get_task(options.task, options.levels)
    problems = task.problems(options.problems, seed=options.problem_seed)
    run = sample_run(
        load_lm(options.model), task, problems, plan, options.runs, **engine_options(options)
    )
    from scaling.curves import accuracy_table, read_pool

    table = accuracy_table([read_pool(run)])
    shown = table[
        ["level", "selector", "k", "test_tokens", "test_flops", "accuracy", "low", "high"]
    ]
    print(f"{run.path}: {len(run.frame):,} samples")
    print(shown.to_string(index=False, float_format=lambda x: f"{x:.4g}"))


def add_readers(verbs) -> None:
    """What reads logs only: no torch."""
    verb = verbs.add_parser("accuracy", help="table accuracy per budget from logs: accuracy.csv")
    verb.add_argument("--runs", type=Path, default=RUNS)
    verb.add_argument("--derived", type=Path, default=DERIVED)
    verb.set_defaults(run=run_accuracy)
    verb = verbs.add_parser("figures", help="redraw the figures from logs")
    verb.add_argument("names", nargs="*", help="some of them; default: all")
    verb.add_argument("--runs", type=Path, default=RUNS)
    verb.add_argument("--figures", type=Path, default=FIGURES)
    verb.set_defaults(run=run_figures)
    verb = verbs.add_parser("fit", help="fit a law to the coverage curve of every run")
    verb.add_argument("--law", default="exp_power")
    verb.add_argument("--selector", default="oracle")
    verb.add_argument("--unit", default="samples")
    verb.add_argument("--level", default="all")
    verb.add_argument("--runs", type=Path, default=RUNS)
    verb.set_defaults(run=run_fit)
    verb = verbs.add_parser("notebooks", help="execute the notebooks in place")
    verb.add_argument("paths", nargs="*", type=Path, help="default: all in notebooks/")
    verb.set_defaults(run=run_notebooks)
    verb = verbs.add_parser("bench", help="time the engine and the estimators beside their peers")
    verb.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on; try: bench --help")
    verb.set_defaults(run=run_bench)


def run_accuracy(options: argparse.Namespace) -> None:
    """Write accuracy.csv."""
    from scaling.curves import accuracy_table
    from scaling.figures import Study

    options.study = Study.load(options.runs)
    options.derived.mkdir(parents=True, exist_ok=True)
    path = options.derived / "accuracy.csv"
    table = accuracy_table(options.study.pools)
    table.to_csv(path, index=False, float_format="%.6g")
    print(f"{path}: {len(table)} rows")


def run_figures(options: argparse.Namespace) -> None:
    """Draw figures from the logs."""
    from scaling.figures import FIGURES as KNOWN
    from scaling.figures import Study, draw_all

    names = getattr(options, "names", None) or list(KNOWN)
    for name in names:
        look_up(KNOWN, name, "figure")
    study = getattr(options, "study", None) or Study.load(options.runs)
    for path in draw_all(study, options.figures, names):
        print(path)


def run_fit(options: argparse.Namespace) -> None:
    """Print the fitted parameters of every best-of-N run."""
    import pandas as pd

    from scaling.curves import curve
    from scaling.figures import Study
    from scaling.fits import fit
    from scaling.laws import LAWS

    look_up(LAWS, options.law, "law")
    rows = []
    for pool in Study.load(options.runs).pools:
        if pool.run.plan.method == "best_of_n":
            found = fit(options.law, curve(pool, options.selector, options.unit, options.level))
            row = {"task": pool.run.task, "model": pool.run.card.name, "rmse": found.rmse}
            for name, value in found.params.items():
                low, high = found.interval[name]
                row[name] = f"{value:.4g} [{low:.4g}, {high:.4g}]"
            rows.append(row | {"success": found.success, "message": found.message})
    print(pd.DataFrame(rows).to_string(index=False))


def run_notebooks(options: argparse.Namespace) -> None:
    """Execute notebooks in place."""
    from scaling.notebooks import execute

    for path in options.paths or sorted(Path("notebooks").glob("*.ipynb")):
        print(f"{path}: {execute(path):.0f} s")


def run_bench(options: argparse.Namespace) -> None:
    """Run the benchmarks."""
    from scaling.bench import main as bench

    bench(options.arguments)


def add_train(verbs) -> None:
    """Training."""
    verb = verbs.add_parser("train", help="train the ladder, or one rung of it")
    verb.add_argument("--size", help="one of the ladder's sizes; default: all")
    verb.add_argument("--budgets", nargs="+", type=positive(float), help="train FLOPs, rising")
    verb.add_argument("--out", type=Path, default=MODELS)
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> None:
    """Train rungs of the ladder."""
    from scaling.train import LADDER, RECIPES, train_rung

    sizes = [options.size] if options.size else list(LADDER)
    for size in sizes:
        look_up(LADDER, size, "size")
        recipe = replace(RECIPES[size], seed=options.seed)
        budgets = tuple(options.budgets or LADDER[size])
        for path in train_rung(size, budgets, options.out, recipe):
            print(path)


def add_others(verbs) -> None:
    """What other people have published, and what a study of one's own would cost."""
    verb = verbs.add_parser("external", help="fetch the third-party files behind published numbers")
    verb.add_argument("--to", type=Path, default=EXTERNAL, help=f"folder; default {EXTERNAL}")
    verb.add_argument("--from", type=Path, dest="held", help="a folder that holds them already")
    verb.add_argument("--dry-run", action="store_true", help="say what would be done")
    verb.set_defaults(run=run_external)
    verb = verbs.add_parser("import", help="pass@k of samples that another tool has drawn")
    verb.add_argument("file", type=Path, help="a file, or a folder of YAML files")
    verb.add_argument("--format", required=True, choices=IMPORTS)
    verb.set_defaults(run=run_import)
    verb = verbs.add_parser("plan", help="what telling two methods apart would cost")
    verb.add_argument("--effect", type=positive(float), required=True, help="difference, e.g. 0.03")
    verb.add_argument("--power", type=positive(float), default=0.8, help="default 0.8")
    verb.add_argument("--pilot", type=Path, nargs="+", default=[], help="run folders, one or two")
    verb.add_argument("--between", type=positive(float), help="paired spread; default: the pilot's")
    verb.add_argument("--max-problems", type=positive(int), help="what the benchmark holds")
    verb.set_defaults(run=run_plan)


def run_external(options: argparse.Namespace) -> None:
    """Fetch (or copy) what is not there yet, checked by sha256."""
    from functools import partial

    from scaling.external import check, copy, fetch, fetch_all, sources

    files = sources()
    if options.held:
        check(options.held, files)
    get = partial(copy, held=options.held) if options.held else fetch
    for done, file in fetch_all(options.to, files, None if options.dry_run else get):
        where = options.held / file.file if options.held else file.url()
        print(f"{done:8}{file.file}  {file.bytes:,} bytes, {file.licence}, {where}")


def run_import(options: argparse.Namespace) -> None:
    """Print pass@k with its interval; name what could not be used on stderr."""
    import numpy as np

    from scaling.estimates import pass_at_k
    from scaling.intervals import mean_interval
    from scaling.readers import counts, read_samples

    table, rejected = read_samples(options.file, options.format)
    for where, why in rejected[:20]:
        print(f"{options.file}, {where}: {why}", file=sys.stderr)
    n, c = counts(table)
    judged = n > 0
    n, c = n[judged], c[judged]
    if not len(n):
        raise ValueError(f"{options.file} holds no sample with a verdict")
    print(f"{n.sum():,} samples of {len(n)} problems", end="; ")
    print(f"{(~judged).sum()} problems without a verdict, {len(rejected)} places rejected")
    k = np.unique(np.append(2 ** np.arange(int(np.log2(n.min())) + 1), n.min()))
    found = mean_interval(pass_at_k(n[:, None], c[:, None], k))
    print(f"{'k':>5}{'pass@k':>10}{'low':>10}{'high':>10}")
    for row in zip(k, found.value, found.low, found.high, strict=True):
        print("{:>5}{:>10.4f}{:>10.4f}{:>10.4f}".format(*row))


def run_plan(options: argparse.Namespace) -> None:
    """Print the cheapest study that tells the difference, and its price at the pilot's costs."""
    from scaling.curves import read_pool
    from scaling.planner import plan, read_pilot
    from scaling.store import load_run

    pools = [read_pool(load_run(path)) for path in options.pilot]
    pilot = read_pilot(pools) if pools else None
    study, cost = plan(options.effect, options.power, pilot, options.between, options.max_problems)
    print(
        f"{study.problems:,} problems x {study.samples:,} samples x 2 methods: {study.draws:,} "
        f"samples tell a difference of {study.detectable:.3g} with power {options.power:g}"
    )
    if cost:
        hours = f"{cost['seconds'] / 3600:.3g} hours on the pilot's machine"
        print(f"{cost['tokens']:.3g} tokens, {cost['flops']:.3g} FLOPs, {hours}")


def positive(kind: type):
    """Return a converter to a positive number of a kind."""

    def convert(text: str):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    convert.__name__ = f"positive {kind.__name__}"
    return convert


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())

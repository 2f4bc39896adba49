"""Every verb's options, and the folders they default to. What a verb does is `run_VERB` of a file.

Nothing heavy is imported here: a verb's file is, once the verb is asked for.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from scaling.records import FEEDBACKS, Plan

MODELS, RUNS, FIGURES = Path("data/models/ladder"), Path("data/runs"), Path("figures")
STUDY, DERIVED, EXTERNAL = Path("data/study"), Path("data/derived"), Path("data/external")
SCORERS, REVISERS = Path("data/models/scorers"), Path("data/models/revisers")
THINKING = Path("data/models/thinking/0.1M")
IMPORTS = ("human-eval", "lm-eval", "inspect", "monkeys", "csv")
DTYPES = ("float32", "bfloat16", "float16")


def positive(kind: type):
    """Return a converter to a positive number of a kind."""

    def convert(text: str):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    convert.__name__ = f"positive {kind.__name__}"
    return convert


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return found


count, amount = positive(int), positive(float)


def run(file: str, verb: str, options: argparse.Namespace) -> None:
    """Do what a verb says."""
    getattr(import_module(f"scaling.cli.{file}"), f"run_{verb}")(options)


def new_verb(verbs, name: str, file: str, help: str) -> argparse.ArgumentParser:
    """Return the parser of a verb, which `run_NAME` of a file of this folder will do."""
    verb = verbs.add_parser(name, help=help)
    verb.set_defaults(run=partial(run, file, name))
    return verb


def add_verbs(verbs) -> None:
    """Declare every verb, in the order of `--help`."""
    add_sampling(verbs)
    add_learning(verbs)
    add_reading(verbs)
    add_trusting(verbs)


def add_sampling(verbs) -> None:
    """Verbs that make samples: study, sample, train."""
    verb = new_verb(verbs, "study", "sampling", "the main job: sample, table, fit, figures")
    add = verb.add_argument
    add("--preset", choices=("default", "tiny"), default="default")
    add("--models", type=Path, default=MODELS, help="folder of checkpoints with cards")
    add("--tasks", nargs="+", default=["countdown", "sums"])
    add("--runs", type=Path, default=STUDY, help="where the logs go (resumed if there)")
    add("--derived", type=Path, default=DERIVED, help="where tables go")
    add("--figures", type=Path, default=FIGURES, help="where figures go")
    add("--seed", type=int, default=0)
    add_executor_options(verb)
    add_engine_options(verb)
    verb = new_verb(verbs, "sample", "sampling", "draw one pool: a model, a task, a plan")
    add = verb.add_argument
    where = "folder, hub name org/name@revision, or http://host:port/v1"
    add("--model", required=True, help=where)
    add("--task", required=True, help="a name in scaling.tasks.TASKS, or a benchmark")
    add("--levels", nargs="+", help="e.g. 4x20 5x20; default: the task's own")
    add("--problems", type=count, default=100)
    add("--problem-seed", type=int, default=0)
    add("--runs", type=Path, default=STUDY)
    for field in fields(Plan):
        add(
            f"--{field.name.replace('_', '-')}",
            type=str if field.name == "stop" else type(field.default),
            nargs="+" if field.name == "stop" else None,
            choices=FEEDBACKS if field.name == "feedback" else None,
            help=f"default {field.default}",
        )
    add_engine_options(verb)
    add_model_options(verb)
    add_server_options(verb)
    add_benchmark_options(verb)
    add_executor_options(verb)
    add_cost_options(verb)
    add = new_verb(verbs, "train", "learning", "train the ladder, or one rung of it").add_argument
    add("--size", help="one of the ladder's sizes; default: all")
    add("--budgets", nargs="+", type=amount, help="train FLOPs, rising")
    add("--out", type=Path, default=MODELS)
    add("--seed", type=int, default=0)


def add_learning(verbs) -> None:
    """Verbs for scorers, search, revision and thinking: from scorer to reinforce."""
    what = "train a reward model on a model's own solutions"
    add = new_verb(verbs, "scorer", "learning", what).add_argument
    add("--model", type=Path, required=True)
    add("--task", default="countdown")
    add("--kind", default="process", help="process (every step) or outcome")
    add("--problems", type=count, default=5000)
    add("--out", type=Path, default=SCORERS, help="its folder gets the kind's name")
    add("--seed", type=int, default=0)
    what = "score the samples of runs; the numbers go beside them"
    add = new_verb(verbs, "score", "searching", what).add_argument
    add("runs", nargs="+", type=Path, help="run folders")
    add("--scorer", nargs="+", type=Path, default=[], help="folders of reward models")
    add("--certainty", type=Path, help="model folder, for its self-certainty")
    what = "every search over steps, at several widths"
    add = new_verb(verbs, "search", "searching", what).add_argument
    add("--model", type=Path, required=True)
    add("--task", default="countdown")
    add("--scorer", type=Path, default=SCORERS / "process")
    add("--methods", nargs="+", help="default: all")
    add("--widths", nargs="+", type=count, default=[4, 8, 16])
    add("--problems", type=count, default=100)
    add("--runs", type=Path, default=RUNS)
    what = "train a model to revise its own drafts"
    add = new_verb(verbs, "reviser", "learning", what).add_argument
    add("--model", type=Path, required=True)
    add("--name", help="of the folder; default: from lesson and feedback")
    add("--task", default="countdown")
    add("--levels", nargs="+", default=["3x20", "4x20"])
    add("--lesson", default="answer", help="answer, avoid, reward, plain")
    add("--rate", type=amount, default=3e-4)
    add("--feedback", nargs="+", default=["verdict"], help="none, verdict")
    add("--rounds", type=count, default=24)
    add("--problems", type=count, default=1000, help="of each round")
    add("--steps", type=count, default=6, help="drafts of a chain")
    add("--out", type=Path, default=REVISERS)
    add("--seed", type=int, default=0)
    what = "teach a tiny model to think: imitate, then reward"
    add = new_verb(verbs, "reinforce", "learning", what).add_argument
    add("--model", type=Path, default=MODELS / "0.1M" / "1e14", help="where imitation starts")
    add("--imitate", type=amount, default=5e12, help="FLOPs of imitation, default 5e12")
    add("--method", default="grpo", help="grpo (default) or expert")
    budgets = "FLOPs of the reward phase at its checkpoints, rising"
    add("--budgets", nargs="+", type=amount, default=[1e11, 3e11, 1e12, 3e12], help=budgets)
    add("--out", type=Path, default=THINKING, help=f"folder, default {THINKING}")
    add("--seed", type=int, default=0)


def add_reading(verbs) -> None:
    """Verbs that read samples, without torch: from accuracy to check."""
    what = "table accuracy per budget from logs: accuracy.csv"
    add = new_verb(verbs, "accuracy", "reading", what).add_argument
    add("--runs", type=Path, default=RUNS)
    add("--derived", type=Path, default=DERIVED)
    add = new_verb(verbs, "figures", "reading", "redraw the figures from logs").add_argument
    add("names", nargs="*", help="some of them; default: all")
    add("--runs", type=Path, default=RUNS)
    add("--figures", type=Path, default=FIGURES)
    what = "fit a law to the coverage curve of every run"
    add = new_verb(verbs, "fit", "reading", what).add_argument
    add("--law", default="exp_power")
    add("--selector", default="oracle")
    add("--unit", default="samples")
    add("--level", default="all")
    add("--runs", type=Path, default=RUNS)
    what = "pass@k of samples that another tool has drawn"
    add = new_verb(verbs, "import", "reading", what).add_argument
    add("file", type=Path, help="a file, or a folder of YAML files")
    add("--format", required=True, choices=IMPORTS)
    what = "what telling two methods apart would cost"
    add = new_verb(verbs, "plan", "reading", what).add_argument
    add("--effect", type=amount, required=True, help="difference, e.g. 0.03")
    add("--power", type=amount, default=0.8, help="default 0.8")
    add("--pilot", type=Path, nargs="+", default=[], help="run folders, one or two")
    add("--between", type=amount, help="paired spread; default: the pilot's")
    add("--max-problems", type=count, help="what the benchmark holds")
    what = "compare a benchmark's grading with reference labels"
    verb = new_verb(verbs, "audit", "benchmarks", what)
    add = verb.add_argument
    add("--task", required=True, help="the benchmark: gsm8k, math500, ...")
    add_benchmark_options(verb)
    add("labels", type=Path, help='JSON Lines of {"id": ..., "text": ..., "correct": true}')
    add("--show", type=int, default=10, help="disagreements to list; default 10")
    what = "accuracy and cost per category, of some runs"
    add = new_verb(verbs, "leaderboard", "benchmarks", what).add_argument
    add("runs", type=Path, nargs="+", help="run folders of one benchmark")
    add("--prices", type=Path, help="CSV: model, input, output per million tokens")
    what = "write runs up: HTML page, LaTeX fragment, BibTeX"
    add = new_verb(verbs, "report", "reading", what).add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    add("-o", "--out", type=Path, default=Path("report"), help="default: report")
    what = "name figures and reports that no longer follow"
    add = new_verb(verbs, "check", "reading", what).add_argument
    add("--figures", type=Path, default=FIGURES)
    add("--runs", type=Path, default=RUNS, help="what the figures are drawn from")
    add("--report", type=Path, help="the folder of a report, checked instead")


def add_trusting(verbs) -> None:
    """Verbs that test results, and keep the project in order: from drift to external."""
    what = "draw one pool under other batches, dtypes, engines"
    add = new_verb(verbs, "drift", "trusting", what).add_argument
    add("--model", type=Path, default=MODELS / "0.3M" / "1e13", help="a folder")
    add("--task", default="sums")
    add("--levels", nargs="+", help="default: the task's own")
    add("--problems", type=count, default=40)
    add("--chains", type=count, default=64)
    add("--max-new-tokens", type=count, default=64)
    add("--settings", nargs="+", help="the first is the base; default: all")
    add("--runs", type=Path, default=STUDY / "drift", help="a folder per setting")
    what = "judge a run's texts again, and redraw some samples"
    add = new_verb(verbs, "verify", "trusting", what).add_argument
    add("runs", type=Path, nargs="+", help="run folders")
    add("--share", type=amount, default=1.0, help="of texts; default 1")
    add("--redraw", type=int, default=2, help="problems to draw again; default 2")
    add("--models", type=Path, default=MODELS, help="where the run's model is")
    add("--device", default="auto", help="to draw on: auto, cpu, cuda")
    add("--dtype", choices=DTYPES)
    may = "share of redrawn samples that may differ; default 0, which only a CPU in float32 keeps"
    add("--tolerance", type=float, default=0.0, help=may)
    what = "execute the notebooks in place"
    add = new_verb(verbs, "notebooks", "working", what).add_argument
    add("paths", nargs="*", type=Path, help="default: all in notebooks/")
    what = "time the engine and the estimators beside their peers"
    add = new_verb(verbs, "bench", "working", what).add_argument
    add("--models", nargs="+", default=(), help="names in scaling.bench.MODELS")
    add("--works", nargs="+", default=(), help="e.g. fixed ragged prompt revision")
    add("--estimates", action="store_true", help="the estimators alone")
    add("--repeats", type=count, default=5)
    add("--device", default="auto", help="auto, cpu, cuda")
    add("--out", type=Path, default=DERIVED / "bench.csv")
    what = "fetch the third-party files behind published numbers"
    add = new_verb(verbs, "external", "working", what).add_argument
    add("--to", type=Path, default=EXTERNAL, help=f"folder; default {EXTERNAL}")
    add("--from", type=Path, dest="held", help="a folder that holds them already")
    add("--dry-run", action="store_true", help="say what would be done")


def add_engine_options(verb: argparse.ArgumentParser) -> None:
    """Add what decides where and how fast samples are drawn, not which."""
    add = verb.add_argument
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto: a GPU if any)")
    add("--dtype", choices=DTYPES, help="default: float32 on a CPU")
    add("--memory-gb", type=amount, help="cap on keys and values; sets the batch")
    add("--max-rows", type=count, help="cap on rows in flight")


def add_model_options(verb: argparse.ArgumentParser) -> None:
    """Add what `models.load_lm` takes."""
    add = verb.add_argument_group("models", "where --model is a folder or a hub name").add_argument
    yes_no = argparse.BooleanOptionalAction
    add("--chat", action=yes_no, help="ask by the chat template; default: where there is one")
    add("--system", default="", help="system prompt")
    add("--thinking", action=yes_no, help="for templates that can do either")
    suggested = "temperature, top-k, top-p, min-p as the model's makers suggest, unless given"
    add("--model-defaults", action="store_true", help=suggested)
    add("--train-tokens", type=amount, help="trained on, where no table knows")
    add("--device-map", help="auto: spread over all GPUs (needs accelerate)")
    add("--quantize", choices=("8bit", "4bit"), help="needs bitsandbytes")
    add("--remote-code", action="store_true", help="run Python files that this model brings")


def add_server_options(verb: argparse.ArgumentParser) -> None:
    """Add what applies where --model is the address of a server, or --batch is given."""
    about = "where --model is http(s)://…/v1, or with --batch"
    add = verb.add_argument_group("servers", about).add_argument
    add("--served-name", help="the model's name there; default: the only one listed")
    turns = "plain text (default), or chat: turns in the model's own template"
    add("--api", choices=("completions", "chat"), default="completions", help=turns)
    more = 'more fields of a request: {"min_tokens": 1}'
    add("--request", type=_fields, default={}, help=more)
    add("--in-flight", type=count, default=64, help="requests; default 64")
    add("--deadline", type=amount, default=600, help="seconds of a request; default 600")
    add("--card", type=Path, help="card.json of the model, so that FLOPs are known")
    add("--batch", type=Path, help="folder of OpenAI Batch files, in the place of a server")


def add_benchmark_options(verb: argparse.ArgumentParser) -> None:
    """Add what makes a task of a benchmark's file."""
    from scaling.benchmarks.readers import READERS

    about = f"--task {', '.join(READERS)}; gym:NAME"
    add = verb.add_argument_group("benchmarks", about).add_argument
    add("--problems-file", type=Path, help="the benchmark's own file")
    add("--prompt", help="a name in scaling/benchmarks/prompts, or a file")
    add("--newer-than", default="", help="only problems released after YYYY-MM-DD")


def add_executor_options(verb: argparse.ArgumentParser) -> None:
    """Add where units of sampling run."""
    where = "local, dask://HOST:PORT or slurm://?timeout_min=60 (docs/scale.md)"
    verb.add_argument("--executor", help=where)
    workers = "processes or jobs; 0: one per GPU, else per core"
    verb.add_argument("--workers", type=int, default=0, help=workers)


def add_cost_options(verb: argparse.ArgumentParser) -> None:
    """Add the dry run."""
    add = verb.add_argument_group("costs", "of a run, before it starts").add_argument
    add("--dry-run", action="store_true", help="print what it would cost, and stop")
    add("--mean-tokens", type=amount, help="new tokens per step; default: the cap")
    add("--tokens-per-second", type=amount, help="new ones, of one worker")
    add("--per-hour", type=amount, help="price of a worker's hour")
    prices = "prices of a million input and output tokens"
    add("--per-million", type=float, nargs=2, help=prices)

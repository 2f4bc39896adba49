"""Every verb's options, and the folders they default to. What a verb does is `run_VERB` of a file.

Nothing heavy is imported here: a verb's file is, once the verb is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any

from scaling.records import FEEDBACKS, Plan, device_name

MODELS, EXTERNAL = Path("data/models/ladder"), Path("data/external")
STUDY = Path("data/study")  #: what commands write, unless another folder is given
RUNS = STUDY / "runs"  #: where every command looks for runs, unless --runs is given
SCORERS, REVISERS = Path("data/models/scorers"), Path("data/models/revisers")
THINKING = Path("data/models/thinking/0.1M")
IMPORTS = ("human-eval", "evalplus", "lm-eval", "inspect", "monkeys", "csv", "jsonl")
DTYPES = ("float32", "bfloat16", "float16")
STOP = (
    "strings that end a sample; by default the text that the benchmark's prompt puts before a "
    "question ('\\nQuestion:'), if it has one; --stop without a string: none"
)
PLAN = {  #: field of a plan -> what --help says of it
    "method": "best_of_n, revision, wait, thinking; searches: beam, dvts, rebase, particles",
    "chains": "independent samples per problem",
    "steps": "drafts per chain of a revision, budgets of thinking, or nodes per chain of a search",
    "temperature": "sampling temperature; 0 is greedy decoding",
    "top_k": "sample from the k most likely tokens; 0: all",
    "top_p": "sample from the likeliest tokens up to this total probability; 1: all",
    "min_p": "smallest probability of a token, relative to the likeliest; 0: all tokens",
    "max_new_tokens": "maximum number of new tokens per step",
    "feedback": "verdict: the reviser learns whether its draft was wrong",
    "stop_after_correct": "stop sampling a problem after this many correct samples; 0: never",
    "seed": "seed of the samples",
    "history": "number of latest drafts that a revision sees; 0: all",
    "width": "for searches: candidates per round",
    "keep": "for beam and dvts: beams or subtrees kept per round",
    "scorer": "for searches: folder of the scorer",
    "stop_at_agreement": "stop sampling a problem once this many answers agree; 0: never",
}
IN_MEMORY = "a model in memory (--model FOLDER, FILE.gguf or org/name)"
SERVED = "a server (--model http://HOST:PORT/v1) or --batch"
LIVE = "a server (--model http://HOST:PORT/v1)"
BENCHMARK, OF_A_FILE = "a benchmark (--task gsm8k, gym:NAME, ...)", "a benchmark's file"
NEXT = {  #: verb -> the command to go on with
    "study": "fit --runs {runs}; report {runs}/RUN writes a run up",
    "sample": "accuracy --runs {runs}; fit and figures take the same --runs",
    "search": "accuracy --runs {runs}; figures takes the same --runs",
    "accuracy": "fit --runs {runs}; figures takes the same --runs",
    "fit": "figures --runs {runs}; report {runs}/RUN writes a run up",
    "figures": "check --runs {runs} --figures {figures}",
    "report": "check --report {out}",
}
INTO, FROM = (f"folder {what} runs; default {RUNS}" for what in ("to write", "that holds the"))
FORCE = "overwrite existing files that the kit did not write"
WORKERS, DRY = "--executor or --dry-run", "--dry-run"
ONLY_FOR = {  #: what a run of `sample` must have -> options that change nothing without it
    IN_MEMORY: (
        "device", "dtype", "memory_gb", "max_rows", "chat", "model_defaults", "train_tokens",
        "device_map", "quantize", "remote_code", "skip_long", "executor",
    ),
    SERVED: ("api", "request", "card", "opens_thinking"),
    LIVE: ("served_name", "in_flight", "deadline"),
    BENCHMARK: ("prompt",),
    OF_A_FILE: ("problems_file", "newer_than"),
    WORKERS: ("workers",),
    DRY: ("mean_tokens", "tokens_per_second", "per_hour", "per_million"),
}  # fmt: skip


def positive(kind: type):
    """Return a converter to a positive number of a kind."""

    def convert(text: str):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive and finite")
        return value

    convert.__name__ = f"positive {kind.__name__}"
    return convert


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def device(text: str) -> str:
    """Return the name of a device; a wrong one is told before torch is imported."""
    try:
        return device_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def none_or_more(text: str) -> int:
    """Return a whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative; 0 is none")
    return value


def pairs(text: str) -> dict[str, str]:
    """Return a=b,c=d as a dictionary."""
    found = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
    if len(found) != text.count(",") + 1 or not all(map(str.strip, (*found, *found.values()))):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form problem=id,correct=label")
    return {name.strip(): value.strip() for name, value in found.items()}


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return found


count, amount = positive(int), positive(float)


def was_given(options: argparse.Namespace, name: str) -> bool:
    """Return whether an option is other than its default."""
    return getattr(options, name) != options.parser.get_default(name)


def refuse_idle(options: argparse.Namespace, has: Mapping[str, bool]) -> None:
    """Raise ValueError for an option that was given and would change nothing; see `ONLY_FOR`."""
    for needed, names in ONLY_FOR.items():
        for name in names:
            if was_given(options, name) and not has[needed]:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} changes nothing here: it is for {needed}")


def run(file: str, verb: str, options: argparse.Namespace) -> None:
    """Do what a verb says, once the modules of --import have added to the kit's tables.

    Results of the default runs go into `STUDY`, where `study` writes them; those of other runs into
    the folder of these runs.
    """
    for module in options.modules:
        import_own(module)
    if isinstance(runs := getattr(options, "runs", None), Path):
        if verb != "sample":  # which first prints how it asks
            print(f"runs in {runs}")
        results = STUDY if runs == RUNS else runs
        for name, folder in (("derived", results), ("figures", results / "figures")):
            if getattr(options, name, folder) is None:
                setattr(options, name, folder)
    getattr(import_module(f"scaling.cli.{file}"), f"run_{verb}")(options)
    if verb in NEXT and not getattr(options, "dry_run", False):
        named = {name: quote(str(value)) for name, value in vars(options).items()}
        print(f"next: python -m scaling {NEXT[verb].format(**named)}")


def caution(message: str) -> None:
    """Print what the user should know before believing a result."""
    print(f"scaling: warning: {message}", file=sys.stderr)


def import_own(module: str) -> None:
    """Import a module of the user's, from the current folder or wherever Python finds it."""
    from scaling.executors import USER_MODULES

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        import_module(module)
        USER_MODULES.append(module)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"--import {module}: it cannot be imported: {what}") from error


class Defaults(argparse.HelpFormatter):
    """Tells the default of an option that says nothing else of itself."""

    def add_argument(self, action: argparse.Action) -> None:
        """Add an option's lines."""
        if action.help is None and action.default is not None:
            action.help = "default: %(default)s"
        super().add_argument(action)


def add_verbs(verbs) -> None:
    """Declare every verb, in the order of `--help`."""

    def new(name: str, file: str, help: str) -> Any:
        """Return the parser of a verb, which `run_NAME` of a file of this folder will do."""
        about = f"{help[0].upper()}{help[1:]}."
        verb = verbs.add_parser(
            name, help=help, description=about, formatter_class=Defaults, allow_abbrev=False
        )
        own = "import your own module first, with its tasks, laws or methods (repeatable)"
        verb.add(
            "--import", dest="modules", metavar="MODULE", action="append", default=[], help=own
        )
        verb.set_defaults(run=partial(run, file, name), parser=verb)
        return verb

    for add in (add_sampling, add_learning, add_reading, add_trusting):
        add(new)


def add_sampling(new: Callable[[str, str, str], Any]) -> None:
    """Verbs that make samples: study, sample, train."""
    verb = new(
        "study", "sampling", "sample the shipped models, tabulate accuracy, fit laws, draw figures"
    )
    verb.add("--preset", choices=("default", "tiny"), default="default")
    verb.add("--models", type=Path, default=MODELS, help="folder of checkpoints with cards")
    verb.add("--tasks", nargs="+", default=["countdown", "sums"])
    out = "folder of the logs (runs/, resumed if there), accuracy.csv and figures/"
    verb.add("--out", type=Path, default=STUDY, help=out)
    verb.add("--seed", type=int, default=0)
    verb.add("--force", action="store_true", help=FORCE)
    add_executor_options(verb)
    add_engine_options(verb)
    verb = new("sample", "sampling", "sample a model on a task, and print accuracy per budget")
    where = "a folder, FILE.gguf, a hub name org/name@revision, or http://host:port/v1"
    verb.add("--model", required=True, help=where)
    verb.add(
        "--task", required=True, help="countdown, sums, your own task (--import), or a benchmark"
    )
    verb.add(
        "--levels", nargs="+", help="levels of difficulty, e.g. 4x20 5x20; default: all of the task"
    )
    many = "number of problems, spread over the levels; of a benchmark a fixed subset; default 100"
    verb.add("--problems", type=count, default=100, help=many)
    verb.add(
        "--problem-seed", type=int, default=0, help="seed that chooses the problems; default 0"
    )
    fits = "leave out problems whose prompt does not fit the context, and count them"
    verb.add("--skip-long", action="store_true", help=fits)
    verb.add("--runs", type=Path, default=RUNS, help=INTO)
    for field in fields(Plan):
        verb.add(
            f"--{field.name.replace('_', '-')}",
            type=str if field.name == "stop" else type(field.default),
            nargs="*" if field.name == "stop" else None,
            choices=FEEDBACKS if field.name == "feedback" else None,
            help=f"{PLAN[field.name]}; default: {field.default!r}" if field.name in PLAN else STOP,
        )
    add_engine_options(verb)
    add_model_options(verb)
    add_server_options(verb)
    add_benchmark_options(verb)
    add_executor_options(verb)
    add_cost_options(verb)
    verb = new("train", "learning", "train the ladder of small models, or one size of it")
    verb.add("--size", help="one of the ladder's sizes; default: all")
    verb.add("--budgets", nargs="+", type=amount, help="train FLOPs, rising")
    verb.add("--out", type=Path, default=MODELS)
    verb.add("--seed", type=int, default=0)


def add_learning(new: Callable[[str, str, str], Any]) -> None:
    """Verbs for scorers, search, revision and thinking: from scorer to reinforce."""
    verb = new("scorer", "learning", "train a reward model on a model's own solutions")
    verb.add("--model", type=Path, required=True)
    verb.add("--task", default="countdown")
    verb.add("--kind", default="process", help="process (every step) or outcome")
    verb.add("--problems", type=count, default=5000)
    verb.add("--out", type=Path, default=SCORERS, help="its folder gets the kind's name")
    verb.add("--seed", type=int, default=0)
    verb = new(
        "score", "searching", "score the samples of runs; the scores go into each run's folder"
    )
    verb.add("runs", nargs="+", type=Path, help="run folders")
    verb.add("--scorer", nargs="+", type=Path, default=[], help="folders of reward models")
    verb.add("--certainty", type=Path, help="model folder, for its self-certainty")
    verb = new("search", "searching", "sample with every search method, at several widths")
    verb.add("--model", type=Path, required=True)
    verb.add("--task", default="countdown")
    verb.add("--scorer", type=Path, default=SCORERS / "process")
    verb.add("--methods", nargs="+", help="default: all")
    verb.add("--widths", nargs="+", type=count, default=[4, 8, 16])
    verb.add("--problems", type=count, default=100)
    verb.add("--runs", type=Path, default=RUNS, help=INTO)
    verb = new("reviser", "learning", "train a model to revise its own drafts")
    verb.add("--model", type=Path, required=True)
    verb.add("--name", help="of the folder; default: from lesson and feedback")
    verb.add("--task", default="countdown")
    verb.add("--levels", nargs="+", default=["3x20", "4x20"])
    verb.add("--lesson", default="answer", help="answer, avoid, reward, plain")
    verb.add("--rate", type=amount, default=3e-4)
    verb.add("--feedback", nargs="+", default=["verdict"], help="none, verdict")
    verb.add("--rounds", type=count, default=24)
    verb.add("--problems", type=count, default=1000, help="of each round")
    verb.add("--steps", type=count, default=6, help="drafts of a chain")
    verb.add("--out", type=Path, default=REVISERS)
    verb.add("--seed", type=int, default=0)
    verb = new(
        "reinforce", "learning", "train a tiny model to think: supervised traces, then RL training"
    )
    verb.add("--model", type=Path, default=MODELS / "0.1M" / "1e14", help="where it starts")
    none = "FLOPs, default 5e12; 0: no imitation, reward direct answers"
    verb.add("--imitate", type=float, default=5e12, help=none)
    verb.add("--method", default="grpo", help="grpo (default) or expert")
    budgets = "FLOPs of the reward phase at its checkpoints, rising"
    verb.add("--budgets", nargs="+", type=amount, default=[1e11, 3e11, 1e12, 3e12], help=budgets)
    verb.add("--out", type=Path, default=THINKING, help=f"folder, default {THINKING}")
    verb.add("--seed", type=int, default=0)


def add_reading(new: Callable[[str, str, str], Any]) -> None:
    """Verbs that read samples, without torch: from accuracy to check."""
    verb = new("accuracy", "reading", "write accuracy.csv: accuracy per budget of every run")
    verb.add("--runs", type=Path, default=RUNS, help=FROM)
    results = (
        f"folder to write into; default: the folder of --runs, or {STUDY} for the default runs"
    )
    verb.add("--derived", type=Path, help=results)
    verb.add("--force", action="store_true", help=FORCE)
    verb = new("figures", "reading", "draw the figures from the runs")
    verb.add("names", nargs="*", help="names of figures; default: all")
    verb.add("--runs", type=Path, default=RUNS, help=FROM)
    beside = f"default: figures/ in the folder of --runs, or {STUDY}/figures for the default runs"
    verb.add("--figures", type=Path, help=f"folder to write into; {beside}")
    verb.add("--force", action="store_true", help=FORCE)
    verb = new("fit", "reading", "fit a law to the coverage curve of every run")
    verb.add("--law", default="exp_power", help="name of a law, such as power; default: exp_power")
    verb.add(
        "--selector", default="coverage", help="coverage, majority, logprob, ...; default: coverage"
    )
    verb.add("--unit", default="samples", help="samples, tokens, flops, ...; default: samples")
    verb.add("--level", default="all", help="one level of the task; default: all together")
    verb.add("--task", help="fit only the runs of this task; default: all tasks")
    verb.add("--runs", type=Path, default=RUNS, help=FROM)
    verb = new(
        "import", "reading", "read another tool's samples; print pass@k, majority vote and a law"
    )
    verb.add("file", type=Path, help="a file, or a folder of YAML files")
    verb.add("--format", required=True, choices=IMPORTS)
    judge = "which verdict to read if the file holds several: a metric, a scorer, base or plus"
    verb.add("--metric", "--scorer", dest="metric", metavar="NAME", help=judge)
    verb.add(
        "--filter", metavar="NAME", help="which filter of lm-eval to read if the file holds several"
    )
    verb.add("--model", metavar="NAME", help="which model to read if the table holds several")
    theirs = "column names of your table: problem=id,correct=label (docs/formats.md lists ours)"
    verb.add("--columns", type=pairs, metavar="OURS=THEIRS,...", help=theirs)
    law = "law to fit to coverage, or to counts per problem: exp_power, beta_binomial, ..."
    verb.add("--law", help=law)
    verb = new(
        "plan", "reading", "how many problems and samples detect a difference, and their cost"
    )
    verb.add("--effect", type=amount, required=True, help="difference, e.g. 0.03")
    verb.add("--power", type=amount, default=0.8, help="default 0.8")
    verb.add("--pilot", type=Path, nargs="+", default=[], help="run folders, one or two")
    verb.add("--between", type=amount, help="paired spread; default: the pilot's")
    verb.add("--max-problems", type=count, help="what the benchmark holds")
    verb = new("audit", "benchmarks", "compare a benchmark's grading with reference labels")
    verb.add("--task", required=True, help="the benchmark: gsm8k, math500, ...")
    add_benchmark_options(verb)
    verb.add("labels", type=Path, help='JSON Lines of {"id": ..., "text": ..., "correct": true}')
    verb.add("--show", type=int, default=10, help="disagreements to list; default 10")
    verb = new(
        "leaderboard", "benchmarks", "tabulate accuracy and cost per category of a benchmark's runs"
    )
    verb.add("runs", type=Path, nargs="+", help="run folders of one benchmark")
    verb.add("--prices", type=Path, help="CSV: model, input, output per million tokens")
    verb = new("report", "reading", "write a report on runs: HTML page, LaTeX fragment, BibTeX")
    verb.add("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    verb.add("-o", "--out", type=Path, default=Path("report"), help="default: report")
    verb.add("--force", action="store_true", help=FORCE)
    verb = new("check", "reading", "list figures and reports that are out of date with their runs")
    verb.add("--figures", type=Path, help=f"folder of the figures; {beside}")
    verb.add("--runs", type=Path, default=RUNS, help=FROM)
    verb.add("--report", type=Path, help="the folder of a report, checked instead")


def add_trusting(new: Callable[[str, str, str], Any]) -> None:
    """Verbs that test results, and keep the project in order: from verify to external."""
    verb = new("verify", "trusting", "grade a run's texts again, and draw some samples again")
    verb.add("runs", type=Path, nargs="+", help="run folders")
    verb.add("--share", type=amount, default=1.0, help="of texts; default 1")
    verb.add("--problems-file", type=Path, help="of a benchmark: the file that was sampled")
    redraw = "problems to draw again; 0: none; default 2"
    verb.add("--redraw", type=none_or_more, default=2, help=redraw)
    verb.add("--models", type=Path, default=MODELS.parent, help="above the run's model")
    verb.add("--device", type=device, default="auto", help="to draw on: auto, cpu, cuda")
    verb.add("--dtype", choices=DTYPES)
    may = "share of redrawn samples that may differ; default 0, which only a CPU in float32 keeps"
    verb.add("--tolerance", type=share, default=0.0, help=may)
    verb = new("notebooks", "working", "execute the notebooks in place")
    verb.add("paths", nargs="*", type=Path, help="default: all in notebooks/")
    verb = new("external", "working", "fetch the third-party files behind published numbers")
    verb.add("--to", type=Path, default=EXTERNAL, help=f"folder; default {EXTERNAL}")
    verb.add("--from", type=Path, dest="held", help="a folder that holds them already")
    verb.add("--dry-run", action="store_true", help="say what would be done")


def add_engine_options(verb: argparse.ArgumentParser) -> None:
    """Add what decides where and how fast samples are drawn, not which."""
    add = verb.add_argument
    add(
        "--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1 (auto: a GPU if any)"
    )
    add("--dtype", choices=DTYPES, help="number format; default: float32 on a CPU")
    add("--memory-gb", type=amount, help="memory for keys and values; limits the batch size")
    add("--max-rows", type=count, help="maximum number of samples in one batch")


def add_model_options(verb: argparse.ArgumentParser) -> None:
    """Add what `models.load_lm` takes."""
    about = "if --model is a folder or a hub name; --system and --thinking also with --api chat"
    add = verb.add_argument_group("models", about).add_argument
    yes_no = argparse.BooleanOptionalAction
    add("--chat", action=yes_no, help="use the chat template; default: if the model has one")
    add("--system", default="", help="system prompt")
    add("--thinking", action=yes_no, help="for chat templates that can switch thinking on or off")
    suggested = "use the temperature, top-k, top-p, min-p that the model suggests, unless given"
    add("--model-defaults", action="store_true", help=suggested)
    add(
        "--train-tokens",
        type=amount,
        help="number of training tokens, if the kit has no record of it",
    )
    add("--device-map", help="auto: spread over all GPUs (needs accelerate)")
    add("--quantize", choices=("8bit", "4bit"), help="needs bitsandbytes")
    add("--remote-code", action="store_true", help="run the Python code that comes with the model")


def add_server_options(verb: argparse.ArgumentParser) -> None:
    """Add what applies where --model is the address of a server, or --batch is given."""
    about = "if --model is http(s)://…/v1, or with --batch"
    add = verb.add_argument_group("servers", about).add_argument
    add("--served-name", help="name of the model on the server; default: the only one it lists")
    turns = "completions: plain text (default); chat: messages in the model's chat template"
    add("--api", choices=("completions", "chat"), default="completions", help=turns)
    opens = "whether the chat template ends with an open <think>; default: found by a trial request"
    add("--opens-thinking", action=argparse.BooleanOptionalAction, help=opens)
    more = 'JSON with additional fields of each request, such as {"min_tokens": 1}'
    add("--request", type=_fields, default={}, help=more)
    add("--in-flight", type=count, default=64, help="number of concurrent requests; default 64")
    add(
        "--deadline",
        type=amount,
        default=600,
        help="time limit of a request in seconds; default 600",
    )
    add(
        "--card",
        type=Path,
        help="the model's card.json, folder or GGUF file, from which FLOPs are computed",
    )
    add("--batch", type=Path, help="folder of OpenAI Batch files, instead of a server")


def add_benchmark_options(verb: argparse.ArgumentParser) -> None:
    """Add what makes a task of a benchmark's file."""
    from scaling.benchmarks import READERS

    kinds = "; ".join(f"{name} ({reader.what})" for name, reader in READERS.items())
    about = f"--task {kinds}; gym:NAME (none: generated by reasoning-gym)"
    add = verb.add_argument_group("benchmarks", about).add_argument
    add("--problems-file", type=Path, help="file of the benchmark's problems")
    add("--prompt", help="a name in scaling/benchmarks/prompts, or a file")
    add("--newer-than", default="", help="only problems released after YYYY-MM-DD")


def add_executor_options(verb: argparse.ArgumentParser) -> None:
    """Add where units of sampling run."""
    where = "where to run: local, dask://HOST:PORT or slurm://?timeout_min=60 (docs/scale.md)"
    verb.add_argument("--executor", help=where)
    workers = "number of processes or jobs; 0: one per GPU, or per core without GPUs"
    verb.add_argument("--workers", type=int, default=0, help=workers)


def add_cost_options(verb: argparse.ArgumentParser) -> None:
    """Add the dry run."""
    add = verb.add_argument_group(
        "costs", "estimate the cost of a run before it starts"
    ).add_argument
    add("--dry-run", action="store_true", help="print the estimated cost, and stop")
    add(
        "--mean-tokens", type=amount, help="expected new tokens per step; default: --max-new-tokens"
    )
    add("--tokens-per-second", type=amount, help="generation speed of one worker")
    add("--per-hour", type=amount, help="price of one worker per hour")
    prices = "prices per million input tokens and output tokens"
    add("--per-million", type=float, nargs=2, help=prices)

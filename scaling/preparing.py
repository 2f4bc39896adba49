"""What `sample` draws: options become a model or server, a task, its problems and a plan.

Not here: the options themselves (`front.sample`) and the drawing (`sampling`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from scaling.records import Plan, Problem, SampleWarning, device_name, look_up

GYM = "gym:"  #: before the name of a generator of reasoning-gym
IN_MEMORY = "a model in memory (model=FOLDER, FILE.gguf or org/name)"
LIVE = "a server (model=http://HOST:PORT/v1)"
SERVED = f"{LIVE} or batch="
BENCHMARK, OF_A_FILE = "a benchmark (task=gsm8k, gym:NAME, ...)", "a benchmark's file"
WORKERS, DRY_RUN = "executor= or dry_run=", "dry_run="
LOADING = ("chat", "system", "thinking", "train_tokens", "device_map", "quantize", "remote_code")
ENGINE = ("device", "dtype", "memory_gb", "max_rows")
ONLY_FOR = {  #: what a run must have -> options that change nothing without it
    IN_MEMORY: {*ENGINE, *LOADING, "executor", "model_defaults", "skip_long"}
    - {"system", "thinking"},
    SERVED: {"api", "request", "card", "opens_thinking"},
    LIVE: {"served_name", "in_flight", "deadline"},
    BENCHMARK: {"prompt"},
    OF_A_FILE: {"problems_file", "newer_than"},
    WORKERS: {"workers"},
    DRY_RUN: {"mean_tokens", "tokens_per_second", "per_hour", "per_million"},
}
POSITIVE = {"problems", "memory_gb", "max_rows", "train_tokens", "in_flight", "deadline"}
POSITIVE |= ONLY_FOR[DRY_RUN] - {"per_million"}
WHOLE = {"problems", "max_rows", "in_flight"}
ALLOWED = {"quantize": ("8bit", "4bit"), "dtype": ("float32", "bfloat16", "float16")}


@dataclass(frozen=True)
class Prepared:
    """What is drawn, and by what."""

    lm: Any
    task: Any
    problems: tuple[Problem, ...]
    plan: Plan
    loading: dict[str, Any]  #: options of `models.load_lm`
    computing: dict[str, Any]  #: options of `engine.Engine`, or the engine of a server
    lines: tuple[str, ...]  #: what is drawn and left out, to print


def prepare(options: dict[str, Any], given: set[str], plan: dict[str, Any]) -> Prepared:
    """Return what the options of `front.sample`, and fields of a plan, draw.

    given: the names of the options that differ from their defaults.

    Warns of a plan whose chains will all be the same. Errors: ValueError for what cannot be, for
    what changes nothing, and for prompts that do not fit the model's context.
    """
    from scaling.methods import check_plan
    from scaling.models import is_endpoint, load_lm
    from scaling.tasks import validate_task

    if isinstance(options["problems"], (str, Path)):  # a file, all of it
        options |= {"problems_file": options["problems"], "problems": None}
        given = given | {"problems_file"}
    served = bool(options["batch"]) or is_endpoint(options["model"])
    check_options(options, given, served)
    for name in plan:
        look_up({field.name: None for field in fields(Plan)}, name, "option")
    check_plan(Plan(**plan))  # before torch is loaded and a model is read
    task = pose(options["task"], options)
    wanted = options["problems"] or len(task.rows)
    problems = validate_task(task, wanted, options["problem_seed"])
    which = describe_problems(task, len(problems), wanted)
    if plan.get("scorer") and "@" not in plan["scorer"]:
        from scaling.methods.scorers import scorer_name

        plan = plan | {"scorer": scorer_name(plan["scorer"])}
    from scaling.sampling import as_turns

    loading, computing = {name: options[name] for name in LOADING if name in given}, {}
    if served:
        lm, computing["engine"] = open_server(options)
    else:
        weights, identify = not (options["dry_run"] or options["executor"]), not options["dry_run"]
        lm = load_lm(options["model"], weights=weights, identify=identify, **loading)
        computing = engine_options(*(options[name] for name in ENGINE))
    problems = list(as_turns(lm, task, problems))
    suggested = {"stop": usual_stop(lm, task)} | (lm.defaults if options["model_defaults"] else {})
    chosen = Plan(**(suggested | plan))
    lines = describe_plan(lm, task, chosen, options["runs"], which)
    if options["skip_long"]:
        problems, left_out = fitting_problems(lm, task, problems)
        lines += left_out
    return Prepared(lm, task, tuple(problems), chosen, loading, computing, tuple(lines))


def given_options(function: Callable[..., Any], options: Mapping[str, Any]) -> set[str]:
    """Return the names of the options that differ from a function's defaults."""
    defaults = {name: one.default for name, one in signature(function).parameters.items()}
    return {
        name
        for name, value in options.items()
        if defaults[name] is not Parameter.empty and value != defaults[name]
    }


def engine_options(
    device: str = "auto",
    dtype: str | None = None,
    memory_gb: float | None = None,
    max_rows: int | None = None,
) -> dict[str, Any]:
    """Return the options of `engine.Engine`."""
    memory = memory_gb and int(memory_gb * 2**30)
    return {"device": device, "dtype": dtype, "max_rows": max_rows, "memory_cap": memory}


def check_options(options: Mapping[str, Any], given: set[str], served: bool) -> None:
    """Raise ValueError for an option that changes nothing (`ONLY_FOR`), or has no such value."""
    from scaling.tasks import TASKS

    name = options["task"]
    benchmark = isinstance(name, str) and name not in TASKS
    has = {
        IN_MEMORY: not served,
        SERVED: served,
        LIVE: served and not options["batch"],
        BENCHMARK: benchmark,
        OF_A_FILE: benchmark and not name.startswith(GYM),
        WORKERS: bool(options["executor"] or options["dry_run"]),
        DRY_RUN: options["dry_run"],
    }
    if options["problems"] is None and not has[OF_A_FILE]:
        raise ValueError(
            f"problems is {options['problems_file']!r}; give a number: a file needs the name of a "
            "benchmark as task"
        )
    for needed, names in ONLY_FOR.items():
        for option in sorted(names & given):
            if not has[needed]:
                raise ValueError(f"{option}= changes nothing here: it is for {needed}")
    for option in sorted(POSITIVE & given):
        value, whole = options[option], option in WHOLE
        kind = Integral if whole else Real
        if value is not None and not (isinstance(value, kind) and 0 < float(value) < math.inf):
            what = "whole number of at least 1" if whole else "positive, finite number"
            raise ValueError(f"{option} is {value!r}; give a {what}")
    for option, allowed in ALLOWED.items():
        if options[option] is not None:
            look_up(dict.fromkeys(allowed), options[option], option)
    device_name(options["device"])
    if options["per_hour"] and not options["tokens_per_second"]:
        raise ValueError("per_hour= needs tokens_per_second=: without it no hours are known")


# ---------------------------------------------------------------- tasks
def pose(task: Any, options: Mapping[str, Any]) -> Any:
    """Return the task of a name: one of the kit's own, or a benchmark; a task object as it is."""
    from scaling.benchmarks import READERS, load_benchmark, read_prompt
    from scaling.benchmarks.gym import gym_benchmark
    from scaling.tasks import get_task

    levels, file, prompt = options["levels"], options["problems_file"], options["prompt"]
    if isinstance(task, str) and task.startswith(GYM):
        template, notes = read_prompt(prompt or "bare")
        n, seed = options["problems"], options["problem_seed"]
        task = gym_benchmark(task.removeprefix(GYM), n, seed, template)
        task.notes |= notes
    elif isinstance(task, str) and (task in READERS or file):
        task = load_benchmark(task, file, prompt, options["newer_than"])
    elif isinstance(task, str):
        return get_task(task, list(levels) or None)
    if levels and not hasattr(task, "only"):
        raise ValueError("levels go with the name of a task or benchmark, not with a task object")
    return task.only(levels) if levels else task


def usual_stop(lm: Any, task: Any) -> tuple[str, ...]:
    """Return what ends an answer by a task's prompt, where the model's tokens can write it."""
    stop = getattr(task, "stop", ())
    local = hasattr(lm, "tokenizer")  # the tokenizer of a server is unknown
    return tuple(s for s in stop if not local or s in lm.decode(lm.encode(f"a{s}a")))


def fitting_problems(
    lm: Any, task: Any, problems: list[Problem]
) -> tuple[list[Problem], list[str]]:
    """Return the problems whose prompts fit the model's context, and a line on the others.

    How many are left out is logged too.
    """
    from scaling.sampling import too_long

    long = too_long(lm, task, problems)
    if not long or len(long) == len(problems):  # none fits: `check_prompts` refuses them
        return problems, []
    reason = f"prompt beyond the model's context of {lm.card.shape['context']}"
    notes = getattr(task, "notes", None) or {}
    task.notes = notes | {"left_out": notes.get("left_out", {}) | {reason: len(long)}}
    line = f"{task.name}: {len(long):,} of {len(problems):,} problems left out, {reason}"
    return [problem for problem in problems if problem.id not in long], [line]


def open_server(options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return (lm, engine) of a server, or of a batch folder."""
    from scaling.models import load_lm, read_card
    from scaling.serving import Endpoint, connect

    request, api = dict(options["request"] or {}), options["api"]
    if (thinking := options["thinking"]) is not None:
        if api != "chat":
            raise ValueError("thinking= needs api=chat: plain completions have no template")
        template = {"enable_thinking": thinking} | (request.get("chat_template_kwargs") or {})
        request |= {"chat_template_kwargs": template}
    card = None
    if options["card"]:
        path = Path(options["card"])
        of_a_model = path.is_dir() or path.suffix.lower() == ".gguf"
        card = load_lm(path, weights=False, chat=False).card if of_a_model else read_card(path)
    name = options["model"] if options["batch"] else options["served_name"]
    endpoint = Endpoint(name or "", api, options["system"], request)
    how = {key: options[key] for key in ("batch", "opens_thinking", "in_flight", "deadline")}
    return connect(options["model"], endpoint, card, **how)


# ---------------------------------------------------------------- what is printed
def estimate_run(job: Prepared, options: Mapping[str, Any]) -> dict[str, float]:
    """Return what a run would cost (`planner.price`); a server's tokens count as four bytes."""
    from scaling.compute import Shape
    from scaling.planner import estimate, price
    from scaling.sampling import check_prompts, shards_of
    from scaling.tasks.chat import chat_task

    lm, problems, plan = job.lm, job.problems, job.plan
    check_prompts(lm, job.task, problems, plan)
    texts = [chat_task(job.task, lm).prompt(problem) for problem in problems]
    local = hasattr(lm, "tokenizer")
    lengths = [len(lm.encode(text)) if local else len(text.encode()) / 4 for text in texts]
    shape = Shape(**lm.card.shape) if lm.card.shape else None
    shards = len(shards_of(problems, plan))
    cost = {"problems": len(problems), "shards": shards} | estimate(
        lengths, plan, shape, options["mean_tokens"]
    )
    names = ("workers", "tokens_per_second", "per_hour", "per_million")
    return price(cost, **{name: options[name] for name in names})


def describe_problems(task: Any, n: int, wanted: int) -> str:
    """Return how many of a task's problems are sampled, as a line to print."""
    rows = getattr(task, "rows", ())  # of a benchmark: all that there are
    if n < len(rows):
        return f"{task.name}: {n:,} of {len(rows):,} problems, chosen by hash"
    return f"{task.name}: {'all ' * bool(rows)}{n:,} problems" + f", not {wanted:,}" * (n != wanted)


def left_out_lines(task: Any) -> list[str]:
    """Return how many problems of a benchmark's file are left out, a line per reason."""
    left_out = getattr(task, "left_out", {})
    where = task.notes.get("file", task.name) if left_out else ""
    return [f"{where}: {count:,} problems left out, {why}" for why, count in left_out.items()]


def describe_plan(lm: Any, task: Any, plan: Plan, runs: Any, which: str) -> list[str]:
    """Return what will be sampled and where, as lines; warn if all chains will be the same."""
    if plan.chains > 1 and (plan.temperature == 0 or plan.top_k == 1):
        how = "temperature 0" if plan.temperature == 0 else "top_k 1"
        warnings.warn(
            f"{how} is greedy: the {plan.chains:,} chains of a problem will be the same text, and "
            "more samples will not help; give chains=1, or a higher temperature",
            SampleWarning,
            stacklevel=4,
        )
    lines = [f"runs in {runs}", which, *left_out_lines(task)]
    if hasattr(task, "describe_prompt"):
        stop = f"; {', '.join(map(repr, plan.stop))} ends a sample" if plan.stop else ""
        lines.insert(0, f"{task.name}: {task.describe_prompt(bool(lm.chat))}{stop}")
    steps = f" of {plan.steps:,} steps" if plan.steps > 1 else ""
    each = f"temperature {plan.temperature:g}, at most {plan.max_new_tokens:,} new tokens per step"
    return [*lines, f"{plan.method}: {plan.chains:,} chains{steps} per problem, {each}"]

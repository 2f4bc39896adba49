"""Verbs that sample models: study, sample; the choice of problems, and the cost of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from scaling.cli.app import (
    MODELS,
    RUNS,
    SAMPLE,
    STUDY,
    Amount,
    Count,
    Device,
    Dtype,
    Json,
    OptionalAmount,
    OptionalCount,
    Switch,
    documented,
    options,
    shown_default,
    suggest,
    verb,
    warn,
)  # fmt: skip
from scaling.records import FEEDBACKS, FINAL, Plan, Problem, look_up

GYM = "gym:"  #: before the name of a generator of reasoning-gym
SHOWN = [
    "level", "selector", "k", "test_tokens", "test_flops", "accuracy", "low", "high", "n_problems",
]  # fmt: skip
COMMITTED = Path("data/runs")  #: the runs of the figures
MANY = 0.1  #: share of samples cut at the token cap, or without an answer, that is warned of


# ---------------------------------------------------------------- options
def plan_options() -> type:
    """Return a dataclass with the fields of `Plan`, each None if the option is not given."""
    special = {"stop": tuple[str, ...], "feedback": Literal[FEEDBACKS]}
    rows: list[Any] = []
    for one in fields(Plan):
        kind: Any = special.get(one.name, type(one.default))
        default = Parameter(show_default=shown_default(one.default) or False)
        rows.append((one.name, Annotated[kind | None, default], field(default=None)))
    made = make_dataclass("PlanOptions", rows, namespace={"__module__": __name__})
    return Parameter(name="*", group=Group.create_ordered("Plan"))(documented(made, Plan))


if TYPE_CHECKING:
    PlanOptions = Plan
else:
    PlanOptions = plan_options()


COMPUTING = Group.create_ordered("Computing")


@options(COMPUTING)
@dataclass(frozen=True)
class EngineOptions:
    """Where and how fast samples are drawn; not which."""

    device: Device = "auto"  #: auto, cpu, cuda, cuda:1 (auto: a GPU if there is one)
    dtype: Dtype | None = None  #: number format; default: float32 on a CPU
    memory_gb: OptionalAmount = None  #: memory for keys and values; limits the batch size
    max_rows: OptionalCount = None  #: maximum number of samples in one batch

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of `engine.Engine`."""
        given = asdict(self)
        memory = given.pop("memory_gb")
        return given | {"memory_cap": memory and int(memory * 2**30)}


@options(COMPUTING)
@dataclass(frozen=True)
class ExecutorOptions:
    """Where the parts of a run are sampled."""

    executor: str | None = None  #: local, dask://HOST:PORT or slurm://?timeout_min=60
    workers: int = 0  #: number of processes or jobs; 0: one per GPU, or per core without GPUs


@options(Group.create_ordered("Models", help="--system, --thinking: also servers with --api chat."))
@dataclass(frozen=True)
class ModelOptions:
    """How a model is loaded and prompted."""

    chat: Switch = None  #: use the chat template; default: if the model has one
    system: str = ""  #: system prompt
    thinking: Switch = None  #: for chat templates that can switch thinking on or off
    model_defaults: bool = False  #: use the temperature, top-k, ... that the model suggests
    train_tokens: OptionalCount = None  #: number of training tokens, if it is not recorded
    device_map: str | None = None  #: auto: spread over all GPUs (needs accelerate)
    quantize: Literal["8bit", "4bit"] | None = None  #: needs bitsandbytes
    remote_code: bool = False  #: run the Python code that comes with the model
    skip_long: bool = False  #: leave out, and count, problems whose prompt does not fit the context

    def keywords(self) -> dict[str, Any]:
        """Return the options of `models.load_lm` that were given."""
        names = given_options(self) - {"model_defaults", "skip_long"}
        return {name: getattr(self, name) for name in names}


@options(Group.create_ordered("Servers", help="With --model http://HOST:PORT/v1, or --batch."))
@dataclass(frozen=True)
class ServerOptions:
    """How requests are sent to a server."""

    served_name: str | None = None  #: name of the model on the server; default: its only one
    api: Literal["completions", "chat"] = "completions"  #: plain text, or a chat template
    opens_thinking: Switch = None  #: whether the chat template ends with an open <think>;
    #: default: found by a trial request
    request: Json = field(default_factory=dict)  #: additional JSON fields, as {"min_tokens": 1}
    in_flight: Count = 64  #: number of concurrent requests
    deadline: Amount = 600  #: time limit of a request in seconds
    card: Path | None = None  #: card.json, folder or GGUF file, to compute FLOPs
    batch: Path | None = None  #: folder of OpenAI Batch files, instead of a server


@options(Group.create_ordered("Benchmarks", help="--task gsm8k, gym:NAME, ...: docs/benchmarks.md"))
@dataclass(frozen=True)
class BenchmarkOptions:
    """Which problems of a benchmark, and how they are prompted."""

    problems_file: Path | None = None  #: file of the benchmark's problems (docs/benchmarks.md)
    prompt: str | None = None  #: a name in scaling/benchmarks/prompts, or a file
    newer_than: str = ""  #: only problems released after YYYY-MM-DD


@options(Group.create_ordered("Costs", help="Estimate the cost of a run before it starts."))
@dataclass(frozen=True)
class CostOptions:
    """The assumptions of a dry run."""

    dry_run: bool = False  #: print the estimated cost, and stop
    mean_tokens: OptionalAmount = None  #: expected new tokens per step; default: --max-new-tokens
    tokens_per_second: OptionalAmount = None  #: generation speed of one worker
    per_hour: OptionalAmount = None  #: price of one worker per hour
    per_million: tuple[float, float] | None = None  #: prices per million input and output tokens


def given_options(group: Any) -> set[str]:
    """Return the names of the options of a group that differ from their defaults."""
    default = type(group)()
    return {f.name for f in fields(group) if getattr(group, f.name) != getattr(default, f.name)}


IN_MEMORY = "a model in memory (--model FOLDER, FILE.gguf or org/name)"
SERVED = "a server (--model http://HOST:PORT/v1) or --batch"
LIVE = "a server (--model http://HOST:PORT/v1)"
BENCHMARK, OF_A_FILE = "a benchmark (--task gsm8k, gym:NAME, ...)", "a benchmark's file"
WORKERS, DRY_RUN = "--executor or --dry-run", "--dry-run"
ONLY_FOR = {  #: what a run of `sample` must have -> options that change nothing without it
    IN_MEMORY: {f.name for f in (*fields(EngineOptions), *fields(ModelOptions))}
    - {"system", "thinking"}
    | {"executor"},
    SERVED: {"api", "request", "card", "opens_thinking"},
    LIVE: {"served_name", "in_flight", "deadline"},
    BENCHMARK: {"prompt"},
    OF_A_FILE: {"problems_file", "newer_than"},
    WORKERS: {"workers"},
    DRY_RUN: {"mean_tokens", "tokens_per_second", "per_hour", "per_million"},
}


# ---------------------------------------------------------------- study
@verb(SAMPLE)
def study(
    *,
    preset: Literal["default", "tiny"] = "default",  #: how much to sample
    models: Path = MODELS / "ladder",  #: folder of checkpoints with cards
    tasks: tuple[str, ...] = ("countdown", "sums"),  #: tasks to sample
    out: Path = STUDY,  #: folder of the logs (runs/, resumed if there), accuracy.csv and figures/
    seed: int = 0,  #: seed of the samples
    force: bool = False,  #: overwrite existing files that the kit did not write
    executor: ExecutorOptions = ExecutorOptions(),
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Sample the shipped models, tabulate accuracy, fit laws, draw figures."""
    from scaling.cli.reading import draw, write_accuracy
    from scaling.figures import plots
    from scaling.figures.gallery import FIGURES
    from scaling.models import find_models
    from scaling.sampling import sample_all
    from scaling.store.files import refuse_foreign
    from scaling.study import PRESETS, extra_runs, study_runs, without_weights
    from scaling.tasks import get_task

    runs, figures = out / "runs", out / "figures"
    drawn = [path for name in FIGURES for path in plots.paths_of(name, figures)]
    refuse_foreign([out / "accuracy.csv", *drawn], force)
    for task in tasks:
        get_task(task)
    chosen = PRESETS[preset]
    plans = {name: replace(getattr(chosen, name), seed=seed) for name in ("plan", "revision")}
    chosen, how = replace(chosen, **plans), engine.keywords()
    specs = study_runs(chosen, find_models(models), tasks, runs, **how)
    if "countdown" in tasks:
        specs += extra_runs(chosen, models, runs, **how)
    if missing := without_weights(COMMITTED, models):
        print(
            f"{sum(missing.values())} runs in {COMMITTED} are not sampled again, because these "
            f"models are not under {models.parent}: {', '.join(sorted(missing))}"
        )
    done = sample_all(specs, executor.workers, executor.executor or "local")
    print(f"{len(done)} runs, {sum(len(run.samples) for run in done):,} samples under {runs}")
    loaded = write_accuracy(runs, out / "accuracy.csv", force)
    draw(loaded, figures, (), force)
    suggest("fit --runs {runs}; report {runs}/RUN writes a run up", runs=runs)


# ---------------------------------------------------------------- sample
@verb(SAMPLE)
def sample(
    *,
    model: str,  #: a folder, FILE.gguf, a hub name org/name@revision, or http://host:port/v1
    task: str,  #: countdown, sums, your own task (--import), or a benchmark
    levels: tuple[str, ...] = (),  #: levels of difficulty, such as 4x20 5x20; default: all
    problems: Count = 100,  #: number of problems; of a benchmark a fixed subset
    problem_seed: int = 0,  #: seed that chooses the problems
    runs: Path = RUNS,  #: folder to write runs into
    plan: PlanOptions = PlanOptions(),
    engine: EngineOptions = EngineOptions(),
    executor: ExecutorOptions = ExecutorOptions(),
    loading: ModelOptions = ModelOptions(),
    server: ServerOptions = ServerOptions(),
    benchmark: BenchmarkOptions = BenchmarkOptions(),
    costs: CostOptions = CostOptions(),
) -> None:
    """Sample a model on a task, and print accuracy per budget."""
    from scaling.methods import METHODS, check_plan
    from scaling.models import is_endpoint, load_lm
    from scaling.runs import load_run
    from scaling.runs.tables import accuracy_table
    from scaling.tasks import TASKS, validate_task

    served = bool(server.batch) or is_endpoint(model)
    has = {
        IN_MEMORY: not served,
        SERVED: served,
        LIVE: served and not server.batch,
        BENCHMARK: task not in TASKS,
        OF_A_FILE: task not in TASKS and not task.startswith(GYM),
        WORKERS: bool(executor.executor or costs.dry_run),
        DRY_RUN: costs.dry_run,
    }
    refuse_idle(has, engine, executor, loading, server, benchmark, costs)
    given = {name: value for name, value in asdict(plan).items() if value is not None}
    look_up(METHODS, Plan(**given).method, "method")
    posed = task_of(task, benchmark, levels, problems, problem_seed)
    chosen = validate_task(posed, problems, problem_seed)
    which = chosen_problems(posed, len(chosen), problems)

    from scaling.methods.scorers import scorer_name
    from scaling.sampling import RunSpec, as_turns, sample_all, sample_run

    if given.get("scorer") and "@" not in given["scorer"]:
        given["scorer"] = scorer_name(given["scorer"])
    check_plan(Plan(**given))  # before a model is read
    how, load = engine.keywords(), loading.keywords()
    if served:
        lm, how["engine"] = open_server(model, server, loading)
        how = {"engine": how["engine"]}
    else:
        elsewhere = costs.dry_run or executor.executor
        lm = load_lm(model, weights=not elsewhere, identify=not costs.dry_run, **load)
    chosen = list(as_turns(lm, posed, chosen))
    suggested = {"stop": usual_stop(lm, posed)} | (lm.defaults if loading.model_defaults else {})
    drawn_by = Plan(**(suggested | given))
    print_plan(lm, posed, drawn_by, runs, which)
    if loading.skip_long:
        chosen = fitting_problems(lm, posed, chosen)
    if costs.dry_run:
        return print_cost(lm, posed, chosen, drawn_by, costs, executor.workers or 1)
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/manifest.json")}
    if executor.executor and not served:
        pairs = tuple(load.items()), tuple(how.items())
        spec = RunSpec(model, posed, tuple(chosen), drawn_by, runs, *pairs)
        (run,) = sample_all([spec], executor.workers, executor.executor)
    else:
        run = sample_run(lm, posed, chosen, drawn_by, runs, **how)
    table = accuracy_table([run])
    seal = run.path / "manifest.json"
    complete = before.get(seal) == seal.stat().st_mtime_ns
    print(f"{run.path}: {len(run.samples):,} samples" + ", complete before: none drawn" * complete)
    if served and drawn_by.temperature:
        warn_if_identical(load_run(run.path, text=True).samples)
    print_failed(run)
    print(table[SHOWN].to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    print_flaws(run)
    suggest("accuracy --runs {runs}; fit and figures take the same --runs", runs=runs)


def refuse_idle(has: Mapping[str, bool], *groups: Any) -> None:
    """Raise ValueError for an option that was given and would change nothing; see `ONLY_FOR`."""
    given = set().union(*map(given_options, groups))
    for needed, names in ONLY_FOR.items():
        for name in sorted(names & given):
            if not has[needed]:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} changes nothing here: it is for {needed}")


def task_of(
    name: str,
    options: BenchmarkOptions,
    levels: Sequence[str] = (),
    problems: int = 0,
    seed: int = 0,
) -> Any:
    """Return the task that the options name: one of the kit's own, or a benchmark's."""
    from scaling.benchmarks import READERS, load_benchmark, read_prompt
    from scaling.benchmarks.gym import gym_benchmark
    from scaling.tasks import get_task

    if name.startswith(GYM):
        template, notes = read_prompt(options.prompt or "bare")
        task = gym_benchmark(name.removeprefix(GYM), problems, seed, template)
        task.notes |= notes
    elif name not in READERS and not options.problems_file:
        return get_task(name, list(levels) or None)
    else:
        task = load_benchmark(name, options.problems_file, options.prompt, options.newer_than)
    return task.only(levels) if levels else task


def open_server(model: str, options: ServerOptions, prompting: ModelOptions) -> tuple[Any, Any]:
    """Return (lm, engine) of a server, or of a batch folder."""
    from scaling.models import load_lm, read_card
    from scaling.serving import (
        BatchEngine,
        Client,
        Endpoint,
        Served,
        connect,
        served_card,
        served_names,
    )

    request, name = options.request, model if options.batch else options.served_name
    if prompting.thinking is not None:
        if options.api != "chat":
            raise ValueError("--thinking needs --api chat: plain completions have no template")
        template = {"enable_thinking": prompting.thinking}
        template |= request.get("chat_template_kwargs") or {}
        request = request | {"chat_template_kwargs": template}
    if not name:
        with Client(model, deadline=30, tries=3) as client:
            names = served_names(client)
        if len(names) != 1:
            raise ValueError(f"{model} has {', '.join(names)}: pick one by --served-name")
        (name,) = names
    endpoint, card = Endpoint(name, options.api, prompting.system, request), None
    if path := options.card:
        of_a_model = path.is_dir() or path.suffix.lower() == ".gguf"
        card = load_lm(path, weights=False, chat=False).card if of_a_model else read_card(path)
    opens = options.opens_thinking
    if options.batch:
        lm = Served(served_card(endpoint, card), options.api == "chat", opens_thinking=opens)
        return lm, BatchEngine(options.batch, endpoint)
    how: dict[str, Any] = {"in_flight": options.in_flight, "deadline": options.deadline}
    return connect(model, endpoint, card, opens_thinking=opens, **how)


def usual_stop(lm: Any, task: Any) -> tuple[str, ...]:
    """Return the stop strings of a task's prompt that the model's tokens can write."""
    stop = getattr(task, "stop", ())
    local = hasattr(lm, "tokenizer")  # the tokenizer of a server is unknown
    return tuple(s for s in stop if not local or s in lm.decode(lm.encode(f"a{s}a")))


def fitting_problems(lm: Any, task: Any, problems: list[Problem]) -> list[Problem]:
    """Return the problems whose prompts fit the model's context; print and log how many do not."""
    from scaling.sampling import check_prompts, too_long

    long = too_long(lm, task, problems)
    if len(long) == len(problems):
        check_prompts(lm, task, problems)
    if long:
        reason = f"prompt beyond the model's context of {lm.card.shape['context']}"
        print(f"{task.name}: {len(long):,} of {len(problems):,} problems left out, {reason}")
        notes = getattr(task, "notes", None) or {}
        task.notes = notes | {"left_out": notes.get("left_out", {}) | {reason: len(long)}}
    return [problem for problem in problems if problem.id not in long]


# ---------------------------------------------------------------- printed lines
def chosen_problems(task: Any, n: int, wanted: int) -> str:
    """Return a line with the number of a task's problems to sample."""
    rows = getattr(task, "rows", None)  # of a benchmark: all that there are
    which = f"{n:,} problems"
    if rows and n < len(rows):
        which = f"{n:,} of {len(rows):,} problems, chosen by hash: --problems sets how many"
    elif rows:
        which = f"all {n:,} problems" + f", not {wanted:,}" * (n < wanted)
    elif n != wanted:
        which += f", not the {wanted:,} asked for"
    return f"{task.name}: {which}"


def print_left_out(task: Any) -> None:
    """Print how many problems of a benchmark's file are left out, by reason."""
    for why, count in getattr(task, "left_out", {}).items():
        print(f"{task.notes.get('file', task.name)}: {count:,} problems left out, {why}")


def print_plan(lm: Any, task: Any, plan: Plan, runs: Path, which: str) -> None:
    """Print the plan and its folder; warn of a plan whose chains will all be the same."""
    if hasattr(task, "describe_prompt"):
        stop = f"; {', '.join(map(repr, plan.stop))} ends a sample" if plan.stop else ""
        print(f"{task.name}: {task.describe_prompt(bool(lm.chat))}{stop}")
    print(f"runs in {runs}\n{which}")
    print_left_out(task)
    steps = f" of {plan.steps:,} steps" if plan.steps > 1 else ""
    print(
        f"{plan.method}: {plan.chains:,} chains{steps} per problem, temperature "
        f"{plan.temperature:g}, at most {plan.max_new_tokens:,} new tokens per step"
    )
    if plan.chains > 1 and (plan.temperature == 0 or plan.top_k == 1):
        how = "temperature 0" if plan.temperature == 0 else "top_k 1"
        warn(
            f"{how} is greedy: the {plan.chains:,} chains of a problem will be the same text, and "
            "more samples will not help; give --chains 1, or a higher temperature"
        )


def warn_if_identical(samples: Any) -> None:
    """Warn of a server that gave most problems the same text for every sample.

    The probe before a run checks one prompt only; a cache shows in the samples.
    """
    from scaling.serving import count_identical

    same, of = count_identical(samples)
    if same > of / 2:
        warn(
            f"in {same:,} of {of:,} problems all samples are the same text: unless the model is "
            "that sure of itself, this server, or a cache before it, does not sample"
        )


def print_flaws(run: Any) -> None:
    """Print how many samples were cut or gave no answer; warn if they are many."""
    from scaling.runs.tables import flaw_counts, flaw_line

    drawn, unextracted, truncated = flaw_counts([run])
    cap = f"the cap of {run.plan.max_new_tokens:,} new tokens: raise it with --max-new-tokens"
    for count, what in (
        (truncated, f"were cut at {cap}"),
        (unextracted, "have no answer that could be extracted; they count as wrong"),
    ):
        if count > MANY * drawn:
            warn(f"{count:,} of {drawn:,} samples {what}")
    print(flaw_line(drawn, unextracted, truncated))


def print_failed(run: Any) -> None:
    """Print the numbers of missing samples and problems with reasons, and the problems' names."""
    finish = run.samples["finish"].astype(str)
    failed = finish[finish.str.startswith("error")]
    for reason, count in failed.value_counts().head(5).items():
        print(f"{count:,} samples are missing ({reason})")
    if again := int((~failed.str.startswith(FINAL)).sum()):
        print(f"{again:,} of them failed for a reason that may pass: the same command asks again")
    drawn = run.samples["problem"].drop(failed.index).value_counts()
    if len(failed) and drawn.min() < drawn.max():
        print(f"problems have {drawn.min():,} to {drawn.max():,} samples: NaN where k is larger")
    if run.refused:
        names, total = list(run.refused), len(run.problems)
        shown = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
        print(f"{len(names):,} of {total:,} problems have no sample and are left out: {shown}")


def print_cost(
    lm: Any, task: Any, problems: Sequence[Problem], plan: Plan, costs: CostOptions, workers: int
) -> None:
    """Print the cost of a run; the price of tokens is a range, prompts paid once to per sample."""
    from scaling.compute import Shape
    from scaling.planner import estimate
    from scaling.sampling import check_prompts, shards_of
    from scaling.tasks.chat import chat_task

    if costs.per_hour and not costs.tokens_per_second:
        raise ValueError("--per-hour needs --tokens-per-second: without it no hours are known")
    check_prompts(lm, task, problems)
    texts = [chat_task(task, lm).prompt(problem) for problem in problems]
    local = hasattr(lm, "tokenizer")
    lengths = [len(lm.encode(text)) if local else len(text.encode()) / 4 for text in texts]
    shape = Shape(**lm.card.shape) if lm.card.shape else None
    cost = estimate(lengths, plan, shape, costs.mean_tokens)
    shards = len(shards_of(problems, plan))
    about = "" if local else " (a token per four bytes)"
    most = "" if costs.mean_tokens else " at most"
    print(f"{cost['samples']:,.0f} samples of {len(problems):,} problems in {shards:,} shards")
    print(f"{cost['prompt_tokens']:,.0f} prompt tokens{about},{most} {cost['tokens']:,.0f} new")
    print(f"{cost['flops']:.3g} FLOPs" if shape else "FLOPs unknown: give --card")
    hours = math.nan
    if costs.tokens_per_second:
        busy = min(workers, shards)
        hours = cost["tokens"] / costs.tokens_per_second / busy / 3600
        print(f"{hours:,.3g} hours on {busy:,} worker(s)")
    else:
        print("hours: give --tokens-per-second, as the bar of a run of few problems shows it")
    if costs.per_million:
        read, written = costs.per_million
        inputs = cost["prompt_tokens"], cost["billed_tokens"]
        ends = [(paid * read + cost["tokens"] * written) / 1e6 for paid in inputs]
        shown = " to ".join(dict.fromkeys(f"{end:,.2f}" for end in ends))
        print(f"{shown} for tokens, prompts paid once or with every sample")
    if costs.per_hour:
        print(f"{hours * workers * costs.per_hour:,.2f} for hours")

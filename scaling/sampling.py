"""Sample runs into their logs: one in this process, or many in shards on an executor.

The only place that puts models, methods and the log together. Not here: batching (the engine), how
a method samples (`methods`), what `make study` samples (`study`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from scaling.executors import USER_MODULES, local_context, open_executor
from scaling.intervals import likelihood_interval
from scaling.models import LM, load_lm
from scaling.records import Plan, Problem, Sample
from scaling.runs import Run, load_run
from scaling.store import Writer, open_run
from scaling.tasks.chat import chat_task

SHARD_PROBLEMS, SHARD_SAMPLES = 10, 1024  #: most problems, and samples, of a shard
LOADED: dict[Any, tuple[Any, Any]] = {}  #: in a worker: the model and engine of its last shard
TURN = Lock()  #: shared by the threads of one worker


@dataclass(frozen=True)
class RunSpec:
    """The definition of a run, and how to load its model."""

    model: str  #: folder or hub name
    task: Any
    problems: tuple[Problem, ...]
    plan: Plan
    root: Path  #: folder of the runs
    loading: tuple[tuple[str, Any], ...] = ()  #: options of `models.load_lm`
    options: tuple[tuple[str, Any], ...] = ()  #: options of `engine.Engine`


@dataclass(frozen=True)
class Shard:
    """Some problems of a run, as they are sent to a worker, which returns their samples."""

    spec: RunSpec  #: with the problems of the shard only
    identity: str  #: of the model, as the run's log has it
    modules: tuple[str, ...] = ()  #: of the user's, to import first

    def __call__(self) -> tuple[list[Sample], dict[str, Any], list[tuple[str, type[Warning]]]]:
        """Return the shard's samples, the settings of the worker's engine, and its warnings.

        The model stays loaded for the next shard.
        """
        from scaling.methods import draw

        for module in self.modules:
            import_module(module)
        spec = self.spec
        with TURN, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lm, engine = loaded(spec.model, spec.loading, spec.options)
            if lm.card.identity != self.identity:
                raise ValueError(
                    f"{spec.model} is another model here: {lm.card.identity}, not {self.identity}"
                )
            drawn = draw(lm, chat_task(spec.task, lm), spec.problems, spec.plan, engine)
            samples = [sample for _, found in drawn for sample in found]
        warned = [(str(warning.message), warning.category) for warning in caught]
        return samples, getattr(engine, "setting", {}), warned


def loaded(model: str, loading: tuple, options: tuple) -> tuple[Any, Any]:
    """Return (lm, engine), reusing those of the last call if the arguments are equal."""
    key = (model, loading, options)
    if key not in LOADED:
        LOADED.clear()  # first, so that two models are never in memory together
        lm = load_lm(model, **dict(loading))
        LOADED[key] = lm, new_engine(lm, dict(options))
    return LOADED[key]


def new_engine(lm: Any, options: dict[str, Any]) -> Any:
    """Return an engine for a model."""
    from scaling.engine import Engine

    return Engine(lm.model, eos_ids=lm.eos_ids, decode=lm.decode, **options)


def sample_run(
    lm: Any,
    task: Any,
    problems: Sequence[Problem],
    plan: Plan,
    root: Path,
    *,
    engine: Any = None,
    progress: bool = True,
    **engine_options: Any,
) -> Run:
    """Sample a plan into a run folder under `root`, resuming a run that is there; return the run.

    `engine_options`: device, dtype, memory_cap, max_rows of `engine.Engine`. Ctrl-C or an error
    keeps every complete problem, `kill -9` all but those of the last seconds (`store.writer.SAVE`);
    the same call then continues, and ends in the same samples. Samples that failed are rows with
    their reason: the run stays open, and the same call draws them again, unless a server refuses
    them for good.
    """
    from scaling.methods import draw

    problems = tuple(as_turns(lm, task, problems))
    spec = RunSpec("", task, problems, plan, root, options=tuple(engine_options.items()))
    with open_log(lm, spec) as writer:
        left = [problem for problem in problems if problem.id not in writer.complete]
        if left:
            engine = new_engine(lm, engine_options) if engine is None else engine
            setting = getattr(engine, "setting", {})
            note_engine(writer, setting)
            check_prompts(lm, task, left, plan)
            title = f"{task.name} {lm.card.name} {plan.method}"
            with Progress(len(left), disable=not progress, leave=False) as bar:
                for _, samples in draw(lm, chat_task(task, lm), left, plan, engine):
                    writer.write(samples, setting.get("isa"))
                    bar.add(samples, title)
        if not writer.sealed and not hasattr(lm, "tokenizer"):
            from scaling.serving.trials import settle_served

            settle_served(writer, lm)
        return close_log(writer)


def sample_all(
    specs: Sequence[RunSpec], workers: int = 0, executor: str | Executor = "local"
) -> list[Run]:
    """Sample every run, shard by shard on an executor (`executors`); return them in that order.

    This process holds the runs' locks and writes each shard as it arrives, so a worker that dies
    loses at most its shard, which another draws again to the same samples.
    """
    if executor == "local":
        local_context()  # workers import while models are described here
    described = {
        key: load_lm(key[0], weights=False, **dict(key[1]))
        for key in dict.fromkeys((spec.model, spec.loading) for spec in specs)
    }
    lms = [described[spec.model, spec.loading] for spec in specs]
    specs = [
        replace(spec, problems=tuple(as_turns(lm, spec.task, spec.problems)))
        for lm, spec in zip(lms, specs, strict=True)
    ]
    with ExitStack() as stack:
        writers = [stack.enter_context(open_log(*pair)) for pair in zip(lms, specs, strict=True)]
        shards: list[tuple[Writer, Shard]] = []
        for lm, spec, writer in zip(lms, specs, writers, strict=True):
            left = [problem for problem in spec.problems if problem.id not in writer.complete]
            check_prompts(lm, spec.task, left, spec.plan)
            where = str(Path(lm.where).resolve()) if Path(lm.where).exists() else lm.where
            for part in shards_of(left, spec.plan):
                own = replace(spec, problems=part, model=where)
                shards.append((writer, Shard(own, lm.card.identity, tuple(USER_MODULES))))
        total = sum(len(spec.problems) for spec in specs)
        left_in_all = sum(len(shard.spec.problems) for _, shard in shards)
        bar = stack.enter_context(Progress(total, initial=total - left_in_all))
        if shards:
            if isinstance(executor, str):
                executor = stack.enter_context(open_executor(executor, workers))
            collect({executor.submit(shard): writer for writer, shard in shards}, bar)
        return [close_log(writer) for writer in writers]


def shards_of(problems: Sequence[Problem], plan: Plan) -> list[tuple[Problem, ...]]:
    """Return problems divided into the shards that a worker draws at a time."""
    size = max(1, min(SHARD_PROBLEMS, SHARD_SAMPLES // (plan.chains * plan.steps)))
    return [tuple(problems[i : i + size]) for i in range(0, len(problems), size)]


def collect(waiting: dict[Future, Writer], bar: Progress) -> None:
    """Log each shard as it arrives, and repeat each warning of the workers once."""
    heard = set[str]()
    for future in as_completed(waiting):
        writer = waiting.pop(future)
        samples, setting, warned = future.result()
        del future  # while it is referenced, Dask draws it again if its worker dies
        for message, kind in warned:
            if message not in heard:
                heard.add(message)
                warnings.warn(message, kind, stacklevel=3)
        note_engine(writer, setting)
        writer.write(samples, setting.get("isa"))
        writer.flush()
        bar.add(samples, writer.path.name.rpartition("-")[0])


class Progress(tqdm):
    """A progress bar of problems that shows the running accuracy of the run added to last."""

    def __init__(self, total: int, **options: Any) -> None:
        super().__init__(total=total, unit="problem", **options)
        self.rates: dict[str, list[float]] = {}
        self.tokens, self.samples, self.began = 0, 0, time.perf_counter()

    def add(self, samples: Sequence[Sample], title: str) -> None:
        """Add new samples of the run with this title to the running totals, and update the bar."""
        problems: dict[str, list[bool]] = {}
        for sample in samples:
            if sample.finish != "scored":  # by a scorer, no answer
                problems.setdefault(sample.problem, []).append(sample.correct)
            self.tokens += sample.completion_tokens
        rates = self.rates.setdefault(title, [])
        rates += [sum(found) / len(found) for found in problems.values()]
        self.samples += len(samples)
        if self.update(len(problems)) or self.n == self.total:  # it is time to show something
            passed = time.perf_counter() - self.began
            self.set_description(title, refresh=False)
            self.set_postfix(
                accuracy=running_accuracy(rates),
                samples_per_s=f"{self.samples / passed:.0f}",
                tokens_per_s=f"{self.tokens / passed:.0f}",
            )


def running_accuracy(rates: Sequence[float]) -> str:
    """Return the accuracy of one sample over the problems so far, with its 95 % interval.

    rates: the share of correct samples of each problem.

    >>> running_accuracy([0.5])
    '0.500'
    """
    mean = float(np.mean(rates))
    if len(rates) < 2:
        return f"{mean:.3f}"
    low, high = likelihood_interval(np.array(rates)[:, None])
    return f"{mean:.3f} [{low[0]:.3f}, {high[0]:.3f}]"


def as_turns(lm: Any, task: Any, problems: Sequence[Problem]) -> Sequence[Problem]:
    """Return problems whose worked examples are turns if the model is prompted by chat."""
    few_shot = getattr(lm, "chat", None) and hasattr(task, "as_turns")
    return [task.as_turns(problem) for problem in problems] if few_shot else problems


def check_prompts(lm: Any, task: Any, problems: Sequence[Problem], plan: Plan) -> None:
    """Raise ValueError, before anything is drawn, if prompts do not fit a model's context.

    Warns if a first step of the plan's length does not fit after them.
    """
    if long := too_long(lm, task, problems):
        first, room = next(iter(long)), lm.card.shape["context"]
        raise ValueError(
            f"{len(long):,} of {len(problems):,} prompts are too long, the first that of "
            f"{first!r} with {long[first]:,} tokens: the model's context of {room} "
            f"leaves room for {room - 1}; skip_long=True leaves them out, or give a shorter prompt"
        )
    if problems and isinstance(lm, LM) and lm.card.shape:
        room, prompts = lm.card.shape["context"], map(chat_task(task, lm).prompt, problems)
        longest = max(prompts, key=len)
        if (most := room - len(lm.encode(longest))) < plan.max_new_tokens:
            warnings.warn(
                f"max_new_tokens is {plan.max_new_tokens}, but the model's context of {room} "
                f"leaves {most} after the longest prompt: samples are cut there",
                stacklevel=2,
            )


def too_long(lm: Any, task: Any, problems: Sequence[Problem]) -> dict[str, int]:
    """Return {problem: tokens} of the prompts that fill a model's context.

    A server's context is unknown here: such a prompt becomes a failed row.
    """
    if not isinstance(lm, LM) or not lm.card.shape:
        return {}
    room, prompt = lm.card.shape["context"], chat_task(task, lm).prompt
    # a token is a byte or more; twice the bytes leave room for what a tokenizer adds
    long = {p.id: text for p in problems if 2 * len((text := prompt(p)).encode()) + 16 >= room}
    lengths = {name: len(lm.encode(text)) for name, text in long.items()}
    return {name: n for name, n in lengths.items() if n >= room}


def open_log(lm: Any, spec: RunSpec) -> Writer:
    """Return the writer of a run; its log records the model's place and the prompt's form."""
    notes = getattr(spec.task, "notes", None) or {}  # of a benchmark: its file, prompt and scorer
    if hasattr(lm, "opens_thinking"):
        notes = notes | {"opens_thinking": lm.opens_thinking}
    if isinstance(lm, LM):
        how = {"model": lm.where, "chat": lm.chat and asdict(lm.chat)}
        notes = notes | how | {"loading": dict(spec.loading), "engine": dict(spec.options)}
    plan, problems = spec.plan, spec.problems
    if plan.scorer:
        from scaling.methods.scorers import scorer_notes

        notes = notes | scorer_notes(plan)
    return open_run(
        spec.root, task=spec.task.name, card=lm.card, plan=plan, problems=problems, extra=notes
    )


def note_engine(writer: Writer, setting: dict[str, Any]) -> None:
    """Log the engine's settings, and each instruction set once per session.

    Warns if other samples of the run were computed with another instruction set.
    """
    isa, mine = setting.get("isa"), writer.sessions[-1]["extra"].get("isas", [])
    others = {x for session in writer.sessions for x in session["extra"].get("isas", [])} - {isa}
    if isa in mine:
        return
    if isa and others:
        warnings.warn(
            f"{writer.path}: {len(writer.complete)} problems were sampled with SCALING_ISA "
            f"{', '.join(sorted(others))}, further ones with {isa}: last digits may differ, and in "
            "reduced precision samples",
            stacklevel=2,
        )
    writer.note(engine=setting, **({"isas": [*mine, isa]} if isa else {}))


def close_log(writer: Writer) -> Run:
    """Return the run; it is sealed unless failed samples can be drawn again."""
    if writer.finished:
        return load_run(writer.seal())
    writer.flush()
    return load_run(writer.path)

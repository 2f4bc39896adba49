"""The main job: sample a ladder, table its accuracy per budget, fit, draw; each a call of its own.

This is where the two rooms meet; nothing here samples, estimates, fits or draws by itself.
"""

from __future__ import annotations

import json
import os
import statistics
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from scaling.executors import USER_MODULES, local_context, open_executor
from scaling.models import LM, load_lm
from scaling.records import FEEDBACKS, FINAL, Plan, Problem, Sample
from scaling.runs import Run, load_run
from scaling.store import Writer, open_run
from scaling.store.parts import FAILED
from scaling.tasks import get_task
from scaling.tasks.chat import chat_task

UNIT, UNIT_SAMPLES = 10, 1024  #: most problems, and samples, of a unit of work: a part of the log
SAVE = 5.0  #: seconds after which the finished problems of an open unit are logged too
PLAIN = Plan(chains=64, max_new_tokens=64)
REVISE = Plan(method="revision", chains=4, steps=6, max_new_tokens=64)
THINK = Plan(method="thinking", chains=4, steps=7, max_new_tokens=256)
SEARCH = Plan(
    method="dvts",
    chains=4,
    steps=32,
    width=8,
    keep=2,
    max_new_tokens=32,
    scorer="../scorers/process",
)
LOADED: dict[Any, tuple[Any, Any]] = {}  #: in a worker: the model and engine of its last unit
TURN = Lock()


@dataclass(frozen=True)
class Preset:
    """How much the main job samples."""

    problems: int = 100  #: per task, over its levels
    plan: Plan = PLAIN  #: every model
    revision: Plan = REVISE  #: the two most trained of each size, with and without the verdict
    models: int = 0  #: the most trained ones only; 0 takes all
    ways: tuple[tuple[str, Plan], ...] = (  #: one model each, beside the ladder; countdown
        ("../thinking/0.1M/grpo/3e12", THINK),
        ("0.1M/3e13", SEARCH),
    )


PRESETS = {
    "default": Preset(),
    "tiny": Preset(
        problems=8,
        plan=replace(PLAIN, chains=8),
        revision=replace(REVISE, chains=2, steps=3),
        models=2,
        ways=(),
    ),
}


@dataclass(frozen=True)
class Work:
    """One run to sample."""

    model: str  #: folder or hub name
    task: Any
    problems: tuple[Problem, ...]
    plan: Plan
    root: Path  #: folder of the runs
    loading: tuple[tuple[str, Any], ...] = ()  #: options of `models.load_lm`
    options: tuple[tuple[str, Any], ...] = ()  #: options of `engine.Engine`

    @property
    def size(self) -> int:
        """Return the samples asked for."""
        return len(self.problems) * self.plan.chains * self.plan.steps


@dataclass(frozen=True)
class Unit:
    """A part of a run, as it is sent to a worker, which returns its samples."""

    work: Work  #: with the problems of the unit only
    identity: str  #: of the model, as the run's log has it
    modules: tuple[str, ...] = ()  #: of the user's, to import first

    def __call__(self) -> tuple[list[Sample], dict[str, Any], list[tuple[str, type[Warning]]]]:
        """Return the unit's samples, the setting of the worker's engine, and its warnings.

        The model stays loaded for the next unit.
        """
        from scaling.methods import draw

        for module in self.modules:
            import_module(module)
        work = self.work
        with TURN, warnings.catch_warnings(record=True) as told:  # TURN: of one worker's threads
            warnings.simplefilter("always")
            lm, engine = loaded(work.model, work.loading, work.options)
            if lm.card.identity != self.identity:
                raise ValueError(
                    f"{work.model} is another model here: {lm.card.identity}, not {self.identity}"
                )
            drawn = draw(lm, chat_task(work.task, lm), work.problems, work.plan, engine)
            samples = [sample for _, found in drawn for sample in found]
        warned = [(str(warning.message), warning.category) for warning in told]
        return samples, setting_of(engine), warned


def loaded(model: str, loading: tuple, options: tuple) -> tuple[Any, Any]:
    """Return (lm, engine), those of the last call where it asked for the same."""
    from scaling.engine import Engine

    key = (model, loading, options)
    if key not in LOADED:
        LOADED.clear()  # first, so that two models are never in memory together
        lm = load_lm(model, **dict(loading))
        LOADED[key] = lm, Engine(lm.model, eos_ids=lm.eos_ids, decode=lm.decode, **dict(options))
    return LOADED[key]


def work_of(
    preset: Preset, models: Sequence[Path], tasks: Sequence[str], root: Path, **options: Any
) -> list[Work]:
    """Return every run of a preset: all models best-of-N, the last two of each size revising."""
    models = list(models)[-preset.models :]
    sizes = [path.parent for path in models]
    last = [path for i, path in enumerate(models) if sizes[i + 1 :].count(path.parent) < 2]
    plans = [(path, preset.plan) for path in models]
    for feedback in FEEDBACKS:
        plans += [(path, replace(preset.revision, feedback=feedback)) for path in last]
    asks = [(task, tuple(task.problems(preset.problems))) for task in map(get_task, tasks)]
    work = [
        Work(str(path), task, problems, plan, root, options=tuple(options.items()))
        for path, plan in plans
        for task, problems in asks
    ]
    return work[::-1]  # the largest models first, so that no core waits for the last one


def ways_of(preset: Preset, ladder: Path, root: Path, **options: Any) -> list[Work]:
    """Return the preset's runs of thinking and search, of what is there beside a ladder."""
    from scaling.methods.scorers import scorer_name

    task = get_task("countdown")
    problems = tuple(task.problems(preset.problems))
    work = []
    for folder, plan in preset.ways:
        model, scorer = (Path(os.path.normpath(ladder / p)) for p in (folder, plan.scorer or "."))
        if model.exists() and scorer.exists():
            plan = replace(plan, scorer=scorer_name(scorer) if plan.scorer else "")
            work.append(Work(str(model), task, problems, plan, root, (), tuple(options.items())))
    return work


def without_weights(runs: Path, models: Path) -> Counter[str]:
    """Return {model name: number of runs} of logs under `runs` whose weights are not in `models`.

    models: folder of the ladder; a model called ladder/0.1M/1e12 lies in its parent.
    """
    paths = runs.glob("*/manifest.json")
    names = Counter(json.loads(path.read_text())["identity"]["model"]["name"] for path in paths)
    return Counter({name: n for name, n in names.items() if not (models.parent / name).exists()})


def sample_all(
    work: Sequence[Work], workers: int = 0, executor: str | Executor = "local"
) -> list[Run]:
    """Sample every run, unit by unit on an executor (`executors`); return them in the order given.

    This process holds the runs' locks and writes each unit as it arrives, so a worker that dies
    loses at most its unit, which another draws again to the same samples. Progress counts samples,
    those that were on the disk before included.
    """
    waiting: dict[Future, tuple[int, str, int]] = {}
    if executor == "local":
        local_context()  # workers import while models are described here
    described = {
        key: load_lm(key[0], weights=False, **dict(key[1]))
        for key in dict.fromkeys((w.model, w.loading) for w in work)
    }
    lms = [described[w.model, w.loading] for w in work]
    pairs = zip(lms, work, strict=True)
    work = [replace(w, problems=tuple(as_turns(lm, w.task, w.problems))) for lm, w in pairs]
    with ExitStack() as stack:
        writers = [stack.enter_context(open_log(*pair)) for pair in zip(lms, work, strict=True)]
        bar = stack.enter_context(tqdm(total=sum(w.size for w in work), unit="sample"))
        left = [units_left(*pair) for pair in zip(writers, work, strict=True)]
        bar.update(bar.total - sum(part.size for parts in left for part in parts.values()))
        for lm, one, parts in zip(lms, work, left, strict=True):
            open_ones = [p for part in parts.values() for p in part.problems]
            check_prompts(lm, one.task, open_ones, one.plan)
        if any(left):
            if isinstance(executor, str):
                executor = stack.enter_context(open_executor(executor, workers))
            for index, (lm, parts) in enumerate(zip(lms, left, strict=True)):
                for name, part in parts.items():
                    part = replace(part, model=anywhere(lm.where))
                    unit = Unit(part, lm.card.identity, tuple(USER_MODULES))
                    waiting[executor.submit(unit)] = index, name, part.size
            collect(waiting, writers, bar)
        return [close_log(*pair) for pair in zip(writers, work, strict=True)]


def anywhere(model: str) -> str:
    """Return what names a model in whatever folder a worker runs."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def collect(
    waiting: dict[Future, tuple[int, str, int]], writers: Sequence[Writer], bar: tqdm
) -> None:
    """Log each unit as it arrives; chains that ended early are taken off what is to come.

    The bar tells the accuracy so far of the run whose unit came last.
    """
    tokens, started, heard = 0, time.perf_counter(), set[str]()
    rates: dict[int, list[float]] = defaultdict(list)
    for future in as_completed(waiting):
        index, name, size = waiting.pop(future)
        samples, setting, told = future.result()
        del future  # while it is held, Dask draws it again if the worker that drew it dies
        for message, kind in told:
            if message not in heard:  # from every worker, of every unit
                heard.add(message)
                warnings.warn(message, kind, stacklevel=3)
        note_engine(writers[index], setting)
        write_unit(writers[index], name, samples)
        rates[index] += rates_of(samples)
        tokens += sum(sample.completion_tokens for sample in samples)
        bar.total -= size - len(samples)
        bar.update(len(samples))
        bar.set_description(writers[index].path.name.rpartition("-")[0])
        speed = f"{tokens / (time.perf_counter() - started):.0f}"
        bar.set_postfix(accuracy=so_far(rates[index]), tokens_per_s=speed)


def check_prompts(
    lm: Any, task: Any, problems: Sequence[Problem], plan: Plan | None = None
) -> None:
    """Raise ValueError, before anything is drawn, where prompts do not fit a model's context.

    Warns where a first step of the plan's length does not fit behind them.
    """
    if long := too_long(lm, task, problems):
        first, room = next(iter(long)), lm.card.shape["context"]
        raise ValueError(
            f"{len(long):,} of {len(problems):,} prompts are too long, the first that of "
            f"{first!r} with {long[first]:,} tokens: the model's context of {room} "
            f"leaves room for {room - 1}; leave them out by --skip-long, or take a shorter --prompt"
        )
    if plan and problems and isinstance(lm, LM) and lm.card.shape:
        room, prompts = lm.card.shape["context"], map(chat_task(task, lm).prompt, problems)
        longest = max(prompts, key=len)
        if (most := room - len(lm.encode(longest))) < plan.max_new_tokens:
            warnings.warn(
                f"max_new_tokens is {plan.max_new_tokens}, but the model's context of {room} "
                f"leaves {most} behind the longest prompt: samples are cut there",
                stacklevel=2,
            )


def too_long(lm: Any, task: Any, problems: Sequence[Problem]) -> dict[str, int]:
    """Return {problem: tokens} of the prompts that leave no room in a model's context.

    A server's is its own to know: there such a prompt is a failed row.
    """
    if not isinstance(lm, LM) or not lm.card.shape:
        return {}
    room, prompt = lm.card.shape["context"], chat_task(task, lm).prompt
    # a token is a byte or more; twice the bytes leave room for what a tokenizer adds
    long = {p.id: text for p in problems if 2 * len((text := prompt(p)).encode()) + 16 >= room}
    lengths = {name: len(lm.encode(text)) for name, text in long.items()}
    return {name: n for name, n in lengths.items() if n >= room}


def open_log(lm: Any, work: Work) -> Writer:
    """Return the writer of a run; its log tells where the model lay and how it was asked."""
    notes = getattr(work.task, "notes", None) or {}  # of a benchmark: its file, prompt and scorer
    if hasattr(lm, "opens_thinking"):
        notes = notes | {"opens_thinking": lm.opens_thinking}
    if isinstance(lm, LM):
        how = {"model": lm.where, "chat": lm.chat and asdict(lm.chat)}
        notes = notes | how | {"loading": dict(work.loading), "engine": dict(work.options)}
    plan, problems = work.plan, work.problems
    if plan.scorer:
        from scaling.methods.scorers import scorer_notes

        notes = notes | scorer_notes(plan)
    return open_run(
        work.root, task=work.task.name, card=lm.card, plan=plan, problems=problems, extra=notes
    )


def setting_of(engine: Any) -> dict[str, Any]:
    """Return what an engine's samples may depend on; nothing where it does not say."""
    return getattr(engine, "setting", {})


def note_engine(writer: Writer, setting: dict[str, Any]) -> None:
    """Log what computes, and each instruction set once per session.

    Warns where other samples of the run were computed with another instruction set.
    """
    isa, mine = setting.get("isa"), writer.sessions[-1]["extra"].get("isas", [])
    others = {x for session in writer.sessions for x in session["extra"].get("isas", [])} - {isa}
    if isa in mine:
        return
    if isa and others:
        warnings.warn(
            f"{writer.path}: {len(writer.done)} units were computed with SCALING_ISA "
            f"{', '.join(sorted(others))}, further ones with {isa}: last digits may differ, and in "
            "reduced precision samples",
            stacklevel=2,
        )
    writer.note(engine=setting, **({"isas": [*mine, isa]} if isa else {}))


def close_log(
    writer: Writer, work: Work, rest: Mapping[str, Sequence[Sample]] | None = None
) -> Run:
    """Return the run, sealed unless samples of it have failed: those can be drawn again.

    rest: units that are whole and not on the disk; most need no part of their own.
    """
    held = dict(rest or {})
    good = writer.done | {unit for unit in held if not failed(held[unit])}
    whole = set(units_of(work.problems, work.plan).values()) <= good
    for unit in [unit for unit in held if not whole or unit + FAILED in writer.done]:
        write_unit(writer, unit, held.pop(unit))
    if not (whole or writer.sealed):
        return load_run(writer.path)
    try:
        return load_run(writer.seal(held, whole=True))
    except BaseException:
        with suppress(OSError):  # a full disk is being told of
            for unit in set(held) - writer.done:
                write_unit(writer, unit, held[unit])
        raise


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
    """Draw a plan's pool into a run folder under `root`, resuming what is there; return the run.

    `engine_options`: device, dtype, memory_cap, max_rows of `engine.Engine`. Ctrl-C or an error
    keeps every finished problem, `kill -9` all but those of the last `SAVE` seconds; the same call
    then goes on, and ends in the same samples. Samples that failed are rows with their reason: the
    run stays open, and the same call draws them again, unless a server refuses them for good.
    """
    asked_for = tuple(as_turns(lm, task, problems))
    work = Work("", task, asked_for, plan, root, options=tuple(engine_options.items()))
    with open_log(lm, work) as writer:
        rest = {} if writer.sealed else _fill(writer, lm, work, engine, progress)
        if not writer.sealed and not hasattr(lm, "tokenizer"):
            from scaling.serving.settle import settle_served

            settle_served(writer, lm, rest)
        return close_log(writer, work, rest)


def as_turns(lm: Any, task: Any, problems: Sequence[Problem]) -> Sequence[Problem]:
    """Return problems as a model is asked: worked examples are turns where it has conversations."""
    few_shot = getattr(lm, "chat", None) and hasattr(task, "as_turns")
    return [task.as_turns(problem) for problem in problems] if few_shot else problems


def units_of(problems: Sequence[Problem], plan: Plan) -> dict[str, str]:
    """Return the unit of work that each problem belongs to, by the problem's id."""
    size = max(1, min(UNIT, UNIT_SAMPLES // (plan.chains * plan.steps)))
    return {problem.id: f"{i // size:06d}" for i, problem in enumerate(problems)}


def units_left(writer: Writer, work: Work) -> dict[str, Work]:
    """Return what is still to be sampled of a run: by unit, the same work on fewer problems."""
    parts: dict[str, list[Problem]] = defaultdict(list)
    if not writer.sealed:
        of = units_of(work.problems, work.plan)
        for problem in work.problems:
            if of[problem.id] not in writer.done:
                parts[of[problem.id]].append(problem)
    return {name: replace(work, problems=tuple(part)) for name, part in parts.items()}


def good_samples(writer, unit: str) -> list[Sample]:
    """Return what a unit that failed in part can keep: problems without a sample to draw again."""
    rows = writer.read(unit + FAILED) if unit + FAILED in writer.done else []
    bad = {row.problem for row in rows if can_be_retried(row)}
    return [row for row in rows if row.problem not in bad]


def failed(samples: Sequence[Sample]) -> bool:
    """Return whether a sample has failed and can be drawn again."""
    return any(map(can_be_retried, samples))


def can_be_retried(sample: Sample) -> bool:
    """Return whether a sample has failed for a reason that may pass."""
    return sample.finish.startswith("error") and not sample.finish.startswith(FINAL)


def write_unit(writer, unit: str, samples: Sequence[Sample]) -> None:
    """Log a unit; one with failed samples under a name of its own, until it is drawn again."""
    before = unit + FAILED if unit + FAILED in writer.done else ""
    writer.write(unit + FAILED * failed(samples), samples, before)


def save_unit(writer, unit: str, samples: Sequence[Sample]) -> None:
    """Log the finished problems of an open unit, as one that failed in part keeps them.

    Rows of it that failed before stay until their problems are drawn again.
    """
    name, drawn = unit + FAILED, {sample.problem for sample in samples}
    before = writer.read(name) if name in writer.done else []
    rest = [row for row in before if row.problem not in drawn]
    writer.write(name, [*samples, *rest], name)


def rates_of(samples: Sequence[Sample]) -> list[float]:
    """Return each problem's share of right samples, the passes of a scorer left out."""
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        if sample.finish != "scored":
            verdicts[sample.problem].append(sample.correct)
    return [statistics.fmean(found) for found in verdicts.values()]


def so_far(rates: Sequence[float]) -> str:
    """Return the accuracy of a sample over the problems done, with its 95 % interval over them.

    >>> so_far([0.5]), so_far([0.0, 0.25, 0.5, 0.25])
    ('0.500', '0.250 ± 0.200')
    """
    mean = statistics.fmean(rates)
    if len(rates) < 2:
        return f"{mean:.3f}"
    # not statistics.stdev, whose fractions took a seventh of the time of logging
    return f"{mean:.3f} ± {1.96 * np.std(rates, ddof=1) / len(rates) ** 0.5:.3f}"


def logged(
    writer: Writer,
    drawn: Iterable[tuple[Problem, list[Sample]]],
    unit_of: Mapping[str, str],
    waiting: dict[str, list[Sample]],
) -> Generator[list[Sample]]:
    """Yield each problem's samples as they are drawn, and log them.

    Units are logged every `SAVE` seconds and where it ends early, whole or open.
    waiting: what the units that are not done have on the disk; in the end, whole units that are not
    on the disk.
    """
    missing = Counter(unit_of[problem] for problem in unit_of if unit_of[problem] in waiting)
    missing.subtract(unit for unit, rows in waiting.items() for _ in {row.problem for row in rows})
    fresh, saved = set[str](), time.perf_counter()  # units with more than is on the disk

    def save() -> None:
        for unit in sorted(fresh):
            if missing[unit]:
                save_unit(writer, unit, waiting[unit])
            else:
                write_unit(writer, unit, waiting[unit])
                del waiting[unit]
            fresh.discard(unit)

    try:
        for problem, samples in drawn:
            unit = unit_of[problem.id]
            waiting[unit] += samples
            missing[unit] -= 1
            fresh.add(unit)
            if time.perf_counter() > saved + SAVE:
                save()
                saved = time.perf_counter()
            yield samples
    except BaseException:
        with suppress(OSError):  # a full disk has already been told of
            save()
        raise


def _fill(
    writer: Writer, lm: Any, work: Work, engine: Any, progress: bool
) -> dict[str, list[Sample]]:
    """Draw and log every unit that is not done, and show how far it is; return the last of them."""
    from scaling.engine import Engine
    from scaling.methods import draw

    if engine is None:
        engine = Engine(lm.model, eos_ids=lm.eos_ids, decode=lm.decode, **dict(work.options))
    note_engine(writer, setting_of(engine))
    task, parts = work.task, units_left(writer, work)
    waiting = {unit: good_samples(writer, unit) for unit in parts}
    kept = {row.problem for rows in waiting.values() for row in rows}
    left = [p for part in parts.values() for p in part.problems if p.id not in kept]
    check_prompts(lm, task, left, work.plan)
    bar = tqdm(total=len(left), unit="problem", disable=not progress, leave=False)
    bar.set_description(f"{task.name} {lm.card.name} {work.plan.method}")
    tokens, drawn, started = 0, 0, time.perf_counter()
    rates: list[float] = []
    found = draw(lm, chat_task(task, lm), left, work.plan, engine)
    units = units_of(work.problems, work.plan)
    with bar, closing(logged(writer, found, units, waiting)) as problems:
        for samples in problems:
            drawn += len(samples)
            rates += rates_of(samples)
            tokens += sum(sample.completion_tokens for sample in samples)
            passed = time.perf_counter() - started
            if bar.update():  # it was time to show something
                bar.set_postfix(
                    accuracy=so_far(rates),
                    samples_per_s=f"{drawn / passed:.0f}",
                    tokens_per_s=f"{tokens / passed:.0f}",
                )
    return waiting

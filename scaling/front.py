"""`load` and `sample`: the start of `import scaling as sc`, from a folder of runs or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from scaling.runs import Runs

Dtype = Literal["float32", "bfloat16", "float16"]
Bits = Literal["8bit", "4bit"]


def load(folder: str | Path) -> Runs:
    """Return the runs in a folder, sealed and open ones.

    Errors: ValueError if the folder holds none, or a file was changed.

    >>> runs = load("data/runs")
    >>> runs.tasks
    ['countdown', 'sums']
    """
    from scaling.runs import Runs

    return Runs.load(folder)


def sample(
    model: str | Path,  #: a folder, FILE.gguf, a hub name org/name@revision, or http://host:port/v1
    task: Any,  #: countdown, sums, maze, ..., your own task (--import), or a benchmark
    *,
    levels: Sequence[str] = (),  #: levels of difficulty, such as 4x20 5x20; default: all
    problems: int | str | Path = 100,  #: number of problems; for a benchmark, a fixed subset
    problem_seed: int = 0,  #: seed that chooses the problems
    runs: str | Path = "data/study/runs",  #: folder to write runs into
    device: str = "auto",  #: auto, cpu, cuda, cuda:1 (auto: a GPU if there is one)
    dtype: Dtype | None = None,  #: number format; default: float32 on a CPU
    memory_gb: float | None = None,  #: memory for keys and values; limits the batch size
    max_rows: int | None = None,  #: maximum number of samples in one batch
    executor: str | None = None,  #: local, dask://HOST:PORT or slurm://?timeout_min=60
    workers: int = 0,  #: number of processes or jobs; 0: one per GPU, or per core without GPUs
    chat: bool | None = None,  #: use the chat template; default: yes, if there is one
    system: str = "",  #: system prompt
    thinking: bool | None = None,  #: for chat templates that can switch thinking on or off
    model_defaults: bool = False,  #: use the temperature, top-k, ... that the model suggests
    train_tokens: int | None = None,  #: number of training tokens, if it is not recorded
    device_map: str | None = None,  #: auto: spread over all GPUs (needs accelerate)
    quantize: Bits | None = None,  #: needs bitsandbytes
    remote_code: bool = False,  #: run the Python code that comes with the model
    skip_long: bool = False,  #: leave out, and count, problems whose prompt exceeds the context
    served_name: str | None = None,  #: name of the model on the server; needed if there are several
    api: Literal["completions", "chat"] = "completions",  #: plain text or a chat template
    opens_thinking: bool | None = None,  #: whether the chat template ends with an open <think>;
    #: default: found by a trial request
    request: Mapping[str, Any] | None = None,  #: additional JSON fields, such as {"min_tokens": 1}
    in_flight: int = 64,  #: number of concurrent requests
    deadline: float = 600,  #: time limit of a request in seconds
    card: str | Path | None = None,  #: card.json, folder or GGUF file, to compute FLOPs
    batch: str | Path | None = None,  #: folder of OpenAI Batch files, instead of a server
    problems_file: str | Path | None = None,  #: the benchmark's problems (docs/benchmarks.md)
    prompt: str | None = None,  #: a name in scaling/benchmarks/prompts, or a file
    newer_than: str = "",  #: only problems released after YYYY-MM-DD
    dry_run: bool = False,  #: print the estimated cost, and stop
    mean_tokens: float | None = None,  #: expected new tokens per step; default: max_new_tokens
    tokens_per_second: float | None = None,  #: generation speed of one worker
    per_hour: float | None = None,  #: price of one worker per hour
    per_million: Sequence[float] | None = None,  #: prices per million input and output tokens
    progress: bool = True,
    **plan: Any,
) -> Any:
    """Return a `Run` of samples of a model on a task, drawn into `runs` or resumed there.

    model: a folder, a GGUF file, a name on the hub or the address of a server. task: a name of the
    kit's tasks or of a benchmark, or a task object. problems: how many over all levels, or a
    benchmark's file, of which all are drawn. plan: fields of `Plan`, such as chains=64. progress:
    print what is drawn, left out and missing, and a bar. dry_run returns the cost as a dictionary
    instead. The other options are those of `python -m scaling sample --help`. Needs torch, except
    for servers. Errors: ValueError for what cannot be, and for an option that has no effect.

    >>> from tempfile import TemporaryDirectory
    >>> model, small = "data/models/ladder/0.1M/1e12", {"chains": 2, "progress": False}
    >>> with TemporaryDirectory() as folder:
    ...     run = sample(model, "sums", problems=3, levels=["2x9"], runs=folder, **small)
    >>> run.n_samples, run.correct.shape
    (6, (3, 2, 1))
    >>> sample(model, "sums", problems=3, dry_run=True, **small)["samples"]
    6

    A model of the hub on a GPU, and a server:

        sample("Qwen/Qwen3-0.6B", "gsm8k", problems="test.jsonl", chains=64, device="cuda")
        sample("http://localhost:8000/v1", "gsm8k", problems="test.jsonl", api="chat")
    """
    options = {name: value for name, value in locals().items() if name != "plan"}
    from scaling.planner import cost_lines
    from scaling.preparing import estimate_run, given_options, prepare
    from scaling.runs import load_run
    from scaling.runs.tables import missing_lines, warn_of_flaws

    def say(*lines: str) -> None:
        for line in lines if progress else ():
            print(line)

    given = given_options(sample, options)
    job = prepare(options, given, plan)  # refuses what cannot be before torch is loaded
    from scaling.sampling import RunSpec, sample_all, sample_run
    from scaling.serving import warn_if_identical

    say(*job.lines)
    if dry_run:
        cost = estimate_run(job, options)
        about = "" if hasattr(job.lm, "tokenizer") else " (a token per four bytes)"
        say(*cost_lines(cost, about, "" if mean_tokens else " at most"))
        return cost
    root = Path(runs)
    before = {path: path.stat().st_mtime_ns for path in root.glob("*/manifest.json")}
    if executor:
        how = tuple(job.loading.items()), tuple(job.computing.items())
        spec = RunSpec(str(model), job.task, job.problems, job.plan, root, *how)
        (run,) = sample_all([spec], workers, executor)
    else:
        run = sample_run(
            job.lm, job.task, job.problems, job.plan, root, progress=progress, **job.computing
        )
    seal = run.path / "manifest.json"
    complete = before.get(seal) == seal.stat().st_mtime_ns
    say(f"{run.path}: {len(run.samples):,} samples" + ", complete before: none drawn" * complete)
    say(*missing_lines(run))
    warn_of_flaws(run)
    if "engine" in job.computing and job.plan.temperature:
        warn_if_identical(load_run(run.path, text=True).samples)
    return run

"""Verbs that check results and keep the project in order; of these `verify` alone needs torch."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scaling.cli.app import (
    CHECK,
    MODELS,
    READ,
    RUNS,
    Amount,
    Device,
    Fraction,
    NaturalNumber,
    verb,
)
from scaling.cli.reading import results_of
from scaling.front import Dtype


@verb(READ)
def audit(
    labels: Path,  #: JSON Lines of {"id": ..., "text": ..., "correct": true}
    /,
    *,
    task: str,  #: the benchmark: gsm8k, math500, ...
    show: int = 10,  #: number of disagreements to list
    problems_file: Path,  #: file of the benchmark's problems (docs/benchmarks.md)
    prompt: str | None = None,  #: a name in scaling/benchmarks/prompts, or a file
    newer_than: str = "",  #: only problems released after YYYY-MM-DD
) -> None:
    """Compare a benchmark's grading with reference labels."""
    from scaling.benchmarks import audit, load_benchmark, records
    from scaling.preparing import left_out_lines

    chosen = load_benchmark(task, problems_file, prompt, newer_than)
    for line in left_out_lines(chosen):
        print(line)
    rows = []
    for where, row in records(labels):
        id_, text, label = (row.get(name) for name in ("id", "text", "correct"))
        if id_ is None or not isinstance(text, str) or not isinstance(label, bool):
            raise ValueError(
                f'{labels}, {where}: give JSON Lines of {{"id": "...", "text": "...", '
                '"correct": true}'
            )
        rows.append((str(id_), text, label))
    n, odd = audit(chosen, rows)
    print(f"{n - len(odd):,} of {n:,} texts are marked as the labels mark them")
    if len(odd) > show:
        print(f"the first {show:,} of {len(odd):,} others (--show):")
    for row in odd[:show]:
        print(json.dumps(row | {"text": row["text"][-200:]}))


@verb(READ)
def leaderboard(
    runs: tuple[Path, ...],  #: run folders of one benchmark
    /,
    *,
    prices: Path | None = None,  #: CSV file: model, input, output per million tokens
) -> None:
    """Tabulate accuracy and cost per category of a benchmark's runs."""
    from scaling.report import leaderboard, read_prices
    from scaling.runs import load_run

    pools = [load_run(path, text=True) for path in runs]
    table = leaderboard(pools, read_prices(prices) if prices else None)
    print(table.to_string(index=False, float_format=lambda x: f"{x:.4g}"))


@verb(CHECK)
def check(
    *,
    figures: Path | None = None,  #: folder of the figures; default: figures/ next to accuracy.csv
    runs: Path = RUNS,  #: folder of the runs
    report: Path | None = None,  #: folder of a report, which is checked instead
) -> None:
    """List figures and reports that are out of date with their runs."""
    from scaling.report import differences, stale

    out = results_of(runs) / "figures"
    found = stale(report or figures or out, runs)
    if report:
        found["report"] = differences(report)
    for name, causes in found.items():
        print(f"{name}: {'; '.join(causes) or 'up to date'}")
    if wrong := [name for name, causes in found.items() if causes]:
        raise ValueError(f"{len(wrong)} of {len(found)} stale: {', '.join(wrong)}")


@verb(CHECK)
def verify(
    runs: tuple[Path, ...],  #: run folders
    /,
    *,
    share: Amount = 1.0,  #: fraction of the texts to grade
    problems_file: Path | None = None,  #: for a run of a benchmark: the file of its problems
    redraw: NaturalNumber = 2,  #: number of problems to sample again; 0: none
    models: Path = MODELS,  #: folder that has the run's model somewhere below it
    device: Device = "auto",  #: where to sample: auto, cpu, cuda
    dtype: Dtype | None = None,  #: number format
    tolerance: Fraction = 0.0,  #: fraction of samples that may differ; a CPU in float32 needs 0
) -> None:
    """Grade the texts of runs again, and sample some problems again."""
    from scaling import verify
    from scaling.models import load_lm
    from scaling.runs import load_run

    for path in runs:
        run = load_run(path)
        checked, wrong = verify.verdicts(run, share, file=problems_file)
        print(f"{path}: {checked:,} texts judged again, {len(wrong)} verdicts differ")
        if len(wrong):
            row = wrong.iloc[0]
            raise ValueError(
                f"{path}: problem {row['problem']}, chain {row['chain']}, step {row['step']} was "
                f"logged as {row['correct']} ({row['answer']!r}), now it is {row['correct_now']} "
                f"({row['answer_now']!r}): the verifier or the log has changed"
            )
        if not redraw:
            continue
        lm = load_lm(verify.model_of(run, models), **verify.logged_model(run)[1])
        found = verify.redraw(run, lm, redraw, file=problems_file, device=device, dtype=dtype)
        print(f"{path}: {found.samples:,} samples drawn again, {found.identical:.4%} the same")
        if 1 - found.identical > tolerance:
            raise ValueError(
                f"{path}: {1 - found.identical:.4%} of {found.samples:,} redrawn samples differ, "
                f"the first token that differs at {found.first_token:g}; the manifest lists "
                "device, dtype and packages of each session; --tolerance allows a fraction"
            )


@verb(CHECK)
def external(
    *,
    to: Path = Path("data/external"),  #: folder to write into
    source: Annotated[Path | None, Parameter(name="--from")] = None,  #: a folder that has them
    dry_run: bool = False,  #: only print what would be done
) -> None:
    """Fetch third-party files behind published numbers; check their sha256."""
    from scaling.readers.external import check, copy, fetch, fetch_all, sources

    files = sources()
    if source:
        check(source, files)
    get = partial(copy, origin=source) if source else fetch
    for done, file in fetch_all(to, files, None if dry_run else get):
        where = source / file.file if source else file.url()
        print(f"{done:8}{file.file}  {file.bytes:,} bytes, {file.licence}, {where}")

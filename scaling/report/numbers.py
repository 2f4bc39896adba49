"""The numbers of a report: one row of `results.csv` each, bound to nothing but its run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling import show
from scaling.figures.names import SELECTOR_NAMES, disambiguate
from scaling.fits import fit, forecast
from scaling.records import Curve, Fit
from scaling.runs import SELECTORS, Run, load_run

LAW, SHARES = (
    "exp_power",
    (1 / 4, 1 / 2),
)  #: of coverage; share of budgets fitted: first that will do
MOST = 12  #: runs in one report
EXAMPLE = 160  #: characters shown of a text
COLUMNS = ("id", "kind", "value", "low", "high", "n")  #: of `results.csv`
Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """What one run gives to a report."""

    name: str  #: prefix of its rows: run.a, run.b, …
    called: str  #: the model's name, with the run's hash where another is called alike
    pool: Run
    coverage: Curve
    fitted: Fit | None  #: None: too few points for the law
    rows: list[dict[str, Any]]  #: of `results.csv`


def row(name: str, value: Any, low: float = np.nan, high: float = np.nan, n: int = 0) -> dict:
    """Return one row of the results: a number with its interval, or a text."""
    kind = "text" if isinstance(value, str) else "number"
    return dict(zip(COLUMNS, (name, kind, value, low, high, n), strict=True))


def printed(found: dict[str, Any]) -> str:
    """Return a row of the results as the report prints it."""
    value = found["value"]
    if found["kind"] == "text":
        return value[:EXAMPLE] + ("…" if len(value) > EXAMPLE else "")
    if np.isfinite(found["low"]):
        return even(value, found["low"], found["high"])
    return show.number(value)


def even(value: float, low: float, high: float) -> str:
    """Return an estimate with its interval, each with the decimals of the largest: at most four.

    >>> even(0.97, 0.915, 0.99)
    '0.970 [0.915, 0.990]'
    """
    most = max(map(abs, (value, low, high)))
    if not 1e-3 < most < 1e7:  # NaN too
        return show.with_interval(value, low, high)
    places = int(np.clip(3 - np.ceil(np.log10(most)), 0, 4))
    middle, *ends = (f"{x:,.{places}f}".replace("-", "−") for x in (value, low, high))
    return f"{middle} [{', '.join(ends)}]"


def counted(count: int, what: str) -> str:
    """Return a count of things.

    >>> counted(1, "step"), counted(1200, "sample")
    ('1 step', '1,200 samples')
    """
    return f"{count:,} {what}" + "s" * (count != 1)


def part_of(pool: Run, name: str, called: str) -> Part:
    """Return the numbers of a run: what was sampled, accuracy per selector and budget, the law."""
    run = pool
    coverage = replace(pool.curve(selectors(pool)[0]), x=pool.budgets().astype(float))
    fitted, held, upto = _law(coverage)
    rows = [*_sampled(pool), *_accuracies(pool), *_example(run)]
    rows.append(row("called", called))
    rows.append(row("selector", SELECTOR_NAMES[selectors(pool)[0]]))
    rows.append(row("first", *_point(coverage, 0), coverage.n_problems))
    rows.append(row("last", *_point(coverage, -1), coverage.n_problems))
    unit = "sample" if run.plan.method == "best_of_n" else "step"
    rows.append(row("k", counted(int(coverage.x[-1]), unit)))
    rows.append(row("law", fitted.law if fitted else LAW))
    rows.append(row("upto", counted(int(upto), unit)))
    rows.append(
        row(
            "message",
            fitted.message
            if fitted
            else "the smallest budget solves nothing, or there are too few budgets",
        )
    )
    error, low, high = np.full(3, np.nan)
    if len(held):
        end = held.iloc[-1]
        error, low, high = end.error, end.low - end.y, end.high - end.y
    rows.append(row("error", float(error), float(low), float(high), len(held)))
    if fitted:
        for parameter, value in fitted.params.items():
            low, high = fitted.interval[parameter]
            rows.append(row(f"fit.{parameter}", value, low, high, fitted.n_points))
        rows.append(row("rmse", fitted.rmse))
    return Part(
        name, called, pool, coverage, fitted, [r | {"id": f"{name}.{r['id']}"} for r in rows]
    )


def _law(coverage: Curve) -> tuple[Fit | None, pd.DataFrame, float]:
    """Return the law of a coverage curve, its held-out score, and the budget fitted up to."""
    if not coverage.y[0] > 0:  # nothing right, or a search whose first nodes are no answers
        return None, pd.DataFrame(), float(coverage.x[-1])
    for share in SHARES:
        try:
            fitted, held = forecast(LAW, coverage, share)
            return fitted, held, float(coverage.x[fitted.n_points - 1])
        except ValueError:
            continue
    try:
        return fit(LAW, coverage), pd.DataFrame(), float(coverage.x[-1])
    except ValueError:
        return None, pd.DataFrame(), float(coverage.x[-1])


def _point(found: Curve, at: int) -> tuple[float, float, float]:
    return float(found.y[at]), float(found.low[at]), float(found.high[at])


def _sampled(pool: Run) -> Iterator[dict[str, Any]]:
    """Yield what was sampled, by which model, plan, code and machine."""
    run, card = pool, pool.card
    session = (run.manifest["sessions"] or [{}])[-1]
    device, packages = session.get("device") or {}, session.get("packages") or {}
    facts: dict[str, Any] = {
        "task": run.task,
        "model": card.name,
        "run": run.path.name,
        "sha256": run.sha256,
    }
    facts |= {"path": str(run.path), "method-name": pool.label, "parameters": card.n_params}
    facts |= {"train-flops": card.train_flops, "problems": len(run.problems)}
    facts |= {"samples": len(run.samples), "missing": pool.n_missing}
    facts["asked"] = counted(len(run.problems), "problem")
    facts["drawn"] = f"{facts['asked']}, {counted(len(run.samples), 'sample')}"
    facts["grid"] = f"{counted(run.plan.chains, 'chain')} of {counted(run.plan.steps, 'step')}"
    facts["stopped"] = counted(run.plan.stop_after_correct, "right sample")
    for name, value in run.plan.to_dict().items():
        told = " ".join(map(repr, value)) if isinstance(value, (tuple, list)) else value
        facts[name.replace("_", "-")] = told
    facts |= {"cpu": device.get("cpu") or "an unknown machine", "cores": device.get("cores") or "?"}
    facts |= {"gpus": ", ".join(device.get("gpus") or []) or "none"}
    facts |= {"kit": packages.get("inference-scaling-kit", "?")}
    facts |= {"torch": packages.get("torch", "?"), "commit": (session.get("commit") or "?")[:12]}
    yield from (row(name, value) for name, value in facts.items())


def _accuracies(pool: Run) -> Iterator[dict[str, Any]]:
    """Yield accuracy per selector at the smallest, a middle and the largest budget."""
    k = pool.budgets()
    chosen = k[[0, len(k) // 2, -1]]
    flops = pool.cost("flops", chosen)[pool.rows("all")].mean(axis=0)
    for name, budget, cost in zip(("low", "middle", "high"), chosen, flops, strict=True):
        yield row(f"k.{name}", int(budget))
        yield row(f"flops.{name}", float(cost))
    for selector in selectors(pool):
        found = pool.curve(selector, k=chosen)
        for at, name in enumerate(("low", "middle", "high")):
            yield row(f"{selector}.{name}", *_point(found, at), found.n_problems)


def _example(run: Run) -> Iterator[dict[str, Any]]:
    """Yield one problem that the model solves about half of the time, a right and a wrong draft."""
    has_texts = (run.path / "text.parquet").exists()
    frame = load_run(run.path, text=has_texts).samples
    rate = frame.groupby("problem")["correct"].mean()
    problem = (rate - 0.5).abs().sort_values(kind="stable").index[0]
    asked = run.problems.set_index("id").loc[problem]
    yield row("example.prompt", _one_newline(asked["prompt"]))
    for name, verdict in (("right", True), ("wrong", False)):
        if not has_texts:
            yield row(f"example.{name}", "not stored with this run")
            continue
        drafts = frame["text"][(frame["problem"] == problem) & (frame["correct"] == verdict)]
        yield row(f"example.{name}", _one_newline(drafts.iloc[0]) if len(drafts) else "none")


def _one_newline(text: Any) -> str:
    """Return a text without the carriage returns that CSV cannot hold."""
    return str(text).replace("\r\n", "\n").replace("\r", "\n")


def selectors(pool: Run) -> tuple[str, ...]:
    """Return what a report reads from a pool, the headline first: coverage where there is one."""
    own = tuple(s for s in SELECTORS[pool.plan.method] if s in pool.selectors)
    if pool.plan.stop_at_agreement:
        return pool.selectors
    if "coverage" not in own:
        return own
    return ("coverage", *(name for name in own if name != "coverage"))


def results(parts: Sequence[Part]) -> Rows:
    """Return every row that the text may be bound to, by id."""
    common: dict[str, Any] = {"all.flops": 2, "all.training": 3, "all.level": 95}
    common |= {"all.replicates": len(parts[0].coverage.replicates)}
    common |= {f"name.{selector}": name for selector, name in SELECTOR_NAMES.items()}
    rows = [row(name, value) for name, value in common.items()]
    return {r["id"]: r for r in [*rows, *(r for part in parts for r in part.rows)]}


def to_csv(rows: Rows) -> str:
    """Return the text of `results.csv`."""
    with io.StringIO() as text:
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
        return text.getvalue()


def from_csv(text: str) -> Rows:
    """Return the rows of `results.csv`, numbers as numbers."""
    found, rows = {}, csv.DictReader(io.StringIO(text, newline=""))
    if lost := set(COLUMNS) - set(rows.fieldnames or ()):
        raise ValueError(f"results.csv lacks {', '.join(sorted(lost))}: write the report anew")
    for r in rows:
        value: Any = float(r["value"]) if r["kind"] == "number" else r["value"]
        found[r["id"]] = r | {"value": value, "low": float(r["low"]), "high": float(r["high"])}
    return found


def agree(row: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Return whether two rows of the results say the same: numbers to five digits.

    Later digits of a fit differ between processors.
    """
    if row is None or other is None:
        return row is other
    return row.keys() == other.keys() and all(
        np.isclose(row[name], other[name], 1e-5, 1e-9, equal_nan=True)
        if isinstance(row[name], float) and isinstance(other[name], float)
        else row[name] == other[name]
        for name in row
    )


def names_of(pools: Sequence[Run]) -> list[str]:
    """Return the models' names; where task, model and method repeat, with the run's hash."""
    runs = [(pool.task, pool.card.name, pool.label) for pool in pools]
    return disambiguate([name for _, name, _ in runs], (run.short_hash for run in pools), by=runs)


def parts_of(paths: Sequence[Path]) -> list[Part]:
    """Return the numbers of each run, once; ValueError for none, too many, or an open one."""
    paths = list({path.resolve(): path for path in paths}.values())
    if not 0 < len(paths) <= MOST:
        raise ValueError(f"{len(paths)} runs: give 1 to {MOST} run folders")
    runs = [load_run(path) for path in paths]
    for run in runs:
        if not run.sha256:
            raise ValueError(f"{run.path} is still open; finish it with the command that began it")
    pools = [run for run in runs]
    named = enumerate(zip(pools, names_of(pools), strict=True))
    return [part_of(pool, f"run.{chr(97 + at)}", called) for at, (pool, called) in named]

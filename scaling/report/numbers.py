"""The numbers of a report: `results` returns the rows of `results.csv`, each bound to its run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from scaling import show
from scaling.curves import Curve, Fit
from scaling.figures.names import SELECTOR_NAMES, disambiguate
from scaling.fits import fit, forecast
from scaling.runs import UNITS, Run, load_run

LAW = "exp_power"  #: fitted to coverage
SHARES = (1 / 4, 1 / 2)  #: of the budgets to fit it to: the first for which there are enough points
MOST = 12  #: largest number of runs in one report
EXAMPLE = 160  #: characters shown of a text
COLUMNS = ("id", "kind", "value", "low", "high", "n")  #: of `results.csv`
Rows = dict[str, dict[str, Any]]


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


@dataclass(frozen=True, eq=False)
class Entry:
    """One run in a report, with the results that numbers, figures and texts share."""

    id: str  #: start of the ids of its rows: run.a, run.b, …
    called: str  #: the model's name, with the run's hash where two runs would have the same name
    run: Run

    def cells(self, *keys: str) -> list[str]:
        """Return the ids of this run's rows; "" stays an empty cell."""
        return [f"{self.id}.{key}" if key else "" for key in keys]

    @property
    def has_texts(self) -> bool:
        """Return whether the run's folder holds the texts of the samples."""
        return (self.run.path / "text.parquet").exists()

    @cached_property
    def selectors(self) -> tuple[str, ...]:
        """Return the selectors of the run, the headline first: coverage if it can be read."""
        run = self.run
        own = tuple(s for s in run.method.selectors if s in run.selectors) or run.selectors
        return tuple(sorted(own, key=lambda name: name != "coverage"))

    @cached_property
    def coverage(self) -> Curve:
        """Return coverage against samples or steps, or else the first selector's curve."""
        return replace(self.run.curve(self.selectors[0]), x=self.run.budgets().astype(float))

    @cached_property
    def law(self) -> tuple[Fit | None, pd.DataFrame]:
        """Return the law of coverage, if any, and its score on held-out budgets."""
        if not self.coverage.y[0] > 0:  # nothing correct, or a search's first nodes: no answers
            return None, pd.DataFrame()
        for share in SHARES:
            with suppress(ValueError):
                return forecast(LAW, self.coverage, share)
        with suppress(ValueError):
            return fit(LAW, self.coverage), pd.DataFrame()
        return None, pd.DataFrame()

    @cached_property
    def limits(self) -> list[str]:
        """Return sentences on what cannot be read from the samples, and why."""
        run, found = self.run, []
        if run.caveat:
            found.append(run.caveat)
        unknown = [unit for unit in UNITS if not np.isfinite(run.costs[unit][1]).any()]
        if unknown:
            found.append(f"the cost in {', '.join(unknown)} is unknown")
        if not run.train_flops:
            found.append("the training FLOPs of the model are unknown")
        if not self.has_texts:
            found.append("the texts of the samples are not stored: no problem is shown")
        return found


def entries(runs: Iterable[Run]) -> list[Entry]:
    """Return a report's entries; ValueError for no run, too many, or an open one."""
    found = list({(run.path.resolve(), run.card.name): run for run in runs}.values())
    if not 0 < len(found) <= MOST:
        raise ValueError(f"{len(found)} runs: a report takes 1 to {MOST}; select some of them")
    for run in found:
        if not run.sha256:
            raise ValueError(f"{run.path} is still open; finish it with the command that began it")
    keys = [(run.task, run.card.name, run.label) for run in found]
    names = disambiguate([name for _, name, _ in keys], (run.short_hash for run in found), by=keys)
    return [
        Entry(f"run.{chr(97 + at)}", name, run)
        for at, (run, name) in enumerate(zip(found, names, strict=True))
    ]


def results(found: Sequence[Entry]) -> Rows:
    """Return {id: row} of every number and text that a report can print."""
    common: dict[str, Any] = {"all.flops": 2, "all.training": 3, "all.level": 95}
    common |= {"all.replicates": len(found[0].coverage.replicates)}
    common |= {f"name.{selector}": name for selector, name in SELECTOR_NAMES.items()}
    rows = [row(name, value) for name, value in common.items()]
    for entry in found:
        parts = _drawn(entry), _accuracies(entry), _fitted(entry), _example(entry)
        rows += [r | {"id": f"{entry.id}.{r['id']}"} for part in parts for r in part]
    return {r["id"]: r for r in rows}


def _drawn(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield the facts of a run: model, plan, samples, code, machine, and what is unknown."""
    run, card = entry.run, entry.run.card
    session = (run.manifest["sessions"] or [{}])[-1]
    device, packages = session.get("device") or {}, session.get("packages") or {}
    facts: dict[str, Any] = {"task": run.task, "model": card.name, "run": run.path.name}
    facts |= {"sha256": run.sha256, "path": str(run.path), "method-name": run.label}
    facts |= {"source": json.dumps(run.manifest.get("import") or {}), "called": entry.called}
    facts |= {"parameters": card.n_params, "train-flops": card.train_flops}
    facts |= {"problems": len(run.problems), "samples": run.n_samples, "missing": run.n_missing}
    facts["asked"] = counted(len(run.problems), "problem")
    facts["drawn"] = f"{facts['asked']}, {counted(run.n_samples, 'sample')}"
    facts |= {f"limit.{at}": why for at, why in enumerate(entry.limits)}
    if run.imported:
        facts["format"] = run.manifest["import"]["format"]
        return (yield from (row(name, value) for name, value in facts.items()))
    facts["grid"] = f"{counted(run.plan.chains, 'chain')} of {counted(run.plan.steps, 'step')}"
    facts["stopped"] = counted(run.plan.stop_after_correct, "correct sample")
    for name, value in run.plan.to_dict().items():
        shown = " ".join(map(repr, value)) if isinstance(value, (tuple, list)) else value
        facts[name.replace("_", "-")] = shown
    facts |= {"cpu": device.get("cpu") or "an unknown machine", "cores": device.get("cores") or "?"}
    facts |= {"gpus": ", ".join(device.get("gpus") or []) or "none"}
    facts |= {"kit": packages.get("inference-scaling-kit", "?")}
    facts |= {"torch": packages.get("torch", "?"), "commit": (session.get("commit") or "?")[:12]}
    yield from (row(name, value) for name, value in facts.items())


def _accuracies(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield accuracy per selector at the smallest, a middle and the largest budget."""
    run = entry.run
    k, names = run.budgets(), ("low", "middle", "high")
    chosen = k[[0, len(k) // 2, -1]]
    flops = run.cost("flops", chosen)[run.rows("all")].mean(axis=0)
    for name, budget, cost in zip(names, chosen, flops, strict=True):
        yield row(f"k.{name}", int(budget))
        yield row(f"flops.{name}", float(cost))
    for selector in entry.selectors:
        found = run.curve(selector, k=chosen)
        for at, name in enumerate(names):
            yield row(f"{selector}.{name}", *_point(found, at), found.n_problems)


def _fitted(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield the headline's ends, the law of coverage, and its error at the largest budget."""
    coverage, (fitted, held_out) = entry.coverage, entry.law
    seen = fitted.n_points if fitted else 0
    unit = "sample" if entry.run.method.exchangeable else "step"
    yield row("selector", SELECTOR_NAMES[entry.selectors[0]])
    yield row("first", *_point(coverage, 0), coverage.n_problems)
    yield row("last", *_point(coverage, -1), coverage.n_problems)
    yield row("k", counted(int(coverage.x[-1]), unit))
    yield row("law", fitted.law if fitted else LAW)
    yield row("upto", counted(int(coverage.x[seen - 1]), unit))
    none = "the smallest budget solves nothing, or there are too few budgets"
    yield row("message", fitted.message if fitted else none)
    error, low, high = np.full(3, np.nan)
    if len(held_out):
        end = held_out.iloc[-1]
        error, low, high = end.error, end.low - end.y, end.high - end.y
    yield row("error", float(error), float(low), float(high), len(held_out))
    if fitted:
        for name, value in fitted.params.items():
            yield row(f"fit.{name}", value, *fitted.interval[name], fitted.n_points)
        yield row("rmse", fitted.rmse)


def _point(found: Curve, at: int) -> tuple[float, float, float]:
    return float(found.y[at]), float(found.low[at]), float(found.high[at])


def _example(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield a problem that the model solves about half of the time, a correct and a wrong draft."""
    if not entry.has_texts:
        return
    frame = load_run(entry.run.path, text=True).samples
    rate = frame.groupby("problem")["correct"].mean()
    problem = (rate - 0.5).abs().sort_values(kind="stable").index[0]
    drafts = frame[frame["problem"] == problem]
    prompt = entry.run.problems.set_index("id").loc[problem, "prompt"]
    yield row("example.prompt", _one_newline(prompt))
    for name, verdict in (("right", True), ("wrong", False)):
        texts = drafts["text"][drafts["correct"] == verdict]
        yield row(f"example.{name}", _one_newline(texts.iloc[0]) if len(texts) else "none")


def _one_newline(text: Any) -> str:
    """Return a text without the carriage returns that CSV cannot hold."""
    return str(text).replace("\r\n", "\n").replace("\r", "\n")


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
    if missing := set(COLUMNS) - set(rows.fieldnames or ()):
        raise ValueError(f"results.csv lacks {', '.join(sorted(missing))}: write the report again")
    for r in rows:
        value: Any = float(r["value"]) if r["kind"] == "number" else r["value"]
        found[r["id"]] = r | {"value": value, "low": float(r["low"]), "high": float(r["high"])}
    return found


def agree(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Return whether two rows are the same: numbers to five digits.

    Later digits of a fit differ between processors.
    """
    if one is None or other is None:
        return one is other
    return one.keys() == other.keys() and all(
        np.isclose(one[name], other[name], 1e-5, 1e-9, equal_nan=True)
        if isinstance(one[name], float) and isinstance(other[name], float)
        else one[name] == other[name]
        for name in one
    )

"""How do losses and accuracies of the maze ladder fall and grow with training compute and size?

Read from the likelihood of the right path (`ladder.likelihood`): it is the only right answer of
`maze`, so its likelihood is the exact pass@1 of a problem, and nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.curves import Curve, Fit, ends
from scaling.fits import fit, forecast
from scaling.intervals import bootstrap_problems, mean_interval
from scaling.results.table import row
from scaling.runs import Runs

SAMPLED = ()  #: no runs
PATH = Path("data/models/maze/likelihood.parquet")
SHALLOW = 4  #: junctions up to which the pass@1 of paths is compared
LOOKS_UP = 0.6  #: nats per token: a model that looks passages up and guesses branches has about 0.4
KINDS = {"mazes": "", "mazes with corridors": "x"}  #: what their levels have in the name
FITTED = 0.26  #: share of the largest training compute up to which the law of pass@1 is fitted


@dataclass(frozen=True)
class Likelihoods:
    """The likelihood of the right path of each test problem under each checkpoint."""

    table: pd.DataFrame  #: as of `ladder.likelihood.likelihood_table`

    @cached_property
    def models(self) -> pd.DataFrame:
        """Return one row per checkpoint: model, n_params, train_flops, train_tokens, size, seed."""
        columns = ["model", "n_params", "train_flops", "train_tokens"]
        found = self.table[columns].drop_duplicates().reset_index(drop=True)
        names = found["model"].str.extract(r"/([^/]*?)(?:-seed(\d+))?/([^/]*)$")
        return found.assign(size=names[0], seed=names[1].fillna("0").astype(int), budget=names[2])

    @cached_property
    def levels(self) -> np.ndarray:
        """Return the level of each problem."""
        first = self.table["model"] == self.models["model"].iloc[0]
        return self.table.loc[first, "level"].to_numpy()

    @cached_property
    def nats(self) -> np.ndarray:
        """Return minus the log-likelihood of the right path, (problems, checkpoints)."""
        return self._wide("nats")

    def _wide(self, name: str) -> np.ndarray:
        return self.table[name].to_numpy().reshape(len(self.models), -1).T

    @cached_property
    def loss(self) -> np.ndarray:
        """Return nats per mean number of tokens, (problems, checkpoints).

        Its mean over problems is the loss in nats per token.
        """
        return self.nats / self.tokens.mean()

    @cached_property
    def tokens(self) -> np.ndarray:
        """Return the tokens of the right path with its stop token, (problems,)."""
        return self._wide("tokens")[:, 0]

    @cached_property
    def chance(self) -> np.ndarray:
        """Return pass@1, (problems, checkpoints)."""
        return np.exp(-self.nats)

    def kind(self, name: str) -> np.ndarray:
        """Return which problems are of a kind of `KINDS`, (problems,) bool."""
        return np.array([("x" in level) == bool(KINDS[name]) for level in self.levels])

    @cached_property
    def shallow(self) -> np.ndarray:
        """Return which problems have at most `SHALLOW` junctions, (problems,) bool."""
        return np.array([int(level.partition("x")[0]) <= SHALLOW for level in self.levels])


def read(path: Path = PATH) -> Likelihoods:
    """Return the committed likelihoods."""
    return Likelihoods(pd.read_parquet(path))


def rows(runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield the rows of the result; the runs are not read."""
    found = read()
    yield from checkpoint_rows(found)
    yield from best_size_rows(found)
    yield from loss_law_rows(found)
    yield from pass_law_rows(found)


def checkpoint_rows(found: Likelihoods) -> Iterator[dict[str, Any]]:
    """Yield the loss of paths and their pass@1 of each checkpoint."""
    for kind in KINDS:
        of_kind = found.kind(kind)
        draws = ends(bootstrap_problems(found.loss[of_kind]))
        passed = mean_interval(found.chance[of_kind & found.shallow])
        for i, name in enumerate(found.models["model"]):
            mean = float(found.loss[of_kind, i].mean())
            low, high = (float(end[i]) for end in draws)
            yield row(name, f"nats per token, {kind}", mean, low, high, int(of_kind.sum()))
            shown, ends_of = f"pass@1, {kind}, 1 to {SHALLOW} junctions", (passed.low, passed.high)
            low, high = (float(end[i]) for end in ends_of)
            yield row(name, shown, float(passed.value[i]), low, high, passed.problems)


def best_sizes(found: Likelihoods, kind: str, measure: str, seed: int = 0) -> pd.DataFrame:
    """Return one row per training budget of two or more sizes: the best one, and its lead.

    measure: "loss" of all levels, or "chance" of at most `SHALLOW` junctions. lead is that over the
    next best size, with its paired 95 % interval over problems. Errors: ValueError where no two
    sizes have a budget in common.
    """
    first = found.models[found.models["seed"] == seed]
    sign = 1 if measure == "chance" else -1
    of_kind = found.kind(kind) & (found.shallow | (measure == "loss"))
    values = sign * getattr(found, measure)[of_kind]
    table = []
    for budget, same in first.groupby("budget", sort=False):
        order = same.index[np.argsort(-values[:, same.index].mean(axis=0))]
        if len(order) > 1:
            best, second = values[:, order[0]], values[:, order[1]]
            low, high = ends(bootstrap_problems(best - second))
            table.append({
                "budget": budget, "train_flops": same["train_flops"].mean(),
                "best": same.loc[order[0], "size"], "next": same.loc[order[1], "size"],
                "n_params": same.loc[order[0], "n_params"],
                "value": sign * best.mean(), "lead": (best - second).mean(),
                "low": float(low), "high": float(high), "n": len(values),
            })  # fmt: skip
    if not table:
        raise ValueError(f"seed {seed}: no two sizes have a training budget in common")
    return pd.DataFrame(table).sort_values("train_flops", ignore_index=True)


def best_size_rows(found: Likelihoods) -> Iterator[dict[str, Any]]:
    """Yield the best size of each budget, by loss and by pass@1, and how many sizes lead."""
    for seed, kind, measure in product(found.models["seed"].unique(), KINDS, ("loss", "chance")):
        with suppress(ValueError):  # other seeds have few budgets
            table = best_sizes(found, kind, measure, seed)
            for best in table.to_dict("records"):
                case = f"{best['budget']}: {best['best']} before {best['next']}"
                case += f", seed {seed}" * bool(seed)
                ends_of = best["low"], best["high"]
                yield row(case, f"lead by {measure}, {kind}", best["lead"], *ends_of, n=best["n"])
            if not seed:
                leading = table.loc[table["low"] > 0, "best"].nunique()
                yield row(kind, f"sizes that lead some budget by {measure}", leading)


# ---------------------------------------------------------------- laws
def loss_law(found: Likelihoods, kind: str) -> tuple[Fit, np.ndarray]:
    """Return the law of the loss over (parameters, tokens), and which checkpoints it is fitted to.

    Only checkpoints that look passages up, see `LOOKS_UP`: before, the loss says nothing of size.
    """
    values = found.loss[found.kind(kind)]
    used = values.mean(axis=0) < LOOKS_UP
    at = found.models[used]
    axes = tuple(at[name].to_numpy(float) for name in ("n_params", "train_tokens"))
    draws = bootstrap_problems(values[:, used], replicates=200)
    return fit("chinchilla", axes, values[:, used].mean(axis=0), replicates=draws), used


def loss_law_rows(found: Likelihoods) -> Iterator[dict[str, Any]]:
    """Yield the parameters of the law of the loss, and the exponent of the optimal size."""
    for kind in KINDS:
        fitted, used = loss_law(found, kind)
        case = f"E + A / N^alpha + B / D^beta, {kind}"
        for name, value in fitted.params.items():
            yield row(case, name, value, *fitted.interval[name], n=int(used.sum()))
        alpha, beta = fitted.refits[:, 3], fitted.refits[:, 4]
        low, high = ends(beta / (alpha + beta))
        exponent = fitted.params["beta"] / (fitted.params["alpha"] + fitted.params["beta"])
        yield row(case, "optimal size grows as compute to the power", exponent, float(low),
                  float(high), int(used.sum()))  # fmt: skip
        yield row(case, "root mean squared error", fitted.rmse, n=int(used.sum()))


def training_curve(found: Likelihoods, size: str, kind: str, most: int = 99) -> Curve:
    """Return pass@1 of paths against training FLOPs of one size, of up to `most` junctions."""
    few = np.array([int(level.partition("x")[0]) <= most for level in found.levels])
    at = found.models[(found.models["size"] == size) & (found.models["seed"] == 0)]
    passed = mean_interval(found.chance[found.kind(kind) & few][:, at.index])
    return Curve(at["train_flops"].to_numpy(float), passed.value, passed.low, passed.high,
                 passed.replicates, "flops", "pass@1", passed.problems, label=size)  # fmt: skip


def pass_law_rows(found: Likelihoods, law: str = "sigmoid") -> Iterator[dict[str, Any]]:
    """Yield the law of pass@1 against training compute, and its forecast of larger budgets."""
    for kind in KINDS:
        for size, of_size in found.models.groupby("size"):
            curve = training_curve(found, str(size), kind)
            if (of_size["train_flops"] <= FITTED * curve.x.max()).sum() < 4:
                continue
            fitted, held_out = forecast(law, curve, FITTED)
            case = f"{size}, {kind}"
            for name, value in fitted.params.items():
                yield row(case, f"{law}: {name}", value, *fitted.interval[name], n=fitted.n_points)
            for point in held_out.itertuples():
                yield row(case, f"{law} predicts {point.y:.3f} at {point.x:.1e}", point.predicted,
                          point.low, point.high, len(held_out))  # fmt: skip

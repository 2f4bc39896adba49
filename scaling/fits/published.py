"""Published numbers, and the same numbers recomputed from the data behind them.

`facts` and `curves` read the typed tables in data/published. `refit` recomputes what a CPU can from
third-party files and shows the difference from the published values. The files are not part of the
project: SCALING_EXTERNAL names their folder, by default data/external.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.estimates import majority_at_k, pass_at_k, pass_hat_k
from scaling.fits import fit
from scaling.fits.functions import Array
from scaling.fits.laws import LAWS, Law
from scaling.fits.minimise import residuals
from scaling.intervals import wilson
from scaling.records import look_up

DATA = Path(__file__).parents[2] / "data"
GEMSTONES = {"hot": "hot", "slim": "slim_chinchilla",
             "chinchilla_like": "hot_sampled_like_chinchilla"}  # fmt: skip
Numbers = dict[str, float]
Points = tuple[tuple[Array, Array], Array]  #: two axes, value


def facts() -> pd.DataFrame:
    """Return the typed numbers: source, quantity, value, interval, where printed, reliability.

    `sure`: A read in the source, B from a secondary source, C digitised or recalled. `tolerance` is
    how close a refit should come, in the unit of the value; NaN where nothing here can refit it.
    """
    return pd.read_csv(DATA / "published" / "facts.csv")


def curves(name: str) -> pd.DataFrame:
    """Return the points of one published curve: x, x_unit, y, y_unit, n, source, sure."""
    table = pd.read_csv(DATA / "published" / "curves.csv")
    look_up(dict.fromkeys(table.curve), name, "published curve")
    return table[table.curve == name].drop(columns="curve").reset_index(drop=True)


def external(root: str | Path | None = None) -> Path:
    """Return the folder of third-party files: `root`, else SCALING_EXTERNAL, else data/external."""
    path = Path(root or os.environ.get("SCALING_EXTERNAL") or DATA / "external")
    if not path.is_dir():
        raise ValueError(
            f"no folder {path}; set SCALING_EXTERNAL to the third-party files, or fetch them with "
            "`python -m scaling external`"
        )
    return path


# ---------------------------------------------------------------- readers
def chinchilla_points(root: Path) -> Points:
    """Return (parameters, tokens) and loss of the 240 points below the five highest losses."""
    table = pd.read_csv(root / "chinchilla-epoch" / "epoch_chinchilla_svg_extracted_data.csv")
    table = table[table.loss < table.loss.nlargest(5).min()]
    n = table["Model Size"].to_numpy(float)
    return (n, table["Training FLOP"].to_numpy(float) / (6 * n)), table.loss.to_numpy(float)


def gemstone_points(root: Path, which: str) -> Points:
    """Return (parameters, tokens) and loss of one of the three sets in `GEMSTONES`."""
    path = root / "gemstones" / f"wandb_df_for_fitting_{GEMSTONES[which]}.jsonl"
    table = pd.read_json(path, lines=True)
    columns = ("params_active_precise", "tokens", "final_loss")
    n, d, loss = (table[column].to_numpy(float) for column in columns)
    return (n, d), loss


def gadre_points(root: Path, dataset: str) -> Points:
    """Return (FLOPs C = 6 N D, tokens per parameter M) and C4 loss of the five fitted models."""
    small = "d=96_l=8_h=4"
    names = [f"{d}-1.0" for d in (small, "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")]
    rows = []
    for name in (*names, f"{small}-16.0"):
        path = root / "gadre-overtraining" / "models" / f"{dataset}-{name}.json"
        run = json.loads(path.read_text())
        n, d = (float(run["hyperparameters"][key]) for key in ("params", "tokens"))
        loss = [r["loss"] for r in run["results"] if "c4_val" in r["val_data"][0]]
        rows.append((6 * n * d, d / n, loss[0]))
    c, m, y = np.array(rows).T
    return (c, m), y


def boardlaw_points(root: Path) -> Points:
    """Return (training FLOPs, board size) and Elo along the frontiers of the vector figure."""
    text = (root / "boardlaw" / "flops_curves.svg").read_text()
    flops, board, elo = [], [], []
    for size in range(3, 10):
        path = re.search(rf'<g id="line2d_{267 + size}">\s*<path [^>]*?d="([^"]*)"', text)
        if path is None:
            raise ValueError(f"flops_curves.svg holds no frontier of board size {size}")
        x, y = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path[1]), float).T
        flops.append(10 ** (11 + 3 * (x - 97.331093) / (161.675592 - 97.331093)))
        elo.append((12.6306 - y) * 500 / (37.483817 - 12.6306))
        board.append(np.full(len(x), float(size)))
    return (np.concatenate(flops), np.concatenate(board)), np.concatenate(elo)


# ---------------------------------------------------------------- refits
def tokens_per_parameter(p: Numbers, flops: float = 5.88e23) -> float:
    """Return the D/N that minimises a Chinchilla loss at `flops` = 6 N D."""
    ratio = p["alpha"] * p["A"] / (p["beta"] * p["B"])
    n = (ratio * (flops / 6) ** p["beta"]) ** (1 / (p["alpha"] + p["beta"]))
    return flops / 6 / n**2


def _printed(source: str, root: Path) -> Numbers:
    """Return the optimal tokens per parameter for the printed parameters of a source."""
    rows = facts().query("source == @source").set_index("quantity").value
    p = {str(name): float(value) for name, value in rows.items()}
    return {"tokens_per_parameter": tokens_per_parameter(p)}


def _chinchilla(root: Path, fit_scale: bool) -> Numbers:
    fitted = fit(
        "chinchilla", *chinchilla_points(root), delta=1e-3, fit_scale=fit_scale, bootstrap=0
    )
    return fitted.params | {"tokens_per_parameter": tokens_per_parameter(fitted.params)}


def _gemstones(root: Path, which: str, delta: float) -> Numbers:
    x, y = gemstone_points(root, which)
    fitted = fit("chinchilla", x, y, delta=delta, bootstrap=0)
    r = np.abs(residuals(LAWS["chinchilla"], x, y, np.array(list(fitted.params.values()))))
    objective = np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)).sum()
    return fitted.params | {"objective": float(objective)}


def _gadre(root: Path, dataset: str) -> Numbers:
    return fit("over_training", *gadre_points(root, dataset), bootstrap=0).params


def _incline(c: Array, board: Array, *p: Array) -> Array:
    """Return Elo = min(0, max(m_flops log10 C + m_board board + c, p_board board + p0))."""
    rise = p[0] * np.log10(c) + p[1] * board + p[2]
    return np.minimum(0.0, np.maximum(rise, p[3] * board + p[4]))


def _boardlaw(root: Path) -> Numbers:
    grid = {"m_flops": (300.0, 700.0, 3), "m_board": (-700.0, -200.0, 3), "c": (-7e3, -1e3, 5)}
    grid |= {"p_board": (-400.0, -100.0, 3), "p0": (0.0, 1000.0, 3)}
    search = {name: np.linspace(*ends) for name, ends in grid.items()}
    law = Law("frontier", tuple(grid), _incline, {}, lambda x: search,
              "min(0, max(m_flops log10 C + m_board board + c, p_board board + p0))",
              "(FLOPs, board size) -> Elo", "Jones 2021", axes=2)  # fmt: skip
    return fit(law, *boardlaw_points(root), bootstrap=0).params


def _game24(root: Path) -> Numbers:
    name = "gpt-4_0.7_naive_cot_sample_100_start900_end1000.json"
    problems = json.loads((root / "tree-of-thoughts" / "game24" / name).read_text())
    correct = np.array([[info["r"] for info in p["infos"]] for p in problems], float)
    last = [[y.strip().split("\n")[-1].lower().replace(" ", "") for y in p["ys"]] for p in problems]
    k = np.arange(1, 101)
    coverage = pass_at_k(100, correct.sum(1)[:, None], k).mean(0)
    law = fit("exp_power", k.astype(float), coverage, bootstrap=0).params
    vote = float(np.mean(majority_at_k(np.array(last), correct, 100)))
    return {"pass_at_1": coverage[0], "majority_at_100": vote, "coverage_at_100": coverage[-1],
            "exp_power_a": law["a"], "exp_power_b": law["b"]}  # fmt: skip


def _cruxeval(root: Path, task: str) -> Numbers:
    name = f"sample_scored_codellama-7b_temp0.2_{task}.json"
    scored = json.loads((root / "cruxeval" / name).read_text())["raw_scored_generations"]
    c = np.array([sum(row) for row in scored.values()])
    return {f"pass_at_{k}": float(pass_at_k(10, c, k).mean()) for k in (1, 5)}


def _tau_bench(root: Path) -> Numbers:
    table = pd.DataFrame(json.loads((root / "tau-bench" / "gpt-4o-airline.json").read_text()))
    c = (table.reward == 1).groupby(table.task_id).sum().to_numpy()
    return {f"pass_hat_{k}": float(pass_hat_k(4, c, k).mean()) for k in (1, 2, 3, 4)}


def _gsm8k(root: Path) -> Numbers:
    table = pd.read_json(root / "gsm8k" / "example_model_solutions.jsonl", lines=True)
    runs = [f"{size}_{how}" for size in ("6b", "175b") for how in ("finetuning", "verification")]
    return {run: float(np.mean([row["is_correct"] for row in table[run]])) for run in runs}


def _obs_scaling(root: Path) -> Numbers:
    table = pd.read_csv(root / "obs-scaling" / "base_llm_benchmark_eval.csv")
    scores = table[table.columns[table.columns.get_loc("MMLU") :]]

    def shares(table: pd.DataFrame) -> Array:
        return np.cumsum(np.linalg.svd(table - table.mean(), compute_uv=False) ** 2)

    complete, filled = shares(scores.dropna()), shares(scores.fillna(scores.mean()))
    return {"pc1_complete": complete[0] / complete[-1], "pc1_imputed": filled[0] / filled[-1],
            "pc3_complete": complete[2] / complete[-1]}  # fmt: skip


def _reflexion(root: Path) -> Numbers:
    def solved(run: str, trial: int) -> float:
        path = root / "reflexion/alfworld_runs/root" / run / f"env_results_trial_{trial}.json"
        return float(sum(row["is_success"] for row in json.loads(path.read_text())))

    run = "reflexion_run_logs"
    return {"solved_at_0": solved(run, 0), "solved_at_10": solved(run, 10),
            "baseline_at_6": solved("base_run_logs", 6)}  # fmt: skip


def _o1_mini(root: Path) -> Numbers:
    points = curves("o1_mini_aime2024")
    slope, intercept = np.polyfit(np.log10(points.x), points.y, 1)
    return {"intercept": float(intercept), "per_decade": float(slope)}


def _s1_wait(root: Path) -> Numbers:
    best = float(curves("s1_wait_aime24").y.max())
    low, high = (float(end) for end in wilson(round(best * 30), 30))
    return {"best": best, "best_low": low, "best_high": high}


REFITS: dict[str, Callable[[Path], Numbers]] = {
    "chinchilla_printed": partial(_printed, "chinchilla_printed"),
    "chinchilla_tex": partial(_printed, "chinchilla_tex"),
    "chinchilla_scaled": partial(_chinchilla, fit_scale=True),
    "chinchilla_huber": partial(_chinchilla, fit_scale=False),
    "gadre_c4": partial(_gadre, dataset="c4_original"),
    "gadre_redpajama": partial(_gadre, dataset="rpj"),
    "gemstones_hot": partial(_gemstones, which="hot", delta=1e-3),
    "gemstones_chinchilla_like": partial(_gemstones, which="chinchilla_like", delta=1e-3),
    "gemstones_slim": partial(_gemstones, which="slim", delta=1e-3),
    "gemstones_hot_narrow": partial(_gemstones, which="hot", delta=1e-4),
    "gemstones_slim_narrow": partial(_gemstones, which="slim", delta=1e-4),
    "boardlaw": _boardlaw,
    "game24": _game24,
    "cruxeval_input": partial(_cruxeval, task="input"),
    "cruxeval_output": partial(_cruxeval, task="output"),
    "tau_bench": _tau_bench,
    "gsm8k": _gsm8k,
    "obs_scaling": _obs_scaling,
    "reflexion": _reflexion,
    "o1_mini": _o1_mini,
    "s1_wait": _s1_wait,
}
TYPED_ONLY = ("chinchilla_printed", "chinchilla_tex", "o1_mini", "s1_wait")  # need no files


def refit(source: str, root: str | Path | None = None) -> pd.DataFrame:
    """Return the published numbers of `source`, ours, and the difference.

    `agrees`: it is within the row's tolerance. `root`: the folder of third-party files, as in
    `external`.
    """
    refitted = look_up(REFITS, source, "published source")
    ours = refitted(DATA if source in TYPED_ONLY else external(root))
    table = facts().query("source == @source and tolerance.notna()").copy()
    table["ours"] = table.quantity.map(ours)
    table["difference"] = table.ours - table.value
    table["agrees"] = table.difference.abs() <= table.tolerance * (1 + 1e-9) + 1e-12
    order = ["source", "quantity", "value", "low", "high", "ours", "difference", "agrees", "note"]
    return table[order].reset_index(drop=True)

"""The results of the study on planted tables and small runs: every number has a known value."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from scaling.comparisons.equal_cost import compare
from scaling.curves import Curve
from scaling.figures import plots
from scaling.figures.study import STUDY_FIGURES, part
from scaling.ladder.likelihood import answer_nats, likelihood_table
from scaling.models import load_lm
from scaling.records import Plan
from scaling.results import exchange, ladder, mazes, results_table, reward
from scaling.results.page import render
from scaling.results.table import COLUMNS, Sampled, find, row
from scaling.runs import Runs
from scaling.runs.lengths import cut
from scaling.sampling import sample_run
from scaling.tasks import get_task

MODEL = Path(__file__).parents[1] / "data/models/maze/0.05M/3e12"
DERIVED = Path(__file__).parents[1] / "data/derived"


# ---------------------------------------------------------------- likelihood
@pytest.fixture(scope="module")
def walker():
    return load_lm(MODEL)


def test_the_likelihood_of_an_answer_is_the_product_of_its_tokens_chances(walker):
    problems = get_task("maze", ["1", "3"]).problems(6)
    nats, tokens = answer_nats(walker, problems)
    for problem, found, count in zip(problems, nats, tokens, strict=True):
        context = walker.tokenizer.encode(problem.prompt, add_special_tokens=False)
        answer = walker.tokenizer.encode(problem.answer, add_special_tokens=False)
        answer.append(walker.tokenizer.eos_token_id)
        ids = torch.tensor([context + answer])
        with torch.no_grad():
            logs = walker.model.float()(ids).logits[0].log_softmax(-1)
        expected = -sum(float(logs[len(context) + i - 1, t]) for i, t in enumerate(answer))
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
        assert count == len(answer)


def test_sampling_is_right_as_often_as_the_likelihood_says(walker, tmp_path):
    task = get_task("maze", ["2", "4"])
    problems = task.problems(100)
    nats, _ = answer_nats(walker, problems)
    run = sample_run(walker, task, problems, Plan(chains=40, max_new_tokens=24), tmp_path)
    chance, measured = np.exp(-nats), run.correct[:, :, 0].mean(axis=1)
    error = np.sqrt(np.sum(chance * (1 - chance) / 40)) / len(chance)
    assert abs(measured.mean() - chance.mean()) < 4 * error


def test_a_table_of_likelihoods_has_a_row_per_checkpoint_and_problem():
    table = likelihood_table([MODEL], get_task("maze", ["1", "2"]), 5)
    assert table.columns.tolist() == [
        "model", "n_params", "train_flops", "train_tokens", "level", "problem", "nats", "tokens",
    ]  # fmt: skip
    assert table["level"].tolist() == ["1"] * 5 + ["2"] * 5
    assert table["problem"].tolist() == [*range(5), *range(5)]


# ---------------------------------------------------------------- cut samples
@pytest.fixture(scope="module")
def searches(walker, tmp_path_factory):
    task = get_task("maze-search", ["2", "4"])
    plan = Plan(chains=8, max_new_tokens=64)
    folder = tmp_path_factory.mktemp("searches")
    return sample_run(walker, task, task.problems(40), plan, folder)


def test_cutting_a_pool_counts_a_sample_from_its_own_length_on(searches):
    lengths = (4, 8, 16, 32, 64)
    found = [cut(searches, tokens).curve("coverage").y[0] for tokens in lengths]
    tokens = searches.ledger["completion_tokens"]
    assert found == pytest.approx([(searches.correct * (tokens <= t)).mean() for t in lengths])
    assert found[-1] == searches.curve("coverage").y[0]
    assert found[0] < found[-1]


def test_a_cut_sample_costs_no_more_than_the_cut(searches):
    shorter = cut(searches, 8)
    assert shorter.ledger["completion_tokens"].max() == 8
    kept = searches.ledger["completion_tokens"] <= 8
    assert np.isnan(shorter.answers[~kept]).all()
    assert (shorter.correct[~kept] == 0).all()
    one = np.array([1])
    assert (shorter.cost("flops", one) <= searches.cost("flops", one)).all()


def test_chains_that_depend_on_each_other_are_not_cut(searches):
    revised = searches.with_arrays(Plan(method="revision", chains=8, steps=1))
    with pytest.raises(ValueError, match="only samples that do not depend"):
        cut(revised, 8)


# ---------------------------------------------------------------- the ladder
def planted(law, budgets=(1e12, 1e13, 1e14), sizes=(5e4, 1e5, 2e5)) -> ladder.Likelihoods:
    """Return likelihoods whose loss per token is a law of (parameters, FLOPs), per problem alike.

    Problems differ by a factor that all checkpoints share.
    """
    rng, rows = np.random.default_rng(0), []
    factor = rng.uniform(0.8, 1.2, 200)
    for size, budget in product(sizes, budgets):
        name = f"maze/{size / 1e6:g}M/{budget:.0e}".replace("e+", "e")
        for level, half in (("2", factor[:100]), ("3x2x2", factor[100:])):
            for i, f in enumerate(half):
                tokens = budget / (6 * size)
                rows.append((name, size, budget, tokens, level, i, 4 * f * law(size, tokens), 4))
    columns = ["model", "n_params", "train_flops", "train_tokens", "level", "problem", "nats",
               "tokens"]  # fmt: skip
    return ladder.Likelihoods(pd.DataFrame(rows, columns=columns))


def crossing(n, d):
    return 0.01 + 200 / n**0.75 + 5e4 / d**0.75


def test_the_best_size_of_a_budget_has_the_lowest_loss():
    found = planted(crossing)
    table = ladder.best_sizes(found, "mazes", "loss")
    for best in table.itertuples():
        losses = {
            n: crossing(n, best.train_flops / (6 * n)) for n in found.models["n_params"].unique()
        }
        assert best.n_params == min(losses, key=losses.get)
        assert best.lead == pytest.approx(np.diff(sorted(losses.values()))[0], rel=0.05)
        assert 0 < best.low <= best.lead <= best.high
    assert table["best"].nunique() >= 2
    by_chance = ladder.best_sizes(found, "mazes", "chance")
    assert by_chance["best"].tolist() == table["best"].tolist()


def test_the_law_of_the_loss_finds_planted_exponents(monkeypatch):
    monkeypatch.setattr(ladder, "LOOKS_UP", 9.0)
    found = planted(crossing, budgets=(1e12, 3e12, 1e13, 3e13, 1e14))
    fitted, used = ladder.loss_law(found, "mazes")
    assert used.all()
    assert fitted.params["alpha"] == pytest.approx(0.75, rel=0.02)
    assert fitted.params["beta"] == pytest.approx(0.75, rel=0.02)


def test_checkpoints_that_look_nothing_up_are_left_out_of_the_law(monkeypatch):
    found = planted(crossing, budgets=(1e12, 3e12, 1e13, 3e13, 1e14))
    loss = found.loss[found.kind("mazes")].mean(axis=0)
    monkeypatch.setattr(ladder, "LOOKS_UP", float(np.sort(loss)[-2]))
    _, used = ladder.loss_law(found, "mazes")
    assert used.sum() == len(loss) - 2


def test_seeds_and_budgets_are_read_from_names():
    found = planted(crossing)
    table = found.table.replace({"maze/0.1M/1e12": "maze/0.1M-seed2/1e12"})
    models = ladder.Likelihoods(table).models.set_index("model")
    assert models.loc["maze/0.1M-seed2/1e12", ["size", "seed", "budget"]].tolist() == [
        "0.1M", 2, "1e12",
    ]  # fmt: skip


# ---------------------------------------------------------------- exchange
def test_the_cost_of_an_accuracy_is_interpolated_along_log_compute():
    x, y = np.array([1.0, 10.0, 100.0]), np.array([0.2, 0.4, 0.8])
    curve = Curve(x, y, y, y, np.stack([y, y / 2]))
    cost, draws = exchange.cost_of(curve, 0.6)
    assert cost == pytest.approx(10**1.5)
    assert draws.tolist() == pytest.approx([10**1.5, np.inf])
    assert exchange.cost_of(curve, 0.1)[0] == 1.0
    assert exchange.cost_of(curve, 0.9)[0] == np.inf


def test_the_worth_of_training_in_test_compute_is_found_again():
    """Accuracy depends on train^2 x test: ten times the training is worth 100 times the test."""
    x, train = np.geomspace(1, 1e6, 13), np.geomspace(1e12, 1e13, 5)

    def curve(c: float) -> Curve:
        u = 2 * np.log10(c / 1e12) + np.log10(x) - 3
        y = 1 / (1 + np.exp(-2 * u))
        return Curve(x, y, y, y, np.tile(y, (40, 1)))

    grid = exchange.Grid(train, [curve(c) for c in train])
    measured = pd.DataFrame(exchange.measured_rows("planted", grid))
    rates = measured[measured["quantity"] == "test compute that 10x training is worth"]
    assert rates["value"].to_numpy() == pytest.approx([100] * 3, rel=0.05)
    laws = pd.DataFrame(exchange.law_rows("planted", grid)).set_index("case")
    assert laws.loc["planted, plane_logit, all points", "value"] == pytest.approx(100, rel=0.02)


# ---------------------------------------------------------------- the table
def test_a_result_without_its_runs_is_named_with_the_reason():
    def rows(runs):
        yield row("first", "accuracy", 0.5, 0.4, 0.6, 100)
        find(runs, Sampled("maze/none", "maze", ("2",), 400, Plan(chains=2)))

    module = SimpleNamespace(__name__="scaling.results.half", rows=rows)
    table, left_out = results_table(Runs([]), [module])
    assert table.columns.tolist() == COLUMNS
    assert table.iloc[0].tolist() == ["half", "first", "accuracy", 0.5, 0.4, 0.6, 100]
    assert "no run of maze/none on maze" in left_out["half"]
    assert table.iloc[1].tolist()[:3] == ["half", "not complete", left_out["half"]]
    assert np.isnan(table.iloc[1]["value"])


def test_a_run_is_found_by_model_task_levels_and_plan(searches):
    wanted = Sampled(searches.card.name, "maze-search", ("2", "4"), 20, searches.plan)
    assert find([searches], wanted) is searches
    with pytest.raises(ValueError, match="sample the study first"):
        find([searches], Sampled(searches.card.name, "maze", ("2", "4"), 20, searches.plan))


def test_gains_are_those_of_the_comparison_at_equal_cost(walker, searches, tmp_path):
    from scaling.results.thinking_pays import gains

    task = get_task("maze", ["2", "4"])
    plan = Plan(chains=16, max_new_tokens=24)
    direct = sample_run(walker, task, task.problems(40), plan, tmp_path)
    rows = pd.DataFrame(gains(direct, searches, "4", "case")).set_index("quantity")
    expected = compare(searches, direct, "coverage", "majority", level="4", k=1)
    assert rows.loc["gain over majority", "value"] == pytest.approx(float(expected.gain.value))
    assert rows.loc["accuracy of one search", "value"] == pytest.approx(expected.value)


def test_the_runs_of_mazes_hold_at_least_400_problems_a_level():
    assert mazes.PROBLEMS >= 400
    assert set(mazes.COMPARED) <= set(mazes.BUDGETS)


# ---------------------------------------------------------------- texts with numbers
TABLE = pd.DataFrame(
    [
        ("pays", "0.11M, 8", "gain", 0.268, 0.246, 0.288, 400),
        ("law", "all", "alpha", 0.5, *[None] * 3),
    ],
    columns=COLUMNS,
)


def write(folder: Path, text: str) -> Path:
    path = folder / "page.md.jinja"
    path.write_text(text)
    return path


def test_a_text_gets_its_numbers_from_the_table(tmp_path):
    text = (
        '{% set gain = number("pays", "0.11M, 8", "gain") %}{{ require(gain.low > 0.2) }}'
        "gains {{ gain.points }} ({{ gain.share }}), "
        'alpha {{ number("law", "all", "alpha").digits }}\n'
    )
    expected = "gains +26.8 [+24.6, +28.8] (0.268 [0.246, 0.288]), alpha 0.5\n"
    assert render(write(tmp_path, text), TABLE) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{{ number("pays", "0.11M, 9", "gain").share }}', "did you mean 'pays | 0.11M, 8 | gain'"),
        ('{{ require(number("law", "all", "alpha").value > 1) }}', "what the table does not show"),
        ("{{ unknown }}", "'unknown' is undefined"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_a_text_that_the_table_does_not_support_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        render(write(tmp_path, text), TABLE)


def test_a_number_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="of which there are 2"):
        render(write(tmp_path, '{{ number("law", "all", "alpha") }}'), pd.concat([TABLE, TABLE]))


def test_the_figures_of_the_study_are_drawn_from_the_committed_table():
    table = pd.read_csv(DERIVED / "results.csv")
    for name, figure in STUDY_FIGURES.items():
        with plots.style():
            drawn = figure(table)
        plots.close(drawn.figure)
        assert len(drawn.frame) > 0, name
    with pytest.raises(ValueError, match="has no such number of ladder"):
        part(table, "ladder", "such number", ".*")


def test_the_page_of_the_study_holds_the_numbers_of_the_committed_table():
    docs = MODEL.parents[4] / "docs"
    text = render(docs / "study.md.jinja", pd.read_csv(DERIVED / "results.csv"))
    assert text == (docs / "study.md").read_text()


def test_the_committed_table_is_that_of_the_committed_likelihoods_and_logs(monkeypatch):
    """Rows that need no runs are made again; those of laws may differ between processors."""
    monkeypatch.chdir(MODEL.parents[4])
    made, _ = results_table(Runs([]), [ladder, reward])
    made = made[made["case"] != "not complete"]
    made = made[~made["case"].str.contains("alpha") & ~made["quantity"].str.contains("sigmoid")]
    kept = pd.read_csv(DERIVED / "results.csv").merge(
        made, on=["result", "case", "quantity"], suffixes=("", "_made")
    )
    assert len(kept) == len(made) > 100
    np.testing.assert_allclose(kept["value"], kept["value_made"].astype(float), rtol=1e-4)

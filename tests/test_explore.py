"""The explorer shows what the package computes, and the code it hands out draws the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import scaling as sc
from scaling.figures import plots
from scaling.figures.explore import Choice, Explorer, code, draw, explore, find, menu, view
from scaling.figures.names import selector_name
from scaling.figures.viewer import problem_html, problems
from scaling.fits import fit, forecast
from scaling.fits.laws import LAWS
from scaling.runs import UNITS, Runs
from tests.test_reporting import made


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    made(root)
    made(root, "revision", 3, 4)
    return Runs.load(root)


def name_of(runs: Runs, method: str = "best_of_n") -> str:
    """Return the name of a method's run."""
    return next(run.path.name for run in runs if run.label == method)


@pytest.fixture
def explorer(runs, tmp_path) -> Explorer:
    return Explorer(runs, tmp_path)


@pytest.fixture
def imported(tmp_path) -> dict[str, Runs]:
    """Return samples of another tool, and counts of two models in one file."""
    samples, counts = tmp_path / "theirs.csv", tmp_path / "grid.csv"
    rows = [f"p{i},{c % 3},{int((c + i) % 3 == 0)}" for i in range(6) for c in range(8)]
    samples.write_text("problem,answer,correct\n" + "\n".join(rows))
    rows = [f"{m},{1000 * m},1e6,p{i},{16},{i + m}" for m in (1, 2) for i in range(6)]
    counts.write_text("model,n_params,train_tokens,problem,n,c\n" + "\n".join(rows))
    return {"samples": Runs([sc.read_samples(samples)]), "counts": sc.read_counts(counts)}


def test_each_run_has_a_name_of_its_own_in_the_menu(tmp_path):
    """Runs of one model and method of other widths, grids or seeds overwrote each other."""
    grids = ({"chains": 3, "steps": 4}, {"chains": 2, "steps": 2}, {"chains": 2, "steps": 2})
    for seed, grid in enumerate(grids):
        made(tmp_path, "revision", seed=seed, **grid)
    made(tmp_path, chains=4)
    runs = Runs.load(tmp_path)
    found = {path: name.partition("1e9 · ")[2] for name, path in menu(runs).items()}
    assert set(found) == {run.path.name for run in runs}
    for run in runs:
        path, plan = run.path.name, run.plan
        grid = f" · {plan.chains} × {plan.steps}" if plan.method == "revision" else ""
        tail = f" · {path.rpartition('-')[2]}" if grid == " · 2 × 2" else ""
        assert found[path] == plan.method + grid + tail
    wide = replace(runs[0], plan=replace(runs[0].plan, width=8))
    assert any(name.endswith("· width 8") for name in menu([wide, runs[0]]))


@pytest.mark.parametrize("kind", ["samples", "counts"])
def test_imported_samples_are_explored_and_their_figure_is_saved(imported, kind, tmp_path):
    runs = imported[kind]
    explorer = Explorer(runs, tmp_path)
    assert len(explorer.run.options) == len(runs)
    for name in explorer.run.options.values():
        explorer.run.value = name
        assert ElementTree.fromstring(bytes(explorer.picture.value)).tag.endswith("svg")
    explorer.unit.value = "flops"
    assert "the cost in flops of this run is unknown" in explorer.table.value
    explorer.unit.value = "samples"
    explorer.save()
    assert len(list(tmp_path.glob("explored_*"))) == 4
    exec(code(runs, explorer.choice), names := {})
    np.testing.assert_array_equal(names["points"].y, view(runs, explorer.choice).curve.y)


def test_drafts_of_imported_samples_are_shown_by_their_answers(imported):
    (run,) = imported["samples"]
    assert problem_html(run, "p0").count("✓") == 3
    assert len(problems(run).children[0].options) == 6
    with pytest.raises(ValueError, match="no drafts"):
        problems(imported["counts"][0])


def test_a_run_of_one_budget_is_shown_without_a_fit(tmp_path):
    made(tmp_path, chains=1)
    explorer = Explorer(Runs.load(tmp_path), tmp_path)
    assert explorer.upto.options == (1,)
    assert "no fit: exp_power has 2 parameters" in explorer.table.value


@pytest.mark.parametrize("unit", UNITS[1:])
def test_a_law_of_samples_is_not_fitted_to_another_budget(runs, unit):
    for law in ("beta_binomial", "kumaraswamy_zero", "saturating_majority"):
        seen = view(runs, Choice(name_of(runs), unit=unit, law=law))
        assert seen.fitted is None
        assert f"{law} is a law of samples" in seen.message
    for law in LAWS:
        if LAWS[law].axes == 1:
            view(runs, Choice(name_of(runs), "majority", unit, law=law), 2)


@pytest.mark.parametrize("unit", UNITS)
def test_a_view_in_any_unit_is_the_curve_of_that_unit_and_its_fit(runs, unit):
    for run in runs:
        for level in run.levels:
            choice = Choice(run.path.name, "coverage", unit, level)
            seen, plain = view(runs, choice), run.curve("coverage", unit, level)
            for name in ("x", "y", "low", "high", "replicates"):
                np.testing.assert_array_equal(getattr(seen.curve, name), getattr(plain, name))
            assert seen.fitted.params == fit("exp_power", plain).params


def test_other_prices_move_the_budget_and_nothing_else(runs):
    name = runs[0].path.name
    cheap, expensive = (
        view(runs, Choice(name, unit="price", prices=prices)) for prices in ((1, 4), (10, 40))
    )
    np.testing.assert_allclose(expensive.curve.x, 10 * cheap.curve.x)
    np.testing.assert_array_equal(expensive.curve.y, cheap.curve.y)


def test_every_widget_changes_the_picture(explorer):
    explorer.run.value = name_of(explorer.runs)
    changes = (
        (explorer.selector, "majority"), (explorer.level, "0x"), (explorer.unit, "price"),
        (explorer.prices[0], 50.0), (explorer.law, "sigmoid"), (explorer.upto, 8),
        (explorer.run, name_of(explorer.runs, "revision")),
    )  # fmt: skip
    for widget, value in changes:
        before = bytes(explorer.picture.value)
        widget.value = value
        assert bytes(explorer.picture.value) != before, widget.description
        assert ElementTree.fromstring(bytes(explorer.picture.value)).tag.endswith("svg")
    assert explorer.level.value == "0x", "what was chosen stays where the other run has it too"


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_points_of_the_picture_are_the_measured_ones_and_held_out_ones_are_open(runs, share):
    seen = view(runs, Choice(name_of(runs), unit="flops", share=share))
    off = 100 * (seen.curve.y - seen.fitted.predict(seen.curve.x))
    for ax, y in zip(draw(seen).axes, (seen.curve.y, off), strict=True):
        points = [line for line in ax.lines if line.get_marker() == "o"]
        np.testing.assert_allclose(np.concatenate([p.get_xdata() for p in points]), seen.curve.x)
        found = np.concatenate([p.get_ydata() for p in points])
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-2)
        still_open = [len(p.get_xdata()) for p in points if p.get_markerfacecolor() == "white"]
        assert sum(still_open) == len(seen.held_out)


def test_selectors_of_scorers_are_named_in_words():
    names = ("logprob", "weighted logprob", "process:last", "weighted process:min")
    assert [selector_name(name) for name in names] == [
        "best log-probability", "vote weighted by probability", "process",
        "vote weighted by process, min",
    ]  # fmt: skip


def test_held_out_budgets_are_scored_as_forecast_scores_them(explorer):
    explorer.run.value = name_of(explorer.runs)
    explorer.upto.value = 4
    run = find(explorer.runs, explorer.choice.run)
    seen = view(explorer.runs, explorer.choice)
    _, held_out = forecast("exp_power", run.curve(), 4 / 16)
    assert list(seen.held_out.x) == [8, 16]
    np.testing.assert_array_equal(seen.held_out, held_out)
    assert "held out" in explorer.table.value


def test_a_law_that_cannot_be_fitted_says_why_and_still_shows_the_curve(explorer):
    explorer.law.value = "bnsl"
    explorer.upto.value = explorer.upto.options[0]
    assert "no fit: bnsl has 6 parameters" in explorer.table.value
    assert len(draw(view(explorer.runs, explorer.choice)).axes[0].lines) == 1


def test_the_code_it_copies_draws_what_it_shows(runs):
    choice = Choice(runs[0].path.name, unit="flops", level="1x", share=0.5)
    exec(compile(code(runs, choice), "copied", "exec"), names := {})
    seen = view(runs, choice)
    np.testing.assert_array_equal(names["points"].replicates, seen.curve.replicates)
    assert names["fitted"].params == seen.fitted.params
    assert len(names["fig"].axes) == 2


def test_saving_writes_the_figure_with_its_code(explorer, tmp_path, monkeypatch):
    save = plots.save

    def looked(*given):
        assert explorer.status.value == "saving…"
        return save(*given)

    monkeypatch.setattr(plots, "save", looked)
    explorer.selector.value = "weighted logprob"
    explorer.save()
    assert not list(tmp_path.glob("* *"))
    files = sorted(path.suffix for path in tmp_path.glob("explored_*"))
    assert files == [".json", ".pdf", ".png", ".svg"]
    assert "plots.draw_forecast" in next(tmp_path.glob("*.json")).read_text()
    assert "saved" in explorer.status.value


def test_the_viewer_goes_from_hard_to_easy_and_follows_its_menu(runs):
    chosen, page = problems(runs[0]).children
    rate = runs[0].samples.groupby("problem")["correct"].mean()
    order = list(chosen.options.values())
    assert (rate[order[0]], rate[order[-1]]) == (rate.min(), rate.max())
    before = page.value
    chosen.value = order[-1]
    assert page.value != before


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no runs"):
        explore(Path(tmp_path))


def test_a_run_without_an_estimate_or_a_cost_says_so_instead_of_failing(runs):
    run = find(runs, name_of(runs))
    empty = Runs([run.with_arrays(correct=np.full(run.correct.shape, np.nan))])
    with np.errstate(all="ignore"):
        seen = view(empty, Choice(run.path.name, "logprob", "flops"))
    assert np.isnan(seen.curve.y).all()
    assert "no sample was right" in seen.message
    free = view(runs, Choice(run.path.name, unit="price", prices=(0.0, 0.0)))
    for shown in (seen, replace(free, fitted=None)):  # a cost of 0 has no place on a log axis
        assert [len(ax.lines) for ax in draw(shown).axes] == [0, 0]

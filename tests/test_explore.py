"""The explorer shows what the package computes, and the code it hands out draws the same."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from scaling.figures import plots
from scaling.figures.explore import Choice, Explorer, code, draw, explore, find, named, view
from scaling.figures.names import selector_name
from scaling.figures.screen import TOP, band, picture, rounds, ticks
from scaling.figures.viewer import problems
from scaling.fits import fit, forecast
from scaling.fits.laws import LAWS
from scaling.runs import UNITS, Runs
from tests.test_reporting import made


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    made(root)
    made(root, "revision", 3, 4)
    return Runs.load(root)


def best_of(study: Runs, method: str = "best_of_n") -> str:
    """Return the name of a method's run."""
    return next(pool.path.name for pool in study if pool.label == method)


@pytest.fixture
def explorer(study, tmp_path) -> Explorer:
    return Explorer(study, tmp_path)


def test_each_run_has_a_name_of_its_own_in_the_menu(tmp_path):
    """Runs of one model and method of other widths, grids or seeds overwrote each other."""
    grids = ({"chains": 3, "steps": 4}, {"chains": 2, "steps": 2}, {"chains": 2, "steps": 2})
    for seed, grid in enumerate(grids):
        made(tmp_path, "revision", seed=seed, **grid)
    made(tmp_path, chains=4)
    pools = Runs.load(tmp_path)
    found = {path: name.partition("1e9 · ")[2] for name, path in named(pools).items()}
    assert set(found) == {pool.path.name for pool in pools}
    for pool in pools:
        path, plan = pool.path.name, pool.plan
        grid = f" · {plan.chains} × {plan.steps}" if plan.method == "revision" else ""
        tail = f" · {path.rpartition('-')[2]}" if grid == " · 2 × 2" else ""
        assert found[path] == plan.method + grid + tail
    wide = replace(pools[0], plan=replace(pools[0].plan, width=8))
    assert any(name.endswith("· width 8") for name in named([wide, pools[0]]))


def test_a_run_of_one_budget_is_shown_without_a_fit(tmp_path):
    made(tmp_path, chains=1)
    explorer = Explorer(Runs.load(tmp_path), tmp_path)
    assert explorer.upto.options == (1,)
    assert "no fit: exp_power has 2 parameters" in explorer.table.value
    assert len(dots(explorer.picture.value)) == 1


@pytest.mark.parametrize("unit", UNITS[1:])
def test_a_law_of_samples_is_not_fitted_to_another_budget(study, unit):
    for law in ("beta_binomial", "kumaraswamy_zero", "saturating_majority"):
        seen = view(study, Choice(best_of(study), unit=unit, law=law))
        assert seen.fitted is None
        assert f"{law} is a law of samples" in seen.message
    for law in LAWS:
        if LAWS[law].axes == 1:
            view(study, Choice(best_of(study), "majority", unit, law=law), 2)


@pytest.mark.parametrize("unit", UNITS)
def test_a_view_in_any_unit_is_the_curve_of_that_unit_and_its_fit(study, unit):
    for pool in study:
        for level in pool.levels:
            choice = Choice(pool.path.name, "coverage", unit, level)
            seen, plain = view(study, choice), pool.curve("coverage", unit, level)
            for name in ("x", "y", "low", "high", "replicates"):
                np.testing.assert_array_equal(getattr(seen.curve, name), getattr(plain, name))
            assert seen.fitted.params == fit("exp_power", plain).params


def test_other_prices_move_the_budget_and_nothing_else(study):
    name = study[0].path.name
    cheap, dear = (
        view(study, Choice(name, unit="price", prices=prices)) for prices in ((1, 4), (10, 40))
    )
    np.testing.assert_allclose(dear.curve.x, 10 * cheap.curve.x)
    np.testing.assert_array_equal(dear.curve.y, cheap.curve.y)


def test_every_widget_changes_the_picture(explorer):
    explorer.run.value = best_of(explorer.study)
    changes = (
        (explorer.selector, "majority"), (explorer.level, "0x"), (explorer.unit, "price"),
        (explorer.prices[0], 50.0), (explorer.law, "sigmoid"), (explorer.upto, 8),
        (explorer.run, best_of(explorer.study, "revision")),
    )  # fmt: skip
    for widget, value in changes:
        before = bytes(explorer.picture.value)
        widget.value = value
        assert bytes(explorer.picture.value) != before, widget.description
        assert bytes(explorer.picture.value).startswith(b"<svg")
    assert explorer.level.value == "0x", "what was chosen stays where the other run has it too"


def dots(svg: bytes) -> np.ndarray:
    """Return (x, y, whether open) of the points of a picture, (points, 3)."""
    found = [e for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("circle")]
    return np.array([(float(e.get("cx")), float(e.get("cy")), e.get("fill") == "white")
                     for e in found])  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_the_picture_on_the_screen_stands_where_the_numbers_say(study, unit):
    for share in (1.0, 0.3):
        seen = view(study, Choice(best_of(study), unit=unit, share=share))
        x, y, held = np.log10(seen.curve.x), seen.curve.y, len(seen.held_out)
        found, named = dots(picture(seen.curve, seen.fitted)), 1 + (held > 0)  # of the legend
        panels = found[: len(x)], found[len(x) + named :]
        for panel, value in zip(panels, (y, y - seen.fitted.predict(seen.curve.x)), strict=True):
            assert panel[:, 2].sum() == held
            for at, numbers in ((panel[:, 0], x), (-panel[:, 1], value)):
                line = np.polyfit(numbers, at, 1)
                assert line[0] > 0
                np.testing.assert_allclose(np.polyval(line, numbers), at, atol=0.2)


def test_a_picture_without_a_fit_holds_the_curve_alone(study):
    seen = view(study, Choice(best_of(study), law="bnsl", share=0.3))
    assert seen.fitted is None
    assert len(dots(picture(seen.curve, seen.fitted))) == len(seen.curve.x)
    free = view(study, Choice(best_of(study), unit="price", prices=(0.0, 0.0)))
    nowhere = "a budget that costs nothing has no place on a log axis"
    assert len(dots(picture(free.curve, free.fitted))) == 0, nowhere


def test_a_band_taken_in_parts_is_the_band(study):
    fitted, x = view(study, Choice(best_of(study))).fitted, np.geomspace(1, 16, 61)
    np.testing.assert_allclose(band(fitted, x), fitted.band(x), rtol=1e-12)


def test_the_legend_lies_above_the_panels_and_ticks_hold_no_hyphen(study):
    seen = view(study, Choice(best_of(study), unit="price", share=0.3))
    texts = [e for e in ElementTree.fromstring(picture(seen.curve, seen.fitted)).iter()
             if e.tag.endswith("text")]  # fmt: skip
    at = {"".join(e.itertext()): float(e.get("y")) for e in texts}
    for name in (f"fitted, n={seen.curve.n_problems} problems", "exp_power", "held out"):
        assert at[name] < TOP
    assert any("−" in text for text in at)
    assert not any("-" in text for text in at)


def test_selectors_of_scorers_are_named_in_words():
    names = ("logprob", "weighted logprob", "process:last", "weighted process:min")
    assert [selector_name(name) for name in names] == [
        "best log-probability", "vote weighted by probability", "process",
        "vote weighted by process, min",
    ]  # fmt: skip


def test_axes_of_the_picture_are_marked_at_round_numbers_inside():
    assert rounds(-0.03, 1.04) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert rounds(-7.3, 6.6) == [-5.0, 0.0, 5.0]
    assert [text for _, text in ticks(0.9, 70, "samples")] == ["1", "4", "16", "64"]
    assert [value for value, _ in ticks(0.9, 3.1, "samples")] == [1, 2]
    assert [value for value, _ in ticks(8e6, 3e8, "flops")] == [1e7, 1e8]
    assert ticks(4e8, 8e8, "flops")[0][1].startswith("5×10<tspan")


def test_held_out_budgets_are_scored_as_forecast_scores_them(explorer):
    explorer.run.value = best_of(explorer.study)
    explorer.upto.value = 4
    pool = find(explorer.study, explorer.choice.run)
    seen = view(explorer.study, explorer.choice)
    _, held = forecast("exp_power", pool.curve(), 4 / 16)
    assert list(seen.held_out.x) == [8, 16]
    np.testing.assert_array_equal(seen.held_out, held)
    assert "held out" in explorer.table.value


def test_a_law_that_cannot_be_fitted_says_why_and_still_shows_the_curve(explorer):
    explorer.law.value = "bnsl"
    explorer.upto.value = explorer.upto.options[0]
    assert "no fit: bnsl has 6 parameters" in explorer.table.value


def test_the_code_it_copies_draws_what_it_shows(study, explorer):
    choice = Choice(study[0].path.name, unit="flops", level="1x", share=0.5)
    names: dict = {}
    exec(compile(code(study, choice), "copied", "exec"), names)
    seen = view(study, choice)
    np.testing.assert_array_equal(names["points"].replicates, seen.curve.replicates)
    assert names["fitted"].params == seen.fitted.params
    assert len(names["fig"].axes) == 2


def test_saving_writes_the_figure_with_its_code(explorer, tmp_path, monkeypatch):
    save = plots.save

    def looked(*given):
        assert explorer.said.value == "saving…"
        return save(*given)

    monkeypatch.setattr(plots, "save", looked)
    explorer.selector.value = "weighted logprob"
    explorer.save()
    assert not list(tmp_path.glob("* *"))
    files = sorted(path.suffix for path in tmp_path.glob("explored_*"))
    assert files == [".json", ".pdf", ".png", ".svg"]
    assert "plots.draw_forecast" in next(tmp_path.glob("*.json")).read_text()
    assert "saved" in explorer.said.value


def test_the_viewer_goes_from_hard_to_easy_and_follows_its_menu(study):
    run = study[0]
    chosen, page = problems(run).children
    rate = run.samples.groupby("problem")["correct"].mean()
    order = list(chosen.options.values())
    assert (rate[order[0]], rate[order[-1]]) == (rate.min(), rate.max())
    before = page.value
    chosen.value = order[-1]
    assert page.value != before


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no runs"):
        explore(tmp_path)


def test_a_run_without_an_estimate_says_so_instead_of_failing(study):
    pool = find(study, best_of(study))
    empty = Runs([pool.with_arrays(correct=np.full(pool.correct.shape, np.nan))])
    with np.errstate(all="ignore"):
        seen = view(empty, Choice(pool.path.name, "logprob", "flops"))
    assert np.isnan(seen.curve.y).all()
    assert "no sample was right" in seen.message
    assert len(dots(picture(seen.curve, seen.fitted))) == 0
    assert len(draw(seen).axes) == 2

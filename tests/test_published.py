"""Published numbers refitted and compared; skipped where third-party files are absent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from scaling.estimates import pass_at_k
from scaling.fits import fit
from scaling.fits.laws import LAWS
from scaling.fits.published import (
    REFITS,
    TYPED_ONLY,
    chinchilla_points,
    curves,
    external,
    facts,
    refit,
    tokens_per_parameter,
)

EXTERNAL = Path(os.environ.get("SCALING_EXTERNAL", Path(__file__).parents[1] / "data" / "external"))
STANDING = {  # differences from print that are explained in the note of their row, and stay
    ("chinchilla_tex", "tokens_per_parameter"): 59.19,
    ("game24", "majority_at_100"): 0.0883,
}


def needs_files(source: str = "") -> None:
    if source not in TYPED_ONLY and not EXTERNAL.is_dir():
        pytest.skip(f"no third-party files at {EXTERNAL}: set SCALING_EXTERNAL")


@pytest.mark.parametrize("source", REFITS)
def test_published_numbers_are_reproduced_or_their_difference_is_known(source: str) -> None:
    needs_files(source)
    table = refit(source, EXTERNAL)
    assert len(table)
    assert table.ours.notna().all(), "a published number that the refit does not compute"
    for row in table[~table.agrees].itertuples():
        assert (source, row.quantity) in STANDING, f"{row.quantity}: {row.ours}, print {row.value}"
        assert row.ours == pytest.approx(STANDING[source, row.quantity], abs=5e-3)
        assert "ours" in row.note


def test_a_plain_huber_fit_does_not_reproduce_the_headline_that_needs_a_fitted_scale() -> None:
    needs_files()
    plain, scaled = (
        refit(source, EXTERNAL).set_index("quantity").ours
        for source in ("chinchilla_huber", "chinchilla_scaled")
    )
    assert abs(plain.A - 482.01) > 3
    assert abs(scaled.A - 482.01) < 0.05
    assert abs(plain.B - 2085.43) > 50


@pytest.mark.slow
def test_chinchilla_intervals_agree_with_print_and_more_starts_change_nothing() -> None:
    """400 bootstraps: ends of an interval are known to about a tenth of its width.

    The printed intervals are of the fit whose scale is fitted too; the plain Huber fit's lie near.
    """
    needs_files()
    x, loss = chinchilla_points(EXTERNAL)
    assert len(loss) == 240
    scaled = {"delta": 1e-3, "fit_scale": True}
    fitted = fit("chinchilla", x, loss, **scaled, bootstrap=400, starts=4500)
    few = fit("chinchilla", x, loss, **scaled, bootstrap=0)
    np.testing.assert_allclose(list(fitted.params.values()), list(few.params.values()), rtol=1e-5)
    assert fitted.success
    for row in facts().query("source == 'chinchilla_scaled' and low.notna()").itertuples():
        width = row.high - row.low
        assert fitted.interval[row.quantity] == pytest.approx((row.low, row.high), abs=0.15 * width)


def test_the_law_of_game_24_misses_by_its_published_rmse_over_all_budgets_only() -> None:
    """Our notebook prints .0012 where .0005 was published: of 13 budgets even in logarithms.

    The law misses small k most. They are a few of the budgets 1 to 100, but half of thirteen.
    """
    needs_files()
    name = "gpt-4_0.7_naive_cot_sample_100_start900_end1000.json"
    problems = json.loads((EXTERNAL / "tree-of-thoughts/game24" / name).read_text())
    c = np.array([[sum(info["r"] for info in p["infos"])] for p in problems])
    every, some = np.arange(1, 101), np.unique(np.geomspace(1, 100, 15).astype(int))
    rmse = [
        fit("exp_power", k.astype(float), pass_at_k(100, c, k).mean(0), bootstrap=0).rmse
        for k in (every, some)
    ]
    assert rmse == pytest.approx([0.0005, 0.00118], abs=5e-5)


def test_narrow_huber_fits_end_below_the_published_objective() -> None:
    needs_files()
    for source in ("gemstones_hot_narrow", "gemstones_slim_narrow"):
        assert (refit(source, EXTERNAL).difference < 0).all()


def test_the_wilson_interval_swallows_the_whole_effect_of_waiting() -> None:
    points, row = curves("s1_wait_aime24"), facts().query("source == 's1_wait'").iloc[0]
    assert (points.y > row.low).all()
    assert (points.y < row.high).all()
    ours = REFITS["s1_wait"](Path())
    assert (ours["best_low"], ours["best_high"]) == pytest.approx((row.low, row.high), abs=6e-4)


def test_the_digitised_o1_figure_rises_33_points_a_decade() -> None:
    points = curves("o1_test_time_aime")
    rise, decades = np.ptp(points.y), np.ptp(np.log10(points.x))
    assert rise / decades == pytest.approx(0.33, abs=0.01)  # end to end; least squares gives 0.35


def test_the_monkeys_laws_are_coverages_that_rise() -> None:
    table = facts()[
        facts().source.str.startswith("monkeys_") & facts().quantity.str.startswith("exp")
    ]
    for _, law in table.groupby("source"):
        p = law.set_index("quantity").value
        y = LAWS["exp_power"].predict(np.array([1.0, 1e2, 1e4]), p[["exp_power_a", "exp_power_b"]])
        assert 0 < y[0] < y[1] < y[2] < 1


def test_the_optimal_split_is_the_minimum_of_the_loss() -> None:
    p = {"E": 1.8, "A": 480.0, "B": 2000.0, "alpha": 0.35, "beta": 0.37}
    n = np.geomspace(1e8, 1e13, 20_001)
    loss = LAWS["chinchilla"].predict((n, 1e23 / 6 / n), np.array(list(p.values())))
    best = n[loss.argmin()]
    assert tokens_per_parameter(p, 1e23) == pytest.approx(1e23 / 6 / best**2, rel=2e-3)


def test_every_fact_says_where_it_comes_from_and_how_sure_it_is() -> None:
    table = facts()
    assert not table.duplicated(["source", "quantity"]).any()
    assert table[["citation", "where", "sure", "value"]].notna().all().all()
    assert set(table.sure) <= {"A", "B", "C"}
    assert set(REFITS) <= set(table.source)
    unknown = set(table[table.tolerance.notna()].source) - set(REFITS)
    assert not unknown, "a tolerance without a refit"


def test_missing_files_and_unknown_names_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set SCALING_EXTERNAL .*`python -m scaling external`"):
        external(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="source 'alphago'; allowed: chinchilla_printed"):
        refit("alphago", tmp_path)
    with pytest.raises(ValueError, match="curve 'x'; allowed: o1_mini_aime2024"):
        curves("x")

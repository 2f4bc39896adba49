"""`import scaling as sc` alone: from logs to a curve, a law, a forecast, a figure and a report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scaling as sc

ROOT = Path(__file__).parents[1]
SCREEN = 4000  #: characters of one screen


@pytest.fixture(scope="module")
def runs() -> sc.Runs:
    return sc.load(ROOT / "data" / "runs")


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = "import sys, scaling; print(dir(scaling)); print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    assert names == str(sorted(sc.__all__))
    assert heavy == "set()"


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in sc.__all__:
        found = getattr(sc, name)
        assert found.__doc__, name
    with pytest.raises(AttributeError, match="it has Comparison, Curve"):
        sc.no_such_name  # noqa: B018


def test_from_logs_to_a_law_a_forecast_and_a_comparison(runs: sc.Runs) -> None:
    run = runs.select(task="countdown", method="best_of_n")[-1]
    curve = run.curve("coverage", unit="flops", level="4x20")
    law = curve.fit("exp_power")
    forecast = run.forecast("beta_binomial", fit_up_to=16)
    revised = runs.select("countdown", "revision")[-1]
    found = sc.compare(revised, runs.baseline(revised), unit="flops")
    assert list(curve.frame.columns) == ["flops", "accuracy", "low", "high", "n_problems"]
    assert law.success
    assert "95 % intervals" in law.summary()
    assert list(forecast.frame["x"]) == [32, 64]
    assert forecast.fit.n_points == 5
    assert found.value - found.baseline == pytest.approx(float(found.gain.value))
    for thing in (runs, runs[:3], run, curve, law, forecast, found):
        assert len(repr(thing)) < SCREEN


def test_a_forecast_sees_nothing_of_later_samples(runs: sc.Runs) -> None:
    """Later samples all planted wrong change the score, and not the fit."""
    run = runs.select("countdown", "best_of_n")[-1]
    correct = run.correct.copy()
    correct[:, 16:] = 0
    plain, planted = (
        r.forecast("exp_power", 16, replicates=50) for r in (run, run.with_arrays(correct=correct))
    )
    assert plain.fit.params == planted.fit.params
    assert (plain.frame["y"] > planted.frame["y"]).all()


def test_unknown_names_name_the_nearest(runs: sc.Runs) -> None:
    for choice, near in (
        ({"task": "countdwn"}, "countdown"),
        ({"method": "best_of_m"}, "best_of_n"),
        ({"model": "ladder/0.1M/1e15"}, "ladder/0.1M/1e14"),
    ):
        with pytest.raises(ValueError, match=f"did you mean '{near}'"):
            runs.select(**choice)
    with pytest.raises(ValueError, match="'oracle' is called 'coverage' now"):
        runs[0].curve("oracle")
    with pytest.raises(ValueError, match="takes no choice 'levle'; allowed: task, models, level"):
        runs.figure("two_panels", levle="3x20")


def test_figures_take_choices_and_save_themselves(runs: sc.Runs, tmp_path: Path, quick) -> None:
    drawn = runs.figure("two_panels", task="countdown", level="3x20", models=["0.1 M", "0.3 M"])
    sizes = {name.split()[1] for name in drawn.facts}
    assert sizes == {"0.1", "0.3"}
    assert {path.suffix for path in drawn.save(tmp_path)} == {".pdf", ".png", ".svg", ".json"}
    assert drawn._repr_png_().startswith(b"\x89PNG")


def test_slices_and_sums_of_runs_are_runs(runs: sc.Runs) -> None:
    assert isinstance(runs[:3], sc.Runs)
    assert len(runs[:3] + runs[3:5]) == 5
    assert len(runs[:2].overview()) == 2


def test_other_people_s_samples_are_a_run(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    rows = [(i, j, int(i <= j)) for i in range(4) for j in range(4)]
    path.write_text("id,text,label\n" + "".join(f"p{i},{c},{c}\n" for i, _, c in rows))
    names = {"problem": "id", "answer": "text", "correct": "label"}
    run = sc.read_samples(path, columns=names)
    assert run.curve().y == pytest.approx([10 / 16, 0.25 * (1 + 1 + 5 / 6 + 0.5), 1])
    assert run.selectors == ("coverage", "majority")
    with pytest.raises(ValueError, match="use unit='samples'"):
        run.curve(unit="flops")


def test_counts_of_many_models_are_runs(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    head = "model,n_params,train_tokens,problem,level,n,c\n"
    small = "small,1000,1e6,a,1,64,8\nsmall,1000,1e6,b,1,64,0\nsmall,1000,1e6,c,2,4096,0\n"
    large = "large,2000,1e6,a,1,64,32\nlarge,2000,1e6,b,1,64,1\nlarge,2000,1e6,c,2,64,1\n"
    path.write_text(head + large + small)
    runs = sc.read_counts(path)
    assert [run.card.name for run in runs] == ["small", "large"]
    assert runs[1].card.train_flops == 6 * 2000 * 1e6
    assert runs[0].curve().y[0] == pytest.approx(8 / 64 / 3)
    assert runs[0].n_samples == 64 + 64 + 4096
    assert list(runs[1].curve(level="1").y) == sorted(runs[1].curve(level="1").y)
    with pytest.raises(ValueError, match="votes need the answers of each sample"):
        runs[0].curve("majority")
    with pytest.warns(UserWarning, match="one problem or family"):  # level 2 has one problem
        assert set(runs.frame["selector"]) == {"coverage"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("problem,n\na,3\n", "missing: c"),
        ("problem,n,c\na,3,4\n", "line 2: n is 3, c is 4"),
        ("problem,n,c\na,3,1\na,3,1\n", "is there twice"),
    ],
)
def test_impossible_counts_are_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        sc.read_counts(path)


def test_the_public_grid_of_real_models_is_read_as_it_is() -> None:
    from scaling.fits.published import external

    try:
        path = external() / "pythia-math" / "counts.csv.gz"
    except ValueError:
        pytest.skip("no reference data: set SCALING_EXTERNAL")
    if not path.exists():
        pytest.skip("no pythia-math in the reference data")
    runs = sc.read_counts(path)
    assert len(runs) == 72
    rates = {run.card.name: run.first_accuracy for run in runs}
    assert round(rates["Pythia_12B_300B"], 4) == 0.0073
    assert round(rates["Pythia_1.4B_200B"], 4) == 0.0046
    assert sum(rate > 0 for rate in rates.values()) == 38
    assert np.isfinite(runs[-1].curve().y).all()

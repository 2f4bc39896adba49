"""`import scaling as sc` alone: from logs, or other people's samples, to a law and a report."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import scaling as sc
from scaling.tasks import get_task

ROOT = Path(__file__).parents[1]
COUNTS = ROOT / "tests/data/counts.csv"
SCREEN = 4000  #: characters of one screen
COLUMNS = {"problem": "id", "correct": "label"}
VOTES = COLUMNS | {"answer": "text"}


@pytest.fixture(scope="module")
def runs() -> sc.Runs:
    return sc.load(ROOT / "data" / "runs")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve problems, four samples each, of which 0 to 3 are correct."""
    rows = [f"q{i},{int(j < i % 4)},{i if j < i % 4 else -j}" for i in range(12) for j in range(4)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["id,label,text", *rows]))
    return path


def with_score(table: Path, score) -> Path:
    """Add a column `score` to the table, a function of a row's cells."""
    head, *lines = table.read_text().splitlines()
    rows = [f"{line},{score(line.split(','))}" for line in lines]
    table.write_text("\n".join([f"{head},score", *rows]))
    return table


# ---------------------------------------------------------------- the names
def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = "import sys, scaling; print(dir(scaling)); print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    assert names == str(sorted(sc.__all__))
    assert heavy == "set()"


def test_every_public_name_is_there_and_shows_an_example() -> None:
    for name in set(sc.__all__) - {"LAWS"}:  # a table
        assert ">>> " in getattr(sc, name).__doc__, name
    with pytest.raises(AttributeError, match="it has Comparison, Curve"):
        sc.no_such_name  # noqa: B018


def test_every_object_prints_in_a_screen_and_shows_itself(runs: sc.Runs) -> None:
    """A comparison printed 13,000 characters: its replicates."""
    counted = sc.read_counts(COUNTS)
    run = runs.select("countdown", "best_of_n")[-1]
    curve, problem = run.curve(), run.problems.iloc[0].to_dict()
    shown = [runs, runs[:3], run, counted, counted[0], curve, curve.fit("exp_power"), run.plan,
             run.card, run.forecast("power", 16, replicates=50), sc.Verdict("2", True),
             sc.Problem(**{field.name: problem[field.name] for field in fields(sc.Problem)}),
             sc.compare(counted[2], counted[0], unit="samples", k=8)]  # fmt: skip
    for thing in shown:
        assert len(repr(thing)) < SCREEN
        assert "<" in thing._repr_html_()


# ---------------------------------------------------------------- from samples to a report
@pytest.mark.parametrize("source", ["log", "samples", "counts"])
def test_from_samples_to_a_law_a_forecast_a_comparison_a_figure_and_a_report(
    source: str, runs: sc.Runs, table: Path, tmp_path: Path, quick, svg_only
) -> None:
    if source == "log":
        found = runs.select(task="countdown", method="best_of_n")[-2:]
    elif source == "samples":
        found = sc.Runs([sc.read_samples(table, columns=VOTES)])
    else:
        found = sc.read_counts(COUNTS)
    run, unit = found[-1], found.cost_unit
    assert unit == ("flops" if source == "log" else "samples")
    curve = run.curve("coverage", unit=unit, level=run.level_names[0])
    assert list(curve.frame.columns) == [unit, "accuracy", "low", "high", "n_problems"]
    law = run.curve().fit("power")
    assert law.success
    assert "95 % intervals" in law.summary()
    if source != "counts":
        forecast = run.forecast("power", fit_up_to=int(run.budgets()[-2]), replicates=50)
        assert list(forecast.frame["x"]) == [run.budgets()[-1]]
    gain = sc.compare(run, found[0], unit="samples", k=2)
    assert gain.value - gain.baseline == pytest.approx(float(gain.gain.value))
    figure = found.figure("two_panels", unit=unit, selector="coverage")
    assert {path.suffix for path in figure.save(tmp_path)} == {".svg", ".json"}
    assert figure._repr_png_().startswith(b"\x89PNG")
    names = {path.name for path in found.report(tmp_path / "report")}
    assert {"report.html", "report.tex", "results.csv"} <= names


def test_a_forecast_sees_nothing_of_later_samples(runs: sc.Runs) -> None:
    """Later samples all planted wrong change the score, and not the fit."""
    run = runs.select("countdown", "best_of_n")[-1]
    correct = run.correct.copy()
    correct[:, 16:] = 0
    plain, planted = (
        r.forecast("exp_power", 16, replicates=50) for r in (run, run.with_arrays(correct=correct))
    )
    assert list(plain.frame["x"]) == [32, 64]
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
    with pytest.raises(ValueError, match="'levle'"):
        runs.figure("two_panels", levle="3x20")


def test_figures_take_choices(runs: sc.Runs, quick) -> None:
    drawn = runs.figure("two_panels", task="countdown", level="3x20", models=["0.1 M", "0.3 M"])
    assert {name.split()[1] for name in drawn.facts} == {"0.1", "0.3"}


def test_slices_and_sums_of_runs_are_runs(runs: sc.Runs) -> None:
    assert isinstance(runs[:3], sc.Runs)
    assert len(runs[:3] + runs[3:5]) == 5
    assert len(runs[:2].overview()) == 2


def test_the_table_of_runs_shows_no_accuracy_for_the_first_node_of_a_search(runs: sc.Runs) -> None:
    """It showed 0: a search's first step is a part of a solution, not an answer."""
    table = runs.overview()
    searches = table["method"].isin(["beam", "dvts", "rebase", "particles"])
    assert searches.any()
    assert table["pass@1"][searches].isna().all()
    assert np.isfinite(table["pass@1"][~searches]).all()


# ---------------------------------------------------------------- other people's samples
def test_other_people_s_samples_have_exact_coverage(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    rows = [(i, j, int(i <= j)) for i in range(4) for j in range(4)]
    path.write_text("id,text,label\n" + "".join(f"p{i},{c},{c}\n" for i, _, c in rows))
    run = sc.read_samples(path, columns=VOTES)
    assert run.curve().y == pytest.approx([10 / 16, 0.25 * (1 + 1 + 5 / 6 + 0.5), 1])
    assert run.selectors == ("coverage", "majority")


@pytest.mark.parametrize(
    ("file", "samples", "options"),
    [
        ("human_eval_results.jsonl", 12, {}),
        ("evalplus_eval_results.json", 12, {}),
        ("samples_sums_vote.jsonl", 3, {"filter": "first"}),
        ("sums.eval", 4, {}),
        ("several.json", 12, {"metric": "match"}),
        ("counts.csv", 384, {"model": "small"}),
    ],
)
def test_the_format_of_a_file_is_recognised(file: str, samples: int, options: dict) -> None:
    run = sc.read_samples(ROOT / "tests/data" / file, **options)
    assert run.n_samples == samples
    assert run.curve().n_problems == len(run.problems)
    if options:
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):  # an argument of Python
            sc.read_samples(ROOT / "tests/data" / file)


def test_what_a_file_lacks_cannot_be_read_and_is_named(table: Path) -> None:
    """Majority was 0 at every k, in silence: no sample had an answer to vote for."""
    run = sc.read_samples(table, columns=COLUMNS)
    assert run.selectors == ("coverage",)
    with pytest.raises(ValueError, match="majority cannot be read: the file holds no answers"):
        run.curve("majority")
    voted = sc.read_samples(table, columns=VOTES)
    assert voted.curve("majority").y[0] == pytest.approx(voted.curve().y[0])
    with pytest.raises(ValueError, match="in seconds of this run is unknown: it lacks times"):
        run.curve(unit="seconds")
    with pytest.raises(ValueError, match="use unit='samples'"):
        run.curve(unit="flops")
    assert sc.read_samples(COUNTS, model="small").selectors == ("coverage",)


@pytest.mark.parametrize(
    ("score", "columns", "selectors"),
    [
        (lambda row: -1.5, COLUMNS, ("coverage", "logprob")),
        (lambda row: row[1], VOTES, ("coverage", "majority")),
        (lambda row: "" if row[0] == "q0" else -1.5, COLUMNS, ("coverage",)),
    ],
    ids=["ranks without answers", "is the verdict", "is not known of all"],
)
def test_a_score_ranks_unless_it_is_the_verdict(score, columns, selectors, table: Path) -> None:
    """Ranking by the verdict reached coverage, under the name of the log-probability."""
    assert sc.read_samples(with_score(table, score), columns=columns).selectors == selectors


def test_pass_at_five_is_not_read_as_pass_at_one(tmp_path: Path) -> None:
    """lm-eval's pass@5 alone was shown as accuracy at k = 1."""
    path = tmp_path / "samples_code.jsonl"
    rows = [
        {"doc_id": i, "doc": {}, "target": "", "resps": [["x"] * 5], "filtered_resps": [["x"] * 5],
         "filter": "none", "metrics": ["pass@5"], "pass@5": float(i % 2)}
        for i in range(6)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="gives pass@k from k = 5 on only"):
        sc.read_samples(path)


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
    with pytest.raises(ValueError, match="the cost in flops of small best_of_n is unknown"):
        sc.compare(*runs)
    with pytest.warns(UserWarning, match="one problem or family"):  # level 2 has one problem
        assert set(runs.frame["selector"]) == {"coverage"}


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


# ---------------------------------------------------------------- mistakes, one clear line each
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("problem,n\na,3\n", "missing: c"),
        ("problem,n,c\na,3,4\n", "line 2: n is 3, c is 4"),
        ("problem,n,c\na,3,1\na,3,1\n", "is there twice"),
        (None, "no file"),
    ],
)
def test_impossible_counts_are_refused(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "counts.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=says):
        sc.read_counts(path)


def test_a_table_of_which_most_problems_lack_a_verdict_gives_no_run(table: Path) -> None:
    lines = table.read_text().splitlines()
    lines[9:] = [f"{line.split(',')[0]},,{line.split(',')[2]}" for line in lines[9:]]
    table.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="10 of 12 problems have no verdict"):
        sc.read_samples(table, columns=COLUMNS)


@pytest.mark.parametrize("name", ["plane", "policy", "search", "o1_two_panels"])
def test_a_figure_that_lacks_its_runs_says_what_it_shows(name: str) -> None:
    with pytest.raises(ValueError, match=f"the figure {name} needs runs that are not here; it sho"):
        sc.Runs([sc.read_samples(COUNTS, model="small")]).figure(name)


def test_other_mistakes_are_one_clear_line(table: Path, tmp_path: Path) -> None:
    run = sc.read_samples(table, columns=COLUMNS)
    with pytest.raises(ValueError, match="Runs is given; give two runs"):
        sc.compare(sc.Runs([run]), run)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="as a dictionary"):
        sc.read_samples(table, columns="problem=id")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing is no run folder; give a folder"):
        sc.load_run(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(({"problems": wrong}, "^problems is ") for wrong in (0, -3, 2.5, "8")),
        ({"task": get_task("sums"), "levels": ["2x9"]}, "^levels go with"),
        ({"deadline": 3}, "^deadline= changes nothing here: it is for a server"),
        ({"max_rows": -1}, "^max_rows is -1"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"chain": 4}, "did you mean 'chains'"),
    ],
)
def test_what_sample_cannot_do_is_refused(options: dict, says: str, tmp_path: Path) -> None:
    """A number of problems given as text asked for a billion of them, and never returned."""
    with pytest.raises(ValueError, match=says):
        sc.sample("nowhere", **{"task": "sums", "runs": tmp_path} | options)
    assert not list(tmp_path.iterdir())

"""What a newcomer tries first: a table of their own, a wrong argument, a figure that lacks data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import scaling as sc
from scaling.runs import SEARCHES

ROOT = Path(__file__).parents[1]
COLUMNS = {"problem": "id", "correct": "label"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve problems, four samples each, of which 0 to 3 are correct."""
    rows = [f"q{i},{int(j < i % 4)},{i if j < i % 4 else -j}" for i in range(12) for j in range(4)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["id,label,text", *rows]))
    return path


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    path = tmp_path / "counts.csv"
    rows = [f"{model},q{i},16,{i % 9}" for model in ("small", "large") for i in range(12)]
    path.write_text("\n".join(["model,problem,n,c", *rows]))
    return path


def test_a_table_without_answers_has_no_vote(table: Path) -> None:
    """Majority was 0 at every k, in silence: no sample had an answer to vote for."""
    run = sc.read_samples(table, columns=COLUMNS)
    assert run.selectors == ("coverage",)
    with pytest.raises(ValueError, match="majority cannot be read: the file holds no answers"):
        run.curve("majority")
    with_answers = sc.read_samples(table, columns=COLUMNS | {"answer": "text"})
    assert with_answers.selectors == ("coverage", "majority")
    assert with_answers.curve("majority").y[0] == pytest.approx(with_answers.curve().y[0])


def test_a_score_without_answers_ranks_but_does_not_weight_votes(table: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0] + ",score", *(f"{line},-1.5" for line in lines[1:])]))
    assert sc.read_samples(table, columns=COLUMNS).selectors == ("coverage", "logprob")


def test_counts_read_as_samples_have_no_vote(counts: Path) -> None:
    assert sc.read_samples(counts, model="small").selectors == ("coverage",)


def test_a_score_that_is_the_verdict_ranks_nothing(table: Path) -> None:
    """Ranking by the verdict reached coverage, under the name of the log-probability."""
    lines = table.read_text().splitlines()
    copied = [f"{line},{line.split(',')[1]}" for line in lines[1:]]
    table.write_text("\n".join([lines[0] + ",score", *copied]))
    assert "logprob" not in sc.read_samples(table, columns=COLUMNS | {"answer": "text"}).selectors


def test_a_table_of_which_most_problems_lack_a_verdict_gives_no_run(table: Path) -> None:
    lines = table.read_text().splitlines()
    lines[9:] = [f"{line.split(',')[0]},,{line.split(',')[2]}" for line in lines[9:]]
    table.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="10 of 12 problems have no verdict"):
        sc.read_samples(table, columns=COLUMNS)


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
        sc.read_samples(path, "lm-eval")


@pytest.mark.parametrize("name", ["coverage", "two_panels", "methods"])
def test_a_figure_of_samples_without_costs_is_drawn_against_samples(
    name: str, table: Path, counts: Path, tmp_path: Path
) -> None:
    """Saving raised matplotlib's error of a logarithmic axis without a positive value."""
    for runs in (sc.Runs([sc.read_samples(table, columns=COLUMNS)]), sc.read_counts(counts)):
        assert runs.cost_unit == "samples"
        drawn = runs.figure(name)
        assert all(path.stat().st_size for path in drawn.save(tmp_path / "out", force=True))


@pytest.mark.parametrize("name", ["plane", "policy", "grid", "search", "o1_two_panels"])
def test_a_figure_that_lacks_its_runs_says_what_it_shows(name: str, counts: Path) -> None:
    with pytest.raises(ValueError, match=f"the figure {name} needs runs that are not here; it sho"):
        sc.read_counts(counts).figure(name)


def test_an_unknown_cost_is_named(table: Path, counts: Path) -> None:
    run, (small, large) = sc.read_samples(table, columns=COLUMNS), sc.read_counts(counts)
    with pytest.raises(ValueError, match="in seconds of this run is unknown: it lacks times"):
        run.curve(unit="seconds")
    with pytest.raises(ValueError, match="the cost in flops of this run is unknown"):
        sc.Runs([run]).figure("coverage").runs.curve(run, "coverage", "flops", "all")
    with pytest.raises(ValueError, match="the cost in flops of small best_of_n is unknown"):
        sc.compare(small, large)
    assert float(sc.compare(small, large, unit="samples").gain.value) == 0


def test_other_mistakes_are_one_clear_line(table: Path, counts: Path, tmp_path: Path) -> None:
    run, runs = sc.read_samples(table, columns=COLUMNS), sc.read_counts(counts)
    with pytest.raises(ValueError, match="Runs is given; give two runs"):
        sc.compare(runs, run)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="as a dictionary"):
        sc.read_samples(table, columns="problem=id")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^no file"):
        sc.read_counts(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="nothing is no run folder; give a folder"):
        sc.load_run(tmp_path / "nothing")


@pytest.mark.parametrize("problems", [0, -3, 2.5, "8"])
def test_a_wrong_number_of_problems_is_refused(problems: object, tmp_path: Path) -> None:
    """A number given as text asked for a billion problems, and never returned."""
    with pytest.raises(ValueError, match=r"^problems is "):
        sc.sample("nowhere", "sums", problems=problems, runs=tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_levels_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^levels go with"):
        sc.sample("nowhere", "gsm8k", problems=tmp_path / "x.jsonl", levels=["hard"])


def test_the_table_of_runs_shows_no_accuracy_for_the_first_node_of_a_search() -> None:
    """It showed 0: a search's first step is a part of a solution, not an answer."""
    table = sc.load(ROOT / "data" / "runs").overview()
    searches = table["method"].isin(SEARCHES)
    assert searches.any()
    assert table["pass@1"][searches].isna().all()
    assert np.isfinite(table["pass@1"][~searches]).all()

"""What is cut or left out is printed with its count; no file of somebody else is overwritten."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.cli import main
from scaling.comparisons.equal_cost import compare
from scaling.compute import Shape
from scaling.figures import plots
from scaling.figures.curves import MIDDLE
from scaling.figures.gallery import FIGURES
from scaling.figures.plane import exchange_text
from scaling.records import ModelCard, Plan, Problem, Sample
from scaling.report.leaderboard import leaderboard
from scaling.runs import Runs, load_run
from scaling.runs.collection import near_half
from scaling.runs.tables import COLUMNS, accuracy_table, flaw_counts, incomplete
from scaling.store import open_run
from scaling.store.files import RECORD, refuse_foreign, write_outputs
from tests.conftest import few_replicates
from tests.test_reporting import LLAMA, made

CARD = ModelCard("tiny/1e9", 1000, 800, 1e9, 10, vars(Shape.from_config(LLAMA)), "x")


@pytest.fixture(scope="module", autouse=True)
def _few():
    with pytest.MonkeyPatch.context() as patch:
        few_replicates(patch)
        yield


@pytest.fixture(autouse=True)
def _warnings_are_lines():
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def sample(problem: str, chain: int, right: bool, finish: str = "stop", step: int = 0) -> Sample:
    answer = None if finish != "stop" else "1" if right else "2"
    return Sample(problem, chain, step, "x", answer, right, -1.0, -1.0, 5, 0, 4, 0.01, finish)


def unfinished(root: Path, drawn: int = 4, of: int = 10, finish: str = "stop") -> Path:
    """Return an open run in which only the first problems were drawn, four chains each."""
    problems = [Problem(f"p{i}", f"{i}?", "1", f"{i % 2}x") for i in range(of)]
    plan = Plan(chains=4, max_new_tokens=8)
    with open_run(root, task="planted", card=CARD, plan=plan, problems=problems) as writer:
        rows = [sample(p.id, c, c < 2, finish) for p in problems[:drawn] for c in range(4)]
        writer.write(rows)
        return writer.path


# ---------------------------------------------------------------- unfinished runs
@pytest.mark.parametrize(("drawn", "all_", "zero", "one"), [(4, 4, 2, 2), (1, 1, 1, 0)])
def test_an_unfinished_run_is_tabled_over_what_was_drawn(tmp_path, capsys, drawn, all_, zero, one):
    path = unfinished(tmp_path / "runs", drawn)
    assert main(["accuracy", "--runs", str(tmp_path / "runs"), "--derived", str(tmp_path)]) == 0
    printed = capsys.readouterr().err
    assert f"{path}: {10 - drawn} of 10 problems have no sample: see n_missing" in printed
    table = pd.read_csv(tmp_path / "accuracy.csv").query("selector == 'coverage' and k == 1")
    table = table.set_index("level")
    assert table["n_problems"].to_dict() == {"all": all_, "0x": zero, "1x": one}
    assert (table["n_problems"] + table["n_missing"]).to_dict() == {"all": 10, "0x": 5, "1x": 5}
    known = table[table["n_problems"] > 0]
    assert (known["accuracy"] == 0.5).all()
    assert table["accuracy"].isna().sum() == (one == 0)


def test_a_curve_and_a_comparison_leave_out_what_was_not_drawn(tmp_path):
    pool = load_run(unfinished(tmp_path))
    found = pool.curve()
    assert (found.y[0], found.n_problems, found.n_missing) == (0.5, 4, 6)
    assert pool.curve(level="0x").n_missing == 3
    found = compare(pool, pool, "majority", "logprob")
    assert np.isfinite(found.value)
    board = leaderboard([pool]).set_index("category")
    assert board.loc["all", ["n_problems", "n_missing"]].tolist() == [4, 6]
    assert board.loc["all", "accuracy"] == 0.5


def test_fit_says_which_runs_it_left_out(tmp_path, capsys):
    made(tmp_path, chains=64)
    made(tmp_path, "revision", 3, 4)
    path = unfinished(tmp_path)
    assert main(["fit", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "1 of 3 runs left out: of other methods or tasks" in printed
    assert path.name.startswith("planted-tiny_1e9")
    assert "tiny/1e9" in printed
    assert "unfinished, 6 of 10 problems have no sample" in printed


def test_samples_that_failed_make_their_budgets_nan_and_are_counted(tmp_path):
    problems = [Problem(f"p{i}", f"{i}?", "1", "1x") for i in range(3)]
    plan = Plan(chains=4, max_new_tokens=8)
    with open_run(tmp_path, task="planted", card=CARD, plan=plan, problems=problems) as writer:
        rows = [sample(p.id, c, c < 2) for p in problems for c in range(4)]
        rows[3] = sample("p0", 3, False, "error: timeout")
        writer.write(rows)
    pool = load_run(writer.path)
    table = accuracy_table([pool]).query("selector == 'coverage'").set_index("k")
    assert table["n_missing"].to_dict() == {1: 0, 2: 0, 4: 1}
    assert table["accuracy"].isna().to_dict() == {1: False, 2: False, 4: True}
    assert incomplete(pool) == "1 samples failed"


# ---------------------------------------------------------------- samples cut, or without an answer
def test_the_last_columns_count_samples_without_an_answer_and_those_cut(tmp_path):
    assert COLUMNS[-4:] == ["n_problems", "n_missing", "n_unextracted", "n_truncated"]
    problems = [Problem(f"p{i}", f"{i}?", "1", f"{i}x") for i in range(2)]
    plan = Plan(chains=4, max_new_tokens=8)
    with open_run(tmp_path, task="planted", card=CARD, plan=plan, problems=problems) as writer:
        rows = [sample(p.id, c, True) for p in problems for c in range(4)]
        rows[:3] = [sample("p0", c, False, "length") for c in range(3)]  # cut: no answer
        rows[4] = replace(rows[4], finish="length")  # cut behind its answer
        rows[5] = replace(rows[5], answer=None, correct=False)  # ended by itself, no answer
        writer.write(rows)
        pool = load_run(writer.seal())
    table = accuracy_table([pool]).query("selector == 'coverage' and k == 4").set_index("level")
    assert table["n_unextracted"].to_dict() == {"0x": 3, "1x": 1, "all": 4}
    assert table["n_truncated"].to_dict() == {"0x": 3, "1x": 1, "all": 4}
    assert flaw_counts([pool, pool]) == (16, 8, 8)


def test_of_a_search_the_last_node_of_each_chain_is_counted(tmp_path):
    problems = [Problem("p0", "0?", "1", "1x")]
    plan = Plan(method="dvts", chains=2, steps=3, width=2, keep=1, max_new_tokens=8, scorer="s@x")
    with open_run(tmp_path, task="planted", card=CARD, plan=plan, problems=problems) as writer:
        rows = [sample("p0", chain, False, "stop", step) for chain in range(2) for step in range(2)]
        rows = [replace(row, answer=None if row.step == 0 else "2") for row in rows]
        rows.append(replace(rows[0], step=2, finish="discarded"))
        writer.write(rows)
    pool = load_run(writer.path)
    assert flaw_counts([pool]) == (2, 0, 0)


def draw(folder: Path, runs: Path, *arguments: str) -> list[str]:
    command = ["sample", "--model", str(folder), "--task", "sums", "--problems", "4", "--chains"]
    return [*command, "2", "--runs", str(runs), *arguments]


def test_sample_says_what_it_drew_what_was_cut_and_what_is_next(tiny_folder, tmp_path, capsys):
    runs = tmp_path / "my runs"
    assert main(draw(tiny_folder, runs, "--max-new-tokens", "3")) == 0
    printed = capsys.readouterr()
    first, second, third, *_, last = printed.out.splitlines()
    assert first == f"runs in {runs}"
    assert second == "sums: 4 problems"
    assert third == (
        "best_of_n: 2 chains per problem, temperature 1, at most 3 new tokens per step"
    )
    assert (
        last == f"next: python -m scaling accuracy --runs '{runs}'; fit and figures take the "
        "same --runs"
    )
    assert "n_problems" in printed.out
    (run,) = runs.iterdir()
    frame = load_run(run).samples
    cut, none = (frame["finish"] == "length").sum(), frame["answer"].isna().sum()
    assert f"8 samples: {cut} cut at the token cap, {none} without an extractable" in printed.out
    assert cut > 4  # a random model seldom ends by itself
    assert f"{cut} of 8 samples were cut at the cap of 3 new tokens: raise it with" in printed.err


def rows_file(path: Path, n: int) -> Path:
    rows = [{"id": f"{i}", "prompt": f"{i}+1=", "answer": f"{i + 1}", "scorer": "number"}
            for i in range(n)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ("", "rows: 100 of 130 problems, chosen by hash"),
        ("--problems 7", "rows: 7 of 130 problems, chosen by hash"),
        ("--problems 130", "rows: all 130 problems\n"),
        ("--problems 500", "rows: all 130 problems, not 500\n"),
    ],
)
def test_a_benchmark_that_is_cut_says_so(tiny_folder, tmp_path, capsys, options, printed):
    file = rows_file(tmp_path / "rows.jsonl", 130)
    command = ["sample", "--model", str(tiny_folder), "--task", "rows", "--problems-file"]
    command += [str(file), "--dry-run", "--runs", str(tmp_path / "runs"), *options.split()]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert printed in out
    assert "next:" not in out  # nothing was drawn


@pytest.mark.parametrize(
    ("plan", "greedy"),
    [
        ("--temperature 0", True),
        ("--top-k 1", True),
        ("--temperature 0 --method revision --steps 2", True),
        ("--temperature 0 --chains 1", False),
        ("--temperature 0.5 --top-k 2", False),
    ],
)
def test_greedy_decoding_of_many_chains_is_warned_of(tiny_folder, tmp_path, capsys, plan, greedy):
    assert main([*draw(tiny_folder, tmp_path / "runs"), "--dry-run", *plan.split()]) == 0
    assert ("is greedy: the 2 chains of a problem" in capsys.readouterr().err) == greedy


# ---------------------------------------------------------------- where runs and results lie
def test_every_command_looks_for_runs_in_one_folder_and_says_which(
    tmp_path, monkeypatch, capsys, svg_only
):
    monkeypatch.chdir(tmp_path)
    for verb in ("accuracy", "figures", "fit", "check"):
        main([verb])
        assert capsys.readouterr().out.startswith("runs in data/study/runs\n")
    made(Path("data/study/runs"), chains=64)
    assert main(["accuracy"]) == 0
    assert main(["fit"]) == 0
    assert main(["figures", "coverage"]) == 0
    printed = capsys.readouterr().out
    for line in ("fit --runs data/study/runs; figures takes", "figures --runs data/study/runs;",
                 "check --runs data/study/runs --figures data/study/figures"):  # fmt: skip
        assert f"next: python -m scaling {line}" in printed
    assert Path("data/study/accuracy.csv").exists()
    assert Path("data/study/figures/coverage.svg").exists()
    assert main(["check"]) == 0


# ---------------------------------------------------------------- nothing foreign is overwritten
@pytest.mark.parametrize("taken", ["accuracy.csv", "figures/coverage.svg", "figures/coverage.json"])
@pytest.mark.parametrize("how", ["foreign", "edited"])
def test_a_file_that_the_kit_did_not_write_or_that_was_edited_stays(
    tmp_path, capsys, svg_only, taken, how
):
    made(tmp_path / "runs")
    verb = ["accuracy"] if taken == "accuracy.csv" else ["figures", "coverage"]
    command, path = [*verb, "--runs", str(tmp_path / "runs")], tmp_path / "runs" / taken
    if how == "edited":
        assert main(command) == 0
        assert main(command) == 0  # its own it writes again
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    others = {p: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    capsys.readouterr()
    assert main(command) == 1
    printed = capsys.readouterr().err
    assert str(path) in printed
    assert "--force" in printed
    assert {p: p.read_bytes() for p in path.parent.iterdir() if p.is_file()} == others
    assert main([*command, "--force"]) == 0
    assert path.read_bytes() != b"mine"
    assert main(command) == 0


def test_a_report_does_not_overwrite_a_page_of_somebody_else(tmp_path, capsys, svg_only):
    run = made(tmp_path / "runs").path
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("mine")
    assert main(["report", str(run), "-o", str(out)]) == 1
    assert "report.html would be overwritten" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert main(["report", str(run), "-o", str(out), "--force"]) == 0
    assert main(["report", str(run), "-o", str(out)]) == 0
    assert main(["check", "--report", str(out), "--runs", str(tmp_path / "runs")]) == 0


def test_a_study_does_not_overwrite_a_table_of_somebody_else(tiny_folder, tmp_path, capsys):
    (tmp_path / "accuracy.csv").write_text("mine")
    models = tmp_path / "models" / "tiny"
    shutil.copytree(tiny_folder, models / "1e9")
    command = ["study", "--preset", "tiny", "--models", str(models), "--tasks", "sums"]
    assert main([*command, "--out", str(tmp_path)]) == 1
    assert "accuracy.csv would be overwritten" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()  # refused before an hour of sampling
    assert (tmp_path / "accuracy.csv").read_text() == "mine"


@pytest.mark.parametrize("after", range(5))
def test_outputs_whose_write_broke_off_can_be_written_again(after, tmp_path, monkeypatch):
    """A disk that failed between two renames left files that the next call took for foreign."""
    rename, calls = os.replace, iter(range(9))
    files = {tmp_path / name: b"old" for name in "abc"}
    write_outputs(files)
    files = dict.fromkeys(files, b"new")

    def fails(source, target):
        if next(calls) >= after:
            raise OSError(5, "the disk fails")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="the disk fails"):
        write_outputs(files)
    monkeypatch.setattr(os, "replace", rename)
    write_outputs(files)
    assert {path.read_bytes() for path in files} == {b"new"}
    assert len((tmp_path / RECORD).read_text().splitlines()) == 3
    (tmp_path / "a").write_bytes(b"old")  # somebody's own by now
    with pytest.raises(ValueError, match="a would be overwritten"):
        write_outputs(files)


def test_outputs_are_recorded_as_sha256sum_writes_them(tmp_path):
    write_outputs({tmp_path / "b": b"2", tmp_path / "a": b"1"})
    write_outputs({tmp_path / "a": b"3"})
    lines = (tmp_path / RECORD).read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["a", "b"]
    (tmp_path / "b").write_bytes(b"edited")
    refuse_foreign([tmp_path / "a", tmp_path / "c"])
    with pytest.raises(ValueError, match="b would be overwritten"):
        refuse_foreign([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "d").mkdir()
    with pytest.raises(ValueError, match="d would be overwritten"):
        write_outputs({tmp_path / "d": b"1"})


@pytest.mark.parametrize("folder", ["figures", "data/derived"])
def test_the_committed_results_are_known_as_the_kits_own(folder):
    root = Path(__file__).parents[1] / folder
    names = [line.split("  ")[1] for line in (root / RECORD).read_text().splitlines()]
    assert names
    refuse_foreign([root / name for name in names])


def test_a_model_is_not_saved_over_the_files_of_another(tiny_folder, tmp_path):
    from scaling.models import load_lm, save_lm

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds files but no card\.json"):
        save_lm(load_lm(tiny_folder), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_one_run_in_place_of_its_folder_is_named(tmp_path):
    run = made(tmp_path)
    with pytest.raises(ValueError, match=f"is one run; give the folder of the runs, {tmp_path}"):
        Runs.load(run.path)


# ---------------------------------------------------------------- figures say what they show
def planted(root: Path, task: str, rate: float, size: int = 1000, trained: float = 1e9, **plan):
    """Log a run in which a share of chains is right at each of 6 problems of two levels."""
    shape = vars(Shape.from_config(LLAMA))
    card = ModelCard(f"m{size}/{trained:g}", size, size, trained, 10, shape, f"{size}{trained}")
    problems = [Problem(f"p{i}", f"{i}?", "1", f"{i % 2}x") for i in range(6)]
    plan = Plan(**{"chains": 8, "max_new_tokens": 8} | plan)
    with open_run(root, task=task, card=card, plan=plan, problems=problems) as writer:
        rows = [
            sample(p.id, c, (i + c + step) % 8 < 8 * rate, step=step)
            for i, p in enumerate(problems)
            for c in range(plan.chains)
            for step in range(plan.steps)
        ]
        writer.write(rows)
        writer.seal()


def test_two_panels_leave_out_a_size_without_a_checkpoint_near_one_half(tmp_path):
    """Of two sizes the "checkpoint nearest to half right" was 95 % and 6.5 % right."""
    for size, rates in ((1_000_000, (0.125, 0.625)), (2_000_000, (0.125, 0.875))):
        for at, rate in enumerate(rates):
            planted(tmp_path, "sums", rate, size, 10.0 ** (9 + at))
    study = Runs.load(tmp_path)
    assert list(near_half(study.by_size("sums"), MIDDLE)) == ["1.0 M"]
    with plots.style():
        fig, *_ = FIGURES["two_panels"](study)
    _, right = fig.axes
    labels = right.get_legend_handles_labels()[1]
    assert labels == ["1.0 M, 10¹⁰", "none in 25–75 %: 2.0 M"]
    assert right.get_title() == "pass@1 closest to 50 % (25–75 %), more samples"


def test_two_panels_without_any_such_size_are_drawn_all_the_same(tmp_path):
    planted(tmp_path, "sums", 0.125, 1_000_000)
    with plots.style():
        fig, *_ = FIGURES["two_panels"](Runs.load(tmp_path))
    assert fig.axes[1].get_legend_handles_labels()[1] == ["none in 25–75 %: 1.0 M"]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((20.0, 30.0), "no robust exchange rate: 10× the training is worth\n20× to 30× the"),
        ((20.0, np.inf), "20× to more than 100× the inference, by law"),
        ((20.0,), "10× the training is worth 20× the inference\nby one law, which no other"),
        ((np.inf,), "10× the training is worth more than 100× the inference\nby one law"),
        ((200.0, np.inf), "10× the training is worth\nmore than 100× the inference, by each of 2"),
    ],
)
def test_an_exchange_rate_is_given_as_what_laws_agree_on(rates, expected):
    assert expected in exchange_text(dict(zip("abc", rates, strict=False)), 100.0)

"""Earlier versions' runs load; verdicts and samples are checked again; drift is seen and sized."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.models import load_lm
from scaling.records import Plan
from scaling.runs import Runs, load_run
from scaling.sampling import sample_run
from scaling.store.files import entry_of
from scaling.store.manifest import seal_hash
from scaling.tasks import get_task
from scaling.verify import model_of, problems_of, redraw, verdicts
from tests.trust.drift import SETTINGS, accuracy_change, drift, exponent_change

ROOT = Path(__file__).parents[1]
FROZEN = ROOT / "tests/data/runs"
SEALED = next(FROZEN.glob("*/facts.parquet")).parent
MODELS = ROOT / "data/models/ladder"


def test_runs_frozen_in_format_1_load_for_ever() -> None:
    sealed, still_open = sorted(Runs.load(FROZEN), key=lambda run: run.sha256 == "")
    assert sealed.sha256 == "837942e906629e76e1a142e18a41c7df9e42e8592168e406ae7bee1820f31c7c"
    assert (len(sealed.samples), int(sealed.samples["correct"].sum())) == (24, 23)
    assert sealed.plan == Plan(chains=4, max_new_tokens=40)
    assert sealed.card.name == "ladder/0.1M/1e13"
    assert len(still_open.samples) == 8
    engine = sealed.manifest["sessions"][0]["extra"]["engine"]
    assert {"device", "dtype", "store", "threads", "max_rows"} <= set(engine)


def test_an_open_run_of_the_first_format_is_resumed_problem_by_problem(tmp_path: Path) -> None:
    """Its parts are units of two problems; units of ten once made one look like all of them."""
    (source,) = [run for run in Runs.load(FROZEN) if not run.sha256]
    path = shutil.copytree(source.path, tmp_path / source.path.name)
    lm = load_lm(model_of(source, MODELS))
    arguments = (lm, get_task("sums", ["2x99", "4x99"]), problems_of(source), source.plan)
    before, run = load_run(path).samples, sample_run(*arguments, tmp_path, progress=False)
    assert (run.path, len(before), len(run.samples), run.manifest["format"]) == (path, 8, 16, 3)
    kept = run.samples[run.samples["problem"].isin(before["problem"])].reset_index(drop=True)
    assert kept["seconds"].equals(before["seconds"]), "nothing is sampled twice"
    assert kept["isa"].isna().all()
    assert run.samples["isa"].notna().sum() == 8


def test_a_frozen_run_is_verified_from_its_texts_and_keys(capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", str(SEALED), "--models", str(MODELS), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "24 texts judged again, 0 verdicts differ" in shown
    assert "8 samples drawn again, 100.0000% the same" in shown


@pytest.mark.parametrize("start", ["sums-ladder_0.1M_1e13", "countdown-thinking_0.1M_grpo_1e12"])
def test_a_committed_run_is_verified_without_naming_its_model(start, capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    run = next(Path("data/runs").glob(f"{start}-*"))
    assert main(["verify", str(run), "--share", "0.01", "--redraw", "1", "--device", "cpu"]) == 0
    assert "samples drawn again, 100.0000% the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--tolerance", "nan", "nan is not between 0 and 1"),
        ("--tolerance", "-0.1", "-0.1 is not between 0 and 1"),
        ("--tolerance", "2", "not between 0 and 1"),
        ("--redraw", "-1", "-1 is not 0 or more"),
        ("--share", "nan", "nan is not positive and finite"),
        ("--share", "2", "share is 2.0; give more than 0 and at most 1"),
    ],
)
def test_a_check_that_could_not_fail_is_refused(option, value, says, capsys) -> None:
    with contextlib.suppress(SystemExit):  # of an option; of a value, main returns
        assert main(["verify", str(SEALED), option, value]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("method", ["beam", "dvts", "rebase", "particles", "thinking", "wait"])
def test_verdicts_of_every_method_are_those_of_its_texts(method: str) -> None:
    run = next(run for run in Runs.load(ROOT / "data/runs") if run.plan.method == method)
    judged, differ = verdicts(run, share=0.3)
    assert judged > 50
    assert differ.empty


@pytest.fixture
def altered(tmp_path: Path):
    """Return a way to seal a copy of the frozen run with a column changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def alter(file: str, column: str, row: int, value: object) -> Path:
        run = shutil.copytree(SEALED, tmp_path / SEALED.name)
        table = pq.read_table(run / file)
        values = table[column].to_pylist()
        values[row] = value
        place, field = table.schema.get_field_index(column), table.schema.field(column)
        table = table.set_column(place, field, pa.array(values, field.type))
        pq.write_table(table, run / file)
        manifest = json.loads((run / "manifest.json").read_text())
        manifest["files"][file] = entry_of(table, (run / file).read_bytes())
        manifest["sha256"] = seal_hash(manifest)
        (run / "manifest.json").write_text(json.dumps(manifest))
        return run

    return alter


def test_a_forged_verdict_with_right_hashes_is_found(altered, capsys) -> None:
    run = altered("facts.parquet", "correct", 5, False)
    checked, wrong = verdicts(load_run(run))
    assert (checked, list(wrong.index)) == (24, [5])
    assert main(["verify", str(run), "--redraw", "0"]) == 1
    assert "logged as False" in capsys.readouterr().err
    assert verdicts(load_run(run), share=0.5)[0] == 12
    with pytest.raises(ValueError, match="share is 0"):
        verdicts(load_run(run), share=0)


def test_a_sample_that_its_key_does_not_give_is_found(altered, capsys) -> None:
    texts = load_run(SEALED, text=True).samples["text"]
    run = altered("text.parquet", "text", 0, "0" + texts[0])
    found = redraw(load_run(run), load_lm(model_of(load_run(run), MODELS)), 6)
    assert (found.samples, found.identical, found.first_token) == (24, 23 / 24, 0)
    options = ["--models", str(MODELS), "--redraw", "6"]
    assert main(["verify", str(run), *options]) == 1
    assert "4.1667% of 24 redrawn samples differ, the first token" in capsys.readouterr().err
    assert main(["verify", str(run), *options, "--tolerance", "0.05"]) == 0


def test_a_model_that_is_not_there_is_one_line(tmp_path, capsys, tiny_folder, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the log says that it lay, there is none either
    assert main(["verify", str(SEALED), "--models", str(tiny_folder.parents[1])]) == 1
    assert "no model under" in capsys.readouterr().err


def test_a_model_without_a_card_is_found_where_the_log_says(tiny_folder, tmp_path, capsys):
    """Story: "no model with a card.json under own; `make train` makes the ladder"."""
    folder = shutil.copytree(tiny_folder, tmp_path / "own")
    (folder / "card.json").unlink()
    task = get_task("sums")
    plan = Plan(chains=2, max_new_tokens=8)
    run = sample_run(load_lm(folder), task, task.problems(2), plan, tmp_path, progress=False)
    command = ["verify", str(run.path), "--models", str(folder)]
    assert main(command) == 0
    assert "4 samples drawn again, 100.0000% the same" in capsys.readouterr().out
    shutil.rmtree(folder)
    assert main(command) == 1
    assert f"or at {folder} has the weights" in (message := capsys.readouterr().err)
    assert "--redraw 0" in message


def test_drift_is_none_for_batches_and_engines_and_some_for_bfloat16(tmp_path: Path) -> None:
    """The folder's model is half right, so that accuracy and exponent can change."""
    task = get_task("sums", ["4x99"])
    plan = Plan(chains=24, max_new_tokens=40)
    names = ["base", "rows-3", "bfloat16"]
    model = MODELS / "0.1M" / "5.6e12"
    table = drift(model, task, task.problems(12), plan, tmp_path, names).set_index("setting")
    assert list(table.index) == names
    assert table.loc["rows-3", "identical"] == "100.0000%"
    assert table.loc["rows-3", "first_token"] == ""
    base, bf16 = (Runs.load(tmp_path / name)[0] for name in ("base", "bfloat16"))
    value, low, high = accuracy_change(base, bf16)
    own, other = (run.samples.groupby("problem")["correct"].mean() for run in (base, bf16))
    assert value == pytest.approx((other - own).mean())
    assert low <= value <= high
    assert exponent_change(base, base) == pytest.approx((0, 0, 0))
    engines = [run.manifest["sessions"][0]["extra"]["engine"] for run in (base, bf16)]
    assert [engine["dtype"] for engine in engines] == ["float32", "bfloat16"]
    narrowed = engines[1].get("units") != "float32"  # a CPU without such units multiplies in fp32
    assert (table.loc["bfloat16", "identical"] != "100.0000%") == narrowed


def test_an_unknown_setting_names_the_nearest(tmp_path) -> None:
    plan = Plan(chains=2, max_new_tokens=8)
    with pytest.raises(ValueError, match="did you mean 'bfloat16'"):
        drift(MODELS, get_task("sums"), [], plan, tmp_path, ["bfloat61"])
    assert next(iter(SETTINGS)) == "base"


def test_a_run_of_a_benchmark_is_judged_by_its_file(tiny_folder, tmp_path, capsys):
    """Story: `verify` knew the kit's own tasks alone, and called gsm8k unknown."""
    rows = [{"question": f"{i}+{i}?", "answer": f"#### {2 * i}"} for i in range(6)]
    file, root = tmp_path / "test.jsonl", tmp_path / "runs"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--model", tiny_folder, "--task", "gsm8k", "--problems-file", file, "--runs", root]
    cap = ["--prompt", "bare", "--chains", 4, "--max-new-tokens", 8]
    assert main([str(word) for word in ("sample", *arguments, *cap)]) == 0
    (run,) = root.iterdir()
    again = ["verify", str(run), "--models", str(tiny_folder.parents[1])]
    assert main([*again, "--problems-file", str(file)]) == 0
    message = capsys.readouterr().out
    assert "24 texts judged again, 0 verdicts differ" in message
    assert "8 samples drawn again, 100.0000% the same" in message
    assert main(again) == 1
    assert "gsm8k is a benchmark: give its file" in capsys.readouterr().err
    file.write_text(json.dumps(rows[0]) + "\n")
    assert main([*again, "--problems-file", str(file)]) == 1
    assert "lacks 5 problems of the run" in capsys.readouterr().err

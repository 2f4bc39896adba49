"""What every verb has in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hypergeom

from scaling.cli import build_parser, main
from scaling.cli.options import ONLY_FOR
from scaling.fits import fit
from scaling.readers import counts, read_samples


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    table = tmp_path / "counts.csv"
    table.write_text("problem,n,c\n" + "".join(f"{i},16,{i % 16}\n" for i in range(300)))
    read, write = os.pipe()
    os.close(read)  # what `| head` leaves behind
    done = subprocess.run(
        [sys.executable, "-m", "scaling", "import", "--format", "csv", str(table)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_misspelt_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        build_parser().parse_args(["fit", "--laww", "power"])
    assert left.value.code == 2
    assert "--law" in capsys.readouterr().err


def test_every_verb_has_a_file_that_does_it() -> None:
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    assert {"study", "sample", "fit", "verify", "external"} <= set(verbs.choices)
    for name, verb in verbs.choices.items():
        file, named = verb.get_default("run").args
        assert named == name
        assert callable(getattr(import_module(f"scaling.cli.{file}"), f"run_{name}"))


def test_help_and_the_verbs_that_read_need_no_torch() -> None:
    read = (
        "from scaling.cli import build_parser, reading, benchmarks, working; build_parser();"
        "import sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", read], check=True)


def test_a_warning_is_one_line_once_without_the_line_of_code(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = '{"id": "1", "prompt": "1+1=", "answer": "2", "scorer": "number"}'
    (tmp_path / "one.jsonl").write_text(row)
    command = ["sample", "--model", str(tiny_folder), "--task", "rows", "--chains", "4"]
    command += ["--problems-file", str(tmp_path / "one.jsonl"), "--runs", str(tmp_path / "runs")]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*command, "--max-new-tokens", "4"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot be resampled" in line]
    assert len(told) == 1  # it was told three times, each with a line of our code
    assert told[0].startswith("scaling: warning: one problem or family cannot be resampled")


SERVER, FOLDER = "http://127.0.0.1:9/v1", "data/models/ladder/0.1M/1e12"


@pytest.mark.parametrize(
    ("model", "task", "option", "needed"),
    [
        (SERVER, "sums", "--model-defaults", "a model in memory"),
        (SERVER, "sums", "--quantize 8bit", "a model in memory"),
        (SERVER, "sums", "--executor local", "a model in memory"),
        (SERVER, "sums", "--dtype bfloat16", "a model in memory"),
        (SERVER, "sums", "--skip-long", "a model in memory"),
        ("name --batch b", "sums", "--in-flight 3", "a server (--model http"),
        (FOLDER, "sums", "--served-name x", "a server (--model http"),
        (FOLDER, "sums", "--api chat", "a server (--model http"),
        (FOLDER, "sums", '--request {"a":1}', "a server (--model http"),
        (FOLDER, "sums", "--card c.json", "a server (--model http"),
        (FOLDER, "sums", "--prompt worked", "a benchmark (--task"),
        (FOLDER, "gym:gcd", "--newer-than 2024", "a benchmark's file"),
        (FOLDER, "sums", "--problems-file t.jsonl", "a benchmark's file"),
        (FOLDER, "sums", "--workers 3", "--executor or --dry-run"),
        (FOLDER, "sums", "--per-hour 2", "--dry-run"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(model, task, option, needed, capsys):
    command = ["sample", "--model", *model.split(), "--task", task, *option.split()]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert f"{option.split()[0]} changes nothing here: it is for {needed}" in said


def test_every_option_of_sample_that_is_only_for_something_is_there() -> None:
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    known = {action.dest for action in verbs.choices["sample"]._actions}
    assert {name for names in ONLY_FOR.values() for name in names} <= known


def test_import_fits_the_law_that_python_fits_and_counts_votes(tmp_path, capsys) -> None:
    draw = np.random.default_rng(0)
    chance = draw.beta(0.6, 1.8, 40)
    rows = [
        {"task_id": f"t{i}", "completion": "right" if passed else "wrong", "passed": bool(passed)}
        for i, p in enumerate(chance)
        for passed in draw.random(16 - i % 3) < p
    ]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["import", str(path), "--format", "human-eval"]
    assert main([*command, "--law", "beta_binomial"]) == 0
    shown = capsys.readouterr().out
    table, _ = read_samples(path, "human-eval")
    assert str(fit("beta_binomial", *counts(table))) in shown
    lines = [line.split() for line in shown.splitlines()[1:6]]
    assert lines[0] == ["k", "pass@k", "low", "high", "majority", "low", "high"]
    assert lines[1][1:4] == lines[1][4:]  # one sample is its own vote
    by_hand = [  # the right answer has more than half of k = 8 drawn from n, or half a tie
        sum(hypergeom(n, c, 8).pmf(j) * (1 if j > 4 else 0.5 * (j == 4)) for j in range(9))
        for n, c in zip(*counts(table), strict=True)
    ]
    assert float(lines[4][4]) == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert main([*command, "--law", "exp_power"]) == 0
    assert "exp_power, 95 % intervals" in capsys.readouterr().out
    assert main([*command, "--law", "exp_powr"]) == 1
    assert "unknown law 'exp_powr'; did you mean 'exp_power'" in capsys.readouterr().err

"""What every verb has in common."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest

from scaling.cli import build_parser, main


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

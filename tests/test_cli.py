"""What every verb has in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.cli import MODULES, build_parser


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


def test_each_file_of_verbs_is_listed() -> None:
    folder = Path(__file__).parents[1] / "scaling" / "cli"
    verbs = {path.stem for path in folder.glob("*.py") if "\ndef add(verbs)" in path.read_text()}
    assert set(MODULES) == verbs

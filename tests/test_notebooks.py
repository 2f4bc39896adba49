"""Notebooks are committed as the runner executed them, and run headless from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from notebooks.execute import MARK, code_hash, execute, main

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_executed_in_order_without_an_error_and_opens_with_its_facts(path):
    notebook = nbformat.read(path, as_version=4)
    opening = notebook.cells[0].source
    assert all(f"**{word}**" in opening for word in ("Question", "Reads", "Writes", "Needs"))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in o.get("data", {}) for o in outputs), "a notebook shows a figure"
    assert notebook.metadata[MARK] == code_hash(notebook), "run `make notebooks`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_headless(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SCALING_REPLICATES", "50")  # the committed ones have 1000
    before = path.read_bytes()
    execute(path, save=False)
    assert path.read_bytes() == before


def test_the_published_laws_are_committed_with_the_files_that_they_are_refitted_to():
    text = (ROOT / "notebooks/10_published_laws.ipynb").read_text(encoding="utf-8")
    assert "third-party files: found" in text, "run it with `python -m scaling external` done"


CELLS = """import pandas as pd; pd.DataFrame({"a": [1]}).style.set_properties(color="red")
import pandas as pd; pd.DataFrame({"b": [1, 2]}).style.hide()
object()
from ipywidgets import HBox; HBox()"""


def test_a_notebook_executed_again_has_the_same_bytes(tmp_path):
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS.splitlines()]
    path = tmp_path / "styled.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    saved = []
    for _ in range(2):
        execute(path)
        saved.append(path.read_bytes())
    assert saved[0] == saved[1]
    red, plain, thing, widget = (c.outputs[0].data for c in nbformat.read(path, 4).cells)
    assert "#T_00000_row0_col0 {" in red["text/html"]
    assert 'id="T_00000_row0_col0"' in red["text/html"]
    assert '<table id="T_00001">' in plain["text/html"]
    assert thing["text/plain"] == "<object>"
    assert set(widget) == {"application/vnd.jupyter.widget-view+json", "text/plain"}


def test_a_failing_cell_is_one_line_and_leaves_the_file_as_it_was(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    path = tmp_path / "bad.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"bad\.ipynb: ZeroDivisionError: division by zero"):
        execute(path)
    assert path.read_bytes() == before


def test_a_notebook_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no notebook notebooks/99\.ipynb; there: 00_start"):
        main(["notebooks/99.ipynb"])

"""The code in docs/ runs as it stands; what a page points to exists; no column is left out."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

import scaling
from scaling.benchmarks import Row
from scaling.benchmarks.grading import SCORERS
from scaling.figures.gallery import FIGURES
from scaling.readers import COLUMNS as TIDY
from scaling.readers import FORMATS as IMPORTED
from scaling.records import ModelCard, Plan
from scaling.report.numbers import COLUMNS as RESULTS
from scaling.runs.tables import COLUMNS
from scaling.store.files import PROBLEMS, SCHEMAS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
OTHERS = {"methods.md", "scale.md", "serving.md", "trust.md"}  # have tests of their own
WITH_CODE = [page for page in PAGES if "```python" in page.read_text() and page.name not in OTHERS]
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
EXAMPLES = [path for path in (ROOT / "scaling").rglob("*.py") if ">>> " in path.read_text()]


@pytest.fixture
def tables(monkeypatch):
    """Keep what a page adds to the kit's tables to that page."""
    from scaling.fits.laws import LAWS
    from scaling.tasks import TASKS

    kept = [(table, dict(table)) for table in (LAWS, TASKS)]
    monkeypatch.chdir(ROOT)
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tables):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    names: dict = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_points_to_exists(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:notebooks|scaling|tests|docs)/[\w./]+\.\w+)`", text)
    notebooks = re.findall(r"`(\d\d_\w+)`", text)
    for path in (
        *((page.parent / link) for link in links),
        *((ROOT / name) for name in named),
        *((ROOT / "notebooks" / f"{name}.ipynb") for name in notebooks),
    ):
        assert path.exists(), path
    for name in re.findall(r"`(scaling(?:\.\w+)+)", text):
        module, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), last), name


def test_every_column_and_key_is_described():
    published = [pd.read_csv(ROOT / "data/published" / f"{n}.csv") for n in ("facts", "curves")]
    later = {"history", "width", "keep", "scorer"}  # on the page of methods
    wanted = [
        *PROBLEMS.names, *SCHEMAS["facts"].names, *SCHEMAS["text"].names, *COLUMNS, *RESULTS,
        *(field.name for field in fields(Plan) if field.name not in later),
        *(field.name for field in fields(ModelCard)),
        *(column for table in published for column in table.columns),
    ]  # fmt: skip
    assert not [name for name in wanted if f"`{name}`" not in FORMATS]


def test_every_format_of_samples_and_every_scorer_of_rows_has_its_row():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert not [name for name in SCORERS if f"| `{name}` |" not in page]
    assert not [f.name for f in fields(Row) if f"`{f.name}`" not in page]
    assert not [name for name in IMPORTED if f"| `{name}` |" not in FORMATS]
    assert not [name for name in TIDY if f"`{name}`" not in FORMATS]


def test_every_figure_has_a_row_and_a_sentence():
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    assert not [name for name in FIGURES if f"| `{name}`" not in page]
    assert all(draw.__doc__ for draw in FIGURES.values())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_of_docstrings_hold(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def test_every_public_module_says_what_it_is_for():
    names = [module.name for module in pkgutil.walk_packages(scaling.__path__, "scaling.")]
    for name in names:
        if not name.endswith("__main__"):
            path = ROOT / Path(*name.split("."))
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            assert file.read_text(encoding="utf-8").startswith(('"""', 'r"""')), name

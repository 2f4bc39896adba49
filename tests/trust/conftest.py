"""Everything in this folder is slow: faults, kills and fuzzing measure the kit for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of the folder as slow."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)

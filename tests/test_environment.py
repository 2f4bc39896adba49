"""pyproject.toml is the only list of dependencies: a file that drifts from it fails here."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines]
    for name, lines in PROJECT["optional-dependencies"].items()
}
LOCK = (ROOT / "constraints.txt").read_text(encoding="utf-8")
CONSTRAINTS = [Requirement(line) for line in LOCK.splitlines()]
PYTHONS = ("3.11", "3.12", "3.13")


def locked(name: str, python: str) -> list[str]:
    """Return the versions that constraints.txt gives a package on Linux with that Python."""
    platform = {"python_version": python, "python_full_version": f"{python}.0"}
    platform |= {"sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}
    found = [c for c in CONSTRAINTS if canonicalize_name(c.name) == canonicalize_name(name)]
    rows = [c for c in found if c.marker is None or c.marker.evaluate(platform)]
    return [next(iter(row.specifier)).version for row in rows]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_locked_once_within_its_range(python: str) -> None:
    for requirement in [*CORE, *(r for extra in EXTRAS.values() for r in extra)]:
        versions = locked(requirement.name, python)
        assert len(versions) == 1, f"{requirement} on Python {python}: {versions}; run make lock"
        assert requirement.specifier.contains(versions[0]), f"{requirement}: {versions[0]}"


def test_constraints_are_exact_versions_without_addresses() -> None:
    assert "://" not in LOCK
    assert "--" not in LOCK
    assert all(len(c.specifier) == 1 and "==" in str(c.specifier) for c in CONSTRAINTS)


def test_environment_yml_takes_everything_from_pyproject() -> None:
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    items = [line.strip().removeprefix("- ") for line in lines if line.strip().startswith("- ")]
    assert items[:4] == ["conda-forge", "python=3.11", "pip", "pip:"]
    assert items[4:] == ["-c constraints.txt", "-e .[test]"]
    assert f"name: {PROJECT['name']}" in lines
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.11")


def test_citation_and_project_agree_on_version_and_licence() -> None:
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {PROJECT['version']}" in lines
    assert f"license: {PROJECT['license']}" in lines


def test_makefile_locks_a_torch_that_constraints_hold() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"LOCKED_TORCH := (\S+)", text).group(1) == locked("torch", "3.11")[0]


def test_every_third_party_import_is_a_declared_dependency() -> None:
    top: set[str] = set()
    for path in (ROOT / "scaling").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                top |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                top.add(str(node.module).split(".")[0])
    used = [*CORE, *(r for name, extra in EXTRAS.items() if name != "test" for r in extra)]
    declared = {canonicalize_name(r.name) for r in used}
    owners = packages_distributions()
    elsewhere = {"triton"}  # comes with torch's CUDA builds
    third_party = top - set(sys.stdlib_module_names) - {"scaling"} - elsewhere
    undeclared = {
        name
        for name in third_party
        if not declared & {canonicalize_name(d) for d in owners.get(name, [name])}
    }
    assert not undeclared

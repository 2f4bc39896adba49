"""Provenance names the code and the machine, and never a secret."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from scaling import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository that holds one commit of a package of one file."""
    package = tmp_path / "scaling"
    package.mkdir()
    (package / "code.py").write_text("x = 1\n")
    name = ("-c", "user.name=n", "-c", "user.email=e")
    for command in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package.resolve())
    return tmp_path


def test_a_clean_checkout_names_its_commit(checkout: Path) -> None:
    head = subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True)
    assert provenance.code_state() == (head.strip(), False)


@pytest.mark.parametrize(
    ("file", "dirty"),
    [("scaling/code.py", True), ("scaling/new.py", True), ("data.csv", False)],
)
def test_dirty_means_that_the_package_differs_from_its_commit(
    checkout: Path, file: str, dirty: bool
) -> None:
    (checkout / file).write_text("x = 2\n")
    assert provenance.code_state()[1] is dirty


def test_a_package_installed_inside_another_repository_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", checkout / "lib" / "scaling")
    (checkout / "lib" / "scaling").mkdir(parents=True)
    assert provenance.code_state() == (None, None)


def test_without_git_the_commit_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.code_state() == (None, None)


def test_versions_come_from_the_metadata_and_absent_packages_are_left_out() -> None:
    assert provenance.versions(("numpy", "no-such-package")) == {"numpy": version("numpy")}


def test_sha256_agrees_with_hashlib(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc" * 100_000)
    assert provenance.sha256(file) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_collect_is_json_and_holds_no_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "a-secret-value")
    text = json.dumps(provenance.collect(), allow_nan=False)
    assert "a-secret-value" not in text
    assert {"time", "command", "commit", "dirty", "packages", "device"} <= set(json.loads(text))


def test_collect_does_not_load_torch() -> None:
    code = "import sys; from scaling import provenance; provenance.collect(); "
    code += "sys.exit('torch' in sys.modules)"
    root = Path(provenance.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0

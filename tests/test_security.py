"""Nothing that is read can run code, leave its folder, or carry a secret into what is written."""

from __future__ import annotations

import ast
import json
import pickle
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scaling import store
from scaling.cli import main
from scaling.models import load_lm
from scaling.readers import read_samples
from scaling.records import ModelCard, Plan, Problem
from scaling.runs import load_run

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "scaling").rglob("*.py"))
KEY = "sk-planted-4f1d9c7ab2"
RUNS_CODE = {
    *("eval", "exec", "compile", "__import__", "input"),
    *("pickle", "marshal", "shelve", "dill", "joblib", "torch.load", "os.system", "os.popen"),
    *("yaml.unsafe_load", "yaml.full_load", "extractall", "numpy.load", "np.load", "read_pickle"),
}


def names_in(path: Path) -> set[str]:
    """Return what a file calls and imports, as written, and the last part of each."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    names = {name for name in found if not name.endswith("re.compile")}
    dotted = {name.rsplit(".", 1)[-1] for name in names} - {"eval", "compile", "load"}
    return names | dotted


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_the_package_can_run_what_it_reads(path: Path) -> None:
    assert not names_in(path) & RUNS_CODE
    text = path.read_text(encoding="utf-8")
    assert "shell=True" not in text
    assert "allow_pickle=True" not in text
    assert "trust_remote_code=True" not in text
    for call in re.findall(r"yaml\.load\(.*", text):
        assert "SafeLoader" in call


def test_the_search_for_dangerous_calls_finds_them(tmp_path: Path) -> None:
    code = "import pickle\nimport torch\ntorch.load(1)\neval('1')\nre.compile('')\n"
    (tmp_path / "x.py").write_text(code)
    assert names_in(tmp_path / "x.py") & RUNS_CODE == {"pickle", "torch.load", "eval"}


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_crafted_pickle_is_refused_wherever_a_checkpoint_or_a_log_may_be(
    tiny_folder: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "it ran"
    data = pickle.dumps(Payload(mark))
    pickle.loads(data)
    assert mark.exists(), "the payload works"
    mark.unlink()
    bare, dressed = tmp_path / "bare", tmp_path / "dressed"
    for folder in (bare, dressed):
        shutil.copytree(tiny_folder, folder)
    (bare / "model.safetensors").rename(bare / "pytorch_model.bin")
    (bare / "pytorch_model.bin").write_bytes(data)
    (dressed / "model.safetensors").write_bytes(data)
    for folder in (bare, dressed):
        with pytest.raises(ValueError, match=r"model|weights"):
            load_lm(folder)
    run = shutil.copytree(
        next((ROOT / "tests/data/runs").glob("*/facts.parquet")).parent, tmp_path / "r"
    )
    (run / "facts.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"facts\.parquet"):
        load_run(run)
    assert not mark.exists()


def test_code_beside_a_models_weights_does_not_run(tiny_folder: Path, tmp_path: Path) -> None:
    folder, mark = shutil.copytree(tiny_folder, tmp_path / "m"), tmp_path / "it ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unheard-of"}))
    with pytest.raises(ValueError, match=re.escape(str(folder))):
        load_lm(folder)
    assert not mark.exists()


def test_names_and_archives_cannot_leave_their_folder(tmp_path: Path) -> None:
    name = "../../../outside"
    problem = Problem(name, "p", "a", "l")
    inside = tmp_path / "a" / "b" / "c"
    card = ModelCard(name, 1, 1, 1.0, 1)
    with store.open_run(
        inside, task=name, card=card, plan=Plan(chains=1), problems=[problem]
    ) as run:
        assert run.path.parent == inside
    archive = tmp_path / "a" / "log.eval"
    record = {"id": name, "epoch": 1, "scores": {"m": {"value": "C"}}}
    with zipfile.ZipFile(archive, "w") as file:
        for entry in ("samples/../../x.json", "samples//etc/x.json", "/samples/x.json"):
            file.writestr(entry, json.dumps(record))
    before = sorted(tmp_path.rglob("*"))
    read_samples(archive, "inspect")
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path / "outside").exists()


def test_a_planted_key_appears_in_nothing_that_is_written(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    for name in ("SCALING_API_KEY", "OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setattr(sys, "argv", ["scaling", "sample"])
    runs = ["--runs", str(tmp_path / "runs")]
    sample = ["sample", "--model", str(tiny_folder), "--task", "sums", "--problems", "4"]
    assert main([*sample, "--chains", "4", "--max-new-tokens", "8", *runs]) == 0
    assert main(["accuracy", "--derived", str(tmp_path), *runs]) == 0
    assert main(["figures", "coverage", "--figures", str(tmp_path), *runs]) == 0
    assert main(["sample", "--model", "/none", "--task", "sums"]) == 1
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".json", ".parquet", ".png", ".csv"} <= {path.suffix for path in files}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in "".join(capfd.readouterr())


def test_servers_listen_on_this_machine_only() -> None:
    for path in [*PACKAGE, *sorted((ROOT / "tests").glob("*.py"))]:
        text = path.read_text(encoding="utf-8")
        everywhere = "0.0." + "0.0"
        assert everywhere not in text, f"{path.name} may listen to the world"
        for call in re.findall(r"(?:HTTPServer|\.bind|TCPServer)\(\(([^,]*),", text):
            assert call in ('"127.0.0.1"', '"localhost"'), f"{path.name}: {call}"

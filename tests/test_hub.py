"""Models by hub name, without a hub: a cache laid out as the hub's client does, and a fake hub."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scaling.models.hub import is_endpoint, locate

COMMITS = {"main": "a" * 40, "step1000": "b" * 40}


@pytest.fixture
def cache(tiny_folder, tmp_path, monkeypatch) -> Path:
    """Return a hub cache that holds EleutherAI/pythia-tiny at two revisions, the network off."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--EleutherAI--pythia-tiny"
    for revision, commit in COMMITS.items():
        shutil.copytree(tiny_folder, repository / "snapshots" / commit)
        (repository / "snapshots" / commit / "card.json").unlink()
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    return tmp_path


def test_a_revision_is_resolved_to_its_commit_offline(cache):
    for suffix, revision in (("", "main"), ("@step1000", "step1000"), ("@" + "b" * 40, "step1000")):
        files = locate("EleutherAI/pythia-tiny" + suffix)
        assert files.commit == COMMITS[revision] == files.folder.name
        assert files.exact == f"EleutherAI/pythia-tiny@{files.commit}"
        assert files.title == "EleutherAI/pythia-tiny" + suffix


def test_the_commit_is_the_identity_in_the_card(cache):
    from scaling.models import load_lm

    lm = load_lm("EleutherAI/pythia-tiny@step1000")
    assert lm.card.identity == "b" * 40
    assert lm.card.name == "EleutherAI/pythia-tiny@step1000"
    assert lm.where == "EleutherAI/pythia-tiny@" + "b" * 40


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("EleutherAI/pythia-tiny@step7", "step7 not cached, and HF_HUB_OFFLINE is set"),
        ("EleutherAI/nothing", "no folder EleutherAI/nothing here, EleutherAI/nothing not cached"),
        ("a//b", "no model folder a/b"),
        ("/none", "no model folder /none"),
    ],
)
def test_what_is_not_there_offline_is_one_line(cache, name, says):
    with pytest.raises(ValueError, match=says) as caught:
        locate(name)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(tmp_path, tiny_folder):
    shutil.copytree(tiny_folder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights, which can run code"):
        locate(tmp_path / "m")


def test_an_address_is_told_from_a_folder_and_a_name():
    assert is_endpoint("http://127.0.0.1:8000/v1")
    assert not is_endpoint("org/name@main")
    assert not is_endpoint(Path("data/models"))


FILES = {  #: what the hub lists at a revision -> error message
    "pickled": ["config.json", "pytorch_model.bin", "tokenizer.json"],
    "safe": ["config.json", "model.safetensors"],
    "empty": ["config.json"],
}
ANSWERS = {
    "gated": (403, "GatedRepo"),
    "secret": (401, "RepoNotFound"),
    "none": (404, "RepoNotFound"),
    "name": (404, "RevisionNotFound"),
}


class Hub(BaseHTTPRequestHandler):
    """A hub that knows of one gated model, of one at another revision, and of lists of files."""

    def do_GET(self):
        name = self.path.split("/")[4]
        if name in FILES:
            rows = [{"rfilename": file} for file in FILES[name]]
            body = json.dumps({"id": f"org/{name}", "sha": "a" * 40, "siblings": rows}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        code, error = ANSWERS[self.path.split("/")[4]]  # /api/models/org/NAME...
        self.send_response(code)
        self.send_header("X-Error-Code", error)
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


LOCATE = """
import sys; from scaling.models.hub import locate
for name in sys.argv[1:]:
    try:
        locate(name)
    except ValueError as error:
        print(error)
"""


def located(endpoint: str, cache: Path, *names: str, code: str = LOCATE) -> list[str]:
    """Return the messages of a new process about models, its hub at an address of this machine."""
    variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "PATH": "/usr/bin"}
    command = [sys.executable, "-c", code, *names]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=root)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def test_missing_and_gated_models_and_revisions_are_one_line_each(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        names = ("org/gated", "org/secret", "org/none", "org/name@never")
        gated, secret, none, never = located(address, tmp_path, *names)
    finally:
        server.shutdown()
        server.server_close()
    assert "org/gated is gated: accept its terms" in gated
    assert "no model org/secret on the hub" in secret
    assert "no model org/none on the hub: check the spelling" in none
    assert "org/name has no revision never" in never


def test_a_revision_of_pickles_alone_is_told_before_anything_is_priced(tmp_path, tiny_folder):
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = """
import sys
from scaling.models.hub import Files, check_listed
from pathlib import Path
for name in ("safe", "pickled", "empty"):
    try:
        check_listed(Files(Path("."), f"org/{name}", "step7", "a" * 40))
    except ValueError as error:
        print(error)
"""
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        message = located(address, tmp_path, code=code)
    finally:
        server.shutdown()
        server.server_close()
    assert len(message) == 2
    assert "org/pickled@step7 has only pickled weights (pytorch_model.bin)" in message[0]
    assert "org/empty@step7 has no weights on the hub" in message[1]
    assert located("http://127.0.0.1:9", tmp_path, code=code) == []  # no network: no message


def test_no_network_is_one_line(tmp_path):
    (line,) = located("http://127.0.0.1:9", tmp_path, "org/name")
    assert "org/name not cached, and the hub did not answer" in line


def test_what_the_hub_client_logs_is_json_free_of_tokens(cache):
    """The card goes into logs: nothing but names, numbers and hashes may be in it."""
    from dataclasses import asdict

    from scaling.models import load_lm

    card = json.dumps(asdict(load_lm("EleutherAI/pythia-tiny", weights=False).card))
    assert str(cache) not in card

"""Servers that nobody here wrote give the accuracy that the engine gives, on a model of the ladder.

`transformers serve` runs in the normal tests. vLLM has an environment of its own, which
`make test-servers` sets up on a CPU; VLLM_PYTHON names its interpreter.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.cli import main
from scaling.engine import Engine, Job
from scaling.models import load_lm
from scaling.records import Plan
from scaling.runs import load_run
from scaling.sampling import sample_run
from scaling.serving import Client, Endpoint, connect
from scaling.serving.client import Failed
from scaling.tasks import get_task

MODEL = Path(__file__).parents[1] / "data" / "models" / "ladder" / "0.1M" / "1e13"
PLAN = Plan(chains=6, max_new_tokens=96)
LEVELS = ("4x99", "6x99")


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@contextmanager
def running(command: list[str], name: str, log: Path, seconds: float, **environment: str):
    """Yield the address of a server, once it answers; `{port}` in the command is filled in."""
    port = free_port()
    command = [part.format(port=port) for part in command]
    settings = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, stdout=file, stderr=file, env=os.environ | settings | environment
        )
        url, until = f"http://127.0.0.1:{port}/v1", time.monotonic() + seconds
        try:
            while not answers(url, name):
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"no server: {log.read_text()[-2000:]}")
                time.sleep(0.5)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(url: str, name: str) -> bool:
    with Client(url, deadline=60, tries=1) as client:
        try:
            client.ask("/completions", {"model": name, "prompt": "1+1:", "max_tokens": 1})
        except Failed:
            return False
        return True


@contextmanager
def transformers_serve(root: Path):
    """Yield (address, folder) of `transformers serve`, on a model whose files say to sample."""
    folder = root / "model"
    shutil.copytree(MODEL, folder)
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text()) | {"do_sample": True, "top_k": 0}
    path.write_text(json.dumps(settings))
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    command += ["--device", "cpu", "--dtype", "float32", "--port", "{port}"]
    with running(command, str(folder), folder.parent / "log", 200) as url:
        yield url, str(folder)


pytestmark = pytest.mark.slow  # a server of transformers starts in 15 s


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Yield (address, folder) of `transformers serve`."""
    for package in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(package)
    with transformers_serve(tmp_path_factory.mktemp("served")) as server:
        yield server


def assert_same_accuracy(url: str, name: str, root: Path, plan: Plan = PLAN, **options) -> None:
    """Assert that a server is as often right as the engine, four standard errors at the most.

    False alarms: 1 in 15,000.
    """
    task = get_task("sums", LEVELS)
    problems = task.problems(8)
    lm, engine = connect(url, Endpoint(name), in_flight=4, **options)
    run = sample_run(lm, task, problems, plan, root / "served", engine=engine, progress=False)
    assert run.manifest["status"] == "sealed"
    assert (run.samples["finish"] == "stop").mean() > 0.9
    ours = load_lm(MODEL)
    reference = sample_run(
        ours, task, problems, replace(plan, chains=128), root / "own", progress=False,
        engine=Engine(ours.model, eos_ids=ours.eos_ids, device="cpu"),
    )  # fmt: skip
    right = [r.samples.groupby("problem")["correct"].agg(["sum", "size"]) for r in (run, reference)]
    chance = right[1]["sum"] / right[1]["size"]
    spread = chance * (1 - chance)
    assert spread.sum() > 0.5  # problems that say something
    expected = (chance * right[0]["size"]).sum()
    error = (spread * right[0]["size"] * (1 + right[0]["size"] / right[1]["size"])).sum() ** 0.5
    assert abs(right[0]["sum"].sum() - expected) < 4 * error
    both = run.samples.groupby("problem")["prompt_tokens"].first()
    assert (both == reference.samples.groupby("problem")["prompt_tokens"].first()).all()
    counted = [
        r.samples.query("finish == 'stop'")["completion_tokens"].mean() for r in (run, reference)
    ]
    assert counted[0] == pytest.approx(counted[1], rel=0.25)
    assert not np.isnan(run.samples["seconds"]).any()


def test_transformers_serve_is_as_often_right_as_the_engine(served, tmp_path):
    assert_same_accuracy(*served, tmp_path)


def test_transformers_serve_without_do_sample_is_refused(served):
    url, name = served
    greedy = {"generation_config": json.dumps({"do_sample": False, "max_new_tokens": 48})}
    _, engine = connect(url, Endpoint(name, extra=greedy))
    with pytest.raises(ValueError, match="this server does not sample"):
        next(engine.generate([Job("p", 0, ("12+45+77:",))], PLAN))


def test_the_command_line_draws_from_transformers_serve(served, tmp_path, capsys):
    url, name = served
    arguments = ["--task", "sums", "--levels", "2x99", "--problems", "2", "--chains", "2"]
    arguments += ["--card", str(MODEL / "card.json"), "--runs", str(tmp_path)]
    assert main(["sample", "--model", url, *arguments]) == 1  # /models fails offline there
    assert "name one with --served-name" in capsys.readouterr().err
    assert main(["sample", "--model", url, "--served-name", name, *arguments]) == 0
    (run,) = [load_run(path, text=True) for path in tmp_path.glob("sums-*")]
    assert run.samples["text"].str.contains("=").all()
    assert run.card.train_flops == load_lm(MODEL).card.train_flops


@pytest.mark.slow
@pytest.mark.timeout(900)  # its start alone may take 500
def test_vllm_is_as_often_right_as_the_engine(tmp_path):
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        pytest.skip("VLLM_PYTHON names no interpreter that has vLLM: make test-servers")
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL)]
    command += ["--dtype", "float32", "--max-model-len", "256", "--port", "{port}"]
    command += ["--enforce-eager", "--served-model-name", "ladder"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with running(command, "ladder", tmp_path / "log", 500, **settings) as url:
        assert_same_accuracy(url, "ladder", tmp_path, replace(PLAN, chains=16))

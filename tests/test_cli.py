"""The command line: help, mistakes in one line, idle options, modules of one's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hypergeom

from scaling.cli import APP, main
from scaling.fits import fit
from scaling.methods import METHODS
from scaling.readers import counts, read_samples
from scaling.records import Plan
from scaling.runs import Runs
from scaling.store.files import RECORD
from scaling.tasks import TASKS

VERBS = [name for name in APP if not name.startswith("-")]


def options_of(verb: str) -> set[str]:
    return {name for one in APP[verb].assemble_argument_collection() for name in one.names}


def refused(command: str, capsys: pytest.CaptureFixture[str], code: int) -> str:
    """Return the one line that a command is refused with."""
    try:
        found = main(command.split())
    except SystemExit as left:
        found = left.code
    message = capsys.readouterr().err
    assert (found, message.count("\n")) == (code, 1)
    assert message.startswith("scaling: ")
    return message


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


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_a_sentence_on_every_option(verb, capsys) -> None:
    assert main([verb, "--help"]) == 0
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    for one in APP[verb].assemble_argument_collection(parse_docstring=True):
        if one.show:
            assert one.parameter.help, one.name
            assert one.name in shown


def test_every_field_of_a_plan_is_an_option_and_every_method_is_named(capsys) -> None:
    assert main(["sample", "--help"]) == 0
    shown = capsys.readouterr().out
    assert {f"--{f.name.replace('_', '-')}" for f in fields(Plan)} <= options_of("sample")
    assert set(METHODS) <= set(re.findall(r"\w+", shown))
    assert re.search(r"--chains INT .*?\[default: 64\]", re.sub(r"[│\s]+", " ", shown))


@pytest.mark.parametrize(
    ("command", "near"),
    [
        ("fit --laww power", "--law"),
        ("sample --model m --task sums --chain 8", "--chains"),  # not a short form
        ("import f --format Lm-Eval", "lm-eval"),
        ("sample --model m --task sums --feedback Verdict", "verdict"),
        ("sample --model m --task sums --dtype Float32", "float32"),
        ("study --preset Tiny", "tiny"),
        ("Figures", "figures"),
        ("drift --task sums", "python -m tests.trust.drift"),
        ("bench", "python -m benchmarks"),
        ("notebooks", "make notebooks"),
        ("", "verb"),
        ("sample --task sums", "--model"),
        ("fit --runs a b", "b"),
        ("sample --model m --task sums --device gpu", "allowed: auto, cpu, cuda"),
        ("import f --format csv --columns problem", "problem=id"),
        ("sample --model m --task sums --request []", "JSON"),
    ],
)
def test_wrong_usage_is_one_line_with_the_nearest_valid_name(command, near, capsys) -> None:
    assert near in refused(command, capsys, 2)


def test_help_and_wrong_plans_need_no_torch() -> None:
    code = (
        "import sys; from scaling.cli import main; main(['sample', '--help'])\n"
        "for wrong in ['sums --levels x', 'sums --chains 0', 'sms', 'sums --method best']:\n"
        "    assert main(['sample', '--model', 'm', '--task', *wrong.split()]) == 1\n"
        "import scaling.cli.checking\n"
        "for verb in ('accuracy', 'figures', 'fit', 'check'): main([verb, '--runs', '/none'])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_ctrl_c_says_how_to_continue(monkeypatch, capsys) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scaling.runs.Runs.load", stop)
    assert main(["fit"]) == 130
    assert "interrupted; the same command continues" in capsys.readouterr().err


def test_the_last_of_a_repeated_option_counts(capsys) -> None:
    command = ["sample", "--model", "m", "--task", "sums", "--chains", "8", "--chains", "0"]
    assert "chains is 0" in refused(" ".join(command), capsys, 1)


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
    lines = [line for line in capsys.readouterr().err.splitlines() if "cannot be resampled" in line]
    assert len(lines) == 1  # it was printed three times, each with a line of our code
    assert lines[0].startswith("scaling: warning: one problem or family cannot be resampled")


OWN = """
from scaling.records import Problem, Verdict
from scaling.tasks import TASKS


class Ones:
    name, levels = "ones", ("1",)

    def problems(self, n, split="test", seed=0):
        return [Problem(f"{i}", "1+1=", "2", "1") for i in range(n)]

    def prompt(self, problem):
        return problem.prompt

    def verify(self, problem, text):
        return Verdict(text or None, text == "2")


class Unseeded(Ones):
    def problems(self, n):
        return []


class Yes(Ones):
    def verify(self, problem, text):
        return True


TASKS |= {"ones": Ones, "unseeded": Unseeded, "yes": Yes}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a folder that holds OWN as `own_tasks.py`."""
    (tmp_path / "own_tasks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    known = dict(TASKS)
    for module in ("scaling.tasks", "scaling.tasks.catalogue"):
        monkeypatch.setattr(f"{module}.TASKS", known)
    monkeypatch.delitem(sys.modules, "own_tasks", raising=False)
    imported: list[str] = []  # so that workers of later tests import none of it
    monkeypatch.setattr("scaling.executors.USER_MODULES", imported)
    monkeypatch.setattr("scaling.sampling.USER_MODULES", imported)


def test_an_own_task_is_known_by_its_module_and_drawn_once(own, tiny_folder, capsys) -> None:
    command = ["sample", "--import", "own_tasks", "--task", "ones", "--model", str(tiny_folder)]
    plan = ["--problems", "2", "--chains", "2", "--max-new-tokens", "600", "--runs", "out/runs"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*command, *plan]) == 0
    message = capsys.readouterr()
    assert "none drawn" not in message.out
    cut = [line for line in message.err.splitlines() if "max_new_tokens is 600, but" in line]
    assert len(cut) == 1
    assert "context of 512 leaves 508" in cut[0]
    assert repr(Runs.load("out/runs")[0]).startswith("Run(ones, tiny/1e9, best_of_n: 2 prob")
    assert main([*command, *plan]) == 0
    assert "4 samples, complete before: none drawn" in capsys.readouterr().out
    before = sorted(Path().iterdir()), sorted(Path("out").iterdir())
    assert main(["accuracy", "--runs", "out/runs"]) == 0
    assert main(["figures", "coverage", "--runs", "out/runs"]) == 0
    assert "check --runs out/runs --figures out/runs/figures" in capsys.readouterr().out
    assert (sorted(Path().iterdir()), sorted(Path("out").iterdir())) == before
    written = {path.name for path in Path("out/runs").rglob("*") if path.is_file()}
    assert {"accuracy.csv", "coverage.svg", "coverage.json", RECORD} <= written
    for path in ("out/runs", "out/runs/nope"):  # "manifest.json cannot be read: No such file"
        assert f"{path} is no run folder" in refused(f"report {path}", capsys, 1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("--import nothing --task sums", "--import nothing: it cannot be imported: ModuleNotFound"),
        ("--import own_tasks --task unseeded", "problems(n, split, seed)"),
        ("--import own_tasks --task yes", "verify(problem, text) must give a Verdict, not True"),
        ("--task sms", "did you mean 'sums'? allowed: countdown, sums,"),
        ("--task sums --method best", "unknown method 'best'"),
        ("--task sums --chains 0", "chains is 0; give"),
        ("--task sums", "holds no tokenizer.json"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(own, arguments, why, tmp_path, capsys) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    assert why in refused(f"sample --model {tmp_path} {arguments}", capsys, 1)


def test_a_python_without_the_packages_is_one_line() -> None:
    command = [sys.executable, "-S", "-m", "scaling", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 1
    assert re.search(r"lacks the package \w+; use .venv/bin/python", done.stderr)
    assert done.stderr.count("\n") == 1


SERVER, FOLDER = "http://127.0.0.1:9/v1", "data/models/ladder/0.1M/1e12"


@pytest.mark.parametrize(
    ("model", "task", "option", "needed"),
    [
        (SERVER, "sums", "--model-defaults", "a model in memory"),
        (SERVER, "sums", "--quantize 8bit", "a model in memory"),
        (SERVER, "sums", "--executor local", "a model in memory"),
        (SERVER, "sums", "--dtype bfloat16", "a model in memory"),
        (SERVER, "sums", "--skip-long", "a model in memory"),
        (SERVER, "sums", "--no-chat", "a model in memory"),
        ("name --batch b", "sums", "--in-flight 3", "a server (--model http"),
        (FOLDER, "sums", "--served-name x", "a server (--model http"),
        (FOLDER, "sums", "--api chat", "a server (--model http"),
        (FOLDER, "sums", '--request {"a":1}', "a server (--model http"),
        (FOLDER, "sums", "--card c.json", "a server (--model http"),
        (FOLDER, "sums", "--prompt worked", "a benchmark (--task"),
        (FOLDER, "gym:gcd", "--newer-than 2024", "a benchmark's file"),
        (FOLDER, "sums", "--problems-file t.jsonl", "a benchmark's file"),
        (FOLDER, "sums", "--workers 3", "--executor or --dry-run"),
        (FOLDER, "sums", "--per-hour 2", "--dry-run"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(model, task, option, needed, capsys):
    message = refused(f"sample --model {model} --task {task} {option}", capsys, 1)
    assert f"{option.split()[0].replace('--no-', '--')} changes nothing here" in message
    assert needed in message


def test_import_fits_the_law_that_python_fits_and_counts_votes(tmp_path, capsys) -> None:
    draw = np.random.default_rng(0)
    rows = [
        {"problem": f"t{i}", "answer": "right" if passed else "wrong", "correct": bool(passed)}
        for i, p in enumerate(draw.beta(0.6, 1.8, 40))
        for passed in draw.random(16 - i % 3) < p
    ]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["import", str(path), "--law", "beta_binomial"]) == 0  # the format is recognised
    shown = capsys.readouterr().out
    table, _ = read_samples(path, "jsonl")
    assert str(fit("beta_binomial", *counts(table))) in shown
    assert "k ends at 14: 13 problems have no more samples, others up to 16" in shown
    lines = [line.split() for line in shown.splitlines()[2:7]]
    assert lines[0] == ["k", "pass@k", "low", "high", "majority", "low", "high"]
    assert lines[1][1:4] == lines[1][4:]  # one sample is its own vote
    by_hand = [  # the right answer has more than half of k = 8 drawn from n, or half a tie
        sum(hypergeom(n, c, 8).pmf(j) * (1 if j > 4 else 0.5 * (j == 4)) for j in range(9))
        for n, c in zip(*counts(table), strict=True)
    ]
    assert float(lines[4][4]) == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert main(["import", str(path), "--format", "jsonl", "--law", "exp_power"]) == 0
    assert "exp_power, 95 % intervals" in capsys.readouterr().out
    assert "did you mean 'exp_power'" in refused(f"import {path} --law exp_powr", capsys, 1)

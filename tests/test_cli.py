"""What every verb has in common."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hypergeom

from scaling.cli import build_parser, main
from scaling.cli.options import ONLY_FOR, PLAN
from scaling.fits import fit
from scaling.readers import counts, read_samples
from scaling.records import Plan
from scaling.runs import SELECTORS, Runs
from scaling.store.files import RECORD
from scaling.tasks import TASKS


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


@pytest.mark.parametrize(
    ("verb", "module"), [("drift", "tests.trust.drift"), ("bench", "benchmarks")]
)
def test_a_verb_that_has_moved_names_its_new_command(verb, module, capsys) -> None:
    with pytest.raises(SystemExit) as left:
        main([verb, "--task", "sums"])
    assert left.value.code == 2
    assert f"python -m {module}" in capsys.readouterr().err


def test_every_verb_has_a_file_that_does_it() -> None:
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    assert {"study", "sample", "fit", "verify", "external"} <= set(verbs.choices)
    for name, verb in verbs.choices.items():
        file, named = verb.get_default("run").args
        assert named == name
        assert callable(getattr(import_module(f"scaling.cli.{file}"), f"run_{name}"))


def test_help_and_the_verbs_that_read_need_no_torch() -> None:
    read = (
        "from scaling.cli import build_parser, reading, benchmarks, working; build_parser();"
        "import sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", read], check=True)


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
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot be resampled" in line]
    assert len(told) == 1  # it was told three times, each with a line of our code
    assert told[0].startswith("scaling: warning: one problem or family cannot be resampled")


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
    told = capsys.readouterr()
    assert "none drawn" not in told.out
    cut = [line for line in told.err.splitlines() if "max_new_tokens is 600, but" in line]
    assert len(cut) == 1
    assert "context of 512 leaves 508" in cut[0]
    pool = Runs.load(Path("out/runs"))[0]
    assert repr(pool) == (
        "Run(ones, tiny/1e9, best_of_n: 2 problems, 4 samples; "
        "coverage, majority, logprob, weighted logprob)"
    )
    assert main([*command, *plan]) == 0
    assert "4 samples, complete before: none drawn" in capsys.readouterr().out
    before = sorted(Path().iterdir()), sorted(Path("out").iterdir())
    assert main(["accuracy", "--runs", "out/runs"]) == 0
    assert main(["figures", "coverage", "--runs", "out/runs"]) == 0
    assert "next: python -m scaling check --runs out/runs --figures out/runs/figures" in (
        capsys.readouterr().out
    )
    assert (sorted(Path().iterdir()), sorted(Path("out").iterdir())) == before
    written = {path.name for path in Path("out/runs").rglob("*") if path.is_file()}
    assert {"accuracy.csv", "coverage.svg", "coverage.json", RECORD} <= written
    for path in ("out/runs", "out/runs/nope"):  # "manifest.json cannot be read: No such file"
        assert main(["report", path]) == 1
        assert f"{path} is no run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--import nothing --task sums", "--import nothing: it cannot be imported: ModuleNotFound"),
        (
            "--import own_tasks --task unseeded",
            "task ones: problems(n, split, seed) must give a l",
        ),
        ("--import own_tasks --task yes", "verify(problem, text) must give a Verdict, not True"),
        ("--task sms", "did you mean 'sums'? allowed: countdown, sums; `sample` takes benchmarks"),
        ("--task sums --method best", "unknown method 'best'"),
        ("--task sums --chains 0", "chains is 0; give"),
        ("--task sums", "holds no tokenizer.json"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(own, arguments, told, tmp_path, capsys) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    assert main(["sample", "--model", str(tmp_path), *arguments.split()]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_a_wrong_plan_or_task_is_told_before_torch_loads() -> None:
    code = (
        "import sys; from scaling.cli import main\n"
        "for wrong in ['sums --levels x', 'sums --chains 0', 'sms', 'sums --method best']:\n"
        "    assert main(['sample', '--model', 'm', '--task', *wrong.split()]) == 1\n"
        "try: main(['sample', '--model', 'm', '--task', 'sums', '--device', 'gpu'])\n"
        "except SystemExit as left: assert left.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "--device: device is 'gpu'; allowed: auto, cpu, cuda, cuda:0, … (see" in done.stderr


def test_a_python_without_the_packages_is_one_line() -> None:
    command = [sys.executable, "-S", "-m", "scaling", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 1
    assert "lacks the package numpy; use .venv/bin/python, which" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_option_is_not_shortened_and_a_notebook_that_is_not_there_is_told(capsys) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["sample", "--model", "m", "--task", "sums", "--chain", "8"])
    assert "did you mean --chains" in capsys.readouterr().err
    assert main(["notebooks", "notebooks/99.ipynb"]) == 1
    assert "no notebook notebooks/99.ipynb; there: notebooks/00_start" in capsys.readouterr().err


def test_help_says_a_word_on_every_field_of_a_plan() -> None:
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    shown = " ".join(verbs.choices["sample"].format_help().split())
    assert {f.name for f in fields(Plan)} == {*PLAN, "stop"}
    assert set(SELECTORS) <= set(re.findall(r"\w+", PLAN["method"]))
    assert "--chains CHAINS independent samples per problem; default: 64" in shown


SERVER, FOLDER = "http://127.0.0.1:9/v1", "data/models/ladder/0.1M/1e12"


@pytest.mark.parametrize(
    ("model", "task", "option", "needed"),
    [
        (SERVER, "sums", "--model-defaults", "a model in memory"),
        (SERVER, "sums", "--quantize 8bit", "a model in memory"),
        (SERVER, "sums", "--executor local", "a model in memory"),
        (SERVER, "sums", "--dtype bfloat16", "a model in memory"),
        (SERVER, "sums", "--skip-long", "a model in memory"),
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
    command = ["sample", "--model", *model.split(), "--task", task, *option.split()]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert f"{option.split()[0]} changes nothing here: it is for {needed}" in said


def test_every_option_of_sample_that_is_only_for_something_is_there() -> None:
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    known = {action.dest for action in verbs.choices["sample"]._actions}
    assert {name for names in ONLY_FOR.values() for name in names} <= known


def test_import_fits_the_law_that_python_fits_and_counts_votes(tmp_path, capsys) -> None:
    draw = np.random.default_rng(0)
    chance = draw.beta(0.6, 1.8, 40)
    rows = [
        {"problem": f"t{i}", "answer": "right" if passed else "wrong", "correct": bool(passed)}
        for i, p in enumerate(chance)
        for passed in draw.random(16 - i % 3) < p
    ]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["import", str(path), "--format", "jsonl"]
    assert main([*command, "--law", "beta_binomial"]) == 0
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
    assert main([*command, "--law", "exp_power"]) == 0
    assert "exp_power, 95 % intervals" in capsys.readouterr().out
    assert main([*command, "--law", "exp_powr"]) == 1
    assert "unknown law 'exp_powr'; did you mean 'exp_power'" in capsys.readouterr().err

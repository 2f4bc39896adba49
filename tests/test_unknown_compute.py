"""Models whose training, size or FLOPs nobody knows still get figures and a report."""

from __future__ import annotations

import json
import math
import random
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.compute import Shape
from scaling.figures.gallery import FIGURES
from scaling.records import ModelCard, Plan, Problem, Sample
from scaling.runs import Runs
from scaling.store import open_run

pytestmark = pytest.mark.usefixtures("quick", "svg_only")


def log(root: Path, card: ModelCard, rate: float, chains: int = 8) -> None:
    """Write a run of best-of-N on eight problems, right at a rate."""
    draw, problems = random.Random(card.name), [Problem(f"p{i}", "?", "1", "all") for i in range(8)]
    plan = Plan(chains=chains, max_new_tokens=8)
    with open_run(root, task="sums", card=card, plan=plan, problems=problems) as writer:
        for problem in problems:
            rows = []
            for chain in range(chains):
                right = draw.random() < rate
                answer, logprob = str(int(right)), -draw.random()
                verdict_fields = f"x={answer}", answer, right, logprob, logprob
                rows.append(Sample(problem.id, chain, 0, *verdict_fields, 4, 0, 4, 0.1, "stop"))
            writer.write(rows)
        writer.seal()


SERVED = ModelCard("a$b$c", 0, 0, math.nan, 0, identity="served")
FOLDER = ModelCard("folder", 10**6, 10**6, math.nan, 0, identity="folder")
SHAPE = Shape("llama", 64, 32, 1, 1, 1, 32, 96, 512, True, True, *[False] * 4, 1, False)
TRAINED = [
    replace(
        FOLDER, name=f"t{i}", train_flops=10.0 ** (9 + i), identity=f"t{i}", shape=asdict(SHAPE)
    )
    for i in range(5)
]


@pytest.mark.slow
@pytest.mark.parametrize("cards", [[SERVED], [TRAINED[0], SERVED],
                                   [FOLDER, SERVED, *TRAINED[:4]]], ids=len)  # fmt: skip
def test_figures_and_report_are_drawn_whatever_is_unknown_of_a_model(cards, tmp_path):
    for i, card in enumerate(cards):
        log(tmp_path / "runs", card, 0.1 * (i + 1))
    figures = ["figures", "--runs", tmp_path / "runs", "--figures", tmp_path / "figures"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # a task without a plane is named by a warning
        assert main([str(word) for word in figures]) == 0
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert {"coverage", "methods", "two_panels", "policy"} <= drawn
    assert ("plane" in drawn) == (len(cards) > 5)  # a plane takes three points and a training axis
    runs = [str(path) for path in sorted((tmp_path / "runs").iterdir())]
    assert main(["report", *runs, "-o", str(tmp_path / "report")]) == 0


def test_what_is_unknown_is_left_out_of_a_name_and_comes_first_in_order(tmp_path):
    for card in (TRAINED[1], FOLDER, SERVED, TRAINED[0]):
        log(tmp_path, card, 0.5, chains=2)
    pools = Runs.load(tmp_path).select("sums", "best_of_n")
    assert [pool.card.name for pool in pools] == ["a$b$c", "folder", "t0", "t1"]
    names = [pool.model_name for pool in pools]
    assert names == [r"a\$b\$c", "1.0 M", "1.0 M, 10⁹", "1.0 M, 10¹⁰"]
    assert pools[0].size_name == r"a\$b\$c"  # two servers are two sizes, not both "0.0 M"


def test_a_folder_without_a_card_goes_from_a_benchmark_to_figures_and_a_report(
    tiny_folder, tmp_path, capsys
):
    for path in tiny_folder.iterdir():
        if path.name != "card.json":
            (tmp_path / "model" / path.name).parent.mkdir(exist_ok=True)
            (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    rows = [{"question": f"{i}+{i}?", "answer": f"<<{i}+{i}={2 * i}>>\n#### {2 * i}"}
            for i in range(6)]  # fmt: skip
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["sample", "--model", str(tmp_path / "model"), "--task", "gsm8k", "--prompt", "bare"]
    command += ["--problems-file", str(tmp_path / "test.jsonl"), "--runs", str(tmp_path / "runs")]
    assert main([*command, "--chains", "4", "--max-new-tokens", "8"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    figures = ["figures", "--runs", str(run.parent), "--figures", str(tmp_path / "figures")]
    assert main(figures) == 0  # once: not enough values to unpack
    assert "not drawn, their runs are missing: plane, search" in capsys.readouterr().out
    assert main(["report", str(run), "-o", str(tmp_path / "report")]) == 0
    capsys.readouterr()
    assert math.isnan(Runs.load(run.parent)[0].card.train_flops)
    assert set(FIGURES) > {path.stem for path in (tmp_path / "figures").glob("*.svg")}

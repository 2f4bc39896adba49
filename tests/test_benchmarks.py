"""Benchmark rows and graders: against published labels, hostile answers, and their own oracles."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import signal
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.benchmarks import (
    READERS,
    Benchmark,
    Row,
    audit,
    load_benchmark,
    own_prompts,
    records,
)
from scaling.benchmarks.grading import SCORERS, evaluate
from scaling.benchmarks.gym import ALLOWED, check, gym_benchmark
from scaling.benchmarks.symbolic import Evaluator, TooLong, formula_key, time_limit
from scaling.cli import main
from scaling.records import Verdict, turns_of
from scaling.report.leaderboard import thinking_tokens
from scaling.runs import load_run
from tests.test_families import CHAT, save

EXTERNAL = Path(os.environ.get("SCALING_EXTERNAL", Path(__file__).parents[1] / "data" / "external"))


def external_file(name: str) -> Path:
    """Return a third-party file; skip where it is absent."""
    path = EXTERNAL / name
    if not path.exists():
        pytest.skip(f"no {path}: set SCALING_EXTERNAL")
    return path


def lines(path: Path, *rows: object) -> Path:
    path.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return path


def grade(scorer: str, expected: str, text: str, **meta: object) -> bool:
    return SCORERS[scorer](expected, text, meta).correct


# ---------------------------------------------------------------- agreement with labels
def test_grading_gsm8k_agrees_with_the_published_labels_of_four_models():
    task = load_benchmark("gsm8k", external_file("gsm8k/test.jsonl"))
    ids = {row.prompt: row.id for row in task.rows.values()}
    found = [row for _, row in records(external_file("gsm8k/example_model_solutions.jsonl"))]
    models = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
    labelled = [
        (ids[row["question"]], row[m]["solution"], row[m]["is_correct"])
        for row in found
        for m in models
    ]
    assert audit(task, labelled) == (4 * 1319, [])


def test_grading_game_of_24_agrees_with_the_published_labels_of_ten_thousand_samples():
    task = load_benchmark("game24", external_file("tree-of-thoughts/24.csv"))
    name = "tree-of-thoughts/game24/gpt-4_0.7_naive_cot_sample_100_start900_end1000.json"
    ids, found = list(task.rows), json.loads(external_file(name).read_text())
    labelled = [
        (ids[row["idx"]], text, bool(info["r"]))
        for row in found
        for text, info in zip(row["ys"], row["infos"], strict=True)
    ]
    n, odd = audit(task, labelled)
    assert (n, odd) == (10_000, [])
    assert sum(label for *_, label in labelled) == 403


def test_reference_solutions_of_math_are_right_and_those_of_other_problems_wrong():
    pytest.importorskip("latex2sympy2_extended")
    path = external_file("math500/test.jsonl")
    task = load_benchmark("math500", path)
    found = [row for _, row in records(path)]
    assert audit(task, [(row["unique_id"], row["solution"], True) for row in found]) == (500, [])
    whole = [row for row in found if row["answer"].isdigit()]
    assert len(whole) > 250
    moved = itertools.pairwise(whole)
    crossed = [(a["unique_id"], b["solution"], a["answer"] == b["answer"]) for a, b in moved]
    assert audit(task, crossed) == (len(crossed), [])


@pytest.mark.parametrize(
    ("reader", "name", "n"),
    [("svamp", "svamp/SVAMP.json", 1000), ("contest", "olymmath/OlymMATH-EN-HARD.jsonl", 100)],
)
def test_published_files_are_read_whole(reader, name, n):
    task = load_benchmark(reader, external_file(name))
    assert len(task.problems(10**6)) == n
    assert not task.left_out


# ---------------------------------------------------------------- answers
@pytest.mark.parametrize("formula", ["9^{9^{9}}", "(10^{12})!"])
def test_a_formula_that_takes_too_long_is_named_and_the_next_one_waits_for_nothing(formula):
    pytest.importorskip("latex2sympy2_extended")
    judge = Evaluator()
    try:
        same, used = judge.key("x+1")
        assert 0 <= used < 0.9
        process = judge.process
        says = "is not evaluated: .* takes more than 0.9 s of CPU"
        with pytest.warns(UserWarning, match=says), pytest.raises(TooLong):
            judge.key(formula)
        assert judge.key("1+x")[0] == same != judge.key("x+2")[0]
        assert (judge.killed, judge.process) == (1, process)
    finally:
        judge.close()


def test_an_answer_that_takes_too_long_is_wrong_and_votes_for_its_own_text():
    pytest.importorskip("latex2sympy2_extended")
    with pytest.warns(UserWarning, match="is not evaluated"):
        verdict = SCORERS["math"]("1", "\\boxed{8^{9^{9}} + 0}", {})
    assert verdict == Verdict("8^{9^{9}}+0", False)


def test_the_formulas_of_one_answer_share_its_time():
    pytest.importorskip("latex2sympy2_extended")
    listed = ", ".join(f"{n}^{{9^{{9}}}}" for n in range(2, 20))
    with pytest.warns(UserWarning, match="is not evaluated") as warned:
        assert SCORERS["math"]("1", f"\\boxed{{{listed}}}", {}).correct is False
    assert len(warned) == 1
    with time_limit():
        formula_key("\\sum_{n=1}^{10^8} 1/n")
        with pytest.warns(UserWarning, match="takes more than 0.[0-8]"), pytest.raises(TooLong):
            formula_key("7^{9^{9}}")


def test_a_judge_that_does_not_answer_any_more_is_started_anew():
    pytest.importorskip("latex2sympy2_extended")
    judge = Evaluator()
    try:
        same = judge.key("x+1")[0]
        os.kill(judge.process.pid, signal.SIGSTOP)
        judge.wait = 0.3
        with pytest.warns(UserWarning, match="is not evaluated"), pytest.raises(TooLong):
            judge.key("1+x")
        judge.wait = 60.0
        assert judge.key("1+x")[0] == same
        assert judge.killed == 1
    finally:
        judge.close()


def test_an_expression_must_use_each_number_once_and_hit_the_target():
    given = {"numbers": [4, 5, 6, 10], "target": 24}
    for text, right in {
        "Answer: (5 * (10 - 4)) - 6 = 24": True,
        "Answer: 4 * 6 = 24": False,
        "Answer: 4 + 5 + 6 + 10": False,
        "4 × (10 − 5) − 6 …": False,
    }.items():
        assert grade("expression", "24", text, **given) is right


HOSTILE = (
    """2**9|__import__('os').getcwd()|x + 1|1.5|True + 1|1/0|f(1)|[1][0]|lambda: 1|1 if 1 else 2|"""
)


@pytest.mark.parametrize("text", [*HOSTILE.split("|"), "(" * 150, "1 " * 200, "9" * 12])
def test_no_code_is_run_for_an_expression(text):
    with pytest.raises(ValueError, match=r"."):
        evaluate(text)


def test_the_value_of_an_expression_is_exact():
    assert evaluate("8 / (3 - 8 / 3)") == (Fraction(24), [8, 3, 8, 3])


# ---------------------------------------------------------------- generators
@pytest.mark.parametrize("name", ALLOWED)
def test_every_generator_on_the_list_takes_its_oracle_and_refuses_corrupted_answers(name):
    pytest.importorskip("reasoning_gym")
    task = gym_benchmark(name, 6, seed=3)
    for row in task.rows.values():
        check(row)
        problem = task.problems(1)[0]
        assert task.verify(problem, f"Answer: {problem.answer}").correct


def test_the_check_of_a_generator_can_fail():
    wrong = Row("0", "g", "g", "1+1?", "two", "all", "number")
    with pytest.raises(ValueError, match="its own answer 'two' is not accepted"):
        check(wrong)
    with pytest.raises(ValueError, match=r"unknown generator .* did you mean 'chain_sum'"):
        gym_benchmark("chain_sums", 1)


# ---------------------------------------------------------------- files
GSM = {"question": "1+1?", "answer": "<<1+1=2>>\n#### 2"}
LIVE = {
    "question_id": "a",
    "category": "math",
    "task": "math_comp",
    "turns": ["Which?"],
    "ground_truth": "C",
    "livebench_release_date": "2024-06-24 00:00:00",
}


def test_livebench_is_stratified_by_category_and_keeps_release_dates(tmp_path):
    others = (
        {"ground_truth": "025"},
        {"livebench_release_date": "2024-11-25"},
        {"task": "plot_unscrambling", "category": "language"},
        {"task": "zebra_puzzle", "category": "reasoning", "ground_truth": "red"},
        {"task": "typos", "category": "language", "ground_truth": "It was late."},
        {"task": "cta", "category": "data_analysis", "ground_truth": "Country"},
    )
    rows = [
        LIVE,
        *(LIVE | row | {"question_id": id} for id, row in zip("bcdefg", others, strict=True)),
    ]
    path = lines(tmp_path / "q.jsonl", *rows)
    task = load_benchmark("livebench", path)
    assert task.levels == ("math", "reasoning", "language", "data_analysis")
    assert task.left_out == {"of task plot_unscrambling, not decided by one true answer": 1}
    problems = {problem.id: problem for problem in task.problems(9)}
    assert task.verify(problems["a"], "so CCCCC").correct
    assert task.verify(problems["b"], "so 025").correct
    assert task.verify(problems["e"], "***Red***").correct
    assert task.verify(problems["f"], "<solution>\nIt was late.\n</solution>").correct
    assert task.verify(problems["g"], "**country**").correct
    late = load_benchmark("livebench", path, newer_than="2024-06-24")
    assert list(late.rows) == ["c"]
    assert late.notes["newer_than"] == "2024-06-24"
    with pytest.raises(ValueError, match=r"has no problem left .*6 not newer than 2025"):
        load_benchmark("livebench", path, newer_than="2025-01-01")


def test_a_date_is_refused_where_the_file_has_none(tmp_path):
    path = lines(tmp_path / "t.jsonl", GSM)
    with pytest.raises(ValueError, match="1 without a release date"):
        load_benchmark("gsm8k", path, newer_than="2024-01-01")
    with pytest.raises(ValueError, match="'yesterday' is no date; give one as 2024-06-24"):
        load_benchmark("gsm8k", path, newer_than="yesterday")


def test_the_same_rows_come_from_json_lines_and_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    jsonl = lines(tmp_path / "t.jsonl", GSM, GSM | {"question": "2+2?"})
    pq.write_table(pa.Table.from_pylist([r for _, r in records(jsonl)]), tmp_path / "t.parquet")
    one, two = (load_benchmark("gsm8k", tmp_path / f"t.{kind}") for kind in ("jsonl", "parquet"))
    assert one.rows == two.rows


OWN = {"id": "1", "prompt": "?", "answer": "1", "scorer": "number"}
TURN, REPLY = {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.jsonl", '{"question": "é"}'.encode("utf-16")),
        ("t.jsonl.gz", b"plain"),
        ("t.jsonl.gz", gzip.compress(b"x" * 9000, mtime=0)[:30]),
        ("t.parquet", b"PAR1"),
    ],
    ids=["utf-16", "no gzip", "cut gzip", "no parquet"],
)
def test_a_file_of_another_kind_is_one_line_that_names_it(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as (jsonl|parquet): .*; restore"):
        load_benchmark("gsm8k", tmp_path / name)


DRAWING = '[asy] draw((0,0)--(4,0)--(4,3)--cycle); label("4",(2,0),S); label("3",(4,1.5),E); [/asy]'


def math_row(question: str, solution: str) -> dict[str, str]:
    return {"problem": question, "solution": solution, "level": "Level 2", "type": "Geometry"}


def test_a_file_like_the_math_test_set_is_read_whole(tmp_path):
    """5,000 problems without ids, 60 pairs of which share a long start; boxes without braces."""
    rows = [math_row(f"What is ${i}+1$?", f"It is $\\boxed{{{i + 1}}}$.") for i in range(4879)]
    rows += [
        math_row(f"{DRAWING} {i}: {ask}?", f"It is $\\boxed{{{i}}}$.")
        for i in range(60)
        for ask in ("area", "perimeter")
    ]
    for i, row in enumerate(rows[4879:]):  # the pairs of one number share 80 characters and more
        row["problem"] = f"{i // 2:03} {row['problem']}"
    rows.append(math_row("Find the larger root.", "It is $\\boxed 5$, not $2$."))
    task = load_benchmark("math500", lines(tmp_path / "math.jsonl", *rows))
    assert len(task.rows) == 5000
    assert sum(len(id) > 80 for id in task.rows) == 60
    assert task.rows["Find the larger root."].answer == "5"
    assert task.verify(task.problems(5000)[-1], "\\boxed{5}").correct
    again = [*rows, rows[4999], rows[4900]]
    with pytest.raises(ValueError, match=r"line 5001: id Find the larger root\. came before, line"):
        load_benchmark("math500", lines(tmp_path / "twice.jsonl", *again))


def test_the_prompt_file_is_put_around_the_last_turn_of_a_conversation(tmp_path):
    asks = [{"role": "system", "content": "Be brief."}, TURN, REPLY, TURN | {"content": "1+1"}]
    rows = [OWN | {"messages": asks}, OWN | {"id": "2", "messages": [TURN]}]
    path, own = lines(tmp_path / "t.jsonl", *rows), tmp_path / "own.txt"
    own.write_text("Q {question}")
    several, one = load_benchmark("rows", path, prompt=str(own)).problems(2)
    assert turns_of(several.prompt) == [*asks[:3], TURN | {"content": "Q 1+1"}]
    assert one.prompt == "Q ?"
    assert turns_of('[{"role": "user"') == [TURN | {"content": '[{"role": "user"'}]


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("gsm8k", [GSM, "{nonsense\n"], r"line 2 is no JSON"),
        ("gsm8k", [GSM, {"question": "?"}], r"line 2 is no gsm8k problem: no field 'answer'"),
        ("gsm8k", [{"question": "?", "answer": "3"}], r"line 1 .*answer has no ####"),
        ("gsm8k", [{"question": "?", "answer": "x ####  "}], r"problem 0 has no answer"),
        ("livebench", [LIVE, LIVE], r"line 2: id a came before, line 1"),
        ("rows", [{"id": "1", "prompt": "?", "answer": "1", "scorer": "vibes"}], r"'vibes'; allow"),
        ("rows", [{"id": "1", "prompt": "?", "answer": "1"}], r"scorer is None; allowed: "),
        ("rows", [OWN | {"answer": None}], r"line 1: problem 1 has no answer"),  # was "None"
        ("contest", [{"problem": "?", "answer": None}], r"problem 0 has no answer"),
        ("rows", [OWN, OWN | {"id": 1}], r"line 2: id 1 came before, line 1"),
        ("rows", [OWN | {"metaa": {}}], r"unknown field metaa; allowed: answer, id"),
        ("rows", [OWN | {"meta": None}], r"meta is None; give an object"),
        ("rows", [OWN | {"prompt": ["?"]}], r"prompt is \['\?'\]; give text"),
        ("rows", ["[1, 2]\n"], r"entry 1 is no object of fields but '1'"),
        ("rows", [OWN | {"messages": "hi"}], r"messages are a list of {role, content}"),
        ("rows", [OWN | {"messages": [TURN, REPLY]}], r"the user's last"),
        ("rows", [OWN | {"messages": [TURN | {"content": [{}]}]}], r"text only"),
        ("gsm9k", [GSM], r"unknown benchmark 'gsm9k'; did you mean 'gsm8k'"),
    ],
)
def test_a_malformed_file_is_one_line_that_names_the_place(tmp_path, name, rows, message):
    with pytest.raises(ValueError, match=message):
        load_benchmark(name, lines(tmp_path / "t.jsonl", *rows))


def test_a_prompt_is_a_file_around_the_question_and_its_hash_is_kept(tmp_path):
    path = lines(tmp_path / "t.jsonl", GSM)
    assert {reader.prompt for reader in READERS.values()} <= set(own_prompts())
    few, own = load_benchmark("gsm8k", path), tmp_path / "own.txt"
    assert few.problems(1)[0].prompt.endswith("Question: 1+1?\nAnswer:")
    own.write_text("Q {question}")
    other = load_benchmark("gsm8k", path, prompt=str(own))
    assert other.problems(1)[0].prompt == "Q 1+1?"
    assert other.notes["prompt_sha256"] != few.notes["prompt_sha256"]
    own.write_text("no place for it")
    with pytest.raises(ValueError, match="0 times; once is needed"):
        load_benchmark("gsm8k", path, prompt=str(own))
    with pytest.raises(ValueError, match="no prompt 'ten-shot': give a file, or one of bare"):
        load_benchmark("gsm8k", path, prompt="ten-shot")


def test_a_smaller_choice_of_problems_is_part_of_a_larger_one():
    rows = [Row(str(i), "s", "s", f"{i}?", str(i), "all", "number") for i in range(50)]
    task = Benchmark("s", rows)
    few, many = ([p.id for p in task.problems(n)] for n in (10, 20))
    assert set(few) < set(many)
    assert many == sorted(many, key=int)
    assert {p.id for p in task.problems(10, seed=1)} != set(few)


# ---------------------------------------------------------------- the command line
def test_audit_prints_agreement_and_what_to_look_at(tmp_path, capsys):
    path = lines(tmp_path / "t.jsonl", GSM)
    labels = [{"id": "0", "text": "#### 2", "correct": True}]
    labels += [{"id": "0", "text": "#### 3", "correct": True}]
    arguments = ["--task", "gsm8k", "--problems-file", str(path)]
    assert main(["audit", *arguments, str(lines(tmp_path / "labels.jsonl", *labels))]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "1 of 2 texts are marked as the labels mark them"
    assert json.loads(shown[1])["read"] == "3"


def test_a_benchmark_is_sampled_and_its_leaderboard_has_intervals_and_cost(
    tiny_folder, tmp_path, capsys
):
    rows = [LIVE | {"question_id": str(i), "ground_truth": "7"} for i in range(4)]
    rows += [LIVE | {"question_id": f"r{i}", "task": "spatial", "category": "r"} for i in range(4)]
    arguments = ["--task", "livebench", "--problems-file", str(lines(tmp_path / "q.jsonl", *rows))]
    sample = ["sample", "--model", str(tiny_folder), *arguments, "--chains", "4"]
    assert main([*sample, "--max-new-tokens", "8", "--runs", str(tmp_path / "runs")]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    session = json.loads((run / "manifest.json").read_text())["sessions"][0]
    assert session["extra"]["prompt"] == "bare.txt"
    assert len(session["extra"]["prompt_sha256"]) == 64
    capsys.readouterr()
    name = json.loads((run / "manifest.json").read_text())["identity"]["model"]["name"]
    (tmp_path / "prices.csv").write_text(f"model,input,output\n{name},2,8\n")
    assert main(["leaderboard", str(run), "--prices", str(tmp_path / "prices.csv")]) == 0
    header, *body = capsys.readouterr().out.splitlines()
    assert {"accuracy", "low", "high", "tokens", "price", "n_problems"} <= set(header.split())
    assert [line.split()[1] for line in body] == ["all", "math", "r"]
    assert all("nan" not in line.lower() for line in body)


def test_prompts_that_do_not_fit_are_reported_before_sampling(tiny_folder, tmp_path, capsys):
    rows = [OWN | {"id": str(i)} for i in range(12)] + [OWN | {"id": "long", "prompt": "1+" * 400}]
    path = lines(tmp_path / "t.jsonl", *rows)
    command = ["sample", "--model", str(tiny_folder), "--task", "rows", "--chains", "2"]
    command += ["--problems-file", str(path), "--runs", str(tmp_path / "runs")]
    for more in ([], ["--dry-run"], ["--executor", "local", "--workers", "1"]):
        assert main([*command, *more]) == 1
        shown = capsys.readouterr().err
        assert "1 of 13 prompts are too long, the first that of 'long' with 800 tokens" in shown
    assert not list((tmp_path / "runs").glob("*/parts/*"))


def test_problems_that_do_not_fit_are_left_out_and_counted_where_that_is_asked_for(
    tiny_folder, tmp_path, capsys
):
    rows = [OWN | {"id": str(i)} for i in range(3)] + [OWN | {"id": "long", "prompt": "1+" * 400}]
    command = ["sample", "--model", str(tiny_folder), "--task", "rows", "--chains", "2"]
    command += ["--max-new-tokens", "4", "--skip-long", "--runs", str(tmp_path / "runs")]
    file = str(lines(tmp_path / "t.jsonl", *rows))
    assert main([*command, "--problems-file", file]) == 0
    reason = "prompt beyond the model's context of 512"
    assert f"rows: 1 of 4 problems left out, {reason}" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["sessions"][0]["extra"]["left_out"] == {reason: 1}
    assert list(load_run(run).problems["id"]) == ["0", "1", "2"]
    assert main([*command, "--problems-file", str(lines(tmp_path / "l.jsonl", rows[3]))]) == 1
    assert "1 of 1 prompts are too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompt", "stop"),
    [("worked", "\nQuestion:"), ("game24", "\nInput:"), ("question", "\nQuestion:"), ("bare", "")],
)
def test_the_next_question_of_a_few_shot_prompt_ends_an_answer(tmp_path, prompt, stop):
    task = load_benchmark("gsm8k", lines(tmp_path / "t.jsonl", GSM), prompt=prompt)
    assert task.stop == ((stop,) if stop else ())
    prompted = "\n" + task.problems(1)[0].prompt
    assert prompted.rpartition(stop or "\n")[2].lstrip().startswith("1+1?")


SHOTS = {  #: prompt files as people write them -> (label that stops, user's first turn, reply)
    "worked": ("\nQuestion:", "Question: A baker", "There are 6 * 8"),
    "game24": ("\nInput:", "Use each of the four numbers", "4 * 6 = 24"),
    "Q: 1+1\nA: 2\n\nQ: {question}\nA:": ("\nQ:", "Q: 1+1\nA:", "2"),
    "Be brief.\n\nQ: 1+1\nA: Let's see. 2\n\nQ: {question}\nA: Let's see.": (
        "\nQ:", "Be brief.\n\nQ: 1+1\nA:", "2"
    ),
    "Problem:\n1+1\nSolution:\n2\n\nProblem:\n{question}\nSolution:\n": (
        "\nProblem:", "Problem:\n1+1\nSolution:", "2"
    ),
    "### Question\n1+1\n### Answer\n2\n\n### Question\n{question}\n### Answer\n": (
        "\n### Question", "### Question\n1+1\n### Answer", "2"
    ),
}  # fmt: skip


@pytest.mark.parametrize("prompt", SHOTS)
def test_worked_examples_are_turns_of_a_conversation_and_text_for_a_base_model(tmp_path, prompt):
    stop, first, reply = SHOTS[prompt]
    if "{question}" in prompt:
        (tmp_path / "own.txt").write_text(prompt)
        prompt = str(tmp_path / "own.txt")
    task = load_benchmark("gsm8k", lines(tmp_path / "t.jsonl", GSM), prompt=prompt)
    assert task.stop == (stop,)
    (problem,) = task.problems(1)
    assert len(turns_of(problem.prompt)) == 1
    chat = task.as_turns(problem)
    turns = turns_of(chat.prompt)
    assert [turn["role"] for turn in turns] == [*["user", "assistant"] * (len(turns) // 2), "user"]
    assert len(turns) > 2
    assert turns[0]["content"].startswith(first)
    assert turns[1]["content"].startswith(reply)
    assert "1+1?" in turns[-1]["content"]
    label = stop.strip()
    assert all(turn["content"].count(label) == (turn["role"] == "user") for turn in turns)
    assert task.as_turns(chat) == chat  # done once
    assert f"{len(turns) // 2} worked examples as turns" in task.describe_prompt(chat=True)
    assert "worked examples as plain text" in task.describe_prompt(chat=False)


def test_worked_examples_follow_the_system_message_of_a_problem(tmp_path):
    row = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "1+1?"}]}
    row |= {"answer": "2", "scorer": "number"}
    task = load_benchmark("rows", lines(tmp_path / "t.jsonl", row), prompt="worked")
    turns = turns_of(task.as_turns(task.problems(1)[0]).prompt)
    assert [turn["role"] for turn in turns] == ["system", *["user", "assistant"] * 4, "user"]


@pytest.mark.parametrize(
    "question",
    [
        "\nQuestion: 2+2?\nAnswer: 4",
        "\n\n**Question:** 4",
        "\n## Question 2: 4",
        "\nQuestion #2: 4",
    ],
)
def test_an_invented_next_question_never_reaches_the_grader(tmp_path, question):
    """The answer to that question was graded, for 41 % of the samples of a small chat model."""
    task = load_benchmark("gsm8k", lines(tmp_path / "t.jsonl", GSM))
    (problem,) = task.problems(1)
    for text in ("It is 2." + question, "#### 2\n" + question):
        assert task.verify(problem, text).correct
    assert task.verify(problem, "Questions have answers: 2").correct
    free = load_benchmark("gsm8k", lines(tmp_path / "t.jsonl", GSM), prompt="bare")
    assert not free.verify(problem, "It is 2." + question).correct  # no label, so no next question


@pytest.mark.parametrize("chat", [True, False])
def test_the_first_line_names_the_prompt_and_what_ends_a_sample(tmp_path, capsys, chat):
    from tests.faulty_server import serve

    command = ["sample", "--task", "gsm8k", "--chains", "4", "--runs", str(tmp_path / "runs")]
    command += ["--problems-file", str(lines(tmp_path / "t.jsonl", GSM))]
    with serve() as (url, state), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one problem cannot be resampled
        assert main([*command, "--model", url, "--api", "chat" if chat else "completions"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    how = "turns" if chat else "plain text"
    assert first == (
        f"gsm8k: prompt worked.txt, 4 worked examples as {how}; '\\nQuestion:' ends a sample"
    )
    prompted = [body for body in state.bodies if body.get("stop")]
    assert {tuple(body["stop"]) for body in prompted} == {("\nQuestion:",)}
    assert max(len(body.get("messages", [])) for body in prompted) == (9 if chat else 0)


def test_the_documentation_lists_the_default_prompts():
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text()
    for name, reader in READERS.items():
        assert re.search(rf"^\| `{name}` \| `{reader.prompt}` \|", page, re.M), name


@pytest.mark.parametrize(
    ("template", "options", "stop"),
    [
        (None, [], ["\nQuestion:"]),
        (None, ["--stop", "ab"], ["ab"]),
        (None, ["--stop"], None),
        (CHAT, [], ["\nQuestion:"]),
        (CHAT, ["--no-chat"], ["\nQuestion:"]),
    ],
)
def test_every_model_stops_at_the_next_question_unless_stop_says_otherwise(
    tmp_path, template, options, stop
):
    folder = save(tmp_path / "m", template=template, max_position_embeddings=512)
    command = ["sample", "--model", str(folder), "--task", "gsm8k", "--prompt", "question"]
    command += ["--problems-file", str(lines(tmp_path / "t.jsonl", GSM)), "--chains", "2"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one problem cannot be resampled
        runs = ["--max-new-tokens", "4", "--runs", str(tmp_path / "runs")]
        assert main([*command, *runs, *options]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert load_run(run).plan.to_dict().get("stop") == (stop and tuple(stop))


def test_levels_choose_among_a_benchmark_s_and_an_unknown_one_names_the_nearest(tmp_path):
    path = lines(tmp_path / "q.jsonl", LIVE, LIVE | {"question_id": "b", "category": "reasoning"})
    task = load_benchmark("livebench", path)
    assert list(task.only(["math"]).rows) == ["a"]
    assert task.only(["math"]).notes["left_out"] == {"of other levels": 1}
    assert "left_out" not in task.only(["math", "reasoning"]).notes
    with pytest.raises(ValueError, match="unknown level of livebench 'reasonin'; did you mean 're"):
        task.only(["reasonin"])
    command = ["audit", "--task", "livebench", "--problems-file", str(path), str(path)]
    assert main(command) == 1  # it has no --levels


def test_thinking_is_counted_by_its_share_of_the_text():
    class Run:
        problems = pd.DataFrame({"id": ["a", "b"]})
        samples = pd.DataFrame({"problem": ["a", "a", "b"], "completion_tokens": [40, 10, 7]})

    Run.samples["thinking_tokens"] = None
    assert np.isnan(thinking_tokens(Run)).all()  # the texts were not loaded
    Run.samples["text"] = ["<think>" + "x" * 25 + "</think>", "no thought", "a = 7"]
    assert list(thinking_tokens(Run)) == [40 * 25 / 40 / 2, 0]
    Run.samples["thinking_tokens"] = [30, None, 0]  # what was counted goes before
    assert list(thinking_tokens(Run)) == [15, 0]

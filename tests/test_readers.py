"""Other people's samples: small files in each tool's format, and what is wrong in them."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from scaling.cli import main
from scaling.cli.reading import Format
from scaling.estimates import best_of_k, pass_at_k
from scaling.readers import COLUMNS, FORMATS, counts, detect_format, read_samples

DATA = Path(__file__).parent / "data"


def write_lines(path, records):
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in records))
    return path


def lm_eval(doc, texts, value, **more):
    """Return one line as `--log_samples` writes it; `value` is its exact_match."""
    return {
        "doc_id": doc,
        "doc": {"question": "1+1"},
        "target": "2",
        "arguments": {"gen_args_0": {"arg_0": "1+1", "arg_1": {"until": []}}},
        "resps": [texts],
        "filtered_resps": texts[:1],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": "0",
        "exact_match": value,
    } | more


def inspect_sample(problem, epoch, value, **more):
    usage = {"a/b": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}}
    return {
        "id": problem,
        "epoch": epoch,
        "input": "1+1",
        "target": "2",
        "output": {"model": "a/b", "choices": []},
        "scores": {"match": {"value": value, "answer": "2", "explanation": "..."}},
        "model_usage": usage,
    } | more


def write_eval(path, samples):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "status": "success"}))
        for s in samples:
            archive.writestr(f"samples/{s['id']}_epoch_{s['epoch']}.json", json.dumps(s))
    return path


def test_human_eval_samples_are_numbered_within_their_problem(tmp_path):
    rows = [("HumanEval/0", True), ("HumanEval/1", False), ("HumanEval/0", False)]
    records = [
        {"task_id": t, "completion": f"x{i}", "result": "passed" if p else "failed", "passed": p}
        for i, (t, p) in enumerate(rows)
    ]
    table, rejected = read_samples(write_lines(tmp_path / "r.jsonl", records), "human-eval")
    assert list(table.columns) == list(COLUMNS)
    assert table.problem.tolist() == ["HumanEval/0", "HumanEval/1", "HumanEval/0"]
    assert table.chain.tolist() == [0, 0, 1]
    assert table.correct.tolist() == [1, 0, 0]
    assert table.answer.tolist() == ["x0", "x1", "x2"]
    assert table.completion_tokens.isna().all()
    assert not rejected


def test_malformed_lines_are_named_by_number_and_the_others_read(tmp_path):
    good = {"task_id": "a", "completion": "x", "passed": True}
    lines = [good, "{half\n", "\n", "[1]\n", {"task_id": "a"}, good | {"passed": None}, good]
    table, rejected = read_samples(write_lines(tmp_path / "r.jsonl", lines), "human-eval")
    assert [where for where, _ in rejected] == ["line 2", "line 4", "line 5", "line 6"]
    assert rejected[2][1] == "no field 'passed'"
    assert rejected[3][1] == "1 of 1 samples: no verdict: there is no value"
    assert table.correct.tolist() == pytest.approx([1, np.nan, 1], nan_ok=True)
    assert [int(x[0]) for x in counts(table)] == [2, 2]


def test_lm_eval_keeps_every_repeat_each_with_its_verdict(tmp_path):
    lines = [lm_eval(0, ["2", "3", "2"], [1.0, 0.0, 1.0]), lm_eval(1, ["2", "2", "4"], [1, 1, 0])]
    table, rejected = read_samples(write_lines(tmp_path / "s.jsonl", lines), "lm-eval")
    assert len(table) == 6
    assert table.answer.isna().all()  # one of three was extracted: a vote of one would mislead
    n, c = counts(table)
    assert n.tolist() == [3, 3]
    assert c.tolist() == [2, 2]
    assert not rejected
    each = lm_eval(0, ["it is 2", "it is 3"], [1, 0], filtered_resps=[["2", "3"]], filter="each")
    table, _ = read_samples(write_lines(tmp_path / "s.jsonl", [each]), "lm-eval")
    assert table.answer.tolist() == ["2", "3"]


def test_lm_eval_gives_one_verdict_to_no_repeat_that_was_not_judged(tmp_path):
    first = [lm_eval(0, ["2", "3"], 1.0), lm_eval(2, ["5", "5"], 0.0)]
    table, rejected = read_samples(write_lines(tmp_path / "s.jsonl", first), "lm-eval")
    assert table.correct.tolist() == pytest.approx([1, np.nan, 0, np.nan], nan_ok=True)
    why = "1 of 2 samples: no verdict: only the first of 2 repeats was judged"
    assert rejected == [("line 1", why), ("line 2", why)]
    votes = [lm_eval(i, ["3", "2", "2"], 1.0, filter="maj@3", filtered_resps=["2"]) for i in (0, 1)]
    table, rejected = read_samples(write_lines(tmp_path / "s.jsonl", votes), "lm-eval")
    assert table.correct.isna().all()
    assert "the filter 'maj@3' made one answer of 3 repeats" in rejected[0][1]


def test_lm_eval_filters_are_chosen_and_never_mixed(tmp_path):
    lines = [lm_eval(0, ["2"], 0.0, filter="strict"), lm_eval(0, ["2"], 1.0, filter="flexible")]
    path = write_lines(tmp_path / "s.jsonl", lines)
    with pytest.raises(ValueError, match=r"2 filters.*: strict, flexible; choose one with filter="):
        read_samples(path, "lm-eval")
    for name, verdict in (("strict", 0), ("flexible", 1)):
        table, rejected = read_samples(path, "lm-eval", filter=name)
        assert table.correct.tolist() == [verdict]
        assert not rejected
    with pytest.raises(ValueError, match="unknown filter 'strit'; did you mean 'strict'"):
        read_samples(path, "lm-eval", filter="strit")


def test_lm_eval_logs_of_before_metrics_were_listed_are_read_or_named(tmp_path):
    old = lm_eval(0, ["2"], 1.0)
    del old["metrics"]
    bare = old | {"doc_id": 1}
    del bare["exact_match"]
    table, rejected = read_samples(write_lines(tmp_path / "s.jsonl", [old, bare]), "lm-eval")
    assert table.correct.tolist() == [1]
    assert rejected == [("line 2", "it holds no metric")]
    (tmp_path / "s.jsonl").write_text(json.dumps([old, old | {"doc_id": 1}], indent=2))
    assert len(read_samples(tmp_path / "s.jsonl", "lm-eval")[0]) == 2  # version 0.4.0 indented


def test_inspect_epochs_are_chains_and_tokens_are_read(tmp_path):
    samples = [inspect_sample(p, e, v) for p, e, v in [(1, 2, "I"), (1, 1, "C"), ("b", 1, 1)]]
    table, rejected = read_samples(write_eval(tmp_path / "log.eval", samples), "inspect")
    assert table.problem.tolist() == ["1", "1", "b"]
    assert table.chain.tolist() == [1, 0, 0]
    assert table.correct.tolist() == [0, 1, 1]
    assert (table.completion_tokens == 7).all()
    assert not rejected
    (tmp_path / "log.json").write_text(json.dumps({"version": 2, "samples": samples}))
    assert read_samples(tmp_path / "log.json", "inspect")[0].equals(table)


def test_an_archive_that_was_cut_off_says_so(tmp_path):
    path = tmp_path / "log.eval"
    path.write_bytes((DATA / "sums.eval").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"no complete \.eval archive"):
        read_samples(path, "inspect")


# ------------------------------------------------------------------ files made by the tools, see
# tests/data/README.md; the numbers are what the tools themselves print or read back


def test_a_file_of_human_eval_gives_its_own_pass_at_k():
    table, rejected = read_samples(DATA / "human_eval_results.jsonl", "human-eval")
    n, c = counts(table)
    assert n.tolist() == [4, 4, 4]
    assert not rejected
    printed = {1: 0.5, 2: 2 / 3, 4: 2 / 3}
    assert {k: float(pass_at_k(n, c, k).mean()) for k in printed} == pytest.approx(printed)


def test_a_file_of_lm_eval_gives_the_verdict_of_every_repeat_that_a_filter_kept():
    table, rejected = read_samples(DATA / "samples_sums_each.jsonl", "lm-eval")
    lines = (DATA / "samples_sums_each.jsonl").read_text().splitlines()
    printed = [json.loads(line)["exact_match"] for line in lines]
    assert printed == [0.25, 0.0, 0.5]
    n, c = counts(table)
    assert (c / n).tolist() == printed
    assert n.tolist() == [4, 4, 4]
    assert table.correct.tolist()[:4] == [0, 0, 1, 0]  # 2+3: 6, 6, 5, 6
    assert not rejected


def test_where_equality_is_not_the_tools_rule_the_mean_gives_counts_without_answers(tmp_path):
    kept = lm_eval(0, ["2", "2.0", "3"], 2 / 3, filter="each", filtered_resps=[["2", "2.0", "3"]])
    table, rejected = read_samples(write_lines(tmp_path / "s.jsonl", [kept]), "lm-eval")
    assert [int(x[0]) for x in counts(table)] == [3, 2]
    assert table.answer.isna().all()
    assert table.attrs["no_votes"].startswith("for 1 problems the file says how many")
    assert not rejected


def test_a_zstandard_archive_of_inspect_gives_what_its_own_reader_does():
    table, rejected = read_samples(DATA / "sums.eval", "inspect")
    table = table.sort_values(["problem", "chain"])
    assert table[["problem", "chain", "correct", "answer"]].to_numpy().tolist() == [
        ["10+5", 0, 1.0, "15"],
        ["10+5", 1, 0.0, "16"],
        ["2+3", 0, 1.0, "5"],
        ["2+3", 1, 0.0, "6"],
    ]
    assert (table.completion_tokens == 2).all()
    assert not rejected


def test_monkeys_files_are_one_problem_each(tmp_path):
    pytest.importorskip("yaml")
    for name, key in (("0", "is_corrects"), ("1", "is_correct")):
        text = f"prompt: p\nquestion: q\ngt_answer: '2'\nsamples: [a, b]\n{key}: [true, false]\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "2.yaml").write_text("samples: [a, b]\nis_corrects: [true]\n")
    (tmp_path / "3.yaml").write_text("samples: [a\n")
    table, rejected = read_samples(tmp_path, "monkeys")
    assert table.problem.tolist() == ["0", "0", "1", "1"]
    assert table.correct.tolist() == [1, 0, 1, 0]
    assert [where for where, _ in rejected] == ["2.yaml", "3.yaml"]


def test_without_a_yaml_parser_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "0.yaml").write_text("samples: []")
    assert main(["import", str(tmp_path), "--format", "monkeys"]) == 1
    assert "no YAML parser is installed: pip install pyyaml" in capsys.readouterr().err


def test_counts_come_back_from_a_csv_and_impossible_ones_are_named(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("problem,n,c\na,4,1\nb,4,5\nc,4,x\nd,2,2\na,4,1\np4,0,0\n")
    table, rejected = read_samples(path, "csv")
    assert [x.tolist() for x in counts(table)] == [[4, 2], [1, 2]]
    why = dict(rejected)
    assert sorted(why) == ["line 3", "line 4", "line 6", "line 7"]
    assert "b: c is 5, n is 4; needed is 0 <= c <= n" in why["line 3"]
    assert why["line 6"] == "a came before on line 2: the first counts"
    assert "p4: c is 0, n is 0; needed is 0 <= c <= n, n from 1" in why["line 7"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; needed is a CSV table"),
        ("problem,n,c\n", "is empty; needed is a CSV table"),
        ("problem,n\na,4\n", "or problem, n and c .*; the columns are 'problem', 'n': name others"),
        ("problem|n|c\na|4|1\n", r"the columns are 'problem\|n\|c', with no comma"),
        ('{"problem": "a", "n": 4}\n{}\n', 'the columns are \'{"problem": "a"\''),
    ],
)
def test_what_is_no_csv_of_samples_is_refused_with_what_was_found(text, says, tmp_path):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_samples(tmp_path / "c.csv", "csv")


def test_a_csv_of_a_row_per_sample_gives_answers_scores_and_verdicts(tmp_path):
    rows = [
        "a,7,x,1,-1.5,12", "a,8,y,0,,", 'b,0,"1,2",True,-2,3', "b,1,z,,0,3",
        "c,0,1,2,1,-2,3", ",0,x,1,-2,3", "c,0,x,maybe,-2,3", "c,0,x,0",
    ]  # fmt: skip
    path = tmp_path / "c.csv"
    head = (
        "\ufeffproblem,sample,answer,correct,logprob,completion_tokens\n"  # as spreadsheets write
    )
    path.write_text(head + "\n".join(rows), encoding="utf-8")
    table, rejected = read_samples(path, "csv")
    assert table[["problem", "chain", "answer"]].to_numpy().tolist() == [
        ["a", 0, "x"], ["a", 1, "y"], ["b", 0, "1,2"], ["b", 1, "z"], ["c", 0, "x"], ["c", 1, "x"],
    ]  # fmt: skip
    expected = {"correct": [1, 0, 1, np.nan, np.nan, 0]}
    expected["score"] = [-1.5, np.nan, -2, 0, -2, np.nan]
    expected["completion_tokens"] = [12, np.nan, 3, 3, 3, np.nan]
    for column, values in expected.items():
        np.testing.assert_array_equal(table[column], values)
    assert rejected == [
        ("line 6", "it has more cells than columns: put a cell with a comma in quotes"),
        ("line 7", "it names no problem"),
        ("line 5", "1 of 1 samples: no verdict: there is no value"),
        ("line 8", "1 of 1 samples: no verdict: the value is neither right nor wrong: 'maybe'"),
    ]
    path.write_text("problem,correct,score,logprob\na,1,0.25,-9\na,false,0.5,-9\n")
    table, rejected = read_samples(path, "csv")
    assert table["score"].tolist() == [0.25, 0.5]  # of the two the score
    assert table["correct"].tolist() == [1, 0]
    assert table["answer"].isna().all()
    assert not rejected


def test_import_ranks_by_a_score_where_every_judged_sample_has_one(tmp_path, capsys):
    draw, path = np.random.default_rng(0), tmp_path / "c.csv"
    correct, score = (draw.random((20, 5)) < 0.4).astype(int), draw.random((20, 5))
    rows = [f"p{i},{c},{score[i, j]}" for i, row in enumerate(correct) for j, c in enumerate(row)]
    path.write_text("\n".join(["problem,correct,score", *rows]))
    assert main(["import", str(path), "--format", "csv"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert lines[0] == ["k", "pass@k", "low", "high", "best-of-k", "low", "high"]
    best = best_of_k(correct, score, [1, 2, 4, 5]).mean(axis=0)
    assert [line[4] for line in lines[1:]] == [f"{value:.4f}" for value in best]
    for some in ([row.rpartition(",")[0] + "," for row in rows[:1]] + rows[1:],
                 [f"{row.rpartition(',')[0]},{row.split(',')[1]}" for row in rows]):  # fmt: skip
        path.write_text("\n".join(["problem,correct,score", *some]))  # one lacks it; the verdict
        assert main(["import", str(path), "--format", "csv"]) == 0
        assert "best-of-k" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("human_eval_results.jsonl", "human-eval"), ("evalplus_eval_results.json", "evalplus"),
        ("samples_choice.jsonl", "lm-eval"), ("samples_sums_vote.jsonl", "lm-eval"),
        ("several.json", "inspect"), ("sums.eval", "inspect"), ("kinds.eval", "inspect"),
    ],
)  # fmt: skip
def test_the_format_of_a_tool_s_file_is_detected_from_its_content(name, format, tmp_path):
    assert detect_format(DATA / name) == format
    (tmp_path / "renamed").write_bytes((DATA / name).read_bytes())
    assert detect_format(tmp_path / "renamed") == format


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("problem,n,c\na,4,1\n", "csv"),
        ("", "csv"),
        ('{"problem": "a", "correct": true}\n', "jsonl"),
        ('[{"problem": "a", "correct": true}]', "jsonl"),
        ('{broken\n{"task_id": "a", "passed": true}\n', "human-eval"),
        ('\n[{"doc_id": 1,\n "resps": [], "filtered_resps": []}]', "lm-eval"),
        ('{"version": 2, "status": "success", "eval": {"cut": ', "inspect"),
        ('{"text": "\\"passed\\": \\"task_id\\""}\n', "jsonl"),
    ],
)
def test_the_format_of_other_text_is_detected(text, format, tmp_path):
    (tmp_path / "f").write_text(text)
    assert detect_format(tmp_path / "f") == format


def test_a_file_whose_columns_are_named_is_a_table(tmp_path):
    path = write_lines(tmp_path / "f", [{"task_id": "a", "passed": 1}])
    assert detect_format(path, {"problem": "task_id", "correct": "passed"}) == "jsonl"
    assert detect_format(tmp_path) == "monkeys"
    with pytest.raises(ValueError, match="no file"):
        detect_format(tmp_path / "none")


def test_unknown_formats_and_files_are_refused(tmp_path):
    assert tuple(FORMATS) == get_args(Format)
    with pytest.raises(ValueError, match="allowed: human-eval, evalplus, lm-eval"):
        read_samples(tmp_path, "xlsx")
    for name in FORMATS:
        with pytest.raises(ValueError, match="no file"):
            read_samples(tmp_path / "none", name)
        if name != "monkeys":
            with pytest.raises(ValueError, match="is a folder; give a file"):
                read_samples(tmp_path, name)

"""What `import` prints of files that other tools wrote, compared with what those tools printed.

The files of tests/data/ are made by tests/data/make.py; *_results.json are the tools' own numbers.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.cli import main
from scaling.curves import Curve
from scaling.estimates import pass_at_k
from scaling.fits.laws import LAWS
from scaling.fits.tabulate import fit_curve
from scaling.readers import counts, read_samples
from scaling.readers.values import number, verdict

DATA = Path(__file__).parent / "data"
LM_EVAL = json.loads((DATA / "lm_eval_results.json").read_text())
INSPECT = json.loads((DATA / "inspect_results.json").read_text())
NO_VERDICTS = ("mcc", "brier_score", "perplexity")
PRINTED = [  # (task, metric, filter, value)
    (task, *name.split(","), value)
    for task, numbers in LM_EVAL.items()
    for name, value in numbers.items()
    if "," in name
]


def table_of(capsys: pytest.CaptureFixture, *command: object) -> dict[int, list[float]]:
    """Return the numbers that `import` prints, by k."""
    assert main(["import", *map(str, command)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {int(k): [*map(float, rest)] for k, *rest in lines if k.isdigit() and "." in rest[0]}


def refusal(capsys: pytest.CaptureFixture, *command: object) -> str:
    """Return the last line of an `import` that fails, which prints no table."""
    assert main(["import", *map(str, command)]) == 1
    out, err = capsys.readouterr()
    assert "pass@k" not in out
    return err.splitlines()[-1]


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---------------------------------------------------------------- lm-evaluation-harness


@pytest.mark.parametrize(("task", "metric", "filter", "value"), PRINTED)
def test_lm_eval_gives_the_accuracy_that_the_harness_reports(task, metric, filter, value, capsys):
    path, k = DATA / f"samples_{task}.jsonl", int(metric.partition("@")[2] or 1)
    chosen = [path, "--format", "lm-eval", "--metric", metric, "--filter", filter]
    if metric in NO_VERDICTS:
        assert "3 of 3 problems have no verdict" in refusal(capsys, *chosen)
    else:
        assert table_of(capsys, *chosen)[k][0] == pytest.approx(value, abs=1e-4)


def test_lm_eval_takes_the_first_metric_that_judges_and_names_the_others(capsys):
    for task, judge, others in (
        ("choice", "acc", "mcc, acc_norm, brier_score"),
        ("lambada", "acc", "perplexity"),
        ("code", "pass@1", "pass@2, pass@4"),
        ("judged", "exact_match", "lenient"),
    ):
        assert main(["import", str(DATA / f"samples_{task}.jsonl"), "--format", "lm-eval"]) == 0
        message = f"judged by {judge}; choose another with --metric: {others}"
        assert message in capsys.readouterr().out


def doc(i: int, texts: list[str], filtered: list, filter: str = "each", **metrics: object) -> dict:
    """Return a line of lm-evaluation-harness."""
    ids = {"doc_id": i, "doc": {"question": "q"}, "target": "7", "arguments": {}}
    answers = {"resps": [texts], "filtered_resps": filtered, "filter": filter}
    return ids | answers | {"metrics": list(metrics)} | metrics


def test_votes_count_extracted_answers_not_whole_texts(tmp_path, capsys):
    """Each chain of thought differs, so that a vote over the texts has one vote per text."""
    drawn = [["7", "7", "7", "9", "8"], ["7", "9", "9", "9", "8"]] * 3
    rows = [
        doc(i, [f"Way {i}{j}. The answer is {a}." for j, a in enumerate(answers)], [answers])
        | {"metrics": ["exact_match"], "exact_match": answers.count("7") / 5}
        for i, answers in enumerate(drawn)
    ]
    found = table_of(capsys, write_lines(tmp_path / "s.jsonl", rows), "--format", "lm-eval")
    assert [found[k][0] for k in (1, 2, 4, 5)] == pytest.approx([0.4, 0.65, 0.9, 1.0])
    assert [found[k][3] for k in (1, 2, 4, 5)] == pytest.approx([0.4, 0.4, 0.5, 0.5])


@pytest.mark.parametrize("target", ["assert f() == 1\ncheck(f)", "7"])
def test_code_with_repeats_is_counted_from_the_mean(target, tmp_path, capsys):
    right = [0, 1, 3, 5, 5, 0]
    programs = [f"return {j}" for j in range(5)]
    rows = [
        doc(i, programs, [programs], "create_test", **{"pass@1": c / 5, "pass@5": float(c > 0)})
        | {"target": target}
        for i, c in enumerate(right)
    ]
    path = write_lines(tmp_path / "s.jsonl", rows)
    found = table_of(capsys, path, "--format", "lm-eval")
    expected = {k: float(pass_at_k(5, right, k).mean()) for k in (1, 2, 4, 5)}
    assert {k: row[0] for k, row in found.items()} == pytest.approx(expected, abs=1e-4)
    assert all(len(row) == 3 for row in found.values())  # no majority column
    assert main(["import", str(path), "--format", "lm-eval"]) == 0
    assert "no majority column: for 2 problems" in capsys.readouterr().out


def test_pass_at_k_without_pass_at_1_is_inverted_as_far_as_it_goes(tmp_path, capsys):
    """humaneval_64 reports pass@2, 8, 16, ...: pass@2 is 1 with 63 of 64 right, and with 64."""
    right = [0, 1, 17, 40, 63, 64]
    texts = [f"return {j}" for j in range(64)]
    rows = [
        doc(i, texts, [texts], **{f"pass@{k}": float(pass_at_k(64, c, k)) for k in (8, 2)})
        for i, c in enumerate(right)
    ]
    path = write_lines(tmp_path / "s.jsonl", rows)
    found = table_of(capsys, path, "--format", "lm-eval")
    assert list(found) == [2, 4, 8, 16, 32, 64]
    assert [row[0] for row in found.values()] == pytest.approx(
        [float(pass_at_k(64, right, k).mean()) for k in found], abs=1e-4
    )
    assert main(["import", str(path), "--format", "lm-eval"]) == 0
    out = capsys.readouterr().out
    assert "judged by pass@2" in out
    assert "k begins at 2" in out
    assert main(["import", str(path), "--format", "lm-eval", "--law", "beta_binomial"]) == 1
    assert "counts, which the metric does not settle" in capsys.readouterr().err
    known = read_samples(write_lines(path, rows[:4]), "lm-eval")[0]
    assert counts(known)[1].tolist() == right[:4]
    assert known.attrs["least_k"] == 1


@pytest.mark.parametrize(
    "metrics",
    [
        {"maj@5": 1.0},
        {"bypass": 999},
        {"f1": 0.37},
        {"bleu": [["7"], ["7"]]},
        {"inst_level_strict_acc": [True, False]},
        {"word_perplexity": [-12.5, 5]},
        {"exact_match": None},
        {"exact_match": float("nan")},
        {"pass^5": 1.0},
    ],
)
def test_a_number_that_judges_no_single_repeat_is_no_verdict(metrics, tmp_path, capsys):
    rows = [doc(i, ["7"] * 5, [["7"] * 5], **metrics) for i in range(3)]
    path = write_lines(tmp_path / "s.jsonl", rows)
    assert "3 of 3 problems have no verdict" in refusal(capsys, path, "--format", "lm-eval")


def test_the_filter_of_self_consistency_that_keeps_the_first_repeat_is_no_vote(tmp_path, capsys):
    drawn = [["8", "7", "7"], ["7", "9", "7"], ["9", "7", "7"]]
    texts = [[f"So the answer is {a}." for a in answers] for answers in drawn]
    first = [
        doc(i, t, [a[0]], "score-first", exact_match=float(a[0] == "7"))
        for i, (t, a) in enumerate(zip(texts, drawn, strict=True))
    ]
    votes = [doc(i, t, ["7"], "maj@3", exact_match=1.0) for i, t in enumerate(texts)]
    path = write_lines(tmp_path / "s.jsonl", first + votes)
    found = table_of(capsys, path, "--format", "lm-eval", "--filter", "score-first")
    assert found[1][0] == pytest.approx(1 / 3, abs=1e-4)
    assert "'maj@3' made one answer of 3 repeats" in refusal(
        capsys, path, "--format", "lm-eval", "--filter", "maj@3"
    )


def test_documents_of_several_tasks_in_one_file_are_separate_problems(tmp_path, capsys):
    """MMLU writes a file per subject; each numbers its documents from 0."""
    rows = [
        doc(i, ["7"], ["7"], exact_match=float(task)) | {"doc_hash": f"{task}{i}"}
        for task in range(2)
        for i in range(4)
    ]
    path = write_lines(tmp_path / "s.jsonl", rows + rows[:1])
    assert main(["import", str(path), "--format", "lm-eval"]) == 0
    out = capsys.readouterr().out
    assert "8 samples of 8 problems; left out: 1 sample, logged before, the same" in out
    assert "4 doc_ids stand for several documents" in out


def test_whole_texts_do_not_vote(tmp_path, capsys):
    texts = ["We add.\nThe answer is 7.", "We add.\nThe answer is 7.", "No idea", "No idea"]
    rows = [doc(i, texts, [texts], exact_match=[1, 1, 0, 0]) for i in range(3)]
    path = write_lines(tmp_path / "s.jsonl", rows)
    assert all(len(row) == 3 for row in table_of(capsys, path, "--format", "lm-eval").values())
    assert main(["import", str(path), "--format", "lm-eval"]) == 0
    assert "no majority column: answers of several lines" in capsys.readouterr().out


# ---------------------------------------------------------------- inspect_ai


@pytest.mark.parametrize("scorer", ["wrote_a_number", "match", "both.right", "both.short"])
def test_inspect_gives_the_accuracy_of_the_chosen_scorer(scorer, capsys):
    path = DATA / "several.json"
    found = table_of(capsys, path, "--format", "inspect", "--scorer", scorer)
    printed = INSPECT["several"][scorer.removeprefix("both.")]["accuracy"]
    assert found[1][0] == pytest.approx(printed, abs=1e-4)


def test_inspect_names_the_scorers_of_a_log_that_has_several(capsys):
    message = refusal(capsys, DATA / "several.json", "--format", "inspect")
    assert "4 scorers, which are not mixed: wrote_a_number, match, both.right" in message
    assert "--metric" in message


def test_inspect_values_are_read_as_its_own_reader_does():
    table, rejected = read_samples(DATA / "kinds.eval", "inspect")
    table = table.set_index(table["problem"].astype(int)).sort_index()
    own = pd.Series(INSPECT["kinds"]["each"])
    word = 13  # "maybe": inspect_ai warns and counts 0; here it has no verdict
    for i, value in own.drop(word).items():
        assert table["score"][i] == value
        assert table["correct"][i] == value or (value not in (0, 1) and table["correct"].isna()[i])
    assert np.isnan(table["correct"][word])
    assert len(rejected) == table["correct"].isna().sum() == 6  # one was not scored
    assert table.attrs["left_out"]["no verdict: partial credit (0.5)"] == 2


def test_inspect_names_a_sample_that_failed(capsys):
    message = refusal(capsys, DATA / "failing.eval", "--format", "inspect")
    assert "1 of 4 problems have no verdict, more than 10%" in message
    assert "it failed: ValueError('the dice fell off the table')" in message


def test_inspect_counts_no_tokens_of_a_grader():
    table, _ = read_samples(DATA / "several.json", "inspect", metric="match")
    assert (table["completion_tokens"] == 2).all()  # the grader wrote 90


def test_inspect_subtracts_what_a_grader_of_the_same_model_wrote(tmp_path):
    row = sample(1, 1, match="C") | {"output": {"model": "m"}}
    usage = {"model_usage": {"a/m": {"output_tokens": 6}}}
    logs = [row | usage, row | usage | {"role_usage": {"grader": {"output_tokens": 4}}}]
    logs += [row | {"model_usage": {"a/x": {"output_tokens": 6}, "a/y": {"output_tokens": 4}}}]
    found = []
    for i, log in enumerate(logs):
        (tmp_path / f"{i}.json").write_text(json.dumps({"samples": [log]}))
        found += read_samples(tmp_path / f"{i}.json", "inspect")[0]["completion_tokens"].tolist()
    assert found == pytest.approx([6, 2, np.nan], nan_ok=True)


def sample(i: int, epoch: int, **scores: object) -> dict:
    values = {name: {"value": value, "answer": str(i)} for name, value in scores.items()}
    return {"id": i, "epoch": epoch, "scores": values}


def test_inspect_logs_that_were_not_finished_count_what_is_missing(tmp_path, capsys):
    header = {"eval": {"dataset": {"sample_ids": list(range(20))}}}
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", json.dumps(header))
        for i in range(17):
            archive.writestr(f"samples/{i}_epoch_1.json", json.dumps(sample(i, 1, match="C")))
    message = refusal(capsys, path, "--format", "inspect")
    assert "3 of 20 problems have no verdict" in message
    assert "it was never run, or not logged" in message
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("samples/17_epoch_1.json", json.dumps(sample(17, 1, match="I")))
    assert main(["import", str(path), "--format", "inspect"]) == 0
    out = capsys.readouterr().out
    assert "18 samples of 18 problems; left out: 2 samples" in out
    assert "2 problems without a verdict" in out
    assert "the log's status is 'not finished'" in out


def test_inspect_samples_that_were_stopped_at_a_limit_are_counted(tmp_path, capsys):
    rows = [sample(i, 1, match="CI"[i % 2]) for i in range(20)]
    rows[0]["limit"] = rows[1]["limit"] = {"type": "token", "limit": 100}
    rows[2] |= {"limit": {"type": "message"}, "scores": {}}
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"samples": rows}))
    assert main(["import", str(path), "--format", "inspect"]) == 0
    out = capsys.readouterr().out
    assert "2 samples were stopped at a limit and were scored anyway" in out
    assert "1 sample, no verdict: it was stopped at a limit: message" in out


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_inspect_reads_the_last_of_two_entries_of_a_name_as_its_own_reader_does(tmp_path):
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as archive:
        for value in ("I", "C"):
            archive.writestr("samples/1_epoch_1.json", json.dumps(sample(1, 1, match=value)))
    table, rejected = read_samples(path, "inspect")
    assert table["correct"].tolist() == [1]
    assert not rejected


def test_inspect_lists_and_invalidated_samples(tmp_path):
    rows = [sample(i, 1, rubric=[1, "I"], match="C") for i in range(3)]
    rows[2]["invalidation"] = {"reason": "wrong prompt"}
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"samples": rows}))
    table, rejected = read_samples(path, "inspect", metric="rubric.1")
    assert table["correct"].tolist() == pytest.approx([0, 0, np.nan], nan_ok=True)
    assert "it was invalidated" in rejected[0][1]


# ---------------------------------------------------------------- evalplus


def test_evalplus_gives_what_it_prints_with_its_extra_tests_and_without(capsys):
    path = DATA / "evalplus_eval_results.json"
    assert main(["import", str(path), "--format", "evalplus"]) == 0
    assert "judged by plus; choose another with --metric: base" in capsys.readouterr().out
    for metric, printed in (("plus", 0.500), ("base", 0.833)):
        found = table_of(capsys, path, "--format", "evalplus", "--metric", metric)
        assert found[1][0] == pytest.approx(printed, abs=5e-4)
        assert all(len(row) == 3 for row in found.values())  # programs do not vote


def test_evalplus_before_0_2_and_without_the_extra_tests(tmp_path):
    path = tmp_path / "eval_results.json"
    old = {"nfiles": 2, "base": [["success", []], ["failed", []]], "plus": [["timeout", []]] * 2}
    path.write_text(json.dumps({"eval": {"T/0": old}}))
    assert read_samples(path, "evalplus")[0]["correct"].tolist() == [0, 0]
    assert read_samples(path, "evalplus", metric="base")[0]["correct"].tolist() == [1, 0]
    unknown = [{"base_status": "pass", "plus_status": s} for s in ("pass", None)]
    path.write_text(json.dumps({"eval": {"T/0": unknown}}))
    assert read_samples(path, "evalplus")[0]["correct"].tolist() == [1, 0]  # as evalplus counts
    new = [{"task_id": "T/0", "base_status": s, "plus_status": None} for s in ("pass", "fail")]
    path.write_text(json.dumps({"eval": {"T/0": new}}))
    table, rejected = read_samples(path, "evalplus")
    assert table["correct"].tolist() == [1, 0]
    assert not rejected


# ---------------------------------------------------------------- tables


def test_counts_that_pandas_wrote_as_floats_are_whole_numbers(tmp_path, capsys):
    frame = pd.DataFrame({"problem": range(20), "n": [64] * 20, "c": range(20)})
    frame = frame.reindex(range(21))  # a row of NaN turns the columns into floats
    path = tmp_path / "c.csv"
    frame.dropna().to_csv(path, index=False)
    assert "0.0,64.0,0.0" in path.read_text()
    found = table_of(capsys, path, "--format", "csv")
    assert list(found) == [1, 2, 4, 8, 16, 32, 64]
    assert found[1][0] == pytest.approx(9.5 / 64, abs=1e-4)
    path.write_text("problem,n,c\na,64.5,1\nb,64,1\n")
    _, rejected = read_samples(path, "csv")
    assert rejected[0][1] == "n is '64.5'; give a whole number of at least 0"


@pytest.mark.parametrize(
    "words",
    ["1,0", "1.0,0.0", "True,False", "TRUE,FALSE", "yes,no", "C,I", "pass,fail", " true , false",
     "correct,incorrect", "Passed,Failed"],
)  # fmt: skip
def test_a_table_has_its_own_column_names_and_words(words, tmp_path):
    right, wrong = words.split(",")
    rows = [("q1", right), ("q1", wrong), ("q2", wrong), ("q2", "")]
    path = tmp_path / "t.csv"
    path.write_text("id,label,seed\n" + "".join(f"{a},{b},0\n" for a, b in rows))
    columns = {"problem": "id", "correct": "label"}
    table, rejected = read_samples(path, "csv", columns=columns)
    assert table["correct"].tolist() == pytest.approx([1, 0, 0, np.nan], nan_ok=True)
    assert rejected == [("line 5", "1 of 1 samples: no verdict: there is no value")]
    write_lines(tmp_path / "t.jsonl", [{"id": a, "label": b or None} for a, b in rows])
    assert read_samples(tmp_path / "t.jsonl", "jsonl", columns=columns)[0].equals(table)


def test_json_lines_hold_samples_or_counts(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", [{"problem": 1, "n": 4, "c": 1.0}])
    assert counts(read_samples(path, "jsonl")[0])[1].tolist() == [1]
    rows = [{"problem": 1, "correct": value, "answer": 7} for value in (True, 0, "no", 1.0)]
    table, rejected = read_samples(write_lines(path, rows), "jsonl")
    assert table["correct"].tolist() == [1, 0, 0, 1]
    assert table["answer"].tolist() == ["7"] * 4
    assert not rejected


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("problem=id,correct=lable", "no column 'lable'|no column lable"),
        ("problm=id,correct=label", "unknown column 'problm'; did you mean 'problem'"),
        ("problem=id", "name others with columns="),
    ],
)
def test_columns_that_are_not_there_are_named(columns, says, tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("id,label\nq1,1\n")
    with pytest.raises(ValueError, match=says):
        read_samples(path, "csv", columns=dict(pair.split("=") for pair in columns.split(",")))
    assert main(["import", str(path), "--format", "csv", "--columns", columns]) == 1


def test_columns_of_another_form_are_a_usage_error(tmp_path, capsys):
    for text in ("problem", "problem=", "=id", "problem=id,,correct=x", ""):
        with pytest.raises(SystemExit):
            main(["import", str(tmp_path), "--format", "csv", "--columns", text])
        assert "is not of the form problem=id,correct=label" in capsys.readouterr().err


def test_samples_of_several_models_are_never_pooled(tmp_path, capsys):
    path = tmp_path / "t.csv"
    rows = [f"q{i},{m},{int(m == 'big')}" for i in range(4) for m in ("small", "big")]
    path.write_text("problem,model,correct\n" + "\n".join(rows))
    message = refusal(capsys, path, "--format", "csv")
    assert "2 models, which are not mixed: small, big; choose one with --model" in message
    for model, rate in (("small", 0.0), ("big", 1.0)):
        assert table_of(capsys, path, "--format", "csv", "--model", model)[1][0] == rate
    path.write_text(path.read_text().replace("model,", "llm,"))
    command = [path, "--format", "csv", "--columns", "model=llm"]
    assert "2 models" in refusal(capsys, *command)


def test_problems_of_the_same_name_on_two_levels_are_two_problems(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("problem,level,n,c\n0,easy,4,4\n0,hard,4,0\n")
    table, rejected = read_samples(path, "csv")
    assert table["problem"].unique().tolist() == ["easy/0", "hard/0"]
    assert not rejected


def test_a_sample_logged_twice_counts_once_and_a_conflict_is_named(tmp_path, capsys):
    rows = [f"q{i},{j},{int(i % 2 == j % 2)}" for i in range(10) for j in range(4)]
    again = ["q0,0,1", "q1,0,1", "q1.0,0,1", "q2,0.0,1"]  # the same, a conflict, new, the same
    path = tmp_path / "t.csv"
    path.write_text("problem,chain,correct\n" + "\n".join(rows + again))
    table, rejected = read_samples(path, "csv")
    assert len(table) == 41
    assert [why for _, why in rejected] == [
        "1 of 1 samples: logged before, the same",
        "1 of 1 samples: logged before with another verdict or answer: the first counts",
        "1 of 1 samples: logged before, the same",
    ]
    assert main(["import", str(path), "--format", "csv"]) == 0
    out = capsys.readouterr().out
    assert "41 samples of 11 problems; left out: 2 samples, logged before, the same; 1 " in out
    assert "k ends at 1: 1 problems have no more samples, others up to 4" in out


def test_counts_given_twice_count_once(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("problem,n,c\na,4,1\na,4,1\na,6,2\n")
    table, rejected = read_samples(path, "csv")
    assert len(table) == 4
    assert [why for _, why in rejected] == [
        "a came before on line 2: the first counts",
        "a came before with other counts on line 2: the first counts",
    ]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("missing", [0, 2, 3, 20])
def test_an_accuracy_needs_verdicts_of_nine_tenths_of_the_problems(missing, tmp_path, capsys):
    path = tmp_path / "t.csv"
    lines = [f"q{i},{'' if i < missing else i % 2}" for i in range(20)]
    path.write_text("problem,correct\n" + "\n".join(lines))
    if missing > 2:
        message = refusal(capsys, path, "--format", "csv")
        assert f"{missing} of 20 problems have no verdict, more than 10%" in message
    else:
        assert table_of(capsys, path, "--format", "csv")


def test_an_accuracy_needs_nine_tenths_of_the_lines(tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    good = '{"task_id": "a", "passed": true}\n{"task_id": "b", "passed": false}\n'
    path.write_text(good * 4 + "{cut\n" * 2)
    message = refusal(capsys, path, "--format", "human-eval")
    assert "2 of 10 lines or entries cannot be read" in message
    path.write_text(good * 9 + "{cut\n" * 2)
    assert main(["import", str(path), "--format", "human-eval"]) == 0
    assert "left out: 2 of 20 lines or entries" in capsys.readouterr().out


def test_places_that_are_not_shown_are_counted(tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    good = [json.dumps({"task_id": i % 2, "passed": i % 3 == 0}) for i in range(500)]
    path.write_text("\n".join(good + ["{cut"] * 30))
    assert main(["import", str(path), "--format", "human-eval"]) == 0
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 21
    assert err[-1] == "and 10 more places"


@pytest.mark.parametrize("law", ["exp_power", "beta_binomial", "power_floor"])
@pytest.mark.parametrize(("c", "says"), [(0, "no sample was right"), (16, "every sample was")])
def test_a_law_is_not_fitted_where_nothing_or_everything_was_right(law, c, says, tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("problem,n,c\n" + "".join(f"q{i},16,{c}\n" for i in range(20)))
    assert main(["import", str(path), "--format", "csv", "--law", law]) == 1
    assert says in capsys.readouterr().err


def test_a_law_needs_more_points_than_parameters(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("problem,n,c\n" + "".join(f"q{i},4,{i % 5}\n" for i in range(20)))
    assert main(["import", str(path), "--format", "csv", "--law", "power_floor"]) == 1
    assert "power_floor has 3 parameters and the curve 3 points" in capsys.readouterr().err
    assert main(["import", str(path), "--format", "csv", "--law", "exp_power"]) == 0
    assert main(["import", str(path), "--format", "csv", "--law", "beta_binomial"]) == 0


@pytest.mark.parametrize(
    ("y", "says"),
    [
        ([0, 0, 0, 0], "no sample was right"),
        ([1, 1, 1, 1], "every sample was right"),
        ([0.2, 0.4, np.nan, np.nan], "exp_power has 2 parameters and the curve 2 points"),
    ],
)
def test_fit_and_import_share_the_guard_of_a_fit(y, says):
    y = np.array(y, float)
    curve = Curve(2.0 ** np.arange(4), y, y, y, np.tile(y, (30, 1)))
    with pytest.raises(ValueError, match=says):
        fit_curve(LAWS["exp_power"], curve)


def test_options_that_do_not_apply_are_refused(capsys):
    for option, format in (("--filter", "inspect"), ("--metric", "csv"), ("--model", "lm-eval")):
        message = refusal(capsys, DATA / "sums.eval", "--format", format, option, "x")
        assert f"{option} does not apply to {format}, only to" in message


def test_a_cell_is_read_as_a_number_or_not_at_all():
    words = ("C", "I", "N", "YES", "false", "1e0", 0.0)
    assert [verdict(word) for word in words] == [1, 0, 0, 1, 0, 1, 0]
    for value in ("P", "c", "maybe", "", None, [1], {"a": 1}, float("inf"), "nan", 2, "10" * 400):
        assert np.isnan(verdict(value))
    assert number("P") == 0.5

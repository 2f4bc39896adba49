"""Whatever a file, a text or a command line holds: one clear line or the right result, at once."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cyclopts import CycloptsError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scaling import estimates
from scaling.cli import APP, main
from scaling.curves import Fit
from scaling.estimates import agreed_vote, majority_at_k, pass_at_k, stopped_vote
from scaling.fits import fit
from scaling.fits.laws import LAWS
from scaling.readers import FORMATS, read_samples
from scaling.records import Plan, Problem, Verdict
from scaling.runs import load_run
from scaling.store.manifest import json_hash, seal_hash
from scaling.tasks import TASKS, countdown, get_task, maze
from tests.trust import fuzz
from tests.trust.fuzz import CASES, HOSTILE, RIGHT, attack, countdown_is_right, sums_is_right

DATA = Path(__file__).parents[1] / "data"
FROZEN = next((DATA / "runs").glob("*/facts.parquet")).parent
INPUTS = int(os.environ.get("FUZZ", "1"))  #: times the inputs of the normal run
bounded = settings(
    max_examples=40 * INPUTS,
    phases=(Phase.generate,),  # what was found is printed; making it smaller takes minutes
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([10**400, 1e308, "C", "nan", "1e999", "\ud800", 2**63]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def one_line(call: Callable[[], Any]) -> Any:
    """Return what a call returns; None after an error that the command line reports in one line."""
    with contextlib.suppress(ValueError, OSError, MemoryError):  # `main` prints these in one line
        return call()
    return None


# ---- verifiers ----


@pytest.mark.parametrize("name", RIGHT)
def test_no_verifier_calls_a_text_right_that_a_slow_checker_denies(name: str) -> None:
    found = attack(name, 2000 * INPUTS)
    assert found["wrong verdicts"] == 0
    assert found["correct"] > 100, "the texts are near enough to right ones"


def test_no_changed_trace_is_right_that_a_walk_through_it_denies() -> None:
    found = attack("countdown", 2000 * INPUTS, write=fuzz.traces)
    assert found["wrong verdicts"] == 0
    assert 500 < found["correct"] < found["inputs"] / 2


def test_a_verifier_that_ignores_steps_back_is_found_wrong(monkeypatch: Any) -> None:
    real = countdown.extract_answer
    monkeypatch.setattr(countdown, "extract_answer", lambda text: real(text.replace("<", ";")))
    assert attack("countdown", 500, write=fuzz.traces)["wrong verdicts"] > 5


def test_no_changed_walk_is_right_that_leaves_the_passages_of_its_maze() -> None:
    found = attack("maze-search", 2000 * INPUTS, write=fuzz.walks)
    assert found["wrong verdicts"] == 0
    assert 300 < found["correct"] < found["inputs"] / 2


def test_a_verifier_that_returns_to_rooms_not_visited_is_found_wrong(monkeypatch: Any) -> None:
    monkeypatch.setattr(maze.re, "findall", lambda step, text: text.replace("|", ""))
    assert attack("maze-search", 500, write=fuzz.walks)["wrong verdicts"] > 5


def test_no_thinking_on_permutations_is_right_with_another_answer() -> None:
    found = attack("permutations", 2000 * INPUTS, write=fuzz.steps)
    assert found["wrong verdicts"] == 0
    assert 500 < found["correct"] < found["inputs"] / 2


def test_a_verifier_that_takes_the_first_answer_is_found_wrong(monkeypatch: Any) -> None:
    def first(task: Any, problem: Problem, text: str) -> Verdict:
        answer = text.partition(">")[2].strip()
        return Verdict(answer or None, answer == problem.answer)

    monkeypatch.setattr(TASKS["permutations"], "verify", first)
    assert attack("permutations", 500, write=fuzz.steps)["wrong verdicts"] > 5


@pytest.mark.long
def test_no_walk_is_judged_wrongly_among_100_000() -> None:
    assert attack("maze-search", 100_000, seed=1, write=fuzz.walks)["wrong verdicts"] == 0


@pytest.mark.long
def test_no_thinking_on_permutations_is_judged_wrongly_among_100_000() -> None:
    assert attack("permutations", 100_000, seed=1, write=fuzz.steps)["wrong verdicts"] == 0


@pytest.mark.long
@pytest.mark.parametrize("name", RIGHT)
def test_no_verifier_is_wrong_on_100_000_texts(name: str) -> None:
    assert attack(name, 100_000, seed=1)["wrong verdicts"] == 0


@pytest.mark.parametrize("name", CASES)
def test_no_scorer_of_a_benchmark_is_wrong_where_the_truth_is_known(name: str) -> None:
    found = fuzz.attack_scorer(name, 1000 * INPUTS)
    assert found["wrong verdicts"] == 0
    assert found["correct"] > 150


def test_a_scorer_that_takes_the_first_number_is_found_wrong(monkeypatch: Any) -> None:
    def first(expected: str, text: str, meta: dict[str, Any]) -> Any:
        return fuzz.SCORERS["exact"](expected, text.partition("\n")[0], meta)

    monkeypatch.setattr(fuzz, "SCORERS", fuzz.SCORERS | {"number": first})
    assert fuzz.attack_scorer("number", 500)["wrong verdicts"] > 50


@pytest.mark.parametrize("name", TASKS)
def test_no_hostile_text_stops_a_verifier_or_is_right(name: str) -> None:
    task = get_task(name)
    problem = task.problems(1)[0]
    assert not any(task.verify(problem, text).correct for text in HOSTILE)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1+1=2;2+2=4", "1+1=2;2+2=4"),
        ("1+1=2>3+3=6", "3+3=6"),
        ("1+1=2!>3+3=6", "1+1=2"),
        ("1+1=2;2+2=4?9-4=5<2+3=5!>9", "1+1=2;2+3=5"),
        ("1+1=2<<x3+3=6?1;2!", "3+3=6"),
        ("1+1=2!>1|3+3=6>4+4=8", "4+4=8"),
        ("!>7", ""),
        (">7", "7"),
    ],
)
def test_the_walk_through_a_trace_finds_its_answer(text: str, answer: str) -> None:
    assert fuzz.answered(text) == answer


def test_the_slow_checkers_know_right_from_wrong() -> None:
    sums = Problem("12+45+33", "", "", "")
    assert sums_is_right(sums, "12+45=57;57+33=90 ")
    assert not sums_is_right(sums, "12+45=57;57+33=91")
    assert not sums_is_right(sums, "90")
    countdown = Problem("3,7,12=33", "", "", "")
    assert countdown_is_right(countdown, "7*3=21;21+12=33")
    for wrong in (
        "7*3=21",
        "7*3=21;21+12=34",
        "33",
        "12/7=2;",
        "3-7=4;12+21=33",
        "7*3=21;21+21=42",
    ):
        assert not countdown_is_right(countdown, wrong)


# ---- other tools' samples ----


RECORDS = {
    "human-eval": {"task_id": "a", "completion": "x", "passed": True, "completion_id": 0},
    "lm-eval": {
        "doc_id": 0, "target": "2", "resps": [["2", "3"]], "filtered_resps": ["2"],
        "filter": "none", "metrics": ["exact_match"], "exact_match": [1.0, 0.0],
    },
    "inspect": {
        "id": "a", "epoch": 1, "scores": {"match": {"value": "C", "answer": "2"}},
        "model_usage": {"m": {"output_tokens": 7}},
    },
    "monkeys": {"samples": ["a", "b"], "is_corrects": [True, False]},
    "csv": {"problem": "a", "n": 4, "c": 1},
    "parquet": {"problem": "a", "n": 4, "c": 1},
    "jsonl": {"problem": "a", "chain": 0, "answer": "2", "correct": True, "score": 0.5},
    "evalplus": {"solution": "x", "base_status": "pass", "plus_status": "fail"},
}  # fmt: skip


def written(format: str, records: list[Any], folder: Path) -> Path:
    """Return a file of records in a tool's format."""
    if format == "inspect":
        path = folder / "log.eval"
        with zipfile.ZipFile(path, "w") as archive:
            for i, record in enumerate(records):
                archive.writestr(f"samples/{i}.json", json.dumps(record))
    elif format == "evalplus":
        path = folder / "eval_results.json"
        path.write_text(json.dumps({"eval": {"a": records}}))
    elif format == "monkeys":
        path = folder / "0.yaml"
        path.write_text(json.dumps(records[0]), encoding="utf-8")
    elif format in ("csv", "parquet"):
        path, columns = folder / f"c.{format}", ("problem", "n", "c")
        rows = [record if isinstance(record, dict) else {"n": record} for record in records]
        cells = [[str(row.get(k, "")) for k in columns] for row in rows]
        if format == "csv":
            lines = [",".join(columns), *map(",".join, cells)]
            path.write_text("\n".join(lines), errors="replace")
        else:
            clean = [[cell.encode(errors="replace").decode() for cell in row] for row in cells]
            pd.DataFrame(clean, columns=columns).to_parquet(path)
    else:
        path = folder / "s.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records))
    return path


@st.composite
def damaged(draw: Any, record: dict[str, Any]) -> Any:
    """Return a record with a field, or one inside it, replaced, removed or added."""
    kept = json.loads(json.dumps(record))
    inner: Any = kept
    while isinstance(inner, (dict, list)) and inner:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = draw(st.sampled_from(keys))
        if not isinstance(inner[key], (dict, list)) or draw(st.booleans()):
            if draw(st.booleans()) and isinstance(inner, dict):
                del inner[key]
            else:
                inner[key] = draw(anything)
            return kept
        inner = inner[key]
    return draw(anything)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_record_with_anything_in_it_is_read_or_named(format: str, tmp_path: Path) -> None:
    @bounded
    @given(st.lists(damaged(RECORDS[format]), min_size=1, max_size=3))
    def check(records: list[Any]) -> None:
        path = written(format, [*records, RECORDS[format]], tmp_path)
        found = one_line(lambda: read_samples(path, format))
        if found is not None:
            table, rejected = found
            assert all(isinstance(where, str) and "\n" not in why for where, why in rejected)
            assert set(table["correct"].dropna()) <= {0.0, 1.0}
            assert all(isinstance(name, str) for name in table["problem"])
            assert (table["chain"] >= 0).all()
        if len(records) == 1:
            assert main(["import", str(path), "--format", format]) in (0, 1)

    check()


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_of_any_bytes_is_one_line(format: str, tmp_path: Path) -> None:
    whole = written(format, [RECORDS[format]] * 3, tmp_path).read_bytes()
    name = {"inspect": "x.eval", "monkeys": "x.yaml", "csv": "x.csv", "parquet": "x.parquet"}.get(
        format, "x.jsonl"
    )

    @bounded
    @given(st.binary(max_size=60), st.integers(0, len(whole)), st.integers(0, 20), st.booleans())
    def check(bytes_: bytes, at: int, cut: int, inside: bool) -> None:
        path = tmp_path / name
        path.write_bytes(whole[:at] + bytes_ + whole[at + cut :] if inside else bytes_)
        one_line(lambda: read_samples(path, format))

    check()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"task_id": ' * 50_000, '{"passed": 1e999}', "9" * 5000]
)
def test_deep_and_huge_json_is_one_line(text: str, tmp_path: Path) -> None:
    for format, name in (("human-eval", "s.jsonl"), ("inspect", "s.json"), ("lm-eval", "s.jsonl")):
        (tmp_path / name).write_text(text)
        assert main(["import", str(tmp_path / name), "--format", format]) == 1


@pytest.mark.parametrize("format", ["human-eval", "lm-eval"])
def test_a_cut_or_damaged_gzip_file_is_one_line(format: str, tmp_path: Path) -> None:
    import gzip

    lines = "\n".join([json.dumps(RECORDS[format])] * 200).encode()
    whole, path = gzip.compress(lines), tmp_path / "s.jsonl.gz"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        one_line(lambda: read_samples(path, format))
        path.write_bytes(whole[:size] + b"\xff\xff" + whole[size + 2 :])
        one_line(lambda: read_samples(path, format))


# ---- runs ----


def test_a_manifest_with_anything_in_it_is_one_line(tmp_path: Path) -> None:
    """Also where its hashes are right: another program may have written it."""
    for path in FROZEN.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = json.loads((FROZEN / "manifest.json").read_text())

    @bounded
    @given(damaged(whole), st.booleans())
    def check(manifest: Any, honest: bool) -> None:
        if honest and isinstance(manifest, dict):
            manifest["hash"] = json_hash(manifest.get("identity"))
            manifest["sha256"] = seal_hash(manifest)
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        one_line(lambda: load_run(tmp_path))
        assert main(["fit", "--runs", str(tmp_path / "none")]) == 1

    check()


# ---- plans, numbers, laws ----


@bounded
@given(st.dictionaries(st.sampled_from([*Plan.__dataclass_fields__, "x"]), anything, max_size=4))
def test_a_plan_of_anything_is_a_plan_or_one_line(row: dict[str, Any]) -> None:
    plan = one_line(lambda: Plan.from_dict(row))
    assert plan is None or Plan.from_dict(plan.to_dict()) == plan or plan != plan


numbers = st.integers(-2, 12) | st.floats(allow_infinity=True) | st.just(float("nan"))


@bounded
@given(numbers, numbers, numbers)
def test_pass_at_k_of_any_numbers_is_a_probability_nan_or_one_line(n: Any, c: Any, k: Any) -> None:
    value = one_line(lambda: pass_at_k(n, c, k))
    if value is not None and np.isfinite(value) and n < 13:
        assert -1e-12 <= value <= 1 + 1e-12
        subsets = list(combinations([1] * int(c) + [0] * int(n - c), int(k)))
        assert value == pytest.approx(np.mean([any(s) for s in subsets]))


@bounded
@given(
    st.lists(st.lists(st.integers(-1, 3), min_size=1, max_size=6), min_size=1, max_size=3), numbers
)
def test_votes_of_any_answers_are_probabilities_nan_or_one_line(rows: list[Any], k: Any) -> None:
    value = one_line(lambda: majority_at_k(np.array(rows), np.array(rows) == 1, np.array([k])))
    if value is not None:
        assert (np.isnan(value) | ((value >= -1e-12) & (value <= 1 + 1e-12))).all()


VALUES = (0, 1, 0, 1, 0, 1, 2, 3, -1, 0.5, float("nan"), float("inf"), 1e308)
SHAPES = ((), (0,), (1,), (3,), (2, 3), (2, 2, 3), (3, 0), (2, 3, 0))
ESTIMATORS: dict[
    str, Callable[[Any, Any, Any, Any], Any]
] = {  #: of two pools of one shape, and others
    "pass_hat_k": lambda a, b, draw, k: estimates.pass_hat_k(draw(), draw(), k),
    "inverse_pass_at_k": lambda a, b, draw, k: estimates.inverse_pass_at_k(
        draw(), draw(), draw(()), k
    ),
    "best_of_k": lambda a, b, draw, k: estimates.best_of_k(a, b, k),
    "gap_at_k": lambda a, b, draw, k: (
        estimates.gap_at_k(a, estimates.best_of_k(a, b, k), k, b).coverage
    ),
    "weighted": lambda a, b, draw, k: majority_at_k(b, a, k, weights=draw(a.shape), subsets=2)[0],
    "chain_prefix": lambda a, b, draw, k: estimates.chain_prefix(a, "best", b),
    "grid_at_k": lambda a, b, draw, k: estimates.grid_at_k(a, k),
    "read_at_tokens": lambda a, b, draw, k: estimates.read_at_tokens(b, a, draw()),
    "roc": lambda a, b, draw, k: estimates.roc(b, a)[:2],
    "verifier_rates": lambda a, b, draw, k: estimates.verifier_rates(b, a),
    "accepted_at_k": lambda a, b, draw, k: estimates.accepted_at_k(a, draw(()), draw(()), k),
    "best_budget": lambda a, b, draw, k: estimates.best_budget(a, draw(()), draw(()), 1.0, k),
    "stopped_vote": lambda a, b, draw, k: stopped_vote(b, a, a, draw(()), orders=2)[0],
    "agreed_vote": lambda a, b, draw, k: agreed_vote(b, a, a, draw(()), k)[0],
}
FREE = ("chain_prefix", "best_budget")  #: what they return may be any


def test_the_estimators_are_all_fuzzed() -> None:
    others = {"Gap", "majority_at_k", "pass_at_k"}  # no function; and two tests of their own, above
    assert set(estimates.__all__) - others <= set(ESTIMATORS)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_estimator_of_any_numbers_returns_probabilities_nan_or_one_line(name: str) -> None:
    rng, returned = Random(name), 0

    def draw(shape: Any = None) -> Any:
        shape = rng.choice(SHAPES) if shape is None else shape
        values = VALUES[: rng.choice((6, 6, 8, len(VALUES)))]
        return np.array(rng.choices(values, k=int(np.prod(shape))), float).reshape(shape)

    for _ in range(200 * INPUTS):
        shape = rng.choice(SHAPES)
        a, b, k = draw(shape), draw(shape), rng.choice((1, 2, [1, 2], draw()))
        found = one_line(lambda a=a, b=b, k=k: ESTIMATORS[name](a, b, draw, k))
        if found is not None:
            returned += 1
            if name not in FREE:
                flat = np.ravel(np.asarray(found, float))
                known = flat[~np.isnan(flat)]
                assert ((known >= -1e-12) & (known <= 1 + 1e-12)).all(), (a, b, k, found)
    assert returned > 5


@settings(bounded, max_examples=15 * INPUTS)
@given(
    st.sampled_from([name for name, law in LAWS.items() if law.axes == 1 and law.density is None]),
    st.lists(st.tuples(numbers, numbers), max_size=8),
)
@pytest.mark.filterwarnings("ignore")
def test_a_law_fitted_to_any_points_says_whether_it_was(law: str, points: list[Any]) -> None:
    x, y = (
        np.array(column, dtype=float)
        for column in (zip(*points, strict=True) if points else ((), ()))
    )
    found = one_line(lambda: fit(law, x, y, bootstrap=5))
    assert found is None or (isinstance(found, Fit) and (found.success or found.message))


# ---- command lines ----


VERBS = [name for name in APP if not name.startswith("-")]
OPTIONS = {n for v in VERBS for a in APP[v].assemble_argument_collection() for n in a.names}
WORDS = [
    *sorted({*APP, *OPTIONS}),
    "", "-", "--", "-1", "0", "1e999", "nan", "٣", "9" * 400, "/none", "\x00", "a=b", "--chains=x",
]  # fmt: skip


@settings(bounded, max_examples=300 * INPUTS)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=6))
def test_any_command_line_is_understood_or_refused(words: list[str]) -> None:
    with contextlib.suppress(CycloptsError):
        assert callable(APP.parse_args(words)[0])


@pytest.mark.parametrize(
    "words",
    [
        ["accuracy", "--runs", "/none"],
        ["figures", "--runs", "/none"],
        ["fit", "--runs", "/none"],
        ["fit", "--law", ""],
        ["import", "/none", "--format", "csv"],
        ["import", "/", "--format", "human-eval"],
        ["import", "/dev/null", "--format", "inspect"],
        ["plan", "--effect", "nan"],
        ["plan", "--effect", "1e-300"],
        ["plan", "--effect", "0.1", "--pilot", "/none"],
        ["verify", "/none"],
        ["external", "--from", "/none", "--to", "/none"],
    ],
)
def test_every_verb_reports_a_mistake_in_one_line(words: list[str], capsys: Any) -> None:
    try:
        code = main(words)
    except SystemExit as leave:
        code = leave.code
    shown = capsys.readouterr().err.strip()
    assert code in (1, 2), shown
    assert shown.startswith("scaling: ")
    assert "\n" not in shown


def test_nothing_is_lost_between_a_table_and_its_reader(tmp_path: Path) -> None:
    """The counts of n, c tables come back, whatever the names of problems."""

    @bounded
    @given(
        st.lists(
            st.tuples(st.text(min_size=1, max_size=8), st.integers(0, 5), st.integers(0, 5)),
            max_size=4,
        )
    )
    def check(rows: list[tuple[str, int, int]]) -> None:
        frame = pd.DataFrame([(p, n + c, c) for p, n, c in rows], columns=["problem", "n", "c"])
        frame.to_csv(tmp_path / "c.csv", index=False, errors="replace")
        found = one_line(lambda: read_samples(tmp_path / "c.csv", "csv"))
        if found is not None and not found[1]:
            assert len(found[0]) == frame["n"].sum()

    check()

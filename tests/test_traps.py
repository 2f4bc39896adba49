"""Traps that released repositories fell into, one test each, named for the trap."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from scaling.cli import main
from scaling.comparisons.policy import policy_gain
from scaling.curves import Curve
from scaling.estimates import (
    best_of_k,
    grid_at_k,
    majority_at_k,
    pass_at_k,
    read_at_tokens,
)
from scaling.fits import LAWS, fit
from scaling.intervals import bootstrap_problems, mean_interval
from scaling.records import ModelCard, Plan, Problem, Sample
from scaling.store import open_run
from tests.test_reporting import made

NAN = float("nan")


def test_trap_no_success_with_k_above_n_is_not_called_solved() -> None:
    assert np.isnan(pass_at_k(4, 0, 5))
    assert np.isnan(best_of_k([0, 0], [0, 0], 3))
    assert np.isnan(majority_at_k(["a", "a"], [0, 0], 3))


def test_trap_draws_are_without_replacement() -> None:
    assert pass_at_k(4, 1, 4) == 1.0  # with replacement: 1 - (3/4)^4 = 0.684
    assert best_of_k([1, 0, 0, 0], [9, 1, 2, 3], 4) == pytest.approx(1.0)
    assert majority_at_k(list("aab"), [1, 1, 0], 3) == pytest.approx(1.0)


def test_trap_the_first_k_of_one_order_is_not_accuracy_at_k() -> None:
    rng = np.random.default_rng(0)
    correct, score = np.array([1, 0, 0, 1, 0, 0.0]), rng.random(6)
    answers = np.array([7, 1, 1, 7, 2, 3])
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 97):
        at = list(order)
        assert best_of_k(correct[at], score[at], 3) == pytest.approx(best_of_k(correct, score, 3))
        shuffled = majority_at_k(answers[at], correct[at], 3)
        assert shuffled == pytest.approx(majority_at_k(answers, correct, 3))
    heads = [correct[list(order)][:3].max() for order in itertools.permutations(range(6))]
    assert set(heads) == {0.0, 1.0}  # one order says all or nothing
    assert best_of_k(correct, correct, 3) == pytest.approx(np.mean(heads))


def test_trap_failed_items_neither_leave_the_denominator_nor_vote() -> None:
    answers = np.array([["a", None, None, "b"]], dtype=object)
    correct = [[1, 0, 0, 0]]
    assert majority_at_k(answers, correct, 1)[0] == pytest.approx(0.25)  # dropped: 0.5
    assert majority_at_k(answers, correct, 4)[0] == pytest.approx(0.5)  # voting: 0
    values = [[0.5, 0.5], [0.5, NAN]]  # a problem without a large pool
    assert np.isnan(mean_interval(values).value[1])
    assert np.isnan(bootstrap_problems(values)[:, 1]).all()


def test_trap_a_tie_is_worth_one_over_the_number_of_modes() -> None:
    assert majority_at_k(list("ab"), [1, 0], 2) == pytest.approx(1 / 2)
    assert majority_at_k(list("abc"), [0, 0, 1], 3) == pytest.approx(1 / 3)
    assert best_of_k([1, 0, 0], [5, 5, 5], 2) == pytest.approx(1 / 3)


def test_trap_votes_go_by_the_answer_given_so_unnormalised_answers_split() -> None:
    raw, right = ["1/2", "0.5", " 0.5", "3", "3"], [1, 1, 1, 0, 0]
    normal = [0.5 if r else 3.0 for r in right]
    assert majority_at_k(raw, right, 5) == pytest.approx(0)
    assert majority_at_k(normal, right, 5) == pytest.approx(1)


def test_trap_a_missing_score_is_not_a_score_of_zero() -> None:
    with pytest.raises(ValueError, match="NaN score"):
        best_of_k([1, 0], [NAN, -1.0], 1)


def test_trap_a_token_budget_binds() -> None:
    length, correct = [[10], [20], [400]], [[1], [1], [1]]
    solved = read_at_tokens(length, correct, [5, 10, 50, 1000]).sum(axis=0)
    np.testing.assert_array_equal(solved, [0, 1, 2, 3])


def test_trap_repeats_are_not_discarded() -> None:
    correct = np.array([[1, 0, 0, 0], [1, 1, 1, 0]])
    assert best_of_k(correct, correct, 1).tolist() == [0.25, 0.75]
    assert grid_at_k(correct[:, :, None], 1, "last").ravel().tolist() == [0.25, 0.75]


def test_trap_a_mean_reduced_huber_loss_stops_the_optimiser_early() -> None:
    """Divided by the number of points the loss is below L-BFGS's tolerance before it is small."""
    law, rng = LAWS["chinchilla"], np.random.default_rng(0)
    n, d = 10 ** rng.uniform((7.5, 9), (10, 11.5), (240, 2)).T
    truth = np.array([1.8, 480.0, 2000.0, 0.35, 0.37])
    loss = law.predict((n, d), truth) * np.exp(0.01 * rng.standard_normal(240))

    def summed(z: np.ndarray) -> float:
        r = np.abs(np.log(law.predict((n, d), np.array([*np.exp(z[:3]), *z[3:]])) / loss))
        return float(np.where(r < 1e-3, r * r / 2, 1e-3 * (r - 5e-4)).sum())

    start = np.array([np.log(2.0), np.log(300.0), np.log(1500.0), 0.33, 0.36])
    early = minimize(lambda z: summed(z) / 240, start, method="L-BFGS-B").x
    late = minimize(summed, start, method="L-BFGS-B").x
    fitted = fit("chinchilla", (n, d), loss, delta=1e-3, bootstrap=0)
    p = np.array(list(fitted.params.values()))
    ours = summed(np.array([*np.log(p[:3]), *p[3:]]))
    assert ours < summed(np.array([*np.log(truth[:3]), *truth[3:]]))
    assert summed(early) > 1.02 * ours
    assert ours <= summed(late) < summed(early)
    np.testing.assert_allclose(p[3:], truth[3:], rtol=0.1)


def test_trap_difficulty_is_not_estimated_for_free() -> None:
    """Equal strategies: difficulty read from the samples that are scored makes a gain of luck."""
    rng, problems, samples = np.random.default_rng(3), 120, 16
    rate = rng.beta(1, 1, problems)
    a, b = (rng.random((problems, samples)) < rate[:, None] for _ in range(2))
    cost = np.arange(1, 5) * 1.0

    def strategies(part: slice) -> dict:
        return {
            name: (np.repeat(x[:, part].mean(axis=1, keepdims=True), 4, axis=1), cost)
            for name, x in (("a", a), ("b", b))
        }

    luck = a.mean(axis=1) - b.mean(axis=1)
    cheat = policy_gain(strategies(slice(None)), luck, 0.0, [4.0], bins=2, replicates=50)
    assert cheat.gain.low > 0  # and nothing was there to gain
    signal = a[:, :8].mean(axis=1) - b[:, :8].mean(axis=1)
    honest = policy_gain(strategies(slice(8, None)), signal, 1.0, [4.0], bins=2, replicates=50)
    assert honest.gain.low < 0 < honest.gain.high or honest.gain.high < 0
    paid = policy_gain(strategies(slice(8, None)), signal, 4.0, [4.0], bins=2, replicates=50)
    assert np.isnan(paid.gain.value)  # the pilot costs all there is


def test_trap_every_option_changes_something() -> None:
    rng = np.random.default_rng(2)
    answers, correct = rng.integers(0, 3, 30), np.zeros(30)
    correct[answers == 0] = 1
    plain = majority_at_k(answers, correct, 9)
    heavy, _ = majority_at_k(answers, correct, 9, weights=np.where(answers == 0, 9.0, 1.0))
    assert heavy > plain + 0.1
    chains, score = rng.random((6, 5, 4)) < 0.3, rng.random((6, 5, 4))
    results = [
        grid_at_k(chains, 2, s, score if s == "best" else None) for s in ("any", "last", "best")
    ]
    for a, b in itertools.combinations(results, 2):
        assert np.abs(a - b).max() > 0.01


def drawn(root: Path, model: str, level: str, right: list[list[int]], problems: int = 8) -> str:
    """Write a run's samples, fewer than its problems where it broke off; return its name."""
    generated = [Problem(f"p{i}", "?", "1", level) for i in range(problems)]
    card = ModelCard(model, 1, 1, 1.0, 1, {}, model)
    plan = Plan(chains=len(right[0]), max_new_tokens=8)
    with open_run(root, task=f"task {level}", card=card, plan=plan, problems=generated) as writer:
        samples = [
            Sample(p.id, chain, 0, "1", "1", bool(c), -1.0, -1.0, 5, 0, 4, 0.01, "stop")
            for p, row in zip(generated, right, strict=False)
            for chain, c in enumerate(row)
        ]
        writer.write(samples)
        if len(right) == problems:
            writer.seal()
        return writer.path.name


def test_trap_one_run_that_cannot_be_fitted_keeps_its_row_and_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture, quick: None
) -> None:
    """An interrupted run once ended `fit` of all; one with nothing right had a = -316."""
    some = [[int(i + j < 8) for j in range(8)] for i in range(8)]
    drawn(tmp_path, "whole", "easy", some)
    drawn(tmp_path, "broken", "easy", some[:5])
    drawn(tmp_path, "single", "easy", [[i % 2] for i in range(8)])
    drawn(tmp_path, "all_wrong", "easy", [[0] * 8] * 8)
    assert main(["fit", "--runs", str(tmp_path)]) == 0
    rows = {line.split()[2]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["whole"].endswith("converged")
    assert rows["broken"].endswith(
        "3 of 8 problems have no sample; run the command that began it again"
    )
    assert "the curve 1 points" in rows["single"]
    assert "no sample was right" in rows["all_wrong"]


def test_trap_runs_of_another_level_are_passed_over_and_namesakes_are_distinguished(
    tmp_path: Path, capsys: pytest.CaptureFixture, quick: None
) -> None:
    some = [[int(i + j < 8) for j in range(8)] for i in range(8)]
    names = [drawn(tmp_path, "m", "easy", rows) for rows in (some, [row[:4] for row in some])]
    other = drawn(tmp_path, "m", "hard", some)
    assert main(["fit", "--runs", str(tmp_path), "--level", "easy"]) == 0
    message = capsys.readouterr().out
    assert all(name in message for name in names)
    assert other not in message
    assert main(["fit", "--runs", str(tmp_path), "--level", "hard"]) == 0
    assert other not in capsys.readouterr().out  # one row: no column of runs
    assert main(["fit", "--runs", str(tmp_path), "--task", "task hard"]) == 0
    message = capsys.readouterr().out
    assert "task hard" in message
    assert "task easy" not in message
    assert main(["fit", "--runs", str(tmp_path), "--level", "hrad"]) == 1
    assert "did you mean 'hard'? allowed: all, easy, hard" in capsys.readouterr().err


def test_trap_runs_none_of_which_can_be_fitted_are_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, quick: None
) -> None:
    made(tmp_path, "revision", 3, 4)
    assert main(["fit", "--runs", str(tmp_path)]) == 1
    assert "no best-of-N run" in capsys.readouterr().err
    name = drawn(tmp_path, "m", "easy", [[0] * 8] * 8)
    assert main(["fit", "--runs", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("scaling: none of 1 runs could be fitted: no sample was right")
    assert message.endswith(f"({name})\n")
    assert message.count("\n") == 1
    assert main(["fit", "--runs", str(tmp_path), "--law", "chinchilla"]) == 1
    assert capsys.readouterr().err.count("chinchilla") == 1  # refused, and not in the list


@pytest.mark.parametrize(
    "law", ["saturating_majority", *(name for name, law in LAWS.items() if law.density)]
)
def test_trap_a_law_of_samples_is_not_fitted_to_flops_or_money(law: str) -> None:
    """It took 36 s and gave a table of failures; the refusal of small x was numpy's, of its SVD."""
    x, y = 2.0 ** np.arange(8), 1 - 0.8 / np.arange(1, 9)
    priced = Curve(1e9 * x, y, y, y, np.tile(y, (2, 1)), x_unit="flops")
    with pytest.raises(ValueError, match=f"{law} .*in flops"):
        fit(law, priced)
    assert fit("exp_power", priced).n_points == 8
    with pytest.raises(ValueError, match=r"undefined at some x .*0\.0001.*votes"):
        fit("saturating_majority", x * 1e-4, y)

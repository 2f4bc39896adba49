"""What must never change without notice: the problems and drafts of a seed, the edges of a verdict.

The shipped ladder was trained on these drafts and judged on these problems; the digests are of the
version that did so. The other tests here are those without which a mutated verifier went unnoticed.
"""

from __future__ import annotations

import hashlib
import math
from itertools import islice
from random import Random

import numpy as np
import pytest

from scaling.estimates.counts import budgets_of, choose_ratio, inverse_pass_at_k, pass_at_k
from scaling.intervals import mean_interval
from scaling.ladder import examples
from scaling.records import Problem, Verdict
from scaling.tasks import get_task
from scaling.tasks.countdown import Countdown
from scaling.tasks.sums import Sums

DIGESTS = {
    "countdown": "4dce9a3b00dacb4a",
    "sums": "a60336c7f2d6f912",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_problems_and_wrong_drafts_of_a_seed_are_those_the_ladder_was_trained_on(name: str) -> None:
    task, rng, digest = get_task(name), Random(3), hashlib.sha256()
    for split in ("train", "test"):
        for problem in task.problems(150, split, seed=7):
            drafts = [task.wrong(problem, rng) for _ in range(3)]
            digest.update(repr((problem, task.prompt(problem), drafts)).encode())
    assert digest.hexdigest()[:16] == DIGESTS[name]


def test_the_shipped_ladder_was_trained_on_these_examples() -> None:
    """The digest is of the version that trained it."""
    drawn = list(islice(examples(0), 3000))
    assert hashlib.sha256(repr(drawn).encode()).hexdigest()[:16] == "140702968e5e98b1"


def test_a_countdown_verdict_is_exact_at_its_edges() -> None:
    task, problem = Countdown(), Problem("3,7,12=33", "3,7,12=33:", "7*3=21;21+12=33", "3x20")
    right = "7*3=21;21+12=33"
    assert task.verify(problem, right) == Verdict(right, True)
    assert task.verify(problem, right.rjust(399)) == Verdict(right, True)
    assert repr(task.verify(problem, right.rjust(400))) == repr(Verdict(None, False))
    assert repr(task.verify(problem, "33")) == repr(Verdict(None, False))
    for wrong in ("7*3=22;22+12=34", "7*3=21;21+21=42", "7*3=21"):
        assert repr(task.verify(problem, f" {wrong}\n")) == repr(Verdict(wrong, False))
    assert task.verify(Problem("1=1", "", "", ""), "").answer is None


def test_a_sums_verdict_is_exact_at_its_edges() -> None:
    task = Sums()
    nine = Problem("999999990+9", "", "", "")
    assert task.verify(nine, "x=999999999") == Verdict("999999999", True)
    assert repr(task.verify(nine, "=0999999999")) == repr(Verdict(None, False))
    assert repr(task.verify(nine, "999999999")) == repr(Verdict(None, False))
    assert repr(task.verify(nine, "=1")) == repr(Verdict("1", False))


@pytest.mark.parametrize(
    "n", [10, 1023, 1024, 1025, (1 << 22) - 1, 1 << 22, (1 << 22) + 1, 1 << 31]
)
def test_ratios_of_binomials_keep_their_digits_at_every_size(n: int) -> None:
    """1 - C(n-c, 2) / C(n, 2) in whole numbers."""
    for c in (0, 1, n // 3, n - 1, n):
        exact = 1 - (n - c) * (n - c - 1) / (n * (n - 1))
        assert pass_at_k(n, c, 2) == pytest.approx(exact, abs=2e-5 if n > 1 << 22 else 1e-11)
    assert choose_ratio(np.array(n - 1), np.array(n), np.array(n)) == 0
    assert choose_ratio(np.array(n), np.array(n), np.array(n)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pass_at_k(-1, 0, 1), "n holds -1; give whole numbers from 0 to 2147483648"),
        (lambda: pass_at_k(3, -1, 1), "c holds -1; give whole numbers from 0 to 2147483648"),
        (lambda: pass_at_k(3, 1.5, 1), "c holds 1.5; give whole numbers from 0 to 2147483648"),
        (lambda: pass_at_k(3, 1, 0), "k holds 0; give whole numbers from 1 to 2147483648"),
        (lambda: pass_at_k(2**31 + 1, 1, 1), r"n holds 2.14748e\+09; give whole numbers from 0"),
        (lambda: pass_at_k(3, 4, 1), "c is larger than n; give c correct samples among n drawn"),
        (lambda: pass_at_k([3, 3], [1, 1, 1], 1), r"n has shape \(2,\), c \(3,\), k \(\), wh"),
        (lambda: pass_at_k([3, 3], 1, [1, 1, 1]), r"n has shape \(2,\), c \(\), k \(3,\), wh"),
        (lambda: pass_at_k(3, [1, 1], [1, 1, 1]), r"n has shape \(\), c \(2,\), k \(3,\), wh"),
        (lambda: inverse_pass_at_k(3, 1.5, 2, 1), "c holds 1.5; give whole numbers"),
        (lambda: inverse_pass_at_k(3.5, 1, 2, 1, cap=9), "n holds 3.5; give whole numbers"),
        (lambda: budgets_of(0), "k holds 0; give whole numbers from 1 to 2147483648"),
        (lambda: budgets_of(math.nan), "k is nan; give one whole number or a list of them"),
        (lambda: budgets_of([[1]]), r"k is \[\[1\]\]; give one whole number or a list of them"),
        (lambda: inverse_pass_at_k(3, 1, 0, 1), "r is 0, c up to 1; give r >= 1 and c <= r"),
        (lambda: inverse_pass_at_k(3, 1, 1.5, 1), "r is 1.5, c up to 1; give r >= 1 and c <= r"),
        (lambda: inverse_pass_at_k(3, 2, 1, 1), "r is 1, c up to 2; give r >= 1 and c <= r"),
    ],
)
def test_counts_that_cannot_be_are_named(call, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        call()
    assert budgets_of([1, 2]).dtype == np.int64


def test_sampling_stopped_at_successes_is_exact_at_its_edges() -> None:
    """r = 1 stopped at draw n: some of k < n are right with C(n-1-k, 0) / C(n-1, 0): never."""
    assert inverse_pass_at_k(5, 1, 1, [4, 5, 9]).tolist() == [0, 1, 1]
    assert inverse_pass_at_k(1, 1, 1, [1, 2]).tolist() == [1, 1]
    assert inverse_pass_at_k(5, 2, 2, [3, 4]).tolist() == pytest.approx([0.75, 1])
    found = inverse_pass_at_k(5, 1, 1, [5, 6], cap=5)
    assert found[0] == 1
    assert np.isnan(found[1])
    assert np.isnan(inverse_pass_at_k(4, 0, 1, 5))


def test_replicates_of_a_seed_are_the_same_and_of_another_are_not() -> None:
    values = np.random.default_rng(0).random(20)
    one, again, other = (mean_interval(values, 50, seed).replicates for seed in (3, 3, 4))
    assert (one == again).all()
    assert (one != other).any()

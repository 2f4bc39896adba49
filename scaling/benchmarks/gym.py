"""Problems made by the generators of reasoning-gym, graded by our scorers.

The scorers of reasoning-gym are rewards for training: a wrong answer may score above 0, some raise,
some run the answer as code. They never see a model's output. Each generated item is checked: its
own answer must be right, and corrupted answers wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scaling.benchmarks.benchmark import Benchmark, Row
from scaling.benchmarks.grading import SCORERS
from scaling.records import look_up

GENERATORS = {  #: our scorer -> generators
    "number": "basic_arithmetic chain_sum count_bits count_primes decimal_chain_sum gcd "
    "gsm_symbolic lcm leg_counting letter_counting number_sequence products simple_equations",
    "exact": "bitwise_arithmetic calendar_arithmetic spell_backward time_intervals",
    "expression": "countdown puzzle24",
}
ALLOWED = {name: scorer for scorer, names in GENERATORS.items() for name in names.split()}


def gym_benchmark(name: str, n: int, seed: int = 0, template: str = "{question}") -> Benchmark:
    """Return n items of a generator as a benchmark; the first n of more are the same.

    Errors: ValueError for a generator that is not on the list, or an item that fails its test.
    """
    scorer = look_up(ALLOWED, name, "generator of reasoning-gym")
    try:
        import reasoning_gym
    except ImportError as error:
        raise ValueError(
            "reasoning-gym is not installed: pip install 'inference-scaling-kit[tasks]'"
        ) from error
    items = reasoning_gym.create_dataset(name, size=n, seed=seed)
    rows = [_row(name, str(i), items[i], scorer) for i in range(n)]
    distinct = {row.prompt: row for row in rows}  # small generators repeat themselves
    for row in distinct.values():
        check(row)
    notes = {"generator": f"reasoning-gym {name}", "generator_seed": seed}
    return Benchmark(f"gym:{name}", list(distinct.values()), template, notes)


def _row(name: str, id: str, item: dict[str, Any], scorer: str) -> Row:
    given, answer, meta = item["metadata"], str(item["answer"]), dict[str, Any]()
    if scorer == "expression":
        target = given.get("target_number", given.get("target"))
        meta = {"numbers": given["numbers"], "target": 24 if target is None else target}
        answer = str(given.get("expression") or answer)
    return Row(id, "reasoning-gym", name, item["question"], answer, "all", scorer, meta)


def corrupted(answer: str) -> Iterator[str]:
    """Yield texts that are wrong, some of which resemble the answer."""
    yield ""
    yield f"{answer}1" if answer[-1:].isdigit() else f"{answer} 1"
    yield f"1{answer}"
    yield "__import__('os').getcwd()"
    yield "9**9**9"
    yield "I do not know."


def check(row: Row) -> None:
    """Raise ValueError unless the row's scorer accepts its answer and refuses corrupted ones."""
    grade, item = SCORERS[row.scorer], f"{row.task}, item {row.id}"
    if not grade(row.answer, f"Answer: {row.answer}", row.meta).correct:
        raise ValueError(f"{item}: its own answer {row.answer!r} is not accepted")
    for wrong in corrupted(row.answer):
        if grade(row.answer, wrong, row.meta).correct:
            raise ValueError(f"{item}: {wrong!r} is accepted for {row.answer!r}")

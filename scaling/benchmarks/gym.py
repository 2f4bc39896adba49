"""Problems by the generators of reasoning-gym, graded here: its scorers never see a model's output.

They are rewards for training (a wrong answer may score above 0, some raise, some run the answer as
code). So each generator on the list has a scorer of ours, and every item proves it when it is made:
its oracle answer must be right, corrupted ones wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scaling.benchmarks import Benchmark, Row
from scaling.benchmarks.grading import SCORERS
from scaling.records import look_up

ALLOWED: dict[str, str] = {  #: generator -> our scorer
    "basic_arithmetic": "number",
    "bitwise_arithmetic": "exact",
    "calendar_arithmetic": "exact",
    "chain_sum": "number",
    "count_bits": "number",
    "count_primes": "number",
    "countdown": "expression",
    "decimal_chain_sum": "number",
    "gcd": "number",
    "gsm_symbolic": "number",
    "lcm": "number",
    "leg_counting": "number",
    "letter_counting": "number",
    "number_sequence": "number",
    "products": "number",
    "puzzle24": "expression",
    "simple_equations": "number",
    "spell_backward": "exact",
    "time_intervals": "exact",
}


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
    rows = {str(i): _row(name, str(i), items[i], scorer) for i in range(n)}
    unlike = {row.prompt: row for row in rows.values()}  # small generators repeat themselves
    for row in unlike.values():
        check(row)
    notes = {"generator": f"reasoning-gym {name}", "generator_seed": seed}
    return Benchmark(f"gym:{name}", list(unlike.values()), template, notes)


def _row(name: str, id: str, item: dict[str, Any], scorer: str) -> Row:
    meta = item["metadata"]
    answer = str(item["answer"])
    about: dict[str, Any] = {}
    if scorer == "expression":
        about = {
            "numbers": meta["numbers"],
            "target": meta.get("target_number", meta.get("target")),
        }
        about["target"] = 24 if about["target"] is None else about["target"]
        answer = str(meta.get("expression") or answer)
    return Row(id, "reasoning-gym", name, item["question"], answer, "all", scorer, about)


def corrupted(answer: str) -> Iterator[str]:
    """Yield texts that are no right answer, though some look like it."""
    yield ""
    yield f"{answer}1" if answer[-1:].isdigit() else f"{answer} 1"
    yield f"1{answer}"
    yield "__import__('os').getcwd()"
    yield "9**9**9"
    yield "I do not know."


def check(row: Row) -> None:
    """Raise ValueError unless the row's scorer takes its answer and refuses corrupted ones."""
    grade = SCORERS[row.scorer]
    if not grade(row.answer, f"Answer: {row.answer}", row.meta).correct:
        raise ValueError(f"{row.task}, item {row.id}: its own answer {row.answer!r} is not taken")
    for wrong in corrupted(row.answer):
        if grade(row.answer, wrong, row.meta).correct:
            raise ValueError(f"{row.task}, item {row.id}: {wrong!r} is taken for {row.answer!r}")

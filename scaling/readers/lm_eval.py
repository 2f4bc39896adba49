"""samples_*.jsonl of lm-evaluation-harness: one line per document and filter.

`resps` holds what the model wrote, per request and repeat; `filtered_resps` what a filter extracted
of it; each metric is one value per document. Here a line becomes one row per repeat whose verdict
follows from the value, or counts of right and wrong repeats where only their number does.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from scaling.estimates import pass_at_k
from scaling.readers.values import judged, number, verdict

FIELDS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip  #: of a line; what is not among them is a metric
PASS = re.compile(r"pass(?:@|_at_)(\d+)")  #: pass@8, pass_at_1
MEAN = re.compile(r"(?:acc|avg|mean)@\d+")  #: other names with @ or ^, as maj@8, are not means


def record(line: Any) -> dict[str, Any]:
    """Return what matters of a line: how often the model answered, the answers, the metrics."""
    names = line.get("metrics") or [name for name in line if name not in FIELDS]
    if not names:
        raise ValueError("it holds no metric")
    requests, kept = line["resps"], line["filtered_resps"]
    repeats = requests[0]
    if len(requests) > 1 or not isinstance(repeats[0], str):  # log-likelihoods of choices
        repeats = answers = [None]
    else:
        answers = kept[0] if isinstance(kept[0], list) else [kept[0]]
    return {
        "problem": str(line["doc_id"]),
        "hash": str(line.get("doc_hash", ""))[:8],
        "filter": str(line.get("filter", "none")),
        "metrics": {str(name): line[name] for name in names},
        "target": line.get("target"),
        "answers": [answer if answer is None else str(answer) for answer in answers],
        "repeats": len(repeats),
        "first": _is_of_the_first(answers, repeats),
    }


def _is_of_the_first(answers: list[Any], repeats: list[Any]) -> float:
    """Return 1 if the one filtered answer is found in the first repeat and not in all, 0 if only
    in later ones, so that a vote made it; NaN where the texts do not say."""
    if len(answers) != 1 or len(repeats) < 2:
        return math.nan
    word = re.compile(rf"(?<!\w){re.escape(str(answers[0]))}(?!\w)")
    found = [bool(word.search(text)) for text in repeats]
    return math.nan if len(set(found)) == 1 else float(found[0])


def settle(records: list[dict[str, Any]]) -> list[str]:
    """Settle what a line alone does not say: documents, and first repeats. Return notes.

    The file does not say what a filter does. One answer of several repeats counts as the first
    repeat's if it is found there wherever the repeats differ; else a vote may have chosen it.
    """
    notes = _disambiguate(records)
    signs = [sign for record in records if not math.isnan(sign := record["first"])]
    if not signs or not all(signs):
        return notes
    for record in records:
        record["filter"] = "none"
    return [*notes, "each verdict is the first repeat's: the filter kept that one alone"]


def _disambiguate(records: list[dict[str, Any]]) -> list[str]:
    """Name documents that share a number, as those of several tasks do, by their hash too."""
    hashes: dict[str, set[str]] = {}
    for record in records:
        hashes.setdefault(record["problem"], set()).add(record["hash"])
    shared = {name for name, found in hashes.items() if len(found) > 1}
    for record in records:
        if record["problem"] in shared:
            record["problem"] += f"-{record['hash']}"
    what = "doc_ids stand for several documents (of several tasks?), each its own problem"
    return [f"{len(shared):,} {what}"] if shared else []


def rows(record: dict[str, Any], metric: str) -> list[dict[str, Any]]:
    """Return a row per repeat. One with `counted` says how many were right, not which."""
    value, answers, n = record["metrics"][metric], record["answers"], record["repeats"]
    if len(answers) > n:
        raise ValueError(f"{len(answers)} filtered answers of {n} repeats")
    if isinstance(value, list):
        if len(value) != n or not all(verdict(v) in (0, 1) for v in value):
            return _samples(record, [], f"{metric} is a list, but not of one verdict per repeat")
        known = answers if len(answers) == n else [None] * n  # not those of some of them alone
        return _samples(record | {"answers": known}, value, "")
    if len(answers) == 1 and n > 1:  # the filter made one answer of all of them: maybe by a vote
        if record["filter"] != "none":
            why = f"the filter {record['filter']!r} made one answer of {n} repeats"
            return _samples(record, [], why)
        return _samples(record, [value], f"only the first of {n} repeats was judged")
    if len(answers) == 1:
        return _samples(record, [value], "")
    right = numbers_right(metric, value, len(answers))
    if not right:
        return _samples(record, [], f"{metric} is not the share of the repeats that are right")
    verdicts = [answer == record["target"] for answer in answers]
    if sum(verdicts) not in right:
        verdicts = [i < max(right) for i in range(len(answers))]
        if 0 < max(right) < len(answers):
            shared = {"problem": record["problem"], "counted": True}
            return [shared | {"chain": i, "correct": float(v)} for i, v in enumerate(verdicts)]
    found = _samples(record, verdicts, "the filter left it out")
    return [row | {"least_k": k_of(metric)} for row in found] if len(right) > 1 else found


def numbers_right(metric: str, value: Any, n: int) -> list[int]:
    """Return how many of n repeats may be right, from a metric of them all; none: it cannot say.

    The mean of n verdicts times n is their number. pass@k is inverted: it rises with the number of
    right ones until it reaches 1, which several large numbers share.
    """
    k, share = k_of(metric), number(value)
    if k > n or (re.search("[@^]", metric) and not (PASS.fullmatch(metric) or MEAN.match(metric))):
        return []
    near = np.abs(pass_at_k(n, np.arange(n + 1), k) - share) < (1e-3 / n if k == 1 else 1e-9)
    return np.flatnonzero(near).tolist()


def k_of(metric: str) -> int:
    """Return k of a metric named pass@k; 1 of any other."""
    found = PASS.fullmatch(metric)
    return int(found[1]) if found else 1


def _samples(record: dict[str, Any], values: list[Any], why: str) -> list[dict[str, Any]]:
    """Return a row per repeat: the first have `values`, the others none, because of `why`."""
    problem, n = record["problem"], record["repeats"]
    answers = [*record["answers"], *[None] * (n - len(record["answers"]))]
    found: list[dict[str, Any]] = [
        {"problem": problem, "chain": i, "answer": answer} for i, answer in enumerate(answers)
    ]
    for row, value in zip(found, values, strict=False):
        row |= judged(value)
    for row in found[len(values) :]:
        row["why"] = why
    return found

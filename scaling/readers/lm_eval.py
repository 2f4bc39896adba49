"""Read samples_*.jsonl of lm-evaluation-harness: one line per document and filter.

`resps` holds the model's texts per request and repeat, `filtered_resps` the answers that a filter
extracted from them; each metric is one value per document. A line becomes one row per repeat if the
verdict of each follows from the value, or else counts of right and wrong repeats.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from scaling.estimates import pass_at_k
from scaling.readers.values import number, verdict

FIELDS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip  #: of a line; any other field is a metric
PASS = re.compile(r"pass(?:@|_at_)(\d+)")  #: pass@8, pass_at_1
MEAN = re.compile(r"(?:acc|avg|mean)@\d+")  #: other names with @ or ^, such as maj@8, are no means


def rows(line: Any) -> list[dict[str, Any]]:
    """Return a document: the number of repeats, the answers, the metrics."""
    names = line.get("metrics") or [name for name in line if name not in FIELDS]
    if not names:
        raise ValueError("it holds no metric")
    requests, kept = line["resps"], line["filtered_resps"]
    repeats = requests[0]
    if len(requests) > 1 or not isinstance(repeats[0], str):  # log-likelihoods of choices
        repeats = answers = [None]
    else:
        answers = kept[0] if isinstance(kept[0], list) else [kept[0]]
    document = {
        "problem": str(line["doc_id"]),
        "hash": str(line.get("doc_hash", ""))[:8],
        "filter": str(line.get("filter", "none")),
        "metrics": {str(name): line[name] for name in names},
        "target": line.get("target"),
        "answers": [answer if answer is None else str(answer) for answer in answers],
        "repeats": len(repeats),
        "first": _only_first(answers, repeats),
    }
    return [document]


def _only_first(answers: list[Any], repeats: list[Any]) -> bool | None:
    """Return whether the one filtered answer is found in the first repeat; None if unclear.

    It is unclear where the answer is in all repeats or in none. In later repeats alone, a vote
    chose it.
    """
    if len(answers) != 1 or len(repeats) < 2:
        return None
    word = re.compile(rf"(?<!\w){re.escape(str(answers[0]))}(?!\w)")
    found = [bool(word.search(text)) for text in repeats]
    return None if len(set(found)) == 1 else found[0]


def settle(documents: list[dict[str, Any]]) -> list[str]:
    """Separate documents that share a number, and determine the origin of single filtered answers.

    The file does not say what a filter does. One answer of several repeats is the first repeat's
    if it is found there in every document whose repeats differ; else a vote may have chosen it.
    Returns notes.
    """
    hashes: dict[str, set[str]] = {}
    for document in documents:
        hashes.setdefault(document["problem"], set()).add(document["hash"])
    shared = {name for name, found in hashes.items() if len(found) > 1}
    what = "doc_ids stand for several documents (of several tasks?), each its own problem"
    notes = [f"{len(shared):,} {what}"] * bool(shared)
    signs = [document["first"] for document in documents if document["first"] is not None]
    if only_first := bool(signs) and all(signs):
        notes.append("each verdict is the first repeat's: the filter kept that one alone")
    for document in documents:
        if document["problem"] in shared:
            document["problem"] += f"-{document['hash']}"
        if only_first:
            document["filter"] = "none"
    return notes


def judge(document: dict[str, Any], metric: str) -> list[dict[str, Any]]:
    """Return a row per repeat, or one row with only the number of right ones: `c` of `n`."""
    value, answers = document["metrics"][metric], document["answers"]
    n, kept = document["repeats"], len(answers)
    if kept > n:
        raise ValueError(f"{kept} filtered answers of {n} repeats")
    if isinstance(value, list):
        if len(value) != n or not all(verdict(v) in (0, 1) for v in value):
            return _repeats(document, [], f"{metric} is a list, but not of one verdict per repeat")
        known = answers if kept == n else [None] * n  # a vote of some of them would mislead
        return _repeats(document | {"answers": known}, value, "")
    if kept == 1 < n and document["filter"] != "none":  # by a vote, perhaps
        why = f"the filter {document['filter']!r} made one answer of {n} repeats"
        return _repeats(document, [], why)
    if kept == 1:
        return _repeats(document, [value], f"only the first of {n} repeats was judged")
    right = numbers_right(metric, value, kept)
    if not right:
        why = f"{metric} is not the share of the repeats that are right"
        return _repeats(document, [], why)
    verdicts = [answer == document["target"] for answer in answers]
    if sum(verdicts) not in right:
        if 0 < max(right) < kept:
            return [{"problem": document["problem"], "n": kept, "c": max(right)}]
        verdicts = [max(right) == kept] * kept
    found = _repeats(document, verdicts, "the filter left it out")
    return [row | {"least_k": k_of(metric)} for row in found] if len(right) > 1 else found


def numbers_right(metric: str, value: Any, n: int) -> list[int]:
    """Return how many of n repeats may be right, given a metric of them all; empty if unknown.

    The mean of n verdicts times n is their number. pass@k is inverted: it rises with the number of
    right ones until it reaches 1, which several large numbers share.
    """
    k, share = k_of(metric), number(value)
    if k > n or (re.search("[@^]", metric) and not (PASS.fullmatch(metric) or MEAN.match(metric))):
        return []
    near = np.abs(_shares(n, k) - share) < (1e-3 / n if k == 1 else 1e-9)
    return np.flatnonzero(near).tolist()


@lru_cache
def _shares(n: int, k: int) -> np.ndarray:
    """Return pass@k of 0, 1, ..., n right ones of n."""
    return pass_at_k(n, np.arange(n + 1), k)


def k_of(metric: str) -> int:
    """Return k of a metric named pass@k; 1 for any other."""
    found = PASS.fullmatch(metric)
    return int(found[1]) if found else 1


def _repeats(document: dict[str, Any], values: list[Any], why: str) -> list[dict[str, Any]]:
    """Return a row per repeat: the first have `values`, the others none, because of `why`."""
    problem, n = document["problem"], document["repeats"]
    answers = [*document["answers"], *[None] * (n - len(document["answers"]))]
    return [
        {"problem": problem, "chain": i, "answer": answers[i], "correct": value}
        for i, value in enumerate(values)
    ] + [
        {"problem": problem, "chain": i, "answer": answers[i], "why": why}
        for i in range(len(values), n)
    ]

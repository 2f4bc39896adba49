"""Names of methods, selectors and models in figures and reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from scaling.runs import Run

SELECTOR_NAMES = {
    "coverage": "coverage",
    "majority": "majority vote",
    "logprob": "best log-probability",
    "weighted logprob": "vote weighted by probability",
    "first": "first draft",
    "last": "last draft",
}


def disambiguate(
    names: Sequence[str], more: Iterable[str], by: Sequence[Hashable] | None = None
) -> list[str]:
    """Return names, with `more` appended to each that repeats (or whose entry of `by` does).

    >>> disambiguate(["a", "b", "a"], "xyz")
    ['a · x', 'b', 'a · z']
    """
    by = by or names
    often, rows = Counter(by), zip(names, more, by, strict=True)
    return [f"{name} · {own}" if often[key] > 1 else name for name, own, key in rows]


def series_name(run: Run, selector: str) -> str:
    """Return what a legend calls a method and selector, and whether it has verifier feedback."""
    feedback = ", verifier feedback" if run.plan.feedback == "verdict" else ""
    return f"{run.method.title or run.plan.method}{feedback}: {selector_name(selector)}"


def selector_name(selector: str) -> str:
    """Return the name of a selector in legends; a scorer's selector has the scorer's name."""
    plain = selector.replace(":last", "").replace(":", ", ")
    return SELECTOR_NAMES.get(selector, plain.replace("weighted ", "vote weighted by "))

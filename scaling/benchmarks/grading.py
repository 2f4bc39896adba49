"""Grade a text: extract the answer and compare it with the ground truth; no code is run.

A scorer takes (expected answer, text, meta of the row) and returns a Verdict. Its answer is
normalised, so that votes can be counted: equal answers have equal texts, however they were written.
The last answer of a text counts (`extraction`); numbers are compared as fractions (`numbers`),
mathematics by canonical keys (`mathematics`), expressions by a walk over their syntax tree. Not
here: thinking, which is removed before.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from scaling.benchmarks.choices import extract_choice
from scaling.benchmarks.extraction import (
    LONGEST,
    answer_part,
    boxed,
    characters,
    extract_answer,
    last_line,
    marked_parts,
    segments,
    sentence,
)
from scaling.benchmarks.mathematics import POWERED, key, units_differ
from scaling.benchmarks.numbers import (
    TEXT,
    WORDED,
    extract_number,
    last_number,
    plain,
    to_number,
)
from scaling.records import Verdict

SOLUTION = re.compile(r"<solution>((?:(?!<solution>).)*?)</solution>", re.DOTALL)
NEGATED = re.compile(r"\s*not\b", re.IGNORECASE)
TIMES = re.compile(r"(?<=[\w)])(\s?)\*\1(?=[\w(])")  #: and no Markdown
NO_WORD = re.compile(r"(?<!\w)[!#]|(?<!\d)!|[^\w\s.,/+<>=≤≥≠^√%~|×!#-]")
PLAIN_OPERATORS = {
    r"\times": "*", r"\cdot": "*", r"\ast": "*", "∗": "*", r"\div": "/", r"\left": "",
    r"\right": "", r"\,": "", r"\(": "", r"\)": "", r"\[": "", r"\]": "", "[": "(", "]": ")",
}  # fmt: skip
OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv
}  # fmt: skip
LONGEST_EXPRESSION = 200  #: characters
LARGEST = 10**9  #: of the numbers in an expression
ARITHMETIC = frozenset("0123456789+-*/() \t\n")  #: neither 0x18 nor 1_0 nor a comment is a number
PRODUCT = re.compile(r"(?<=[\d)])\s*[xX](?=[\s\d(])|(?<=[\d)])\s*(?=\()")  #: 5 x (3-1), 5(3-1)
BOLD_LIST = re.compile(r"(?<=[^\s*])\*\*(?:,\s*|,?\s+and\s+)\*\*(?=[^\s*])")
REASON = re.compile(r"[,;]?\s+(?:because|since)\s")
BULLET = re.compile(r"^\s*(?:[-=]?>|[-*#])\s+(?!\d)")

Scorer = Callable[[str, str, dict[str, Any]], Verdict]


def number(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the final number of a text is the expected one.

    Without a marked answer the last number counts. An exclamation mark is a factorial in a box or
    after ####, and none in prose.
    """
    text = characters(text)
    given = plain(extract_answer(text) or "")
    if WORDED.match(given):
        value = None
    elif re.search(r"\d", given):
        value = extract_number(given, "####" in text or "\\boxed" in text)
    else:
        value = last_number(plain(text))
    if value is None:
        return Verdict(None, False)
    return Verdict(str(value), value == to_number(expected))


def mathematics(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the final answer equals the expected one mathematically: the keys are equal.

    Without a box, a tag or a mark the last formula of the text counts, or else its last number.
    """
    given = _extract_mathematics(text)
    found = key(given) if len(given) <= LONGEST else None
    right = found is not None and found == key(expected) and not units_differ(expected, given)
    return Verdict(found, right)


def _extract_mathematics(text: str) -> str:
    """Return the part of a text that is its mathematical answer; "" where there is none."""
    part = answer_part(POWERED.sub(r"\1}^\2", text))
    if part and part.marked and NEGATED.match(part.text):
        return ""
    if part is None:
        return segments(text, last=True) or _as_text(last_number(plain(text)))
    given = segments(part.text) or (sentence(part.text) if part.marked else part.text)
    if part.marked and re.search("[a-zA-Z]{3}", given) and "\\" not in given:  # prose
        return _as_text(extract_number(plain(given))) or given
    return given


def _as_text(value: Fraction | None) -> str:
    return "" if value is None else str(value)


def letter(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the option chosen last (EEEEE, boxed, in brackets, "answer is E") is expected.

    A choice in brackets within a line counts only where no other is boxed, tagged or marked.
    """
    found = extract_choice(text)
    return Verdict(found or None, bool(found) and found == expected.strip(" ().").upper()[:1])


def _last_certain(found: Iterable[tuple[int, bool, str]]) -> str:
    """Return the last answer of those that are certain, or of all where none is; "" without any."""
    return max(((certain, place, given) for place, certain, given in found), default=("", 0, ""))[2]


def tagged(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the last marked part (solution tags, bold, boxed) is the expected text."""
    answer = _plain_words(_last_certain(marked_parts(BOLD_LIST.sub(", ", text))))
    return Verdict(answer or None, bool(answer) and answer == _plain_words(expected))


def contains(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the last <solution>, or else the text, contains the expected text, verbatim.

    The rule of LiveBench for its task `typos`: line ends count as blanks.
    """
    answer = " ".join(filter(None, (SOLUTION.findall(text) or [text])[-1].strip().split("\n")))
    return Verdict(answer or None, bool(answer) and expected in answer)


def bare_words(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the boxed text, or else the whole one, has the expected letters and digits.

    The rule of LiveBench for its task `cta`: case, blanks and punctuation do not count.
    """
    given = TEXT.sub(r"\1", text if (found := boxed(text)) is None else found)
    answer, wanted = (re.sub(r"\W", "", side).lower() for side in (given, expected))
    return Verdict(answer[:LONGEST] or None, bool(answer) and answer == wanted)


def exact(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the marked answer, or else the last line, is the expected text."""
    given = extract_answer(text)
    if given and (bold := re.match(r"\*\*(.+?)\*\*", given)):
        given = bold[1]
    answer = _plain_words(REASON.split(given)[0] if given else BULLET.sub("", last_line(text)))
    return Verdict(answer or None, bool(answer) and answer == _plain_words(expected))


def expression(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether an expression uses each of meta["numbers"] once and equals meta["target"]."""
    given = extract_answer(text)
    given = characters(last_line(text) if given is None else given)
    for latex, sign in PLAIN_OPERATORS.items():
        given = given.replace(latex, sign)
    sides = [side.strip(" $*`.;") for side in PRODUCT.sub("*", given).split("=")]
    given = sides[1] if len(sides) > 1 and re.fullmatch(r"\d+", sides[0]) else sides[0]
    try:
        value, used = evaluate(given)
    except ValueError:
        return Verdict(None, False)
    right = sorted(used) == sorted(meta["numbers"]) and value == meta["target"]
    return Verdict(re.sub(r"\s", "", given), right)


def evaluate(text: str) -> tuple[Fraction, list[int]]:
    """Return (value, numbers used, in order) of an expression in + - * / ( ) and whole numbers.

    Its syntax tree is walked, nothing is run as Python. Errors: ValueError for anything else, such
    as a name, a call or a power.
    """
    if len(text) > LONGEST_EXPRESSION:
        raise ValueError(f"an expression of {len(text)} characters; at most {LONGEST_EXPRESSION}")
    if odd := set(text) - ARITHMETIC:
        raise ValueError(f"{min(odd)!r} is not arithmetic")
    used: list[int] = []
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, used), used
    except (SyntaxError, MemoryError, RecursionError, ZeroDivisionError) as error:
        raise ValueError(f"no value: {type(error).__name__}") from error


def _value(node: ast.expr, used: list[int]) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left, used), _value(node.right, used))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, used)
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value <= LARGEST:
        used.append(node.value)
        return Fraction(node.value)
    raise ValueError(f"{type(node).__name__} is not arithmetic")


def _plain_words(text: str) -> str:
    """Return words and numbers without punctuation, except what can change a number."""
    text = " ".join(characters(text).split())
    text = TEXT.sub(r"\1", TIMES.sub("×", text))
    text = re.sub(r"(?<!\d)\s*,\s*|\s*,\s*(?!\s*\d)", ", ", text)
    return " ".join(NO_WORD.sub(" ", text).lower().split()).strip(" .,")


SCORERS: dict[str, Scorer] = {
    "number": number,
    "math": mathematics,
    "tagged": tagged,
    "letter": letter,
    "exact": exact,
    "expression": expression,
    "contains": contains,
    "bare_words": bare_words,
}

"""From a text to a verdict: find the answer, compare it with the ground truth. Runs nobody's code.

Numbers are compared as fractions; other mathematics goes to `symbolic`, a process that can be
killed; expressions go through `expressions`, never through eval. A scorer takes (expected answer,
text, meta of the row) and returns a Verdict whose answer is normalised, so that votes can be
counted. The last answer of a text counts. Not here: thinking, which was cut off before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from scaling.benchmarks.expressions import evaluate
from scaling.benchmarks.symbolic import same_mathematics
from scaling.records import Verdict

LONGEST = 400  #: characters of an answer
NUMBER = re.compile(
    r"(?<![\w.])(?<!\d,)[-+]?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?![.,]?\d)(?:/\d+(?![.,]?\d))?"
)
AFTER = re.compile(  #: a number that is only a part of what is said
    r"""\s*(?:(?:[-+*/^]+|[xe]|\\[a-z]+|\}\s*\{)[\s${(+-]*)?\.?\d  # 2 + 3, 3 1/2, 1e5, 2 \times 3
    | [a-z](?![a-z]) | \s*\\(?!circ|q?quad)[a-z] | \s*(?:\^(?!\{?\\circ)|\+)  # 5x, 5\pi, 5^n, 5+x
    | \s*[-*/]\s*(?:[b-hj-z](?![a-z])|[(\\]) | [:%]\s?\d  # 5-x, 5/(x), 5:2
    | \s*(?:[≤≥≠]|!=|[<>]=?\s*(?:[-.\d\\]|[a-z](?![a-z>])))  # 5<x
    | \s*\$?\s*(?:or|and|to)\s+\$?-?\d  # 5 or 7
    | \s+(?:hundred|thousand|[mbtr]+illion)  # 5 million
    """,
    re.IGNORECASE | re.VERBOSE,
)
BEFORE = re.compile(  #: the same, seen from the other side: √5, x<5, x!=5, 7-5, \sqrt{5}, not 5
    r"(?:[\^√<>≤≥≠_±]|[<>!=]=|[\w)}\]][^\S\n]*[-+*/]"
    r"|\\(?!approx|q?quad|displaystyle|implies|[a-z]*arrow)[a-z]+[^\S\n]*[{[]?|\bnot)[\s${(]*$",
    re.IGNORECASE,
)
EQUALS = re.compile(r"(?<![<>!=:])=(?!=)")
FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
CALCULATED = re.compile(r"<<[^<>\n]*>>")  #: of GSM8K: 2 + 3 = <<2+3=5>>5
SENTENCE = re.compile(r"[.;!?]\s")
MARK = re.compile(r"(?:####|(?:final )?answer(?: is|:))[ \t*:]*", re.IGNORECASE)
DOLLARS = re.compile(r"\$([^$\n]+)\$")
TAGS = re.compile(
    r"<solution>((?:(?!<solution>).)*?)</solution>|\*\*\*(.+?)\*\*\*|\*\*(.+?)\*\*|\\boxed\{([^{}]*)\}",
    re.DOTALL,
)
SOLUTION = re.compile(r"<solution>((?:(?!<solution>).)*?)</solution>", re.DOTALL)
LETTER = re.compile(r"\b([A-Z])\1{2,}\b|\\boxed\{(?:\\text\{)?\(?([A-Z])\)?\}?\}|\(([A-Z])\)")
MINUS = str.maketrans("−–×·÷", "--**/")
NOISE = re.compile(r"\\(?:left|right|displaystyle|mbox|,|!|;|:| )|\\?\$|\^\{?\\circ\}?|°|\\?%|\s")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
NAMED = re.compile(  #: x = 5, x_1 = 5, AB = 5, \theta = 5, \text{Area} = 5, but not 2x = 5
    r"\s*\$?(?:[a-zA-Z]|[A-Z]{2,3}|\\(?:text|mathrm)\{[\w ]+\}|\\(?:alpha|beta|gamma|theta|phi|mu))"
    r"(?:_(?:\w|\{\w+\}))?\s*=([^=<>≤≥]*)"
)
RELATION = re.compile(r"[=<>≤≥≠]|\\(?:n?eq?|[lg]eq?|[lg]t|text\{or\})(?![a-z])")
BRACKET = re.compile(r"[(\[]|\\\{|\\(?:in|cup|cap)(?![a-z])")  #: of what relations can tell too
TIMES = re.compile(r"(?<=[\w)])(\s?)\*\1(?=[\w(])")  #: and no Markdown
NO_WORD = re.compile(r"(?<!\w)[!#]|(?<!\d)!|[^\w\s.,/+<>=≤≥≠^√%~|×!#-]")
TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\{([^{}]*)\}")

Scorer = Callable[[str, str, dict[str, Any]], Verdict]


def boxed(text: str) -> str | None:
    r"""Return what is in the last \boxed{...} of a text, braces balanced; None without one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for at in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[start + 7 : at]
    return None


def stated(text: str) -> str | None:
    """Return what a text states: boxed, or the line behind its last #### or "answer is"."""
    if (found := boxed(text)) is not None:
        return found
    ends = [mark.end() for mark in MARK.finditer(text)]
    return (text[ends[-1] :].partition("\n")[0].strip() if ends else "") or None


def to_number(text: str) -> Fraction | None:
    """Return a text that is nothing but a number (1,234.50 $ or %); None for anything else."""
    bare = THOUSANDS.sub("", NOISE.sub("", text.translate(MINUS))).rstrip(".")
    plain = re.fullmatch(r"[-+]?(?:\d{1,60}(?:\.\d{1,60})?|\.\d{1,60})(?:/\d{1,60})?", bare)
    try:
        top, _, bottom = bare.partition("/") if plain else ("", "", "")
        return Fraction(top) / Fraction(bottom or 1) if plain else None
    except ZeroDivisionError:
        return None


def whole(text: str, found: re.Match[str]) -> bool:
    """Return whether a number stands by itself: not in x<5, 7-5, √5, 5x, 5 or 7."""
    start, end = found.span()
    return not (BEFORE.search(text, max(0, start - 40), start) or AFTER.match(text, end))


def comes_to(said: str) -> str:
    """Return the number that a statement comes to: 5 of "2 + 3 = 5 rolls"; "" where none is told.

    A number that opens its first sentence is it; else the first one of the last side of an equation
    on which no arithmetic is left to do.
    """
    said = said.replace("**", " ")
    first = SENTENCE.split(said, maxsplit=1)[0].lstrip(" `(")
    opens = NUMBER.match(first)
    if opens and whole(first, opens):
        said = first
    for side in reversed(EQUALS.split(said)):
        found = NUMBER.search(side)
        if found and whole(side, found):
            return found[0]
    return ""


def last_number(text: str) -> str:
    """Return the last number of a text; "" where it is a part of something else."""
    *_, found = (None, *NUMBER.finditer(text))
    return found[0] if found and whole(text, found) else ""


def number(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the number stated last is the expected one; the last of all where none is.

    The exclamation mark of a box or of #### is a factorial, that of prose is none.
    """
    text = CALCULATED.sub("", text.translate(MINUS))
    text = FRACTION.sub(r" \1/\2", TEXT.sub(r"\1", text))
    said = stated(text) or ""
    found = comes_to(said) if NUMBER.search(said) else last_number(text.replace("**", " "))
    if f"{found}!" in said and ("####" in text or "\\boxed{" in text):
        found = ""
    value = to_number(found)
    if value is None:
        return Verdict(None, False)
    return Verdict(str(value), value == to_number(expected))


def normal(latex: str) -> str:
    """Return mathematics without what changes nothing: blanks, sizes, units of money, text."""
    text = TEXT.sub(r"\1", latex.translate(MINUS))
    text = NOISE.sub("", text).replace("dfrac", "frac").replace("tfrac", "frac").rstrip(".")
    if not BRACKET.search(text):  # (1,234) are two numbers
        text = THOUSANDS.sub("", text)
    return re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)


def mathematics(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether what is stated last is mathematically the expected answer.

    Of `name = answer` the name is left out; what else says =, <, or the like is no number.
    """
    said = stated(text)
    if said is None:
        said = next(iter(DOLLARS.findall(text)[-1:]), "") or last_number(text)
    elif boxed(text) is None:
        said = next(iter(DOLLARS.findall(said)[:1]), said)
    if not said or len(said) > LONGEST:
        return Verdict(None, False)
    named = NAMED.fullmatch(said)
    said = named[1] if named and "=" not in expected else said
    ours, theirs = normal(said), normal(expected)
    values = to_number(ours), to_number(theirs)
    if ours == theirs:
        right = True
    elif None not in values:
        right = values[0] == values[1]
    elif RELATION.search(said) and not (RELATION.search(expected) or BRACKET.search(expected)):
        right = False
    else:
        right = same_mathematics(theirs, ours)
    return Verdict(ours if values[0] is None else str(values[0]), right)


def tagged(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the last marked part (solution tags, bold, boxed) is the expected text."""
    found = [next(filter(None, groups), "") for groups in TAGS.findall(text)]
    answer = _words(found[-1]) if found else ""
    return Verdict(answer or None, bool(answer) and answer == _words(expected))


def contains(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the last <solution>, or else the text, contains the expected text, verbatim.

    The rule of LiveBench for its task `typos`: line ends count as blanks.
    """
    answer = " ".join(filter(None, (SOLUTION.findall(text) or [text])[-1].strip().split("\n")))
    return Verdict(answer or None, bool(answer) and expected in answer)


def bare_words(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether what is boxed, or else the whole text, has the expected letters and digits.

    The rule of LiveBench for its task `cta`: case, blanks and punctuation do not count.
    """
    said = TEXT.sub(r"\1", text if (found := boxed(text)) is None else found)
    answer, wanted = (re.sub(r"\W", "", side).lower() for side in (said, expected))
    return Verdict(answer[:LONGEST] or None, bool(answer) and answer == wanted)


def letter(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the choice made last (EEEEE, boxed, or in brackets) is the expected letter."""
    found = [next(filter(None, groups), "") for groups in LETTER.findall(text)]
    return Verdict(found[-1], found[-1] == expected.strip()) if found else Verdict(None, False)


def exact(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether what is stated, or else the last line, is the expected text."""
    lines = text.strip().splitlines()
    answer = _words(stated(text) or (lines[-1] if lines else ""))
    return Verdict(answer or None, bool(answer) and answer == _words(expected))


def expression(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether an expression uses each of meta["numbers"] once and equals meta["target"]."""
    said = stated(text)
    lines = text.strip().splitlines()
    said = (said if said is not None else lines[-1] if lines else "").translate(MINUS)
    said = said.partition("=")[0].strip(" $*`.")
    try:
        value, used = evaluate(said)
    except ValueError:
        return Verdict(None, False)
    right = sorted(used) == sorted(meta["numbers"]) and value == meta["target"]
    return Verdict(re.sub(r"\s", "", said), right)


def _words(text: str) -> str:
    """Return words and numbers, without marks of prose; what can change a number stays."""
    text = TIMES.sub("×", text.translate(MINUS))
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

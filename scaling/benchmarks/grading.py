"""From a text to a verdict: find the answer, compare it with the ground truth. Runs nobody's code.

A scorer takes (expected answer, text, meta of the row) and returns a Verdict. Its answer is
normalised, so that votes can be counted: equal answers have equal texts, however they were written.
The last answer of a text counts (`extraction`); numbers are compared as fractions (`numbers`),
mathematics by canonical keys (`mathematics`), expressions by a walk over their syntax tree
(`expressions`). Not here: thinking, which was cut off before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from scaling.benchmarks.expressions import evaluate
from scaling.benchmarks.extraction import (
    LONGEST,
    MARK,
    answer_part,
    box_of,
    boxed,
    characters,
    last_line,
    segments,
    sentence,
    stated,
)
from scaling.benchmarks.mathematics import key, units_differ
from scaling.benchmarks.numbers import (
    TEXT,
    WORDED,
    find_number,
    last_number,
    plain,
    to_number,
)
from scaling.records import Verdict

SOLUTION = re.compile(r"<solution>((?:(?!<solution>).)*?)</solution>", re.DOTALL)
MARKED = re.compile(
    r"<(?P<tag>solution|answer)>(?P<in>(?:(?!<(?:solution|answer)>).)*?)</(?P=tag)>"
    r"|(?P<stars>\*\*\*?)(?P<bold>.+?)(?P=stars)",
    re.DOTALL,
)
COLON = re.compile(r"\s{0,3}:")
CHOICE = re.compile(r"\b([A-Z])\1{2,}\b|\(([A-Z])\)")
OPTION = re.compile(  #: C; (C); C. the last one; option C; (c), but not "a triangle", "I think"
    r"[\s*_$({[]*(?:(?:[Tt]he )?(?:[Oo]ption|[Cc]hoice|[Ll]etter) )?[\s*_$({[]*"
    r"(?:((?!I [a-z])[A-Z])(?![\w'])|([a-z])(?=[)\].:,*}$]|\s*$))"
)
OTHER = re.compile(r"[\s)}\]*$]*(?:,|and|or|&|/)\s*[({$*]*[A-Z]\b")  #: B and C
TIMES = re.compile(r"(?<=[\w)])(\s?)\*\1(?=[\w(])")  #: and no Markdown
NO_WORD = re.compile(r"(?<!\w)[!#]|(?<!\d)!|[^\w\s.,/+<>=≤≥≠^√%~|×!#-]")
OPERATORS = {r"\times": "*", r"\cdot": "*", r"\div": "/", r"\left": "", r"\right": "", r"\,": ""}

Scorer = Callable[[str, str, dict[str, Any]], Verdict]


def number(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the number stated last is the expected one; the last of all where none is.

    The exclamation mark of a box or of #### is a factorial, that of prose is none.
    """
    text = characters(text)
    said = plain(stated(text) or "")
    if WORDED.match(said):
        value = None
    elif re.search(r"\d", said):
        value = find_number(said, "####" in text or "\\boxed" in text)
    else:
        value = last_number(plain(text).replace("**", "\t"))
    if value is None:
        return Verdict(None, False)
    return Verdict(str(value), value == to_number(expected))


def mathematics(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether what is stated last is mathematically the expected answer: has the same key.

    Without a box, a tag or a mark the last formula of the text counts, or else its last number.
    """
    said = _mathematics(text)
    found = key(said) if len(said) <= LONGEST else None
    right = found is not None and found == key(expected) and not units_differ(expected, said)
    return Verdict(found, right)


def _mathematics(text: str) -> str:
    """Return the part of a text that is its mathematical answer; "" where there is none."""
    part = answer_part(text)
    if part is None:
        return segments(text, last=True) or _spelt(last_number(plain(text)))
    said = segments(part.text) or (sentence(part.text) if part.marked else part.text)
    if part.marked and re.search("[a-zA-Z]{3}", said) and "\\" not in said:  # prose
        return _spelt(find_number(plain(said))) or said
    return said


def _spelt(value: Fraction | None) -> str:
    return "" if value is None else str(value)


def _fills_line(text: str, start: int, end: int) -> bool:
    """Return whether nothing else but marks is on the line of a part of a text."""
    before = text[max(0, start - LONGEST) : start].rpartition("\n")[2]
    return not re.search(r"\w", before + text[end : end + LONGEST].partition("\n")[0])


def _marked(text: str) -> Iterator[tuple[int, bool, str]]:
    """Yield (place, whether it is certainly an answer, content) of what is boxed, tagged or bold.

    Bold is certain where it follows "answer is" or fills its line. A heading ("**Note**: ...") is
    no answer, but what follows "**Answer**:" is.
    """
    if (box := box_of(text)) is not None:
        yield box[0], True, box[1]
    for found in MARKED.finditer(text):
        start, end = found.span()
        said = found["bold"] if found["tag"] is None else found["in"]
        if found["tag"] is None and (said.rstrip().endswith(":") or COLON.match(text, end)):
            if "answer" in said.lower():
                rest = text[end : end + LONGEST].partition("\n")[0]
                yield start, True, rest.strip(" :*")
            continue
        before = text[max(0, start - 60) : start]
        follows = any(mark.end() == len(before) for mark in MARK.finditer(before))
        certain = bool(found["tag"]) or follows or _fills_line(text, start, end)
        yield start, certain, said[label.end() :] if (label := MARK.match(said)) else said


def _choices(text: str) -> Iterator[tuple[int, bool, str]]:
    """Yield (place, whether it is certainly the answer, letter) of each choice; "" for several."""
    for place, certain, said in _marked(text):
        said = TEXT.sub(r"\1", TEXT.sub(r"\1", said))
        if (found := OPTION.match(said)) or (found := CHOICE.search(said)):
            yield place, certain, _letter(said, found)
    for mark in MARK.finditer(text):
        if found := OPTION.match(text, mark.end()):
            yield mark.start(), True, _letter(text, found)
    for found in CHOICE.finditer(text):
        if not re.search(r"\bnot\s$", text[max(0, found.start() - 5) : found.start()], re.I):
            yield (
                found.start(),
                _fills_line(text, *found.span()),
                next(filter(None, found.groups())),
            )


def _letter(text: str, found: re.Match[str]) -> str:
    """Return the letter of a choice; "" where another one is chosen with it."""
    return "" if OTHER.match(text, found.end()) else next(filter(None, found.groups())).upper()


def _last(found: Iterator[tuple[int, bool, str]]) -> str:
    """Return the last answer of those that are certain, or of all where none is; "" without any."""
    return max(((certain, place, said) for place, certain, said in found), default=("", 0, ""))[2]


def letter(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the choice made last (EEEEE, boxed, in brackets, "answer is E") is expected.

    A choice in brackets within a line counts only where no other is boxed, tagged or stated.
    """
    found = _last(_choices(characters(text)))
    return Verdict(found or None, bool(found) and found == expected.strip(" ()."))


def tagged(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether the last marked part (solution tags, bold, boxed) is the expected text."""
    answer = _words(_last(_marked(text)))
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


def exact(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether what is stated, or else the last line, is the expected text."""
    answer = _words(stated(text) or last_line(text))
    return Verdict(answer or None, bool(answer) and answer == _words(expected))


def expression(expected: str, text: str, meta: dict[str, Any]) -> Verdict:
    """Return whether an expression uses each of meta["numbers"] once and equals meta["target"]."""
    said = stated(text)
    said = characters(last_line(text) if said is None else said)
    for latex, sign in OPERATORS.items():
        said = said.replace(latex, sign)
    sides = [side.strip(" $*`.") for side in said.split("=")]
    said = sides[1] if len(sides) > 1 and re.fullmatch(r"\d+", sides[0]) else sides[0]
    try:
        value, used = evaluate(said)
    except ValueError:
        return Verdict(None, False)
    right = sorted(used) == sorted(meta["numbers"]) and value == meta["target"]
    return Verdict(re.sub(r"\s", "", said), right)


def _words(text: str) -> str:
    """Return words and numbers, without marks of prose; what can change a number stays."""
    text = TEXT.sub(r"\1", TIMES.sub("×", characters(text)))
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

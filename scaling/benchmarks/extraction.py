r"""Which part of a text is its answer, and that part in plain characters.

A box or an answer tag counts before `####` or "the answer is", and of each kind the last one does.
What the answer means is decided elsewhere: `numbers`, `mathematics`, `grading`.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from unicodedata import decimal, normalize

LONGEST = 400  #: characters of an answer
BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
UNBRACED = re.compile(r"-?(?:\\[a-zA-Z]+(?:\s*(?:\{[^{}\n]{0,99}\}|\d))*|[\w.,/^+-]{0,99}\w)")
JOINS = re.compile(r"[\s$]*(?:[,;]|,?\s*(?:and|or|\\text\{ ?(?:and|or) ?\}))[\s$]*")
TAG = re.compile(r"<(?:final[ _]?)?(?:answer|solution|result)>", re.IGNORECASE)
MARK = re.compile(
    r"""(?: \#\#\#\#
    | answers?\W{0,4}?[*_]{0,3}\s?(?:is|are|[:：=]|(?:would|should|must)\sbe|equals|comes\sto)(?!\w)
    | 答案[是为為:：] | 答えは | 정답은 )
    (?:[ \t*_:]|(?:therefore|thus|simply|then)\b)*""",
    re.IGNORECASE | re.VERBOSE,
)
SENTENCE = re.compile(r"[.;?](?=\s|$)|!\s|[。！？]")
SEGMENT = re.compile(  #: of mathematics; a dollar sign before a blank or a digit ends none
    r"\$\$(?P<a>[^$]{1,400})\$\$|(?<!\\)\$(?=\S)(?P<b>[^$\n]{0,399}[^$\s\\])\$(?!\d)"
    r"|\\\((?P<c>(?:(?!\\\().){1,400}?)\\\)|\\\[(?P<d>(?:(?!\\\[).){1,400}?)\\\]",
    re.DOTALL,
)
HTML = re.compile(
    r"</?(?:b|i|u|em|strong|p|br|hr|div|span|code|mark|li|ul|ol|td|tr|center|font|big|small|h[1-6]"
    r"|(?:final[ _]?)?(?:answer|solution|result))(?: [^<>]{0,99})?/?>",
    re.IGNORECASE,
)
RAISED = re.compile("[⁰¹²³⁴-⁹⁻⁺ⁿ]+")
LOWERED = re.compile("[₀-₉]+")
PART = re.compile("[¼½¾⅐-⅞]")
CHARACTERS: dict[int, Any] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full width
CHARACTERS |= str.maketrans("−–‑‐﹣×·⋅∙÷⁄∕∶’٫٬、", "-----****///:'.,,")
CHARACTERS |= dict.fromkeys((0xA0, 0x202F, 0x2009, 0x2007, 0x3000), " ")
CHARACTERS |= dict.fromkeys((0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF))


class Stated(NamedTuple):
    """What a text states as its answer."""

    text: str
    marked: bool  #: behind #### or "the answer is", so that prose may follow


def characters(text: str) -> str:
    """Return a text in which each digit, sign, blank and fraction is an ASCII character."""
    if text.isascii():
        return text
    text = RAISED.sub(lambda m: "^{" + normalize("NFKC", m[0]).replace("−", "-") + "}", text)
    text = LOWERED.sub(lambda m: "_{" + normalize("NFKC", m[0]) + "}", text)
    text = PART.sub(lambda m: " " * m.string[: m.start()][-1:].isdigit() + _part(m[0]), text)
    return re.sub(r"\d", lambda m: str(decimal(m[0])), text.translate(CHARACTERS))


def _part(character: str) -> str:
    return normalize("NFKC", character).replace("⁄", "/")


def boxed(text: str) -> str | None:
    r"""Return what is in the last \boxed{...} of a text, braces balanced; None without one.

    Boxes that only a comma, "and" or "or" separates are one list: `3,5`.
    """
    found = box_of(text)
    return found and found[1]


def box_of(text: str) -> tuple[int, str] | None:
    """Return (start, content) of the last box, with those that it continues."""
    start = _lastbox_of(text, len(text))
    content = None if start is None else _content(text, start)
    if start is None or content is None:
        return None
    parts = [content[0]]
    while (before := _lastbox_of(text, start)) is not None and len(parts) < 20:
        one = _content(text, before)
        if one is None or one[1] > start or not JOINS.fullmatch(text[one[1] : start]):
            break
        start, parts = before, [one[0], *parts]
    return start, ",".join(parts)


def _lastbox_of(text: str, end: int) -> int | None:
    start = max(text.rfind(name, 0, end) for name in ("\\boxed", "\\fbox"))
    return None if start < 0 else start


def _content(text: str, start: int) -> tuple[str, int] | None:
    """Return (content, end) of a box: within balanced braces, or what one token or word holds."""
    name = BOX.match(text, start)
    if name is None:
        return None
    if text[name.end() : name.end() + 1] != "{":
        bare = UNBRACED.match(text, name.end())
        return (bare[0], bare.end()) if bare else None
    depth = 0
    for at in range(name.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[name.end() + 1 : at].strip(), at + 1
    return None


def _tag(text: str) -> tuple[int, str] | None:
    """Return (start, content) of the last answer tag; one that was never closed ends the text."""
    *_, opens = (None, *TAG.finditer(text))
    if opens is None:
        return None
    return opens.start(), text[opens.end() :].partition("</")[0].strip()


def answer_part(text: str) -> Stated | None:
    """Return what a text states as its answer; None where nothing marks one."""
    found = [part for part in (box_of(text), _tag(text)) if part is not None]
    if found:
        return Stated(max(found)[1], False)
    ends = [mark.end() for mark in MARK.finditer(text)]
    lines = (text[end : end + 10 * LONGEST].partition("\n")[0].strip() for end in reversed(ends))
    said = next(filter(None, lines), None)
    return None if said is None else Stated(said, True)


def stated(text: str) -> str | None:
    """Return the text of `answer_part`; None where there is none."""
    part = answer_part(text)
    return (part.text or None) if part and part.marked else part and part.text


def sentence(text: str) -> str:
    """Return the first sentence of what is stated, without marks of prose around it."""
    return SENTENCE.split(text, maxsplit=1)[0].strip(" *_`\"'")


def last_line(text: str) -> str:
    """Return the last line of a text that holds anything."""
    return next(iter(text.strip().splitlines()[-1:]), "")


def segments(text: str, last: bool = False) -> str:
    r"""Return the first (or last) formula in $, \( or \[ with those that continue it; else ""."""
    found = list(SEGMENT.finditer(text))
    if not found:
        return ""
    first = len(found) - 1 if last else 0
    while last and first and JOINS.fullmatch(text[found[first - 1].end() : found[first].start()]):
        first -= 1
    parts = found[first : first + 1]
    for one in found[first + 1 :]:
        if not JOINS.fullmatch(text[parts[-1].end() : one.start()]):
            break
        parts.append(one)
    return ",".join(next(filter(None, one.groups())) for one in parts)

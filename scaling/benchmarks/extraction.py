r"""Extract the answer of a text, in plain characters.

A box or an answer tag has priority over `####` or "the answer is"; of each kind the last one
counts. What the answer means is decided elsewhere: `numbers`, `mathematics`, `grading`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import decimal, normalize

LONGEST = 400  #: characters of an answer
BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
UNBRACED = re.compile(r"-?(?:\\[a-zA-Z]+(?:\s*(?:\{[^{}\n]{0,99}\}|\d))*|[\w.,/^+-]{0,99}\w)")
JOINS = re.compile(r"[\s$]*(?:[,;]|,?\s*(?:and|or|\\text\{ ?(?:and|or) ?\}))[\s$]*")
TAGS = r"(?:final[ _]?)?(?:answer|solution|result)"
TAG = re.compile(rf"<{TAGS}>", re.IGNORECASE)
MARK = re.compile(  #: in the languages that models answer in
    r"""(?: \#\#\#\#
    | (?: answers?(?:\s(?:to|for)\s[^.:=\n]{1,60}?)?
        | \b(?:ans|r[ée]ponse|respuesta|resposta|risposta|antwort|jawaban|ответ|الإجابة|الجواب|उत्तर)
          (?:\s(?:corr[a-z]{3,5}|finale?))? )
      \W{0,4}?[*_]{0,3}\s?
      (?: [:：=] | (?:is|are|est|es|ist|é|è|adalah|है|هي|(?:would|should|must)\sbe|equals|comes\sto)
        (?!\w) )
    | \b(?:ans\.|answer\s-)(?=\s)
    | (?:答案|答え|正解|解答|答)(?:应|應)?[是为為は:：选選] | (?:정답|답)[은:：] )
    (?:[ \t*_:]|(?:therefore|thus|simply|then)\b)*""",
    re.IGNORECASE | re.VERBOSE,
)
SENTENCE = re.compile(r"[.;?](?=\s|$)|!\s|[。！？]")
MARKED = re.compile(
    rf"<(?P<tag>{TAGS})>(?P<in>(?:(?!<{TAGS}>).)*?)(?:</(?P=tag)>|\Z)"
    r"|(?P<stars>\*\*\*?|(?<!\w)__)(?P<bold>.+?)(?P=stars)",
    re.DOTALL | re.IGNORECASE,
)
COLON = re.compile(r"\s{0,3}:")
SEGMENT = re.compile(  #: of mathematics; a dollar sign before a blank or a digit ends none
    r"\$\$(?P<a>[^$]{1,400})\$\$|(?<!\\)\$(?=\S)(?P<b>[^$\n]{0,399}[^$\s\\])\$(?!\d)"
    r"|\\begin\{(?P<name>equation|align|gather)(?P<star>\*?)\}(?P<e>.{1,400}?)\\end\{(?P=name)(?P=star)\}"
    r"|\\\((?P<c>(?:(?!\\\().){1,400}?)\\\)|\\\[(?P<d>(?:(?!\\\[).){1,400}?)\\\]",
    re.DOTALL,
)
HTML = re.compile(
    r"</?(?:b|i|u|em|strong|p|br|hr|div|span|code|mark|li|ul|ol|td|tr|center|font|big|small|h[1-6]"
    rf"|{TAGS})(?: [^<>]{{0,99}})?/?>",
    re.IGNORECASE,
)
RAISED = re.compile("[⁰¹²³⁴-⁹⁻⁺ⁿ]+")
LOWERED = re.compile("[₀-₉]+")
PART = re.compile("[¼½¾⅐-⅞]")
CHARACTERS: dict[int, Any] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full width
CHARACTERS |= str.maketrans("−–‑‐﹣×·⋅∙÷⁄∕∶’٫٬、", "-----****///:'.,,")
CHARACTERS |= dict.fromkeys((0xA0, 0x202F, 0x2009, 0x2007, 0x3000), " ")
CHARACTERS |= dict.fromkeys((0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF))


def words(kind: str) -> dict[str, str]:
    """Return {word: meaning} of a kind in `words.csv`: scale, symbol, unit or base."""
    with Path(__file__).with_name("words.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == kind]
    return {name: row["meaning"] for row in rows for name in row["names"].split(" ")}


class Answer(NamedTuple):
    """The part of a text that is marked as its answer."""

    text: str
    marked: bool  #: after #### or "the answer is", so that prose may follow


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
    r"""Return the content of the last \boxed{...} of a text, braces balanced; None without one.

    Boxes that only a comma, "and" or "or" separates are one list: `3,5`.
    """
    found = box_of(text)
    return found and found[1]


def box_of(text: str) -> tuple[int, str] | None:
    """Return (start, content) of the last box, joined with boxes of the same list before it."""
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
    """Return (content, end) of a box: text in balanced braces, or one token or word."""
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


def answer_part(text: str) -> Answer | None:
    """Return the marked answer of a text; None without one."""
    found = [part for part in (box_of(text), _tag(text)) if part is not None]
    if found:
        content = max(found)[1]
        *_, mark = (None, *MARK.finditer(content))
        if mark is not None and content.count("{", mark.end()) == content.count("}", mark.end()):
            return Answer(content[mark.end() :], True)
        return Answer(content, False)
    ends = [mark.end() for mark in MARK.finditer(text)]
    lines = (text[end : end + 10 * LONGEST].partition("\n")[0].strip() for end in reversed(ends))
    first = next(filter(None, lines), None)
    return None if first is None else Answer(first, True)


def extract_answer(text: str) -> str | None:
    """Return the text of the marked answer; None without one."""
    part = answer_part(text)
    return (part.text or None) if part and part.marked else part and part.text


def sentence(text: str) -> str:
    """Return the first sentence of an answer, without punctuation and markup around it."""
    return SENTENCE.split(text, maxsplit=1)[0].strip(" *_`\"'")


def last_line(text: str) -> str:
    """Return the last line of a text that is not blank."""
    return next(iter(text.strip().splitlines()[-1:]), "")


def segments(text: str, last: bool = False) -> str:
    r"""Return the first (or last) formula in $, \( or \[, and the rest of its list; or ""."""
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
    return ",".join(_formula(one) for one in parts)


def fills_line(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text has a line to itself, but for punctuation."""
    before = text[max(0, start - LONGEST) : start].rpartition("\n")[2]
    return not re.search(r"\w", before + text[end : end + LONGEST].partition("\n")[0])


def marked_parts(text: str) -> Iterator[tuple[int, bool, str]]:
    """Yield (place, whether it is certainly an answer, content) of boxed, tagged and bold parts.

    Bold is certain where it follows "answer is" or fills its line. A heading ("**Note**: ...") is
    no answer, but what follows "**Answer**:" is.
    """
    if (box := box_of(text)) is not None:
        yield box[0], True, box[1]
    for found in MARKED.finditer(text):
        start, end = found.span()
        content = found["bold"] if found["tag"] is None else found["in"]
        if found["tag"] is None and (content.rstrip().endswith(":") or COLON.match(text, end)):
            if "answer" in content.lower():
                rest = text[end : end + LONGEST].partition("\n")[0]
                yield start, True, rest.strip(" :*")
            continue
        before = text[max(0, start - 60) : start]
        follows = any(mark.end() == len(before) for mark in MARK.finditer(before))
        certain = bool(found["tag"]) or follows or fills_line(text, start, end)
        yield start, certain, MARK.split(content)[-1]


def _formula(found: re.Match[str]) -> str:
    """Return the content of a formula, or the last of its lines."""
    if found["e"] is None:
        return next(filter(None, found.groups()))
    lines = found["e"].strip().removesuffix("\\\\").split("\\\\")
    return lines[-1].replace("&", " ").strip()

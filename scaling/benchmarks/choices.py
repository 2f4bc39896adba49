"""Find the option that an answer to a multiple-choice question chooses.

A boxed, tagged or marked option ("the answer is C", "I choose C", a last line "C") has priority
over other lines and words that name an option, and those over a letter in brackets within a line.
Of each kind the last one counts. Two options at once ("A and C") are not a choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scaling.benchmarks.extraction import MARK, characters, marked_parts
from scaling.benchmarks.numbers import TEXT

RUNS = re.compile(r"[\W_]{20,}")  #: runs of blanks and marks to cut, so that patterns stay fast
MARKED, NAMED, MENTIONED = 3, 2, 1  #: how certain a choice is
MARKUP = re.compile(r"\\[()\[\],;!]|[$`\"“”„«»「」✅✔✓]|\\(?:bf|rm|it|left|right|quad)(?![a-z])")
OPEN = r"[\s*_({\['<]*"
NOUN = (
    r"(?:(?:the|la|a|die|le)[ ])?(?i:(?:correct\s)?(?:option|choice|letter|answer|statement"
    r"|opci[oó]n|letra|alternativa|lettre|opzione|选项|選項|选择|選択肢)\s*)?"
)
LETTER = r"([A-Z])(?:\1{2,})?(?!['+_]?[A-Za-z0-9]|\s*[=+^°∩∪]|-[A-Za-z0-9])"
OPTION = re.compile(  #: C; (C); C. the last one; option C; (c), but not "a triangle", "I think"
    rf"{OPEN}{NOUN}{OPEN}(?:{LETTER}|([a-z])(?=[)\].:,*}}]|\s*$))"
)
ARTICLE = re.compile(  #: A and I are also words
    r"[\s*_]*[ ](?!(?:because|since|as|and|or|but|is|for|due|with|by|not|if|from|which|given|in)\b)"
    "[a-z]"
)
CHOSEN = re.compile(  #: words before a chosen option
    r"""(?: \b(?:choose|chose|pick|select|opt(?:ing)?\s+for|go(?:ing)?\s+with)(?![a-z]):?
    | \b(?:correct|right|best|final|appropriate|accurate|likely|suitable|my)\s+
      (?:option|choice|letter|one|selection|pick|statement|solution)\W{0,4}?\s?
      (?:is\b:?|:|(?:would|must|should)\s+be\b)
    | \b(?:option|choice|solution)\W{0,3}: | \bsolution\s+is\b
    | \b(?:it|that|this)(?:'s|\s+(?:is|must\s+be|leaves(?:\s+us\s+with)?))(?=\W{1,4}[A-Z]\W*$)
    | ^\W{0,3}A: | (?:答案|正解|选项|選項|[选選](?:择|擇)?)[】\s是为為:]*
    | \bnot\s+\(?[A-Z]\)?,?\s+but(?:\s+rather)?\b ) [ \t*_]*""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
IS_RIGHT = re.compile(
    r"""(?<![A-Za-z0-9'.+-])(?:(?i:(?<=option\s)|(?<=option\s\())([a-z])|[(\[*_]*([A-Z]))[)\]*_]*\s*
    (?: (?:is|must\s+be|would\s+be|seems(?:\s+to\s+be)?|appears\s+to\s+be)\s+
        (?:(?:the|thus|clearly|therefore|indeed|only|most|one|also|my)\s+)*
        (?:correct|right|best|answer|(?:accurate|appropriate|likely|suitable|final)\b)
      | it\s+is\W*$ | (?:fits|matches)\b
      | (?:选?项)?[是为為]?(?:正确|正確|对的|對的) | [がはが]正(?:解|しい) )""",
    re.VERBOSE | re.MULTILINE,
)
LINE = re.compile(  #: a line that is an option, or that begins with one's label
    rf"^[\s*_'>#({{\[<]*{NOUN}[\s*_({{\['<]*(?:{LETTER}|([a-z]))"
    r"(?:(?P<alone>[\s*_)}\].,!?:;。'>]*)$|\**(?:[).\]]{1,2}(?:[\s*]|[A-Z\d]\w)|:[\s*]?\w|\s[-–]\s"
    r"|,?\s(?:because|since|as|due)\s|,\snot\s|,?\s[A-Z]\sis\s|\s\().*)",
    re.MULTILINE,
)
END = re.compile(  #: the last words of a text
    rf"""(?: [:,;.!?>→-]\s | คือ | (?i:\b(?:so|hence|thus|therefore|be|say|guess|with|probably
      |likely|definitely|obviously|is|es|est|ist|é|è|la|lautet|adalah|to|är|là|هي)) ) \s*
    {NOUN}{OPEN}{LETTER}[\s*_)}}\].!?。'>]*\Z""",
    re.VERBOSE,
)
REPEATED = re.compile(r"\b([A-Z])\1{2,}\b")
BRACKETS = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z]{4}))\(([A-Z])\)"
    r"|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter)\s+\(?([A-Z])\b\)?(?!')"
)
JOIN = r"(?:[,;&/、和与或及と]|\b(?:and/or|and|or|nor|y|o|et|ou|und|oder)\b)"
WRONG = (
    r"\b(?:not|cannot|wrong|incorrect|false|ruled|eliminated|invalid|impossible|out|fails?|almost"
    r"|nearly)\b|n't\b"
)
SEVERAL = re.compile(  #: B and C; but not "B, A is wrong"
    rf"[\s)}}\]*_]*{JOIN}\s*(?:(?:possibly|perhaps|maybe|also|both|either)\s+)?[({{*_]*[A-Z]"
    rf"(?![A-Za-z0-9'])(?![^.\n]{{0,60}}(?:{WRONG}|\b(?:are|is)\b))"
)
SEVERAL_BEFORE = re.compile(
    rf"(?<![A-Za-z0-9'])(?<!not )(?<!not \()[A-Z][\s)}}\]*_]*{JOIN}\s*[({{*_]*$"
)
REFUSED = re.compile(
    rf"[\s)}}\]*_.]*(?:(?:is|are|was|seems?|does|can|be|must|clearly|also|thus)\s*)*(?:{WRONG})"
)
REFUSED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|if|whether|except|eliminates?|ruled?\s+out|excludes?"
    r"|might|may|could|cannot|going\s+to|tempted\s+to)|n't|不)"
    r"\s*(?:be\s+|option\s+)?$",
    re.IGNORECASE,
)


BAD = re.compile(
    r"^(?:(?![.,]\s[A-Z]\sis\s).)*?\b(?:wrong|incorrect|false|not\s(?:correct|right))\b"
)
NAMES = ((IS_RIGHT, NAMED), (END, NAMED), (REPEATED, NAMED), (BRACKETS, MENTIONED))


def extract_choice(text: str) -> str:
    """Return the letter of the option that a text chooses; "" for no or several options."""
    text = MARKUP.sub("", TEXT.sub(r"\1", TEXT.sub(r"\1", characters(text))))
    text = RUNS.sub(lambda run: "\n" * ("\n" in run[0]) + run[0][-9:], text)
    return max(((sure, at, content) for sure, at, content in _choices(text)), default=(0, 0, ""))[2]


def _choices(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (how certain, place, letter) of each option that a text names; "" for several."""
    for start, certain, content in marked_parts(text):
        found = OPTION.match(content) or REPEATED.search(content) or BRACKETS.search(content)
        end = text.find(content, start) + len(content)
        if (
            not found
            or _a_word(content + text[end : end + 20], found)
            or _refused(text, start, end)
        ):
            continue
        yield MARKED if certain else NAMED, start, _letter(content, found)
    for form in (MARK, CHOSEN):
        for mark in form.finditer(text):
            found = OPTION.match(text, mark.end())
            if found and not _a_word(text, found) and not _refused(text, mark.start(), len(text)):
                yield MARKED, mark.start(), _letter(text, found)
    yield from _lines(text)
    for form, sure in NAMES:
        for found in form.finditer(text):
            if not _refused(text, *found.span()) and not _a_word(text, found):
                yield sure, found.start(), _letter(text, found)


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the lines that consist of an option, and an option whose label alone begins lines."""
    labels = []
    for found in LINE.finditer(text):
        rest = text[found.end(1 if found[1] else 2) : found.end()]
        if found["alone"] is not None:
            last = not text[found.end() :].strip(" \n\t*`$.>")
            yield MARKED if last else NAMED, found.start(), _letter(text, found)
        elif not BAD.search(rest) and _is_label(found, rest):
            labels.append((found.start(), _letter(text, found)))
    if len({letter for _, letter in labels}) == 1:
        yield NAMED, *labels[-1]


def _is_label(found: re.Match[str], rest: str) -> bool:
    """Return whether a letter that begins a line is an option's; A: may begin an answer."""
    return rest.startswith(")") if found[2] else f"{found[1]}{rest[:1]}" != "A:"


def _refused(text: str, start: int, end: int) -> bool:
    """Return whether a text rejects the option at a place."""
    before = REFUSED_BEFORE.search(text[max(0, start - 20) : start])
    return bool(before or REFUSED.match(text, end))


def _a_word(text: str, found: re.Match[str]) -> bool:
    """Return whether A or I is a word of a sentence."""
    return found[1] in ("A", "I") and bool(ARTICLE.match(text, found.end()))


def _letter(text: str, found: re.Match[str]) -> str:
    """Return the letter of an option; "" where another one is named together with it."""
    one = next(n for n, group in enumerate(found.groups(), 1) if group)
    start, end = found.span(one)
    while text.startswith(found[one], end):  # EEEEE
        end += 1
    before = text[max(0, start - 20) : start]
    several = SEVERAL.match(text, end) or SEVERAL_BEFORE.search(before)
    return "" if several else found[one].upper()

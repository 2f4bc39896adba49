r"""Parse numbers as people and models write them, exactly: signs, thousands, fractions, scales.

`extract_number` finds the number that an answer gives; a number that is only a part of something
else (`x<5`, `5^2`, `5 or 7`, "less than 5") does not count. `to_number` reads a text that is only a
number.
"""

from __future__ import annotations

import re
from fractions import Fraction

from scaling.benchmarks.extraction import HTML, SENTENCE, characters, words

LONGEST = 60  #: characters of an integer, a decimal, a numerator
SCALES = {name: int(power) for name, power in words("scale").items()}  #: powers of ten
SCALE = "|".join(sorted(SCALES, key=len, reverse=True))
RUN = r"(?:\d{1,3}(?:[ ]\d{3})+(?![\d/])(?:[.,]\d+)?|\d+(?:[.,'_]\d+)*|\.\d+)"
POINT = re.compile(  #: 1234.5; 1,234.5; 1 234.5; 1'234.5; 1_234; 1,50,000
    r"\d*\.?\d+|\d{1,3}(?:[,' _]\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d\d)+,\d{3}(?:\.\d+)?"
)
#: 1.234,5 and 1.234.567, with comma and point swapped
GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+\.\d+|\d{1,3}(?:,\d{3}){2,}")
COMMA = re.compile(rf"{GROUPED.pattern}|0\.\d+|\d+\.\d\d?|\d{{1,3}}(?:[ ']\d{{3}})+\.\d+")  #: 1,5
MONEY = r"(?:US|AU|CA|HK|NZ|R)?[$€£¥₹₩]|(?:USD|EUR|GBP|INR|Rs\.?)\s?"
NUMBER = re.compile(
    rf"""(?<![\dA-Za-z_.\u00c0-\u058f])(?<!\d[,'])   # no letter, digit or point before it
    (?P<sign>[-+])?(?:{MONEY})?
    (?:(?P<whole>\d+)\s+(?:and\s+)?(?P<part>\d+/\d+)
       |(?P<run>{RUN})(?:[ ]?/[ ]?(?P<bottom>{RUN}))?)
    (?:\s?(?:[*x]|\\times|\\cdot)\s?10\^\{{?(?P<power>[-+]?\d{{1,3}})\}}?|[eE](?P<e>[-+]?\d{{1,3}}))?
    (?P<scale>(?:[\s-]?(?:{SCALE}|dozen)s?(?![a-z]))*)
    (?![.,'_/]?\d)(?!\w*\d/\d)""",
    re.VERBOSE | re.IGNORECASE,
)
AFTER = re.compile(  #: follows a number that is only a part of something else
    r"""\s*(?:(?:[-+*/^_]+|[xe]|\\[a-z]+|\}\s*\{)[\s${(+-]*)?\.?\d  # 2 + 3, 5 2, 2 \times 3
    | (?!(?-i:[hsgLVW])(?!\w|\s?\d))[a-z](?![a-z]) | \s*\\(?!circ|q?quad)[a-z]
    | \s*(?:[_^](?!\{?\\circ)|\+)  # 5x, 5\pi, 5^n, 5+x
    | \s*[√π] | [(\[{] | \\\{ | \s+(?:choose|plus|minus|mod)\b  # 5(2)
    | \s+(?:or|and)\s+(?:more|less|fewer|above|below|over|under|up|higher|lower|greater)\b
    | \s+r(?:emainder)?\s?\d | (?:st|nd|rd|th)\s+root\b
    | \s*[-*/]\s*(?:[b-hj-z](?![a-z])|[(\\]) | [:%]\s?\d  # 5-x, 5/(x), 5:2
    | \s*(?:[≤≥≠]|!=|[<>]=?\s*(?:[-.\d\\]|[a-z](?![a-z>])))  # 5<x
    | (?:\s*\$?\s*(?:or|and|to)|,)\s+(?:(?:and|or)\s+)?[-+$]*(?:\d|\\[a-z])  # 5 or 7; 5, 7
    | [-\s]*(?:hundred|thousand|[mbtr]+illion|dozen|tenth|third|(?:fif|six|seven|eigh|nin)th)
    | \s?(?:mn|mln|mio|tn)(?![a-z]) | \s+(?:squared|cubed|factorial|halves)\b
    | \s+and\s+(?:an?|one|two|three)[\s-](?:half|third|quarter|thirds|quarters)\b
    | [^.,;\n]{0,12}\bbelow\s+zero\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
BEFORE = re.compile(  #: precedes one: √5, x<5, x!=5, 7-5, \sqrt{5}, not 5
    r"(?:[\^√∛∜<>≤≥≠_±]|[<>=]=|(?<!\d)!=|[\w)}\]][^\S\n]*[-+*/]"
    r"|\\(?!approx|q?quad|displaystyle|implies|[a-z]*arrow)[a-z]+[^\S\n]*[{[]?"
    r"|\bnot|n't|[(\[{]\s*-?[\d.]+\s*,|\b(?:log|ln|sin|cos|tan|sqrt|exp)|\b(?:less|fewer|more|greater|larger|smaller|higher|lower|bigger)\s+than|\b(?:under|above|below)|\bexceeds?"
    r"|\bbetween\s+\S{1,20}\s+and|\d\s+(?:or|to)|\b(?:plus|minus|negative|times)|\}\s*\{"
    r"|\b(?:half|third|quarter|twice|double|triple|root)(?:\s+of)?)[\s${(]*$|(?<=[)\]}])$",
    re.IGNORECASE,
)
BOUND = re.compile(
    r"\b(?:at\s+(?:least|most)|up\s+to|under|above|below|over)\s+\S{0,3}$", re.IGNORECASE
)
ARITHMETIC = re.compile(r"(?:[\d)}\]]|(?<![a-zA-Z])[b-zB-Z])\s+$")  #: before a sign: 10 -7
WORD = (
    "(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six"
    "|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)"
)
WORDED = re.compile(  #: a number in words is not read, nor another one of the text in its place
    rf"\W*(?:minus |negative )?{WORD}\b(?!(?:[\s-]+{WORD})?\s*\(\s*[-$]?\d[\d,.]*\s*\))",
    re.IGNORECASE,  # but 5 of "five (5)"
)
CONTRAST = re.compile(  #: 100, not 90
    r"(\d[*\t]*(?:\s?[a-z%€]+)?[*\t]*),?\s+\(?(?:(?:and|but)\s+)?(?:not|instead\s+of|rather\s+than)\s+"
    r"[-$€£*\t\\(]*\d[\d,.]*",
    re.IGNORECASE,
)
POWER = re.compile(r"(-?)(?:(\d+)|\((-?\d+)\))\s?(?:\^|\*\*)\s?(?:(\d+)|\{(-?\d+)\}|(-\d+))")
EQUALS = re.compile(r"(?<![<>=:])(?<!\D!)=(?!=)")
CALCULATED = re.compile(r"<<[^<>\n]*>>")  #: of GSM8K: 2 + 3 = <<2+3=5>>5
TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textrm|textit|mbox|bf|rm)\s?\{([^{}]*)\}")
SIZES = re.compile(
    r"\\(?:left|right|displaystyle|[bB]igg?[lr]?|[lL]arge|[hH]uge|small)(?![a-zA-Z])"
    r"|\\(?:text)?color\s?\{\w+\}"
)
AREA = re.compile(
    r"(\d\s?(?:[cmk]?m(?:/s)?|in|ft(?:/s)?|yd|mi|[a-z]{4,9}))\s?\^\{?[23]\}?"
)  #: 5 cm^2
BLANKS = re.compile(r"(\\\\)|\\!\s*|\\[,;:]|\\(?:thinspace|quad|qquad)(?![a-zA-Z])|(\\ |~)")
FRACTION = re.compile(
    r"(-?)\\[dt]?frac\s*(?:\{(-?)(\d[\d,]*|\d*\.\d+)\}|\s?(\d))"
    r"\s*(?:\{(-?)(\d[\d,]*|\d*\.\d+)\}|(\d))"
)
OVER = re.compile(r"(?<!\d)\{?(\d+)\s{0,3}\\over\s*(\d+)\}?")
UNDERLINED = re.compile(r"(?<![\w\\])(__?)([^_\n]+)\1(?!\w)")
ARROW = re.compile(r"(?:(?<=\s)|^)[-=]>(?=\s)", re.MULTILINE)
SPACED = re.compile(r"(?<==)(\s*)-\s+(?=[\d.])|(?<![^\s*$({:=])—(?=\d)")
MINUS = re.compile(
    r"(?:(^\s*|[^\w)}\]\s]\s*|[a-z]\s+)(?:minus|negative)\s+|(^\s*)(?:moins|menos|meno|минус)\s+|(?:负|負|零下|氷点下|マイナス)\s*)"
    r"(?=[($\d.\\])",
    re.IGNORECASE,
)
SIGN = re.compile(r"-[({$€£¥₹]+\s*(?=[\d.])")  #: -(5), -{5}, -$5
LEADING = re.compile(r"^[\s({$*`]*-\s+(?=[$\d.(])")
REPEATING = re.compile(r"([-+]?)(\d*)\.(\d*)\\(?:overline|bar|dot(?=\{?\d\}?$))\s?\{?(\d+)\}?")


def plain(text: str) -> str:
    r"""Return a text without parts that change no number: LaTeX blanks and sizes, tags, \text."""
    text = HTML.sub(" ", CALCULATED.sub("", ARROW.sub(":", characters(text))))
    text = SIZES.sub("", text.replace("{,}", ",").replace("\\$", "$").replace("\\%", "%"))
    text = BLANKS.sub(lambda m: m[1] or " " * bool(m[2]), text)
    text = UNDERLINED.sub(r"\2", TEXT.sub(r"\1", TEXT.sub(r"\1", text)))
    text = MINUS.sub(lambda found: f"{found[1] or found[2] or ''}-", text)
    text = OVER.sub(r" \1/\2", FRACTION.sub(_fraction, AREA.sub(r"\1", text)))
    return SIGN.sub("-", SPACED.sub("-", text))


def _fraction(found: re.Match[str]) -> str:
    outer, inner, top, one, below, bottom, other = found.groups()
    signs = (outer, inner, below).count("-")
    return found[0] if signs > 1 else f" {'-' * signs}{top or one}/{bottom or other}"


def _power(text: str) -> Fraction | None:
    """Return the value of a text that is only a power, 10^2; None for other text."""
    text = text.replace("**{", "^{").strip(" \t\n*$`.")
    found = POWER.fullmatch(text) if len(text) <= LONGEST else None
    if not found:
        return None
    sign, base, inner, *powers = found.groups()
    base, power = int(base or inner), int(next(filter(None, powers)))
    if abs(power) * len(found[0]) > 10 * LONGEST or (power < 0 and not base):
        return None
    return (-1 if sign else 1) * Fraction(base) ** power


def _digits(run: str, commas: bool) -> Fraction:
    """Return the value of digits with separators; ValueError for a form that no locale has.

    commas: whether 1,5 may be one and a half.
    """
    if len(run) > LONGEST:
        raise ValueError(f"a number of {len(run)} characters; at most {LONGEST}")
    swapped = run.translate(str.maketrans(".,", ",."))
    for text, form in ((run, POINT), (swapped, COMMA if commas else GROUPED)):
        if form.fullmatch(text):
            return Fraction(re.sub("[,' _]", "", text))
    raise ValueError(f"{run!r} is not a number")


def _value(found: re.Match[str], commas: bool = True) -> Fraction | None:
    """Return the value of a match of `NUMBER`; None for one that is malformed, too long, or 5/0."""
    try:
        if found["whole"]:
            value = Fraction(found["whole"]) + Fraction(found["part"])
        else:
            value = _digits(found["run"], commas) / _digits(found["bottom"] or "1", commas)
    except (ValueError, ZeroDivisionError):
        return None
    value *= Fraction(10) ** int(found["power"] or found["e"] or 0)
    for word in re.findall(f"{SCALE}|dozen", found["scale"].lower()):
        value *= 12 if word == "dozen" else 10 ** SCALES[word]
    return -value if found["sign"] == "-" else value


def to_number(text: str) -> Fraction | None:
    """Return the value of a text that is only a number (1,234.50 $ or %); None for other text."""
    bare = re.sub(r"\^\{?\\circ\}?|[°%]", "", plain(text)).strip(" \t\n$€£¥₹").rstrip(" .")
    if repeating := REPEATING.fullmatch(bare):
        return _repeating(*repeating.groups())
    bare = re.sub(r"^([-+]?)[({]*([^(){},]*)[)}]*$", r"\1\2", bare)
    found = NUMBER.fullmatch(LEADING.sub("-", bare))
    return _value(found, commas=False) if found else None


def _repeating(sign: str, whole: str, digits: str, period: str) -> Fraction:
    r"""Return the value of 0.1\overline{6}."""
    scale = 10 ** len(digits)
    value = Fraction(f"{whole}{digits}" or "0") / scale
    value += Fraction(period) / (scale * (10 ** len(period) - 1))
    return -value if sign == "-" else value


def _alone(text: str, found: re.Match[str]) -> bool:
    """Return whether a number stands by itself: not in x<5, 7-5, √5, 5x, 5 or 7."""
    start, end = found.span()
    before = text[max(0, start - 40) : start]
    signed = found["sign"] and ARITHMETIC.search(before)
    more = found["scale"] and re.match(r"\s*(?:and\s+)?\d", text[end : end + 9])
    return not (signed or more or BEFORE.search(before) or AFTER.match(text, end))


def extract_number(answer: str, factorials: bool = False) -> Fraction | None:
    """Return the final number of an answer, as 5 of "2 + 3 = 5 rolls"; None if there is none.

    It is the number that opens the first sentence, or else the first one on the last side of an
    equation without arithmetic. factorials: whether 5! is one, not an exclamation.
    """
    if (power := _power(SENTENCE.split(answer.strip(), maxsplit=1)[0])) is not None:
        return power
    answer = LEADING.sub("-", answer.replace("**", "\t"))
    first = SENTENCE.split(answer, maxsplit=1)[0].lstrip(" \t`(")
    opens = NUMBER.match(first)
    if opens and _alone(first, opens):
        answer = first
    for side in reversed(EQUALS.split(answer)):
        side = LEADING.sub("-", side)
        found = NUMBER.search(side)
        if found and _alone(side, found) and not BOUND.search(side[: found.start()]):
            factorial = factorials and side.startswith("!", found.end())
            return None if factorial else _value(found)
    return None


def last_number(text: str) -> Fraction | None:
    """Return the last number of a text; None if it is a part of something else."""
    if (whole := _power(text)) is not None or (whole := to_number(text)) is not None:
        return whole
    *_, found = (None, *NUMBER.finditer(text := CONTRAST.sub(r"\1", text.replace("**", "\t"))))
    return _value(found) if found and _alone(text, found) else None

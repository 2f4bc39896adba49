r"""A canonical key of a mathematical answer: equal answers have equal keys.

The key is a function of the answer alone, so that votes can be counted by it: `1/2` for 0.5 and
`\frac12`, `(1/2, 3)` for a pair, `{2, 3}` for a list in any order, `[1, 2; 3, 4]` for a matrix. The
structure and all rational numbers are read here, exactly; any other formula gets its key from
`symbolic`, which evaluates it in a process that can be killed. Units, names ("x = 5") and percent
signs are left out.
"""

from __future__ import annotations

import re
from functools import lru_cache

from scaling.benchmarks.extraction import HTML, characters, words
from scaling.benchmarks.numbers import BLANKS, SIZES, to_number
from scaling.benchmarks.symbolic import TooLong, formula_key, time_limit

SYMBOLS = words("symbol")  #: symbol or command -> LaTeX in one spelling
UNIT_OF = words("unit")  #: a unit of measure and its other names -> the unit
OTHER_UNITS = words("other unit")
BASES = words("base")
REPLACED = re.compile(
    "|".join(
        re.escape(name) + r"(?![a-zA-Z])" * name[-1:].isalpha() * name.startswith("\\")
        for name in sorted(SYMBOLS, key=len, reverse=True)
    )
)
OPENING = (
    r"\\(?:text(?:bf|rm|it|sf|tt|normal)?|math(?:rm|bf|it|sf)|mbox|hbox|operatorname|boldsymbol|bm)"
    r"\s*\{"
)
UNWRAP = re.compile(OPENING + r"([^{}]*)\}")
WRAPPED = OPENING + r"[^{}]*\}"
BARE_ROOT = re.compile(r"(?:(?<!\\)\bsqrt|\\sqrt(?=\())\s*(?:(\w)|\(([^()]*)\))")
ARROW = re.compile(
    r"\\(?:Rightarrow|implies|Longrightarrow|to|therefore)(?![a-zA-Z])(?![^{}]*\})|⇒|→|∴"
)
DEGREES = re.compile(
    r"\^\{?\s*\\circ\s*\}?(?:\s*(?:\\(?:text|mathrm)\{\s*[CFK]\}|[CF](?![a-zA-Z])))?"
)
POWERED = re.compile(rf"({OPENING}[^{{}}^$]*)\$?\^\{{?([23])\}}?\$?\s*\}}")  #: \text{cm$^2$}
OF_UNITS = rf"\\[dt]?frac\{{{OPENING}([^{{}}]*)\}}\}}\{{{OPENING}([^{{}}]*)\}}\}}"
CIRCULAR = (  #: \sin 60^\circ
    r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{?\d\}?)?\s*[({]?)\s*([\d.]+)\s*"
    r"(?:\^\{?\s*\\circ\s*\}?|°)"
)
RESPELT = [
    (re.compile(old), new)
    for old, new in (
        (OF_UNITS, r"\\text{ \1/\2}"),
        (r"\{\\(?:rm|bf|it)\s+([^{}]*)\}|\\(?:rm|bf|it)\s*\{([^{}]*)\}", r"\\text{ \1\2}"),
        (r"\\(?:rm|bf|it)(?![a-zA-Z])", ""),
        (rf"\\q?quad\s*(?={OPENING}\s*(?!or|and))", " "),
        (rf"(?<=\d)\s*\(({OPENING}[^{{}}]*\}})\)$", r"\1"),  # 15 (\text{cm})
        (r"\\underline\s*\{([^{}]*)\}", r"\1"),
        (rf"{OPENING}\s*,\s*\}}", ", "),
        (r"\\[dt]?binom\s*(\d)\s*(\d)", r"\\binom{\1}{\2}"),
        (r"\{\s*(\w+)\s*\\choose\s*(\w+)\s*\}", r"\\binom{\1}{\2}"),
        (r"^(\w+)\s*\\choose\s*(\w+)$", r"\\binom{\1}{\2}"),
        (r"\\log_\s*\{?e\}?(?![a-z])", r"\\ln "),
        (CIRCULAR, r"\1\\frac{\2\\pi}{180}"),
        (r"\\[hv]space\*?\s*\{[^{}]*\}", " "),
    )
]
LABEL = re.compile(  #: \text{Total: }6
    rf"^{OPENING}[^{{}}]*(?:\b(?:is|are|equals)|[:=])\s*\}}\s*(?=\S)"
)
ENVIRONMENT = re.compile(
    r"\\begin\{(align(?:ed)?|equation|gather(?:ed)?|split)(\*?)\}(.*?)(?:\\\\\s*)?\\end\{\1\2\}",
    re.DOTALL,
)
ROWS = re.compile(r"\\\\(?:\s*\[[^\]]*\])?")


FIXED = {r"\infty": "∞", r"+\infty": "∞", r"-\infty": "-∞"}
OR = re.compile(
    r"\s*(?:[,;]|\\(?:text|mbox)\{[\s,]*(?:or|and)\s*\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z]))\s*"
)
COMMA, COLON, CUP = re.compile(","), re.compile(":"), re.compile(r"\\cup(?![a-zA-Z])")
PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])")
THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d)")
UNIT = re.compile(
    rf"(?P<words>(?:\s*(?:/|\\cdot)?\s*{WRAPPED}|\s*/\s*[a-z]{{1,8}}|(?:\s+|(?<=\d))[a-zA-Z]{{2,14}}\.?)+)"
    r"(?:\s*\^\s*\{?(?P<power>-?[123])\}?(?:\s*/\s*[a-z]{1,8})?)?$"
)
NO_UNIT = re.compile(
    r"\b(?:or|and|if|when|where|for|not|no|more|less|than|hundred|thousand|[a-z]+illion|dozen|half"
    r"|mod|is|are|only|all|at|base|minus|plus|over|[a-z]{3,}ths?|third|most|least)\b",
    re.IGNORECASE,
)
WORDS = re.compile(
    r"(?=[A-Za-z])(?=.*?(?:[A-Za-z]{4}|\b(?:yes|no|odd|red|may)\b))[\w .,'’:&/()-]*", re.IGNORECASE
)
FUNCTION = re.compile(r"sin\b|cos\b|tan\b|sqrt|log\b|exp\b|\b\w\(|[_\d]\w*\(|log\(|exp\(")
RELATION = re.compile(r"\\(?:le|ge|ne|in|approx)(?![a-zA-Z])|[<>]=?|(?<!\d)!=|=")
SIGNS = {r"\le": "<=", r"\ge": ">=", r"\ne": "!="}
GREEK = r"\\(?:alpha|beta|gamma|delta|theta|phi|mu|lambda|omega|sigma|rho|varphi|Delta)"
LETTER = rf"(?:[a-zA-Z]|{GREEK})(?:_(?:\w|\{{[^{{}}]*\}})|')*"
NAME = re.compile(
    rf"""{LETTER} | [A-Z]{{2,4}} | {WRAPPED}(?:_\w)?(?:\s*\\triangle)?[A-Z\s]* | [a-zA-Z\s]{{4,}}
    | [A-Z]\^\{{?(?:-1|T)\}}? | {LETTER}\^\* | {LETTER}(?:\^\{{-1\}})?\s*\(.*\) | \\lim.*
    | \|[^|]*[a-zA-Z][^|]*\| | (?:\|\||\\\|)[^|=]*(?:\|\||\\\|)
    | \[(?:\\triangle\s*)?[A-Z]{{3,8}}\]
    | (?:\\math(?:bb|rm)\{{[A-Z]\}}|{WRAPPED}|[EPV])\s*[\[(].*[\])]
    | m?\s*\\(?:angle|triangle|overline|vec|overrightarrow|hat|mathbf|widehat)\s*\{{?[\w\s]*\}}?
    | \\(?:sin|cos|tan|cot|sec|csc|det|gcd|lcm|deg|Pr|max|min|sup|inf)(?![a-z])[^+*/-]*
    | \\?[({{]\s*{LETTER}(?:\s*,\s*{LETTER})+\s*\\?[)}}]""",
    re.VERBOSE,
)
VALUE = re.compile(rf"{LETTER}\s*\([\d.,\s-]+\)")  #: f(1)
TIME = re.compile(r"(\d{1,2}:\d\d)\s*([ap])\.?\s?m\.?", re.IGNORECASE)
BASED = re.compile(rf"[({{]?([0-9A-Fa-f]+)[)}}]?_\{{?(?:{OPENING})?\(?(\d+|[a-z]+)\)?\}}{{0,2}}")
IN_BASE = re.compile(r"\s*\(?\s*(?:in\s+)?base[\s-]*(\w+)\s*\)?$")
MATRIX = re.compile(
    r"\\begin\{([pbB]?(?:small)?matrix|array)\}(?:\{[lcr|\s]*\})?(.*)\\end\{\1\}", re.DOTALL
)


def clean(text: str) -> str:
    """Return LaTeX in one spelling, without sizes, currency, degrees, or marks of prose."""
    text = POWERED.sub(r"\1}^\2", HTML.sub(" ", characters(text)).strip())
    for old, new in RESPELT:
        text = old.sub(new, text)
    text = ENVIRONMENT.sub(lambda found: ROWS.split(found[3])[-1].replace("&", " "), text)
    text = REPLACED.sub(lambda found: SYMBOLS[found[0]], SIZES.sub("", text))
    text = BLANKS.sub(lambda found: found[1] or " " * bool(found[2]), text)
    text = BARE_ROOT.sub(r"\\sqrt{\1\2}", DEGREES.sub("", text).replace("$", ""))
    text = ARROW.split(text)[-1].strip(" \n\t,;:*`").rstrip(" .,;")
    text = LABEL.sub("", re.sub(r"(?<!\\)\\$", "", text).rstrip())
    return text if text.startswith("==") else text.lstrip("= ")


@lru_cache(maxsize=2**16)
def key(text: str) -> str | None:
    """Return the canonical key of an answer; None for a text without anything to read.

    An answer whose formulas take too long together is its own text. Errors: ValueError where a
    formula needs latex2sympy2-extended, which is not installed.
    """
    cleaned = clean(text)
    try:
        with time_limit():
            return _key(cleaned) or None
    except TooLong:
        return "".join(cleaned.split())


def _key(text: str) -> str:
    """Return the key of clean LaTeX."""
    text = text.strip()
    if (value := to_number(text)) is not None:
        return str(value)
    if text in FIXED:
        return FIXED[text]
    if not re.search(r"[(\[]|\\\{", text):  # (1,234) are two numbers
        text = THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    for form in FORMS:
        if (found := form(text)) is not None:
            return found
    return formula_key(UNWRAP.sub(r"\1", text))


def _split(text: str, at: re.Pattern[str]) -> list[str]:
    """Return the parts of a text between matches outside all brackets, the matches among them."""
    parts, depth, begin, seen = [], 0, 0, 0
    for found in at.finditer(text):
        for character in text[seen : found.start()]:
            depth += (character in "([{") - (character in ")]}")
        seen = found.start()
        if not depth and found.start() >= begin:
            parts += [text[begin : found.start()], found[0]]
            begin = found.end()
    return [*parts, text[begin:]]


def _plain_words(text: str) -> str | None:
    r"""Return words in lower case, "even" of \text{Even}; None for what is no words."""
    if (wrapped := UNWRAP.fullmatch(text)) is not None:
        return _key(wrapped[1].strip(" ."))
    bare = UNWRAP.sub(r" \1 ", UNWRAP.sub(r" \1 ", text)).strip(" ()")
    if not WORDS.fullmatch(bare) or FUNCTION.search(bare):
        return bare if re.fullmatch("[A-Za-df-hj-z]", bare) else None  # not e, i
    return " ".join(re.findall(r"[\w'’&/-]+", bare.lower()))


def _list(text: str) -> str | None:
    """Return {2, 3} of "3 and 2", of x = 2 or x = 3; a union where these are inequalities."""
    parts = [part for part in _split(text, OR)[::2] if part.strip()]
    if len(parts) < 2:
        return None if parts == [text] else _key(*parts) if parts else ""
    keys = sorted(map(_key, parts))
    ranges = all(re.search(r"[<>]|\\[lg]e(?![a-z])", part) for part in parts)
    return " ∪ ".join(keys) if ranges else f"{{{', '.join(keys)}}}"


def _plus_minus(text: str) -> str | None:
    """Return the list of both values of a formula with a plus-minus sign."""
    if not PLUS_MINUS.search(text):
        return None
    upper = PLUS_MINUS.sub(lambda found: "+" if found[1] == "pm" else "-", text)
    lower = PLUS_MINUS.sub(lambda found: "-" if found[1] == "pm" else "+", text)
    both = (upper, lower)
    return f"{{{', '.join(sorted(_key(one.lstrip(' +')) for one in both))}}}"


def _union(text: str) -> str | None:
    parts = _split(text, CUP)[::2]
    return " ∪ ".join(sorted(map(_key, parts))) if len(parts) > 1 else None


def _bracketed(text: str) -> str | None:
    r"""Return (1, 2) of a pair, [1, 2) of an interval, {1, 2} of a set; 5 of (5), {5}."""
    opens = re.match(r"\\?[({\[]", text)
    inner = re.fullmatch(r"\\?[({\[](.*?)\\?[)}\]]", text, re.DOTALL)
    if not opens or not inner or not _one_bracket(text):
        return None
    parts = _split(inner[1], COMMA)[::2]
    if len(parts) == 1:
        return _key(inner[1]) if inner[1].strip() else text
    keys = [_key(part) for part in parts]
    if opens[0][-1] == "{":
        return f"{{{', '.join(sorted(set(keys)))}}}"
    return f"{opens[0][-1]}{', '.join(keys)}{text[-1]}"


def _one_bracket(text: str) -> bool:
    """Return whether the bracket that opens a text is closed by its last character."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if not depth and at > 0:
            return at == len(text) - 1
    return False


def _matrix(text: str) -> str | None:
    """Return [1, 2; 3, 4] of a matrix."""
    found = MATRIX.fullmatch(text)
    if not found:
        return None
    rows = [row for row in ROWS.split(found[2]) if row.strip(" \n\t")]
    return "[" + "; ".join(", ".join(_key(cell) for cell in row.split("&")) for row in rows) + "]"


def _relation(text: str) -> str | None:
    """Return the value that a name equals, an interval or an equation; None without a relation."""
    parts = [part.strip() for part in _split(text, RELATION)]
    if len(parts) == 1:
        return None
    if r"\approx" in parts:
        return _key("".join(parts[: parts.index(r"\approx")]))
    if parts[1] == r"\in" and re.fullmatch(LETTER, parts[0]):
        return _key("".join(parts[2:]))
    sides, signs = parts[::2], [SIGNS.get(sign, sign) for sign in parts[1::2]]
    if set(signs) == {"="}:
        return _equal(sides)
    return _range(sides, signs) or "".join(
        part if at % 2 else _key(part) if part else "" for at, part in enumerate(parts)
    )


def _equal(sides: list[str]) -> str:
    """Return the key of the value of all sides, without a name; else that of an equation."""
    if (NAME.fullmatch(sides[0]) or _is_requested(sides)) and all(sides):
        sides = sides[1:]
        while len(sides) > 1 and VALUE.fullmatch(sides[0]):
            sides = sides[1:]
    elif NAME.fullmatch(sides[-1]) and all(sides):
        sides = sides[:-1]
    keys = dict.fromkeys(_key(side) if side else "" for side in sides)
    if len(keys) == 2 and len(sides) == 2 and re.search("[a-zA-Z]", "".join(sides)) and all(sides):
        left, right = (UNWRAP.sub(r"\1", side) for side in sides)
        return formula_key(f"{left}-({right})", equation=True)
    return " = ".join(keys)


def _is_requested(sides: list[str]) -> bool:
    """Return whether the problem wants a sum or product of letters: a+b = 6, not x+y = 6."""
    letters = set(re.findall("[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", sides[0])))
    power = re.search(r"\^\{?\d\}?\s*$", sides[0])
    return len(letters) > 1 and not letters & set("xyz") and not power and _is_number(sides[-1])


def _is_number(text: str) -> bool:
    return to_number(text) is not None


def _range(sides: list[str], signs: list[str]) -> str | None:
    """Return the interval of x<5 or 1≤x<2 as [1, 2); None for other inequalities."""
    if ">" in signs[0]:
        sides, signs = sides[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    if set(signs) - {"<", "<="} or not all(sides) or len(sides) > 3:
        return None
    low, high = r"-\infty", r"\infty"
    if len(sides) == 3 and re.fullmatch(LETTER, sides[1]):
        low, high = sides[0], sides[2]
        opens, closes = "[("[signs[0] == "<"], "])"[signs[1] == "<"]
    elif len(sides) == 2 and re.fullmatch(LETTER, sides[0]):
        high, opens, closes = sides[1], "(", "])"[signs[0] == "<"]
    elif len(sides) == 2 and re.fullmatch(LETTER, sides[1]):
        low, opens, closes = sides[0], "[("[signs[0] == "<"], ")"
    else:
        return None
    return f"{opens}{_key(low)}, {_key(high)}{closes}"


def _ratio_or_time(text: str) -> str | None:
    """Return 3:4 of a ratio, 6:30 pm of a time."""
    if time := TIME.fullmatch(UNWRAP.sub(r"\1", text)):
        return f"{time[1]} {time[2].lower()}m"
    parts = _split(text, COLON)[::2]
    return ":".join(map(_key, parts)) if len(parts) > 1 and all(parts) else None


def _in_base(text: str) -> str | None:
    """Return 52_8 of a number in another base than ten."""
    text = IN_BASE.sub(r"_\1", UNWRAP.sub(r"\1", text)) if "base" in text or "_" in text else text
    if found := BASED.fullmatch(text.replace(" ", "")):
        base = BASES.get(found[2], found[2])
        return found[1].upper() if base == "10" else f"{found[1].upper()}_{base}"
    return text.replace(" ", "") if re.search(r"\d\s*_", text) else None


def _without_unit(text: str) -> str | None:
    r"""Return the key of what precedes a unit: 15 of 15\text{ cm}^2, of 15 square units."""
    found = UNIT.search(text)
    if not found:
        return None
    unit_words = UNWRAP.sub(r" \1 ", found["words"])
    bare = UNWRAP.sub(" ", found["words"]).replace("/", " ").split()
    bare += [word for word in re.findall("[a-zA-Z]+", unit_words) if len(word) == 1]
    if NO_UNIT.search(unit_words) or not all(_is_unit(word.strip(".")) for word in bare):
        return None
    head = text[: found.start()].strip()
    return _key(head) if head else _key(unit_words) if unit_words.strip() != text else None


def _stem(word: str) -> str:
    """Return a word of a unit in the singular, abbreviated: cm of centimeters."""
    names = (word, word.removesuffix("s"), word.removesuffix("es"))
    return next((UNIT_OF[name] for name in names if name in UNIT_OF), names[1])


def _is_unit(word: str) -> bool:
    """Return whether a word that follows a number is a unit: a known one, or of four letters."""
    long = len(word) > 3 and word.islower() and not FUNCTION.match(word)
    return long or word in OTHER_UNITS or _stem(word) in UNIT_OF.values()


def units_differ(one: str, other: str) -> bool:
    """Return whether two answers have units of measure that differ: cm and m, cm^2 and cm^3."""
    units = [_units(clean(text)) for text in (one, other)]
    return all(names for names, _ in units) and units[0] != units[1]


def _units(text: str) -> tuple[frozenset[str], str]:
    """Return (units of measure, their power) of an answer."""
    found = UNIT.search(text)
    if not found or not found["words"].strip():
        return frozenset(), ""
    words = re.findall("[a-zA-Z]+", UNWRAP.sub(r" \1 ", found["words"]))
    powers = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
    power = "".join(powers.get(word, "") for word in words) or found["power"] or "1"
    return frozenset(_stem(word) for word in words) & set(UNIT_OF.values()), power


FORMS = (
    _plain_words, _list, _plus_minus, _union, _bracketed, _matrix, _relation, _ratio_or_time,
    _in_base, _without_unit,
)  # fmt: skip

r"""LaTeX in one spelling: what a formula says, without sizes, currencies, degrees, environments."""

from __future__ import annotations

import re

from scaling.benchmarks.extraction import HTML, characters
from scaling.benchmarks.numbers import BLANKS, SIZES

SYMBOLS = {
    "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ",
    "∈": r"\in ", "±": r"\pm ", "≈": r"\approx ", "°": r"^\circ ", "√": r"\sqrt",
    "⟨": "(", "⟩": ")", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", r"\degree": r"^\circ ",
    "¢": "", r"\cent": "", r"\pounds": "", r"\lor": " or ", r"\vee": " or ",
    r"\lg": r"\log_{10}", r"\cr": r"\\", r"\leqslant": r"\le ",
    r"\geqslant": r"\ge ", r"\leq": r"\le ", r"\geq": r"\ge ", r"\neq": r"\ne ", r"\lt": "<",
    r"\gt": ">", r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\$": "",
    r"\%": "", "%": "", "{,}": ",", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\langle": "(",
    r"\rangle": ")", r"\vert": "|", r"\lvert": "|", r"\rvert": "|", r"\colon": ":", r"\mid": "|",
    r"\quad": ";", r"\qquad": ";", r"\cdots": r"\dots", r"\ldots": r"\dots", r"\limits": "",
    r"\varnothing": r"\emptyset", r"\nolimits": "", r"\big": "", r"\Big": "",
}  # fmt: skip
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

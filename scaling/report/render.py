"""Render the table of numbers as HTML, LaTeX and BibTeX, and check a text against the table.

Each value in a text is marked with the id of its row of `results.csv`; the sentences of
`templates/body.jinja` hold no digit. Values from a run are not trusted: HTML escapes every value,
LaTeX filters it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import escape

from scaling.fits import LAWS
from scaling.report.numbers import LAW, Entry, Rows, printed

SOURCES = {  #: key -> (authors, title, year, number on arXiv)
    "chen2021": ("Chen, Mark and others", "Evaluating Large Language Models Trained on Code",
                 2021, "2107.03374"),
    "brown2024": ("Brown, Bradley and others", "Large Language Monkeys: Scaling Inference Compute "
                  "with Repeated Sampling", 2024, "2407.21787"),
    "kaplan2020": ("Kaplan, Jared and others", "Scaling Laws for Neural Language Models", 2020,
                   "2001.08361"),
    "hesterberg2015": ("Hesterberg, Tim", "What Teachers Should Know About the Bootstrap", 2015,
                       "1411.5279"),
}  # fmt: skip
TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
       "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
       "–": "--", "−": r"\(-\)", "…": r"\dots{}", "×": r"\(\times\)",
       "·": r"\(\cdot\)"}  # fmt: skip
TEX |= {sign: "\\" + sign for sign in "{}$&#_%"} | {sign: "{" + sign + "}" for sign in "`'-[]*"}


def tex(text: str) -> str:
    """Return text that LaTeX prints literally; characters its fonts lack become [U+1F600].

    >>> tex("100%_{a}")
    '100\\\\%\\\\_\\\\{a\\\\}'
    """
    plain = [TEX.get(c, c if " " <= c <= "~" else f"{{[}}U+{ord(c):04X}{{]}}") for c in text]
    return "".join(c + (r"\allowbreak{}" if c in ";=,/" else "") for c in plain)


def visible(text: str) -> str:
    """Return text with its control characters written like [U+0007]."""
    return "".join(c if c >= " " or c == "\n" else f"[U+{ord(c):04X}]" for c in text)


class Language(NamedTuple):
    """What `unbound` needs of a language: how values are marked, and which parts are no prose."""

    bound: str  #: a marked value; {id}, {text}
    escape: Callable[[str], Any]
    markup: tuple[str, ...]  #: patterns of parts that are no prose, whose digits are not numbers


HTML = Language(
    '<span data-row="{id}">{text}</span>',
    lambda text: escape(visible(text)),
    ("<head>.*</head>", "<h2>References.*", "<[^>]*>", r"\[\w+\]"),
)
LATEX = Language(
    r"\bound{{{id}}}{{{text}}}",
    tex,
    ("%[^\n]*", r"\\providecommand[^\n]*", r"\\(cite|begin)\{[^}]*\}"),
)


def render(template: str, rows: Rows, found: Sequence[Entry], images: Mapping[str, str]) -> str:
    """Return a report in the language of a template: report.html.jinja or report.tex.jinja.

    images: name of a figure -> its SVG file in base64.
    """
    page = template.endswith("html.jinja")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        block_start_string="<%", block_end_string="%>", variable_start_string="<<",
        variable_end_string=">>", comment_start_string="<#", comment_end_string="#>",
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=page,
    )  # fmt: skip
    shown = (lambda row: visible(printed(row))) if page else printed
    environment.filters |= {"printed": shown, "tex": tex}
    written, names = environment.get_template(template), list(LAWS[LAW].params)
    known = {"parameters": names, "fitted": [f"fit.{name}" for name in names], "sources": SOURCES}
    return written.render(rows=rows, entries=found, images=images, **known)


def bibliography() -> str:
    """Return the cited works as BibTeX."""
    return "".join(
        f"@misc{{{key},\n  author = {{{who}}},\n  title = {{{{{title}}}}},\n  year = {{{year}}},\n"
        f"  eprint = {{{eprint}}},\n  archivePrefix = {{arXiv}},\n}}\n"
        for key, (who, title, year, eprint) in SOURCES.items()
    )


def unbound(text: str, rows: Rows, language: Language) -> Iterator[str]:
    """Yield each value in a text that differs from its row, and each number without a row."""
    start = re.escape(language.bound.partition("{id}")[0].replace("{{", "{"))
    rest, end = [], 0
    for match in re.finditer(start + r"([\w.-]+)", text):
        name, bound = match[1], ""
        if name in rows:
            bound = language.bound.format(id=name, text=language.escape(printed(rows[name])))
        if not bound or not text.startswith(bound, match.start()):
            yield f"{name} differs from its row of results.csv"
        rest.append(text[end : match.start()])
        end = match.start() + len(bound) if bound else match.end()
    prose = "".join([*rest, text[end:]])
    for pattern in language.markup:
        prose = re.sub(pattern, " ", prose, flags=re.S)
    for number in re.findall(r"\S*\d\S*", prose):
        yield f"{number!r} is bound to no row of results.csv"

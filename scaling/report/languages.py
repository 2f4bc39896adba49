"""HTML and LaTeX: how a value is escaped and bound to its row; what in a text is bound to none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from scaling.report.numbers import Rows, printed


@dataclass(frozen=True)
class Language:
    """How HTML or LaTeX says what the report says."""

    escape: Callable[[str], str]
    bound: str  #: a bound value; {id}, {text}
    cite: str
    paragraph: str
    heading: str
    figure: str  #: {source}, {name}, {caption}
    table: str  #: {caption}, {columns}, {head}, {body}
    between: str  #: cells
    line: tuple[str, str]  #: around a line of cells
    structure: tuple[str, ...]  #: patterns of what is no prose, whose digits are not numbers
    cell: str = "{}"
    head: str = "{}"


TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
       "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
       "–": "--", "−": r"\(-\)", "…": r"\dots{}", "×": r"\(\times\)",
       "·": r"\(\cdot\)"}  # fmt: skip
TEX |= {sign: "\\" + sign for sign in "{}$&#_%"} | {sign: "{" + sign + "}" for sign in "`'-[]*"}


def tex(text: str) -> str:
    """Return text that LaTeX prints as it is; what its fonts lack is named, like [U+1F600].

    >>> tex("100%_{a}")
    '100\\\\%\\\\_\\\\{a\\\\}'
    """
    plain = [TEX.get(c, c if " " <= c <= "~" else f"{{[}}U+{ord(c):04X}{{]}}") for c in text]
    return "".join(c + (r"\allowbreak{}" if c in ";=,/" else "") for c in plain)


def html(text: str) -> str:
    """Return text that HTML prints as it is; control characters are named."""
    return "".join(escape(c) if c >= " " or c == "\n" else f"[U+{ord(c):04X}]" for c in text)


HTML = Language(
    escape=html,
    bound='<span data-row="{id}">{text}</span>',
    cite='<a href="#{0}">[{0}]</a>',
    paragraph="<p>{}</p>\n",
    heading="<h2>{}</h2>\n",
    figure='<figure><div class="wide"><img alt="{name}" src="data:image/svg+xml;base64,{source}">'
    "</div><figcaption>{caption}</figcaption></figure>\n",
    table='<div class="wide"><table><caption>{caption}</caption>\n<thead>{head}</thead>\n'
    "<tbody>{body}</tbody></table></div>\n",
    between="",
    line=("<tr>", "</tr>\n"),
    structure=("<head>.*</head>", "<h2>References.*", "<[^>]*>", r"\[\w+\]"),
    cell="<td>{}</td>",
    head="<th>{}</th>",
)
LATEX = Language(
    escape=tex,
    bound=r"\bound{{{id}}}{{{text}}}",
    cite=r"\cite{{{0}}}",
    paragraph="{}\n\n",
    heading="\\subsection*{{{}}}\n",
    figure="\\begin{{figure}}[t]\\centering\n\\includegraphics[width=\\linewidth]{{{name}.pdf}}\n"
    "\\caption{{{caption}}}\\label{{fig:{name}}}\n\\end{{figure}}\n\n",
    table="\\begin{{table}}[t]\\centering\\footnotesize\n\\caption{{{caption}}}\n"
    "\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n"
    "\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\\midrule\n{body}\\bottomrule\n"
    "\\end{{tabular}}}}\n\\end{{table}}\n\n",
    between=" & ",
    line=("", r" \\" + "\n"),
    structure=("%[^\n]*", r"\\providecommand[^\n]*", r"\\(cite|begin)\{[^}]*\}"),
)


class Writer:
    """Writes templates in one language, each value bound to its row."""

    def __init__(self, language: Language, rows: Rows) -> None:
        self.say, self.rows = language, rows

    def bind(self, name: str) -> str:
        """Return a row's value, marked with its id."""
        return self.say.bound.format(id=name, text=self.say.escape(printed(self.rows[name])))

    def fill(self, template: str, prefix: str = "") -> str:
        """Return a template with {id} bound and [key] cited; a digit in it is our mistake."""
        assert not re.search(r"\d", re.sub(r"\{[^}]*\}|\[\w+\]", "", template)), template

        def one(match: re.Match[str]) -> str:
            if match[2]:
                return self.say.cite.format(match[2])
            return self.bind(match[1] if match[1].startswith("all.") else prefix + match[1])

        return re.sub(r"\{([\w.-]+)\}|\[(\w+)\]", one, template)

    def table(self, caption: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
        """Return a table; cells are ids of rows, "" for none."""
        lines = [[self.say.cell.format(self.bind(name) if name else "") for name in line]
                 for line in body]  # fmt: skip
        start, end = self.say.line
        heads = [self.say.head.format(self.say.escape(name)) for name in head]
        rows = [start + self.say.between.join(line) + end for line in (heads, *lines)]
        columns = "l" * len(head)
        parts = {"caption": caption, "columns": columns, "head": rows[0], "body": "".join(rows[1:])}
        return self.say.table.format(**parts)


def unbound(text: str, rows: Rows, say: Language) -> Iterator[str]:
    """Yield each value of a text that differs from its row, and each number bound to no row."""
    start = re.escape(say.bound.partition("{id}")[0].replace("{{", "{"))
    rest, end = [], 0
    for match in re.finditer(start + r"([\w.-]+)", text):
        name, bound = match[1], ""
        if name in rows:
            bound = say.bound.format(id=name, text=say.escape(printed(rows[name])))
        if not bound or not text.startswith(bound, match.start()):
            yield f"{name} differs from its row of results.csv"
        rest.append(text[end : match.start()])
        end = match.start() + len(bound) if bound else match.end()
    prose = "".join([*rest, text[end:]])
    for pattern in say.structure:
        prose = re.sub(pattern, " ", prose, flags=re.S)
    for number in re.findall(r"\S*\d\S*", prose):
        yield f"{number!r} is bound to no row of results.csv"

"""Answers as people and models write them: the same one in many forms, and near misses of it.

Each line of `data/grading_forms.jsonl` is [scorer, whether it is right, expected answer, text], and
perhaps the answer of the verdict. The rest is generated: a value, written in every form, must be
right and have one answer, so that votes agree; the same with a digit, the sign or what it is part
of changed must be wrong.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from random import Random
from time import process_time

import pytest

from scaling.benchmarks import extraction, load_benchmark, numbers, records
from scaling.benchmarks.grading import SCORERS, evaluate
from scaling.benchmarks.mathematics import key
from scaling.records import Completion, ModelCard, Plan, Verdict
from scaling.sampling import sample_run
from scaling.serving import Served
from tests.test_benchmarks import external_file, lines

pytest.importorskip("latex2sympy2_extended")
FORMS = Path(__file__).parent / "data" / "grading_forms.jsonl"
META = {"numbers": [4, 5, 6, 10], "target": 24}


def is_right(scorer: str, expected: str, text: str) -> bool:
    return SCORERS[scorer](expected, text, META).correct


@pytest.mark.parametrize("form", FORMS.read_text().splitlines())
def test_each_form_is_judged_as_a_person_would(form):
    scorer, right, expected, text, *answer = json.loads(form)
    verdict = SCORERS[scorer](expected, text, META)
    assert verdict.correct is right
    assert answer in ([], [verdict.answer])


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("first\n(1 + 3) * 6", "(1+3)*6", True),
        ("Answer: `6*(3+1)` = 24", "6*(3+1)", True),
        ("\\boxed{6 \u00d7 (3+1)}", "6*(3+1)", True),
        ("6*3+6", "6*3+6", False),
        ("6*4", "6*4", False),
        ("6+3+1", "6+3+1", False),
        ("six", None, False),
        ("", None, False),
    ],
)
def test_an_expression_is_right_that_uses_each_number_once_and_meets_the_target(
    text, answer, right
):
    meta = {"numbers": [1, 3, 6], "target": 24}
    assert SCORERS["expression"]("", text, meta) == Verdict(answer, right)


def test_parts_of_a_text_are_found_where_they_stand():
    assert extraction.boxed("\\boxed{a{b}c} d}") == "a{b}c"
    assert extraction.boxed("\\boxed{1}\\boxed{}") == ""
    assert extraction.boxed("\\boxed{a{b}") is extraction.boxed("no box") is None
    assert extraction.extract_answer("#### a\nb") == "a"
    assert extraction.extract_answer("answer is: **a**") == "a**"
    assert extraction.extract_answer("#### ") is extraction.extract_answer("nothing") is None
    for text, number in (
        ("-1,234.50", Fraction(-2469, 2)), ("+5.", Fraction(5)), (".5/2", Fraction(1, 4)),
        ("$ 7 %", Fraction(7)), ("1/0", None), ("1,23", None), ("1.2.3", None), ("", None),
        ("9" * 60, Fraction(10**60 - 1)), ("9" * 61, None), ("−5", Fraction(-5)),
    ):  # fmt: skip
        assert numbers.to_number(text) == number
    assert numbers.extract_number("2 + 3 = 5 rolls = x") == 5
    assert numbers.extract_number("5 rolls. Then 7") == 5
    assert numbers.extract_number("(5)") == 5
    assert numbers.extract_number("2 + 3") is numbers.extract_number("none") is None
    assert numbers.last_number("1 and 2. 3") == 3
    assert numbers.last_number("x") is numbers.last_number("7-5") is None


def test_expressions_are_arithmetic_and_nothing_else():
    assert evaluate("(1+2)*3/4") == (Fraction(9, 4), [1, 2, 3, 4])
    assert evaluate("-3 - 1000000000") == (Fraction(-1000000003), [3, 10**9])
    assert evaluate("1" + "+1" * 99 + " ")[0] == 100  # 200 characters
    for text, says in (
        ("", "no value: SyntaxError"),
        ("1 2", "no value: SyntaxError"),
        ("1/(2-2)", "no value: ZeroDivisionError"),
        ("2**3", "BinOp is not arithmetic"),
        ("+3", "UnaryOp is not arithmetic"),
        ("1000000001", "Constant is not arithmetic"),
        ("b+a", "'a' is not arithmetic"),
        ("1.5", "'.' is not arithmetic"),
        ("1" * 201, "an expression of 201 characters; at most 200"),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            evaluate(text)
        assert str(error.value) == says


# ---------------------------------------------------------------- numbers, written in every way
FRAMES = (
    "#### {}", "The answer is {}.", "**Answer: {}**", "**Answer:** {} apples", "\\boxed{{{}}}",
    "<answer>{}</answer>", "<answer>\n{}\n", "答案是{}。",
    "Final Answer: The final answer is ${}$. I hope it is correct.",
    "2 + 3 is 5, so in all it is {}", "So $x = {}$.", "<b>{}</b>",
)  # fmt: skip
SCRIPTS = ("０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९")
MINUS = ("-", "−", "–", "‑", "－", "﹣", "minus ", "negative ")
THOUSANDS = (",", " ", "\u202f", "\u00a0", "'", "’", "_", "{,}", ",\\!", "\\,", "\\ ")
PARTS = (
    "{}²", "{}^2", "{}x", "{}万", "{} dozen", "{} million", "{}bn", "{}/7", "{} 1/7", "{}:9",
    "\\sqrt{{{}}}", "{}\\pi", "<{}", "x > {}", "less than {}", "{} or 9", "{}e7", "{} thousandths",
    "{}_8", "\\frac{{\\pi}}{{{}}}", "2^{{{}}}", "±{}", "at least {}", "{}, 9", "{} \\cdot 10^3",
    "{}(2)", "{}√2", "{} or more", "{} choose 2", "{} plus 3", "k{}", "\\vec{{x}}{}", "{}, \\pi",
)  # fmt: skip


def grouped(digits: str, mark: str) -> str:
    return re.sub(r"(?<=\d)(?=(?:\d{3})+$)", lambda _: mark, digits)


def spellings(value: Fraction) -> Iterator[str]:
    """Yield a number of at most two decimals without its sign, as locales and LaTeX write it."""
    whole, cents = divmod(int(abs(value) * 100), 100)
    decimals = f".{cents:02}" if cents else ""
    plain = f"{whole}{decimals}"
    yield from (plain, f"${plain}", f"\\${plain}", f"({plain})", f"{plain}\\%")
    yield from (plain.translate(str.maketrans("0123456789", digits)) for digits in SCRIPTS)
    if whole > 999:
        yield from (f"{grouped(str(whole), mark)}{decimals}" for mark in THOUSANDS)
        yield re.sub(r"(?<=\d)(?=(?:\d\d)*\d{3}$)", ",", str(whole)) + decimals  # Indian
    if whole > 999_999 or (whole > 999 and cents):
        yield grouped(str(whole), ".") + decimals.replace(".", ",")
    if cents:
        yield f"{whole},{cents:02}"
        rest = value % 1 if value > 0 else -value % 1
        yield f"{whole} {rest}" if whole else str(rest)
        yield f"{whole or ''}\\frac{{{rest.numerator}}}{{{rest.denominator}}}"


def signed(value: Fraction, rng: Random) -> Iterator[str]:
    """Yield a number in all spellings, each with a sign of some form where it is negative."""
    for text in spellings(value):
        sign = rng.choice(MINUS) if value < 0 else ""
        yield f"{sign}{text}"


def drawn(rng: Random) -> Fraction:
    """Return a number of some size, with cents or without, of either sign."""
    size = 10 ** rng.randint(1, 7)
    cents = rng.choice((0, 0, 50, 25, 10, 37))
    return rng.choice((1, -1)) * (rng.randrange(10, 10 + size) + Fraction(cents, 100))


def test_a_number_is_right_in_every_form_and_wrong_with_another_digit_or_sign():
    rng, found = Random(1), []
    for _ in range(40):
        value = drawn(rng)
        expected = str(float(value)) if value.denominator > 1 else str(value)
        for written in signed(value, rng):
            frame = rng.choice(FRAMES)
            if written.startswith(("minus", "negative")) and "$" in frame:
                continue  # words within a formula
            text = frame.format(written)
            verdict = SCORERS["number"](expected, text, {})
            near = (value + rng.choice((1, -1, 10)), -value, value * 10, value + Fraction(1, 2))
            wrong = [other for other in near if is_right("number", str(other), text)]
            if verdict.answer != str(value) or not verdict.correct or wrong:
                found.append((expected, text, verdict, wrong))
    assert found == []


@pytest.mark.parametrize("part", PARTS)
def test_a_number_that_is_part_of_more_is_wrong(part):
    rng = Random(part)
    for frame in FRAMES[:7]:
        value = rng.randrange(10, 900)
        assert not is_right("number", str(value), frame.format(part.format(value))), frame


# ---------------------------------------------------------------- mathematics
GOLDS = r"""\frac{3}{7} | -\frac{11}{4} | 2\sqrt{3} | \frac{\sqrt{5}}{2} | 1+\sqrt{7} | 36\pi
\frac{5\pi}{6} | x^2-4x+7 | (x+2)(x-5) | \frac{3a+b}{4} | 2-7i | \left(3,\frac{\pi}{4}\right)
(2,-5,8) | [-3,4) | (-\infty,2)\cup(3,\infty) | \{1,4,9\} | 2,\sqrt{3},7 | 75^\circ | 12\%
\begin{pmatrix}4\\-1\end{pmatrix} | \begin{pmatrix}1&\frac{1}{2}\\0&3\end{pmatrix} | \$18.50
15\text{ cm}^2 | 40\text{ dollars} | 12,\!500 | 1204_5 | \text{even} | \text{(B)} | y=3x-2
x^2+y^2=9 | x\le 4 | 3\pm\sqrt{2} | \frac{1}{3^{40}} | \binom{8}{3} | 5! | 0.125 | 5:7
3.2\times10^{4} | \log_2 12 | 2^{15}-1 | \sin 2x | \frac{x^3}{y} | \sqrt[3]{4} | |x-3| | e^{2}
4\frac{2}{3} | \overline{AB}=6 | \text{June 4}"""
ALL_GOLDS = [one.strip() for line in GOLDS.splitlines() for one in line.split(" | ")]


def forms(gold: str) -> dict[str, str]:
    """Return an answer in eight equivalent forms."""
    kept = r"\\(?:text|mbox)\{[^}]*\}|\\[a-zA-Z]+ (?=[a-zA-Z])"  # blanks that mean something
    free = re.sub(kept, lambda found: found[0].replace(" ", "\0"), gold)
    dense = re.sub(r"(?<!\\) ", "", free).replace("\0", " ")
    measured = re.fullmatch(r"(.*\d.*?)\s*\\(?:text|mbox)\{ ?[a-z ]+\}(?:\^\d)?", gold)
    number = re.fullmatch(r"[\d.,\\!]+|\\d?frac\{\d+\}\{\d+\}", gold)
    return {
        "boxed": f"so \\boxed{{{gold}}}.",
        "display": f"Hence\n\\[ {gold} \\]",
        "parentheses": f"The value is \\({gold}\\).",
        "dollars": f"The final answer is ${gold}$. I hope it is correct.",
        "dfrac": f"\\boxed{{{re.sub('[dt]?frac', 'dfrac', gold)}}}",
        "without blanks": f"\\boxed{{{dense}}}",
        "without unit": f"\\boxed{{{measured[1] if measured else gold}}}",
        "with unit": f"**Answer:** ${gold}" + "\\text{ cm}" * bool(number) + "$",
    }


def misses(gold: str) -> list[str]:
    """Return an answer with each digit changed in turn, and with its sign changed."""
    changed = [
        gold[: found.start()] + str((int(found[0]) + 1) % 10) + gold[found.end() :]
        for found in re.finditer(r"\d", gold)
    ]
    words = r"\\text\{\(?[A-Za-z]|\$?0$|.*=|.*\\le"  # without a sign, or with one on either side
    signs = [] if re.match(words, gold) else [gold[1:] if gold[0] == "-" else f"-{gold}"]
    return changed + signs


def check(golds: list[str]) -> tuple[int, list[str], int, list[str]]:
    """Return (texts, right ones that were refused, near misses, those taken) over answers."""
    texts = [(gold, text) for gold in golds for text in forms(gold).values()]
    near = [(gold, f"\\boxed{{{text}}}") for gold in golds for text in misses(gold)]
    refused = [f"{gold}: {text}" for gold, text in texts if not is_right("math", gold, text)]
    taken = [f"{gold}: {text}" for gold, text in near if is_right("math", gold, text)]
    return len(texts), refused, len(near), taken


def test_an_answer_is_right_in_eight_ways_and_wrong_with_another_digit_or_sign():
    texts, refused, near, taken = check(ALL_GOLDS)
    assert (texts, refused, taken) == (8 * len(ALL_GOLDS), [], [])
    assert near > 100


@pytest.mark.parametrize(
    "whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["a tenth", "all"]
)
def test_the_answers_of_math_500_are_right_in_eight_ways(whole):
    rows = [row["answer"] for _, row in records(external_file("math500/test.jsonl"))]
    texts, refused, near, taken = check(rows if whole else rows[::10])
    print(f"{texts} texts, {len(refused)} refused; {near} near misses, {len(taken)} taken")
    assert len(refused) <= 0.005 * texts, refused
    assert len(taken) <= 0.001 * near, taken


def test_the_answers_of_math_500_have_keys_of_their_own():
    """Equal keys are equal answers: checked by hand where the texts differ in more than form."""
    golds = sorted({row["answer"] for _, row in records(external_file("math500/test.jsonl"))})
    form = r"\\[!,]|\\(?:text|mbox)\{ ?[a-z]+.*|\\circ|[\s{}^$\\%,]|^x=|[dt](?=frac)"
    by_key: dict[str | None, set[str]] = {}
    for gold in golds:
        by_key.setdefault(key(gold), set()).add("".join(sorted(re.sub(form, "", gold))))
    assert [sorted(bare) for bare in by_key.values() if len(bare) > 1] == []


def rational(rng: Random) -> tuple[Fraction, str]:
    """Return a fraction, and one of its spellings."""
    value = Fraction(rng.randrange(-60, 60), rng.choice((1, 2, 3, 4, 5, 7, 8)))
    top, bottom, minus = abs(value.numerator), value.denominator, "-" * (value < 0)
    texts = [f"{minus}\\frac{{{top}}}{{{bottom}}}", f"{minus}\\dfrac{{{top}}}{{{bottom}}}"]
    texts += [f"\\frac{{{value.numerator}}}{{{bottom}}}", f"{minus}{top}/{bottom}"]
    texts += [str(float(value))] * (bottom in (1, 2, 4, 5, 8))
    texts += [str(value)] * 3 * (bottom == 1)
    if top > bottom > 1:
        texts.append(f"{minus}{top // bottom}\\frac{{{top % bottom}}}{{{bottom}}}")
    return value, rng.choice(texts)


def test_equal_structures_of_numbers_have_one_key_and_unequal_ones_two():
    rng = Random(2)
    shapes = ("({}, {})", "[{},{})", "\\{{{},{}\\}}", "\\begin{{pmatrix}}{}\\\\{}\\end{{pmatrix}}")
    for _ in range(300):
        (a, x), (b, y), (c, z) = (rational(rng) for _ in range(3))
        shape = rng.choice(shapes)
        wanted = key(shape.format(f"\\frac{{{a.numerator}}}{{{a.denominator}}}", str(b)))
        assert key(shape.format(x, y)) == wanted
        assert (key(shape.format(x, z)) == wanted) is (b == c)


REST = r"""!|_8|_x|^2|&|<|>|+|-|/|x|t|\pi|i|e|\sqrt{2}|\text{ or more}|\text{x}|(x)|()|(2)|[2]|{2}
\{2\}|::2|;3|,3|\\|\\ 3|\pmod{7}|\infty|\mid 3|\equiv 3|\sim 3|\ne 3|\overline{3}|\ldots|\vec{x}|k
\mathrm{k}|\text{M}|\text{ hundred}|\text{ choose }2|\choose 2|\over 2|\cap 3|\cup 3|\pm 1|dx
\setminus 3|\frac12|\text{ plus }3"""


@pytest.mark.parametrize("rest", REST.replace("\n", "|").split("|"))
@pytest.mark.parametrize("gold", ["5", "2\\sqrt{3}", "\\frac{\\pi}{2}"])
def test_a_formula_with_something_left_over_is_another_one(gold, rest):
    assert key(gold + rest) != key(gold)


# ---------------------------------------------------------------- votes
WRITTEN = {  #: expected answer -> what five chains say, three of them right
    "\\frac{1}{2}": ("\\frac{1}{2}", "0.5", "1/2", "2", "2"),
    "2\\sqrt{3}": ("2\\sqrt{3}", "\\sqrt{12}", "2\\sqrt3", "3", "3"),
    "x^2-1": ("x^2-1", "(x-1)(x+1)", "-1+x^2", "x", "x"),
    "-1": ("-1", "-1.0", "-\\frac{3}{3}", "1", "1"),
    "2,3": ("2,3", "x=3 \\text{ or } x=2", "\\{2, 3\\}", "2", "2"),
    "\\begin{pmatrix}1\\\\2\\end{pmatrix}": (
        "\\begin{bmatrix} 1 \\\\ 2 \\end{bmatrix}", "\\begin{pmatrix} 1\\\\2.0 \\end{pmatrix}",
        "\\begin{pmatrix}1\\\\ \\frac{4}{2}\\end{pmatrix}", "(2, 1)", "(2,1)",
    ),
}  # fmt: skip


class Speaker:
    """An engine whose chains say what `WRITTEN` holds, chain by chain."""

    def generate(self, jobs, plan, extend=None):
        for job in jobs:
            written = WRITTEN[list(WRITTEN)[int(job.problem)]][job.chain]
            yield (
                job, 0,
                Completion(
                    tokens=(f"So \\boxed{{{written}}}.",), logprob=-1.0, sampling_logprob=-1.0,
                    finish="stop", completion_tokens=5, prompt_tokens=9, cached_tokens=0, seconds=0,
                ),
            )  # fmt: skip


@pytest.mark.parametrize("agree", [0, 3])
def test_equal_answers_vote_together_however_they_are_written(tmp_path, agree):
    rows = [{"prompt": "?", "answer": answer, "scorer": "math"} for answer in WRITTEN]
    task = load_benchmark("rows", lines(tmp_path / "rows.jsonl", *rows))
    plan = Plan(chains=5, max_new_tokens=8, stop_at_agreement=agree)
    lm = Served(ModelCard("m", 1, 1, 1.0, 1, {}, "m"))
    run = sample_run(lm, task, task.problems(9), plan, tmp_path, engine=Speaker(), progress=False)
    pool = run
    assert pool.curve("majority", unit="samples").y[-1] == 1
    answers = run.samples.groupby("problem")["answer"].agg(lambda texts: set(texts[:3]))
    assert answers["0"] == {"1/2"}
    assert all(len(texts) == 1 for texts in answers)


@pytest.mark.parametrize("scorer", ["number", "math"])
def test_keys_agree_with_verdicts(scorer):
    """Texts with one answer have one verdict; a key is a function of the text alone."""
    rng, seen = Random(4), {}
    for _ in range(300):
        value, other = (Fraction(rng.randrange(-9, 9), rng.choice((1, 2, 4))) for _ in range(2))
        forms = [
            written for written in signed(value, rng) if not re.search(r"\d,\d\d(?!\d)", written)
        ]
        text = f"\\boxed{{{rng.choice(forms)}}}"  # in mathematics 1,50 is a list
        found = SCORERS[scorer](str(other), text, {})
        assert found.correct is (value == other)
        assert seen.setdefault(text, found.answer) == found.answer == str(value)


RUNS = (
    "(", "()", "{", "1", "1 ", "1,", " ", "\n", "\n ", "A", "A\n", "(A) ", "**", "** ", "-", "- ",
    "x=", "\\\\", "_a", "answer to ",
    "answer: 5\n", "<answer>", "\\boxed{", "\\frac{1}", "5 not ",
)  # fmt: skip


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_long_text_is_judged_in_time_that_grows_with_its_length(scorer):
    """A pattern whose time grows with the square of the length takes seconds for one."""
    for run in RUNS:
        text = run * (30_000 // len(run))
        before = process_time()
        for frame in ("{}", "\\boxed{{{}}}", "#### {}", "<answer>{}</answer>"):
            SCORERS[scorer]("5", frame.format(text), META)
        assert process_time() - before < 20, run  # linear: below 1 s; quadratic: minutes


SAME = r"""\sqrt{8}:2\sqrt2 | (x+1)^2:x^2+2x+1 | 10^2:100 | a+b=6:6 | y=x+1:x+1
\sin30^\circ:0.5 | \frac{x^2-1}{x-1}:x+1 | 0.1\overline6:\frac16 | 52_8:52_{\text{eight}}
\cos2x:1-2\sin^2x | e^{i\pi}:-1 | x^2+y^2=1:y^2=1-x^2 | 2\pm\sqrt3:2+\sqrt3,2-\sqrt3
\tan x:\frac{\sin x}{\cos x} | \binom52:10"""
OTHER = r"""\frac13:0.3333333333 | \pi:3.14159265358979 | 2^{100}:2^{100}+1 | 3^{-40}:3^{-41}
A:a | |x|:x | (1,2):(2,1) | \{1,2\}:(1,2) | 52_8:52 | 100!:101! | \sqrt2:1.41421356237 | i:-i
y=x:y=-x | x+y=5:5 | a^2=6:6 | 2x=6:6 | \sin2x:2\sin x | 0.\overline{12}:0.1\overline2
x+y=5:x+y=6 | \infty:-\infty"""


def pairs(table: str) -> list[list[str]]:
    return [one.strip().split(":") for line in table.splitlines() for one in line.split(" | ")]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(*pair, True) for pair in pairs(SAME)] + [(*pair, False) for pair in pairs(OTHER)],
)
def test_equal_answers_share_a_key_and_different_ones_do_not(one, other, same):
    assert (key(one) == key(other)) is same


def test_keys_are_the_same_in_another_process():
    golds = [*ALL_GOLDS, *(written for chains in WRITTEN.values() for written in chains)]
    program = (
        "import json, sys; from scaling.benchmarks.mathematics import key; "
        "print(json.dumps([key(text) for text in json.load(sys.stdin)]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(golds[::-1]), text=True,
        capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert json.loads(found.stdout)[::-1] == [key(text) for text in golds]

"""Answers that hold what is expected and are not it, and their neighbours that are."""

from __future__ import annotations

from fractions import Fraction

import pytest

from scaling.benchmarks import extraction, numbers
from scaling.benchmarks.grading import SCORERS, evaluate
from scaling.records import Verdict

MARKED = ("#### {}", "The answer is {}", "so $\\boxed{{{}}}$")
PARTS = {
    "5": """5/2|5e3|5^2|5x|5-3|5\\cdot 10^3|<5|≤5|x<5|x>=5|x!=5|√5|\\sqrt{5}|2^5|5\\pi|5+x|5:2|5%2
        |5k|5 or 7|5, 7|5 million|not 5|5\\sqrt{2}|\\frac{5}{2}|5*2|5 \\times 3|1/5|-5|5>3""",
    "1": "1/2|\\frac12|1 1/2",
    "2": "\\frac{2}{3}|2\\sqrt{3}|2\\frac{1}{2}|7-2|x^2",
}
WHOLE = {
    "5": """5|5.|5 apples|$5|\\$5|5%|5.0|5 km|5kg|5\\text{ cm}|x = 5|2 + 3 = 5|**5**|10/2|$5/hour
        |5 - that is all|5^\\circ|\\text{5}|05|(5)""",
    "0.5": "1/2|\\frac{1}{2}|.5|\\dfrac{1}{2}|1/2 of a cup",
    "1234": "1,234|1234.00|$1,234 in all",
    "-3": "-3|−3|2 - 5 = -3",
}


def cases(told: dict[str, str]) -> list[tuple[str, str]]:
    """Return (expected, said) of a table."""
    return [(key, one.strip()) for key, line in told.items() for one in line.split("|")]


@pytest.mark.parametrize("form", MARKED)
@pytest.mark.parametrize(("expected", "said"), cases(PARTS))
def test_a_number_that_is_a_part_of_what_is_stated_is_not_the_answer(expected, said, form):
    assert not SCORERS["number"](expected, form.format(said), {}).correct


@pytest.mark.parametrize("form", MARKED)
@pytest.mark.parametrize(("expected", "said"), cases(WHOLE))
def test_a_number_with_its_unit_its_name_or_its_sum_is_the_answer(expected, said, form):
    assert SCORERS["number"](expected, form.format(said), {}).correct


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("so it is 5e3", False),
        ("so it is 5x.", False),
        ("so x<5", False),
        ("so it is √5", False),
        ("3 * 5", False),
        ("#### 5!", False),
        ("\\boxed{5!}", False),
        ("The answer is 5!", True),  # prose
        ("so it is 5.", True),
        ("2 + 3 = <<2+3=5>>5 eggs", True),
        ("We have:\n- 7 hens\n- 5", True),
    ],
)
def test_the_last_number_of_prose_counts_where_it_stands_alone(said, right):
    assert SCORERS["number"]("5", said, {}).correct is right


MATHS = r"""5|x>=5;5|x<=5;5|x!=5;5|x\ge 5;5|x\neq5;5|x=7, x=5;5|x=7\text{ or }x=5;5|y=x=5;5|2x=5
    ;5|x^2=5;5|7=5;5|\sqrt{x}=5;5|5!;1234|(1,234);1|\sum_{n=1}^{10^9} 1/n;2\sqrt{3}|x>2\sqrt{3}"""


@pytest.mark.parametrize("form", MARKED)
@pytest.mark.parametrize(
    ("expected", "said"), [pair.strip().split("|") for pair in MATHS.split(";")]
)
def test_a_relation_a_list_or_a_sum_is_not_the_number_it_ends_in(expected, said, form):
    pytest.importorskip("latex2sympy2_extended")
    assert not SCORERS["math"](expected, form.format(said), {}).correct


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("5", "x=5"),
        ("5", "x_1 = 5"),
        ("5", "AB=5"),
        ("5", "\\text{Area} = 5"),
        ("5", "\\theta = 5"),
        ("1234", "1,234"),
        ("1234", "1,\\!234"),
        ("x=5", "x=5"),
        ("(1,234)", "(1, 234)"),
        ("2\\sqrt{3}", "x=\\sqrt{12}"),
    ],
)
def test_what_a_name_is_said_to_be_is_the_answer(expected, said):
    assert SCORERS["math"](expected, f"\\boxed{{{said}}}", {}).correct


@pytest.mark.parametrize(("scorer", "form"), [("exact", "#### {}"), ("tagged", "**{}**")])
@pytest.mark.parametrize(
    ("expected", "said", "right"),
    [
        ("x>5", "x<5", False),
        ("x>5", "x>=5", False),
        ("5", "√5", False),
        ("5", "5!", False),
        ("5", "5%", False),
        ("5", "<5", False),
        ("2+3", "2 3", False),
        ("2*3", "2+3", False),
        ("C++", "C", False),
        ("x>5", "x>5", True),
        ("2*3", "2*3", True),
        ("yes", "Yes!", True),
        ("a knave", "`a knave`.", True),
        ("5", "$5$", True),
        ("yes, no", "(yes, no)", True),
    ],
)
def test_signs_that_change_a_text_are_read_and_marks_of_prose_are_not(
    scorer, form, expected, said, right
):
    assert SCORERS[scorer](expected, form.format(said), {}).correct is right


@pytest.mark.parametrize(
    ("scorer", "expected", "text", "answer", "right"),
    [
        ("number", "5", "#### 5", "5", True),
        ("number", "5", "no number", None, False),
        ("number", "0.5", "7 is not it. #### 2/4", "1/2", True),
        ("number", "5", "#### 5/0", None, False),
        ("number", "12", "The answer is 3 * 4 = 12 = a dozen", "12", True),
        ("number", "5", "The answer is 5. Not 7", "5", True),
        ("number", "5", "The answer is: 5\nand 7", "5", True),
        ("math", "5", "\\boxed{5} and \\boxed{6}", "{5, 6}", False),
        ("math", "5", "the sum $x$ is $5$", "5", True),
        ("math", "5", "answer is $5$ or so", "5", True),
        ("math", "5", "so it is 5", "5", True),
        ("math", "5", "", None, False),
        ("math", "5", "\\boxed{" + "5" * 401 + "}", None, False),
        ("math", "5" * 60, "\\boxed{" + "5" * 60 + "}", "5" * 60, True),
        ("math", "a", "\\boxed{ a }", "a", True),
        ("math", "\\frac12", "\\boxed{\\tfrac{1}{2}}", "1/2", True),
        ("math", "x>1", "\\boxed{x>1}", "(1, ∞)", True),
        ("tagged", "a b", "<solution>A, b.</solution>", "a, b", False),
        ("tagged", "yes", "**no** ***YES***", "yes", True),
        ("tagged", "yes", "yes", None, False),
        ("tagged", "yes", "<solution>no <solution>yes</solution>", "yes", True),
        ("tagged", "yes", "**yes** \\boxed{no}", "no", False),
        ("contains", "two words", " it is two\n\nwords here ", "it is two words here", True),
        ("contains", "b", "b <solution>a</solution>", "a", False),
        ("contains", "", "  ", None, False),
        ("bare_words", "Date of birth", "date-of_birth", "dateof_birth", False),
        ("bare_words", "Date of birth", "So: \\boxed{\\text{DATE of, birth}}", "dateofbirth", True),
        ("bare_words", "", "!", None, False),
        ("bare_words", "a", "a" * 500, "a" * 400, False),
        ("letter", " B ", "(A) then BBB", "B", True),
        ("letter", "A", "(A) then \\boxed{\\text{(C)}}", "C", False),
        ("letter", "A", "BB a", None, False),
        ("exact", "yes", "first\nYes.", "yes", True),
        ("exact", "yes", "answer: yes\nno", "yes", True),
        ("exact", "yes", "", None, False),
        ("exact", "2 x 3", "2 * 3", "2×3", False),
        ("exact", "2 × 3", "2 * 3", "2×3", True),
    ],
)
def test_a_verdict_holds_the_answer_and_whether_it_is_right(scorer, expected, text, answer, right):
    assert SCORERS[scorer](expected, text, {}) == Verdict(answer, right)


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

"""Answers that hold what is expected and are not it, and their neighbours that are."""

from __future__ import annotations

import pytest

from scaling.benchmarks.grading import SCORERS

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
    pytest.importorskip("math_verify")
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

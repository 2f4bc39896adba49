"""The value of an arithmetic expression, by walking its syntax tree: + - * / ( ) and whole numbers.

Nothing is evaluated by Python: a name, a call, a power is refused, as is anything long.
"""

from __future__ import annotations

import ast
import operator
from fractions import Fraction

LONGEST = 200  #: characters
LARGEST = 10**9  #: of the numbers written
CHARACTERS = frozenset("0123456789+-*/() \t\n")  #: neither 0x18 nor 1_0 nor a comment is a number
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(text: str) -> tuple[Fraction, list[int]]:
    """Return (value, numbers used, in order) of an expression; ValueError for anything else."""
    if len(text) > LONGEST:
        raise ValueError(f"an expression of {len(text)} characters; at most {LONGEST}")
    if odd := set(text) - CHARACTERS:
        raise ValueError(f"{min(odd)!r} is not arithmetic")
    used: list[int] = []
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, used), used
    except (SyntaxError, MemoryError, RecursionError, ZeroDivisionError) as error:
        raise ValueError(f"no value: {type(error).__name__}") from error


def _value(node: ast.expr, used: list[int]) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left, used), _value(node.right, used))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, used)
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value <= LARGEST:
        used.append(node.value)
        return Fraction(node.value)
    raise ValueError(f"{type(node).__name__} is not arithmetic")

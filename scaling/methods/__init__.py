"""Methods of spending inference compute: what each samples, and how its samples are read.

Best-of-N is N chains of one step, sequential revision one chain of N steps, a search a chain whose
steps are the nodes of a tree. `table.METHODS` has an entry per method, `draw` samples any of them.
"""

from __future__ import annotations

from scaling.methods.chains import Ask, Question, in_steps
from scaling.methods.driver import draw
from scaling.methods.table import METHODS, Method, check_plan, method_of, search_method, searches

__all__ = [
    "METHODS",
    "Ask",
    "Method",
    "Question",
    "check_plan",
    "draw",
    "in_steps",
    "method_of",
    "search_method",
    "searches",
]

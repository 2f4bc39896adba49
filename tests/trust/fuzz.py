"""Texts that no model should write, and verdicts on them by other means than the verifiers'.

    python -m tests.trust.fuzz --inputs 100000

Half of the texts are right answers with a few changes, or true steps that lead elsewhere, so that
many are nearly right; the rest is noise: unicode digits, `9**9**9`, brackets, code, megabytes. The
checkers are written from the rules of the task, slowly, character by character, in exact fractions.

Thinking traces are whole searches with a few changes; what they answer is found by a walk through
their characters.

Scorers of benchmarks read prose, so there the truth is known by construction: a text that says one
answer last, among others that it says before; or one that holds the expected answer as a part of
another. Of noise only "correct" is checked: what is expected must be in the text.
"""

from __future__ import annotations

import argparse
import operator
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from random import Random
from typing import Any
from unicodedata import decimal

from scaling.benchmarks.grading import SCORERS
from scaling.benchmarks.symbolic import evaluator, formula_key
from scaling.records import Problem
from scaling.tasks import TASKS, get_task
from scaling.tasks.maze import ROOMS, write_walk
from scaling.tasks.permutations import write_steps
from scaling.tasks.traces import Searcher, write_trace

DIGITS = "0123456789"
HOSTILE = (
    "", " ", "\n", "\x00", "=", "=" * 1000, ";" * 1_000_000, "9" * 1_000_000, "=" + "9" * 5000,
    "9**9**9", "=9**9**9", "(" * 5000 + "1" + ")" * 5000, "1e999", "=1e2", "=inf", "=nan", "=-0",
    "=+5", "= 5", "=５", "=٣", "=²", "=Ⅴ", "=5\u200b", "=5\n", "=5\r\n", "=05", "=1_0", "=0x1F",
    "__import__('os').system('false')", "exec('raise SystemExit')", "{0.__class__}", "%s%s%n",
    "<script>alert(1)</script>", "\\input{/etc/passwd}", "\ud800", "a" * 399, "1+1=2;" * 66,
    "|" * 9, ">", ">>", "<think>", "</think>", "<solution>" * 50_000, "\\boxed{" * 50_000,
    "**" * 99_999 + "a", "***a" * 50_000, "answer: " * 50_000, "$a\n" * 50_000, "1," * 50_000,
    "\\boxed{" + "{" * 50_000, "(A" * 50_000, "\\text{" * 50_000, "+".join("1" * 100),
)  # fmt: skip
PIECES = (
    *DIGITS,
    *"+-*/=;:,. ()\n\t>|~x<?!",
    "==",
    "**",
    "=5",
    "٣",
    "²",
    "５",
    "\u00a0",
    "-1",
    "1e3",
)


def texts(task: Any, problem: Problem, rng: Random) -> Iterator[str]:
    """Yield texts without end, for a problem of a task."""
    while True:
        kind = rng.random()
        if kind < 0.02:
            yield rng.choice(HOSTILE)
        elif kind < 0.5:
            yield changed(problem.answer, rng)
        elif kind < 0.7:
            yield changed(task.wrong(problem, rng), rng)
        elif kind < 0.8:
            yield (
                rng.choice((" ", "\n", "~", ">", "12;"))
                + problem.answer
                + rng.choice((" ", ";", "\n"))
            )
        elif kind < 0.9:
            yield "".join(chr(rng.randrange(1, 0xD800)) for _ in range(rng.randrange(30)))
        else:
            yield "".join(rng.choices(PIECES, k=rng.randrange(40)))


def traces(task: Any, problem: Problem, rng: Random) -> Iterator[str]:
    """Yield thinking traces without end: half as searched or continued, half with changes."""
    right = problem.answer
    while True:
        text = write_trace(problem, Searcher.draw(rng), rng)
        if rng.random() < 0.2:
            text += "|" + write_trace(problem, Searcher.draw(rng), rng)
        if rng.random() < 0.3:  # content with what is right, or asked for it anywhere
            text = rng.choice((f"{text}|{right}!", f"{text[: rng.randrange(len(text))]}>{right}"))
        yield text if rng.random() < 0.4 else changed(text, rng)


def walks(task: Any, problem: Problem, rng: Random) -> Iterator[str]:
    """Yield walks through a maze without end, most of them with changes."""
    pieces = (*ROOMS, *("|" + room for room in ROOMS), "|", " ", ",", "x", "A")
    while True:
        walk = write_walk(problem, rng, go_on=0.8, remembers=rng.random() < 0.5)
        yield walk if rng.random() < 0.2 else changed(walk, rng, pieces)


def steps(task: Any, problem: Problem, rng: Random) -> Iterator[str]:
    """Yield thinking on permutations without end, with a right answer or another, some changed."""
    thinking, pieces = "".join(write_steps(problem.id)), (*"12345>| k0a", "١", ">12345")
    while True:
        answer = problem.answer if rng.random() < 0.5 else "".join(rng.sample("12345", 5))
        text = thinking[: rng.randrange(len(thinking) + 1)] + ">" + answer
        yield text if rng.random() < 0.2 else changed(text, rng, pieces)


def changed(text: str, rng: Random, pieces: Sequence[str] = PIECES) -> str:
    """Return a text with zero to three small changes."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        change = rng.randrange(5)
        if change == 0:
            text = text[:at] + rng.choice(pieces) + text[at:]
        elif change == 1:
            text = text[:at] + rng.choice(pieces) + text[at + 1 :]
        elif change == 2:
            text = text[:at] + text[at + 1 :]
        elif change == 3:
            text = ";".join(rng.sample(text.split(";"), len(text.split(";"))))
        else:
            text = text[:to] + text[at:]
    return text


# ---------------------------------------------------------------- verdicts by other means
def number(text: str) -> Fraction | None:
    """Return a number of one to nine plain digits, else None."""
    if not 1 <= len(text) <= 9 or any(character not in DIGITS for character in text):
        return None
    value = Fraction(0)
    for character in text:
        value = value * 10 + DIGITS.index(character)
    return value


def sums_is_right(problem: Problem, text: str) -> bool:
    """Return whether the text ends in = and the sum of the problem's numbers."""
    _, found, tail = text.strip().rpartition("=")
    total = sum((Fraction(part) for part in problem.id.split("+")), Fraction(0))
    return bool(found) and number(tail) == total


def answered(text: str) -> str:
    """Return what a trace answers: the steps it is content with (!), else what follows its last >.

    x, | and > begin anew, < takes a step back, ? opens a remark that lasts until a step back.
    """
    end = len(text) if text[-1:] == "!" else text.rfind(">")
    if end < 1 or text[end - 1] != "!":
        return text[text.rfind(">") + 1 :]
    steps, step, remark = list[str](), "", False
    for character in text[:end]:
        if character in "x|>":
            steps, step, remark = [], "", False
        elif character == "<":
            steps, step, remark = [*steps, step.rstrip("!")], "", False
            steps = [step for step in steps if step][:-1]
        elif character == "?":
            remark = True
        elif character == ";" and not remark:
            steps, step = [*steps, step], ""
        elif not remark:
            step += character
    return ";".join(step for step in [*steps, step.rstrip("!")] if step)


def countdown_is_right(problem: Problem, text: str) -> bool:
    """Return whether every step is true and uses what is there, and the target alone is left."""
    numbers, target = problem.id.split("=")
    left = [Fraction(part) for part in numbers.split(",")]
    if len(answered(text)) >= 400:
        return False
    for step in answered(text).strip().split(";"):
        parts = step.split("=")
        if len(parts) != 2:
            return False
        places = [place for place, character in enumerate(parts[0]) if character in "+-*/"]
        if len(places) != 1:
            return False
        a, sign, b = parts[0][: places[0]], parts[0][places[0]], parts[0][places[0] + 1 :]
        first, second, result = number(a), number(b), number(parts[1])
        if first is None or second is None or result is None or (sign == "/" and second == 0):
            return False
        for used in (first, second):
            if used not in left:
                return False
            left.remove(used)
        true = {"+": first + second, "-": first - second, "*": first * second}
        if (true | ({"/": first / second} if sign == "/" else {}))[sign] != result:
            return False
        left.append(result)
    return left == [Fraction(target)]


def walk_is_right(problem: Problem, text: str) -> bool:
    """Return whether the text steps through passages, or back to where it was, up to the exit."""
    text, (passages, ends) = text.strip(), problem.id.split(";")
    if not 0 < len(text) <= 512 or text[0] != ends[0]:
        return False
    for place in range(1, len(text)):
        before, here = text[place - 1], text[place]
        if here == "|":
            if place + 1 == len(text) or text[place + 1] not in text[:place].replace("|", ""):
                return False
        elif before != "|" and f",{before}{here}," not in f",{passages},":
            return False
    return text[-1] == ends[1]


def permutations_is_right(problem: Problem, text: str) -> bool:
    """Return whether the text ends in > and the order that the swaps of the prompt lead to."""
    start, listed = problem.prompt.split(":")[:2]
    things, places = list(start), ["ab", "ac", "ad", "ae", "bc", "bd", "be", "cd", "ce", "de"]
    for letter in listed[2::3]:
        one, other = ("abcde".index(place) for place in places["abcdefghij".index(letter.lower())])
        things[one], things[other] = things[other], things[one]
    return text[text.rfind(">") + 1 :].strip() == "".join(things)


RIGHT: dict[str, Callable[[Problem, str], bool]] = {
    "countdown": countdown_is_right,
    "sums": sums_is_right,
    "maze": lambda problem, text: "|" not in text and walk_is_right(problem, text),
    "maze-search": walk_is_right,
    "permutations": permutations_is_right,
}


def attack(name: str, inputs: int, seed: int = 0, write: Any = texts) -> dict[str, Any]:
    """Return counts of a verifier's verdicts, those that the checker denies, the longest time."""
    task, rng, seen, slowest = get_task(name), Random(f"{name} {seed}"), Counter[str](), 0.0
    problems = task.problems(50, seed=seed)
    streams = [write(task, problem, rng) for problem in problems]
    for turn in range(inputs):
        problem = problems[turn % len(problems)]
        hostile = turn < len(HOSTILE)
        text = HOSTILE[turn] if hostile else next(streams[turn % len(streams)])
        began = time.process_time()
        verdict = task.verify(problem, text)
        slowest = max(slowest, time.process_time() - began)
        seen["correct"] += verdict.correct
        seen["no answer"] += verdict.answer is None
        right = RIGHT[name](problem, text)
        if verdict.correct != right or (verdict.answer is None and verdict.correct):
            print(f"{problem.id}: {text[:200]!r} is {right}, not {verdict}", file=sys.stderr)
            seen["wrong verdicts"] += 1
    kept = {name: seen[name] for name in ("correct", "no answer", "wrong verdicts")}
    return {"inputs": inputs} | kept | {"slowest (s)": round(slowest, 4)}


# ---------------------------------------------------------------- scorers of benchmarks
LETTERS = "ABCDE"
WORDS = ("yes", "no", "tetrahedron", "Bob", "a knave", "monday 3", "cube/face")
STATED = ("#### {}", "The answer is {}.", "Final answer: {}")
SUMS = (
    "The answer is 7 + 5 = {}.", "final answer is: 12 / 4 = **{}**", "#### {}. Check: 6 * 8 = 48",
    "Answer: 6 * 8 = 48 rolls. Then 48 - 35 = 13 are left. #### {}",
)  # fmt: skip
BARE = ("it is {}", "we get = {} .", "hence {} !")
MARKED = ("<solution>{}</solution>", "**{}**", "***{}***", "\\boxed{{{}}}")
CHOICES = ("({})", "{0}{0}{0}{0}{0}", "\\boxed{{{}}}", "\\boxed{{\\text{{({})}}}}")
PROSE = ("Let us see.\n", "Step by step: ", "Since x < y, ", "We try ", "Not {}. ", "$a_{i}$ and ")
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
Case = tuple[str, dict[str, Any], str, bool]  #: expected, meta, text, whether the text is right


def in_prose(rng: Random, forms: Sequence[str], answer: str, others: Sequence[str]) -> str:
    """Return prose that names other answers first and then, in one of the forms, the answer."""
    before = (rng.choice(PROSE).replace("{}", rng.choice(others)) for _ in range(rng.randrange(4)))
    decoys = (rng.choice(forms).format(rng.choice(others)) for _ in range(rng.randrange(3)))
    return "".join(before) + "\n".join([*decoys, rng.choice(forms).format(answer)])


BOXED = ("\\boxed{{{}}}", "so \\boxed{{ {} }}, with $x$ left")


def number_case(rng: Random, kinds: Sequence[Sequence[str]] = (STATED, SUMS, BARE, BOXED)) -> Case:
    """Return a number, written otherwise or missed by a little."""
    value = Fraction(rng.randrange(-(10**6), 10**6), rng.choice((1, 1, 1, 2, 4, 100)))
    near = (value + 1, value * 10, -value, value + Fraction(1, 2), value + 10**7)
    chosen = value if rng.random() < 0.5 else rng.choice(near)
    others = [written(other, rng) for other in (value, *near)]
    text = in_prose(rng, rng.choice(kinds), written(chosen, rng), others)
    return written(value, rng), {}, text, chosen == value


def written(value: Fraction, rng: Random) -> str:
    """Return a number of at most two decimals as people write it."""
    whole, cents = divmod(abs(value) * 100, 100)
    digits = f"{int(whole):,}" if rng.random() < 0.5 else str(int(whole))
    digits += f".{int(cents):02}" if cents or rng.random() < 0.3 else ""
    return rng.choice(("-", "−")) * (value < 0) + rng.choice(("", "", "$")) + digits


def math_case(rng: Random) -> Case:
    """Return a number in LaTeX: what needs no symbolic mathematics."""
    expected, meta, text, right = number_case(rng, [("\\boxed{{{}}}", "so \\boxed{{x = {}}}")])
    return expected.replace("$", ""), meta, text.replace("$", ""), right


def letter_case(rng: Random) -> Case:
    expected, chosen = rng.choice(LETTERS), rng.choice(LETTERS)
    return expected, {}, in_prose(rng, CHOICES, chosen, LETTERS), chosen == expected


def words_case(rng: Random, forms: Sequence[str] = MARKED) -> Case:
    expected, chosen = (", ".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(2))
    chosen = rng.choice((chosen, expected, expected.upper(), f"{expected}, no", expected[1:]))
    right = chosen.lower() == expected.lower()
    return expected, {}, in_prose(rng, forms, chosen, [f"{expected} ", *WORDS]), right


def exact_case(rng: Random) -> Case:
    """Return words after a mark, or as the last line."""
    return words_case(rng, [rng.choice((*STATED, *BOXED[:1], "\nthus:\n{}"))])


def expression_case(rng: Random) -> Case:
    """Return an expression built from its value up, with the numbers given or others."""
    numbers = [rng.randint(1, 13) for _ in range(rng.randint(2, 5))]
    used = list(numbers)
    if rng.random() < 0.3:
        used[0] = rng.randint(1, 13)
    used = used[1:] if rng.random() < 0.2 and len(used) > 2 else used
    parts = [(Fraction(n), str(n)) for n in used]
    while len(parts) > 1:
        a, b = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        sign = rng.choice([s for s in SIGNS if s != "/" or b[0]])
        parts.append((SIGNS[sign](a[0], b[0]), f"({a[1]}{rng.choice(('', ' '))}{sign}{b[1]})"))
    ((value, text),) = parts
    target = value if rng.random() < 0.7 else value + rng.choice((-1, 1))
    right = sorted(used) == sorted(numbers) and value == target
    forms = [rng.choice(("Answer: {}", "Answer: {} = 24", "\\boxed{{{}}}", "first\n{}"))]
    return "", {"numbers": numbers, "target": target}, in_prose(rng, forms, text, [text]), right


def symbolic_case(rng: Random) -> Case:
    """Return a number with a root or pi, a pair, or a polynomial; written otherwise, or missed."""
    if rng.random() < 0.05:
        return polynomial_case(rng)
    a, b, c = rng.randint(2, 60), rng.choice((2, 3, 5, 7)), rng.randint(2, 9)
    d = a + (0 if rng.random() < 0.5 else rng.choice((-1, 1, 10)))
    expected, answer = rng.choice(
        (
            (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{d * d * b}}}"),
            (rf"\frac{{{a}\sqrt{{{b}}}}}{{{c}}}", rf"\frac{{{d * b}}}{{{c}\sqrt{{{b}}}}}"),
            (rf"\frac{{{a}\pi}}{{{c}}}", rf"{d}\pi/{c}"),
            (rf"({a},\frac{{{b}}}{{{c}}})", rf"({d}, {b}/{c})"),
            (rf"\{{{a},{100 + b}\}}", rf"\{{{100 + b}, {d}\}}"),
            (rf"{a}x+{b}", rf"{b}+{d}x"),
            (rf"{a}+{b}i", rf"{b}i+{d}"),
        )
    )
    return expected, {}, rf"so \boxed{{{answer}}}", a == d


def polynomial_case(rng: Random) -> Case:
    """Return a polynomial in x, its terms in another order, or one that misses it by a term."""
    terms = [(rng.randint(1, 99), rng.choice((2, 3, 7)), power) for power in range(4)]
    other = list(terms)
    if rng.random() < 0.5:
        a, b, power = other[at := rng.randrange(4)]
        other[at] = rng.choice(((a + b, b, power), (a, b + 4, power), (2 * a, 2 * b, power)))
    rng.shuffle(other)
    right = all(
        Fraction(a, b) == next(Fraction(c, d) for c, d, q in other if q == p) for a, b, p in terms
    )
    expected, answer = (
        "+".join(rf"\frac{{{a}}}{{{b}}}x^{power}" for a, b, power in side)
        for side in (terms, other)
    )
    return expected, {}, rf"so \boxed{{{answer}}}", right


PARTS = {  #: what holds the expected answer {0} and is another; {1} is a number from 2 to 9
    "number": (
        "{0}/{1}", "{0}e{1}", "{0}^{1}", "{0}x", "{0}-{1}", "{0} - {1}", "{0}\\cdot 10^{1}", "<{0}",
        "x<{0}", "x>={0}", "x!={0}", "√{0}", "\\sqrt{{{0}}}", "\\frac{{{0}}}{{{1}}}", "{1}^{0}",
        "{0}\\sqrt{{{1}}}", "{0}\\pi", "{0}+x", "{0}:{1}", "{0}%{1}", "{0} or {1}", "{0}, {1}",
        "{1} and {0}", "not {0}", "{0} {1}/7", "{0} million", "x^{0}", "{0}\\times {1}",
    ),
    "math": (
        "{0}^{1}", "{0}x", "<{0}", "x>={0}", "x<={0}", "x!={0}", "x\\ne {0}", "x={1}, x={0}",
        "x={1}\\text{{ or }}x={0}", "{1}x={0}", "x^{1}={0}", "y=x={0}", "\\sqrt{{x}}={0}",
        "({0},{1})",
    ),
    "exact": ("√{0}", "{0}!", "{0}%", "<{0}", "{0}+{1}", "{0}^{1}", "{0}*{1}", "x={0}", "~{0}"),
}  # fmt: skip
PARTS["tagged"] = PARTS["exact"]


def part_case(name: str, rng: Random) -> Case:
    """Return a text whose answer has the expected one as a part."""
    expected = str(rng.randint(10, 9999))
    forms = MARKED[:2] if name == "tagged" else (STATED[0], "The answer is {}", BOXED[0])
    text = rng.choice(forms).format(rng.choice(PARTS[name]).format(expected, rng.randint(2, 9)))
    return expected, {}, f"{rng.choice(PROSE).replace('{}', '7')}{text}", False


CASES: dict[str, Callable[[Random], Case]] = {
    "number": number_case,
    "math": math_case,
    "letter": letter_case,
    "tagged": words_case,
    "exact": exact_case,
    "expression": expression_case,
}


def is_in(scorer: str, expected: str, meta: dict[str, Any], text: str, answer: str) -> bool:
    """Return whether what is expected is anywhere in a text: without it no verdict is "correct"."""
    if scorer == "expression":
        assert re.fullmatch(r"(?:[0-9+/()-]|\*(?!\*))+", answer)
        used = sorted(map(int, re.findall("[0-9]+", answer)))
        value = eval(re.sub("[0-9]+", r"Fraction(\g<0>)", answer))  # noqa: S307
        return used == sorted(meta["numbers"]) and value == meta["target"]
    if scorer in ("number", "math"):
        bare = re.sub("[^0-9.]", "", expected)
        text = "".join(str(decimal(character, character)) for character in text)
        bared = text.replace(",", "")
        bared += "\n" + re.sub(r"\s", "", bared) * (scorer == "math")  # LaTeX shows no blank
        found = re.findall(r"[0-9]+(?:\.[0-9]+)?", bared)
        return any(Fraction(number) == Fraction(bare) for number in found)
    letters = [re.sub(r"[\W_]", "", words).lower() for words in (expected, text)]
    return letters[0] in letters[1]


def attack_scorer(
    name: str, inputs: int, seed: int = 0, cases: Callable[[Random], Case] | None = None
) -> dict[str, Any]:
    """Return counts of a scorer's verdicts, those that are wrong, the longest time."""
    rng, seen, slowest, draw = Random(f"{name} {seed}"), Counter[str](), 0.0, cases or CASES[name]
    clock = time.perf_counter if cases else time.process_time  # another process's time by the wall
    for turn in range(inputs):
        partly = cases is None and name in PARTS and rng.random() < 0.2
        expected, meta, text, right = part_case(name, rng) if partly else draw(rng)
        known = turn >= len(HOSTILE) and (partly or cases is not None or rng.random() < 0.6)
        if turn < len(HOSTILE):
            text = HOSTILE[turn]
        elif not known:
            text = changed(text, rng)
        began = clock()
        verdict = SCORERS[name](expected, text, meta)
        slowest = max(slowest, clock() - began)
        seen["correct"] += verdict.correct
        seen["no answer"] += verdict.answer is None
        wrong = (
            verdict.correct != right
            if known
            else (verdict.correct and not is_in(name, expected, meta, text, str(verdict.answer)))
        )
        if wrong:
            print(f"{name} {expected!r} {meta}: {text[:200]!r}: {verdict}", file=sys.stderr)
            seen["wrong verdicts"] += 1
    kept = {name: seen[name] for name in ("correct", "no answer", "wrong verdicts")}
    return {"inputs": inputs} | kept | {"slowest (s)": round(slowest, 4)}


def main() -> None:
    """Attack every verifier and note the counts for docs/trust.md."""
    from tests.trust.tables import note

    parser = argparse.ArgumentParser(prog="python -m tests.trust.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--judged", type=int, default=10_000, help="by math-verify, in a process")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="so many inputs of each")
    parser.add_argument("--only", nargs="+", help="rows of the table, by name; default: all")
    options = parser.parse_args()
    jobs = {name: partial(attack, name, options.inputs) for name in RIGHT if name in TASKS}
    jobs["maze, walks"] = partial(attack, "maze-search", options.inputs, write=walks)
    jobs["permutations, steps"] = partial(attack, "permutations", options.inputs, write=steps)
    jobs["countdown, traces"] = partial(attack, "countdown", options.inputs, write=traces)
    jobs |= {f"benchmarks, {name}": partial(attack_scorer, name, options.inputs) for name in CASES}
    symbolic = partial(attack_scorer, "math", options.judged, cases=symbolic_case)
    jobs["benchmarks, math by math-verify"] = symbolic
    formula_key("x")  # the start of a process is no answer's time
    words = shlex.join(["python", "-m", "tests.trust.fuzz", *sys.argv[1:]])
    for name in options.only or jobs:
        row: dict[str, Any] = {}
        for seed in options.seeds:  # noted after each, so that hours can be cut short
            killed = evaluator().killed
            found = jobs[name](seed=seed) | {"killed": evaluator().killed - killed}
            sums = {what: row.get(what, 0) + value for what, value in found.items()}
            slowest = max(found["slowest (s)"], row.get("slowest (s)", 0.0))
            row = sums | {"slowest (s)": slowest}
            print(name, seed, row, flush=True)
            note("fuzz", words, {name: row})


if __name__ == "__main__":
    main()

"""Search over solution steps with a scorer: beams, diverse trees, balanced expansion, particles.

A search grows a tree of partial solutions, one step (up to `;`) per node. Each round samples
`plan.width` children, scores every new node, and asks a rule which nodes go on with
how many children. It is a chain of the log whose steps are its nodes in order: a row's answer is
the one the search would give if it stopped there, so every smaller cap is read by prefix, and the
sum over rows is the cost. `plan.steps` caps the nodes; `plan.chains` are independent searches.

Rows: finish "stop" or "length" on the path to the answer, "discarded" off it, and one more for each
scorer pass, "scored", at step `plan.steps` + node, whose `logprob` is the score. A node's prefix
counts as cached, its parent computed it; that this engine computes it again is its own waste.
Not here: where scores come from (`scorers`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Protocol

from scaling.methods.chains import Ask, Process, Question
from scaling.records import Completion, ModelCard, Plan, Problem, Sample, Verdict
from scaling.tasks import STEP_END, stream

WORST = -100.0  #: log-probability that -inf counts as
BALANCE = 0.2  #: REBASE: temperature of the softmax over chances of success


class Scorer(Protocol):
    """Anything that estimates how promising a partial solution is, without the truth."""

    @property
    def name(self) -> str: ...

    @property
    def card(self) -> ModelCard | None: ...  # of the model that a pass runs; None: it is free

    def __call__(self, pairs: Sequence[tuple[Problem, str]]) -> Sequence[Sequence[float]]:
        """Return for each (problem, text) the log-probability of success after each step."""
        ...


@dataclass(eq=False)
class Node:
    """A partial solution: one more step than its parent."""

    index: int  #: in order of creation, the step of its row
    root: int  #: index of the first step it goes back to
    parent: Node | None
    text: str = ""  #: from the start, the ends of steps included
    context: tuple[int, ...] = ()  #: prompt and text as tokens
    score: float = 0.0  #: log-probability of success
    ended: bool = False  #: the model ended its solution here
    done: Completion | None = None


Shares = list[tuple[Node, int]]  #: nodes that go on, and the children of each
Rule = Callable[[Plan, Sequence[Node], int, Random], Shares]


def spread(nodes: Sequence[Node], room: int) -> Shares:
    """Return `room` children divided evenly over nodes, any remainder to the first ones."""
    return [(n, room // len(nodes) + (i < room % len(nodes))) for i, n in enumerate(nodes)]


def beam(plan: Plan, nodes: Sequence[Node], room: int, rng: Random) -> Shares:
    """Beam search: the best `keep` nodes continue, with equally many children."""
    return spread(sorted(nodes, key=lambda n: -n.score)[: plan.keep], room)


def dvts(plan: Plan, nodes: Sequence[Node], room: int, rng: Random) -> Shares:
    """Diverse verifier tree search: the best node of each of `keep` subtrees continues."""
    best = {n.root % plan.keep: n for n in sorted(nodes, key=lambda n: n.score)}
    return spread([best[tree] for tree in sorted(best)], room)


def rebase(plan: Plan, nodes: Sequence[Node], room: int, rng: Random) -> Shares:
    """Balanced expansion: children in proportion to exp(chance / BALANCE), rounded to the room."""
    top = max(math.exp(n.score) for n in nodes)
    weights = [math.exp((math.exp(n.score) - top) / BALANCE) for n in nodes]
    exact = [room * weight / sum(weights) for weight in weights]
    order = sorted(range(len(nodes)), key=lambda i: math.floor(exact[i]) - exact[i])
    extra = set(order[: room - sum(map(math.floor, exact))])
    return [(n, math.floor(exact[i]) + (i in extra)) for i, n in enumerate(nodes)]


def particles(plan: Plan, nodes: Sequence[Node], room: int, rng: Random) -> Shares:
    """Particle filter: resample by how much the last step raised the chance of success.

    With exact chances the survivors are draws from the model's solutions, given success.
    """
    rise = [n.score - (n.parent.score if n.parent else 0.0) for n in nodes]
    top = max(rise)
    drawn = rng.choices(nodes, [math.exp(r - top) for r in rise], k=room)
    return [(n, drawn.count(n)) for n in nodes]


@dataclass(eq=False)
class Tree:
    """One search of one problem."""

    chain: int
    nodes: list[Node] = field(default_factory=list)
    newest: list[Node] = field(default_factory=list)  #: of this round

    def grow(self, shares: Sequence[tuple[Node | None, int]], question: Question) -> None:
        """Add the children of a round, up to the cap; a parent of None starts a solution."""
        begun = len(self.nodes)
        parents = [node for node, children in shares for _ in range(children)]
        parents = [node for node in parents if node is None or not node.ended]
        self.newest = [
            Node(i, parent.root, parent, parent.text, parent.context)
            if parent
            else Node(i, i, None, "", question.prompt)
            for i, parent in enumerate(parents[: question.plan.steps - begun], begun)
        ]
        self.nodes += self.newest


def searching(rule: Rule) -> Callable[[Question], Process]:
    """Return the method that grows trees by a rule."""
    return partial(_search, rule)


def _search(rule: Rule, question: Question) -> Process:
    """Grow all trees of a problem round by round: draw a step per open node, score, choose."""
    plan = question.plan
    trees = [Tree(chain) for chain in range(plan.chains)]
    for tree in trees:
        tree.grow([(None, plan.width)], question)
    while alive := [tree for tree in trees if tree.newest]:
        opened = {
            tree.chain * plan.steps + node.index: node for tree in alive for node in tree.newest
        }
        for node in opened.values():
            node.ended = len(node.context) >= question.limit
        asks = [Ask(key, node.context) for key, node in opened.items() if not node.ended]
        completions = yield asks
        for ask, done in zip(asks, completions, strict=True):
            _add_step(question, opened[ask.chain], done)
        scores = yield [node.text for node in opened.values()]
        for node, steps in zip(opened.values(), scores, strict=True):
            node.score = max(steps[-1], WORST)
        for tree in alive:
            rng = stream(plan.seed, question.problem.id, tree.chain, len(tree.nodes))
            room = min(plan.width, plan.steps - len(tree.nodes))
            tree.grow(rule(plan, tree.newest, room, rng) if room else [], question)
    return [row for tree in trees for row in rows_of(tree, question)]


def _add_step(question: Question, node: Node, done: Completion) -> None:
    """Append what was drawn to a node, which ends unless the end of a step was drawn."""
    (step_end,) = question.encode(STEP_END)
    goes_on = done.stop_token == step_end
    node.done, node.ended = done, not goes_on
    node.text += question.decode(done.tokens) + STEP_END * goes_on
    node.context += done.tokens + (step_end,) * goes_on


def checked_scores(
    scorer: Scorer, pairs: Sequence[tuple[Problem, str]]
) -> Sequence[Sequence[float]]:
    """Return a scorer's numbers; raises ValueError if their number is wrong or one is NaN."""
    scores = scorer(pairs)
    if len(scores) != len(pairs):
        raise ValueError(
            f"scorer {scorer.name!r} returned {len(scores)} scores for {len(pairs)} texts; "
            "give one per text, in order"
        )
    for (problem, text), steps in zip(pairs, scores, strict=True):
        if not len(steps) or any(math.isnan(step) for step in steps):
            raise ValueError(
                f"scorer {scorer.name!r} returned {list(steps)} for {text!r} of {problem.id!r}; "
                "give a number per step (-inf ranks a text last)"
            )
    return scores


def rows_of(tree: Tree, question: Question) -> Iterator[Sample]:
    """Yield a row per node, with the answer so far, and a row per scorer pass."""
    best: Node | None = None
    verdict, answers = Verdict(None, False), []
    for node in tree.nodes:
        if node.ended and (best is None or node.score > best.score):
            best, verdict = node, question.verify(question.problem, node.text)
        answers.append(verdict)
    path = set()
    while best is not None:
        path.add(best)
        best = best.parent
    for node, answer in zip(tree.nodes, answers, strict=True):
        yield _node_row(question, tree.chain, node, answer, node in path)
        if question.scorer.card is not None:
            yield _score_row(question, tree.chain, node)


def _node_row(question: Question, chain: int, node: Node, answer: Verdict, kept: bool) -> Sample:
    read, prompt = len(node.context), len(question.prompt)
    done = node.done or Completion((), 0.0, 0.0, "length", read, read, 0, 0)
    cached = done.prompt_tokens - 1 if node.parent else prompt * (node.index > 0)
    cached, finish = min(cached, done.prompt_tokens), done.finish if kept else "discarded"
    place = question.problem.id, chain, node.index
    return Sample.of(place, node.text, answer, done, cached_tokens=cached, finish=finish)


def _score_row(question: Question, chain: int, node: Node) -> Sample:
    """Return the row of a scorer's pass over a node: only tokens new since its parent's pass."""
    known = len(node.parent.context if node.parent else question.prompt)
    read = Completion((), node.score, node.score, "scored", len(node.context), known, 0, 0.0)
    place = question.problem.id, chain, question.plan.steps + node.index
    return Sample.of(place, "", Verdict(None, False), read)

"""Train a model to revise its own drafts: rounds of sampling, grading and learning.

Each round samples chains on train-split problems with the present weights and learns from them
once, so that the drafts it learns to mend are its own. `LESSONS` says what a chain teaches:
`answer` ends each chain with a right draft and learns that one alone (wrong to right; untold also
right to right); `avoid` also makes a wrong draft rarer that repeats an earlier one; `reward` weighs
every draft by its verdict less what its step usually earns (a policy gradient); `plain` is the
control, right first drafts alone.
Not here: pre-training (`train`), how a chain is drawn (`methods`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from scaling import compute
from scaling.engine import Engine
from scaling.methods import draw
from scaling.models import LM
from scaling.records import Plan, Problem, Sample, look_up
from scaling.tasks import get_task, revision_suffix, stream
from scaling.train import Recipe, Trainer

Lesson = tuple[list[str], list[float]]  #: drafts of a chain, and the weight of each in the loss
Row = tuple[list[int], list[int], list[float]]  #: ids, the label of each, its weight
REPEATED = 0.3  #: weight of a repeated wrong draft, against 1 of a right one
WIDTHS = (48, 112, 224)  #: padded lengths; a longer chain is cut


@dataclass(frozen=True)
class Course:
    """How a reviser is trained; written into its card."""

    task: str = "countdown"
    levels: tuple[str, ...] = ("3x20", "4x20")
    lesson: str = "answer"  #: a name in `LESSONS`
    feedbacks: tuple[str, ...] = ("verdict", "none")  #: in turn, round by round
    steps: int = 6  #: drafts per chain
    rounds: int = 40
    problems: int = 1000  #: per round, two chains each
    plain: float = 0.2  #: of the problems, share whose reference answer is learnt as well
    rate: float = 1e-3  #: falls linearly to zero
    batch_tokens: int = 8192
    compiled: bool = True
    seed: int = 0


def answer_lesson(problem: Problem, chain: Sequence[Sample], told: bool, usual: Any) -> Lesson:
    """Return a chain that ends in a right draft, and only that draft to learn.

    Untold, the right draft is learnt twice: after the wrong ones, and as a copy of itself.
    """
    drafts, right = [s.text for s in chain], [i for i, s in enumerate(chain) if s.correct]
    if not right:
        return [*drafts, problem.answer], [0.0] * len(drafts) + [1.0]
    first = right[0]
    keep = [] if told else [drafts[first]]
    return drafts[: first + 1] + keep, [0.0] * first + [1.0] * (1 + len(keep))


def avoid_lesson(problem: Problem, chain: Sequence[Sample], told: bool, usual: Any) -> Lesson:
    """Return the lesson of `answer`, with wrong drafts that repeat an earlier one made rarer."""
    drafts, weights = answer_lesson(problem, chain, told, usual)
    seen: set[str] = set()
    for i, sample in enumerate(chain[: len(drafts) - 1]):
        again = not sample.correct and sample.text in seen
        weights[i] = -REPEATED if again else weights[i]
        seen.add(sample.text)
    return drafts, weights


def reward_lesson(problem: Problem, chain: Sequence[Sample], told: bool, usual: Any) -> Lesson:
    """Return a chain with each draft weighed by its verdict less what its step usually earns."""
    return [s.text for s in chain], [s.correct - usual[problem.level, s.step] for s in chain]


def plain_lesson(problem: Problem, chain: Sequence[Sample], told: bool, usual: Any) -> Lesson:
    """Return a right first draft alone: what as much training without revision gives."""
    return [problem.answer], [1.0]


LESSONS: dict[str, Callable[..., Lesson]] = {
    "answer": answer_lesson,
    "avoid": avoid_lesson,
    "reward": reward_lesson,
    "plain": plain_lesson,
}


def row_of(lm: LM, prompt: str, lesson: Lesson, suffix: str) -> Row:
    """Return token ids, labels and weights; where a draft ends, the label is the stop token.

    What asks for the next draft (`~`, `x`) stands where the model stopped, and is not learnt.
    """
    stop, after = lm.eos_ids[0], lm.encode(suffix)
    ids = list(lm.encode(prompt))
    labels, weights = ids[1:], [0.0] * (len(ids) - 1)
    for draft, weight in zip(*lesson, strict=True):
        tokens = lm.encode(draft)
        ids += [*tokens, *after]
        labels += [*tokens, stop, *after[1:]]
        weights += [weight] * (len(tokens) + 1) + [0.0] * (len(after) - 1)
    return ids[: len(labels)], labels, weights


def batches(
    rows: Sequence[Row], batch_tokens: int, rng: Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield (ids, labels, weights), each (rows, width), like lengths together, in random order.

    Rows that fill no batch of their length are left out: another shape would compile anew.
    """
    found = []
    groups = defaultdict(list)
    for row in rng.sample(list(rows), len(rows)):
        groups[next((w for w in WIDTHS if len(row[0]) <= w), WIDTHS[-1])].append(row)
    for width, group in groups.items():
        size = batch_tokens // width
        padded = [[(part[:width] + [0] * width)[:width] for part in row] for row in group]
        for start in range(0, len(group) - size + 1, size):
            columns = zip(*padded[start : start + size], strict=True)
            ids, labels, weights = (torch.tensor(column) for column in columns)
            found.append((ids, labels, weights.float()))
    yield from rng.sample(found, len(found))


def sample_chains(
    lm: LM, course: Course, round_: int, feedback: str
) -> list[tuple[Problem, list[Sample]]]:
    """Return a round's chains on train-split problems, each with its problem."""
    seed = stream("revise", course.seed, round_).getrandbits(31)
    task = get_task(course.task, course.levels)
    plan = Plan("revision", chains=2, steps=course.steps, feedback=feedback, seed=seed)
    engine = Engine(lm.model, eos_ids=lm.eos_ids)
    chains: dict[tuple[str, int], tuple[Problem, list[Sample]]] = {}
    problems = task.problems(course.problems, "train", seed)
    for problem, samples in draw(lm, task, problems, plan, engine):
        for sample in sorted(samples, key=lambda s: s.step):
            key = (problem.id, sample.chain)
            chains.setdefault(key, (problem, []))[1].append(sample)
    return list(chains.values())


def lessons_of(lm: LM, course: Course, round_: int) -> tuple[list[Row], list[Sample]]:
    """Return the rows that a round teaches, and its samples."""
    feedback = course.feedbacks[round_ % len(course.feedbacks)]
    teach, suffix = look_up(LESSONS, course.lesson, "lesson"), revision_suffix(feedback)
    chains = sample_chains(lm, course, round_, feedback)
    samples = [sample for _, chain in chains for sample in chain]
    earned = defaultdict(list)
    for problem, chain in chains:
        for sample in chain:
            earned[problem.level, sample.step].append(sample.correct)
    usual = {key: float(np.mean(verdicts)) for key, verdicts in earned.items()}
    rows = [
        row_of(lm, p.prompt, teach(p, chain, feedback == "verdict", usual), suffix)
        for p, chain in chains
    ]
    plain = chains[:: 2 * max(1, round(0.5 / course.plain))] if course.plain else []
    return rows + [row_of(lm, p.prompt, ([p.answer], [1.0]), "") for p, _ in plain], samples


def train_reviser(lm: LM, course: Course, name: str) -> tuple[LM, list[float]]:
    """Return the model after a course, its card counting all compute, and first-draft accuracies.

    FLOPs: those of the start, of sampling the chains, and of three forwards per trained position.
    """
    trainer = Trainer(lm, Recipe(rate=course.rate, seed=course.seed, compiled=course.compiled))
    now = LM(trainer.model, lm.tokenizer, lm.card, skills=("revision",))
    rng, accuracy = stream("revise", course.seed), []
    bar = tqdm(range(course.rounds), unit="round", desc=name)
    for round_ in bar:
        rows, samples = lessons_of(now, course, round_)
        accuracy.append(float(np.mean([s.correct for s in samples if s.step == 0])))
        bar.set_postfix(first_draft=f"{accuracy[-1]:.3f}", rows=len(rows))
        ledger = [(s.prompt_tokens, s.cached_tokens, s.completion_tokens) for s in samples]
        trainer.flops += float(compute.sample_flops(trainer.shape, *np.array(ledger).T).sum())
        warm = min(1.0, (len(accuracy) * 10) / 30)
        for batch in batches(rows, course.batch_tokens, rng):
            trainer.learn([batch], weighed_loss, course.rate * warm * (1 - round_ / course.rounds))
    return trainer.lm(name), accuracy


def weighed_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return weighted cross-entropy, sum of w (-log p) over sum of |w|."""
    nats = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return (nats * weights.flatten()).sum() / weights.abs().sum().clamp(min=1)

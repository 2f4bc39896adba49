"""Train a model on its own samples, round by round: RL training and revision of drafts.

A round samples every problem's chains from the current model, turns them into weighted rows by a
lesson, and learns from each row once. Expert iteration keeps the right samples, or the shortest of
them, GRPO weighs a sample by its reward less its group's mean, in standard deviations (Shao et al.
2024, arXiv:2402.03300, eq. 4; one update per sample, so that no ratio needs a clip, and no
reference model is kept). The lessons of revision learn a chain's right draft after its wrong ones.
The only reward is the task's verifier.

All compute is counted: the `train_flops` of a checkpoint are those of its start, of every sampled
token, and of three forwards per position learnt from.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import comb
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from scaling import compute
from scaling.engine import Engine
from scaling.ladder.trainer import Recipe, Row, Trainer, check_budgets, flops_name
from scaling.methods import draw
from scaling.models import CARD, LM, load_lm
from scaling.records import Plan, Problem, Sample, look_up
from scaling.tasks import get_task, revision_suffix, stream

WARM_UP = 3  #: rounds over which a decaying rate rises
KEPT = 2  #: samples of a problem that the lesson of short samples learns from
REPEATED = 0.3  #: weight of a repeated wrong draft, against 1 of a right one
Chain = Sequence[Sample]  #: the samples of one chain by step
Weighted = tuple[list[str], list[float]]  #: drafts of a chain, and the weight of each in the loss
Means = Mapping[tuple[str, int], float]  #: mean reward of the round by (level, step)
Examples = Callable[[int], Iterator[tuple[str, str]]]  #: seed -> endless (context, continuation)


class Pool(NamedTuple):
    """The samples of one problem in a round."""

    problem: Problem
    chains: Sequence[Chain]

    @property
    def samples(self) -> list[Sample]:
        """Return the samples of all chains."""
        return [sample for chain in self.chains for sample in chain]


Lesson = Callable[[Pool, bool, Means], list[Weighted]]  #: the bool: drafts get verifier feedback


@dataclass(frozen=True)
class Course:
    """How a model is trained on its own samples; written into its card."""

    lesson: str = "grpo"  #: a name in `LESSONS`
    task: str = "countdown"
    levels: tuple[str, ...] = ("3x20",)
    problems: int = 64  #: per round
    chains: int = 8  #: per problem
    steps: int = 1  #: drafts per chain; more than one is revision
    feedbacks: tuple[str, ...] = ("none",)  #: of revision, in turn, round by round
    max_new_tokens: int = 256  #: longest sample
    step_per_batch: bool = False  #: one optimiser step per batch, not per round
    replay: float = 0.0  #: earlier examples replayed, per sample learnt from
    plain: float = 0.0  #: share of the problems whose reference answer is learnt as well
    rate: float = 1e-3
    decays: bool = False  #: the rate rises over `WARM_UP` rounds and falls to 0 at the last budget
    batch_tokens: int = 2048  #: padded tokens per batch
    widths: tuple[int, ...] = (64, 128, 288)  #: padded row lengths; few, since each is compiled
    compiled: bool = True
    seed: int = 0


# -- lessons -----------------------------------------------------------------------------------


def expert(pool: Pool, feedback: bool, means: Means) -> list[Weighted]:
    """Return the right samples with weight 1, the others with 0 (expert iteration)."""
    return [([s.text for s in chain], [float(s.correct) for s in chain]) for chain in pool.chains]


def shortest(pool: Pool, feedback: bool, means: Means) -> list[Weighted]:
    """Return the `KEPT` shortest right samples of the problem with weight 1, the others with 0.

    A round costs a third as much as one of `expert`, since most FLOPs are spent on learning.
    """
    right = [sample for sample in pool.samples if sample.correct]
    kept = sorted(right, key=lambda s: (s.completion_tokens, s.chain, s.step))[:KEPT]
    return [([s.text for s in chain], [float(s in kept) for s in chain]) for chain in pool.chains]


def grpo(pool: Pool, feedback: bool, means: Means) -> list[Weighted]:
    """Return each sample with its group-relative advantage, 0 where all rewards are equal."""
    drafts, rewards = zip(*expert(pool, feedback, means), strict=True)
    advantages = (np.array(rewards) - np.mean(rewards)) / (np.std(rewards) or 1.0)
    return list(zip(drafts, advantages.tolist(), strict=True))


def pass_at_k(pool: Pool, feedback: bool, means: Means) -> list[Weighted]:
    """Return what each sample adds to the pass@k of its group, in standard deviations.

    k is half the group: mean success of the k samples that hold it less that of those that do not,
    so that a right sample is worth less the more others are right (PKPO: Walder and Karkhanis 2025,
    arXiv:2505.15201).
    """
    drafts, rewards = zip(*expert(pool, feedback, means), strict=True)
    n, k, right = len(rewards), len(rewards) // 2, int(np.sum(rewards))
    if n < 2:
        raise ValueError("pass@k compares the samples of a problem; give at least 2 chains")

    def adds(is_right: bool) -> float:
        """Return pass@k of the groups of k that hold a sample, less that of those without it."""
        wrong = n - 1 - (right - is_right)  # of the others
        without = 1 - comb(wrong, k) / comb(n - 1, k)
        return (1.0 if is_right else 1 - comb(wrong, k - 1) / comb(n - 1, k - 1)) - without

    gains = np.array([[adds(bool(reward)) for reward in draft] for draft in rewards])
    advantages = (gains - gains.mean()) / (gains.std() or 1.0)
    return list(zip(drafts, advantages.tolist(), strict=True))


def answer(pool: Pool, feedback: bool, means: Means) -> list[Weighted]:
    """Return each chain up to its first right draft, and only that draft to learn.

    Without feedback the right draft is learnt twice: after the wrong ones, and as a copy of itself.
    A chain without a right draft ends in the reference answer.
    """
    found: list[Weighted] = []
    for chain in pool.chains:
        drafts = [sample.text for sample in chain]
        first = next((i for i, sample in enumerate(chain) if sample.correct), len(chain))
        kept = [*drafts, pool.problem.answer][: first + 1]
        kept += [] if feedback or first == len(chain) else kept[-1:]
        found.append((kept, [0.0] * first + [1.0] * (len(kept) - first)))
    return found


def avoid(pool: Pool, feedback: bool, means: Means) -> list[Weighted]:
    """Return the lesson of `answer`, with a negative weight for wrong drafts that are repeated."""
    lessons = answer(pool, feedback, means)
    for chain, (drafts, weights) in zip(pool.chains, lessons, strict=True):
        seen: set[str] = set()
        for i, sample in enumerate(chain[: len(drafts) - 1]):
            if not sample.correct and sample.text in seen:
                weights[i] = -REPEATED
            seen.add(sample.text)
    return lessons


def reward(pool: Pool, feedback: bool, means: Means) -> list[Weighted]:
    """Return each draft weighed by its reward less the mean reward at its level and step."""
    level = pool.problem.level
    return [
        ([s.text for s in chain], [s.correct - means[level, s.step] for s in chain])
        for chain in pool.chains
    ]


def plain(pool: Pool, feedback: bool, means: Means) -> list[Weighted]:
    """Return the reference answer once per chain: the control, as much training, no revision."""
    return [([pool.problem.answer], [1.0]) for _ in pool.chains]


LESSONS: dict[str, Lesson] = {
    lesson.__name__: lesson
    for lesson in (expert, shortest, grpo, pass_at_k, answer, avoid, reward, plain)
}
REWARDS = ("expert", "shortest", "grpo", "pass_at_k")  #: lessons that need a right sample


# -- rounds ------------------------------------------------------------------------------------


def sample_round(trainer: Trainer, course: Course, index: int, feedback: str) -> list[Pool]:
    """Return the problems of a round with the chains that the current model draws."""
    seed = stream("round", course.seed, index).getrandbits(31)
    task = get_task(course.task, course.levels)
    plan = Plan(
        "revision" if course.steps > 1 else "best_of_n",
        chains=course.chains,
        steps=course.steps,
        feedback=feedback,
        max_new_tokens=course.max_new_tokens,
        seed=seed,
    )
    skills = ("revision",) if course.steps > 1 else ()
    lm = LM(trainer.model, trainer.tokenizer, None, skills=skills)  # type: ignore[arg-type]
    engine = Engine(trainer.model, eos_ids=lm.eos_ids, device=trainer.device)
    pools = []
    for problem, samples in draw(
        lm, task, task.problems(course.problems, "train", seed), plan, engine
    ):
        chains: dict[int, list[Sample]] = defaultdict(list)
        for sample in sorted(samples, key=lambda s: (s.chain, s.step)):
            chains[sample.chain].append(sample)
        pools.append(Pool(problem, list(chains.values())))
    return pools


def rows_of_round(
    trainer: Trainer, course: Course, pools: Sequence[Pool], feedback: str
) -> list[Row]:
    """Return the training rows of a round: its lesson's rows with a weight, and references."""
    suffix = revision_suffix(feedback) if course.steps > 1 else ""
    rewards = defaultdict(list)
    for pool in pools:
        for sample in pool.samples:
            rewards[pool.problem.level, sample.step].append(sample.correct)
    means = {key: float(np.mean(found)) for key, found in rewards.items()}
    teach, rows = LESSONS[course.lesson], []
    for pool in pools:
        lessons = teach(pool, feedback == "verdict", means)
        for chain, (drafts, weights) in zip(pool.chains, lessons, strict=True):
            ended = drafts[-1] != chain[-1].text or chain[-1].finish == "stop"
            if any(weights):
                rows.append(trainer.row(pool.problem.prompt, drafts, weights, suffix, ended))
    known = pools[:: max(1, round(1 / course.plain))] if course.plain else []
    return rows + [trainer.row(problem.prompt, [problem.answer]) for problem, _ in known]


def sampling_flops(shape: compute.Shape, samples: Sequence[Sample]) -> float:
    """Return the FLOPs of samples when the prompt of each problem is computed once."""
    prompts = {s.problem: s.prompt_tokens for s in samples if s.step == 0}
    cached = [s.cached_tokens if s.step else s.prompt_tokens for s in samples]
    shared = compute.forward_flops(shape, np.array(list(prompts.values())), 0, logit_rows=0)
    drawn = compute.sample_flops(
        shape,
        np.array([s.prompt_tokens for s in samples]),
        np.array(cached),
        np.array([s.completion_tokens for s in samples]),
    )
    return float(np.sum(shared) + np.sum(drawn))


def play_round(
    trainer: Trainer, course: Course, index: int, replay: Iterator[tuple[str, str]], rate: float
) -> dict[str, float]:
    """Sample a round, weigh its samples and learn from them; return the facts of the round.

    Errors: ValueError if no sample of the first round was right and only rewards are learnt from.
    """
    feedback = course.feedbacks[index % len(course.feedbacks)]
    pools = sample_round(trainer, course, index, feedback)
    samples = [sample for pool in pools for sample in pool.samples]
    firsts = [sample.correct for sample in samples if sample.step == 0]
    if index == 0 and not any(firsts) and course.lesson in REWARDS:
        raise ValueError(
            f"none of {len(firsts)} samples of {', '.join(course.levels)} was right: a reward that "
            "never occurs teaches nothing; start from a more trained model, or an easier level"
        )
    spent = sampling_flops(trainer.shape, samples)
    trainer.flops += spent
    before, rows = trainer.flops, rows_of_round(trainer, course, pools, feedback)
    learnt = len(rows)
    pairs = islice(replay, round(course.replay * learnt))
    rows += [trainer.row(context, [text]) for context, text in pairs]
    order = np.random.default_rng([course.seed, index]).permutation(len(rows))
    batches = list(trainer.pack([rows[i] for i in order], course.batch_tokens))
    for update in [[batch] for batch in batches] if course.step_per_batch else [batches]:
        if update:
            trainer.learn(update, rate)
    tokens = np.mean([sample.completion_tokens for sample in samples])
    facts = {"reward": float(np.mean(firsts)), "tokens": float(tokens), "learnt": learnt}
    facts |= shares_that_show(course, samples)
    return facts | {"sampling_flops": spent, "update_flops": trainer.flops - before}


def shares_that_show(course: Course, samples: Sequence[Sample]) -> dict[str, float]:
    """Return the share of samples with each habit that the task counts in a text, if it does."""
    count = getattr(get_task(course.task, course.levels), "habits", None)
    found = [count(sample.problem, sample.text) for sample in samples] if count else [{}]
    return {name: float(np.mean([habits[name] > 0 for habits in found])) for name in found[0]}


def start(lm: LM, course: Course) -> Trainer:
    """Return the trainer of a course. Errors: ValueError for an unknown lesson."""
    look_up(LESSONS, course.lesson, "lesson")
    recipe = Recipe(
        rate=course.rate, seed=course.seed, compiled=course.compiled, widths=course.widths
    )
    return Trainer(lm, recipe)


def check_length(lm: LM, course: Course) -> None:
    """Raise ValueError if prompts and samples of a course are longer than its longest row."""
    task = get_task(course.task, course.levels)
    prompts = (task.prompt(problem) for problem in task.problems(course.problems, "train"))
    most = course.widths[-1] - max(len(lm.encode(prompt)) for prompt in prompts)
    if course.max_new_tokens > most:
        raise ValueError(
            f"max_new_tokens is {course.max_new_tokens}; samples to learn from have at most {most}"
        )


def reinforce(
    lm: LM,
    budgets: Sequence[float],
    folder: Path,
    course: Course,
    examples: Examples | None = None,
    after: Callable[[Path], object] = lambda path: None,
) -> list[Path]:
    """Train by reward; return checkpoints at rising `budgets` of FLOPs beyond the start's.

    A checkpoint is complete or absent: the same call continues after the last complete one, with
    new optimisers. examples: what `course.replay` repeats. after: called with each checkpoint as
    soon as it is complete. Errors: ValueError for an unknown lesson, budgets that do not rise, or a
    reward that never occurs.
    """
    check_budgets(budgets, lm)
    check_length(lm, course)
    if course.replay and not examples:
        raise ValueError(f"replay is {course.replay}, of no examples; give examples, or 0")
    paths = [folder / flops_name(budget) for budget in budgets]
    done = [path for path in paths if (path / CARD).exists()]
    if done != paths[: len(done)]:
        missing = next(path for path in paths if path not in done)
        raise ValueError(
            f"{done[-1]} exists and {missing.name}, of fewer FLOPs, does not: it cannot be made "
            "from a model that has learnt more; leave that budget out, or give another folder"
        )
    origin, lm = lm.card, load_lm(done[-1]) if done else lm
    trainer, rounds = start(lm, course), []
    spent = {"sampling_flops": 0.0, "update_flops": 0.0}
    if done:
        notes = json.loads((done[-1] / CARD).read_text())
        spent, rounds = {name: notes[name] for name in spent}, notes["rounds"]
    seed = stream("replay", course.seed, len(rounds)).getrandbits(31)
    replay = examples(seed) if examples else iter(())
    bar = tqdm(total=budgets[-1], unit="FLOP", unit_scale=True, desc=course.lesson)
    for budget, path in zip(budgets, paths, strict=True):
        if path in done:
            after(path)
            continue
        while trainer.flops - origin.train_flops < budget:
            done_share = (trainer.flops - origin.train_flops) / budgets[-1]
            rate = falling(course, len(rounds), done_share) if course.decays else course.rate
            facts = play_round(trainer, course, len(rounds), replay, rate)
            spent = {name: value + facts.pop(name) for name, value in spent.items()}
            rounds.append({name: round(float(value), 4) for name, value in facts.items()})
            bar.update(trainer.flops - origin.train_flops - bar.n)
            bar.set_postfix(rounds[-1])
        notes = {"course": asdict(course), "start": origin.name, "rounds": rounds}
        notes |= {"start_flops": origin.train_flops} | spent | {"skills": lm.skills}
        name = "/".join((*folder.absolute().parts[-3:], path.name))
        after(trainer.save_checkpoint(path, name, notes))
    bar.close()
    return paths


def falling(course: Course, index: int, share: float) -> float:
    """Return the rate of a round: it rises over `WARM_UP` rounds and falls linearly to zero.

    index: of the round; share: of the training that is over.
    """
    return course.rate * min(1.0, (index + 1) / WARM_UP) * (1 - share)


def train_reviser(lm: LM, course: Course, rounds: int, name: str) -> tuple[LM, list[float]]:
    """Return the model after some rounds of revision, and the first-draft accuracy of each.

    The rate is that of `falling`.
    """
    trainer, accuracy = start(lm, course), []
    bar = tqdm(range(rounds), unit="round", desc=name)
    for index in bar:
        rate = falling(course, index, index / rounds)
        facts = play_round(trainer, course, index, iter(()), rate)
        accuracy.append(facts["reward"])
        bar.set_postfix(first_draft=f"{accuracy[-1]:.3f}", rows=facts["learnt"])
    return trainer.lm(name, ("revision",)), accuracy

"""The demonstration: train tiny language models, by imitation and by reward."""

from scaling.ladder.pretraining import (
    LADDER,
    MIXTURE,
    RECIPES,
    answers,
    examples,
    imitate,
    train_rung,
)
from scaling.ladder.rounds import LESSONS, Course, reinforce, train_reviser
from scaling.ladder.scorer import ScorerCourse, new_scorer, train_scorer
from scaling.ladder.trainer import Recipe, Row, Trainer, check_budgets

__all__ = [
    "LADDER",
    "LESSONS",
    "MIXTURE",
    "RECIPES",
    "Course",
    "Recipe",
    "Row",
    "ScorerCourse",
    "Trainer",
    "answers",
    "check_budgets",
    "examples",
    "imitate",
    "new_scorer",
    "reinforce",
    "train_reviser",
    "train_rung",
    "train_scorer",
]

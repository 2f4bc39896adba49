"""The demonstration: train tiny language models, by imitation and by reward."""

from scaling.ladder.pretraining import LADDER, RECIPES, examples, imitate, train_rung
from scaling.ladder.rounds import Course, reinforce, train_reviser
from scaling.ladder.scorer import ScorerCourse, train_scorer
from scaling.ladder.trainer import Recipe, Trainer, check_budgets

__all__ = [
    "LADDER", "RECIPES", "Course", "Recipe", "ScorerCourse", "Trainer", "check_budgets", "examples",
    "imitate", "reinforce", "train_reviser", "train_rung", "train_scorer",
]  # fmt: skip

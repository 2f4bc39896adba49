"""The demonstration: train tiny language models, by imitation and by reward."""

from scaling.ladder.likelihood import likelihood_table
from scaling.ladder.presets import LADDERS, THINKING, Ladder
from scaling.ladder.pretraining import examples, held_out_loss, imitate, train_rung
from scaling.ladder.rounds import Course, Examples, reinforce, train_reviser
from scaling.ladder.scorer import ScorerCourse, train_scorer
from scaling.ladder.trainer import Recipe, Trainer, check_budgets

__all__ = [
    "LADDERS", "THINKING", "Course", "Examples", "Ladder", "Recipe", "ScorerCourse", "Trainer",
    "check_budgets", "examples", "held_out_loss", "imitate", "likelihood_table", "reinforce",
    "train_reviser", "train_rung", "train_scorer",
]  # fmt: skip

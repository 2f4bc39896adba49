"""The sampling engine: draws pools of completions from any Hugging Face causal LM, by token ids."""

from scaling.engine.engine import Engine
from scaling.engine.schedule import Extend, Job

__all__ = ["Engine", "Extend", "Job"]

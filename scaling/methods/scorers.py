"""Scorers: small models that estimate, without ground truth, how promising a solution is.

`RewardModel` is a checkpoint with a scalar head (`train_scorer` makes it); a "process" model scores
every step, an "outcome" model only complete solutions. `SelfCertainty` measures how far from
uniform the sampled model's own distributions were. A scorer of your own is any object with `name`,
`card` and `__call__` (see `search.Scorer`). Not here: searching, selecting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from scaling.methods.search import Scorer, checked_scores
from scaling.models import CARD, LM, load_lm, quiet, read_json, readable, save_lm
from scaling.models.hub import Files
from scaling.records import ModelCard, Plan, Problem
from scaling.store.scores import Scores
from scaling.tasks import STEP_END

Pairs = Sequence[tuple[Problem, str]]
KINDS = ("process", "outcome")
ROWS = 256  #: texts of one forward pass
REDUCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda steps: steps[-1],
    "min": min,
    "product": sum,
}  #: of log-probabilities


def step_ends(tokens: Sequence[int], start: int, end: int) -> list[int]:
    """Return the positions where steps end: each `end` token after `start`, and the last token."""
    last = len(tokens) - 1
    return [i for i in range(start, last) if tokens[i] == end] + [last]


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A scorer with weights: it gives log P(final answer is right) after each step."""

    model: Any  #: transformers token classifier with one label
    lm: LM  #: whose tokenizer and prompts it reads
    card: ModelCard
    kind: str = "process"  #: one of KINDS

    @property
    def name(self) -> str:
        """Return the last part of the card's name."""
        return self.card.name.rsplit("/", 1)[-1]

    def __call__(self, pairs: Pairs) -> list[list[float]]:
        """Return log-probabilities after each step; an outcome model's only after the last."""
        rows = [self.row(problem, text) for problem, text in pairs]
        scores: list[list[float]] = [[] for _ in rows]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        for begin in range(0, len(order), ROWS):
            batch = order[begin : begin + ROWS]
            logits = self.forward(padded([rows[i][0] for i in batch])).float()
            for i, row in zip(batch, logsigmoid(logits), strict=True):
                ends = rows[i][1] if self.kind == "process" else rows[i][1][-1:]
                scores[i] = row[ends].tolist()
        return scores

    @torch.inference_mode()
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits (rows, width) of a right final answer, given the tokens so far."""
        return self.model(input_ids=ids).logits[..., 0]

    def row(self, problem: Problem, text: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a solution, and the positions where its steps end."""
        prompt = list(self.lm.encode(self.lm.render(problem.prompt)))
        ids = [*prompt, *self.lm.encode(text)]
        return ids, step_ends(ids, len(prompt), self.lm.encode(STEP_END)[0])


@dataclass(frozen=True, eq=False)
class SelfCertainty:
    """Mean KL divergence from uniform to the model's next-token distributions over a solution.

    mean over tokens of -log V - (1/V) sum_v log p_v, at temperature 1: the more peaked, the higher.
    Source: Kang et al. 2025, arXiv:2502.18581. It charges the additional forward pass it needs.
    """

    lm: LM
    name: str = "self-certainty"

    @property
    def card(self) -> ModelCard:
        """Return the card of the model itself."""
        return self.lm.card

    @torch.inference_mode()
    def __call__(self, pairs: Pairs) -> list[list[float]]:
        """Return one number per text."""
        scores: list[list[float]] = []
        for begin in range(0, len(pairs), ROWS):
            starts, rows = [], []
            for problem, text in pairs[begin : begin + ROWS]:
                prompt = self.lm.encode(problem.prompt)
                starts.append(len(prompt) - 1)
                rows.append([*prompt, *self.lm.encode(text)])
            logits = self.lm.model(input_ids=padded(rows), use_cache=False).logits.float()
            logs = logits.log_softmax(-1)
            certainty = -logs.mean(-1) - np.log(logs.shape[-1])  # (rows, width)
            for values, row, start in zip(certainty, rows, starts, strict=True):
                scores.append([float(values[start : len(row)].mean())])
        return scores


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return token lists as one tensor, padded on the right, where a causal model cannot see."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def score_run(scorer: Scorer, run: Any) -> Scores:
    """Return a scorer's numbers for every sample of a run that was loaded with its texts.

    A failed sample ranks last. Errors: ValueError for a wrong count or a NaN.
    """
    if "text" not in run.samples:
        raise ValueError(f"{run.path}: load the run with text=True to score what was written")
    rows = run.problems.assign(answer="").to_dict("records")  # a scorer sees no answers
    problems = {row["id"]: Problem(**row) for row in rows}
    texts = zip(run.samples["problem"], run.samples["text"], strict=True)
    pairs = [(problems[name], text) for name, text in texts]
    unique = list(dict.fromkeys(pairs))  # equal texts are scored once, and charged each time
    found = dict(zip(unique, checked_scores(scorer, unique), strict=True))
    failed = run.samples["finish"].astype(str).str.startswith("error").to_numpy()
    frame = run.samples[["problem", "chain", "step"]].copy()
    several = any(len(steps) > 1 for steps in found.values())
    for name in REDUCTIONS if several else ["last"]:
        frame[name] = [float(REDUCTIONS[name](found[pair])) for pair in pairs]
        frame.loc[failed, name] = -np.inf
    prompt = run.samples["prompt_tokens"]
    frame["prompt_tokens"] = prompt + run.samples["completion_tokens"]
    frame["cached_tokens"] = prompt
    shape = scorer.card.shape if scorer.card else None
    return Scores(scorer.name, shape, frame)


def save_scorer(scorer: RewardModel, folder: Path, **notes: Any) -> None:
    """Write weights (bfloat16 safetensors), tokenizer and card; `notes` go into the card's file."""
    lm = LM(scorer.model, scorer.lm.tokenizer, scorer.card)
    save_lm(lm, folder, kind=scorer.kind, **notes)
    scorer.model.float()


def load_scorer(where: str | Path) -> RewardModel:
    """Return the reward model in a folder; the identity in "FOLDER@IDENTITY" is checked.

    Errors: ValueError if the folder holds no scorer, or another one.
    """
    from transformers import LlamaForTokenClassification

    quiet()
    folder, _, identity = str(where).partition("@")
    notes = _notes(folder)
    if "kind" not in notes or not notes["identity"].startswith(identity):
        raise ValueError(f"{folder} holds no scorer of identity {identity!r}; train it anew")
    with readable(Files(Path(folder), Path(folder).name, "", "")):
        model = LlamaForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    lm = load_lm(folder, weights=False)
    return RewardModel(model, lm, lm.card, notes["kind"])


def scorer_notes(plan: Plan) -> dict[str, Any]:
    """Return what a log stores of a plan's scorer to price its passes."""
    notes = _notes(plan.scorer.partition("@")[0])
    return {"scorer": {name: notes[name] for name in ("name", "identity", "shape")}}


def scorer_name(folder: str | Path) -> str:
    """Return a plan's name of a scorer, "FOLDER@IDENTITY": another scorer gives another run."""
    return f"{folder}@{_notes(folder)['identity'][:8]}"


def _notes(folder: str | Path) -> dict[str, Any]:
    path = Path(folder) / CARD
    if not path.exists():
        raise ValueError(f"{folder} holds no scorer: {CARD} and weights are needed")
    return read_json(path)

"""Cut the samples of a run after a number of tokens, without sampling again."""

from __future__ import annotations

import numpy as np

from scaling.runs.run import Run


def cut(run: Run, tokens: int) -> Run:
    """Return a best-of-N run as if every sample had been cut after so many tokens.

    A sample that had not ended by then is wrong, has no answer, and costs `tokens`. The stop token
    counts. Errors: ValueError for another method, whose later steps depend on earlier ones.
    """
    if not run.method.exchangeable:
        raise ValueError(f"{run.label}: only samples that do not depend on each other can be cut")
    arrays = run.arrays
    length = arrays.ledger["completion_tokens"]
    ended = ~(length > tokens)  # NaN, a missing sample, stays missing
    ledger = arrays.ledger | {"completion_tokens": np.minimum(length, tokens)}
    return run.with_arrays(
        correct=np.where(ended, arrays.correct, 0.0),
        answers=np.where(ended, arrays.answers, np.nan),
        ledger=ledger,
    )

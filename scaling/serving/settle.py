"""What only all samples of a served run show: a server does not show its chat template."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scaling.markers import count_ends, ends_unopened, is_thinking
from scaling.records import FINAL, Sample


def settle_served(writer: Any, lm: Any) -> None:
    """Take back answers that were read from unfinished thinking; note what was refused for good.

    writer: of the run (`store.Writer`).
    """
    rows = writer.read()
    noted = any(session["extra"].get("opens_thinking") for session in writer.sessions)
    given = getattr(lm, "given", None)
    opened = bool(lm.opens_thinking or (given is None and (noted or shows_opened(rows))))
    if opened:
        settled = [without_answer(row) if is_thinking(row.text, True) else row for row in rows]
        changed = [new.problem for old, new in zip(rows, settled, strict=True) if new is not old]
        writer.write([row for row in settled if row.problem in set(changed)])
        if changed:
            warnings.warn(
                f"{len(changed):,} samples never end their thinking, which the chat template of "
                "this server opens, as other texts show: they have no answer "
                "(--no-opens-thinking: they do)",
                stacklevel=3,
            )
    refused = {row.problem: row.finish for row in rows if row.finish.startswith(FINAL)}
    writer.note(opens_thinking=opened, refused=refused)


def shows_opened(rows: Sequence[Sample]) -> bool:
    """Return whether texts show that each begins inside its thinking, in whatever order they came.

    So it is if one of them ends a thinking that it did not open, or if all that were not cut off
    have thinking: then the server took out the markers of those that it could read to the end.
    """
    good = [row for row in rows if not row.finish.startswith("error")]
    whole = [row.text for row in good if row.finish != "length"]
    return any(ends_unopened(row.text) for row in good) or bool(
        whole and all(map(count_ends, whole))
    )


def without_answer(row: Sample) -> Sample:
    """Return a sample whose text holds no answer."""
    return row if row.answer is None else replace(row, answer=None, correct=False)

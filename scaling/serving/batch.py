"""OpenAI Batch files in the place of a server: requests out, answers in, for the same plan.

`BatchFolder` answers from the output files in a folder. Requests without an answer are written to
`requests-*.jsonl`; run those with `vllm run-batch` or an API, put the output next to them, and call
again, once per step of a revision. A request is known by the hash of its own body, so that answers
to another plan are never mistaken for these.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scaling.serving.client import REFUSED, Failed, Refused

LINES = 50_000  #: requests in a file: the most that the API takes
REQUESTS = "requests-"  #: how files of requests are named; every other *.jsonl holds answers


class NotAnswered(Failed):
    """A request without an answer so far."""


class BatchFolder:
    """Replaces `Client`: requests without an answer are written to files at the end.

    `with folder:` reads the answers, and raises ValueError at its end if some were missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.url = str(folder)

    def __enter__(self) -> BatchFolder:
        self.answers, self.failed = read_answers(self.folder)
        self.missing: dict[str, dict[str, Any]] = {}
        if all(isinstance(answer, Refused) for answer in self.answers.values()):
            # not the prompts' fault: request again, perhaps with other options
            self.failed |= {name: str(reason) for name, reason in self.answers.items()}
            self.answers = {}
        return self

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Return the answer to a request; `NotAnswered` or `Refused` if there is none."""
        name = request_id(body)
        if name not in self.answers:
            self.missing[name] = {"method": "POST", "url": f"/v1{path}", "body": body}
            raise NotAnswered("no answer yet")
        if isinstance(self.answers[name], Refused):
            raise self.answers[name]
        return self.answers[name]

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind or not self.missing:
            return
        self._write()
        reason = next(iter(self.failed.values()), "")
        again = f" ({len(self.failed)} failed before, e.g. {reason})" if self.failed else ""
        raise ValueError(
            f"{len(self.missing):,} requests have no answer yet{again}: run "
            f"{self.folder / REQUESTS}*.jsonl with `vllm run-batch` or a Batch API, put the output "
            f"into {self.folder} under another name, and give the same command again"
        )

    def _write(self) -> None:
        """Write the requests in place of earlier ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(f"{REQUESTS}*.jsonl"):
            old.unlink()
        lines = [json.dumps({"custom_id": name} | row) for name, row in self.missing.items()]
        for start in range(0, len(lines), LINES):
            path = self.folder / f"{REQUESTS}{start // LINES:04d}.jsonl"
            path.write_text("\n".join(lines[start : start + LINES]) + "\n", encoding="utf-8")


def request_id(body: dict[str, Any]) -> str:
    """Return the name of a request: a hash of its whole body, with its seed."""
    text = json.dumps(body, sort_keys=True)
    return blake2b(text.encode(), digest_size=12).hexdigest()


def read_answers(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return ({request: answer}, {request: why it failed}) from all output files in a folder.

    A request that can never be answered, such as too long a prompt, has a `Refused` with the
    reason as its answer. Errors: ValueError with the line that is no output of a batch.
    """
    answers: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for path in sorted(path for path in folder.glob("*.jsonl") if path.name[:9] != REQUESTS):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name, reply = row["custom_id"], row.get("response") or {}
                if row.get("error") or reply.get("status_code", 200) != 200:
                    status, body = reply.get("status_code"), reply.get("body") or {}
                    reason = f"status {status}: {row.get('error') or body.get('error')}"
                    if status in REFUSED:
                        answers[name] = Refused(reason)
                    else:
                        failed[name] = reason
                else:
                    answers[name] = reply["body"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                what = f"{type(error).__name__}: {error}"
                raise ValueError(
                    f"{path}, line {number} is not the output of a batch ({what}); "
                    "restore or remove the file"
                ) from error
    return answers, {name: reason for name, reason in failed.items() if name not in answers}

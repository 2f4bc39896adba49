"""OpenAI Batch files in the place of a server: requests out, answers in, for the same plan.

`BatchEngine(folder, endpoint)` answers from the output files in its folder. What they lack it
writes to `requests-*.jsonl` and stops; run those with `vllm run-batch` or an API, put the output
beside them, and call again, once per step of a revision. A request is known by the hash of its own
body, so that answers to another plan are never mistaken for these.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scaling.engine.schedule import Extend, Job
from scaling.records import Completion, Plan
from scaling.serving import Ask, failed_completion, has_failed, seed_of
from scaling.serving.client import REFUSED, Failed, Refused
from scaling.serving.protocol import Endpoint

LINES = 50_000  #: requests in a file: the most that the API takes
REQUESTS = "requests-"  #: how files of requests are named; every other *.jsonl holds answers


class BatchEngine:
    """An engine that reads the answers of a batch, and writes the requests of the next one."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.folder, self.endpoint = Path(folder), endpoint

    def generate(
        self, jobs: Iterable[Job], plan: Plan, extend: Extend | None = None
    ) -> Iterator[tuple[Job, int, Completion]]:
        """Yield (job, step, completion) for the answers there are; then write what is missing.

        Errors: ValueError saying what was written and what to do with it.
        """
        answers, refused = read_answers(self.folder)
        if all(isinstance(answer, Refused) for answer in answers.values()):
            # not the prompts are at fault: ask again, by what may be other options
            refused, answers = refused | {k: str(why) for k, why in answers.items()}, {}
        missing: dict[str, dict[str, Any]] = {}
        for job in jobs:
            chains = deque([Ask((job,), 0, job.prompt)])
            while chains:
                ask = chains.popleft()
                body = self.endpoint.request(plan, ask.context, seed_of(plan, job, ask.step))
                name = request_id(body)
                if name not in answers:
                    missing[name] = body
                    continue
                completion = self._completion(answers[name], plan, ask.step > 0)
                yield job, ask.step, completion
                ids = extend(job, ask.step, completion) if extend else None
                if ids is not None and not has_failed(completion):
                    context = (*ask.context, *completion.tokens, *ids)
                    chains.append(Ask((job,), ask.step + 1, context))
        if missing:
            files = self._write(missing)
            one = next(iter(refused.values()), "")
            again = f" ({len(refused)} failed before, e.g. {one})" if refused else ""
            raise ValueError(
                f"{len(missing):,} requests have no answer yet{again}: run {files} with "
                f"`vllm run-batch` or a Batch API, put the output into {self.folder} under another "
                "name, and give the same command again"
            )

    def _completion(self, answer: Any, plan: Plan, cached: bool) -> Completion:
        if isinstance(answer, Refused):
            return failed_completion(str(answer), final=True)
        try:
            return self.endpoint.completions(answer, plan, cached)[0]
        except Failed as error:
            return failed_completion(str(error))

    def _write(self, requests: dict[str, dict[str, Any]]) -> str:
        """Write the requests in place of earlier ones; return the names of the files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(f"{REQUESTS}*.jsonl"):
            old.unlink()
        url, names = f"/v1{self.endpoint.path}", list(requests)
        for start in range(0, len(names), LINES):
            path = self.folder / f"{REQUESTS}{start // LINES:04d}.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for name in names[start : start + LINES]:
                    line = {"custom_id": name, "method": "POST", "url": url, "body": requests[name]}
                    file.write(json.dumps(line) + "\n")
        return str(self.folder / f"{REQUESTS}*.jsonl")


def request_id(body: dict[str, Any]) -> str:
    """Return the name of a request: a hash of all that it asks, its seed included."""
    text = json.dumps(body, sort_keys=True)
    return blake2b(text.encode(), digest_size=12).hexdigest()


def read_answers(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return ({request: answer}, {request: why it failed}) of every output file in a folder.

    The answer to a request that never will have one, such as a prompt that is too long, is a
    `Refused` with the reason.

    Errors: ValueError naming the line that is no line of a batch's output.
    """
    answers: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        if path.name.startswith(REQUESTS):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name, reply = row["custom_id"], row.get("response") or {}
                if row.get("error") or reply.get("status_code", 200) != 200:
                    status, body = reply.get("status_code"), reply.get("body") or {}
                    why = f"status {status}: {row.get('error') or body.get('error')}"
                    if status in REFUSED:
                        answers[name] = Refused(why)
                    else:
                        refused[name] = why
                else:
                    answers[name] = reply["body"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                what = f"{type(error).__name__}: {error}"
                raise ValueError(
                    f"{path}, line {number} is no line of a batch's output ({what}); "
                    "restore or remove the file"
                ) from error
    return answers, {name: why for name, why in refused.items() if name not in answers}

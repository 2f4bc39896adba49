"""vLLM against our engine: `python -m benchmarks.against_vllm .venv-vllm/bin/python`.

vLLM lives in an environment of its own (`make test-servers` sets one up): that interpreter runs
this file as a script, loads the benchmark's model from a folder and samples one work per line that
it reads. Its rows are added to those of `benchmarks.engine`, measured in turns on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
READY = "ready"


def serve(folder: str) -> None:
    """Sample a work per line of standard input (JSON), and answer with its useful tokens."""
    from vllm import LLM, SamplingParams

    answers = os.fdopen(os.dup(1), "w")  # what vLLM prints goes to the errors
    os.dup2(2, 1)
    llm = LLM(
        folder, dtype="float32", skip_tokenizer_init=True, generation_config="vllm",
        max_model_len=1024, max_num_seqs=256,
    )  # fmt: skip
    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        work = json.loads(line)
        stops = work["stops"]
        params = SamplingParams(
            n=work["n"], temperature=1, max_tokens=work["new"], stop_token_ids=stops,
            ignore_eos=not stops, detokenize=False,
        )  # fmt: skip
        prompts, useful = work["prompts"], 0
        for _ in range(work["steps"]):
            request = [{"prompt_token_ids": ids} for ids in prompts]
            done = [
                out
                for group in llm.generate(request, params, use_tqdm=False)
                for out in group.outputs
            ]
            useful += sum(len(out.token_ids) for out in done)
            if work["steps"] > 1:
                pairs = zip(prompts, done, strict=True)
                prompts = [[*ids, *out.token_ids, *work["between"]] for ids, out in pairs]
        print(useful, file=answers, flush=True)


@contextmanager
def vllm(python: str, model: str) -> Iterator[Any]:
    """Yield a call that samples a work of one benchmark model with vLLM; returns useful tokens."""
    import torch
    import transformers as tf

    from benchmarks.engine import BETWEEN, MODELS, STOP, Work, prompts

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        tf.AutoModelForCausalLM.from_config(MODELS[model]()).save_pretrained(folder)
        command = [python, "-P", __file__, "--serve", folder]
        log = Path(folder) / "log"
        with log.open("w") as errors, subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env=os.environ | SETTINGS,
        ) as child:  # fmt: skip

            def answer() -> str:
                line = child.stdout.readline().strip() if child.stdout else ""
                if not line:
                    last = log.read_text().splitlines()[-1:]
                    raise ValueError(f"{python} cannot sample with vLLM: {' '.join(last)}")
                return line

            def sample(work: Work) -> int:
                request = {
                    "prompts": prompts(work), "n": work.per_prompt, "new": work.new,
                    "steps": work.steps, "between": BETWEEN, "stops": [STOP] if work.ragged else [],
                }  # fmt: skip
                print(json.dumps(request), file=child.stdin, flush=True)
                return int(answer())

            try:
                assert answer() == READY
                yield sample
            finally:
                child.kill()


def rows_of(python: str, models: Sequence[str], works: Sequence[str], repeats: int) -> list[dict]:
    """Return the rows of `benchmarks.engine` on a CPU, those of vLLM among them."""
    from benchmarks.engine import bench, chosen

    rows = []
    for model in models:
        with vllm(python, model) as sample:
            rows += bench(chosen([model], works), repeats, "cpu", None, {"vLLM": sample})
    return rows


def main() -> None:
    """Print the table, and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="an interpreter that has vLLM")
    parser.add_argument("--models", nargs="+", default=["0.2M", "1M", "5M"])
    parser.add_argument("--works", nargs="+", default=["fixed 256 x 64", "ragged", "prompt", "rev"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("data/derived/bench_vllm.csv"))
    options = parser.parse_args()
    import torch

    from benchmarks.engine import report, write

    torch.set_num_threads(1)
    rows = rows_of(options.python, options.models, options.works, options.repeats)
    write(rows, options.out)
    print(report(rows))


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["--serve"] else main()

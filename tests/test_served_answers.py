"""What servers answer and how they refuse, as real ones do: counts, thinking, parts, filters."""

from __future__ import annotations

import json
import math
import time
import warnings

import numpy as np
import pytest

from scaling.cli import main
from scaling.records import FINAL, Plan, Sample, Verdict
from scaling.runs import load_run
from scaling.runs.tables import accuracy_table
from scaling.sampling import sample_run
from scaling.serving import Client, Endpoint, connect
from scaling.serving import client as client_module
from scaling.serving.client import Failed, Refused, retry_after
from scaling.serving.engines import BatchEngine, seed_of
from scaling.serving.protocol import token_counts
from scaling.serving.trials import EASY, SEEDS
from scaling.store import open_run
from scaling.tasks import get_task
from scaling.verify import verdicts
from tests import faulty_server
from tests.faulty_server import prompt_of, serve
from tests.test_serving import QUICK, TOY, Digits, answered, drawn, problems

PLAN = Plan(chains=6, max_new_tokens=64)
CHAT = Endpoint("toy", api="chat")


class Last(Digits):
    """The answer is the last character, a digit; right if it is even."""

    def verify(self, problem, text):
        last = text.strip()[-1:]
        return Verdict(last if last.isdigit() else None, last in "02468" and last != "")


def sampled(url, root, n=4, endpoint=CHAT, plan=PLAN, **options):
    lm, engine = connect(url, endpoint, **QUICK | options)
    return sample_run(lm, Last(), problems(n), plan, root, engine=engine, progress=False)


def answering(write):
    """Return a fault that answers what write(body, number) returns: fields of choice and usage."""

    def fault(handler, body):
        number = int(body["seed"]) % 1000
        fields, usage = write(body, number)
        if isinstance(fields, int):
            handler.reply(fields, usage)
            return True
        row = {"index": 0, "finish_reason": "stop"} | fields
        counts = {"prompt_tokens": 20, "completion_tokens": 9} | usage
        handler.reply(200, {"choices": [row], "usage": counts})
        return True

    return fault


def choice_with(text, finish="stop", **more):
    return {"message": {"role": "assistant", "content": text} | more, "finish_reason": finish}


# ---------------------------------------------------------------- counts
@pytest.mark.parametrize(
    ("usage", "found"),
    [
        ({}, (9, None)),
        ({"total_tokens": 29}, (9, None)),
        ({"completion_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 29}, (9, 5)),
        ({"completion_tokens_details": {"reasoning_tokens": 600}, "total_tokens": 629}, (609, 600)),
        ({"completion_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 34}, (14, 5)),
        ({"completion_tokens_details": {"reasoning_tokens": 600}}, (609, 600)),  # without a total
        ({"completion_tokens_details": {"reasoning_tokens": 600}, "total_tokens": 29}, (609, 600)),
        ({"total_tokens": 629}, (609, 600)),  # Gemini: only the total shows it
        ({"completion_tokens_details": None, "total_tokens": 629}, (609, 600)),
        ({"reasoning_tokens": 600, "total_tokens": 629}, (609, 600)),  # Perplexity
        ({"output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 29}, (9, 5)),
        ({"completion_tokens_details": {"reasoning_tokens": None}, "total_tokens": 29}, (9, None)),
        ({"completion_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 29}, (9, 0)),
        ({"total_tokens": 0}, (9, None)),
        ({"total_tokens": None}, (9, None)),
    ],
)
def test_tokens_of_thinking_are_counted_wherever_they_are_reported(usage, found):
    counted = token_counts({"prompt_tokens": 20, "completion_tokens": 9} | usage)
    assert counted == (20, *found)
    assert counted[2] is None or counted[2] <= counted[1]


def test_tokens_of_thinking_outside_completion_tokens_are_in_the_ledger(tmp_path):
    def outside(body, number):
        details = {"reasoning_tokens": 300 + number}
        usage = {"completion_tokens": 4, "total_tokens": 324 + number}
        return choice_with(f"{number}#{number % 10}"), usage | {
            "completion_tokens_details": details
        }

    with serve(answering(outside)) as (url, state):
        run = sampled(url, tmp_path)
    sent = {int(body["seed"]) % 1000 for body in state.bodies}
    thought = run.samples["thinking_tokens"]
    assert set(thought - 300) < sent
    assert (run.samples["completion_tokens"] == thought + 4).all()
    pool = run
    tokens = pool.cost("tokens", np.array([1]))[:, 0]
    mean = run.samples.groupby("problem")["completion_tokens"].mean()
    assert tokens == pytest.approx(20 + mean[pool.problems["id"]].to_numpy())


def test_several_choices_whose_thinking_has_no_count_of_its_own_are_asked_for_one_by_one():
    def fault(handler, body):
        found = handler.answer(body)
        found["usage"]["total_tokens"] += 100  # of thinking, for all choices together
        handler.reply(200, found)
        return True

    with serve(fault, honours_n=True) as (url, state):
        found = drawn(url, PLAN)
    assert sum("n" in body for body in state.bodies) == 1  # of the probe
    assert {done.completion_tokens for done in found.values()} == {103}


def test_thinking_of_several_choices_is_unknown_for_each():
    usage = {"prompt_tokens": 3, "completion_tokens": 9}
    usage |= {"completion_tokens_details": {"reasoning_tokens": 5}}
    choice = {"text": "<think>a</think>b", "logprobs": {"token_logprobs": [-1.0] * 4}}
    for count, thought in ((1, 5), (2, None)):  # `usage` has their sum only
        found = TOY.completions({"usage": usage, "choices": [choice] * count}, PLAN)
        assert [done.thinking_tokens for done in found] == [thought] * count


def test_log_probabilities_of_the_answer_alone_are_not_taken_for_those_of_the_thinking_too():
    choice = choice_with("5") | {"logprobs": {"content": [{"logprob": -0.5}] * 3}}
    usage = {"prompt_tokens": 7, "completion_tokens": 103}
    (done,) = CHAT.completions({"choices": [choice], "usage": usage}, PLAN)
    assert done.logprob == pytest.approx(-1.5)
    usage |= {"completion_tokens_details": {"reasoning_tokens": 100}}
    (done,) = CHAT.completions({"choices": [choice], "usage": usage}, PLAN)
    assert math.isnan(done.logprob)


def test_more_thinking_than_new_tokens_is_refused_by_the_log(tmp_path):
    card = connect("http://127.0.0.1:9/v1", CHAT)[0].card
    row = Sample("0", 0, 0, "", None, False, 0.0, 0.0, 1, 0, 5, 0.0, "stop", 6)
    what = {"task": "digits", "card": card, "plan": PLAN, "problems": problems(1)}
    with (
        pytest.raises(ValueError, match="1 samples with more thinking than new tokens: problem 0"),
        open_run(tmp_path, **what) as writer,
    ):
        writer.write([row])


# ---------------------------------------------------------------- texts
THOUGHT = "Is it 7?"
BLOCKS = [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}]
DETAILS = [
    {"type": "reasoning.text", "text": THOUGHT},
    {"type": "reasoning.encrypted", "data": "x"},
]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "5", "reasoning_content": THOUGHT},  # DeepSeek, vLLM, SGLang
        {"content": "5", "reasoning": THOUGHT},  # OpenRouter, newer vLLM, Groq
        {"content": "5", "reasoning": THOUGHT, "reasoning_details": DETAILS},
        {"content": "5", "reasoning_details": DETAILS},
        {"content": "5", "reasoning_details": [{"type": "reasoning.summary", "summary": THOUGHT}]},
        {"content": [*BLOCKS, {"type": "text", "text": "5"}]},  # Mistral
        {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "5"}]},
        {"content": "5", "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}]},  # LiteLLM
        {"content": [{"type": "reasoning", "text": THOUGHT}, {"type": "output_text", "text": "5"}]},
        {"content": "5", "thinking": THOUGHT},  # Ollama
        {"content": f"<think>{THOUGHT}</think>5", "reasoning_content": THOUGHT},  # in both places
        {"content": f"<think>{THOUGHT}</think>5"},
    ],
)
def test_thinking_and_answer_are_separated_in_every_form_of_a_message(message):
    usage = {"prompt_tokens": 1, "completion_tokens": 9}
    (done,) = CHAT.completions({"choices": [{"message": message}], "usage": usage}, PLAN)
    assert done.tokens == (f"<think>{THOUGHT}</think>5",)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": ["2+3", {"type": "text", "text": " = 5"}]}, "2+3 = 5"),
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
        ({"content": [{"type": "refusal", "refusal": "I cannot."}]}, "I cannot."),
        ({"content": None, "tool_calls": [{"function": {"arguments": "5"}}]}, ""),
        ({"content": None, "reasoning_content": THOUGHT}, f"<think>{THOUGHT}"),  # cut off
        ({"content": "", "reasoning": THOUGHT}, f"<think>{THOUGHT}"),
        ({"content": BLOCKS}, f"<think>{THOUGHT}"),
    ],
)
def test_a_message_without_an_answer_is_read_as_what_it_is(message, text):
    usage = {"prompt_tokens": 1, "completion_tokens": 64}
    choice = {"message": message, "finish_reason": "length"}
    (done,) = CHAT.completions({"choices": [choice], "usage": usage}, PLAN)
    assert done.tokens == (text,)


def test_a_part_that_is_no_text_is_refused():
    choice = {"message": {"content": [{"type": "image_url", "image_url": {}}]}}
    with pytest.raises(Failed, match="a part of the content is of type 'image_url'"):
        CHAT.completions(
            {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, PLAN
        )


@pytest.mark.parametrize(
    ("reason", "count", "finish"),
    [
        *[(r, 9, "stop") for r in ("stop", "eos_token", "stop_sequence", "end_turn", "STOP")],
        *[(r, 9, "stop") for r in ("tool_calls", "function_call")],
        *[(r, 64, "length") for r in ("length", "max_tokens", "MAX_TOKENS", "model_length")],
        *[(r, 9, "stop") for r in (None, "", "unknown")],
        *[(r, 64, "length") for r in (None, "", "unknown")],
        *[(r, 9, FINAL) for r in ("content_filter", "SAFETY", "RECITATION", "sensitive")],
        *[(r, 9, "error: finished by ") for r in ("abort", "error", "cancelled")],
    ],
)
def test_every_reason_to_finish_is_known_or_named(reason, count, finish):
    usage = {"prompt_tokens": 1, "completion_tokens": count}
    answer = {"choices": [choice_with("5") | {"finish_reason": reason}], "usage": usage}
    (done,) = CHAT.completions(answer, PLAN)
    assert done.finish.startswith(finish)
    assert finish in ("stop", "length") or str(reason) in done.finish


def test_what_follows_a_stop_string_is_cut_where_a_server_ignores_it(tmp_path):
    """An invented question was answered, and that answer was graded."""
    text = "2+3 = 4\n\nQuestion: 1+1?\nAnswer: 2"
    usage = {"prompt_tokens": 1, "completion_tokens": 64}
    plan = Plan(max_new_tokens=64, stop=("\nQuestion:",))
    thinks = "<think>as in\nQuestion: 7</think>"
    for thought in ("", thinks):
        answer = {"choices": [choice_with(thought + text, "length")], "usage": usage}
        (done,) = CHAT.completions(answer, plan)
        assert done.tokens == (f"{thought}2+3 = 4\n",)
        assert (done.finish, done.completion_tokens) == ("stop", 64)


# ---------------------------------------------------------------- templates that open the thinking
def opened(ends, share=2):
    """Return a server without a parser for thinking: one text in `share` is cut off in it."""

    def write(body, number):
        if number % share:
            return choice_with(f"{number}: it may be 6", "length"), {"completion_tokens": 64}
        return choice_with(f"{number}: 6? No.\n{ends}\n\nIt is 5."), {}

    return answering(write)


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("ends", ["</think>", "[/THINK]", "</seed:think>", "<|end_of_thought|>"])
def test_thinking_that_a_server_s_template_opens_and_a_cap_cuts_is_no_answer(tmp_path, ends, api):
    with serve(opened(ends)) as (url, _), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of answers taken back, unless the trial showed it before
        run = sampled(url, tmp_path, endpoint=Endpoint("toy", api))
    cut = run.samples["finish"] == "length"
    assert 0 < cut.sum() < len(cut)
    assert run.samples["answer"][cut].isna().all()
    assert (run.samples["answer"][~cut] == ".").sum() == 0
    assert not run.samples["correct"].any()
    assert run.manifest["sessions"][-1]["extra"]["opens_thinking"] is True


def test_the_same_texts_are_answers_where_the_user_says_that_no_thinking_is_opened(tmp_path):
    with serve(opened("</think>")) as (url, _):
        run = sampled(url, tmp_path, opens_thinking=False)
    assert (run.samples["answer"][run.samples["finish"] == "length"] == "6").all()


def test_an_easy_question_shows_that_a_template_opens_the_thinking_if_every_sample_is_cut(tmp_path):
    def write(body, number):
        if prompt_of(body) == EASY:
            return choice_with("Easy.</think>2"), {}
        return choice_with(f"{number}: it may be 6", "length"), {"completion_tokens": 64}

    with serve(answering(write)) as (url, _):
        run = sampled(url, tmp_path)
    assert run.samples["answer"].isna().all()


def test_thinking_that_a_parser_misses_in_texts_that_are_cut_is_no_answer(tmp_path):
    def write(body, number):
        if number % 2:
            return choice_with(f"{number}: it may be 6", "length"), {"completion_tokens": 64}
        return choice_with("It is 4", reasoning_content=f"{number}"), {}

    with serve(answering(write)) as (url, _), pytest.warns(UserWarning, match="never end their"):
        run = sampled(url, tmp_path)
    cut = run.samples["finish"] == "length"
    assert run.samples["answer"][cut].isna().all()
    assert run.samples["correct"][~cut].all()


def test_texts_that_are_cut_have_answers_where_nothing_shows_thinking(tmp_path):
    def write(body, number):
        return choice_with(f"{number}: it is 6", "length" if number % 2 else "stop"), {}

    with serve(answering(write)) as (url, _):
        run = sampled(url, tmp_path)
    assert run.samples["correct"].all()
    assert run.manifest["sessions"][-1]["extra"]["opens_thinking"] is False


def test_an_interrupted_run_takes_back_the_same_answers(tmp_path):
    def half(handler, body):
        if prompt_of(body)[0] in "23":
            handler.reply(503, {"error": "overloaded"})
            return True
        return opened("</think>", 10**6)(handler, body)  # all are cut, nothing shows why

    with serve(half) as (url, _):
        open_one = sampled(url, tmp_path / "a", tries=1)
    assert open_one.manifest["status"] == "open"
    assert (open_one.samples["answer"] == "6").any()
    with serve(opened("</think>")) as (url, _), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = sampled(url, tmp_path / "a")
    assert run.path == open_one.path
    assert run.samples["answer"][run.samples["finish"] == "length"].isna().all()


# ---------------------------------------------------------------- refusals
LONG = {"error": {"message": "This model's maximum context length is 64 tokens.", "code": 400}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, LONG),
        (413, {"error": "too large"}),
        (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096"}),
        (400, {"error": {"code": "content_filter", "message": "The prompt was filtered"}}),
        (403, {"error": {"message": "Your input was flagged", "metadata": {"reasons": ["x"]}}}),
    ],
)
@pytest.mark.parametrize("place", [0, 2])  # the first problem is the one that the probe tries
def test_a_refused_prompt_costs_its_own_problem_named_and_counted(tmp_path, status, body, place):
    def write(asked, number):
        if prompt_of(asked) == f"{place}+":
            return status, body
        return choice_with(f"{number}#{number % 10}"), {}

    with serve(answering(write)) as (url, _):
        run = sampled(url, tmp_path)
        again = sampled(url, tmp_path)  # sealed: nothing is asked any more
    assert run.manifest["status"] == "sealed"
    assert again.sha256 == run.sha256
    reason = run.manifest["sessions"][-1]["extra"]["refused"]
    assert list(reason) == [str(place)]
    assert f"status {status}" in reason[str(place)]
    pool = run
    assert list(pool.refused) == [str(place)]
    rows = pool.rows("all")
    assert pool.problems["id"][rows].tolist() == [str(i) for i in range(4) if i != place]
    table = accuracy_table([pool])
    assert set(table["n_problems"]) == {3}
    assert set(table["n_missing"]) == {1}
    assert table["accuracy"].notna().all()
    assert pool.n_missing == PLAN.chains
    good = run.samples[run.samples["problem"] != str(place)]
    values = pool.values("coverage", np.array([1, PLAN.chains]))[rows]
    assert values[:, 0].mean() == pytest.approx(good["correct"].mean())
    assert np.isfinite(values).all()


def test_the_command_line_names_the_problem_that_is_left_out(tmp_path, capsys):
    rows = [{"prompt": f"{i}+", "answer": "4", "scorer": "number"} for i in range(8, 12)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["sample", "--task", "rows", "--problems-file", str(file), "--chains", "4"]
    with serve(faulty_server.long_prompts) as (url, _):
        assert main([*command, "--model", url, "--runs", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "4 samples are missing (error, not retried: status 400:" in out
    assert "maximum context length is 8" in out
    assert "1 of 4 problems have no sample and are left out: 1\n" in out
    (run,) = (tmp_path / "runs").iterdir()
    assert len(load_run(run).rows("all")) == 3


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
def test_what_hits_every_request_stops_the_run_with_one_line(tmp_path, status):
    with (
        serve(answering(lambda *_: (status, {"error": "no such field"}))) as (url, _),
        pytest.raises(ValueError, match=f"{status}: .*no such field") as caught,
    ):
        sampled(url, tmp_path)
    assert "\n" not in str(caught.value)
    (run,) = tmp_path.iterdir()
    assert len(load_run(run).samples) == 0


def test_a_cap_that_the_server_refuses_in_every_request_stops_the_run(tmp_path):
    def write(body, number):
        if body["max_tokens"] > 1024:
            return 400, {"error": "max_tokens is too large"}
        return choice_with(f"{number}#{number % 10}"), {}

    with (
        serve(answering(write)) as (url, _),
        pytest.raises(ValueError, match=r"refuses every request .*max_tokens is too large"),
    ):
        sampled(url, tmp_path, plan=Plan(chains=6, max_new_tokens=2000))


def test_one_refused_choice_does_not_cost_the_others():
    def fault(handler, body):
        bad = body.get("n", 1) > 4 or body["seed"] == bad_seed
        if bad:
            handler.reply(400, {"error": "a choice was filtered"})
        return bad

    from scaling.engine.schedule import Job

    bad_seed = seed_of(PLAN, Job("1", 2, ("1+",)), 0)
    with serve(fault, honours_n=True) as (url, _):
        found = drawn(url, PLAN)
    failed = {at for at, done in found.items() if done.finish.startswith("error")}
    assert failed == {("1", 2)}
    assert found["1", 2].finish.startswith(FINAL)


def test_filtered_samples_are_missing_and_not_wrong(tmp_path):
    def write(body, number):
        if number % 3 == 0:
            return choice_with("", "content_filter"), {"completion_tokens": 0}
        return choice_with(f"{number}#4"), {}

    with serve(answering(write)) as (url, _):
        run = sampled(url, tmp_path)
    pool = run
    filtered = run.samples["finish"].str.contains("content filter")
    assert 0 < filtered.sum() == pool.n_missing < len(filtered)
    assert run.manifest["status"] == "sealed"
    assert pool.values("coverage", np.array([1])).mean() == 1
    assert pool.values("majority", np.array([1])).mean() == 1


def test_a_run_of_which_nothing_is_left_has_no_accuracy(tmp_path):
    filtered = answering(lambda body, number: (choice_with(str(number), "content_filter"), {}))
    with serve(filtered) as (url, _):
        run = sampled(url, tmp_path)
    with pytest.raises(ValueError, match=r"every sample of every problem failed .*filter"):
        run.arrays  # noqa: B018


def test_a_refused_request_of_a_batch_costs_its_own_problem(tmp_path):
    """It was written again and again, and the run could never finish."""
    lm, folder = connect("http://127.0.0.1:9/v1", TOY)[0], tmp_path / "batch"

    def offline():
        engine = BatchEngine(folder, TOY)
        return sample_run(
            lm, Last(), problems(3), PLAN, tmp_path / "runs", engine=engine, progress=False
        )

    def run_batch(bad):
        text = "".join(path.read_text() for path in folder.glob("requests-*"))
        lines = map(json.loads, text.splitlines())
        prompts = {line["custom_id"]: line["body"]["prompt"] for line in lines}

        def refuse(row):
            if prompts[row["custom_id"]] not in bad:
                return None
            error = {"message": "maximum context length is 8", "code": 400}
            return row | {"response": {"status_code": 400}, "error": error}

        rows = list(answered(folder, refuse))
        (folder / "out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    for bad in (["0+", "1+", "2+"], ["1+"]):  # all refused: no prompt is at fault
        with pytest.raises(ValueError, match="18 requests have no answer yet"):
            offline()
        run_batch(bad)
    run = offline()
    assert run.manifest["status"] == "sealed"
    assert list(run.refused) == ["1"]
    assert "maximum context length" in run.refused["1"]


def test_verdicts_are_checked_on_what_follows_the_thinking(tmp_path):
    with serve(opened("</think>")) as (url, _), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lm, engine = connect(url, CHAT, **QUICK)
        task = get_task("sums", ["2x9"])
        run = sample_run(lm, task, task.problems(4), PLAN, tmp_path, engine=engine, progress=False)
    assert (run.samples["finish"] == "length").any()
    n, other = verdicts(run)
    assert n == len(run.samples)
    assert other.empty


# ---------------------------------------------------------------- waiting
DATE, SERVER = "Wed, 21 Oct 2015 07:28:45 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "45"}, 45),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "700", "retry-after": "100"}, 0.7),
        ({"retry-after": DATE, "date": SERVER}, 45),  # by the server's clock, not ours
        ({"retry-after": SERVER, "date": DATE}, 0),
        ({"retry-after": DATE}, 0),  # long ago by our clock
        *[({"retry-after": text}, 0) for text in ("", "soon", "nan", "1.2.3", "-5")],
        ({}, 0),
    ],
)
def test_a_pause_is_read_from_seconds_milliseconds_or_a_date(headers, seconds):
    assert retry_after(headers) == pytest.approx(seconds)


def test_a_server_that_asks_to_wait_is_waited_for(monkeypatch):
    """45 s were cut to 30, and a date to nothing."""
    monkeypatch.setattr(client_module, "LONGEST_PAUSE", 0.05)
    came = []

    def busy(handler, body):
        came.append(time.monotonic())
        if len(came) == 1:
            handler.reply(429, {"error": "slow down"}, retry_after="0.7")
        return len(came) == 1

    with serve(busy) as (url, _), Client(url, pause=0.01) as client:
        client.ask("/completions", {"seed": 1, "prompt": "x"})
    assert came[1] - came[0] > 0.69


def test_a_wait_beyond_the_deadline_is_named_at_once():
    def busy(handler, body):
        handler.reply(429, {"error": "slow down"}, retry_after="900")
        return True

    with serve(busy) as (url, state), Client(url, deadline=5) as client:
        with pytest.raises(Failed, match="asks to wait 900 s, longer than deadline="):
            client.ask("/completions", {"seed": 1, "prompt": "x"})
        assert len(state.bodies) == 1


def test_a_request_at_fault_is_not_tried_again():
    def refuses(handler, body):
        handler.reply(422, {"error": "no"})
        return True

    with serve(refuses) as (url, state), Client(url) as client:
        with pytest.raises(Refused, match="status 422"):
            client.ask("/completions", {"seed": 1, "prompt": "x"})
        assert len(state.bodies) == 1


# ---------------------------------------------------------------- probes
def seeded(change):
    """Return a fault that answers as if the seed were change(seed)."""

    def fault(handler, body):
        handler.reply(200, handler.answer(body | {"seed": change(body["seed"])}))
        return True

    return fault


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda s: s % 2, 2),
        (lambda s: s // 2, 3),
        (lambda s: s % 2**16, 3),
        (lambda s: min(s, 99), 3),
    ],
    ids=["parity", "halved", "16 bits", "limited"],
)
def test_seeds_that_collide_are_named(change, texts):
    assert len({change(seed) for seed in SEEDS}) == texts
    with serve(seeded(change)) as (url, _), pytest.warns(UserWarning, match=f"only {texts} diff"):
        drawn(url)


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_choices_that_are_copies_are_named_and_not_used(distinct):
    def clones(handler, body):
        found = handler.answer(body)
        rows = found["choices"]
        for row in rows[distinct:]:
            row["text"] = rows[0]["text"]
        handler.reply(200, found)
        return True

    with (
        serve(clones, honours_n=True) as (url, state),
        pytest.warns(UserWarning, match=f"n=4 gave only {distinct} different texts where 4 seeds"),
    ):
        found = drawn(url)
    assert len({done.tokens for done in found.values()}) == len(found)
    assert max(body.get("n", 1) for body in state.bodies) == len(SEEDS)


def test_a_cache_that_changes_greedy_output_is_named():
    def cached(handler, body):
        greedy = body["temperature"] == 0
        if greedy:
            seen = sum(one["temperature"] == 0 for one in handler.state.bodies)
            handler.reply(200, handler.answer(body | {"seed": seen}))
        return greedy

    with (
        serve(cached) as (url, _),
        pytest.warns(UserWarning, match="greedy decoding gave .* cache"),
    ):
        drawn(url)


def test_a_server_that_refuses_greedy_requests_is_sampled_all_the_same():
    def refuses(handler, body):
        if body["temperature"] == 0:
            handler.reply(400, {"error": "temperature must be 1"})
        return body["temperature"] == 0

    with serve(refuses) as (url, _):
        assert len(drawn(url)) == 18

"""The HTTP engine against servers that misbehave, and against one that nobody here wrote."""

from __future__ import annotations

import json
import math
import re
import socket
import threading
import time
import warnings
from dataclasses import replace

import pytest

from scaling.cli import main
from scaling.engine.schedule import Job
from scaling.records import Plan, Problem, Verdict, conversation
from scaling.runs import load_run
from scaling.sampling import sample_run
from scaling.serving import Client, Endpoint, connect, served_names
from scaling.serving.batch import read_answers
from scaling.serving.client import Failed
from scaling.serving.engines import BatchEngine, seed_of
from scaling.serving.trials import count_identical
from tests import faulty_server
from tests.faulty_server import serve

PLAN = Plan(chains=6, max_new_tokens=8)
TOY = Endpoint("toy")
QUICK = {"pause": 0.01, "deadline": 20.0}


class Digits:
    """Right is what ends in an even digit."""

    name, levels = "digits", ("1",)

    def prompt(self, problem):
        return problem.prompt

    def verify(self, problem, text):
        return Verdict(text[-1:] or None, text[-1:] in "02468")


def problems(n=12):
    return [Problem(str(i), f"{i}+", "even", "1") for i in range(n)]


def jobs(n=3, chains=PLAN.chains):
    return [Job(p.id, chain, (p.prompt,)) for p in problems(n) for chain in range(chains)]


def drawn(url, plan=PLAN, n=3, endpoint=TOY, **options):
    """Return {(problem, chain): completion}."""
    _, engine = connect(url, endpoint, **QUICK | options)
    return {job[:2]: done for job, _, done in engine.generate(jobs(n, plan.chains), plan)}


def sampled(url, root, plan=PLAN, n=12, **options):
    """Return the run that a server gives."""
    lm, engine = connect(url, TOY, **QUICK | options)
    return sample_run(lm, Digits(), problems(n), plan, root, engine=engine, progress=False)


def test_every_sample_has_a_seed_of_its_own_that_depends_on_nothing_else():
    with serve() as (url, state):
        found = [drawn(url, in_flight=limit) for limit in (1, 16)]
    texts = [{at: done.tokens for at, done in one.items()} for one in found]
    assert texts[0] == texts[1]
    seeds = {body["seed"] for body in state.bodies}
    assert {seed_of(PLAN, job, 0) for job in jobs()} < seeds
    assert len({seed_of(PLAN, job, 0) for job in jobs()}) == len(jobs())
    other = replace(PLAN, seed=1)
    assert not {seed_of(other, job, 0) for job in jobs()} & seeds


def test_usage_is_the_ledger_and_log_probabilities_are_read_where_given():
    with serve() as (url, _):
        done = drawn(url)["0", 0]
    assert (done.prompt_tokens, done.completion_tokens, done.cached_tokens) == (7, 3, 0)
    assert done.logprob == done.sampling_logprob == pytest.approx(-1.5)
    with serve() as (url, _):
        assert math.isnan(drawn(url, replace(PLAN, temperature=0.5))["0", 0].sampling_logprob)


@pytest.mark.parametrize("limit", [1, 5])
def test_requests_in_flight_reach_the_limit_and_never_pass_it(limit):
    def slow(handler, body):
        time.sleep(0.02)
        return False

    with serve(slow) as (url, state):
        drawn(url, in_flight=limit)
    assert state.most_in_flight == limit


@pytest.mark.parametrize("fault", ["busy", "broken", "half", "garbled", "hung_up"])
def test_a_fault_that_passes_costs_a_retry_and_changes_no_sample(fault):
    with serve() as (url, _):
        plain = drawn(url)
    with serve(getattr(faulty_server, fault)) as (url, state):
        found = drawn(url)
    assert all(count >= 2 for count in state.seen.values())
    assert {at: done.tokens for at, done in found.items()} == {
        at: done.tokens for at, done in plain.items()
    }


@pytest.mark.parametrize("way", ["chunked", "unframed", "hesitant"])
def test_however_an_answer_is_framed_it_is_read_at_the_first_try(way):
    with serve() as (url, _):
        plain = drawn(url)
    with serve(getattr(faulty_server, way)) as (url, _):
        found = drawn(url, tries=1)
    assert {at: done.tokens for at, done in found.items()} == {
        at: done.tokens for at, done in plain.items()
    }


def test_a_client_that_was_closed_opens_again():
    with serve() as (url, _):
        client = Client(url, tries=1)
        for _ in range(2):
            with client:
                assert served_names(client) == ["toy"]


def test_where_n_is_honoured_a_prompt_is_sent_once_and_each_choice_is_counted():
    with serve(honours_n=True) as (url, state):
        found = drawn(url)
    assert [body["n"] for body in state.bodies if body.get("n") == 6] == [6] * 3
    assert len(found) == 18
    assert {done.completion_tokens for done in found.values()} == {3}


def test_choices_that_a_server_keeps_back_are_asked_for_again():
    with serve(faulty_server.liar, honours_n=True) as (url, state):
        found = drawn(url)
    requested = [body.get("n", 1) for body in state.bodies]
    assert len(found) == 18
    assert not any(done.finish.startswith("error") for done in found.values())
    assert requested.count(6) == 3
    assert requested.count(4) >= 3


def test_a_server_whose_samples_come_back_identical_is_refused():
    with serve(faulty_server.same) as (url, state):
        with pytest.raises(ValueError, match=r"4 seeds gave the same text .*do_sample"):
            drawn(url)
        assert len(state.bodies) == 14  # first and greedily, four seeds in three settings
        assert len(drawn(url, replace(PLAN, temperature=0.0))) == 18  # greedy is meant


def test_a_model_that_is_sure_of_its_answer_is_not_taken_for_a_server_that_does_not_sample():
    with serve(faulty_server.sure) as (url, _):
        found = drawn(url, n=1)  # vLLM gave "1+2:" eight equal answers at temperature 2
    assert len({done.tokens for done in found.values()}) == 1


def test_a_chat_has_turns_a_system_message_and_its_thinking_put_back():
    def thinks(handler, body):
        found = handler.answer(body)
        found["choices"][0]["message"]["reasoning_content"] = "2+2"
        handler.reply(200, found)
        return True

    endpoint = Endpoint(
        "toy", api="chat", system="Be brief.", extra={"min_tokens": 1, "top_p": None}
    )
    plan = Plan(method="revision", chains=1, steps=3, max_new_tokens=8)
    with serve(thinks) as (url, state):
        _, engine = connect(url, endpoint, **QUICK)
        found = list(engine.generate(jobs(1, 1), plan, lambda *at: ("~",) if at[1] < 2 else None))
    assert [step for _, step, _ in found] == [0, 1, 2]
    last = state.bodies[-1]
    assert [turn["role"] for turn in last["messages"]] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert re.fullmatch("<think>2\\+2</think>\\d+=\\d", found[0][2].tokens[0])
    assert last["messages"][2]["content"] == found[0][2].tokens[0]
    assert last["min_tokens"] == 1
    assert "top_p" not in last


def test_a_conversation_is_sent_as_its_turns_and_only_to_a_chat():
    asks = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1="},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2="},
    ]
    context = (conversation(asks), "5", "~")
    body = Endpoint("toy", api="chat").request(PLAN, context, 1)
    more = [{"role": "assistant", "content": "5"}, {"role": "user", "content": "~"}]
    assert body["messages"] == [*asks, *more]
    with pytest.raises(ValueError, match="leave out system="):
        Endpoint("toy", api="chat", system="Be long.").request(PLAN, context, 1)
    with pytest.raises(ValueError, match="several messages need api=chat"):
        TOY.request(PLAN, context, 1)


def test_thinking_that_a_server_never_ended_is_no_answer(tmp_path):
    """It was judged like an answer: over HTTP, thinking was put back but not separated."""

    def thinks(handler, body):
        found = handler.answer(body)
        for choice in found["choices"]:
            choice["text"] = "<think>" + choice["text"]
        handler.reply(200, found)
        return True

    with serve(thinks) as (url, _):
        run = sampled(url, tmp_path, n=2)
    assert run.samples["answer"].isna().all()
    with serve() as (url, _):
        assert sampled(url, tmp_path / "a", n=2).samples["thinking_tokens"].isna().all()


def test_a_failed_request_is_a_row_with_its_reason_and_is_retried_on_resume(tmp_path):
    def overloaded(handler, body):
        bad = body["prompt"].startswith("9")
        if bad:
            handler.reply(503, {"error": "overloaded"})
        return bad

    with serve(overloaded) as (url, _):
        run = sampled(url, tmp_path, tries=2)
    assert run.manifest["status"] == "open"
    frame = load_run(run.path, text=True).samples.set_index("problem")
    assert (frame.loc["9", "finish"].str.contains("status 503: .*overloaded")).all()
    assert (frame.loc[[str(i) for i in range(9)], "finish"] == "stop").all()
    with serve() as (url, state):
        again = sampled(url, tmp_path)
    assert again.manifest["status"] == "sealed"
    assert again.path == run.path
    assert (again.samples["finish"] == "stop").all()
    assert len(again.samples) == 12 * PLAN.chains
    requested = {body["prompt"] for body in state.bodies}
    assert requested == {"9+"}  # what was good in the unit that failed was kept
    with serve() as (url, _):
        unbroken = load_run(sampled(url, tmp_path / "unbroken").path, text=True)
    texts = load_run(again.path, text=True).samples["text"]
    assert (texts == unbroken.samples["text"]).all()


def test_a_server_that_dies_keeps_what_was_done_and_the_same_call_goes_on(tmp_path):
    count = iter(range(10**6))

    def dies(handler, body):
        dead = next(count) > 80
        if dead:
            handler.cut()
        return dead

    with (
        serve(dies) as (url, state),
        pytest.raises(ValueError, match=r"20 requests in a row.*what was done is kept"),
    ):
        sampled(url, tmp_path, n=30, in_flight=4, tries=2)
    parts = list(tmp_path.glob("*/parts/*.facts.parquet"))
    assert parts
    with serve() as (url, state):
        run = sampled(url, tmp_path, n=30)
    assert (run.samples["finish"] == "stop").all()
    assert len(run.samples) == 30 * PLAN.chains
    assert "0+" not in {body["prompt"] for body in state.bodies}


def test_leaving_in_the_middle_ends_the_requests_in_flight():
    release = threading.Event()

    def slow(handler, body):
        if body["prompt"] != "0+":
            release.wait(10)
        return False

    with serve(slow) as (url, _):
        _, engine = connect(url, TOY, **QUICK)
        pool, began = engine.generate(jobs(), PLAN), time.monotonic()
        next(pool)
        pool.close()
        passed = time.monotonic() - began
        release.set()
    assert passed < 5


def test_what_cuts_contexts_token_by_token_is_refused_and_stop_strings_are_sent(tmp_path):
    with serve() as (url, state):
        for plan in (Plan(method="thinking", steps=3), Plan(method="revision", steps=3, history=1)):
            with pytest.raises(ValueError, match="a server gives texts"):
                sampled(url, tmp_path, plan, n=2)
        sampled(url, tmp_path, replace(PLAN, stop=(";",)), n=2)
    assert {tuple(body["stop"]) for body in state.bodies} == {(";",)}


def test_the_deadline_holds_against_a_server_that_drips():
    with serve(faulty_server.dripping) as (url, _), Client(url, deadline=0.3) as client:
        began = time.monotonic()
        with pytest.raises(Failed, match=r"no answer within 0.3 s"):
            client.ask("/completions", {"seed": 1, "prompt": "x"})
        assert time.monotonic() - began < 2


def test_a_server_that_is_not_there_is_one_clear_line():
    with pytest.raises(ValueError, match="does not answer a plain request: ConnectionRefused"):
        drawn("http://127.0.0.1:9/v1", tries=2)


def test_answers_without_usage_cannot_be_counted_and_are_refused():
    def silent(handler, body):
        handler.reply(200, {"choices": handler.answer(body)["choices"]})
        return True

    with serve(silent) as (url, _), pytest.raises(ValueError, match=r"KeyError: 'usage'"):
        drawn(url)


def test_a_key_comes_from_the_environment_and_appears_in_no_message(monkeypatch, tmp_path):
    monkeypatch.setenv("SCALING_API_KEY", "sk-secret")

    def refuses(handler, body):
        handler.reply(401, {"error": f"bad key {handler.headers['authorization'][7:]}"})
        return True

    with serve() as (url, state):
        run = sampled(url, tmp_path, n=2)
    assert {headers["authorization"] for headers in state.headers} == {"Bearer sk-secret"}
    for path in run.path.rglob("*"):
        assert not path.is_file() or b"sk-secret" not in path.read_bytes()
    with serve(refuses) as (url, _), pytest.raises(ValueError, match="answers 401") as error:
        drawn(url)
    assert "sk-secret" not in str(error.value)
    assert "SCALING_API_KEY" in str(error.value)


def test_a_server_that_wants_a_key_is_asked_with_it_for_its_models(monkeypatch):
    """Its list of models was requested without the key: 401, although the key was right."""
    monkeypatch.setenv("SCALING_API_KEY", "sk-secret")

    class Guarded(faulty_server.Handler):
        def do_GET(self):
            if self.headers["authorization"] == "Bearer sk-secret":
                return super().do_GET()
            return self.reply(401, {"error": "no key"})

    monkeypatch.setattr(faulty_server, "Handler", Guarded)
    with serve() as (url, _):
        lm, _ = connect(url, Endpoint(""))
    assert lm.card.name == "toy"


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://me:key@host/v1", "http:///v1"])
def test_an_address_that_is_none_or_holds_a_key_is_refused(url):
    with pytest.raises(ValueError, match="SCALING_API_KEY") as error:
        Client(url)
    assert "me:key" not in str(error.value)


def test_an_address_without_a_server_is_one_clear_line(capsys):
    with socket.socket() as taken:  # and does not listen
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        assert main(["sample", "--model", url, "--task", "sums"]) == 1
    assert f"no server answers at {url}" in capsys.readouterr().err


# ---------------------------------------------------------------- batch files
def answered(folder, fault=lambda row: None):
    """Answer the requests of a folder as `vllm run-batch` does, by the faulty server's rules."""
    handler = faulty_server.Handler.__new__(faulty_server.Handler)
    handler.state, handler.path = faulty_server.State(None), "/v1/completions"
    text = "".join(path.read_text() for path in folder.glob("requests-*"))
    lines = [json.loads(line) for line in text.splitlines()]
    for number, line in enumerate(lines):
        assert (line["method"], line["url"]) == ("POST", "/v1/completions")
        reply = {"status_code": 200, "request_id": "x", "body": handler.answer(line["body"])}
        row = {"id": str(number), "custom_id": line["custom_id"], "response": reply, "error": None}
        yield fault(row) or row


def test_a_batch_gives_the_samples_that_the_server_gives(tmp_path):
    plan = Plan(method="revision", chains=2, steps=2, max_new_tokens=8)
    with serve() as (url, _):
        lm, engine = connect(url, TOY, **QUICK)
        online = sample_run(
            lm, Digits(), problems(), plan, tmp_path / "a", engine=engine, progress=False
        )
    folder = tmp_path / "batch"

    def offline():
        engine = BatchEngine(folder, TOY)
        return sample_run(
            lm, Digits(), problems(), plan, tmp_path / "b", engine=engine, progress=False
        )

    def losing_two(row):
        lost = {"custom_id": row["custom_id"], "response": None, "error": {"code": "expired"}}
        return lost if row["id"] in "01" else None

    counts = []
    for step, fault in enumerate([losing_two, *[lambda row: None] * 2]):
        with pytest.raises(ValueError, match=r"requests have no answer yet.*run-batch") as error:
            offline()
        counts.append(int(str(error.value).split()[0]))
        rows = list(answered(folder, fault))
        (folder / f"out{step}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert counts == [24, 24, 2]  # two lost ones come again with the second steps of the others
    run = offline()
    assert (run.manifest["status"], run.path.name) == ("sealed", online.path.name)
    drawn = ["problem", "chain", "step", "text", "correct", "completion_tokens"]
    one, two = (load_run(r.path, text=True).samples[drawn] for r in (online, run))
    assert one.equals(two)


def test_a_malformed_line_of_a_batch_is_named(tmp_path):
    (tmp_path / "out.jsonl").write_text('{"custom_id": "a", "response": {"body": {}}}\nnonsense\n')
    with pytest.raises(ValueError, match=r"out.jsonl, line 2 .*JSONDecodeError"):
        list(BatchEngine(tmp_path, TOY).generate(jobs(), PLAN))


def test_answers_may_hold_any_character_that_json_does(tmp_path):
    row = {"custom_id": "a", "response": {"body": {"text": "a\u2028b\u0085c"}}}
    (tmp_path / "out.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n\n", "utf-8")
    assert read_answers(tmp_path) == ({"a": row["response"]["body"]}, {})


# ---------------------------------------------------------------- the command line
def test_the_command_line_samples_a_server_that_lists_one_model(tmp_path, capsys):
    arguments = ["--task", "sums", "--levels", "2x9", "--problems", "3", "--chains", "4"]
    with serve() as (url, _):
        code = main(["sample", "--model", url, *arguments, "--runs", str(tmp_path)])
    assert code == 0
    shown = capsys.readouterr().out
    assert "12 samples" in shown
    assert list(tmp_path.glob("sums-toy-*"))


def test_a_server_that_falls_asleep_after_the_probe_is_reported_at_the_end(tmp_path, capsys):
    arguments = ["--task", "sums", "--levels", "2x9", "--problems", "3", "--chains", "4"]

    def cached(handler, body):  # one answer per prompt, once the probe is over
        if len(handler.state.bodies) <= 6:
            return False
        handler.reply(200, handler.answer(body | {"seed": 0}))
        return True

    for fault, warned in ((cached, 1), (None, 0)):
        with serve(fault) as (url, _), warnings.catch_warnings():
            warnings.simplefilter("default")
            runs = ["--runs", str(tmp_path / str(warned))]
            assert main(["sample", "--model", url, *arguments, *runs]) == 0
        message = capsys.readouterr().err
        assert (
            message.count("all samples are the same text: unless the model is that sure") == warned
        )
    assert count_identical(load_run(next((tmp_path / "1").iterdir()), text=True).samples)[1] == 3


def test_thinking_reaches_the_chat_template_of_a_server_and_is_refused_without_one(
    tmp_path, capsys
):
    arguments = ["--task", "sums", "--levels", "2x9", "--problems", "1", "--chains", "2"]
    arguments += ["--runs", str(tmp_path), "--no-thinking"]
    with serve() as (url, state), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one problem cannot be resampled
        assert main(["sample", "--model", url, *arguments]) == 1
        assert "--thinking needs --api chat" in capsys.readouterr().err
        more = ["--api", "chat", "--request", '{"chat_template_kwargs": {"a": 1}}']
        assert main(["sample", "--model", url, *arguments, *more]) == 0
    kwargs = {"enable_thinking": False, "a": 1}
    assert state.bodies
    assert all(body["chat_template_kwargs"] == kwargs for body in state.bodies)

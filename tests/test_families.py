"""Models as others publish them: each family, real tokenizers, templates, EOS variants, BOS."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec

import pytest

from scaling.cli import main
from scaling.compute import total_parameters
from scaling.engine import Engine, Job
from scaling.models import LM, known, load_lm, quiet
from scaling.records import Completion, Plan, Problem, Verdict, conversation
from scaling.store.manifest import card_to_json
from scaling.tasks.chat import ChatTask, split_thinking

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox")
CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' and m.content == 'no' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is not defined or enable_thinking %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
SPECIAL = ["<s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tokenizer(template: str | None = None, bos: bool = True):
    """Return a byte-level BPE tokenizer trained here, which begins every text with <s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator(["12+45=57 the answer is 57", "system user assistant"], trainer)
    if bos:
        found.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=found, bos_token="<s>", eos_token="<|endoftext|>", pad_token=SPECIAL[1]
    )
    made.chat_template = template
    return made


def save(folder, family: str = "llama", template: str | None = None, **options):
    """Write a small random model of a family, its tokenizer, and return the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    quiet()
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    if family == "gpt2":
        sizes = {"n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 128}
    else:
        sizes |= {"intermediate_size": 96, "max_position_embeddings": 128, "head_dim": 32}
        sizes |= {} if family == "gpt_neox" else {"num_key_value_heads": 1}
    words = tokenizer(template)
    generation = {
        k: options.pop(k) for k in ("eos_token_id", "temperature", "top_k") if k in options
    }
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = AutoConfig.for_model(family, vocab_size=len(words), **sizes | ends | options)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(**{"eos_token_id": 1} | generation, do_sample=True)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def sample(folder, root, *options: str) -> int:
    """Return the exit code of a short run."""
    small = [
        "--levels",
        "2x99",
        "--problems",
        "2",
        "--chains",
        "2",
        "--max-new-tokens",
        "4",
        "--runs",
        str(root),
    ]
    try:
        return main(["sample", "--model", str(folder), "--task", "sums", *small, *options])
    except SystemExit as leave:
        return int(leave.code or 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_loaded_counted_and_sampled_from_a_folder(family, tmp_path, capsys):
    lm = load_lm(save(tmp_path / "m", family))
    assert lm.card.n_params == sum(p.numel() for p in lm.model.parameters())
    light = load_lm(tmp_path / "m", weights=False)
    assert card_to_json(light.card) == card_to_json(lm.card)
    assert math.isnan(lm.card.train_flops)
    assert sample(tmp_path / "m", tmp_path / "runs") == 0
    assert "4 samples" in capsys.readouterr().out


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("chat") / "m", "qwen3", CHAT, eos_token_id=[3, 1], top_k=7)


def test_a_conversation_is_encoded_as_transformers_does_it_with_one_bos(chat_folder):
    lm = load_lm(chat_folder, system="Be brief.")
    ids = lm.encode(lm.render("12+45="))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12+45="}]
    theirs = lm.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert list(ids) == theirs["input_ids"]
    assert ids.count(lm.tokenizer.bos_token_id) == 1


def test_a_conversation_of_several_turns_is_encoded_as_transformers_does_it(chat_folder):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1="},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2="},
    ]
    lm, with_system = load_lm(chat_folder), load_lm(chat_folder, system="Be long.", weights=False)
    theirs = lm.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert list(lm.encode(lm.render(conversation(messages)))) == theirs["input_ids"]
    both = with_system.render(conversation(messages[1:]))
    assert both.index("Be long.") < both.index("1+1=") < both.index("2+2=")
    with pytest.raises(ValueError, match="a problem brings its own system prompt"):
        with_system.render(conversation(messages))
    with pytest.raises(ValueError, match="several messages need a model with a chat template"):
        load_lm(chat_folder, chat=False, weights=False).render(conversation(messages))


def test_plain_text_is_encoded_as_in_training_with_its_bos(chat_folder):
    lm = load_lm(chat_folder, chat=False)
    ids = lm.encode(lm.render("12+45="))
    assert list(ids) == lm.tokenizer.encode("12+45=")
    assert ids[0] == lm.tokenizer.bos_token_id
    assert lm.encode(" the answer") == tuple(
        lm.tokenizer.encode(" the answer", add_special_tokens=False)
    )


def test_every_end_of_text_ends_a_completion(chat_folder):
    assert load_lm(chat_folder).eos_ids == (3, 1)


def test_how_a_model_is_asked_is_part_of_its_identity(chat_folder):
    plain, one, other, none = (
        load_lm(chat_folder, weights=False, **options).card.identity
        for options in ({"chat": False}, {"system": "a"}, {"system": "b"}, {"thinking": False})
    )
    assert len({plain, one, other, none}) == 4
    assert one.startswith(plain)


@pytest.mark.parametrize(
    ("text", "opened", "parts"),
    [
        ("<think>\n1+1\n</think>\n\n2", False, ("1+1", "2")),
        ("1+1</think>2", True, ("1+1", "2")),
        ("<think>1+1", False, ("1+1", "")),
        ("1+1", True, ("1+1", "")),
        ("x=2 ", False, ("", "x=2 ")),
        ("a</think>b</think>c", True, ("a</think>b", "c")),
    ],
)
def test_thinking_is_told_from_the_answer(text, opened, parts):
    assert split_thinking(text, opened) == parts


PROBLEM = Problem("1", "1+1=", "2", "")


class Echo:
    name = "echo"

    def prompt(self, problem):
        return problem.prompt

    def verify(self, problem, text):
        return Verdict(text or None, text == problem.answer)


def test_only_what_follows_the_thinking_is_judged(chat_folder):
    problem = PROBLEM
    thinking, direct = (load_lm(chat_folder, thinking=t) for t in (None, False))
    assert thinking.opens_thinking
    assert not direct.opens_thinking
    assert ChatTask(Echo(), thinking).verify(problem, "maybe 3</think>\n2").correct
    assert ChatTask(Echo(), thinking).verify(problem, "2").answer is None
    assert ChatTask(Echo(), direct).verify(problem, "2").correct
    assert ChatTask(Echo(), direct).prompt(problem).endswith("</think>\n\n")


def test_thinking_is_counted_in_tokens_up_to_its_end(chat_folder):
    def count(lm, *parts):
        tokens = sum((lm.encode(part) for part in parts), ())
        done = Completion(tokens, 0.0, 0.0, "stop", 1, 0, len(tokens) + 1, 0.0)
        return ChatTask(Echo(), lm).thinking_tokens(PROBLEM, "".join(parts), done), tokens

    thinking, direct = (load_lm(chat_folder, thinking=t, weights=False) for t in (None, False))
    begin = "1+1=3? no, 2</think>"
    for lm in (thinking, direct):
        assert count(lm, begin, "\n2")[0] == len(lm.encode(begin))
        assert count(lm, begin, begin, "2")[0] == 2 * len(lm.encode(begin))
    found, tokens = count(thinking, "1+1=")
    assert found == len(tokens) + 1  # never ended: all of it, the stop token included
    assert count(direct, "1+1=")[0] == 0
    assert count(direct, "<think>1+1=")[0] > 4


def test_the_makers_sampling_options_are_taken_when_asked_for(chat_folder, tmp_path, capsys):
    from scaling.runs import Runs

    assert load_lm(chat_folder).defaults == {"top_k": 7}
    assert sample(chat_folder, tmp_path / "a", "--model-defaults") == 0
    assert sample(chat_folder, tmp_path / "b", "--model-defaults", "--top-k", "3") == 0
    assert sample(chat_folder, tmp_path / "c") == 0
    kept = [Runs.load(tmp_path / name)[0].plan.top_k for name in "abc"]
    assert kept == [7, 3, 0]
    log = json.loads(next((tmp_path / "a").glob("*/manifest.json")).read_text())
    assert log["sessions"][0]["extra"]["chat"] == {"system": "", "thinking": None}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--chat"], "has no chat template; sample it with --no-chat"),
        (["--system", "Be brief."], "needs --chat"),
        (["--quantize", "8bit"], "needs a package that is not there"),
        (["--levels", "5x99"], "context of 16 leaves room"),
        (["--dtype", "int8"], "int8"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(options, says, tmp_path, capsys):
    if "package" in says and _installed("bitsandbytes"):
        pytest.skip("the package is there")
    save(tmp_path / "m", max_position_embeddings=16) if "16" in says else save(tmp_path / "m")
    assert sample(tmp_path / "m", tmp_path / "runs", *options) in (1, 2)
    shown = capsys.readouterr().err.strip()
    assert says in shown
    assert "\n" not in shown


def _installed(package: str) -> bool:
    return find_spec(package) is not None


def test_what_places_weights_is_handed_on_and_pickles_never_asked_for(tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    options = {}
    save(tmp_path / "m")
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **o: options.update(o))
    load_lm(tmp_path / "m", device_map="auto", dtype="bfloat16", quantize="8bit")
    assert (options["device_map"], options["dtype"]) == ("auto", "bfloat16")
    assert options["quantization_config"].load_in_8bit
    assert options["use_safetensors"] is True
    assert options["trust_remote_code"] is False


def test_a_quantised_model_is_another_model_to_the_log(tiny_folder):
    plain, small = (load_lm(tiny_folder, weights=False, quantize=q) for q in (None, "4bit"))
    assert small.card.identity == f"{plain.card.identity}+4bit"


def test_a_template_that_refuses_a_system_prompt_is_one_line(chat_folder):
    with pytest.raises(ValueError, match="refuses: System role not supported"):
        load_lm(chat_folder, system="no", weights=False).render("1+1=")


def test_code_that_a_model_brings_is_not_run_unless_asked_for(tmp_path):
    save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ValueError, match="if you trust it, remote_code=True"):
        load_lm(tmp_path / "m")
    assert not (tmp_path / "ran").exists()


def test_weights_that_were_quantised_are_left_as_they_are_and_sampled(tmp_path):
    """No quantiser runs here: a model that refuses to be cast, as quantised ones do."""
    lm = load_lm(save(tmp_path / "m"))
    plan, jobs = Plan(chains=2, max_new_tokens=6), [Job("p", i, (5, 6, 7)) for i in range(2)]

    def drawn(engine):
        return {job.chain: done.tokens for job, _, done in engine.generate(jobs, plan)}

    usual = drawn(Engine(lm.model, eos_ids=lm.eos_ids, device="cpu", reference=True))
    lm.model.is_quantized = True
    lm.model.to = lambda *_: pytest.fail("a quantised model was cast")
    with pytest.warns(UserWarning, match="quantised"):
        engine = Engine(lm.model, eos_ids=lm.eos_ids, device="cpu")
    assert drawn(engine) == usual


# ---------------------------------------------------------------- the table of known models
@pytest.mark.parametrize("row", list(known.rows()), ids=lambda row: row.names[0])
def test_a_known_shape_has_the_published_number_of_parameters(row):
    assert total_parameters(row.shape) == row.n_params


def test_a_checkpoint_is_trained_on_the_tokens_of_its_step():
    pythia = known.look_up("EleutherAI/pythia-70m-deduped")
    assert pythia.tokens_at("step1000") == 1000 * 2_097_152
    assert pythia.tokens_at("step143000") == pythia.tokens_at() == pythia.tokens_at("main")
    assert math.isnan(pythia.tokens_at("b" * 40))  # a commit does not give its step
    assert known.look_up("pythia-70m") is None  # nor does a folder
    assert known.look_up("Qwen2.5-0.5B-Instruct").tokens_at("v1") == 18e12
    assert known.look_up("nobody/knows") is None


def test_tokens_agree_with_the_table_of_observational_scaling_laws():
    import pandas as pd

    from scaling.fits.published import external

    try:
        table = pd.read_csv(external() / "obs-scaling" / "base_llm_benchmark_eval.csv")
    except (ValueError, OSError):
        pytest.skip("SCALING_EXTERNAL does not hold obs-scaling")
    theirs = dict(zip(table["Model"], 1e12 * table["Pretraining Data Size (T)"], strict=True))
    both = {name: row for row in known.rows() for name in row.names if theirs.get(name, 0) > 0}
    assert len(both) >= 12
    for name, row in both.items():
        assert row.tokens_at() == pytest.approx(theirs[name], rel=0.01), name


def test_train_flops_fill_themselves_in_where_shape_and_name_agree(tmp_path, monkeypatch):
    folder = save(tmp_path / "Own-1B")
    lm = load_lm(folder, weights=False)
    line = "me/Own-1B,,llama,{vocab},64,1,2,1,32,96,128,0,{n},1000,10,128,here,A"
    head = known.TABLE.read_text().splitlines()[0]
    line = line.format(vocab=lm.card.shape["vocab"], n=lm.card.n_params)
    for line_, tokens in ((line.replace(",10,128", ",,128"), 1000), (line.replace("96", "90"), 0)):
        (tmp_path / "table.csv").write_text(f"{head}\n{line_}\n")
        monkeypatch.setattr(known.look_up, "__defaults__", (tmp_path / "table.csv",))
        card = load_lm(folder, weights=False).card
        assert card.train_tokens == tokens
        assert (card.train_flops > 0) == (tokens > 0)
    assert load_lm(folder, weights=False, train_tokens=5e6).card.train_tokens == 5_000_000


def test_a_model_made_in_memory_needs_no_template():
    from scaling.models import character_tokenizer

    lm = LM(None, character_tokenizer(), None)
    assert lm.render("12+45=") == "12+45="
    assert lm.eos_ids == (1,)

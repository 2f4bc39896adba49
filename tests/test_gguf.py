"""A GGUF file is a model: the same numbers as the model it was written from, or one clear line."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")

from scaling.cli import main  # noqa: E402
from scaling.engine import Engine, Job  # noqa: E402
from scaling.models import find_models, gguf_file, known, load_lm  # noqa: E402
from scaling.records import Plan  # noqa: E402
from scaling.runs import load_run  # noqa: E402
from scaling.store.manifest import card_to_json  # noqa: E402
from tests.faulty_server import serve  # noqa: E402
from tests.gguf_files import metadata, tensors, write  # noqa: E402
from tests.test_families import tokenizer  # noqa: E402

KIND = gguf.GGMLQuantizationType
FAMILIES = ("llama", "qwen2", "qwen3")
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32, "rope_theta": 10000.0}  # fmt: skip


def tiny(family: str = "llama", **options):
    """Return a random model of a family, with grouped queries and its own head size."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 32,
             "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 128,
             "rms_norm_eps": 1e-3}  # fmt: skip
    if family == "qwen2":
        sizes["head_dim"] = 16
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer()), **sizes | options)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():  # biases and norms that do nothing would hide a mistake
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def parts():
    """Return (metadata, tensors) of a tiny Llama."""
    model = tiny()
    return metadata(model.config, tokenizer()), tensors(model)


@pytest.fixture
def file(parts, tmp_path) -> Path:
    return write(tmp_path / "Tiny-Q8_0.gguf", "llama", *parts, KIND.Q8_0)


def logits(model, ids):
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_gives_the_logits_of_the_model_it_was_written_from(family, tied, tmp_path):
    import torch

    model = tiny(family, tie_word_embeddings=tied)
    values = metadata(model.config, tokenizer())
    lm = load_lm(write(tmp_path / "m.gguf", family, values, tensors(model)), chat=False)
    ids = lm.encode("12+45=57 the answer")
    assert len(ids) > 5
    torch.testing.assert_close(logits(lm.model, ids), logits(model, ids), rtol=1e-4, atol=1e-5)
    assert lm.card.n_params == sum(p.numel() for p in model.parameters())
    assert math.isnan(lm.card.train_flops)


def test_the_rotary_factors_of_llama_3_are_applied(tmp_path):
    import torch

    scaled, plain = tiny(rope_parameters=LLAMA3), tiny()
    factors = plain.model.rotary_emb.inv_freq / scaled.model.rotary_emb.inv_freq
    assert factors.max() > 2  # or the test says nothing
    arrays = tensors(scaled) | {"rope_freqs.weight": factors.numpy()}
    values = metadata(scaled.config, tokenizer())
    lm = load_lm(write(tmp_path / "m.gguf", "llama", values, arrays), chat=False)
    ids = lm.encode("12+45=57 the answer is 57 " * 3)
    torch.testing.assert_close(logits(lm.model, ids), logits(scaled, ids), rtol=1e-4, atol=1e-5)
    assert (logits(plain, ids) - logits(scaled, ids)).abs().max() > 0.01


@pytest.mark.parametrize(("kind", "error"), [(KIND.F16, 2e-3), (KIND.BF16, 0.02), (KIND.Q8_0, 0.1),
                                             (KIND.Q4_1, 0.3)])  # fmt: skip
def test_stored_types_are_dequantised(kind, error, parts, tmp_path):
    lm = load_lm(write(tmp_path / "m.gguf", "llama", *parts, kind))
    ids = lm.encode("12+45=57")
    gap = (logits(lm.model, ids) - logits(tiny(), ids)).abs().max()
    assert 0 < gap < error
    assert lm.card.name == f"m-{kind.name}"
    assert str(lm.model.dtype) == "torch.float32"


def test_the_engine_in_c_agrees_with_transformers_on_a_file(file):
    lm = load_lm(file)
    jobs = [Job("p", chain, lm.encode("12+45=")) for chain in range(4)]

    def drawn(**options):
        engine = Engine(lm.model, eos_ids=lm.eos_ids, device="cpu", **options)
        found = engine.generate(jobs, Plan(chains=4, max_new_tokens=24))
        return {job.chain: done.tokens for job, _, done in found}

    assert drawn() == drawn(reference=True)


def test_a_saved_copy_is_an_ordinary_folder(file, tmp_path):
    from scaling.models import LM, save_lm

    lm = load_lm(file)
    save_lm(LM(lm.model, lm.tokenizer, lm.card), tmp_path / "copy")
    again = load_lm(tmp_path / "copy")
    assert again.encode("12+45=57") == lm.encode("12+45=57")
    assert again.card.n_params == lm.card.n_params


# ---------------------------------------------------------------- tokenizers
def test_special_tokens_template_and_ends_are_those_of_the_file(parts, tmp_path):
    values = parts[0] | {"tokenizer.ggml.eot_token_id": 3}
    lm = load_lm(write(tmp_path / "m.gguf", "llama", values, parts[1]))
    assert lm.render("hi") == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert lm.encode("<|im_start|>a<|im_end|>")[::2] == (2, 3)
    assert lm.eos_ids == (1, 3)
    assert lm.decode((2, *lm.encode("12+45=57 the answer"), 3)) == "12+45=57 the answer"
    assert lm.encode("12+45=57 the answer") == tuple(
        tokenizer().encode("12+45=57 the answer", add_special_tokens=False)
    )


@pytest.mark.parametrize(
    ("pre", "bos", "alone"),
    [
        ("gpt-2", None, False),
        ("smollm", None, True),
        ("starcoder", True, True),
        ("llama-bpe", None, False),
        ("llama-bpe", False, False),
        ("qwen2", None, True),
    ],
)
def test_text_is_split_and_begun_as_the_vocabulary_was_trained(pre, bos, alone, parts, tmp_path):
    """alone: every digit is a token of its own, although the vocabulary holds pairs of digits."""
    values = parts[0] | {"tokenizer.ggml.pre": pre}
    del values["tokenizer.ggml.add_bos_token"]
    values |= {} if bos is None else {"tokenizer.ggml.add_bos_token": bos}
    lm = load_lm(write(tmp_path / "m.gguf", "llama", values, parts[1]), weights=False, chat=False)
    found = lm.tokenizer.tokenize("the 57")
    assert "".join(found) == "theĠ57"
    assert (found[-2:] == ["5", "7"]) == alone
    assert lm.bos == ("<s>" if (pre == "llama-bpe" if bos is None else bos) else "")


def test_a_sentencepiece_vocabulary_begins_with_its_bos_token(parts, tmp_path):
    size = parts[1]["token_embd.weight"].shape[0]
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "1", "2", "+", "a", "▁a", "12", "▁12"]
    types = [2, 3, 3, *[6] * 256] + [1] * 8
    scores = [0.0] * 259 + [-5.0, -5.0, -5.0, -5.0, -5.0, -1.0, -2.0, -3.0]
    rest = size - len(words)
    words, types = words + [f"<pad{i}>" for i in range(rest)], types + [5] * rest
    scores += [-100.0] * rest
    values = {k: v for k, v in parts[0].items() if not k.startswith("tokenizer")} | {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
    }  # fmt: skip
    lm = load_lm(write(tmp_path / "m.gguf", "llama", values, parts[1]))
    assert lm.chat is None
    assert lm.render("12+1") == "<s>12+1"
    assert [words[i] for i in lm.encode("<s>12+1")] == ["<s>", "▁12", "+", "1"]
    assert lm.decode(lm.encode("12+1 a")) == "12+1 a"


# ---------------------------------------------------------------- names and cards
NAMES = {
    "SmolLM2-135M-Instruct.Q4_1": "HuggingFaceTB/SmolLM2-135M",
    "qwen2.5-0.5b-instruct-q4_k_m": "Qwen/Qwen2.5-0.5B",
    "Qwen_Qwen3-0.6B-IQ4_XS": "Qwen/Qwen3-0.6B",
    "Meta-Llama-3.1-8B-Instruct.Q8_0": "meta-llama/Llama-3.1-8B",
    "Llama-3.2-1B-Instruct-UD-Q4_K_XL": "meta-llama/Llama-3.2-1B",
    "Llama-3.2-1B-f16": "meta-llama/Llama-3.2-1B",
    "Qwen3-4B-BF16": "Qwen/Qwen3-4B",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_named_as_quantisers_do_is_found_in_the_table_of_known_models(name):
    header = gguf_file.Header(Path(f"{name}.gguf"), {}, {})
    found = [row for n in header.names if n and (row := known.look_up(n))]
    assert [row.names[0] for row in found] == [NAMES[name]]


def test_a_renamed_file_is_found_by_its_metadata():
    metadata = {"general.basename": "smollm2", "general.size_label": "135M"}
    header = gguf_file.Header(Path("model.gguf"), metadata, {})
    found = [row for n in header.names if n and (row := known.look_up(n))]
    assert [row.train_tokens for row in found] == [2e12]


def test_a_card_has_shape_tokens_of_the_table_and_the_hash_of_the_file(file, monkeypatch):
    card = load_lm(file, train_tokens=1e6, chat=False).card
    assert card.name == "Tiny-Q8_0"
    assert (card.train_tokens, card.shape["context"]) == (1_000_000, 128)
    assert card.train_flops > 0
    assert load_lm(file, weights=False, train_tokens=1e6, chat=False).card == card
    data = bytearray(file.read_bytes())
    data[-40] ^= 1
    file.write_bytes(data)
    assert load_lm(file, weights=False, chat=False).card.identity != card.identity


def test_the_makers_sampling_options_are_read_from_the_file(parts, tmp_path):
    values = parts[0] | {"general.sampling.temp": 0.5, "general.sampling.top_k": 20}
    lm = load_lm(write(tmp_path / "m.gguf", "llama", values, parts[1]), weights=False)
    assert lm.defaults == {"temperature": 0.5, "top_k": 20}


def test_files_of_another_model_in_the_folder_are_not_mixed_in(file, tiny_folder):
    alone = load_lm(file)
    for name in ("card.json", "config.json", "generation_config.json", "tokenizer.json",
                 "tokenizer_config.json"):  # fmt: skip
        shutil.copy(tiny_folder / name, file.parent)
    (file.parent / "chat_template.jinja").write_text("other")
    lm = load_lm(file)
    assert card_to_json(lm.card) == card_to_json(alone.card)
    assert lm.render("1+1=") == alone.render("1+1=")
    assert (lm.skills, lm.defaults) == ((), {})


def test_a_folder_with_one_file_is_that_file_and_weights_of_its_own_come_first(
    file, tiny_folder, tmp_path
):
    cards = [load_lm(where, weights=False).card for where in (file.parent, file)]
    assert card_to_json(cards[0]) == card_to_json(cards[1])
    shutil.copytree(tiny_folder, tmp_path / "both")
    shutil.copy(file, tmp_path / "both")
    assert load_lm(tmp_path / "both", weights=False).card.name == "tiny/1e9"


# ---------------------------------------------------------------- runs
def test_a_file_is_sampled_resumed_and_verified(file, tmp_path, capsys):
    runs = str(tmp_path / "runs")
    command = ["sample", "--model", str(file), "--task", "sums", "--levels", "2x99", "--runs", runs]
    command += ["--problems", "2", "--chains", "2", "--max-new-tokens", "8"]
    assert main(command) == 0
    assert "4 samples" in capsys.readouterr().out
    assert main(command) == 0
    assert "none drawn" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("sums-Tiny_Q8_0-")
    assert load_run(folder).manifest["sessions"][-1]["extra"]["model"] == str(file)
    with pytest.raises(ValueError, match="no model with a card"):
        find_models(file.parent)
    assert main(["verify", str(folder), "--models", str(file.parent)]) == 0
    assert "100.0000% the same" in capsys.readouterr().out


def test_workers_draw_from_a_file_what_one_process_draws(file, tmp_path, capsys):
    command = ["sample", "--model", str(file), "--task", "sums", "--levels", "2x99"]
    command += ["--problems", "2", "--chains", "2", "--max-new-tokens", "8"]
    assert main([*command, "--runs", str(tmp_path / "own")]) == 0
    away = ["--executor", "local", "--workers", "1", "--runs", str(tmp_path / "away")]
    assert main([*command, *away]) == 0
    one, other = (
        load_run(next((tmp_path / name).iterdir()), text=True) for name in ("own", "away")
    )
    assert one.path.name == other.path.name
    assert one.samples["text"].tolist() == other.samples["text"].tolist()


def test_a_dry_run_reads_no_weights(file, tmp_path, capsys, monkeypatch):
    for name in ("_tensor", "model_of"):
        monkeypatch.setattr(gguf_file, name, lambda *_, **__: pytest.fail("weights were read"))
    monkeypatch.setattr(
        "scaling.models.cards.files_hash", lambda *_: pytest.fail("the file was hashed")
    )
    command = ["sample", "--model", str(file), "--task", "sums", "--runs", str(tmp_path / "runs")]
    assert main([*command, "--dry-run"]) == 0
    assert "FLOPs" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_the_file_prices_the_samples_of_a_server_that_has_it(file, tmp_path, capsys):
    with serve() as (url, _):
        command = ["sample", "--model", url, "--task", "sums", "--levels", "2x99", "--chains", "2"]
        command += ["--problems", "2", "--card", str(file), "--runs", str(tmp_path / "runs")]
        assert main(command) == 0
    run = load_run(next((tmp_path / "runs").iterdir()))
    card = load_lm(file, weights=False, chat=False).card
    assert run.card.shape == card.shape
    assert run.card.identity.startswith(f"{card.identity} served")


# ---------------------------------------------------------------- one clear line
def refusal(path) -> str:
    """Return the error message of a file, the same one line with and without weights."""
    message = set()
    for weights in (False, True):
        with pytest.raises(ValueError, match=r"\S") as caught:
            load_lm(path, weights=weights)
        message.add(str(caught.value))
    (line,) = message
    assert "\n" not in line
    assert len(line) < 400 + len(str(path))
    return line


@pytest.mark.parametrize("share", [0.0005, 0.002, 0.01, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_said_to_be_cut_short(share, file):
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert "is cut short" in refusal(file)


def test_a_file_cut_by_one_byte_is_said_to_be_cut_short(file):
    """The last tensor of the file is followed by padding, which may be missing."""
    last = max(
        tensor.data_offset + int(tensor.n_bytes)
        for tensor in gguf_file.read_header(file).tensors.values()
    )
    file.write_bytes(file.read_bytes()[: last - 1])
    assert f"cut short or damaged: it ends after {last - 1:,} bytes" in refusal(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"GG", b"version https://git-lfs.github.com/spec/v1\n", b"<!doctype html>", b"PK\3\4" * 9,
     b"lmgg" + bytes(64)],
)  # fmt: skip
def test_what_is_no_gguf_file_is_said_to_be_none(content, tmp_path):
    (tmp_path / "m.gguf").write_bytes(content)
    assert "is not a GGUF file" in refusal(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (4, b"\1\0\0\0", "is of GGUF version 1; 2 and 3 can be read"),
        (4, b"\0\0\0\3", "is of GGUF version 50331648"),  # big-endian
        (8, b"\xff" * 8, "is cut short"),
        (16, b"\xff" * 8, "is cut short"),
        (24, b"\xff" * 8, "is cut short"),
    ],
)
def test_a_damaged_head_is_one_line(at, value, says, file):
    data = bytearray(file.read_bytes())
    data[at : at + len(value)] = value
    file.write_bytes(data)
    assert says in refusal(file)


def test_an_unknown_type_of_tensor_is_one_line(file):
    data = file.read_bytes()
    mark = b"blk.0.attn_q.weight"
    at = data.index(mark) + len(mark) + 4 + 2 * 8
    file.write_bytes(data[:at] + b"\xee\0\0\0" + data[at + 4 :])
    assert "is damaged or newer than the package gguf" in (message := refusal(file))
    assert "238" in message


TOKENIZER = ("tokenizer.ggml.model", "tokenizer.ggml.tokens")
CHANGED = {  #: changes of the metadata (None: left out) -> error message
    "split": ({"split.count": 3}, "is one of 3 parts; join them first"),
    "adapter": ({"general.type": "adapter"}, "holds no model (its general.type is 'adapter')"),
    "imatrix": ({"general.type": "imatrix"}, "holds no model (its general.type is 'imatrix')"),
    "no model": ({TOKENIZER[0]: None}, "holds no tokenizer"),
    "no tokens": ({TOKENIZER[1]: None}, "holds no tokenizer"),
    "none": (dict.fromkeys(TOKENIZER), "holds no tokenizer"),
    "other kind": ({TOKENIZER[0]: "rwkv"}, "rwkv"),
    "split of words": ({"tokenizer.ggml.pre": "own"}, "splits words in a way unknown here ('own')"),
    "yarn": ({"llama.rope.scaling.type": "yarn"}, "sets llama.rope.scaling.type to yarn, not app"),
    "linear": ({"llama.rope.scaling.factor": 4.0}, "sets llama.rope.scaling.factor to 4.0"),
    "older linear": ({"llama.rope.scale_linear": 2.0}, "sets llama.rope.scale_linear to 2.0"),
    "window": ({"llama.attention.sliding_window": 64}, "sets llama.attention.sliding_window to 64"),
    "experts": ({"llama.expert_count": 8}, "sets llama.expert_count to 8, not applied here"),
    "scale": ({"llama.logit_scale": 0.5}, "sets llama.logit_scale to 0.5"),
    "half turned": ({"llama.rope.dimension_count": 16}, "sets llama.rope.dimension_count to 16"),
    "per layer": ({"llama.attention.head_count_kv": [2, 1]}, "head_count_kv to [2, 1]"),
    "no norm": ({"llama.attention.layer_norm_rms_epsilon": None}, "lacks llama.attention.layer_n"),
    "no layers": ({"llama.block_count": None, "llama.context_length": None}, "lacks llama.block_"),
    "more layers": ({"llama.block_count": 3}, "a llama of its sizes has"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGED)
def test_metadata_that_are_lacking_or_not_applied_are_one_line(change, parts, tmp_path):
    changed, says = CHANGED[change]
    values = {k: v for k, v in (parts[0] | changed).items() if v is not None}
    assert says in refusal(write(tmp_path / "m.gguf", "llama", values, parts[1]))


@pytest.mark.parametrize(
    "harmless",
    [{"llama.rope.scaling.type": "none"}, {"llama.rope.scaling.factor": 1.0},
     {"llama.expert_count": 0}, {"llama.vocab_size": 300}, {"general.quantization_version": 2}],
)  # fmt: skip
def test_settings_that_are_off_change_nothing(harmless, parts, tmp_path):
    lm = load_lm(write(tmp_path / "m.gguf", "llama", parts[0] | harmless, parts[1]), weights=False)
    assert lm.card.n_params > 0


@pytest.mark.parametrize("architecture", ["mamba", "gemma3", "clip", "gpt2", "llama4", "qwen3moe"])
def test_an_unknown_architecture_is_one_line(architecture, parts, tmp_path):
    path = write(tmp_path / "m.gguf", architecture, *parts)
    line = refusal(path)
    assert f"is of architecture '{architecture}'; llama, qwen2, qwen3 can be read" in line
    assert "llama.cpp's server" in line


def test_tensors_that_are_missing_too_many_or_misnamed_are_one_line(parts, tmp_path):
    values, arrays = parts
    fewer = {name: array for name, array in arrays.items() if "blk.1.ffn_up" not in name}
    more = arrays | {"blk.0.attn_q.bias": arrays["blk.0.attn_norm.weight"]}
    other = {name.replace("blk.1.ffn_up", "blk.1.ffn_upper"): a for name, a in arrays.items()}
    for number, changed in enumerate((fewer, more, {})):
        path = write(tmp_path / f"{number}.gguf", "llama", values, changed)
        assert "parameters, a llama of its sizes has" in refusal(path)
    with pytest.raises(ValueError, match="are missing or unknown"):
        load_lm(write(tmp_path / "other.gguf", "llama", values, other))


def test_a_folder_of_several_files_names_them(file):
    shutil.copy(file, file.with_name("Tiny-Q4_0.GGUF"))
    assert refusal(file.parent).endswith("give one of them: Tiny-Q4_0.GGUF, Tiny-Q8_0.gguf")


def test_a_file_that_is_not_there_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("scaling.models.hub._fetch", lambda *_: pytest.fail("the hub was asked"))
    monkeypatch.chdir(tmp_path)
    for name in ("gone.gguf", "org/gone.gguf", str(tmp_path / "gone.GGUF")):
        assert f"no file {name}" in refusal(name)


def test_without_the_package_the_extra_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "needs the package gguf: pip install 'inference-scaling-kit[gguf]'" in refusal(file)


def test_a_quantised_file_is_not_quantised_again(file, tmp_path, capsys):
    command = ["sample", "--model", str(file), "--task", "sums", "--runs", str(tmp_path / "runs")]
    assert main([*command, "--quantize", "8bit"]) == 1
    assert "is quantised already; leave out --quantize" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_dtype_is_that_asked_for(file):
    assert str(load_lm(file, dtype="bfloat16").model.dtype) == "torch.bfloat16"


def test_what_is_logged_of_a_file_holds_no_path_in_the_card(file):
    from dataclasses import asdict

    card = load_lm(file, weights=False).card
    assert str(file.parent) not in json.dumps(asdict(card))
    assert replace(card, name="") != card

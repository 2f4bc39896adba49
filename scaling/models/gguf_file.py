"""Read a GGUF file, the format of llama.cpp, as a model: metadata, tokenizer, dequantised weights.

`read_header` reads metadata and the table of tensors alone, and refuses a file that would be
sampled wrongly: one that is cut short, a part of several, or with settings that are not applied
here. Weights become float32 (or `dtype`), since the engine computes with plain matrices.

The format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import re
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.compute import Shape, total_parameters

MAGIC, VERSIONS = b"GGUF", (2, 3)
ARCHITECTURES = ("llama", "qwen2", "qwen3")
SERVE = "sample it from llama.cpp's server instead (docs/serving.md)"
#: field of a `transformers` configuration -> key of the metadata, after the architecture
FIELDS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
#: further keys that are applied, or that change no result
OTHER_KEYS = ("rope.freq_base", "rope.dimension_count", "vocab_size", "tensor_data_layout",
              "attention.key_length", "attention.value_length", "attention.causal",
              "attention.layer_norm_epsilon", "rope.scaling.original_context_length",
              "rope.scaling.finetuned")  # fmt: skip
INACTIVE = ("0", "0.0", "1.0", "False", "none", "")  #: of any other key: the setting is off
#: tensor of the file -> module of `transformers`; those of the second row lie in a layer
TENSORS = {"token_embd": "embed_tokens", "output_norm": "norm"}
LAYER = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
LAYER |= {f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"}
LAYER |= {f"attn_{part}_norm": f"self_attn.{part}_norm" for part in "qk"}
LAYER |= {"attn_output": "self_attn.o_proj"}
LAYER |= {f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
ROPE_FACTORS = "rope_freqs.weight"  #: by which Llama 3.1 divides rotary frequencies
#: vocabularies (`tokenizer.ggml.pre`) that split digits one by one, then as GPT-2 does
DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b")
PLAIN = ("gpt-2", "gpt2", "mpt", "olmo", "phi-2", "jais")  #: those that split as GPT-2 does
#: those whose words are looked up before any merge, and which begin a text with a BOS token
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral")
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
SAMPLING = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
QUANTISATION = re.compile(r"[-._](ud-)?(i?q\d\w*|tq\d\w*|mxfp\d\w*|b?f16|f32|fp16|fp32)$", re.I)


@dataclass(frozen=True)
class Header:
    """The contents of a GGUF file without the values of its tensors."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Any]  #: gguf.ReaderTensor by name

    @property
    def architecture(self) -> str:
        """Return the architecture, such as "llama"; "" where the file names none."""
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of the architecture."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    @property
    def quantisation(self) -> str:
        """Return the type that most of the weights are stored in, such as "Q4_1"."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            kind = tensor.tensor_type.name
            sizes[kind] = sizes.get(kind, 0) + int(tensor.n_elements)
        return max(sizes, key=lambda name: sizes[name], default="")

    @property
    def title(self) -> str:
        """Return the file's name without suffix, with the quantisation added if it lacks one."""
        stem = self.path.name.removesuffix(self.path.suffix)
        has = self.quantisation.lower() in stem.lower()
        return stem if has else f"{stem}-{self.quantisation}"

    @property
    def names(self) -> tuple[str, ...]:
        """Return possible names of the published model, from the file name and the metadata."""
        stem = QUANTISATION.sub("", self.path.name.removesuffix(self.path.suffix))
        parts = [str(self.metadata.get(f"general.{key}", "")) for key in ("basename", "size_label")]
        return stem, stem.partition("_")[2], "-".join(parts)

    @property
    def defaults(self) -> dict[str, float]:
        """Return the sampling options that the model's makers suggest."""
        options = {
            name: self.metadata.get(f"general.sampling.{key}") for name, key in SAMPLING.items()
        }
        return {name: value for name, value in options.items() if value is not None}


def read_header(path: Path) -> Header:
    """Return the metadata and the table of tensors of a GGUF file that passes all checks.

    Errors: ValueError, one line, if a file is no GGUF, cut short, no complete language model,
    of an architecture that is unknown here, or without a tokenizer; or where `gguf` is missing.
    """
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"{path.name} needs the package gguf: pip install 'inference-scaling-kit[gguf]'"
        ) from error
    header = _parse(path)
    _check_kind(header)
    _check_settings(header)
    return header


def _parse(path: Path) -> Header:
    """Return a file as the package gguf reads it; ValueError if it is no GGUF, cut or damaged."""
    from gguf import GGUFReader

    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] != MAGIC:
        raise ValueError(
            f"{path} is not a GGUF file: it does not begin with {MAGIC.decode()}; give a "
            "model's folder, or download the file again"
        )
    if len(head) == 8 and (version := struct.unpack("<I", head[4:])[0]) not in VERSIONS:
        allowed = " and ".join(map(str, VERSIONS))
        raise ValueError(f"{path} is of GGUF version {version}; {allowed} can be read")
    try:
        reader = GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
    except (KeyError, ValueError, IndexError, TypeError, MemoryError, OverflowError) as error:
        if "is not a valid" in str(error):
            raise ValueError(
                f"{path} is damaged or newer than the package gguf ({error}); download it again, "
                "or update gguf"
            ) from error
        raise ValueError(
            f"{path} is cut short or damaged: it ends after {path.stat().st_size:,} bytes; "
            "download it again"
        ) from error
    return Header(path, metadata, {tensor.name: tensor for tensor in reader.tensors})


def _check_kind(header: Header) -> None:
    """Raise ValueError unless the file is a complete language model of a known architecture."""
    path, metadata = header.path, header.metadata
    if metadata.get("split.count", 0) > 1:
        raise ValueError(
            f"{path} is one of {metadata['split.count']} parts; join them first: "
            f"llama-gguf-split --merge {path.name} whole.gguf"
        )
    if (kind := metadata.get("general.type", "model")) != "model":
        raise ValueError(f"{path} holds no model (its general.type is {kind!r}); give the model")
    if header.architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path} is of architecture {header.architecture!r}; {', '.join(ARCHITECTURES)} can "
            f"be read: {SERVE}"
        )
    if not metadata.get("tokenizer.ggml.model") or not metadata.get("tokenizer.ggml.tokens"):
        raise ValueError(f"{path} holds no tokenizer; convert the model again, with its tokenizer")


def _check_settings(header: Header) -> None:
    """Raise ValueError if metadata are missing, or would change results but are not applied."""
    first = f"{header.architecture}."
    missing = [f"{first}{key}" for key in FIELDS.values() if header.get(key) is None]
    if missing:
        raise ValueError(f"{header.path} lacks {', '.join(missing)} in its metadata; convert again")
    known = {first + key for key in (*FIELDS.values(), *OTHER_KEYS)}
    head_dim, turned = _head_dim(header), header.get("rope.dimension_count")
    for key, value in header.metadata.items():
        lists = isinstance(value, list) and key in known  # a value per layer
        other = key.startswith(first) and key not in known and str(value) not in INACTIVE
        partly = key == f"{first}rope.dimension_count" and turned != head_dim
        if lists or other or partly:
            shown = str(value)[:60]
            raise ValueError(f"{header.path} sets {key} to {shown}, not applied here: {SERVE}")
    shape = Shape.from_config(configuration(header))
    stored = [t for name, t in header.tensors.items() if name != ROPE_FACTORS]
    found = sum(int(tensor.n_elements) for tensor in stored)
    if found != total_parameters(shape):
        raise ValueError(
            f"{header.path} holds {found:,} parameters, a {header.architecture} of its sizes has "
            f"{total_parameters(shape):,}: it is damaged, or a variant that is unknown here"
        )


def _head_dim(header: Header) -> int:
    stated = header.get("attention.key_length") or header.get("rope.dimension_count")
    return stated or header.get("embedding_length") // header.get("attention.head_count")


def configuration(header: Header) -> Any:
    """Return the `transformers` configuration that the metadata describe."""
    from transformers import AutoConfig

    token = header.metadata.get
    values = {name: header.get(key) for name, key in FIELDS.items()}
    embedding = header.tensors.get("token_embd.weight")
    bias = {"attention_bias": True} if "blk.0.attn_output.bias" in header.tensors else {}
    return AutoConfig.for_model(
        header.architecture,
        **values | bias,
        vocab_size=int(embedding.shape[-1]) if embedding else 0,
        head_dim=_head_dim(header),
        rope_parameters={"rope_type": "default", "rope_theta": header.get("rope.freq_base", 1e4)},
        tie_word_embeddings="output.weight" not in header.tensors,
        bos_token_id=token("tokenizer.ggml.bos_token_id"),
        eos_token_id=end_ids(header) or None,
        pad_token_id=token("tokenizer.ggml.padding_token_id"),
    )


def end_ids(header: Header) -> list[int]:
    """Return the ids of tokens that end a text, a turn or a message."""
    found = [header.metadata.get(f"tokenizer.ggml.{name}") for name in ENDS]
    return list(dict.fromkeys(i for i in found if i is not None))


def tokenizer_of(header: Header) -> Any:
    """Return the tokenizer and template read by `transformers`, with its word splits corrected.

    `transformers` knows the splits of most vocabularies and uses GPT-2's for the others.
    """
    from tokenizers import pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as empty:  # no file next to this one may be mixed in
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            empty, gguf_file=str(header.path.resolve()), local_files_only=True
        )
    metadata, backend = header.metadata, tokenizer.backend_tokenizer
    split = metadata.get("tokenizer.ggml.pre", "")
    if split in DIGITS:
        both = [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        backend.pre_tokenizer = pre_tokenizers.Sequence(both)
    elif split in WHOLE_WORDS:
        backend.model.ignore_merges = True
    elif split not in PLAIN and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        raise ValueError(f"{header.path} splits words in a way unknown here ({split!r}): {SERVE}")
    usual = metadata.get("tokenizer.ggml.model") == "llama" or split in WHOLE_WORDS
    bos = tokenizer.bos_token
    if bos and metadata.get("tokenizer.ggml.add_bos_token", usual):
        pair = (bos, tokenizer.bos_token_id)
        backend.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[pair])
    return tokenizer


def model_of(header: Header, dtype: str | None = None, device_map: str | None = None) -> Any:
    """Return the model; dtype: None is float32, in which dequantised weights are exact."""
    import torch
    import transformers

    config, kind = configuration(header), getattr(torch, dtype or "float32")
    weights = {_module(name): _tensor(header, name, kind) for name in header.tensors}
    factors = weights.pop(ROPE_FACTORS, None)
    family = getattr(transformers, f"{header.architecture.capitalize()}ForCausalLM")
    model, report = family.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=kind,
        device_map=device_map,
        output_loading_info=True,
    )
    if names := sorted({*report["missing_keys"], *report["unexpected_keys"]}):
        raise ValueError(f"{names[0]} and {len(names) - 1} more tensors are missing or unknown")
    if factors is not None:
        model.model.rotary_emb.inv_freq /= factors.to(model.model.rotary_emb.inv_freq)
    return model


def _module(name: str) -> str:
    """Return the name that `transformers` gives to a tensor of the file."""
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if found and found[2] in LAYER:
        return f"model.layers.{found[1]}.{LAYER[found[2]]}.{found[3]}"
    head, _, end = name.partition(".")
    return f"model.{TENSORS[head]}.{end}" if head in TENSORS else name.replace("output", "lm_head")


def _tensor(header: Header, name: str, dtype: Any) -> Any:
    """Return a tensor of the file, dequantised."""
    import numpy as np
    import torch
    from gguf.quants import dequantize

    tensor = header.tensors[name]
    shape = tuple(map(int, tensor.shape))[::-1]
    values = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
    if header.architecture == "llama" and re.search(r"\.attn_[qk]\.", name):
        heads = header.get("attention.head_count" + "_kv" * (".attn_k." in name))
        # stored with both halves of a head's rotary pairs next to each other
        pairs = values.reshape(heads, -1, 2, *shape[1:])
        values = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(shape)
    return torch.from_numpy(np.array(values)).to(dtype)  # a copy: F32 is mapped from the file

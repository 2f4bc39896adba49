"""A language model is weights, a tokenizer and a card. Tiny ones are Hugging Face configs too.

`load_lm` takes a folder, a GGUF file (`gguf_file`) or a hub name with a revision (`hub`); a server
is no model in memory, and is opened by whoever samples (`serving.connect`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from scaling.compute import Shape, parameters, train_flops
from scaling.markers import is_marker, opens_thinking
from scaling.models import gguf_file, known
from scaling.models.hub import Files, is_endpoint, locate
from scaling.records import ModelCard, turns_of, with_system

ALPHABET = "0123456789+-*/=;:,.~x!?|()<>[]@#&%^_ abcdefghijklmnopqrstuvwyz"
HEAD_DIM = 32  #: inference servers refuse smaller heads
SIZES = {"0.1M": (64, 2), "0.3M": (96, 3), "1.3M": (160, 4), "4.8M": (256, 6)}  #: (hidden, layers)
CARD = "card.json"
TOKENIZERS = ("*token*", "*vocab*", "*.model")  #: what files of a tokenizer are called
BITS = {"8bit": "load_in_8bit", "4bit": "load_in_4bit"}  #: --quantize -> bitsandbytes' option
DEFAULTS = ("temperature", "top_k", "top_p", "min_p")  #: what a model may suggest of a Plan


@dataclass(frozen=True)
class Chat:
    """How a prompt becomes a conversation, by the tokenizer's template."""

    system: str = ""  #: system prompt; "" has none
    thinking: bool | None = None  #: templates' `enable_thinking`; None leaves it to them


@dataclass(frozen=True)
class LM:
    """Weights, tokenizer, and what a curve needs to know of them."""

    model: Any  #: transformers.PreTrainedModel; None where only the rest was asked for
    tokenizer: Any  #: transformers.PreTrainedTokenizerBase
    card: ModelCard
    chat: Chat | None = None  #: None: prompts are plain text
    defaults: Mapping[str, float] = field(default_factory=dict)  #: the model's own sampling options
    where: str = ""  #: what loads the same bytes again: a folder, or a hub name at its commit
    skills: tuple[str, ...] = ()  #: methods it was trained for, as its card says

    def encode(self, text: str) -> tuple[int, ...]:
        """Return token ids; no special token is added, one that is spelt out is read as such."""
        if self.bos and text.startswith(self.bos):  # the rest as if alone: what training had
            return (self.tokenizer.bos_token_id, *self.encode(text[len(self.bos) :]))
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    @cached_property
    def bos(self) -> str:
        """Return what plain text began with in training; "" where nothing, or a template tells."""
        begins = self.chat is None and self.tokenizer.bos_token_id in self.tokenizer.encode("")
        return self.tokenizer.bos_token if begins else ""

    def render(self, prompt: str) -> str:
        """Return a prompt as the model is given it: a conversation up to its turn, or plain text.

        Errors: ValueError where the template refuses, as some do a system prompt, or is lacking.
        """
        turns = turns_of(prompt)
        if self.chat is None:
            if len(turns) > 1:
                raise ValueError(
                    f"{self.card.name} is given plain text: problems of several messages need a "
                    "model with a chat template"
                )
            return self.bos + prompt
        from jinja2.exceptions import TemplateError

        messages = with_system(self.chat.system, turns)
        chosen = {} if self.chat.thinking is None else {"enable_thinking": self.chat.thinking}
        try:
            return self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **chosen
            )
        except TemplateError as error:
            raise ValueError(f"the chat template of {self.card.name} refuses: {error}") from error

    @cached_property
    def opens_thinking(self) -> bool:
        """Return whether the template itself opens the thinking that a completion then ends."""
        return self.chat is not None and opens_thinking(self.render(""))

    @cached_property
    def special_ids(self) -> dict[int, bool]:
        """Return the ids of special tokens, each with whether it marks thinking."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return {i: is_marker(token.content) for i, token in added.items() if token.special}

    def decode(self, tokens) -> str:
        """Return text without special tokens, other than those that mark thinking."""
        ids, special = list(tokens), self.special_ids
        if not any(special.get(i) for i in ids):
            return self.tokenizer.decode(ids, skip_special_tokens=True)
        kept = [i for i in ids if special.get(i, True)]
        return self.tokenizer.decode(kept, skip_special_tokens=False)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Token ids that end a completion: those of the generation config, and the tokenizer's."""
        eos = self.model.generation_config.eos_token_id if self.model else None
        found = [*(eos if isinstance(eos, list) else [eos]), self.tokenizer.eos_token_id]
        return tuple(dict.fromkeys(i for i in found if i is not None))


def character_tokenizer():
    """Return a tokenizer with one token per character: <pad> 0, <eos> 1, then `ALPHABET`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def tiny_config(hidden: int, layers: int, context: int = 512):
    """Return a Llama-style config of the ladder: heads of 32, gated MLP of 8/3, tied embeddings."""
    from transformers import LlamaConfig

    heads = hidden // HEAD_DIM
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_DIM,
        intermediate_size=-(-hidden * 8 // 3 // 32) * 32,
        vocab_size=-(-(len(ALPHABET) + 3) // 32) * 32,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )


def make_card(model, name: str, train_flops: float = math.nan, train_tokens: int = 0) -> ModelCard:
    """Return the card of a model in memory."""
    shape = Shape.from_config(model.config)
    return _card(shape, name, train_flops, train_tokens, weights_hash(model))


def _card(shape: Shape, name: str, flops: float, tokens: int, identity: str) -> ModelCard:
    groups = parameters(shape)
    total = sum(groups.values())
    return ModelCard(
        name=name,
        n_params=total,
        n_params_no_embedding=total - groups["embedding"] - groups["head"],
        train_flops=flops,
        train_tokens=tokens,
        shape=asdict(shape),
        identity=identity,
    )


def weights_hash(model) -> str:
    """Return a hash of all weights by name, in bfloat16-exact form, independent of file layout."""
    digest = blake2b(digest_size=12)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def save_lm(lm: LM, folder: Path, **notes: Any) -> None:
    """Write weights (bfloat16 safetensors), tokenizer and card; `notes` go into the card's file.

    The card's identity is that of the rounded weights, which are what anybody will load.
    """
    import torch

    quiet()
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).exists():
        raise ValueError(f"{folder} holds files but no {CARD}: give an empty folder for the model")
    folder.mkdir(parents=True, exist_ok=True)
    model = lm.model.to(torch.bfloat16)
    with writing(folder):
        model.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)
    card = asdict(lm.card) | {"identity": weights_hash(model)} | notes
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make an OSError of what a write below raises: libraries in Rust have errors of their own."""
    try:
        yield
    except Exception as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def quiet() -> None:
    """Turn off transformers' bars for loading and saving: ours show the progress that matters."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def load_lm(
    where: str | Path,
    *,
    weights: bool = True,
    dtype: str | None = None,
    device_map: str | None = None,
    quantize: str | None = None,
    remote_code: bool = False,
    chat: bool | None = None,
    system: str = "",
    thinking: bool | None = None,
    train_tokens: float | None = None,
    identify: bool = True,
) -> LM:
    """Return the LM of a folder, of a GGUF file or of a hub name, "org/name@revision".

    weights=False leaves them out (who only plans or collects needs the rest), identify=False also
    leaves out the hash of the weights, which reads all their bytes; dtype, device_map
    ("auto": over all GPUs) and quantize ("8bit", "4bit") are what `transformers` makes of them;
    remote_code lets this one model run Python files of its own. chat: wrap prompts by the chat
    template (None: where there is one); system, thinking: see `Chat`. train_tokens: trained on,
    where neither a card nor `known` tells. Errors: ValueError, one line.
    """
    if is_endpoint(where):
        raise ValueError(f"{where} is a server: it holds the weights, and is sampled from there")
    files = locate(where, weights, remote_code)
    header = gguf_file.read_header(files.gguf) if files.gguf else None
    if header:
        files = files._replace(name=header.title, also=header.names)
        if quantize:
            raise ValueError(f"{files.name} is quantised already; leave out --quantize")
    elif not any(list(files.folder.glob(pattern)) for pattern in TOKENIZERS):
        raise ValueError(f"{files.title} holds no tokenizer.json; save its tokenizer there too")
    quiet()
    chosen = {"local_files_only": True, "trust_remote_code": remote_code}
    placed = {"dtype": dtype, "device_map": device_map}
    with readable(files):
        from transformers import AutoConfig, AutoTokenizer

        if header:
            config, tokenizer = gguf_file.configuration(header), gguf_file.tokenizer_of(header)
            model = gguf_file.model_of(header, **placed) if weights else None
        else:
            config = AutoConfig.from_pretrained(files.folder, **chosen)
            tokenizer = AutoTokenizer.from_pretrained(files.folder, **chosen)
            placed |= chosen | _quantization(quantize)
            model = _weights(files, **placed) if weights else None
    talk = _chat(tokenizer, files.title, chat, system, thinking)
    card = _read_card(files, config, train_tokens, identify)
    if quantize:
        card = replace(card, identity=f"{card.identity}+{quantize}")
    if talk:
        told = json.dumps([tokenizer.chat_template, asdict(talk)], sort_keys=True).encode()
        card = replace(card, identity=f"{card.identity}+chat:{_hash(told)}")
    defaults = header.defaults if header else _defaults(files.folder)
    skills = () if header else _skills(files.folder)
    return LM(model, tokenizer, card, talk, defaults, files.exact, skills)


@contextmanager
def readable(files: Files) -> Iterator[None]:
    """Turn what `transformers` says of a model that it cannot read into one line."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{files.title} needs a package that is not there: {reason}") from error
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        SafetensorError,
        StrictDataclassError,
    ) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        hint = "; if you trust it, --remote-code" if "trust_remote_code" in str(error) else ""
        raise ValueError(f"{files.title} holds no readable model: {reason}{hint}") from error


def _weights(files: Files, **options: Any) -> Any:
    """Return the model; options that are None are left to `transformers`."""
    from transformers import AutoModelForCausalLM

    given = {name: value for name, value in options.items() if value is not None}
    return AutoModelForCausalLM.from_pretrained(files.folder, use_safetensors=True, **given)


def _quantization(bits: str | None) -> dict[str, Any]:
    """Return the option that quantises weights while loading; none where bits is None."""
    from transformers import BitsAndBytesConfig

    if bits is None:
        return {}
    if bits not in BITS:
        raise ValueError(f"quantize is {bits!r}; allowed: {', '.join(BITS)}")
    return {"quantization_config": BitsAndBytesConfig(**{BITS[bits]: True})}


def _chat(
    tokenizer: Any, name: str, chat: bool | None, system: str, thinking: bool | None
) -> Chat | None:
    """Return how prompts are wrapped; ValueError where the model knows no conversation."""
    if chat is None:
        chat = bool(tokenizer.chat_template)
    if chat and not tokenizer.chat_template:
        raise ValueError(f"{name} has no chat template; sample it with --no-chat, as a base model")
    if not chat and (system or thinking is not None):
        raise ValueError(f"{name} is given plain text: a system prompt or thinking needs --chat")
    return Chat(system, thinking) if chat else None


def _defaults(folder: Path) -> dict[str, float]:
    """Return the sampling options that a model's makers suggest; {} where they suggest none."""
    path = folder / "generation_config.json"
    suggested = read_json(path) if path.exists() else {}
    return {name: suggested[name] for name in DEFAULTS if suggested.get(name) is not None}


def _skills(folder: Path) -> tuple[str, ...]:
    """Return the methods a card says its model was trained for; the ladder's recipe has drafts."""
    notes = read_json(folder / CARD) if (folder / CARD).exists() else {}
    return tuple(notes.get("skills", ("revision",) if "mixture" in notes else ()))


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file beside a model's weights holds; ValueError that names it if cut."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy the model again") from error


def read_card(path: Path) -> ModelCard:
    """Return the card in a file that the kit wrote beside a model's weights."""
    names = {f.name for f in fields(ModelCard)}
    try:
        return ModelCard(**{k: v for k, v in read_json(path).items() if k in names})
    except (OSError, TypeError) as error:
        raise ValueError(f"{path} is no model card: {error}; give a card.json") from error


def _read_card(
    files: Files, config: Any, train_tokens: float | None, identify: bool = True
) -> ModelCard:
    """Return the card in the folder; where there is none, what files and table say."""
    if not files.gguf and (files.folder / CARD).exists():
        return read_card(files.folder / CARD)
    shape = Shape.from_config(config)
    rows = [row for name in (files.name, *files.also) if name and (row := known.look_up(name))]
    size = sum(parameters(shape).values())
    row = next((row for row in rows if row.n_params == size), None)  # another: named like it only
    tokens = train_tokens or (row.tokens_at(files.revision) if row else math.nan)
    context = row.train_context if row else 1  # unknown: attention is left out of the cost
    flops = float(train_flops(shape, tokens, (context + 1) / 2))
    stored = [files.gguf] if files.gguf else sorted(files.folder.glob("*.safetensors"))
    identity = files.commit or (_files_hash(stored) if identify else "")
    return _card(shape, files.title, flops, 0 if math.isnan(tokens) else int(tokens), identity)


def _files_hash(paths: list[Path]) -> str:
    """Return a hash of files of weights, read as bytes."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(file_digest(file, "blake2b").hexdigest())
    return _hash("".join(digests).encode())


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()


def find_models(root: str | Path) -> list[Path]:
    """Return every model folder with a card under `root`: smallest first, then least trained."""
    cards = [(read_json(path), path.parent) for path in Path(root).rglob(CARD)]
    cards.sort(key=lambda item: (item[0]["n_params"], item[0]["train_flops"]))
    if not cards:
        raise ValueError(f"no model with a {CARD} under {root}; `make train` makes the ladder")
    return [folder for _, folder in cards]

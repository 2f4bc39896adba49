"""Load a language model: weights, tokenizer and card.

`load_lm` takes a folder, a GGUF file (`gguf_file`) or a hub name with a revision (`hub`). A server
is not a model in memory; `serving.connect` opens it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scaling.markers import is_marker, opens_thinking
from scaling.models import gguf_file
from scaling.models.cards import CARD, card_of, hash_of, quiet, read_json, skills_of
from scaling.models.hub import Files, is_endpoint, locate
from scaling.records import ModelCard, turns_of, with_system

TOKENIZERS = ("*token*", "*vocab*", "*.model")  #: what files of a tokenizer are called
BITS = {"8bit": "load_in_8bit", "4bit": "load_in_4bit"}  #: quantize -> bitsandbytes' option
DEFAULTS = ("temperature", "top_k", "top_p", "min_p")  #: what a model may suggest of a Plan


@dataclass(frozen=True)
class Chat:
    """How a prompt becomes a conversation, by the tokenizer's template."""

    system: str = ""  #: system prompt; "" has none
    thinking: bool | None = None  #: templates' `enable_thinking`; None leaves it to them


@dataclass(frozen=True)
class LM:
    """A language model: weights, tokenizer and card."""

    model: Any  #: transformers.PreTrainedModel; None where only the rest was asked for
    tokenizer: Any  #: transformers.PreTrainedTokenizerBase
    card: ModelCard
    chat: Chat | None = None  #: None: prompts are plain text
    defaults: Mapping[str, float] = field(default_factory=dict)  #: the model's own sampling options
    where: str = ""  #: name that loads the same bytes again: a folder, or a hub name at its commit
    skills: tuple[str, ...] = ()  #: methods it was trained for, as its card says

    def encode(self, text: str) -> tuple[int, ...]:
        """Return token ids; special tokens that are written out count, none is added."""
        if self.bos and text.startswith(self.bos):  # the rest as if alone: what training had
            return (self.tokenizer.bos_token_id, *self.encode(text[len(self.bos) :]))
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    @cached_property
    def bos(self) -> str:
        """Return the token that began plain text in training; "" if none, or with a template."""
        begins = self.chat is None and self.tokenizer.bos_token_id in self.tokenizer.encode("")
        return self.tokenizer.bos_token if begins else ""

    def render(self, prompt: str) -> str:
        """Return a prompt as the model receives it: a conversation up to its turn, or plain text.

        Errors: ValueError if there is no template, or it refuses, as some do a system prompt.
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
        """Return {id of a special token: whether it marks thinking}."""
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
    """Return the language model in a folder or GGUF file, or of a hub name, "org/name@revision".

    weights=False leaves the weights out, which is enough to plan or collect; identify=False also
    leaves out their hash, which reads all their bytes. dtype, device_map ("auto": over all GPUs)
    and quantize ("8bit", "4bit") are options of `transformers`; remote_code lets this model run
    Python files of its own. chat: use the chat template (None: if there is one); system, thinking:
    see `Chat`. train_tokens: number of training tokens, if neither a card nor `known` has it.
    Errors: ValueError, one line.
    """
    if is_endpoint(where):
        raise ValueError(f"{where} is a server: it holds the weights, and is sampled from there")
    files = locate(where, weights, remote_code)
    header = gguf_file.read_header(files.gguf) if files.gguf else None
    if header:
        files = files._replace(name=header.title, also=header.names)
        if quantize:
            raise ValueError(f"{files.name} is quantised already; leave out quantize=")
    elif not any(list(files.folder.glob(pattern)) for pattern in TOKENIZERS):
        raise ValueError(f"{files.title} holds no tokenizer.json; save its tokenizer there too")
    quiet()
    chosen = {"local_files_only": True, "trust_remote_code": remote_code}
    options = {"dtype": dtype, "device_map": device_map}
    with readable(files):
        from transformers import AutoConfig, AutoTokenizer

        if header:
            config, tokenizer = gguf_file.configuration(header), gguf_file.tokenizer_of(header)
            model = gguf_file.model_of(header, **options) if weights else None
        else:
            config = AutoConfig.from_pretrained(files.folder, **chosen)
            tokenizer = AutoTokenizer.from_pretrained(files.folder, **chosen)
            options |= chosen | _quantization(quantize)
            model = _weights(files, **options) if weights else None
    talk = _chat(tokenizer, files.title, chat, system, thinking)
    card = card_of(files, config, train_tokens, identify)
    if quantize:
        card = replace(card, identity=f"{card.identity}+{quantize}")
    if talk:
        settings = json.dumps([tokenizer.chat_template, asdict(talk)], sort_keys=True).encode()
        card = replace(card, identity=f"{card.identity}+chat:{hash_of(settings)}")
    defaults = header.defaults if header else _defaults(files.folder)
    skills = () if header else skills_of(files.folder)
    return LM(model, tokenizer, card, talk, defaults, files.exact, skills)


@contextmanager
def readable(files: Files) -> Iterator[None]:
    """Turn the errors of `transformers` about an unreadable model into one line."""
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
        hint = "; if you trust it, remote_code=True" if "trust_remote_code" in str(error) else ""
        raise ValueError(f"{files.title} holds no readable model: {reason}{hint}") from error


def _weights(files: Files, **options: Any) -> Any:
    """Return the model; options that are None are left to `transformers`."""
    from transformers import AutoModelForCausalLM

    given = {name: value for name, value in options.items() if value is not None}
    return AutoModelForCausalLM.from_pretrained(files.folder, use_safetensors=True, **given)


def _quantization(bits: str | None) -> dict[str, Any]:
    """Return the option that quantises weights while loading; {} if bits is None."""
    from transformers import BitsAndBytesConfig

    if bits is None:
        return {}
    if bits not in BITS:
        raise ValueError(f"quantize is {bits!r}; allowed: {', '.join(BITS)}")
    return {"quantization_config": BitsAndBytesConfig(**{BITS[bits]: True})}


def _chat(
    tokenizer: Any, name: str, chat: bool | None, system: str, thinking: bool | None
) -> Chat | None:
    """Return how prompts are wrapped; ValueError if the model has no chat template for it."""
    if chat is None:
        chat = bool(tokenizer.chat_template)
    if chat and not tokenizer.chat_template:
        raise ValueError(f"{name} has no chat template; sample it with chat=False, as a base model")
    if not chat and (system or thinking is not None):
        raise ValueError(f"{name} is given plain text: a system prompt or thinking needs chat=True")
    return Chat(system, thinking) if chat else None


def _defaults(folder: Path) -> dict[str, float]:
    """Return the sampling options that a model's makers suggest; {} if none."""
    path = folder / "generation_config.json"
    suggested = read_json(path) if path.exists() else {}
    return {name: suggested[name] for name in DEFAULTS if suggested.get(name) is not None}


def find_models(root: str | Path) -> list[Path]:
    """Return every model folder with a card under `root`: smallest first, then least trained."""
    cards = [(read_json(path), path.parent) for path in Path(root).rglob(CARD)]
    cards.sort(key=lambda item: (item[0]["n_params"], item[0]["train_flops"]))
    if not cards:
        raise ValueError(f"no model with a {CARD} under {root}; `make train` makes the ladder")
    return [folder for _, folder in cards]

"""The table of markers by which model families delimit their thinking in text.

A marker may be plain text or a special token of the tokenizer, and the chat template may have
written the opening marker already. Not here: budgets of thinking (`methods.thinking`).
"""

from __future__ import annotations

import re

NAME = r"(?:think(?:ing|_fast|_faster)?|thoughts?|reasoning)"
MARKERS = (  #: (opens thinking, ends it), case ignored
    # <think>: DeepSeek-R1, Qwen3, GLM; <thought>: EXAONE Deep; <seed:think>: ByteDance Seed
    (rf"<(?:\w+:)?{NAME}>", rf"</(?:\w+:)?{NAME}>"),
    (r"(?-i:\[THINK\])", r"(?-i:\[/THINK\])"),  # Mistral's Magistral; "[Think]" may be a heading
    (rf"◁{NAME}▷", rf"◁/{NAME}▷"),  # Kimi
    # <|begin_of_thought|>: OpenThinker; <|START_THINKING|>: Cohere; <|thinking|> and the like
    (
        rf"<\|(?:(?:begin|start)_(?:of_)?)?{NAME}(?:_start|_begin)?\|>",
        rf"<\|(?:/|end_(?:of_)?){NAME}\|>|<\|{NAME}_end\|>",
    ),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<unused94>thought", r"<unused95>"),  # MedGemma
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma 4
    (r"<\|channel\|>(?:analysis|commentary)", r"<\|channel\|>final"),  # gpt-oss
    (r"\A(?-i:analysis(?=[A-Z]))", r"(?-i:assistantfinal)"),  # the same, special tokens removed
)
OPENS = "|".join(opens for opens, _ in MARKERS)
MARK = re.compile(
    rf"(?P<opens>{OPENS})|(?P<ends>{'|'.join(ends for _, ends in MARKERS)})", re.IGNORECASE
)
AT_END = re.compile(rf"(?:{OPENS})(?:<\|message\|>)?\s*\Z", re.IGNORECASE)
CONTROL = ("<|channel|>", "<|message|>", "<|channel>", "<channel|>", "<unused94>", "<unused95>")
FINAL_CHANNEL = ("<|channel|>final", "assistantfinal")  #: begin answers without thinking too
WRAPPING = re.compile(  #: marks around the answer after the thinking
    r"\A\s*(?:<\|constrain\|>)?\w*\s*<\|message\|>|(?:<\|(?:return|end|call)\|>\s*)+\Z"
    r"|<\|/?(?:START_|END_|begin_of_|end_of_)(?:RESPONSE|solution)\|>|</?response>",
    re.IGNORECASE,
)


def is_thinking(text: str, opened: bool = False) -> bool:
    """Return whether a text ends inside its thinking.

    opened: the prompt had opened the thinking already, as some templates do.
    """
    marks = list(MARK.finditer(text))
    return bool(marks[-1]["opens"]) if marks else opened


def split_thinking(text: str, opened: bool = False) -> tuple[str, str]:
    """Return (thinking, answer) of a completion; thinking that never ended leaves no answer.

    opened: as in `is_thinking`.
    """
    ends = [mark for mark in MARK.finditer(text) if mark["ends"]]
    if is_thinking(text, opened):
        thinking, answer = text, ""
    elif ends:
        thinking, answer = text[: ends[-1].start()], text[ends[-1].end() :]
    else:
        return "", text
    begun = MARK.match(thinking := thinking.strip())
    return thinking[begun.end() if begun else 0 :].strip(), WRAPPING.sub("", answer).strip()


def opens_thinking(prompt: str) -> bool:
    """Return whether a prompt ends by opening thinking, so that a completion begins inside it."""
    return bool(AT_END.search(prompt[-200:]))


def ends_unopened(text: str) -> bool:
    """Return whether a text ends thinking that it did not open, so that its prompt did."""
    first = MARK.search(text)
    return bool(first and first["ends"] and first[0].lower() not in FINAL_CHANNEL)


def count_ends(text: str) -> int:
    """Return how many times a text ends its thinking."""
    return sum(bool(mark["ends"]) for mark in MARK.finditer(text))


def is_marker(token: str) -> bool:
    """Return whether a special token belongs to a marker, and must stay in the text."""
    return token in CONTROL or bool(MARK.fullmatch(token))

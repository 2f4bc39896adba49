"""Thinking is stripped before an answer is graded, however a family of models marks it."""

from __future__ import annotations

import pytest

from scaling.markers import ends_unopened, is_thinking, opens_thinking, split_thinking
from scaling.models import LM
from scaling.records import Completion, ModelCard, Problem, Verdict
from scaling.tasks.chat import ChatTask
from tests.test_families import tokenizer

FAMILIES = [  #: as real chat templates and their models write them
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>\n", "\n</thought>\n\n"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<think_fast>", "</think_fast>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<|thought_start|>", "<|thought_end|>"),
    ("<|begin_of_thought|>\n\n", "\n\n<|end_of_thought|>\n\n"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|channel>thought\n", "<channel|>"),
    (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    (
        "<|channel|>commentary<|message|>",
        "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>",
    ),
    ("analysis", "assistantfinal"),  # the same, special tokens removed by the server
]
IDS = [opens.strip() for opens, _ in FAMILIES]


@pytest.mark.parametrize(("opens", "ends"), FAMILIES, ids=IDS)
def test_thinking_is_cut_off_and_what_never_ends_it_has_no_answer(opens, ends):
    assert split_thinking(f"{opens}It may be 5.{ends}It is 6.")[1] == "It is 6."
    assert split_thinking(f"\n{opens}5{ends}7{opens}8{ends} 6 ")[1] == "6"
    cuts = [f"{opens}It may be 5", f"{opens}5{ends}6{opens}It may be 5"]
    for cut in cuts[: 1 if opens == "analysis" else 2]:
        assert is_thinking(cut)
        assert split_thinking(cut)[1] == ""


@pytest.mark.parametrize(("opens", "ends"), FAMILIES, ids=IDS)
def test_a_prompt_that_opens_thinking_is_seen(opens, ends):
    if opens != "analysis":
        assert opens_thinking(f"<|user|>2+3?<|assistant|>\n{opens}\n")
    assert not opens_thinking(f"{opens}\n\n{ends}\n\n")
    assert not opens_thinking(f"What does {opens} do?")


@pytest.mark.parametrize(("opens", "ends"), FAMILIES, ids=IDS)
def test_only_an_end_without_a_beginning_shows_that_the_prompt_opened_the_thinking(opens, ends):
    final = "final" in ends  # of channels: an answer may come without thinking
    assert ends_unopened(f"5?{ends}6") == (not final)
    assert not ends_unopened(f"{opens}5{ends}6")
    assert not ends_unopened("5")


@pytest.mark.parametrize(
    "text",
    [
        "I think 5.",
        "analysis: 5",
        "[Think] 5",
        "<thin>5",
        "[Reasoning]\n2+3 = 5",
        "a < thought > 5",
    ],
)
def test_plain_text_is_no_thinking(text):
    assert split_thinking(text) == ("", text)
    assert not ends_unopened(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<|channel|>final<|message|>6<|return|>", "6"),
        ("<think></think><response>6</response>", "6"),
        ("<|START_THINKING|>5<|END_THINKING|><|START_RESPONSE|>6<|END_RESPONSE|>", "6"),
        ("<|end_of_thought|><|begin_of_solution|>6<|end_of_solution|>", "6"),
    ],
)
def test_what_encloses_the_answer_goes_with_the_thinking(text, answer):
    assert split_thinking(text)[1] == answer


class Last:
    name = "last"

    def prompt(self, problem):
        return problem.prompt

    def verify(self, problem, text):
        return Verdict(text[-1:] or None, text.endswith(problem.answer))


def model(opens: str, ends: str, special: bool, template: str = "") -> LM:
    """Return a model whose tokenizer has the markers as added tokens, special ones or not."""
    from tokenizers import AddedToken

    made = tokenizer(template or None)
    tokens = [AddedToken(t, special=special, normalized=False) for t in (opens, ends)]
    made.add_tokens(tokens, special_tokens=special)
    from scaling.models import Chat

    return LM(None, made, ModelCard("m", 1, 1, 1.0, 1), Chat() if template else None)


TAGS = [(opens, ends.removesuffix("<|START_RESPONSE|>")) for opens, ends in FAMILIES[:-3]]
PAIRS = [pair for pair in TAGS if pair[0].strip() == pair[0]]
TEMPLATE = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("opens", "ends"), PAIRS)
def test_markers_that_are_special_tokens_stay_in_the_text(opens, ends, special):
    """A tokenizer with </think> as a special token lost it: everything was one answer."""
    lm, problem = model(opens, ends, special), Problem("1", "2+3?", "5", "all")
    task = ChatTask(Last(), lm)
    for text, answer in ((f"{opens}7{ends}<|im_end|>5", "5"), (f"{opens}7 5", None)):
        ids = lm.encode(text)
        done = Completion(ids, 0.0, 0.0, "stop", 1, 0, len(ids), 0.0)
        written = lm.decode(ids)
        assert "<|im_end|>" not in written
        assert task.verify(problem, written).answer == answer
        thought = len(lm.encode(f"{opens}7{ends}")) if answer else len(ids)
        assert task.thinking_tokens(problem, written, done) == thought


@pytest.mark.parametrize("final", ["final", "final <|constrain|>json"])
def test_the_channels_of_gpt_oss_are_distinguished_although_their_tokens_are_special(final):
    names = ("start", "end", "message", "channel", "constrain", "return")
    lm, problem = model("<a>", "<b>", False), Problem("1", "2+3?", "5", "all")
    control = [f"<|{name}|>" for name in names]
    lm.tokenizer.add_special_tokens({"additional_special_tokens": control})
    task = ChatTask(Last(), lm)
    thought = "<|channel|>analysis<|message|>Is it 7?<|end|><|start|>assistant"
    for text, answer in ((f"{thought}<|channel|>{final}<|message|>5", "5"), (thought, None)):
        written = lm.decode(lm.encode(text))
        assert task.verify(problem, written).answer == answer
        assert "<|start|>" not in written


def test_text_without_markers_is_decoded_as_before():
    lm = model("<think>", "</think>", True)
    ids = lm.encode("<s>the answer is 57<|im_end|>")
    assert lm.decode(ids) == lm.tokenizer.decode(list(ids), skip_special_tokens=True)


@pytest.mark.parametrize("opens", [opens for opens, _ in PAIRS])
def test_a_template_that_opens_the_thinking_leaves_a_cut_text_without_answer(opens):
    generation = "{% if add_generation_prompt %}" + opens + "\n{% endif %}"
    problem = Problem("1", "2+3?", "5", "all")
    for template, answer in ((TEMPLATE + generation, None), (TEMPLATE, "5")):
        lm = model("<a>", "<b>", False, template)
        assert lm.opens_thinking == (answer is None)
        assert ChatTask(Last(), lm).verify(problem, "It may be 5").answer == answer


def test_a_prompt_file_may_open_the_thinking_of_a_base_model():
    lm = model("<think>", "</think>", False)
    for prompt, answer in (("2+3? <think>\n", None), ("2+3?", "5")):
        problem = Problem("1", prompt, "5", "all")
        assert ChatTask(Last(), lm).verify(problem, "It may be 5").answer == answer

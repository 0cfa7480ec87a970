"""Cleaning: what a chat format leaves on an answer goes, and nothing else does."""

from random import Random

import pytest

from tasks.cleaning import clean_text

SPECIAL_TOKENS = """
    <s> </s> <bos> <eos> <pad> <unk> <image> <start_of_turn> <end_of_turn> <start_of_image>
    <end_of_image> <image_soft_token> <fake_token_around_image> <end_of_utterance>
    <|endoftext|> <|startoftext|> <|im_start|> <|im_end|> <|end|> <|pad|> <|system|> <|user|>
    <|assistant|> <|image|> <|image_pad|> <|video_pad|> <|vision_start|> <|vision_end|>
    <|vision_pad|> <|begin_of_image|> <|end_of_image|> <|begin_of_text|> <|end_of_text|>
    <|eot_id|> <|eom_id|> <|eot|> <|start_header_id|> <|end_header_id|>
    <|finetune_right_pad_id|>
    <\uff5cbegin\u2581of\u2581sentence\uff5c> <\uff5cend\u2581of\u2581sentence\uff5c>
"""

PLAIN = [
    "",
    "A cat, on the Mat!",
    "<5 mg>",
    "a < b > c",
    "x<y, y>z",
    "<b>bold</b> and <br/> and <sup>2</sup>",
    "<html><body>no</body></html>",
    "<person> <EOS> <eos <end>",
    "<loc0123><loc0004><loc1023><loc0500> cat ; <loc0001><loc0002><loc0003><loc0004> dog",
    "<loc0123><seg012><seg127>",
    "<|box_start|>(12,3),(40,50)<|box_end|>",
    "assistant",
    "Assistant",
    "model",
    "Model: X200",
    "model T",
    "Assistant manager",
    "assistants: two",
    "the assistant: a robot",
    "An Assistant",
    "user: admin",
    "press [/INST] twice",
    "[INST]",
    "고양이 두 마리",
    "Straße, Größe & Ähnliches",
    "|im_end|",
    "3 > 2 |> pipe",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_stays_what_it_is(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize("token", SPECIAL_TOKENS.split())
def test_a_special_token_goes_wherever_it_stands(token: str) -> None:
    assert clean_text(f"{token}a cat{token}") == "a cat"
    assert clean_text(f"{token}{token} a cat {token}\n{token}") == "a cat"
    assert clean_text(f"a{token}cat") == "a cat"
    assert clean_text(token) == ""


@pytest.mark.parametrize(
    "tag",
    [
        "assistant:",
        "ASSISTANT: ",
        "Assistant:\n",
        "Assistant\n",
        "assistant\r\n\r\n",
        "assistant \n",
        "<|im_start|>assistant\n",
        "<|im_start|> assistant ",
        "<start_of_turn>model\n",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|assistant|>\n",
        "[/INST]",
        " [/INST] ",
        "</s>\nASSISTANT: ",
        "<bos><start_of_turn>model\n",
        "<|im_end|>\n<|im_start|>assistant: ",
        "Assistant: assistant\n",
    ],
)
def test_a_role_tag_before_the_answer_goes(tag: str) -> None:
    assert clean_text(f"{tag}A cat.") == "A cat."


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("assistant\n", "assistant"),
        ("Assistant\n<eos><pad>\n", "Assistant"),
        ("ASSISTANT: assistant", "assistant"),
        ("assistant\nassistant", "assistant"),
        ("<start_of_turn>model\nmodel\n<end_of_turn>", "model"),
        ("<|im_start|>assistants", "assistants"),
        ("assistant\nmanager", "manager"),
    ],
)
def test_a_role_name_that_is_the_answer_stays(raw: str, cleaned: str) -> None:
    assert clean_text(raw) == cleaned


@pytest.mark.parametrize("tag", ["assistant:", "ASSISTANT:", "[/INST]"])
def test_a_role_tag_inside_the_answer_stays(tag: str) -> None:
    assert clean_text(f"a cat\n{tag} yes") == f"a cat {tag} yes"


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t", "\v", "\u00a0", "\u3000", " \n\n "])
def test_runs_of_white_space_become_one_space_and_the_outer_ones_go(space: str) -> None:
    assert clean_text(f"{space}A{space}{space}cat.{space}") == "A cat."


def test_dropping_a_token_does_not_make_another_one() -> None:
    assert clean_text("a <e<eos>os> b") == "a <e os> b"
    assert clean_text("assis<pad>tant: yes") == "assis tant: yes"


def test_cleaning_twice_is_cleaning_once() -> None:
    random = Random(0)
    pieces = [
        *("assistant", "Assistant", "model", ":", "\n", "\r\n", " ", "\t", "[/INST]", "cat", "s"),
        *("<eos>", "<s>", "<|im_start|>", "<start_of_turn>", "<|start_header_id|>", "<|im_end|>"),
        *("<", ">", "<e", "os>", "<|", "|>", "[/IN", "ST]", "assis", "tant:", "<loc0001>"),
    ]
    changed = 0
    for _ in range(20_000):
        raw = "".join(random.choices(pieces, k=random.randint(1, 7)))
        cleaned = clean_text(raw)
        assert clean_text(cleaned) == cleaned, raw
        changed += cleaned != raw.strip()
    assert changed > 5_000

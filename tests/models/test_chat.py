"""Conversations in a checkpoint's layout: what is learned, odd tokenizers, kinds of content."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from models.base import Family
from models.encoding import IMAGE_PLACEHOLDER, Message
from tests.models.talk import (
    PARTS,
    QUESTION,
    TALK,
    TEXT,
    learned,
    make_family,
    make_tokenizer,
    text_of,
)

# --- what is learned


def test_every_answer_and_the_token_that_ends_it_are_learned(tmp_path: Path) -> None:
    family = make_family(tmp_path)
    assert text_of(family, TALK) == (
        "[user]<image> what is it? [assistant] a red circle<eos>"
        "[user] and the other? [assistant] it is blue<eos>"
    )
    assert learned(family, TALK) == " a red circle<eos> it is blue<eos>"


def test_a_question_is_asked_with_the_tokens_that_its_answer_was_learned_behind(
    tmp_path: Path,
) -> None:
    family = make_family(tmp_path)
    for end in (1, 3):
        asked, is_target = family.tokenize(TALK[:end])
        assert family.tokenize(TALK)[0][: len(asked)] == asked
        assert not is_target[-1]


def test_the_turn_of_the_system_is_laid_out_and_not_learned(tmp_path: Path) -> None:
    family = make_family(tmp_path)
    messages: list[Message] = [("system", "be brief"), *TALK[:2]]
    assert text_of(family, messages).startswith("[system] be brief [user]<image> what is it?")
    assert learned(family, messages) == " a red circle<eos>"


@pytest.mark.parametrize("starts_with_space", [False, True])
def test_a_token_does_not_join_the_question_with_the_answer(
    tmp_path: Path, starts_with_space: bool
) -> None:
    template = PARTS.replace("'[' + message.role + ']'", "message.role").replace(
        "'[assistant]'", "'assistant bl'"
    )
    template = template.replace("' ' + part.text", "' bl' + part.text")
    family = make_family(tmp_path, template, make_tokenizer(starts_with_space=starts_with_space))
    blue = family.tokenizer("blue", add_special_tokens=False)["input_ids"]
    asked, _ = family.tokenize([QUESTION])
    ids, _ = family.tokenize([QUESTION, ("assistant", "ue")])
    assert len(blue) == 1  # joined it would be one token
    assert ids[: len(asked)] == asked
    tokens = family.tokenizer.convert_ids_to_tokens(ids[len(asked) :])
    assert "".join(tokens) == "ue<eos>"  # nor does a space come in


def test_what_a_template_writes_before_each_answer_is_learned_with_it(tmp_path: Path) -> None:
    template = PARTS.replace(
        "' ' + part.text", "(': ' if message.role == 'assistant' else ' ') + part.text"
    )
    assert learned(make_family(tmp_path, template), TALK[:2]) == ": a red circle<eos>"


def test_white_space_alone_is_that_of_the_question_asked(tmp_path: Path) -> None:
    template = PARTS.replace("'[assistant]'", "'[assistant]\\n'")
    family = make_family(tmp_path, template)
    assert text_of(family, TALK[:2]).endswith("[assistant]\na red circle<eos>")
    assert learned(family, TALK[:2]) == "a red circle<eos>"


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        ("", "<eos>"),  # none: the tokenizer's own
        ("\\n", "<eos>"),
        (" <turn>\\n", "<turn>"),  # a special token that has no role
        ("<image>", "<eos>"),  # the image of the next turn ends nothing
        ("<bos>", "<eos>"),
    ],
)
def test_an_answer_ends_in_the_templates_token_or_the_tokenizers(
    tmp_path: Path, behind: str, expected: str
) -> None:
    template = PARTS.replace("'<eos>'", f"'{behind}'")
    family = make_family(tmp_path, template, make_tokenizer(extra=["<turn>"]))
    if behind == "<image>":
        family.layout._takes_parts = True  # it writes two places, which is refused later
        assert family.layout.end == expected
        return
    assert learned(family, TALK) == f" a red circle{expected} it is blue{expected}"
    assert family.end_ids[0] == family.tokenizer.convert_tokens_to_ids(expected)
    assert family.tokenizer.eos_token_id in family.end_ids


def test_the_layout_is_no_part_of_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = make_family(
        tmp_path, PARTS.replace("<eos>", "<turn>"), make_tokenizer(extra=["<turn>"])
    )
    monkeypatch.setattr(Family, "texts", lambda *_: [" red<turn>", "blue ", "\ngreen"])
    assert family.texts(torch.empty(3, 0)) == ["red", "blue", "green"]


def test_tokens_of_the_layout_are_counted_without_the_image(tmp_path: Path) -> None:
    family = make_family(tmp_path)
    # of "[user]<image>  [assistant]": each letter of a word that is none of its own counts
    text = family.tokenizer("[user]", add_special_tokens=False)["input_ids"]
    text += family.tokenizer("  [assistant]", add_special_tokens=False)["input_ids"]
    assert family.num_layout_tokens == len(text)


# --- special tokens


def test_the_image_s_token_in_a_text_is_spelled_out_though_it_is_not_called_special(
    tmp_path: Path,
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<photo>"])  # an added word, which the tokenizer finds in any text
    photo = tokenizer.convert_tokens_to_ids("<photo>")
    assert "<photo>" not in tokenizer.all_special_tokens
    family = make_family(tmp_path, PARTS.replace("<image>", "<photo>"), tokenizer)
    family.config = SimpleNamespace(image_token_id=photo)
    ids, _ = family.tokenize([("user", "what does <photo> mean, <photo><photo>?")])
    assert ids.count(IMAGE_PLACEHOLDER) == 1 and photo not in ids
    assert "what does <photo> mean, <photo><photo>?" in tokenizer.decode(
        [photo if id_ == IMAGE_PLACEHOLDER else id_ for id_ in ids]
    )


@pytest.mark.parametrize("token", ["<eos>", "<image>", "<bos>", "<turn>"])
def test_a_special_token_in_a_text_is_spelled_out(tmp_path: Path, token: str) -> None:
    family = make_family(tmp_path, tokenizer=make_tokenizer(extra=["<turn>"]))
    special = family.tokenizer.convert_tokens_to_ids(token)
    plain, _ = family.tokenize([("user", "a"), ("assistant", "b")])
    messages: list[Message] = [("user", f"a {token}"), ("assistant", f"b {token}")]
    assert family.tokenize(messages)[0].count(special) == plain.count(special)
    assert learned(family, messages) == f" b {token}<eos>"


def test_the_start_token_is_added_where_the_template_does_not_write_it(tmp_path: Path) -> None:
    family = make_family(tmp_path, tokenizer=make_tokenizer(adds_bos=True))
    assert text_of(family, TALK[:2]).startswith("<bos>[user]")


def test_the_start_token_is_not_doubled(tmp_path: Path) -> None:
    template = "{{ bos_token }}" + PARTS
    for adds_bos in (True, False):
        family = make_family(tmp_path, template, make_tokenizer(adds_bos=adds_bos))
        assert family.tokenize(TALK)[0].count(family.tokenizer.bos_token_id) == 1


def test_a_tokenizer_without_a_start_token_gets_none(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.bos_token = None
    assert text_of(make_family(tmp_path, tokenizer=tokenizer), [QUESTION]).startswith("[user]")


# --- tokenizers that begin a text with a space, as Llama's


def test_the_tokens_are_those_of_the_text_as_a_whole(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(starts_with_space=True, adds_bos=True)
    family = make_family(tmp_path, tokenizer=tokenizer)
    ids, _ = family.tokenize(TALK)
    whole = (
        "[user]<image> what is it? [assistant] a red circle<eos>"
        "[user] and the other? [assistant] it is blue<eos>"
    )
    assert [812 if id_ == IMAGE_PLACEHOLDER else id_ for id_ in ids] == tokenizer(whole)[
        "input_ids"
    ]


def test_no_space_comes_into_a_text_with_a_special_token_in_it(tmp_path: Path) -> None:
    family = make_family(tmp_path, tokenizer=make_tokenizer(starts_with_space=True))
    ids, is_target = family.tokenize([("user", "say <eos>"), ("assistant", "<eos>!")])
    tokens = family.tokenizer.convert_ids_to_tokens(
        [id_ for id_, learns in zip(ids, is_target, strict=True) if learns]
    )
    assert "".join(tokens) == "▁<eos>!<eos>"
    question = family.tokenizer.convert_ids_to_tokens(ids[ids.index(IMAGE_PLACEHOLDER) + 1 :])
    # the first space is the tokenizer's own: behind a special token a text begins anew
    assert "".join(question) == "▁▁say▁<eos>▁[assistant]▁<eos>!<eos>"


# --- what kind of content a template takes


def test_a_language_models_template_gets_text_with_the_image_before_it(tmp_path: Path) -> None:
    family = make_family(tmp_path, TEXT)
    assert text_of(family, TALK[:2]) == "[user] <image>\nwhat is it? [assistant] a red circle<eos>"


def test_a_template_that_would_write_the_parts_as_python_does_gets_text(tmp_path: Path) -> None:
    family = make_family(tmp_path, TEXT.replace("+ message.content +", "~ message.content ~"))
    assert text_of(family, [QUESTION]) == "[user] <image>\nwhat is it? [assistant]"


def test_a_template_that_leaves_out_images_among_the_parts_gets_text(tmp_path: Path) -> None:
    template = TEXT.replace(
        "+ message.content +",
        "+ (message.content if message.content is string else message.content[-1].text) +",
    )
    assert "<image>" in text_of(make_family(tmp_path, template), [QUESTION])


def test_generation_tags_change_nothing(tmp_path: Path) -> None:
    tagged = PARTS.replace(
        "{{ '<image>' if part.type == 'image' else ' ' + part.text }}",
        "{% generation %}{{ '<image>' if part.type == 'image' else ' ' + part.text }}"
        "{% endgeneration %}",
    )
    assert "generation %}{{" in tagged
    assert make_family(tmp_path, tagged).tokenize(TALK) == make_family(tmp_path).tokenize(TALK)


TRIMMING = PARTS.replace("part.text }}", "part.text | trim }}")


@pytest.mark.parametrize("text", [" what? ", "what?\n", "\n\n what?", "what?"])
def test_a_text_is_written_as_a_template_that_cuts_white_space_writes_it(
    text: str, tmp_path: Path
) -> None:
    assert TRIMMING != PARTS
    for template in (TRIMMING, PARTS):
        family = make_family(tmp_path, template)
        plain = family.tokenizer.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
        )
        found, _ = family.tokenize([("user", text)])
        ids = [family.image_token_id if id_ == IMAGE_PLACEHOLDER else id_ for id_ in found]
        assert ids == family.tokenizer(plain, add_special_tokens=False)["input_ids"]


def test_an_answer_is_learned_as_such_a_template_writes_it(tmp_path: Path) -> None:
    family = make_family(tmp_path, TRIMMING)
    padded = family.tokenize([("user", " what? "), ("assistant", " red \n")])
    assert padded == family.tokenize([("user", "what?"), ("assistant", "red")])

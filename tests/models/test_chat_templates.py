"""Whose chat template counts, and which are refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.base import Family
from models.blip2 import Blip2
from models.encoding import Message
from models.paligemma import PaliGemma
from models.settings import FamilyOptions
from tests.models.talk import PARTS, QUESTION, TALK, TEXT, make_family, make_tokenizer


def in_folder(folder: Path, *, own: str | None, **files: str) -> None:
    """A tokenizer with a template of its own (None: without), and the processor's files."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = own
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    for name, content in files.items():
        suffix = "jinja" if name.endswith("jinja") else "json"
        (folder / f"{name.removesuffix('_jinja')}.{suffix}").write_text(content)


def test_the_familys_template_is_for_checkpoints_without_one(tmp_path: Path) -> None:
    in_folder(tmp_path, own=None)
    assert make_family(tmp_path, None).template == PARTS


def test_the_tokenizers_template_counts_before_the_familys(tmp_path: Path) -> None:
    in_folder(tmp_path, own=TEXT)
    assert make_family(tmp_path, None).template == TEXT


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template": json.dumps({"chat_template": "of the processor"})},
        {"chat_template_jinja": "of the processor"},
        {"processor_config": json.dumps({"chat_template": "of the processor"})},
    ],
    ids=["chat_template.json", "chat_template.jinja", "processor_config.json"],
)
def test_the_processors_template_counts_before_the_tokenizers(
    tmp_path: Path, files: dict[str, str]
) -> None:
    in_folder(tmp_path, own=TEXT, **files)
    assert make_family(tmp_path, None).template == "of the processor"


def test_of_named_templates_the_default_counts(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"default": TEXT, "tool_use": "another"}
    assert make_family(tmp_path, None, tokenizer).template == TEXT


def test_the_users_template_counts_before_all(tmp_path: Path) -> None:
    in_folder(tmp_path, own=TEXT, chat_template_jinja=TEXT)
    assert make_family(tmp_path, PARTS).template == PARTS


def test_the_template_of_a_training_is_kept_beside_the_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, saved = tmp_path / "base", tmp_path / "saved"
    base.mkdir()
    in_folder(base, own=TEXT)
    trained = make_family(base, PARTS)
    trained.image_processor = SimpleNamespace(save_pretrained=lambda folder: None)
    trained.save(str(saved))
    again = make_family(base, None, saved=str(saved))
    assert again.template == PARTS
    assert again.tokenize(TALK) == trained.tokenize(TALK)


# --- mistakes


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0] ", r"does not take the turns user, assistant \("),
        ("{{ raise_exception('no, thanks') }}", r"does not take .* \(no, thanks\); give another"),
        (PARTS.replace("<image>", ""), r"writes <image> 0 times in a conversation with one"),
        (PARTS.replace("'<image>'", "'<image><image>'"), r"writes <image> 2 times"),
        ("{{ messages[0].content[1].text }}<image>", r"does not write the turns user, assistant"),
        (
            PARTS.replace("'[assistant]'", "'[model]'"),
            r"asks for an answer by '.*\[model\]' and writes one after '.*\[assistant\] '",
        ),
    ],
    ids=["broken", "refuses", "no image", "two images", "loses a turn", "asks otherwise"],
)
def test_a_template_that_cannot_be_trained_on_is_refused(
    tmp_path: Path, template: str, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^The chat template of .*{message}"):
        make_family(tmp_path, template).tokenize(TALK[:2])


@pytest.mark.parametrize(
    "messages", [[], [("system", "be brief")], [("assistant", "hello"), QUESTION]]
)
def test_a_conversation_that_the_user_does_not_start_is_refused(
    tmp_path: Path, messages: list[Message]
) -> None:
    with pytest.raises(ValueError, match=r"^The first turn of a conversation, .* the user's, got"):
        make_family(tmp_path).tokenize(messages)


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_blank_template_is_refused(tmp_path: Path, blank: str) -> None:
    with pytest.raises(ValueError, match=r"^--chat_template is blank, .* leave the option out"):
        make_family(tmp_path, blank)


def test_a_template_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    in_folder(tmp_path, own=None, chat_template="{")
    with pytest.raises(ValueError, match=r"^The chat template of .* cannot be read \(.*\); corr"):
        _ = make_family(tmp_path, None).template


@pytest.mark.parametrize("family", [PaliGemma, Blip2])
def test_a_template_where_there_is_no_chat_is_refused(family: type[Family]) -> None:
    with pytest.raises(ValueError, match=r"--chat_template has no meaning for .* leave it out"):
        family("somewhere", options=FamilyOptions(chat_template="{{ messages }}"))

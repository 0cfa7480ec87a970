"""A checkpoint that lacks something is told by what it lacks."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig, LlavaConfig

from models import processor_files
from models.base import Family
from models.checkpoint import resolve
from models.loading import load_family, load_model
from models.text_tokens import check_rows
from tests.helpers import one_sentence
from tests.models.tiny_families import maker


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def checkpoint(name: str, folder: Path) -> Callable[[], Family]:
    maker(name)(folder)
    return lambda: load_family(resolve(str(folder)))


def test_paligemma_without_its_number_of_image_tokens(tmp_path: Path) -> None:
    open_family = checkpoint("paligemma", tmp_path)
    expected = open_family().num_image_tokens
    edit(tmp_path / "processor_config.json", lambda c: c["image_processor"].pop("image_seq_length"))
    with one_sentence("add image_seq_length", f"{expected} by its config.json"):
        _ = open_family().num_image_tokens


def test_an_image_token_that_the_tokenizer_has_not(tmp_path: Path) -> None:
    open_family = checkpoint("llava", tmp_path)
    edit(tmp_path / "config.json", lambda config: config.update(image_token_index=999_999))
    with one_sentence("has token 999999 for the image", "take both from one model"):
        open_family().tokenize([("user", "what?")])


def test_tokens_that_the_model_has_no_row_for(tmp_path: Path) -> None:
    maker("llava")(tmp_path)
    rows = json.loads((tmp_path / "config.json").read_text())["text_config"]["vocab_size"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    free = [f"<spare{number}>" for number in range(rows - len(tokenizer))]
    tokenizer.add_tokens(free)
    tokenizer.save_pretrained(tmp_path)
    load_model(resolve(str(tmp_path)), quantization="none", device="cpu")  # each has its row
    tokenizer.add_tokens(["what color", "what shape"])
    tokenizer.save_pretrained(tmp_path)
    with one_sentence(
        f"The tokenizer in use with {tmp_path} has tokens beyond the {rows} embeddings",
        f"of the model: 2, 'what shape' ({rows + 1}) last",
    ):
        load_model(resolve(str(tmp_path)), quantization="none", device="cpu")


def test_the_image_s_token_needs_no_row() -> None:
    llama = LlamaConfig(vocab_size=2)
    tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 0, "b": 1, "<image>": 2})
    check_rows(tokenizer, LlavaConfig(text_config=llama, image_token_index=2), "here")
    with one_sentence("has tokens beyond the 2 embeddings of the model: 1, '<image>' (2) last"):
        check_rows(tokenizer, LlavaConfig(text_config=llama, image_token_index=1), "here")


def test_a_tokenizer_that_needs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_family = checkpoint("llava", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0b\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    edit(tmp_path / "tokenizer_config.json", lambda c: c.update(tokenizer_class="LlamaTokenizer"))
    monkeypatch.setattr(
        processor_files,
        "find_spec",
        lambda name: None if name == "sentencepiece" else find_spec(name),
    )
    with one_sentence("tokenizer.model alone", "pip install sentencepiece"):
        _ = open_family().tokenizer

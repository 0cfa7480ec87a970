"""A key that comes twice in a record is refused, as one of its values would be lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.base import Dataset, Source
from tasks.registry import get_task
from tests.helpers import one_sentence
from tests.own_formats import image_bytes, write_images, write_tar

ROW = '{"image": "0.png", "question": "what?", %s}'
ANSWER = '{"from": "gpt", "value": "a"}'
TURNS = f'{{"image": "0.png", "conversations": [{{"from": "human", %s}}, {ANSWER}]}}'


def lines(folder: Path, text: str) -> Dataset:
    path = folder / "t.jsonl"
    path.write_text(ROW % text)
    return get_task("csv_qa").load("test", Source(tables={"test": path}))


def shard(folder: Path, text: str) -> Dataset:
    path = folder / "t.tar"
    write_tar(path, {"1.png": image_bytes("red"), "1.json": (ROW % text).encode()})
    return get_task("csv_qa").load("test", Source(tables={"test": path}))


def array(folder: Path, text: str) -> Dataset:
    (folder / "t.json").write_text(f"[{TURNS % text}]")
    return get_task("conversations").load("test", Source(tables={"test": folder / "t.json"}))


def json_lines(folder: Path, text: str) -> Dataset:
    (folder / "t.json").write_text(f"{TURNS % text}\n{TURNS % text}")
    return get_task("conversations").load("test", Source(tables={"test": folder / "t.json"}))


READERS: dict[str, tuple[Callable[[Path, str], Dataset], str]] = {
    "t.jsonl, line 1 has": (lines, "answer"),
    "t.tar, sample 1: 1.json has": (shard, "answer"),
    "t.json, element 1 has": (array, "value"),
    "t.json, line 1 has": (json_lines, "value"),
}


@pytest.mark.parametrize("where", READERS)
def test_a_key_twice_is_refused(where: str, tmp_path: Path) -> None:
    read, key = READERS[where]
    write_images(tmp_path)
    with one_sentence(f"{where} the key '{key}' twice; keep one of them."):
        read(tmp_path, f'"{key}": "a", "{key}": "b"')


@pytest.mark.parametrize("where", READERS)
def test_quotes_in_any_spelling_are_no_keys(where: str, tmp_path: Path) -> None:
    read, key = READERS[where]
    write_images(tmp_path)
    (example,) = list(read(tmp_path, rf'"{key}": "\u0022{key}\": \"b\u0022"'))[:1]
    said = example.references[0] if key == "answer" else example.turns[0].text
    assert said == f'"{key}": "b"'

"""What is wrong with a folder or a file is said in one sentence that names it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tasks import files
from tasks.base import MissingSplit
from tests.helpers import Load, one_sentence
from tests.official_files import write_docvqa, write_vqav2

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_data_root_that_does_not_exist_is_named(tmp_path: Path, load: Load) -> None:
    with one_sentence(f"--data_root {tmp_path}/no does not exist"):
        load("vqav2", "val", tmp_path / "no")


def test_a_data_root_that_is_a_file_is_named(tmp_path: Path, load: Load) -> None:
    (tmp_path / "file").touch()
    with one_sentence(f"--data_root {tmp_path}/file is not a folder"):
        load("vqav2", "val", tmp_path / "file")


def test_a_folder_without_the_files_lists_every_place_looked_at(tmp_path: Path, load: Load) -> None:
    with one_sentence(
        str(tmp_path), QUESTIONS, f"Questions/{QUESTIONS}", "--data_root", kind=MissingSplit
    ):
        load("vqav2", "val", tmp_path)


def test_a_folder_without_read_permission_is_named(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: object) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(files.os, "listdir", refuse)
    with one_sentence(f"{tmp_path} cannot be read: Permission denied"):
        load("vqav2", "val", tmp_path)


def test_a_file_without_read_permission_is_named(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    write_vqav2(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with one_sentence(f"{QUESTIONS} cannot be read: Permission denied"):
        load("vqav2", "val", tmp_path)


def test_a_really_unreadable_folder_is_named(tmp_path: Path, load: Load) -> None:
    write_vqav2(tmp_path).chmod(0)
    user = os.geteuid()
    if user == 0:  # root reads everything: look at the folder as nobody
        os.seteuid(65534)
    try:
        with one_sentence(f"{tmp_path} cannot be read: Permission denied"):
            load("vqav2", "val", tmp_path)
    finally:
        os.seteuid(user)


def test_truncated_json_is_named(tmp_path: Path, load: Load) -> None:
    path = write_vqav2(tmp_path) / QUESTIONS
    path.write_bytes(path.read_bytes()[:-20])
    with one_sentence(f"{path} is not complete JSON", "download it again"):
        load("vqav2", "val", tmp_path)


def test_an_empty_file_is_named(tmp_path: Path, load: Load) -> None:
    path = write_vqav2(tmp_path) / QUESTIONS
    path.write_bytes(b"")
    with one_sentence(f"{path} is not complete JSON"):
        load("vqav2", "val", tmp_path)


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path, load: Load) -> None:
    path = write_vqav2(tmp_path) / QUESTIONS
    path.write_bytes(path.read_bytes().replace(b"picture", b"\xff\xfepict"))
    with one_sentence(str(path)):
        load("vqav2", "val", tmp_path)


def test_a_missing_key_is_named_with_its_place(tmp_path: Path, load: Load) -> None:
    path = write_vqav2(tmp_path) / QUESTIONS
    edit(path, lambda content: content["questions"][2].pop("question_id"))
    with one_sentence(str(path), "missing required field `question_id` - at `$.questions[2]`"):
        load("vqav2", "val", tmp_path)


def test_a_value_of_the_wrong_type_is_named_with_its_place(tmp_path: Path, load: Load) -> None:
    path = write_docvqa(tmp_path, "c") / "val_v1.0_withQT.json"
    edit(path, lambda content: content["data"][1].update(questionId="x1"))
    with one_sentence(str(path), "`$.data[1].questionId`"):
        load("docvqa", "val", tmp_path)


def test_an_id_given_as_digits_in_quotes_is_read_as_a_number(tmp_path: Path, load: Load) -> None:
    path = write_docvqa(tmp_path, "c") / "val_v1.0_withQT.json"
    edit(path, lambda content: content["data"][1].update(questionId="77"))
    assert load("docvqa", "val", tmp_path)[1].example_id == 77


def test_files_with_byte_order_mark_and_windows_line_ends_are_read(
    tmp_path: Path, load: Load
) -> None:
    path = write_vqav2(tmp_path) / QUESTIONS
    text = json.dumps(json.loads(path.read_text()), indent=1).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(load("vqav2", "val", tmp_path)) == 3


def test_an_empty_split_is_named(tmp_path: Path, load: Load) -> None:
    path = write_vqav2(tmp_path) / QUESTIONS
    edit(path, lambda content: content["questions"].clear())
    with one_sentence(f"{path} is empty"):
        load("vqav2", "val", tmp_path)


def test_ids_that_come_twice_are_named_up_to_five(tmp_path: Path, load: Load) -> None:
    path = write_vqav2(tmp_path, num_val=6) / QUESTIONS
    edit(path, lambda content: content["questions"].extend(content["questions"]))
    with one_sentence(f"{path} has 6 id(s) more than once: 500000, 501000", "504000, …"):
        load("vqav2", "val", tmp_path)


def test_annotations_without_an_image_folder_list_the_folders_looked_in(
    tmp_path: Path, load: Load
) -> None:
    write_vqav2(tmp_path)
    (tmp_path / "val2014").rename(tmp_path / "elsewhere")
    with one_sentence(
        "COCO_val2014_000000000500.jpg", f"{tmp_path}/val2014", f"{tmp_path}/Images/mscoco/val2014"
    ):
        load("vqav2", "val", tmp_path)


def test_one_absent_image_does_not_hide_the_folder_of_the_others(
    tmp_path: Path, load: Load
) -> None:
    write_vqav2(tmp_path)
    (tmp_path / "val2014/COCO_val2014_000000000500.jpg").unlink()
    assert load("vqav2", "val", tmp_path)[1].image.open().size == (24, 16)


def test_finding_images_does_not_look_at_each_file(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vqav2(tmp_path, num_train=50)
    looks = []
    isfile = files.os.path.isfile
    monkeypatch.setattr(files.os.path, "isfile", lambda path: looks.append(path) or isfile(path))
    load("vqav2", "train", tmp_path)
    assert len([path for path in looks if str(path).endswith(".jpg")]) < 50

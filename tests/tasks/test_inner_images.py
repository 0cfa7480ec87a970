"""A path in an official annotation file stays below the folder of the images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.images import check_dataset
from tests.helpers import Load, one_sentence
from tests.official_files import write_coco, write_docvqa, write_gqa, write_vqav2
from tests.palitune.bad_inputs import edit

OUTSIDE = [
    "../../x.jpg",
    "/etc/x.jpg",
    "a/../../x.jpg",
    "..\\..\\x.jpg",
    "C:\\x.jpg",
    "x\0.jpg",
    "",
]


def _coco(root: Path, name: str) -> str:
    file = write_coco(root) / "annotations/captions_train2014.json"
    edit(file, lambda content: content["images"][1].update(file_name=name))
    return "101"


def _karpathy(key: str) -> Callable[[Path, str], str]:
    def write(root: Path, name: str) -> str:
        file = write_coco(root, karpathy=True) / "dataset_coco.json"
        edit(file, lambda content: content["images"][1].update({key: name}))
        return "101"

    return write


def _gqa(root: Path, name: str) -> str:
    file = write_gqa(root) / "questions1.2/train_balanced_questions.json"
    edit(file, lambda content: content["0101"].update(imageId=name))
    return "0101"


def _docvqa(root: Path, name: str) -> str:
    file = write_docvqa(root) / "spdocvqa_qas/train_v1.0_withQT.json"
    edit(file, lambda content: content["data"][1].update(image=name))
    return "101"


CASES: dict[str, tuple[str, str, Any]] = {
    "COCO": ("coco_captioning", "train", _coco),
    "Karpathy's filepath": ("coco_captioning", "karpathy_train", _karpathy("filepath")),
    "Karpathy's filename": ("coco_captioning", "karpathy_train", _karpathy("filename")),
    "GQA": ("gqa", "train", _gqa),
    "DocVQA": ("docvqa", "train", _docvqa),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_leads_out_is_refused_with_file_and_record(
    case: str, name: str, tmp_path: Path, load: Load
) -> None:
    if case == "GQA" and not name:
        return  # ".jpg" is a name
    task, split, write = CASES[case]
    record = write(tmp_path / "in/data", name)
    Image.new("RGB", (4, 4)).save(tmp_path / "x.jpg")
    with one_sentence(".json", record, "below the folder of the images"):
        load(task, split, tmp_path / "in/data")


def test_a_link_in_the_folder_may_lead_out(tmp_path: Path, load: Load) -> None:
    data = write_vqav2(tmp_path / "data")
    (data / "train2014").rename(tmp_path / "elsewhere")
    (data / "train2014").symlink_to(tmp_path / "elsewhere")
    check_dataset(load("vqav2", "train", data))


@pytest.mark.parametrize("target", ["gone.jpg", "loop.jpg"], ids=["broken", "circle"])
def test_a_bad_link_matters_only_to_an_example_that_needs_it(
    target: str, tmp_path: Path, load: Load
) -> None:
    data = write_vqav2(tmp_path)
    (data / "train2014/loop.jpg").symlink_to(data / "train2014" / target)
    (data / "loop").symlink_to(data / "loop")
    dataset = load("vqav2", "train", data)
    check_dataset(dataset)
    needed = Path(dataset[2].image.path)
    needed.unlink()
    needed.symlink_to(needed if target == "loop.jpg" else data / target)
    with one_sentence("1 image(s) that do not exist", needed.name):
        check_dataset(dataset)


@pytest.mark.parametrize("name", ["../x.jpg", "{outside}/x.jpg"])
def test_a_table_of_the_user_may_point_anywhere(name: str, tmp_path: Path, load: Load) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.jpg")
    (tmp_path / "data").mkdir()
    row = name.format(outside=tmp_path)
    (tmp_path / "data/train.csv").write_text(f"image,instruction,response\n{row},q,r\n")
    dataset = load("csv_qa", "train", tmp_path / "data")
    assert dataset[0].image.open().size == (4, 4)

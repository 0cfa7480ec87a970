"""Data and models with one thing wrong in each, and the commands that meet them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.official_files import write_json, write_vqav2

QUESTIONS = "v2_OpenEnded_mscoco_{}2014_questions.json"
ANNOTATIONS = "v2_mscoco_{}2014_annotations.json"
FIRST_IMAGE = "train2014/COCO_train2014_000000000100.jpg"


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def write_bad_data(root: Path) -> None:
    """A folder for each way in which official files can be wrong."""
    for name in ("good", "no_images", "no_key", "cut_json", "one_image_absent", "no_examples"):
        write_vqav2(root / name)
    (root / "nothing").mkdir()
    (root / "no_images/train2014").rename(root / "no_images/elsewhere")
    edit(
        root / "no_key" / ANNOTATIONS.format("train"), lambda c: c["annotations"][1].pop("answers")
    )
    for split in ("train", "val"):
        path = root / "cut_json" / QUESTIONS.format(split)
        path.write_bytes(path.read_bytes()[:-20])
        image_id = {"train": 102, "val": 501}[split]
        (root / f"one_image_absent/{split}2014/COCO_{split}2014_{image_id:012d}.jpg").unlink()
        edit(root / "no_examples" / QUESTIONS.format(split), lambda c: c["questions"].clear())


def write_bad_models(root: Path, pico: Path) -> None:
    """A folder for each way in which a model can be wrong."""
    (root / "empty").mkdir(parents=True)
    write_json(root / "llama/config.json", {"model_type": "llama"})
    (root / "cut").mkdir()
    (root / "cut/config.json").write_text('{"model_type": "pali')
    adapter = {"base_model_name_or_path": str(pico), "peft_type": "LORA"}
    write_json(root / "adapter/adapter_config.json", adapter)
    write_json(root / "adapter_of_another/adapter_config.json", adapter)
    run = {"settings": {}, "base_fingerprint": "w2:0123456789abcdef", "task": "vqav2"}
    write_json(root / "adapter_of_another/run.json", run)
    gone = {**adapter, "base_model_name_or_path": str(root / "gone")}
    write_json(root / "adapter_without_base/adapter_config.json", gone)


TRAIN = ("train", "vqav2", "--model_path", "{pico}", "--data_root", "{data}/good")
TRAIN += ("--output_dir", "{place}/new")
EVAL = ("eval", "--task", "vqav2", "--model_path", "{pico}", "--data_root", "{data}/good")
EVAL += ("--output_dir", "{place}/new")

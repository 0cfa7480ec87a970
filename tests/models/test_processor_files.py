"""What a family saves is a whole processor for plain transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from models.checkpoint import resolve
from models.loading import load_family
from tests.models.tiny_families import NAMES, maker

# transformers builds their processors with torchvision alone, for the sake of videos
WITH_VIDEOS = {"internvl", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"}


def save(checkpoint: Path, folder: Path) -> Path:
    load_family(resolve(str(checkpoint))).save(str(folder))
    return folder


def settings(folder: Path) -> dict[str, Any]:
    processor = AutoProcessor.from_pretrained(folder)
    return {"class": type(processor).__name__, **processor.to_dict()}


@pytest.mark.parametrize("name", sorted({*NAMES} - WITH_VIDEOS))
def test_a_run_s_folder_gives_the_checkpoint_s_processor(name: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    maker(name)(tmp_path / "base")
    expected = settings(tmp_path / "base")
    assert "Processor" in expected["class"]
    assert settings(save(tmp_path / "base", tmp_path / "run")) == expected


@pytest.mark.parametrize("name", sorted(WITH_VIDEOS))
def test_a_processor_of_videos_too_is_named_and_keeps_its_settings(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    maker(name)(tmp_path / "base")
    video = {"video_processor_type": "AnyVideoProcessor", "fps": 2}
    (tmp_path / "base/video_preprocessor_config.json").write_text(json.dumps(video))
    run = save(tmp_path / "base", tmp_path / "run")
    content = json.loads((run / "processor_config.json").read_text())
    assert content["processor_class"].endswith("Processor")
    assert json.loads((run / "video_preprocessor_config.json").read_text()) == video


def test_the_patch_size_and_the_choice_of_features_are_kept(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    maker("llava")(tmp_path / "base")
    own = {
        "processor_class": "LlavaProcessor",
        "patch_size": 14,
        "vision_feature_select_strategy": "full",
        "num_additional_image_tokens": 1,
    }
    (tmp_path / "base/processor_config.json").write_text(json.dumps(own))
    processor = AutoProcessor.from_pretrained(save(tmp_path / "base", tmp_path / "run"))
    assert processor.patch_size == 14
    assert processor.vision_feature_select_strategy == "full"
    assert processor.num_additional_image_tokens == 1


def test_the_image_processor_in_force_is_the_one_that_is_saved(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    maker("gemma3")(tmp_path / "base")
    assert "image_processor" in json.loads((tmp_path / "base/processor_config.json").read_text())
    family = load_family(resolve(str(tmp_path / "base")))
    family.image_processor.image_mean = [0.25, 0.5, 0.75]
    family.save(str(tmp_path / "run"))
    saved = AutoProcessor.from_pretrained(tmp_path / "run").image_processor
    assert list(saved.image_mean) == [0.25, 0.5, 0.75]

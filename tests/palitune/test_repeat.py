"""`--config`: a record repeats its run as it stands, or is refused where it says something else."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from finetuning.training.recipe import Recipe
from palitune.scripts import parse_job, training_command
from tests.helpers import sentence
from tests.official_files import write_vqav2


def write_config(folder: Path, settings: dict[str, Any]) -> Path:
    data = write_vqav2(folder / "data")
    content = {"model_path": "tiny", "data_root": str(data), **settings}
    path = folder / "run.json"
    path.write_text(json.dumps({"task": "vqav2", "settings": content}))
    return path


# setting, its value in the file, parts of the sentence
FAULTS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("learnin_rate", 5e-3, ("learnin_rate is no setting of vqav2", "did you mean learning_rate?")),
    ("zzz", 1, ("zzz is no setting of vqav2", "remove it")),
    ("config", "x.json", ("config is no setting of vqav2",)),
    ("lora_rank", 8.9, ("lora_rank must be a whole number, got 8.9",)),
    ("lora_rank", None, ("lora_rank must be a whole number, got null",)),
    ("lora_rank", "8", ('lora_rank must be a whole number, got "8"',)),
    ("seed", True, ("seed must be a whole number, got true",)),
    ("learning_rate", True, ("learning_rate must be a number, got true",)),
    ("learning_rate", [1], ("learning_rate must be a number, got [1]",)),
    ("use_dora", 1, ("use_dora must be true or false, got 1",)),
    ("batch_size", "many", ('batch_size must be a whole number or auto, got "many"',)),
    ("quantization", "nf3", ("quantization must be one of", "nf4", 'got "nf3"')),
    ("image_size", 8.5, ("image_size must be a whole number, got 8.5",)),
    ("hub_columns", "a=b", ('hub_columns must be a list of texts, got "a=b"',)),
    ("model_path", None, ("model_path must be text, got null",)),
    ("data_root", 7, ("data_root must be text, got 7",)),
    ("trust_remote_code", "yes", ('trust_remote_code must be true or false, got "yes"',)),
)


@pytest.mark.parametrize(("name", "value", "parts"), FAULTS)
def test_a_setting_that_is_unknown_or_of_another_type_is_refused(
    name: str, value: Any, parts: tuple[str, ...], tmp_path: Path
) -> None:
    path = write_config(tmp_path, {name: value})
    words = ["--config", str(path), "--output_dir", str(tmp_path / "new")]
    result = CliRunner().invoke(training_command("vqav2"), words)
    message = sentence(result.exit_code, result.output)
    assert all(part in message for part in (f"{path}: ", *parts)), message
    assert not (tmp_path / "new").exists()


def test_null_is_taken_where_an_option_may_be_left_out(tmp_path: Path) -> None:
    given = {"max_eval_samples": None, "image_size": None, "num_epochs": 2, "batch_size": "auto"}
    job = parse_job("vqav2", ["--config", str(write_config(tmp_path, given))])
    assert job.recipe.max_eval_samples is None  # not the 1000 of the option
    assert job.recipe.num_epochs == 2 and job.recipe.batch_size == "auto"


def test_columns_of_images_are_repeated_as_they_were_recorded(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("left,right,question,answer\na.png,b.png,?,x\n")
    settings = {"model_path": "tiny", "train_csv": str(table), "image_column": "left|right"}
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"task": "csv_qa", "settings": settings}))
    assert parse_job("csv_qa", ["--config", str(path)]).settings["image_column"] == "left|right"


def test_a_setting_that_must_be_there_is_not_none() -> None:
    assert Recipe(max_steps=None).max_steps is None
    with pytest.raises(ValueError, match="lora_rank must be a whole number, got nothing"):
        Recipe(lora_rank=None)  # type: ignore[arg-type]

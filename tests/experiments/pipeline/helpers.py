"""Helpers of the pipeline's tests."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from PIL import Image

from experiments.pipeline_config import (
    Columns,
)
from palitune.main import palitune

SECRETS = {"HF_TOKEN": "hf_markedsecret", "WANDB_API_KEY": "markedwandbsecret" + 23 * "0"}
VARIABLES = (*SECRETS, "MODEL_ID", "DATASET", "VLM_MODEL_CONFIG", "VLM_COLLATOR_CONFIG")
COLUMNS = Columns(image="picture", question="ask", answer="say")
COLLATOR = {"dataset_columns": {"image": "picture", "question": "ask", "answer": "say"}}
NUM_PICTURES = 20


def values(**given: Any) -> dict[str, Any]:
    """Every option of a step, as click gives them."""
    unset = (
        *("model_id", "dataset", "dataset_config", "env_file", "train_config_path", "seed"),
        *("peft_config_path", "vlm_model_config", "vlm_collator_config", "max_samples"),
    )
    return {**dict.fromkeys(unset), "root": Path(), "onto": "auto", **given}


def write_yaml(folder: Path, content: Any, name: str = "file.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def png(number: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (32, 24), (12 * number, 60 * (number % 4), 200)).save(content, "PNG")
    return content.getvalue()


def table(numbers: Sequence[int]) -> Any:
    """Two questions about each image."""
    import datasets

    kinds = {"picture": datasets.Image(), "ask": datasets.Value("string")}
    rows = [(png(n), ask, say) for n in numbers for ask, say in (("one?", "a"), ("two?", f"b {n}"))]
    return datasets.Dataset.from_dict(
        {
            "picture": [{"bytes": content, "path": None} for content, _, _ in rows],
            "ask": [ask for _, ask, _ in rows],
            "say": [say for _, _, say in rows],
        },
        features=datasets.Features(kinds | {"say": datasets.Value("string")}),
    )


def save_parts(folder: Path, **parts: Sequence[int]) -> str:
    import datasets

    tables = {name: table(numbers) for name, numbers in parts.items()}
    datasets.DatasetDict(tables).save_to_disk(str(folder))
    return str(folder)


class Commands:
    """Stands for the commands: writes what each leaves behind, by given figures."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.scores = {"base": 10.0, "adapter": 61.5, "finetuned": 60.0}
        self.fails: str | None = None

    def __call__(self, step: str, show: object, words: list[str]) -> None:
        self.calls.append(words)
        if step == self.fails:
            raise RuntimeError("it failed.")
        options = dict(zip(words, [*words[1:], ""], strict=True))
        if words[0] == "eval":
            self.write(Path(options["--output_dir"]))
        elif words[0] == "train":
            folder = Path(options["--output_dir"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "adapter_model.safetensors").write_bytes(b"weights")
            self.write(folder / "evaluation" / "test", "adapter")
        else:
            (Path(options["--output"]) / "model.safetensors").write_bytes(b"weights")

    def write(self, folder: Path, name: str | None = None) -> None:
        value = self.scores[name or folder.name]
        metrics = {"vqa_accuracy": value, "sacrebleu": 2 * value, "rouge_l": value / 100}
        content = {"task": "image_qa", "split": "test", "num_examples": 4, "value": value}
        content |= {"metric": "vqa_accuracy", "metrics": metrics}
        folder.mkdir(parents=True, exist_ok=True)
        content |= {"provenance": {"base_model": "pico"}}
        (folder / "metrics.json").write_text(json.dumps(content))

    @property
    def names(self) -> list[str]:
        return [words[0] for words in self.calls]


def steps(name: str, *arguments: object, exit_code: int = 0) -> Result:
    words = ["pipeline", name, *map(str, arguments)]
    result = CliRunner().invoke(palitune, words)
    assert result.exit_code == exit_code, result.output
    return result

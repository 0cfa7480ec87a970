"""The whole pipeline on a pico model."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from models.checkpoint import resolve
from models.loading import load_model
from tests.experiments.pipeline.helpers import (
    COLLATOR,
    NUM_PICTURES,
    SECRETS,
    png,
    save_parts,
    write_yaml,
)


def palitune_process(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, so that all output is seen; without Java, which takes long."""
    return subprocess.run(
        [sys.executable, "-m", "palitune.main", "pipeline", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "offline",
            "PATH": str(folder),
            "HOME": str(folder),
            "TMPDIR": str(folder),
        },
        check=False,
    )


@pytest.fixture(scope="module")
def whole(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `run` went through, its output in `output.txt`."""
    folder = tmp_path_factory.mktemp("pipeline")
    source = save_parts(folder / "source", train=range(NUM_PICTURES))
    write_yaml(folder, COLLATOR, "collator.yaml")
    write_yaml(
        folder,
        "num_train_epochs: 2\nper_device_train_batch_size: 16\nlearning_rate: 1e-2\n"
        "generation_max_new_tokens: 3\nreport_to: wandb\n",
        "train.yaml",
    )
    write_yaml(folder, {"r": 4, "lora_dropout": 0.0, "quantization": "nf4"}, "peft.yaml")
    write_yaml(
        folder,
        {"fallback": {"model_class": "PaliGemmaForConditionalGeneration"}},
        "model.yaml",
    )
    lines = {"MODEL_ID": pico1, "DATASET": source, "VLM_COLLATOR_CONFIG": "collator.yaml"}
    lines |= {"VLM_MODEL_CONFIG": "model.yaml", **SECRETS}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    result = palitune_process(folder, "run", *FILES)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "output.txt").write_text(result.stdout + result.stderr)
    return folder


FILES = ("--train_config_path", "train.yaml", "--peft_config_path", "peft.yaml")


@pytest.mark.slow
def test_secrets_are_in_no_file_and_no_output(whole: Path) -> None:
    holders = [
        path.relative_to(whole).as_posix()
        for path in whole.rglob("*")
        if path.is_file()
        and any(secret.encode() in path.read_bytes() for secret in SECRETS.values())
    ]
    assert holders == [".env"]
    assert list(whole.glob("results/model/wandb/*run*"))  # the key was there to be used
    assert "vqa_accuracy" in (whole / "output.txt").read_text()  # there was something to search


@pytest.mark.slow
def test_the_deployment_model_is_the_adapter_s_for_plain_transformers(whole: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    adapted = load_model(resolve(str(whole / "results/model")), quantization="nf4", device="cpu")
    merged = AutoModelForImageTextToText.from_pretrained(whole / "results/deployment_model").eval()
    base = load_model(resolve(adapted.checkpoint.base), quantization="nf4", device="cpu").model
    family = adapted.family
    image = Image.open(io.BytesIO(png(3)))
    batch = family.collate([family.encode(image, [("user", "one?"), ("assistant", "a")])])
    del batch["labels"]
    with torch.no_grad():
        expected, found, untrained = (
            model(**batch).logits for model in (adapted.model, merged, base)
        )
    assert (found - expected).abs().max() < 1e-3
    assert (untrained - expected).abs().max() > 0.1  # the adapter does something


@pytest.mark.slow
def test_evaluations_are_of_the_same_unseen_examples(whole: Path) -> None:
    evaluation = whole / "results/evaluation"
    base, tuned = (
        json.loads((evaluation / f"{name}_vlm_model_evaluation.json").read_text())
        for name in ("base", "finetuned")
    )
    assert (base["num_examples"], base["split"]) == (4, "test")
    assert base["provenance"]["data"] == tuned["provenance"]["data"]
    assert tuned["deployment_gap"] == tuned["value"] - tuned["adapter"]["value"]
    for content in (base, tuned):
        names = {"vqa_accuracy", "sacrebleu", "rougeL", "rouge_l"}
        assert names <= content["metrics"].keys()
    assert json.loads((whole / "results/model/run.json").read_text())["settings"][
        "model_class"
    ] == ("PaliGemmaForConditionalGeneration")


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_adapter(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    adapter = folder / "results/model/adapter_model.safetensors"
    expected = adapter.read_bytes()
    # as if it had been killed in its second epoch
    adapter.unlink()
    (folder / "results/model/pipeline.json").unlink()
    last, *_ = sorted(
        (folder / "results/model/checkpoints").iterdir(), key=lambda path: -int(path.name[11:])
    )
    shutil.rmtree(last)
    result = palitune_process(folder, "train", *FILES)
    assert result.returncode == 0, result.stderr
    assert "going on with the interrupted training" in result.stdout
    assert adapter.read_bytes() == expected
    assert "deployment model: done before" in result.stdout

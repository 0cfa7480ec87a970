"""A training rehearsed: the figures by hand, and nothing written."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from finetuning.digits import main as digits
from finetuning.training.dry_run import rehearse
from finetuning.training.run import finetune
from models.checkpoint import resolve
from models.loading import load_model
from palitune.scripts import parse_job
from tests.finetuning.training_jobs import job
from tests.helpers import hashes


def cells(text: str) -> dict[str, list[str]]:
    """First cell of a line -> the others; cells have two spaces or more between them."""
    rows = [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.split("\n")
    ]
    return {row[0]: row[1:] for row in rows if row}


def test_the_figures_are_those_of_the_model_and_the_data(pico1: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = cells(rehearse(job(pico1, folder, quantization="none", batch_size=3, num_epochs=5)))
    assert not folder.exists()
    assert found["steps"] == ["40"]  # 5 passes over 24 examples, three at a time
    assert found["a step"] == ["3 x 1 examples, activations kept"]
    model = load_model(resolve(str(pico1)), quantization="none", device="cpu").model
    parts = ("model.language_model", "model.vision_tower", "model.multi_modal_projector")
    numbers = [int(found[part][1].replace(",", "")) for part in parts]
    assert sum(numbers) == sum(weight.numel() for weight in model.parameters())
    layers = [layer for layer in model.model.language_model.layers.modules()]
    linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    adapter = sum(4 * (layer.in_features + layer.out_features) for layer in linear)  # rank 4
    assert int(found["adapter"][1].replace(",", "")) == adapter
    seconds = float(found["time of a step"][0].removesuffix(" s"))
    assert float(found["examples a second"][0]) == pytest.approx(3 / seconds, rel=0.05)
    assert found["attention kernel"] == ["flash"]


def test_of_a_run_that_goes_on_the_steps_left_are_timed(
    pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetuning.training.dry_run._time_steps", lambda *_: 3.0)
    begun = job(pico1, tmp_path / "run", quantization="none", batch_size=3, max_steps=4)
    finetune(begun)
    longer = replace(begun, recipe=replace(begun.recipe, max_steps=40), resume=True)
    found = cells(rehearse(longer))
    assert (found["steps"], found["steps that are done"]) == (["40"], ["4"])
    assert found["time of the steps left, without scoring"] == ["0:01:48"]  # 36 of 3 seconds
    over = cells(rehearse(replace(begun, resume=True)))
    assert over["time of the steps left, without scoring"] == ["0:00:00"]
    anew = cells(rehearse(replace(longer, resume=False, overwrite=True)))
    assert anew["time of all steps, without scoring"] == ["0:02:00"]
    assert "steps that are done" not in anew


def test_layers_in_4_bits_are_counted_as_weights_and_not_as_bytes(
    pico1: Path, tmp_path: Path
) -> None:
    text = rehearse(job(pico1, tmp_path / "run"))
    rows = [line.split() for line in text.splitlines() if line.startswith("model.language_model ")]
    numbers = {row[1]: int(row[2].replace(",", "")) for row in rows}
    model = load_model(resolve(str(pico1)), quantization="none", device="cpu").model
    layers = model.model.language_model.layers.modules()
    linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    assert numbers["nf4"] == sum(layer.weight.numel() for layer in linear)


def run(*words: object) -> Result:
    return CliRunner().invoke(digits, [*map(str, words)])


def test_the_command_prints_it_and_refuses_what_the_training_would_refuse(
    pico1: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = ["--model_path", pico1, "--max_train_samples", 8, "--output_dir", folder, "--dry_run"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    found = cells(result.stdout)
    assert {"predicted", "measured in these steps", "operations of a step"} <= found.keys()
    assert not folder.exists()
    assert run(*words, "--resume").exit_code == 2
    assert run(*words, "--resume", "--overwrite").exit_code == 2
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("run.json", "go on with the run in it by --resume, replace it by --overwrite, or give"),
        ("mine.txt", "holds no run (no run.json); give another folder, or write into it by --over"),
    ],
)
def test_a_folder_in_use_is_tried_too_and_what_the_training_needs_is_said(
    name: str, needed: str, pico1: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text('{"settings": {}}')
    (tmp_path / "trainer_state.json").write_text("{}")  # a run that came to its end
    before = hashes(tmp_path)
    words = ["--model_path", pico1, "--max_train_samples", 8, "--output_dir", tmp_path, "--dry_run"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    (said,) = [line for line in result.stderr.splitlines() if "would not start" in line]
    assert f"--output_dir {tmp_path} is not empty" in said
    assert needed in said
    assert "time of a step" in cells(result.stdout)
    assert hashes(tmp_path) == before
    assert "would not start" not in run(*words, "--overwrite").stderr


@pytest.mark.parametrize(
    ("task", "words", "effective"),
    [
        ("digits", ["--batch_size", "auto"], 4),
        ("digits", ["--batch_size", "auto", "--gradient_accumulation_steps", "8"], 32),
        ("digits", ["--batch_size", "auto", "--effective_batch_size", "64"], 64),
        ("digits", ["--batch_size", "2"], None),
    ],
)
def test_auto_keeps_the_examples_of_a_step_that_the_task_has(
    task: str, words: list[str], effective: int | None
) -> None:
    assert (
        parse_job(task, ["--model_path", "tiny", *words]).recipe.effective_batch_size == effective
    )


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], "auto"),
        (["--gradient_checkpointing"], "on"),
        (["--gradient_checkpointing", "--seed", "1"], "on"),
        (["--gradient_checkpointing", "off"], "off"),
        (["--gradient_checkpointing", "auto"], "auto"),
    ],
)
def test_recomputation_is_on_off_or_chosen(words: list[str], value: str) -> None:
    recipe = parse_job("digits", ["--model_path", "tiny", *words]).recipe
    assert recipe.gradient_checkpointing == value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch_size", "many"], "'many' is neither a whole number nor auto"),
        (["--batch_size", "0"], "batch_size"),
        (["--batch_size", "4", "--effective_batch_size", "9"], "effective_batch_size 9 is not"),
        (["--gradient_checkpointing", "maybe"], "maybe"),
        (["--compile", "--gradient_checkpointing", "on"], "do not go together"),
    ],
)
def test_a_cut_that_makes_no_sense_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    result = run("--model_path", "tiny", "--output_dir", tmp_path / "run", *words)
    assert result.exit_code == 2
    assert said in result.stderr

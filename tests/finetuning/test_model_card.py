"""The model card, and where curves go."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from evaluation.training_log import make_curves
from finetuning.training.model_card import model_card, write_card
from finetuning.training.tracking import tracked
from tasks.base import Scores, Source
from tasks.registry import get_task
from tasks.report import Report

DIGITS = get_task("digits")


def run(base: str) -> dict[str, Any]:
    settings = dict.fromkeys(
        ("quantization", "lora_rank", "lora_alpha", "learning_rate", "num_epochs", "seed"), 1
    )
    data = {"num_examples": 3, "split": "train"}
    revision = None if Path(base).is_absolute() else "a" * 40
    return {
        "task": "digits",
        "base_model": base,
        "base_revision": revision,
        "train_data": data,
        "settings": settings,
    }


def test_the_card_names_a_base_on_the_hub_and_no_path() -> None:
    assert "base_model: org/model\n" in model_card(run("org/model"), [], num_steps=1)
    card = model_card(run("/home/me/models/mine"), [], num_steps=1)
    assert "base_model" not in card and "/home/me" not in card
    assert "# mine fine-tuned on digits" in card


def test_a_card_without_scores_says_so_in_place_of_an_empty_table() -> None:
    card = model_card(run("org/model"), [], num_steps=1)
    assert "## Measured\n\nNothing was scored.\n" in card and "| Split |" not in card


def header_of(base: str) -> Any:
    return yaml.safe_load(model_card(run(base), [], num_steps=1).split("---\n")[1])


def test_the_card_says_how_the_adapter_relates_to_its_base() -> None:
    assert header_of("org/model")["base_model_relation"] == "adapter"
    assert "base_model_relation" not in header_of("/home/me/models/mine")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: gemma\n---\n", {"license": "gemma"}),
        (
            "---\nlicense: other\nlicense_name: own-1\nlicense_link: https://own.org/1\n---\n",
            {"license": "other", "license_name": "own-1", "license_link": "https://own.org/1"},
        ),
        (  # the link is to a file that lies beside the base alone
            "---\nlicense: other\nlicense_name: own-1\nlicense_link: LICENSE\n---\n",
            {"license": "other", "license_name": "own-1"},
        ),
        ("---\nlicense: [mit, gemma]\n---\n", {}),
        ("---\nlicense: {\n---\n", {}),
        ("no header", {}),
        (None, {}),
    ],
)
def test_the_licence_is_what_the_base_says_of_its_own(
    card: str | None, expected: dict[str, str], tmp_path: Path
) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    found = header_of(str(tmp_path))
    assert {key: found[key] for key in found if key.startswith("license")} == expected


def test_no_image_is_shown_where_its_terms_are_not_known(tmp_path: Path) -> None:
    class Unknown(type(DIGITS)):  # type: ignore[misc]
        image_terms = None

    examples = DIGITS.load("val", Source())[:1]
    own = {"hub_repo": "me/own", "seed": 1}
    for task, more in ((Unknown(), {}), (DIGITS, own), (DIGITS, {})):
        report = Report(
            task=task,
            split="val",
            examples=list(examples),
            prompts=(),
            raw_predictions=["7"],
            predictions=["7"],
        )
        record = run("org/model")
        record["settings"] |= more
        write_card(tmp_path, record, [report], 1, None)
        is_shown = task is DIGITS and not more
        assert (tmp_path / "sample.png").exists() is is_shown
        assert ("may be passed on is not known" in (tmp_path / "README.md").read_text()) != is_shown


@pytest.mark.parametrize("num_steps", [1, 2])
def test_one_logged_loss_is_told_in_words(num_steps: int) -> None:
    history = [{"step": step, "loss": 4.0 / step} for step in range(1, num_steps + 1)]
    curves = make_curves({"log_history": history}, {})
    card = model_card(run("org/model"), [], num_steps=num_steps, curves=curves)
    assert ("](curves.png)" in card) is (num_steps == 2) and "Loss 4 at step 1" in card


def test_the_card_says_which_step_was_kept_and_by_what() -> None:
    history = [{"step": step, "eval_accuracy": 1 / step} for step in (2, 4)]
    chosen_by = {"digits": {"metric": "accuracy", "num_examples": 5, "split": "val"}}
    for best, expected in (
        (2, "The adapter is of step 2 of 4, the best by accuracy on 5 examples of digits, split"),
        (None, None),
    ):
        state = {"log_history": history, "best_global_step": best}
        curves = make_curves(state, {"accuracy": 1.0})
        record = {**run("org/model"), "chosen_by": chosen_by}
        card = model_card(record, [], num_steps=4, curves=curves)
        assert expected in card if expected else "The adapter is of step" not in card


@pytest.mark.parametrize("answer", ["7", "it is a seven"])
def test_the_table_has_the_figures_that_suit_the_answers(answer: str, tmp_path: Path) -> None:
    metrics = {"rouge_l": 0.5, "exact_match": 0.25, "rougeL": 0.5, "sacrebleu": 0.0, "Bleu_4": None}
    (example,) = DIGITS.load("val", Source())[:1]
    report = Report(
        task=get_task("csv_qa"),
        split="test",
        examples=[msgspec.structs.replace(example, references=(answer,), tags={})],
        prompts=(),
        raw_predictions=["7"],
        predictions=["7"],
        scores=Scores(values=[0.5], metrics=metrics),
    )
    write_card(tmp_path, run("org/model"), [report], 1, None)
    card = (tmp_path / "README.md").read_text()
    shown = [line.split("|")[4].strip() for line in card.splitlines() if "| csv_qa |" in line]
    is_short = answer == "7"
    assert shown == ["rouge_l", "exact_match", *([] if is_short else ["sacrebleu", "Bleu_4"])]
    line = "longer texts are in metrics.json: rougeL, sacrebleu.\n"
    assert (line in card) is is_short


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [(None, None, "palitune"), (None, "theirs", "theirs"), ("mine", "theirs", "mine")],
)
def test_the_project_is_the_options_or_the_environments(
    option: str | None,
    environment: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_PROJECT", environment or "")
    if environment is None:
        monkeypatch.delenv("WANDB_PROJECT")
    with tracked("wandb", option, tmp_path):
        assert os.environ["WANDB_PROJECT"] == expected
    assert os.environ.get("WANDB_PROJECT") == environment


def test_of_two_trainings_each_reports_into_its_own_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_DIR", raising=False)
    for name in ("one", "two"):
        with tracked("wandb", None, tmp_path / name):
            assert os.environ["WANDB_DIR"] == str(tmp_path / name)
    with tracked("tensorboard", None, tmp_path):
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard")
    assert not {"WANDB_DIR", "TENSORBOARD_LOGGING_DIR"} & os.environ.keys()

"""The pipeline's files: what they say, and mistakes in them."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from experiments.pipeline_config import (
    read_settings,
)
from tests.experiments.pipeline.helpers import COLLATOR, COLUMNS, values, write_yaml
from tests.helpers import REPOSITORY, one_sentence


@pytest.mark.parametrize("name", ["train", "peft", "model", "collator"])
def test_the_sample_files_are_read(name: str) -> None:
    option = {"train": "train_config_path", "peft": "peft_config_path"}.get(
        name, f"vlm_{name}_config"
    )
    path = REPOSITORY / "configs" / "pipeline" / f"{name}.yaml"
    assert yaml.safe_load(path.read_text())
    read_settings(values(**{option: path}, model_id="tiny"))


def test_training_arguments_and_lora_config_become_options_of_the_training(tmp_path: Path) -> None:
    train = write_yaml(
        tmp_path,
        "num_train_epochs: 2\nper_device_train_batch_size: 3\nlearning_rate: 1e-3\noptim: sgd\n"
        "bf16: true\ngeneration_max_new_tokens: 5\nseed: 7\nreport_to: tensorboard\n"
        "dataloader_num_workers: 1\nper_device_eval_batch_size: 6\nmax_length: 40\n",
        "train.yaml",
    )
    peft = write_yaml(
        tmp_path,
        {"r": 4, "lora_alpha": 9, "target_modules": ["q_proj", "v_proj"], "use_dora": True}
        | {"quantization": "int8", "bias": "none", "task_type": "CAUSAL_LM"},
        "peft.yaml",
    )
    settings = read_settings(
        values(train_config_path=train, peft_config_path=peft, model_id="m", max_samples=11)
    )
    expected = {
        "num_epochs": 2.0,
        "batch_size": 3,
        "learning_rate": 0.001,  # 1e-3 is text to YAML 1.1
        "optim": "sgd",
        "dtype": "bf16",
        "max_new_tokens": 5,
        "max_length": 40,
        "seed": 7,
        "report_to": "tensorboard",
        "num_workers": 1,
        "lora_rank": 4,
        "lora_alpha": 9,
        "lora_target_modules": "q_proj,v_proj",
        "use_dora": True,
        "quantization": "int8",
        "model_path": "m",
        "max_train_samples": 11,
        "max_eval_samples": 11,
        "eval_split": "test",
    }
    assert {name: settings.training[name] for name in expected} == expected
    shared = ("dtype", "max_new_tokens", "max_length", "seed", "num_workers", "max_eval_samples")
    assert {name: settings.evaluation[name] for name in shared} == {n: expected[n] for n in shared}
    assert (settings.evaluation["split"], settings.evaluation["batch_size"]) == ("test", 6)
    assert read_settings(values(train_config_path=train, seed=3)).seed == 3


def test_columns_and_messages_reach_training_and_evaluation(tmp_path: Path) -> None:
    messages = {"message_format": {"system": "Be brief.", "user": "Q: {question}"}}
    path = write_yaml(tmp_path, COLLATOR | messages)
    settings = read_settings(values(vlm_collator_config=path))
    for options in (settings.training, settings.evaluation):
        assert options["hub_columns"] == ["image=picture", "instruction=ask", "response=say"]
        assert options["prompt_template"] == "Q: {question}"
        assert options["system_message"] == "Be brief."


def test_a_model_has_its_own_entry_or_the_fallback(tmp_path: Path) -> None:
    own, fallback = {"model_class": "A"}, {"model_class": "B", "import_path": "transformers"}
    path = write_yaml(tmp_path, {"org/one": own, "fallback": fallback})
    found = [
        read_settings(values(vlm_model_config=path, model_id=name)).classes.model_class
        for name in ("org/one", "org/two")
    ]
    assert found == ["A", "B"]
    path = write_yaml(tmp_path, {"org/one": own})
    with one_sentence("no entry for org/two", "fallback"):
        read_settings(values(vlm_model_config=path, model_id="org/two"))


@pytest.mark.parametrize(
    ("option", "content", "parts"),
    [
        ("train_config_path", "learning_rat: 1", ["file.yaml", "did you mean learning_rate?"]),
        ("train_config_path", "lr_scheduler_type: saw", ["'saw'; accepted are cosine, linear"]),
        ("train_config_path", "bf16: true\nfp16: true", ["bf16 and fp16", "choose one"]),
        ("peft_config_path", "bias: all", ["bias", "accepted are none."]),
        ("peft_config_path", "task_type: SEQ_CLS", ["task_type", "accepted are CAUSAL_LM."]),
        ("peft_config_path", "quantization: fp4", ["accepted are nf4, int8, none."]),
        ("peft_config_path", "lora_rank: 4", ["lora_rank is no key of an adapter"]),
        ("vlm_model_config", "fallback: {import_path: os}", ["'os'; accepted are transformers."]),
        ("vlm_model_config", "fallback: {model_clas: X}", ["'fallback'", "mean model_class?"]),
        ("vlm_model_config", "[1]", ["an entry for each model id"]),
        ("vlm_collator_config", "dataset_columns: {images: x}", ["dataset_columns.images"]),
        ("vlm_collator_config", "message_format: {usr: x}", ["did you mean user?"]),
        ("vlm_collator_config", "a: [1", ["is not valid YAML"]),
    ],
)
def test_a_mistake_in_a_file_is_named_with_what_is_accepted(
    tmp_path: Path, option: str, content: str, parts: Sequence[str]
) -> None:
    path = write_yaml(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        read_settings(values(**{option: path}, model_id="m"))
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_options_win_over_the_environment_and_that_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collator = write_yaml(tmp_path, COLLATOR)
    lines = [f"{name}={name.lower()} of the file" for name in ("MODEL_ID", "DATASET", "HF_TOKEN")]
    (tmp_path / ".env").write_text("\n".join([*lines, f"VLM_COLLATOR_CONFIG={collator}"]))
    monkeypatch.setenv("DATASET", "of the environment")
    monkeypatch.setenv("HF_TOKEN", "of the environment")
    settings = read_settings(values())
    assert (settings.model_id, settings.dataset) == ("model_id of the file", "of the environment")
    assert settings.collator.dataset_columns == COLUMNS
    assert os.environ["HF_TOKEN"] == "of the environment"
    settings = read_settings(values(model_id="a", dataset="b"))
    assert (settings.model_id, settings.dataset) == ("a", "b")


def test_another_env_file_may_be_named_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("MODEL_ID=${HOME}/x\nHF_TOKEN='a b'\n")
    assert read_settings(values(env_file=tmp_path / "other")).model_id == "${HOME}/x"
    assert os.environ["HF_TOKEN"] == "a b"  # the steps inherit it
    with one_sentence("--env_file none does not exist"):
        read_settings(values(env_file=Path("none")))


def test_an_env_file_that_is_not_utf_8_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("MODEL_ID=m\nDATASET=Grö".encode("latin-1") + b"\xdfe\n")
    with one_sentence(".env, line 2 is not UTF-8"):
        read_settings(values())
    (tmp_path / ".env").write_text("MODEL_ID=m\nDATASET=Größe\n", encoding="utf-8")
    assert read_settings(values()).dataset == "Größe"


def test_a_file_named_by_a_variable_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_MODEL_CONFIG", "none.yaml")
    with one_sentence("VLM_MODEL_CONFIG names none.yaml"):
        read_settings(values())

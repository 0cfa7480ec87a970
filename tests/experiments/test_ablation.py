"""The grid of an ablation: what its YAML means, and what is refused in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.ablation import read_ablation
from experiments.grid_runs import runs
from tests.helpers import REPOSITORY
from tests.models.tiny_families import maker

GUIDE = REPOSITORY / "configs" / "vlm_ablation.yaml"


def write(folder: Path, **changes: Any) -> Path:
    content = yaml.safe_load(GUIDE.read_text())
    for path, value in changes.items():
        *parents, key = path.split("__")
        place = content
        for parent in parents:
            place = place[int(parent)] if parent.isdigit() else place[parent]
        place[key] = value
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def options(folder: Path, index: int = 0, **changes: Any) -> dict[str, str]:
    """Option -> value of one run; of a flag the next option's name."""
    words = list(runs(read_ablation(write(folder, **changes)))[index].options)
    return dict(zip(words, [*words[1:], ""], strict=True))


def test_every_model_is_trained_with_every_variant() -> None:
    names = [run.name for run in runs(read_ablation(GUIDE))]
    models, variants = ("qwen_vl_chat", "llava_1_5", "blip2"), ("lora_r8", "lora_r16")
    assert names == [f"{model}__{variant}" for model in models for variant in variants]


def test_the_options_of_a_run_are_those_of_the_file(tmp_path: Path) -> None:
    found = options(tmp_path, index=1)
    expected = {
        "--output_dir": "results/vlm_ablation/qwen_vl_chat__lora_r16",
        "--model_path": "Qwen/Qwen2.5-VL-3B-Instruct",
        "--model_type": "qwen_vl",
        "--image_size": "224",
        "--train_csv": "data/quic360/train.csv",
        "--val_csv": "data/quic360/valid.csv",
        "--test_csv": "data/quic360/test.csv",
        "--image_column": "url",
        "--num_workers": "4",
        "--lora_rank": "16",
        "--lora_alpha": "32",
        "--lora_dropout": "0.05",
        "--lora_target_modules": "attention,ffn",
        "--num_epochs": "3.0",
        "--batch_size": "4",
        "--eval_batch_size": "8",
        "--gradient_accumulation_steps": "4",
        "--learning_rate": "0.0002",  # 2e-4 is text to YAML 1.1
        "--weight_decay": "0.0",
        "--warmup_ratio": "0.03",
        "--logging_steps": "10",
        "--save_total_limit": "2",
        "--dtype": "bf16",
        "--max_grad_norm": "1.0",
        "--seed": "42",
        "--max_new_tokens": "128",
        "--min_new_tokens": "1",
        "--num_beams": "1",
        "--temperature": "1.0",
        "--top_p": "1.0",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert {"--eval_epochs", "--gradient_checkpointing"} <= found.keys()
    assert not {"--do_sample", "--eval_steps", "--use_dora", "--skip_evaluation"} & found.keys()


@pytest.mark.parametrize(
    ("changes", "option", "value"),
    [
        ({"training__mixed_precision": "fp16"}, "--dtype", "fp16"),
        ({"training__mixed_precision": "no"}, "--dtype", "fp32"),
        ({"training__mixed_precision": None}, "--dtype", "bf16"),  # the model's bfloat16
        ({"training__eval_strategy": "steps", "training__eval_steps": 50}, "--eval_steps", "50"),
        ({"training__save_strategy": "steps", "training__save_steps": 70}, "--save_steps", "70"),
        # as TrainingArguments fills in what is left out
        ({"training__eval_strategy": "steps", "training__logging_steps": 30}, "--eval_steps", "30"),
        ({"training__save_strategy": "steps"}, "--save_steps", "500"),
        ({"lora_variants__0__target_modules": ["q_proj", "v_proj"]},
         "--lora_target_modules", "q_proj,v_proj"),
    ],
)  # fmt: skip
def test_values_are_translated(
    tmp_path: Path, changes: dict[str, Any], option: str, value: str
) -> None:
    assert options(tmp_path, **changes)[option] == value


def test_switches_are_given_where_they_are_on(tmp_path: Path) -> None:
    on = options(
        tmp_path,
        evaluation__enabled=False,
        training__generation_do_sample=True,
        training__gradient_checkpointing=False,
    )
    assert {"--skip_evaluation", "--do_sample"} <= on.keys()
    assert on["--gradient_checkpointing"] == "off"


def test_tasks_are_a_third_axis(tmp_path: Path) -> None:
    tasks = [{"name": "vqav2", "data_root": "sample"}, {"name": "digits"}]
    grid = runs(read_ablation(write(tmp_path, tasks=tasks, data={})))
    assert len(grid) == 3 * 2 * 2
    assert grid[0].name == "qwen_vl_chat__lora_r8__vqav2"
    assert grid[0].command[2:4] == ["-m", "finetuning.vqav2"]
    assert "sample" in grid[0].options
    assert not {"--train_csv", "--image_column"} & set(grid[0].options)


def test_tables_go_to_the_tasks_that_read_tables(tmp_path: Path) -> None:
    tasks = [{"name": "quic"}, {"name": "digits"}]  # an alias
    grid = runs(read_ablation(write(tmp_path, tasks=tasks)))
    readers = {run.task for run in grid if "--train_csv" in run.options}
    assert ({run.task for run in grid}, readers) == ({"quic360", "digits"}, {"quic360"})


def test_a_model_without_model_type_is_looked_at(tmp_path: Path) -> None:
    maker("qwen2_vl")(tmp_path / "qwen")
    maker("llava")(tmp_path / "llava")
    models = [{"name": name, "hf_model_id": str(tmp_path / name)} for name in ("qwen", "llava")]
    of_qwen, of_llava = (options(tmp_path, index, models=models) for index in (0, 2))
    assert of_qwen["--image_size"] == "224"
    assert "--image_size" not in of_llava


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__learning_rat": 1}, r"training\.learning_rat is no key.*mean learning_rate\?"),
        ({"models__0__hf_id": "x"}, r"models\[0\]\.hf_id is no key.*hf_model_id"),
        ({"modells": []}, r"modells is no key of a grid; did you mean models\?"),
        ({"zzz": 1}, r"zzz is no key of a grid; known are experiment_name"),
        ({"training__seed": "many"}, r"training\.seed: expected `int"),
        ({"models__0__torch_dtype": "fp8"}, r"torch_dtype: invalid enum value 'fp8'"),
        ({"models": []}, "models is empty"),
        ({"models__1__name": "blip2"}, "models has the name 'blip2' twice"),
        ({"models__1__name": "a/b"}, "models has the name 'a/b', and names become folders"),
        ({"lora_variants__0__name": "r__8"}, "lora_variants has the name 'r__8'"),
        ({"experiment_name": ".."}, "experiment_name has the name '..'"),
        # with them `a_` and `b` would have the folder of `a` and `_b`
        ({"models__1__name": "a_"}, "models has the name 'a_'"),
        ({"lora_variants__0__name": "_b"}, "lora_variants has the name '_b'"),
        ({"experiment_name": "../up"}, "experiment_name has the name '../up'"),
        ({"data__train_csv": None}, r"data\.train_csv is missing"),
        ({"tasks": [{"name": "digits"}]}, "data names tables, and none of the tasks reads such"),
        ({"tasks": [{"name": "digit"}]}, r"grid\.yaml: tasks: .*Did you mean digits\?"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_ablation(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"grid\.yaml is empty; it must hold a grid"),
        (
            "experiment_name: a\nexperiment_name: b\n",
            "the key experiment_name stands twice.*line 2",
        ),
        ("data: {train_csv: a, train_csv: b}\n", "the key train_csv stands twice"),
    ],
)
def test_a_file_that_says_nothing_or_two_things_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_ablation(tmp_path / "grid.yaml")


def test_settings_may_be_merged_from_others(tmp_path: Path) -> None:
    file = write(tmp_path)
    variants = "lora_variants:\n- &first {name: a, r: 4}\n- {<<: *first, name: b}\n"
    content = yaml.safe_load(file.read_text())
    del content["lora_variants"]
    file.write_text(yaml.safe_dump(content) + variants)
    assert [(v.name, v.r) for v in read_ablation(file).lora_variants] == [("a", 4), ("b", 4)]


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("a: [1,\nb: 2")
    with pytest.raises(ValueError, match=r"grid\.yaml is not valid YAML"):
        read_ablation(file)


@pytest.mark.parametrize("key", ["eval_strategy", "save_strategy", "mixed_precision"])
def test_no_is_a_word_and_true_a_switch(tmp_path: Path, key: str) -> None:
    lines = GUIDE.read_text().splitlines()
    file = tmp_path / "grid.yaml"
    file.write_text(
        "\n".join(f"  {key}: no" if line.strip().startswith(f"{key}:") else line for line in lines)
    )
    training = read_ablation(file).training
    assert getattr(training, key) == "no"
    assert training.gradient_checkpointing is True

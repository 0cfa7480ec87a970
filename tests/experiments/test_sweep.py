"""Settings and seeds as axes of a grid: what the file means, and what is refused in it."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from experiments.ablation import Ablation, Data, ModelEntry, TaskEntry, Variant, read_ablation
from experiments.base_scores import base_runs
from experiments.grid_runs import Run, runs
from experiments.sweep import label
from palitune.scripts import parse_recipe
from tests.helpers import REPOSITORY

GRID = """
experiment_name: try
models: [{name: tiny, hf_model_id: tiny}]
tasks: [{name: digits}]
lora_variants: [{name: small, quantization: none}]
"""


def write(folder: Path, text: str, grid: str = GRID) -> Path:
    file = folder / "grid.yaml"
    file.write_text(grid + text)
    return file


def grid_of(folder: Path, text: str, grid: str = GRID) -> list[Run]:
    return runs(read_ablation(write(folder, text, grid)))


def option(run: Run, name: str) -> str | None:
    words = run.options
    return words[words.index(f"--{name}") + 1] if f"--{name}" in words else None


def test_every_value_is_trained_with_every_other(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "sweep: {learning_rate: [1e-4, 2e-4], lora_rank: [16, 64]}")
    assert [run.name for run in grid] == [
        f"tiny__small__learning_rate={rate}__lora_rank={rank}"
        for rate, rank in product(("0.0001", "0.0002"), (16, 64))
    ]
    assert [run.folder.name for run in grid] == [run.name for run in grid]
    found = [(option(run, "learning_rate"), option(run, "lora_rank")) for run in grid]
    assert found == [*product(("0.0001", "0.0002"), ("16", "64"))]
    assert all(run.options.count("--lora_rank") == 1 for run in grid)


@pytest.mark.parametrize(
    ("setting", "name", "words"),
    [
        # as transformers.TrainingArguments and peft.LoraConfig call them, and this YAML file
        ("num_train_epochs: [1, 2.5]", "num_epochs", ["1.0", "2.5"]),
        ("epochs: [1, 2]", "num_epochs", ["1.0", "2.0"]),
        ("per_device_train_batch_size: [auto, 4]", "batch_size", ["auto", "4"]),
        ("r: [2, 4]", "lora_rank", ["2", "4"]),
        ("alpha: [2, 4]", "lora_alpha", ["2", "4"]),
        ("target_modules: [attention, [attention, ffn]]", "lora_target_modules",
         ["attention", "attention,ffn"]),
        ("mixed_precision: [no, bf16]", "dtype", ["fp32", "bf16"]),
        ("gradient_checkpointing: [true, false]", "gradient_checkpointing", ["on", "off"]),
        ("generation_num_beams: [1, 3]", "num_beams", ["1", "3"]),
        ("lr_scheduler_type: [cosine, constant]", "lr_scheduler_type", ["cosine", "constant"]),
        ("weight_decay: [1e-2, 1E-1, 0]", "weight_decay", ["0.01", "0.1", "0.0"]),
        ("min_pixels: [100, 200]", "min_pixels", ["100", "200"]),
    ],
)  # fmt: skip
def test_a_setting_goes_by_any_of_its_names(
    tmp_path: Path, setting: str, name: str, words: list[str]
) -> None:
    grid = grid_of(tmp_path, f"sweep: {{{setting}}}")
    assert [option(run, name) for run in grid] == words
    assert all(f"__{name}=" in run.name for run in grid)


def test_a_switch_is_given_where_it_is_on(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "sweep: {use_dora: [true, false]}")
    assert ["--use_dora" in run.options for run in grid] == [True, False]
    assert [run.name[-5:] for run in grid] == ["=true", "false"]


def test_the_order_of_axes_and_their_names_make_no_other_runs(tmp_path: Path) -> None:
    first = grid_of(tmp_path, "sweep: {learning_rate: [1e-4, 2e-4], lora_rank: [16, 64]}")
    other = grid_of(tmp_path, "sweep: {r: [64, 16], learning_rate: [0.0002, 0.0001]}")
    assert {run.name: set(run.options) for run in first} == {
        run.name: set(run.options) for run in other
    }


def test_a_key_without_a_value_gives_none(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "sweep: {learning_rate: [1e-4]}\ntraining: {learning_rate: null}")
    assert [option(run, "learning_rate") for run in grid] == ["0.0001"]


def test_image_sizes_take_the_place_of_the_common_one(tmp_path: Path) -> None:
    (run,) = grid_of(tmp_path, "sweep: {image_size: [448]}")
    assert option(run, "image_size") == "448"


@pytest.mark.parametrize(
    "values",
    [
        ["attention,ffn", "attention+ffn", "attention-ffn", "attention ffn", "attention;ffn"],
        ["q" * 60, "q" * 61, f"{'q' * 60}/", "../q", "a/b", "a\\b", "a\nb", "a__b", "a_b", "", " "],
        [0.12345678, 0.12345679, 1e-7, 1e16, 1e15, 3.0, 0.1],
        ["질문: {question}", "질문:  {question}", "{question}?"],
    ],
)
def test_each_value_has_a_label_of_its_own_that_a_folder_can_have(
    values: list[Any], tmp_path: Path
) -> None:
    labels = [label("name", value) for value in values]
    assert len(set(labels)) == len(values)
    for text in labels:
        assert re.fullmatch(r"name=[\w.+-]*", text) and "__" not in text and len(text) < 60
        (tmp_path / text).mkdir()


def test_seeds_are_runs_of_one_cell_scored_on_the_same_examples(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "seeds: [3, 5]\nsweep: {lora_rank: [2]}")
    assert [run.name for run in grid] == [
        "tiny__small__lora_rank=2__seed=3",
        "tiny__small__lora_rank=2__seed=5",
    ]
    assert {run.cell for run in grid} == {"tiny__small__lora_rank=2"}
    assert [option(run, "seed") for run in grid] == ["3", "5"]
    assert {option(run, "eval_seed") for run in grid} == {"0"}


def test_without_variants_there_is_one_of_the_usual_settings(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "sweep: {r: [2, 4]}", GRID.rpartition("lora_variants")[0])
    assert [run.name for run in grid] == ["tiny__lora__lora_rank=2", "tiny__lora__lora_rank=4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep: {lr: [1]}", "sweep.lr is learning_rate here."),
        ("sweep: {load_in_4bit: [true]}", "sweep.load_in_4bit is quantization nf4 here."),
        ("sweep: {learning_rat: [1]}", "sweep.learning_rat is no setting of a training; did you "
         "mean learning_rate?"),
        ("sweep: {zzz: [1]}", "sweep.zzz is no setting of a training; known are answer_sampling,"),
        ("sweep: {deepspeed: [a]}", "sweep.deepspeed is not needed: several GPUs"),
        ("sweep: {learning_rate: 1e-4}", 'sweep.learning_rate must be a list of values, got "1'),
        ("sweep: {learning_rate: {a: 1}}", "sweep.learning_rate must be a list of values"),
        ("sweep: {learning_rate: []}", "sweep.learning_rate is empty; list its values, or leave"),
        ("sweep: {learning_rate: [1, fast]}", 'sweep.learning_rate[1] must be a number, got "fa'),
        ("sweep: {learning_rate: [true]}", "sweep.learning_rate[0] must be a number, got true."),
        ("sweep: {learning_rate: [null]}", "sweep.learning_rate[0] must be a number, got null."),
        ("sweep: {learning_rate: [.nan]}", "sweep.learning_rate[0]: learning_rate must be a fin"),
        ("sweep: {learning_rate: [0]}", "sweep.learning_rate[0]: learning_rate must be above 0"),
        ("sweep: {r: [2, 2.5]}", "sweep.r[1] must be a whole number, got 2.5."),
        ("sweep: {r: [0]}", "sweep.r[0]: lora_rank must be at least 1, got 0."),
        ("sweep: {r: [99999999999999999999, x]}", "sweep.r[1] must be a whole number"),
        ("sweep: {batch_size: [some]}", 'batch_size[0] must be a whole number or auto, got "some"'),
        ("sweep: {use_dora: [maybe]}", 'sweep.use_dora[0] must be true or false, got "maybe".'),
        ("sweep: {lr_scheduler_type: [cosin]}", "must be one of cosine, linear, constant,"),
        ("sweep: {prompt_template: [3]}", "sweep.prompt_template[0] must be text, got 3."),
        ("sweep: {learning_rate: [1e-4, 0.0001]}", "sweep.learning_rate has 0.0001 twice"),
        ("sweep: {num_epochs: [3, 3.0]}", "sweep.num_epochs has 3.0 twice"),
        ("sweep: {target_modules: ['attention,ffn', [attention, ffn]]}", "twice"),
        ("sweep: {mixed_precision: [no, fp32]}", 'sweep.mixed_precision has "fp32" twice'),
        ("sweep: {r: [2], lora_rank: [4]}", "sweep.lora_rank and sweep.r are the same setting"),
        ("sweep: {weight_decay: [0.1]}\ntraining: {weight_decay: 0.2}",
         "sweep.weight_decay and training.weight_decay are the same setting; leave one of them"),
        ("sweep: {epochs: [1]}\ntraining: {num_train_epochs: 2}",
         "sweep.epochs and training.num_train_epochs are the same setting"),
        ("sweep: {quantization: [none]}",
         "sweep.quantization and lora_variants[0].quantization are the same setting"),
        ("sweep: {eval_epochs: [true]}\ntraining: {eval_strategy: epoch}",
         "sweep.eval_epochs and training.eval_strategy are the same setting"),
        ("sweep: {epochs: [1, 2], max_steps: [3, 4]}",
         "sweep.epochs changes nothing beside sweep.max_steps, which decides; leave one of them"),
        ("sweep: {warmup_ratio: [0.1, 0.2]}\ntraining: {warmup_steps: 5}",
         "sweep.warmup_ratio changes nothing beside training.warmup_steps, which decides"),
        ("training: {eval_steps: 5}",
         "training: eval_steps 5 would change nothing, as eval_strategy is no; write eval_strat"),
        ("training: {save_steps: 5}",
         "training: save_steps 5 would change nothing, as save_strategy is epoch; write save_s"),
        ("sweep: {output_dir: [a]}", "sweep.output_dir is no axis of a grid: each run has a"),
        ("sweep: {wandb_project: [a]}", "sweep.wandb_project is no axis of a grid: it decides"),
        ("sweep: {max_eval_samples: [9]}", "is no axis of a grid: scores of other examples"),
        ("sweep: {model_path: [tiny]}", "models are listed under models"),
        ("sweep: {seed: [1, 2]}", "sweep.seed is no axis of a grid: seeds are averaged over;"),
        ("sweep: {save_steps: [1]}", "sweep.save_steps is no axis of a grid: it changes no score."),
        ("sweep: {eval_strategy: [epoch]}", "write `eval_epochs: [true, false]`"),
        ("sweep: {generation_learning_rate: [1]}", "sweep.generation_learning_rate is no setting"),
        ("sweep: {1: [2]}", "sweep.1 is no setting of a training; known are"),
        ("sweep: [1]", "sweep: expected `object`, got `array`."),
        ("seeds: []", "seeds is empty; list them, or leave it out."),
        ("seeds: [1, 1]", "seeds has 1 twice; give each seed once."),
        ("seeds: [-1]", "seeds[0] must be at least 0, got -1."),
        ("seeds: 3", "seeds: expected `array`, got `int`."),
        ("seeds: [one]", "seeds[0]: expected `int`, got `str`."),
        ("seeds: [1]\ntraining: {seed: 1}", "seeds and training.seed are the same setting"),
        ("base: true\nevaluation: {enabled: false}", "base: true scores the base, and evaluation"),
        ("base: maybe", "base: expected `bool`, got `str`."),
        (f"sweep: {{max_steps: {list(range(1, 35))}, lora_rank: {list(range(1, 31))}}}",
         "the grid has 1020 runs (34 max_steps x 30 lora_rank), and at most 1000 are accepted"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_ablation(write(tmp_path, f"\n{text}\n"))
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{tmp_path}/grid.yaml: ")


def test_an_immense_product_is_refused_before_it_is_made(tmp_path: Path) -> None:
    names = ("max_steps", "lora_rank", "lora_alpha", "batch_size", "warmup_steps", "num_beams")
    axes = {name: list(range(1, 500)) for name in names}
    with pytest.raises(ValueError, match=f"the grid has {499**6} runs"):
        read_ablation(write(tmp_path, yaml.safe_dump({"sweep": axes})))


def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    grid = GRID.replace("small", "s" * 240)
    with pytest.raises(ValueError, match="has a name of 246 bytes, and 230 are accepted"):
        grid_of(tmp_path, "", grid)


def bases(folder: Path, text: str, grid: str = GRID) -> list[Run]:
    ablation = read_ablation(write(folder, text, grid))
    return base_runs(ablation, runs(ablation), parse_recipe)


def test_a_base_is_scored_once_whatever_is_swept_in_training(tmp_path: Path) -> None:
    text = "base: true\nseeds: [1, 2]\nsweep: {learning_rate: [1e-4, 2e-4], batch_size: [1, 2]}"
    (base,) = bases(tmp_path, text)
    assert (base.name, base.folder.name) == ("tiny__base", "tiny__base")
    assert base.command[2:5] == ["-m", "palitune.main", "eval"]
    # as a training on digits scores: 1000 examples by default, where eval.py takes all
    expected = {"task": "digits", "model_path": "tiny", "quantization": "none", "seed": "0"}
    expected["max_eval_samples"] = "1000"
    assert {name: option(base, name) for name in expected} == expected
    assert bases(tmp_path, text.replace("true", "false")) == []


def test_a_base_that_is_asked_in_two_ways_is_scored_in_both(tmp_path: Path) -> None:
    found = bases(tmp_path, "base: true\nsweep: {num_beams: [1, 3], lora_rank: [2, 4]}")
    assert [base.name for base in found] == ["tiny__base__num_beams=1", "tiny__base__num_beams=3"]
    assert [option(base, "num_beams") for base in found] == ["1", "3"]


def test_each_model_and_task_has_its_base_and_reads_the_tables_of_its_runs(tmp_path: Path) -> None:
    tables = f"train_csv: {tmp_path}/train.csv, val_csv: {tmp_path}/val.csv"
    data = f"data: {{{tables}, question: 'which?'}}\nbase: true\n"
    tasks = "tasks: [{name: csv_qa}, {name: digits, data_root: d}]"
    grid = GRID.replace("tasks: [{name: digits}]", tasks)
    for name in ("train", "val"):
        (tmp_path / f"{name}.csv").write_text("image,response\na.png,b\n")
    of_table, of_digits = bases(tmp_path, data, grid)
    assert (of_table.name, of_digits.name) == ("tiny__base__csv_qa", "tiny__base__digits")
    # the split of scores is `test`, else `val`
    assert (option(of_table, "csv"), option(of_table, "split")) == (f"{tmp_path}/val.csv", "val")
    assert option(of_table, "question") == "which?"
    assert (option(of_digits, "csv"), option(of_digits, "data_root")) == (None, "d")


def test_a_variant_cannot_be_called_as_the_base_is(tmp_path: Path) -> None:
    grid = GRID.replace("small", "base")
    assert [run.name for run in grid_of(tmp_path, "", grid)] == ["tiny__base"]
    with pytest.raises(ValueError, match="lora_variants has the name 'base', which is that of"):
        grid_of(tmp_path, "base: true", grid)


def test_the_page_on_grids_has_every_key_and_its_example_is_a_grid(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "grids.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE))
    assert set(rows) == {field.name for field in msgspec.structs.fields(Ablation)}
    for key, part in {
        "models": ModelEntry, "lora_variants": Variant, "data": Data, "tasks": TaskEntry
    }.items():  # fmt: skip
        names = {field.name for field in msgspec.structs.fields(part)}
        assert names <= set(re.findall(r"`(\w+)`", rows[key])), key
    (example,) = re.findall(r"^```yaml\n(.+?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(grid_of(tmp_path, example)) == 24

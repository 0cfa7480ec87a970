"""The four-step pipeline: its files, its data, its records, and the whole on a pico model."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from evaluation.prompting import make_prompter
from experiments import pipeline
from experiments.pipeline_config import (
    Columns,
    check_processor,
    read_settings,
)
from experiments.pipeline_data import write_dataset
from experiments.pipeline_report import comparison
from models.base import FamilyOptions
from models.checkpoint import resolve
from models.loading import load_family, load_model
from palitune.main import palitune
from tasks.base import Example, Source, Turn
from tasks.images import ArrayImage
from tasks.registry import get_task
from tests.helpers import REPOSITORY, one_sentence
from tests.models.tiny_families import maker

SECRETS = {"HF_TOKEN": "hf_markedsecret", "WANDB_API_KEY": "markedwandbsecret" + 23 * "0"}
VARIABLES = (*SECRETS, "MODEL_ID", "DATASET", "VLM_MODEL_CONFIG", "VLM_COLLATOR_CONFIG")
COLUMNS = Columns(image="picture", question="ask", answer="say")
COLLATOR = {"dataset_columns": {"image": "picture", "question": "ask", "answer": "say"}}
NUM_PICTURES = 20


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine's counts, and what `.env` sets is taken back."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


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


# --- the files


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
        ("train_config_path", "lr_scheduler_type: linear", ["'linear'; accepted are cosine."]),
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


# --- the classes, and what the model is told


def checkpoint(folder: Path, name: str | None = None) -> Any:
    return resolve(str(folder), options=FamilyOptions(model_class=name))


def test_the_named_class_loads_the_model(pico1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    name = "PaliGemmaForConditionalGeneration"
    wanted = getattr(transformers, name)
    assert load_family(checkpoint(pico1)).model_class is transformers.AutoModelForImageTextToText
    monkeypatch.setattr(transformers, "AutoModelForImageTextToText", None)
    assert load_family(checkpoint(pico1, name)).model_class is wanted
    loaded = load_model(checkpoint(pico1, name), quantization="none", device="cpu")
    assert type(loaded.model) is wanted


@pytest.mark.parametrize(
    "name",
    [
        "PaliGemmaForConditionalGeneratio",  # no such class
        "LlavaForConditionalGeneration",  # of other models
        "AutoModelForCausalLM",  # an Auto class that does not know them
        "AutoModel",  # cannot write
        "GenerationConfig",  # no model
        "os",  # no class
    ],
)
def test_a_class_that_cannot_load_the_model_to_write_is_refused(pico1: Path, name: str) -> None:
    with one_sentence(f"model_class {name}", "(type paligemma)", "AutoModelForImageTextToText"):
        _ = load_family(checkpoint(pico1, name)).model_class


def test_the_processor_must_be_the_checkpoint_s_own_or_auto(pico1: Path) -> None:
    for name in (None, "AutoProcessor", "PaliGemmaProcessor"):
        check_processor(name, checkpoint(pico1))
    for name in ("LlavaProcessor", "PaliGemmaProcesor"):
        with one_sentence(f"processor_class {name}", "name PaliGemmaProcessor or AutoProcessor"):
            check_processor(name, checkpoint(pico1))


def question(text: str) -> Example:
    turns = (Turn("user", text),)
    return Example(example_id=1, image=ArrayImage(None, "none"), turns=turns, references=("x",))


def test_the_system_message_stands_before_the_question(tmp_path: Path) -> None:
    maker("qwen2_vl")(tmp_path)
    family = load_family(resolve(str(tmp_path)))
    prompter = make_prompter(get_task("image_qa"), family, system_message="Be brief.")
    start = [("system", "Be brief."), ("user", "what?")]
    assert prompter.messages(question("what?")) == start
    assert prompter.messages(question("what?"), "x") == [*start, ("assistant", "x")]
    text = " ".join(["word"] * 300)
    length = prompter.num_tokens([("system", "Be brief."), ("user", "word " * 40)])
    short = make_prompter(
        get_task("image_qa"), family, None, length, truncate=True, system_message="Be brief."
    )
    (system, (role, cut)) = short.messages(question(text))
    assert (system, role) == (start[0], "user")
    assert 0 < len(cut) < len(text) and text.startswith(cut)


def test_a_model_without_system_turns_refuses_a_system_message(pico1: Path) -> None:
    family = load_family(resolve(str(pico1)))
    with pytest.raises(ValueError, match="A system message has no meaning for paligemma"):
        make_prompter(get_task("image_qa"), family, system_message="Be brief.")


# --- the data


def png(number: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (32, 24), (12 * number, 60 * (number % 4), 200)).save(content, "PNG")
    return content.getvalue()


def table(numbers: Sequence[int]) -> Any:
    """Two questions about each picture."""
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


def save_folder(folder: Path, names: Mapping[str, bytes]) -> str:
    """Pictures as files, each with a question of its own."""
    folder.mkdir()
    lines = []
    for name, content in names.items():
        (folder / name).write_bytes(content)
        lines.append(json.dumps({"file_name": name, "ask": f"{name}?", "say": "a"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return str(folder)


def pictures(folder: Path) -> dict[str, set[bytes]]:
    """Part -> the pictures in it, by their pixels."""
    import datasets

    return {
        part: {cell["picture"].tobytes() for cell in rows.select_columns(["picture"])}
        for part, rows in datasets.load_from_disk(str(folder)).items()
    }


def test_missing_parts_are_a_tenth_of_train_each_and_share_no_picture(tmp_path: Path) -> None:
    source = save_parts(tmp_path / "source", train=range(NUM_PICTURES))
    record = write_dataset(tmp_path / "raw", source, None, COLUMNS, 0)
    # 40 rows: two parts of 4, each two pictures with both their questions
    assert record["sizes"] == {"train": 32, "validation": 4, "test": 4}
    assert sorted(record["drawn_from_train"]) == ["test", "validation"]
    found = pictures(tmp_path / "raw")
    assert {part: len(shown) for part, shown in found.items()} == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }
    assert len(set().union(*found.values())) == NUM_PICTURES
    write_dataset(tmp_path / "same", source, None, COLUMNS, 0)
    write_dataset(tmp_path / "other", source, None, COLUMNS, 1)
    assert pictures(tmp_path / "same") == found
    assert pictures(tmp_path / "other") != found


def test_each_part_keeps_a_picture_however_many_rows_one_has(tmp_path: Path) -> None:
    import datasets

    many = datasets.concatenate_datasets([table([0])] * 20 + [table([1, 2])])
    datasets.DatasetDict(train=many).save_to_disk(str(tmp_path / "source"))
    record = write_dataset(tmp_path / "raw", str(tmp_path / "source"), None, COLUMNS, 0)
    assert min(record["sizes"].values()) == 2  # both questions of one picture


def test_known_names_are_taken_and_others_left_out(tmp_path: Path) -> None:
    source = save_parts(tmp_path / "source", train=[0, 1], dev=[2], test=[3], extra=[4])
    record = write_dataset(tmp_path / "raw", source, None, COLUMNS, 0)
    assert record["sizes"] == {"train": 4, "validation": 2, "test": 2}
    assert (record["drawn_from_train"], record["left_out"]) == ([], ["extra"])
    written = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert written["made_with"] == {"dataset": source, "dataset_config": None, "seed": 0}
    assert written["columns"].keys() == {"picture", "ask", "say"}
    task = get_task("image_qa")
    columns = {"image": "picture", "instruction": "ask", "response": "say"}
    dataset = task.load("val", Source(data_root=tmp_path / "raw", columns=columns))
    assert [example.references for example in dataset] == [("a",), ("b 2",)]


def test_pictures_are_kept_though_their_folder_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    save_folder(source, {f"{number}.png": png(number) for number in range(5)})
    columns = Columns(image="image", question="ask", answer="say")
    write_dataset(tmp_path / "raw", str(source), None, columns, 0)
    shutil.rmtree(source)
    shutil.rmtree(tmp_path / "cache")
    parts = datasets.load_from_disk(str(tmp_path / "raw")).values()
    shown = {row["ask"]: row["image"].tobytes() for rows in parts for row in rows}
    for number in range(5):
        assert shown[f"{number}.png?"] == Image.open(io.BytesIO(png(number))).tobytes()


def test_copies_of_a_picture_under_several_names_stay_in_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    # three pictures, ten files each: parts drawn by file would share some
    files = {f"{number}_{copy}.png": png(number) for number in range(3) for copy in range(10)}
    source = save_folder(tmp_path / "source", files)
    columns = Columns(image="image", question="ask", answer="say")
    record = write_dataset(tmp_path / "raw", source, None, columns, 0)
    assert record["sizes"] == {"train": 10, "validation": 10, "test": 10}
    found = datasets.load_from_disk(str(tmp_path / "raw"))
    numbers = {part: {ask[0] for ask in rows["ask"]} for part, rows in found.items()}
    assert sorted(map(len, numbers.values())) == [1, 1, 1]


def rows_of(images: Sequence[Any], say: Sequence[Any], kind: Any = None) -> Any:
    """A table of stored pictures and answers, of any kind."""
    import datasets

    kinds = {"picture": datasets.Image(), "ask": datasets.Value("string")}
    kinds["say"] = kind or datasets.Value("string")
    columns = {"picture": list(images), "ask": ["?"] * len(say), "say": list(say)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def stored(*numbers: int) -> list[dict[str, Any]]:
    return [{"bytes": png(number), "path": None} for number in numbers]


@pytest.mark.parametrize(
    ("part", "where"), [("train", "source (train), row 3"), ("test", "source (test), row 3")]
)
def test_a_row_without_a_picture_is_named(tmp_path: Path, part: str, where: str) -> None:
    import datasets

    whole = {"train": rows_of(stored(*range(5)), ["a"] * 5)}
    parts = whole | {part: rows_of([*stored(5, 6, 7), None], ["a"] * 4)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "source"))
    with one_sentence(where, "has no picture in column 'picture'"):
        write_dataset(tmp_path / "raw", str(tmp_path / "source"), None, COLUMNS, 0)


def test_a_picture_whose_file_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    from experiments import pipeline_data

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    source = save_folder(tmp_path / "source", {f"{number}.png": png(number) for number in range(4)})
    loaded = pipeline_data._load(source, None)
    (tmp_path / "source" / "2.png").unlink()
    monkeypatch.setattr(pipeline_data, "_load", lambda *_: loaded)
    columns = Columns(image="image", question="ask", answer="say")
    with one_sentence("source (train), row 2", "2.png cannot be read: No such file"):
        write_dataset(tmp_path / "raw", source, None, columns, 0)


def test_numbers_are_answers_by_their_text(tmp_path: Path) -> None:
    import datasets

    whole, several = datasets.Value("int64"), datasets.List(datasets.Value("int32"))
    parts = {
        "train": rows_of(stored(0, 1), [3, -12], whole),
        "validation": rows_of(stored(2), [[7, 8]], several),
        "test": rows_of(stored(3), [0.5], datasets.Value("float64")),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "source"))
    write_dataset(tmp_path / "raw", str(tmp_path / "source"), None, COLUMNS, 0)
    columns = {"image": "picture", "instruction": "ask", "response": "say"}
    source = Source(data_root=tmp_path / "raw", columns=columns)
    found = {
        part: [example.references for example in get_task("image_qa").load(part, source)]
        for part in ("train", "val", "test")
    }
    assert found == {"train": [("3",), ("-12",)], "val": [("7", "8")], "test": [("0.5",)]}


def test_answers_that_are_no_texts_are_refused_before_anything_is_saved(tmp_path: Path) -> None:
    import datasets

    for kind, answers, message in (
        (datasets.ClassLabel(names=["no", "yes"]), [0, 1], "source (train): column 'say' holds"),
        (datasets.Value("int64"), [3, None], "source (train), row 1, column 'say' is empty"),
    ):
        shutil.rmtree(tmp_path / "source", ignore_errors=True)
        parts = {part: rows_of(stored(0, 1), answers, kind) for part in ("train", "val", "test")}
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "source"))
        with one_sentence(message):
            write_dataset(tmp_path / "raw", str(tmp_path / "source"), None, COLUMNS, 0)
        assert not (tmp_path / "raw").exists()


def test_a_record_tells_data_sets_of_other_content_apart(tmp_path: Path) -> None:
    import datasets

    tables = {
        "first": rows_of(stored(0, 1), "ab"),
        "same": rows_of(stored(0, 1), "ab"),
        "answer": rows_of(stored(0, 1), "ac"),
        "picture": rows_of(stored(0, 2), "ab"),
        "order": rows_of(stored(1, 0), "ba"),
        "swapped": rows_of(stored(1, 0), "ab"),
    }
    found = {}
    for name, train in tables.items():
        rest = {part: rows_of(stored(3), "a") for part in ("validation", "test")}
        source = tmp_path / "source"
        datasets.DatasetDict(train=train, **rest).save_to_disk(str(source))
        write_dataset(tmp_path / name, str(source), None, COLUMNS, 0)
        found[name] = (tmp_path / name / "dataset.json").read_text()
        shutil.rmtree(source)
    assert found["first"] == found.pop("same")
    assert len(set(found.values())) == 5


@pytest.mark.parametrize(
    ("parts", "columns", "message"),
    [
        ({"other": [0]}, COLUMNS, ["no part to train on", "it has other"]),
        ({"train": [0, 1]}, COLUMNS, ["2 picture(s)", "test and validation"]),
        ({"dev": [0], "val": [1], "train": [2]}, COLUMNS, ["has validation twice"]),
        ({"train": [0]}, Columns(), ["no column 'image' for the image", "picture, ask, say"]),
        ({"train": [0]}, Columns(image="ask", question="ask", answer="say"), ["not pictures"]),
    ],
)
def test_data_that_cannot_be_used_is_refused_and_nothing_is_left(
    tmp_path: Path, parts: Mapping[str, Any], columns: Columns, message: Sequence[str]
) -> None:
    source = save_parts(tmp_path / "source", **parts)
    with one_sentence(*message):
        write_dataset(tmp_path / "out" / "raw", source, None, columns, 0)
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_is_nowhere_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with one_sentence("data set ./nowhere is no folder"):
        write_dataset(tmp_path / "raw", "./nowhere", None, COLUMNS, 0)
    with one_sentence("data set some/data cannot be read", "HF_TOKEN"):  # the Hub is not asked
        write_dataset(tmp_path / "raw", "some/data", None, COLUMNS, 0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with one_sentence("data set some/data is no folder here, and the Hub cannot be reached"):
        write_dataset(tmp_path / "raw", "some/data", None, COLUMNS, 0)


def test_an_interrupted_download_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments import pipeline_data

    source = save_parts(tmp_path / "source", train=range(4))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline_data, "write_text", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(tmp_path / "out" / "raw", source, None, COLUMNS, 0)
    assert list((tmp_path / "out").iterdir()) == []
    write_dataset(tmp_path / "out" / "raw", source, None, COLUMNS, 0)


# --- the steps, with a double in place of the commands that they start


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
        figures = {"vqa_accuracy": value, "sacrebleu": 2 * value, "rouge_l": value / 100}
        content = {"task": "image_qa", "split": "test", "num_examples": 4, "value": value}
        content |= {"metric": "vqa_accuracy", "metrics": figures}
        folder.mkdir(parents=True, exist_ok=True)
        content |= {"provenance": {"base_model": "pico"}}
        (folder / "metrics.json").write_text(json.dumps(content))

    @property
    def names(self) -> list[str]:
        return [words[0] for words in self.calls]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    double = Commands()
    monkeypatch.setattr(pipeline, "_run", double)
    yield double


@pytest.fixture
def root(tmp_path: Path, pico1: Path) -> Path:
    """A folder with `.env`, the collator's file and a data set."""
    source = save_parts(tmp_path / "source", train=range(4), val=[4], test=[5])
    collator = write_yaml(tmp_path, COLLATOR, "collator.yaml")
    lines = {"MODEL_ID": pico1, "DATASET": source, "VLM_COLLATOR_CONFIG": collator, **SECRETS}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return tmp_path


def steps(name: str, *arguments: object, exit_code: int = 0) -> Result:
    words = ["pipeline", name, *map(str, arguments)]
    result = CliRunner().invoke(palitune, words)
    assert result.exit_code == exit_code, result.output
    return result


def test_run_is_the_four_steps_and_says_what_it_found_done(root: Path, commands: Commands) -> None:
    first = steps("run").output
    assert commands.names == ["eval", "train", "merge", "eval"]
    for file in (
        *("dataset/raw/dataset_dict.json", "results/model/adapter_model.safetensors"),
        *("results/deployment_model/model.safetensors", "results/evaluation/comparison.md"),
    ):
        assert (root / file).is_file()
    evaluation = root / "results" / "evaluation"
    base, tuned = (
        json.loads((evaluation / f"{name}_vlm_model_evaluation.json").read_text())
        for name in ("base", "finetuned")
    )
    assert (base["value"], tuned["value"], tuned["adapter"]["value"]) == (10.0, 60.0, 61.5)
    assert tuned["deployment_gap"] == -1.5  # 60 - 61.5
    written = (evaluation / "comparison.md").read_text()
    for row in (
        "| vqa_accuracy | 10 | 60 | +50 |",
        "| sacrebleu | 20 | 120 | +100 |",
        "| rouge_l | 0.1 | 0.6 | +0.5 |",
        "(gap -1.5)",
    ):
        assert row in written and row in first
    before = {path: path.read_bytes() for path in (root / "results").rglob("*") if path.is_file()}
    again = steps("run").output
    assert len(commands.calls) == 4
    for step in ("download-dataset", "eval-base", "train", "deployment model", "eval-finetuned"):
        assert f"{step}: done before" in again
    assert {path: path.read_bytes() for path in before} == before


def test_the_commands_get_data_model_and_folders(root: Path, commands: Commands) -> None:
    steps("run", "--max-samples", 3, "--onto", "original")
    base, trained, merged, tuned = (
        dict(zip(words, [*words[1:], ""], strict=True)) for words in commands.calls
    )
    model = os.environ["MODEL_ID"]
    assert base["--model_path"] == trained["--model_path"] == merged["--base_model"] == model
    assert tuned["--model_path"] == "results/deployment_model"
    assert merged["--model_a"] == trained["--output_dir"] == "results/model"
    assert (merged["--onto"], merged["--export"]) == ("original", "full")
    for options in (base, trained, tuned):
        assert options["--data_root"] == "dataset/raw"
        assert options["--max_eval_samples"] == "3"
    assert trained["--max_train_samples"] == "3"


def test_a_failed_step_is_done_anew_and_those_before_it_are_not(
    root: Path, commands: Commands
) -> None:
    commands.fails = "deployment model"
    steps("run", exit_code=1)
    assert not list((root / "results").glob("deployment_model*"))
    commands.fails = None
    steps("run")
    assert commands.names == ["eval", "train", "merge", "merge", "eval"]


def test_what_an_interrupted_training_left_is_gone_on_with_or_replaced(
    root: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetuning.training import output_folder as run_folder

    steps("download-dataset")
    (root / "results" / "model").mkdir(parents=True)
    (root / "results" / "model" / "run.json").write_text("{}")
    commands.fails = "train"
    steps("train", exit_code=1)
    assert commands.calls[-1][-1] == "--overwrite"
    monkeypatch.setattr(run_folder, "last_checkpoint", lambda folder: folder)
    assert "going on with the interrupted training" in steps("train", exit_code=1).output
    assert commands.calls[-1][-1] == "--resume"


@pytest.mark.parametrize(
    ("step", "arguments", "folder", "setting"),
    [
        ("download-dataset", ["--seed", 5], "dataset/raw", "seed 0, not 5"),
        ("eval-base", ["--max_samples", 2], "results/evaluation", "max_eval_samples None, not 2"),
        ("train", ["--peft_config_path", "peft.yaml"], "results/model", "lora_rank 16, not 2"),
        ("train", ["--onto", "original"], "results/deployment_model", "onto auto, not original"),
    ],
)
def test_a_step_done_with_other_settings_is_refused(
    root: Path,
    commands: Commands,
    step: str,
    arguments: Sequence[object],
    folder: str,
    setting: str,
) -> None:
    write_yaml(root, {"r": 2}, "peft.yaml")
    steps("run")
    output = steps(step, *arguments, exit_code=2).output
    (message,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert message.startswith(f"Error: {folder}: ") and setting in message
    assert f"remove {folder}" in message and message.endswith(".")
    assert len(commands.calls) == 4


def test_a_step_done_with_data_of_other_content_is_refused(root: Path, commands: Commands) -> None:
    steps("run")
    shutil.rmtree(root / "source")
    save_parts(root / "source", train=[0, 1, 2, 9], val=[4], test=[5])  # 9 was 3
    shutil.rmtree(root / "dataset")
    steps("download-dataset")
    for step in ("eval-base", "train", "eval-finetuned"):
        assert "was done with dataset_sha256 " in steps(step, exit_code=2).output
    assert len(commands.calls) == 4


def test_an_adapter_that_was_lost_is_named(root: Path, commands: Commands) -> None:
    steps("run")
    (root / "results/model/adapter_model.safetensors").unlink()
    output = steps("train", exit_code=2).output
    assert "has lost adapter_model.safetensors; remove it, and run" in output


def test_zero_is_a_setting_and_not_the_default(root: Path, commands: Commands) -> None:
    write_yaml(root, "warmup_ratio: 0.0", "train.yaml")
    steps("run", "--train_config_path", "train.yaml")
    assert "warmup_ratio 0.0, not None" in steps("train", exit_code=2).output
    assert len(commands.calls) == 4


def test_a_record_of_an_earlier_version_lacks_zeros(root: Path, commands: Commands) -> None:
    steps("run")
    file = root / "results/evaluation/base_vlm_model_evaluation.json"
    record = json.loads(file.read_text())
    assert record["made_with"].pop("seed") == 0
    file.write_text(json.dumps(record))
    assert "eval-base: done before" in steps("eval-base").output


def test_the_table_shows_figures_up_to_1_to_four_decimals() -> None:
    def metrics(value: float, **more: Any) -> dict[str, Any]:
        figures = {"vqa_accuracy": 100 * value, "rouge_l": value}
        return {"metric": "rouge_l", "value": value, "metrics": figures, **more}

    tuned = {"num_examples": 4, "split": "test", "deployment_gap": -0.0007}
    shown = comparison(
        metrics(0.4211, provenance={"base_model": "m"}),
        metrics(0.4249, adapter={"value": 0.4256}, **tuned),
        ("vqa_accuracy", "rouge_l"),
    )
    assert "| vqa_accuracy | 42.11 | 42.49 | +0.38 |" in shown
    assert "| rouge_l | 0.4211 | 0.4249 | +0.0038 |" in shown
    assert "rouge_l 0.4256;" in shown and "0.4249 (gap -0.0007)" in shown


def test_scores_do_not_outlive_the_adapter_that_they_are_of(root: Path, commands: Commands) -> None:
    steps("run")
    (root / "results/model/adapter_model.safetensors").write_bytes(b"others")
    output = steps("eval-finetuned", exit_code=2).output
    assert "adapter_sha256" in output and "results/deployment_model" in output


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        ("eval-base", "download-dataset"),
        ("train", "download-dataset"),
        ("eval-finetuned", "download-dataset"),
    ],
)
@pytest.mark.usefixtures("commands")
def test_a_step_names_the_one_that_must_come_before(root: Path, step: str, wanted: str) -> None:
    assert f"palitune pipeline {wanted}" in steps(step, exit_code=2).output


@pytest.mark.parametrize(
    ("arguments", "files", "message"),
    [
        ([], {"train": "learning_rate: -1"}, "learning_rate must be above 0"),
        ([], {"train": "optim: sdg"}, "optim must be one of"),
        ([], {"peft": "target_modules: [nothing]"}, "nothing"),
        ([], {"collator": "message_format: {user: hello}"}, "{question}"),
        ([], {"collator": "message_format: {system: hello}"}, "leave --system_message out"),
        ([], {"model": "fallback: {model_class: BertModel}"}, "model_class BertModel"),
        ([], {"model": "fallback: {processor_class: X}"}, "processor_class X"),
        (["--model-id", "./none"], {}, "No model at './none'"),
    ],
)
def test_everything_is_checked_before_the_first_step(
    root: Path,
    commands: Commands,
    arguments: Sequence[str],
    files: Mapping[str, str],
    message: str,
) -> None:
    options = {"train": "--train_config_path", "peft": "--peft_config_path"}
    given = [
        word
        for name, content in files.items()
        for word in (
            options.get(name, f"--vlm_{name}_config"),
            write_yaml(root, content, f"{name}.yaml"),
        )
    ]
    output = steps("run", *arguments, *given, exit_code=2).output
    assert message in output
    assert not (root / "dataset").exists() and not commands.calls


def test_a_model_and_a_data_set_must_be_named(commands: Commands) -> None:
    assert "--dataset, or set DATASET" in steps("run", exit_code=2).output
    assert "--model_id, or set MODEL_ID" in steps("train", exit_code=2).output


def test_a_command_that_fails_ends_the_step(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=r"^eval-base stopped with exit code 2, .*\.$"):
        pipeline._run("eval-base", print, ["eval", "--task", "none"])
    assert "Unknown task 'none'" in capfd.readouterr().err


def test_every_step_is_a_command() -> None:
    group = palitune.commands["pipeline"]
    assert isinstance(group, click.Group)
    assert set(group.commands) == {
        *("download-dataset", "eval-base", "train", "eval-finetuned", "run"),
    }


# --- the whole


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

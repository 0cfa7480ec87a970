"""Hub copies: folders saved to disk with their columns, local parquet, and what can go wrong."""

import time
from pathlib import Path
from typing import Any

import datasets
import pytest

from tasks import hub_download
from tasks.base import Dataset, MissingSplit, Source
from tasks.registry import get_task
from tasks.splits import resolve_split
from tests.helpers import Load, one_sentence
from tests.official_files import coco_captions, color_of, write_hub_copy

HUB_TASKS = ("vqav2", "docvqa", "gqa", "coco_captioning")
RGB = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def write_parquet(root: Path, task: str) -> Path:
    """A local folder in the form of a Hub repository of parquet files; VQAv2 of evaluation."""
    saved = write_hub_copy(root / "saved", task, num_train=0 if task == "vqav2" else 4)
    repo = root / "repo"
    for name, table in datasets.load_from_disk(str(saved)).items():
        table.to_parquet(repo / f"data/{name}-00000-of-00001.parquet")
    return repo


def write_gqa_parquet(root: Path) -> Path:
    """The same for GQA: a README with one config for the questions, one for the images."""
    saved = write_hub_copy(root / "saved", "gqa")
    lines = ["---", "configs:"]
    for folder in sorted(saved.iterdir()):
        for split, table in datasets.load_from_disk(str(folder)).items():
            table.to_parquet(root / f"repo/{folder.name}/{split}.parquet")
            lines += [f"- config_name: {folder.name}", "  data_files:", f"  - split: {split}"]
            lines += [f"    path: {folder.name}/{split}.parquet"]
    (root / "repo/README.md").write_text("\n".join([*lines, "---", ""]))
    return root / "repo"


@pytest.mark.parametrize("task", HUB_TASKS)
def test_a_saved_copy_gives_the_examples_with_their_own_images(tmp_path: Path, task: str) -> None:
    write_hub_copy(tmp_path, task)
    source = Source(data_root=tmp_path)
    for splits, first, count in (
        (get_task(task).train_splits, 100, 4),
        (get_task(task).eval_splits, 500, 3),
    ):
        dataset, _ = resolve_split(get_task(task), None, source, splits)
        assert len(dataset) == count
        for index, example in enumerate(dataset):
            color = color_of(first + index)
            assert example.image.open().getpixel((0, 0)) == RGB[color]
            assert color in " ".join(example.references).lower() or "yes" in example.references


@pytest.mark.parametrize(
    ("task", "ids"),
    [
        ("vqav2", [500000, 501000, 502000]),
        ("docvqa", [500, 501, 502]),
        ("gqa", ["0500", "0501", "0502"]),
        ("coco_captioning", [500, 501, 502]),
    ],
)
def test_ids_have_the_type_of_the_task_whatever_the_copy_has(
    tmp_path: Path, task: str, ids: list[int | str]
) -> None:
    source = Source(data_root=write_hub_copy(tmp_path, task))
    dataset, _ = resolve_split(get_task(task), None, source, get_task(task).eval_splits)
    assert [example.example_id for example in dataset] == ids


def test_one_row_per_caption_is_grouped_to_one_example_per_image(
    tmp_path: Path, load: Load
) -> None:
    example = load("coco", "karpathy_val", write_hub_copy(tmp_path, "coco_captioning"))[1]
    assert example.references == tuple(coco_captions(501))


def test_karpathys_splits_do_not_go_by_the_official_names(tmp_path: Path) -> None:
    """Its train holds images of the official val: scored there, an adapter would have seen them."""
    source = Source(data_root=write_hub_copy(tmp_path, "coco_captioning"))
    task = get_task("coco_captioning")
    for splits in (task.train_splits, task.eval_splits):
        dataset, note = resolve_split(task, None, source, splits)
        assert dataset.split in ("karpathy_train", "karpathy_val")
        assert note is not None and dataset.split in note


def test_a_saved_dataset_that_names_no_split_is_for_training_only(
    tmp_path: Path, load: Load
) -> None:
    tables = datasets.load_from_disk(str(write_hub_copy(tmp_path / "all", "docvqa")))
    rows = tables["train"].cast_column("image", datasets.Image(decode=False)).to_list()
    one = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    one.save_to_disk(tmp_path / "one")
    assert len(load("docvqa", "train", tmp_path / "one")) == 4
    with one_sentence("it has train, not 'validation'", "--hub_split", kind=MissingSplit):
        load("docvqa", "val", tmp_path / "one")


def test_reading_a_copy_decodes_no_image(tmp_path: Path, load: Load, opened: list[str]) -> None:
    dataset = load("vqav2", "train", write_hub_copy(tmp_path, "vqav2"))
    assert [example.references[1] for example in dataset] == ["red", "green", "blue", "white"]
    assert opened == []
    dataset[2].image.open()
    assert opened == [f"{tmp_path} (train), row 2"]


def test_entailed_ids_written_as_text_are_read(tmp_path: Path) -> None:
    write_hub_copy(tmp_path, "gqa")
    folder = tmp_path / "testdev_balanced_instructions"
    tables = datasets.load_from_disk(str(folder))
    rows = tables["testdev"].to_list()
    rows[0]["entailed"] = "['0501', '0502']"
    changed = datasets.DatasetDict({"testdev": datasets.Dataset.from_list(rows)})
    changed.save_to_disk(tmp_path / "new/testdev_balanced_instructions")
    (tmp_path / "testdev_balanced_images").rename(tmp_path / "new/testdev_balanced_images")
    dataset = get_task("gqa").load("testdev", Source(data_root=tmp_path / "new"))
    assert dataset[0].details.question.entailed == ("0501", "0502")


def test_a_question_whose_image_is_not_in_the_copy_is_named(tmp_path: Path, load: Load) -> None:
    folder = write_hub_copy(tmp_path, "gqa") / "testdev_balanced_images"
    kept = datasets.load_from_disk(str(folder))["testdev"].select([0, 1])
    kept = datasets.Dataset.from_list(kept.cast_column("image", datasets.Image(False)).to_list())
    datasets.DatasetDict({"testdev": kept}).save_to_disk(tmp_path / "few")
    folder.rename(tmp_path / "away")
    (tmp_path / "few").rename(folder)
    with one_sentence("has no image n500, which question 0500"):
        load("gqa", "testdev", tmp_path)


def test_one_saved_split_serves_that_split_only(tmp_path: Path, load: Load) -> None:
    tables = datasets.load_from_disk(str(write_hub_copy(tmp_path / "all", "vqav2")))
    rows = tables["validation"].cast_column("image", datasets.Image(decode=False)).to_list()
    one = datasets.Dataset.from_list(rows, split=datasets.Split("validation"))
    one.save_to_disk(tmp_path / "one")
    assert len(load("vqav2", "val", tmp_path / "one")) == 3
    with one_sentence("vqav2 split 'train'", "it has validation", kind=MissingSplit):
        load("vqav2", "train", tmp_path / "one")


def test_a_withheld_split_has_no_references(tmp_path: Path, load: Load) -> None:
    tables = datasets.load_from_disk(str(write_hub_copy(tmp_path / "all", "vqav2")))
    rows = tables["validation"].cast_column("image", datasets.Image(decode=False)).to_list()
    hidden = ("answers", "answer_type", "question_type", "multiple_choice_answer")
    rows = [{**row, **dict.fromkeys(hidden)} for row in rows]
    datasets.DatasetDict({"testdev": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "t")
    assert [e.references for e in load("vqav2", "test-dev", tmp_path / "t")] == [(), (), ()]


def test_a_split_that_the_saved_copy_lacks_lists_those_it_has(tmp_path: Path, load: Load) -> None:
    with one_sentence("vqav2 split 'test'", "it has train, validation", kind=MissingSplit):
        load("vqav2", "test", write_hub_copy(tmp_path, "vqav2"))


def test_a_split_that_no_hub_copy_has_asks_for_the_official_files() -> None:
    with one_sentence("coco_captioning split 'test'", "--data_root", kind=MissingSplit):
        get_task("coco").load("test", Source())


def test_a_missing_column_lists_those_there_and_the_override(tmp_path: Path, load: Load) -> None:
    tables = datasets.load_from_disk(str(write_hub_copy(tmp_path / "all", "docvqa")))
    renamed = {"question": "query", "answers": "labels"}
    tables.rename_columns(renamed).save_to_disk(tmp_path / "other")
    with one_sentence("has no column 'question'", "query", "labels", "--hub_columns question="):
        load("docvqa", "val", tmp_path / "other")
    source = Source(
        data_root=tmp_path / "other", columns={"question": "query", "answers": "labels"}
    )
    assert get_task("docvqa").load("val", source)[0].references == ("Red", "red paper")


def test_a_cell_of_the_wrong_type_names_its_row(tmp_path: Path, load: Load) -> None:
    tables = datasets.load_from_disk(str(write_hub_copy(tmp_path / "all", "docvqa")))
    rows = tables["validation"].cast_column("image", datasets.Image(decode=False)).to_list()
    rows[2]["questionId"] = "x"
    bad = datasets.DatasetDict({"validation": datasets.Dataset.from_list(rows)})
    bad.save_to_disk(tmp_path / "bad")
    with one_sentence("(validation), row 2", "`$.questionId`"):
        load("docvqa", "val", tmp_path / "bad")


def test_a_damaged_saved_copy_is_named(tmp_path: Path, load: Load) -> None:
    write_hub_copy(tmp_path, "vqav2")
    (tmp_path / "train/state.json").write_text("{")
    with one_sentence(f"{tmp_path} was written by save_to_disk, but is damaged"):
        load("vqav2", "train", tmp_path)


@pytest.mark.usefixtures("no_shared_cache")
@pytest.mark.parametrize("task", ["vqav2", "docvqa", "coco_captioning"])
def test_a_local_folder_of_parquet_files_serves_as_repository(tmp_path: Path, task: str) -> None:
    source = Source(hub_repo=str(write_parquet(tmp_path, task)))
    dataset, _ = resolve_split(get_task(task), None, source, get_task(task).eval_splits)
    assert len(dataset) == 3
    assert dataset[1].image.open().getpixel((0, 0)) == RGB["green"]


@pytest.mark.usefixtures("no_shared_cache")
def test_a_local_repository_of_gqa_has_its_two_configs_joined(tmp_path: Path) -> None:
    dataset = get_task("gqa").load("testdev", Source(hub_repo=str(write_gqa_parquet(tmp_path))))
    assert [e.example_id for e in dataset] == ["0500", "0501", "0502"]
    assert dataset[1].image.open().getpixel((0, 0)) == RGB["green"]


@pytest.mark.usefixtures("no_shared_cache")
def test_split_config_and_columns_can_be_overridden(tmp_path: Path) -> None:
    source = Source(
        hub_repo=str(write_parquet(tmp_path, "docvqa")),
        hub_split="train",
        hub_config="default",
        columns={"questionId": "docId"},
    )
    ids = [e.example_id for e in get_task("docvqa").load("val", source)]
    assert ids == [100, 101, 102, 103]


@pytest.mark.usefixtures("no_shared_cache")
def test_a_split_that_the_repository_lacks_is_one_sentence(tmp_path: Path) -> None:
    source = Source(hub_repo=str(write_parquet(tmp_path, "vqav2")), hub_split="trian")
    with one_sentence("trian", "--hub_split"):
        get_task("vqav2").load("val", source)


@pytest.mark.usefixtures("no_shared_cache")
def test_a_damaged_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    repo = write_parquet(tmp_path, "docvqa")
    (repo / "data/validation-00000-of-00001.parquet").write_bytes(b"PAR1")
    with one_sentence(f"{repo} cannot be read"):
        get_task("docvqa").load("val", Source(hub_repo=str(repo)))


@pytest.mark.usefixtures("no_shared_cache")
def test_a_script_repository_names_the_copy_to_use(tmp_path: Path) -> None:
    (tmp_path / "VQAv2").mkdir()
    (tmp_path / "VQAv2/VQAv2.py").write_text("import datasets\n")
    with one_sentence("VQAv2 is a loading script", "such as lmms-lab/VQAv2"):
        get_task("vqav2").load("val", Source(hub_repo=str(tmp_path / "VQAv2")))


@pytest.mark.parametrize("task", HUB_TASKS)
def test_without_network_the_error_comes_in_under_five_seconds(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with one_sentence("the Hub cannot be reached; pass --data_root"):
        resolve_split(get_task(task), None, Source(), get_task(task).eval_splits)
    assert time.monotonic() - start < 5


def test_offline_and_not_in_the_cache_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def refuse(*_: Any, **__: Any) -> Dataset:
        raise ConnectionError("Couldn't reach the Hub\n(offline mode is enabled)")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with one_sentence("lmms-lab/VQAv2 cannot be read: HF_HUB_OFFLINE is set"):
        get_task("vqav2").load("val", Source())


def test_a_repository_that_is_not_there_names_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Dataset:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub.")

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_download, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    with one_sentence("a/b is not on the Hub or needs a login", "hf auth login"):
        get_task("vqav2").load("val", Source(hub_repo="a/b"))


def test_rows_without_an_image_are_found_when_the_table_is_read(tmp_path: Path) -> None:
    import datasets
    from PIL import Image

    image = Image.new("RGB", (8, 8))
    features = {"image": datasets.Image()} | dict.fromkeys(
        ("question", "answer"), datasets.Value("string")
    )
    rows = {"image": [image, None, image, None], "question": ["q"] * 4, "answer": ["a"] * 4}
    table = datasets.Dataset.from_dict(rows, datasets.Features(features))
    datasets.DatasetDict(train=table).save_to_disk(str(tmp_path))
    with one_sentence("has 2 row(s) without an image in column 'image': 1, 3"):
        get_task("image_qa").load("train", Source(data_root=tmp_path))

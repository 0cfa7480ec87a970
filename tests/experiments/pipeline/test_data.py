"""The data set in three parts."""

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.pipeline_config import (
    Columns,
)
from experiments.pipeline_data import write_dataset
from tasks.base import Source
from tasks.registry import get_task
from tests.experiments.pipeline.helpers import COLUMNS, NUM_PICTURES, png, save_parts, table
from tests.helpers import one_sentence


def save_folder(folder: Path, names: Mapping[str, bytes]) -> str:
    """Images as files, each with a question of its own."""
    folder.mkdir()
    lines = []
    for name, content in names.items():
        (folder / name).write_bytes(content)
        lines.append(json.dumps({"file_name": name, "ask": f"{name}?", "say": "a"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return str(folder)


def images(folder: Path) -> dict[str, set[bytes]]:
    """Part -> the images in it, by their pixels."""
    import datasets

    return {
        part: {cell["picture"].tobytes() for cell in rows.select_columns(["picture"])}
        for part, rows in datasets.load_from_disk(str(folder)).items()
    }


def test_missing_parts_are_a_tenth_of_train_each_and_share_no_image(tmp_path: Path) -> None:
    source = save_parts(tmp_path / "source", train=range(NUM_PICTURES))
    record = write_dataset(tmp_path / "raw", source, None, COLUMNS, 0)
    # 40 rows: two parts of 4, each two images with both their questions
    assert record["sizes"] == {"train": 32, "validation": 4, "test": 4}
    assert sorted(record["drawn_from_train"]) == ["test", "validation"]
    found = images(tmp_path / "raw")
    assert {part: len(shown) for part, shown in found.items()} == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }
    assert len(set().union(*found.values())) == NUM_PICTURES
    write_dataset(tmp_path / "same", source, None, COLUMNS, 0)
    write_dataset(tmp_path / "other", source, None, COLUMNS, 1)
    assert images(tmp_path / "same") == found
    assert images(tmp_path / "other") != found


def test_each_part_keeps_an_image_however_many_rows_one_has(tmp_path: Path) -> None:
    import datasets

    many = datasets.concatenate_datasets([table([0])] * 20 + [table([1, 2])])
    datasets.DatasetDict(train=many).save_to_disk(str(tmp_path / "source"))
    record = write_dataset(tmp_path / "raw", str(tmp_path / "source"), None, COLUMNS, 0)
    assert min(record["sizes"].values()) == 2  # both questions of one image


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


def test_images_are_kept_though_their_folder_goes(
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


def test_copies_of_an_image_under_several_names_stay_in_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    # three images, ten files each: parts drawn by file would share some
    files = {f"{number}_{copy}.png": png(number) for number in range(3) for copy in range(10)}
    source = save_folder(tmp_path / "source", files)
    columns = Columns(image="image", question="ask", answer="say")
    record = write_dataset(tmp_path / "raw", source, None, columns, 0)
    assert record["sizes"] == {"train": 10, "validation": 10, "test": 10}
    found = datasets.load_from_disk(str(tmp_path / "raw"))
    numbers = {part: {ask[0] for ask in rows["ask"]} for part, rows in found.items()}
    assert sorted(map(len, numbers.values())) == [1, 1, 1]


def rows_of(images: Sequence[Any], say: Sequence[Any], kind: Any = None) -> Any:
    """A table of stored images and answers, of any kind."""
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
def test_a_row_without_an_image_is_named(tmp_path: Path, part: str, where: str) -> None:
    import datasets

    whole = {"train": rows_of(stored(*range(5)), ["a"] * 5)}
    parts = whole | {part: rows_of([*stored(5, 6, 7), None], ["a"] * 4)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "source"))
    with one_sentence(where, "has no image in column 'picture'"):
        write_dataset(tmp_path / "raw", str(tmp_path / "source"), None, COLUMNS, 0)


def test_an_image_whose_file_is_gone_is_named(
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
        ({"train": [0, 1]}, COLUMNS, ["2 image(s)", "test and validation"]),
        ({"dev": [0], "val": [1], "train": [2]}, COLUMNS, ["has validation twice"]),
        ({"train": [0]}, Columns(), ["no column 'image' for the image", "picture, ask, say"]),
        ({"train": [0]}, Columns(image="ask", question="ask", answer="say"), ["not images"]),
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

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline_data, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(tmp_path / "out" / "raw", source, None, COLUMNS, 0)
    assert list((tmp_path / "out").iterdir()) == []
    write_dataset(tmp_path / "out" / "raw", source, None, COLUMNS, 0)

"""Result files: both formats, what is refused and how, and what a leaderboard is given."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasks.base import Dataset, Source
from tasks.images import FileImage
from tasks.registry import get_task
from tasks.result_files import Prediction, match, read_predictions, write_results
from tests.helpers import one_sentence
from tests.official_files import write_coco, write_docvqa, write_gqa, write_vqav2

OFFICIAL = {
    "vqav2": ("question_id", "answer", 500000),
    "docvqa": ("questionId", "answer", 500),
    "gqa": ("questionId", "prediction", "0500"),
    "coco_captioning": ("image_id", "caption", 500),
}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def texts(predictions: dict[int | str, Prediction]) -> dict[int | str, str]:
    return {key: prediction.text for key, prediction in predictions.items()}


@pytest.mark.parametrize("task", OFFICIAL)
def test_the_leaderboards_format_is_read(task: str, tmp_path: Path) -> None:
    id_key, text_key, example_id = OFFICIAL[task]
    path = write(tmp_path / "r.json", [{id_key: example_id, text_key: " Red."}])
    assert texts(read_predictions(path, get_task(task))) == {example_id: " Red."}


def test_our_format_is_read_with_what_it_says_of_its_making(tmp_path: Path) -> None:
    row = {"id": 7, "prompt": "answer en what?", "raw_prediction": " Red ", "prediction": "Red"}
    path = write(tmp_path / "p.jsonl", json.dumps({**row, "references": ["x"], "score": 0}) + "\n")
    (prediction,) = read_predictions(path, get_task("vqav2")).values()
    assert (prediction.text, prediction.raw_text, prediction.prompt) == (
        *("Red", " Red ", "answer en what?"),
    )


@pytest.mark.parametrize(("task", "given", "read"), [("vqav2", "12", 12), ("gqa", 12, "12")])
def test_ids_become_the_type_of_the_task(
    task: str, given: int | str, read: int | str, tmp_path: Path
) -> None:
    id_key, text_key, _ = OFFICIAL[task]
    path = write(tmp_path / "r.json", [{id_key: given, text_key: "red"}])
    assert list(read_predictions(path, get_task(task))) == [read]


def test_leading_zeros_of_text_ids_are_kept(tmp_path: Path) -> None:
    content = [{"questionId": i, "prediction": i} for i in ("01", "1")]
    path = write(tmp_path / "r.json", content)
    assert texts(read_predictions(path, get_task("gqa"))) == {"01": "01", "1": "1"}


def test_byte_order_marks_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    official = '\ufeff[\r\n{"question_id": 1,\r\n"answer": "red"}\r\n]\r\n'
    ours = '\ufeff{"id": 1, "prediction": "red"}\r\n\r\n{"id": 2, "prediction": ""}\r\n'
    task = get_task("vqav2")
    assert texts(read_predictions(write(tmp_path / "a", official), task)) == {1: "red"}
    assert texts(read_predictions(write(tmp_path / "b", ours), task)) == {1: "red", 2: ""}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('[{"question_id": 1, "answer": null}]', ["Expected `str`, got `null`", "$[0].answer"]),
        ('[{"question_id": 1, "answer": 3}]', ["Expected `str`, got `int`", "$[0].answer"]),
        ('[{"question_id": 1}]', ["missing required field `answer`", '{"question_id": number']),
        ('[{"question_id": "x", "answer": "a"}]', ["$[0].question_id"]),
        ('[{"question_id": 1, "answer": "a"}, {"quest', ["not complete JSON"]),
        ("", ["not complete JSON"]),
        ("[]", ["is empty"]),
        ('"red"', ["Expected `array`"]),
        ('{"id": 1, "prediction": "a"}\n{"id": 2, "pre', [", line 2,", "truncated"]),
        ('{"id": 1, "prediction": null}', [", line 1,", "Expected `str`, got `null`"]),
        ('{"1": "red"}', [", line 1,", "missing required field `id`"]),
        ('[{"question_id": 1, "answer": "\udc80"}]', ["r.json"]),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(
    content: str, parts: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with one_sentence(str(path), *parts):
        read_predictions(path, get_task("vqav2"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with one_sentence(f"{tmp_path}/none.json cannot be read: No such file"):
        read_predictions(tmp_path / "none.json", get_task("vqav2"))


def test_ids_that_come_twice_are_named_up_to_five(tmp_path: Path) -> None:
    content = [{"question_id": i % 7, "answer": "x"} for i in range(14)]
    with one_sentence("7 id(s) more than once: 0, 1, 2, 3, 4, …"):
        read_predictions(write(tmp_path / "r.json", content), get_task("vqav2"))


def vqav2_examples(root: Path, num: int) -> Dataset:
    return get_task("vqav2").load("val", Source(data_root=write_vqav2(root, num_val=num)))


def predictions(*ids: int) -> dict[int | str, Prediction]:
    return {i: Prediction(id=i, text="red") for i in ids}


def test_missing_and_unknown_ids_are_counted_and_named_up_to_five(tmp_path: Path) -> None:
    examples = list(vqav2_examples(tmp_path, 8))
    given = predictions(500000, *range(6))
    with one_sentence(
        "r.json does not fit vqav2 split 'val', by id",
        "no prediction for 7 of 8: 501000, 502000, 503000, 504000, 505000, …",
        "6 that are not in it: 0, 1, 2, 3, 4, …",
        "--allow_partial",
    ):
        match(examples, given, Path("r.json"), "vqav2 split 'val'")


def test_partial_files_are_scored_where_allowed_and_that_is_said(tmp_path: Path) -> None:
    examples = list(vqav2_examples(tmp_path, 3))
    common, note = match(
        examples, predictions(501000, 7), Path("r.json"), "the split", allow_partial=True
    )
    assert [example.example_id for example in common] == [501000]
    assert note is not None
    assert "no prediction for 2 of 3" in note and note.endswith("Only 1 are scored.")


def test_files_without_a_common_id_are_refused_even_so(tmp_path: Path) -> None:
    examples = list(vqav2_examples(tmp_path, 3))
    with one_sentence("No id is in both"):
        match(examples, predictions(7), Path("r.json"), "the split", allow_partial=True)


def test_a_whole_file_needs_no_note(tmp_path: Path) -> None:
    examples = list(vqav2_examples(tmp_path, 3))
    given = predictions(502000, 500000, 501000)
    assert match(examples, given, Path("r.json"), "the split") == (examples, None)


WRITERS = {
    "vqav2": (write_vqav2, "test", "v2_OpenEnded_mscoco_test2015_palitune_results.json"),
    "docvqa": (write_docvqa, "test", "docvqa_test_results.json"),
    "gqa": (write_gqa, "test", "test_balanced_predictions.json"),
    "coco_captioning": (write_coco, "test", "captions_test2014_palitune_results.json"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_leaderboards_file_has_its_keys_types_and_name(name: str, tmp_path: Path) -> None:
    write_data, split, file_name = WRITERS[name]
    task = get_task(name)
    dataset = task.load(split, Source(data_root=write_data(tmp_path)))
    ids = [example.example_id for example in dataset]
    path = tmp_path / task.results_name(dataset)
    assert path.name == file_name
    write_results(path, task, dataset, {i: f"answer to {i}" for i in reversed(ids)})
    id_key, text_key, _ = OFFICIAL[name]
    assert json.loads(path.read_text()) == [{id_key: i, text_key: f"answer to {i}"} for i in ids]


def test_a_leaderboard_is_not_given_part_of_a_split(tmp_path: Path) -> None:
    dataset = vqav2_examples(tmp_path, 3)
    with one_sentence("one prediction for each of the 3 examples of split 'val', and there are 2"):
        write_results(tmp_path / "r.json", dataset.task, dataset, {500000: "x", 501000: "x"})
    assert not (tmp_path / "r.json").exists()


def test_predictions_for_rows_that_have_moved_are_refused(tmp_path: Path) -> None:
    dataset = vqav2_examples(tmp_path, 3)
    examples = list(dataset)
    found = {
        example.example_id: Prediction(
            id=example.example_id, text="red", references=list(other.references)
        )
        for example, other in zip(examples, examples, strict=True)
    }
    assert match(examples, found, tmp_path / "p.jsonl", "vqav2 split 'val'") == (examples, None)
    first = examples[0].example_id
    found[first] = Prediction(id=first, text="red", references=["another row's"])
    with one_sentence("was written for other data", "of 1 of 3 examples differ", str(first)):
        match(examples, found, tmp_path / "p.jsonl", "vqav2 split 'val'")


def our_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """What predictions.jsonl has of a split whose references are not known."""
    return [
        {
            "id": example.example_id,
            "question": example.turns[-1].text,
            "image": f"/elsewhere/{Path(example.image.name).name}",
            "prediction": "red",
            "references": [],
        }
        for example in dataset
    ]


def read_rows(rows: list[dict[str, Any]], folder: Path, task: str) -> dict[int | str, Prediction]:
    path = write(folder / "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return read_predictions(path, get_task(task))


@pytest.mark.parametrize("what", ["image", "question"])
def test_predictions_about_other_images_or_questions_are_refused(what: str, tmp_path: Path) -> None:
    dataset = vqav2_examples(tmp_path, 3)
    rows = our_rows(dataset)
    moved = [row | {what: other[what]} for row, other in zip(rows, rows[::-1], strict=True)]
    if what == "question":
        moved = [row | {what: f"{row[what]} {row['id']}"} for row in rows[:2]] + rows[2:]
    path = tmp_path / "p.jsonl"
    # the one in the middle stays where it was: of three rows reversed, or the last one as it is
    with one_sentence(
        f"{path} was written for other data", f"the {what}s of 2 of 3 examples differ, 500000, "
    ):
        match(list(dataset), read_rows(moved, tmp_path, "vqav2"), path, "vqav2 split 'val'")


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"image": "org/copy (val), row 7"},
        {"image": 7, "question": ["which?"], "images": 5},
        {"image": None, "question": None, "images": [1]},
    ],
)
def test_predictions_for_the_same_rows_or_of_unknown_ones_are_taken(
    others: dict[str, Any], tmp_path: Path
) -> None:
    dataset = vqav2_examples(tmp_path, 3)
    found = read_rows([row | others for row in our_rows(dataset)], tmp_path, "vqav2")
    assert match(list(dataset), found, tmp_path / "p.jsonl", "the split") == ([*dataset], None)


def test_a_question_in_a_leaderboards_file_may_be_the_prompt_of_another_tool(
    tmp_path: Path,
) -> None:
    dataset = vqav2_examples(tmp_path, 1)
    record = {"question_id": 500000, "answer": "red", "question": "<image> a?", "image": "x.png"}
    found = read_predictions(write(tmp_path / "r.json", [record]), get_task("vqav2"))
    assert match(list(dataset), found, tmp_path / "r.json", "the split") == ([*dataset], None)


def test_of_several_images_each_counts(tmp_path: Path) -> None:
    first, *_ = vqav2_examples(tmp_path, 1)
    several = msgspec.structs.replace(first, further_images=(FileImage("b/2.png"),))
    row = our_rows([several])[0]  # type: ignore[arg-type]
    names = [row["image"], "a/2.png"]
    found = read_rows([row | {"images": names}], tmp_path, "vqav2")
    assert match([several], found, tmp_path / "p.jsonl", "the split") == ([several], None)
    found = read_rows([row | {"images": [names[0], "a/3.png"]}], tmp_path, "vqav2")
    with one_sentence("the images of 1 of 1 examples differ, 500000"):
        match([several], found, tmp_path / "p.jsonl", "the split")

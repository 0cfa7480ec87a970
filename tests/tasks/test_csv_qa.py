"""csv_qa: images found from paths and URLs, both pairs of column names, scores in any script."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.base import Dataset, Example, MissingSplit, Source
from tasks.faults import Fault
from tasks.registry import get_task
from tasks.report import evaluate
from tasks.report_files import write_report
from tasks.splits import resolve_split
from tasks.usable import unreadable_images
from tests.helpers import one_sentence

TASK = get_task("csv_qa")


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 4), "red").save(folder / name)


def load(path: Path, content: str, **source: Any) -> Dataset:
    path.write_text(content, encoding="utf-8")
    return TASK.load("val", Source(tables={"val": path}, **source))


@pytest.mark.parametrize(
    "header", ["image,instruction,response", "url,query,annotation", "image_path,query,response"]
)
def test_each_row_is_an_example_under_either_pair_of_column_names(
    tmp_path: Path, header: str
) -> None:
    write_images(tmp_path, "a.png")
    dataset = load(tmp_path / "t.csv", f"{header}\na.png,What colour?, red \na.png,How many?,2\n")
    assert [(e.example_id, e.turns[0].text, e.references) for e in dataset] == [
        (2, "What colour?", ("red",)),
        (3, "How many?", ("2",)),
    ]
    assert dataset[0].image.open().size == (8, 4)


def test_named_columns_win_over_known_ones(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    columns = {"instruction": "question", "response": "answer"}
    content = "image,instruction,response,question,answer\na.png,no,no,yes?,yes\n"
    (example,) = load(tmp_path / "t.csv", content, columns=columns)
    assert (example.turns[0].text, example.references) == ("yes?", ("yes",))
    with one_sentence("no column 'caption'", "did you mean captions?", "--response_column"):
        load(tmp_path / "t.csv", "image,query,captions\n", columns={"response": "caption"})


def test_a_list_of_responses_is_a_list_of_references(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    row = {"image": "a.png", "instruction": "?", "response": ["red", "crimson"]}
    assert load(tmp_path / "t.jsonl", json.dumps(row))[0].references == ("red", "crimson")


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("a.png", "a.png"),
        ("deep/a.png", "deep/a.png"),
        ("a.png", "images/a.png"),
        ("https://example.org/1/a.png", "a.png"),
        ("https://example.org/1/a%20b.png?size=2", "a b.png"),
        ("http://example.org/a.png", "images/a.png"),
        ("http://example.org/..%2Fa.png", "a.png"),
    ],
)
@pytest.mark.parametrize("place", ["beside the table", "data_root"])
def test_images_lie_beside_the_table_or_under_data_root(
    tmp_path: Path, cell: str, file: str, place: str
) -> None:
    (tmp_path / "tables").mkdir()
    root = tmp_path / ("tables" if place == "beside the table" else "elsewhere")
    write_images(root, file)
    content = f"image,instruction,response\n{cell},?,x\n"
    source = {} if place == "beside the table" else {"data_root": root}
    (example,) = load(tmp_path / "tables" / "t.csv", content, **source)
    assert Path(example.image.name) == root / file


def test_a_path_may_be_absolute_or_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, "data/a.png")
    (tmp_path / "tables").mkdir()
    monkeypatch.chdir(tmp_path)
    for cell in (f"{tmp_path}/data/a.png", "data/a.png"):
        dataset = load(tmp_path / "tables/t.csv", f"image,instruction,response\n{cell},?,x\n")
        assert dataset[0].image.open().size == (8, 4)


def test_missing_images_are_counted_and_named_in_one_sentence(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    content = "image,instruction,response\na.png,?,x\nhttps://h/b.jpg,?,x\nc.png,?,x\nc.png,!,x\n"
    missing = "missing: https://h/b.jpg (line 3), c.png (line 4); looked in"
    with one_sentence("2 of the 3 images", missing, str(tmp_path / "images"), "URL's last part"):
        load(tmp_path / "t.csv", content)
    # predictions of a file are scored without images
    assert len(load(tmp_path / "t.csv", content, with_images=False)) == 4


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("one_01.PNG", " (there is {0}/one_01.png, with other capitals)"),
        ("one_01.jpg", " (there is {0}/one_01.png, with another ending)"),
        ("noe_01.png", " (did you mean {0}/one_01.png?)"),
        ("one_02.png", ""),  # another one of the series
    ],
)
def test_of_a_missing_image_the_table_the_line_the_cell_and_the_places_are_said(
    cell: str, hint: str, tmp_path: Path
) -> None:
    write_images(tmp_path, "one_01.png")
    content = f"image,instruction,response\none_01.png,?,x\n{cell},?,x\n"
    table, images = tmp_path / "t.csv", tmp_path / "images"
    hint = hint.format(tmp_path)
    parts = (f"that {table} names is missing: {cell} (line 3){hint}; looked in", str(images))
    with one_sentence(*parts):
        load(table, content)
    faults: list[Fault] = []
    dataset = load(table, content, faults=faults)
    assert not faults
    (fault,) = unreadable_images(dataset)
    looked = f"{tmp_path} or {images} or this folder"
    assert (fault.id, fault.file) == (3, cell)
    assert fault.reason == f"{cell} ({table}, line 3) does not exist in {looked}{hint}."


def test_two_urls_that_would_be_one_file_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    content = "image,instruction,response\nhttps://h/1/a.jpg,?,x\nhttps://h/2/a.jpg,?,x\n"
    with one_sentence("https://h/1/a.jpg and https://h/2/a.jpg", "one file"):
        load(tmp_path / "t.csv", content)


def write_tables(folder: Path, *, train: str, val: str) -> Source:
    """A table for each split, of one row with this URL or path."""
    files = {}
    for split, cell in {"train": train, "val": val}.items():
        files[split] = folder / f"{split}.csv"
        files[split].write_text(f"url,query,annotation\n{cell},?,x\n")
    return Source(tables=files)


@pytest.mark.parametrize("named", [True, False])
def test_two_urls_of_two_tables_that_would_be_one_file_are_refused(
    tmp_path: Path, named: bool
) -> None:
    write_images(tmp_path, "1.jpg")
    source = write_tables(tmp_path, train="http://x/AAA/1.jpg", val="http://x/BBB/1.jpg")
    if not named:
        source = Source(data_root=tmp_path)
    for split in ("train", "val"):
        with one_sentence("http://x/AAA/1.jpg", "http://x/BBB/1.jpg", f"file, {tmp_path}/1.jpg"):
            TASK.load(split, source)
    # predictions of a file are scored without images
    assert len(TASK.load("val", replace(source, with_images=False))) == 1


def test_tables_in_folders_of_their_own_may_each_have_an_image_of_a_name(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.jpg", "b/1.jpg")
    source = write_tables(tmp_path, train="http://x/AAA/1.jpg", val="http://x/BBB/1.jpg")
    files = {
        split: path.rename(tmp_path / f / "t.csv")
        for (split, path), f in zip(source.tables.items(), "ab", strict=True)
    }
    for split, folder in (("train", "a"), ("val", "b")):
        (example,) = TASK.load(split, Source(tables=files))
        assert Path(example.image.name) == tmp_path / folder / "1.jpg"


@pytest.mark.parametrize(
    "val",
    [
        "http://x/AAA/1.jpg",  # the same image
        "1.jpg",  # a path says which file is meant
        "http://[x/1.jpg",  # a fault of the other table
    ],
)
def test_another_table_is_looked_at_for_other_urls_alone(tmp_path: Path, val: str) -> None:
    write_images(tmp_path, "1.jpg")
    source = write_tables(tmp_path, train="http://x/AAA/1.jpg", val=val)
    assert len(TASK.load("train", source)) == 1


def test_a_url_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    write_images(tmp_path, "0.png")
    with one_sentence("t.csv, line 3", "'http://[x/0.png'", "path of the image"):
        load(tmp_path / "t.csv", "url,query,annotation\n0.png,?,x\nhttp://[x/0.png,?,x\n")


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("a.png,,x", ("line 2", "instruction is empty")),
        ("a.png,?,", ("line 2", "response is empty")),
        (" ,?,x", ("line 2", "image is empty")),
    ],
)
def test_an_empty_cell_is_named_by_its_line(
    tmp_path: Path, row: str, parts: tuple[str, ...]
) -> None:
    write_images(tmp_path, "a.png")
    with one_sentence(*parts):
        load(tmp_path / "t.csv", f"image,instruction,response\n{row}\n")


def test_tables_of_a_folder_go_by_the_names_of_the_splits(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    for name in ("train.csv", "validation.csv"):
        text = f"image,instruction,response\na.png,{name},x\n"
        (tmp_path / name).write_text(text)
    source = Source(data_root=tmp_path)
    assert TASK.load("train", source)[0].turns[0].text == "train.csv"
    # the test table is what is scored; here there is none
    dataset, note = resolve_split(TASK, None, source, TASK.eval_splits)
    assert dataset.split == "val" and note is not None and "'test'" in note
    with one_sentence("csv_qa split 'test'", "test.csv", "--test_csv", kind=MissingSplit):
        TASK.load("test", source)
    with one_sentence("csv_qa split 'train'", "--train_csv", kind=MissingSplit):
        TASK.load("train", Source())


def test_a_hub_copy_with_these_columns_is_read_too(tmp_path: Path) -> None:
    import datasets

    write_images(tmp_path, "a.png")
    for name, answers, references in (
        ("texts", ["x", "y"], ("x", "y")),
        ("numbers", [3, 4], ("3", "4")),
        ("number", 3, ("3",)),
    ):
        columns = {"image": [str(tmp_path / "a.png")], "query": ["?"], "annotation": [answers]}
        table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
        datasets.DatasetDict(validation=table).save_to_disk(str(tmp_path / name))
        (example,) = TASK.load("val", Source(data_root=tmp_path / name))
        assert (example.turns[0].text, example.references) == ("?", references)
        assert example.image.open().size == (8, 4)


def test_parquet_with_the_images_in_it_names_the_way_to_read_it(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {"image": [{"bytes": b"x", "path": "a"}], "query": ["?"], "annotation": ["x"]}
    path = tmp_path / "val.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with one_sentence("holds the images themselves", f"--hub_repo {tmp_path}"):
        TASK.load("val", Source(tables={"val": path}))


def examples(*references: tuple[str, ...]) -> list[Example]:
    return [
        Example(example_id=i, image=None, turns=(), references=texts)  # type: ignore[arg-type]
        for i, texts in enumerate(references)
    ]


@pytest.mark.usefixtures("no_java")
def test_the_headline_is_the_mean_rouge_l_and_every_other_figure_stands_beside_it() -> None:
    # "a red cat" / "a cat": subsequence 2, precision 2/3, recall 2/2, F = 4/5; the second is equal
    scores = TASK.score(["a red cat", "식당 입니다"], examples(("a cat",), ("식당 입니다",)))
    assert scores.values == pytest.approx([0.8, 1.0])
    assert next(iter(scores.metrics)) == "rouge_l"
    assert scores.metrics["rouge_l"] == pytest.approx(0.9)
    assert scores.metrics["exact_match"] == 0.5
    assert {"sacrebleu", "METEOR", "ROUGE_L", "CIDEr", "SPICE"} <= scores.metrics.keys()
    assert scores.metrics["SPICE"] is None and scores.reasons["SPICE"]
    assert scores.additions["token_statistics"]["predictions"]["mean_length"] == 2.5
    headline = TASK.score_headline(["a red cat"], examples(("a cat",)))
    assert headline.metrics == {"rouge_l": pytest.approx(0.8)}


@pytest.mark.usefixtures("no_java")
def test_answers_without_a_word_are_counted_where_rouge_l_cannot_see_them() -> None:
    given, accepted = ["+", "✓", "5", "?"], examples(("+",), ("✓",), ("-5",), ("?",))
    scores = TASK.score(given, accepted)
    assert (scores.metrics["rouge_l"], scores.metrics["exact_match"]) == (0.25, 0.75)
    for notes in (scores.notes, TASK.score_headline(given, accepted).notes):
        (note,) = (note for note in notes if note.startswith("rouge_l "))
        assert "3 of 4 examples" in note and "--metric exact_match" in note
    assert not TASK.score_headline(["5", "x"], examples(("-5",), ("?", "식당"))).notes


@pytest.mark.usefixtures("no_java")
@pytest.mark.parametrize(
    "response", ["first line\nsecond line", "two  spaces here now", "a well-\nknown red cat"]
)
def test_a_response_of_several_lines_is_met_by_itself_and_trained_on_as_it_stands(
    tmp_path: Path, response: str
) -> None:
    write_images(tmp_path, "a.png")
    row = json.dumps({"image": "a.png", "query": "?", "response": response})
    (example,) = load(tmp_path / "t.jsonl", row)
    assert TASK.target(example, 0, 0) == response
    metrics = TASK.score([TASK.clean(response)], [example]).metrics
    assert (metrics["exact_match"], metrics["rouge_l"]) == (1, 1)
    assert metrics["sacrebleu"] == pytest.approx(100)


@pytest.mark.usefixtures("no_java")
def test_answers_are_cleaned_before_they_are_scored_and_written_as_a_table(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    dataset = load(tmp_path / "t.csv", "image,instruction,response\na.png,?,a red cat\n")
    report = evaluate(TASK, lambda _: ["ASSISTANT: a red cat</s>"], dataset)
    assert report.value == 1.0
    write_report(report, tmp_path / "out")
    header, row = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert header == "id,image,instruction,prediction,raw_prediction,references"
    assert row == (f'2,{tmp_path}/a.png,?,a red cat,ASSISTANT: a red cat</s>,"[""a red cat""]"')
    statistics = json.loads((tmp_path / "out/metrics.json").read_text())["token_statistics"]
    assert statistics["predictions"]["num_texts"] == 1

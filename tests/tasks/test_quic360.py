"""QuIC-360: references by (image, query), CIDEr over the split, images as they are."""

from pathlib import Path

import pytest
from PIL import Image

from tasks.base import Dataset, MissingSplit, Source
from tasks.registry import get_task
from tasks.table_reading import TableReading
from tests.helpers import one_sentence

TASK = get_task("quic360")
# the first annotation, as in the guides, has unquoted commas
TABLE = """url,query,annotation
https://live.example.org/65535/1_a_k.jpg,dining room,a table, four chairs, and a lamp
https://live.example.org/65535/2_b_k.jpg,dining room,an empty room
https://live.example.org/65535/1_a_k.jpg,kitchen,a white stove
https://live.example.org/65535/1_a_k.jpg,dining room,a long table
"""


def load(folder: Path) -> Dataset:
    for name in ("1_a_k.jpg", "2_b_k.jpg"):
        Image.new("RGB", (64, 32), "red").save(folder / name)
    path = folder / "test.csv"
    path.write_text(TABLE)
    return TASK.load("test", Source(tables={"test": path}, reading=TableReading(lenient=True)))


def test_references_are_grouped_by_image_and_query_in_their_order(tmp_path: Path) -> None:
    found = {
        (Path(e.image.name).name, e.turns[0].text): (e.example_id, e.references)
        for e in load(tmp_path)
    }
    assert found == {
        ("1_a_k.jpg", "dining room"): (2, ("a table, four chairs, and a lamp", "a long table")),
        ("2_b_k.jpg", "dining room"): (3, ("an empty room",)),
        ("1_a_k.jpg", "kitchen"): (4, ("a white stove",)),
    }


def test_the_unquoted_row_of_the_guides_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(TABLE)
    with one_sentence("1 line(s): 2;", "--csv_lenient"):
        TASK.load("test", Source(tables={"test": path}))


def test_an_equirectangular_image_is_opened_twice_as_wide_as_high(tmp_path: Path) -> None:
    assert load(tmp_path)[0].image.open().size == (64, 32)


@pytest.mark.usefixtures("no_java")
def test_the_headline_is_cider_of_each_example_over_the_split(tmp_path: Path) -> None:
    examples = list(load(tmp_path))
    gold = [example.references[0] for example in examples]
    scores = TASK.score(gold, examples)
    assert next(iter(scores.metrics)) == "CIDEr"
    assert scores.metrics["CIDEr"] == pytest.approx(sum(scores.values) / 3)  # type: ignore[arg-type]
    # equal to its only reference an example has CIDEr 10 where it has words of each length up to
    # four; "an empty room" has three, so that a quarter is lost; the headline alone is the same
    assert scores.values[1] == pytest.approx(7.5)
    assert TASK.score_headline(gold, examples).values == scores.values
    wrong = TASK.score(["x y z w", "x y z w", "x y z w"], examples)
    assert wrong.metrics["CIDEr"] == 0
    assert {"sacrebleu", "exact_match", "rouge_l", "Bleu_4"} <= scores.metrics.keys()


@pytest.mark.usefixtures("no_java")
def test_references_without_a_word_have_no_cider(tmp_path: Path) -> None:
    examples = list(load(tmp_path))[:1]
    silent = [type(examples[0])(example_id=1, image=examples[0].image, turns=(), references=("?",))]
    with one_sentence("CIDEr cannot be computed", "every reference"):
        TASK.score(["?"], silent)


def test_without_options_the_tables_of_the_usual_folder_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with one_sentence("under data/quic360", "train.csv", kind=MissingSplit):
        TASK.load("train", Source())
    folder = tmp_path / "data/quic360"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 2)).save(folder / "1.jpg")
    (folder / "valid.csv").write_text("url,query,annotation\nhttp://h/1.jpg,room,a room\n")
    assert TASK.load("val", Source())[0].references == ("a room",)


def test_a_hub_copy_is_refused_as_it_keeps_no_urls(tmp_path: Path) -> None:
    with one_sentence("groups captions", "--task csv_qa"):
        TASK.load("test", Source(hub_repo="someone/quic360"))

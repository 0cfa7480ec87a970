"""conversations: what each tool writes is read alike; what cannot be learned is named."""

import base64
import io
import json
import logging
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from tasks.base import Dataset, Source
from tasks.images import check_dataset
from tasks.registry import get_task
from tasks.table_reading import TableReading
from tasks.usable import check_split, without_bad_images
from tests.helpers import one_sentence
from tests.tasks.test_csv_qa import write_images

TASK = get_task("conversations")
ASKED = (("user", "What is this?"),)
TALK = [{"from": "human", "value": "What is this?"}, {"from": "gpt", "value": "A square."}]


def png(size: tuple[int, int] = (8, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "png")
    return buffer.getvalue()


BASE64 = base64.b64encode(png((6, 3))).decode()


def load(folder: Path, records: Any, split: str = "train", **source: Any) -> Dataset:
    """Read records as a file beside which lies a.png of 8 x 4; a text is written as it is."""
    write_images(folder, "a.png")
    path = folder / "talk.json"
    path.write_text(records if isinstance(records, str) else json.dumps(records), encoding="utf-8")
    return TASK.load(split, Source(tables={split: path}, **source))


def talk_of(dataset: Dataset) -> tuple[Any, ...]:
    (example,) = dataset
    return (
        tuple((turn.role, turn.text) for turn in example.turns),
        example.references,
        example.image.open().size,
    )


PICTURE = {"type": "image"}
QUESTION = {"type": "text", "text": "What is this?"}
ANSWER = {"role": "assistant", "content": "A square."}


def message(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}, ANSWER]}


def human(text: str, **more: Any) -> dict[str, Any]:
    return {"image": "a.png", **more, "conversations": [{"from": "human", "value": text}, TALK[1]]}


@pytest.mark.parametrize(
    "record",
    {
        "LLaVA": {"id": "000", **human("<image>\nWhat is this?")},
        "LLaVA, mark at the end": {"id": "000", **human("What is this?\n<image>")},
        "no mark": human("What is this?"),
        "a list of one image": human("<image>What is this?", image=["a.png"]),
        "ShareGPT of LLaMA-Factory": {
            "conversations": [{"from": "human", "value": "<image>What is this?"}, TALK[1]],
            "images": ["a.png"], "system": "", "tools": "",
        },
        "mllm_demo of LLaMA-Factory": {
            "messages": [{"content": "<image>What is this?", "role": "user"}, ANSWER],
            "images": ["a.png"],
        },
        "ms-swift": {
            "messages": [{"role": "user", "content": "<image>What is this?"}, ANSWER],
            "images": [{"bytes": None, "path": "a.png"}],
        },
        "TRL": message(PICTURE | {"text": None}, QUESTION) | {"images": ["a.png"]},
        "TRL, image behind": message(QUESTION, PICTURE) | {"images": ["a.png"]},
        "parts with a path": message({"type": "image", "image": "a.png"}, QUESTION),
        "parts without type": message({"image": "a.png"}, {"text": "What is this?"}),
        "OpenAI": message(
            {"type": "image_url", "image_url": {"url": "https://example.org/1/a.png"}}, QUESTION
        ),
        "role and content under conversations": {
            "image": "a.png",
            "conversations": [{"role": "user", "content": "What is this?"}, ANSWER],
        },
        "an image named twice": human("<image>What is this?", images=["a.png"]),
        "content and value": {
            "image": "a.png",
            "conversations": [
                {"role": "user", "content": "What is this?", "value": "What is this?"},
                {"role": "assistant", "content": "", "value": "A square."},
            ],
        },
        "an object of lists": {
            "image": "a.png",
            "conversations": {"from": ["human", "gpt"], "value": ["What is this?", "A square."]},
        },
    }.items(),
    ids=lambda pair: pair[0],
)  # fmt: skip
def test_what_each_tool_writes_is_read_alike(tmp_path: Path, record: tuple[str, Any]) -> None:
    assert talk_of(load(tmp_path, [record[1]])) == (ASKED, ("A square.",), (8, 4))


@pytest.mark.parametrize(
    "image",
    {
        "a data: URL": {"type": "image_url", "image_url": f"data:image/png;base64,{BASE64}"},
        "base64": {"type": "image", "image": BASE64},
        "bytes": {"type": "image", "image": {"bytes": BASE64, "path": "a.png"}},
    }.items(),
    ids=lambda pair: pair[0],
)  # fmt: skip
def test_an_image_may_be_inside_the_record(tmp_path: Path, image: tuple[str, Any]) -> None:
    assert talk_of(load(tmp_path, [message(image[1], QUESTION)]))[2] == (6, 3)


def test_a_url_of_a_file_is_its_path(tmp_path: Path) -> None:
    write_images(tmp_path, "else where/b.png")
    url = (tmp_path / "else where/b.png").as_uri()
    assert "%20" in url
    part = {"type": "image_url", "image_url": {"url": url}}
    assert talk_of(load(tmp_path, [message(part, QUESTION)]))[2] == (8, 4)


def test_all_turns_are_kept_and_the_last_answer_is_the_reference(tmp_path: Path) -> None:
    more = [{"from": "user", "value": "Sure?"}, {"from": "chatgpt", "value": " Да, 是 "}]
    system = {"from": "system", "value": "Be brief."}
    expected = (
        ("system", "Be brief."), ("user", "What is this?"), ("assistant", "A square."),
        ("user", "Sure?"),
    )  # fmt: skip
    for record in (
        {"image": "a.png", "conversations": [system, *TALK, *more]},
        {"image": "a.png", "conversations": [*TALK, *more], "system": "Be brief."},
    ):
        assert talk_of(load(tmp_path, [record]))[:2] == (expected, ("Да, 是",))


def test_a_mark_inside_a_text_is_taken_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [human("What <image>is this?"), human("<image>\nWhat is this?")]
    with caplog.at_level(logging.WARNING):
        dataset = load(tmp_path, records)
    assert [example.turns[0].text for example in dataset] == ["What is this?"] * 2
    assert "in 1 of 2 conversations the image stands inside a text" in caplog.text
    assert caplog.text.rstrip().endswith("element 1.")


def test_texts_around_an_image_part_stay_apart(tmp_path: Path) -> None:
    part = {"type": "image", "image": "a.png"}
    parts = message({"type": "text", "text": "Here"}, part, {"type": "text", "text": "there?"})
    assert talk_of(load(tmp_path, [parts]))[0] == (("user", "Here\nthere?"),)


LINES = "\n\n".join(json.dumps(human("What is this?")) for _ in range(2))


@pytest.mark.parametrize(
    ("content", "ids"),
    {
        "JSON Lines under the name .json": (LINES + "\n", [1, 3]),
        "with a byte order mark": ("\ufeff" + LINES, [1, 3]),
        "an array": (json.dumps([human("What is this?")] * 2, indent=2), [1, 2]),
        "an array with a byte order mark": ("\ufeff" + json.dumps([human("What is this?")]), [1]),
    }.values(),
)
def test_a_file_is_known_by_its_content(tmp_path: Path, content: str, ids: list[int]) -> None:
    dataset = load(tmp_path, content)
    assert [example.example_id for example in dataset] == ids
    assert {example.turns[0].text for example in dataset} == {"What is this?"}


def test_ids_of_the_file_may_come_twice_or_be_anything(tmp_path: Path) -> None:
    records = [human("What is this?", id=value) for value in ("x", "x", None, 1e99, [])]
    assert [example.example_id for example in load(tmp_path, records)] == [1, 2, 3, 4, 5]


def write_set(folder: Path) -> datasets.Dataset:
    """Two rows as TRL's sets have them: messages of parts, and a list of images."""
    part = {"type": datasets.Value("string"), "text": datasets.Value("string")}
    turn = {"role": datasets.Value("string"), "content": datasets.List(part)}
    features = {"messages": datasets.List(turn), "images": datasets.List(datasets.Image())}
    user = {"role": "user", "content": [{"type": "image", "text": None}, QUESTION]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A square."}]}
    images = [[Image.new("RGB", (8, 4))], [Image.new("RGB", (5, 5))]]
    rows = {"messages": [[user, answer]] * 2, "images": images}
    return datasets.Dataset.from_dict(rows, datasets.Features(features))


@pytest.mark.parametrize("form", ["saved", "Parquet", "Parquet repository"])
def test_sets_of_datasets_are_read_with_their_images(tmp_path: Path, form: str) -> None:
    table = write_set(tmp_path)
    if form == "saved":
        datasets.DatasetDict(train=table).save_to_disk(str(tmp_path / "set"))
        source = Source(data_root=tmp_path / "set")
    else:
        (tmp_path / "set").mkdir()
        path = tmp_path / "set" / ("train.parquet" if "repo" in form else "talk.bin")
        table.to_parquet(str(path))
        is_file = form == "Parquet"
        source = Source(tables={"train": path}) if is_file else Source(hub_repo=str(path.parent))
    dataset = TASK.load("train", source)
    assert [example.example_id for example in dataset] == [0, 1]
    assert [example.image.open().size for example in dataset] == [(8, 4), (5, 5)]
    assert [example.image.dimensions() for example in dataset] == [(8, 4), (5, 5)]
    assert talk_of(dataset[:1])[:2] == (ASKED, ("A square.",))


def test_an_unwanted_answer_of_a_set_is_refused(tmp_path: Path) -> None:
    judged = write_set(tmp_path).add_column("label", [True, False])  # type: ignore[call-arg]
    judged.to_parquet(str(tmp_path / "set.parquet"))
    with one_sentence("row 1 has 'label' false"):
        TASK.load("train", Source(tables={"train": tmp_path / "set.parquet"}))


def test_a_set_with_one_image_or_a_path_in_each_row(tmp_path: Path) -> None:
    write_images(tmp_path, "set/pics/a.png")
    talks = [TALK, TALK]
    for name, images in (
        ("image", datasets.Image()),
        ("photo", datasets.Value("string")),
    ):
        cell: Any = "pics/a.png" if name == "photo" else Image.new("RGB", (8, 4))
        turn = {"from": datasets.Value("string"), "value": datasets.Value("string")}
        features = datasets.Features({"conversations": datasets.List(turn), name: images})
        table = datasets.Dataset.from_dict({"conversations": talks, name: [cell, None]}, features)
        datasets.DatasetDict(train=table).save_to_disk(str(tmp_path / "set"))
        columns = {"image": name} if name == "photo" else {}
        dataset = TASK.load("train", Source(data_root=tmp_path / "set", columns=columns))
        assert dataset[0].image.open().size == (8, 4)
        with one_sentence("1 of 2 examples", "(row 1)", "shows no image", "--on_bad_image skip"):
            check_dataset(dataset)


FAULTS = {
    "no conversation": ({"image": "a.png", "text": "x"}, "no conversation under 'messages or conv"),
    "two of them": (human("x") | {"messages": TALK}, "has both messages and conversations"),
    "no list": ({"conversations": "hello"}, "'conversations' is a str, and must be a list"),
    "a text for a turn": ({"conversations": ["hello"]}, "turn 1 is a str"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, "turn 1 has the role"),
    "the assistant first": ({"conversations": TALK[1:]}, "after 0 turn(s)", "where user is due"),
    "the user twice": ({"conversations": [TALK[0], *TALK]}, "after 1 turn(s)", "assistant is due"),
    "a late system": ({"conversations": [*TALK, {"from": "system", "value": "x"}]}, "of system"),
    "two systems": (
        {"conversations": [{"from": "system", "value": "x"}, *TALK], "system": "y"}, "of system",
    ),
    "no turn": ({"conversations": []}, "has no turn of the user"),
    "an empty answer": ({"conversations": [TALK[0], {"from": "gpt", "value": " "}]}, "turn 2 is"),
    "an empty question": ({"conversations": [{"from": "human"}, TALK[1]]}, "turn 1 is empty"),
    "no answer": ({"image": "a.png", "conversations": TALK[:1]}, "1 of 2", "(element 2)"),
    "two texts of a turn": (
        {"image": "a.png", "conversations": [{**TALK[0], "content": "Where?"}, TALK[1]]},
        "turn 1 has a content and another value; keep the one",
    ),
    "an answer that is not seen": (
        {"image": "a.png", "conversations": [TALK[0], {"from": "gpt", "value": ["\u200b"]}]},
        "turn 2 is an empty answer",
    ),
    "other images under another key": (
        human("<image>x", images=["b.png"]), "1 mark(s) <image> and 2 image(s)",
    ),
    "more marks than images": (human("<image><image>x"), "2 mark(s) <image> and 1 image(s)"),
    "a mark in an answer": (
        {"conversations": [TALK[0], {"from": "gpt", "value": "<image>x"}]}, "turn 2 shows an image",
    ),
    "tools": (human("x", tools="[{}]"), "has 'tools'"),
    "a video": (human("x", videos=["a.mp4"]), "has 'videos'"),
    "a preference": (human("x", rejected={"from": "gpt", "value": "no"}), "has 'rejected'"),
    "an unwanted answer": (human("x", label=False), "has 'label' false", "not to be learned"),
    "a thumb down": (human("x", kto_tag=False), "has 'kto_tag' false"),
    "a part for sound": (message({"type": "audio"}, QUESTION), "a part of type 'audio'"),
    "a part of nothing": (message({"a": 1}, QUESTION), "a part of type 'unknown'"),
    "an answer not to learn": (
        {"messages": [{"role": "user", "content": "x"}, ANSWER | {"loss": False}]},
        "not to be learned",
    ),
    "damaged base64": (human("x", image="data:image/png;base64,iVBO*"), "cut or damaged"),
    "an image of nothing": (human("x", image={"a": 1}), "none of bytes, url and path"),
    "no object": (3, "is not a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_read_is_named_by_its_place_and_listed_by_check(
    tmp_path: Path, name: str
) -> None:
    record, *parts = FAULTS[name]
    records = [human("What is this?"), record]
    with one_sentence(str(tmp_path / "talk.json"), "element 2", *parts):
        load(tmp_path, records)
    source = Source(tables={"train": tmp_path / "talk.json"})
    usable, faults = check_split(TASK, "train", source)
    assert [example.example_id for example in usable] == [1]
    assert [fault.id for fault in faults] == [2]
    assert parts[0] in faults[0].reason


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ("is empty",)),
        ("[]", ("has no conversations",)),
        ("image,instruction\n", ("neither JSON in UTF-8 nor Parquet",)),
        (json.dumps([human("x")])[:-9], ("not a complete JSON array",)),
        (json.dumps(human("x"), indent=1), ("line 1 is not a JSON object", "on one line")),
        ('{"id": NaN}', ("line 1", "JSON has no NaN")),
        ("[" * 9999, ("talk.json",)),
        ('{"a":' * 9999, ("line 1 is nested too deeply",)),
        ("PAR1 and no more", ("no Parquet file",)),
    ],
)
def test_damaged_files(tmp_path: Path, content: str, parts: tuple[str, ...]) -> None:
    with one_sentence("talk.json", *parts):
        load(tmp_path, content)


def test_rows_without_an_image_are_counted_or_left_out(tmp_path: Path) -> None:
    dataset = load(tmp_path, [human("What is this?"), {"conversations": TALK}])
    with one_sentence("1 of 2 examples", "(element 2)", "element 2 shows no image"):
        check_dataset(dataset)
    (fault,) = without_bad_images(dataset, "skip").skipped
    assert fault.reason.endswith("shows no image, and each example needs one.")


def test_answers_may_be_withheld_in_a_file_to_score_and_then_in_all_of_it(tmp_path: Path) -> None:
    asked = {"image": "a.png", "conversations": TALK[:1]}
    dataset = load(tmp_path, [asked, asked], split="test")
    assert [(example.turns[0].text, example.references) for example in dataset] == [
        ("What is this?", ())
    ] * 2
    with one_sentence("1 of 2 conversations", "(element 2)", "separate file"):
        load(tmp_path, [human("x"), asked], split="test")


def test_missing_images_and_urls_that_would_be_one_file_are_named(tmp_path: Path) -> None:
    with one_sentence("1 of the 2 images", "no.png", str(tmp_path)):
        load(tmp_path, [human("x"), human("x", image="no.png")])
    urls = ["https://example.org/1/a.png", "https://example.org/2/a.png"]
    with one_sentence(*urls, "would be one file"):
        load(tmp_path, [human("x", image=url) for url in urls])
    (tmp_path / "test.json").write_text(json.dumps([human("x", image=urls[0])]))
    other = {"train": tmp_path / "talk.json", "test": tmp_path / "test.json"}
    (tmp_path / "talk.json").write_text(json.dumps([human("x", image=urls[1])]))
    with one_sentence(*urls, "would be one file"):
        TASK.load("test", Source(tables=other))
    with one_sentence("'http://[x/a.png' is no URL", "element 1"):
        load(tmp_path, [human("x", image="http://[x/a.png")])


def test_options_of_tables_are_refused(tmp_path: Path) -> None:
    reading = TableReading(lenient=True, encoding="cp1252")
    with one_sentence("--instruction_column and --csv_lenient and --encoding would change nothing"):
        load(tmp_path, [human("x")], columns={"instruction": "q"}, reading=reading)


def test_files_of_a_folder_are_found_by_their_split(tmp_path: Path) -> None:
    write_images(tmp_path, "images/a.png")
    (tmp_path / "train.json").write_text(json.dumps([human("<image>\nWhat is this?")]))
    assert talk_of(TASK.load("train", Source(data_root=tmp_path)))[0] == ASKED
    with one_sentence("test.jsonl, test.json, test.parquet"):
        TASK.load("test", Source(data_root=tmp_path))

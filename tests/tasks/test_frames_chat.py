"""Chats about frames: how conversations are read and filled, and how counts are scored."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.base import Dataset, MissingSplit, Source
from tasks.frames_chat import FramesChat, read_conversations
from tests.helpers import one_sentence

MESSAGES = """\
user: How many people are there?
assistant: There are {count} people.

user: Which place is this?
assistant: The {place}.
user: How busy is it?
Answer with a number.
assistant: {count}
"""
LABELS = "file,count,place\n" + "".join(f"{n:02}.png,{n % 4},gate {n}\n" for n in range(20))
TASK = FramesChat()


def write_frames(folder: Path) -> None:
    (folder / "frames").mkdir()
    for number in range(20):
        Image.new("RGB", (8, 6)).save(folder / "frames" / f"{number:02}.png")
    (folder / "messages.txt").write_text(MESSAGES)
    (folder / "labels.csv").write_text(LABELS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_frames(tmp_path)
    return tmp_path


def load(folder: Path, split: str = "train", **files: Path) -> Dataset:
    return TASK.load(split, Source(data_root=folder / "frames", own_files=files))


def test_each_conversation_is_held_about_each_frame(folder: Path) -> None:
    examples = {e.example_id: e for s in ("train", "val") for e in load(folder, s)}
    assert sorted(examples) == list(range(40))
    first, second = examples[2 * 7], examples[2 * 7 + 1]  # frame 07 has 3 people
    assert first.image.name.endswith("07.png") and second.image.name.endswith("07.png")
    assert [(t.role, t.text) for t in first.turns] == [("user", "How many people are there?")]
    assert first.references == ("There are 3 people.",)
    assert [(t.role, t.text) for t in second.turns] == [
        ("user", "Which place is this?"),
        ("assistant", "The gate 7."),
        ("user", "How busy is it?\nAnswer with a number."),
    ]
    assert second.references == ("3",)
    assert first.tags == {"count": ("3",)}


def test_a_tenth_of_the_frames_is_held_out_whole(folder: Path) -> None:
    frames = {s: {e.image.name for e in load(folder, s)} for s in ("train", "val")}
    assert len(frames["val"]) == 2 and len(frames["train"]) == 18
    assert not frames["val"] & frames["train"]


def test_files_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / "messages.txt").rename(folder / "talk.txt")
    with pytest.raises(MissingSplit, match=r"messages\.txt is neither in .* --messages"):
        load(folder)
    assert len(load(folder, messages=folder / "talk.txt")) == 36


@pytest.mark.usefixtures("no_java")
def test_counts_are_scored_by_hand(folder: Path) -> None:
    examples = [e for e in load(folder) if e.example_id in (2 * 3, 2 * 5, 2 * 7, 2 * 9)]
    wanted = {2 * 3: 3, 2 * 5: 1, 2 * 7: 3, 2 * 9: 1}  # number of the frame modulo 4
    assert [e.details for e in examples] == [wanted[e.example_id] for e in examples]
    answers = {2 * 3: "3", 2 * 5: "There are 4.", 2 * 7: "two people", 2 * 9: "a crowd"}
    scores = TASK.score([answers[e.example_id] for e in examples], examples)
    # right, 3 too many, 1 too few, silent: 1 of 4 is exact; (0 + 3 + 1) / 3 is the mean error
    assert scores.metrics["count_accuracy"] == 25.0
    assert scores.metrics["count_mae"] == pytest.approx(4 / 3)
    assert sorted(v for v in scores.values if v is not None) == [0, 0, 0, 100]
    assert "1 of 4 answers hold no number; count_mae leaves them out." in scores.notes
    assert "rouge_l" in scores.metrics


@pytest.mark.usefixtures("no_java")
def test_answers_of_any_number_of_digits_have_finite_figures(folder: Path) -> None:
    examples = list(load(folder))[:3]
    huge = 10.0**308  # twice as much is no finite float
    scores = TASK.score_headline(["9" * 400, f"{huge:.0f}", f"{huge:.0f}"], examples)
    assert scores.metrics == {"count_accuracy": 0, "count_mae": huge}
    assert "1 of 3 answers hold no number; count_mae leaves them out." in scores.notes


@pytest.mark.usefixtures("no_java")
def test_an_answer_without_the_count_in_it_is_scored_as_text_alone(folder: Path) -> None:
    (folder / "messages.txt").write_text("user: where, of {count}?\nassistant: {place}\n")
    examples = list(load(folder, "val"))
    scores = TASK.score(["7"] * len(examples), examples)
    assert scores.metrics["count_accuracy"] is None
    assert scores.reasons["count_accuracy"] == "no answer was asked to hold the count"
    assert scores.values == [None] * len(examples)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no conversation"),
        ("hello\n", "line 1: a conversation begins with 'user:', got 'hello'"),
        ("user: a\n", "line 1: user and assistant must take turns.*here they are user"),
        ("\nassistant: a\nuser: b\n", "line 2: user and assistant must take turns"),
        ("user: a\nuser: b\nassistant: c\n", "here they are user, user, assistant"),
        (
            "\nuser: a\nassistant: {count}\nsystem: b\n",
            "line 2: user and assistant .* here they are user, assistant, system",
        ),
        ("user: a\nsystem: b\nassistant: c\n", "here they are user, system, assistant"),
        ("system: a\n", "here they are system"),
        ("system: a\nsystem: b\nuser: c\nassistant: d\n", "at most one system turn before them"),
    ],
)
def test_a_mistake_in_the_messages_is_named_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "m.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_conversations(tmp_path / "m.txt")


@pytest.mark.parametrize(
    "text",
    [
        *("{count:02d}", "{count:{place}}", "{count!r}", "{count.x}", "{count[0]}", "{0}", "{}"),
        *("{", "}", "{count", "count}", "{{count}", "{count}}", "{ count }", "{a{count}}"),
    ],
)
def test_braces_around_anything_but_a_name_are_refused_with_their_line(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "m.txt").write_text(f"user: {{count}} a\nassistant: b\nor {text}\n")
    with one_sentence(
        "m.txt, line 3: braces hold a column's name", f"got 'or {text}'", "{{ and }}"
    ):
        read_conversations(tmp_path / "m.txt")


def test_doubled_braces_become_braces(folder: Path) -> None:
    talk = "user: say {{count}}, {{{{ or {{{count}}}\nassistant: {count}\n"
    (folder / "messages.txt").write_text(talk)
    example = next(e for e in load(folder) if e.example_id == 7)  # 3 people
    assert example.turns[0].text == "say {count}, {{ or {3}"


def test_a_system_line_and_braces_that_are_text_pass(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("system: be {{brief}}\nUser: a?\nAssistant: b: c\n")
    (talk,) = read_conversations(tmp_path / "m.txt")
    assert talk == (("system", "be {{brief}}"), ("user", "a?"), ("assistant", "b: c"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("file,place\n00.png,x\n", "has no column 'count', .*; name it so in the header"),
        ("file,count,place\n00.png,1,a,b\n", r"with a comma must stand in quotes\.$"),
        ("file,count\n00.png,1\n", "has no column 'place'"),
        ("file,count,place\n99.png,1,x\n", r"1 of the 1 frames of .* are not in .*: 99\.png"),
        ("file,count,place\n00.png,1,x\n00.png,2,x\n", r"has 00\.png more than once"),
        ("file,count,place\n00.png,1,x\n./00.png,2,x\n", r"has 00\.png, \./00\.png more than once"),
        ("file,count,place\n../frames/00.png,1,x\n00.png,2,x\n", "more than once"),
        *(
            (
                f"file,count,place\n00.png,{count},x\n",
                rf"line 2: count is '{re.escape(count)}', not a",
            )
            for count in ("many", "three", "-3", "1e3", "2-3 (13:45)", "no idea", "9" * 400)
        ),
        ("file,count,place\n00.png,1,\n", "line 2, column place is empty"),
    ],
)
def test_a_mistake_in_the_labels_is_named(folder: Path, labels: str, message: str) -> None:
    (folder / "labels.csv").write_text(labels)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_a_line_of_labels_without_a_file_is_named(folder: Path) -> None:
    lines = ['{"file": "00.png", "count": 1, "place": "x"}', '{"count": 2, "place": "y"}']
    labels = folder / "labels.jsonl"
    labels.write_text("\n".join(lines))
    with one_sentence("labels.jsonl, line 2, column file is empty"):
        load(folder, labels=labels)


def test_frames_without_a_row_are_named_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "val"):
        load(folder, split)
    assert not caplog.records
    rows = LABELS.splitlines()
    (folder / "labels.csv").write_text("\n".join(rows[:18]))
    (folder / "frames/notes.txt").write_text("no frame")
    for split in ("train", "val"):
        load(folder, split)
    (record,) = caplog.records
    assert "3 of the 20 images" in record.getMessage()
    assert record.getMessage().endswith("left out are 17.png, 18.png, 19.png.")


def test_many_frames_are_compared_in_little_time(folder: Path) -> None:
    lines = [f"{n}.png,1,x" for n in (*range(20_000), 7)]
    (folder / "labels.csv").write_text("\n".join(["file,count,place", *lines]))
    start = time.process_time()
    with one_sentence("has 7.png more than once"):
        load(folder)
    assert time.process_time() - start < 2  # seconds; comparing each with each takes more than 5


def test_without_frames_there_is_no_data() -> None:
    source: Any = Source()
    with pytest.raises(MissingSplit, match="--frames"):
        TASK.load("train", source)


@pytest.mark.parametrize("answer", ["Camera 9: {count} people.", "One camera sees {count}."])
def test_an_answer_that_would_be_scored_by_another_number_is_refused(
    folder: Path, answer: str
) -> None:
    (folder / "messages.txt").write_text(f"user: How many?\nassistant: {answer}\n")
    with one_sentence("labels.csv, line 2", "not its count, 0", "{count} be the first number"):
        load(folder)
    (folder / "messages.txt").write_text("user: How many?\nassistant: {count} on camera 9.\n")
    texts = [example.references[0] for example in load(folder)]
    assert TASK.score_headline(texts, list(load(folder))).metrics["count_accuracy"] == 100


@pytest.mark.parametrize(
    ("text", "role"),
    [("user: How many?\nassistant:\n", "assistant"), ("user:\nassistant: {count}\n", "user")],
)
def test_an_empty_turn_is_refused(folder: Path, text: str, role: str) -> None:
    (folder / "messages.txt").write_text(text)
    with one_sentence("messages.txt, line 1", f"a turn of {role} is empty"):
        load(folder)

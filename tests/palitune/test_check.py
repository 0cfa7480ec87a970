"""`palitune check` lists what cannot be used; `--on_bad_image skip` leaves it out and says so."""

import json
import shlex
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from palitune.main import palitune
from tasks import images
from tasks.base import Source
from tasks.registry import get_task
from tests.helpers import read_json, sentence
from tests.official_files import (
    write_coco,
    write_docvqa,
    write_gqa,
    write_hub_copy,
    write_vqav2,
)
from tests.palitune.bad_inputs import ANNOTATIONS, QUESTIONS, edit
from tests.palitune.commands import WRITERS, evaluate, train


def check(task: str, data: Path, split: str, *more: object, exit_code: int = 0) -> Result:
    words = ["check", "--task", task, "--data_root", data, "--split", split, *more]
    result = CliRunner().invoke(palitune, [str(word) for word in words])
    assert result.exit_code == exit_code, result.output
    return result


def last_line(result: Result) -> str:
    return result.stdout.splitlines()[-1]


def cut(path: Path) -> Path:
    """The header stays whole, so that it alone does not tell."""
    Image.effect_noise((64, 64), 80).save(path)
    path.write_bytes(path.read_bytes()[:-400])
    assert Image.open(path).size == (64, 64)
    return path


def vqav2_image(root: Path, image_id: int) -> Path:
    split = "train" if image_id < 500 else "val"
    return root / f"{split}2014/COCO_{split}2014_{image_id:012d}.jpg"


@pytest.mark.parametrize("task", WRITERS)
def test_a_whole_split_is_usable(task: str, tmp_path: Path) -> None:
    result = check(task, WRITERS[task](tmp_path), "train")
    assert result.stdout == "4 examples: 4 usable, 0 reported\n"


@pytest.mark.parametrize("task", WRITERS)
def test_a_saved_copy_is_checked_too(task: str, tmp_path: Path) -> None:
    split = "karpathy_train" if task == "coco_captioning" else "train"
    result = check(task, write_hub_copy(tmp_path, task), split)
    assert last_line(result) == "4 examples: 4 usable, 0 reported"


def test_every_bad_image_is_named_in_one_start(tmp_path: Path) -> None:
    data = write_vqav2(tmp_path / "data")
    cut_image = cut(vqav2_image(data, 100))
    vqav2_image(data, 101).unlink()
    vqav2_image(data, 103).write_text("no image")
    file = tmp_path / "result.json"
    result = check("vqav2", data, "train", "--json", file, exit_code=2)
    assert last_line(result) == "4 examples: 1 usable, 3 reported"
    found = read_json(file)
    assert (found["num_examples"], found["used"]) == (4, 1)
    assert [entry["id"] for entry in found["reported"]] == [100000, 101000, 103000]
    assert found["reported"][0]["file"] == str(cut_image)
    reasons = [entry["reason"] for entry in found["reported"]]
    for reason, word in zip(reasons, ("truncated", "does not exist", "not an image"), strict=True):
        assert word in reason
    for entry in found["reported"]:
        line = f"{entry['id']}  {entry['file']}  {entry['reason']}"
        assert line in result.stdout.splitlines()


def test_an_image_is_decoded_once_however_many_ask_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_vqav2(tmp_path)
    edit(
        data / QUESTIONS.format("train"), lambda c: [q.update(image_id=100) for q in c["questions"]]
    )
    cut(vqav2_image(data, 100))
    decoded: Counter[str] = Counter()
    decode = images.decode_image

    def count(content: bytes, name: str) -> Image.Image:
        decoded[name] += 1
        return decode(content, name)

    monkeypatch.setattr(images, "decode_image", count)
    result = check("vqav2", data, "train", "--num_workers", 3, exit_code=2)
    assert last_line(result) == "4 examples: 0 usable, 4 reported"
    assert list(decoded.values()) == [1]


def test_single_records_of_vqav2_are_reported_once_each(tmp_path: Path) -> None:
    data = write_vqav2(tmp_path, num_train=8)
    questions, annotations = (data / name.format("train") for name in (QUESTIONS, ANNOTATIONS))
    edit(questions, lambda c: c["questions"][0].pop("question"))
    edit(questions, lambda c: c["questions"][1].update(question_id=None))
    edit(questions, lambda c: c["questions"].append(c["questions"][2]))  # 102 twice
    edit(annotations, lambda c: c["annotations"][0].pop("answers"))  # of 107: they stand reversed
    edit(annotations, lambda c: c["annotations"].pop(1))  # of 106
    result = check("vqav2", data, "train", exit_code=2)
    # 9 records; bad are 100, the second, one 102, 106 and 107
    assert last_line(result) == "9 examples: 4 usable, 5 reported"
    ids = [line.split("  ")[0] for line in result.stdout.splitlines()[:-1]]
    assert sorted(ids) == ["100000", "102000", "106000", "107000", "record 2"]


def test_single_records_of_the_other_formats_are_reported(tmp_path: Path) -> None:
    gqa, docvqa, coco = write_gqa(tmp_path / "g"), write_docvqa(tmp_path / "d"), tmp_path / "c"
    edit(gqa / "questions1.2/train_balanced_questions.json", lambda c: c["0101"].pop("question"))
    edit(docvqa / "spdocvqa_qas/train_v1.0_withQT.json", lambda c: c["data"][1].pop("image"))
    captions = write_coco(coco) / "annotations/captions_train2014.json"
    edit(captions, lambda c: c["annotations"][0].update(caption=5))  # of 103
    edit(captions, lambda c: c["annotations"][1].update(caption=None))  # of 102
    edit(captions, lambda c: c["annotations"][5].update(caption=None))  # of 102 once more
    edit(captions, lambda c: c["images"][0].pop("file_name"))  # 100
    for task, data, usable in (
        ("gqa", gqa, 3),
        ("docvqa", docvqa, 3),
        ("coco_captioning", coco, 1),
    ):
        result = check(task, data, "train", exit_code=2)
        assert last_line(result) == f"4 examples: {usable} usable, {4 - usable} reported"


def test_two_equal_keys_of_gqa_are_no_silent_loss(tmp_path: Path) -> None:
    data = write_gqa(tmp_path)
    path = data / "questions1.2/train_balanced_questions.json"
    record = json.dumps(read_json(path)["0101"])
    path.write_text(path.read_text().replace('"0102"', f'"0101": {record}, "0102"'))
    result = check("gqa", data, "train", exit_code=2)
    assert last_line(result) == "5 examples: 4 usable, 1 reported"


def test_lines_of_a_table_are_reported(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    table = tmp_path / "t.csv"
    table.write_text(
        "image,instruction,response\na.png,q,r\na.png,q\nb.png,q,r\na.png,,r\na.png,q,r,s\n"
    )
    words = ["check", "--task", "csv_qa", "--csv", str(table)]
    result = CliRunner().invoke(palitune, words)
    assert result.exit_code == 2
    assert last_line(result) == "5 examples: 1 usable, 4 reported"
    ids = sorted(line.split("  ")[0] for line in result.stdout.splitlines()[:-1])
    assert ids == ["3", "4", "5", "6"]


def test_a_file_that_cannot_be_read_as_a_whole_is_one_sentence(tmp_path: Path) -> None:
    data = write_vqav2(tmp_path)
    (data / QUESTIONS.format("train")).write_text("[" * 100_000)
    result = check("vqav2", data, "train", exit_code=2)
    assert "questions.json" in sentence(result.exit_code, result.output)


def test_bad_images_are_skipped_where_that_is_asked_for(tmp_path: Path, pico1: Path) -> None:
    data = write_vqav2(tmp_path / "data")
    cut(vqav2_image(data, 102))
    vqav2_image(data, 501).unlink()
    words = ("--on_bad_image", "skip", "--max_steps", 1, "--quantization", "none")
    result = train("vqav2", pico1, data, tmp_path / "run", *words)
    assert "1 of 4 examples are left out" in result.output and "102000" in result.output
    run = read_json(tmp_path / "run/run.json")
    assert run["train_data"]["num_examples"] == 3
    assert run["train_data"]["skipped"] == {"count": 1, "ids": [102000]}
    metrics = read_json(tmp_path / "run/evaluation/val/metrics.json")
    assert metrics["num_examples"] == 2
    assert metrics["skipped"] == {"count": 1, "ids": [501000]}
    assert any("Skipped: 1" in note for note in metrics["notes"])
    result = evaluate(
        "vqav2", pico1, data, "--on_bad_image", "skip", "--output_dir", tmp_path / "scores"
    )
    assert "501000" in result.output
    assert read_json(tmp_path / "scores/metrics.json")["skipped"]["ids"] == [501000]


def test_missing_photos_of_a_table_are_skipped_too(tmp_path: Path, pico1: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    table, held_out = tmp_path / "train.csv", tmp_path / "val.csv"
    table.write_text("image,instruction,response\na.png,q,r\nlost.png,q,r\nb.png,q,r\n")
    held_out.write_text("image,instruction,response\nlost.png,q,r\na.png,q,r\n")
    words = ["train", "csv_qa", "--model_path", pico1, "--train_csv", table, "--val_csv", held_out]
    words += ["--output_dir", tmp_path / "run", "--max_steps", 1, "--quantization", "none"]
    result = CliRunner().invoke(palitune, [str(word) for word in words])
    assert "--on_bad_image skip" in sentence(result.exit_code, result.output)
    words += ["--on_bad_image", "skip"]
    result = CliRunner().invoke(palitune, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "1 of 3 examples are left out" in result.output
    assert "lost.png" in result.output and "does not exist in" in result.output
    run = read_json(tmp_path / "run/run.json")
    assert run["train_data"]["num_examples"] == 2 and run["train_data"]["skipped"]["count"] == 1
    (metrics,) = (tmp_path / "run/evaluation").glob("*/metrics.json")
    scored = read_json(metrics)
    assert scored["num_examples"] == 1 and scored["skipped"]["count"] == 1
    again = shlex.split(scored["provenance"]["command"])[1:]
    result = CliRunner().invoke(palitune, [*again, "--output_dir", str(tmp_path / "again")])
    assert result.exit_code == 0, result.output
    assert read_json(tmp_path / "again/metrics.json")["metrics"] == scored["metrics"]
    words[words.index(tmp_path / "run")] = tmp_path / "chosen"
    words += ["--test_csv", held_out, "--eval_split", "test", "--eval_steps", 1]
    result = CliRunner().invoke(palitune, [str(word) for word in words])  # scored on the way, too
    assert result.exit_code == 0, result.output
    assert result.output.count("1 of 2 examples are left out") == 2


def test_a_file_of_the_users_own_stays(tmp_path: Path) -> None:
    data = write_vqav2(tmp_path / "data")
    table = tmp_path / "table.csv"
    table.write_text("image,question,answer\n")
    result = check("vqav2", data, "train", "--json", table, exit_code=2)
    said = sentence(result.exit_code, result.output)
    assert f"--json {table} is there, was not written by this command and stays" in said
    assert table.read_text() == "image,question,answer\n" and "images" not in result.output
    for _ in range(2):  # its own is written anew
        check("vqav2", data, "train", "--json", tmp_path / "new/result.json")


def test_a_missing_photo_is_no_photo_of_another_table(tmp_path: Path) -> None:
    for part, url in (("one", "http://a.org/1.jpg"), ("two", "http://b.org/1.jpg")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "t.csv").write_text(f"image,instruction,response\n{url},q,r\n")
    Image.new("RGB", (16, 16)).save(tmp_path / "two/1.jpg")
    tables = {"train": tmp_path / "one/t.csv", "val": tmp_path / "two/t.csv"}
    dataset = get_task("csv_qa").load("train", Source(tables=tables, skips_images=True))
    with pytest.raises(ValueError, match="does not exist in"):
        dataset[0].image.open()


def test_bad_images_stop_a_training_by_default(tmp_path: Path, pico1: Path) -> None:
    data = write_vqav2(tmp_path / "data")
    vqav2_image(data, 102).unlink()
    words = ["train", "vqav2", "--model_path", pico1, "--data_root", data]
    words += ["--output_dir", tmp_path / "run"]
    result = CliRunner().invoke(palitune, [str(word) for word in words])
    assert "do not exist" in sentence(result.exit_code, result.output)

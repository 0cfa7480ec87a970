"""What goes into a reader comes out or is reported, on many seeded random inputs of each kind."""

import csv
import io
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from models.adapter_files import check_modules, read_adapter_files
from tasks.base import Dataset, Source
from tasks.registry import get_task
from tasks.result_files import match, read_predictions
from tasks.tables import read_rows
from tests.official_files import write_vqav2

COLUMNS = {"image": ("image",), "instruction": ("instruction",), "response": ("response",)}
WORDS = ("red", "a, b", 'say "hi"', "two\nlines", " padded ", "x;y", "식당", "[1]", "'", "")


def table(rng: Random) -> tuple[str, list[list[str]]]:
    """Random rows as some spreadsheet writes them, and the cells that they are made of."""
    rows = [[f"{i}.png", rng.choice(WORDS[:-1]), rng.choice(WORDS[:-1])] for i in range(6)]
    extra = [""] * rng.randrange(3)
    buffer = io.StringIO(newline="")
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(buffer, lineterminator=rng.choice(["\n", "\r\n"]), quoting=quoting)
    writer.writerow([*COLUMNS, *extra])
    for row in rows:
        writer.writerow([*row, *extra])
        if rng.random() < 0.3:
            buffer.write(rng.choice(["\n", ",,\n", ",,,,\n"]))
    text = buffer.getvalue()
    return (rng.choice(["", "sep=,\n"]) + text).replace("\ufeff", ""), rows


@pytest.mark.parametrize("seed", range(40))
def test_every_row_of_a_table_comes_out_with_its_cells(seed: int, tmp_path: Path) -> None:
    text, rows = table(Random(seed))
    path = tmp_path / "t.csv"
    path.write_text(text, newline="", encoding="utf-8")
    for lenient in (False, True):
        found = read_rows(path, COLUMNS, lenient=lenient)
        assert [[cell.strip() for cell in cells.values()] for _, cells in found] == [
            [cell.strip() for cell in row] for row in rows
        ]


@pytest.mark.parametrize("seed", range(20))
def test_every_row_of_a_saved_set_is_an_example_or_is_named(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = Random(seed)
    texts = ["a", "b", "", None, " c "]
    answers = [[rng.choice(texts) for _ in range(rng.randrange(1, 4))] for _ in range(5)]
    features = {
        "image": datasets.Image(),
        "question": datasets.Value("string"),
        "answer": datasets.List(datasets.Value("string")),
    }
    rows = {"image": [Image.new("RGB", (4, 4))] * 5, "question": ["q"] * 5, "answer": answers}
    saved = datasets.Dataset.from_dict(rows, datasets.Features(features))
    datasets.DatasetDict(train=saved).save_to_disk(str(tmp_path))
    kept = [[text.strip() for text in row if text and text.strip()] for row in answers]
    empty = [index for index, row in enumerate(kept) if not row]
    load = get_task("image_qa").load
    if empty:
        with pytest.raises(ValueError, match=rf"row {empty[0]}, .*empty"):
            load("train", Source(data_root=tmp_path))
        return
    assert [list(e.references) for e in load("train", Source(data_root=tmp_path))] == kept
    num_short = sum(len(row) < len(all_) for row, all_ in zip(kept, answers, strict=True))
    assert (f"of {num_short} row(s) are left out" in caplog.text) == (num_short > 0)


@pytest.mark.parametrize("seed", range(20))
def test_every_prediction_is_scored_or_counted(seed: int, tmp_path: Path) -> None:
    rng = Random(seed)
    examples: Dataset = get_task("vqav2").load("val", Source(data_root=write_vqav2(tmp_path)))
    ids = [example.example_id for example in examples]
    answered = [*rng.sample(ids, rng.randrange(1, len(ids) + 1)), *range(rng.randrange(3))]
    path = tmp_path / "r.json"
    path.write_text(json.dumps([{"question_id": i, "answer": "red"} for i in answered]))
    found = read_predictions(path, examples.task)
    assert len(found) == len(answered)
    missing, unknown = len({*ids} - {*answered}), len({*answered} - {*ids})
    kept, note = match(list(examples), found, path, "it", allow_partial=True)
    assert len(kept) + missing == len(ids) and len(kept) + unknown == len(answered)
    for number, said in ((missing, f"for {missing} of {len(ids)}"), (unknown, f"{unknown} that")):
        assert (said in (note or "")) == (number > 0)


LAYERS = [f"model.language_model.layers.{i}.self_attn.{n}_proj" for i in (0, 1) for n in "qv"]


@pytest.mark.parametrize("seed", range(40))
def test_every_tensor_of_an_adapter_is_read_or_the_adapter_is_refused(
    seed: int, tmp_path: Path
) -> None:
    rng = Random(seed)
    names = rng.sample([*LAYERS, LAYERS[0].replace("0", "7")], rng.randrange(1, 6))
    between = rng.choice(["", ".default", ".mine"])
    prefix = rng.choice(["base_model.model.", "", "module.base_model.model.", "_orig_mod."])
    tensors: dict[str, Any] = {}
    for name in names:
        old = name.replace("model.language_model.", "language_model.model.")
        spelled = rng.choice([name, old])
        for part in "AB":
            tensors[f"{prefix}{spelled}.lora_{part}{between}.weight"] = torch.ones(2, 2)
    is_finite = rng.random() < 0.9
    if not is_finite:
        tensors[next(iter(tensors))][0, 0] = math.nan
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    config["target_modules"] = ["q_proj", "v_proj"]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    if not is_finite:
        with pytest.raises(ValueError, match="has NaN or Inf"):
            read_adapter_files(tmp_path, "paligemma")
        return
    files = read_adapter_files(tmp_path, "paligemma")
    assert len(files.tensors) == len(tensors) and set(files.trained_as) == set(names)
    if set(names) == set(LAYERS):
        check_modules(files, LAYERS, "paligemma")
        return
    with pytest.raises(ValueError, match=r"does not have|lacks the updates"):
        check_modules(files, LAYERS, "paligemma")

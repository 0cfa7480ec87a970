"""What others wrote stays text: in a model card, a page, a table of a spreadsheet."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.markup import cell, markdown
from experiments.ablation_summary import _as_csv
from finetuning.training.model_card import model_card
from tasks.tables import write_csv

NASTY = [
    "a\n---\nlicense: mine",
    "a: b",
    "- x",
    "`code`",
    "a | b",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![](http://evil/x.png)",
    "*bold* # x",
    '"quoted" \\ text',
]


@pytest.mark.parametrize("name", NASTY)
def test_a_model_card_has_one_header_and_no_markup_of_a_name(name: str) -> None:
    settings = dict.fromkeys(
        ("quantization", "lora_rank", "lora_alpha", "learning_rate", "num_epochs", "seed"), name
    )
    data = {"num_examples": 3, "split": name}
    run: dict[str, Any] = {
        "task": name, "base_model": f"org/{name}", "base_revision": "a" * 40,
        "train_data": data, "settings": settings,
    }  # fmt: skip
    metrics = {
        "task": name, "split": name, "num_examples": 3, "metric": name, "metrics": {name: 1.0}
    }  # fmt: skip
    card = model_card(run, [metrics], num_steps=1)
    assert card.splitlines().count("---") == 2
    header = yaml.safe_load(card.split("---\n")[1])
    more = {"library_name", "model-index", "pipeline_tag", "tags"}
    assert set(header) == {"base_model", "base_model_relation", *more}
    (result,) = header["model-index"][0]["results"]
    line = " ".join(name.split())
    assert result["dataset"] == {"type": line, "name": line, "split": line}
    assert result["metrics"] == [{"type": line, "value": 1.0, "args": {"num_examples": 3}}]
    assert header["base_model"] == " ".join(str(Path(f"org/{name}")).split())
    body = card.split("---\n", 2)[2]
    for mark in ("<script", "](", "`code`", "*bold*", "a | b"):
        assert mark not in body


def test_a_figure_of_markdown_keeps_plain_names() -> None:
    assert markdown("org/model_b-2") == "org/model_b-2"
    assert markdown("a\n\n| b <i>") == r"a \| b &lt;i&gt;"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_a_table_is_a_formula(start: str) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    assert cell(text) == f"'{text}"
    lines = b"".join(write_csv([{"prediction": text, "n": -1, "score": "-3.5"}]))
    (row,) = csv.DictReader(io.StringIO(lines.decode(), newline=""))
    assert row == {"prediction": f"'{text}", "n": "-1", "score": "-3.5"}
    run = dict.fromkeys(("model", "variant", "task", "status", "metric", "seconds"), "x")
    grid = {**run, "run": text, "value": -1.0, "interval_95": None, "metrics": {}, "error": text}
    _, first = csv.reader(io.StringIO(_as_csv([grid]), newline=""))
    assert first[0] == first[-1] == f"'{text}"


def test_a_page_holds_no_markup_of_the_data(
    tmp_path: Path, pico1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner
    from PIL import Image

    from palitune.main import palitune

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    text = '<script>alert(1)</script><a href="javascript:x">'
    quoted = text.replace('"', '""')
    table = tmp_path / "train.csv"
    table.write_text(f'image,instruction,response\na.png,"{quoted}","{quoted}"\n')
    words = ["preview", "--task", "csv_qa", "--csv", table, "--model_path", pico1]
    words += ["--output_dir", tmp_path / "out"]
    result = CliRunner().invoke(palitune, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "preview.html").read_text()
    assert "<script" not in page and "<a " not in page
    assert "&lt;script&gt;" in page

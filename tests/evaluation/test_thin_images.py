"""Images that a family cannot be shown are found by their headers, before a model is loaded."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from palitune.main import palitune
from tasks.images import ArrayImage, FileImage
from tests.helpers import one_sentence, sentence
from tests.models.tiny_families import maker


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    maker("qwen2_vl")(folder)
    return folder


def write_table(folder: Path) -> Path:
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    Image.new("RGB", (900, 4)).save(folder / "thin.png")
    lines = ["image,instruction,response", "a.png,what?,red", "thin.png,what?,red"]
    (folder / "t.csv").write_text("\n".join(lines))
    return folder / "t.csv"


@pytest.mark.parametrize(
    "command",
    [
        ["train", "csv_qa", "--max_steps", "1", "--skip_evaluation", "--train_csv"],
        ["eval", "--task", "csv_qa", "--csv"],
    ],
    ids=["train", "eval"],
)
def test_a_thin_image_is_named_before_the_model_is_loaded(
    command: list[str], qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import loading

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("finetuning.training.prepare.load_model", refuse)
    monkeypatch.setattr(loading, "load_model", refuse)
    table = write_table(tmp_path)
    options = ["--model_path", qwen, "--output_dir", tmp_path / "out", "--device", "cpu"]
    result = CliRunner().invoke(palitune, [*command, *map(str, (table, *options))])
    said = sentence(result.exit_code, result.stderr)
    assert "Example 3: An image of 900 x 4 pixels is too long and thin" in said


def test_dimensions_come_from_the_header(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:45])  # no pixel is left
    for name in ("a.png", "cut.png"):
        assert FileImage(str(tmp_path / name)).dimensions() == (40, 30)
    (tmp_path / "no.png").write_bytes(b"none")
    with one_sentence("no.png is not an image in a known format"):
        FileImage(str(tmp_path / "no.png")).dimensions()
    import numpy as np

    assert ArrayImage(np.zeros((3, 7)), "digit").dimensions() == (7, 3)
    assert ArrayImage(np.zeros((3, 7)), "digit", size=(64, 32)).dimensions() == (64, 32)

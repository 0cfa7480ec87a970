"""The preview shows what the model gets: its image, and which tokens it learns."""

import base64
import io
import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from PIL import Image, ImageColor

from palitune.preview import preview_command
from tests.evaluation.shown import Shown
from tests.helpers import sentence
from tests.official_files import color_of, write_docvqa

TIMES = " \N{MULTIPLICATION SIGN}"


def run(data_root: Path, model: Path, output_dir: Path, *options: str) -> str:
    arguments = ["--task", "docvqa", "--model_path", str(model), "--data_root", str(data_root)]
    arguments += ["--output_dir", str(output_dir), *options]
    result = CliRunner().invoke(preview_command(), arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return (output_dir / "preview.html").read_text(encoding="utf-8")


def test_the_page_shows_the_resized_image_and_marks_the_answer(pico1: Path, tmp_path: Path) -> None:
    write_docvqa(tmp_path / "data")
    page = run(tmp_path / "data", pico1, tmp_path / "out", "--num_examples", "2")
    assert page.count("<section>") == 2
    answers = re.findall(r"<mark>(.*?)</mark></pre>", page)
    assert len(answers) == 2 and all(answer.endswith("&lt;eos&gt;") for answer in answers)
    images = re.findall(r"base64,([^\"]+)", page)
    ids = [int(number) for number in re.findall(r"<h2>(\d+)</h2>", page)]
    for number, encoded in zip(ids, images, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(encoded)))
        assert image.size == (64, 64)  # what the model takes, whatever the size of the page
        assert image.getpixel((9, 9)) == ImageColor.getrgb(color_of(number))
    assert re.search(r"16 image, \d+ prompt, \d+ answer tokens", page)


def test_text_of_the_data_cannot_become_markup(pico1: Path, tmp_path: Path) -> None:
    write_docvqa(tmp_path / "data")
    template = "<script>alert(1)</script>{question}"
    page = run(tmp_path / "data", pico1, tmp_path / "out", "--prompt_template", template)
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_equal_answers_are_counted_and_images_stand_in_one_column(
    browser: Any, pico1: Path, tmp_path: Path
) -> None:
    options = ["--task", "vqav2", "--model_path", str(pico1), "--data_root", "sample"]
    options += ["--output_dir", str(tmp_path)]
    assert CliRunner().invoke(preview_command(), options).exit_code == 0
    for width in (1280, 390):
        page = Shown(browser, tmp_path / "preview.html", width).page
        boxes = [image.bounding_box() for image in page.locator("section img").all()]
        assert len({(box["x"], box["width"]) for box in boxes}) == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    # ten people answer each question
    for text in page.locator("section p:last-child").all_inner_texts():
        answers = text.removeprefix("Accepted: ").split(", ")
        counts = [int(answer.split(TIMES)[1]) if TIMES in answer else 1 for answer in answers]
        assert sum(counts) == 10 and max(counts) > 1
        assert counts == sorted(counts, reverse=True)


def test_a_page_of_the_users_own_stays(pico1: Path, tmp_path: Path) -> None:
    mine = tmp_path / "preview.html"
    mine.write_text("my own page")
    words = ["--task", "docvqa", "--model_path", str(pico1), "--data_root", "sample"]
    result = CliRunner().invoke(preview_command(), [*words, "--output_dir", str(tmp_path)])
    assert f"{mine} is there and is no preview; choose" in sentence(result.exit_code, result.output)
    assert mine.read_text() == "my own page"

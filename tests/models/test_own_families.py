"""Families of the user's: which checkpoints they feed, by which prompts, and what is refused."""

import logging
from pathlib import Path

import pytest

from evaluation.prompting import make_prompter
from models.checkpoint import resolve
from models.names import canonical
from models.registry import families, family_named, family_of, lineage, load_families
from tasks.registry import get_task
from tests.common.test_user_code import write
from tests.helpers import one_sentence
from tests.own_code import install, write_blocks

LINES = """from models.paligemma import PaliGemma


class Mine(PaliGemma):
    name = "mine"
    model_types = ("mine_type",)
    renames = {"^old": "new"}
"""


def padded(folder: Path) -> type:
    (path,) = (p for p in write_blocks("own_family.md", folder) if p.suffix == ".py")
    (family,) = load_families(str(path))
    return family


def test_the_family_of_the_page_feeds_a_checkpoint_only_where_it_is_named(tmp_path: Path) -> None:
    family = padded(tmp_path)
    assert resolve("tiny").family is not family
    assert resolve("tiny", model_type="padded_paligemma").family is family
    assert resolve("tiny", model_type="padded-paligemma").family is family


def test_the_family_of_the_page_pads_what_paligemma_stretches(tmp_path: Path) -> None:
    from PIL import Image

    kind = padded(tmp_path)
    base = resolve("tiny").family
    image = Image.new("RGB", (64, 16), (255, 0, 0))
    own, plain = (f(resolve("tiny").base).process_image(image) for f in (kind, base))
    assert own[1] == plain[1]  # as many tokens
    size = plain[0]["pixel_values"].shape[-1]
    red = plain[0]["pixel_values"][0]
    assert (red == red[0, 0]).all()  # stretched: red alone
    rows = own[0]["pixel_values"][0].mean(dim=1)
    # a quarter of the height is red, in the middle; grey 127 is normalised to -0.004
    assert rows[size // 2] > 0.9 and abs(float(rows[size // 8])) < 0.02


def test_a_derived_family_is_asked_by_the_prompts_of_its_base(tmp_path: Path) -> None:
    kind = padded(tmp_path)
    assert lineage(kind) == ("padded_paligemma", "paligemma")
    prompter = make_prompter(get_task("vqav2"), kind(resolve("tiny").base))
    assert prompter.template == "answer en {question}"


def test_a_family_of_a_new_type_is_found_by_it(tmp_path: Path) -> None:
    (family,) = load_families(write(tmp_path, LINES))
    assert family_of("mine_type", "folder") is family
    assert canonical("old.layer", "mine_type") == "new.layer"
    assert families()[0] is family and load_families(str(tmp_path / "own_file.py")) == [family]
    with one_sentence("--model_type mine does not fit", "name llava or generic"):
        family_named("mine", "llava")


@pytest.mark.parametrize(
    ("was", "now", "parts"),
    [
        ('"mine"', '"llava"', ("the name llava",)),
        ('"mine"', '"Mine!"', ("'Mine!'",)),
        ('"mine"', '"qwen2-vl"', ("'qwen2-vl'",)),
        ('("mine_type",)', '("llava",)', ("model_types has llava", "--model_type mine")),
        ('    model_types = ("mine_type",)\n', "", ("model_types has paligemma", "()")),
        ('("mine_type",)', '"mine_type"', ("model_types must be", "'mine_type'")),
        ("renames =", "encode_all = encode = print  #", ("has its own encode,", "process_image")),
        ("renames =", "encode_all = print  #", ("has its own encode_all,", "process_image")),
    ],
)
def test_a_family_that_cannot_be_added_is_told(
    tmp_path: Path, was: str, now: str, parts: tuple[str, ...]
) -> None:
    assert was in LINES
    before = families()
    with one_sentence("own_file.py, line 4", *parts):
        load_families(write(tmp_path, LINES.replace(was, now)))
    assert families() == before


def test_a_file_without_a_family_is_told(tmp_path: Path) -> None:
    with one_sentence("--family_module", "has no Family", "models.base.Family"):
        load_families(write(tmp_path, "from models.paligemma import PaliGemma\n"))


def test_an_installed_package_offers_a_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, LINES, "own_pkg.py")
    install(tmp_path, "own-package", "palitune.families", {"mine": "own_pkg:Mine"})
    assert family_of("mine_type", "folder").name == "mine"


def test_a_broken_package_is_named_and_stops_none_but_who_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, "1 / 0", "own_pkg.py")
    install(tmp_path, "own-package", "palitune.families", {"mine": "own_pkg:Mine"})
    with caplog.at_level(logging.WARNING):
        assert resolve("tiny").family.name == "paligemma"
    assert "own-package" in caplog.text and "ZeroDivisionError" in caplog.text
    with one_sentence("palitune.families mine of the package own-package", "own_pkg.py, line 1"):
        family_named("mine")

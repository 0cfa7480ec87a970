"""Many examples are encoded as each alone, their images opened a few at a time."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from evaluation import batch_encoding
from evaluation.prompting import Prompter, make_prompter
from models.base import Family
from models.checkpoint import resolve
from models.loading import load_family
from models.paligemma import PaliGemma
from models.plain import PlainFamily
from tasks.base import Example, Turn
from tasks.images import FileImage
from tasks.registry import get_task
from tests.helpers import one_sentence

VQAV2 = get_task("vqav2")
SIZES = ((80, 50), (64, 64), (1, 7), (301, 40))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Two questions on each of four images, those of an image apart."""
    folder = tmp_path_factory.mktemp("images")
    for place, size in enumerate(SIZES):
        Image.new("RGB", size, (60 * place, 10, 20)).save(folder / f"{place}.png")
    return [
        Example(
            example_id=place,
            image=FileImage(str(folder / f"{place % 4}.png")),
            turns=(Turn("user", f"what is {place}?"),),
            references=("a",),
        )
        for place in range(8)
    ]


def prompter_of(kind: type[Family] = PaliGemma) -> Prompter:
    base = load_family(resolve("tiny"))
    return make_prompter(VQAV2, kind(base.location))


@pytest.mark.parametrize("num_pixels", [1, 5000, 2**22])
def test_examples_are_encoded_as_each_alone(
    num_pixels: int, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_encoding, "_PIXELS", num_pixels)
    prompter = prompter_of()
    many = prompter.encode_all(examples)
    for example, encoded in zip(examples, many, strict=True):
        alone = prompter.encode(example)
        assert encoded.input_ids == alone.input_ids
        assert encoded.example_id == example.example_id
        assert torch.equal(encoded.pixels["pixel_values"], alone.pixels["pixel_values"])
    assert all(one.pixels is other.pixels for one, other in zip(many[:4], many[4:], strict=True))
    assert len({id(encoded.pixels) for encoded in many}) == 4


@pytest.mark.parametrize(
    ("num_pixels", "sizes"),
    # 4,000, 4,096, 7 and 12,040 pixels
    [(1, [1, 1, 1, 1]), (4096, [2, 2]), (8103, [3, 1]), (2**22, [4])],
)
def test_small_images_are_open_together_and_large_ones_alone(
    num_pixels: int, sizes: list[int], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_encoding, "_PIXELS", num_pixels)
    found: list[int] = []
    prepare = PaliGemma.prepare

    def counted(self: Any, shown: Sequence[Any]) -> Any:
        found.append(len(shown))
        return prepare(self, shown)

    monkeypatch.setattr(PaliGemma, "prepare", counted)
    prompter_of().encode_all(examples)
    assert found == sizes


def test_large_images_are_not_kept_until_all_are_open(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a family may leave them to what puts tokens and images together
    monkeypatch.setattr(batch_encoding, "_PIXELS", 1)
    events: list[str] = []

    def noted(name: str, function: Any) -> Any:
        return lambda *arguments: events.append(name) or function(*arguments)

    monkeypatch.setattr(FileImage, "open", noted("open", FileImage.open))
    monkeypatch.setattr(PaliGemma, "put_together", noted("put", PaliGemma.put_together))
    prompter_of().encode_all(examples)
    assert events == 4 * ["open", "put"]


def test_all_images_are_processed_in_one_call(examples: list[Example]) -> None:
    prompter = prompter_of()
    process, calls = type(prompter.family.image_processor).__call__, []

    def counted(self: Any, images: Any, **settings: Any) -> Any:
        calls.append(len(images))
        return process(self, images, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(prompter.family.image_processor), "__call__", counted)
        prompter.encode_all(examples)
    assert calls == [4]


class OwnImage(PaliGemma):
    def process_image(self, image: Image.Image) -> Any:
        pixels, ids = super().process_image(image)
        return {"pixel_values": pixels["pixel_values"] + 7}, ids


class OwnImages(PaliGemma):
    def process_images(self, images: Sequence[Image.Image]) -> Any:
        seen = super().process_images(images)
        return [({"pixel_values": p["pixel_values"] + 7}, ids) for p, ids in seen]


class OwnPreparing(PaliGemma):
    def prepare(self, shown: Sequence[Sequence[Image.Image]]) -> Any:
        return super().prepare([[image.rotate(180) for image in images] for images in shown])


class OwnPlain(PlainFamily):
    name, title, model_types = "own", "Own", ("own",)
    unquantized_modules = ("lm_head",)

    def layout(self, prompt: str, answers: Sequence[str]) -> list[str]:
        return [prompt, *answers]

    def process_image(self, image: Image.Image) -> Any:
        return {"pixel_values": torch.full((3, 2, 2), image.width)}, [5] * image.height


def test_a_plain_family_may_have_images_of_any_number_of_tokens(examples: list[Example]) -> None:
    encoded = prompter_of(OwnPlain).encode_all(examples)
    assert [entry.num_image_tokens for entry in encoded] == 2 * [height for _, height in SIZES]
    assert [int(entry.pixels["pixel_values"][0, 0, 0]) for entry in encoded[:4]] == [
        width for width, _ in SIZES
    ]


@pytest.mark.parametrize("kind", [OwnImage, OwnImages, OwnPreparing])
def test_a_derived_familys_own_way_with_an_image_is_taken(
    kind: type[Family], examples: list[Example], tmp_path: Path
) -> None:
    bright_above = Image.new("RGB", (8, 8))
    bright_above.paste((255, 255, 255), (0, 0, 8, 4))
    bright_above.save(tmp_path / "above.png")
    asked = [replace(examples[0], image=FileImage(str(tmp_path / "above.png"))), examples[1]]
    made = (prompter_of(each).encode_all(asked)[0] for each in (kind, PaliGemma))
    own, base = (encoded.pixels["pixel_values"] for encoded in made)
    # normalised to -1 and 1
    if kind is OwnPreparing:
        assert float(base[0, 0, 0]) == 1 and float(own[0, 0, 0]) == -1
    else:
        assert torch.equal(own, base + 7)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the threads in which images are prepared; three of them, whatever the images."""
    monkeypatch.setattr(batch_encoding, "count_threads", lambda: 3)
    monkeypatch.setattr(batch_encoding, "_SMALL", 1)
    names: list[str] = []
    prepare = PaliGemma.prepare

    def noted(self: Any, shown: Sequence[Any]) -> Any:
        names.append(threading.current_thread().name)
        return prepare(self, shown)

    monkeypatch.setattr(PaliGemma, "prepare", noted)
    return names


def test_large_images_are_prepared_in_threads_each_once(
    examples: list[Example], threads: list[str]
) -> None:
    prompter = prompter_of()
    many = prompter.encode_all(examples)
    assert len(threads) == 4 and threading.current_thread().name not in threads
    for example, encoded in zip(examples, many, strict=True):
        alone = prompter.encode(example)
        assert encoded.input_ids == alone.input_ids
        assert encoded.example_id == example.example_id
        assert torch.equal(encoded.pixels["pixel_values"], alone.pixels["pixel_values"])
    assert len({id(encoded.pixels) for encoded in many}) == 4


def test_small_images_have_no_threads(
    examples: list[Example], threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_encoding, "_SMALL", 4001)  # the first has 4,000 pixels
    prompter_of().encode_all(examples)
    assert threads == [threading.current_thread().name]


def test_a_thread_names_the_example_at_fault(
    examples: list[Example], threads: list[str], tmp_path: Path
) -> None:
    gone = replace(examples[2], image=FileImage(str(tmp_path / "gone.png")), example_id="gone")
    for asked in ([*examples[:3], gone, *examples[3:]], [gone, *examples]):
        with one_sentence("gone.png does not exist", "(example gone)"):
            prompter_of().encode_all(asked)


def test_of_many_examples_the_one_at_fault_is_named(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = replace(examples[2], image=FileImage(str(tmp_path / "torn.png")), example_id="torn")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG nothing more")
    with one_sentence("torn.png", "(example torn)"):
        prompter_of().encode_all([*examples[:3], torn, *examples[3:]])

    def refuse_wide(self: Any, image: Image.Image) -> Any:
        if image.width > 300:
            raise ValueError("The image is too wide.")
        return {"pixel_values": torch.zeros(3, 4, 4)}, [1]

    monkeypatch.setattr(PaliGemma, "process_image", refuse_wide)
    with one_sentence("too wide (example 3)"):
        prompter_of().encode_all(examples)

"""CLIP-S and RefCLIP-S: planted embeddings by hand, and the rule read literally on a real CLIP."""

import json
import shutil
import string
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from models.clip import ClipScorer, load_clip

SIZE = 32  # of the tiny model's images
LETTERS = string.ascii_lowercase
START, END = 2 * len(LETTERS), 2 * len(LETTERS) + 1
# Radford et al. 2021, as the official script writes them out
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WORDS = ("a", "red", "blue", "dog", "on", "the", "grass", "sits", "and", "watches", "two")


class DrawnImage:
    """A random image that is made when it is opened."""

    opened: list["weakref.ref[Image.Image]"] = []  # noqa: RUF012
    most_alive = 0

    def __init__(self, seed: int, size: tuple[int, int] = (40, 32)) -> None:
        shape = (size[1] // 4 + 1, size[0] // 4 + 1, 3)
        blocks = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        self.pixels = blocks.repeat(4, axis=0).repeat(4, axis=1)[: size[1], : size[0]]

    def open(self) -> Image.Image:
        image = Image.fromarray(self.pixels)
        DrawnImage.opened.append(weakref.ref(image))
        alive = sum(reference() is not None for reference in DrawnImage.opened)
        DrawnImage.most_alive = max(DrawnImage.most_alive, alive)
        return image


def make_clip(place: Path) -> Path:
    """A random CLIP in half precision whose tokens are letters, those at a word's end apart."""
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tower = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    special = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": END}
    config = CLIPConfig(
        text_config={**tower, **special, "vocab_size": len(vocabulary)},
        vision_config={**tower, "image_size": SIZE, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(5)
    model = CLIPModel(config)
    for parameter in model.parameters():
        if parameter.dim() >= 2:  # the library's 0.02 leaves all embeddings nearly equal
            torch.nn.init.normal_(parameter, std=0.4)
    model.half().save_pretrained(place)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(place)
    CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=SIZE).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ClipScorer:
    return load_clip(str(folder), device="cpu")


def planted(
    monkeypatch: pytest.MonkeyPatch,
    images: Sequence[Sequence[float]],
    texts: dict[str, Sequence[float]],
) -> ClipScorer:
    """A scorer whose embeddings are given: those of the images in order, of the texts by name."""
    scorer = ClipScorer(None, None, None)
    left = iter(images)
    monkeypatch.setattr(
        scorer, "embed_images", lambda batch: torch.tensor([next(left) for _ in batch])
    )
    monkeypatch.setattr(
        scorer, "embed_texts", lambda batch: torch.tensor([texts[text] for text in batch])
    )
    return scorer


def test_clip_s_is_two_and_a_half_times_the_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    # (3, 4) and (2, 0): cosine 6 / (5 * 2) = 0.6; (0, 7) and (0, 0.1): 1; means over the two
    scorer = planted(monkeypatch, [(3.0, 4.0), (0.0, 7.0)], {"c": (2.0, 0.0), "d": (0.0, 0.1)})
    scores = scorer([DrawnImage(0)] * 2, ["c", "d"], [[], []], batch_size=2)
    assert scores.clip_s == pytest.approx([1.5, 2.5])
    assert scores.metrics["CLIP-S"] == pytest.approx(2.0)


def test_ref_clip_s_is_the_harmonic_mean_with_the_nearest_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # CLIP-S 1.5 as above; cosines with the references 0, 0.8 and -1, unweighted:
    # 2 * 1.5 * 0.8 / (1.5 + 0.8) = 2.4 / 2.3
    texts = {"c": (2.0, 0.0), "x": (0.0, 1.0), "y": (8.0, 6.0), "z": (-1.0, 0.0)}
    scorer = planted(monkeypatch, [(3.0, 4.0)], texts)
    scores = scorer([DrawnImage(0)], ["c"], [["x", "y", "z"]], batch_size=2)
    assert scores.ref_clip_s == pytest.approx([2.4 / 2.3])
    assert scores.metrics["RefCLIP-S"] == pytest.approx(2.4 / 2.3)
    assert scores.reasons == {}


def test_a_negative_cosine_counts_as_zero_and_makes_the_harmonic_mean_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # image against caption -1, 1, 1; caption against its reference 1, -0.6, 1
    # the third: CLIP-S 2.5 and text 1 give 2 * 2.5 * 1 / 3.5 = 10/7, the highest there is
    texts = {"c": (1.0, 0.0), "near": (2.0, 0.0), "far": (-3.0, 4.0)}
    scorer = planted(monkeypatch, [(-1.0, 0.0), (1.0, 0.0), (1.0, 0.0)], texts)
    references = [["near"], ["far"], ["near"]]
    scores = scorer([DrawnImage(0)] * 3, ["c"] * 3, references, batch_size=3)
    assert scores.clip_s == pytest.approx([0, 2.5, 2.5])
    assert scores.ref_clip_s == pytest.approx([0, 0, 10 / 7])
    assert scores.metrics == pytest.approx({"CLIP-S": 5 / 3, "RefCLIP-S": 10 / 21})


def test_an_example_without_a_reference_leaves_ref_clip_s_out_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = planted(monkeypatch, [(3.0, 4.0)] * 3, {"c": (2.0, 0.0), "y": (8.0, 6.0)})
    scores = scorer([DrawnImage(0)] * 3, ["c"] * 3, [["y"], [], []], batch_size=2)
    assert scores.metrics == {"CLIP-S": pytest.approx(1.5), "RefCLIP-S": None}
    assert scores.reasons == {"RefCLIP-S": "2 of 3 examples have no reference"}
    assert scores.ref_clip_s == [pytest.approx(2.4 / 2.3), None, None]


def slow_pixels(image: Image.Image) -> np.ndarray:
    """The official script's transform: resize, centre crop, scale, normalise."""
    short = min(image.size)
    width, height = (SIZE * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    # halves go to the even pixel: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4
    left, top = (
        (margin + 1) // 2 if margin % 4 == 3 else margin // 2
        for margin in (width - SIZE, height - SIZE)
    )
    image = image.crop((left, top, left + SIZE, top + SIZE))
    return ((np.asarray(image) / 255 - MEAN) / STD).transpose(2, 0, 1)


def slow_ids(text: str) -> list[int]:
    """Start, the letters of at most 75 tokens, end; a word's last letter is a token of its own."""
    ids = []
    for word in f"A photo depicts {text}".lower().split():
        numbers = [LETTERS.index(letter) for letter in word]
        ids += [*numbers[:-1], numbers[-1] + len(LETTERS)]
    return [START, *ids[:75], END]


def slow_scores(
    model: Any, image: DrawnImage, candidate: str, references: Sequence[str]
) -> tuple[float, float]:
    """CLIP-S and RefCLIP-S of one example, each text and image by itself, without padding."""

    def text_vector(text: str) -> np.ndarray:
        with torch.no_grad():
            states = model.text_model(torch.tensor([slow_ids(text)])).last_hidden_state
            return model.text_projection(states[0, -1]).numpy().astype(np.float64)

    def cosine(first: np.ndarray, second: np.ndarray) -> float:
        return float(first @ second / np.sqrt((first @ first) * (second @ second)))

    pixels = torch.tensor(slow_pixels(image.open())[None], dtype=torch.float32)
    with torch.no_grad():
        pooled = model.vision_model(pixels).pooler_output
        image_vector = model.visual_projection(pooled)[0].numpy().astype(np.float64)
    caption = text_vector(candidate)
    clip_s = 2.5 * max(cosine(image_vector, caption), 0)
    text_s = max(max(cosine(caption, text_vector(reference)) for reference in references), 0)
    return clip_s, 2 * clip_s * text_s / (clip_s + text_s) if clip_s * text_s else 0


# (width, height): (35, 32) and (32, 39) have a margin of which one half is not the other,
# (640, 427) is 47 wide after resizing, (30, 200) is enlarged
SIZES = [(32, 32), (35, 32), (32, 39), (640, 427), (30, 200), (100, 64), (90, 91), (33, 47)]


def examples() -> tuple[list[DrawnImage], list[str], list[list[str]]]:
    random = np.random.default_rng(5)

    def sentence() -> str:
        return " ".join(random.choice(WORDS, size=random.integers(1, 30)))

    images = [DrawnImage(seed, size) for seed, size in enumerate(SIZES)]
    references = [[sentence() for _ in range(number % 4 + 1)] for number in range(len(SIZES))]
    return images, [sentence() for _ in SIZES], references


def test_scores_are_those_of_the_rule_read_literally(folder: Path, scorer: ClipScorer) -> None:
    images, candidates, references = examples()
    scores = scorer(images, candidates, references, batch_size=3)
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    expected = [
        slow_scores(model, *example) for example in zip(images, candidates, references, strict=True)
    ]
    clip_s, ref_clip_s = (list(values) for values in zip(*expected, strict=True))
    assert scores.clip_s == pytest.approx(clip_s, abs=2e-5)
    assert scores.ref_clip_s == pytest.approx(ref_clip_s, abs=2e-5)
    assert scores.metrics["CLIP-S"] == pytest.approx(np.mean(clip_s), abs=2e-5)
    assert scores.metrics["RefCLIP-S"] == pytest.approx(np.mean(ref_clip_s), abs=2e-5)
    # otherwise equality would say little: some are clipped, the others differ, some text is cut
    assert 0 in clip_s and len({round(value, 2) for value in clip_s}) > 4
    assert max(len(slow_ids(text)) for text in candidates) == 77


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_scores_do_not_depend_on_the_batch_size(scorer: ClipScorer, batch_size: int) -> None:
    expected = scorer(*examples(), batch_size=3)
    scores = scorer(*examples(), batch_size=batch_size)
    assert scores.clip_s == pytest.approx(expected.clip_s, abs=2e-5)
    assert scores.ref_clip_s == pytest.approx(expected.ref_clip_s, abs=2e-5)


def test_no_more_than_a_batch_is_embedded_at_once(
    scorer: ClipScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    for name in ("embed_images", "embed_texts"):
        embed = getattr(scorer, name)

        def counted(batch: Sequence[Any], embed: Any = embed) -> torch.Tensor:
            sizes.append(len(batch))
            return embed(batch)

        monkeypatch.setattr(scorer, name, counted)
    # 3 + 2 images; 3 captions with 3 references, then 2 with 7
    references = [["a"], ["a"], ["a"], ["a"] * 3, ["a"] * 4]
    scorer([DrawnImage(0)] * 5, ["a"] * 5, references, batch_size=3)
    assert sizes == [3, 3, 3, 2, 3, 3, 3]


def test_one_image_is_held_in_memory_at_a_time(scorer: ClipScorer) -> None:
    DrawnImage.opened, DrawnImage.most_alive = [], 0
    scorer(*examples(), batch_size=4)
    assert len(DrawnImage.opened) == len(SIZES)
    assert DrawnImage.most_alive == 1


def test_the_middle_of_an_odd_margin_is_the_even_pixel(scorer: ClipScorer) -> None:
    """As in torchvision; the crop of transformers would begin at column 1."""
    wide = DrawnImage(0, (35, 32))  # a margin of 3: columns 2 to 33
    crops = [DrawnImage(0, (35, 32)) for _ in range(2)]
    for crop, left in zip(crops, (2, 1), strict=True):
        crop.pixels = wide.pixels[:, left : left + SIZE]
    embedded, expected, other = scorer.embed_images([wide, *crops])
    torch.testing.assert_close(embedded, expected)
    assert not torch.allclose(embedded, other, atol=1e-2)


def test_a_caption_counts_up_to_token_77(scorer: ClipScorer) -> None:
    # start and end, and 13 letters of "a photo depicts", leave 62 letters of a caption
    texts = ["b" * 61 + "c" + "d" * 9, "b" * 61 + "c" + "e" * 99, "b" * 61 + "f" + "d" * 9]
    first, same, other = scorer.embed_texts(texts)
    torch.testing.assert_close(first, same)
    assert not torch.allclose(first, other, atol=1e-3)


def test_a_checkpoint_in_half_precision_is_computed_in_float32(scorer: ClipScorer) -> None:
    assert {parameter.dtype for parameter in scorer.model.parameters()} == {torch.float32}
    assert scorer.embed_images([DrawnImage(0)]).dtype == torch.float32
    assert scorer.embed_texts(["a dog"]).dtype == torch.float32


def test_lists_of_different_lengths_are_refused(scorer: ClipScorer) -> None:
    with pytest.raises(ValueError, match=r"2 captions and 1 lists for 1 images\.$"):
        scorer([DrawnImage(0)], ["a", "b"], [["a"]], batch_size=1)
    with pytest.raises(ValueError, match=r"at least one caption, got 0\.$"):
        scorer([], [], [], batch_size=1)


def check_sentence(error: pytest.ExceptionInfo[ValueError], *parts: str) -> None:
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text
    assert not [part for part in parts if part not in text], text


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("/no/such", ("No model at '/no/such'",)),
        ("some/model", ("some/model", "HF_HUB_OFFLINE is set")),
        ("{place}/empty", ("{place}/empty holds no model",)),
        ("{place}/cut", ("{place}/cut/config.json is not valid JSON",)),
        (
            "{place}/llama",
            ("{place}/llama is not a CLIP model", "model_type is llama", "model_type clip"),
        ),
        ("{place}/half", ("weights of {place}/half cannot be read (", "download them again")),
        ("{place}/no_weights", ("no_weights cannot be read (", "model.safetensors")),
        ("{place}/no_processor", ("no_processor cannot be read (", "preprocessor_config.json")),
        ("{place}/no_tokenizer", ("no_tokenizer has no tokenizer", "tokenizer.json")),
    ],
)
def test_what_is_no_whole_clip_is_refused_in_one_sentence(
    name: str, parts: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    for whole in ("half", "no_weights", "no_processor", "no_tokenizer"):
        shutil.copytree(folder, tmp_path / whole)
    weights = tmp_path / "half/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "no_weights/model.safetensors").unlink()
    (tmp_path / "no_processor/preprocessor_config.json").unlink()
    for path in (tmp_path / "no_tokenizer").glob("tokenizer*"):
        path.unlink()
    for config, text in (("cut", '{"model_ty'), ("llama", json.dumps({"model_type": "llama"}))):
        (tmp_path / config).mkdir()
        (tmp_path / config / "config.json").write_text(text)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError) as error:
        load_clip(name.format(place=tmp_path), device="cpu")
    check_sentence(error, *(part.format(place=tmp_path) for part in parts))


def test_without_network_the_error_comes_in_under_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(ValueError) as error:
        load_clip("some/model", device="cpu")
    check_sentence(error, "Model some/model", "the Hub cannot be reached", "HF_HUB_OFFLINE=1")
    assert time.monotonic() - start < 5


def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match="--device must be auto, cpu, cuda or cuda:N, got tpu"):
        load_clip("/no/such", device="tpu")

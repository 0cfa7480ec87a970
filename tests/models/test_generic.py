"""Models without a file of their own: three kinds, against their real processors and by hand."""

import json
import logging
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import resolve
from models.encoding import Message
from models.generic import Generic, RemoteGeneric
from models.loading import load_family, load_model
from models.settings import Decoding, FamilyOptions
from tests.models.examples import image
from tests.models.tiny_families import TINY

KINDS = ("gemma3", "idefics3", "qwen3_vl")
QUESTION: list[Message] = [("user", "how many cats?")]
# portrait, landscape, tiny, one tile, wide, and of a size that no tile or patch divides
SIZES = [(50, 80), (80, 50), (1, 1), (32, 32), (300, 20), (97, 101)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    places = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, place in places.items():
        import_module(f"tests.models.tiny_families.{kind}").make(place)
    return places


@pytest.fixture(scope="module")
def families(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: load_family(resolve(str(folder))) for kind, folder in folders.items()}


def learned(family: Any, messages: list[Message]) -> str:
    encoded = family.encode(image(), messages)
    pairs = zip(encoded.input_ids, encoded.is_target, strict=True)
    return str(family.tokenizer.decode([id_ for id_, is_learned in pairs if is_learned]))


def test_an_unknown_kind_goes_by_its_own_template_and_that_is_said(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="models.registry"):
        checkpoint = resolve(str(folders["idefics3"]))
    assert checkpoint.family is Generic
    (record,) = caplog.records
    assert "no family file for models of type 'idefics3'" in record.getMessage()
    assert str(folders["idefics3"]) in record.getMessage()


def test_a_known_kind_says_nothing(pico: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="models.registry"):
        assert resolve(str(pico)).family.name == "paligemma"
    assert not caplog.records


def test_a_model_of_text_is_no_generic_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="a model of type 'llama'"):
        resolve(str(tmp_path))


def test_a_model_that_sees_but_does_not_write_is_refused(tmp_path: Path) -> None:
    from transformers import SiglipConfig

    SiglipConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'siglip', which transformers does not load by Auto"):
        load_family(resolve(str(tmp_path)))


@pytest.mark.parametrize("family", [None, "llava"])
def test_a_kind_newer_than_transformers_is_refused(tmp_path: Path, family: str | None) -> None:
    config = {"model_type": "vision_of_tomorrow", "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"cannot read config\.json.*update transformers"):
        load_family(resolve(str(tmp_path), model_type=family))


@pytest.mark.parametrize("name", ["paligemma", "llava", "llava_next", "qwen_vl", "blip2"])
def test_a_family_that_does_not_fit_a_new_kind_is_refused(
    folders: dict[str, Path], name: str
) -> None:
    with pytest.raises(ValueError, match=f"'idefics3', cannot be fed as {name} .*--model_type"):
        load_family(resolve(str(folders["idefics3"]), model_type=name))


def test_a_kind_with_a_family_is_fed_by_that_or_as_generic(pico: Path) -> None:
    assert resolve(str(pico), model_type="generic").family is Generic
    assert resolve(str(pico), model_type="paligemma").family.name == "paligemma"
    with pytest.raises(ValueError, match=r"llava does not fit .*paligemma: leave it out"):
        resolve(str(pico), model_type="llava")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["gemma3", "idefics3"])
def test_a_question_is_the_real_processor_s(
    folders: dict[str, Path], families: dict[str, Any], kind: str, size: tuple[int, int]
) -> None:
    """Ids, pixels and further masks; these two can be built without torchvision."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folders[kind], backend="pil")
    content = [{"type": "image"}, {"type": "text", "text": QUESTION[0][1]}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    real = processor(
        images=[image(size)], text=[text], add_special_tokens=False, return_tensors="pt"
    )
    family = families[kind]
    batch = family.collate([family.encode(image(size), QUESTION)])
    assert set(batch) - {"labels"} == set(real)
    for name, tensor in real.items():
        assert torch.equal(batch[name], tensor), name


def test_images_of_differing_tiles_are_joined_as_the_real_processor_joins_them(
    folders: dict[str, Path], families: dict[str, Any]
) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folders["idefics3"], backend="pil")
    images = [image(size) for size in SIZES]
    real = processor(images=[[image] for image in images], return_tensors="pt")
    family = families["idefics3"]
    examples = [family.encode(image, QUESTION) for image in images]
    assert len({example.pixels["pixel_values"].shape[1] for example in examples}) > 1
    batch = family.collate(examples)
    for name in ("pixel_values", "pixel_attention_mask"):
        assert torch.equal(batch[name], real[name])


def test_an_image_of_idefics_is_its_tiles_by_place_and_then_the_whole(
    families: dict[str, Any],
) -> None:
    """80 x 50 is brought to 96 on its longer side, 96 x 60, then to whole tiles of 32: 96 x 64."""
    family = families["idefics3"]
    encoded = family.encode(image((80, 50)), QUESTION)
    four = "<image>" * 4
    tile = "<fake_token_around_image><row_{}_col_{}>" + four
    rows = ["".join(tile.format(row, column) for column in (1, 2, 3)) for row in (1, 2)]
    whole = f"<fake_token_around_image><global-img>{four}<fake_token_around_image>"
    assert family.tokenizer.decode(encoded.input_ids) == (
        f"<bos>User:{rows[0]}\n{rows[1]}\n\n{whole}how many cats?<end_of_utterance>\nAssistant:"
    )
    # 6 tiles of 1 + 1 + 4; two ends of rows and an empty line; the whole of 1 + 1 + 4 + 1
    assert encoded.num_image_tokens == 6 * 6 + 3 + 7


def test_line_breaks_around_gemma_s_image_are_one_token_with_those_of_the_layout(
    families: dict[str, Any],
) -> None:
    family = families["gemma3"]
    encoded = family.encode(image(), QUESTION)
    ((start, end),) = encoded.image_spans
    tokens = family.tokenizer.convert_ids_to_tokens(encoded.input_ids)
    assert tokens[start - 1] == "\n\n\n"  # one of the role's line, two before the image
    image_tokens = ["<start_of_image>", *["<image_soft_token>"] * 4, "<end_of_image>"]
    assert tokens[start:end] == image_tokens
    assert tokens[end] == "\n\n"


@pytest.mark.parametrize(
    ("size", "num_tokens"),
    [
        ((80, 48), 15),  # 5 x 3 tokens of 16 x 16 pixels
        ((50, 80), 15),  # 50 is nearest to 48
        ((160, 160), 16),  # 100 tokens are over 24: sides shrink to 78, so 4 x 4 whole tokens
        ((16, 16), 4),  # 1 token is under 4: sides double
    ],
)
def test_an_image_of_qwen3_has_a_token_for_two_by_two_patches(
    families: dict[str, Any], size: tuple[int, int], num_tokens: int
) -> None:
    family = families["qwen3_vl"]
    encoded = family.encode(image(size), QUESTION)
    assert encoded.num_image_tokens == num_tokens
    assert encoded.pixels["pixel_values"].shape == (4 * num_tokens, 3 * 2 * 8 * 8)  # two frames
    batch = family.collate([encoded])
    assert int(batch["mm_token_type_ids"].sum()) == num_tokens


@pytest.mark.parametrize(
    ("kind", "inside", "beside"),
    [
        ("gemma3", "model.language_model", {"model.vision_tower", "model.multi_modal_projector"}),
        ("idefics3", "model.text_model", {"model.vision_model", "model.connector"}),
        ("qwen3_vl", "model.language_model", {"model.visual"}),
    ],
)
def test_the_language_model_is_found_where_the_token_vectors_are(
    families: dict[str, Any], kind: str, inside: str, beside: set[str]
) -> None:
    family = families[kind]
    assert family.language_model == inside
    assert set(family.unquantized_modules) == {*beside, "lm_head"}


@pytest.mark.parametrize(
    ("kind", "end", "space"),
    [
        ("gemma3", "<end_of_turn>", ""),
        ("idefics3", "<end_of_utterance>", " "),
        ("qwen3_vl", "<|im_end|>", ""),
    ],
)
def test_each_answer_of_a_conversation_is_learned_with_its_end(
    families: dict[str, Any], kind: str, end: str, space: str
) -> None:
    turns = [("user", "cats?"), ("assistant", "two"), ("user", "dogs?"), ("assistant", "one")]
    assert learned(families[kind], turns) == f"{space}two{end}{space}one{end}"


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        ("gemma3", "<image_soft_token>"),
        ("gemma3", "<end_of_turn>"),
        ("idefics3", "<image>"),
        ("qwen3_vl", "<|image_pad|>"),
        ("qwen3_vl", "<|im_end|>"),
    ],
)
def test_special_tokens_in_a_question_stay_text(
    families: dict[str, Any], kind: str, token: str
) -> None:
    family = families[kind]
    wanted = family.tokenizer.convert_tokens_to_ids(token)
    plain, spelled = (
        family.encode(image(), [("user", text)]).input_ids.count(wanted)
        for text in ("what is it?", f"what is {token}?")
    )
    assert spelled == plain


def test_pixels_of_differing_shape_are_joined_with_zeros(families: dict[str, Any]) -> None:
    ones = [{"pixel_values": torch.ones(1, 3, *size)} for size in ((4, 6), (5, 2))]
    (joined,) = families["idefics3"].stack(ones).values()
    assert joined.shape == (2, 3, 5, 6)
    assert joined[0, 0].tolist() == [[1] * 6] * 4 + [[0] * 6]
    assert joined[1, 0].tolist() == [[1, 1, 0, 0, 0, 0]] * 5


def test_patches_in_a_row_are_joined_one_behind_the_other(families: dict[str, Any]) -> None:
    rows = [{"pixel_values": torch.full((n, 5), n)} for n in (2, 3)]
    (joined,) = families["qwen3_vl"].stack(rows).values()
    assert joined[:, 0].tolist() == [2, 2, 3, 3, 3]


def test_what_a_training_saved_gives_the_same_ids(
    folders: dict[str, Path], families: dict[str, Any], tmp_path: Path
) -> None:
    families["idefics3"].save(str(tmp_path))
    again = Generic(str(folders["idefics3"]), saved=str(tmp_path))
    first, second = (family.encode(image(), QUESTION) for family in (families["idefics3"], again))
    assert first.input_ids == second.input_ids
    assert torch.equal(first.pixels["pixel_values"], second.pixels["pixel_values"])


def test_patches_are_not_shown(families: dict[str, Any]) -> None:
    encoded = families["qwen3_vl"].encode(image(), QUESTION)
    with pytest.raises(ValueError, match="cannot be shown: its processor cuts them into patches"):
        families["qwen3_vl"].render_image(encoded)


def test_a_checkpoint_without_chat_template_is_refused(tmp_path: Path) -> None:
    from tests.models.tiny_families.llava import make

    make(tmp_path)
    with pytest.raises(ValueError, match=r"\(llava\) has no chat template.*--chat_template"):
        Generic(str(tmp_path))
    options = FamilyOptions(chat_template="{{ messages[0].content[1].text }}")
    assert Generic(str(tmp_path), options=options).template == options.chat_template


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    from transformers import Florence2Config

    Florence2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\(florence2\) has an encoder-decoder language model"):
        load_family(resolve(str(tmp_path)))


def test_a_model_that_wants_more_than_the_image_s_own_pixels_is_refused(tmp_path: Path) -> None:
    """Mllama's cross_attention_mask has a row for each token of the text."""
    from transformers import AutoTokenizer, MllamaConfig, MllamaImageProcessorPil

    MllamaConfig().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_tokens(["<|image|>"], special_tokens=True)
    tokenizer.chat_template = "{% for part in messages[0].content %}<|image|>{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    MllamaImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"gives cross_attention_mask, which belongs to a whole"):
        Generic(str(tmp_path)).encode(image(), QUESTION)


def test_a_processor_that_cannot_be_built_says_what_is_missing(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> Any:
        raise ImportError("\nIt requires num2words. Install it with\n`pip install num2words`.\n")

    monkeypatch.setattr(Generic, "_without_videos", missing)
    expected = r"here \(It requires num2words\. Install it with `pip install num2words`\)\.$"
    with pytest.raises(ValueError, match=expected):
        Generic(str(folders["idefics3"])).encode(image(), QUESTION)


def test_a_processor_without_an_image_s_token_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Generic, "_without_videos", lambda *_: SimpleNamespace())
    with pytest.raises(ValueError, match="names no token that stands for an image"):
        Generic(str(folders["idefics3"])).encode(image(), QUESTION)


CODE = """
from transformers import LlavaConfig, LlavaForConditionalGeneration


class ToyConfig(LlavaConfig):
    model_type = "toy_vl"


class ToyForCausalLM(LlavaForConditionalGeneration):
    config_class = ToyConfig
"""


def test_a_model_with_code_of_its_own_answers_where_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlavaProcessor

    from tests.models.tiny_families.llava import make

    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    folder = tmp_path / "toy"
    make(folder)
    llava = load_family(resolve(str(folder)))
    as_llava = llava.encode(image(), QUESTION)
    LlavaProcessor(
        llava.image_processor,
        llava.tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=llava.chat_template,
    ).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "toy.ToyConfig", "AutoModelForCausalLM": "toy.ToyForCausalLM"}
    config |= {"model_type": "toy_vl", "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "toy.py").write_text(CODE)
    tensors = load_file(folder / "model.safetensors")  # nobody renames those of an unknown type
    tensors["lm_head.weight"] = tensors.pop("language_model.lm_head.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint = resolve(str(folder), options=FamilyOptions(trust_remote_code=True))
    assert checkpoint.family is RemoteGeneric
    loaded = load_model(checkpoint, quantization="none", device="cpu")
    assert type(loaded.model).__name__ == "ToyForCausalLM"
    assert loaded.family.language_model == "model.language_model"
    encoded = loaded.family.encode(image(), QUESTION)
    assert encoded.input_ids == as_llava.input_ids
    loaded.family.generate(loaded.model, [encoded], Decoding(max_new_tokens=3))

"""Several images an example: each family's inputs against its real processor's, and its answers."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import ProcessorMixin

from models.checkpoint import resolve
from models.encoding import IGNORE_INDEX, Encoded, Illustrated, Message, num_images
from models.llava_next import LlavaNext
from models.loading import LoadedModel, load_family, load_model
from models.settings import Decoding, FamilyOptions
from tests.models.examples import image, text_of
from tests.models.tiny_families import maker

PROCESSORS = {  # the real one's class and what it is made with beside its parts
    "qwen2_vl": ("Qwen2VLProcessor", {}),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", {}),
    "qwen3_vl": ("Qwen3VLProcessor", {}),
    "internvl": ("InternVLProcessor", {"image_seq_length": 4}),
    "llava_onevision": (
        "LlavaOnevisionProcessor",
        {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    ),
    "llava": ("LlavaProcessor", {}),
    "llava_next": ("LlavaNextProcessor", {}),
    "idefics3": ("Idefics3Processor", {"image_seq_len": 4}),
    "gemma3": ("Gemma3Processor", {"image_seq_length": 4}),
}
NAMES = ("paligemma", *PROCESSORS)
IMAGES = [image(size, seed) for seed, size in enumerate([(80, 50), (50, 80), (64, 64)])]
# of one, two and three images: before the text, around it, and between its parts
TALKS: list[tuple[list[Message], int]] = [
    ([("user", "what is it?")], 1),
    ([("user", Illustrated("which one is red?", (0, 17)))], 2),
    ([("user", Illustrated("first: then: or: which one is blue?", (7, 13, 17)))], 3),
]


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp(request.param)
    maker(request.param)(folder)
    # that of the checkpoint writes one text a turn
    template = LlavaNext.chat_template if request.param == "llava_next" else None
    checkpoint = resolve(str(folder), options=FamilyOptions(chat_template=template))
    made = load_model(checkpoint, quantization="none", dtype="fp32", device="cpu")
    made.family.kind = request.param  # type: ignore[attr-defined]
    return made


def encoded(family: Any, messages: Sequence[Message], number: int) -> Encoded:
    return family.encode_all(IMAGES[:number], [messages])[0]  # type: ignore[no-any-return]


def content(text: str, number: int) -> list[dict[str, str]]:
    """The parts of a message as `apply_chat_template` takes them."""
    parts = text.parts if isinstance(text, Illustrated) else [*[""] * number, text]
    found: list[dict[str, str]] = []
    for place, part in enumerate(parts):
        found += [{"type": "image"}] if place else []
        found += [{"type": "text", "text": part}] if part else []
    return found


def real_processor(family: Any) -> Any:
    """The processor of transformers without its part for videos, which needs torchvision."""
    name, more = PROCESSORS[family.kind]
    kind = getattr(import_module("transformers"), name)
    if family.kind.startswith("llava") and family.kind != "llava_onevision":
        vision = family.config.vision_config
        more = {
            "patch_size": vision.patch_size,
            "vision_feature_select_strategy": family.config.vision_feature_select_strategy,
            "num_additional_image_tokens": 1,
        }
    with mock.patch.object(ProcessorMixin, "check_argument_for_proper_class"):
        return kind(family.image_processor, family.tokenizer, **more)


def real_inputs(family: Any) -> dict[str, torch.Tensor]:
    """What the real processor makes of the three questions, in one batch."""
    images = [IMAGES[:number] for _, number in TALKS]
    if family.kind == "paligemma":
        texts = ["<image>" * number + str(talk[0][1]) for talk, number in TALKS]
        return dict(
            family.processor(
                images=images, text=texts, padding=True, padding_side="left", return_tensors="pt"
            )
        )
    texts = [
        family.tokenizer.apply_chat_template(
            [{"role": "user", "content": content(talk[0][1], number)}],
            chat_template=family.template,
            tokenize=False,
            add_generation_prompt=True,
        )
        for talk, number in TALKS
    ]
    return dict(
        real_processor(family)(
            images=images,
            text=texts,
            add_special_tokens=not texts[0].startswith(str(family.tokenizer.bos_token)),
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
    )


def test_the_inputs_are_the_real_processor_s(loaded: LoadedModel) -> None:
    family = loaded.family
    theirs = real_inputs(family)
    ours = family.collate([encoded(family, *talk) for talk in TALKS])
    for name in ("input_ids", "attention_mask"):
        assert ours[name].tolist() == theirs[name].tolist(), name
    assert {"pixel_values"} <= ours.keys() & theirs.keys()
    for name in ours.keys() & theirs.keys() - {"labels", "token_type_ids", "mm_token_type_ids"}:
        assert torch.equal(ours[name], torch.as_tensor(theirs[name])), name
    for name in {"image_grid_thw", "image_sizes", "batch_num_images", "pixel_attention_mask"}:
        assert (name in ours) == (name in theirs), name


def logits_of(loaded: LoadedModel, batch: Sequence[Encoded]) -> list[torch.Tensor]:
    """The logits of each example, without those of padding."""
    inputs = loaded.family.collate(batch)
    del inputs["labels"]
    with torch.no_grad():
        logits = loaded.model(**inputs).logits
    return [row[-len(e.input_ids) :] for row, e in zip(logits, batch, strict=True)]


def test_a_batch_of_one_two_and_three_images_gives_each_its_own_logits(loaded: LoadedModel) -> None:
    batch = [encoded(loaded.family, *talk) for talk in TALKS]
    for example, together in zip(batch, logits_of(loaded, batch), strict=True):
        (alone,) = logits_of(loaded, [example])
        assert torch.allclose(together, alone, atol=2e-4)


def test_the_order_of_the_images_counts(loaded: LoadedModel) -> None:
    family, talk = loaded.family, TALKS[1][0]
    pair = [image((64, 64), seed) for seed in (5, 6)]
    one, other = (family.encode_all(images, [talk])[0] for images in (pair, pair[::-1]))
    first, second = (logits_of(loaded, [example])[0][-1] for example in (one, other))
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("beams", [1, 2])
def test_answers_in_a_batch_are_those_of_the_library_one_by_one(
    loaded: LoadedModel, beams: int
) -> None:
    family = loaded.family
    pairs = [("user", Illustrated(text, (0, 0))) for text in ("what?", "how many are there?")]
    # two questions on the same two images share what is seen of them
    batch = [
        *(encoded(family, *talk) for talk in TALKS),
        *family.encode_all(IMAGES[1:], [[pair] for pair in pairs]),
    ]
    decoding = Decoding(max_new_tokens=6, num_beams=beams)
    together = family.texts(family.answer_ids(loaded.model, batch, decoding))
    assert len(set(together)) > 1
    for example, text in zip(batch, together, strict=True):
        inputs = family.collate([example])
        del inputs["labels"]
        with torch.no_grad():
            output = loaded.model.generate(
                **inputs, max_new_tokens=6, num_beams=beams, do_sample=False
            )
        assert family.texts(output[:, inputs["input_ids"].shape[1] :]) == [text]


def test_nothing_but_the_answer_is_learned(loaded: LoadedModel) -> None:
    family = loaded.family
    batch = [
        encoded(family, [*talk, ("assistant", "a red circle")], number) for talk, number in TALKS
    ]
    labels = family.collate(batch)["labels"]
    end = family.tokenizer.convert_ids_to_tokens(family.end_ids[0])
    for row, example in zip(labels, batch, strict=True):
        learned = family.tokenizer.decode(row[row != IGNORE_INDEX])
        assert learned.strip() == f"a red circle{end}"
        for start, stop in example.image_spans:
            assert not any(example.is_target[start:stop])


def test_as_many_tokens_are_counted_as_there_are(loaded: LoadedModel) -> None:
    family = loaded.family
    for talk, number in TALKS:
        example = encoded(family, talk, number)
        (num_text,) = family.count_tokens([talk])
        assert num_text == len(family.tokenize(talk)[0]) - number
        sizes = [image.size for image in IMAGES[:number]]
        if family.name != "generic":  # whose images all count alike
            assert family.count_all_image_tokens(sizes) == example.num_image_tokens
            assert num_text + example.num_image_tokens == len(example.input_ids)


def test_another_number_of_images_than_places_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ValueError, match="shows 2 images in its texts, and 3 are given"):
        loaded.family.encode_all(IMAGES, [TALKS[1][0]])


def test_images_without_places_stand_before_the_first_question(loaded: LoadedModel) -> None:
    talk: list[Message] = [("user", "which one is red?")]
    shown = [("user", Illustrated("which one is red?", (0, 0)))]
    plain, placed = (
        loaded.family.encode_all(IMAGES[:2], [messages])[0] for messages in (talk, shown)
    )
    assert plain.input_ids == placed.input_ids


# --- what is of one family


@pytest.fixture(scope="module")
def family_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    def make(name: str) -> Any:
        folder = tmp_path_factory.mktemp(name)
        maker(name)(folder)
        return load_family(resolve(str(folder)))

    return make


def test_the_images_of_internvl_stand_where_the_text_has_them(
    family_of: Callable[[str], Any],
) -> None:
    family = family_of("internvl")
    later = [
        *([("user", Illustrated("a: b", (3,))), ("assistant", "yes")]),
        ("user", Illustrated("and  ?", (4, 5))),
    ]
    assert num_images(later) == 3
    asked = text_of(family, family.encode_all(IMAGES, [later])[0])
    assert asked.count("<image>") == 3
    assert "a: <image>" in asked.replace("\n", "")
    assert asked.index("yes") < asked.rindex("<image>")


def test_each_of_several_images_of_onevision_is_seen_whole(
    family_of: Callable[[str], Any],
) -> None:
    family = family_of("llava_onevision")
    example = family.encode_all(IMAGES, [[("user", "which?")]])[0]
    # 32 / 8 = 4 features a side, and a newline behind them
    assert [end - start for start, end in example.image_spans] == [17, 17, 17]
    assert [len(entry["pixel_values"]) for entry in example.all_pixels] == [1, 1, 1]


def test_a_template_that_moves_images_is_said_once(
    family_of: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    family = family_of("llava_onevision")  # whose template writes all images first
    for text in ("a: b", "c: d"):
        family.encode_all(IMAGES[:2], [[("user", Illustrated(text, (3, 4)))]])
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "writes the images of a turn elsewhere than between its texts" in record.getMessage()


def test_a_template_that_writes_one_text_a_turn_takes_images_before_it_alone(
    family_of: Callable[[str], Any],
) -> None:
    family = family_of("llava_next")
    assert text_of(family, family.encode_all(IMAGES, [[("user", "which?")]])[0]) == (
        "<bos>[INST] <image>\n<image>\n<image>\nwhich? [/INST]"
    )
    with pytest.raises(ValueError, match="does not write the texts between the images of a turn"):
        family.encode_all(IMAGES[:2], [[("user", Illustrated("a: b", (0, 3)))]])


def test_the_tokens_of_paligemma_s_images_follow_each_other_in_front(
    family_of: Callable[[str], Any],
) -> None:
    family = family_of("paligemma")
    example = family.encode_all(IMAGES, [TALKS[2][0]])[0]
    number = family.num_image_tokens
    starts = [start for start, _ in example.image_spans]
    assert starts == [0, number, 2 * number]
    assert example.input_ids[3 * number] == family.tokenizer.bos_token_id
    batch = family.collate([example])
    assert not batch["token_type_ids"].any()  # one prefix, in which all attends to all

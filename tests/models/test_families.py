"""Every family on its tiny checkpoint: all probes pass, and each finds the fault that it is for.

A module in `tiny_families` is all that a new family needs to be held to this.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from finetuning.training import probes
from finetuning.training.doctor import drawn_conversations
from finetuning.training.gradients import modules_without_gradient
from finetuning.training.lora import add_lora
from finetuning.training.probe_tools import Conversation
from finetuning.training.probes import PROBES, Finding, run_probe
from finetuning.training.recipe import Recipe
from models.checkpoint import resolve
from models.encoding import IGNORE_INDEX, Encoded, Message
from models.loading import LoadedModel, load_model
from tests.models.examples import image
from tests.models.tiny_families import NAMES, maker

CONVERSATIONS = drawn_conversations()


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny checkpoint, made when it is first asked for."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            maker(name)(made[name])
        return made[name]

    return folder


def load(folder: Path) -> LoadedModel:
    """As `palitune doctor` does by default."""
    return load_model(resolve(str(folder)), quantization="nf4", dtype="fp32", device="cpu")


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> LoadedModel:
    return load(folder_of(request.param))


def test_the_families_that_the_tests_break_are_there() -> None:
    assert {"paligemma", "llava"} <= set(NAMES)


@pytest.mark.parametrize("probe", PROBES)
def test_the_family_passes(loaded: LoadedModel, probe: str) -> None:
    finding = run_probe(probe, loaded, CONVERSATIONS)
    assert finding.passed, finding.reason


def test_the_language_model_is_in_4_bits(loaded: LoadedModel) -> None:
    # 2 layers of at least q, k, v, o and two of the FFN; the probe says that it is these alone
    assert sum(loaded.quantized.values()) >= 12


@pytest.mark.parametrize("wanted", ["all-linear", "attention,ffn"])
def test_what_is_adapted_of_the_side_that_sees_learns(loaded: LoadedModel, wanted: str) -> None:
    batch = loaded.family.collate(
        [loaded.family.encode(image(), [("user", "what is it?"), ("assistant", "a red circle")])]
    )
    recipe = Recipe(lora_target_modules=wanted, lora_vision=True)
    adapted = add_lora(loaded.model, loaded.family, recipe)
    try:
        dead, _ = modules_without_gradient(adapted, batch, "token")
        names = [name for name, layer in adapted.named_modules() if hasattr(layer, "lora_A")]
    finally:
        adapted.unload().eval()
    outside = [name for name in names if f".{loaded.family.language_model}." not in name]
    assert not dead
    assert len(names) > len(outside) > 0
    # a projector is of neither kind: what is, lies in a numbered block
    assert wanted == "all-linear" or all(re.search(r"\.\d+\.", name) for name in outside)


def test_a_probe_leaves_the_model_as_it_was(loaded: LoadedModel) -> None:
    names = [name for name, _ in loaded.model.named_modules()]
    for probe in ("training", "adapter"):
        run_probe(probe, loaded, CONVERSATIONS)
    assert [name for name, _ in loaded.model.named_modules()] == names
    assert not loaded.model.training


# --- broken on purpose: what is done to a model or a family -> the probes that must find it

Batch = dict[str, Tensor]
Patch = pytest.MonkeyPatch


def change_batches(
    loaded: LoadedModel, patch: Patch, change: Callable[[Batch, Sequence[Encoded]], Batch]
) -> None:
    collate = loaded.family.collate
    patch.setattr(loaded.family, "collate", lambda batch: change(collate(batch), batch))


def shift_labels(loaded: LoadedModel, patch: Patch) -> None:
    change_batches(
        loaded, patch, lambda tensors, _: tensors | {"labels": tensors["labels"].roll(-1, dims=1)}
    )


def forget_the_end(loaded: LoadedModel, patch: Patch) -> None:
    tokenize = loaded.family.tokenize

    def without_end(messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        ids, is_target = tokenize(messages)
        end = -1 if is_target[-1] else None
        return ids[:end], is_target[:end]

    patch.setattr(loaded.family, "tokenize", without_end)


def learn_the_question(loaded: LoadedModel, patch: Patch) -> None:
    """Labels on the whole text, as the plain language model's collator makes them."""

    def with_question(tensors: Batch, batch: Sequence[Encoded]) -> Batch:
        labels = tensors["labels"].clone()
        for row, encoded in enumerate(batch):
            start = labels.shape[1] - len(encoded.input_ids) + encoded.image_spans[-1][1]
            labels[row, start:] = tensors["input_ids"][row, start:]
        return tensors | {"labels": labels}

    change_batches(loaded, patch, with_question)


def pad_on_the_right(loaded: LoadedModel, patch: Patch) -> None:
    def turned(tensors: Batch, batch: Sequence[Encoded]) -> Batch:
        shape = tensors["input_ids"].shape
        turns = [len(encoded.input_ids) - shape[1] for encoded in batch]
        return {
            name: torch.stack([row.roll(n) for row, n in zip(tensor, turns, strict=True)])
            if tensor.shape == shape
            else tensor
            for name, tensor in tensors.items()
        }

    change_batches(loaded, patch, turned)


def attend_to_padding(loaded: LoadedModel, patch: Patch) -> None:
    change_batches(
        loaded,
        patch,
        lambda tensors, _: tensors | {"attention_mask": torch.ones_like(tensors["attention_mask"])},
    )


def leave_a_gap_in_the_positions(loaded: LoadedModel, patch: Patch) -> None:
    """Before the answer, in a batch of several that is trained on."""

    def with_gap(tensors: Batch, batch: Sequence[Encoded]) -> Batch:
        if len(batch) == 1 or not (tensors["labels"] != IGNORE_INDEX).any():
            return tensors
        positions = torch.arange(tensors["input_ids"].shape[1]).expand_as(tensors["input_ids"])
        return tensors | {"position_ids": positions + 7 * (tensors["labels"] != IGNORE_INDEX)}

    change_batches(loaded, patch, with_gap)


def show_the_answer(loaded: LoadedModel, patch: Patch) -> None:
    """PaliGemma: the answer marked as prefix. Others: no causal mask in the language model."""
    if loaded.family.name == "paligemma":
        patch.setattr(
            loaded.family,
            "token_masks",
            lambda text: {"token_type_ids": torch.zeros_like(text["labels"])},
        )
        return
    patch.setattr(loaded.model.config.text_config, "is_causal", False, raising=False)
    for module in loaded.model.get_submodule(loaded.family.language_model).modules():
        if hasattr(module, "is_causal"):
            patch.setattr(module, "is_causal", False)


def ask_otherwise(loaded: LoadedModel, patch: Patch) -> None:
    tokenize = loaded.family.tokenize

    def with_more(messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        (role, text), *rest = messages
        return tokenize([(role, f"{text} please" if rest else text), *rest])

    patch.setattr(loaded.family, "tokenize", with_more)


def miscount_tall_images(loaded: LoadedModel, patch: Patch) -> None:
    look = loaded.family.process_image

    def look_wrongly(image: Any) -> tuple[Any, list[int]]:
        pixels, ids = look(image)
        return pixels, ids[1:] if image.height > 3 * image.width else ids

    patch.setattr(loaded.family, "process_image", look_wrongly)


def stop_gradients(loaded: LoadedModel, patch: Patch) -> None:
    """As the CPU kernel does that re-packs weights at an evaluation."""
    layer = loaded.model.get_submodule(f"{loaded.family.language_model}.layers.0")
    forward = layer.forward
    patch.setattr(layer, "forward", lambda *args, **kwargs: forward(*args, **kwargs).detach())


def average_over_twice_as_many(loaded: LoadedModel, patch: Patch) -> None:
    count = probes.count_items
    patch.setattr(probes, "count_items", lambda *args: 2 * count(*args))


def lose_a_matrix(loaded: LoadedModel, patch: Patch) -> None:
    load_adapter = peft.PeftModel.from_pretrained

    def without_one(*args: Any) -> Any:
        model = load_adapter(*args)
        next(p for name, p in model.named_parameters() if "lora_B" in name).data.zero_()
        return model

    patch.setattr(peft.PeftModel, "from_pretrained", without_one)


BREAKAGES = {
    shift_labels: {"labels"},
    forget_the_end: {"labels"},
    learn_the_question: {"labels"},
    pad_on_the_right: {"generation"},
    attend_to_padding: {"padding", "generation"},  # it is wrong in both
    leave_a_gap_in_the_positions: {"padding"},
    show_the_answer: {"leak"},
    ask_otherwise: {"prompt"},
    miscount_tall_images: {"image tokens"},
    stop_gradients: {"training"},
    average_over_twice_as_many: {"loss"},
    lose_a_matrix: {"adapter"},
}


@pytest.mark.parametrize(
    ("probe", "break_it"), [("generation", pad_on_the_right), ("padding", attend_to_padding)]
)
def test_its_random_weights_are_not_blind_to_padding(
    loaded: LoadedModel,
    monkeypatch: Patch,
    probe: str,
    break_it: Callable[[LoadedModel, Patch], None],
) -> None:
    """Were all answers of a tiny model the same, these probes would pass whatever it is fed."""
    break_it(loaded, monkeypatch)
    assert not run_probe(probe, loaded, CONVERSATIONS).passed


@pytest.fixture(scope="module", params=["paligemma", "llava"])
def whole(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> LoadedModel:
    return load(folder_of(request.param))


@pytest.mark.parametrize("break_it", BREAKAGES, ids=lambda break_it: break_it.__name__)
def test_a_fault_is_found_by_its_probe_and_by_no_other(
    whole: LoadedModel, monkeypatch: Patch, break_it: Callable[[LoadedModel, Patch], None]
) -> None:
    break_it(whole, monkeypatch)
    findings = {name: run_probe(name, whole, CONVERSATIONS) for name in PROBES}
    failed = {name for name, finding in findings.items() if not finding.passed}
    assert failed == BREAKAGES[break_it], findings


def test_padding_is_turned_to_the_right_in_every_tensor_of_tokens() -> None:
    left = {
        "input_ids": torch.tensor([[0, 0, 5, 6], [1, 2, 3, 4]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
        "labels": torch.tensor([[-100, -100, -100, 6], [-100, -100, 3, 4]]),
        "pixel_values": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    }
    right = {name: tensor.tolist() for name, tensor in probes.pad_on_the_right(left).items()}
    assert right == {
        "input_ids": [[5, 6, 0, 0], [1, 2, 3, 4]],
        "attention_mask": [[1, 1, 0, 0], [1, 1, 1, 1]],
        "labels": [[-100, 6, -100, -100], [-100, -100, 3, 4]],
        "pixel_values": [[1, 2, 3], [4, 5, 6]],
    }


def test_a_model_that_bears_padding_on_the_left_alone_is_found(
    whole: LoadedModel, monkeypatch: Patch
) -> None:
    turn = probes.pad_on_the_right

    def with_shifted_text(batch: Batch) -> Batch:  # stands for a model that miscounts there
        turned = turn(batch)
        return turned | {"input_ids": turned["input_ids"].flip(0)}

    monkeypatch.setattr(probes, "pad_on_the_right", with_shifted_text)
    finding = run_probe("padding", whole, CONVERSATIONS)
    assert not finding.passed


def test_a_model_that_does_not_tell_its_features_must_check_them_itself(
    whole: LoadedModel, monkeypatch: Patch
) -> None:
    monkeypatch.delattr(type(whole.model), "get_image_features")
    assert run_probe("image tokens", whole, CONVERSATIONS).passed
    miscount_tall_images(whole, monkeypatch)
    finding = run_probe("image tokens", whole, CONVERSATIONS)
    assert not finding.passed and finding.reason.startswith("It stopped")


def test_a_layer_in_4_bits_outside_the_language_model_is_named(
    whole: LoadedModel, monkeypatch: Patch
) -> None:
    found = probes.quantized_layers
    outside = {"model.vision_tower.layers.0.fc1": None}
    monkeypatch.setattr(probes, "quantized_layers", lambda model: found(model) | outside)
    finding = run_probe("training", whole, CONVERSATIONS)
    assert not finding.passed
    assert "model.vision_tower.layers.0.fc1" in finding.reason


def test_a_probe_that_stops_has_failed_and_says_by_what(
    whole: LoadedModel, monkeypatch: Patch
) -> None:
    def refuse(messages: Sequence[Message]) -> None:
        raise KeyError("no such turn")

    monkeypatch.setattr(whole.family, "tokenize", refuse)
    finding = run_probe("labels", whole, CONVERSATIONS)
    assert not finding.passed
    assert finding.reason == "It stopped with KeyError: 'no such turn'."


def test_a_figure_that_is_no_number_has_failed() -> None:
    assert not Finding(figure=float("nan"), limit=1.0, reason="").passed
    assert Finding(figure=1.0, limit=1.0, reason="").passed


def test_every_turn_of_the_assistant_counts_among_the_labels(
    folder_of: Callable[[str], Path], monkeypatch: Patch
) -> None:
    llava = load(folder_of("llava"))
    talk = Conversation(
        image=CONVERSATIONS[0].image,
        messages=[("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
    )
    assert run_probe("labels", llava, [talk]).passed
    tokenize = llava.family.tokenize

    def last_turn_only(messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        ids, is_target = tokenize(messages)
        asked = len(tokenize(messages[:-1])[0])
        return ids, [False] * asked + is_target[asked:]

    monkeypatch.setattr(llava.family, "tokenize", last_turn_only)
    assert not run_probe("labels", llava, [talk]).passed

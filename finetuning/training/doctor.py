"""Probe a model: is it fed as it should be, and can it be trained here?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from evaluation.example_checks import check_images
from evaluation.prompting import make_prompter
from evaluation.request import ModelRequest
from finetuning.training.environment import environment
from finetuning.training.recipe import Recipe
from models.base import Family
from models.quantization import Quantization
from tasks.base import TaskSource
from tasks.splits import resolve_split

if TYPE_CHECKING:
    from finetuning.training.probe_tools import Conversation
    from finetuning.training.probes import Finding
    from models.loading import LoadedModel

NUM_EXAMPLES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """The model to probe, and the examples to probe it with.

    Attributes:
        model: the model; of an adapter its base is probed, and that it is applied.
        quantization: precision of the language model.
        task: gives the examples; None takes two drawn images.
    """

    model: ModelRequest
    quantization: Quantization = Recipe.quantization
    task: TaskSource | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """A line on what there is to train with."""

    name: str
    text: str


def examine(request: DoctorRequest) -> "Iterator[Fact | tuple[str, Finding]]":
    """Yield what there is to train with, then each probe's name and finding.

    Raises:
        ValueError: the model cannot be used.
    """
    from models.adapter_loading import check_adapter
    from models.loading import choose_device, choose_dtype, load_family, load_model

    device = choose_device(request.model.device)
    checkpoint = request.model.resolve()
    for name, text in environment(device).items():
        yield Fact(name, text)
    family = load_family(checkpoint)
    if checkpoint.adapter is not None:
        check_adapter(family.empty_model, checkpoint.adapter)
    conversations = _examples(family, request.task) if request.task else drawn_conversations()
    # An adapter's base is probed, by the adapter's processor. In fp32 a fault is no rounding.
    load = partial(
        load_model,
        replace(checkpoint, adapter=None),
        quantization=request.quantization,
        device=device,
        family=family,
    )
    loaded = load(dtype="fp32")
    yield Fact("model", f"{checkpoint.base}, fed as {family.name}")

    from finetuning.training.adapter_probe import probe_applied
    from finetuning.training.probes import PROBES, run_probe

    if checkpoint.adapter is not None:
        yield "applied", probe_applied(loaded, conversations, checkpoint.adapter)
    for name in PROBES:
        yield name, run_probe(name, loaded, conversations)
    if choose_dtype("auto", device) != loaded.model.dtype:  # memory is that of training's own
        del loaded
        loaded = load(dtype="auto")
    yield Fact("plan", _plan(loaded, conversations, request.quantization))


def _plan(
    loaded: "LoadedModel", conversations: "Sequence[Conversation]", quantization: Quantization
) -> str:
    """What a training by the default recipe would take, by the longest of the conversations."""
    from finetuning.training.plan import plan_training
    from finetuning.training.probe_tools import encode_to_train, quiet_lora

    encoded = [encode_to_train(loaded, conversation) for conversation in conversations]
    longest = max(encoded, key=lambda example: len(example.input_ids))
    try:
        with quiet_lora():
            plan = plan_training(loaded, longest, Recipe(quantization=quantization))
    except (RuntimeError, ValueError) as error:  # a probe has told of it
        return f"none: {error}"
    return plan.summary()


def check_findings(failed: Sequence[str], num_probes: int, model_path: str) -> None:
    """Raise RuntimeError where a probe failed; name those that did."""
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {num_probes} probes failed ({', '.join(failed)}): a training or a "
            f"score of {model_path} cannot be trusted here; report it with the lines above."
        )


def _examples(family: Family, pair: TaskSource) -> "list[Conversation]":
    """Return the first examples of a shuffle of the task's training split."""
    from finetuning.training.probe_tools import Conversation

    task = pair.task
    dataset, _ = resolve_split(task, None, pair.source, task.train_splits)
    prompter = make_prompter(task, family)
    examples = dataset.subset(NUM_EXAMPLES, 0)
    check_images(examples, family)
    return [
        Conversation(
            image=example.image.open(),
            further_images=[image.open() for image in example.further_images],
            messages=prompter.messages(example, task.target(example, 0, 0)),
        )
        for example in examples
    ]


def drawn_conversations() -> "list[Conversation]":
    """Draw two images of different shapes; their questions and answers differ in length."""
    from PIL import Image, ImageDraw

    from finetuning.training.probe_tools import Conversation

    wide, tall = Image.new("RGB", (320, 200), "navy"), Image.new("RGB", (180, 300), "white")
    ImageDraw.Draw(wide).ellipse((60, 40, 160, 140), fill="orange")
    ImageDraw.Draw(tall).rectangle((30, 90, 150, 210), fill="darkgreen")
    return [
        Conversation(
            image=wide, messages=[("user", "what is it?"), ("assistant", "an orange circle")]
        ),
        Conversation(
            image=tall,
            messages=[("user", "how many shapes are there in the picture?"), ("assistant", "1")],
        ),
    ]

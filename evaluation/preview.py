"""A few training examples as the model sees them, as text and as a page."""

import base64
import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from PIL.Image import Image

from evaluation.example_checks import check_images
from evaluation.image_sheet import draw_sheet
from evaluation.page_file import check_page, write_page
from evaluation.prompting import make_prompter
from evaluation.request import ModelRequest, PromptRequest
from models.base import Family
from models.checkpoint import resolve
from models.encoding import Encoded
from tasks.base import Dataset, Example, Source, Task
from tasks.splits import resolve_split

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRequest:
    """The examples to show, and the model that is to see them.

    Attributes:
        task: the task.
        source: where its data comes from.
        model: whose processor encodes them; no weight is loaded.
        prompt: settings of the prompt.
        split: the split; None takes the one for training.
        num_examples: number of examples.
        seed: seed that draws them.
        output_dir: folder of preview.html.
    """

    task: Task
    source: Source
    model: ModelRequest
    prompt: PromptRequest
    split: str | None = None
    num_examples: int = 4
    seed: int = 0
    output_dir: Path


@dataclass(frozen=True, slots=True)
class Shown:
    """One example as the model sees it.

    Attributes:
        example: the example.
        counts: numbers of image, prompt and answer tokens, as text.
        parts: the decoded text in parts, each with whether the model learns to write it.
    """

    example: Example
    counts: str
    parts: Sequence[tuple[str, bool]]


def preview(request: PreviewRequest) -> Iterator[Shown]:
    """Encode the examples and yield each; write preview.html after the last.

    Raises:
        ValueError: something about the input is wrong, or another kind of file is preview.html.
    """
    from models.loading import load_family

    check_page(page_path(request), "preview", "choose another folder by --output_dir.")
    model, prompt, task = request.model, request.prompt, request.task
    checkpoint = resolve(
        model.path,
        revision=model.revision,
        model_type=model.model_type,
        options=model.family_options,
    )
    dataset, _ = resolve_split(task, request.split, request.source, task.train_splits)
    dataset = dataset.subset(request.num_examples, request.seed)
    family = load_family(checkpoint)
    check_images(dataset, family)
    prompter = make_prompter(
        task, family, prompt.template, prompt.max_length, prompt.truncate, prompt.system_message
    )
    sections = []
    for example in dataset:
        encoded = prompter.encode(example, _answer(dataset, example, request.seed))
        parts = _parts(family, encoded)
        yield Shown(example, _counts(encoded), parts)
        sections.append(_section(example, encoded, _rendered(family, encoded), parts))
    title = f"{task.name} as {model.path} sees it"
    write_page("preview", page_path(request), title, sections=sections)


def page_path(request: PreviewRequest) -> Path:
    """Return the path of the page that `preview` writes."""
    return request.output_dir / "preview.html"


def _answer(dataset: Dataset, example: Example, seed: int) -> str | None:
    return dataset.task.target(example, 0, seed) if example.references else None


def _rendered(family: Family, encoded: Encoded) -> Image:
    """The images as the model gets them, in a grid; a processor may join those of an example."""
    entries = encoded.all_pixels
    shown = draw_sheet([family.render_image(replace(encoded, pixels=entry)) for entry in entries])
    if len(entries) < len(encoded.image_spans):
        logger.warning(
            "Example %s: of its %d images the page shows the first, as the processor joins them.",
            *(encoded.example_id, len(encoded.image_spans)),
        )
    return shown


def _parts(family: Family, encoded: Encoded) -> list[tuple[str, bool]]:
    """The text, decoded with its special tokens, in parts that are learned or are not."""
    tokens = list(zip(encoded.input_ids, encoded.is_target, strict=True))
    for start, end in reversed(encoded.image_spans):
        del tokens[start:end]
    return [
        (family.tokenizer.decode([id_ for id_, _ in part]), is_learned)
        for is_learned, part in groupby(tokens, key=itemgetter(1))
    ]


def _counts(encoded: Encoded) -> str:
    num_answer = sum(encoded.is_target)
    num_prompt = len(encoded.input_ids) - num_answer - encoded.num_image_tokens
    return f"{encoded.num_image_tokens} image, {num_prompt} prompt, {num_answer} answer tokens"


def _section(
    example: Example, encoded: Encoded, image: Image, parts: Sequence[tuple[str, bool]]
) -> dict[str, Any]:
    """What the page shows of one example."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return {
        "id": example.example_id,
        "image": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
        "parts": parts,
        "counts": _counts(encoded),
        "accepted": Counter(example.references).most_common(),
    }

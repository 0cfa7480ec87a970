"""A few training examples as the model sees them, as text and as a page."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from PIL.Image import Image

from common.files import check_writable, write_text
from evaluation.prompting import make_prompter
from evaluation.request import ModelRequest, PromptRequest
from models.base import Family
from models.checkpoint import resolve
from models.encoding import Encoded
from tasks.base import Dataset, Example, Source, Task
from tasks.splits import resolve_split

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem }}
section {{ display: flex; gap: 1.5rem; margin: 1.5rem 0; padding-top: 1.5rem;
           border-top: 1px solid #ddd }}
img {{ width: 14rem; height: auto; image-rendering: pixelated; border: 1px solid #ddd }}
h2 {{ font-size: 1rem; margin: 0 }}
p {{ margin: .4rem 0; color: #555 }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0 }}
mark {{ background: #bfe8c5; border-radius: 3px }}
</style></head><body><h1>{title}</h1>
<p>The image is the one the model gets. Text it learns to write is <mark>green</mark>; the rest
is given to it, image tokens left out.</p>
{sections}
</body></html>
"""


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
        ValueError: something about the input is wrong.
    """
    from models.loading import load_family

    check_writable(request.output_dir)
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
    prompter = make_prompter(
        task, family, prompt.template, prompt.max_length, prompt.truncate, prompt.system_message
    )
    sections = []
    for example in dataset:
        encoded = prompter.encode(example, _answer(dataset, example, request.seed))
        parts = _parts(family, encoded)
        yield Shown(example, _counts(encoded), parts)
        sections.append(_section(example, encoded, family.render_image(encoded), parts))
    title = html.escape(f"{task.name} as {model.path} sees it")
    page = _PAGE.format(title=title, sections="\n".join(sections))
    write_text(page_path(request), page)


def page_path(request: PreviewRequest) -> Path:
    """Return the path of the page that `preview` writes."""
    return request.output_dir / "preview.html"


def _answer(dataset: Dataset, example: Example, seed: int) -> str | None:
    return dataset.task.target(example, 0, seed) if example.references else None


def _parts(family: Family, encoded: Encoded) -> list[tuple[str, bool]]:
    """The text, decoded with its special tokens, in parts that are learned or are not."""
    start, end = encoded.image_span
    tokens = list(zip(encoded.input_ids, encoded.is_target, strict=True))
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
) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    texts = [
        f"<mark>{html.escape(text)}</mark>" if is_learned else html.escape(text)
        for text, is_learned in parts
    ]
    return (
        f'<section><img alt="" src="data:image/png;base64,{data}"><div>'
        f"<h2>{html.escape(str(example.example_id))}</h2>"
        f"<pre>{''.join(texts)}</pre>"
        f"<p>{_counts(encoded)}</p>"
        f"<p>Accepted: {html.escape(' | '.join(example.references))}</p></div></section>"
    )

"""What a few training examples look like to the model, in the terminal and as a page."""

import base64
import html
import io
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import click
from PIL.Image import Image

from finetuning.training.output_folder import check_writable
from models.base import Encoded, Family
from palitune import options
from palitune.options import Command, Option
from tasks.base import Dataset, Example
from tasks.files import write_text
from tasks.registry import get_task, task_names
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
<p>The picture is the one the model gets. Text it learns to write is <mark>green</mark>; the rest
is given to it, image tokens left out.</p>
{sections}
</body></html>
"""


def preview_command() -> click.Command:
    """The command that shows examples; loads a processor, no weight."""
    parameters: list[click.Parameter] = [
        Option(["--task"], required=True, help=f"One of {', '.join(task_names())}."),
        options.model_option(required=True),
        options.revision_option(),
        *options.family_options(),
        *options.source_options(),
        *options.table_options("csv"),
        *options.own_file_options(*task_names()),
        Option(["--split"], group="Data", help="Split to show [default: the task's for training]."),
        Option(
            ["--num_examples"], type=click.IntRange(min=1), default=4, show_default=True,
            help="How many to show.",
        ),
        Option(["--seed"], default=0, show_default=True, help="Which to show."),
        Option(["--prompt_template"], help="Prompt with {question} in it."),
        Option(["--max_length"], type=click.IntRange(min=8), help="Text budget in tokens."),
        Option(["--truncate"], is_flag=True, help="Cut prompts over the budget."),
        Option(
            ["--output_dir"], type=click.Path(path_type=Path), default=Path("runs/preview"),
            show_default=True, help="Folder for preview.html.",
        ),
    ]  # fmt: skip
    return Command(
        "preview",
        params=parameters,
        callback=_preview,
        help="Show a few training examples as the model sees them.",
    )


def _preview(**values: Any) -> None:
    from evaluation.prompting import make_prompter
    from models.checkpoint import resolve
    from models.loading import load_family

    task = get_task(values["task"])
    check_writable(values["output_dir"])
    checkpoint = resolve(
        values["model_path"],
        revision=values["revision"],
        model_type=values["model_type"],
        options=options.make_family_options(values),
    )
    source = options.make_source(task, values)
    dataset, _ = resolve_split(task, values["split"], source, task.train_splits)
    dataset = dataset.subset(values["num_examples"], values["seed"])
    family = load_family(checkpoint)
    prompter = make_prompter(
        task, family, values["prompt_template"], values["max_length"], values["truncate"]
    )
    sections = []
    for example in dataset:
        answer = _answer(dataset, example, values["seed"])
        encoded = prompter.encode(example, answer)
        parts = _parts(family, encoded)
        click.echo(f"{example.example_id}  {_counts(encoded)}")
        shown = [click.style(repr(t), fg="green") if learned else repr(t) for t, learned in parts]
        click.echo("  " + " ".join(shown))
        sections.append(_section(example, encoded, family.render_image(encoded), parts))
    title = f"{task.name} as {values['model_path']} sees it"
    page = values["output_dir"] / "preview.html"
    write_text(page, _PAGE.format(title=html.escape(title), sections="\n".join(sections)))
    click.echo(f"With pictures: {page}")


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
    example: Example, encoded: Encoded, picture: Image, parts: Sequence[tuple[str, bool]]
) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
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

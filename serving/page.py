"""The page: a picture, a question, and what each model answers, side by side."""

import html
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fastapi
import gradio

from evaluation.request import PromptRequest
from evaluation.sample_questions import SampleQuestion
from evaluation.side_by_side import Answer, Question, SideBySide
from tasks.base import Task, Turn
from tasks.images import BytesImage
from tasks.registry import get_task, known_tasks

logger = logging.getLogger(__name__)

_STYLE = """
footer { display: none !important }
#answers { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)) }
#answers article { border: 1px solid var(--border-color-primary); border-radius: 0.5rem;
  padding: 0.75rem 1rem; background: var(--block-background-fill); min-width: 0 }
#answers h3 { margin: 0; font-size: 0.95rem; overflow-wrap: anywhere }
#answers p { margin: 0.5rem 0 0; overflow-wrap: anywhere; white-space: pre-wrap }
#answers .said { font-size: 1.35rem; line-height: 1.4 }
#answers .small { font-size: 0.85rem; opacity: 0.75 }
#answers .wrong { border-color: var(--error-border-color) }
"""


def mount_page(
    app: fastapi.FastAPI,
    models: SideBySide,
    examples: Sequence[SampleQuestion],
    folder: Path,
    most_uploaded: str,
) -> None:
    """Put the page at `/` of a server.

    Args:
        app: the server.
        models: answer.
        examples: questions to choose from.
        folder: takes their images.
        most_uploaded: the largest file that is taken, as `600mb`.
    """
    gradio.mount_gradio_app(
        app,
        _page(models, list(_rows(examples, folder))),
        path="/",
        theme=gradio.themes.Default(font="system-ui", font_mono="monospace"),
        css=_STYLE,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=most_uploaded,
    )


def _page(models: SideBySide, rows: list[list[str]]) -> Any:
    with gradio.Blocks(title="PaliTune", analytics_enabled=False) as page:
        with gradio.Row():
            picture = gradio.Image(
                label="Picture", sources=["upload", "clipboard"], type="filepath", height=320
            )
            # the file as it is: it is decoded as predict does, or refused by the same sentence
            picture.preprocess = lambda payload: payload and payload.path
            with gradio.Column():
                task = gradio.Dropdown(_choices(models), label="Prompt")
                question = gradio.Textbox(label="Question", autofocus=True)
                with gradio.Accordion("A prompt of your own", open=False):
                    template = gradio.Textbox(
                        label="In place of that prompt",
                        info="{question} stands for the question. Without it the text is all that "
                        "is asked, and the question stays empty.",
                    )
                button = gradio.Button("Ask", variant="primary")
        answers = gradio.HTML(padding=False)
        if rows:
            gradio.Examples(
                rows, [picture, question, task], label="Examples", visible_columns=[0, 1]
            )

        def ask(
            path: str | None, task: str, question: str | None, template: str | None
        ) -> Iterator[str]:
            yield from _answers(models, path, task, question, template)

        gradio.on(
            [button.click, question.submit],
            ask,
            [picture, task, question, template],
            answers,
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def _choices(models: SideBySide) -> list[tuple[str, str]]:
    """List the tasks with their prompts, those of the models first."""
    own = models.tasks
    others = [task for task in known_tasks() if task not in own]
    return [(f"{task.name}: {_prompt(models, task)}", task.name) for task in [*own, *others]]


def _prompt(models: SideBySide, task: Task) -> str:
    prompts = list(dict.fromkeys(models.prompts(task)))
    return prompts[0] if len(prompts) == 1 else f"each model's own, {' or '.join(prompts)}"


def _rows(examples: Sequence[SampleQuestion], folder: Path) -> Iterator[list[str]]:
    for number, example in enumerate(examples):
        try:
            image = example.image.open()
        except ValueError as error:
            logger.warning("An example is left out: %s", error)
            continue
        path = folder / f"example_{number}.png"
        image.save(path)
        yield [str(path), example.question, example.task.name]


def _answers(
    models: SideBySide, path: str | None, task: str, question: str | None, template: str | None
) -> Iterator[str]:
    """Yield the answers as they come, each time all that are there, as HTML."""
    try:
        asked = _question(path, task, question or "", template or "")
    except ValueError as error:
        yield _grid([_card("", _note(str(error)), is_wrong=True)])
        return
    cards = {name: _card(name, '<p class="small">…</p>') for name in models.candidates}
    yield _grid(cards.values())
    for name in cards:
        cards[name] = _answered(models, name, asked)
        yield _grid(cards.values())


def _question(path: str | None, task: str, question: str, template: str) -> Question:
    if not path:
        raise ValueError("There is no picture yet: drop one, paste one or choose an example.")
    image = BytesImage(Path(path).read_bytes(), "The picture")
    image.open()  # said once, not by each model
    prompt = PromptRequest(template=template.strip() or None)
    if prompt.template and "{" not in prompt.template and not question.strip():
        question, prompt = prompt.template, PromptRequest(template="{question}")
    return Question(
        image=image,
        task=get_task(task),
        turns=(Turn("user", question),),
        prompt=prompt,
        how="in the field Question",
    )


def _answered(models: SideBySide, name: str, question: Question) -> str:
    try:
        answer = models.answer(name, question)
    except ValueError as error:
        return _card(name, _note(str(error)), is_wrong=True)
    except Exception:
        logger.exception("%s could not answer.", name)
        return _card(name, _note("The model failed; the terminal shows how."), is_wrong=True)
    return _card(name, _said(answer))


def _said(answer: Answer) -> str:
    raw = answer.raw
    cut = "" if raw.is_whole else ", the most that it may write"
    plural = "" if raw.num_tokens == 1 else "s"
    text = html.escape(answer.prediction) or "<em>(nothing)</em>"
    return (
        f'<p class="said">{text}</p>'
        f'<p class="small">{answer.seconds:.2f} s, {raw.num_tokens} token{plural}{cut}</p>'
        f'<p class="small">Asked: {html.escape(answer.prompt)}</p>'
    )


def _note(text: str) -> str:
    return f'<p role="alert">{html.escape(text)}</p>'


def _card(name: str, inside: str, *, is_wrong: bool = False) -> str:
    heading = f"<h3>{html.escape(name)}</h3>" if name else ""
    return f'<article class="{"wrong" if is_wrong else ""}">{heading}{inside}</article>'


def _grid(cards: Iterable[str]) -> str:
    return f'<div id="answers">{"".join(cards)}</div>'

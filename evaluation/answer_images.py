"""Ask a model about images of one's own: no data set, no score."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from common.near_paths import did_you_mean
from evaluation.example_checks import check_images, check_texts
from evaluation.found_model import find_model
from evaluation.prompting import Prompter
from evaluation.request import ModelRequest, PromptRequest
from tasks.base import Example, Task, Turn
from tasks.images import FileImage
from tasks.table_images import join_names

logger = logging.getLogger(__name__)
_NUM_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageQuestions:
    """One question about each of some images, or about all of them together.

    Attributes:
        task: whose prompt, decoding and cleaning are taken.
        model: answers.
        images: files, or folders with files.
        question: what is asked of each; empty where the prompt holds no question.
        prompt: settings of the prompt.
        together: ask once, about all images.
    """

    task: Task
    model: ModelRequest
    images: Sequence[Path]
    question: str
    prompt: PromptRequest
    together: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAnswer:
    """The answer about one image, or about several together.

    Attributes:
        image: its file; of several the files with `|` between them.
        prompt: as sent.
        raw_prediction: as generated.
        prediction: as the task's metric would take it.
    """

    image: str
    prompt: str
    raw_prediction: str
    prediction: str


def answer_images(request: ImageQuestions) -> list[ImageAnswer]:
    """Answer the question about the images, in the order given; folders in that of their names.

    Raises:
        ValueError: there is no image, one cannot be read, the prompt needs a question and there is
            none or takes none and there is one, or the model cannot be used.
    """
    images = [FileImage(str(file)) for place in request.images for file in _files(place)]
    for image in images:
        image.open()  # before a model is loaded
    examples = [
        Example(
            example_id=number,
            image=first,
            further_images=tuple(further),
            turns=(Turn("user", request.question),),
            references=(),
        )
        for number, (first, *further) in enumerate([images] if request.together else zip(images))
    ]
    return answer_examples(request.task, request.model, request.prompt, examples, "by --question")


def answer_examples(
    task: Task, model: ModelRequest, prompt: PromptRequest, examples: Sequence[Example], how: str
) -> list[ImageAnswer]:
    """Answer examples in the order given; all of them ask something, or none does.

    Args:
        task: whose prompt, decoding and cleaning are taken.
        model: answers.
        prompt: settings of the prompt.
        examples: their images can be read.
        how: how a question is given, for messages.

    Raises:
        ValueError: as of `answer_images`.
    """
    found = find_model(model, prompt)
    prompter = found.prompter(task, prompt)
    check_question(prompter, examples[0].turns[-1].text, how)
    check_images(examples, prompter.family)
    check_texts(examples, prompter, with_answers=False)
    texts = found.predictor(task, prompter)(examples)
    return [
        ImageAnswer(
            image=join_names(example.images),
            prompt=prompter.sent(example),
            raw_prediction=text,
            prediction=task.clean(text),
        )
        for example, text in zip(examples, texts, strict=True)
    ]


def check_question(prompter: Prompter, question: str, how: str) -> None:
    """Verify that there is a question where the prompt has a place for one, and none elsewhere.

    Args:
        prompter: knows the prompt.
        question: what is asked.
        how: how one is given, for the message.

    Raises:
        ValueError: it is not so.
    """
    if prompter.asks == bool(question.strip()):
        return
    if prompter.asks:
        raise ValueError(f"The prompt '{prompter.template}' asks a question: give it {how}.")
    raise ValueError(
        f"The prompt '{prompter.template}' has no place for a question, and one is given {how}; "
        "leave it out, or write {question} into the prompt."
    )


def _files(place: Path) -> list[Path]:
    """A file, or the images of a folder by the endings that Pillow knows."""
    if not place.exists():
        raise ValueError(f"{place} does not exist{did_you_mean(place, 'name an image that does')}")
    if not place.is_dir():
        return [place]
    known = Image.registered_extensions()
    inside = sorted(place.iterdir())
    found = [path for path in inside if path.suffix.lower() in known and not path.is_dir()]
    if not found:
        raise ValueError(f"There is no image in {place}; name files, or a folder with some.")
    used = {*found}
    if left := [path.name for path in inside if path not in used]:
        more = f" and {len(left) - _NUM_NAMED} more" if len(left) > _NUM_NAMED else ""
        logger.warning(
            "Of %s these are left out, as no files with the ending of an image: %s%s.",
            place,
            ", ".join(left[:_NUM_NAMED]),
            more,
        )
    return found

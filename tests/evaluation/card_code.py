"""The code of a model card, run as it is printed, and what our own evaluation answers instead."""

import re
from collections.abc import Mapping
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from PIL import Image

from evaluation.prediction import make_predictor
from evaluation.prompting import make_prompter
from models.checkpoint import resolve
from models.loading import Dtype, load_model
from tasks.base import Example, Task, Turn
from tasks.images import FileImage
from tasks.registry import get_task

DIGITS = get_task("digits")


def check_card_code(
    folder: Path,
    base: Path,
    image: Image.Image,
    question: str = "What is in the image?",
    task: Task = DIGITS,
    settings: Mapping[str, Any] = {},
) -> str:
    """The code of the card in a folder prints what our evaluation answers about the image.

    The settings are those of decoding, and the system message, that the training was given.
    Returns the answer.
    """
    image.convert("RGB").resize((64, 64)).save(folder / "image.png")
    (code,) = re.findall(r"```python\n(.*?)\n```\n", (folder / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    printed = StringIO()
    with chdir(folder), redirect_stdout(printed):
        exec(code.replace(f'"path/to/{base.name}"', repr(str(base))), names)
    stored_in: Dtype = "bf16" if "bfloat16" in str(names["model"].dtype) else "fp32"
    loaded = load_model(resolve(str(folder)), quantization="none", dtype=stored_in, device="cpu")
    prompter = make_prompter(
        task,
        loaded.family,
        settings.get("prompt_template"),
        system_message=settings.get("system_message"),
    )
    predictor = make_predictor(loaded.model, task, prompter, batch_size=1, generation=settings)
    asked = Example(
        example_id=0,
        image=FileImage(str(folder / "image.png")),
        turns=(Turn("user", question),),
        references=(),
    )
    (answer,) = predictor([asked])
    assert answer == printed.getvalue().splitlines()[-1]
    return answer

"""A loaded model and a task's examples -> a report of its answers."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from evaluation.prediction import Predictor
from evaluation.prompting import Prompter
from models.base import Decoding
from tasks.base import Dataset, Task
from tasks.report import Report, answer


def make_predictor(
    model: Any,
    task: Task,
    prompter: Prompter,
    *,
    batch_size: int,
    generation: Mapping[str, Any] = {},
    num_workers: int = 0,
) -> Predictor:
    """A predictor with the task's own way of generating, where no other is given.

    Args:
        model: the loaded model.
        task: whose examples it answers.
        prompter: asks.
        batch_size: examples answered at once.
        generation: options or settings that hold those of `Decoding` by name; None and absent
            ones are the task's.
        num_workers: processes that read images.
    """
    names = [field.name for field in fields(Decoding)]
    given = {name: generation[name] for name in names if generation.get(name) is not None}
    defaults = {"max_new_tokens": task.max_new_tokens, "num_beams": task.num_beams}
    return Predictor(
        model=model,
        prompter=prompter,
        batch_size=batch_size,
        decoding=Decoding(**(defaults | given)),
        num_workers=num_workers,
    )


def answer_with(predictor: Predictor, task: Task, dataset: Dataset) -> Report:
    """Answer every example of a split; the report holds the prompts as sent, and no scores."""
    prompts = [predictor.prompter.messages(example)[-1][1] for example in dataset]
    return answer(task, predictor, dataset, prompts)

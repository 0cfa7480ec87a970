"""A loaded model and a task's examples -> a report of its answers."""

from typing import Any

from finetuning.prediction import Predictor
from finetuning.prompting import Prompter
from models.base import Decoding
from tasks.base import Dataset, Task
from tasks.evaluation import Report, answer


def make_predictor(
    model: Any,
    task: Task,
    prompter: Prompter,
    *,
    batch_size: int,
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    num_workers: int = 0,
) -> Predictor:
    """A predictor with the task's own way of generating, where no other is given."""
    return Predictor(
        model=model,
        prompter=prompter,
        batch_size=batch_size,
        decoding=Decoding(
            num_beams=num_beams or task.num_beams,
            max_new_tokens=max_new_tokens or task.max_new_tokens,
        ),
        num_workers=num_workers,
    )


def answer_with(predictor: Predictor, task: Task, dataset: Dataset) -> Report:
    """Answer every example of a split; the report holds the prompts as sent, and no scores."""
    prompts = [predictor.prompter.messages(example)[-1][1] for example in dataset]
    return answer(task, predictor, dataset, prompts)

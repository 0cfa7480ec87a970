"""Batched generation: examples in, raw answers out, in the order given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from evaluation.prompting import Prompter
from models.encoding import Encoded
from models.settings import Decoding
from tasks.base import Dataset, Example, Task
from tasks.report import Report, answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A model with everything that decides what it answers; calling it answers examples.

    Examples of like length share a batch, so little is padded; answers do not depend on the
    batch size, up to the rounding of the model's precision, unless they are drawn.
    """

    model: Any
    prompter: Prompter
    batch_size: int
    decoding: Decoding
    num_workers: int = 0

    def __call__(self, examples: Sequence[Example]) -> list[str]:
        """Raw generated text of each example."""
        lengths = [len(self.prompter.prompt(example)) for example in examples]
        order = sorted(range(len(examples)), key=lambda i: (-lengths[i], i))
        loader = DataLoader(
            _Encoding([examples[i] for i in order], self.prompter),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=list,
        )
        was_training = self.model.training
        self.model.eval()
        answers: list[str] = []
        with torch.random.fork_rng(enabled=self.decoding.do_sample):
            if self.decoding.do_sample:
                torch.manual_seed(self.decoding.seed)
            for batch in tqdm(loader, desc="answering", leave=False):
                answers += self.prompter.family.generate(self.model, batch, self.decoding)
        self.model.train(was_training)
        by_index = dict(zip(order, answers, strict=True))
        return [by_index[i] for i in range(len(examples))]


def make_predictor(
    model: "PreTrainedModel",
    task: Task,
    prompter: Prompter,
    *,
    batch_size: int,
    generation: Mapping[str, Any] = {},
    num_workers: int = 0,
) -> Predictor:
    """Return a predictor that generates as the task does, unless other settings are given.

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


@dataclass(frozen=True, slots=True)
class _Encoding(TorchDataset[Encoded]):
    examples: Sequence[Example]
    prompter: Prompter

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Encoded:
        return self.prompter.encode(self.examples[index])

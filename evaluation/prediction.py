"""Batched generation: examples in, raw answers out, in the order given."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from common import processes
from common.workers import count_workers
from evaluation.answer_log import AnswerLog
from evaluation.prompting import Prompter
from models.encoding import Encoded
from models.settings import Auto, Decoding
from tasks.base import Dataset, Example, Task
from tasks.report import Report, answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A model with everything that decides what it answers; calling it answers examples.

    Examples of like length share a batch, so little is padded; answers do not depend on the
    batch size, up to the rounding of the model's precision, unless they are drawn. Of several
    processes each answers every so many-th batch, and all get the answers of all.
    """

    model: Any
    prompter: Prompter
    batch_size: int
    decoding: Decoding
    num_workers: int | Auto = "auto"

    def __call__(self, examples: Sequence[Example], log: AnswerLog | None = None) -> list[str]:
        """Answer each example by raw generated text.

        Args:
            examples: the questions.
            log: takes the answers as they come, and gives those that it has.

        Raises:
            RuntimeError: not every example was answered, by one of the processes.
        """
        lengths = [len(self.prompter.prompt(example)) for example in examples]
        order = sorted(range(len(examples)), key=lambda i: (-lengths[i], i))
        size = self.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        ids = [[examples[i].example_id for i in batch] for batch in batches]
        todo = [n for n in range(len(batches)) if log is None or not log.has(ids[n])]
        mine = todo[processes.rank() :: processes.num_processes()]
        found: dict[int, str] = {}
        for number, texts in self._generate(examples, {n: batches[n] for n in mine}):
            found |= zip(batches[number], texts, strict=True)
            if log is not None:
                log.add(ids[number], texts)
        if log is not None:
            known = set(range(len(batches))) - set(todo)
            found |= {i: log.answers[examples[i].example_id] for n in known for i in batches[n]}
        answers = {i: text for part in processes.gather(found) for i, text in part.items()}
        if len(answers) != len(examples):
            raise RuntimeError(
                f"{len(answers)} of {len(examples)} examples were answered by "
                f"{processes.num_processes()} processes; start the evaluation again."
            )
        return [answers[i] for i in range(len(examples))]

    def _generate(
        self, examples: Sequence[Example], batches: Mapping[int, list[int]]
    ) -> Iterator[tuple[int, list[str]]]:
        """Answer batches of examples, given by their places; yield a batch's number and texts."""
        loader = DataLoader(
            _Encoding(examples, self.prompter),
            batch_sampler=list(batches.values()),
            num_workers=count_workers(self.num_workers, sum(map(len, batches.values()))),
            collate_fn=list,
        )
        bar = tqdm(loader, desc="answering", leave=False, disable=processes.rank() > 0)
        was_training = self.model.training
        self.model.eval()
        with torch.random.fork_rng(enabled=self.decoding.do_sample):
            for number, batch in zip(batches, bar, strict=True):
                if self.decoding.do_sample:  # by batch: whoever answers it, and after whatever
                    torch.manual_seed(self.decoding.seed * 1_000_003 + number)
                yield number, self.prompter.family.generate(self.model, batch, self.decoding)
        self.model.train(was_training)


def make_predictor(
    model: "PreTrainedModel",
    task: Task,
    prompter: Prompter,
    *,
    batch_size: int,
    generation: Mapping[str, Any] = {},
    num_workers: int | Auto = "auto",
) -> Predictor:
    """Return a predictor that generates as the task does, unless other settings are given.

    Args:
        model: the loaded model.
        task: whose examples it answers.
        prompter: asks.
        batch_size: examples answered at once.
        generation: options or settings that hold those of `Decoding` by name; None and absent
            ones are the task's.
        num_workers: processes that read images, or `auto`.
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


def answer_with(
    predictor: Predictor, task: Task, dataset: Dataset, log: AnswerLog | None = None
) -> Report:
    """Answer every example of a split; the report holds the prompts as sent, and no scores.

    Args:
        predictor: answers.
        task: the task.
        dataset: the split.
        log: takes the answers as they come, and gives those that it has.
    """
    prompts = [predictor.prompter.messages(example)[-1][1] for example in dataset]
    return answer(task, lambda examples: predictor(examples, log), dataset, prompts)


@dataclass(frozen=True, slots=True)
class _Encoding(TorchDataset[Encoded]):
    examples: Sequence[Example]
    prompter: Prompter

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Encoded:
        return self.prompter.encode(self.examples[index])

"""Training examples -> encoded ones, in a seeded order that resuming repeats."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from evaluation.prompting import Prompter
from models.base import Family
from models.encoding import Encoded
from tasks.base import AnswerSampling, Dataset


@dataclass(frozen=True, slots=True)
class EncodedExamples(TorchDataset[Encoded]):
    """Encodes `(epoch, index)`: the answer depends on the epoch, and on nothing else that moves.

    The epoch travels with the index, so that workers and prefetching cannot mistake it.
    """

    dataset: Dataset
    prompter: Prompter
    seed: int
    sampling: AnswerSampling

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Encoded:
        epoch, index = key
        example = self.dataset[index]
        answer = self.dataset.task.target(example, epoch, self.seed, self.sampling)
        return self.prompter.encode(example, answer)


class JointExamples(TorchDataset[Encoded]):
    """The examples of all tasks of a run, one task after the other; encodes `(epoch, index)`."""

    def __init__(self, parts: Sequence[EncodedExamples]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, key: tuple[int, int]) -> Encoded:
        epoch, index = key
        number = bisect_right(self.ends, index)
        start = self.ends[number] - len(self.parts[number])
        return self.parts[number][epoch, index - start]


def collate(family: Family, batch: Sequence[Encoded]) -> dict[str, Any]:
    """Make a batch of examples as the family does, with `example_ids` beside the tensors."""
    return {**family.collate(batch), "example_ids": [encoded.example_id for encoded in batch]}


class EpochSampler(Sampler[tuple[int, int]]):
    """A fresh permutation each epoch, a pure function of (seed, epoch); yields `(epoch, index)`."""

    def __init__(self, num_examples: int, seed: int) -> None:
        self.num_examples = num_examples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the trainer calls this before each one, a resumed one too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_examples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.num_examples, generator=generator).tolist()
        return ((self.epoch, index) for index in order)

"""Training examples -> encoded ones, in a seeded order that resuming repeats."""

from bisect import bisect_right
from collections import defaultdict
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
from tasks.answer_choice import AnswerSampling
from tasks.base import Dataset

Key = tuple[int, int]  # (epoch, index)

_NUM_SAMPLED = 16


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

    def __getitem__(self, key: Key) -> Encoded:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Encoded]:
        """Encode a batch, in order."""
        examples = [self.dataset[index] for _, index in keys]
        answers = [
            self.dataset.task.target(example, epoch, self.seed, self.sampling)
            for example, (epoch, _) in zip(examples, keys, strict=True)
        ]
        return self.prompter.encode_all(examples, answers)

    def probable_longest(self) -> list[int]:
        """Return the places of some examples, of which one is about as long as any.

        The longest text is among them, and of those with the most images too; sizes of images are
        known of a sample alone.
        """
        num = len(self)
        spread = range(0, num, max(num // _NUM_SAMPLED, 1))
        longest = most = (0, 0, 0)  # of the longest so far: images, characters, place
        for place, example in enumerate(self.dataset):
            size = (len(example.images), sum(len(turn.text) for turn in example.turns), -place)
            longest = max(longest, (0, *size[1:]))
            most = max(most, size)
        return sorted({-longest[-1], -most[-1], *spread[:_NUM_SAMPLED]})


class JointExamples(TorchDataset[Encoded]):
    """The examples of all tasks of a run, one task after the other; encodes `(epoch, index)`."""

    def __init__(self, parts: Sequence[EncodedExamples]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, key: Key) -> Encoded:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Encoded]:
        """Encode a batch, in order; the examples of a task at once."""
        of_parts: dict[int, list[int]] = defaultdict(list)
        for place, (_, index) in enumerate(keys):
            of_parts[bisect_right(self.ends, index)].append(place)
        encoded: dict[int, Encoded] = {}
        for number, places in of_parts.items():
            start = self.ends[number] - len(self.parts[number])
            own = [(keys[place][0], keys[place][1] - start) for place in places]
            encoded |= zip(places, self.parts[number].__getitems__(own), strict=True)
        return [encoded[place] for place in range(len(keys))]

    def probable_longest(self) -> list[int]:
        """Return the places of some examples of each task."""
        starts = [0, *self.ends]
        parts = zip(starts, self.parts, strict=False)
        return [start + place for start, part in parts for place in part.probable_longest()]


def longest(examples: EncodedExamples | JointExamples) -> Encoded:
    """Return an example that has about as many tokens as any."""
    found = (examples[0, place] for place in examples.probable_longest())
    return max(found, key=lambda encoded: len(encoded.input_ids))


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

"""Batched generation: examples in, raw answers out, in the order given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from evaluation.prompting import Prompter
from models.base import Decoding, Encoded
from tasks.base import Example


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


@dataclass(frozen=True, slots=True)
class _Encoding(TorchDataset[Encoded]):
    examples: Sequence[Example]
    prompter: Prompter

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Encoded:
        return self.prompter.encode(self.examples[index])

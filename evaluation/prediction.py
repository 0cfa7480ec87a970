"""Batched generation: examples in, raw answers out, in the order given."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from common import processes
from common.progress import Bar
from common.system_faults import is_out_of_memory
from common.workers import count_workers
from evaluation.answer_log import AnswerLog
from evaluation.batching import choose_batch_size, make_batches
from evaluation.prompting import Prompter
from models.encoding import Encoded
from models.quantization import dequantized_on_cpu
from models.settings import Auto, Decoding
from tasks.base import Dataset, Example, Task
from tasks.report import Report, answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedAnswer:
    """One raw answer, with its tokens counted.

    Attributes:
        text: as generated.
        num_prompt_tokens: tokens that the model read, the image's too.
        num_tokens: tokens that it wrote, the end's too.
        is_whole: the model ended it; False where the most tokens were reached.
    """

    text: str
    num_prompt_tokens: int
    num_tokens: int
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A model with everything that decides what it answers; calling it answers examples.

    Questions on one image share a batch, and batches are of like length, so that little is seen
    twice and little is padded; answers do not depend on the batch size, up to the rounding of the
    model's precision, unless they are drawn. Of several processes each answers every so many-th
    batch, and all get the answers of all.

    Attributes:
        model: answers.
        prompter: asks.
        batch_size: examples answered at once; `auto` takes what memory bears, and fewer where it
            runs out all the same.
        decoding: the settings of generation.
        num_workers: processes that read images.
        label: what its progress bar says.
    """

    model: Any
    prompter: Prompter
    batch_size: int | Auto
    decoding: Decoding
    num_workers: int | Auto = "auto"
    label: str = "answering"

    def __call__(self, examples: Sequence[Example], log: AnswerLog | None = None) -> list[str]:
        """Answer each example by raw generated text.

        Args:
            examples: the questions.
            log: takes the answers as they come, and gives those that it has.

        Raises:
            RuntimeError: not every example was answered, by one of the processes.
        """
        lengths = self.prompter.input_lengths(examples)
        size = self._batch_size(max(lengths, default=0), log)
        batches = make_batches(lengths, [example.images for example in examples], size)
        ids = [[examples[i].example_id for i in batch] for batch in batches]
        todo = [n for n in range(len(batches)) if log is None or not log.has(ids[n])]
        mine = todo[processes.rank() :: processes.num_processes()]
        found: dict[int, str] = {}
        known = set(range(len(batches))) - set(todo)
        num_known, num_mine = (sum(len(batches[n]) for n in part) for part in (known, mine))
        with Bar(self.label, num_known + num_mine, "examples", num_known) as bar:
            for number, texts in self._generate(examples, {n: batches[n] for n in mine}):
                found |= zip(batches[number], texts, strict=True)
                if log is not None:
                    log.add(ids[number], texts)
                bar.advance(len(texts))
        if log is not None:
            found |= {i: log.answers[examples[i].example_id] for n in known for i in batches[n]}
        answers = {i: text for part in processes.gather(found) for i, text in part.items()}
        if len(answers) != len(examples):
            raise RuntimeError(
                f"{len(answers)} of {len(examples)} examples were answered by "
                f"{processes.num_processes()} processes; start the evaluation again."
            )
        return [answers[i] for i in range(len(examples))]

    def _batch_size(self, length: int, log: AnswerLog | None) -> int:
        """Settle on a number; that of the answers which an interrupted evaluation left counts."""
        if isinstance(self.batch_size, int):
            return self.batch_size
        if log is not None and log.batch_size is not None:
            return log.batch_size
        longest, beams = length + self.decoding.max_new_tokens, self.decoding.num_beams
        # one for all processes: they share the batches out by their numbers
        size: int = min(processes.gather(choose_batch_size(self.model, longest, beams)))
        logger.info("answering up to %d examples at once", size)
        if log is not None:
            log.batch_size = size
        return size

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
        limit = max(map(len, batches.values()), default=1)
        with self._answering():
            for number, batch in zip(batches, loader, strict=True):
                while (texts := self._try(number, batch, limit)) is None:
                    torch.cuda.empty_cache()
                    limit = (min(limit, len(batch)) + 1) // 2
                    logger.warning("Memory ran out; going on with %d examples at once.", limit)
                yield number, texts

    def answer_one(self, example: Example) -> "CountedAnswer":
        """Answer one example as `__call__` answers it alone, and count its tokens.

        Raises:
            ValueError: it is over the text budget, or the image cannot be used.
        """
        encoded = self.prompter.encode(example)
        family = self.prompter.family
        with self._answering():
            self._seed(0)
            ids = family.answer_ids(self.model, [encoded], self.decoding)
        ends = self.model.generation_config.eos_token_id
        written = ids[0].tolist()
        end = next((n for n, token in enumerate(written, 1) if token in ends), None)
        return CountedAnswer(
            text=family.texts(ids)[0],
            num_prompt_tokens=len(encoded.input_ids),
            num_tokens=end or len(written),
            is_whole=end is not None,
        )

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Have the model answer inside the block, and as it was behind it."""
        was_training = self.model.training
        device = self.model.device
        self.model.eval()
        with (
            # not for sampling alone: the start of a loader draws a number, too
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            dequantized_on_cpu(self.model),
        ):
            yield
        self.model.train(was_training)

    def _seed(self, number: int) -> None:
        """Seed the draws of a batch: whoever answers it, and after whatever."""
        if self.decoding.do_sample:
            torch.manual_seed(self.decoding.seed * 1_000_003 + number)

    def _try(self, number: int, batch: Sequence[Encoded], limit: int) -> list[str] | None:
        """Answer a batch by at most `limit` at once; None where memory for `auto` runs out."""
        self._seed(number)
        parts = (batch[start : start + limit] for start in range(0, len(batch), limit))
        generate = self.prompter.family.generate
        try:
            return [t for part in parts for t in generate(self.model, part, self.decoding)]
        except (MemoryError, RuntimeError) as error:
            if self.batch_size != "auto" or limit == 1 or not is_out_of_memory(error):
                raise
            return None


def make_predictor(
    model: "PreTrainedModel",
    task: Task,
    prompter: Prompter,
    *,
    batch_size: int | Auto,
    generation: Mapping[str, Any] = {},
    num_workers: int | Auto = "auto",
) -> Predictor:
    """Return a predictor that generates as the task does, unless other settings are given.

    Args:
        model: the loaded model.
        task: whose examples it answers.
        prompter: asks.
        batch_size: examples answered at once, or `auto`.
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
        label=f"answering {task.name}",
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
    prompts = [predictor.prompter.sent(example) for example in dataset]
    return answer(task, lambda examples: predictor(examples, log), dataset, prompts)


@dataclass(frozen=True, slots=True)
class _Encoding(TorchDataset[Encoded]):
    examples: Sequence[Example]
    prompter: Prompter

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Encoded:
        return self.prompter.encode(self.examples[index])

    def __getitems__(self, places: list[int]) -> list[Encoded]:
        """Encode a batch, in order."""
        return self.prompter.encode_all([self.examples[place] for place in places])

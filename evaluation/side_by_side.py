"""Models that answer side by side: one base in memory, and adapters that are switched on it."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from common.system_faults import is_out_of_memory
from evaluation.answer_images import check_question
from evaluation.example_checks import check_images
from evaluation.found_model import FoundModel, find_model
from evaluation.request import ModelRequest, PromptRequest
from evaluation.shared_base import check_one_base, in_one_precision
from models.quantization import dequantized_on_cpu
from models.run_record import trained_on
from tasks.base import Example, ImageRef, Task, Turn
from tasks.registry import get_task, task_names

if TYPE_CHECKING:
    from evaluation.prediction import CountedAnswer
    from models.base import Family

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about one image or several.

    Attributes:
        image: the first image.
        task: whose prompt, decoding and cleaning are taken.
        turns: the conversation; the last is the question, empty where the prompt holds none.
        prompt: settings of the prompt; those of each run where absent.
        decoding: settings by name, in place of those of the run or the task.
        how: how a question is given, in messages.
        further_images: those behind the first; the turns may say where they stand.
    """

    image: ImageRef
    task: Task
    turns: tuple[Turn, ...]
    prompt: PromptRequest
    decoding: Mapping[str, Any] = field(default_factory=dict)
    how: str = "by --question"
    further_images: tuple[ImageRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of one model.

    Attributes:
        prompt: the last turn as sent.
        prediction: as the task's metric would take it.
        raw: as generated, with its tokens counted.
        seconds: time taken, that of opening the image too.
    """

    prompt: str
    prediction: str
    raw: "CountedAnswer"
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of the models.

    Attributes:
        name: tells it from the others.
        found: where it lies.
        family: feeds it.
        adapter: name of its adapter in the loaded model; None where it is the base.
        tasks: those of its run, else those of the others; the first is asked by default.
    """

    name: str
    found: FoundModel
    family: "Family"
    adapter: str | None
    tasks: tuple[Task, ...]


class SideBySide:
    """Models on one base, loaded; they answer one at a time, whatever thread asks.

    Args:
        candidates: the models.
        model: the base with all adapters on it.
    """

    def __init__(self, candidates: Sequence[Candidate], model: Any) -> None:
        self.candidates = {candidate.name: candidate for candidate in candidates}
        self._model = model
        self._lock = threading.Lock()  # a model has one adapter at a time
        self._held = ExitStack()
        self._held.enter_context(dequantized_on_cpu(model))  # once, not for each answer
        self._is_stopping = threading.Event()
        self._is_unwanted: Callable[[], bool] = self._is_stopping.is_set
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        base.register_forward_pre_hook(self._check_stop)  # called for each token

    @property
    def tasks(self) -> list[Task]:
        """Return the tasks of the models, each once."""
        found = [task for candidate in self.candidates.values() for task in candidate.tasks]
        return list(dict.fromkeys(found))

    def prompts(self, task: Task) -> list[str]:
        """Return the prompt of a task for each model: that of its run, else the task's."""
        asked = PromptRequest()
        models = self.candidates.values()
        return [one.found.prompter(task, asked, one.family).template for one in models]

    def answer(
        self, name: str, question: Question, is_unwanted: Callable[[], bool] = lambda: False
    ) -> Answer:
        """Have a model answer as `palitune predict` does.

        Args:
            name: of the model.
            question: what is asked.
            is_unwanted: asked before each token; the answer ends, as an error, where it is true.

        Raises:
            ValueError: the prompt needs a question and there is none or takes none and there is
                one, it is too long, the image cannot be used, or the answer was ended.
        """
        candidate = self.candidates[name]
        start = perf_counter()
        prompter = candidate.found.prompter(question.task, question.prompt, candidate.family)
        example = Example(
            example_id=0,
            image=question.image,
            further_images=question.further_images,
            turns=question.turns,
            references=(),
        )
        check_question(prompter, question.turns[-1].text, question.how)
        check_images([example], prompter.family)
        if not prompter.truncate and any(prompter.over_budget([example], with_answers=False)):
            raise ValueError(
                f"The question is over the {prompter.max_length} text tokens that the prompt of "
                f"{name} may have; shorten it."
            )
        with self._lock, self._active(candidate):
            self._is_unwanted = is_unwanted
            predictor = candidate.found.predictor(
                question.task,
                prompter,
                batch_size=1,
                decoding=question.decoding,
                model=self._model,
            )
            fewest = predictor.decoding.min_new_tokens
            if fewest > predictor.decoding.max_new_tokens:
                raise ValueError(
                    f"{name} writes {fewest} tokens at least, as its run records; allow as many."
                )
            try:
                raw = predictor.answer_one(example)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise ValueError("Memory ran out; take a smaller image.") from error
        return Answer(
            prompt=prompter.sent(example),
            prediction=question.task.clean(raw.text),
            raw=raw,
            seconds=perf_counter() - start,
        )

    def stop(self) -> None:
        """Have the answer that is being written end at its next token, as an error."""
        self._is_stopping.set()

    def _check_stop(self, *_: object) -> None:
        if self._is_stopping.is_set() or self._is_unwanted():
            raise ValueError("The models were stopped before they had answered.")

    @contextmanager
    def _active(self, candidate: Candidate) -> Iterator[None]:
        """Have the adapter of a model on the base, and no other, inside the block."""
        if candidate.adapter is not None:
            self._model.set_adapter(candidate.adapter)
            yield
        elif hasattr(self._model, "disable_adapter"):
            with self._model.disable_adapter():
                yield
        else:
            yield


def load_side_by_side(requests: Sequence[ModelRequest], task: Task | None) -> SideBySide:
    """Load models that share a base, which is loaded once.

    Args:
        requests: the models.
        task: what they are asked by default; None takes the tasks that their runs record.

    Raises:
        ValueError: a model cannot be used, two are the same or of several bases, an adapter
            changes its base, or no task is known.
    """
    found = [find_model(request, PromptRequest()) for request in requests]
    check_one_base(found)
    found = in_one_precision(found)
    own = [[task] if task else [get_task(name) for name in trained_on(one.run)] for one in found]
    known = tuple(dict.fromkeys(task for tasks in own for task in tasks))
    if not known:
        raise ValueError(
            "No model has a run.json that names its task; name one by --task: "
            f"{', '.join(task_names())}."
        )
    families = [one.family() for one in found]
    model, adapters = _load(found, families[0])
    for family in families:  # read now, so that the first answer takes no longer than others
        _ = family.tokenizer, family.image_processor
    candidates = [
        Candidate(
            name=name,
            found=one,
            family=family,
            adapter=adapters.get(one.checkpoint.adapter),
            tasks=tuple(tasks) or known,
        )
        for name, one, family, tasks in zip(
            tell_apart([request.path for request in requests]), found, families, own, strict=True
        )
    ]
    return SideBySide(candidates, model)


def tell_apart(paths: Sequence[str]) -> list[str]:
    """Return a name for each model: its folder's, with those above where two have the same.

    A checkpoint's begins with its run's; a Hub id and `tiny` stay as they are.
    """
    parts = [_parts(path) for path in paths]
    lengths = [3 if p[-2:-1] == ("checkpoints",) else 1 for p in parts]
    while True:
        names = ["/".join(p[-length:]) for p, length in zip(parts, lengths, strict=True)]
        same = [
            place
            for place, name in enumerate(names)
            if names.count(name) > 1 and lengths[place] < len(parts[place])
        ]
        if not same:
            return names
        for place in same:
            lengths[place] += 1


def _parts(path: str) -> tuple[str, ...]:
    folder = Path(path).expanduser()
    return folder.absolute().parts[1:] if folder.is_dir() else (path,)


def _load(found: Sequence[FoundModel], family: "Family") -> tuple[Any, dict[Path | None, str]]:
    """Load the base with all adapters; return it, and each adapter's name in it by its folder."""
    from models.adapter_loading import FIRST, check_alone_on_base

    folders = [one.checkpoint.adapter for one in found if one.checkpoint.adapter is not None]
    for folder in folders if len(found) > 1 else ():
        check_alone_on_base(family.empty_model, folder)
    names = [FIRST, *(f"adapter_{number}" for number in range(1, len(folders)))]
    places = dict(zip(names, folders, strict=False))
    checkpoint = replace(found[0].checkpoint, adapter=places.pop(FIRST, None))
    model = replace(found[0], checkpoint=checkpoint).load(family, places)
    return model, dict(zip(folders, names, strict=False))

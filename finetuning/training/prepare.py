"""A training made ready: its data, prompts and model checked and loaded, nothing written yet."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.collector import without_collector
from evaluation.example_checks import check_clip, check_images, check_texts
from evaluation.extra_metrics import open_clip
from evaluation.prompting import Prompter
from evaluation.training_log import headlines
from finetuning.training import joint
from finetuning.training.job import (
    Job,
    check_model,
    load_data,
    load_selection,
    open_family,
    recipe_prompter,
)
from finetuning.training.recipe import Recipe
from finetuning.training.record import check_same_run, describe
from finetuning.training.scoring import Scoring
from models.loading import LoadedModel, load_model
from tasks.base import Dataset, Task
from tasks.report import Report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from evaluation.prediction import Predictor
    from finetuning.training.trainer import AnswerTrainer
    from models.clip import ClipScorer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One task's share of a training: its examples and its prompter.

    Attributes:
        train_data: to train on.
        selection_data: to score during training; None where there is none.
        eval_data: to score at the end, mostly the same; None where there is none.
        prompter: asks.
    """

    train_data: Dataset
    selection_data: Dataset | None
    eval_data: Dataset | None
    prompter: Prompter

    @property
    def task(self) -> Task:
        """Return the task."""
        return self.train_data.task


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that a training needs.

    Attributes:
        job: the training.
        run: the content of its run.json.
        loaded: the base.
        parts: what each task brings.
        clip: scores captions at the end; None where that is not asked for.
    """

    job: Job
    run: Mapping[str, Any]
    loaded: LoadedModel
    parts: Sequence[Part]
    clip: "ClipScorer | None"

    @property
    def recipe(self) -> Recipe:
        """Return the settings."""
        return self.job.recipe

    @property
    def tasks(self) -> list[Task]:
        """Return the tasks, in the order of the parts."""
        return [part.task for part in self.parts]

    def make_trainer(self, recipe: Recipe, output_dir: Path) -> "AnswerTrainer":
        """Make a trainer on the examples of all parts.

        Args:
            recipe: how to train.
            output_dir: where checkpoints go.
        """
        from finetuning.training.examples import EncodedExamples, JointExamples
        from finetuning.training.progress import Progress
        from finetuning.training.trainer import make_trainer

        parts = self.parts
        examples = [
            EncodedExamples(
                part.train_data,
                part.prompter,
                joint.answer_seed(recipe.seed, part.task, len(parts)),
                recipe.answer_sampling,
            )
            for part in parts
        ]
        names = ",".join(part.task.name for part in parts)
        metric = next(iter(headlines(self.tasks)))
        trainer = make_trainer(
            self.loaded,
            JointExamples(examples),
            recipe,
            output_dir,
            scorer=Scoring(self.answers) if any(part.selection_data for part in parts) else None,
            metric=metric,
        )
        trainer.add_callback(Progress(names, metric))
        return trainer

    def predictor(self, model: "PreTrainedModel", part: Part) -> "Predictor":
        """Return what answers the examples of one task by the model as it is now."""
        from evaluation.prediction import make_predictor

        recipe = self.recipe
        return make_predictor(
            model,
            part.task,
            part.prompter,
            batch_size=recipe.eval_batch_size,
            generation=asdict(recipe),
            num_workers=recipe.num_workers,
        )

    def answers(self, model: "PreTrainedModel") -> list[Report]:
        """Return the answers to the examples that are scored during training, without scores."""
        from evaluation.prediction import answer_with

        return [
            answer_with(self.predictor(model, part), part.task, part.selection_data)
            for part in self.parts
            if part.selection_data is not None
        ]


@without_collector()
def prepare(job: Job) -> Prepared:
    """Check and load all that a training needs; what can be known without the model comes first.

    Raises:
        ValueError: something about the input is wrong.
    """
    job, checkpoint = check_model(job)
    recipe = job.recipe
    data = [load_data(pair, recipe) for pair in job.tasks]
    for train_data, eval_data in data:
        _say_numbers(train_data, eval_data)
    selections = [
        load_selection(pair, recipe, eval_data)
        for pair, (_, eval_data) in zip(job.tasks, data, strict=True)
    ]
    run = describe(job, checkpoint, data, selections)
    if job.resume:
        check_same_run(job.output_dir, run)
    # kept off the GPU until training is over
    clip = None if recipe.skip_evaluation else open_clip(recipe.clip_model, "cpu")
    family = open_family(job, checkpoint)
    parts = []
    for (train_data, eval_data), selection_data in zip(data, selections, strict=True):
        prompter = recipe_prompter(train_data.task, family, recipe)
        check_images(train_data, family)
        check_texts(train_data, prompter, with_answers=True)
        for dataset in filter(None, (selection_data, eval_data)):
            check_images(dataset, family)
            check_clip(dataset, None if recipe.skip_evaluation else recipe.clip_model)
            check_texts(dataset, prompter, with_answers=False)
        parts.append(Part(train_data, selection_data, eval_data, prompter))
    loaded = load_model(
        checkpoint,
        quantization=recipe.quantization,
        dtype=recipe.dtype,
        device=job.device,
        family=family,
    )
    return Prepared(job=job, run=run, loaded=loaded, parts=parts, clip=clip)


def _say_numbers(train_data: Dataset, eval_data: Dataset | None) -> None:
    scored = "none to score"
    if eval_data is not None:
        scored = f"{len(eval_data):,} of '{eval_data.split}' to score"
    number, split = len(train_data), train_data.split
    logger.info(
        "%s: %s examples of '%s' to train on, %s",
        train_data.task.name,
        f"{number:,}",
        split,
        scored,
    )

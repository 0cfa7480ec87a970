"""One training run from its job to its folder: check, load, train, save, score."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import processes
from common.files import write_text
from common.interruption import Interrupted
from evaluation.answering import answer_and_log
from evaluation.extra_metrics import open_clip
from evaluation.prompting import Prompter, check_images, check_texts
from evaluation.provenance import of_model, with_provenance
from evaluation.request import MetricsRequest
from evaluation.run import score_and_write
from finetuning.training import checkpoints, joint, output_folder
from finetuning.training.job import (
    Job,
    check_model,
    load_data,
    load_selection,
    open_family,
    recipe_prompter,
)
from finetuning.training.model_card import model_card
from finetuning.training.recipe import Recipe
from finetuning.training.record import check_same_run, describe
from finetuning.training.tracking import finish_tracker, prepare_tracker
from models import run_record
from models.loading import LoadedModel, load_model
from models.run_record import trained_on
from tasks.base import Dataset, Task
from tasks.report import Report, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from evaluation.prediction import Predictor
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


@dataclass(frozen=True, slots=True)
class Scoring:
    """The scoring of a training's examples.

    Attributes:
        recipe: batch sizes and how answers are generated.
        parts: what each task brings.
    """

    recipe: Recipe
    parts: Sequence[Part]

    def predictor(self, model: "PreTrainedModel", part: Part) -> "Predictor":
        """Return what answers the examples of one task by the model as it is now."""
        from evaluation.prediction import make_predictor

        return make_predictor(
            model,
            part.task,
            part.prompter,
            batch_size=self.recipe.eval_batch_size or 2 * self.recipe.batch_size,
            generation=asdict(self.recipe),
            num_workers=self.recipe.num_workers,
        )

    def metrics(self, model: "PreTrainedModel") -> dict[str, float]:
        """Return the named metrics of the examples that are scored during training."""
        from evaluation.prediction import answer_with

        reports = [
            answer_with(self.predictor(model, part), part.task, part.selection_data)
            for part in self.parts
            if part.selection_data is not None
        ]
        metrics: dict[str, float] = processes.of_first(
            lambda: joint.joint_metrics([score(r, headline_only=True) for r in reports])
        )
        return metrics


def finetune(job: Job) -> list[Report]:
    """Train one adapter on all tasks of the job and score it on each.

    Returns:
        A report for each task that has an evaluation split; none on processes other than the
        first.

    Raises:
        ValueError: something about the input is wrong; all that can be known without the model
            is found before it is loaded.
    """
    output_folder.check_folder(job.output_dir, resume=job.resume, overwrite=job.overwrite)
    with output_folder.working_in(job.output_dir):  # a second training is refused before it loads
        return _prepare_and_train(job)


def _prepare_and_train(job: Job) -> list[Report]:
    job, checkpoint = check_model(job)
    recipe = job.recipe
    data = [load_data(pair, recipe) for pair in job.tasks]
    selections = [
        load_selection(pair, recipe, eval_data)
        for pair, (_, eval_data) in zip(job.tasks, data, strict=True)
    ]
    run = describe(job, checkpoint, data)
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
            check_texts(dataset, prompter, with_answers=False)
        parts.append(Part(train_data, selection_data, eval_data, prompter))

    loaded = load_model(
        checkpoint,
        quantization=recipe.quantization,
        dtype=recipe.dtype,
        device=job.device,
        family=family,
    )
    return _train(job, run, loaded, Scoring(recipe, parts), clip)


def _train(
    job: Job,
    run: Mapping[str, Any],
    loaded: LoadedModel,
    scoring: Scoring,
    clip: "ClipScorer | None",
) -> list[Report]:
    from finetuning.training.faults import explained
    from finetuning.training.number_watch import trained
    from finetuning.training.progress import Progress
    from finetuning.training.stopping import StopOnSignal

    recipe = job.recipe
    prepare_tracker(recipe.report_to, recipe.wandb_project, job.output_dir)
    with explained(job.output_dir):
        trainer = _make_trainer(job, loaded, scoring)
    is_first = trainer.is_world_process_zero()
    last = checkpoints.to_resume(job.output_dir, is_first) if job.resume else None
    is_finished = last is not None and _is_finished(last, trainer.planned_steps())
    if is_first and not is_finished:
        _begin(job, run, loaded, sum(t.numel() for t in trained(trainer.model).values()))
    stop = StopOnSignal()
    trainer.add_callback(stop)
    try:
        with explained(job.output_dir), stop.listening():
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    except RuntimeError as error:
        if stop.number:  # the workers got it too
            raise Interrupted(stop.number, f"{error}") from error
        raise
    finally:
        trainer.pop_callback(Progress).close()
    if stop.number:
        raise Interrupted(stop.number, f"{checkpoints.describe_last(job.output_dir)}.")
    if is_first:
        with explained(job.output_dir):
            trainer.watch.check_weights(trainer.model, trainer.state, recipe.learning_rate)
            output_folder.save_adapter(trainer.model, job.output_dir)
    processes.gather(None)  # the adapter is there
    if clip is not None:
        clip.model.to(trainer.model.device)
    scored = [
        _score_part(scoring.predictor(trainer.model, part), part.eval_data, run, job, clip)
        for part in scoring.parts
        if part.eval_data is not None and not recipe.skip_evaluation
    ]
    if not is_first:
        return []
    reports = list(filter(None, scored))
    if reports:
        metrics = joint.joint_metrics(reports)
        trainer.log({f"final_{name}": value for name, value in metrics.items()})
    trainer.state.save_to_json(str(job.output_dir / "trainer_state.json"))
    finish_tracker(recipe.report_to)
    card = model_card(run, [report.metrics_json() for report in reports])
    write_text(job.output_dir / "README.md", card)
    return reports


def _begin(job: Job, run: Mapping[str, Any], loaded: LoadedModel, num_trained: int) -> None:
    """Write what a run's folder holds from the start, once its disk is known to have the room."""
    from finetuning.training.faults import explained

    num_kept = job.recipe.save_total_limit + job.recipe.evaluates_during_training
    checkpoints.check_space(job.output_dir, checkpoints.bytes_needed(num_trained, num_kept))
    with explained(job.output_dir):
        if job.overwrite:
            output_folder.clear(job.output_dir)
        output_folder.write_run(job.output_dir, run)
        loaded.family.save(str(job.output_dir))  # its checkpoints are evaluated with it too


def _is_finished(last: Path, num_planned: int) -> bool:
    """Return True, and say so, where a run has all the steps that are asked for."""
    num_done = checkpoints.read_state(last)["global_step"]
    if num_done < num_planned:
        return False
    logger.warning(
        "Nothing is trained: the run has %d steps, and %d are asked for; its adapter is kept.",
        num_done,
        num_planned,
    )
    return True


def _make_trainer(job: Job, loaded: LoadedModel, scoring: Scoring) -> Any:
    from finetuning.training.examples import EncodedExamples, JointExamples
    from finetuning.training.trainer import make_trainer

    parts, recipe = scoring.parts, job.recipe
    examples = [
        EncodedExamples(
            part.train_data,
            part.prompter,
            joint.answer_seed(recipe.seed, part.task, len(parts)),
            recipe.answer_sampling,
        )
        for part in parts
    ]
    has_selection = any(part.selection_data is not None for part in parts)
    return make_trainer(
        loaded,
        JointExamples(examples),
        recipe,
        job.output_dir,
        scorer=scoring.metrics if has_selection else None,
        metric=joint.METRIC if len(parts) > 1 else parts[0].task.metric,
    )


def _score_part(
    predictor: "Predictor",
    dataset: Dataset,
    run: Mapping[str, Any],
    job: Job,
    clip: "ClipScorer | None",
) -> Report | None:
    """Score what was trained on one task; the report goes into the run's folder.

    Returns:
        The report; None on the processes beside the first, which only help to answer.
    """
    task = dataset.task
    folder = run_record.evaluation_folder(job.output_dir, run, task.name, dataset.split)
    origin = of_model(
        predictor,
        base_model=run["base_model"],
        base_revision=run["base_revision"],
        adapter=job.output_dir,
        quantization=run["settings"]["quantization"],
        trained_on=trained_on(run),
    )
    report = answer_and_log(predictor, dataset, folder, origin, resume=job.resume, allow_other=True)
    if processes.rank() > 0:
        return None
    metrics = MetricsRequest(num_viz_samples=job.recipe.num_viz_samples)
    return score_and_write(with_provenance(report, run["seed"], origin), folder, metrics, clip)

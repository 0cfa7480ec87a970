"""One training run from its job to its folder: prepare, train, save, score."""

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import processes
from common.folder_lock import working_in
from common.interruption import Interrupted
from common.json_files import read_json
from common.system_faults import is_out_of_memory
from evaluation.answering import answer_and_log
from evaluation.provenance import of_model, with_provenance
from evaluation.request import MetricsRequest
from evaluation.run import score_report, write_evaluation
from evaluation.training_log import STATE
from finetuning.training import checkpoints, joint, output_folder
from finetuning.training.curves_chart import write_curves
from finetuning.training.job import Job
from finetuning.training.model_card import write_card
from finetuning.training.prepare import Part, Prepared, prepare
from finetuning.training.recipe import Recipe
from finetuning.training.trackers import Trackers
from finetuning.training.tracking import tracked
from finetuning.training.watched import WatchedAnswers
from models import run_record
from models.run_record import trained_on
from tasks.base import Task
from tasks.report import Report

if TYPE_CHECKING:
    from transformers import TrainerState

    from finetuning.training.following import Following
    from finetuning.training.trainer import AnswerTrainer


logger = logging.getLogger(__name__)

_COST = "training_"  # before the names of costs in the log


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
    with working_in(job.output_dir):  # a second training is refused before it loads
        prepared = prepare(job)
        recipe = job.recipe
        with tracked(recipe.report_to, recipe.wandb_project, job.output_dir) as trackers:
            return _train(prepared, trackers)


def _train(prepared: Prepared, trackers: Trackers) -> list[Report]:
    from finetuning.training.faults import explained
    from finetuning.training.following import Following
    from finetuning.training.number_watch import trained

    job, recipe = prepared.job, prepared.recipe
    watched = WatchedAnswers(job.output_dir, recipe.seed, resume=job.resume)
    following = Following(watched, trackers)
    with explained(job.output_dir):
        trainer = following.attached(prepared.make_trainer(recipe, job.output_dir))
    is_first = trainer.is_world_process_zero()
    last = checkpoints.to_resume(job.output_dir, is_first) if job.resume else None
    is_finished = last is not None and _is_finished(last, trainer.planned_steps(), recipe)
    if is_first and not is_finished:
        _begin(prepared, sum(t.numel() for t in trained(trainer.model).values()))
    trainer = _train_to_the_end(prepared, trainer, last, following)
    if is_first:
        with explained(job.output_dir):
            trainer.watch.check_weights(trainer.model, trainer.state, recipe.learning_rate)
            output_folder.save_adapter(trainer.model, job.output_dir)
    processes.gather(None)  # the adapter is there
    costs = _logged_costs(job.output_dir) if is_finished else trainer.costs()
    with _folders_of_scores(prepared):
        return _score(prepared, trainer, costs, following)


@contextmanager
def _folders_of_scores(prepared: Prepared) -> Iterator[None]:
    """Keep evaluations by other commands out of the folders that are written inside the block."""
    with ExitStack() as stack:
        for part in _scored_parts(prepared):
            assert part.eval_data is not None
            folder = _evaluation_folder(prepared, part.task, part.eval_data.split)
            try:
                stack.enter_context(working_in(folder))
            except ValueError as error:
                raise ValueError(
                    f"The adapter in {prepared.job.output_dir} is trained and saved, but not "
                    f"scored: another command writes into {folder}; wait for it, then go on by "
                    "--resume."
                ) from error
        yield


def _scored_parts(prepared: Prepared) -> list[Part]:
    """Return the parts that are scored after training."""
    skips = prepared.recipe.skip_evaluation
    return [part for part in prepared.parts if part.eval_data is not None and not skips]


def _score(
    prepared: Prepared, trainer: "AnswerTrainer", costs: Mapping[str, Any], following: "Following"
) -> list[Report]:
    """Score what was trained, and write all that is told of it."""
    from finetuning.training.compiled import as_written

    if prepared.clip is not None:
        prepared.clip.model.to(trainer.model.device)
    with as_written():
        scored = [_score_part(prepared, trainer, part, costs) for part in _scored_parts(prepared)]
    if not trainer.is_world_process_zero():
        return []
    if costs:
        trainer.log({f"{_COST}{name}": value for name, value in costs.items()})
    reports = [report for report in scored if report is not None]
    if reports:
        metrics = joint.joint_metrics(reports)
        trainer.log({f"final_{name}": value for name, value in metrics.items()})
        following.end(reports)
    _write_results(prepared, trainer.state, reports, following.watched)
    return reports


def _write_results(
    prepared: Prepared,
    state: "TrainerState",
    reports: Sequence[Report],
    watched: WatchedAnswers,
) -> None:
    """Write the log, its curves, what was scored, and the card; the pages show the curves too."""
    folder = prepared.job.output_dir
    state.save_to_json(str(folder / STATE))
    curves = write_curves(state, prepared.tasks, folder)
    for report in reports:
        write_evaluation(
            report,
            _evaluation_folder(prepared, report.task, report.split),
            MetricsRequest(
                num_viz_samples=prepared.recipe.num_viz_samples,
                images_budget=prepared.recipe.images_budget,
            ),
        )
    write_card(
        folder,
        prepared.run,
        reports,
        state.global_step,
        prepared.loaded.family,
        curves,
        watched.lines,
        prepared.parts[0].train_data[:1],
    )


def _train_to_the_end(
    prepared: Prepared, trainer: "AnswerTrainer", last: Path | None, following: "Following"
) -> "AnswerTrainer":
    """Train; where memory runs out and a smaller cut is allowed, go on with that.

    Returns:
        The trainer that came to the end.
    """
    job = prepared.job
    while True:
        try:
            _train_once(prepared, trainer, last)
            return trainer
        except RuntimeError as error:
            recipe = trainer.plan.smaller(prepared.recipe)
            is_short = error.__cause__ is not None and is_out_of_memory(error.__cause__)
            if recipe is None or not is_short or processes.num_processes() > 1:
                raise
        trainer.model.unload()
        trainer = following.attached(prepared.make_trainer(recipe, job.output_dir))
        logger.warning("Memory ran out; the training goes on with %s.", trainer.plan.cut())
        last = checkpoints.to_resume(job.output_dir, is_first=True)


def _train_once(prepared: Prepared, trainer: "AnswerTrainer", last: Path | None) -> None:
    """Train from a checkpoint, or from the start where it is None.

    Raises:
        Interrupted: a signal came; the last step is saved.
        RuntimeError: the system failed, in one sentence.
    """
    from finetuning.training.faults import explained
    from finetuning.training.progress import Progress
    from finetuning.training.stopping import StopOnSignal

    output_dir = prepared.job.output_dir
    stop = StopOnSignal()
    trainer.add_callback(stop)
    try:
        with explained(output_dir), stop.listening():
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    except RuntimeError as error:
        if stop.number:  # the workers got it too
            raise Interrupted(stop.number, f"{error}") from error
        raise
    finally:
        trainer.pop_callback(Progress).close()
    if stop.number:
        if trainer.is_world_process_zero():
            write_curves(trainer.state, prepared.tasks, output_dir)
        raise Interrupted(stop.number, f"{checkpoints.describe_last(output_dir)}.")


def _begin(prepared: Prepared, num_trained: int) -> None:
    """Write what a run's folder holds from the start, once its disk is known to have the room."""
    from finetuning.training.faults import explained

    job = prepared.job
    num_kept = job.recipe.save_total_limit + job.recipe.evaluates_during_training
    checkpoints.check_space(job.output_dir, checkpoints.bytes_needed(num_trained, num_kept))
    with explained(job.output_dir):
        if job.overwrite:
            output_folder.clear(job.output_dir)
        (job.output_dir / STATE).unlink(missing_ok=True)  # the mark of the end of a run
        output_folder.write_run(job.output_dir, prepared.run)
        # its checkpoints are evaluated with it too
        prepared.loaded.family.save(str(job.output_dir))


def _is_finished(last: Path, num_planned: int, recipe: Recipe) -> bool:
    """Return True, and say so, where a run has all the steps that are asked for."""
    num_done = checkpoints.read_state(last)["global_step"]
    num_vain = checkpoints.scorings_in_vain(last)
    if recipe.early_stopping_patience and num_vain >= recipe.early_stopping_patience:
        reason = f"stopped early at step {num_done}, {num_vain} scorings after its best"
    elif num_done >= num_planned:
        reason = f"has {num_done} steps, and {num_planned} are asked for"
    else:
        return False
    logger.warning("Nothing is trained: the run %s; its adapter is kept.", reason)
    return True


def _logged_costs(folder: Path) -> dict[str, Any]:
    """Return what a finished run's log says of its training; nothing where it has no log."""
    log = read_json(folder / STATE)["log_history"] if (folder / STATE).is_file() else []
    lines = [line for line in log if f"{_COST}batch_size" in line]
    return {
        name.removeprefix(_COST): value
        for line in lines[-1:]
        for name, value in line.items()
        if name.startswith(_COST)
    }


def _score_part(
    prepared: Prepared, trainer: "AnswerTrainer", part: Part, costs: Mapping[str, Any]
) -> Report | None:
    """Score what was trained on one task; the answers go into the run's folder.

    Returns:
        The scored report; None on the processes beside the first, which only help to answer.
    """
    job, run, dataset = prepared.job, prepared.run, part.eval_data
    assert dataset is not None
    predictor = prepared.predictor(trainer.model, part)
    folder = _evaluation_folder(prepared, part.task, dataset.split)
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
    words = job.again(part.task, dataset.split)
    again = {"command": shlex.join(["palitune", *map(str, words)])} if words else {}
    seed = job.recipe.scoring_seed
    report = with_provenance(report, seed, {**origin, **again}, training=costs)
    return score_report(report, MetricsRequest(), prepared.clip)


def _evaluation_folder(prepared: Prepared, task: Task, split: str) -> Path:
    return run_record.evaluation_folder(prepared.job.output_dir, prepared.run, task.name, split)

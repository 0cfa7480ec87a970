"""One evaluation from its request to its folder: a model's answers, or a file of answers."""

import logging
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import processes
from common.collector import without_collector
from common.files import check_writable
from common.folder_lock import working_in
from evaluation.answer_log import remove_answers
from evaluation.answering import answer_and_log
from evaluation.baselines import Baselines, add_baselines, answer_baselines, find_majority
from evaluation.example_checks import check_clip, check_images, check_texts
from evaluation.extra_metrics import add_clip_metrics, add_lenient, add_text_metrics, open_clip
from evaluation.found_model import find_model
from evaluation.gallery import write_gallery
from evaluation.provenance import of_file, of_model, with_provenance
from evaluation.report_page import write_report_page
from evaluation.request import EvaluationRequest, MetricsRequest
from evaluation.result_folder import WRITTEN, Scored, check_ours, choose_folder, model_folder
from evaluation.submission import submitted_files, write_submission
from models.run_record import RUN_FILE, trained_on
from tasks.base import Dataset, Source, Task
from tasks.images import check_dataset
from tasks.report import Report, score
from tasks.report_files import write_report
from tasks.result_files import match, read_predictions
from tasks.selection import with_ids
from tasks.splits import resolve_split
from tasks.usable import without_bad_images

if TYPE_CHECKING:
    from models.clip import ClipScorer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Predictions that are to be scored.

    Attributes:
        report: the predictions, not scored yet.
        dataset: the whole split, of which the report may have a part.
        origin: where they are from, for the provenance.
        output_dir: folder of the scores.
        baselines: answers of what the predictions stand beside; None where not asked for.
    """

    report: Report
    dataset: Dataset
    origin: Mapping[str, Any]
    output_dir: Path
    baselines: Baselines | None = None


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The outcome of an evaluation.

    Attributes:
        report: the scored predictions.
        output_dir: folder with its files.
        submission: a sentence on the leaderboard's file; None where none was asked for.
    """

    report: Report
    output_dir: Path
    submission: str | None = None


def evaluate(request: EvaluationRequest) -> EvaluationResult | None:
    """Get the predictions, score them and write the report.

    Returns:
        The scores; None on the processes beside the first, which only help to answer.

    Raises:
        ValueError: something about the input is wrong.
    """
    if request.output_dir is not None:
        check_ours(request.output_dir)
    clip = open_clip(request.metrics.clip_model, request.device)
    with ExitStack() as folder:
        if request.predictions is None:
            with processes.connected():
                answers = _predict(request, folder)
        else:
            answers = _read(request, folder)
        if processes.rank() > 0:
            return None
        again = {"command": request.command} if request.command else {}
        report = with_provenance(answers.report, request.seed, {**answers.origin, **again})
        if answers.baselines is not None:
            report = add_baselines(report, answers.baselines)
        report = score_and_write(
            report,
            answers.output_dir,
            request.metrics if request.opens_images else replace(request.metrics, images_budget=0),
            clip,
        )
        submission = write_submission(report, answers.dataset, answers.output_dir, request)
        return EvaluationResult(report, answers.output_dir, submission)


def score_and_write(
    report: Report, folder: Path, metrics: MetricsRequest, clip: "ClipScorer | None"
) -> Report:
    """Score predictions and write all that was measured to a folder.

    Args:
        report: the predictions, with their provenance.
        folder: where the files go.
        metrics: what is measured beside the official metrics.
        clip: a `models.clip.ClipScorer`, or None.
    """
    report = score_report(report, metrics, clip)
    write_evaluation(report, folder, metrics)
    return report


def score_report(report: Report, metrics: MetricsRequest, clip: "ClipScorer | None") -> Report:
    """Return predictions with their scores and what else is asked for; see `score_and_write`."""
    logger.info("scoring %s answers of %s", f"{len(report.predictions):,}", report.task.name)
    report = score(report)
    if report.scores and metrics.lenient:
        report = add_lenient(report)
    if report.scores and metrics.text_metrics:
        report = add_text_metrics(report)
    if clip is not None:
        report = add_clip_metrics(report, clip)
    return report


def write_evaluation(report: Report, folder: Path, metrics: MetricsRequest) -> None:
    """Write every file of a scored evaluation to its folder, its page last."""
    write_report(report, folder)
    write_gallery(report, folder, metrics.num_viz_samples)
    write_report_page(report, folder, metrics.images_budget)
    remove_answers(folder)


def _predict(request: EvaluationRequest, folder: ExitStack) -> Answers:
    """Let a model answer the split; its predictions are written before they are scored."""
    task, wanted = request.task, request.model
    assert wanted is not None
    found = find_model(wanted, request.prompt)
    checkpoint, run = found.checkpoint, found.run
    reading = replace(request.source.reading, answers="optional")
    skips = request.on_bad_image == "skip"
    source = replace(request.source, reading=reading, skips_images=skips)
    whole = _load_split(task, request.split, source)
    dataset = _chosen(whole, request)
    dataset = without_bad_images(dataset, request.on_bad_image, request.num_workers)
    check_dataset(dataset)
    name = f"csv_{request.table.stem}" if request.table else dataset.split
    if request.ids is not None:  # such a look is never the run's own score
        name = f"{name}_{len(dataset)}_examples"
    path = checkpoint.base if wanted.without_adapter else wanted.path
    default = model_folder(path, checkpoint.adapter, run, task.name, name)
    scored = Scored(task.name, dataset.split, dataset)
    output_dir = choose_folder(request.output_dir, default, scored)
    _enter(output_dir, folder)
    if request.output_dir is not None:  # the others are ours by their place
        check_ours(output_dir, *submitted_files(request, whole))
    majority = find_majority(list(dataset), task, source) if request.metrics.baselines else None
    prompter = found.prompter(task, request.prompt)
    check_images(dataset, prompter.family)
    check_clip(dataset, request.metrics.clip_model)
    check_texts(dataset, prompter, with_answers=False)
    predictor = found.predictor(
        task,
        prompter,
        batch_size=request.batch_size,
        decoding=request.decoding,
        seed=request.seed,
        num_workers=request.num_workers,
    )
    origin = of_model(
        predictor,
        base_model=checkpoint.base,
        base_revision=checkpoint.revision,
        adapter=checkpoint.adapter,
        quantization=found.quantization,
        trained_on=[] if wanted.without_adapter else trained_on(run),
    )
    identity = {**origin, "base_fingerprint": checkpoint.fingerprint}
    report = answer_and_log(predictor, dataset, output_dir, identity, resume=request.resume)
    baselines = None
    if majority is not None:
        baselines = answer_baselines(
            *(predictor, dataset, report, majority, output_dir, identity),
            seed=request.seed,
            resume=request.resume,
        )
    return Answers(
        report=report, dataset=whole, origin=origin, output_dir=output_dir, baselines=baselines
    )


@without_collector()
def _read(request: EvaluationRequest, folder: ExitStack) -> Answers:
    """Read the answers of a file; the split's images need not be there."""
    task, path = request.task, request.predictions
    assert path is not None
    if path.is_dir():
        path = path / "predictions.jsonl"  # as eval.py left it
    predictions = read_predictions(path, task)
    source = replace(request.source, with_images=request.opens_images)
    dataset = _load_split(task, request.split, source, predictions.keys())
    where = f"{task.name} split '{dataset.split}'"
    examples, note = match(
        list(dataset), predictions, path, where, allow_partial=request.allow_partial
    )
    chosen = _chosen(dataset, request)
    if chosen is not dataset:
        kept = {example.example_id for example in chosen}
        examples = [example for example in examples if example.example_id in kept]
        if not examples:
            raise ValueError(
                f"{path} has none of the {len(kept)} examples that --ids or --max_eval_samples "
                "chose; choose others."
            )
    default = path.parent / f"{path.stem}_scores"
    scored = Scored(task.name, dataset.split, examples)
    output_dir = choose_folder(request.output_dir, default, scored)
    _enter(output_dir, folder)
    submitted = submitted_files(request, dataset)
    if path.resolve() in [(output_dir / name).resolve() for name in (*WRITTEN, *submitted)]:
        raise ValueError(
            f"--output_dir {output_dir} holds the file of --predictions, which would be written "
            "anew; choose another folder."
        )
    check_ours(output_dir, *submitted)
    if request.opens_images:
        check_dataset(dataset)  # its images will be opened
        check_clip(dataset, request.metrics.clip_model)
    found = [predictions[example.example_id] for example in examples]
    prompts = [prediction.prompt for prediction in found]
    report = Report(
        task=task,
        split=dataset.split,
        examples=examples,
        prompts=[prompt or "" for prompt in prompts] if any(prompts) else (),
        raw_predictions=[p.text if p.raw_text is None else p.raw_text for p in found],
        predictions=[prediction.text for prediction in found],
        notes=(note,) if note else (),
    )
    baselines = None
    if request.metrics.baselines:
        baselines = Baselines(find_majority(examples, task, source), {})
    return Answers(
        report=report,
        dataset=dataset,
        origin=of_file(path),
        output_dir=output_dir,
        baselines=baselines,
    )


def _enter(output_dir: Path, folder: ExitStack) -> None:
    """Keep other evaluations out; a run's own folder is kept by its training."""
    check_writable(output_dir)
    if not (output_dir / RUN_FILE).is_file():
        folder.enter_context(working_in(output_dir))


def _chosen(dataset: Dataset, request: EvaluationRequest) -> Dataset:
    """The examples of a split that are scored."""
    if request.ids is not None:
        return with_ids(dataset, request.ids)
    return dataset.subset(request.max_eval_samples, request.seed)


def _load_split(
    task: Task, split: str | None, source: Source, answered: Collection[Any] | None = None
) -> Dataset:
    splits = task.eval_splits + task.hidden_splits
    dataset, note = resolve_split(task, split, source, splits, answered)
    if note:
        logger.warning(note)
    return dataset

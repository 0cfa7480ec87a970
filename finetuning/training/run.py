"""One training run from its options to its folder: check, load, train, save, score."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from evaluation.extra_metrics import add_clip_metrics, open_clip
from evaluation.gallery import write_gallery
from evaluation.prompting import Prompter, check_template, check_texts, make_prompter
from evaluation.provenance import describe_data, of_model, trained_on, with_provenance
from finetuning.training import joint
from finetuning.training import output_folder as run_folder
from finetuning.training.recipe import GENERATION, Recipe
from finetuning.training.tracking import check_tracker, finish_tracker, prepare_tracker
from models.base import Family, FamilyOptions
from models.checkpoint import Checkpoint, adapter_folder, read_json, resolve
from models.loading import check_adapter_weights, check_device, load_family, load_model
from models.quantization import check_available
from tasks.base import Dataset, MissingSplit, Source, Task
from tasks.files import write_text
from tasks.images import check_dataset
from tasks.report import Report, score, write_predictions, write_report
from tasks.splits import resolve_split

logger = logging.getLogger(__name__)

# settings that a resumed run may have otherwise: how long, how often, where to
_MAY_CHANGE = {
    *("num_epochs", "max_steps", "save_steps", "save_total_limit", "logging_steps", "num_workers"),
    *("eval_split", "eval_steps", "eval_epochs", "eval_batch_size", "max_eval_samples"),
    *("early_stopping_patience", "report_to", "wandb_project"),
    *GENERATION,
    *("skip_evaluation", "num_viz_samples", "clip_model"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train, on what, into which folder.

    Attributes:
        task: the task.
        model_path: base model: folder, Hub id or `tiny`.
        revision: of the Hub repository.
        model_type: family to feed it by, in place of that of its config.json.
        family_options: what the user said about it.
        source: where its data lies.
        joined: further tasks that the same adapter learns, each with its source.
        recipe: how to train.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        output_dir: where the run goes.
        resume: go on from the newest complete checkpoint in it.
        overwrite: replace what is in it.
        settings: every option as given, for run.json and `--config`.
    """

    task: Task
    model_path: str
    revision: str | None = None
    model_type: str | None = None
    family_options: FamilyOptions = field(default_factory=FamilyOptions)
    source: Source
    joined: tuple[tuple[Task, Source], ...] = ()
    recipe: Recipe
    device: str = "auto"
    output_dir: Path
    resume: bool = False
    overwrite: bool = False
    settings: Mapping[str, Any]

    @property
    def single_jobs(self) -> list["Job"]:
        """For each task the job of training on it alone."""
        pairs = ((self.task, self.source), *self.joined)
        return [replace(self, task=task, source=source, joined=()) for task, source in pairs]


@dataclass(frozen=True, slots=True)
class Part:
    """What one task brings into a training: its examples and how they are asked.

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
        """The task."""
        return self.train_data.task


def finetune(job: Job) -> Report | None:
    """Train on one task and score the result; `finetune_jointly` says more.

    Returns:
        The report on the evaluation split; None where there is none, or on processes other than
        the first.
    """
    return next(iter(finetune_jointly(job)), None)


def finetune_jointly(job: Job) -> list[Report]:
    """Train one adapter on all tasks of the job, be it one, and score it on each.

    Returns:
        A report for each task that has an evaluation split; none on processes other than the
        first.

    Raises:
        ValueError: something about the input is wrong; all that can be known without the model
            is found before it is loaded.
    """
    run_folder.check_folder(job.output_dir, resume=job.resume, overwrite=job.overwrite)
    job, checkpoint = check_model(job)
    recipe = job.recipe
    data = [load_data(single) for single in job.single_jobs]
    selections = [
        load_selection(single, eval_data)
        for single, (_, eval_data) in zip(job.single_jobs, data, strict=True)
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
        check_texts(train_data, prompter, with_answers=True)
        for dataset in filter(None, (selection_data, eval_data)):
            check_texts(dataset, prompter, with_answers=False)
        parts.append(Part(train_data, selection_data, eval_data, prompter))

    loaded = load_model(
        checkpoint,
        quantization=recipe.quantization,
        dtype=recipe.dtype,
        device=job.device,
        family=family,
    )
    with run_folder.working_in(job.output_dir):
        return _train(job, run, loaded, parts, clip)


def check_model(job: Job) -> tuple[Job, Checkpoint]:
    """Check the settings and the base, as far as that needs neither data nor weights.

    Returns:
        The job, its recipe completed by the adapter that training goes on from; and the base.

    Raises:
        ValueError: something about them is wrong.
    """
    recipe = job.recipe
    check_available(recipe.quantization)
    check_template(recipe.prompt_template)
    check_tracker(recipe.report_to)
    checkpoint = resolve(
        job.model_path,
        revision=job.revision,
        model_type=job.model_type,
        options=job.family_options,
    )
    if checkpoint.adapter is not None:
        raise ValueError(
            f"{job.model_path} is an adapter, and training starts from a full model, such as its "
            f"base {checkpoint.base}; --lora_init_from goes on from an adapter."
        )
    return replace(job, recipe=with_initial_adapter(recipe, checkpoint, job.model_type)), checkpoint


def open_family(job: Job, checkpoint: Checkpoint) -> Family:
    """What feeds the base, if device, optimiser and the layers to adapt are there.

    Raises:
        ValueError: one of them is not.
    """
    check_device(job.device)
    if job.device.startswith("cuda:") and job.device != "cuda:0" and "LOCAL_RANK" not in os.environ:
        raise ValueError(
            f"Training takes the first visible GPU: in place of --device {job.device} set "
            f"CUDA_VISIBLE_DEVICES={job.device[5:]}."
        )
    _check_optim(job.recipe.optim)
    family = load_family(checkpoint)
    _check_lora(job.recipe, family)
    return family


def recipe_prompter(task: Task, family: Family, recipe: Recipe) -> Prompter:
    """What asks a task's examples in a training by this recipe."""
    return make_prompter(
        task,
        family,
        recipe.prompt_template,
        recipe.max_length,
        recipe.truncate,
        recipe.system_message,
    )


def load_data(job: Job) -> tuple[Dataset, Dataset | None]:
    """The examples of `job.task` to train on and, where they are there, to score on.

    No image is opened.
    """
    task, recipe = job.task, job.recipe
    for split in filter(None, (recipe.train_split, recipe.eval_split)):
        task.check_split(split)
        if split in task.hidden_splits:
            raise ValueError(
                f"The answers of {task.name} split '{split}' are withheld: it can be predicted "
                f"by eval.py, not trained or scored on."
            )
    train_data, note = resolve_split(task, recipe.train_split, job.source, task.train_splits)
    if note:
        logger.warning("%s: %s", task.name, note)
    train_data = train_data.subset(recipe.max_train_samples, recipe.seed)
    check_dataset(train_data)
    if recipe.skip_evaluation and not recipe.evaluates_during_training:
        return train_data, None
    # these two name the training split's place; the other split has its own
    source = replace(job.source, hub_split=None, hub_config=None)
    try:
        eval_data, note = resolve_split(task, recipe.eval_split, source, task.eval_splits)
    except MissingSplit:
        if recipe.eval_split or recipe.evaluates_during_training:
            raise
        logger.warning("No evaluation split of %s is there: it will not be scored.", task.name)
        return train_data, None
    if note:
        logger.warning("%s: %s", task.name, note)
    eval_data = eval_data.subset(recipe.max_eval_samples, recipe.seed)
    check_dataset(eval_data)
    return train_data, eval_data


def load_selection(job: Job, eval_data: Dataset | None) -> Dataset | None:
    """The examples to score during training: those of the task's own split for that, if any."""
    task, recipe = job.task, job.recipe
    if not recipe.evaluates_during_training or task.selection_split is None:
        return eval_data
    source = replace(job.source, hub_split=None, hub_config=None)
    try:
        selection_data, _ = resolve_split(task, task.selection_split, source, ())
    except MissingSplit as error:
        raise MissingSplit(
            f"{error} The best checkpoint is chosen on it, never on what is scored at the end; "
            "give it, or do not score during training (--eval_steps, --eval_epochs; in a YAML file "
            "eval_strategy)."
        ) from error
    selection_data = selection_data.subset(recipe.max_eval_samples, recipe.seed)
    check_dataset(selection_data)
    return selection_data


def _check_optim(optim: str) -> None:
    """Raise ValueError, with the names that there are, where transformers has no such optimiser."""
    from transformers.training_args import OptimizerNames

    names = [kind.value for kind in OptimizerNames]
    if optim not in names:
        raise ValueError(f"optim must be one of {', '.join(names)}, got {optim}.")


def describe(
    job: Job, checkpoint: Checkpoint, data: Sequence[tuple[Dataset, Dataset | None]]
) -> dict[str, Any]:
    """What run.json records, versions apart; `run_folder.by_task` reads the data of each task."""
    return {
        "task": ",".join(train_data.task.name for train_data, _ in data),
        "base_model": job.model_path,
        "base_revision": checkpoint.revision,
        "base_fingerprint": checkpoint.fingerprint,
        "seed": job.recipe.seed,
        "num_processes": int(os.environ.get("WORLD_SIZE", "1")),
        **describe_all(data),
        "settings": {**job.settings, **asdict(job.recipe)},
    }


def describe_all(data: Sequence[tuple[Dataset, Dataset | None]]) -> dict[str, Any]:
    """The `train_data` and `eval_data` of a run.json, of several tasks each by the task's name."""
    names = [train_data.task.name for train_data, _ in data]
    train_data, eval_data = (
        [None if dataset is None else describe_data(dataset.split, dataset) for dataset in datasets]
        for datasets in zip(*data, strict=True)
    )
    is_joint = len(names) > 1
    return {
        "train_data": dict(zip(names, train_data, strict=True)) if is_joint else train_data[0],
        "eval_data": dict(zip(names, eval_data, strict=True)) if is_joint else eval_data[0],
    }


def with_initial_adapter(
    recipe: Recipe, checkpoint: Checkpoint, model_type: str | None = None
) -> Recipe:
    """The recipe with rank, alpha and kind of the adapter that training goes on from, if any.

    Raises:
        ValueError: it is none, or of another base.
    """
    if recipe.lora_init_from is None:
        return recipe
    folder = adapter_folder(recipe.lora_init_from)
    config = {} if folder is None else read_json(folder / "adapter_config.json")
    if folder is None or config.get("peft_type") != "LORA":
        raise ValueError(
            f"--lora_init_from takes the folder of a LoRA adapter, and {recipe.lora_init_from} is "
            "none."
        )
    try:
        resolve(
            str(folder),
            base_model=checkpoint.base,
            revision=checkpoint.revision,
            model_type=model_type,
            options=checkpoint.options,
        )
        check_adapter_weights(folder)
    except ValueError as error:
        raise ValueError(f"--lora_init_from cannot go on from {folder}: {error}") from error
    return replace(
        recipe,
        lora_init_from=str(folder),
        lora_rank=config["r"],
        lora_alpha=config["lora_alpha"],
        lora_dropout=config.get("lora_dropout", 0.0),
        use_dora=config.get("use_dora", False),
        use_rslora=config.get("use_rslora", False),
    )


def _check_lora(recipe: Recipe, family: Family) -> None:
    """Raise ValueError where the model does not have the layers that are to be adapted."""
    from finetuning.training.lora import target_modules

    if recipe.lora_init_from is None:
        target_modules(family.empty_model, family, recipe.lora_target_modules, recipe.lora_vision)


def check_same_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Refuse to go on with other data, another base or another adapter shape.

    Raises:
        ValueError: names what differs.
    """
    before = run_folder.read_run(folder)
    if not before:
        raise ValueError(f"{folder} has no run.json, so what to resume is not known; start anew.")
    keys = (
        "task",
        "base_model",
        "base_revision",
        "base_fingerprint",
        "train_data",
        "num_processes",
    )
    for key in keys:
        if before.get(key) != run[key]:
            raise ValueError(
                f"The run in {folder} had {key} {before.get(key)}, this one has {run[key]}: "
                "resume with the same, or start anew in another folder."
            )
    # a run of an earlier version lacks the settings that came later, and had their defaults
    defaults = {e.name: e.default for e in (*fields(Recipe), *fields(FamilyOptions))}
    for key, default in {**defaults, "model_type": None}.items():
        was, now = (entry["settings"].get(key, default) for entry in (before, run))
        if key not in _MAY_CHANGE and was != now:
            raise ValueError(
                f"The run in {folder} had --{key} {was}, not {now}: resume with the same, or "
                "start anew in another folder."
            )


def _train(
    job: Job, run: Mapping[str, Any], loaded: Any, parts: Sequence[Part], clip: Any
) -> list[Report]:
    from evaluation.scoring import answer_with, make_predictor
    from finetuning.training.collation import EncodedExamples, JointExamples
    from finetuning.training.progress import Progress
    from finetuning.training.trainer import make_trainer

    recipe = job.recipe
    batch_size = recipe.eval_batch_size or 2 * recipe.batch_size
    scored = [(part, part.selection_data) for part in parts if part.selection_data is not None]

    def predictor(model: Any, part: Part) -> Any:
        return make_predictor(
            model,
            part.task,
            part.prompter,
            batch_size=batch_size,
            generation=asdict(recipe),
            num_workers=recipe.num_workers,
        )

    def figures(model: Any) -> dict[str, float]:
        answers = [answer_with(predictor(model, part), part.task, data) for part, data in scored]
        return joint.figures([score(report, headline_only=True) for report in answers])

    prepare_tracker(recipe.report_to, recipe.wandb_project, job.output_dir)
    examples = [
        EncodedExamples(
            part.train_data,
            part.prompter,
            joint.answer_seed(recipe.seed, part.task, len(parts)),
            recipe.answer_sampling,
        )
        for part in parts
    ]
    trainer = make_trainer(
        loaded,
        JointExamples(examples),
        recipe,
        job.output_dir,
        scorer=figures if scored else None,
        metric=joint.METRIC if len(parts) > 1 else job.task.metric,
    )
    is_first = trainer.is_world_process_zero()
    if is_first:
        if job.overwrite:
            run_folder.clear(job.output_dir)
        run_folder.write_run(job.output_dir, run)
        loaded.family.save(str(job.output_dir))  # its checkpoints are evaluated with it too
    last = run_folder.last_checkpoint(job.output_dir) if job.resume else None
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        trainer.pop_callback(Progress).close()
    if not is_first:
        return []
    trainer.model.save_pretrained(job.output_dir)
    if clip is not None:
        clip.model.to(trainer.model.device)
    reports = [
        _score_run(predictor(trainer.model, part), part.eval_data, run, job.output_dir, clip)
        for part in parts
        if part.eval_data is not None and not recipe.skip_evaluation
    ]
    if reports:
        trainer.log({f"final_{name}": value for name, value in joint.figures(reports).items()})
    trainer.state.save_to_json(str(job.output_dir / "trainer_state.json"))
    finish_tracker(recipe.report_to)
    card = run_folder.model_card(run, [report.metrics_json() for report in reports])
    write_text(job.output_dir / "README.md", card)
    return reports


def _score_run(
    predictor: Any, dataset: Dataset, run: Mapping[str, Any], folder: Path, clip: Any
) -> Report:
    """Score what was trained; the report goes into the run's folder."""
    from evaluation.scoring import answer_with

    task = dataset.task
    output_dir = run_folder.evaluation_folder(folder, run, task.name, dataset.split)
    report = answer_with(predictor, task, dataset)
    write_predictions(report, output_dir)
    origin = of_model(
        predictor,
        base_model=run["base_model"],
        base_revision=run["base_revision"],
        adapter=folder,
        quantization=run["settings"]["quantization"],
        trained_on=trained_on(run),
    )
    report = score(with_provenance(report, run["seed"], origin))
    if clip is not None:
        report = add_clip_metrics(report, clip)
    write_report(report, output_dir)
    write_gallery(report, output_dir, run["settings"]["num_viz_samples"])
    return report

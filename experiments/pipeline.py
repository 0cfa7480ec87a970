"""The four steps of the pipeline: a VQA data set in, a deployable model and a table out.

Each step can be started again at any time. It leaves a record of what it was told once all of it is
written: with the record it is done, with another one it is refused.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files import write_text
from common.json_files import read_json
from common.progress import Bar, released
from evaluation.answer_log import has_answers
from evaluation.own_code import module_words
from experiments.pipeline_config import Settings, check_processor
from experiments.pipeline_records import (
    RECORD,
    base_file,
    base_made_with,
    data_made_with,
    deployment_made_with,
    described,
    is_done,
    raw_folder,
    results_folder,
    train_made_with,
    write_record,
)
from experiments.processes import MODULE, run_process
from experiments.yaml_settings import command_words
from finetuning.training.recipe import Recipe
from merging.algebra.staging import atomic_folder
from models.settings import FamilyOptions
from tasks.base import Source, TaskSource
from tasks.registry import get_task

Show = Callable[[str], None]
_TASK = "image_qa"
_COMPARED = ("vqa_accuracy", "sacrebleu", "rouge_l")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Readers of the words of our commands, used before the first step.

    Attributes:
        parse_recipe: (task, words of its training command) -> the recipe.
        check_evaluation: raises ValueError where a word of an evaluation is wrong.
    """

    parse_recipe: Callable[[str, Sequence[str]], Recipe]
    check_evaluation: Callable[[Sequence[str]], None]


def run_steps(settings: Settings, name: str, commands: Commands, show: Show) -> None:
    """Check everything, then take the steps of a name in `STEPS`.

    Raises:
        ValueError: something is missing or wrong; no step was started.
        RuntimeError: a step failed.
    """
    steps, _ = STEPS[name]
    check(settings, steps, commands)
    with Bar(f"pipeline {name}", len(steps), "steps") as bar:
        for step in steps:
            step(settings, show)
            bar.advance()


def check(settings: Settings, steps: "tuple[Step, ...]", commands: Commands) -> None:
    """Find what is missing or wrong before the first step.

    Raises:
        ValueError: says what, and where it can be given.
    """
    if download_dataset in steps and settings.dataset is None:
        raise ValueError("No data set is named: pass --dataset, or set DATASET.")
    if steps == (download_dataset,):
        return
    if settings.model_id is None:
        raise ValueError("No model is named: pass --model_id, or set MODEL_ID.")
    from finetuning.training.job import Job, check_model, open_family, recipe_prompter

    recipe = commands.parse_recipe(_TASK, list(command_words(settings.training)))
    commands.check_evaluation(list(command_words(settings.evaluation)))
    task = get_task(_TASK)
    job = Job(
        tasks=(TaskSource(task, Source()),),
        model_path=settings.model_id,
        family_options=FamilyOptions(model_class=settings.classes.model_class),
        recipe=recipe,
        output_dir=results_folder(settings),
        settings={},
    )
    job, checkpoint = check_model(job)
    check_processor(settings.classes.processor_class, checkpoint)
    recipe_prompter(task, open_family(job, checkpoint), job.recipe)


def download_dataset(settings: Settings, show: Show) -> None:
    """Save the data set's parts to dataset/raw."""
    from experiments.pipeline_data import RECORD as DATA_RECORD
    from experiments.pipeline_data import check_source, write_dataset

    folder = raw_folder(settings)
    assert settings.dataset is not None
    made_with = {
        "dataset": settings.dataset,
        "dataset_config": settings.dataset_config,
        "seed": settings.seed,
    }
    check_source(folder, settings.dataset)
    if is_done("download-dataset", folder / DATA_RECORD, made_with, show):
        return
    columns = settings.collator.dataset_columns
    record = write_dataset(
        folder, settings.dataset, settings.dataset_config, columns, settings.seed
    )
    if record["drawn_from_train"]:
        show(
            f"{settings.dataset} has no {' and no '.join(record['drawn_from_train'])}: a tenth of "
            f"train each, drawn with seed {settings.seed}, no image in two parts."
        )
    if record["left_out"]:
        show(f"Left out, as neither of the three: {', '.join(record['left_out'])}.")
    sizes = ", ".join(f"{name} {size}" for name, size in record["sizes"].items())
    show(f"download-dataset: {sizes} in {folder}")


def eval_base(settings: Settings, show: Show) -> None:
    """Score the model as it is."""
    file = base_file(settings)
    made_with = base_made_with(settings)
    if not is_done("eval-base", file, made_with, show):
        metrics = _evaluate("eval-base", settings, show, settings.model_id, "base", made_with)
        write_record(file, metrics | {"made_with": made_with})


def train(settings: Settings, show: Show) -> None:
    """Train the adapter and score it, then merge it into a full model."""
    folder = results_folder(settings) / "model"
    made_with = train_made_with(settings)
    if not is_done("train", folder / RECORD, made_with, show):
        words = [_TASK, *command_words({"output_dir": folder, **settings.training})]
        _run("train", show, ["train", *words, *_resume_arguments(folder, show)])
        write_record(folder / RECORD, {"made_with": made_with})
    deployment = results_folder(settings) / "deployment_model"
    made_with = deployment_made_with(settings)
    if not is_done("deployment model", deployment / RECORD, made_with, show):
        with atomic_folder(deployment) as unfinished:
            options = {"base_model": settings.model_id, "model_a": folder, "output": unfinished}
            more = {"export": "full", "onto": settings.onto}
            _run("deployment model", show, ["merge", *command_words(options | more)])
            write_record(unfinished / RECORD, {"made_with": made_with})
        show(f"train: the adapter is in {folder}, the full model in {deployment}")


def eval_finetuned(settings: Settings, show: Show) -> None:
    """Score the deployment model, and show what training and merging changed."""
    from experiments.pipeline_report import comparison

    results = results_folder(settings)
    for step, file, expected in (
        ("eval-base", base_file(settings), base_made_with(settings)),
        ("train", results / "deployment_model" / RECORD, deployment_made_with(settings)),
    ):
        if not is_done(step, file, expected, show):
            raise ValueError(f"There is no {file} yet; run `palitune pipeline {step}` first.")
    file = results / "evaluation" / "finetuned_vlm_model_evaluation.json"
    made_with = (
        described(settings.evaluation) | deployment_made_with(settings) | data_made_with(settings)
    )
    if not is_done("eval-finetuned", file, made_with, show):
        model = results / "deployment_model"
        metrics = _evaluate("eval-finetuned", settings, show, model, "finetuned", made_with)
        adapter = read_json(results / "model" / "evaluation" / "test" / "metrics.json")
        own = {key: adapter[key] for key in ("value", "metrics")}
        gap = metrics["value"] - adapter["value"]
        more = {"adapter": own, "deployment_gap": gap, "made_with": made_with}
        write_record(file, metrics | more)
    table = comparison(read_json(base_file(settings)), read_json(file), _COMPARED)
    write_text(results / "evaluation" / "comparison.md", table)
    show(table)


Step = Callable[[Settings, Show], None]
STEPS: dict[str, tuple[tuple[Step, ...], str]] = {
    "download-dataset": ((download_dataset,), "Save a data set to dataset/raw, in three parts."),
    "eval-base": ((eval_base,), "Score the untouched model on the test part."),
    "train": ((train,), "Fine-tune into results/model, merge into results/deployment_model."),
    "eval-finetuned": (
        (eval_finetuned,),
        "Score the deployment model; show it beside the base and the adapter.",
    ),
    "run": (
        (download_dataset, eval_base, train, eval_finetuned),
        "All four steps; what is done is not done again.",
    ),
}


def _resume_arguments(folder: Path, show: Show) -> list[str]:
    """Return the options that resume or replace an interrupted training."""
    from finetuning.training.output_folder import resume_arguments

    words = resume_arguments(folder)
    if "--resume" in words:
        show(f"train: going on with the interrupted training in {folder}")
    return words


def _evaluate(
    step: str,
    settings: Settings,
    show: Show,
    model: str | Path | None,
    name: str,
    made_with: Mapping[str, Any],
) -> dict[str, Any]:
    """Score a model; predictions and all figures stay in a folder of results/evaluation.

    Answers that an interrupted evaluation left are gone on with where it was of the same.
    """
    folder = results_folder(settings) / "evaluation" / name
    begun = folder / RECORD
    is_same = begun.is_file() and read_json(begun)["made_with"] == made_with
    resume = is_same and has_answers(folder)
    write_record(begun, {"made_with": made_with})
    options = {"model_path": model, "output_dir": folder, **settings.evaluation, "resume": resume}
    _run(step, show, ["eval", *command_words(options)])
    return read_json(folder / "metrics.json")


def _run(step: str, show: Show, words: list[str]) -> None:
    """Run a command of ours as a separate process, which inherits the secrets.

    Raises:
        RuntimeError: it failed; its own message was shown by then.
    """
    show(f"{step}: palitune {shlex.join(words)}")
    with released():  # the command draws its own bars
        code = run_process([*MODULE, "palitune.main", *words, *module_words()])
    if code:
        raise RuntimeError(
            f"{step} stopped with exit code {code}, for the reason that stands above; once that is "
            "mended the same command goes on from here."
        )

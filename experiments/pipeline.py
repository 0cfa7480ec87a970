"""`palitune pipeline`: a VQA data set in, a deployable model and a before/after table out.

Four steps, each started again at will. A step leaves a record of what it was told once all of it is
written: with the record it is done, with another one it is refused.
"""

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from common.files import write_text
from common.json_files import read_json
from experiments.pipeline_config import Settings, check_processor, read_settings
from experiments.processes import carry_out
from experiments.yaml_settings import command_words
from merging.algebra.staging import atomic_folder
from palitune.command import Command, Option, count_option
from tasks.base import Source, TaskSource
from tasks.registry import get_task

_TASK = "image_qa"
_RECORD = "pipeline.json"
_COMPARED = ("vqa_accuracy", "sacrebleu", "rouge_l")


def pipeline_command() -> click.Group:
    """The commands behind `palitune pipeline`."""
    group = click.Group(
        "pipeline",
        help="Take a VQA data set and a model through four steps, or `run` all of them.",
    )
    for name, (steps, text) in _COMMANDS.items():
        group.add_command(_command(name, steps, text))
    return group


def _command(name: str, steps: "tuple[Step, ...]", text: str) -> click.Command:
    def callback(**values: Any) -> None:
        settings = read_settings(values)
        check(settings, steps)
        for step in steps:
            step(settings)

    return Command(name, params=_options(), callback=callback, help=text)


def _options() -> list[click.Parameter]:
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    return [
        Option(
            ["--root"],
            type=click.Path(path_type=Path, file_okay=False),
            default=Path(),
            help="Folder of `dataset` and `results` [default: the current one].",
        ),
        Option(["--model_id"], help="Folder, Hub id or `tiny` [default: MODEL_ID]."),
        Option(["--dataset"], help="Folder or Hub id of the data set [default: DATASET]."),
        Option(["--dataset_config"], help="Which of its configurations."),
        Option(
            ["--env_file"],
            type=click.Path(path_type=Path),
            help="MODEL_ID, DATASET, HF_TOKEN, WANDB_API_KEY, … where the environment has them "
            "not [default: .env if it is there].",
        ),
        Option(
            ["--train_config_path"],
            group="Files (YAML)",
            type=file,
            help="Names of transformers.TrainingArguments.",
        ),
        Option(
            ["--peft_config_path"],
            group="Files (YAML)",
            type=file,
            help="Names of peft.LoraConfig, and quantization.",
        ),
        Option(
            ["--vlm_model_config"],
            group="Files (YAML)",
            type=file,
            help="Per model id, and for the fallback, model_class and processor_class "
            "[default: VLM_MODEL_CONFIG].",
        ),
        Option(
            ["--vlm_collator_config"],
            group="Files (YAML)",
            type=file,
            help="dataset_columns and message_format [default: VLM_COLLATOR_CONFIG].",
        ),
        Option(
            ["--onto"],
            type=click.Choice(["auto", "original", "nf4"]),
            default="auto",
            show_default=True,
            help="The weights that the adapter is merged onto; auto: those it was trained on.",
        ),
        Option(
            ["--seed"],
            type=click.IntRange(min=0),
            help="Of every random choice [default: the training file's, else 0].",
        ),
        count_option(
            "--max_samples", "General", "Train on and score so many at most, to try it out."
        ),
    ]


def check(settings: Settings, steps: "tuple[Step, ...]") -> None:
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
    from finetuning.image_qa import main as train_command
    from finetuning.training.job import Job, check_model, open_family, recipe_prompter
    from finetuning.training.recipe import Recipe
    from models.base import FamilyOptions
    from palitune.evaluate import evaluate_command

    given = train_command.make_context(_TASK, list(command_words(settings.training))).params
    evaluate_command().make_context("eval", list(command_words(settings.evaluation)))
    task = get_task(_TASK)
    job = Job(
        tasks=(TaskSource(task, Source()),),
        model_path=settings.model_id,
        family_options=FamilyOptions(model_class=settings.classes.model_class),
        recipe=Recipe(**{entry.name: given[entry.name] for entry in fields(Recipe)}),
        output_dir=_results(settings),
        settings={},
    )
    job, checkpoint = check_model(job)
    check_processor(settings.classes.processor_class, checkpoint)
    recipe_prompter(task, open_family(job, checkpoint), job.recipe)


def download_dataset(settings: Settings) -> None:
    """Save the data set's parts to dataset/raw."""
    from experiments.pipeline_data import RECORD, write_dataset

    folder = _raw(settings)
    made_with = {
        "dataset": settings.dataset,
        "dataset_config": settings.dataset_config,
        "seed": settings.seed,
    }
    if _is_done("download-dataset", folder / RECORD, made_with):
        return
    assert settings.dataset is not None
    columns = settings.collator.dataset_columns
    record = write_dataset(
        folder, settings.dataset, settings.dataset_config, columns, settings.seed
    )
    if record["drawn_from_train"]:
        click.echo(
            f"{settings.dataset} has no {' and no '.join(record['drawn_from_train'])}: a tenth of "
            f"train each, drawn with seed {settings.seed}, no picture in two parts."
        )
    if record["left_out"]:
        click.echo(f"Left out, as neither of the three: {', '.join(record['left_out'])}.")
    sizes = ", ".join(f"{name} {size}" for name, size in record["sizes"].items())
    click.echo(f"download-dataset: {sizes} in {folder}")


def eval_base(settings: Settings) -> None:
    """Score the model as it is."""
    file = _base_file(settings)
    made_with = _base_made_with(settings)
    if not _is_done("eval-base", file, made_with):
        metrics = _evaluate("eval-base", settings, settings.model_id, "base")
        _write(file, metrics | {"made_with": made_with})


def train(settings: Settings) -> None:
    """Train the adapter and score it, then merge it into a full model."""
    folder = _results(settings) / "model"
    made_with = _described(settings.training) | _data(settings)
    if not _is_done("train", folder / _RECORD, made_with):
        words = [_TASK, *command_words({"output_dir": folder, **settings.training})]
        _run("train", ["train", *words, *_resume_arguments(folder)])
        _write(folder / _RECORD, {"made_with": made_with})
    deployment = _results(settings) / "deployment_model"
    made_with = _deployment_made_with(settings)
    if not _is_done("deployment model", deployment / _RECORD, made_with):
        with atomic_folder(deployment) as unfinished:
            options = {"base_model": settings.model_id, "model_a": folder, "output": unfinished}
            more = {"export": "full", "onto": settings.onto}
            _run("deployment model", ["merge", *command_words(options | more)])
            _write(unfinished / _RECORD, {"made_with": made_with})
        click.echo(f"train: the adapter is in {folder}, the full model in {deployment}")


def eval_finetuned(settings: Settings) -> None:
    """Score the deployment model, and show what training and merging changed."""
    from experiments.pipeline_report import comparison

    results = _results(settings)
    for step, file, expected in (
        ("eval-base", _base_file(settings), _base_made_with(settings)),
        ("train", results / "deployment_model" / _RECORD, _deployment_made_with(settings)),
    ):
        if not _is_done(step, file, expected):
            raise ValueError(f"There is no {file} yet; run `palitune pipeline {step}` first.")
    file = results / "evaluation" / "finetuned_vlm_model_evaluation.json"
    made_with = _described(settings.evaluation) | _deployment_made_with(settings) | _data(settings)
    if not _is_done("eval-finetuned", file, made_with):
        model = results / "deployment_model"
        metrics = _evaluate("eval-finetuned", settings, str(model), "finetuned")
        adapter = read_json(results / "model" / "evaluation" / "test" / "metrics.json")
        own = {key: adapter[key] for key in ("value", "metrics")}
        gap = metrics["value"] - adapter["value"]
        more = {"adapter": own, "deployment_gap": gap, "made_with": made_with}
        _write(file, metrics | more)
    table = comparison(read_json(_base_file(settings)), read_json(file), _COMPARED)
    write_text(results / "evaluation" / "comparison.md", table)
    click.echo(table)


Step = Callable[[Settings], None]
_COMMANDS: dict[str, tuple[tuple[Step, ...], str]] = {
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


def _raw(settings: Settings) -> Path:
    return settings.root / "dataset" / "raw"


def _results(settings: Settings) -> Path:
    return settings.root / "results"


def _base_file(settings: Settings) -> Path:
    return _results(settings) / "evaluation" / "base_vlm_model_evaluation.json"


def _base_made_with(settings: Settings) -> dict[str, Any]:
    model = {"model_path": settings.model_id}
    return model | _described(settings.evaluation) | _data(settings)


def _deployment_made_with(settings: Settings) -> dict[str, Any]:
    """The adapter that went into the deployment model, by its weights."""
    from common.files import file_hash

    folder = _results(settings) / "model"
    if not (folder / _RECORD).is_file():
        raise ValueError(f"There is no adapter in {folder} yet; run `palitune pipeline train`.")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ValueError(
            f"{folder} was trained and has lost {weights.name}; remove it, and run `palitune "
            "pipeline train` again."
        )
    return {"adapter_sha256": file_hash(weights), "onto": settings.onto}


def _described(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a record keeps them, the folder apart, which may move."""
    return {
        name: value
        for name, value in options.items()
        if name != "data_root" and value is not None and value is not False  # zeros are settings
    }


def _data(settings: Settings) -> dict[str, str]:
    """Which data the other steps stand on.

    Raises:
        ValueError: there is none yet.
    """
    from common.files import file_hash
    from experiments.pipeline_data import RECORD

    record = _raw(settings) / RECORD
    if not record.is_file():
        raise ValueError(
            f"There is no data set in {record.parent} yet; run `palitune pipeline "
            "download-dataset`."
        )
    return {"dataset_sha256": file_hash(record)}


def _is_done(step: str, record: Path, made_with: Mapping[str, Any]) -> bool:
    """Whether a step is done; says with what.

    Raises:
        ValueError: it was done with other settings; names the first that differs.
    """
    if not record.is_file():
        return False
    before = read_json(record)["made_with"]
    for name in {**before, **made_with}:
        was, now = before.get(name), made_with.get(name)
        if was != now and not (name not in before and now == 0):  # earlier records lack zeros
            place = record if record.name.startswith(("base", "finetuned")) else record.parent
            raise ValueError(
                f"{record.parent}: {step} was done with {name} {was}, not {now}; remove {place} to "
                "do it anew, or give another --root."
            )
    settings = ", ".join(f"{name} {value}" for name, value in before.items())
    click.echo(f"{step}: done before, in {record.parent} ({settings})")
    return True


def _resume_arguments(folder: Path) -> list[str]:
    """What makes the training command take up, or replace, what an interrupted one left."""
    from finetuning.training.output_folder import resume_arguments

    words = resume_arguments(folder)
    if "--resume" in words:
        click.echo(f"train: going on with the interrupted training in {folder}")
    return words


def _evaluate(step: str, settings: Settings, model: str | None, name: str) -> dict[str, Any]:
    """Score a model; predictions and all figures stay in a folder of results/evaluation."""
    folder = _results(settings) / "evaluation" / name
    options = {"model_path": model, "output_dir": folder, **settings.evaluation}
    _run(step, ["eval", *command_words(options)])
    return read_json(folder / "metrics.json")


def _run(step: str, words: list[str]) -> None:
    """Carry out a command of ours in a process of its own, which inherits the secrets.

    Raises:
        RuntimeError: it failed; its own message was shown by then.
    """
    click.echo(f"{step}: palitune {shlex.join(words)}")
    code = carry_out([sys.executable, "-m", "palitune.main", *words])
    if code:
        raise RuntimeError(
            f"{step} stopped with exit code {code}, for the reason that stands above; once that is "
            "mended the same command goes on from here."
        )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

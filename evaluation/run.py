"""One evaluation from its options to its folder: a model's answers, or a file of answers."""

import gc
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from evaluation.extra_metrics import add_clip_metrics, add_lenient, add_text_metrics, open_clip
from evaluation.gallery import write_gallery
from evaluation.prompting import check_template, check_texts, make_prompter
from evaluation.provenance import of_file, of_model, trained_on, with_provenance
from finetuning.training import output_folder as run_folder
from finetuning.training.recipe import GENERATION, Recipe
from models.checkpoint import adapter_folder, resolve, run_folder_of
from palitune import options
from tasks.base import Dataset, Source, Task
from tasks.images import check_dataset
from tasks.registry import get_task, task_names
from tasks.report import Report, score, write_predictions, write_report
from tasks.result_files import match, read_predictions, write_results
from tasks.splits import resolve_split


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Predictions that are to be scored.

    Attributes:
        report: the predictions, not scored yet.
        dataset: the whole split, of which the report may have a part.
        origin: where they are from, for the provenance.
        output_dir: where the scores go.
    """

    report: Report
    dataset: Dataset
    origin: Mapping[str, Any]
    output_dir: Path


def evaluate(task: Task, values: Mapping[str, Any]) -> None:
    """Get the predictions, score them, write and print what came out.

    Args:
        task: the task.
        values: every option of the command.

    Raises:
        ValueError: something about the input is wrong.
    """
    if (values["model_path"] is None) == (values["predictions"] is None):
        raise ValueError(
            "Pass either --model_path, a model to be scored, or --predictions, a file of answers."
        )
    if values["submission"] and values["max_eval_samples"]:
        raise ValueError("--submission takes the whole split; leave out --max_eval_samples.")
    source = options.make_source(task, values)
    clip = open_clip(values["clip_model"], values["device"])
    answers = (_read if values["predictions"] else _predict)(task, source, values)
    report = score(with_provenance(answers.report, values["seed"], answers.origin))
    if report.scores and values["lenient"]:
        report = add_lenient(report)
    if report.scores and values["text_metrics"]:
        report = add_text_metrics(report)
    if clip:
        report = add_clip_metrics(report, clip)
    write_report(report, answers.output_dir)
    write_gallery(report, answers.output_dir, values["num_viz_samples"])
    click.echo(report.table())
    click.echo(f"Predictions and metrics are in {answers.output_dir}")
    if values["submission"] or report.split in task.hidden_splits:
        _submit(report, answers)


def resolve_model_options(values: Mapping[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task, and the options with what `--run` and `--lora_path` stand for in their place.

    Raises:
        ValueError: there is no such run, or options contradict each other.
    """
    values = dict(values)
    model, lora = values["model_path"], values.pop("lora_path")
    if name := values.pop("run"):
        if model or lora:
            raise ValueError(f"--run {name} names the model; leave out --model_path, --lora_path.")
        values["model_path"] = str(_find_run(name, values["runs_dir"]))
    elif lora:
        if model is None or values["base_model"]:
            raise ValueError("--lora_path goes with --model_path, its base, and no --base_model.")
        if adapter_folder(lora) is None:
            raise ValueError(f"--lora_path {lora} is no adapter: it has no adapter_config.json.")
        values |= {"model_path": lora, "base_model": model}
    task = values["task"]
    if task is None and (name := values["model_path"]):
        revision = None if values["base_model"] else values["revision"]
        folder = adapter_folder(name, revision) or Path(name).expanduser()
        task = run_folder.read_run(run_folder_of(folder)).get("task")
    if task is None and values["csv"]:
        task = "csv_qa"
    if task is None or "," in task:
        raise ValueError(f"--task is missing; it is one of {', '.join(task_names())}.")
    return get_task(task), values | {"task": task}


def _find_run(name: str, runs_dir: Path) -> Path:
    places = [*runs_dir.glob("*/run.json"), *runs_dir.glob("*/*/run.json")]
    found = {path.parent.name: path.parent for path in sorted(places)}
    matches = [path.parent for path in sorted(places) if path.parent.name == name]
    if not matches:
        near = get_close_matches(name, found, n=1)
        known = f"did you mean {near[0]}?" if near else f"there are {', '.join(found) or 'none'}."
        raise ValueError(f"No run '{name}' in {runs_dir} or a folder of it; {known}")
    if len(matches) > 1:
        raise ValueError(
            f"{len(matches)} runs are called {name}: {', '.join(map(str, matches))}; name one by "
            "--model_path."
        )
    return matches[0]


def _predict(task: Task, source: Source, values: Mapping[str, Any]) -> Answers:
    """Let a model answer the split; its predictions are written before they are scored."""
    from models.loading import check_device, load_family, load_model
    from models.quantization import check_available

    check_template(values["prompt_template"])
    given = {name: values[name] for name in GENERATION if values[name] is not None}
    Recipe(**given)  # checks their ranges
    checkpoint = resolve(
        values["model_path"],
        values["base_model"],
        values["revision"],
        model_type=values["model_type"],
        options=options.make_family_options(values),
    )
    run = run_folder.read_run(run_folder_of(checkpoint.adapter or Path(checkpoint.base)))
    settings = run.get("settings", {})
    quantization = values["quantization"] or settings.get("quantization", "none")
    check_available(quantization)
    whole = _load_split(task, values["split"], source)
    dataset = whole.subset(values["max_eval_samples"], values["seed"])
    check_dataset(dataset)
    name = f"csv_{Path(values['csv']).stem}" if values["csv"] else dataset.split
    output_dir = values["output_dir"] or _model_folder(
        values["model_path"], checkpoint.adapter, run, task.name, name
    )
    run_folder.check_writable(output_dir)
    check_device(values["device"])

    from evaluation.scoring import answer_with, make_predictor

    family = load_family(checkpoint)
    same_task = run_folder.prompt_settings(run, task.name)
    prompter = make_prompter(
        task,
        family,
        values["prompt_template"] or same_task.get("prompt_template"),
        values["max_length"] or same_task.get("max_length"),
        values["truncate"] or same_task.get("truncate", False),
        values["system_message"] or same_task.get("system_message"),
    )
    check_texts(dataset, prompter, with_answers=False)
    loaded = load_model(
        checkpoint,
        quantization=quantization,
        dtype=values["dtype"],
        device=values["device"],
        family=family,
    )
    predictor = make_predictor(
        loaded.model,
        task,
        prompter,
        batch_size=values["batch_size"],
        generation={"seed": values["seed"]} | same_task | given,
        num_workers=values["num_workers"],
    )
    report = answer_with(predictor, task, dataset)
    write_predictions(report, output_dir)
    origin = of_model(
        predictor,
        base_model=checkpoint.base,
        base_revision=checkpoint.revision,
        adapter=checkpoint.adapter,
        quantization=quantization,
        trained_on=trained_on(run),
    )
    return Answers(report=report, dataset=whole, origin=origin, output_dir=output_dir)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python from walking millions of new objects again and again, all of which stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@_without_collector()
def _read(task: Task, source: Source, values: Mapping[str, Any]) -> Answers:
    """Read the answers of a file; the split's images need not be there."""
    _refuse_model_options()
    path: Path = values["predictions"]
    if path.is_dir():
        path = path / "predictions.jsonl"  # as eval.py left it
    predictions = read_predictions(path, task)
    with_images = values["clip_model"] is not None or values["num_viz_samples"] > 0
    source = replace(source, with_images=with_images)
    dataset = _load_split(task, values["split"], source, predictions.keys())
    output_dir = values["output_dir"] or path.parent / f"{path.stem}_scores"
    run_folder.check_writable(output_dir)
    if (output_dir / "predictions.jsonl").resolve() == path.resolve():
        raise ValueError(
            f"--output_dir {output_dir} holds the file of --predictions, which would be written "
            "anew; choose another folder."
        )
    if with_images:
        check_dataset(dataset)  # its images will be opened
    where = f"{task.name} split '{dataset.split}'"
    examples, note = match(
        list(dataset), predictions, path, where, allow_partial=values["allow_partial"]
    )
    if values["max_eval_samples"]:
        chosen = dataset.subset(values["max_eval_samples"], values["seed"])
        kept = {example.example_id for example in chosen}
        examples = [example for example in examples if example.example_id in kept]
        if not examples:
            raise ValueError(
                f"{path} has none of the {len(kept)} examples that --max_eval_samples drew; raise "
                "it, or leave it out."
            )
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
    return Answers(report=report, dataset=dataset, origin=of_file(path), output_dir=output_dir)


def _refuse_model_options() -> None:
    context = click.get_current_context()
    given = [
        str(parameter.opts[0])
        for parameter in context.command.params
        if isinstance(parameter, options.Option)
        and parameter.group in ("Model", "Generation")
        and parameter.name != "device"  # CLIP may run there
        and context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise ValueError(
            f"{' and '.join(given)} would change nothing: --predictions scores a file, no model."
        )


def _load_split(
    task: Task, split: str | None, source: Source, answered: Collection[Any] | None = None
) -> Dataset:
    splits = task.eval_splits + task.hidden_splits
    dataset, note = resolve_split(task, split, source, splits, answered)
    if note:
        click.echo(note, err=True)
    return dataset


def _model_folder(
    model_path: str, adapter: Path | None, run: Mapping[str, Any], task_name: str, name: str
) -> Path:
    """Beside the adapter where it is of this task, so that a run keeps what was measured of it.

    `name` is the split's; of a table of `--csv` its own, as a run may have another under `test`.
    """
    is_here = Path(model_path).expanduser().is_dir()  # and not the cache of the Hub
    if adapter is not None and is_here and task_name in (trained_on(run) or [task_name]):
        return run_folder.evaluation_folder(adapter, run, task_name, name)
    model = Path(model_path).name or "model"
    return Path("runs") / "evaluation" / model / task_name / name


def _submit(report: Report, answers: Answers) -> None:
    """Write the leaderboard's file, unless the answers are a part of the split."""
    task = report.task
    path = answers.output_dir / task.results_name(answers.dataset)
    ids = [example.example_id for example in report.examples]
    if len(ids) < len(answers.dataset):
        click.echo(
            f"No {path.name}: the leaderboard takes the whole split, and {len(ids)} of its "
            f"{len(answers.dataset)} examples were answered."
        )
        return
    write_results(path, task, answers.dataset, dict(zip(ids, report.predictions, strict=True)))
    click.echo(f"For the leaderboard: {path}")

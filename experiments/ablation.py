"""A grid of runs from one YAML file: models x LoRA variants x tasks, checked before the first.

Each run is one command of ours, so what a grid does can be repeated by hand, line by line.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from evaluation.own_code import module_words
from experiments.processes import MODULE
from experiments.training_options import Training, training_options
from experiments.yaml_settings import command_words, read_yaml, to_settings
from finetuning.training.recipe import Recipe
from models.checkpoint import resolve
from models.quantization import Quantization
from models.registry import family_named, load_families
from tasks.own_metric import load_metric
from tasks.registry import built_in_names, get_task, load_tasks

_IMAGE_SIZE = 224
_FILE_NAME = re.compile(r"[\w.+-]+")  # experiment, model and variant names become folders


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tables of a grid without `tasks`: images, what is asked of each, and the answer."""

    train_csv: str | None = None
    val_csv: str | None = None
    test_csv: str | None = None
    image_column: str | None = None
    instruction_column: str | None = None
    response_column: str | None = None
    encoding: str | None = None
    question: str | None = None
    num_workers: int | None = None


class TaskEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A registered task to train on in place of tables."""

    name: str
    data_root: str | None = None


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A base model."""

    name: str
    hf_model_id: str
    model_type: str | None = None
    torch_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    revision: str | None = None
    image_size: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shape of the adapter."""

    name: str
    r: int = Recipe.lora_rank
    alpha: int = Recipe.lora_alpha
    dropout: float = Recipe.lora_dropout
    target_modules: str | list[str] = Recipe.lora_target_modules
    use_dora: bool = Recipe.use_dora
    use_rslora: bool = Recipe.use_rslora
    quantization: Quantization = Recipe.quantization


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The switch for scoring finished adapters, and by what tables are scored."""

    enabled: bool = True
    metric: str | None = None


class Ablation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    experiment_name: str
    models: list[ModelEntry]
    lora_variants: list[Variant]
    output_dir: str = "results"
    task_module: str | list[str] = []
    family_module: str | list[str] = []
    data: Data = Data()
    tasks: list[TaskEntry] = []
    training: Training = Training()
    evaluation: Evaluation = Evaluation()

    @property
    def folder(self) -> Path:
        """Return the folder of the runs."""
        return Path(self.output_dir) / self.experiment_name


@dataclass(frozen=True, slots=True)
class Run:
    """One cell of the grid.

    Attributes:
        name: MODEL__VARIANT, with __TASK where there are several.
        model, variant, task: of which it is made.
        folder: where it goes.
        options: of the command that trains and scores it.
    """

    name: str
    model: str
    variant: str
    task: str
    folder: Path
    options: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """Return the command that starts this run."""
        if self.task in built_in_names():
            return [*MODULE, f"finetuning.{self.task}", *self.options]
        return [*MODULE, "palitune.main", "train", self.task, *self.options]


def read_ablation(path: Path) -> Ablation:
    """Read and check a grid.

    Raises:
        ValueError: not YAML, a key that is unknown (names the nearest known one), a value of
            another kind, or names that cannot be folders or are there twice.
    """
    ablation = to_settings(read_yaml(path), Ablation, path, "a grid")
    _load_modules(ablation, path)
    for kind, names in {
        "experiment_name": [ablation.experiment_name],
        "models": [model.name for model in ablation.models],
        "lora_variants": [variant.name for variant in ablation.lora_variants],
        "tasks": [task.name for task in ablation.tasks],
    }.items():
        wrong = [name for name in names if not _FILE_NAME.fullmatch(name) or "__" in name]
        if wrong:
            raise ValueError(
                f"{path}: {kind} has the name '{wrong[0]}', and names become folders; letters, "
                "digits, '.', '+', '-' and single '_' are accepted."
            )
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{path}: {kind} has the name '{twice[0]}' twice; name each once.")
    for kind, entries in (("models", ablation.models), ("lora_variants", ablation.lora_variants)):
        if not entries:
            raise ValueError(f"{path}: {kind} is empty; a grid needs one or more.")
    if not ablation.tasks and ablation.data.train_csv is None:
        raise ValueError(f"{path}: data.train_csv is missing; give it, or tasks in its place.")
    try:
        readers = [get_task(task.name).reads_tables for task in ablation.tasks]
    except ValueError as error:
        raise ValueError(f"{path}: tasks: {error}") from error
    if readers and not any(readers) and any(_data_options(ablation.data).values()):
        raise ValueError(
            f"{path}: data names tables, and none of the tasks reads such; leave out data or tasks."
        )
    return ablation


def _load_modules(ablation: Ablation, path: Path) -> None:
    """Load the user's code that a grid names, and try its metric."""
    loaders = {"task_module": load_tasks, "family_module": load_families}
    for key, load in loaders.items():
        named = getattr(ablation, key)
        for module in [named] if isinstance(named, str) else named:
            load(module, f"{path}: {key}")
    if (metric := ablation.evaluation.metric) is None:
        return
    try:
        load_metric(metric)
    except ValueError as error:
        raise ValueError(f"{path}: evaluation.metric: {error}") from error
    others = [task.name for task in ablation.tasks if not get_task(task.name).reads_tables]
    if others:
        raise ValueError(
            f"{path}: evaluation.metric scores tables, and {others[0]} reads none; a grid compares "
            "runs by one metric, so leave it out or put that task into a grid of its own."
        )


def runs(ablation: Ablation) -> list[Run]:
    """Return every run of the grid, in the order of the file.

    Raises:
        ValueError: a model is not there.
    """
    tasks: list[TaskEntry | None] = [*ablation.tasks] or [None]
    model_options = [(model, _model_options(model)) for model in ablation.models]
    return [
        _run(ablation, model, options, variant, task, len(tasks) > 1)
        for task in tasks
        for model, options in model_options
        for variant in ablation.lora_variants
    ]


def _run(
    ablation: Ablation,
    model: ModelEntry,
    model_options: Mapping[str, Any],
    variant: Variant,
    task: TaskEntry | None,
    many: bool,
) -> Run:
    task_name = "csv_qa" if task is None else get_task(task.name).name
    name = f"{model.name}__{variant.name}" + (f"__{task_name}" if many else "")
    folder = ablation.folder / name
    options = {
        "output_dir": folder,
        "model_path": model.hf_model_id,
        **model_options,
        "data_root": None if task is None else task.data_root,
        **(_data_options(ablation.data) if get_task(task_name).reads_tables else {}),
        "num_workers": ablation.data.num_workers,
        **_variant_options(variant),
        **training_options(ablation.training, model.torch_dtype),
        "skip_evaluation": not ablation.evaluation.enabled,
    }
    if (metric := ablation.evaluation.metric) is not None:
        options["metric"] = load_metric(metric).text
    words = (*command_words(options), *module_words())
    return Run(name, model.name, variant.name, task_name, folder, words)


def _data_options(data: Data) -> dict[str, Any]:
    names = [field.name for field in msgspec.structs.fields(Data) if field.name != "num_workers"]
    return {name: getattr(data, name) for name in names}


def _model_options(model: ModelEntry) -> dict[str, Any]:
    names = ("revision", "model_type", "image_size", "min_pixels", "max_pixels")
    options = {name: getattr(model, name) for name in names}
    if all(options[name] is None for name in names[2:]):
        try:
            family = (
                family_named(model.model_type)
                if model.model_type
                else resolve(model.hf_model_id, revision=model.revision).family
            )
        except ValueError as error:
            raise ValueError(f"{model.name}: {error}") from error
        if "image_size" in family.image_options:
            # with different image sizes the runs of a grid would not be alike
            options["image_size"] = _IMAGE_SIZE
    return options


def _variant_options(variant: Variant) -> dict[str, Any]:
    targets = variant.target_modules
    return {
        "lora_rank": variant.r,
        "lora_alpha": variant.alpha,
        "lora_dropout": variant.dropout,
        "lora_target_modules": targets if isinstance(targets, str) else ",".join(targets),
        "use_dora": variant.use_dora,
        "use_rslora": variant.use_rslora,
        "quantization": variant.quantization,
    }

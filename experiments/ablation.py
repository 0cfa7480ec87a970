"""The YAML file of a grid: models, LoRA variants, tasks, swept settings and seeds, all checked."""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal

import msgspec

from experiments.sweep import Axis, check_seeds, given_settings, read_axes
from experiments.training_options import Training
from experiments.yaml_settings import read_yaml, to_settings
from finetuning.training.recipe import Recipe
from models.quantization import Quantization
from models.registry import load_families
from tasks.own_metric import load_metric
from tasks.registry import get_task, load_tasks

BASE = "base"  # in the name of a base model's own score, in the place of a variant
_MOST_RUNS = 1000
# Experiment, model and variant names become folders, the latter with __ between them.
_FILE_NAME = re.compile(r"[^\W_](?:[\w.+-]*[\w.+-](?<!_))?")


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

    @property
    def tables(self) -> dict[str, Any]:
        """Return the options that name the tables and how they are read."""
        names = [field.name for field in msgspec.structs.fields(Data)]
        return {name: getattr(self, name) for name in names if name != "num_workers"}


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
    lora_variants: list[Variant] = msgspec.field(default_factory=lambda: [Variant("lora")])
    output_dir: str = "results"
    task_module: str | list[str] = []
    family_module: str | list[str] = []
    data: Data = Data()
    tasks: list[TaskEntry] = []
    training: Training = Training()
    sweep: dict[Any, Any] = {}  # training setting -> its values, one axis of the grid each
    seeds: list[int] = []
    base: bool = False
    evaluation: Evaluation = Evaluation()

    @property
    def folder(self) -> Path:
        """Return the folder of the runs."""
        return Path(self.output_dir) / self.experiment_name

    @property
    def axes(self) -> list[Axis]:
        """Return the settings that are swept, each with its values."""
        return read_axes(self.sweep)


def read_ablation(path: Path) -> Ablation:
    """Read and check a grid.

    Raises:
        ValueError: not YAML, a key that is unknown (names the nearest known one), a value of
            another kind, names that cannot be folders or are there twice, or too many runs.
    """
    content = read_yaml(path)
    ablation = to_settings(content, Ablation, path, "a grid")
    _load_modules(ablation, path)
    try:
        _check_names(ablation)
        _check_data(ablation)
        _check_axes(ablation, content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return ablation


def _check_names(ablation: Ablation) -> None:
    """Raise ValueError where names cannot be folders, are there twice or are missing."""
    for kind, names in {
        "experiment_name": [ablation.experiment_name],
        "models": [model.name for model in ablation.models],
        "lora_variants": [variant.name for variant in ablation.lora_variants],
        "tasks": [task.name for task in ablation.tasks],
    }.items():
        wrong = [name for name in names if not _FILE_NAME.fullmatch(name) or "__" in name]
        if wrong:
            raise ValueError(
                f"{kind} has the name '{wrong[0]}', and names become folders; letters, digits, "
                "'.', '+', '-' and single '_' are accepted, a letter or digit first, no '_' last."
            )
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{kind} has the name '{twice[0]}' twice; name each once.")
    for kind, entries in (("models", ablation.models), ("lora_variants", ablation.lora_variants)):
        if not entries:
            raise ValueError(f"{kind} is empty; a grid needs one or more.")


def _check_data(ablation: Ablation) -> None:
    """Raise ValueError where neither tables nor tasks are named, or tables that nobody reads."""
    if not ablation.tasks and ablation.data.train_csv is None:
        raise ValueError("data.train_csv is missing; give it, or tasks in its place.")
    try:
        readers = [get_task(task.name).reads_tables for task in ablation.tasks]
    except ValueError as error:
        raise ValueError(f"tasks: {error}") from error
    if readers and not any(readers) and any(ablation.data.tables.values()):
        raise ValueError(
            "data names tables, and none of the tasks reads such; leave out data or tasks."
        )


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


def _check_axes(ablation: Ablation, content: Mapping[str, Any]) -> None:
    """Raise ValueError where an axis is wrong, or the grid has more runs than is accepted."""
    given = given_settings(content)
    axes = read_axes(ablation.sweep, given)
    check_seeds(ablation.seeds)
    if "seeds" in content and not ablation.seeds:
        raise ValueError("seeds is empty; list them, or leave it out.")
    if ablation.seeds and "seed" in given:
        raise ValueError(f"seeds and {given['seed']} are the same setting; leave one of them out.")
    if ablation.base and not ablation.evaluation.enabled:
        raise ValueError("base: true scores the base, and evaluation.enabled is false; change one.")
    if ablation.base and BASE in [variant.name for variant in ablation.lora_variants]:
        raise ValueError(
            f"lora_variants has the name '{BASE}', which is that of the base model's own score; "
            "choose another, or leave out base: true."
        )
    sizes = {
        "models": len(ablation.models),
        "variants": len(ablation.lora_variants),
        "tasks": len(ablation.tasks) or 1,
        **{axis.name: len(axis.values) for axis in axes},
        "seeds": len(ablation.seeds) or 1,
    }
    if (number := prod(sizes.values())) > _MOST_RUNS:
        product = " x ".join(f"{size} {name}" for name, size in sizes.items() if size > 1)
        raise ValueError(
            f"the grid has {number} runs ({product}), and at most {_MOST_RUNS} are accepted; take "
            "fewer values, or several grids."
        )

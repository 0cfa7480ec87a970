"""The runs of a grid: models x LoRA variants x tasks x swept settings x seeds, and their commands.

Each run is one command of ours, so what a grid does can be repeated by hand, line by line.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from evaluation.own_code import module_words
from experiments.ablation import Ablation, ModelEntry, TaskEntry, Variant
from experiments.processes import MODULE
from experiments.sweep import OF_MODELS, combinations, label
from experiments.training_options import own_value, training_options
from experiments.yaml_settings import command_words
from models.checkpoint import resolve
from models.registry import family_named
from tasks.own_metric import load_metric
from tasks.registry import built_in_names, get_task

_IMAGE_SIZE = 224
_LONGEST_NAME = 230  # of 255 bytes, as a seed and the suffix of a log come behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the grid.

    Attributes:
        cell: MODEL__VARIANT, with __TASK where there are several, and __NAME=VALUE of each axis.
        seed: of a grid with seeds, whose runs of one cell differ in it alone.
        model, variant, task: of which it is made; the variant of a base model alone is `base`.
        settings: the values that it has of the axes.
        folder: where it goes.
        values: of the options of its command.
        is_base: whether it scores the base model alone, without a training.
    """

    cell: str
    seed: int | None = None
    model: str
    variant: str
    task: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: Path
    values: Mapping[str, Any]
    is_base: bool = False

    @property
    def name(self) -> str:
        """Return the name of the run and of its folder."""
        return run_name(self.cell, self.seed)

    @property
    def names(self) -> set[str]:
        """Return every name that stands for this run, alone or with others."""
        return {self.name, self.cell, self.task, *self.name.split("__")}

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options of the command that trains and scores it."""
        return (*command_words(self.values), *module_words())

    @property
    def command(self) -> list[str]:
        """Return the command that starts this run."""
        if self.is_base:
            return [*MODULE, "palitune.main", "eval", *self.options]
        if self.task in built_in_names():
            return [*MODULE, f"finetuning.{self.task}", *self.options]
        return [*MODULE, "palitune.main", "train", self.task, *self.options]


def run_name(cell: str, seed: int | None) -> str:
    """Return the name of a cell's run."""
    return cell if seed is None else f"{cell}__{label('seed', seed)}"


def runs(ablation: Ablation) -> list[Run]:
    """Return every training of the grid, in the order of the file.

    Raises:
        ValueError: a model is not there, or a name is too long for a folder.
    """
    tasks: list[TaskEntry | None] = [*ablation.tasks] or [None]
    seeds: list[int | None] = [*ablation.seeds] or [None]
    axes = ablation.axes
    swept = {axis.name for axis in axes}
    model_options = [(model, _model_options(model, swept)) for model in ablation.models]
    cells = product(tasks, model_options, ablation.lora_variants, combinations(axes))
    return [
        _run(ablation, model, options, variant, task, settings, seed)
        for task, (model, options), variant, settings in cells
        for seed in seeds
    ]


def cell_name(
    ablation: Ablation, model: str, variant: str, task: str, settings: Mapping[str, Any]
) -> str:
    """Return the name of a cell, the same wherever an axis stands in the file.

    Raises:
        ValueError: it is too long for the name of a folder.
    """
    labels = sorted(label(name, value) for name, value in settings.items())
    name = "__".join([model, variant, *([task] if len(ablation.tasks) > 1 else []), *labels])
    if (size := len(name.encode())) > _LONGEST_NAME:
        raise ValueError(
            f"the run {name} has a name of {size} bytes, and {_LONGEST_NAME} are accepted, as it "
            "becomes a folder; shorten the names of models and variants, or sweep fewer settings."
        )
    return name


def _run(
    ablation: Ablation,
    model: ModelEntry,
    model_options: Mapping[str, Any],
    variant: Variant,
    task: TaskEntry | None,
    settings: Mapping[str, Any],
    seed: int | None,
) -> Run:
    task_name = "csv_qa" if task is None else get_task(task.name).name
    cell = cell_name(ablation, model.name, variant.name, task_name, settings)
    folder = ablation.folder / run_name(cell, seed)
    values = {
        "output_dir": folder,
        "model_path": model.hf_model_id,
        **model_options,
        "data_root": None if task is None else task.data_root,
        **(ablation.data.tables if get_task(task_name).reads_tables else {}),
        "num_workers": ablation.data.num_workers,
        **_variant_options(variant, settings),
        **training_options(ablation.training, model.torch_dtype),
        "skip_evaluation": not ablation.evaluation.enabled,
        **settings,
    }
    if (metric := ablation.evaluation.metric) is not None:
        values["metric"] = load_metric(metric).text
    if seed is not None:  # every seed is scored on the same examples
        values |= {"seed": seed, "eval_seed": 0}
    return Run(
        cell=cell,
        seed=seed,
        model=model.name,
        variant=variant.name,
        task=task_name,
        settings=settings,
        folder=folder,
        values=values,
    )


def _model_options(model: ModelEntry, swept: AbstractSet[str]) -> dict[str, Any]:
    names = ("revision", "model_type", *OF_MODELS)
    options = {name: getattr(model, name) for name in names}
    if not swept & set(OF_MODELS) and all(options[name] is None for name in OF_MODELS):
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


def _variant_options(variant: Variant, settings: Mapping[str, Any]) -> dict[str, Any]:
    if "lora_init_from" in settings:  # that adapter decides the others
        return {"quantization": variant.quantization}
    return {
        "lora_rank": variant.r,
        "lora_alpha": variant.alpha,
        "lora_dropout": variant.dropout,
        "lora_target_modules": own_value("lora_target_modules", variant.target_modules),
        "use_dora": variant.use_dora,
        "use_rslora": variant.use_rslora,
        "quantization": variant.quantization,
    }

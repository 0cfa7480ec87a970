"""The base models of a grid: each scored once on the examples of its runs, asked as they are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.ablation import BASE, Ablation
from experiments.grid_runs import Run, cell_name
from experiments.sweep import OF_MODELS
from finetuning.training.recipe import Recipe
from models.settings import GENERATION
from tasks.registry import get_task

RecipeParser = Callable[[str, Sequence[str]], Recipe]  # (task, words of its training command)
# options that a training and an evaluation call alike and that do not come from the recipe
_OF_BOTH = (
    *("model_path", "revision", "model_type", *OF_MODELS, "data_root"),
    *("image_column", "instruction_column", "response_column", "encoding", "question"),
    "metric",
)
_OF_RECIPE = (
    *("quantization", "dtype", "max_length", "truncate", "prompt_template", "system_message"),
    *("on_bad_image", "max_eval_samples", *GENERATION),
)
_OF_SPEED = ("num_workers", "batch_size")  # do not make another score


def base_runs(ablation: Ablation, grid: Sequence[Run], parse_recipe: RecipeParser) -> list[Run]:
    """Return the scorings of base models that a grid asks for.

    There is one for each model, task and way of asking: where runs differ in what decides the
    answers of a base, such as the precision or the prompt, each of these has a base of its own.

    Args:
        ablation: the grid.
        grid: its trainings.
        parse_recipe: reads the words of a training command.

    Raises:
        ValueError: a value of a training is wrong; names the run.
    """
    if not ablation.base:
        return []
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in grid:
        try:
            recipe = parse_recipe(run.task, run.options)
        except ValueError as error:
            raise ValueError(f"{run.name}: {error}") from error
        values = _evaluation(run, recipe)
        others = found.setdefault((run.model, run.task), [])
        if _identity(values) not in map(_identity, others):
            others.append(values)
    return [
        _base_run(ablation, model, task, values, of_model)
        for (model, task), of_model in found.items()
        for values in of_model
    ]


def _evaluation(run: Run, recipe: Recipe) -> dict[str, Any]:
    """The options that score the base of a run as the run itself is scored at its end."""
    split, table = _split(run, recipe)
    return {
        "task": run.task,
        **{name: run.values.get(name) for name in _OF_BOTH},
        "csv": table,
        "split": split,
        **{name: getattr(recipe, name) for name in _OF_RECIPE},
        "seed": recipe.scoring_seed,
        "num_workers": recipe.num_workers,
        "batch_size": recipe.eval_batch_size,
    }


def _split(run: Run, recipe: Recipe) -> tuple[str | None, str | None]:
    """The split that a run is scored on, where that is known, and the table that holds it."""
    task = get_task(run.task)
    tables = {split: run.values.get(f"{split}_csv") for split in task.eval_splits}
    split = recipe.eval_split or next((name for name in tables if tables[name]), None)
    return split, None if split is None else tables.get(split)


def _identity(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in values if name not in _OF_SPEED}


def _base_run(
    ablation: Ablation,
    model: str,
    task: str,
    values: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
) -> Run:
    """A scoring of a base, named by what tells it from the others of its model and task."""
    settings = {
        name: value
        for name, value in _identity(values).items()
        if any(other[name] != value for other in others)
    }
    cell = cell_name(ablation, model, BASE, task, settings)
    folder = ablation.folder / cell
    return Run(
        cell=cell,
        model=model,
        variant=BASE,
        task=task,
        settings=settings,
        folder=folder,
        values={"output_dir": folder, **values},
        is_base=True,
    )

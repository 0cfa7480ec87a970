"""A grid of runs: check each, run each in a process, then one comparison."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.files import check_writable
from common.progress import Bar
from evaluation.index_page import INDEX
from evaluation.own_code import KEY, used_code
from experiments.ablation import Ablation
from experiments.ablation_index import check_grid_index
from experiments.ablation_summary import SUMMARY, errors_before, summary_table, write_summary
from experiments.cell import METRICS, adapter_hash, is_interrupted, log_of, recorded, run_one
from experiments.grid_runs import Run
from experiments.ray_runs import RaySettings, run_on_ray
from models.fingerprint import same_weights

if TYPE_CHECKING:
    from finetuning.training.job import Job
    from finetuning.training.recipe import Recipe

_MOST_NAMES = 20
# what may be otherwise in a finished run: speed, memory, how often something is written
_OF_SPEED = {
    *("num_workers", "eval_batch_size", "gradient_checkpointing"),
    *("logging_steps", "save_steps", "save_total_limit", "images_budget"),
}
_WEIGHTS = {"base_fingerprint": "base weights", "adapter_sha256": "adapter weights"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRequest:
    """The choice of a grid's runs, and where they run.

    Attributes:
        only: names of models, variants, values or runs; all where empty.
        resume: resume interrupted runs.
        dry_run: list the runs, and run none.
        ray: where on a Ray cluster; None runs the cells here, one after the other.
    """

    only: Sequence[str] = ()
    resume: bool = False
    dry_run: bool = False
    ray: RaySettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """The readers of the commands' words, which the command line has.

    Attributes:
        parse_job: (task, words of its training command) -> the training.
        check_evaluation: raises ValueError where a word of an evaluation is wrong.
    """

    parse_job: Callable[[str, Sequence[str]], "Job"]
    check_evaluation: Callable[[Sequence[str]], None]


def run_grid(
    ablation: Ablation,
    grid: Sequence[Run],
    request: GridRequest,
    commands: Commands,
    show: Callable[[str], None],
) -> bool:
    """Run what is not finished and write the summary.

    Args:
        ablation: the grid.
        grid: its runs.
        request: how to run them.
        commands: read the words of the runs' commands.
        show: takes each line for the user as soon as it is known.

    Returns:
        False where a run failed.

    Raises:
        ValueError: something about the grid is wrong; no run was started.
    """
    chosen = _chosen(grid, request.only)
    names = {run.name for run in chosen}
    # what is finished stands in the summary, whether it is chosen or not
    shown = [run for run in grid if run.name in names or (run.folder / METRICS).is_file()]
    check_writable(ablation.folder)
    check_grid_index(ablation)
    states = _states(shown, _check(grid, shown, commands))
    if request.dry_run:
        for run in chosen:
            show(f"{run.name}  {states[run.name]}")
            show(f"  {shlex.join(run.command)}")
        return True
    interrupted = [run.name for run in chosen if states[run.name] == "interrupted"]
    if interrupted and not request.resume:
        raise ValueError(
            f"{', '.join(interrupted)} in {ablation.folder} was interrupted: --resume goes on "
            "from the last checkpoint; to begin anew, remove the folder."
        )
    for run in chosen:
        if states[run.name] == "finished":
            show(f"{run.name}: finished before")
    if others := _others(ablation.folder, grid):
        show(f"Not of this grid, and left as they are: {_list(others)}")
    waiting = [run for run in chosen if states[run.name] != "finished"]
    errors = errors_before(ablation.folder / SUMMARY)
    has_failed = False
    with Bar(f"ablation {ablation.folder.name}", len(waiting), "runs") as bar:
        for run, error in _run_all(waiting, request.ray, show):
            show(f"{run.name}: {error or 'finished'}")
            errors[run.name] = error
            has_failed = has_failed or error is not None
            write_summary(ablation, grid, errors)
            bar.advance()
    show(summary_table(write_summary(ablation, grid, errors)))
    show(f"Summary, table and chart are in {ablation.folder}")
    show(f"All runs on one page: {ablation.folder / INDEX}")
    return not has_failed


def _chosen(grid: Sequence[Run], only: Sequence[str]) -> list[Run]:
    names = {name for run in grid for name in run.names}
    for name in only:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            known = _list([run.name for run in grid])
            raise ValueError(
                f"--only {name} is no run, model, variant, task or value of the grid"
                f"{f'; did you mean {near[0]}?' if near else f', which has {known}.'}"
            )
    return [run for run in grid if not only or run.names & set(only)]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


def _others(folder: Path, grid: Sequence[Run]) -> list[str]:
    """The finished runs in a grid's folder that the file, which has changed, no longer has."""
    names = {run.name for run in grid}
    found = [file.parent.name for file in sorted(folder.glob(f"*/{METRICS}"))]
    return [name for name in found if name not in names]


def _check(
    grid: Sequence[Run], shown: Sequence[Run], commands: Commands
) -> dict[str, dict[str, Any]]:
    """Find wrong values, tables, models and layers before the first run starts.

    Returns:
        Run -> its data, its base and the user's code that it uses, as run.json describes them.

    Raises:
        ValueError: names the run and what is wrong with it.
    """
    from finetuning.training.job import check_model, load_data, load_selection, open_family
    from finetuning.training.record import describe_all

    trainings = {(run.model, run.task): run for run in reversed(grid) if not run.is_base}
    described: dict[tuple[Any, ...], dict[str, Any]] = {}
    opened: list[tuple[Any, ...]] = []
    data = {}
    for run in shown:
        training = trainings[run.model, run.task] if run.is_base else run
        try:
            job, checkpoint = check_model(commands.parse_job(run.task, training.options))
            key = (run.task, *_of_data(job.recipe))
            if key not in described:
                datasets = load_data(job.tasks[0], job.recipe)
                load_selection(job.tasks[0], job.recipe, datasets[1])
                described[key] = describe_all([datasets])
            if (model := _of_model(job)) not in opened:
                open_family(job, checkpoint)
                opened.append(model)
            own_code = used_code([pair.task for pair in job.tasks], checkpoint.family)
        except ValueError as error:
            raise ValueError(f"{training.name}: {error}") from error
        used: dict[str, Any] = {KEY: own_code} if own_code else {}
        used["base_fingerprint"] = checkpoint.fingerprint
        data[run.name] = described[key] | used
        if run.is_base:
            commands.check_evaluation(run.options)
            data[run.name] = {"eval_data": described[key]["eval_data"]} | used
            if described[key]["eval_data"] is None:
                raise ValueError(
                    f"base: true scores {run.model} on {run.task}, and no examples to score are "
                    "there; give them, or leave out base."
                )
    return data


def _of_data(recipe: "Recipe") -> tuple[Any, ...]:
    """What decides which examples a training sees and is scored on; seeds do for a subset alone."""
    return (
        *(recipe.train_split, recipe.eval_split, recipe.max_train_samples, recipe.max_eval_samples),
        *(recipe.on_bad_image, recipe.skip_evaluation, recipe.evaluates_during_training),
        recipe.seed if recipe.max_train_samples else None,
        recipe.scoring_seed if recipe.max_eval_samples else None,
    )


def _of_model(job: "Job") -> tuple[Any, ...]:
    """What decides whether a model has the layers to adapt, and can be trained here."""
    recipe = job.recipe
    return (
        *(job.model_path, job.revision, job.model_type, job.family_options, job.device),
        *(recipe.optim, recipe.lora_target_modules, recipe.lora_vision, recipe.lora_init_from),
    )


def _states(shown: Sequence[Run], data: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Run -> its state; ValueError names every run that was finished otherwise than it is now."""
    states, faults = {}, {}
    for run in shown:
        try:
            states[run.name] = state(run, data[run.name])
        except ValueError as error:
            faults[run.name] = error
    if faults:
        first, *others = faults
        more = f" The same is true of {_list(others)}." if others else ""
        raise ValueError(f"{faults[first]}{more}") from faults[first]
    return states


def state(run: Run, data: Mapping[str, Any]) -> str:
    """Return `finished`, `interrupted` (it left something to go on from) or `new`.

    Args:
        run: the cell.
        data: what it is to be trained and scored on, as run.json describes it.

    Raises:
        ValueError: it was finished with other settings, data or weights; names what differs.
    """
    file = run.folder / METRICS
    if file.is_file():
        of_speed = _OF_SPEED | {"batch_size"} if run.is_base else _OF_SPEED
        found = recorded(run)
        options = (found["options"], run.options)
        was, now = (_settings(words, of_speed) for words in options)
        remedy = "give the grid another experiment_name, or remove that folder."
        if set(was) != set(now):
            old = ", ".join(setting for setting in was if setting not in now) or "the default"
            new = ", ".join(setting for setting in now if setting not in was) or "the default"
            raise ValueError(
                f"{run.folder} was finished with {old} and is now to have {new}; {remedy}"
            )
        current = {**data, "adapter_sha256": adapter_hash(run)}
        changed = [
            _WEIGHTS.get(name, name)
            for name in current
            if not _is_same(name, found.get(name), current[name])
        ]
        if changed:
            raise ValueError(
                f"{run.folder} was finished with other {' and '.join(changed)} than its files hold "
                f"now; {remedy}"
            )
        return "finished"
    return "interrupted" if is_interrupted(run) else "new"


def _is_same(name: str, was: Any, now: Any) -> bool:
    """Compare an entry of a record; weights that it does not know are taken for the same."""
    return same_weights(was, now) is not False if name in _WEIGHTS else bool(was == now)


def _settings(options: Sequence[str], of_speed: AbstractSet[str]) -> list[str]:
    """Return the options that influence the result."""
    settings = " ".join(options).removeprefix("--").split(" --")
    return [setting for setting in settings if setting.split(" ")[0] not in of_speed]


def _run_all(
    grid: Sequence[Run], ray: RaySettings | None, show: Callable[[str], None]
) -> Iterator[tuple[Run, str | None]]:
    """Run each cell; yield it with the sentence of its error, if any, as they end."""
    if ray is None:
        for run in grid:
            show(f"{run.name}: running; its log is {log_of(run)}")
            yield run, run_one(run)
        return
    yield from run_on_ray(grid, ray)

"""A grid of runs: check each, run each in a process, then one comparison."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.files import check_writable
from common.json_files import read_json
from common.progress import Bar
from evaluation.index_page import INDEX
from evaluation.own_code import KEY, used_code
from experiments.ablation import Run, read_ablation, runs
from experiments.ablation_index import check_grid_index
from experiments.ablation_summary import SUMMARY, errors_before, summary_table, write_summary
from experiments.cell import METRICS, log_of, run_one
from experiments.ray_runs import RaySettings, run_on_ray
from finetuning.training.checkpoints import newest
from models.run_record import read_run

if TYPE_CHECKING:
    from finetuning.training.job import Job

JobParser = Callable[[str, Sequence[str]], "Job"]  # (task, words of its training command)
# what may be otherwise in a finished run: speed, memory, how often something is written
_WITHOUT_INFLUENCE = {
    *("num_workers", "eval_batch_size", "gradient_checkpointing"),
    *("logging_steps", "save_steps", "save_total_limit", "images_budget"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRequest:
    """The grid to run.

    Attributes:
        config: its YAML file.
        only: names of models, variants or runs; all where empty.
        resume: resume interrupted runs.
        dry_run: list the runs, and run none.
        ray: where on a Ray cluster; None runs the cells here, one after the other.
    """

    config: Path
    only: Sequence[str] = ()
    resume: bool = False
    dry_run: bool = False
    ray: RaySettings | None = None


def run_grid(request: GridRequest, parse_job: JobParser, show: Callable[[str], None]) -> bool:
    """Run what is not finished and write the summary.

    Args:
        request: the grid.
        parse_job: reads the words of a training command.
        show: takes each line for the user as soon as it is known.

    Returns:
        False where a run failed.

    Raises:
        ValueError: something about the grid is wrong; no run was started.
    """
    ablation = read_ablation(request.config)
    grid = runs(ablation)
    chosen = _chosen(grid, request.only)
    check_writable(ablation.folder)
    check_grid_index(ablation)
    data = _check(chosen, parse_job)
    states = {run.name: state(run, data[run.name]) for run in chosen}
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
    names = {name for run in grid for name in (run.name, run.model, run.variant)}
    for name in only:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise ValueError(
                f"--only {name} is no run, model or variant of the grid"
                f"{f'; did you mean {near[0]}?' if near else f', which has {_list(grid)}.'}"
            )
    return [run for run in grid if not only or {run.name, run.model, run.variant} & set(only)]


def _list(grid: Sequence[Run]) -> str:
    return ", ".join(run.name for run in grid)


def _check(grid: Sequence[Run], parse_job: JobParser) -> dict[str, dict[str, Any]]:
    """Find wrong values, tables, models and layers before the first run starts.

    Returns:
        Run -> its data and the user's code that it uses, as run.json describes them.

    Raises:
        ValueError: names the run and what is wrong with it.
    """
    from finetuning.training.job import check_model, load_data, load_selection, open_family
    from finetuning.training.record import describe_all

    data: dict[str, dict[str, Any]] = {}
    used: dict[str, dict[str, Any]] = {}
    for run in grid:
        try:
            job, checkpoint = check_model(parse_job(run.task, run.options))
            if run.task not in data:
                datasets = load_data(job.tasks[0], job.recipe)
                load_selection(job.tasks[0], job.recipe, datasets[1])
                data[run.task] = describe_all([datasets])
            open_family(job, checkpoint)
            own_code = used_code([pair.task for pair in job.tasks], checkpoint.family)
            used[run.name] = data[run.task] | ({KEY: own_code} if own_code else {})
        except ValueError as error:
            raise ValueError(f"{run.name}: {error}") from error
    return used


def state(run: Run, data: Mapping[str, Any]) -> str:
    """Return `finished`, `interrupted` (a checkpoint to go on from) or `new`.

    Args:
        run: the cell.
        data: what it is to be trained and scored on, as run.json describes it.

    Raises:
        ValueError: it was finished with other settings or data; names what differs.
    """
    file = run.folder / METRICS
    if file.is_file():
        before = read_json(file)
        was, now = (_settings(options) for options in (before["options"], run.options))
        remedy = "give the grid another experiment_name, or remove that folder."
        if was != now:
            old = ", ".join(setting for setting in was if setting not in now) or "the default"
            new = ", ".join(setting for setting in now if setting not in was) or "the default"
            raise ValueError(
                f"{run.folder} was finished with {old} and is now to have {new}; {remedy}"
            )
        recorded = read_run(run.folder)
        changed = [name for name in data if recorded.get(name) != data[name]]
        if changed:
            raise ValueError(
                f"{run.folder} was finished with other {' and '.join(changed)} than its files hold "
                f"now; {remedy}"
            )
        return "finished"
    return "interrupted" if newest(run.folder) else "new"


def _settings(options: Sequence[str]) -> list[str]:
    """Return the options that influence the result."""
    settings = " ".join(options).removeprefix("--").split(" --")
    return [setting for setting in settings if setting.split(" ")[0] not in _WITHOUT_INFLUENCE]


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

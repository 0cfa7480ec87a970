"""The last lines of a command: what to type to go on with what was written."""

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint import typed_name
from palitune.sources import data_roots
from tasks.base import Task

_COLUMNS = ("image_column", "instruction_column", "response_column")

if TYPE_CHECKING:
    from finetuning.training.job import Job
    from merging.request import MergeRequest
    from tasks.report import Report


@dataclass(frozen=True, slots=True)
class Shown:
    """An evaluation that was printed.

    Attributes:
        report: its scores.
        folders: what to look at together: the base's folder, where that is known, then its own.
    """

    report: "Report"
    folders: tuple[Path, ...]


def go_on(commands: Iterable[Sequence[object]]) -> str:
    """Return the commands as text, as they can be pasted; empty where there is none."""
    program = ["palitune"]
    if shutil.which("palitune") is None:
        is_typed = Path(sys.argv[0]).name == "palitune"
        program = [sys.argv[0]] if is_typed else [sys.executable, "-P", "-m", "palitune.main"]
    lines = [f"  {shlex.join([*program, *map(str, words)])}" for words in commands]
    return "\n".join(["To go on:", *lines]) if lines else ""


def after_training(job: "Job", scored: Sequence[Shown]) -> str:
    """Return how to go on with a run.

    Args:
        job: what was trained.
        scored: its evaluations, none where it was not scored.
    """
    of_task = {evaluation.report.task.name: evaluation for evaluation in scored}
    commands = [words for one in scored[:1] for words in _together(one.folders)]
    for pair in job.tasks:
        commands += _evaluate(job, pair.task, of_task.get(pair.task.name))
    commands += [words for one in scored[:1] for words in _predict(one.report, job.output_dir)]
    commands.append(_merge(job.model_path, job.revision, job.output_dir))
    return go_on(commands)


def after_evaluation(shown: Shown) -> str:
    """Return how to go on with an evaluation, which has its provenance."""
    commands = _together(shown.folders)
    origin = shown.report.additions.get("provenance", {})
    adapter = origin.get("adapter")
    if model := adapter or origin.get("base_model"):
        revision = None if adapter else origin["base_revision"]
        commands += _predict(shown.report, model, revision)
    if adapter:
        commands.append(_merge(origin["base_model"], origin["base_revision"], Path(adapter)))
    return go_on(commands)


def after_merge(request: "MergeRequest", data_root: str | None) -> str:
    """Return how to go on with a merge.

    Args:
        request: what was merged.
        data_root: the option, as it was given.
    """
    if request.output is None:
        return ""
    tasks = [pair.task for pair in request.trial.tasks]
    roots = data_roots(data_root, tasks)
    return go_on(
        ("eval", "--task", task.name, "--model_path", request.output)
        + (() if roots[task.name] is None else ("--data_root", roots[task.name]))
        for task in tasks
    )


def _together(folders: Sequence[Path]) -> list[Sequence[object]]:
    """Look at base and adapter on one page beside the run; one alone has its own page already."""
    if len(folders) < 2:
        return []
    last = folders[-1]
    run = next((place.parent for place in last.parents if place.name == "evaluation"), last)
    return [("report", *folders, "--output", _beside(run, ".html"))]


def _beside(folder: Path, ending: str) -> Path:
    """Return a path beside a folder, whose name it has with an ending; `.` has a name too."""
    place = folder if folder.name not in ("", "..") else folder.resolve()
    return place.with_name(f"{place.name}{ending}")


def _merge(base: str, revision: str | None, adapter: Path) -> Sequence[object]:
    at = ("--revision", revision) if revision else ()
    output = _beside(adapter, "-merged")
    words = ("merge", "--base_model", typed_name(base), *at, "--model_a", adapter)
    return (*words, "--output", _free(output))


def _free(folder: Path) -> Path:
    """Return the folder, or one beside it that is not there yet."""
    number, free = 2, folder
    while free.exists():
        free, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return free


def _predict(
    report: "Report", model: str | Path, revision: str | None = None
) -> list[list[object]]:
    """Ask the first question again; only images in files, and before the text, can be named."""
    example = report.examples[0]
    names = [image.name for image in example.images]
    if not all(Path(name).is_file() for name in names) or any(example.turns[-1].places):
        return []
    words: list[object] = ["predict", *names, "--task", report.task.name]
    words += ["--together"] if len(names) > 1 else []
    words += ["--model_path", typed_name(model), *(("--revision", revision) if revision else ())]
    question = example.turns[-1].text
    return [[*words, "--question", question] if question else words]


def eval_words(
    tasks: Sequence[Task], run: Path, settings: Mapping[str, Any], task: Task, split: str | None
) -> list[object]:
    """Return the words that score a run by itself; empty where the split is not known to be there.

    Args:
        tasks: all that the run learns.
        run: its folder.
        settings: of its command.
        task: one of them.
        split: to score on; None for the first that is there.
    """
    words: list[object] = ["eval", "--model_path", run]
    if len(tasks) > 1:
        words += ["--task", task.name]
    if split is not None and split not in task.eval_splits[:1]:
        words += ["--split", split]
    if settings["trust_remote_code"]:
        words.append("--trust_remote_code")
    tables = {s: settings[f"{s}_csv"] for s in task.splits if settings.get(f"{s}_csv")}
    if tables:
        split = split or next((name for name in task.eval_splits if name in tables), None)
        if split not in tables:
            return []
        words += ["--csv", tables[split]]
        # the run has the columns in mind, and a table is no data set of the Hub
        settings = {**settings, **dict.fromkeys((*_COLUMNS, "hub_repo", "hub_revision"))}
    if settings["on_bad_image"] == "skip":
        words += ["--on_bad_image", "skip"]
    root = data_roots(settings["data_root"], tasks)[task.name]
    return [*words, *_data_words(task, {**settings, "data_root": root})]


def _evaluate(job: "Job", task: Task, scored: Shown | None) -> Iterator[Sequence[object]]:
    """Score the run on the whole split, where it was on a part or not at all, and its base."""
    tasks, most = [pair.task for pair in job.tasks], job.recipe.max_eval_samples
    split = job.settings["eval_split"] if scored is None else scored.report.split
    words = eval_words(tasks, job.output_dir, job.settings, task, split)
    if not words:
        return
    is_part = most is not None and scored is not None and scored.report.num_examples >= most
    if scored is None or is_part:
        yield words
    if scored is not None and len(scored.folders) == 1:
        seed = job.recipe.scoring_seed
        part = ("--max_eval_samples", most, *(("--seed", seed) if seed else ())) if is_part else ()
        yield (*words, "--without_adapter", *part)


def _data_words(task: Task, settings: Mapping[str, Any]) -> Iterator[object]:
    """Yield the options that say where a task's data lies, but for its tables."""
    names = ["data_root", "hub_repo", "hub_revision", *task.own_files, *_COLUMNS]
    for name in names:
        if settings.get(name):
            yield from (f"--{name}", settings[name])
    for pair in settings["hub_columns"]:
        yield from ("--hub_columns", pair)
    if settings.get("csv_lenient"):
        yield "--csv_lenient"

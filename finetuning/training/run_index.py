"""The runs of a folder as a page: their settings, scores and states, and links to their answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.index_page import Entry, plain, score_of, write_index
from evaluation.page_file import link_to
from evaluation.report_page import PAGE
from finetuning.training.run_list import ListedEvaluation, ListedRun
from finetuning.training.run_state import resume_command


def write_run_index(
    output: Path,
    root: Path,
    runs: Sequence[ListedRun],
    evaluations: Sequence[ListedEvaluation],
    faults: Sequence[str],
) -> None:
    """Write the page; an entry for each score of each run, or one for a run without.

    Args:
        output: the file.
        root: the folder whose runs they are.
        runs: as `find_runs` lists them.
        evaluations: as `find_evaluations` lists them.
        faults: sentences on what was left out.
    """
    entries = [entry for run in runs for entry in _entries(run, root, output)]
    entries += [_scored(evaluation, root, output) for evaluation in evaluations]
    notes = [f"Left out: {fault}" for fault in faults]
    write_index(output, f"Runs in {root}", entries, notes)


def _entries(run: ListedRun, root: Path, output: Path) -> Iterator[Entry]:
    found = run.state
    steps: dict[str, float | None] = {"step": found.step, "steps in all": found.num_steps}
    reason = ""
    if found.state == "stopped":
        reason = f"Go on by: {resume_command(run.folder, run.tasks)}"
    for folder, metrics in run.scores or [(run.folder, {})]:
        of = {"task": metrics.get("task", ",".join(run.tasks)), "split": metrics.get("split")}
        yield Entry(
            name=" ".join(filter(None, (_name(run.folder, root), run.place_of(folder)))),
            settings=plain({**of, "base": run.base, **run.settings}),
            state=found.state,
            reason=reason,
            figures=steps,
            report=link_to(folder / PAGE, output),
            **score_of(metrics),
        )


def _scored(evaluation: ListedEvaluation, root: Path, output: Path) -> Entry:
    split = evaluation.metrics.get("split")
    return Entry(
        name=_name(evaluation.folder, root),
        settings=plain({"task": evaluation.task, "split": split, "base": evaluation.model}),
        state="evaluation",
        report=link_to(evaluation.folder / PAGE, output),
        is_reference=True,
        **score_of(evaluation.metrics),
    )


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix() if folder != root else folder.name

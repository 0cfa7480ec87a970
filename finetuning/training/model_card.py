"""The model card of a run."""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from common.files import write_chunks, write_text
from common.markup import markdown
from evaluation.card import asked_as, header, result, score_table, usage
from evaluation.image_sheet import open_sheet
from evaluation.training_log import Curves, WatchedScoring, describe, drawable
from finetuning.training.curves_chart import CURVES
from models.base import Family
from models.run_record import by_task, trained_on
from tasks.base import Example
from tasks.registry import get_task
from tasks.report import Report
from tasks.shown_figures import shown_figures, where_longer_are

CARD, SAMPLE = "README.md", "sample.png"
_SAMPLE_SIDE = 256  # pixels at most


def write_card(
    folder: Path,
    run: Mapping[str, Any],
    reports: Sequence[Report],
    num_steps: int,
    family: Family | None,
    curves: Curves | None = None,
    watched: Sequence[WatchedScoring] = (),
    trained: Sequence[Example] = (),
) -> None:
    """Write a run's card and its sample image into the run's folder.

    Args:
        folder: of the run.
        run: its record.
        reports: its evaluations.
        num_steps: optimiser steps that it was trained for.
        family: of its base; None leaves the code out.
        curves: of its training.
        watched: the lines of its watched.jsonl.
        trained: examples of its first task that it was trained on; the code asks the question of
            the first, where no example of that task was scored.
    """
    example = _example(folder, run, reports)
    metrics = [_shown(report) for report in reports]
    longer = {
        name: report.metrics[name] for report in reports for name in report.figures_for_longer
    }
    where = where_longer_are(longer, longer)
    notes = [where, ""] if where else []
    code = None if family is None else _usage(run, family, _question(run, reports, trained))
    card = model_card(run, metrics, num_steps, code, curves, watched, example, notes)
    write_text(folder / CARD, card)


def _shown(report: Report) -> dict[str, Any]:
    """Return metrics.json with the figures that the card shows."""
    shown = shown_figures(report.metrics, report.figures_for_longer)
    return {**report.metrics_json(), "metrics": shown}


def model_card(
    run: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    num_steps: int,
    code: str | None = None,
    curves: Curves | None = None,
    watched: Sequence[WatchedScoring] = (),
    example: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return the README.md of an adapter: base, data, settings, what was measured, how it is used.

    Args:
        run: its record.
        metrics: metrics.json of each evaluation.
        num_steps: optimiser steps that it was trained for.
        code: that uses it; None where there is none.
        curves: of its training, which curves.png shows; None leaves them out.
        watched: the lines of its watched.jsonl.
        example: lines on one example of the evaluation.
        notes: lines below the scores.
    """
    settings, base = run["settings"], Path(run["base_model"])
    names = trained_on(run)
    trained = [
        f"{data['num_examples']} examples of {f'{markdown(name)} ' if len(names) > 1 else ''}"
        f"split {markdown(data['split'])}"
        for name, data in by_task(run, "train_data").items()
    ]
    shown = ("quantization", "lora_rank", "lora_alpha", "learning_rate", "seed")
    title = f"{base.name if base.is_absolute() else base} fine-tuned on {' and '.join(names)}"
    lines = [
        "---",
        _header(run, metrics, title),
        "---",
        "",
        f"# {markdown(title)}",
        "",
        f"LoRA adapter trained on {' and '.join(trained)}. All settings and versions are in "
        "`run.json`; `--config run.json` repeats the run.",
        "",
        "| Setting | Value |",
        "| --- | --- |",
        f"| steps | {num_steps} |",
        *[f"| {name} | {markdown(settings[name])} |" for name in shown],
        "",
        *(_choice(run, curves.best_step, num_steps) if curves and curves.best_step else []),
        *score_table(_scores(metrics)),
        *notes,
        *[line for entry in metrics for line in _decoding(entry)],
        *(_training(curves, watched) if curves and curves.loss else []),
        *example,
    ]
    return "\n".join([*lines, *(["## Use", "", code, ""] if code else [])])


def _choice(run: Mapping[str, Any], best_step: int, num_steps: int) -> list[str]:
    """Say which step's weights were kept, and by what."""
    scores = " and ".join(
        f"{markdown(found['metric'])} on {found['num_examples']} examples of "
        f"{markdown(name)}, split {markdown(found['split'])}"
        for name, found in run["chosen_by"].items()
    )
    return [f"The adapter is of step {best_step} of {num_steps}, the best by {scores}.", ""]


def _header(run: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], title: str) -> str:
    hub_repo = run["settings"].get("hub_repo")
    return header(
        title=title,
        base=run["base_model"],
        revision=run.get("base_revision"),
        relation="adapter",
        tags=["lora"],
        results=[
            result(**score)
            for entry in metrics
            for score in _scores([entry])
            if score["metric"] == entry["metric"] and score["value"] is not None
        ],
        datasets=[hub_repo] if hub_repo else [],
    )


def _scores(metrics: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The figures of each evaluation, the headline with its interval."""
    for entry in metrics:
        uncertainty = entry.get("uncertainty") or {}
        for name, value in entry["metrics"].items():
            yield {
                "task": entry["task"],
                "split": entry["split"],
                "metric": name,
                "value": value,
                "num_examples": entry["num_examples"],
                "interval_95": uncertainty.get("interval_95") if name == entry["metric"] else None,
            }


def _decoding(entry: Mapping[str, Any]) -> list[str]:
    """The prompt and the decoding that a score was measured with."""
    origin = entry.get("provenance") or {}
    if "prompt_template" not in origin:
        return []
    settings = ", ".join(f"{name} {value}" for name, value in origin["decoding"].items())
    message = origin.get("system_message")
    return [
        f"{markdown(entry['task'])} was asked by the prompt: {markdown(origin['prompt_template'])}",
        "",
        *([f"System message: {markdown(message)}", ""] if message else []),
        f"Decoding: {markdown(settings)}.",
        "",
    ]


def _training(curves: Curves, watched: Sequence[WatchedScoring]) -> list[str]:
    """The curves, and how the answer to one example changed."""
    words = markdown(describe(curves))
    lines = ["## Training", "", f"![{words}]({CURVES})" if drawable(curves) else words, ""]
    if len(watched) < 2:
        return lines
    first = watched[0].answers[0]
    answers = [
        f"{'at the end' if scoring.is_final else f'step {scoring.step}'} "
        f"“{markdown(answer.prediction)}”"
        for scoring in watched
        for answer in scoring.answers
        if (scoring.task, scoring.split, answer.id) == (watched[0].task, watched[0].split, first.id)
    ]
    reference = f"; the reference is “{markdown(first.references[0])}”" if first.references else ""
    asked = f"“{markdown(first.question)}” of example {markdown(first.id)}"
    return [*lines, f"Answers to {asked}: {answers[0]}, {answers[-1]}{reference}.", ""]


def _example(folder: Path, run: Mapping[str, Any], reports: Sequence[Report]) -> list[str]:
    """Write the first image that may be shown, small, and return the lines on it."""
    if not reports:
        return []
    is_own_data = run["settings"].get("hub_repo") is not None
    shown = [report for report in reports if report.task.image_terms and not is_own_data]
    if not shown:
        return ["No image of the data is shown: whether it may be passed on is not known.", ""]
    report, example = shown[0], shown[0].examples[0]
    image = open_sheet(example.images).convert("RGB")
    image.thumbnail((_SAMPLE_SIDE, _SAMPLE_SIDE))
    content = BytesIO()
    image.save(content, format="PNG")
    write_chunks(folder / SAMPLE, [content.getvalue()])
    accepted = ", ".join(dict.fromkeys(example.references))
    return [
        "## Example",
        "",
        f"![The image that is asked about]({SAMPLE})",
        "",
        f"Question: {markdown(example.turns[-1].text)}",
        "",
        f"Answer of the model: {markdown(report.predictions[0])} (accepted: {markdown(accepted)})",
        "",
        f"Image: {markdown(report.task.image_terms)}.",
        "",
    ]


def _question(
    run: Mapping[str, Any], reports: Sequence[Report], trained: Sequence[Example]
) -> str | None:
    """Return a question of the data that the first task was scored or trained on, about one image.

    None where the first examples show several.
    """
    name = trained_on(run)[0]
    scored = [report.examples for report in reports if report.task.name == name]
    for examples in (*scored, trained):
        for example in examples[:1]:
            if not example.further_images:
                return example.turns[-1].text
    return None


def _usage(run: Mapping[str, Any], family: Family, question: str | None) -> str | None:
    task = get_task(trained_on(run)[0])
    asked = {} if question is None else {"question": question}
    settings = asked_as(task, family, run["settings"])
    base, revision = run["base_model"], run.get("base_revision")
    return usage(family, base, revision, settings, is_adapter=True, **asked)

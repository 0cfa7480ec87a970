"""Metrics beside the official ones, each group an entry of metrics.json."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.report import Report

if TYPE_CHECKING:
    from models.clip import ClipScorer

_CLIP_BATCH = 32


def add_lenient(report: Report) -> Report:
    """Add common unofficial variants of the task's metric, where it has any."""
    metrics = report.task.lenient(report.predictions, report.examples)
    if not metrics:
        note = f"--lenient: {report.task.name} has no variants of its metric that are in wide use."
        return replace(report, notes=(*report.notes, note))
    return _add(report, "lenient", metrics)


def add_text_metrics(report: Report) -> Report:
    """Add the metrics of free-form text, and what the texts look like."""
    from tasks.metrics.text import text_scores

    part = report.answered
    references = [example.references for example in part.examples]
    scores = text_scores(part.predictions, references)
    report = _add(report, "text_metrics", scores.metrics, scores.reasons)
    return replace(
        report,
        additions={**report.additions, **scores.additions},
        notes=(*report.notes, *scores.notes),
    )


def open_clip(model_path: str | None, device: str) -> "ClipScorer | None":
    """Load the `models.clip.ClipScorer` of `--clip_model`; return None without one."""
    if model_path is None:
        return None
    from models.clip import load_clip

    return load_clip(model_path, device)


def add_clip_metrics(report: Report, scorer: "ClipScorer") -> Report:
    """Add CLIP-S and, where there are references, RefCLIP-S.

    Args:
        report: its examples' images are opened.
        scorer: a `models.clip.ClipScorer`.
    """
    scores = scorer(
        [example.image for example in report.examples],
        report.predictions,
        [example.references for example in report.examples],
        _CLIP_BATCH,
    )
    report = _add(report, "clip_metrics", scores.metrics, scores.reasons)
    return replace(report, additions={**report.additions, "clip_model": scorer.name})


def _add(
    report: Report,
    name: str,
    metrics: Mapping[str, float | None],
    reasons: Mapping[str, str] | None = None,
) -> Report:
    notes = (f"{name}, {figure}: {reason}." for figure, reason in (reasons or {}).items())
    return replace(
        report,
        extra_metrics={**report.extra_metrics, name: dict(metrics)},
        notes=(*report.notes, *notes),
    )

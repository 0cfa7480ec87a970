"""The scores of an evaluation on the terminal."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from evaluation.run import EvaluationResult


def show_result(result: "EvaluationResult | None") -> None:
    """Print the scores and where they are; nothing on a process that only helped to answer."""
    if result is not None:
        from evaluation.baselines import baselines_table
        from evaluation.report_page import PAGE

        folder = result.output_dir
        place = f"Predictions and metrics are in {folder}; every answer is in {folder / PAGE}"
        report = result.report
        parts = [report.table(), baselines_table(report), place, result.submission]
        click.echo("\n".join(filter(None, parts)))

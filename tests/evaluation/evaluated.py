"""Evaluations on disk whose scores are known by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.report_page import write_report_page
from tasks.base import Example, Turn
from tasks.images import ArrayImage
from tasks.registry import get_task
from tasks.report import Report, score, write_report

COLORS = ("red", "green", "blue")


def example(number: int, question: str = "", *references: str) -> Example:
    """Ask for the colour of an image of one; ten people say it, or what is given."""
    place = number % len(COLORS)
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., place] = 200
    return Example(
        example_id=number,
        image=ArrayImage(pixels, f"image {place}"),
        turns=(Turn("user", question or f"which colour has number {number}?"),),
        references=references or (COLORS[place],) * 10,
        tags={"answer_type": ("other" if number % 2 else "number",)},
    )


def save(
    folder: Path, answers: Sequence[str], examples: Sequence[Example], images_budget: float = 5.0
) -> Report:
    """Score answers by VQA accuracy and write all that an evaluation writes."""
    report = score(
        Report(
            task=get_task("vqav2"),
            split="val",
            examples=examples,
            prompts=[f"answer en {e.turns[-1].text}" for e in examples],
            raw_predictions=[f" {answer}\n" for answer in answers],
            predictions=answers,
        )
    )
    folder.mkdir(parents=True)
    write_report(report, folder)
    write_report_page(report, folder, images_budget)
    return report


def save_pair(folder: Path, num_examples: int) -> tuple[Path, Path]:
    """Write evaluations A, right on every third question, and B, right on every second."""
    examples = [example(number) for number in range(num_examples)]
    places = folder / "A", folder / "B"
    for place, step in zip(places, (3, 2), strict=True):
        right = [COLORS[number % 3] for number in range(num_examples)]
        answers = ["none" if n % step else text for n, text in enumerate(right)]
        save(place, answers, examples)
    return places

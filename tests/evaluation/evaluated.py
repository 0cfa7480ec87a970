"""Evaluations on disk whose scores are known by hand."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from common.json_files import write_json
from evaluation.report_page import write_report_page
from evaluation.training_log import STATE, WATCHED, WatchedAnswer, WatchedScoring
from tasks.base import Example, Turn
from tasks.images import ArrayImage
from tasks.registry import get_task
from tasks.report import Report, score
from tasks.report_files import write_report

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


def save_run(folder: Path, num_steps: int = 4) -> Path:
    """Write a run that was scored every second step, right on more examples each time."""
    examples = [example(number) for number in range(8)]
    history: list[dict[str, float]] = [
        {"step": step, "loss": 4.0 / step, "learning_rate": 1e-3 / step, "grad_norm": 2.0}
        for step in range(1, num_steps + 1)
    ]
    lines = []
    for step in range(2, num_steps + 1, 2):
        value = 100.0 * step / num_steps
        ends = {"eval_vqa_accuracy_lower_95": value - 10, "eval_vqa_accuracy_upper_95": value + 10}
        history.append({"step": step, "eval_vqa_accuracy": value, **ends})
        answers = [
            WatchedAnswer(
                id=e.example_id,
                question=e.turns[-1].text,
                image=e.image.name,
                references=tuple(e.references),
                prediction=COLORS[number % 3] if number < 8 * step / num_steps else "none <b>",
                score=100.0 if number < 8 * step / num_steps else 0.0,
            )
            for number, e in enumerate(examples)
        ]
        lines.append(
            WatchedScoring(
                step=step,
                task="vqav2",
                split="val",
                metric="vqa_accuracy",
                value=value,
                interval_95=None,
                is_final=False,
                answers=answers,
            )
        )
    write_json(folder / "run.json", {"task": "vqav2", "settings": {}})
    write_json(folder / STATE, {"log_history": history, "best_global_step": num_steps})
    (folder / WATCHED).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    save(folder / "evaluation" / "val", [COLORS[n % 3] for n in range(8)], examples)
    return folder


def save_pair(folder: Path, num_examples: int) -> tuple[Path, Path]:
    """Write evaluations A, right on every third question, and B, right on every second."""
    examples = [example(number) for number in range(num_examples)]
    places = folder / "A", folder / "B"
    for place, step in zip(places, (3, 2), strict=True):
        right = [COLORS[number % 3] for number in range(num_examples)]
        answers = ["none" if n % step else text for n, text in enumerate(right)]
        save(place, answers, examples)
    return places

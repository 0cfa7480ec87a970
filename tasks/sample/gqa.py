"""Sample GQA: drawn scenes with compositional questions, as the official files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from synthetic.scenes import Scene, render_scene
from tasks.sample import asking
from tasks.sample.files import write_jpeg, write_json
from tasks.sample.gqa_kinds import KINDS, Asked
from tasks.sample.gqa_records import Picture, make_record

_FOLDER = "questions1.2"
_FIRST_IMAGES = {"train": 2_310_000, "testdev": 161_313}
_FIRST_QUESTIONS = {"train": 2_930_000, "testdev": 20_100_000}


def write(root: Path) -> None:
    """Write train_balanced, testdev_balanced, testdev_all and the choices of testdev_all."""
    train, held_out = make_questions()
    (root / "images").mkdir()
    _write_images(root / "images", "train", [scene for scene, _ in train])
    _write_images(root / "images", "testdev", [scene for scene, _ in held_out])
    balanced, _ = _records("train", train, with_entailed=False)
    everything, choices = _records("testdev", held_out, with_entailed=True)
    _write_questions(root, "train_balanced", balanced)
    balanced = {key: record for key, record in everything.items() if record["isBalanced"]}
    _write_questions(root, "testdev_balanced", balanced)
    _write_questions(root, "testdev_all", everything)
    write_json(root / _FOLDER / "testdev_choices.json", choices)


def make_questions() -> tuple[asking.Asked[Scene, Asked], asking.Asked[Scene, Asked]]:
    """Make the training scenes and the held-out ones, each with its questions."""
    return asking.ask_splits("gqa", asking.draw_scene, asking.scene_key, KINDS, repeat=0.3)


def _records(
    split: str, asked: asking.Asked[Scene, Asked], with_entailed: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The questions and the choices, by question id.

    Without the entailed questions a question names only itself as entailed.
    """
    records: dict[str, Any] = {}
    choices: dict[str, Any] = {}
    for index, (scene, questions) in enumerate(asked):
        picture = Picture(_image_id(split, index), _FIRST_IMAGES[split] + index, scene)
        for q in questions:
            others = (*q.equivalent, *q.entailed) if with_entailed else ()
            family = (q.question, *others)
            first = _FIRST_QUESTIONS[split] + len(records)
            ids = [f"{first + offset:08d}" for offset in range(len(family))]
            same = ids[: len(family) - len(q.entailed)] if with_entailed else ids
            for key, question in zip(ids, family, strict=True):
                # what is only entailed says less than the question that it follows from
                entailed, equivalent = (ids, same) if key in same else ([key], [key])
                records[key] = make_record(
                    question, picture, entailed, equivalent, is_balanced=key == ids[0]
                )
                choices[key] = {"valid": question.choices, "plausible": question.choices}
    return records, choices


def _write_questions(root: Path, stem: str, records: Mapping[str, Any]) -> None:
    write_json(root / _FOLDER / f"{stem}_questions.json", records)


def _write_images(folder: Path, split: str, scenes: Sequence[Scene]) -> None:
    rng = Random(f"gqa/{split}/drawing")
    for index, scene in enumerate(scenes):
        write_jpeg(folder / f"{_image_id(split, index)}.jpg", render_scene(scene, rng))


def _image_id(split: str, index: int) -> str:
    prefix = "n" if split == "testdev" else ""  # as the official test images
    return f"{prefix}{_FIRST_IMAGES[split] + index}"

"""Sample VQA: drawn scenes with questions and ten answers each, as the files of VQAv2."""

from pathlib import Path
from random import Random
from typing import Any

from synthetic.scenes import Scene, render_scene
from tasks.sample.asking import Asked, ask_splits, draw_scene, scene_key
from tasks.sample.files import write_jpeg, write_json
from tasks.sample.vqav2_questions import KINDS, Question

_INFO = {
    "description": "PaliTune sample VQA",
    "url": "",
    "version": "2.0",
    "year": 2017,
    "contributor": "PaliTune",
    "date_created": "2017-04-26 17:07:13",
}
_LICENSE = {"url": "https://opensource.org/license/mit", "name": "MIT License"}
_FIRST_IDS = {"train2014": 9, "val2014": 400_042}
_NUM_ANSWERS = 10


def write(root: Path) -> None:
    """Write both splits."""
    train, held_out = make_questions()
    _write_split(root, "train2014", train)
    _write_split(root, "val2014", held_out)


def make_questions() -> tuple[Asked[Scene, Question], Asked[Scene, Question]]:
    """Make the training scenes and the held-out ones, each with its questions."""
    return ask_splits("vqav2", draw_scene, scene_key, KINDS, repeat=0.2)


def ten_answers(question: Question, rng: Random) -> list[dict[str, Any]]:
    """Return ten people's answers: six to nine true, the others believable."""
    num_agreeing = rng.choice((6, 7, 7, 8, 8, 9))
    answers = [question.answer] * num_agreeing
    answers += [rng.choice(question.others) for _ in range(_NUM_ANSWERS - num_agreeing)]
    rng.shuffle(answers)
    records = []
    for answer_id, answer in enumerate(answers, start=1):
        sure = ("yes", "yes", "yes", "maybe")
        unsure = ("yes", "maybe", "maybe", "no")
        confidence = rng.choice(sure if answer == question.answer else unsure)
        record = {"answer": answer, "answer_confidence": confidence, "answer_id": answer_id}
        records.append(record)
    return records


def _write_split(root: Path, split: str, asked: Asked[Scene, Question]) -> None:
    rng = Random(f"vqav2/{split}/answers")
    drawing_rng = Random(f"vqav2/{split}/drawing")
    folder = root / "Images" / "mscoco" / split
    folder.mkdir(parents=True)
    questions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (scene, about_scene) in enumerate(asked, start=_FIRST_IDS[split]):
        image = render_scene(scene, drawing_rng)
        write_jpeg(folder / f"COCO_{split}_{image_id:012d}.jpg", image)
        for number, question in enumerate(about_scene):
            key = {"image_id": image_id, "question_id": image_id * 1000 + number}
            questions.append(_question(question, **key))
            annotations.append(_annotation(question, ten_answers(question, rng), **key))
    common = {"data_type": "mscoco", "data_subtype": split}
    header = {"info": _INFO, "license": _LICENSE}
    write_json(
        root / "Questions" / f"v2_OpenEnded_mscoco_{split}_questions.json",
        {**header, "task_type": "Open-Ended", **common, "questions": questions},
    )
    write_json(
        root / "Annotations" / f"v2_mscoco_{split}_annotations.json",
        {**header, **common, "annotations": annotations},
    )


def _question(question: Question, image_id: int, question_id: int) -> dict[str, Any]:
    return {"image_id": image_id, "question": question.text, "question_id": question_id}


def _annotation(
    question: Question, answers: list[dict[str, Any]], image_id: int, question_id: int
) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question_type": question.question_type,
        "answer_type": question.answer_type,
        "multiple_choice_answer": question.answer,
        "answers": answers,
    }

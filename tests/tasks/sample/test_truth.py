"""Every answer of the embedded data is true, and what follows from it too."""

import re
from pathlib import Path
from random import Random

from synthetic.scenes import CELLS, COLORS, NUMBERS, SHAPES, Scene, random_scene
from tasks.sample import docvqa, gqa, vqav2
from tests.tasks.sample.reading import gqa_file


def truth(scene: Scene, question: str) -> str | None:
    """The answer, worked out from the words of the question; None where it makes no sense."""
    cells = re.findall("|".join(CELLS), question)
    is_there = [cell in scene for cell in cells]
    if question.startswith("how many"):
        return NUMBERS[len(scene)]
    claims = re.findall(rf"\b({'|'.join((*COLORS, *SHAPES))})\b", question)
    if question.startswith(("is there", "does the picture have")) and not claims:
        return "yes" if (any if " or " in question else all)(is_there) else "no"
    if relation := re.search("below|above|left of|right of", question):
        horizontal = {"left of": "left", "right of": "right"}.get(relation[0], cells[0].split()[1])
        vertical = {"above": "top", "below": "bottom"}.get(relation[0], cells[0].split()[0])
        cells.append(f"{vertical} {horizontal}")
        assert cells[0] != cells[1]
    if not all(cell in scene for cell in cells):
        return None
    shapes = [scene[cell] for cell in cells]
    if question.startswith("do the shapes"):
        is_same = shapes[0].color == shapes[1].color
        return "yes" if is_same == ("same" in question) else "no"
    if question.startswith(("what color", "what is the color")):
        return shapes[-1].color
    if question.startswith(("what shape", "which shape")):
        return shapes[0].kind
    if question.startswith("what is in"):
        return str(shapes[0])
    held = [claim for claim in claims if claim in (shapes[0].color, shapes[0].kind)]
    if " or " in question:
        return held[0] if held else None
    return "yes" if held else "no"


def test_every_vqa_answer_is_true() -> None:
    for asked in vqav2.make_questions():
        for scene, questions in asked:
            for question in questions:
                expected = truth(scene, question.text)
                if question.answer_type == "number":
                    expected = str(NUMBERS.index(str(expected)))
                assert question.answer == expected, question.text


def test_every_docvqa_answer_is_on_the_page_where_the_question_says() -> None:
    lines = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
    for asked in docvqa.make_questions():
        for page, questions in asked:
            for question in questions:
                (word,) = re.findall(r"\d|[A-Z]{2}|first|second|third|fourth|last", question.text)
                if word in page.fields:
                    expected = page.fields[word]
                else:
                    expected = page.rows[int(word) - 1 if word.isdigit() else lines[word]]
                assert {answer.replace(" ", "") for answer in question.answers} == {expected}


def test_every_gqa_answer_is_true(roots: dict[str, Path]) -> None:
    first_images = {"train_balanced": 2_310_000, "testdev_all": 161_313}
    for stem, asked in zip(first_images, gqa.make_questions(), strict=True):
        for question in gqa_file(roots["gqa"], stem).values():
            scene, _ = asked[int(question["imageId"].lstrip("n")) - first_images[stem]]
            assert truth(scene, question["question"]) == question["answer"], question["question"]


def test_testdev_all_is_the_balanced_questions_and_those_they_entail(
    roots: dict[str, Path],
) -> None:
    everything = gqa_file(roots["gqa"], "testdev_all")
    balanced = gqa_file(roots["gqa"], "testdev_balanced")
    assert {k: q for k, q in everything.items() if q["isBalanced"]} == balanced
    entailed = {key for question in balanced.values() for key in question["entailed"]}
    assert everything.keys() == entailed | balanced.keys()
    assert len(everything) > 3 * len(balanced)
    for question in everything.values():
        assert set(question["equivalent"]) <= set(question["entailed"]) <= everything.keys()


def test_entailed_answers_hold_wherever_the_entailing_one_does(roots: dict[str, Path]) -> None:
    rng = Random(0)
    scenes = [random_scene(rng) for _ in range(400)]
    everything = gqa_file(roots["gqa"], "testdev_all")
    num_checked = 0
    for question in list(gqa_file(roots["gqa"], "testdev_balanced").values())[::2]:
        entailed = [everything[key] for key in question["entailed"]]
        for scene in scenes:
            if truth(scene, question["question"]) == question["answer"]:
                num_checked += 1
                for other in entailed:
                    assert truth(scene, other["question"]) == other["answer"]
    assert num_checked > 1000


def test_equivalent_questions_have_one_answer_in_any_scene(roots: dict[str, Path]) -> None:
    rng = Random(1)
    scenes = [random_scene(rng) for _ in range(50)]
    everything = gqa_file(roots["gqa"], "testdev_all")
    for question in everything.values():
        for key in question["equivalent"]:
            other = everything[key]["question"]
            assert question["answer"] == everything[key]["answer"]
            assert all(truth(s, question["question"]) == truth(s, other) for s in scenes)

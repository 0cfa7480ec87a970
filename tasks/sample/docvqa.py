"""Sample documents: printed forms and texts with questions, as the files of SP-DocVQA."""

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from synthetic.pages import Page, random_form, random_text, render_page
from tasks.sample.asking import Asked, ask_splits
from tasks.sample.files import write_json, write_png

_ORDINALS = ("first", "second", "third", "fourth")
_FIRST_IDS = {"train": 337, "val": 49153}


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a page with its accepted answers and official question types."""

    text: str
    types: tuple[str, ...]
    answers: tuple[str, ...]


Kind = Callable[[Page, Random, bool], Question | None]


def write(root: Path) -> None:
    """Write both splits."""
    train, held_out = make_questions()
    _write_split(root, "train", train)
    _write_split(root, "val", held_out)


def make_questions() -> tuple[Asked[Page, Question], Asked[Page, Question]]:
    """Make the training pages and the held-out ones, each with its questions."""
    return ask_splits("docvqa", _draw_page, lambda page: page.rows, _KINDS, repeat=0.9)


def _draw_page(rng: Random, avoided: Collection[Hashable]) -> Page:
    draw = rng.choice((random_form, random_text))
    while True:
        page = draw(rng)
        # one line, or lines of one character, would make guessing easy
        if len(page.rows) > 1 and min(map(len, page.rows)) > 1 and page.rows not in avoided:
            return page


def _field(wording: str) -> Kind:
    def ask(page: Page, rng: Random, truth: bool) -> Question | None:
        if not page.fields:
            return None
        key = rng.choice(tuple(page.fields))
        answers = _accepted(page.fields[key], rng)
        return Question(wording.format(key=key), ("form",), answers)

    return ask


def _line(wording: str, *types: str, is_form: bool = False) -> Kind:
    def ask(page: Page, rng: Random, truth: bool) -> Question | None:
        if bool(page.fields) != is_form:
            return None
        index = rng.randrange(len(page.rows))
        text = wording.format(ordinal=_ORDINALS[index], number=index + 1)
        return Question(text, types, _accepted(page.rows[index], rng))

    return ask


def _last_line(page: Page, rng: Random, truth: bool) -> Question | None:
    types = ("form", "layout") if page.fields else ("free_text", "layout")
    answers = _accepted(page.rows[-1], rng)
    return Question("what is written on the last line?", types, answers)


def _accepted(answer: str, rng: Random) -> tuple[str, ...]:
    """One or two people's answer; in the official data, too, they often say the same."""
    other = answer
    if len(answer) == 4 and answer[:2].isalpha() and answer[2:].isdigit() and rng.random() < 0.5:
        other = f"{answer[:2]} {answer[2:]}"
    return (answer, other) if rng.random() < 0.3 else (answer,)


_KINDS: tuple[Kind, ...] = (
    *[_field("what is the {key}?")] * 4,
    *[_field("what is the value of {key}?")] * 4,
    *[_field("what is written next to {key}?")] * 3,
    *[_line("what is on line {number}?", "table/list", "form", is_form=True)] * 2,
    *[_line("what is written on the {ordinal} line?", "free_text", "layout")] * 3,
    *[_line("what is on line {number}?", "table/list")] * 2,
    *[_last_line] * 2,
)


def _write_split(root: Path, split: str, asked: Asked[Page, Question]) -> None:
    rng = Random(f"docvqa/{split}/drawing")
    folder = root / "spdocvqa_images"
    folder.mkdir(exist_ok=True)
    records: list[dict[str, Any]] = []
    for number, (page, questions) in enumerate(asked):
        document = number // 2  # two pages each
        document_id = f"{'pt' if split == 'train' else 'pv'}lm{document:04d}"
        name = f"{document_id}_{number % 2 + 1}.png"
        write_png(folder / name, render_page(page, rng))
        for question in questions:
            record = {
                "questionId": _FIRST_IDS[split] + len(records),
                "question": question.text,
                "question_types": list(question.types),
                "image": f"documents/{name}",
                "docId": _FIRST_IDS[split] + document,
                "ucsf_document_id": document_id,
                "ucsf_document_page_no": str(number % 2 + 1),
                "answers": list(question.answers),
                "data_split": split,
            }
            records.append(record)
    content = {
        "dataset_name": "SP-DocVQA",
        "dataset_version": "1.0",
        "dataset_split": split,
        "data": records,
    }
    write_json(root / "spdocvqa_qas" / f"{split}_v1.0_withQT.json", content)

"""Tiny data sets in each official format and layout, with real little pictures, for the tests."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

COLORS = ("red", "green", "blue", "white")
VQAV2_LAYOUTS = ("flat", "nested", "nested_images_at_root", "images")
DOCVQA_LAYOUTS = ("a", "b", "c", "old_names")
GQA_LAYOUTS = ("root", "questions1.2", "question1.2", "questions")
COCO_LAYOUTS = ("annotations_2014", "annotations_2017", "flat_2014")
_FIRST_ID = {"train": 100, "restval": 500, "val": 500, "testdev": 500, "test": 900}


def color_of(index: int) -> str:
    """The colour of the picture of this number, so that answers can be right."""
    return COLORS[index % len(COLORS)]


def write_picture(path: Path, color: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), color).save(path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


# VQAv2


def vqav2_question(image_id: int) -> dict[str, Any]:
    return {
        "question_id": image_id * 1000,
        "image_id": image_id,
        "question": "what color is the picture?",
    }


def vqav2_annotation(image_id: int) -> dict[str, Any]:
    """Seven of ten answers are right: full accuracy for the colour, 30 % for "pink"."""
    color = color_of(image_id)
    answers = ["pink", *[color] * 7, "dark", "dark"]
    return {
        "question_id": image_id * 1000,
        "image_id": image_id,
        "question_type": "what color is the",
        "answer_type": "other" if image_id % 2 else "number",
        "multiple_choice_answer": color,
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": i + 1}
            for i, answer in enumerate(answers)
        ],
    }


def write_vqav2(
    root: Path, layout: str = "flat", num_train: int = 4, num_val: int = 3, num_test: int = 2
) -> Path:
    """Train, val and test(-dev) of VQAv2; annotations in another order than the questions."""
    questions, annotations, images = {
        "flat": ("", "", ""),
        "nested": ("Questions", "Annotations", "Images/mscoco"),
        "nested_images_at_root": ("Questions", "Annotations", ""),
        "images": ("", "", "images"),
    }[layout]
    for subtype, count in (
        ("train2014", num_train),
        ("val2014", num_val),
        ("test-dev2015", min(1, num_test)),
        ("test2015", num_test),
    ):
        if not count:
            continue
        start = _FIRST_ID[subtype.rstrip("0123456789").partition("-")[0]]
        ids = range(start, start + count)
        head = {"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": subtype}
        write_json(
            root / questions / f"v2_OpenEnded_mscoco_{subtype}_questions.json",
            {**head, "task_type": "Open-Ended", "questions": [vqav2_question(i) for i in ids]},
        )
        if "test" not in subtype:
            write_json(
                root / annotations / f"v2_mscoco_{subtype}_annotations.json",
                {**head, "annotations": [vqav2_annotation(i) for i in reversed(ids)]},
            )
        folder = subtype.replace("test-dev", "test")
        for i in ids:
            write_picture(root / images / folder / f"COCO_{folder}_{i:012d}.jpg", color_of(i))
    return root


# DocVQA


def docvqa_record(index: int, split: str) -> dict[str, Any]:
    record = {
        "questionId": index,
        "question": "What color is the page?",
        "question_types": ["layout", "form"] if index % 2 else ["layout"],
        "image": f"documents/page{index}_1.png",
        "docId": index,
        "ucsf_document_id": f"page{index}",
        "ucsf_document_page_no": "1",
        "answers": [color_of(index).title(), f"{color_of(index)} paper"],
        "data_split": split,
    }
    if split == "test":
        del record["answers"], record["question_types"]
    return record


def write_docvqa(
    root: Path, layout: str = "a", num_train: int = 4, num_val: int = 3, num_test: int = 2
) -> Path:
    """Train, val and test of DocVQA: the layouts of formats_and_metrics.md, 1.3."""
    for split, count in (("train", num_train), ("val", num_val), ("test", num_test)):
        if not count:
            continue
        ids = range(_FIRST_ID[split], _FIRST_ID[split] + count)
        suffix = "" if split == "test" or layout == "old_names" else "_withQT"
        write_json(
            root / ("spdocvqa_qas" if layout == "a" else "") / f"{split}_v1.0{suffix}.json",
            {
                "dataset_name": "SP-DocVQA",
                "dataset_version": "1.0",
                "dataset_split": split,
                "data": [docvqa_record(i, split) for i in ids],
            },
        )
        folder = {"a": "spdocvqa_images", "b": f"{split}/documents"}.get(layout, "documents")
        for i in ids:
            write_picture(root / folder / f"page{i}_1.png", color_of(i))
    return root


# GQA


def gqa_question(index: int, entailed: Sequence[str] = ()) -> dict[str, Any]:
    """A balanced question about picture n<index>; even ones are yes/no questions."""
    is_open = index % 2 == 1
    color = color_of(index)
    return {
        "imageId": f"n{index}",
        "question": "What color is it?" if is_open else f"Is it {color}?",
        "answer": color if is_open else "yes",
        "fullAnswer": f"It is {color}.",
        "isBalanced": True,
        "groups": {"global": "color" if is_open else None, "local": None},
        "entailed": list(entailed),
        "equivalent": [],
        "types": {
            "structural": "query" if is_open else "verify",
            "semantic": "attr",
            "detailed": "queryAttr" if is_open else "verifyAttr",
        },
        "semantic": [
            {"operation": "select", "argument": "it (0)", "dependencies": []},
            {"operation": "query", "argument": "color", "dependencies": [0]},
        ],
        "semanticStr": "select: it (0)->query: color [0]",
        "annotations": {"question": {}, "answer": {}, "fullAnswer": {}},
    }


def _gqa_file(ids: Iterable[int]) -> dict[str, Any]:
    return {f"0{i}": gqa_question(i) for i in ids}


def write_gqa(
    root: Path,
    layout: str = "questions1.2",
    chunked: bool = True,
    num_train: int = 4,
    num_val: int = 3,
    num_test: int = 2,
    choices: bool = False,
) -> Path:
    """Every split of GQA; testdev has `num_val` questions, train_all two chunks if `chunked`."""
    folder = root / ("" if layout == "root" else layout)
    train = range(_FIRST_ID["train"], _FIRST_ID["train"] + num_train)
    val = range(_FIRST_ID["val"], _FIRST_ID["val"] + num_val)
    test = range(_FIRST_ID["test"], _FIRST_ID["test"] + num_test)
    for name, ids in (
        ("train_balanced", train),
        *((name, val) for name in ("val_balanced", "testdev_balanced", "val_all", "testdev_all")),
    ):
        if ids:
            write_json(folder / f"{name}_questions.json", _gqa_file(ids))
    for name in ("test_balanced", "challenge_all") if num_test else ():
        fields = ("imageId", "question", "isBalanced")
        hidden = {key: {f: q[f] for f in fields} for key, q in _gqa_file(test).items()}
        write_json(folder / f"{name}_questions.json", hidden)
    if chunked and num_train > 1:
        for number, ids in enumerate((train[:1], train[1:])):
            chunk = folder / "train_all_questions" / f"train_all_questions_{number}.json"
            write_json(chunk, _gqa_file(ids))
    if choices:
        scope = {"valid": [*COLORS, "yes", "no"], "plausible": [*COLORS, "yes"]}
        write_json(folder / "val_choices.json", {key: scope for key in _gqa_file(val)})
    for i in (*train, *val, *test):
        write_picture(root / "images" / f"n{i}.jpg", color_of(i))
    return root


# COCO Captions


def coco_captions(index: int) -> list[str]:
    """Five captions, with the blanks and periods that real ones carry."""
    color = color_of(index)
    return [
        f"A {color} picture. ",
        f"a plain {color} square",
        f"there is only {color} here",
        f" everything is {color}",
        f"a picture all in {color}.",
    ]


def write_coco(
    root: Path,
    layout: str = "annotations_2014",
    karpathy: bool = False,
    num_train: int = 4,
    num_val: int = 3,
    num_test: int = 2,
) -> Path:
    """Train, val and test of COCO; `karpathy` adds dataset_coco.json (val: 1 restval, rest)."""
    place, year = layout.split("_")
    folder = root / ("annotations" if place == "annotations" else "")
    karpathy_images = []
    for split, count in (("train", num_train), ("val", num_val), ("test", num_test)):
        if not count:
            continue
        subset = f"{split}{year}"
        prefix = f"COCO_{subset}_" if year == "2014" else ""
        ids = range(_FIRST_ID[split], _FIRST_ID[split] + count)
        names = {i: f"{prefix}{i:012d}.jpg" for i in ids}
        images = [{"id": i, "file_name": names[i], "height": 16, "width": 24} for i in ids]
        content: dict[str, Any] = {"info": {}, "licenses": [], "images": images}
        if split != "test":  # captions of an image do not stand together
            content["annotations"] = [
                {"image_id": i, "id": 10 * i + n, "caption": coco_captions(i)[n]}
                for n in range(5)
                for i in reversed(ids)
            ]
            karpathy_images += [_karpathy_image(i, subset, names[i]) for i in ids]
        name = "image_info" if split == "test" else "captions"
        write_json(folder / f"{name}_{subset}.json", content)
        for i in ids:
            write_picture(root / subset / names[i], color_of(i))
    if karpathy:
        write_json(root / "dataset_coco.json", {"dataset": "coco", "images": karpathy_images})
    return root


def _karpathy_image(index: int, subset: str, name: str) -> dict[str, Any]:
    """Of the val images the first is restval, the second val, the others test."""
    number = index - _FIRST_ID["val"]
    split = "train" if subset.startswith("train") else ("restval", "val", "test")[min(number, 2)]
    return {
        "filepath": subset,
        "filename": name,
        "imgid": index % 100,
        "cocoid": index,
        "split": split,
        "sentids": list(range(5)),
        "sentences": [
            {"tokens": c.split(), "raw": c, "imgid": index % 100, "sentid": n}
            for n, c in enumerate(coco_captions(index))
        ],
    }


# Hub copies


def write_hub_copy(root: Path, task: str, num_train: int = 4, num_val: int = 3) -> Path:
    """What `save_to_disk` writes of the task's Hub copy: its splits and its columns."""
    import datasets

    def tables(rows: dict[str, list[dict[str, Any]]]) -> datasets.DatasetDict:
        return datasets.DatasetDict(
            {name: _with_images(datasets.Dataset.from_list(r)) for name, r in rows.items() if r}
        )

    train = range(_FIRST_ID["train"], _FIRST_ID["train"] + num_train)
    val = range(_FIRST_ID["val"], _FIRST_ID["val"] + num_val)
    if task == "gqa":
        for split, hub_split, ids in (("train", "train", train), ("testdev", "testdev", val)):
            questions = [_gqa_hub_row(i) for i in ids]
            images = [{"id": f"n{i}", "image": _cell(i)} for i in reversed(ids)]
            for kind, rows in (("instructions", questions), ("images", images)):
                tables({hub_split: rows}).save_to_disk(root / f"{split}_balanced_{kind}")
        return root
    make = {"vqav2": _vqav2_hub_rows, "docvqa": _docvqa_hub_rows, "coco_captioning": _coco_hub_rows}
    tables(
        {
            "train": [row for i in train for row in make[task](i, "train")],
            "validation": [row for i in val for row in make[task](i, "val")],
        }
    ).save_to_disk(root)
    return root


def _with_images(table: Any) -> Any:
    import datasets

    has_images = "image" in table.column_names
    return table.cast_column("image", datasets.Image()) if has_images else table


def _cell(index: int) -> dict[str, Any]:
    from io import BytesIO

    buffer = BytesIO()
    Image.new("RGB", (24, 16), color_of(index)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{index}.png"}


def _vqav2_hub_rows(index: int, split: str) -> list[dict[str, Any]]:
    row = {**vqav2_question(index), **vqav2_annotation(index), "image": _cell(index)}
    if split == "train":  # Multimodal-Fatima/VQAv2_train
        row["id_image"], row["answers_original"] = row.pop("image_id"), row["answers"]
        row["answers"] = [answer["answer"] for answer in row["answers_original"]]
    else:  # lmms-lab/VQAv2 has this id as a string in some releases
        row["question_id"] = str(row["question_id"])
    return [row]


def _docvqa_hub_rows(index: int, split: str) -> list[dict[str, Any]]:
    record = docvqa_record(index, split)
    return [{**record, "questionId": str(index), "image": _cell(index)}]


def _gqa_hub_row(index: int) -> dict[str, Any]:
    question = gqa_question(index)
    empty: dict[str, list[Any]] = {"question": [], "answer": [], "fullAnswer": []}
    return {**question, "id": f"0{index}", "entailed": "", "equivalent": "", "annotations": empty}


def _coco_hub_rows(index: int, split: str) -> list[dict[str, Any]]:
    record = _karpathy_image(index, f"{split}2014", f"COCO_{split}2014_{index:012d}.jpg")
    sentences = record.pop("sentences")
    return [{**record, "sentences": sentence, "image": _cell(index)} for sentence in sentences]

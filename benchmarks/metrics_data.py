"""Invented annotations and predictions in the official formats, at any size: no images, no truth.

    python benchmarks/metrics_data.py TASK NUM_EXAMPLES FOLDER

Called by `metrics.py`. The folder appears when all its files are complete, `predictions.json` among
them. Formats: the pages named at the head of `tasks/vqav2.py`, `docvqa.py`, `gqa.py` and
`coco_captioning.py`. Texts come ready encoded from pools that are made first, because encoding two
million records one by one would take longer than all that is measured.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

NOUNS, ADJECTIVES, VERBS, SYLLABLES, NUMBERS = (
    words.split()
    for words in (
        "man woman boy girl dog cat horse bus truck bicycle chair table lamp bottle plate pizza "
        "sandwich banana tree flower fence bench umbrella jacket hat shirt shoe kite boat train "
        "tower bridge window door curtain mirror pillow blanket keyboard screen phone book clock "
        "vase bowl fork spoon street field beach river mountain cloud bird sheep zebra giraffe",
        "red green blue yellow white black brown gray orange pink purple wooden metal plastic "
        "large small tall short striped round old young wet dry bright",
        "holding riding wearing carrying watching facing touching pulling using eating",
        "ba con del fir gan hol ist jor kel lum mar nov pel quin ros sta tor ul ver wil",
        "zero one two three four five six seven eight nine ten",
    )
)
COLORS, MATERIALS = ADJECTIVES[:11], ADJECTIVES[11:14]
OPENINGS = {
    "yes/no": ("is the", "is this a", "are there any", "does the", "can you", "was"),
    "number": ("how many", "how many people are in", "what number is"),
    "other": ("what color is the", "what is the", "where is the", "why is the", "which"),
}
GQA_KINDS = (  # types, and what may be answered
    ("query", "attr", "color", COLORS),
    ("query", "rel", "relS", NOUNS),
    ("query", "cat", "categoryRelS", NOUNS),
    ("verify", "obj", "existRelS", ["yes", "no"]),
    ("verify", "attr", "verifyAttr", ["yes", "no"]),
    ("logical", "obj", "existAnd", ["yes", "no"]),
    ("choose", "attr", "materialChoose", MATERIALS),
    ("choose", "rel", "relChooser", ["left", "right"]),
    ("compare", "attr", "twoCommon", ["color", "material"]),
)


@contextmanager
def stream(path: Path, head: str = "[", tail: str = "]") -> Iterator[Callable[[str], None]]:
    """Give what appends an encoded record to a JSON file, so that memory holds one at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n", buffering=1 << 20) as file:
        separator = head

        def add(record: str) -> None:
            nonlocal separator
            file.write(separator + record)
            separator = ", "

        yield add
        file.write(tail)


def write_vqav2(num_examples: int, folder: Path, rng: Random, subtype: str = "val2014") -> None:
    """Write questions with ten answers each, spelled in as many ways as people do."""
    families = {"yes/no": _yes_no(), "number": _numbers(), "other": _other_answers(rng)}
    weights = {kind: [(rank + 2) ** -0.7 for rank in range(len(f))] for kind, f in families.items()}
    confidences = [rng.choices(("yes", "maybe", "no"), (8, 2, 1), k=10) for _ in range(500)]
    answer_lists = [
        ", ".join(
            f'{{"answer": %s, "answer_confidence": "{confidence}", "answer_id": {number}}}'
            for number, confidence in enumerate(row, start=1)
        )
        for row in confidences
    ]
    kinds = rng.choices(tuple(families), (38, 13, 49), k=num_examples)
    chosen = {
        kind: iter(rng.choices(families[kind], weights[kind], k=kinds.count(kind)))
        for kind in families
    }
    head = '{"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": "' + subtype + '", '
    names = (
        f"v2_OpenEnded_mscoco_{subtype}_questions.json",
        f"v2_mscoco_{subtype}_annotations.json",
    )
    with (
        stream(
            folder / names[0], head + '"task_type": "Open-Ended", "questions": [', "]}"
        ) as add_question,
        stream(folder / names[1], head + '"annotations": [', "]}") as add_annotation,
        stream(folder / "predictions.json") as add_prediction,
    ):
        for index, kind in enumerate(kinds):
            image_id = 42 + 14 * (index // 5)
            ids = f'"question_id": {image_id}{index % 5:03d}, "image_id": {image_id}'
            opening = rng.choice(OPENINGS[kind])
            add_question(
                f'{{{ids}, "question": "{opening.capitalize()} {rng.choice(ADJECTIVES)} '
                f'{rng.choice(NOUNS)} {rng.choice(VERBS)} it?"}}'
            )
            majority, *others = next(chosen[kind])
            num_agreeing = rng.choice((10, 10, 10, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1))
            answers = [majority] * num_agreeing + rng.choices(others, k=10 - num_agreeing)
            rng.shuffle(answers)
            add_annotation(
                f'{{{ids}, "question_type": "{opening}", "answer_type": "{kind}", '
                f'"multiple_choice_answer": {majority}, '
                f'"answers": [{rng.choice(answer_lists) % tuple(answers)}]}}'
            )
            answer = majority if rng.random() < 0.6 else rng.choice(others)
            add_prediction(f'{{{ids.partition(",")[0]}, "answer": {answer}}}')


# A family: the answer of most people, then what the others say; all encoded.


def _yes_no() -> list[list[str]]:
    others = ["Yes", "No", "yes.", "maybe", "not sure", "I don't know", "dont know", "yes, it is"]
    return [_encode([most, *others]) for most in ("yes", "no")]


def _numbers() -> list[list[str]]:
    families = []
    for value in range(120):
        word = NUMBERS[value] if value < len(NUMBERS) else f"about {value}"
        others = [word, word.capitalize(), f"{value}.", f"{value + 1}", f"{value}-ish", "none"]
        others += [f"{value},000", f"{value}.5", f"{value}:30", "a few", "1,234 (total)"]
        families.append(_encode([str(value), *others]))
    return families


def _other_answers(rng: Random) -> list[list[str]]:
    families = []
    for rank in range(80_000):
        noun, second = rng.sample(NOUNS, 2)
        adjective, verb = rng.choice(ADJECTIVES), rng.choice(VERBS)
        most = noun if rank < 200 else f"{adjective} {noun}"
        if rank > 2_000:
            most = f"{verb} {adjective} {noun}"
        others = [most.title(), f"a {most}", f"the {most}.", f"{noun}, {second}"]
        spellings = [f"{noun}/{second}", f"{adjective}-{noun}", f'"{noun}"', f"{noun}\n", "café"]
        spellings += [f"it's a {noun}", f"someones {noun} isnt {adjective}", f"{verb}  {second}?"]
        families.append(_encode([most, *others, *rng.sample(spellings, 4)]))
    return families


def _encode(texts: Sequence[str]) -> list[str]:
    return [json.dumps(text) for text in texts]


def write_docvqa(num_examples: int, folder: Path, rng: Random) -> None:
    """Write questions whose answers are read off a page; predictions have a reader's mistakes."""
    kinds = ("handwritten", "form", "layout", "table/list", "others", "free_text", "Yes/No")
    head = '{"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": "val", '
    with (
        stream(folder / "val_v1.0_withQT.json", head + '"data": [', "]}") as add_record,
        stream(folder / "predictions.json") as add_prediction,
    ):
        for index in range(num_examples):
            answer = _page_text(rng)
            document = f"{rng.choice(SYLLABLES)}{index // 4:04d}"
            record = {
                "questionId": 49_000 + index,
                "question": f"What is the {rng.choice(NOUNS)} {rng.choice(VERBS)} here?",
                "question_types": rng.sample(kinds, rng.randint(1, 2)),
                "image": f"documents/{document}_1.png",
                "docId": index // 4,
                "ucsf_document_id": document,
                "ucsf_document_page_no": "1",
                "answers": [answer, answer.upper(), _page_text(rng)][: rng.randint(1, 3)],
                "data_split": "val",
            }
            add_record(json.dumps(record))
            read = _misread(answer, rng) if rng.random() < 0.9 else _page_text(rng)
            add_prediction(json.dumps({"questionId": record["questionId"], "answer": read}))


def _page_text(rng: Random) -> str:
    word = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))).title() for _ in range(12)]
    texts = [f"{word[0]} {word[1]}", f"Dr. {word[0]}  {word[1]}, Straße", " ".join(word)]
    texts += [f"{rng.random():.3%}", f"${rng.randint(1, 900)},{rng.randint(100, 999)}.00"]
    texts += [f"{rng.randint(1, 28)}/{rng.randint(1, 12)}/19{rng.randint(50, 99)}"]
    return rng.choice(texts)


def _misread(text: str, rng: Random) -> str:
    letters = list(text)
    for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2, 4, len(text) // 2))):
        letters[rng.randrange(len(letters))] = rng.choice(("", "e", "1", "l", " x", "ﬁ"))
    return "".join(letters).strip()


def write_gqa(num_examples: int, folder: Path, rng: Random) -> None:
    """Write all questions of a split, about 200 an image, of which one in fifteen is balanced."""
    templates = [_gqa_template(rng) for _ in range(20_000)]
    num_balanced = max(1, round(num_examples * 132_062 / 2_011_853))
    balanced = set(rng.sample(range(num_examples), num_balanced))
    with (
        stream(folder / "val_all_questions.json", "{", "}") as add_question,
        stream(folder / "val_choices.json", "{", "}") as add_choices,
        stream(folder / "predictions.json") as add_prediction,
    ):
        for start in range(0, num_examples, 197):
            image_id = f"n{start}" if start % 5 == 0 else str(2_300_000 + start)
            indexes = range(start, min(start + 197, num_examples))
            # 7919 has no factor in common with 10, so no id comes twice
            ids = [f'"{index * 7919 % 10**9:08d}"' for index in indexes]
            for index, key in zip(indexes, ids, strict=True):
                constant, options, answer, wrong = rng.choice(templates)
                others = rng.randrange(len(ids))
                is_balanced = index in balanced
                add_question(
                    f'{key}: {constant}, "imageId": "{image_id}", '
                    f'"entailed": [{", ".join(ids[others : others + rng.randrange(8)])}], '
                    f'"equivalent": [{key}], "isBalanced": {"true" if is_balanced else "false"}}}'
                )
                if is_balanced:
                    add_choices(f"{key}: {options}")
                prediction = answer if rng.random() < 0.6 else rng.choice(wrong)
                add_prediction(f'{{"questionId": {key}, "prediction": {prediction}}}')


def _gqa_template(rng: Random) -> tuple[str, str, str, list[str]]:
    """Return a question for any image: record without its end, choices, answer, wrong answers."""
    structural, semantic, detailed, answers = rng.choice(GQA_KINDS)
    answer = rng.choice(answers)
    subject, thing = rng.choice(NOUNS), rng.choice(NOUNS)
    adjective, verb = rng.choice(ADJECTIVES), rng.choice(VERBS)
    numbers = [str(rng.randint(300_000, 4_900_000)) for _ in range(2)]
    program = [
        ("select", f"{subject} ({numbers[0]})", []),
        ("relate", f"{thing},{verb},s ({numbers[1]})", [0]),
        ("filter color", adjective, [1]),
        (rng.choice(("query", "exist", "choose name", "verify rel")), "name", [2]),
    ][rng.randrange(2) :]
    group = f"{detailed} {subject}" if structural == "query" and rng.random() < 0.7 else None
    record = {
        "semantic": [
            {"operation": operation, "dependencies": dependencies, "argument": argument}
            for operation, argument, dependencies in program
        ],
        "question": f"What is the {adjective} {thing} that the {subject} is {verb} "
        f"{rng.choice(('near', 'beside', 'in front of'))} the {rng.choice(NOUNS)}?",
        "groups": {"global": group, "local": f"10q-{subject}_{thing}"},
        "answer": answer,
        "semanticStr": "->".join(f"{name}: {argument} {deps}" for name, argument, deps in program),
        "annotations": {
            "answer": {"0": numbers[1]},
            "question": {"4": numbers[1], "7": numbers[0]},
            "fullAnswer": {"1": numbers[0], "6": numbers[1]},
        },
        "types": {"detailed": detailed, "semantic": semantic, "structural": structural},
        "fullAnswer": f"The {subject} is {verb} the {adjective} {thing}, which is {answer}.",
    }
    plausible = [answer, *rng.sample(answers, len(answers) // 2)]
    options = json.dumps({"valid": answers, "plausible": plausible})
    wrong = _encode([text for text in (*answers, "shape") if text != answer])
    return json.dumps(record).removesuffix("}"), options, json.dumps(answer), wrong


def write_coco_captioning(num_examples: int, folder: Path, rng: Random) -> None:
    """Write five captions an image, and a sixth on the same things as the prediction."""
    image_ids = rng.sample(range(1, 600_000), num_examples)
    images = [{"id": key, "file_name": f"{key:012d}.jpg", "height": 480} for key in image_ids]
    head = f'{{"info": {{}}, "licenses": [], "images": {json.dumps(images)}, "annotations": ['
    with (
        stream(folder / "annotations" / "captions_val2017.json", head, "]}") as add_caption,
        stream(folder / "predictions.json") as add_prediction,
    ):
        for number, image_id in enumerate(image_ids):
            scene = rng.sample(NOUNS, 4)
            for caption_id in range(5 * number, 5 * number + 5):
                text = json.dumps(_caption(scene, rng))
                add_caption(f'{{"image_id": {image_id}, "id": {caption_id}, "caption": {text}}}')
            text = json.dumps(_caption(scene, rng))
            add_prediction(f'{{"image_id": {image_id}, "caption": {text}}}')


def _caption(scene: Sequence[str], rng: Random) -> str:
    first, second, third = rng.sample(scene, 3)
    place = rng.choice(("next to", "in front of", "on top of"))
    return f"A {rng.choice(ADJECTIVES)} {first} {rng.choice(VERBS)} a {second} {place} the {third}."


WRITERS = {
    "vqav2": write_vqav2,
    "gqa": write_gqa,
    "docvqa": write_docvqa,
    "coco_captioning": write_coco_captioning,
}

if __name__ == "__main__":
    task, num_examples, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    WRITERS[task](num_examples, unfinished, Random(0))
    unfinished.rename(folder)

"""The code of a model card runs as it is printed, and answers as our own evaluation does."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from common.markup import markdown
from evaluation.card import asked_as, usage
from finetuning.training.run import finetune
from models.checkpoint import resolve
from models.loading import load_family
from models.paligemma import PaliGemma
from tasks.registry import get_task
from tests.evaluation.card_code import check_card_code
from tests.finetuning.training_jobs import job
from tests.models.tiny_families import maker
from tests.palitune.commands import run
from tests.tasks.test_csv_qa import write_images


@pytest.mark.parametrize("family", ["paligemma", "idefics3", "gemma3"])
def test_the_cards_code_answers_as_our_evaluation(family: str, tmp_path: Path, pico1: Path) -> None:
    base = pico1 if family == "paligemma" else tmp_path / "base"
    if family != "paligemma":
        maker(family)(base)
    (report,) = finetune(job(base, tmp_path / "run", max_steps=2, quantization="none"))
    new = tmp_path / "new"
    new.touch()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {new.stat().st_mode}  # others can read them
    card = (tmp_path / "run" / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    (result,) = header["model-index"][0]["results"]
    (metric,) = result["metrics"]
    assert metric["value"] == report.value
    assert tuple(metric["args"]["interval_95"]) == report.uncertainty.interval_95  # type: ignore
    assert "| steps | 2 |" in card

    example = report.examples[0]
    assert f"Question: {example.turns[0].text}\n" in card
    assert f"Answer of the model: {markdown(report.predictions[0])} (accepted: " in card
    assert "](sample.png)" in card and "CC BY 4.0" in card
    with Image.open(tmp_path / "run" / "sample.png") as sample:
        assert sample.tobytes() == example.image.open().convert("RGB").tobytes()

    check_card_code(tmp_path / "run", base, example.image.open(), example.turns[0].text)


@pytest.mark.parametrize(
    "changed",
    [
        {"num_beams": 4},
        {"system_message": "riddle"},
        {"prompt_template": "look:\\n{query} {{now}}"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_code_asks_and_decodes_as_the_run(changed: dict[str, Any], tmp_path: Path) -> None:
    base, image = tmp_path / "base", Image.new("RGB", (64, 64), "teal")
    maker("gemma3")(base)
    path = base / "generation_config.json"  # as of Qwen2.5-VL, and stronger
    path.write_text(json.dumps({**json.loads(path.read_text()), "repetition_penalty": 5.0}))
    settings = {"max_new_tokens": 14, **changed}
    (report,) = finetune(job(base, tmp_path / "run", max_steps=1, quantization="none", **settings))
    asked = (base, image, report.examples[0].turns[0].text, get_task("digits"))
    check_card_code(tmp_path / "run", *asked, settings)
    with pytest.raises(AssertionError):  # the setting matters
        check_card_code(tmp_path / "run", *asked, {"max_new_tokens": 14})
    card = (tmp_path / "run" / "README.md").read_text()
    assert ("System message: riddle" in card) is ("system_message" in changed)


@pytest.mark.slow
def test_the_code_asks_a_question_of_the_data_to_the_base_as_it_was_named(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    question = '무슨 색? \U0001f600 {x} ``` "quoted"'
    row = {"image": "a.png", "instruction": question, "response": "red"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    words = ("--train_csv", tmp_path / "train.jsonl", "--max_steps", 1, "--device", "cpu")
    folder = tmp_path / "run"
    more = ("--quantization", "none", "--skip_evaluation")
    run("csv_qa", *words, *more, "--model_path", "tiny", "--output_dir", folder)
    card = (folder / "README.md").read_text()
    assert question.replace('"', '\\"') in card and "What is in the image?" not in card
    assert "from_pretrained(TINY)" in card
    image = Image.new("RGB", (8, 4), "red")
    check_card_code(folder, Path("tiny"), image, question, get_task("csv_qa"))


@pytest.mark.parametrize(
    ("base", "revision", "expected"),
    [
        ("org/model", "a" * 40, '"org/model"'),
        ("models_of_mine/base", None, '"models_of_mine/base"'),
        ("/home/me/base", None, '"path/to/base"'),
        ("~/base", None, '"path/to/base"'),
        ("tiny", None, "TINY"),
    ],
)
def test_the_code_names_the_base_as_the_user_did_without_their_own_folders(
    base: str, revision: str | None, expected: str
) -> None:
    family = object.__new__(PaliGemma)  # without a processor, which the code has no use for
    asked = {"prompt_template": "{question}", "max_new_tokens": 3}
    code = usage(family, base, revision, asked, is_adapter=True)
    line = f"model = AutoModelForImageTextToText.from_pretrained({expected})\n"
    assert code is not None and line in code
    compile(code.removeprefix("```python\n").removesuffix("```"), "card", "exec")


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        ({"min_new_tokens": 0, "num_beams": None, "temperature": 1.0}, "do_sample=False)"),
        ({"min_new_tokens": 2, "num_beams": 4}, "do_sample=False, min_new_tokens=2, num_beams=4)"),
        (
            {"do_sample": True, "temperature": 0.5, "top_p": 0.9},
            "do_sample=True, temperature=0.5, top_p=0.9, top_k=0)",
        ),
    ],
)
def test_the_code_decodes_as_it_is_told(decoding: dict[str, Any], expected: str) -> None:
    family = object.__new__(PaliGemma)
    asked = {"prompt_template": "{question}", "max_new_tokens": 3, **decoding}
    code = usage(family, "tiny", None, asked, is_adapter=True)
    assert code is not None
    assert f"model.generate(**inputs, max_new_tokens=3, {expected}\n" in code


def test_a_task_with_beams_of_its_own_is_decoded_with_them(pico1: Path) -> None:
    family = load_family(resolve(str(pico1)))
    captions = get_task("coco_captioning")
    assert asked_as(captions, family, {"num_beams": None})["num_beams"] == 2
    assert asked_as(captions, family, {"num_beams": 1})["num_beams"] == 1

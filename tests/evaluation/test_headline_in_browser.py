"""The headline of a report's page and the commands that it copies, in a real browser."""

import json
import shlex
from pathlib import Path
from typing import Any

from evaluation.baselines import Baselines, Majority, add_baselines
from evaluation.report_page import PAGE, join_pages
from tasks.overlap import overlap_notes
from tests.evaluation.evaluated import example, save, save_pair
from tests.evaluation.shown import Shown
from tests.helpers import read_lines
from tests.palitune.commands import run


def test_the_headline_has_the_baselines_the_reasons_and_the_other_figures(
    browser: Any, tmp_path: Path
) -> None:
    examples = [example(number) for number in range(3)]
    report = save(tmp_path / "A", ["red", "green", "green"], examples)
    path = tmp_path / "A/metrics.json"
    content = json.loads(path.read_text())
    content["metrics"] |= {"consistency": None, "distribution": 1.25}
    content["reasons"] = {"consistency": "it takes all questions"}
    content["text_metrics"] = {"exact_match": 2 / 3, "rouge_l": 0.5, "rougeL": 0.5}
    content["clip_metrics"] = {"exact_match": 2 / 3, "distribution": 1.25}
    content["notes"] = list(overlap_notes("vqav2", "val", ["coco_captioning"]))
    answers = Baselines(Majority("red", "train"), {"blank_images": ["red", "green", "blue"]})
    content |= add_baselines(report, answers).additions
    path.write_text(json.dumps(content))
    join_pages([tmp_path / "A"], tmp_path / "a.html")
    shown = Shown(browser, tmp_path / "a.html")
    lines = shown.page.locator("#headline > .scroll tbody tr").all_inner_texts()
    lines = [" ".join(line.split()) for line in lines]
    # by hand: two of three; the most frequent answer is right on one, grey images on all
    assert [line.partition(" 0 to")[0] for line in lines[:2]] == [
        f"A {tmp_path / 'A'} 66.67",
        "most frequent answer 'red', of split 'train' 33.33",
    ]
    assert lines[2:] == ["grey images 100 29.24 to 100"]  # 0.025 ** (1 / 3) = 0.2924
    figures = shown.page.locator("#figures tbody tr").all_inner_texts()
    assert [" ".join(figure.split()) for figure in figures] == [
        "vqa_accuracy 66.67",
        "consistency not available: it takes all questions",
        "distribution 1.25",
        "text_metrics, beside the task's own figures",
        "exact_match 0.6667",
        "rouge_l 0.5",
    ]
    (note,) = shown.page.locator(".note").all_inner_texts()
    assert note.startswith("Images in common: the model was trained on coco_captioning")
    shown.page.emulate_media(media="print")
    assert shown.page.locator(".note").is_visible()
    # where they were not measured, nothing is shown
    plain = Shown(browser, tmp_path / "A" / PAGE)
    assert plain.page.locator("#headline .beside").count() == 0
    assert plain.page.locator("#cards .copy").count() == 0
    assert shown.errors == plain.errors == []


def test_a_narrow_screen_shows_what_each_evaluation_is_and_its_score(
    browser: Any, tmp_path: Path
) -> None:
    places = save_pair(tmp_path / "a_folder_with_a_name_of_several_words/and_another_below_it", 12)
    base = {"base_model": "/models/tiny", "adapter": None, "trained_on": []}
    adapted = {**base, "adapter": "runs/adapter_of_the_parts_rank_16", "trained_on": ["vqav2"]}
    metric = "share_of_the_words_that_both_have"  # of the user's own
    for place, provenance in zip(places, (base, adapted), strict=True):
        content = json.loads((place / "metrics.json").read_text())
        content |= {"metric": metric, "metrics": {metric: content["value"]}}
        (place / "metrics.json").write_text(json.dumps({**content, "provenance": provenance}))
    join_pages(places, tmp_path / "ab.html")
    for width in (1280, 390):
        shown = Shown(browser, tmp_path / "ab.html", width)
        table = shown.page.locator("#headline > .scroll")
        names = [line.split("\n") for line in table.locator("tbody th").all_inner_texts()]
        assert names == [
            ["A: base tiny", str(places[0])],
            ["B: tiny + runs/adapter_of_the_parts_rank_16", str(places[1])],
        ]
        scores = table.locator("tbody tr td:nth-child(2)")
        assert scores.all_inner_texts() == ["33.33", "50"]
        cells = [*table.locator("tbody th").all(), *scores.all()]
        for cell in [*cells, table.locator("thead th").nth(1)]:
            box = cell.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
            assert cell.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
        head = shown.page.locator("#slices thead th").all_inner_texts()
        assert head[:5] == ["sliced by", "slice", "examples", "A", "95 % interval"]
        assert shown.errors == []


def test_figures_made_for_longer_texts_are_folded(browser: Any, tmp_path: Path) -> None:
    examples = [example(number) for number in range(3)]
    save(tmp_path / "A", ["red", "green", "green"], examples)
    path = tmp_path / "A/metrics.json"
    content = json.loads(path.read_text())
    content["metrics"] |= {"rouge_l": 0.5, "rougeL": 0.25, "sacrebleu": 0.0, "Bleu_2": 0.125}
    content["text_metrics"] = {"rougeL": 0.25, "sacrebleu": 0.0}  # again, which makes no group
    content["notes"] = ["sacrebleu is 0 by its rule.", "Skipped: 3 examples."]
    path.write_text(json.dumps(content))
    join_pages([tmp_path / "A"], tmp_path / "a.html")
    shown = Shown(browser, tmp_path / "a.html")

    def lines(place: str) -> list[str]:
        found = shown.page.locator(f"{place} tbody tr").all_inner_texts()
        return [" ".join(line.split()) for line in found]

    assert lines("#figures") == ["vqa_accuracy 66.67", "rouge_l 0.5"]
    folded = shown.page.locator("#longer")
    assert folded.get_attribute("open") is None
    assert shown.page.locator("#headline > .note").all_inner_texts() == ["Skipped: 3 examples."]
    folded.locator("summary").click()
    assert lines("#longer") == ["rougeL 0.25", "sacrebleu 0", "Bleu_2 0.125"]
    assert folded.locator(".note").all_inner_texts() == ["sacrebleu is 0 by its rule."]
    assert shown.errors == []


def test_the_copied_command_answers_the_example_again(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    template = "answer en {question} now"
    words = ("--task", "gqa", "--model_path", "tiny", "--data_root", "sample", "--device", "cpu")
    more = ("--max_eval_samples", 4, "--prompt_template", template, "--batch_size", 2)
    run("eval", *words, *more, "--max_new_tokens", 5, "--output_dir", folder)
    shown = Shown(browser, folder / PAGE)
    shown.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = shown.page.locator("#cards > li").nth(2).locator(".copy")
    button.click()
    shown.page.get_by_role("button", name="copied").wait_for()
    pasted = shown.page.evaluate("navigator.clipboard.readText()")
    before = read_lines(folder / "predictions.jsonl")
    program, file, *arguments = shlex.split(pasted)
    assert (program, file) == ("python", "eval.py")
    run("eval", *arguments)
    (again,) = read_lines(tmp_path / "it's a folder_example/predictions.jsonl")
    assert again == before[2]
    assert template.replace("{question}", again["question"]) == again["prompt"]
    assert read_lines(folder / "predictions.jsonl") == before

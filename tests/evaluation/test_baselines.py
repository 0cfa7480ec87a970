"""What a score stands beside: by counting, by hand, and by the base evaluated alone."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import evaluation.run
from evaluation.baselines import (
    REFERENCES,
    Baselines,
    Majority,
    add_baselines,
    answer_baselines,
    baselines_table,
    find_majority,
    most_frequent_answer,
    shuffle_images,
)
from models.base import Family
from tasks.base import Dataset, Example, Source
from tasks.images import FileImage
from tasks.registry import get_task
from tasks.report import Report
from tests.evaluation.answer_files import ANSWERS, metrics_of, score_file
from tests.evaluation.evaluated import example
from tests.helpers import one_sentence, read_json
from tests.merging.algebra.make_adapters import load_tiny, train
from tests.official_files import write_vqav2
from tests.palitune.commands import run

VQA = get_task("vqav2")


def of_files(*places: int) -> list[Example]:
    """Questions about images by these numbers; equal numbers are one image."""
    return [
        msgspec.structs.replace(example(n), image=FileImage(f"{place}.png"))
        for n, place in enumerate(places)
    ]


def report_of(examples: list[Example]) -> Report:
    names: Any = {"raw_predictions": [""] * len(examples), "predictions": [""] * len(examples)}
    return Report(task=VQA, split="val", examples=examples, prompts=(), **names)


def test_the_most_frequent_answer_is_found_by_counting() -> None:
    # the examples' own: red, green, blue, green, blue, and of equals the first
    examples = [example(n) for n in (0, 1, 2, 4, 5)]
    assert most_frequent_answer(VQA, examples) == "green"
    # one voice more in one example is no answer more
    assert most_frequent_answer(VQA, [*examples, example(9, "", *["blue"] * 6, *["x"] * 4)]) == (
        "blue"
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_example_keeps_its_image_and_the_seed_decides(seed: int) -> None:
    examples = of_files(0, 0, 1, 2, 2, 2, 3)
    shuffled = shuffle_images(examples, seed)
    assert shuffled is not None and shuffled == shuffle_images(examples, seed)
    pairs = {(a.image.name, b.image.name) for a, b in zip(examples, shuffled, strict=True)}
    assert all(own != other for own, other in pairs)
    # one other image for each, and each is used
    assert len(pairs) == len({other for _, other in pairs}) == 4
    assert [e.turns for e in shuffled] == [e.turns for e in examples]


def test_of_one_image_there_is_no_other() -> None:
    assert shuffle_images(of_files(7, 7), 0) is None


class StandIn:
    """Looks at the pixels that it is shown, and says what it was told."""

    batch_size = 4
    model = None

    def __init__(self) -> None:
        self.seen: list[list[Any]] = []

    def __call__(self, examples: Sequence[Example], log: object) -> list[str]:
        self.seen.append([np.asarray(e.image.open()) for e in examples])
        return ["red"] * len(examples)


def test_a_blank_image_is_grey_and_of_the_same_size(tmp_path: Path) -> None:
    examples = [example(n) for n in range(3)]
    dataset = Dataset(VQA, "val", ())
    model: Any = StandIn()
    found = answer_baselines(
        *(model, dataset, report_of(examples), Majority("red", "train"), tmp_path),
        {"adapter": None},
        seed=0,
        resume=False,
    )
    assert list(found.texts) == ["shuffled_images", "blank_images"]  # a full model has no base
    shuffled, blank = model.seen
    assert [pixels.shape for pixels in blank] == [(32, 32, 3)] * 3
    assert all((pixels == 128).all() for pixels in blank)
    # of evaluated.py: 200 in the channel of the number
    channels = [int(pixels[0, 0].argmax()) for pixels in shuffled]
    assert sorted(channels) == [0, 1, 2] and all(c != n for n, c in enumerate(channels))


def test_each_is_scored_by_the_metric_of_the_task() -> None:
    examples = [example(n) for n in range(4)]  # red, green, blue, red
    texts = {"blank_images": ["Red\n", "green", "x", "x"]}
    answers = Baselines(Majority("red", "train"), texts, ("a note",))
    report = add_baselines(report_of(examples), answers)
    entry = report.additions["baselines"]
    # VQA accuracy of ten equal answers compares exactly: "Red" is not "red"
    assert (entry["majority"]["value"], entry["blank_images"]["value"]) == (50, 25)
    assert (entry["majority"]["answer"], entry["majority"]["counted_in"]) == ("red", "train")
    assert report.notes == ("a note",)
    assert "most frequent answer  50 " in (baselines_table(report) or "")
    assert baselines_table(report_of(examples)) is None


def test_a_majority_that_was_counted_in_what_it_is_scored_on_says_so() -> None:
    report = report_of([example(0)])
    own = add_baselines(report, Baselines(Majority("red", REFERENCES), {}))
    table = baselines_table(own) or ""
    assert "'red', counted in the very references scored on, so it flatters" in table
    train = baselines_table(add_baselines(report, Baselines(Majority("red", "train"), {}))) or ""
    assert "'red', of split 'train'" in train and "bound" not in train


def test_the_training_split_is_counted_where_it_lies_there(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    examples = [example(n, "", "pink") for n in range(3)]
    found = find_majority(examples, VQA, Source(data_root=root))
    assert found.counted_in == "train" and found.answer != "pink"
    # neither a copy on the Hub is downloaded nor a part of one taken for the training split
    for source in (Source(), Source(data_root=root, hub_split="validation")):
        assert find_majority(examples, VQA, source) == Majority("pink", REFERENCES)
    for path in root.glob("*train2014*.json"):
        path.unlink()
    source = Source(data_root=root)
    assert find_majority(examples, VQA, source) == Majority("pink", REFERENCES)
    with one_sentence("--baselines are scores", "no answers"):
        find_majority([msgspec.structs.replace(e, references=()) for e in examples], VQA, source)


DATA = ("--task", "docvqa", "--data_root", "sample", "--max_eval_samples", 12, "--device", "cpu")
BRIEF = ("--quantization", "none", "--max_new_tokens", 6, "--num_workers", 0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    layers = r".*language_model\.layers\.[01]\.self_attn\.q_proj"
    train(load_tiny(), folder, r=2, lora_alpha=64, target_modules=layers)
    return folder


def test_the_base_scores_as_it_does_alone_and_a_kill_loses_no_answer(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--model_path", adapter, *DATA, *BRIEF, "--baselines", "--output_dir", tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.run, "score_and_write", lambda *_: sys.exit(9))
        run("eval", *words, exit_code=9)
    folders = sorted(path.name for path in (tmp_path / "a").glob(".baseline-*"))
    assert folders == [f".baseline-{n}" for n in ("base_model", "blank_images", "shuffled_images")]
    with monkeypatch.context() as patch:
        patch.setattr(Family, "generate", lambda *_: pytest.fail("it was asked again"))
        output = run("eval", *words, "--resume").output
    assert "base without adapter" in output
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"metrics.json", "predictions.jsonl", "report.html"}
    measured = read_json(tmp_path / "a/metrics.json")
    run("eval", "--model_path", "tiny", *DATA, *BRIEF, "--output_dir", tmp_path / "b")
    alone = read_json(tmp_path / "b/metrics.json")
    assert measured["baselines"]["base_model"]["value"] == alone["value"] > 0
    interval = measured["baselines"]["base_model"]["interval_95"]
    assert interval == alone["uncertainty"]["interval_95"]
    assert measured["value"] != alone["value"]
    assert list(measured["baselines"]) == [
        "majority", "shuffled_images", "blank_images", "base_model"
    ]  # fmt: skip
    assert "baselines" not in alone


def test_of_weights_beside_an_adapter_the_base_cannot_be_had(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.adapter_loading import why_not_without

    assert why_not_without(adapter) is None
    shutil.copy(adapter / "adapter_model.safetensors", tmp_path)
    for change in ({"bias": "all"}, {"init_lora_weights": "pissa"}):
        config = read_json(adapter / "adapter_config.json") | change
        (tmp_path / "adapter_config.json").write_bytes(msgspec.json.encode(config))
        assert "of its base" in (why_not_without(tmp_path) or "")
    config = read_json(adapter / "adapter_config.json")
    (tmp_path / "adapter_config.json").write_bytes(msgspec.json.encode(config))
    torch.save({"model.norm.weight": torch.ones(2)}, tmp_path / "non_lora_trainables.bin")
    model: Any = StandIn()
    found = answer_baselines(
        *(model, Dataset(VQA, "val", ()), report_of([example(0), example(1)])),
        *(Majority("red", "train"), tmp_path / "out", {"adapter": str(tmp_path)}),
        seed=0,
        resume=False,
    )
    assert "base_model" not in found.texts
    assert found.notes == (
        "There is no score of the base without adapter: the adapter changes weights of its base "
        "(a file of whole tensors).",
    )


def test_beside_a_file_of_predictions_stands_the_most_frequent_answer_alone(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    result = score_file("vqav2", root, ANSWERS["vqav2"][1], "--baselines")
    assert result.exit_code == 0, result.output
    assert list(metrics_of(root)["baselines"]) == ["majority"]
    assert "most frequent answer" in result.output

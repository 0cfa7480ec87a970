"""merge_vlm.py: what it writes loads with PEFT; what it refuses leaves nothing behind."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import PaliGemmaForConditionalGeneration

from merging import run as merge_job
from merging.algebra.rounding import nf4_round_trip
from merging.trial import Trial
from tests.helpers import hashes, read_json, sentence
from tests.merging.algebra.make_adapters import load_tiny
from tests.merging.merge_inputs import (
    Q0,
    TINY,
    edit_config,
    edit_tensors,
    run,
    write_adapters,
    write_run,
)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapters(tmp_path_factory.mktemp("adapters"))


def peft_update(folder: Path, name: str) -> torch.Tensor | None:
    """The update of a module, as PEFT computes it."""
    adapted = PeftModel.from_pretrained(load_tiny(), str(folder))
    layer = adapted.base_model.model.get_submodule(name)
    return layer.get_delta_weight("default").float() if hasattr(layer, "get_delta_weight") else None


def test_peft_loads_the_merged_adapter_and_its_update_is_ours(
    adapters: Path, tmp_path: Path
) -> None:
    result = run(adapters, tmp_path / "out", "--mode", "linear", "--weights", "0.25,0.5")
    assert result.exit_code == 0, result.output
    ours = peft_update(tmp_path / "out", Q0)
    a, b = (peft_update(adapters / name, Q0) for name in "ab")
    assert ours is not None and a is not None and b is not None
    expected = 0.25 * a + 0.5 * b
    assert float((ours - expected).norm() / expected.norm()) < 1e-6


def test_the_full_model_is_pefts_own_merge_of_the_adapter(adapters: Path, tmp_path: Path) -> None:
    options = ("--mode", "linear", "--export", "both", "--save_dtype", "float32")
    assert run(adapters, tmp_path / "out", *options, names="abc").exit_code == 0
    new = tmp_path / "new"
    new.touch()
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {new.stat().st_mode}  # others can read them
    full = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "out", dtype=torch.float32)
    merged = PeftModel.from_pretrained(load_tiny(), str(tmp_path / "out/adapter"))
    expected = merged.merge_and_unload().state_dict()
    assert full.state_dict().keys() == expected.keys()
    for name, value in full.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_the_same_command_gives_the_same_bytes(adapters: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run(adapters, tmp_path / name, "--mode", "dare_ties", "--seed", 3).exit_code == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    assert run(adapters, tmp_path / "three", "--mode", "dare_ties", "--seed", 4).exit_code == 0
    assert (tmp_path / "three/model.safetensors").read_bytes() != weights[0]


def test_the_report_says_what_was_merged_and_what_is_left(adapters: Path, tmp_path: Path) -> None:
    result = run(adapters, tmp_path / "out", "--mode", "ties")
    found = read_json(tmp_path / "out/merge_report.json")
    assert (found["mode"], found["export"], found["onto"]) == ("ties", "full", "original")
    assert found["options"]["density"] == 0.3
    assert [row["rank"] for row in found["inputs"]] == [4, 2]
    assert all(len(row["sha256"]) == 64 for row in found["inputs"])
    assert 0 < found["totals"]["retention"][0] < 1
    assert found["modules"][Q0]["rounding_loss"] > 0  # the embedded base is bfloat16
    assert 0 <= found["modules"][Q0]["sign_conflict"] <= 1
    assert found["versions"]["peft"] and found["seconds"] > 0 and found["peak_rss_mb"] > 0
    assert "retained" in result.output and str(tmp_path / "out") in result.output


def test_without_scores_auto_says_that_its_scale_is_not_validated(
    adapters: Path, tmp_path: Path
) -> None:
    result = run(adapters, tmp_path / "out")
    assert "not validated" in result.output
    found = read_json(tmp_path / "out/merge_report.json")
    assert not found["chosen_by_scores"] and found["export"] == "adapter"


def test_a_dry_run_prints_and_writes_nothing(adapters: Path, tmp_path: Path) -> None:
    result = run(adapters, tmp_path / "out", "--dry_run", "--mode", "ties")
    assert result.exit_code == 0, result.output
    assert "contested entries" in result.output
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("quantization", "expected"), [("nf4", "nf4"), ("none", "original")])
def test_a_single_adapter_goes_onto_the_weights_it_was_trained_on(
    quantization: str, expected: str, adapters: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapters / "a", tmp_path / "a")
    write_run(tmp_path / "a", "vqav2", quantization=quantization)
    options = ("--save_dtype", "float32")
    result = run(tmp_path, tmp_path / "out", *options, names="a")
    assert result.exit_code == 0, result.output
    found = read_json(tmp_path / "out/merge_report.json")
    assert (found["onto"], found["export"]) == (expected, "full")
    exported = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "out")
    weight = load_tiny().get_submodule(Q0).weight.data
    base = nf4_round_trip(weight) if expected == "nf4" else weight
    update = peft_update(adapters / "a", Q0)
    assert update is not None
    torch.testing.assert_close(
        exported.get_submodule(Q0).weight.data, base + update, rtol=1e-5, atol=1e-6
    )
    assert read_json(tmp_path / "out/run.json")["task"] == "vqav2"


MISTAKES: dict[str, tuple[tuple[object, ...], str, str]] = {
    "density": (("--mode", "ties", "--density", 1.5), "ab", "density must be in (0, 1], got 1.5"),
    "weights": (("--mode", "linear", "--weights", "1"), "ab", "one per adapter, got 1 for 2"),
    "no numbers": (("--weights", "a,b"), "ab", "--weights takes numbers"),
    "slerp of three": (("--mode", "slerp"), "abc", "slerp merges exactly 2 adapters, got 3"),
    "rank": (("--rank", "0"), "ab", "--rank takes full"),
    "rank of 1.0": (("--rank", "1.0"), "ab", "--rank takes full"),
    "no adapter": ((), "ax", "is not a folder"),
    "sweep without tasks": (("--sweep", "mode=ties"), "ab", "name the tasks by --evaluate"),
    "sweep of nothing": (
        ("--sweep", "mode=tie", "--evaluate", "digits"),
        "ab",
        "--sweep needs modes out of",
    ),
    "unknown task": (("--evaluate", "vqa2"), "ab", "Unknown task 'vqa2'"),
    "no task": (("--evaluate", ""), "ab", "--evaluate takes tasks with commas between, got ''"),
    "a task twice": (
        ("--evaluate", "coco,coco_captioning"),
        "ab",
        "--evaluate coco,coco_captioning has coco_captioning twice",
    ),
    "sweep of one adapter": (
        ("--sweep", "mode=ties", "--evaluate", "digits"),
        "a",
        "--sweep chooses how adapters are merged; pass two or more",
    ),
    "axis and option": (
        ("--sweep", "mode=ties density=0.1,0.2", "--density", 0.5, "--evaluate", "digits"),
        "ab",
        "--sweep has density=0.1,0.2 and --density is given beside it",
    ),
    "examples that cannot be halved": (
        ("--sweep", "mode=ties", "--evaluate", "digits", "--max_eval_samples", 1),
        "ab",
        "and of digits there is 1; raise --max_eval_samples",
    ),
    "the same for auto": (
        ("--evaluate", "digits", "--max_eval_samples", 1),
        "ab",
        "and of digits there is 1; raise --max_eval_samples",
    ),
    "rank of a full model": (
        ("--mode", "ties", "--rank", 8),
        "ab",
        "--rank 8 is of a written adapter, and a full model is written",
    ),
    "rank of a full model asked for": (
        ("--mode", "linear", "--export", "full", "--rank", "0.9"),
        "ab",
        "--rank 0.9 is of a written adapter",
    ),
    "rounded base of an adapter": (
        ("--mode", "linear", "--onto", "nf4"),
        "ab",
        "--onto nf4 is of a full model or of scores, and an adapter alone is written",
    ),
    "missing without weights": (
        ("--mode", "tsv", "--missing", "renorm"),
        "ab",
        "--missing renorm is a rule for weights, and tsv has none",
    ),
    "scope without trimming": (
        ("--mode", "core_ties", "--trim_scope", "adapter"),
        "ab",
        "--trim_scope adapter is for ties and magnitude_prune",
    ),
    "norms of one adapter": (("--normalize",), "a", "and there is one adapter"),
    "slerp of one": (("--mode", "slerp"), "a", "slerp merges exactly 2 adapters, got 1"),
    "a setting that the mode has not": (
        ("--mode", "linear", "--density", 0.5),
        "ab",
        "mode linear has no setting density",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    name: str, adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        pytest.fail("a model is loaded before the mistake is found")

    monkeypatch.setattr(Trial, "_load", load)
    options, names, part = MISTAKES[name]
    result = run(adapters, tmp_path / "out", *options, names=names)
    assert part in sentence(result.exit_code, result.output)
    assert not [*tmp_path.iterdir()]


def test_an_output_in_use_is_kept_and_said_before_anything_is_read(
    adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merging.inputs.read_adapter", lambda folder: pytest.fail("read"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    before = hashes(tmp_path)
    result = run(adapters, tmp_path / "out")
    assert "not an empty folder" in sentence(result.exit_code, result.output)
    assert hashes(tmp_path) == before


def test_adapters_of_another_base_are_refused_unless_told_otherwise(
    adapters: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapters / "a", tmp_path / "a")
    shutil.copytree(adapters / "b", tmp_path / "b")
    edit_config(tmp_path / "b", base_model_name_or_path="other/model")
    result = run(tmp_path, tmp_path / "out")
    message = sentence(result.exit_code, result.output)
    assert "other/model" in message and "--allow_base_mismatch" in message
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, tmp_path / "out", "--allow_base_mismatch").exit_code == 0


def test_an_adapter_with_whole_tensors_needs_a_full_export(adapters: Path, tmp_path: Path) -> None:
    """modules_to_save: the average of the base's own tensor and the trained one is written."""
    shutil.copytree(adapters / "a", tmp_path / "a")
    shutil.copytree(adapters / "b", tmp_path / "b")
    edit_config(tmp_path / "a", modules_to_save=["multi_modal_projector"])
    linear = load_tiny().model.multi_modal_projector.linear
    bias, key = linear.bias.data, "base_model.model.model.multi_modal_projector.linear"
    whole = {f"{key}.bias": bias + 1, f"{key}.weight": linear.weight.data}
    edit_tensors(tmp_path / "a", lambda tensors: tensors.update(whole))
    result = run(tmp_path, tmp_path / "out", "--export", "adapter")
    assert "--export full" in sentence(result.exit_code, result.output)
    options = ("--mode", "linear", "--save_dtype", "float32")
    result = run(tmp_path, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    merged = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "out")
    found = merged.model.multi_modal_projector.linear.bias.data
    torch.testing.assert_close(found, bias + 0.5, rtol=1e-5, atol=1e-6)


def test_an_interruption_leaves_no_output(
    adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(merge_job, "_sum_up", interrupt)
    for mode in ("linear", "ties"):
        assert run(adapters, tmp_path / "out", "--mode", mode).exit_code != 0
    assert not [*tmp_path.iterdir()]


def test_the_report_says_what_was_read_and_written(adapters: Path, tmp_path: Path) -> None:
    weights = [(adapters / name / "adapter_model.safetensors").stat().st_size for name in "ab"]
    base = (TINY / "model.safetensors").stat().st_size
    for export, read in (("adapter", sum(weights)), ("both", sum(weights) + base)):
        out = tmp_path / export
        result = run(adapters, out, "--mode", "linear", "--export", export)
        assert result.exit_code == 0, result.output
        found = read_json(out / "merge_report.json")
        files = [path for path in out.rglob("*") if path.is_file()]
        files.remove(out / "merge_report.json")  # written last
        written = sum(path.stat().st_size for path in files)
        assert (found["bytes_read"], found["bytes_written"]) == (read, written)
        assert [row["num_bytes"] for row in found["inputs"]] == weights


def test_adapters_without_a_run_file_are_said_to_be_taken_as_trained_in_full_precision(
    adapters: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapters, tmp_path / "in")
    write_run(tmp_path / "in/a", "vqav2")
    result = run(tmp_path / "in", tmp_path / "out", "--mode", "linear", names="abc")
    lines = [line for line in result.output.splitlines() if "4-bit" in line]
    b, c = (str(tmp_path / "in" / name) for name in "bc")
    assert lines == [
        f"Warning: There is no run.json in {b} and {c}, which would say whether 4-bit weights were "
        "trained on; the original ones are assumed."
    ]

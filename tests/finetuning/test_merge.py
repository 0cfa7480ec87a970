"""merge_vlm.py: what it writes loads with PEFT; what it refuses leaves nothing behind."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PaliGemmaForConditionalGeneration

from finetuning import merge_job
from finetuning.cli import palitune
from finetuning.merge_settings import parse_grid, parse_rank
from finetuning.merge_trial import Candidate, Trial, _added, choose, retention
from finetuning.sweep_picture import draw_sweep
from merging.full_model import nf4_round_trip
from tasks.base import Dataset, Source
from tasks.registry import get_task
from tests.conftest import REPOSITORY
from tests.finetuning.test_mistakes import sentence
from tests.finetuning.test_scripts import hashes
from tests.merging.make_adapters import load_tiny, train

TINY = REPOSITORY / "models" / "tiny"
LAYERS = r".*language_model\.layers\.[01]\.(self_attn\.(q|v)_proj|mlp\.down_proj)"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders a, b (other rank and modules) and c (rsLoRA), as PEFT writes them, of `tiny`."""
    folder = tmp_path_factory.mktemp("adapters")
    settings: dict[str, dict[str, Any]] = {
        "a": {"r": 4, "lora_alpha": 8, "target_modules": LAYERS},
        "b": {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "k_proj"]},
        "c": {"r": 3, "lora_alpha": 3, "use_rslora": True, "target_modules": LAYERS},
    }
    for name, config in settings.items():
        model = load_tiny()
        if name == "b":
            config["exclude_modules"] = ".*vision_tower.*"
        train(model, folder / name, **config)
        path = folder / name / "adapter_config.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"base_model_name_or_path": str(TINY)}))
    return folder


def run(folder: Path, output: Path, *options: object, names: Sequence[str] = "ab") -> Result:
    flags = ("--model_a", "--model_b", "--adapter")
    given = [
        part for flag, name in zip(flags, names, strict=False) for part in (flag, folder / name)
    ]
    arguments = ["--base_model", TINY, *given, "--output", output, *options]
    return CliRunner().invoke(palitune, ["merge", *map(str, arguments)])


def peft_update(folder: Path, name: str) -> torch.Tensor | None:
    """The update of a module, as PEFT computes it."""
    adapted = PeftModel.from_pretrained(load_tiny(), str(folder))
    layer = adapted.base_model.model.get_submodule(name)
    return layer.get_delta_weight("default").float() if hasattr(layer, "get_delta_weight") else None


Q0 = "model.language_model.layers.0.self_attn.q_proj"


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
    found = json.loads((tmp_path / "out/merge_report.json").read_text())
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
    found = json.loads((tmp_path / "out/merge_report.json").read_text())
    assert not found["scale_validated"] and found["export"] == "adapter"


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
    settings = {"settings": {"quantization": quantization}, "task": "vqav2"}
    (tmp_path / "a/run.json").write_text(json.dumps(settings))
    options = ("--save_dtype", "float32")
    result = run(tmp_path, tmp_path / "out", *options, names="a")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out/merge_report.json").read_text())
    assert (found["onto"], found["export"]) == (expected, "full")
    exported = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "out")
    weight = load_tiny().get_submodule(Q0).weight.data
    base = nf4_round_trip(weight) if expected == "nf4" else weight
    update = peft_update(adapters / "a", Q0)
    assert update is not None
    torch.testing.assert_close(
        exported.get_submodule(Q0).weight.data, base + update, rtol=1e-5, atol=1e-6
    )
    assert json.loads((tmp_path / "out/run.json").read_text())["task"] == "vqav2"


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
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    name: str, adapters: Path, tmp_path: Path
) -> None:
    options, names, part = MISTAKES[name]
    result = run(adapters, tmp_path / "out", *options, names=names)
    assert part in sentence(result.exit_code, result.output)
    assert not [*tmp_path.iterdir()]


def test_an_output_in_use_is_kept(adapters: Path, tmp_path: Path) -> None:
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
    path = tmp_path / "b/adapter_config.json"
    content = json.loads(path.read_text()) | {"base_model_name_or_path": "other/model"}
    path.write_text(json.dumps(content))
    result = run(tmp_path, tmp_path / "out")
    message = sentence(result.exit_code, result.output)
    assert "other/model" in message and "--allow_base_mismatch" in message
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, tmp_path / "out", "--allow_base_mismatch").exit_code == 0


def test_an_adapter_with_whole_tensors_needs_a_full_export(adapters: Path, tmp_path: Path) -> None:
    """modules_to_save: the average of the base's own tensor and the trained one is written."""
    shutil.copytree(adapters / "a", tmp_path / "a")
    shutil.copytree(adapters / "b", tmp_path / "b")
    config = tmp_path / "a/adapter_config.json"
    content = json.loads(config.read_text()) | {"modules_to_save": ["multi_modal_projector"]}
    config.write_text(json.dumps(content))
    weights = tmp_path / "a/adapter_model.safetensors"
    bias = load_tiny().model.multi_modal_projector.linear.bias.data
    key = "base_model.model.model.multi_modal_projector.linear.bias"
    save_file({**load_file(weights), key: bias + 1}, weights)
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


@pytest.mark.parametrize(("text", "rank"), [("full", "full"), ("16", 16), ("0.99", 0.99)])
def test_ranks_are_read(text: str, rank: object) -> None:
    assert parse_rank(text) == rank


def test_a_grid_leaves_out_settings_that_a_mode_does_not_have() -> None:
    assert parse_grid("mode=linear,ties density=0.2,0.5 lambda=1") == [
        {"mode": "linear", "lam": 1.0},
        {"mode": "ties", "density": 0.2, "lam": 1.0},
        {"mode": "ties", "density": 0.5, "lam": 1.0},
    ]


def candidate(name: str) -> Candidate:
    return Candidate(name, "original", (), lambda _: torch.zeros(0))


def test_retention_is_the_share_of_the_score_of_the_tasks_own_adapter() -> None:
    scores = {"a": {"x": 50.0, "y": 1.0}, "b": {"x": 10.0, "y": 4.0}, "m": {"x": 40.0, "y": 3.0}}
    kept = retention(scores, {"x": ["a"], "y": ["a", "b"]})
    assert kept["m"] == {"x": 0.8, "y": 0.75}
    assert kept["b"] == {"x": 0.2, "y": 1.0}


def test_the_merge_whose_worst_task_keeps_most_is_chosen_and_confirmed_on_other_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[set[Any]] = []
    table = {"a": (100, 0), "b": (0, 100), "even": (60, 60), "better mean": (100, 40)}

    def scores(
        self: Trial, candidates: Sequence[Candidate], datasets: Sequence[Dataset]
    ) -> dict[str, dict[str, float]]:
        seen.append({example.example_id for example in datasets[0]})
        return {c.name: dict(zip(("x", "y"), table[c.name], strict=True)) for c in candidates}

    monkeypatch.setattr(Trial, "scores", scores)
    digits = get_task("digits").load("val", Source()).subset(10, seed=0)
    trial = Trial(
        checkpoint=None,
        base=None,
        datasets=[digits],
        settings={},
        batch_size=1,
        device="cpu",  # type: ignore[arg-type]
    )
    found = choose(
        trial,
        [candidate("a"), candidate("b")],
        [candidate("better mean"), candidate("even")],
        {"x": ["a"], "y": ["b"]},
        seed=0,
    )
    assert found["chosen"] == "even" == found["confirmed"]["name"]
    choosing, confirming = seen
    assert not choosing & confirming
    assert choosing | confirming == {example.example_id for example in digits}
    image = draw_sweep(found)
    assert image.width > 300 and len(image.getcolors(100_000) or ()) > 3


def test_updates_are_added_in_memory_and_taken_off_again() -> None:
    model = load_tiny()
    before = model.get_submodule(Q0).weight.detach().clone()
    update = torch.full_like(before, 0.5)
    with _added(model, Candidate("m", "original", [Q0], lambda _: update)):
        torch.testing.assert_close(model.get_submodule(Q0).weight.data, before + 0.5)
    assert torch.equal(model.get_submodule(Q0).weight, before)


def test_candidates_are_scored_by_the_tasks_metric_on_each_base(
    adapters: Path, tmp_path: Path
) -> None:
    """The tiny base scores alike by eval.py and in the trial, on real examples."""
    shutil.copytree(adapters / "a", tmp_path / "a")
    shutil.copytree(adapters / "b", tmp_path / "b")
    for name, quantization in (("a", "nf4"), ("b", "none")):
        settings = {"settings": {"quantization": quantization}, "task": "docvqa"}
        (tmp_path / name / "run.json").write_text(json.dumps(settings))
    options = ("--data_root", "sample", "--max_eval_samples", 6)
    result = run(tmp_path, tmp_path / "out", "--mode", "linear", "--evaluate", "docvqa", *options)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out/merge_report.json").read_text())["evaluation"]
    names = ["base", str(tmp_path / "a"), str(tmp_path / "b"), "merged", "merged onto nf4"]
    assert list(found["scores"]) == names
    assert found["num_examples"] == {"docvqa": 6}
    evaluation = ("--task", "docvqa", "--output_dir", tmp_path / "scores", *options)
    for name, model in (("base", TINY), (str(tmp_path / "b"), tmp_path / "b")):
        arguments = ["eval", "--model_path", model, *evaluation]
        assert CliRunner().invoke(palitune, [str(a) for a in arguments]).exit_code == 0
        value = json.loads((tmp_path / "scores/metrics.json").read_text())["value"]
        assert found["scores"][name]["docvqa"] == pytest.approx(value)

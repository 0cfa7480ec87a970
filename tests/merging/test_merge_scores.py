"""Merges by their scores: the command, its sweeps, and what is said of the one chosen."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from evaluation.prediction import make_predictor
from palitune.main import palitune
from tests.helpers import read_json, read_page, sentence
from tests.merging.merge_inputs import SETTINGS, TINY, run, write_adapter, write_run
from tests.merging.merge_tables import by_table, rows

# --- the command, with scores by a table ---------------------------------------------------

# adapter a has 80 of digits and b 0.5 of docvqa, so linear keeps (0.5, 0.8) and ties (0.75, 0.6)
TABLE = {
    "base": (8, 0.05),
    "adapter 1": (80, 0.1),
    "adapter 2": (10, 0.5),
    "linear": (40, 0.4),
    "ties": (60, 0.3),
    "merged": (64, 0.2),
}
BOTH = ("--evaluate", "digits,docvqa", "--max_eval_samples", 8)


def test_a_sweep_writes_and_prints_its_candidates_and_merges_by_the_chosen_one(
    adapters: Path, docvqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_table(monkeypatch, TABLE)
    options = (*BOTH, "--data_root", f"docvqa={docvqa}")
    grid = ("--sweep", "mode=linear,ties density=0.2")
    result = run(adapters, tmp_path / "out", *options, *grid)
    assert result.exit_code == 0, result.output
    printed = rows(result.output)
    assert ["linear", "0.50", "0.80", "0.50", "0.65"] in printed
    assert ["ties", "density=0.2", "0.75", "0.60", "0.60", "0.68"] in printed
    assert ["ties", "density=0.2,", "confirmed", "0.75", "0.60", "0.60", "0.68"] in printed
    assert "Chosen: ties density=0.2; confirmed by the other 4 examples of digits" in result.output
    sweep = read_json(tmp_path / "out/sweep.json")
    assert [row["name"] for row in sweep["candidates"]] == ["linear", "ties density=0.2"]
    assert sweep["chosen"] == "ties density=0.2"
    assert sweep["candidates"][0]["intervals_95"] == {"digits": [20, 80], "docvqa": [0.2, 0.8]}
    assert Image.open(tmp_path / "out/sweep.png").width > 300
    page = read_page(tmp_path / "out/index.html")
    linear, _, ties, _ = page["entries"]  # of digits, and after each of docvqa
    assert (linear["value"], linear["interval"], linear["num_examples"]) == (40, [20, 80], 4)
    assert linear["figures"] == {"retention": 0.5, "worst retention": 0.5}
    assert (ties["settings"], ties["state"]) == (
        {"task": "digits", "mode": "ties", "density": 0.2},
        "chosen",
    )
    report = read_json(tmp_path / "out/merge_report.json")
    assert (report["mode"], report["options"]["density"]) == ("ties", 0.2)
    assert (report["export"], report["chosen_by_scores"]) == ("full", True)
    alone = run(adapters, tmp_path / "alone", "--mode", "ties", "--density", 0.2)
    assert alone.exit_code == 0, alone.output
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "alone")]
    assert weights[0] == weights[1]


def test_a_dry_run_of_a_sweep_prints_the_same_and_writes_nothing(
    adapters: Path, docvqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--evaluate", "docvqa", "--data_root", f"docvqa={docvqa}")  # TASK=FOLDER of one
    by_table(monkeypatch, {name: row[1:] for name, row in TABLE.items()})
    result = run(adapters, tmp_path / "out", *options, "--sweep", "mode=linear,ties", "--dry_run")
    assert result.exit_code == 0, result.output
    printed = rows(result.output)
    assert ["ties", "0.60", "0.60", "0.60"] in printed
    assert ["linear,", "confirmed", "0.80", "0.80", "0.80"] in printed
    assert "Chosen: linear;" in result.output
    assert not [*tmp_path.iterdir()]


def test_the_table_of_scores_has_intervals_shares_and_the_gap_between_the_bases(
    adapters: Path, docvqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*BOTH, "--data_root", f"docvqa={docvqa}", "--mode", "linear", "--export", "full")
    # the merge has 64 and 0.2 on what it is added to, 60 and 0.25 on the other
    by_table(monkeypatch, {**TABLE, "merged": (64, 0.2), "merged onto": (60, 0.25)})
    for onto, other, gap in (("original", "nf4", (4, -0.05)), ("nf4", "original", (-4, 0.05))):
        result = run(adapters, tmp_path / onto, *options, "--onto", onto)
        assert result.exit_code == 0, result.output
        found = read_json(tmp_path / onto / "merge_report.json")["evaluation"]
        assert list(found["scores"])[3:] == ["merged", f"merged onto {other}"]
        assert found["onto_gap"] == pytest.approx({"digits": gap[0], "docvqa": gap[1]})
        assert found["intervals_95"]["merged"] == {"digits": [32, 128], "docvqa": [0.1, 0.4]}
        # 64 / 80 and 0.2 / 0.5
        expected = "merged 64.00 [32.00, 128.00] (0.80) 0.20 [0.10, 0.40] (0.40)"
        assert expected.split() in rows(result.output)
        text = f"gap of the merge, original less NF4: digits {gap[0]:+.2f}, docvqa {gap[1]:+.2f}"
        assert text in result.output


def test_an_own_score_of_nothing_is_a_dash_and_a_warning(
    adapters: Path, docvqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_table(monkeypatch, {**TABLE, "adapter 1": (0, 0.1)})
    options = (*BOTH, "--data_root", f"docvqa={docvqa}", "--mode", "linear")
    result = run(adapters, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    found = read_json(tmp_path / "out/merge_report.json")
    assert found["evaluation"]["retention"]["merged"] == {"digits": None, "docvqa": 0.4}
    assert "(-)" in result.output
    warning = "No adapter scores above 0 on digits, so what is retained of it is not known."
    assert found["warnings"].count(warning) == 1
    assert result.output.count(warning) == 1


def test_no_name_of_a_folder_is_mistaken_for_another_row(
    adapters: Path, docvqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("base", "merged", "x/run", "y/run"):
        shutil.copytree(adapters / "b", tmp_path / place)
    monkeypatch.chdir(tmp_path)
    by_table(monkeypatch, {name: row[1:] for name, row in TABLE.items()})
    options = ("--mode", "linear", "--evaluate", "docvqa", "--data_root", docvqa)
    for names in (("base", "merged"), ("x/run", "y/run"), ("base", "base")):
        output = Path("out", *names)
        result = run(Path(), output, *options, names=names)
        assert result.exit_code == 0, result.output
        scores = read_json(output / "merge_report.json")["evaluation"]["scores"]
        first, second = names
        assert list(scores) == [
            "base",
            f"adapter 1: {first}",
            f"adapter 2: {second}",
            "merged",
            "merged onto nf4",
        ]


def test_auto_leaves_out_what_dora_rules_out(
    adapters: Path, docvqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(
        tmp_path / "d", r=2, target_modules=SETTINGS["a"]["target_modules"], use_dora=True
    )
    shutil.copytree(adapters / "b", tmp_path / "b")
    by_table(monkeypatch, {**{n: r[1:] for n, r in TABLE.items()}, "dare_ties": (0.1,)})
    options = ("--evaluate", "docvqa", "--data_root", docvqa, "--dry_run")
    result = run(tmp_path, tmp_path / "out", *options, names="db")
    assert result.exit_code == 0, result.output
    assert "Chosen: linear;" in result.output and "dare_ties density=0.5" in result.output
    assert "balanced" not in result.output


# --- the command, with the model's own scores ----------------------------------------------


def test_candidates_are_scored_by_the_tasks_metric_on_each_base(
    adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny base scores alike by eval.py and in the trial, on real examples."""
    for name, quantization in (("a", "nf4"), ("b", "none")):
        shutil.copytree(adapters / name, tmp_path / name)
        write_run(tmp_path / name, "docvqa", quantization=quantization, max_new_tokens=9)
    options = ("--data_root", "sample", "--max_eval_samples", 6)
    lengths = set()

    def watched(*arguments: Any, **named: Any) -> Any:
        predictor = make_predictor(*arguments, **named)
        lengths.add(predictor.decoding.max_new_tokens)
        return predictor

    monkeypatch.setattr("merging.trial.make_predictor", watched)
    result = run(tmp_path, tmp_path / "out", "--mode", "linear", "--evaluate", "docvqa", *options)
    assert result.exit_code == 0, result.output
    found = read_json(tmp_path / "out/merge_report.json")["evaluation"]
    assert found["num_examples"] == {"docvqa": 6}
    assert lengths == {9}  # answered as the runs answered
    evaluation = (
        "--max_new_tokens",
        9,
        "--task",
        "docvqa",
        "--output_dir",
        tmp_path / "scores",
        *options,
    )
    for name, model in (("base", TINY), (f"adapter 2: {tmp_path / 'b'}", tmp_path / "b")):
        arguments = ["eval", "--model_path", model, *evaluation]
        assert CliRunner().invoke(palitune, [str(a) for a in arguments]).exit_code == 0
        metrics = read_json(tmp_path / "scores/metrics.json")
        assert found["scores"][name]["docvqa"] == pytest.approx(metrics["value"])
        interval = metrics["uncertainty"]["interval_95"]
        assert found["intervals_95"][name]["docvqa"] == pytest.approx(interval)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Twenty steps on each of two sample tasks: enough to answer like the majority."""
    folder = tmp_path_factory.mktemp("trained")
    brief = ("--max_steps", 20, "--batch_size", 16, "--learning_rate", 5e-3, "--quantization")
    examples = ("--max_train_samples", 320, "--max_eval_samples", 2)
    for task in ("vqav2", "gqa"):
        arguments = ("--model_path", "tiny", "--data_root", "sample", "--output_dir", folder / task)
        command = ["train", task, *map(str, (*arguments, *brief, "none", *examples))]
        result = CliRunner().invoke(palitune, command)
        assert result.exit_code == 0, result.output
    yield folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "names"),
    [
        (
            ("--sweep", "mode=linear,ties lambda=0.5,1", "--density", 0.2),
            [
                *("linear lambda=0.5", "linear lambda=1.0"),
                *("ties lambda=0.5 density=0.2", "ties lambda=1.0 density=0.2"),
            ],
        ),
        (
            ("--mode", "auto"),
            ["linear", *(f"{m} lambda={x}" for m in ("balanced", "tsv") for x in (0.5, 0.7, 1.0))]
            + [f"ties density={density}" for density in (0.3, 0.5)]
            + ["dare_ties density=0.5", "core_ties"],
        ),
    ],
    ids=["sweep", "auto"],
)
def test_trained_adapters_are_swept_to_the_end(
    options: tuple[object, ...], names: list[str], trained: Path, tmp_path: Path
) -> None:
    scored = ("--evaluate", "vqav2,gqa", "--data_root", "sample", "--max_eval_samples", 20)
    result = run(trained, tmp_path / "out", *scored, *options, names=("vqav2", "gqa"))
    assert result.exit_code == 0, result.output
    sweep = read_json(tmp_path / "out/sweep.json")
    assert [row["name"] for row in sweep["candidates"]] == names
    assert sweep["num_choosing"] == sweep["num_confirming"] == {"vqav2": 10, "gqa": 10}
    assert any(row["worst"] > 0 for row in sweep["candidates"])
    best = max(sweep["candidates"], key=lambda row: (row["worst"], row["mean"]))
    assert sweep["chosen"] == best["name"] == sweep["confirmed"]["name"]
    for row in sweep["candidates"]:
        shares = [f"{share:.2f}" for share in (*row["retention"].values(), row["worst"])]
        assert [*row["name"].split(), *shares, f"{row['mean']:.2f}"] in rows(result.output)
    assert Image.open(tmp_path / "out/sweep.png").height == 28 * (len(names) + 2) + 12
    report = read_json(tmp_path / "out/merge_report.json")
    assert report["chosen_by_scores"] and report["mode"] == best["name"].split()[0]
    assert report["evaluation"]["scores"]["merged"]["vqav2"] > 0
    written = "model.safetensors" if report["export"] == "full" else "adapter_model.safetensors"
    assert (tmp_path / "out" / written).is_file()


def test_a_sweep_without_any_own_score_is_refused_in_one_sentence(
    adapters: Path, docvqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_table(monkeypatch, dict.fromkeys(TABLE, (0.0,)))
    options = ("--evaluate", "docvqa", "--data_root", docvqa, "--sweep", "mode=linear,ties")
    result = run(adapters, tmp_path / "out", *options)
    assert "cannot choose between merges" in sentence(result.exit_code, result.output)
    assert not [*tmp_path.iterdir()]

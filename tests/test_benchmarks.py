"""The benchmark scripts run and compare like with like."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
import torch

from benchmarks import data_path
from benchmarks.demo_spread import spread_table
from benchmarks.metrics import check_equal
from benchmarks.metrics_plain import anls, distribution, vqa_accuracy
from benchmarks.overhead import compare
from benchmarks.paligemma_3b import paligemma_3b, step_flops
from benchmarks.shared_cores import BESIDE, COUNTS, seconds_a_step, table
from benchmarks.step_trainers import largest_difference

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "train_step.py"


@pytest.mark.slow
def test_the_gpu_script_runs_on_a_cpu_and_both_trainers_have_the_same_loss(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = [
        "--device",
        "cuda",
        "--tiny",
        "--num_steps",
        "4",
        "--batch_sizes",
        "2",
        "--bases",
        "nf4",
    ]
    command = [sys.executable, str(SCRIPT), *options, "--output", str(file)]
    subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    rows = json.loads(file.read_text())["rows"]
    losses = {(row["recompute"], row["trainer"]): row["loss"] for row in rows}
    assert len(losses) == 4
    assert losses == dict.fromkeys(losses, pytest.approx(losses["on", "stock"], abs=1e-4))
    assert all(row["ms"] > 0 for row in rows)


@pytest.mark.slow
def test_on_a_cpu_both_trainers_have_the_same_gradients(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = ["--device", "cpu", "--tiny", "--rounds", "1", "--batch_sizes", "2"]
    command = [sys.executable, str(SCRIPT), *options, "--output", str(file)]
    subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    rows = json.loads(file.read_text())["rows"]
    assert [(row["recompute"], row["trainer"]) for row in rows] == [
        (recompute, trainer) for recompute in ("off", "on") for trainer in ("stock", "ours")
    ]
    assert all(float(row["gradients"]) <= 1e-6 for row in rows)
    assert all(row["s"] > 0 and row["MB"] > 0 for row in rows)


@pytest.mark.slow
def test_gradients_are_the_stock_trainers_in_float64_and_as_near_to_them_in_float32(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rows.json"
    options = ["--device", "cpu", "--tiny", "--rounds", "1", "--batch_sizes", "1", "--float64"]
    command = [sys.executable, str(SCRIPT), *options, "--output", str(file)]
    subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    rows = json.loads(file.read_text())["rows"]
    far = {(row["recompute"], row["trainer"]): float(row["gradients"]) for row in rows}
    for recompute in ("off", "on"):
        assert far[recompute, "float64"] == 0 < far[recompute, "stock"] <= 1e-5
        assert 0 < far[recompute, "ours"] <= 1.2 * far[recompute, "stock"]
        assert far[recompute, "ours64"] <= 1e-9  # the same sums; float32's rounding is the rest


def test_the_difference_of_gradients_is_the_largest_relative_one() -> None:
    expected = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([10.0])}
    found = {"a": torch.tensor([3.0, 5.0]), "b": torch.tensor([11.0])}
    assert largest_difference(found, expected) == pytest.approx(0.2)  # 1 of 5, and 1 of 10
    for other in ({"a": found["a"]}, {**found, "c": torch.ones(1)}):
        with pytest.raises(ValueError, match="do not train the same parameters"):
            largest_difference(other, expected)
    with pytest.raises(ValueError, match="do not train the same parameters"):
        largest_difference(found, {**expected, "b": torch.zeros(1)})  # nothing to compare


def test_the_loop_by_hand_has_our_losses_and_other_losses_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch, ours, plain, ratio, _ = compare(2, 4, 1)
    assert batch == 2
    assert float(str(ratio)) == pytest.approx(float(str(ours)) / float(str(plain)), rel=0.02)
    other = ([0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr("benchmarks.overhead.train_plainly", lambda *_: other)
    with pytest.raises(click.ClickException, match="losses differ"):
        compare(2, 4, 1)


@pytest.mark.slow
def test_each_phase_runs_on_a_checkpoint_in_shards(tmp_path: Path) -> None:
    script = SCRIPT.with_name("real_size.py")
    command = [sys.executable, str(script), "--tiny", "--device", "cpu", "--folder", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if "|" in line]
    assert len(rows[2:]) == 7
    assert all(float(cell) > 0 for row in rows[2:] for cell in row[1:3])
    shards = {path.name for path in (tmp_path / "base").glob("*.safetensors")}
    assert len(shards) > 1
    assert {path.name for path in (tmp_path / "full").glob("*.safetensors")} == shards


def test_the_operations_of_a_step_are_those_worked_out_by_hand() -> None:
    # per example at 448 px, 32 text tokens: tower 0.979 TF, decoder 4.350 forward and 4.514 back,
    # LoRA 0.124, the output layer 1.05 GF for each of 8 positions, twice; not the last of 18
    # feed-forwards, of 3 x 2,048 x 16,384 weights, at 1,048 of 1,056 positions, twice
    spared = 2 * 2 * 1_048 * 3 * 2_048 * 16_384 / 1e12
    worked = 0.979 + 4.350 + 4.514 + 0.124 + 2 * 8 * 0.00105 - spared
    config = paligemma_3b(448)
    assert step_flops(config, 4, False, 16) / 4e12 == pytest.approx(worked, rel=0.002)
    again = step_flops(config, 1, True, 16) - step_flops(config, 1, False, 16)
    assert again / 1e12 == pytest.approx(4.350 * 17 / 18, rel=0.002)


@pytest.mark.slow
def test_our_command_and_the_plain_rule_agree_on_files_in_the_official_formats(
    tmp_path: Path,
) -> None:
    script = SCRIPT.with_name("metrics.py")
    tasks, file = ("vqav2", "docvqa", "gqa"), tmp_path / "rows.json"
    command = [sys.executable, str(script), *tasks, "--scale", "0.01", "--output", str(file)]
    subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    rows = json.loads(file.read_text())["rows"]
    sizes = [("vqav2", "2,144"), ("docvqa", "53"), ("gqa", "20,119")]
    assert [(row["task"], row["questions"]) for row in rows] == sizes
    assert all(row["MB"] > 0 and row["plain MB"] > 0 for row in rows)


@pytest.mark.slow
def test_our_average_of_adapters_is_exact_and_that_of_the_factors_is_not(tmp_path: Path) -> None:
    script = SCRIPT.with_name("merge.py")
    options = ["--layers", "1", "--small", "--only", "linear", "--only", "peft-linear"]
    command = [sys.executable, str(script), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if "|" in line]
    errors = {cells[0]: cells[4] for cells in lines[2:]}
    assert set(errors) == {"linear", "peft-linear"}
    assert float(errors["linear"]) < 1e-6
    # (B1 + B2)(A1 + A2) / 2 has two cross terms, as large as the average of independent factors
    assert float(errors["peft-linear"]) > 0.5


def test_the_plain_rules_give_worked_values() -> None:
    assert vqa_accuracy("Dont", ["don't."] * 3 + ["no"] * 7) == pytest.approx(0.9)  # 3 x 2/3 + 7
    assert vqa_accuracy("Cat", ["cat"] * 10) == 0.0  # ten alike: compared as they are
    assert anls("CocaCola", ["Pepsi", "Coca Cola"]) == pytest.approx(8 / 9)
    assert anls("Cola", ["Coca Cola"]) == 0.0  # 4/9 is under a half
    # red 3 for 2, blue 1 for 2: (1/2 + 1/2) / 100; "pink" is never right, so it is ignored
    gold, predicted = {"g": {"red": 2, "blue": 2}}, {"g": {"red": 3, "blue": 1, "pink": 5}}
    assert distribution(gold, predicted) == pytest.approx(0.01)


@pytest.mark.parametrize("ours", [{"metrics: anls": 0.50001}, {"metrics: accuracy": 0.5}])
def test_times_of_unequal_figures_are_not_compared(ours: dict[str, float]) -> None:
    with pytest.raises(click.ClickException, match=r"metrics: anls: the plain rule gives 0\.5"):
        check_equal("docvqa", ours, {"metrics: anls": 0.5})


def test_the_spread_is_the_mean_and_the_ends_of_each_score() -> None:
    row = {"metric": "accuracy", "base": 1.0, "shuffled": 2.0, "train_seconds": 30.0}
    rows = [{**row, "finetuned": value} for value in (80.0, 90.0, 85.0)]
    header, line = spread_table({"digits": rows}).splitlines()
    assert header.split()[:3] == ["task", "metric", "finetuned"]
    assert "digits  accuracy  85.00 [80.00, 90.00]  1.00 [1.00, 1.00]" in line


@pytest.mark.slow
def test_a_run_of_the_spread_is_not_done_again(tmp_path: Path) -> None:
    script = SCRIPT.with_name("demo_spread.py")
    options = ["--tasks", "digits", "--seeds", "0", "--max_steps", "2", "--output_dir", "out"]
    outputs = []
    for _ in range(2):
        command = [sys.executable, str(script), *options]
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        outputs.append(result.stdout.splitlines()[-3:])
        stamp = (tmp_path / "out/digits-0/run.json").stat().st_mtime_ns
        outputs[-1].append(str(stamp))
    assert outputs[0] == outputs[1]


def rows_of(script: str, tmp_path: Path, *options: str) -> list[dict[str, object]]:
    """The rows of a benchmark's JSON; its table must have as many."""
    file = tmp_path / "rows.json"
    command = [sys.executable, str(SCRIPT.with_name(script)), *options, "--output", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    rows: list[dict[str, object]] = json.loads(file.read_text())["rows"]
    assert len(result.stdout.splitlines()) == 2 + len(rows)
    return rows


@pytest.mark.slow
def test_the_three_ways_from_file_to_batch_give_the_same_pixels(tmp_path: Path) -> None:
    rows = rows_of("data_path.py", tmp_path, "--tiny", "--workers", "0,1")
    assert [row["workers"] for row in rows] == [0, 1] * 4
    assert all(float(str(row[way])) > 0 for row in rows for way in (*data_path.WAYS, "limit"))


def test_speeds_of_other_pixels_are_not_compared() -> None:
    ours = torch.zeros(2, 3, 4, 4)
    data_path.check_equal("scan", "plain", ours + 9e-7, ours)
    for other in (ours + 2e-6, ours[:1], ours * float("nan")):
        with pytest.raises(click.ClickException, match="scan: the plain way gives other pixels"):
            data_path.check_equal("scan", "plain", other, ours)


@pytest.mark.slow
def test_the_start_is_measured_at_each_size(tmp_path: Path) -> None:
    rows = rows_of("growth.py", tmp_path, "--sizes", "40,250")
    assert [row["num_questions"] for row in rows] == [40, 250]
    assert all(float(str(row[name])) > 0 for row in rows for name in ("start_s", "peak_mb"))


def test_the_bytes_of_a_record_are_those_beyond_the_smallest_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # the script imports those beside it
    growth = import_module("growth")
    row = {"num_questions": 4000, "start_s": 9.0, "cpu_s": 7.0, "peak_mb": 500.0}
    row |= {"example_cpu_s": 0.02, "load": 1.0}
    larger = row | {"num_questions": 6000, "peak_mb": 501.0}  # 1 MB for 2,000 more
    assert growth.shown(larger, row)[:5] == ["6,000", "9.0", "7.0", "501", "500"]
    assert growth.shown(row, row)[4] == "-"


@pytest.mark.slow
def test_our_evaluation_answers_as_the_plain_ways_do(tmp_path: Path) -> None:
    """The script prints no row where the answers differ."""
    script, file = SCRIPT.with_name("evaluate.py"), tmp_path / "rows.json"
    command = [sys.executable, str(script), "--tiny", "--output", str(file)]
    subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    rows = json.loads(file.read_text())["rows"]
    kinds = {(row["family"], row["base"], row["questions an image"], row["ours"]) for row in rows}
    assert len(rows) == len(kinds) == 12
    assert all(row["examples_s"] > 0 and row["x_one"] > 0 < row["x_naive"] for row in rows)


def test_the_table_of_shared_cores_has_medians() -> None:
    values = {"alone": ([2, 1, 3], [1, 1, 1], [4, 4, 5]), "one busy core": ([9, 8, 1], [2], [3])}
    seconds = {
        (count, beside): list(map(float, values.get(beside, ([1],) * 3)[place]))
        for place, count in enumerate(COUNTS)
        for beside in BESIDE
    }
    rows = [line.split() for line in table(seconds).splitlines()[1:]]
    assert rows[0] == ["alone", "2000", "1000", "4000"]
    assert rows[1][-3:] == ["8000", "2000", "3000"]


@pytest.mark.slow
def test_a_training_is_timed_beside_another() -> None:
    assert 0 < seconds_a_step(1, 0, "another training") < 60

"""Runs that differ in the seed alone are one result: its mean, its deviation, each seed's value."""

import csv
import json
import statistics
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from PIL import Image

from common.json_files import write_json
from evaluation.provenance import describe_data
from experiments.ablation_summary import SUMMARY
from experiments.cell import METRICS
from experiments.comparison_chart import draw_comparison
from experiments.grid_runs import Run
from experiments.seed_means import group_seeds, spread
from models.checkpoint import resolve
from tasks.base import Source
from tests.experiments.grids import CSV_QA, invoke, option, write_tables
from tests.experiments.test_ablate import start
from tests.helpers import REPOSITORY, read_json, read_page

# Of 2, 4 and 9: mean 15 / 3 = 5; deviations -3, -1 and 4; (9 + 1 + 16) / (3 - 1) = 13.
VALUES = {1: 2.0, 2: 4.0, 3: 9.0}
SD = 13**0.5


def row(seed: int | None, value: float | None, cell: str = "m__v", **more: Any) -> dict[str, Any]:
    name = cell if seed is None else f"{cell}__seed={seed}"
    found = {
        "run": name, "cell": cell, "seed": seed, "settings": {}, "is_base": False, "model": "m",
        "variant": "v", "task": "digits", "status": "finished" if value is not None else "failed",
        "error": None if value is not None else "it broke", "split": "val", "num_examples": 9,
        "metric": "accuracy", "value": value, "interval_95": None if value is None else [0.0, 9.5],
        "seconds": 2.0, "metrics": {} if value is None else {"accuracy": value, "other": None},
    }  # fmt: skip
    return found | more


def test_the_mean_and_the_sample_deviation_of_three_seeds() -> None:
    (cell,) = group_seeds([row(seed, value) for seed, value in VALUES.items()])
    assert (cell["run"], cell["value"], cell["num_seeds"]) == ("m__v", 5.0, 3)
    assert cell["sd_over_seeds"] == pytest.approx(SD)
    assert cell["seeds"] == {"1": 2.0, "2": 4.0, "3": 9.0}
    assert cell["metrics"] == {"accuracy": 5.0, "other": None}
    assert (cell["status"], cell["error"]) == ("finished", None)
    # an interval is of the examples of one run
    assert cell["interval_95"] is None
    assert spread(cell) == "± 3.606 (sd over 3 seeds)"


def test_a_mean_is_of_the_seeds_that_are_there_and_says_so() -> None:
    (cell,) = group_seeds([row(1, 2.0), row(2, None), row(3, 9.0)])
    # 11 / 2; (3.5 ** 2 + 3.5 ** 2) / (2 - 1)
    assert cell["value"] == 5.5
    assert cell["sd_over_seeds"] == pytest.approx(24.5**0.5)
    assert cell["status"] == "2 of 3 seeds"
    assert cell["error"] == "seed 2: it broke"
    assert spread(cell) == "± 4.95 (sd over 2 of 3 seeds)"
    assert cell["seeds"]["2"] is None


def test_one_seed_has_no_deviation() -> None:
    (cell,) = group_seeds([row(1, 2.0), row(2, None)])
    assert (cell["value"], cell["sd_over_seeds"]) == (2.0, None)
    assert spread(cell) == "(1 of 2 seeds)"
    (cell,) = group_seeds([row(1, 2.0)])
    assert (cell["sd_over_seeds"], spread(cell)) == (None, "[0, 9.5]")
    (cell,) = group_seeds([row(None, 2.0)])
    assert (cell["sd_over_seeds"], cell["seeds"], spread(cell)) == (None, {}, "[0, 9.5]")


def test_a_cell_that_has_no_score_has_no_mean() -> None:
    (cell,) = group_seeds([row(1, None), row(2, None, status="not run", error=None)])
    assert (cell["value"], cell["sd_over_seeds"], cell["status"]) == (None, None, "failed")


def test_every_bar_is_as_long_as_its_mean() -> None:
    rows = [row(seed, 10 * value) for seed, value in VALUES.items()]
    base = row(None, 25.0, "m__base", is_base=True, variant="base", interval_95=None)
    image = draw_comparison(group_seeds([*rows, base])).convert("RGB")
    colors = image.getcolors(1 << 20) or []
    green, grey = ((90, 180, 110), (205, 205, 205))
    assert {green, grey} <= {color for _, color in colors}

    def longest(color: tuple[int, int, int]) -> int:
        pixels = image.load()
        assert pixels is not None
        found = [
            [x for x in range(image.width) if pixels[x, y] == color] for y in range(image.height)
        ]
        return max(max(line) - min(line) for line in found if line)

    assert longest(green) == pytest.approx(2 * longest(grey), abs=3)


@pytest.mark.parametrize("name", ["m", "long_name_" * 30, "한국어_모델" * 40])
def test_a_chart_is_no_wider_than_a_screen_whatever_the_names_are(name: str) -> None:
    settings = [{"prompt_template": f"{number}" * 300, "lora_rank": number} for number in range(24)]
    rows = [row(None, 3.0, f"c{n}", model=f"{name}{n}", settings=s) for n, s in enumerate(settings)]
    assert draw_comparison(group_seeds(rows)).width < 1300


def write_grid(folder: Path, **more: Any) -> Path:
    grid = {
        "experiment_name": "try",
        "output_dir": str(folder / "results"),
        "data": write_tables(folder),
        "models": [{"name": "tiny", "hf_model_id": "tiny"}],
        "lora_variants": [{"name": "plain", "quantization": "none"}],
        "training": {"max_steps": 5, "generation_max_new_tokens": 4},
        **more,
    }
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(grid))
    return file


def change(file: Path, **more: Any) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | more))


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    return write_grid(tmp_path, seeds=[1, 2, 3], base=True, sweep={"learning_rate": ["1e-4"]})


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that write the values above, a base 1, or fail where the name is in the list."""
    broken: list[str] = []

    def command(run: Run) -> list[str]:
        if run.is_base:
            tables, value = {"test": Path(option(run, "csv"))}, 1.0
        else:
            names = ("train", "val", "test")
            tables = {name: Path(option(run, f"{name}_csv")) for name in names}
            value = VALUES[int(option(run, "seed"))]
        data = {
            split: describe_data(split, CSV_QA.load(split, Source(tables=tables)))
            for split in tables
        }
        metrics = {
            "split": "test", "num_examples": 4, "metric": "rouge_l", "value": value,
            "metrics": {"rouge_l": value}, "uncertainty": {"interval_95": [0.5, 9.5]},
            "provenance": {"data": data["test"]},
        }  # fmt: skip
        record = {"task": "csv_qa", "settings": {}, "eval_data": data["test"]}
        folder = run.folder if run.is_base else run.folder / "evaluation" / "test"
        files = {folder / "metrics.json": metrics}
        if not run.is_base:
            files[run.folder / "run.json"] = record | {"train_data": data["train"]}
        lines = [
            "import pathlib, sys",
            f"sys.exit('Error: it broke.') if {run.name in broken} else None",
            f"folder = pathlib.Path({str(folder)!r})",
            "folder.mkdir(parents=True, exist_ok=True)",
            "(folder / 'report.html').write_text('a page')",
            *(f"pathlib.Path({str(f)!r}).write_text({json.dumps(c)!r})" for f, c in files.items()),
        ]
        return [sys.executable, "-c", "\n".join(lines)]

    monkeypatch.setattr(Run, "command", property(command))
    return broken


def summary(grid: Path) -> dict[str, Any]:
    file = grid.parent / "results" / "try" / SUMMARY
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_seeds_are_one_line_of_every_list(grid: Path, stubbed: list[str]) -> None:
    result = invoke("--config", grid)
    assert result.exit_code == 0, result.output
    name = "tiny__plain__learning_rate=0.0001"
    assert "Train and score a grid of 3 runs, and score 1 base." in result.output
    assert (
        f"{name}  rouge_l 5  ± 3.606 (sd over 3 seeds)  seed 1: 2, seed 2: 4, seed 3: 9\n"
        "tiny__base                         rouge_l 1  [0.5, 9.5]\n"
    ) in result.output
    found = summary(grid)
    assert [row["run"] for row in found["runs"]] == [
        "tiny__base", *(f"{name}__seed={seed}" for seed in VALUES)
    ]  # fmt: skip
    base, cell = found["cells"]
    assert (base["value"], base["interval_95"], base["is_base"]) == (1.0, [0.5, 9.5], True)
    assert (cell["value"], cell["sd_over_seeds"]) == (5.0, pytest.approx(SD))
    folder = grid.parent / "results" / "try"
    with (folder / "ablation_summary.csv").open() as file:
        first, second = csv.DictReader(file)
    kept = ("run", "value", "num_seeds", "value_seed_1", "value_seed_3", "low_95", "learning_rate")
    assert [first[key] for key in kept] == ["tiny__base", "1.0", "", "", "", "0.5", ""]
    assert [second[key] for key in kept] == [name, "5.0", "3", "2.0", "9.0", "", "0.0001"]
    assert float(second["sd_over_seeds"]) == pytest.approx(SD)
    with Image.open(folder / "comparison.png") as image:
        assert image.width > 500
    of_base, of_cell = read_page(folder / "index.html")["entries"]
    assert (of_base["is_reference"], of_base["value"]) == (True, 1.0)
    assert (folder / of_base["report"]).read_text() == "a page"
    assert (of_cell["value"], of_cell["deviation"]) == (5.0, pytest.approx(SD))
    assert of_cell["interval"] is None
    members = {member["name"]: member["value"] for member in of_cell["members"]}
    assert members == {"seed 1": 2.0, "seed 2": 4.0, "seed 3": 9.0}
    assert all((folder / unquote(member["report"])).is_file() for member in of_cell["members"])


def test_a_failed_seed_is_missing_from_the_mean_until_it_is_there(
    grid: Path, stubbed: list[str]
) -> None:
    failing = "tiny__plain__learning_rate=0.0001__seed=2"
    stubbed.append(failing)
    result = invoke("--config", grid)
    assert result.exit_code == 1
    assert "rouge_l 5.5  ± 4.95 (sd over 2 of 3 seeds)  seed 1: 2, seed 2: -" in result.output
    stubbed.clear()
    result = invoke("--config", grid)
    assert result.exit_code == 0
    assert f"{failing}: finished\n" in result.output
    assert result.output.count("finished before") == 3  # two seeds and the base
    assert "sd over 3 seeds" in result.output


def test_a_changed_file_keeps_the_runs_that_are_the_same(grid: Path, stubbed: list[str]) -> None:
    assert invoke("--config", grid, "--only", "seed=1", "--only", "base").exit_code == 0
    folder = grid.parent / "results" / "try"
    before = {file: file.stat().st_mtime_ns for file in folder.glob(f"*/{METRICS}")}
    assert len(before) == 2
    change(grid, seeds=[2, 1], sweep={"lora_dropout": [0.1], "learning_rate": [0.0001]})
    result = invoke("--config", grid)
    assert result.exit_code == 0, result.output
    old = "tiny__plain__learning_rate=0.0001__seed=1"
    assert f"Not of this grid, and left as they are: {old}\n" in result.output
    assert "tiny__base: finished before" in result.output
    change(grid, seeds=[3, 1], sweep={"learning_rate": [2e-4, 1e-4]})
    result = invoke("--config", grid)
    assert f"{old}: finished before" in result.output
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_every_run_that_was_finished_otherwise_is_named(grid: Path, stubbed: list[str]) -> None:
    assert invoke("--config", grid).exit_code == 0
    change(grid, training={"max_steps": 6, "generation_max_new_tokens": 4})
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "was finished with max_steps 5 and is now to have max_steps 6; give" in result.output
    names = "tiny__plain__learning_rate=0.0001__seed=2, tiny__plain__learning_rate=0.0001__seed=3"
    assert f"The same is true of {names}." in result.output  # and not of the base
    change(grid, training={"max_steps": 5, "generation_max_new_tokens": 5})
    result = invoke("--config", grid)
    assert "tiny__base was finished with max_new_tokens 4 and is now to have" in result.output


def test_a_base_that_was_scored_on_other_examples_is_refused(
    grid: Path, stubbed: list[str]
) -> None:
    assert invoke("--config", grid, "--only", "base").exit_code == 0
    table = grid.parent / "test.csv"
    table.write_text(table.read_text().replace("what colour is it?", "which colour?"))
    result = invoke("--config", grid, "--only", "tiny__base")
    assert result.exit_code == 2
    assert "tiny__base was finished with other eval_data than its files hold now" in result.output


def test_a_base_whose_weights_have_changed_is_refused(grid: Path, stubbed: list[str]) -> None:
    assert invoke("--config", grid, "--only", "base").exit_code == 0
    file = grid.parent / "results/try/tiny__base" / METRICS
    record = read_json(file)
    assert record["base_fingerprint"] == resolve("tiny").fingerprint
    write_json(file, record | {"base_fingerprint": "w2:0123456789abcdef"})
    result = invoke("--config", grid, "--only", "base")
    assert result.exit_code == 2
    assert "tiny__base was finished with other base weights than its files" in result.output


def test_an_interrupted_base_waits_for_resume(grid: Path, stubbed: list[str]) -> None:
    folder = grid.parent / "results" / "try" / "tiny__base"
    folder.mkdir(parents=True)
    (folder / ".answers-0.jsonl").write_text("{}\n")
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "tiny__base in" in result.output and "--resume goes on" in result.output
    assert invoke("--config", grid, "--resume", "--only", "base").exit_code == 0


def test_a_wrong_combination_is_found_before_the_first_run(grid: Path, stubbed: list[str]) -> None:
    change(grid, sweep={"warmup_steps": [0, 3], "lr_scheduler_type": ["cosine", "constant"]})
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "lr_scheduler_type=constant__warmup_steps=3" in result.output
    assert "warmup_steps has no effect on a constant learning rate" in result.output
    assert not (grid.parent / "results").exists()


def test_a_fault_of_a_training_is_not_said_of_the_base(grid: Path, stubbed: list[str]) -> None:
    change(grid, sweep={"target_modules": ["q_porj"]})
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "tiny__plain__lora_target_modules=q_porj__seed=1: --lora_target_modules" in result.output


def test_a_base_needs_examples_to_score(grid: Path, stubbed: list[str]) -> None:
    content = yaml.safe_load(grid.read_text())
    for split in ("val", "test"):
        del content["data"][f"{split}_csv"]
        (grid.parent / f"{split}.csv").unlink()
    change(grid, data=content["data"])
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "base: true scores tiny on csv_qa, and no examples to score are there" in result.output
    assert not (grid.parent / "results").exists()


@pytest.mark.slow
def test_the_example_of_a_sweep_with_two_seeds_and_its_base(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text((REPOSITORY / "configs" / "sweep.yaml").read_text())
    change(file, output_dir=str(tmp_path))
    process = start(file)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    folder = tmp_path / "sweep"
    base, *cells = json.loads((folder / SUMMARY).read_text())["cells"]
    of_base = json.loads((folder / "tiny__base" / "metrics.json").read_text())
    assert of_base["value"] == base["value"]
    assert of_base["provenance"]["adapter"] is None
    names = [f"tiny__plain__learning_rate={rate}" for rate in ("0.002", "0.005")]
    assert [cell["run"] for cell in cells] == names
    for name, cell in zip(names, cells, strict=True):
        scored = [
            json.loads((folder / f"{name}__seed={seed}/evaluation/val/metrics.json").read_text())
            for seed in (1, 2)
        ]
        one, two = (metrics["value"] for metrics in scored)
        assert cell["seeds"] == {"1": one, "2": two}
        assert cell["value"] == pytest.approx((one + two) / 2)
        # of two values: the root of 2 * (half their distance) ** 2 / (2 - 1)
        assert cell["sd_over_seeds"] == pytest.approx(abs(one - two) / 2**0.5)
        assert cell["sd_over_seeds"] == pytest.approx(statistics.stdev([one, two]))
        # the base answered the examples that the adapters answered, though they are a subset
        data = [metrics["provenance"]["data"] for metrics in (of_base, *scored)]
        assert data[0] == data[1] == data[2] and data[0]["num_examples"] == 100
    # else all of this could be said of zeros
    assert all(cell["value"] > base["value"] for cell in cells)
    assert any(cell["sd_over_seeds"] > 0 for cell in cells)
    again = invoke("--config", file)
    assert again.exit_code == 0
    assert again.output.count("finished before") == 5

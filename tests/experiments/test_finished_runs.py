"""What a grid takes for finished: runs of the same settings, data, base and adapter alone."""

import shutil
from pathlib import Path

import yaml
from safetensors.torch import load_file, save_file

from common.json_files import read_json, write_json
from experiments.cell import METRICS
from experiments.pipeline_records import RECORD
from finetuning.training.output_folder import clear
from tests.experiments.grids import invoke, summary, write_grid


def test_a_finished_run_of_other_settings_is_refused(grid: Path, stubbed: list[str]) -> None:
    assert invoke("--config", grid).exit_code == 0
    grid.write_text(grid.read_text().replace("max_steps: 2", "max_steps: 3"))
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "was finished with max_steps 2 and is now to have max_steps 3; give" in result.output


def test_no_finished_run_of_other_settings_stands_beside_those_that_only_names(
    grid: Path, stubbed: list[str]
) -> None:
    assert invoke("--config", grid, "--only", "r2").exit_code == 0
    grid.write_text(grid.read_text().replace("max_steps: 2", "max_steps: 3"))
    result = invoke("--config", grid, "--only", "r4")
    assert result.exit_code == 2
    assert "pali__r2 was finished with max_steps 2 and is now to have max_steps 3" in result.output
    assert summary(grid)["pali__r4"]["status"] == "not run"
    shutil.rmtree(grid.parent / "results/try/pali__r2")
    assert invoke("--config", grid, "--only", "r4").exit_code == 0


def test_a_finished_run_of_other_data_is_refused(grid: Path, stubbed: list[str]) -> None:
    assert invoke("--config", grid).exit_code == 0
    table = grid.parent / "test.csv"
    table.write_text(table.read_text().replace("what colour is it?", "which colour?"))
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "pali__r2 was finished with other eval_data than its files hold now" in result.output


def test_a_finished_run_of_another_base_is_refused(
    tmp_path: Path, pico1: Path, stubbed: list[str]
) -> None:
    base = shutil.copytree(pico1, tmp_path / "base")
    grid = write_grid(tmp_path, [("pali", str(base))])
    assert invoke("--config", grid).exit_code == 0
    weights = load_file(base / "model.safetensors")
    save_file({name: 1.1 * weight for name, weight in weights.items()}, base / "model.safetensors")
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "pali__r2 was finished with other base weights than its files hold now" in result.output


def test_a_finished_run_whose_adapter_was_trained_again_is_refused(
    grid: Path, stubbed: list[str]
) -> None:
    assert invoke("--config", grid).exit_code == 0
    folder = grid.parent / "results/try/pali__r2"
    (folder / "adapter_model.safetensors").write_text("another")
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "pali__r2 was finished with other adapter weights than its files" in result.output
    (folder / "adapter_model.safetensors").unlink()  # to save space; its score stays that of it
    assert "pali__r2: finished before" in invoke("--config", grid).output


def test_a_record_of_an_earlier_version_knows_no_adapter_and_stays(
    grid: Path, stubbed: list[str]
) -> None:
    assert invoke("--config", grid).exit_code == 0
    file = grid.parent / "results/try/pali__r2" / METRICS
    record = read_json(file)
    del record["adapter_sha256"], record["base_fingerprint"]
    write_json(file, record)
    assert "pali__r2: finished before" in invoke("--config", grid).output


def test_a_run_that_is_replaced_loses_the_records_of_grid_and_pipeline(tmp_path: Path) -> None:
    for name in (METRICS, RECORD, "notes.txt"):
        (tmp_path / name).write_text("{}")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_torn_record_is_named(grid: Path, stubbed: list[str]) -> None:
    assert invoke("--config", grid).exit_code == 0
    (grid.parent / "results/try/pali__r2" / METRICS).write_text('{"run": "pa')
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "generation_metrics.json is not valid JSON" in result.output


def test_what_changes_no_figure_may_change_after_a_run(grid: Path, stubbed: list[str]) -> None:
    assert invoke("--config", grid).exit_code == 0
    content = yaml.safe_load(grid.read_text())
    content["training"] |= {"per_device_eval_batch_size": 1, "gradient_checkpointing": True}
    grid.write_text(yaml.safe_dump(content))
    assert "pali__r2: finished before" in invoke("--config", grid).output

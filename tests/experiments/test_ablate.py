"""A grid carried out: what is run, what is not run again, what a failure and a kill leave."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from common.json_files import read_json, write_json
from experiments.ablation import read_ablation
from experiments.cell import METRICS
from experiments.grid_runs import runs
from finetuning.training.checkpoints import staged
from finetuning.training.output_folder import resume_arguments
from tests.experiments.grids import invoke, option, summary, write_grid
from tests.helpers import read_page
from tests.models.tiny_families import maker


def test_an_initial_adapter_decides_in_place_of_the_variant(grid: Path) -> None:
    content = yaml.safe_load(grid.read_text()) | {"sweep": {"lora_init_from": ["runs/a"]}}
    grid.write_text(yaml.safe_dump(content))
    found = runs(read_ablation(grid))
    assert all("--lora_init_from" in run.options for run in found)
    assert not any("--lora_rank" in run.options or "--use_dora" in run.options for run in found)
    assert all(option(run, "quantization") == "none" for run in found)


def test_every_score_stands_in_json_table_and_image(grid: Path, stubbed: list[str]) -> None:
    result = invoke("--config", grid)
    assert result.exit_code == 0, result.output
    # the best first
    assert "pali__r4  rouge_l 44  [39, 45]\npali__r2  rouge_l 42" in result.output
    rows = summary(grid)
    assert [row["status"] for row in rows.values()] == ["finished", "finished"]
    assert rows["pali__r4"]["value"] == 44.0
    folder = grid.parent / "results" / "try"
    with (folder / "ablation_summary.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(r["run"], r["value"], r["low_95"], r["CIDEr"]) for r in table] == [
        ("pali__r2", "42.0", "39.0", ""),
        ("pali__r4", "44.0", "39.0", ""),
    ]
    with Image.open(folder / "comparison.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 3
    found = json.loads((folder / "pali__r4" / METRICS).read_text())
    assert found["predictions"] == "evaluation/test/predictions.jsonl"


def test_a_failed_run_is_recorded_and_the_others_go_on(grid: Path, stubbed: list[str]) -> None:
    stubbed.append("pali__r2")
    result = invoke("--config", grid)
    assert result.exit_code == 1
    rows = summary(grid)
    assert rows["pali__r2"]["status"] == "failed"
    assert "Error: it broke. (exit code 1" in rows["pali__r2"]["error"]
    assert rows["pali__r4"]["status"] == "finished"
    stubbed.clear()
    again = invoke("--config", grid)
    assert again.exit_code == 0
    assert "pali__r4: finished before" in again.output
    assert "pali__r2: finished\n" in again.output


def test_the_page_has_every_run_of_the_summary(grid: Path, stubbed: list[str]) -> None:
    stubbed.append("pali__r2")
    page = grid.parent / "results/try/index.html"
    assert f"All runs on one page: {page}" in invoke("--config", grid).output
    rows = summary(grid)
    broken, finished = read_page(page)["entries"]
    assert [broken["name"], finished["name"]] == list(rows)
    assert (broken["state"], broken["value"], broken["report"]) == ("failed", None, None)
    assert broken["reason"] == rows["pali__r2"]["error"]
    # by the stub: 40 + rank, of four examples
    assert (finished["value"], finished["interval"]) == (44.0, [39.0, 45.0])
    assert (finished["metric"], finished["num_examples"]) == ("rouge_l", 4)
    assert finished["figures"]["seconds"] == rows["pali__r4"]["seconds"]
    shown = {name: finished["settings"][name] for name in ("model", "r", "alpha", "max_steps")}
    assert shown == {"model": "pali", "r": 4, "alpha": 8, "max_steps": 2}
    assert (page.parent / finished["report"]).read_text() == "a page"
    assert "1 of 2 runs are not finished: pali__r2." in read_page(page)["notes"]
    page.write_text("mine")
    result = invoke("--config", grid)
    assert result.exit_code == 2 and "is there and is no index" in result.output
    assert page.read_text() == "mine"


def test_no_score_links_to_the_page_of_a_later_evaluation(grid: Path, stubbed: list[str]) -> None:
    assert invoke("--config", grid).exit_code == 0
    page = grid.parent / "results/try/index.html"
    assert not any("No link" in note for note in read_page(page)["notes"])
    file = page.parent / "pali__r2/evaluation/test/metrics.json"
    write_json(file, read_json(file) | {"num_examples": 3})
    assert invoke("--config", grid).exit_code == 0
    first, second = read_page(page)["entries"]
    assert (first["value"], first["report"]) == (42.0, None)
    assert second["report"] is not None
    assert "No link leads to the answers of pali__r2: they are" in read_page(page)["notes"][0]


def test_a_recorded_failure_is_kept_and_each_attempt_speaks_for_itself(
    grid: Path, stubbed: list[str]
) -> None:
    stubbed.append("pali__r2")
    assert invoke("--config", grid).exit_code == 1
    assert invoke("--config", grid, "--only", "r4").exit_code == 0
    assert "it broke" in summary(grid)["pali__r2"]["error"]
    log = grid.parent / "results/try/logs/pali__r2.txt"
    log.write_bytes(b"Error: an older one.\n\xff")  # torn by a kill
    invoke("--config", grid)
    assert summary(grid)["pali__r2"]["error"].startswith("Error: it broke.")


def test_a_torn_checkpoint_is_no_place_to_go_on_from(grid: Path, stubbed: list[str]) -> None:
    folder = grid.parent / "results/try/pali__r2"
    (folder / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    assert "pali__r2  new" in invoke("--config", grid, "--dry_run").output
    assert resume_arguments(folder) == ["--overwrite"]


def test_a_folder_that_no_run_of_ours_began_is_not_replaced(grid: Path) -> None:
    folder = grid.parent / "results/try/pali__r2"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"mine")
    result = invoke("--config", grid, "--only", "r2")
    assert result.exit_code == 1
    assert "is not empty" in summary(grid)["pali__r2"]["error"]
    assert (folder / "adapter_model.safetensors").read_bytes() == b"mine"


def test_a_cluster_that_is_not_there_is_one_sentence(grid: Path, stubbed: list[str]) -> None:
    result = invoke("--config", grid, "--ray", "127.0.0.1:1")
    assert result.exit_code == 2
    assert "--ray 127.0.0.1:1 cannot be reached" in result.output
    result = invoke("--config", grid, "--ray_gpus", "1")
    assert result.exit_code == 2 and "add --ray" in result.output


def test_an_interrupted_run_waits_for_resume(grid: Path, stubbed: list[str]) -> None:
    checkpoint = grid.parent / "results/try/pali__r2/checkpoints/checkpoint-1"
    with staged(checkpoint.parent, 1) as beside:
        write_json(beside / "trainer_state.json", {})
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "pali__r2 in" in result.output and "--resume goes on" in result.output
    assert checkpoint.is_dir()
    assert "pali__r2  interrupted" in invoke("--config", grid, "--dry_run").output


@pytest.mark.parametrize(("only", "names"), [("r4", ["pali__r4"]), ("pali__r2", ["pali__r2"])])
def test_only_what_is_named_is_run(
    grid: Path, stubbed: list[str], only: str, names: list[str]
) -> None:
    assert invoke("--config", grid, "--only", only).exit_code == 0
    done = [name for name, row in summary(grid).items() if row["status"] == "finished"]
    assert done == names


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_steps: 2", "max_steps: 0", "pali__r2: max_steps must be at least 1, got 0"),
        ("train.csv", "trian.csv", "pali__r2: The table .*trian.csv does not exist"),
        ("hf_model_id: /", "hf_model_id: /nowhere/", "pali: No model at '/nowhere"),
        ("target_modules: attention", "target_modules: q_porj", "pali__r2: .*q_porj"),
    ],
)
def test_a_wrong_value_is_found_before_the_first_run(
    grid: Path, stubbed: list[str], old: str, new: str, message: str
) -> None:
    grid.write_text(grid.read_text().replace(old, new))
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert re.search(message, result.output), result.output
    assert not (grid.parent / "results").exists()


def test_a_model_that_stands_twice_is_checked_twice(grid: Path, stubbed: list[str]) -> None:
    content = yaml.safe_load(grid.read_text())
    again = content["models"][0] | {"name": "again", "image_size": 64}
    grid.write_text(yaml.safe_dump(content | {"models": [*content["models"], again]}))
    result = invoke("--config", grid)
    assert result.exit_code == 2
    assert "again__r2: " in result.output and "image_size" in result.output
    assert not (grid.parent / "results").exists()


def test_a_choice_on_the_way_needs_a_val_table(grid: Path, stubbed: list[str]) -> None:
    content = yaml.safe_load(grid.read_text())
    content["training"]["eval_strategy"] = "epoch"
    grid.write_text(yaml.safe_dump(content))
    assert invoke("--config", grid, "--dry_run").exit_code == 0
    (grid.parent / "val.csv").rename(grid.parent / "other.csv")
    del content["data"]["val_csv"]
    grid.write_text(yaml.safe_dump(content))
    result = invoke("--config", grid, "--dry_run")
    assert result.exit_code == 2
    assert "pali__r2: No table of csv_qa split 'val'" in result.output


def test_a_place_that_cannot_be_written_is_found_first(grid: Path, stubbed: list[str]) -> None:
    (grid.parent / "results").write_text("a file")
    result = invoke("--config", grid, "--dry_run")
    assert result.exit_code == 2
    assert "results/try cannot be written" in result.output


def test_a_name_that_is_no_run_gets_a_suggestion(grid: Path) -> None:
    result = invoke("--config", grid, "--only", "pali__r5")
    assert result.exit_code == 2
    assert "did you mean pali__r" in result.output


def start(grid: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "palitune.main", "ablate", "--config", str(grid), *arguments]
    environment = os.environ | {"PATH": str(Path(sys.executable).parent)}  # no Java: 6 s a run less
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def is_alive(folder: Path) -> bool:
    """Whether some process still works on a run."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_bytes())
        except OSError:
            continue
    return any(os.fsencode(f"{folder}\0") in line for line in found)


@pytest.mark.slow
def test_a_killed_grid_of_two_families_goes_on_where_it_was(tmp_path: Path, pico1: Path) -> None:
    llava = tmp_path / "llava"
    maker("llava")(llava)
    models = [("pali", str(pico1)), ("llava", str(llava))]
    grid = write_grid(
        tmp_path, models, max_steps=30, per_device_train_batch_size=2, save_strategy="steps",
        save_steps=2, eval_strategy="no", save_total_limit=1,
    )  # fmt: skip
    folder = tmp_path / "results" / "try"
    second = folder / "pali__r4"
    process = start(grid)
    while not any(second.glob("checkpoints/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2)
    assert not is_alive(second)
    first = (folder / "pali__r2" / METRICS).stat().st_mtime_ns
    assert invoke("--config", grid).exit_code == 2  # not without a word
    process = start(grid, "--resume")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert (folder / "pali__r2" / METRICS).stat().st_mtime_ns == first
    rows = summary(grid)
    assert list(rows) == ["pali__r2", "pali__r4", "llava__r2", "llava__r4"]
    assert {row["status"] for row in rows.values()} == {"finished"}
    assert all(row["num_examples"] == 4 for row in rows.values())
    steps = json.loads((second / "trainer_state.json").read_text())["global_step"]
    assert steps == 30
    log = (folder / "logs" / "pali__r4.txt").read_text()
    assert "--resume" in log


@pytest.mark.slow
def test_a_local_ray_cluster_runs_the_grid(tmp_path: Path, pico1: Path) -> None:
    grid = write_grid(tmp_path, [("pali", str(pico1))])
    process = start(grid, "--ray")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "pali__r2: running" not in output  # which is said where there is no cluster
    assert {row["status"] for row in summary(grid).values()} == {"finished"}

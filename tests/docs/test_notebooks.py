"""The notebooks run to their end, and are stored with what they print."""

import csv
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from docs.frames_chat.draw_frames import HERE, draw_frame
from tests.docs.notebooks import NOTEBOOKS, read, run_cells
from tests.helpers import REPOSITORY, read_json, read_lines

# in place of ten minutes; two logged losses are a curve
SHORT = {"palitune demo\n": "palitune demo --max_steps 20\n"}


def _printed(cell: Any) -> str:
    """What a cell printed, or wrote of its value."""
    texts = [output.get("text") or output.get("data", {}) for output in cell.outputs]
    return "".join(text if isinstance(text, str) else "".join(map(str, text)) for text in texts)


def _code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a notebook of the project; return the folder in which it wrote."""
    (path,) = [path for path in NOTEBOOKS if path.stem == name]
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "work"))
    # the checkout, wherever the kernel is
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    notebook = read(path)
    for cell in _code_cells(notebook):
        for command, short in SHORT.items():
            cell.source = f"{cell.source}\n".replace(command, short).rstrip("\n")
    run_cells(notebook, path.parent)
    (folder,) = {p for p in (tmp_path / "work").iterdir() if any(p.rglob("run.json"))}
    return folder


@pytest.mark.slow
def test_the_demo_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _run("demo", tmp_path, monkeypatch)
    assert len(read_json(folder / "runs" / "demo" / "summary.json")["tasks"]) == 5
    assert (folder / "docvqa.html").is_file()


@pytest.mark.slow
def test_a_table_of_ones_own_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _run("own_table", tmp_path, monkeypatch)
    before = read_json(folder / "base" / "metrics.json")
    after = read_json(folder / "runs" / "shapes" / "evaluation" / "test" / "metrics.json")
    assert before["num_examples"] == after["num_examples"] == 80  # 40 images, two questions each
    # of four colours and three shapes the most frequent answer is right for a quarter at most
    assert before["value"] < 0.25 < 0.5 < after["value"]
    assert (folder / "runs" / "shapes-merged" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_frames_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _run("frames_chat", tmp_path, monkeypatch)
    metrics = read_json(folder / "run" / "evaluation" / "val" / "metrics.json")
    # a tenth of 24 frames is 2; of the two questions on each, one asks for a count
    assert (metrics["metric"], metrics["num_examples"]) == ("count_accuracy", 2)
    rows = read_lines(folder / "run" / "evaluation" / "val" / "predictions.jsonl")
    # a number where a number was taught, and no number elsewhere
    pairs = [(row["prediction"].isdecimal(), row["references"][0].isdecimal()) for row in rows]
    assert sorted(pairs) == [(False, False)] * 2 + [(True, True)] * 2
    assert list(folder.rglob("*tfevents*"))


def test_the_frames_are_those_that_are_drawn() -> None:
    rows = csv.DictReader((HERE / "labels.csv").read_text(encoding="utf-8").splitlines())
    drawn = {r["file"]: draw_frame(r["file"], int(r["count"]), r["camera"]) for r in rows}
    assert {path.name for path in (HERE / "frames").iterdir()} == drawn.keys()
    for name, image in drawn.items():
        assert Image.open(HERE / "frames" / name).convert("RGB").tobytes() == image.tobytes()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_what_it_printed(path: Path) -> None:
    cells = _code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    silent = [cell.source for cell in cells if "%%bash" in cell.source and not cell.outputs]
    assert not silent
    printed = "".join(map(_printed, cells))
    assert not re.findall(r"/(?:tmp|root|home|work|Users)/\S*", printed)  # of the machine
    assert path.stat().st_size < 1_000_000


def test_the_stored_demo_has_a_score_above_its_baselines() -> None:
    (path,) = [path for path in NOTEBOOKS if path.stem == "demo"]
    printed = "".join(map(_printed, _code_cells(read(path))))
    rows = re.findall(r"^(\w+) +\w+ +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +\d+$", printed, re.M)
    assert {row[0] for row in rows} == {"coco_captioning", "docvqa", "gqa", "vqav2", "digits"}
    for _, base, tuned, shuffled, majority in rows:
        assert float(tuned) > max(map(float, (base, shuffled, majority)))

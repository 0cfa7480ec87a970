"""The wheel and the source distribution, built and used far from the checkout."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from sysconfig import get_paths

import pytest

from tests.helpers import REPOSITORY, read_json
from tests.source_tree import LAYERS

pytestmark = pytest.mark.slow
_BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def _tracked() -> list[str]:
    """The files of the checkout, by git; where there is none, all but what git would ignore."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode == 0:
        return [name for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file()]
    left_out = {".git", ".venv", "__pycache__", "build", "runs", "results"}
    paths = (path for path in REPOSITORY.rglob("*") if path.is_file())
    names = (path.relative_to(REPOSITORY) for path in paths)
    return [name.as_posix() for name in names if not left_out & set(name.parts)]


def _build(source: Path, kind: str, folder: Path) -> Path:
    """Build `wheel` or `sdist` from a folder, as pip does, with the setuptools that is here."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _BUILD, f"build_{kind}", str(folder)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder / result.stdout.splitlines()[-1]


def _content(wheel: Path) -> dict[str, str]:
    """Each file of a wheel with the hash of its content."""
    with zipfile.ZipFile(wheel) as file:
        return {name: hashlib.sha256(file.read(name)).hexdigest() for name in file.namelist()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without what is not tracked, in which may be built."""
    folder = tmp_path_factory.mktemp("source")
    for name in _tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return _build(source, "wheel", tmp_path_factory.mktemp("wheel"))


def test_each_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    expected = {}
    for name in _tracked():
        top = name.partition("/")[0]
        if top in (*LAYERS, "configs"):
            place = f"experiments/{name}" if top == "configs" else name
            expected[place] = hashlib.sha256((REPOSITORY / name).read_bytes()).hexdigest()
    content = _content(wheel)
    assert {n: h for n, h in content.items() if ".dist-info/" not in n} == expected
    assert any(name.endswith("licenses/LICENSE") for name in content)


def test_the_source_distribution_builds_the_same_wheel(
    wheel: Path, source: Path, tmp_path: Path
) -> None:
    packed = _build(source, "sdist", tmp_path / "sdist")
    with tarfile.open(packed) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = _build(unpacked, "wheel", tmp_path / "wheel")
    assert _content(again) == _content(wheel)
    for name in ("Makefile", "constraints.txt", "eval.py", "tests/helpers.py", "docs/index.md"):
        assert (unpacked / name).is_file()  # it can be tested, too


class Installed:
    """The wheel in an environment of its own, whose other packages are those of this one."""

    def __init__(self, wheel: Path, place: Path) -> None:
        self.folder = place / "elsewhere"  # no checkout near it
        self.folder.mkdir()
        venv.create(place / "venv")
        self.python = next((place / "venv").glob("[bS]*/python*"))
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, cwd=place)
        # a .pth file adds a folder, and does not read the .pth files in it: that of an editable
        # installation of the checkout stays unread
        (packages,) = (place / "venv").glob("**/site-packages")
        paths = {get_paths()["purelib"], get_paths()["platlib"]}
        (packages / "others.pth").write_text("\n".join(sorted(paths)))

    def run(self, *words: object, exit_code: int = 0) -> str:
        """Run `palitune` from the other folder and return what it prints."""
        command = self.python.with_name("palitune")
        return self._run([str(command), *map(str, words)], exit_code)

    def evaluate(self, program: str) -> str:
        """Run a line of Python from the other folder and return what it prints."""
        return self._run([str(self.python), "-c", program], 0)

    def _run(self, command: list[str], exit_code: int) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment["PATH"] = str(self.python.parent)  # without Java captions are scored sooner
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == exit_code, result.stdout + result.stderr
        return result.stdout + result.stderr


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed, with two runs of two steps in `runs`."""
    found = Installed(wheel, tmp_path_factory.mktemp("installed"))
    few = ("--max_train_samples", 8, "--max_eval_samples", 4, "--batch_size", 4, "--max_steps", 2)
    for task in ("docvqa", "vqav2"):
        found.run("train", task, "--model_path", "tiny", "--data_root", "sample", *few)
    return found


def test_the_modules_are_those_of_the_wheel(installed: Installed) -> None:
    program = "import json, {0}; print(json.dumps([m.__file__ for m in ({0},)]))"
    for place in json.loads(installed.evaluate(program.format(", ".join(LAYERS)))):
        assert installed.python.parents[1] in Path(place).parents
    version = installed.run("--version").split()[-1]
    assert f"\nversion = {version}\n" in (REPOSITORY / "setup.cfg").read_text()


def test_a_run_is_scored_and_shown_from_another_folder(installed: Installed) -> None:
    words = ("--max_eval_samples", 4, "--data_root", "sample")
    installed.run("eval", "--run", "docvqa", *words, "--output_dir", "scores")
    metrics = read_json(installed.folder / "scores" / "metrics.json")
    assert (metrics["metric"], metrics["num_examples"]) == ("anls", 4)
    installed.run("report", "runs/docvqa", "scores", "--output", "page.html")
    page = (installed.folder / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "docvqa" in page
    assert "docvqa" in installed.run("runs")


def test_runs_are_merged_from_another_folder(installed: Installed) -> None:
    both = ("--model_a", "runs/docvqa", "--model_b", "runs/vqav2")
    installed.run("merge", "--base_model", "tiny", *both, "--output", "runs/both")
    assert (installed.folder / "runs/both/adapter_model.safetensors").is_file()


def test_a_table_is_looked_at_and_the_example_files_are_read(installed: Installed) -> None:
    table = "image,question,answer\nred.png,what colour?,red\n"
    (installed.folder / "table.csv").write_text(table)
    text = installed.run("inspect", "table.csv")
    assert "question" in text and "answer" in text
    written = installed.run("configs").split()
    assert "configs/vlm_ablation.yaml" in written
    for split in ("train", "valid", "test"):
        path = installed.folder / "data" / "quic360" / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("url,query,annotation\nred.png,what colour?,red\n")
    grid = ("--config", "configs/vlm_ablation.yaml", "--dry_run")
    text = installed.run("ablate", *grid, exit_code=2)  # it was read; its models are on the Hub
    assert text.startswith("Train and score a grid of 6 runs.") and "HF_HUB_OFFLINE" in text


def test_the_demo_runs_from_another_folder(installed: Installed) -> None:
    installed.run("demo", "--max_steps", 1)
    summary = read_json(installed.folder / "runs/demo/summary.json")
    names = {"coco_captioning", "docvqa", "gqa", "vqav2", "digits"}
    assert {row["task"] for row in summary["tasks"]} == names
    assert (installed.folder / "runs/demo/index.html").is_file()

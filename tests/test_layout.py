"""The floors: who imports whom, and what `--help` costs."""

import ast
import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from models.base import Family
from models.registry import FAMILIES
from tasks.registry import get_task, task_names
from tests.helpers import REPOSITORY
from tests.source_tree import (
    DOORS,
    EVALUATION_OPTIONS,
    HEAVY,
    LAYERS,
    MAY_BE_HEAVY,
    MERGE_OPTIONS,
    REGISTRIES,
    SCRIPTS,
    TINY_SCRIPTS,
    TRAINING_OPTIONS,
    circles,
    imported_modules,
    importers,
    imports_anywhere,
    imports_at_module_level,
    level,
    relative,
    source_files,
)


def test_no_import_runs_up_or_beside() -> None:
    wrong = []
    for path in source_files(*LAYERS):
        place = relative(path)
        package = place.partition("/")[0]
        if place in DOORS or place.startswith(TINY_SCRIPTS):
            continue
        for name in sorted(imported_modules(path)):
            other = name.partition(".")[0]
            is_door = f"{name.replace('.', '/')}.py" in DOORS
            if is_door and place in REGISTRIES:
                continue
            if is_door or (other != package and level(other) <= level(package)):
                wrong.append(f"{place} -> {name}")
    assert not wrong


def test_a_door_names_one_command_of_the_command_line() -> None:
    for door in DOORS:
        found = [n for n in imported_modules(REPOSITORY / door) if n.startswith("palitune")]
        assert len(found) == 1, door


def test_no_files_and_no_folders_import_each_other_in_a_circle() -> None:
    files = {
        relative(path): {f"{name.replace('.', '/')}.py" for name in imported_modules(path)}
        for path in source_files(*LAYERS)
    }
    assert not circles(files)
    folders: dict[str, set[str]] = {}
    for path, others in files.items():
        if path in DOORS or path.startswith(TINY_SCRIPTS):
            continue
        folder = path.partition("/")[0]
        found = {other.partition("/")[0] for other in others if other not in DOORS}
        folders[folder] = folders.get(folder, set()) | (found - {folder})
    assert not circles(folders)


def test_a_planted_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_dynamic_imports_stand_in_the_registries_alone() -> None:
    found = {
        relative(path)
        for path in source_files(*LAYERS)
        if any(word in path.read_text() for word in ("import_module", "__import__("))
    }
    assert found == set(REGISTRIES)


def test_click_is_known_to_the_command_line_alone() -> None:
    found = {
        relative(path).partition("/")[0]
        for path in source_files(*LAYERS)
        if "click" in imports_anywhere(path) and not relative(path).startswith(TINY_SCRIPTS)
    }
    assert found == {"palitune"}


def test_metrics_import_nothing_of_ours_but_each_other() -> None:
    for path in source_files("tasks/metrics"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tasks"):
                assert str(node.module).startswith("tasks.metrics"), relative(path)


def test_heavy_libraries_are_imported_at_module_level_only_where_that_is_agreed() -> None:
    found = {
        relative(path)
        for path in [*source_files(*LAYERS), *REPOSITORY.glob("*.py")]
        if imports_at_module_level(path) & set(HEAVY)
    }
    assert found == MAY_BE_HEAVY


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_its_file_and_a_line_of_the_registry(family: type[Family]) -> None:
    own = f"{family.__module__.replace('.', '/')}.py"
    heirs = {f"{f.__module__.replace('.', '/')}.py" for f in FAMILIES if issubclass(f, family)}
    assert importers(family.__module__) - heirs == {"models/registry.py"}
    names = [f'"{name}"' for name in (family.name, *family.aliases, *family.model_types)]
    said = {
        relative(path)
        for path in source_files("models", "finetuning", "experiments")
        if any(name in path.read_text() for name in names)
    }
    assert said == {own}


# What is made of certain tasks knows them by name.
DEMO = {"experiments/demo.py"}
BUILT_ON = {
    "csv_qa": {"experiments/grid_runs.py", "palitune/runs.py"},
    # a key of its records, what such a file is called, and a word of chat templates
    "conversations": {
        "tasks/conversation_turns.py",
        "tasks/inspect_conversations.py",
        "models/template_limits.py",
    },
    "image_qa": {"experiments/pipeline.py", "experiments/pipeline_config.py"},
}


@pytest.mark.parametrize("name", task_names())
def test_a_task_is_its_file_its_script_and_a_line_of_the_registry(name: str) -> None:
    task = get_task(name)
    heirs = {
        f"{type(other).__module__.replace('.', '/')}.py"
        for other in map(get_task, task_names())
        if isinstance(other, type(task)) or type(task).__module__ == "tasks.csv_qa"
    }
    own = f"{type(task).__module__.replace('.', '/')}.py"
    assert importers(type(task).__module__) - heirs == {"tasks/registry.py"}
    said = {
        relative(path)
        for path in source_files(*LAYERS)
        if f'"{name}"' in path.read_text()
        and not relative(path).startswith(
            ("tasks/sample/", "tasks/registry.py", "tasks/overlap.py")
        )
    }
    assert said - BUILT_ON.get(name, DEMO) == {own, f"finetuning/{name}.py"}


def test_imports_are_absolute() -> None:
    assert not [relative(p) for p in source_files(*LAYERS, "tests") if "" in imports_anywhere(p)]


def test_no_script_hides_a_module_of_python_or_of_an_installed_package() -> None:
    ours = {*LAYERS, "tests"}
    taken = (set(sys.stdlib_module_names) | set(packages_distributions())) - ours
    paths = [*(REPOSITORY / "finetuning").glob("*.py"), *REPOSITORY.glob("*.py")]
    assert len(paths) > 10
    folders = {path.name for path in (REPOSITORY / "finetuning").iterdir() if path.is_dir()}
    assert not folders & set(LAYERS)
    assert not [relative(path) for path in paths if path.stem in taken]


def test_a_script_is_short() -> None:
    for name in SCRIPTS:
        assert len((REPOSITORY / f"finetuning/{name}.py").read_text().splitlines()) <= 15


@pytest.mark.parametrize(
    "script", ["eval.py", "merge_vlm.py", *(f"finetuning/{name}.py" for name in SCRIPTS)]
)
def test_help_is_answered_from_another_folder_without_anything_heavy(
    script: str, tmp_path: Path
) -> None:
    code = (
        "import json, runpy, sys\n"
        "sys.argv = ['script', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(REPOSITORY / script)!r}, run_name='__main__')\n"
        "finally:\n"
        f"    print(json.dumps([name for name in {HEAVY} if name in sys.modules]))\n"
    )
    # as Python itself starts a script: its folder is on the path, the current one is not
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    help_text, _, loaded = result.stdout.rstrip().rpartition("\n")
    assert json.loads(loaded) == []
    expected = {"eval.py": EVALUATION_OPTIONS, "merge_vlm.py": MERGE_OPTIONS}.get(
        script, TRAINING_OPTIONS
    )
    assert not [name for name in expected.split() if f"--{name}" not in help_text]

"""The house rules that a reader cannot see in one file: imports, names, and what `--help` costs."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from models.base import Family
from models.registry import FAMILIES
from palitune.command import Option
from palitune.main import palitune
from tasks.registry import get_task, task_names
from tests.helpers import REPOSITORY

# From the top; a file may import from its own package and from the floors below.
FLOORS = (
    ("palitune",),
    ("experiments",),
    ("finetuning", "merging"),
    ("evaluation",),
    ("tasks", "models"),
    ("synthetic", "common"),
)
LAYERS = tuple(package for floor in FLOORS for package in floor)
# The doors: each names one command of `palitune`, and the registry of scripts alone names them.
DOORS = ("eval.py", "merge_vlm.py", *(f"finetuning/{name}.py" for name in task_names()))
# The only dynamic imports: registry -> the modules that it loads by name.
REGISTRIES = {"palitune/scripts.py": tuple(f"finetuning.{name}" for name in task_names())}
# They make the embedded model out of the embedded tasks.
TINY_SCRIPTS = "models/tiny/"
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "wandb")
# imported inside a command's body; pretrain.py is a script
MAY_BE_HEAVY = {
    "evaluation/prediction.py",
    "finetuning/training/collation.py",
    "finetuning/training/loss.py",
    "finetuning/training/probe_tools.py",
    "finetuning/training/probes.py",
    "finetuning/training/progress.py",
    "finetuning/training/trainer.py",
    "merging/algebra/adapters.py",
    "merging/algebra/base.py",
    "merging/algebra/core.py",
    "merging/algebra/export.py",
    "merging/algebra/factorise.py",
    "merging/algebra/full_model.py",
    "merging/algebra/low_rank.py",
    "merging/algebra/merge.py",
    "merging/algebra/methods.py",
    "merging/algebra/module.py",
    "merging/algebra/reader.py",
    "merging/algebra/rounding.py",
    "merging/algebra/stored_tensors.py",
    "merging/algebra/threads.py",
    "merging/algebra/thresholds.py",
    "merging/algebra/writer.py",
    "merging/trial.py",
    "models/tiny/pretrain.py",
}
SCRIPTS = task_names()
TRAINING_OPTIONS = """
    model_path data_root output_dir use_wandb max_train_samples max_eval_samples num_epochs
    prompt_template answer_sampling max_length truncate quantization dtype loss_reduction
    eval_steps wandb_project report_to config batch_size learning_rate gradient_accumulation_steps
    lora_rank lora_alpha lora_dropout warmup_ratio weight_decay optim save_steps logging_steps
    num_workers seed device resume overwrite hub_repo hub_config hub_split hub_columns revision
    model_type chat_template image_size min_pixels max_pixels trust_remote_code lora_target_modules
    lora_vision use_dora use_rslora lora_init_from max_grad_norm max_new_tokens min_new_tokens
    num_beams do_sample temperature top_p eval_epochs epochs skip_training skip_evaluation
    num_viz_samples clip_model
"""
EVALUATION_OPTIONS = """
    task model_path base_model revision data_root split max_eval_samples batch_size num_beams
    max_new_tokens output_dir csv image_column instruction_column response_column csv_lenient
    num_viz_samples model_type chat_template do_sample
"""
MERGE_OPTIONS = """
    base_model model_a model_b adapter output mode density weights lambda seed rank export
    save_dtype missing normalize trim_scope onto evaluate data_root max_eval_samples sweep dry_run
    allow_base_mismatch
"""


def source_files(*places: str) -> Iterator[Path]:
    for place in places:
        yield from sorted((REPOSITORY / place).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Top names of what these nodes import; a relative import would show as an empty one."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0] if not node.level else "")
    return names


def imports_anywhere(path: Path) -> set[str]:
    return imported(ast.walk(ast.parse(path.read_text())))


def imports_at_module_level(path: Path) -> set[str]:
    """What importing the file imports: function bodies and `if TYPE_CHECKING` left out."""

    def walk(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
        for node in nodes:
            is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types:
                continue
            yield node
            yield from walk(ast.iter_child_nodes(node))

    return imported(walk(ast.parse(path.read_text()).body))


def imported_modules(path: Path) -> set[str]:
    """Dotted names of the modules of ours that a file imports, in function bodies too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            folder = REPOSITORY / node.module.replace(".", "/")
            inner = {a.name for a in node.names if (folder / f"{a.name}.py").is_file()}
            names |= {f"{node.module}.{name}" for name in inner}
            if len(inner) < len(node.names):
                names.add(node.module)
    names |= set(REGISTRIES.get(relative(path), ()))
    return {name for name in names if name.partition(".")[0] in LAYERS}


def level(package: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if package in floor)


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


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """The names that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(arrows.get(start, ()))
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += arrows.get(name, ())
        return seen

    return [name for name in arrows if name in reached(name)]


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
        if "click" in imports_anywhere(path)
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


def importers(module: str) -> set[str]:
    """The files that import a module of ours, by its dotted name."""
    found = set()
    for path in source_files(*LAYERS):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == module:
                found.add(relative(path))
    return found


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


@pytest.mark.parametrize("name", task_names())
def test_a_task_is_its_file_its_script_and_a_line_of_the_registry(name: str) -> None:
    task = get_task(name)
    heirs = {
        f"{type(other).__module__.replace('.', '/')}.py"
        for other in map(get_task, task_names())
        if isinstance(other, type(task)) or type(task).__module__ == "tasks.csv_qa"
    }
    assert importers(type(task).__module__) - heirs == {"tasks/registry.py"}
    assert (REPOSITORY / "finetuning" / f"{name}.py").is_file()


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


def test_the_installed_command_has_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("palitune")), "--help"]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPROFILEIMPORTTIME": "1"},  # lists every import on standard error
    )
    assert result.returncode == 0
    listed = {line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ")}
    assert {"train", "eval", "compare", "merge", "preview", "tasks", "demo"} <= listed
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & set(HEAVY)


def test_help_stands_under_headings() -> None:
    text = CliRunner().invoke(palitune, ["train", "vqav2", "--help"]).output
    headings = ["General:", "Model:", "Data:", "Optimisation:", "Progress:"]
    assert [line for line in text.splitlines() if line in headings] == headings


def test_every_task_is_a_member_of_the_train_group() -> None:
    group = palitune.commands["train"]
    assert isinstance(group, click.Group)
    assert set(group.commands) == set(task_names())


def test_every_option_has_a_help_text() -> None:
    def commands(group: click.Group) -> Iterator[click.Command]:
        for command in group.commands.values():
            yield from commands(command) if isinstance(command, click.Group) else (command,)

    options = [
        option
        for command in commands(palitune)
        for option in command.params
        if isinstance(option, Option)
    ]
    assert len(options) > 100
    assert not [option.name for option in options if not option.help]


@pytest.mark.parametrize("name", ["max_train_samples", "no_gradient_checkpointing", "data_root"])
def test_hyphens_are_as_good_as_underscores(name: str, tmp_path: Path) -> None:
    arguments = {"max_train_samples": ["0"], "data_root": [str(tmp_path / "no")]}.get(name, [])
    outputs = [
        CliRunner().invoke(palitune, ["train", "vqav2", f"--{spelt}", *arguments, "--seed", "-1"])
        for spelt in (name, name.replace("_", "-"))
    ]
    assert outputs[0].exit_code == outputs[1].exit_code == 2
    assert "seed" in outputs[0].output or name in outputs[0].output
    assert outputs[0].output == outputs[1].output


def test_tasks_are_listed_with_metric_and_splits() -> None:
    lines = CliRunner().invoke(palitune, ["tasks"]).output.splitlines()
    assert [line.split()[0] for line in lines] == list(task_names())
    assert "anls" in lines[1] and "train, val, test" in lines[1]


CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_contributing_answers_twenty_questions_with_files_that_exist() -> None:
    rows = re.findall(r"^\| ([^|]+\?) \| `([\w/.]+)` \|$", CONTRIBUTING, re.MULTILINE)
    assert len(rows) >= 20
    assert not [place for _, place in rows if not (REPOSITORY / place).is_file()]


def test_contributing_names_no_file_that_is_gone() -> None:
    places = re.findall(r"`((?:[a-z]\w*/)+\w[\w.]*)`", CONTRIBUTING)
    assert len(places) > 20
    assert not [place for place in places if not (REPOSITORY / place).exists()]


def test_a_merge_mode_is_a_row_and_a_rule() -> None:
    """Adding one touches the two files that CONTRIBUTING names: no other file knows its name."""
    for name in ("magnitude_prune", "core_ties", "tsv"):
        said = {
            relative(path)
            for path in source_files("merging", "finetuning", "evaluation", "experiments")
            if f'"{name}"' in path.read_text()
        }
        settings = {"merging/settings.py"}  # the grid that `auto` tries
        assert said - settings == {"merging/algebra/modes.py", "merging/algebra/methods.py"}, name


def documented(path: Path) -> Iterator[tuple[str, str | None]]:
    """Each public name of a file with its docstring, the module's own too."""

    def walk(node: ast.AST, place: str) -> Iterator[tuple[str, str | None]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                if child.name.startswith("_") and child.name != "__call__":
                    continue
                yield f"{place}:{child.name}", ast.get_docstring(child)
                if isinstance(child, ast.ClassDef):
                    yield from walk(child, f"{place}:{child.name}")

    tree = ast.parse(path.read_text())
    yield relative(path), ast.get_docstring(tree)
    yield from walk(tree, relative(path))


def test_every_public_docstring_is_there_and_says_what_is_done() -> None:
    found = dict(entry for path in source_files(*LAYERS) for entry in documented(path))
    assert len(found) > 500
    assert not [place for place, text in found.items() if not text]
    asking = ("What", "Whether", "How")
    assert not [place for place, text in found.items() if text and text.split()[0] in asking]


def test_files_and_functions_are_short() -> None:
    limits = {place: 300 for place in LAYERS} | {"tests": 400}
    lengths = {
        relative(path): len(path.read_text().splitlines())
        for path in source_files(*LAYERS, "tests")
    }
    assert not {p: n for p, n in lengths.items() if n > limits[p.partition("/")[0]]}
    functions = {
        f"{relative(path)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in source_files(*LAYERS)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno
    }
    assert len(functions) > 500
    assert not {name: number for name, number in functions.items() if number > 60}


@pytest.mark.parametrize("package", ["evaluation", "finetuning", "merging", "palitune"])
def test_few_parameters_are_of_any_type(package: str) -> None:
    annotations = [
        ast.unparse(argument.annotation)
        for path in source_files(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.annotation is not None
    ]
    assert len(annotations) > 50
    assert annotations.count("Any") / len(annotations) < 0.05

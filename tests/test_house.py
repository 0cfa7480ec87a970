"""Names, help, documentation and sizes as the house rules have them."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from palitune.command import Option
from palitune.main import palitune
from tasks.registry import task_names
from tests.helpers import REPOSITORY
from tests.source_tree import CONTRIBUTING, HEAVY, LAYERS, documented, relative, source_files


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


@pytest.mark.parametrize("name", ["max_train_samples", "trust_remote_code", "data_root"])
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


def test_every_public_docstring_is_there_and_says_what_is_done() -> None:
    found = dict(entry for path in source_files(*LAYERS) for entry in documented(path))
    assert len(found) > 500
    assert not [place for place, text in found.items() if not text]
    asking = {"What", "Whether", "How"}
    assert not [place for place, text in found.items() if text and text.split()[0] in asking]


def test_the_docstring_of_a_function_begins_with_a_verb() -> None:
    """By a list of words that begin a phrase without one; classes and modules name a thing."""
    nouns = {"The", "A", "An", "All", "Each", "Every", "One", "No", "Of", "As", "By", "Which"}
    found = {
        f"{relative(path)}:{node.name}": ast.get_docstring(node) or ""
        for path in source_files(*LAYERS)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert len(found) > 300
    first = {place: text.split()[0] for place, text in found.items() if text}
    assert not {place: word for place, word in first.items() if word in nouns}


def test_no_six_lines_of_code_stand_twice() -> None:
    """Imports apart, which two tasks of one kind share."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in source_files(*LAYERS, "benchmarks"):
        text = path.read_text()
        imports = {
            number
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom) and node.end_lineno
            for number in range(node.lineno, node.end_lineno + 1)
        }
        lines = [
            (number, line.strip())
            for number, line in enumerate(text.splitlines(), start=1)
            if line.strip() and number not in imports
        ]
        for start in range(len(lines) - 5):
            run = lines[start : start + 6]
            places[tuple(line for _, line in run)].append(f"{relative(path)}:{run[0][0]}")
    assert len(places) > 10_000
    assert not [found for found in places.values() if len(found) > 1]


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

"""What README and documentation show is what is there."""

import re
from pathlib import Path

import click
from click.testing import CliRunner

from experiments.demo import demo_tasks
from palitune.main import palitune
from palitune.scripts import training_command
from tasks.registry import get_task, task_names
from tests.docs.documented import pages

ROOT = Path(__file__).parents[1]
TORCHRUN = {"--nproc_per_node", "--rdzv_backend", "--rdzv_endpoint"}
DOCS = ROOT / "docs"
EVERYTHING = "\n".join(page.read_text(encoding="utf-8") for page in pages())


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_each_task_has_its_row_with_every_split() -> None:
    for name in task_names():
        assert (DOCS / "tasks" / f"{name}.md").is_file()
        lines = text_of("tasks/index.md").splitlines()
        (row,) = [line for line in lines if line.startswith(f"| [`{name}`]({name}.md)")]
        for split in get_task(name).splits:
            assert f"`{split}`" in row, (name, split)


def test_each_option_that_they_name_exists() -> None:
    pipeline = palitune.commands["pipeline"]
    assert isinstance(pipeline, click.Group)
    scripts = map(training_command, task_names())
    commands = [*scripts, *palitune.commands.values(), *pipeline.commands.values()]
    known = {option for command in commands for p in command.params for option in p.opts}
    named = set(re.findall(r"--[a-z]+(?:_[a-z]+)+", EVERYTHING)) - TORCHRUN
    assert len(named) > 10
    assert named <= known


def test_each_file_that_they_name_exists() -> None:
    names = re.findall(r"`((?:finetuning|tasks|models|synthetic|benchmarks)/[\w/.]*)", EVERYTHING)
    assert names
    assert not [name for name in names if not (ROOT / name).exists()]


def test_tasks_are_listed_by_the_command() -> None:
    output = CliRunner().invoke(palitune, ["tasks"]).output
    assert [line.split()[0] for line in output.splitlines()] == list(task_names())


def test_the_table_of_the_demo_has_its_figures() -> None:
    for name in demo_tasks():
        (row,) = re.findall(rf"^\| {name} \| \w+ \|(.*)\|$", text_of("quickstart.md"), re.MULTILINE)
        base, tuned, shuffled, majority = (float(cell.strip(" *")) for cell in row.split("|"))
        assert tuned > max(base, shuffled, majority)

"""Every help text can be read alone: a whole sentence, its default shown once."""

import re
from collections.abc import Iterator

import click
import pytest

from palitune.command import Option
from palitune.main import palitune
from tasks.registry import get_task, task_names


def commands(group: click.Group, above: str = "palitune") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")


COMMANDS = dict(commands(palitune))
# What a task says of its files follows its name and a colon.
OWN_FILES = {f"--{option}" for name in task_names() for option in get_task(name).own_files}


def shown(option: Option) -> str:
    record = option.get_help_record(click.Context(click.Command("any")))
    assert record is not None
    return record[1]


def faults(text: str) -> list[str]:
    sentence = re.sub(r"\s*\[[^\]]*\]", "", text).strip()
    found = []
    if not re.match(r"[A-Z]", sentence):
        found.append("begins with no capital")
    if not sentence.endswith("."):
        found.append("does not end as a sentence")
    if len(sentence.split()) < 3:
        found.append("is no whole sentence")
    if "…" in text or "..." in text:
        found.append("is cut by an ellipsis")
    if len(re.findall(r"\bdefault\b", text)) > 1:
        found.append("shows its default twice")
    return found


@pytest.mark.parametrize("path", COMMANDS)
def test_each_help_text_is_a_sentence_that_stands_alone(path: str) -> None:
    command = COMMANDS[path]
    options = [option for option in command.params if isinstance(option, Option)]
    texts = {option.opts[0]: shown(option) for option in options if option.opts[0] not in OWN_FILES}
    found = {name: (text, faults(text)) for name, text in texts.items() if faults(text)}
    assert not found
    assert command.help and re.match(r"[A-Z].*\.$", command.help.strip(), re.DOTALL)


def test_each_kind_of_fault_is_found() -> None:
    assert faults("Of the draw.") == []
    assert faults("Where.") == ["is no whole sentence"]
    assert faults("… and most, of all.") == ["begins with no capital", "is cut by an ellipsis"]
    assert faults("Name the split [default: a]. [default: b]") == ["shows its default twice"]
    assert faults("Write to this folder") == ["does not end as a sentence"]

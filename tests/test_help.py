"""Every help text can be read alone: a whole sentence, its default shown once."""

import re
from collections.abc import Iterator

import click
import pytest

from palitune.command import Option
from palitune.main import palitune
from tasks.qa_columns import COLUMNS


def commands(group: click.Group, above: str = "palitune") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")


COMMANDS = dict(commands(palitune))
VERBS = re.findall(
    r"\w+",
    """
    Accumulate Adapt Add Allow Answer Apply Ask Average Change Choose Clip Compare Compile Compute
    Count Cut Decode Draw Feed Generate Give Hold Join Keep Leave List Load Log Look Merge Name Only
    Pass Print Probe Put Read Recompute Repeat Replace Report Resize Resume Run Save Scale Score
    Search Seed Send Show Start Stop Take Train Use Warm Warn Weight Write
    """,
)


def shown(option: Option) -> str:
    record = option.get_help_record(click.Context(click.Command("any")))
    assert record is not None
    return record[1]


def faults(text: str) -> list[str]:
    sentence = re.sub(r"\s*\[[^\]]*\]", "", text).strip()
    found = []
    if sentence.split()[0] not in VERBS:
        found.append("begins with no verb")
    if not sentence.endswith("."):
        found.append("does not end as a sentence")
    if "…" in text or "..." in text:
        found.append("is cut by an ellipsis")
    if len(re.findall(r"\bdefault\b", text)) > 1:
        found.append("shows its default twice")
    return found


@pytest.mark.parametrize("path", COMMANDS)
def test_each_help_text_is_a_sentence_that_stands_alone(path: str) -> None:
    command = COMMANDS[path]
    options = [option for option in command.params if isinstance(option, Option)]
    texts = {option.opts[0]: shown(option) for option in options}
    found = {name: (text, faults(text)) for name, text in texts.items() if faults(text)}
    assert not found
    assert not [option.opts for option in options if "…" in (option.metavar or "")]
    assert command.help and re.match(r"[A-Z].*\.$", command.help.strip(), re.DOTALL)


def test_each_kind_of_fault_is_found() -> None:
    assert faults("Draw with this seed [default: 0].") == []
    assert faults("Of the draw.") == ["begins with no verb"]
    assert faults("… and most, of all.") == ["begins with no verb", "is cut by an ellipsis"]
    assert faults("Name the split [default: a]. [default: b]") == ["shows its default twice"]
    assert faults("Write to this folder") == ["does not end as a sentence"]


@pytest.mark.parametrize("name", COLUMNS)
def test_an_option_of_a_column_names_all_that_it_may_be_called(name: str) -> None:
    options = {option.name: option for option in COMMANDS["palitune check"].params}
    option = options[f"{name}_column"]
    assert isinstance(option, Option)
    default = shown(option).partition("[default: the first there of ")[2]
    assert default.startswith(", ".join(COLUMNS[name]))

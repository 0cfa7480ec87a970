"""Tasks of the user's in the registry: their names, and those that installed packages offer."""

import logging
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from palitune.main import palitune
from tasks.registry import get_task, load_tasks, register, task_names
from tests.common.test_user_code import METHODS, WHOLE, write
from tests.helpers import one_sentence
from tests.own_code import install, write_blocks


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which installed packages are looked for."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_loaded_task_is_known_by_its_name_and_once(tmp_path: Path) -> None:
    (path,) = (p for p in write_blocks("own_task.md", tmp_path) if p.suffix == ".py")
    (task,) = load_tasks(str(path))
    assert get_task("swatches") is task and task_names()[-1] == "swatches"
    assert load_tasks(str(path)) == [task]
    assert get_task("Swatches") is task


def test_a_loaded_task_is_among_those_that_an_unknown_name_is_told(tmp_path: Path) -> None:
    load_tasks(write(tmp_path, WHOLE))
    with one_sentence("Unknown task 'mino'", "Did you mean mine?", "--task_module"):
        get_task("mino")


@pytest.mark.parametrize(
    ("was", "now", "parts"),
    [
        ('name = "mine"', 'name = "vqav2"', ("line 4", "vqav2", "tasks.vqav2.VqaV2")),
        ('name = "mine"', 'name = "coco"', ("coco", "CocoCaptioning")),  # an alias
        ('name = "mine"', 'name = "mine"\n    aliases = ("csv",)', ("csv", "CsvQa")),
        ('name = "mine"', 'name = "My task"', ("'My task'", "small letters")),
        ('name = "mine"', 'name = "a,b"', ("'a,b'",)),
        ('"default"', '"paligemma"', ("default",)),
        ("metric_range = 1.0", "metric_range = 0", ("metric_range over 0",)),
        ("max_new_tokens = 4", "max_new_tokens = 0", ("max_new_tokens of 1",)),
        ("max_new_tokens = 4", "max_new_tokens = 4\n    id_type = float", ("id_type", "float")),
        (METHODS, f"    def __init__(self, a):\n        pass\n{METHODS}", ("without arguments",)),
    ],
)
def test_a_task_that_cannot_be_added_is_told(
    tmp_path: Path, was: str, now: str, parts: tuple[str, ...]
) -> None:
    assert was in WHOLE
    before = task_names()
    with one_sentence("own_file.py, line 4", "Mine", *parts):
        load_tasks(write(tmp_path, WHOLE.replace(was, now)))
    assert task_names() == before


def test_a_task_that_inherits_an_alias_is_told_to_set_its_own(tmp_path: Path) -> None:
    text = 'from tasks.csv_qa import CsvQa\n\n\nclass Mine(CsvQa):\n    name = "mine"\n'
    with one_sentence("line 4", "the name csv", "aliases = ()"):
        load_tasks(write(tmp_path, text))
    (task,) = load_tasks(write(tmp_path, f"{text}    aliases = ()\n", "own_second.py"))
    assert task.reads_tables and get_task("csv").name == "csv_qa"


def test_a_file_that_was_edited_since_is_not_taken_for_what_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    load_tasks(path)
    write(tmp_path, WHOLE.replace('"accuracy"', '"recall"'))
    with one_sentence(path, "changed since this program loaded it", "anew"):
        load_tasks(path)


def test_two_files_cannot_have_one_name(tmp_path: Path) -> None:
    load_tasks(write(tmp_path, WHOLE))
    with one_sentence("own_second.py, line 4", "own_file.Mine"):
        load_tasks(write(tmp_path, WHOLE, "own_second.py"))


def test_a_program_adds_a_task_by_itself(tmp_path: Path) -> None:
    from tasks.digits import Digits

    class MyDigits(Digits):
        name = "my_digits"

    assert register(MyDigits()) is get_task("my_digits")


@pytest.mark.parametrize("value", ["own_pkg", "own_pkg:Mine"])
def test_an_installed_package_offers_a_task(site: Path, value: str) -> None:
    write(site, WHOLE, "own_pkg.py")
    install(site, "own-package", "palitune.tasks", {"mine": value})
    assert task_names()[-1] == "mine" and "own_pkg" not in sys.modules  # its name needs no code
    assert type(get_task("mine")).__module__ == "own_pkg"


@pytest.mark.parametrize(
    ("text", "value", "parts"),
    [
        ("raise OSError('gone')", "own_pkg", ("own_pkg.py, line 1", "OSError: gone")),
        (None, "own_pkg", ("neither",)),
        ("x = 1", "own_pkg", ("has no Task",)),
        (WHOLE, "own_pkg:Other", ("names Other",)),
        (WHOLE.replace('"mine"', '"mine2"'), "own_pkg", ("holds mine2",)),
    ],
)
def test_a_broken_package_is_named_where_its_task_is_asked_for_alone(
    site: Path, text: str | None, value: str, parts: tuple[str, ...]
) -> None:
    if text is not None:
        write(site, text, "own_pkg.py")
    install(site, "own-package", "palitune.tasks", {"mine": value})
    assert get_task("digits").name == "digits"
    with one_sentence("palitune.tasks mine of the package own-package", *parts):
        get_task("mine")


def test_a_package_does_not_take_a_name_of_ours(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(site, WHOLE, "own_pkg.py")
    install(site, "own-package", "palitune.tasks", {"vqav2": "own_pkg"})
    with caplog.at_level(logging.WARNING):
        assert task_names().count("vqav2") == 1
    assert "own-package is not used" in caplog.text
    assert type(get_task("vqav2")).__module__ == "tasks.vqav2"


def test_to_train_on_a_task_of_ours_loads_no_package(site: Path) -> None:
    touches = "from pathlib import Path\nPath(__file__).with_name('loaded').touch()\n"
    write(site, touches + WHOLE, "own_pkg.py")
    install(site, "own-package", "palitune.tasks", {"mine": "own_pkg"})
    assert CliRunner().invoke(palitune, ["train", "digits", "--help"]).exit_code == 0
    assert not (site / "loaded").exists()
    assert CliRunner().invoke(palitune, ["train", "mine", "--help"]).exit_code == 0
    assert (site / "loaded").exists()

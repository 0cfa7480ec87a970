"""Code of the user's: what is loaded, under which name, and the sentence of each mistake."""

import hashlib
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import pytest

from common.user_code import code_of, find_classes, load_code, place_in_user_code, said
from tasks.base import Task
from tests.helpers import one_sentence

HEAD = "from tasks.base import Dataset, Example, Scores, Task\n\n\n"
METHODS = """
    def load(self, split, source):
        return Dataset(self, split, [])

    def example(self, row):
        raise NotImplementedError

    def score(self, predictions, examples):
        return Scores(values=[], metrics={})
"""
ATTRIBUTES = """
    name = "mine"
    metric = "accuracy"
    metric_range = 1.0
    max_new_tokens = 4
    prompts = {"default": "{question}"}
"""
WHOLE = f"{HEAD}class Mine(Task):\n{ATTRIBUTES}{METHODS}"


def write(folder: Path, text: str, name: str = "own_file.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_is_loaded_once_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, "COUNTER = object()\n")
    code = load_code(path, "--x")
    assert load_code(path, "--x") is code
    assert code.sha256 == hashlib.sha256(b"COUNTER = object()\n").hexdigest()
    assert (code.name, code.path) == (path, Path(path))
    assert not [*tmp_path.rglob("*.pyc")]  # a stale one would run in place of what was hashed


def test_a_file_finds_its_neighbours_and_hides_none_of_ours(tmp_path: Path) -> None:
    write(tmp_path, "VALUE = 7\n", "own_neighbour.py")
    (tmp_path / "models").mkdir()
    write(tmp_path / "models", "raise ImportError\n", "__init__.py")
    text = "import models.registry\nfrom own_neighbour import VALUE\n"
    assert load_code(write(tmp_path, text), "--x").module.VALUE == 7
    sys.modules.pop("own_neighbour")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a = 1\nb = (\n", ("own_file.py, line 2", "never closed")),
        ("a = 1\n\nimport no_such_package_at_all\n", ("own_file.py, line 3", "no_such_package")),
        ("def f():\n    return 1 / 0\n\n\nf()\n", ("own_file.py, line 2", "ZeroDivisionError")),
        ("import sys\nsys.exit(0)\n", ("own_file.py, line 2", "__main__")),
        ("raise KeyError\n", ("own_file.py, line 1", "KeyError")),
        ("if True:\nx = 1\n", ("own_file.py, line 2", "indented")),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_with_its_line(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    path = write(tmp_path, text)
    with one_sentence("--x", *parts):
        load_code(path, "--x")
    assert "own_file" not in sys.modules
    Path(path).write_text("")
    load_code(path, "--x")  # once it is mended


@pytest.mark.parametrize("name", ["tasks.py", "json.py", "numpy.py", "my.file.py", "conftest.py"])
def test_a_file_called_like_another_module_is_refused(tmp_path: Path, name: str) -> None:
    sys.modules.setdefault("conftest", sys)  # any module that is loaded
    with one_sentence("--x", name, "rename"):
        load_code(write(tmp_path, WHOLE, name), "--x")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("missing.py", "does not exist"),
        ("folder/missing", "does not exist"),
        (".", "is no Python file"),
        ("no_such_module", "neither"),
        ("json.no_such_part", "neither"),
        ("what is this", "got 'what is this'"),
    ],
)
def test_what_is_no_module_is_refused(text: str, part: str) -> None:
    with one_sentence("--x", part):
        load_code(text, "--x")


def test_an_installed_module_is_known_by_its_dotted_name() -> None:
    code = load_code("tests.own_code", "--x")
    assert code.name == "tests.own_code" and code.path.name == "own_code.py"
    sys.modules["tests.own_code"] = code.module


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (HEAD, ("has no Task", "tasks.base.Task")),
        (WHOLE.replace("def score", "def scores"), ("line 4", "lacks score()", "load()")),
        (
            WHOLE.replace("def load", "def loads").replace("def ex", "def x"),
            ("example() and load",),
        ),
        (WHOLE.replace('metric = "accuracy"', ""), ("line 4", "no `metric`", "str")),
        (WHOLE.replace("prompts = ", "prompt = "), ("no `prompts`",)),
        (WHOLE.replace("metric_range = 1.0", "metric_range = 'best'"), ("metric_range", "'best'")),
        (WHOLE + '    eval_splits = ("val")\n', ("Mine.eval_splits", "tuple[str, ...]", "'val'")),
        (WHOLE + "    tags = (1, 2)\n", ("Mine.tags", "(1, 2)")),
        (WHOLE.replace("class Mine(Task)", "class Mine"), ("has no Task",)),
    ],
)
def test_a_class_that_is_not_complete_is_told_with_its_line(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    code = load_code(write(tmp_path, text), "--x")
    with one_sentence("own_file.py", *parts):
        find_classes(code, Task, "--x")


def test_bases_imports_and_private_classes_do_not_count(tmp_path: Path) -> None:
    text = (
        f"{HEAD}from tasks.digits import Digits\n\n\nclass Base(Task):\n{ATTRIBUTES}\n\n"
        f"class Mine(Base):\n{METHODS}\n\nclass _Hidden(Mine):\n    pass\n"
    )
    code = load_code(write(tmp_path, text), "--x")
    assert [kind.__name__ for kind in find_classes(code, Task, "--x")] == ["Mine"]


def test_an_error_is_placed_in_the_users_file_unless_ours_called_on(tmp_path: Path) -> None:
    text = "def fail():\n    return {}['key']\n\n\ndef call(function):\n    function()\n"
    code = load_code(write(tmp_path, text), "--x")
    assert code_of(code.module.fail) is code

    def ours() -> None:
        raise ValueError("ours")

    for function, expected in ((code.module.fail, f"{code.path}, line 2"), (ours, None)):
        with pytest.raises((KeyError, ValueError)) as caught:
            code.module.call(function)
        assert place_in_user_code(caught.value, (__file__,)) == expected
    assert said(KeyError("key")) == "KeyError: 'key'"


def test_an_error_of_a_worker_process_is_placed_by_its_printed_traceback(tmp_path: Path) -> None:
    code = load_code(write(tmp_path, "VALUE = 1\n"), "--x")
    text = (
        "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback:\n"
        f'  File "/ours/loop.py", line 9, in fetch\n  File "{code.path}", line 2, in open\n'
        "  File \"/lib/pillow.py\", line 3, in load\nKeyError: 'pixels'"
    )
    assert place_in_user_code(RuntimeError(text), ("/ours/",)) == f"{code.path}, line 2"
    assert place_in_user_code(RuntimeError(text), ("/lib/",)) is None


def _in_a_new_process(task: Any, queue: Any) -> None:
    queue.put((task.name, type(task).__module__))


def test_a_process_that_is_started_anew_knows_the_file(tmp_path: Path) -> None:
    code = load_code(write(tmp_path, WHOLE, "own_spawned.py"), "--x")
    context = multiprocessing.get_context("spawn")  # as on macOS; forkserver passes the same
    queue = context.Queue()
    process = context.Process(target=_in_a_new_process, args=(code.module.Mine(), queue))
    process.start()
    assert queue.get(timeout=60) == ("mine", "own_spawned")
    process.join()

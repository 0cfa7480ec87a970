"""An option that would change nothing is refused in a sentence that names it, and why."""

from pathlib import Path

import pytest

from palitune.closing import eval_words
from tasks.registry import get_task
from tests.helpers import sentence
from tests.official_files import write_vqav2
from tests.palitune.commands import run_command

TABLE = ("--task", "csv_qa", "--csv", "t.csv")
FILE = (*TABLE, "--predictions", "p.jsonl")


@pytest.mark.parametrize(
    ("words", "options", "why"),
    [
        (
            ("eval", *FILE),
            "--hub_repo foo/bar --hub_config x --hub_split train --hub_revision main",
            "csv_qa is read from t.csv",
        ),
        (("check", *TABLE), "--hub_split train", "csv_qa is read from t.csv"),
        (("eval", *FILE), "--frames . --labels t.csv", "csv_qa reads no such file, as frames_chat"),
        (("preview", *TABLE, "--model_path", "tiny"), "--messages t.csv", "reads no such file"),
        (("eval", *TABLE, "--model_path", "tiny"), "--allow_partial", "--predictions"),
        (("eval", *FILE), "--resume", "--predictions scores a file"),
        (("eval", *TABLE, "--model_path", "tiny"), "--runs_dir .", "--run"),
        (
            ("check", "--task", "csv_qa", "--data_root", "."),
            "--hub_config x --hub_split train",
            "csv_qa is read from --data_root .",
        ),
        (
            ("check", "--task", "vqav2", "--data_root", "vqav2"),
            "--hub_repo a/b --hub_config x --hub_split y --hub_columns answers=z",
            "vqav2 is read from --data_root vqav2",
        ),
        (
            ("check", "--task", "frames_chat", "--frames", "."),
            "--hub_repo a/b --hub_revision main",
            "frames_chat reads no data set of the Hub",
        ),
        (("check", "--task", "digits"), "--hub_repo a/b", "digits reads no data set of the Hub"),
        (
            ("predict", "a.png", "--question", "what?", "--model_path", "tiny"),
            "--image_column x --csv_lenient --encoding cp949 --data_root .",
            "it is for a table",
        ),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    words: tuple[str, ...],
    options: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_vqav2(tmp_path / "vqav2")
    (tmp_path / "t.csv").write_text("image,question,answer\na.png,what?,x\n")
    (tmp_path / "p.jsonl").write_text('{"id": 2, "prediction": "x"}\n')
    result = run_command(*words, *options.split(), exit_code=2)
    said = sentence(result.exit_code, result.output)
    idle = " and ".join(word for word in options.split() if word.startswith("--"))
    assert f"{idle} would change nothing: " in said and why in said


def test_columns_of_the_hub_name_those_of_a_table_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("image,ask,answer\na.png,what?,x\n")
    (tmp_path / "p.jsonl").write_text('{"id": 2, "prediction": "x"}\n')
    words = ("--hub_columns", "instruction=ask", "--output_dir", "out")
    assert "1 examples" in run_command("eval", *FILE, *words).output


def test_a_training_on_the_hub_with_a_table_to_score_on_prints_a_command_that_is_taken() -> None:
    task = get_task("csv_qa")
    settings = {"test_csv": "t.csv", "hub_repo": "a/b", "hub_revision": "main", "hub_columns": ()}
    settings |= {"data_root": None, "trust_remote_code": False, "on_bad_image": "error"}
    words = eval_words([task], Path("run"), settings, task, None)
    assert words == ["eval", "--model_path", Path("run"), "--csv", "t.csv"]

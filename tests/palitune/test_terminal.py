"""What a command prints: a header at once, ten lines of progress, the result, how to go on."""

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import REPOSITORY, read_json
from tests.official_files import write_vqav2
from tests.palitune.commands import BRIEF, run_command

_SAYS_WHEN_TORCH_IS_WANTED = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name in ("torch", "transformers"):
            print("TORCH", file=sys.stderr)
            raise ImportError(name)
sys.meta_path.insert(0, Finder())
from palitune.main import palitune
palitune(sys.argv[1:])
"""
_GRID = """experiment_name: try
models: [{name: pali, hf_model_id: tiny}]
lora_variants: [{name: r4, r: 4}]
data: {train_csv: t.csv, test_csv: t.csv}
"""
# command -> the facts of its header
COMMANDS = {
    "train digits --model_path tiny": "Fine-tune on digits|model tiny|metric accuracy|output runs",
    "train digits --model_path tiny --dry_run": "Try a few steps of fine-tuning|model tiny",
    "train --task digits,vqav2 --model_path tiny --data_root sample": "Fine-tune on digits and vqa",
    "eval --task digits --model_path tiny": "Score a model on digits|model tiny|metric accuracy",
    "merge --base_model tiny --model_a tiny --model_b tiny --dry_run": "Merge 2 adapters|tiny, t",
    "ablate --config grid.yaml": "Train and score a grid of 1 runs|models pali|output results/try",
    "pipeline eval-base --model_id tiny": "Score the untouched model|model tiny",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_the_header_is_printed_before_torch_is_imported(words: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(_GRID)
    result = subprocess.run(
        [sys.executable, "-c", _SAYS_WHEN_TORCH_IS_WANTED, *words.split()],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True,
        text=True,
    )  # fmt: skip
    before, _, _ = result.stderr.partition("TORCH")
    shown = " ".join(before.split())
    assert all(fact in shown for fact in COMMANDS[words].split("|")), result.stderr
    assert "Fine-tune" not in result.stdout and "Score" not in result.stdout


@pytest.fixture(scope="module")
def place(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base scored, then a run of twenty steps; what both printed is in files."""
    folder = tmp_path_factory.mktemp("terminal")
    write_vqav2(folder / "data")
    common = ("--model_path", pico1, "--data_root", "data")
    for name, words in {
        "base": ["eval", "--task", "vqav2", *common],
        "train": ["train", "vqav2", *common, "--max_steps", 20, "--output_dir", "my run"],
    }.items():
        result = subprocess.run(
            [sys.executable, "-m", "palitune.main", *map(str, words)],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True,
            text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        (folder / f"{name}.out").write_text(result.stdout)
        (folder / f"{name}.err").write_text(result.stderr)
    return folder


def test_a_training_into_a_pipe_prints_a_line_each_tenth(place: Path) -> None:
    lines = (place / "train.err").read_text().splitlines()
    counts = [found[1] for line in lines if (found := re.match(r"training vqav2: (\d+)/20", line))]
    assert counts == [str(number) for number in range(2, 21, 2)]
    assert any(line.startswith("training vqav2: 20/20 steps, loss ") for line in lines)
    assert len(lines) < 30


def test_what_goes_into_a_pipe_has_no_escape_codes_nor_progress_in_the_result(place: Path) -> None:
    output, error = (place / "train.out").read_text(), (place / "train.err").read_text()
    assert not {"\x1b", "\r"} & set(output + error)
    assert "training vqav2" not in output and "vqa_accuracy   " in output
    assert "vqa_accuracy   " not in error


def test_the_result_shows_answers_and_the_score_of_the_base(place: Path) -> None:
    output = (place / "train.out").read_text()
    base = re.search(r"vqa_accuracy +(\S+)", (place / "base.out").read_text())
    assert base is not None and f"The base's vqa_accuracy was {base[1]} (runs/" in output
    table = output.partition("Some of the answers:\n")[2].splitlines()
    assert table[0].split() == ["question", "answer", "references", "score"]
    assert len([line for line in table[1:4] if line.startswith("  ")]) == 3  # of three examples


def closing_commands(text: str) -> list[list[str]]:
    lines = text.partition("To go on:\n")[2].splitlines()
    words = [shlex.split(line) for line in lines if line.startswith("  ")]
    program = {"palitune", "palitune.main"}
    return [
        w[1 + next(i for i, word in enumerate(w) if Path(word).name in program) :] for w in words
    ]


def test_a_run_offers_to_score_its_base_on_the_same_examples_asked_alike(
    place: Path, pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("--model_path", pico1, "--data_root", place / "data")
    asked = ("--prompt_template", "Q: {question}", "--max_new_tokens", 4)
    part = ("--max_eval_samples", 2, "--eval_seed", 4)
    output = run_command("train", "vqav2", *common, *asked, *part, "--max_steps", 1).output
    commands = closing_commands(output)
    assert [words[0] for words in commands] == ["eval", "eval", "predict", "merge"]
    assert "--without_adapter" not in commands[0]  # the whole split
    weights = load_file("runs/vqav2/adapter_model.safetensors")
    large = {name: torch.ones_like(w) if "lora_B" in name else w for name, w in weights.items()}
    save_file(large, "runs/vqav2/adapter_model.safetensors")  # which answers otherwise
    output = run_command(*commands[1]).output
    base, own, _, page = map(Path, closing_commands(output)[0][1:])
    assert own == Path("runs/vqav2/evaluation/val") and f" ({own})." in output
    run_command("eval", "--task", "vqav2", *common, *asked, *part[:2], "--seed", 4, *BRIEF,
                "--quantization", "nf4",
                "--output_dir", "by itself")  # fmt: skip
    answers = [(folder / "predictions.jsonl").read_bytes() for folder in (base, Path("by itself"))]
    assert answers[0].decode() == answers[1].decode()
    assert read_json(base / "metrics.json")["provenance"]["adapter"] is None
    run_command(*commands[1][:-5], *part[:2], "--seed", 4, "--output_dir", "adapted")
    assert Path("adapted/predictions.jsonl").read_bytes() != answers[0]
    assert b"Q: " in answers[0]
    run_command(*closing_commands(output)[0])
    assert page == Path("runs/vqav2.html") and page.is_file()


def test_the_commands_to_go_on_run_as_they_are_printed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    commands = closing_commands((place / "train.out").read_text())
    assert [words[0] for words in commands] == ["report", "predict", "merge"]
    assert len(commands[0]) == 5  # beside the base, into a file
    for words in commands:
        run_command(*words)
    result = run_command("eval", "--model_path", "my run", "--data_root", "data", *BRIEF)
    after = closing_commands(result.stdout)
    assert [words[0] for words in after] == ["predict", "merge"]  # the base answered otherwise
    assert after[1][-1] == "my run-merged-2"
    assert (place / "my run-merged/merge_report.json").is_file()
    for words in closing_commands((place / "base.out").read_text()):
        run_command(*words)


def test_a_run_may_be_the_folder_where_one_stands(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place / "my run")
    output = ("--output_dir", tmp_path / "out")
    result = run_command(
        "eval", "--model_path", ".", "--data_root", place / "data", *BRIEF, *output
    )
    merge = closing_commands(result.stdout)[-1]
    assert Path(merge[-1]).parent == place and Path(merge[-1]).name.startswith("my run-merged")


def test_a_base_held_otherwise_is_said_to_be(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    words = ("eval", "--model_path", "my run", "--data_root", "data")
    run_command(*words)  # another test may have scored it otherwise
    words = (*words, "--without_adapter")
    output = ("--output_dir", tmp_path / "out")
    said = run_command(*words, "--quantization", "none", *output).stdout
    assert re.search(
        r"With the adapter vqa_accuracy is \S+ \(my run/evaluation/val, held in nf4\)", said
    )


def test_a_merge_says_how_to_score_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = run_command(
        "merge", "--base_model", pico_of(place), "--model_a", "my run", "--output", "scored",
        "--evaluate", "vqav2", "--data_root", "vqav2=data", "--max_eval_samples", 2,
    )  # fmt: skip
    (command,) = closing_commands(result.stdout)
    folders = ["--model_path", "scored", "--data_root", "data"]
    assert command == ["eval", "--task", "vqav2", *folders]
    run_command(*command, *BRIEF)


def pico_of(place: Path) -> str:
    """The base of the run."""
    merge = closing_commands((place / "train.out").read_text())[2]
    return merge[merge.index("--base_model") + 1]


@pytest.mark.slow
def test_on_a_terminal_a_training_draws_a_bar_and_leaves_the_cursor(
    place: Path, pico1: Path
) -> None:
    words = ["train", "vqav2", "--model_path", pico1, "--data_root", "data", "--max_steps", 4]
    main, worker = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "palitune.main", *map(str, words)], cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "80"},
        stdout=subprocess.PIPE, stderr=worker,
    )  # fmt: skip
    os.close(worker)
    shown = b""
    try:
        while part := os.read(main, 65536):
            shown += part
    except OSError:  # the other side is closed
        pass
    os.close(main)
    output, _ = process.communicate()
    assert process.returncode == 0, shown
    assert b"training vqav2" in shown and b" 4/4, " in shown and "━".encode() in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert b"\x1b" not in output and b"To go on:" in output

"""What a stopped command says to type."""

import pytest

from palitune.command import resume_command


@pytest.mark.parametrize(
    ("typed", "num_processes", "expected"),
    [
        ("finetuning/vqav2.py --overwrite", "1", "python finetuning/vqav2.py --resume"),
        ("/venv/bin/palitune train vqav2 --resume", "1", "palitune train vqav2 --resume"),
        ("eval.py --task gqa", "4", "torchrun --nproc_per_node 4 eval.py --task gqa --resume"),
    ],
)
def test_it_is_the_same_command_that_resumes(
    typed: str, num_processes: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", num_processes)
    assert resume_command(typed.split()) == expected


def test_a_word_with_a_blank_is_quoted() -> None:
    words = ["eval.py", "--prompt_template", "what is {question}"]
    assert resume_command(words) == "python eval.py --prompt_template 'what is {question}' --resume"

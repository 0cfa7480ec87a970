"""What a file may not decide counts on the command line alone."""

import json
from pathlib import Path

import pytest

from palitune.scripts import parse_job
from tests.helpers import read_json
from tests.official_files import write_vqav2
from tests.palitune.commands import train


def test_a_run_json_neither_trusts_code_nor_overwrites(tmp_path: Path) -> None:
    data = write_vqav2(tmp_path / "data")
    settings = {"trust_remote_code": True, "overwrite": True, "resume": True, "seed": 7}
    settings |= {"model_path": "tiny", "data_root": str(data)}
    config = tmp_path / "run.json"
    config.write_text(json.dumps({"task": "vqav2", "settings": settings}))
    job = parse_job("vqav2", ["--config", str(config)])
    assert job.recipe.seed == 7  # the file is read
    assert not job.family_options.trust_remote_code
    assert not job.overwrite and not job.resume
    typed = parse_job("vqav2", ["--config", str(config), "--trust_remote_code"])
    assert typed.family_options.trust_remote_code


def test_a_planted_token_is_in_no_file_and_no_output(
    tmp_path: Path, pico1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"HF_TOKEN": "hf_PLANTEDhub0123456789", "WANDB_API_KEY": "f00d" * 10}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    data = write_vqav2(tmp_path / "data")
    words = ("--max_steps", 1, "--quantization", "none", "--report_to", "wandb")
    result = train("vqav2", pico1, data, tmp_path / "run", *words)
    assert read_json(tmp_path / "run/run.json")["task"] == "vqav2"
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any("wandb" in str(path) for path in written)
    for secret in secrets.values():
        assert secret not in result.output
        assert not [path for path in written if secret.encode() in path.read_bytes()]

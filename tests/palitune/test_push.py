"""`palitune push` and --push_to_hub, against a small Hub on this machine."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from click.testing import CliRunner, Result

from palitune.main import palitune
from tests.helpers import REPOSITORY, read_json, sentence
from tests.merging.merge_inputs import write_adapter
from tests.palitune.commands import run_command
from tests.palitune.model_hub import TOKEN, ModelHandler, ModelHub
from tests.tasks.fake_hub import served

REPO = "me/digits"
TRAIN = (
    "train", "digits", "--device", "cpu", "--quantization", "none", "--max_steps", 2,
    "--logging_steps", 1, "--lora_rank", 2, "--max_eval_samples", 2, "--max_new_tokens", 1,
    "--batch_size", 2,
)  # fmt: skip
SENT = {
    *("README.md", "adapter_config.json", "adapter_model.safetensors", "processor_config.json"),
    *("curves.png", "run.json", "sample.png", "tokenizer.json", "tokenizer_config.json"),
    "evaluation/val/metrics.json",
}


@pytest.fixture(scope="module")
def trained(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushed") / "run"
    run_command(*TRAIN, "--model_path", pico1, "--output_dir", folder)
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """The run, for tests that damage it."""
    return shutil.copytree(trained, tmp_path / "copy")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModelHub]:
    """The Hub, with a user who is logged in."""
    constants = huggingface_hub.constants
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_login"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with served(ModelHub(), ModelHandler) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        yield hub


def push(*arguments: object) -> Result:
    return CliRunner().invoke(palitune, ["push", *map(str, arguments)])


def test_what_arrives_is_the_run_without_the_places_on_this_machine(
    trained: Path, pico1: Path, hub: ModelHub, tmp_path: Path
) -> None:
    hub.files[REPO] = {"notes.txt": b"theirs"}
    command = [sys.executable, "-m", "palitune.main", "push", str(trained), REPO]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path)}
    environment |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Pushed 10 files to {hub.endpoint}/{REPO}"
    assert f"Other files of {REPO} stay: notes.txt." in done.stdout
    arrived = hub.files[REPO]
    assert arrived.pop("notes.txt") == b"theirs"
    assert set(arrived) == SENT and hub.commits == 1
    for name in SENT - {"adapter_config.json", "run.json", "evaluation/val/metrics.json"}:
        assert arrived[name] == (trained / name).read_bytes(), name
    for name in ("adapter_config.json", "run.json"):
        assert str(pico1) in (trained / name).read_text()
        whole = (trained / name).read_text().replace(str(pico1), pico1.name)
        assert arrived[name].decode() == whole.replace(str(trained), trained.name)
    for name, content in arrived.items():
        assert str(pico1.parent).encode() not in content, name
        assert TOKEN.encode() not in content, name


def test_a_dry_run_lists_files_and_asks_the_hub_nothing(trained: Path, hub: ModelHub) -> None:
    result = push(trained, REPO, "--dry_run", "--with_report")
    assert result.exit_code == 0, result.output
    size = (trained / "adapter_model.safetensors").stat().st_size
    lines = [line.split() for line in result.output.splitlines()]
    assert ["adapter_model.safetensors", f"{size:,}", "bytes"] in lines
    assert {line[0] for line in lines if line[2:] == ["bytes"]} == {
        *SENT, "evaluation/val/report.html", "together",
    }  # fmt: skip
    assert "Left out: checkpoints/, evaluation/val/predictions.jsonl" in result.output
    assert hub.requests == []


def test_a_repository_is_made_as_private_as_it_is_asked_for(trained: Path, hub: ModelHub) -> None:
    for repo, words in {"we/open": (), "me/mine": ("--private",)}.items():
        assert push(trained, repo, *words).exit_code == 0
    assert set(hub.files) == {"we/open", "me/mine"} and hub.private == {"me/mine"}
    refused = push(trained, "we/open", "--private")
    assert "we/open is there and public" in sentence(refused.exit_code, refused.output)


@pytest.mark.parametrize(
    ("repo", "token", "role", "failing", "said"),
    [
        ("digits", TOKEN, "write", {}, "no name of a repository"),
        ("me/a/b", TOKEN, "write", {}, "no name of a repository"),
        (REPO, "", "write", {}, "Nobody is logged in"),
        (REPO, "hf_another", "write", {}, "does not accept the token"),
        (REPO, TOKEN, "read", {}, "may only read"),
        ("them/digits", TOKEN, "write", {}, "begin with me/ or we/"),
        (REPO, TOKEN, "write", {"/commit/main": 403}, "no right to write to me/digits"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(
    repo: str,
    token: str,
    role: str,
    failing: dict[str, int],
    said: str,
    trained: Path,
    hub: ModelHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    hub.role, hub.failing = role, failing
    result = push(trained, repo)
    assert said in sentence(result.exit_code, result.output)
    assert hub.commits == 0


def test_a_hub_that_fails_or_is_not_there_is_a_fault(
    trained: Path, hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.failing = {"/api/repos/create": 500}
    failed = push(trained, REPO)
    assert (failed.exit_code, "HTTP 500" in failed.output) == (1, True), failed.output
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    absent = push(trained, REPO)
    assert absent.exit_code == 1 and "cannot be reached" in absent.output
    assert absent.output.count("\n") == 1 and hub.commits == 0
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    offline = push(trained, REPO)
    assert "unset it" in sentence(offline.exit_code, offline.output)


def test_the_places_in_a_command_are_cut_to_names(copy: Path, hub: ModelHub) -> None:
    metrics = copy / "evaluation" / "val" / "metrics.json"
    content = read_json(metrics)
    words = ["python", "eval.py", "--data_root", "/srv/my data/vqa", "--csv=/srv/a/t.csv"]
    content["provenance"]["command"] = shlex.join(words)
    metrics.write_text(json.dumps(content))
    assert push(copy, REPO).exit_code == 0
    arrived = json.loads(hub.files[REPO]["evaluation/val/metrics.json"])
    sent = shlex.split(arrived["provenance"]["command"])
    assert sent == ["python", "eval.py", "--data_root", "vqa", "--csv=t.csv"]


@pytest.mark.parametrize("secret", [TOKEN, "hf_" + "Zz9" * 10])
def test_a_file_with_a_token_is_refused(secret: str, copy: Path, hub: ModelHub) -> None:
    card = copy / "README.md"
    card.write_text(f"{card.read_text()}\nlogin(token='{secret}')\n")
    result = push(copy, REPO)
    said = sentence(result.exit_code, result.output)
    assert "README.md holds a token" in said and secret not in result.output
    assert hub.requests == []


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "model.safetensors"])
@pytest.mark.parametrize("size", [4, 1000, -1])
def test_weights_that_are_cut_are_refused(name: str, size: int, copy: Path, hub: ModelHub) -> None:
    content = (copy / "adapter_model.safetensors").read_bytes()
    (copy / name).write_bytes(content[:size])
    for words in ((), ("--dry_run",)):
        result = push(copy, REPO, *words)
        assert f"{copy / name} is damaged" in sentence(result.exit_code, result.output)
    assert hub.requests == []


def test_a_model_that_lacks_a_file_of_its_index_is_refused(copy: Path, hub: ModelHub) -> None:
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    result = push(copy, REPO)
    message = sentence(result.exit_code, result.output)
    assert f"{index} lists model-00001-of-00001.safetensors, which is not" in message
    assert hub.requests == []


def test_what_is_no_finished_run_is_refused(copy: Path, hub: ModelHub, tmp_path: Path) -> None:
    (copy / "trainer_state.json").unlink()
    result = push(copy, REPO)
    assert "holds a training that stopped" in sentence(result.exit_code, result.output)
    assert "--resume" in result.output
    result = push(copy / "checkpoints" / "checkpoint-2", REPO)
    assert "holds no run or merge" in sentence(result.exit_code, result.output)
    result = push(tmp_path / "none", REPO)
    assert "none does not exist; name a run" in sentence(result.exit_code, result.output)
    assert hub.requests == []


def test_a_training_pushes_at_its_end_what_it_checked_before(
    pico1: Path, hub: ModelHub, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = [*TRAIN, "--model_path", pico1, "--output_dir", out, "--push_to_hub"]
    foreign = run_command(*words, "them/digits", exit_code=2)
    assert "no right to write" in sentence(2, foreign.output) and not out.exists()
    for idle in ("--dry_run", "--skip_training"):
        assert idle in sentence(2, run_command(*words, REPO, idle, exit_code=2).output)

    hub.failing = {"/commit/main": 500}
    failed = run_command(*words, REPO, "--private", exit_code=1)
    assert hub.commits == 0 and (out / "README.md").is_file()
    assert "push_to_hub" not in read_json(out / "run.json")["settings"]
    hub.failing = {}
    (again,) = (part for part in failed.output.split("`") if part.startswith("palitune push"))
    run_command(*shlex.split(again)[1:])
    assert set(hub.files[REPO]) == SENT and hub.private == {REPO}

    second = run_command(*words, "we/digits", "--overwrite")
    assert second.stdout.splitlines()[-1] == f"Pushed 10 files to {hub.endpoint}/we/digits"
    assert hub.files["we/digits"].keys() == hub.files[REPO].keys()


def test_a_merge_pushes_its_outcome(hub: ModelHub, tmp_path: Path) -> None:
    for name in "ab":
        write_adapter(tmp_path / name, r=2, lora_alpha=4, target_modules=["q_proj"])
    out = tmp_path / "merged"
    run_command(
        "merge", "--base_model", "tiny", "--model_a", tmp_path / "a", "--model_b", tmp_path / "b",
        "--mode", "linear", "--output", out, "--push_to_hub", REPO,
    )  # fmt: skip
    arrived = hub.files[REPO]
    weights = "adapter_model.safetensors"
    assert arrived[weights] == (out / weights).read_bytes()
    assert {"README.md", "run.json", "merge_report.json", "tokenizer.json"} <= set(arrived)
    for name, content in arrived.items():
        assert str(tmp_path).encode() not in content, name

"""What `palitune doctor` prints and how it ends; the probes themselves are in test_families.py."""

import subprocess
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import ImageColor

from finetuning.training import environment as environment_module
from finetuning.training.doctor import drawn_conversations
from finetuning.training.environment import environment
from finetuning.training.probe_tools import Conversation
from finetuning.training.probes import PROBES
from models import quantization
from models.paligemma import PaliGemma
from palitune.doctor import doctor_command
from tests.official_files import write_docvqa


def run(*arguments: object) -> Result:
    return CliRunner().invoke(doctor_command(), [*map(str, arguments), "--device", "cpu"])


def verdicts(result: Result) -> dict[str, str]:
    """Probe -> pass or FAIL, as printed."""
    lines = [line for line in result.stdout.splitlines() if line.startswith(("pass  ", "FAIL  "))]
    return {line[6:18].strip(): line[:4] for line in lines}


def test_a_sound_model_passes_every_probe_after_the_environment(pico1: Path) -> None:
    result = run("--model_path", pico1)
    assert result.exit_code == 0, result.output
    assert verdicts(result) == dict.fromkeys(PROBES, "pass")
    names = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert names[:7] == ["versions", "device", "4-bit", "Java", "Hub", "disk", "model"]
    plan = result.stdout.splitlines()[-1]
    assert plan.startswith("plan          4 x 1 examples, activations kept; ")


def test_a_broken_family_is_named_and_the_exit_code_is_1(
    pico1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate = PaliGemma.collate

    def shifted(family: PaliGemma, batch: list[object]) -> dict[str, torch.Tensor]:
        tensors = collate(family, batch)
        return tensors | {"labels": tensors["labels"].roll(-1, dims=1)}

    monkeypatch.setattr(PaliGemma, "collate", shifted)
    result = run("--model_path", pico1, "--quantization", "none")
    assert result.exit_code == 1
    assert verdicts(result) == dict.fromkeys(PROBES, "pass") | {"labels": "FAIL"}
    assert "1 of 9 probes failed (labels)" in result.stderr


def test_the_examples_are_those_that_the_task_trains_on(
    pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_docvqa(tmp_path)
    seen: list[Conversation] = []

    def stop(name: str, loaded: object, conversations: list[Conversation]) -> None:
        seen.extend(conversations)
        raise RuntimeError("seen")

    monkeypatch.setattr("finetuning.training.probes.run_probe", stop)
    run("--model_path", pico1, "--task", "docvqa", "--data_root", tmp_path)
    assert len(seen) == 2
    for conversation in seen:
        question, (role, answer) = conversation.messages
        assert question == ("user", "What color is the page?") and role == "assistant"
        color = answer.lower().removesuffix(" paper")  # both are accepted
        assert conversation.image.getpixel((9, 9)) == ImageColor.getrgb(color)


def test_an_adapter_is_probed_by_its_base(pico1: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(pico1)
    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)  # draws B too
    get_peft_model(model, config).save_pretrained(tmp_path)
    result = run("--model_path", tmp_path, "--quantization", "none")
    assert verdicts(result) == dict.fromkeys(["applied", *PROBES], "pass"), result.output
    assert str(pico1) in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model_path", "./nowhere"], "No model at './nowhere'"),
        (["--model_path", "tiny", "--task", "chess"], "Unknown task 'chess'"),
        (["--model_path", "tiny", "--max_pixels", "9"], "--max_pixels has no meaning"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {sentence}") and result.stderr.count("\n") == 1


def test_a_login_is_told_and_its_token_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    lines = environment("cpu")
    assert lines["Hub"].startswith("logged in")
    assert "secret" not in str(lines)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert environment("cpu")["Hub"].startswith("not logged in")


def test_a_package_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "bitsandbytes":
            raise PackageNotFoundError(package)
        return "1.2"

    monkeypatch.setattr(environment_module, "version", version)
    monkeypatch.setattr(quantization, "find_spec", lambda _: None)
    lines = environment("cpu")
    assert lines["versions"] == "torch 1.2, transformers 1.2, peft 1.2, bitsandbytes absent"
    assert lines["4-bit"].startswith("does not work here: --quantization nf4 needs bitsandbytes")


@pytest.mark.parametrize(("error", "works"), [(0.09, True), (0.3, False)])
def test_4_bits_work_where_weights_come_back(
    monkeypatch: pytest.MonkeyPatch, error: float, works: bool
) -> None:
    monkeypatch.setattr(quantization, "round_trip_error", lambda width, device: error)
    assert environment("cpu")["4-bit"].startswith("works") == works


def test_java_is_told_by_what_it_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert environment("cpu")["Java"] == "none: caption scores would be approximate"
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")

    def java(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command == ["java", "-version"]
        return subprocess.CompletedProcess(command, code, "", 'openjdk version "17"\nmore\n')

    monkeypatch.setattr(subprocess, "run", java)
    code = 0
    assert environment("cpu")["Java"] == 'openjdk version "17"'
    code = 1
    assert environment("cpu")["Java"].startswith("does not start")


def test_free_disk_is_that_where_runs_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    places: list[Path] = []
    monkeypatch.chdir(tmp_path)  # without a folder runs
    monkeypatch.setattr(
        "shutil.disk_usage", lambda place: places.append(place) or usage(0, 0, 3 * 2**30)
    )
    assert environment("cpu")["disk"] == f"3.0 GiB free for {tmp_path / 'runs'}"
    assert places == [tmp_path]


def test_the_drawn_examples_differ_in_shape_and_length() -> None:
    wide, tall = drawn_conversations()
    assert wide.image.width > wide.image.height and tall.image.width < tall.image.height
    assert [len(text) for _, text in wide.messages] != [len(text) for _, text in tall.messages]


def test_a_tokenizer_that_composes_letters_has_the_right_labels(tmp_path: Path) -> None:
    from PIL import Image
    from tokenizers import normalizers

    from finetuning.training.probes import run_probe
    from models.checkpoint import resolve
    from models.loading import load_model
    from tests.models.tiny_families import maker

    maker("llava")(tmp_path)
    loaded = load_model(resolve(str(tmp_path)), quantization="none", device="cpu")
    words = loaded.family.tokenizer.backend_tokenizer
    before = [words.normalizer] if words.normalizer else []
    words.normalizer = normalizers.Sequence([normalizers.NFC(), *before])
    for answer in ("cafe\u0301", "\u1112\u1161\u11ab"):  # letters apart, as some systems write
        talk = Conversation(
            image=Image.new("RGB", (30, 20)), messages=[("user", "what?"), ("assistant", answer)]
        )
        finding = run_probe("labels", loaded, [talk])
        assert finding.passed, finding.reason

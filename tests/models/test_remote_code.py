"""Code that comes with a checkpoint runs only where it is asked for and cannot change."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from models.checkpoint import resolve
from models.phi3_vision import Phi3Vision
from models.settings import FamilyOptions

PHI = "microsoft/Phi-3-vision-128k-instruct"
COMMIT = "c45209e90a4c4f7d16b2e9d48503c7f3e83623ed"
CODE = {
    "AutoConfig": "configuration_phi3_v.Phi3VConfig",
    "AutoModelForCausalLM": "modeling_phi3_v.Phi3VForCausalLM",
}
TRUST = FamilyOptions(trust_remote_code=True)


def write_config(folder: Path, model_type: str = "phi3_v", auto_map: Any = CODE) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"model_type": model_type, "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that has Phi-3-Vision's config.json, a tag `v1` and nothing else."""
    folder = write_config(tmp_path / COMMIT)
    monkeypatch.setattr(
        "models.checkpoint.hub_config", lambda name, revision: folder / "config.json"
    )
    refs = SimpleNamespace(tags=[SimpleNamespace(name="v1")])
    monkeypatch.setattr(huggingface_hub, "list_repo_refs", lambda name: refs)


def test_code_that_is_not_trusted_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"modeling_phi3_v\.py.*pass --trust_remote_code"):
        resolve(str(write_config(tmp_path / "phi")))


def test_trusted_code_in_a_folder_needs_no_revision(tmp_path: Path) -> None:
    checkpoint = resolve(str(write_config(tmp_path / "phi")), options=TRUST)
    assert checkpoint.family is Phi3Vision


@pytest.mark.parametrize("revision", [None, "main", "v2", COMMIT[:12]])
def test_trusted_code_on_the_hub_needs_a_pin(hub: None, revision: str | None) -> None:
    with pytest.raises(ValueError, match=f"what {revision or 'main'} stands for may change"):
        resolve(PHI, revision=revision, options=TRUST)


@pytest.mark.parametrize("revision", [COMMIT, "v1"])
def test_a_commit_or_a_tag_is_a_pin(hub: None, revision: str) -> None:
    checkpoint = resolve(PHI, revision=revision, options=TRUST)
    assert checkpoint.family is Phi3Vision
    assert checkpoint.revision == COMMIT


def test_where_the_hub_is_not_asked_only_a_commit_is_a_pin(
    hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise huggingface_hub.errors.OfflineModeIsEnabled(name)

    monkeypatch.setattr(huggingface_hub, "list_repo_refs", refuse)
    with pytest.raises(ValueError, match="what v1 stands for may change"):
        resolve(PHI, revision="v1", options=TRUST)
    assert resolve(PHI, revision=COMMIT, options=TRUST).revision == COMMIT


def test_code_of_another_repository_cannot_be_pinned(tmp_path: Path) -> None:
    auto_map = CODE | {"AutoTokenizer": [None, "someone/else--tokenization.Tokenizer"]}
    folder = write_config(tmp_path / "phi", auto_map=auto_map)
    with pytest.raises(ValueError, match=r"another repository \(someone/else--tokenization\.py\)"):
        resolve(str(folder), options=TRUST)


def test_code_is_not_needed_for_a_kind_that_transformers_has(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "molmo", "molmo2", CODE)
    assert resolve(str(folder)).family.name == "generic"


NAMES = ("tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


@pytest.mark.parametrize("name", NAMES)
def test_code_of_the_processor_is_looked_at_too(name: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "phi")
    auto_map = {"AutoProcessor": "someone/else--processing.Processor"}
    (folder / name).write_text(json.dumps({"auto_map": auto_map}))
    with pytest.raises(ValueError, match=r"another repository \(someone/else--processing\.py\)"):
        resolve(str(folder), options=TRUST)


def write_adapter(folder: Path, base: str) -> Path:
    folder.mkdir()
    config = {"base_model_name_or_path": base, "peft_type": "LORA", "revision": COMMIT}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    run = {"settings": {"trust_remote_code": True}, "base_revision": COMMIT, "task": "vqav2"}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def test_a_trusted_model_without_code_of_its_own_is_pinned_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_config(tmp_path / COMMIT, "llava", None)
    monkeypatch.setattr(
        "models.checkpoint.hub_config", lambda name, revision: folder / "config.json"
    )
    with pytest.raises(ValueError, match="what main stands for may change"):
        resolve("some/llava", options=TRUST)


def test_a_record_of_an_adapter_trusts_nothing(hub: None, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", PHI)
    with pytest.raises(ValueError, match="pass --trust_remote_code on the command line"):
        resolve(str(adapter))


def test_the_commit_in_an_adapter_is_no_pin_of_the_user(hub: None, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", PHI)
    with pytest.raises(ValueError, match="what main stands for may change"):
        resolve(str(adapter), options=TRUST)
    assert resolve(str(adapter), revision=COMMIT, options=TRUST).revision == COMMIT


def test_a_processor_beside_an_adapter_takes_no_code_from_elsewhere(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", str(write_config(tmp_path / "phi")))
    auto_map = {"AutoTokenizer": ["someone/else--tokenization.Tokenizer", None]}
    (adapter / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    with pytest.raises(ValueError, match="another repository"):
        resolve(str(adapter), options=TRUST)


@pytest.mark.parametrize("auto_map", ["a.B", ["a.B"], [None, 5], {"AutoModel": {"a": 1}}])
def test_an_auto_map_of_another_form_is_code_all_the_same(auto_map: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="comes with its own code"):
        resolve(str(write_config(tmp_path / "phi", auto_map=auto_map)))

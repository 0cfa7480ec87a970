"""What tests of the merge command share: adapters of the embedded model, and a call of it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from palitune.main import palitune
from tests.helpers import REPOSITORY
from tests.merging.algebra.make_adapters import load_tiny, train

TINY = REPOSITORY / "models" / "tiny"
LAYERS = r".*language_model\.layers\.[01]\.(self_attn\.(q|v)_proj|mlp\.down_proj)"
Q0 = "model.language_model.layers.0.self_attn.q_proj"
SETTINGS: dict[str, dict[str, Any]] = {
    "a": {"r": 4, "lora_alpha": 8, "target_modules": LAYERS},
    "b": {
        "r": 2,
        "lora_alpha": 6,
        "target_modules": ["q_proj", "k_proj"],
        "exclude_modules": ".*vision_tower.*",
    },
    "c": {"r": 3, "lora_alpha": 3, "use_rslora": True, "target_modules": LAYERS},
}


def write_adapter(folder: Path, **config: Any) -> Path:
    """An adapter as PEFT writes it, of `tiny`."""
    train(load_tiny(), folder, **config)
    edit_config(folder, base_model_name_or_path=str(TINY))
    return folder


def write_adapters(folder: Path) -> Path:
    """Folders a, b (other rank and modules) and c (rsLoRA)."""
    for name, config in SETTINGS.items():
        write_adapter(folder / name, **config)
    return folder


def edit_config(folder: Path, **fields: Any) -> None:
    """Change adapter_config.json."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors in place."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def write_run(folder: Path, task: str, **settings: object) -> None:
    """A run.json of ours beside an adapter."""
    content = {"task": task, "settings": {"quantization": "none", **settings}}
    (folder / "run.json").write_text(json.dumps(content))


def by_peft(folder: Path) -> dict[str, Tensor]:
    """The embedded model with an adapter, as PEFT merges it."""
    return PeftModel.from_pretrained(load_tiny(), str(folder)).merge_and_unload().state_dict()


def run(
    folder: Path,
    output: Path,
    *options: object,
    names: Sequence[str] = "ab",
    base: Path = TINY,
) -> Result:
    """Merge adapters of a folder by the command."""
    flags = ("--model_a", "--model_b", "--adapter")
    given = [
        part for flag, name in zip(flags, names, strict=False) for part in (flag, folder / name)
    ]
    arguments = ["--base_model", base, *given, "--output", output, *options]
    return CliRunner().invoke(palitune, ["merge", *map(str, arguments)])
